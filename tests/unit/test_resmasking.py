"""The Residual Masking Network against the numbers of its audit: parameters, multiply-adds, legal sizes, masks,
loaders.
"""

import re

import pytest
import torch
import torchvision
from torch import Tensor, nn

from ferkit.explain import capture
from ferkit.models import FerModel, count_parameters, create_model, summarise
from ferkit.models.released import in_our_names, read_released
from ferkit.models.resmasking import (
    DEPTHS,
    HEADS,
    MaskingBlock,
    count_as_printed,
    legal_size,
    nearest_legal_sizes,
)
from ferkit.models.resmasking_weights import load_imagenet_backbone, load_released

# released network (models/resmasking.py@9141618), parameters by part
PARTS = {
    "conv1": 9_408,
    "bn1": 128,
    "layer1": 221_952,
    "mask1": 32_366_080,
    "layer2": 1_116_416,
    "mask2": 31_885_312,
    "layer3": 6_822_400,
    "mask3": 29_965_312,
    "layer4": 13_114_368,
    "mask4": 22_291_456,
    "fc": 3_591,
}


def meta(**options) -> FerModel:
    with torch.device("meta"):
        return create_model("resmasking", **options)


def small(**options) -> FerModel:
    torch.manual_seed(0)
    return create_model("resmasking", **({"width": 1 / 16} | options))


def lively(**options) -> FerModel:
    """A small network in evaluation mode whose residual branches and normalisations all do something."""
    model = small(**options)
    torch.manual_seed(1)
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for layer in layers:
        nn.init.uniform_(layer.weight, 0.5, 1.5)
        nn.init.normal_(layer.bias, std=0.5)
        layer.momentum = 1.0  # the running statistics become those of one batch
    with torch.no_grad():
        model(torch.rand(8, 3, 64, 64))
    for layer in layers:
        layer.momentum = 0.1
    model.eval()
    return model


# ----------------------------------------------------------------------------------------------------------- arithmetic


def test_parameters_by_part():
    rows = {row.name: row for row in summarise(meta())}
    assert {name: row.params for name, row in rows.items() if row.params} == PARTS
    masks = sum(v for k, v in PARTS.items() if k.startswith("mask"))
    assert sum(PARTS.values()) == 137_796_423 and masks == 116_508_160
    assert 0.845 < masks / sum(PARTS.values()) < 0.8465


def test_table_ii_counts_the_shortcuts_of_the_masks_twice():
    model = meta()
    assert count_parameters(model) == 137_796_423
    assert count_as_printed(model) == 142_943_431
    assert count_as_printed(meta(mask="none")) == count_parameters(meta(mask="none")) == 21_288_263


def test_without_masks_it_is_torchvisions_resnet34():
    ours = {k: v.shape for k, v in meta(mask="none", head="linear").state_dict().items()}
    with torch.device("meta"):
        theirs = {k: v.shape for k, v in torchvision.models.resnet34(num_classes=7).state_dict().items()}
    assert ours == theirs


@pytest.mark.parametrize(
    ("head", "count"),
    [
        ("dropout1", 137_796_423),
        ("linear", 137_796_423),
        ("dropout2", 137_859_399),
        ("dropout3", 138_122_055),
        ("dropout4", 137_875_911),
    ],
)
def test_parameters_of_the_heads(head, count):
    assert count_parameters(meta(head=head)) == count
    model = small(head=head, num_classes=5)
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 5) and model.labels == ()


def test_heads_have_the_layers_of_the_released_state_dicts():
    names = {
        head: [k.removesuffix(".weight") for k in small(head=head).state_dict() if re.fullmatch(r"fc.*weight", k)]
        for head in HEADS
    }
    assert names == {
        "dropout1": ["fc.1"],
        "linear": ["fc"],
        "dropout2": ["fc.0", "fc.3"],
        "dropout3": ["fc.0", "fc.3", "fc.6"],
        "dropout4": ["fc.0", "fc.3", "fc.6"],
    }
    assert {h: [m.p for m in small(head=h).modules() if isinstance(m, nn.Dropout)] for h in HEADS} == {
        "dropout1": [0.4],
        "linear": [],
        "dropout2": [0.5],
        "dropout3": [0.5, 0.5],
        "dropout4": [0.5, 0.5],
    }


@pytest.mark.parametrize(("size", "giga"), [(224, 21.903), (192, 16.092), (128, 7.152), (96, 4.023), (64, 1.788)])
def test_multiply_adds_at_every_size(size, giga):
    assert round(sum(row.macs for row in summarise(meta(), size)) / 1e9, 3) == giga


def test_multiply_adds_by_part_and_grids():
    rows = {row.name: row for row in summarise(meta())}
    wanted = {
        "conv1": 0.118,
        "layer1": 0.694,
        "layer2": 0.873,
        "layer3": 1.336,
        "layer4": 0.642,
        "mask1": 8.028,
        "mask2": 5.716,
        "mask3": 3.404,
        "mask4": 1.092,
    }
    assert {k: round(rows[k].macs / 1e9, 3) for k in wanted} == wanted
    for k, (channels, side) in enumerate(((64, 56), (128, 28), (256, 14), (512, 7)), 1):
        assert {rows[f"{part}{k}"].shape for part in ("layer", "mask", "masked")} == {(channels, side, side)}


# ---------------------------------------------------------------------------------------------------------------- sizes

LEGAL = [n for top in range(32, 321, 32) for n in range(top - 3, top + 1)]


def test_legal_sizes_from_1_to_320():
    assert [n for n in range(1, 321) if legal_size(n)] == LEGAL
    assert len(LEGAL) == 40 and not legal_size(0) and not legal_size(-3)


@pytest.mark.parametrize("depths", [DEPTHS, (1, 1, 1, 1), (0, 0, 2, 0), (2, 3, 1, 1)])
def test_legality_is_what_the_u_nets_can_do(depths):
    """The rule against the network itself, with the check in front of it taken away."""
    model = create_model("resmasking", width=1 / 64, depths=depths).eval()
    model._fit_size = lambda images: images
    for n in [*range(1, 66), 93, 92, 96, 97, 100, 112, 124, 125, 156, 160, 200, 224, 225, 299, 317, 320]:
        try:
            with torch.no_grad():
                model(torch.zeros(1, 3, n, n))
            works = True
        except RuntimeError:
            works = False
        assert works == legal_size(n, depths), n


def test_height_and_width_may_differ():
    model = small().eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 96, 64)).shape == (1, 7)
        with pytest.raises(ValueError, match="of 96 x 48 px.*nearest legal sides: 32 or 61"):
            model(torch.zeros(1, 3, 96, 48))


@pytest.mark.parametrize(
    ("side", "nearest"),
    [(112, (96, 125)), (48, (32, 61)), (100, (96, 125)), (28, (29,)), (1, (29,)), (299, (288, 317)), (64, (64,))],
)
def test_nearest_legal_sizes(side, nearest):
    assert nearest_legal_sizes(side) == nearest


@pytest.mark.parametrize("side", [48, 112, 10])
def test_strict_names_the_nearest_legal_sizes(side):
    wanted = " or ".join(map(str, nearest_legal_sizes(side)))
    with pytest.raises(ValueError, match=f"pictures of {side} x {side} px.*nearest legal sides: {wanted}\\."):
        small().eval()(torch.zeros(1, 3, side, side))


@pytest.mark.parametrize("side", [61, 63, 64, 93, 96])
def test_policies_agree_on_legal_sizes(side):
    images = torch.rand(2, 3, side, side)
    with torch.no_grad():
        strict, pad, resize = (lively(size_policy=policy)(images) for policy in ("strict", "pad", "resize"))
    assert torch.equal(strict, pad) and torch.equal(strict, resize)


def test_pad_is_a_black_margin_up_to_a_multiple_of_32():
    model = lively(size_policy="pad")
    images = torch.rand(1, 3, 100, 48)
    framed = torch.zeros(1, 3, 128, 64)
    framed[:, :, 14:114, 8:56] = images
    with torch.no_grad():
        assert torch.equal(model(images), model(framed))
        assert not torch.allclose(model(images), model(framed.roll(3, 2)))
        assert model(torch.rand(1, 3, 5, 7)).shape == (1, 7)


@pytest.mark.parametrize("side", [29, 40, 48, 56, 100, 112])
def test_resize_takes_any_size_from_29_px(side):
    model = lively(size_policy="resize")
    with torch.no_grad(), capture(model, ["layer1", "mask1", "layer4", "mask4"]) as seen:
        logits = model(torch.rand(2, 3, side, side))
    assert torch.isfinite(logits).all() and logits.shape == (2, 7)
    assert seen["layer1"].shape == seen["mask1"].shape == (2, 4, -(-side // 4), -(-side // 4))
    assert seen["layer4"].shape == seen["mask4"].shape


def test_resize_says_what_it_cannot_do():
    with pytest.raises(ValueError, match="pools away pictures below 29 px, found 28 x 64"):
        small(size_policy="resize").eval()(torch.zeros(1, 3, 28, 64))


# ---------------------------------------------------------------------------------------------------------------- masks


def test_a_channel_softmax_mask_has_the_same_channel_mean_everywhere():
    """So a map of channel means, as one would draw it, cannot show where the network looks."""
    model = lively()
    with torch.no_grad(), capture(model, [f"mask{k}" for k in (1, 2, 3, 4)]) as seen:
        model(torch.rand(3, 3, 64, 64))
    for k, mask in enumerate(seen.values(), 1):
        channels = 4 * 2 ** (k - 1)
        assert mask.shape[1] == channels
        assert torch.allclose(mask.mean(dim=1), torch.full((), 1 / channels), atol=1e-7, rtol=0)
        assert mask.std() > 0.1 / channels  # not flat itself
        assert mask.amax(dim=1).std() > 1e-3  # and its largest channel does tell places apart


def test_other_masks_do_show_places():
    for mask in ("sigmoid", "spatial_softmax"):
        model = lively(mask=mask)
        with torch.no_grad(), capture(model, ["mask1"]) as seen:
            model(torch.rand(3, 3, 64, 64))
        means = seen["mask1"].mean(dim=1)
        assert (means.amax() - means.amin()) / means.mean() > 0.05


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_ranges_of_the_masks(depth):
    x = torch.randn(2, 6, 16, 16).relu()
    found = {}
    for mask in ("channel_softmax", "sigmoid", "spatial_softmax"):
        torch.manual_seed(depth)
        found[mask] = MaskingBlock(6, depth, mask=mask)(x)
        assert found[mask].shape == x.shape
    assert torch.allclose(found["channel_softmax"].sum(1), torch.ones(()))
    assert torch.allclose(found["spatial_softmax"].sum((2, 3)), torch.ones(()))
    assert all(0 < m.min() and m.max() < 1 for m in found.values())
    assert found["sigmoid"].min() == 0.5 < found["sigmoid"].max()  # the last unit ends in a ReLU
    assert found["channel_softmax"].min() < 0.5 * found["channel_softmax"].mean()


@pytest.mark.parametrize(
    ("combine", "mask"), [("residual", "channel_softmax"), ("multiply", "sigmoid"), ("residual", "spatial_softmax")]
)
def test_what_a_stage_passes_on(combine, mask):
    model = lively(combine=combine, mask=mask)
    names = [f"{part}{k}" for k in (1, 2, 3, 4) for part in ("layer", "mask", "masked")]
    with torch.no_grad(), capture(model, names) as seen:
        model(torch.rand(2, 3, 64, 64))
    for k in (1, 2, 3, 4):
        before, m, after = (seen[f"{part}{k}"] for part in ("layer", "mask", "masked"))
        assert torch.allclose(after, before * (1 + m) if combine == "residual" else before * m)
        assert not torch.allclose(after, before)


def test_initial_weights_are_the_released_ones():
    model = create_model("resmasking", width=0.25)
    units = [u for block in model.modules() if isinstance(block, MaskingBlock) for u in (*block.encode, *block.decode)]
    assert len(units) == 20
    assert all((u.bn2.weight == 0).all() and (u.bn1.weight == 1).all() for u in units)
    assert all((block.bn2.weight == 1).all() for k in (1, 2, 3, 4) for block in getattr(model, f"layer{k}"))
    for conv in (model.conv1, model.layer3[1].conv1, model.mask2.encode[2].conv1, model.mask4.decode[0].downsample[0]):
        fan_out = conv.out_channels * conv.kernel_size[0] ** 2
        assert abs(conv.weight.std().item() / (2 / fan_out) ** 0.5 - 1) < 0.05
    up = model.mask1.up[0][0]  # PyTorch's own default
    bound = (1 / (up.out_channels * 4)) ** 0.5
    assert 0.98 * bound < up.weight.abs().max() <= bound and up.bias is not None


def test_depths_and_the_network_without_masks():
    model = small(depths=(0, 0, 2, 0))
    assert [k for k, _ in model.named_children() if re.fullmatch(r"mask\d", k)] == ["mask3"]
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 7)
    assert small(depths=(2, 2, 0, 0))(torch.rand(2, 3, 48, 48)).shape == (2, 7)  # grids 12 and 6 can be halved once
    assert not [k for k in small(mask="none").state_dict() if k.startswith("mask")]
    images = torch.rand(2, 3, 50, 70)
    model = lively(mask="none")
    with torch.no_grad(), capture(model, ["layer2", "masked2"]) as seen:
        model(images)
    assert torch.equal(seen["layer2"], seen["masked2"])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mask": "sigmoid"},
        {"mask": "spatial_softmax", "combine": "multiply"},
        {"mask": "none"},
        {"size_policy": "resize"},
        {"head": "dropout3"},
    ],
)
def test_every_parameter_learns(options):
    model = small(**options)
    images = torch.rand(4, 3, 64, 64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):  # at first bn2.weight = 0 keeps gradients from the branches of the units
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), torch.arange(4)).backward()
        optimizer.step()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert silent == []
    assert all(p.grad.abs().sum() > 0 for name, p in model.named_parameters() if name.endswith("conv1.weight"))


def test_a_batch_of_one_trains_from_61_px_on_and_not_at_32():
    model = small()
    assert torch.isfinite(model(torch.rand(1, 3, 64, 64))).all()
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        model(torch.rand(1, 3, 32, 32))
    assert torch.isfinite(model.eval()(torch.rand(1, 3, 32, 32))).all()


def test_a_face_in_a_batch_is_treated_as_alone():
    model, images = lively().double(), torch.rand(3, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(model(images)[1:2], model(images[1:2]), atol=1e-12)


def test_parts_and_attributes():
    model = lively()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        parts = model.forward_parts(images)
        assert torch.equal(parts.logits, model(images)) and torch.equal(model.fc(parts.features), parts.logits)
    assert parts.features.shape == (2, 32) and model.num_features == 32
    assert (model.input_size, model.colour, model.mean, model.std) == (224, "grey3", (0, 0, 0), (1, 1, 1))
    assert model.labels == ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
    assert model.official_cam_layer is None


@pytest.mark.parametrize(
    ("size", "layer", "side"),
    [
        (32, "masked1", 8),
        (64, "masked2", 8),
        (96, "masked3", 6),
        (128, "masked3", 8),
        (192, "masked4", 6),
        (224, "masked4", 7),
    ],
)
def test_cam_layer_is_the_deepest_with_six_by_six_places(size, layer, side):
    model = small().eval()
    assert model.cam_layer(size) == layer
    with torch.no_grad(), capture(model, [layer]) as seen:
        model(torch.zeros(1, 3, size, size))
    assert seen[layer].shape[2:] == (side, side)


def test_cam_layer_counts_the_margin_of_pad():
    assert (
        small(size_policy="pad").cam_layer(66) == "masked3" and small(size_policy="resize").cam_layer(66) == "masked2"
    )
    assert small().cam_layer(16) == "masked1"


@pytest.mark.parametrize("option", ["mask", "combine", "head", "size_policy"])
def test_unknown_values_list_the_known_ones(option):
    with pytest.raises(ValueError, match=f"resmasking has no {option}='other'; known: "):
        small(**{option: "other"})


def test_bad_depths_and_blocks():
    for depths in ((4, 3, 2), (5, 3, 2, 1), (4, 3, 2, -1)):
        with pytest.raises(ValueError, match="four depths of 0 to 4"):
            small(depths=depths)
    with pytest.raises(ValueError, match="depth of 1 to 4, found 5"):
        MaskingBlock(4, 5)
    with pytest.raises(ValueError, match="known: channel_softmax, sigmoid, spatial_softmax$"):
        MaskingBlock(4, 1, mask="none")


# -------------------------------------------------------------------------------------------------------------- loaders


def released_layout(model: FerModel) -> dict[str, Tensor]:
    """A state dict in the authors' key layout, from ours: written out by hand, as the test's own knowledge."""
    table = {
        1: ([1], [2], []),
        2: ([1, 2], [3, 4], [3]),
        3: ([1, 2, 3], [4, 5, 6], [4, 5]),
        4: ([1, 2, 3, 4], [5, 6, 7, 8], [5, 6, 7]),
    }
    net = {}
    for key, value in model.state_dict().items():
        match = re.fullmatch(r"mask(\d)\.(encode|decode|up)\.(\d)\.(.*)", key)
        if match is None:
            net[key] = value
            continue
        block, part, index, rest = match.groups()
        encode, decode, up = table[5 - int(block)]
        k = {"encode": encode, "decode": decode, "up": up}[part][int(index)]
        net[f"mask{block}.{'up_pool' if part == 'up' else 'conv'}{k}.{rest}"] = value
        if rest.startswith("downsample."):
            net[f"mask{block}.downsample{k}.{rest.removeprefix('downsample.')}"] = value
    return net


def checkpoint(path, net, **more):
    torch.save(
        {
            "net": net,
            "arch": "resmasking_dropout1",
            "best_acc": 71.5,
            "test_acc": 74.1,
            "train_acc_list": [1.0, 2.0],
            **more,
        },
        path,
    )
    return path


def test_the_layout_is_that_of_the_released_state_dict():
    net = released_layout(meta())
    assert len(net) == 740 and sum(v.numel() for v in net.values()) == 143_040_193
    assert {
        "mask1.conv8.conv1.weight",
        "mask1.up_pool7.0.bias",
        "mask2.up_pool4.1.running_mean",
        "mask4.conv2.bn2.bias",
        "mask4.downsample2.0.weight",
        "fc.1.weight",
    } <= set(net)
    converted = in_our_names("resmasking", net)
    assert {k: v.shape for k, v in converted.items()} == {k: v.shape for k, v in meta().state_dict().items()}


def test_a_checkpoint_makes_the_round_trip(tmp_path):
    source, target = lively(), small(mask="sigmoid").eval()
    nn.init.normal_(target.fc[1].weight)
    file = checkpoint(tmp_path / "resmasking_dropout1", released_layout(source))
    assert load_released(target, file) == []
    assert read_released("resmasking", file).beside == {
        "arch": "resmasking_dropout1",
        "best_acc": 71.5,
        "test_acc": 74.1,
        "train_acc_list": [1.0, 2.0],
    }
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in target.state_dict().items())
    images = torch.rand(1, 3, 64, 64)
    exact = small().eval()
    load_released(exact, str(file))
    with torch.no_grad():
        assert torch.equal(exact(images), source(images)) and not torch.allclose(target(images), source(images))


def spoiled(**changes):
    net = released_layout(small())
    return {k: v for k, v in (net | changes).items() if v is not None}


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (lambda: small(mask="none").state_dict(), r"is not of this network: no mask1\.encode\.0.* more"),
        (lambda: released_layout(small(head="linear")), r"fc\.weight which the network lacks; fc\.bias which"),
        (lambda: released_layout(small(width=1 / 8)), r"conv1\.weight \(8, 3, 7, 7\) instead of \(4, 3, 7, 7\)"),
        (lambda: spoiled(**{"layer1.0.bn1.running_var": None}), r"network: no layer1\.0\.bn1\.running_var\. "),
        (lambda: spoiled(extra=torch.zeros(1)), r"network: extra which the network lacks\. "),
        (
            lambda: spoiled(**{"mask1.conv9.conv1.weight": torch.zeros(1)}),
            r"mask1\.decode\.4\.conv1\.weight which the network lacks",
        ),
        (lambda: {"conv1.weight": "text"}, "holds no state dict"),
        (lambda: [1, 2], "holds no state dict"),
    ],
)
def test_files_of_other_networks_are_refused(net, message, tmp_path):
    model = small()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_released(model, checkpoint(tmp_path / "file", net()))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_files_without_counters_of_batches_are_accepted(tmp_path):
    net = {k: v for k, v in released_layout(lively()).items() if not k.endswith("num_batches_tracked")}
    model = small()
    load_released(model, checkpoint(tmp_path / "file", net))
    assert torch.equal(model.bn1.weight, net["bn1.weight"])


class Trap:
    def __reduce__(self):
        return (print, ("code in a checkpoint ran",))


def test_files_that_are_no_checkpoints_and_code_in_one_that_is(tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="no file of weights at .*nothing"):
        load_released(small(), tmp_path / "nothing")
    (tmp_path / "text").write_text("not a checkpoint")
    with pytest.raises(ValueError, match="text cannot be read as weights"):
        load_released(small(), tmp_path / "text")
    source = lively()
    torch.save(source.state_dict(), tmp_path / "bare")
    for file in (tmp_path / "bare", checkpoint(tmp_path / "trap", released_layout(source), note=Trap())):
        model = small()
        assert load_released(model, file) == []
        assert torch.equal(model.fc[1].weight, source.fc[1].weight)
    assert "ran" not in capsys.readouterr().out


@pytest.fixture(scope="module")
def resnet34() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return torchvision.models.resnet34().state_dict()


def one_unit_masks() -> FerModel:
    """Width 1, as ImageNet demands, with the smallest mask there is."""
    return create_model("resmasking", depths=(1, 0, 0, 0))


def test_imagenet_weights_go_into_the_backbone_alone(resnet34):
    model = one_unit_masks()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    left = load_imagenet_backbone(model, {k: v for k, v in resnet34.items() if not k.endswith("num_batches_tracked")})
    state = model.state_dict()
    assert left == sorted(k for k in state if k.startswith(("mask1.", "fc."))) and "fc.1.weight" in left
    assert all(torch.equal(state[k], before[k]) for k in left)
    assert all(
        torch.equal(state[k], resnet34[k]) for k in state if k not in left and not k.endswith("num_batches_tracked")
    )
    assert not torch.equal(state["layer4.2.conv2.weight"], before["layer4.2.conv2.weight"])


def test_a_filled_backbone_computes_what_torchvisions_does(resnet34):
    model = create_model("resmasking", mask="none", num_classes=1000, head="linear").eval()
    theirs = torchvision.models.resnet34()
    theirs.load_state_dict(resnet34)
    load_imagenet_backbone(model, resnet34)
    model.fc.load_state_dict(theirs.fc.state_dict())
    images = torch.rand(1, 3, 70, 50)
    with torch.no_grad():
        assert torch.allclose(model(images), theirs.eval()(images), atol=1e-5)


def test_imagenet_weights_are_fetched_through_torchvision(resnet34, monkeypatch):
    from torchvision.models import ResNet34_Weights

    from ferkit.models import initialise

    model = one_unit_masks()
    monkeypatch.setattr(ResNet34_Weights, "get_state_dict", lambda self, **_: resnet34)
    assert "mask1.encode.0.conv1.weight" in initialise(model, "imagenet").stayed
    assert torch.equal(model.conv1.weight, resnet34["conv1.weight"])

    def offline(self, **_):
        raise OSError("no route")

    monkeypatch.setattr(ResNet34_Weights, "get_state_dict", offline)
    with pytest.raises(FileNotFoundError, match=r"could not fetch its ImageNet weights of ResNet-34 \(no route\)"):
        model.load_imagenet()


def test_imagenet_weights_of_another_network_are_refused(resnet34):
    with pytest.raises(ValueError, match="width 1, found one with 4 channels"):
        load_imagenet_backbone(small(), resnet34)
    with torch.device("meta"):
        resnet18 = torchvision.models.resnet18().state_dict()
    with pytest.raises(ValueError, match="not the weights of a ResNet-34: no layer1.2.conv1.weight.* and 77 more"):
        load_imagenet_backbone(one_unit_masks(), resnet18)
