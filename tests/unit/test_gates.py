"""Gates, masks and patches: what is shown is what the network multiplied with."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ferkit.explain import attention_maps, capture, channel_gates, spatial_maps
from ferkit.models import FerModel, create_model
from ferkit.models.attention import BAM
from ferkit.predict import predict_logits, prepare_for

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 64, 64)).astype(np.uint8)


def network(name: str, *, size: int | None = None, **options: object) -> FerModel:
    """A small network whose BatchNorms do something in evaluation mode and whose masks are not flat."""
    torch.manual_seed(0)
    net = create_model(name, **options)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, 0, 0.3)
    net.input_size = size or net.input_size
    return net.eval()


def outputs(net: FerModel, *names: str) -> list[Tensor]:
    with torch.no_grad(), capture(net, names) as seen:
        net(prepare_for(net, IMAGES))
    return [seen[n] for n in names]


# --------------------------------------------------------------------------------------------------------- masks of RMN


def test_a_channel_softmax_mask_cannot_show_places() -> None:
    net = network("resmasking", width=1 / 8, size=64)
    maps = spatial_maps(net, IMAGES)
    for k, (channels, side) in enumerate(((8, 16), (16, 8), (32, 4), (64, 2)), 1):
        mean = maps[f"mask{k}: mean F_M"]
        assert mean.shape == (5, side, side)
        np.testing.assert_allclose(mean, 1 / channels, rtol=1e-5)
        assert maps[f"mask{k}: F_R*F_M"].std() > 0.05 * maps[f"mask{k}: F_R*F_M"].mean() > 0
        largest = maps[f"mask{k}: max F_M"]
        assert 1 / channels <= largest.min() and largest.max() <= 1
    assert maps["mask1: max F_M"].std() > 0.01


@pytest.mark.parametrize("mask", ["sigmoid", "spatial_softmax"])
def test_other_masks_have_no_constant_mean(mask: str) -> None:
    mean = spatial_maps(network("resmasking", width=1 / 8, mask=mask, size=64), IMAGES)["mask1: mean F_M"]
    assert mean.std() > 0.02 * mean.mean() > 0
    if mask == "sigmoid":
        assert 0.5 <= mean.min() < mean.max() < 1  # the sigmoid of what left a ReLU


@pytest.mark.parametrize(("combine", "factor"), [("residual", 1), ("multiply", 0)])
def test_the_sums_of_a_block_add_up(combine: str, factor: int) -> None:
    maps = spatial_maps(network("resmasking", width=1 / 8, combine=combine, size=64), IMAGES)
    f_r, product, f_n = (maps[f"mask2: {what}"] for what in ("F_R", "F_R*F_M", "F_N"))
    np.testing.assert_allclose(f_n, factor * f_r + product, rtol=1e-4)
    assert not np.allclose(f_n, (1 - factor) * f_r + product, rtol=1e-2)
    assert product.min() >= 0 and (product <= f_r + 1e-5).all()


def test_masks_over_channels_and_left_out_blocks() -> None:
    gates = channel_gates(network("resmasking", width=1 / 8, depths=(2, 0, 2, 1), size=64), IMAGES)
    assert {k: v.shape for k, v in gates.items()} == {
        "mask1: place mean": (5, 8),
        "mask3: place mean": (5, 32),
        "mask4: place mean": (5, 64),
    }
    np.testing.assert_allclose(gates["mask3: place mean"].sum(1), 1, rtol=1e-5)
    assert attention_maps(network("resmasking", width=1 / 8, mask="none", size=64), IMAGES) == {}


# ------------------------------------------------------------------------------------------------------------ the gates


def test_squeeze_and_excitation() -> None:
    net = network("resemotenet", width=1 / 8)
    gates = attention_maps(net, IMAGES)
    assert list(gates) == ["se.gate"]
    np.testing.assert_allclose(gates["se.gate"], outputs(net, "se.gate")[0].flatten(1), rtol=1e-5)
    assert gates["se.gate"].shape == (5, 32) and 0 < gates["se.gate"].min() < gates["se.gate"].max() < 1
    assert spatial_maps(net, IMAGES) == {}


def test_esr_has_the_gates_of_its_base_and_of_each_branch() -> None:
    net = network("esr", width=1 / 16, branches=2, attention="cbam")
    maps, gates = spatial_maps(net, IMAGES), channel_gates(net, IMAGES)
    with torch.no_grad():
        parts = net.forward_parts(prepare_for(net, IMAGES))
    for branch in (0, 1):
        name = f"branches.{branch}.attention4"
        np.testing.assert_allclose(maps[f"{name}.spatial_gate"], parts.spatial_gates[branch], rtol=1e-5)
        np.testing.assert_allclose(gates[f"{name}.channel_gate"], parts.channel_gates[branch], rtol=1e-5)
    assert not np.allclose(
        maps["branches.0.attention4.spatial_gate"], maps["branches.1.attention4.spatial_gate"], rtol=1e-3
    )
    assert maps["base.attention1.spatial_gate"].shape == (5, 92, 92)
    assert len(maps) == len(gates) == 4 + 2 * 4
    assert attention_maps(network("esr", width=1 / 16, branches=1), IMAGES) == {}


def test_coordinate_attention_is_two_strips_and_their_product() -> None:
    net = network("lfnsb", width=1 / 8, input_size=64)
    block = "conv_34.0.attention"
    maps = attention_maps(net, IMAGES)
    height, width = outputs(net, f"{block}.height_gate", f"{block}.width_gate")  # (B, C, h, 1), (B, C, 1, w)
    assert maps[f"{block}.height_gate"].shape == (5, 8, 1) and maps[f"{block}.width_gate"].shape == (5, 1, 8)
    np.testing.assert_allclose(maps[f"{block}.height_gate"], height.mean(1), rtol=1e-5)
    np.testing.assert_allclose(maps[f"{block}.product"], (height * width).mean(1), rtol=1e-5)
    np.testing.assert_allclose(maps[f"{block}.product: place mean"], (height * width).mean((2, 3)), rtol=1e-5)
    of_means = maps[f"{block}.height_gate"] * maps[f"{block}.width_gate"]
    assert np.abs(of_means - maps[f"{block}.product"]).max() > 1e-3  # the product of the means is something else
    assert maps["spatial_bias: channel mean"].shape == (5, 2, 2)
    assert maps["spatial_bias: channel mean"].std() > 0


def test_bam_and_residual_attention_over_places_and_over_channels() -> None:
    net = network("bam_resnet50", width=1 / 8, size=64)
    (gate,) = outputs(net, "layer1.3.gate")  # (B, 32, 16, 16)
    maps = attention_maps(net, IMAGES)
    np.testing.assert_allclose(maps["layer1.3.gate: channel mean"], gate.mean(1), rtol=1e-5)
    np.testing.assert_allclose(maps["layer1.3.gate: place mean"], gate.mean((2, 3)), rtol=1e-5)
    assert not any("spatial_gate" in name for name in maps)  # before the sigmoid: not a gate
    assert len(maps) == 6
    maps = attention_maps(network("resattnet56", width=1 / 16, size=64), IMAGES)
    assert [v.shape[1:] for v in maps.values()] == [(16, 16), (16,), (8, 8), (32,), (4, 4), (64,)]
    assert min(v.min() for v in maps.values()) >= 0 and max(v.max() for v in maps.values()) <= 1


def test_gates_of_timm() -> None:
    maps = attention_maps(network("cbam_resnet50", width=1 / 16, size=32), IMAGES)
    assert maps["layer1.0.cbam.channel.gate"].shape == (5, 16) and maps["layer1.0.cbam.spatial.gate"].shape == (5, 8, 8)
    assert maps["layer4.0.cbam.spatial.gate"].shape == (5, 1, 1)  # a single place is still a place
    assert len(maps) == 2 * 16


def test_patches_of_manet_are_put_back_in_their_places() -> None:
    net = network("manet", width=1 / 16, size=64)
    maps = attention_maps(net, IMAGES)
    gates = [f"local.patches.{p}.layer3.0.cbam.spatial_gate" for p in range(4)]
    top_left, top_right, bottom_left, bottom_right = (g[:, 0].numpy() for g in outputs(net, *gates))  # (B, 2, 2) each
    whole = maps["local.layer3.0.cbam.spatial_gate"]
    assert whole.shape == (5, 4, 4)
    for quadrant, gate in (
        (whole[:, :2, :2], top_left), (whole[:, :2, 2:], top_right), (whole[:, 2:, :2], bottom_left),
        (whole[:, 2:, 2:], bottom_right)
    ):  # fmt: skip
        np.testing.assert_allclose(quadrant, gate, rtol=1e-5)
    assert not np.allclose(top_left, top_right, rtol=1e-3)
    assert not any(name in maps for name in gates)
    (local,) = outputs(net, "local_map")
    np.testing.assert_allclose(maps["local_map: channel mean"], local.mean(1), rtol=1e-4)
    assert len(channel_gates(net, IMAGES)) == 16 and len(spatial_maps(net, IMAGES)) == 4 + 2


def test_blocks_in_a_network_of_ones_own() -> None:
    class Own(FerModel):
        input_size, mean, std, colour, labels = 16, (0.0,), (1.0,), "grey", ("fear", "anger")

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)
            self.block = BAM(4)
            self.fc = nn.Linear(4, 2)

        def forward(self, images: Tensor) -> Tensor:
            return self.fc(self.block(self.conv(images)).mean((2, 3)))

    assert {k: v.shape for k, v in attention_maps(Own(), IMAGES).items()} == {
        "block.gate: channel mean": (5, 14, 14),
        "block.gate: place mean": (5, 4),
    }


# -------------------------------------------------------------------------------------------------------------- manners


@pytest.mark.parametrize("name", ["resnet18", "mobilefacenet"])
def test_networks_without_gates_have_none(name: str) -> None:
    net = network(name, width=1 / 8, size=64 if name == "resnet18" else None)
    assert attention_maps(net, IMAGES) == {}


def test_batches_do_not_matter_and_pictures_do() -> None:
    net = network("resmasking", width=1 / 16, size=64)
    whole, parts = attention_maps(net, IMAGES), attention_maps(net, IMAGES, batch_size=2)
    assert list(whole) == list(parts)
    for name in whole:
        np.testing.assert_allclose(whole[name], parts[name], rtol=1e-3, atol=1e-5 * whole[name].max())
    assert np.abs(whole["mask1: F_R"][0] - whole["mask1: F_R"][1]).max() > 0.1


def test_leaves_the_model_as_it_was() -> None:
    net = network("resemotenet", width=1 / 8).train()
    net.bn2.eval()
    modes = [m.training for m in net.modules()]
    before = {k: v.clone() for k, v in net.state_dict().items()}
    attention_maps(net, IMAGES)
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks for m in net.modules())
    expected = attention_maps(net, IMAGES)["se.gate"]
    half = attention_maps(net.bfloat16(), IMAGES)["se.gate"]
    assert net.conv1.weight.dtype == torch.bfloat16 and half.dtype == np.float32
    np.testing.assert_allclose(half, expected, atol=0.05)
    assert predict_logits(net.float(), IMAGES).shape == (5, 7)


def test_bad_input_is_one_sentence() -> None:
    net = network("resemotenet", width=1 / 16)
    with pytest.raises(ValueError, match="empty"):
        attention_maps(net, IMAGES[:0])
    with pytest.raises(ValueError, match="do not normalise"):
        spatial_maps(net, IMAGES / 127.5 - 1)
    with pytest.raises(ValueError, match="nearest legal sides"):
        attention_maps(network("resmasking", width=1 / 16, size=48), IMAGES)
