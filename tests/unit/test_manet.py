"""MA-Net: sizes against the audit's counts, patches that follow the map, both directions of the global blocks,
checkpoints.
"""

import pytest
import torch
from torch import Tensor, nn

from ferkit.explain import capture, raw_cam
from ferkit.labels import order
from ferkit.models import FerModel, count_parameters, create_model, load_released, summarise
from ferkit.models.attention import CBAM
from ferkit.models.manet import AttentionBlock, MultiScaleBlock, mosaic, quadrants


def small(**options) -> FerModel:
    torch.manual_seed(0)
    return create_model("manet", **{"width": 1 / 32, **options})


def pictures(n: int = 2, size: int = 96) -> Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("classes", "parameters"), [(7, 50_547_214), (8, 50_548_240), (12_666, 63_535_348)])
def test_parameters(classes, parameters):
    with torch.device("meta"):
        assert count_parameters(create_model("manet", num_classes=classes)) == parameters


def test_parameters_and_multiply_adds_by_part():
    with torch.device("meta"):
        model = create_model("manet", num_classes=8)
    rows = {row.name: row for row in summarise(model)}
    wanted = {
        "layer1": 147_968,
        "layer2": 525_568,
        "local": 4 * (2_116_840 + 8_460_552),
        "global_layer3": 1_510_912,
        "global_layer4": 6_036_480,
    }
    assert {k: rows[k].params for k in wanted} == wanted
    assert rows["conv1"].params + rows["bn1"].params == 9_536
    assert count_parameters(model.local.patches[2].layer3) == 2_116_840
    assert round(sum(row.macs for row in rows.values()) / 1e9, 3) == 3.638
    sides = {k: rows[k].shape[-1] for k in ("maxpool", "layer2", "local", "local_map", "global_layer3", "global_map")}
    assert sides == {"maxpool": 56, "layer2": 28, "local": 7, "local_map": 14, "global_layer3": 14, "global_map": 7}


# --- patches


@pytest.mark.parametrize(
    ("size", "grid", "patch"), [(96, 12, 3), (112, 14, 4), (192, 24, 6), (224, 28, 7), (256, 32, 8), (100, 13, 4)]
)
def test_patches_follow_the_map(size, grid, patch):
    model = small().eval()
    entered: list[Tensor] = []
    handles = [p.register_forward_pre_hook(lambda _m, args: entered.append(args[0])) for p in model.local.patches]
    with torch.no_grad(), capture(model, ["layer2", "local_map"]) as seen:
        parts = model.forward_parts(pictures(1, size))
    for handle in handles:
        handle.remove()
    shared, half = seen["layer2"], -(-grid // 2)
    assert shared.shape[2:] == (grid, grid)
    corners = [
        shared[..., :half, :half],
        shared[..., :half, -half:],
        shared[..., -half:, :half],
        shared[..., -half:, -half:],
    ]
    assert all(torch.equal(a, b) for a, b in zip(entered, corners, strict=True))
    assert parts.patch_maps.shape == (4, 1, 16, patch, patch)
    assert seen["local_map"].shape == (1, 16, 2 * patch, 2 * patch)
    assert torch.equal(seen["local_map"][..., :patch, patch:], parts.patch_maps[1])
    assert torch.equal(seen["local_map"][..., patch:, :patch], parts.patch_maps[2])


def test_quadrants_cover_the_map_and_share_the_middle_of_an_odd_side():
    even = torch.arange(8 * 6.0).reshape(1, 1, 8, 6)
    assert torch.equal(mosaic(torch.stack(quadrants(even))), even)
    odd = torch.arange(5 * 4.0).reshape(1, 1, 5, 4)
    top_left, top_right, bottom_left, bottom_right = quadrants(odd)
    assert top_left.shape == bottom_right.shape == (1, 1, 3, 2)
    assert torch.equal(top_left[..., -1, :], bottom_left[..., 0, :])  # the middle row is in both
    assert torch.equal(torch.unique(torch.cat([top_left, top_right, bottom_left, bottom_right])), odd.flatten())


def test_the_border_counts_at_256_pixels():
    """The released code cuts at 14 and 28, so places 28 to 31 of a 32 x 32 map never reach its local path."""
    model = small().eval()
    shared = torch.rand(1, 4, 32, 32)
    changed = shared.clone()
    changed[..., 30:] += 1
    with torch.no_grad():
        whole, other = model.local(shared), model.local(changed)
    assert torch.equal(whole[0], other[0]) and torch.equal(whole[2], other[2])  # the left patches
    assert (whole[1] - other[1]).abs().max() > 1e-4 and (whole[3] - other[3]).abs().max() > 1e-4


def test_every_patch_has_its_own_weights():
    model = small().eval()
    with torch.no_grad():
        maps = model.local(torch.ones(1, 4, 12, 12))
    assert all(not torch.allclose(maps[i], maps[j]) for i in range(4) for j in range(i))


@pytest.mark.parametrize("size", [8, 17, 48])
def test_small_pictures_work(size):
    assert small().eval()(pictures(1, size)).shape == (1, 7)
    assert torch.isfinite(small()(pictures(2, size))).all()


# --- the two directions


def test_directions_share_names_and_the_local_path_but_not_the_global_one():
    backward, forward = small().eval(), small(multi_scale="forward").eval()
    forward.load_state_dict(backward.state_dict())
    with torch.no_grad():
        a, b = backward.forward_parts(pictures()), forward.forward_parts(pictures())
    assert torch.equal(a.local_logits, b.local_logits) and torch.equal(a.patch_maps, b.patch_maps)
    assert (a.global_logits - b.global_logits).abs().max() > 1e-4
    assert (a.logits - b.logits).abs().max() > 1e-4


def test_a_backward_chain_is_a_forward_chain_over_the_groups_in_reverse():
    torch.manual_seed(0)
    block = MultiScaleBlock(8, 8, stride=1, backward=True).eval()
    groups = torch.randn(2, 8, 5, 5).chunk(4, 1)
    with torch.no_grad():
        found = block.chain_b(groups, backward=True).chunk(4, 1)
        for modules in (block.chain_b.convs, block.chain_b.bns):
            modules[0], modules[1], modules[2], modules[3] = modules[3], modules[2], modules[1], modules[0]
        wanted = block.chain_b(groups[::-1], backward=False).chunk(4, 1)[::-1]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, wanted, strict=True))
    with torch.no_grad():
        last_alone = block.chain_b.bns[0](block.chain_b.convs[0](groups[3]))
    assert torch.allclose(found[3], last_alone, atol=1e-6)  # group 4 starts, nothing is passed to it


def test_attention_block_gates_before_the_shortcut():
    torch.manual_seed(0)
    block = AttentionBlock(8, 8).eval()
    x = torch.randn(2, 8, 6, 6)
    with torch.no_grad(), capture(block, ["bn2", "cbam.channel_gate", "cbam.spatial_gate"]) as seen:
        y = block(x)
    gated = seen["bn2"] * seen["cbam.channel_gate"] * seen["cbam.spatial_gate"]
    assert torch.equal(y, (gated + x).relu())


def test_cbam_by_hand():
    torch.manual_seed(0)
    block = CBAM(32, reduction=8).eval()
    x = torch.randn(2, 32, 5, 4)
    mlp, spatial = block.channel_gate.mlp, block.spatial_gate
    with torch.no_grad():
        mean, largest = x.flatten(2).mean(2), x.flatten(2).max(2).values
        channel = torch.sigmoid(mlp(mean) + mlp(largest))[:, :, None, None]
        y = x * channel
        pair = torch.stack([y.max(1).values, y.mean(1)], 1)
        place = torch.sigmoid(nn.functional.conv2d(pair, spatial.conv.weight, padding=3) / (1 + 1e-5) ** 0.5)
        assert torch.allclose(block(x), y * place, atol=1e-6)
        gated = block(x, with_gates=True)
    assert torch.allclose(gated.map, y * place, atol=1e-6)
    assert torch.allclose(gated.channel_gate, channel) and torch.allclose(gated.spatial_gate, place, atol=1e-6)
    assert mlp[0].weight.shape == (4, 32) and CBAM(16).channel_gate.mlp[0].weight.shape == (4, 16)
    assert spatial.bn.momentum == 0.01 and spatial.conv.bias is None


# --- the decision


def test_fusion_mixes_logits():
    for fusion in (0.0, 0.6, 1.0):
        model = small(fusion=fusion).eval()
        with torch.no_grad():
            parts = model.forward_parts(pictures())
            assert torch.equal(model(pictures()), parts.logits)
        assert torch.allclose(parts.logits, fusion * parts.local_logits + (1 - fusion) * parts.global_logits)
    with pytest.raises(ValueError, match="0 to 1; found 1.5"):
        small(fusion=1.5)


def test_vectors_are_the_means_of_the_maps():
    model = small().eval()
    with torch.no_grad(), capture(model, ["local_map", "global_map"]) as seen:
        parts = model.forward_parts(pictures())
    assert torch.allclose(parts.branch_vectors[0], parts.patch_maps.mean((0, 3, 4)), atol=1e-6)
    assert torch.allclose(parts.branch_vectors[1], seen["global_map"].mean((2, 3)), atol=1e-6)
    assert torch.equal(parts.features, torch.cat([*parts.branch_vectors], 1))
    assert parts.features.shape == (2, model.num_features) and torch.equal(
        model.forward_head(parts.features), parts.logits
    )


def test_a_batch_of_one_in_evaluation_and_a_step_of_training():
    model = small(num_classes=8)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02)
    x, y = pictures(8, 64), torch.arange(8)

    def loss() -> Tensor:
        parts = model.forward_parts(x)
        return 0.6 * nn.functional.cross_entropy(parts.local_logits, y) + 0.4 * nn.functional.cross_entropy(
            parts.global_logits, y
        )

    first = loss()
    first.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    optimiser.step()
    assert 0 < loss().item() < first.item()
    model.eval()
    with torch.no_grad():
        assert torch.allclose(model(x[:1]), model(x)[:1], atol=1e-5)


@pytest.mark.parametrize(
    ("size", "layer", "side"),
    [(224, "local_map", 14), (96, "local_map", 6), (65, "local_map", 6), (64, "layer2", 8), (48, "layer2", 6)],
)
def test_cam_layer(size, layer, side):
    model = small()
    model.input_size = size
    assert model.cam_layer(size) == layer
    found = raw_cam(model, (255 * pictures(1, size)).byte().numpy(), target=2)
    assert found.shape == (1, side, side) and abs(found).max() > 0


def test_narrow_networks_keep_groups_of_equal_width():
    for width in (1 / 64, 0.1, 1 / 3):
        model = small(width=width).eval()
        assert model.global_layer3[0].conv1.out_channels % 4 == 0
        assert model(pictures(1, 32)).shape == (1, 7)


def test_weights_are_drawn_as_released():
    model = create_model("manet", width=1 / 4)
    conv = model.local.patches[0].layer4[1].conv2.weight
    assert abs(conv.std().item() / (2 / (128 * 9)) ** 0.5 - 1) < 0.02
    assert model.local.patches[0].layer4[1].bn2.weight.eq(1).all()


def test_labels_and_unknown_direction():
    assert small().labels == order("rafdb") and small(num_classes=8).labels == order("affectnet8")
    assert small(num_classes=3).labels == ()
    with pytest.raises(ValueError, match="no multi_scale='both'; known: backward, forward"):
        small(multi_scale="both")


# --- the authors' checkpoints, in the layout of model/manet.py


def released_checkpoint(classes: int = 20) -> dict[str, Tensor]:
    """Names and shapes of a released checkpoint at width 1/32, with random values."""
    torch.manual_seed(3)
    state: dict[str, Tensor] = {}

    def conv(name: str, a: int, b: int, k: int) -> None:
        state[f"module.{name}.weight"] = torch.randn(b, a, k, k)

    def bn(name: str, c: int) -> None:
        for n in ("weight", "bias", "running_mean", "running_var"):
            state[f"module.{name}.{n}"] = torch.rand(c)
        state[f"module.{name}.num_batches_tracked"] = torch.tensor(7)

    def linear(name: str, a: int, b: int) -> None:
        state[f"module.{name}.weight"], state[f"module.{name}.bias"] = torch.randn(b, a), torch.randn(b)

    def layer(name: str, a: int, b: int, kind: str, *, project: bool) -> None:
        for j in (0, 1):
            at, enters = f"{name}.{j}", a if j == 0 else b
            conv(f"{at}.conv1", enters, b, 3)
            bn(f"{at}.bn1", b)
            if kind == "scales":
                for path in (1, 2):
                    for g in (1, 2, 3, 4):
                        conv(f"{at}.conv{path}_2_{g}", b // 4, b // 4, 3)
                        bn(f"{at}.bn{path}_2_{g}", b // 4)
            else:
                conv(f"{at}.conv2", b, b, 3)
                bn(f"{at}.bn2", b)
            if kind == "attention":
                linear(f"{at}.cbam.ChannelGate.mlp.1", b, 4)
                linear(f"{at}.cbam.ChannelGate.mlp.3", 4, b)
                conv(f"{at}.cbam.SpatialGate.spatial.conv", 2, 1, 7)
                bn(f"{at}.cbam.SpatialGate.spatial.bn", 1)
            if j == 0 and project:
                conv(f"{at}.downsample.0", a, b, 1)
                bn(f"{at}.downsample.1", b)

    conv("conv1", 3, 2, 7)
    bn("bn1", 2)
    layer("layer1", 2, 2, "basic", project=False)
    layer("layer2", 2, 4, "basic", project=True)
    for p in (1, 2, 3, 4):
        layer(f"layer3_1_p{p}", 4, 8, "attention", project=True)
        layer(f"layer4_1_p{p}", 8, 16, "attention", project=True)
    layer("layer3_2", 4, 8, "scales", project=True)
    layer("layer4_2", 8, 16, "scales", project=True)
    linear("fc_1", 16, classes)
    linear("fc_2", 16, classes)
    return state


def test_released_checkpoint_loads_but_for_its_classifiers(tmp_path):
    state = released_checkpoint()
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "faces.pth.tar")
    model = small()
    stayed = load_released(model, tmp_path / "faces.pth.tar")
    assert stayed == ["fc_local.weight", "fc_local.bias", "fc_global.weight", "fc_global.bias"]
    own = model.state_dict()
    for name, released in {
        "layer2.0.downsample.1.running_var": "layer2.0.downsample.1.running_var",
        "local.patches.3.layer3.1.conv2.weight": "layer3_1_p4.1.conv2.weight",
        "local.patches.0.layer4.0.cbam.channel_gate.mlp.2.weight": "layer4_1_p1.0.cbam.ChannelGate.mlp.3.weight",
        "local.patches.1.layer4.1.cbam.spatial_gate.bn.bias": "layer4_1_p2.1.cbam.SpatialGate.spatial.bn.bias",
        "global_layer3.0.chain_a.convs.0.weight": "layer3_2.0.conv1_2_1.weight",
        "global_layer4.1.chain_b.bns.3.running_mean": "layer4_2.1.bn2_2_4.running_mean",
    }.items():
        assert torch.equal(own[name], state[f"module.{released}"]), name
    whole = small(num_classes=20)
    assert load_released(whole, tmp_path / "faces.pth.tar") == []
    assert torch.equal(whole.fc_global.bias, state["module.fc_2.bias"])


def test_a_checkpoint_of_another_network_changes_nothing(tmp_path):
    state = released_checkpoint()
    del state["module.layer3_2.0.bn2_2_4.weight"]
    torch.save(state, tmp_path / "cut.pth")
    model = small()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"cut.pth is not of this network: no global_layer3.0.chain_b.bns.3.weight"):
        load_released(model, tmp_path / "cut.pth")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    with pytest.raises(FileNotFoundError, match="no file of weights at"):
        load_released(model, tmp_path / "none.pth")
