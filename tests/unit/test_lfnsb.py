"""LFNSB and the family it comes from, against the numbers of their audit: parameters and multiply-adds by stage,
heads, blocks.
"""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ferkit.explain import capture, features_of
from ferkit.labels import order
from ferkit.losses import make_criterion
from ferkit.models import FerModel, count_parameters, create_model, summarise
from ferkit.models.attention import CoordinateAttention, SpatialBias
from ferkit.models.layers import ConvBN, MixedDepthwise, RepVGGDW
from ferkit.models.lfnsb import HEADS, LfnsbParts
from ferkit.models.mobilefacenet import FaceEmbedding

FAMILY = ("mobilefacenet", "mfn", "lfn")

# Parameters, multiply-adds at 112 px, side of the map. LFNSB's body is LFN's.
STAGES = {
    "mobilefacenet": {
        "conv1": (1_920, 5_419_008, 56), "conv2_dw": (768, 1_806_336, 56), "conv_23": (18_432, 33_015_808, 28),
        "conv_3": (73_728, 54_992_896, 28), "conv_34": (53_248, 19_719_168, 14), "conv_4": (417_792, 79_779_840, 14),
        "conv_45": (139_008, 16_282_112, 7), "conv_5": (139_264, 6_648_320, 7), "conv_6_sep": (67_072, 3_211_264, 7),
        "conv_6_dw": (26_112, 25_088, 1),
    },
    "mfn": {
        "conv1": (1_920, 5_419_008, 56), "conv2_dw": (768, 1_806_336, 56), "conv_23": (23_576, 34_535_424, 28),
        "conv_3": (200_664, 128_378_880, 28), "conv_34": (63_512, 20_536_320, 14),
        "conv_4": (1_237_376, 217_792_512, 14),
        "conv_45": (542_304, 41_509_888, 7), "conv_5": (1_833_024, 82_600_224, 7),
        "conv_6_sep": (132_608, 6_422_528, 7),
        "conv_6_dw": (26_112, 25_088, 1),
    },
    "lfn": {
        "conv1": (1_856, 5_419_008, 56), "conv2_dw": (704, 1_806_336, 56), "conv_23": (16_600, 25_249_280, 28),
        "conv_3": (144_792, 93_574_656, 28), "conv_34": (45_464, 15_076_096, 14), "conv_4": (907_648, 160_935_936, 14),
        "conv_45": (375_880, 30_458_624, 7), "conv_5": (1_160_484, 53_759_748, 7), "repvgg": (3_840, 125_440, 7),
        "conv_6_dw": (13_056, 12_544, 1),
    },
}  # fmt: skip
# The released MixedFeatureNet constructs a BatchNorm and a PReLU in every mixed depthwise convolution and never calls
# them, three values per expanded channel, which STAGES counts; the released LFNSB an unused BatchNorm of 2 K. Neither
# is built here.
MFN_DEAD = {
    "conv_23": 3 * 128, "conv_3": 3 * 128 * 9, "conv_34": 3 * 256, "conv_4": 3 * 256 * 16, "conv_45": 3 * 1024,
    "conv_5": 3 * 512 * 6,
}  # fmt: skip
DEAD = {"mfn": sum(MFN_DEAD.values()), "lfnsb": 14}


def meta(name: str = "lfnsb", **options) -> FerModel:
    with torch.device("meta"):
        return create_model(name, **options)


def macs(model: FerModel, size: int = 112) -> int:
    return sum(row.macs for row in summarise(model, size))


def small(name: str = "lfnsb", **options) -> FerModel:
    torch.manual_seed(0)
    return create_model(name, **{"width": 1 / 8, **options})


def noise(n: int, size: int = 64) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", FAMILY)
def test_stage_table(name):
    rows = {row.name: row for row in summarise(meta(name))}
    dead = MFN_DEAD if name == "mfn" else {}
    assert {k: (rows[k].params + dead.get(k, 0), rows[k].macs, rows[k].shape[1]) for k in STAGES[name]} == STAGES[name]
    assert list(rows) == [*STAGES[name], "fc"]


def test_lfnsb_has_the_body_of_lfn():
    rows = {row.name: (row.params, row.macs, row.shape[1]) for row in summarise(meta()) if len(row.shape) == 3}
    assert rows.pop("spatial_bias") == (17_080, 827_904 + 3_072, 2)
    assert rows == {k: v for k, v in STAGES["lfn"].items() if k != "conv_6_dw"}


@pytest.mark.parametrize(
    ("name", "size", "parameters", "count"),
    [
        ("mobilefacenet", 128, 1_003_136, 220_965_376),
        ("mobilefacenet", 512, 1_200_512, 221_161_984),
        ("mfn", 256, 4_193_448 - DEAD["mfn"], 539_157_280),
        ("lfn", 256, 2_736_372, 386_483_204),
    ],
)
def test_totals_of_the_embeddings(name, size, parameters, count):
    with torch.device("meta"):
        model = FaceEmbedding(name, size)
    assert count_parameters(model) == parameters
    assert macs(model.network) + model.linear.weight.numel() == count


# head, parameters, multiply-adds, change against MFN (4,193,448 parameters, 539.157 M) in percent. Printed: -30.8,
# -27.1.
VARIANTS = [
    ("released", 2_676_147, 387_237_892, -36.2, -28.2),
    ("concat_sb1", 2_906_707, 391_661_060, -30.7, -27.4),
    ("concat_flat", 2_784_115, 387_345_860, -33.6, -28.2),
    ("concat_gdc", 2_692_915, 387_254_020, -35.8, -28.2),
    ("concat_gap", 2_676_595, 387_238_340, -36.2, -28.2),
]


@pytest.mark.parametrize(("head", "parameters", "count", "saved_parameters", "saved_macs"), VARIANTS)
def test_no_head_gives_the_printed_reductions(head, parameters, count, saved_parameters, saved_macs):
    model = meta(head=head)
    assert (count_parameters(model), macs(model)) == (parameters, count)
    changes = [round(100 * (a / b - 1), 1) for a, b in ((parameters, 4_193_448), (count, 539_157_280))]
    assert changes == [saved_parameters, saved_macs] != [-30.8, -27.1]


def test_lfn_with_a_classifier_and_eight_classes():
    assert count_parameters(meta("lfn")) == 2_672_123 and macs(meta("lfn")) == 386_419_460
    assert count_parameters(meta(num_classes=8)) == 2_676_420 - 2 * 8


def test_the_saving_is_in_the_widths_of_deep_stages():
    """MFN to LFN as released: 1,457,076 parameters less, by stage in percent; the stem, which the paper fuses,
    has none of it.
    """
    before = {**{k: v[0] for k, v in STAGES["mfn"].items()}, "linear": 512 * 256 + 512}
    after = {**{k: v[0] for k, v in STAGES["lfn"].items()}, "linear": 256 * 256 + 512}
    after["conv_6_sep"] = after.pop("repvgg")
    saved = {k: before[k] - after[k] for k in before}
    assert sum(saved.values()) == 1_457_076 and DEAD["mfn"] == 29_184
    share = {k: round(100 * v / 1_457_076) for k, v in saved.items()}
    assert (share["conv_5"], share["conv_4"], share["conv_45"], share["conv_3"]) == (46, 23, 11, 4)
    assert round(100 * (saved["conv_6_sep"] + saved["conv_6_dw"] + saved["linear"]) / 1_457_076) == 14
    assert saved["conv1"] + saved["conv2_dw"] == 128


def test_heads_and_parts():
    for head in HEADS:
        model = small(head=head, input_size=64).eval()
        with torch.no_grad(), capture(model, ["repvgg", "fc"]) as seen:
            parts = model.forward_parts(noise(2))
        assert isinstance(parts, LfnsbParts)
        assert parts.logits.shape == (2, 7) and parts.feature_map.shape == (2, 32, 4, 4)
        assert parts.features.shape == (2, model.num_loss_features) == (2, 32)
        assert torch.equal(parts.feature_map, seen["repvgg"]) and torch.equal(parts.logits, seen["fc"])
        assert torch.allclose(parts.features, parts.feature_map.mean((2, 3)))
        with torch.no_grad():
            entering = model.forward_features(noise(2))
            assert entering.shape == (2, model.num_features) == (2, model.fc.in_features)
            assert torch.equal(model.forward_head(entering), parts.logits)
            assert torch.equal(model(noise(2)), parts.logits)


@pytest.mark.parametrize("head", HEADS)
def test_a_loss_on_features_fits_every_head(head):
    # a width at which 64 bias maps of 4 places are not as many as the channels
    model = small(head=head, input_size=64, width=0.3)
    criterion = make_criterion("center", model, num_classes=7)
    parts = model.forward_parts(noise(2))
    assert set(criterion(parts, torch.tensor([1, 2]))) == {"cross_entropy", "center"}
    assert features_of(model, np.zeros((2, 64, 64), np.uint8)).shape == (2, model.num_loss_features)


def test_the_released_head_does_not_see_the_map():
    """Only 64 + 2 pooled channels reach the logits: without the spatial bias they do not depend on the picture."""
    model = small()
    assert model.fc.in_features == 32 and small(head="concat_gap").fc.in_features == 40
    for head, sees in (("released", False), ("concat_gap", True)):
        model = small(head=head)  # in training mode, where the maps of an untrained network differ between pictures
        model.spatial_bias.mix.weight.data.zero_()
        with torch.no_grad():
            logits = model(noise(4))
        assert (logits.std(0).max() > 1e-4) == sees


@pytest.mark.parametrize("head", ["released", "concat_gap"])
@pytest.mark.parametrize("size", [16, 48, 64, 100, 112, 224])
def test_any_size_and_a_batch_of_one(head, size):
    model = small(head=head).eval()
    assert model(noise(1, size)).shape == (1, 7)
    assert model(noise(1, size)[..., :16]).shape == (1, 7)


@pytest.mark.parametrize("size", [64, 112])
def test_a_batch_of_one_trains(size):
    model = small()
    nn.functional.cross_entropy(model(noise(1, size)), torch.tensor([3])).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(("size", "side"), [(48, 3), (64, 4), (100, 7), (112, 7), (224, 14)])
def test_weights_for_each_place_follow_the_size(size, side):
    for options in ({"name": name} for name in FAMILY):
        model = small(**options, input_size=size).eval()
        assert model.conv_6_dw.conv.kernel_size == (side, side)
        assert model(noise(2, size)).shape == (2, 7)
    assert meta(head="concat_flat", input_size=size).fc.in_features == 320 * side**2
    assert meta(head="concat_sb1", input_size=size).fc.in_features == 512 * side**2
    assert small(head="concat_sb1", input_size=size)(noise(2, size)).shape == (2, 7)


def test_another_size_is_an_error_with_a_way_out():
    with pytest.raises(ValueError, match="map of 7 x 7 places .*112 px.*found 4 x 4 from 64 x 64 px.*input_size=64"):
        small("mfn")(noise(2))
    with pytest.raises(ValueError, match="head 'concat_flat' has weights for a map of 7 x 7 places .* found 4 x 4"):
        small(head="concat_flat")(noise(2))


@pytest.mark.parametrize(("option", "value"), [("head", "official"), ("stem_act", "relu")])
def test_unknown_values_list_the_known_ones(option, value):
    with pytest.raises(ValueError, match=f"lfnsb has no {option}='{value}'; known: "):
        small(**{option: value})


def test_width_one_third_keeps_the_sums():
    for name in (*FAMILY, "lfnsb"):
        model = create_model(name, width=0.3, input_size=64).eval()
        assert model(noise(1)).shape == (1, 7)


def test_stem_is_affine_as_released():
    """Without an activation the two convolutions of the stem are one affine map; a PReLU ends that."""
    for act, affine in (("none", True), ("prelu", False)):
        model = small(stem_act=act).double().eval()
        stem = nn.Sequential(model.conv1, model.conv2_dw)
        a, b = noise(2).double()[:1], noise(2).double()[1:]
        with torch.no_grad():
            bent = (stem(a + b) - stem(a) - stem(b) + stem(torch.zeros_like(a))).abs().max()
        assert (bent < 1e-13) == affine
    assert count_parameters(meta(stem_act="prelu")) == 2_676_147 + 128


def test_vocabulary_and_cam_layer():
    assert meta().labels == order("rafdb") and meta(num_classes=8).labels == order("affectnet8")
    assert [meta().cam_layer(s) for s in (16, 32, 48, 64, 96, 112)] == [
        "conv2_dw",
        "conv_3",
        "conv_4",
        "conv_4",
        "repvgg",
        "repvgg",
    ]
    assert meta("mfn").cam_layer(112) == "conv_6_sep"


def test_embedding_has_unit_length_and_feeds_the_classifier():
    torch.manual_seed(0)
    model = FaceEmbedding("lfn", 16, width=1 / 8, input_size=64)
    out = model(noise(3))
    assert torch.allclose(out.norm(dim=1), torch.ones(3), atol=1e-6) and out.shape == (3, 16)
    missing, unexpected = small("lfn", input_size=64).load_state_dict(model.network.state_dict(), strict=False)
    assert (missing, unexpected) == (["fc.weight", "fc.bias"], [])


def test_mixed_depthwise_is_its_kernels_side_by_side():
    torch.manual_seed(0)
    block = MixedDepthwise([(3, 4), (5, 2), (7, 3)], stride=2)
    x = torch.randn(2, 9, 11, 8)
    out = block(x)
    assert out.shape == (2, 9, 6, 4)
    weights = [conv.weight for conv in block.convs]
    parts = [
        nn.functional.conv2d(p, w, stride=2, padding=w.shape[-1] // 2, groups=len(w))
        for p, w in zip(x.split([4, 2, 3], 1), weights, strict=True)
    ]
    assert torch.allclose(out, torch.cat(parts, 1), atol=1e-6)
    assert not torch.allclose(out[:, :4], block(x.flip(1))[:, :4])
    with pytest.raises(ValueError, match="kernels must be odd .* found 4"):
        MixedDepthwise([(3, 4), (4, 2)])


def test_coordinate_attention_by_hand():
    torch.manual_seed(0)
    block = CoordinateAttention(6, hidden=3).eval()
    assert CoordinateAttention(192).conv1.out_channels == 8 and CoordinateAttention(768).conv1.out_channels == 24
    x = torch.randn(2, 6, 5, 4)
    with torch.no_grad(), capture(block, ["height_gate", "width_gate"]) as seen:
        out = block(x)
        hidden = {3: None, 2: None}
        for axis in hidden:  # mean over the width, mean over the height
            y = (
                torch.einsum("oc,bcl->bol", block.conv1.weight[:, :, 0, 0], x.mean(axis))
                + block.conv1.bias[None, :, None]
            )
            y = y / (1 + block.bn1.eps) ** 0.5
            hidden[axis] = y * (y + 3).clamp(0, 6) / 6
        gates = [
            torch.sigmoid(torch.einsum("oc,bcl->bol", conv.weight[:, :, 0, 0], hidden[axis]) + conv.bias[None, :, None])
            for conv, axis in ((block.conv_height, 3), (block.conv_width, 2))
        ]
    assert torch.allclose(seen["height_gate"], gates[0][:, :, :, None], atol=1e-6)
    assert torch.allclose(seen["width_gate"], gates[1][:, :, None, :], atol=1e-6)
    assert torch.allclose(out, x * gates[0][:, :, :, None] * gates[1][:, :, None, :], atol=1e-6)


def test_spatial_bias_by_its_formula():
    torch.manual_seed(0)
    block = SpatialBias(6, biases=5).eval()
    x = torch.randn(2, 6, 7, 7)
    with torch.no_grad(), capture(block, ["pool", "act"]) as seen:
        out = block(x)
    pooled = seen["pool"]  # (2, 7, 2, 2): on 7 x 7 the four windows are 4 x 4 and overlap
    assert torch.allclose(pooled[:, :, 0, 1], seen["act"][:, :, :4, 3:].mean((2, 3)), atol=1e-6)
    weight, bias = block.mix.weight, block.mix.bias
    for c in range(5):
        for q in range(4):
            z = bias[q] + sum(weight[q, p, t] * pooled[:, c + t, p // 2, p % 2] for p in range(4) for t in range(3))
            assert torch.allclose(out[:, c, q // 2, q % 2], z, atol=1e-6)


def test_conv_bn_without_activation_is_linear():
    assert isinstance(ConvBN(3, 4).act, nn.Identity) and isinstance(ConvBN(3, 4, activation=True).act, nn.PReLU)
    assert ConvBN(3, 4, activation=True).act.weight.shape == (4,)
    assert count_parameters(RepVGGDW(256)) == 3_840


FORMATS = pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])


@FORMATS
def test_a_step_in_bfloat16_is_near_the_one_in_float32(memory_format):
    model = small().to(memory_format=memory_format)
    images = noise(8).contiguous(memory_format=memory_format)
    losses, gradients = [], []
    for half in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            loss = nn.functional.cross_entropy(model(images), torch.arange(8) % 7)
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([p.grad.flatten() for p in model.fc.parameters()]))
    assert 0 < abs(losses[0] - losses[1]) < 0.05
    assert nn.functional.cosine_similarity(*gradients, dim=0) > 0.95
    assert all(p.grad.dtype == torch.float32 and torch.isfinite(p.grad).all() for p in model.parameters())


def test_formats_give_the_same_logits():
    model = small().double()
    images = noise(4).double()
    wanted = model(images)
    found = model.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    assert 0 <= (found - wanted).abs().max() < 1e-10
    model.eval()
    with torch.no_grad():
        assert torch.allclose(model(images), model(images.contiguous(memory_format=torch.channels_last)), atol=1e-12)
