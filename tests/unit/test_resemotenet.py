"""ResEmoteNet against the numbers of its audit: parameters, multiply-adds, grids, and Table IV's configurations."""

import pytest
import torch
from torch import Tensor, nn

from ferkit.explain import capture, module_by_name
from ferkit.models import FerModel, count_parameters, create_model, summarise

# Published network (approach/ResEmoteNet.py@fabbe680), parameters by part.
PARTS = {
    "conv1": 1_792,
    "bn1": 128,
    "conv2": 73_856,
    "bn2": 256,
    "conv3": 295_168,
    "bn3": 512,
    "se": 8_192,
    "res_block1": 3_674_624,
    "res_block2": 14_689_280,
    "res_block3": 58_738_688,
    "fc1": 2_098_176,
    "fc2": 524_800,
    "fc3": 131_328,
    "fc4": 1_799,
}
MACS_64 = {
    "conv1": 7_077_888,
    "conv2": 75_497_472,
    "conv3": 75_497_472,
    "se": 8_192,
    "res_block1": 58_720_256,
    "res_block2": 58_720_256,
    "res_block3": 58_720_256,
    "fc1": 2_097_152,
    "fc2": 524_288,
    "fc3": 131_072,
    "fc4": 1_792,
}


def meta(**options) -> FerModel:
    with torch.device("meta"):
        return create_model("resemotenet", **options)


def macs(model: FerModel, size: int = 64) -> int:
    return sum(row.macs for row in summarise(model, size))


def small(**options) -> FerModel:
    torch.manual_seed(0)
    return create_model("resemotenet", width=1 / 16, **options)


@pytest.mark.parametrize(
    ("width", "parameters"),
    [(1, 80_238_599), (1 / 2, 20_069_383), (1 / 4, 5_022_215), (1 / 8, 1_257_991), (1 / 16, 315_719)],
)
def test_parameters_at_every_width(width, parameters):
    assert count_parameters(meta(width=width)) == parameters


@pytest.mark.parametrize(
    ("size", "count"), [(48, 242_149_120), (64, 336_996_096), (100, 887_804_672), (224, 4_317_325_056)]
)
def test_multiply_adds_at_every_size(size, count):
    assert macs(meta(), size) == count


@pytest.mark.parametrize(("width", "millions"), [(1 / 2, 86.0), (1 / 4, 22.4), (1 / 8, 6.0), (1 / 16, 1.7)])
def test_multiply_adds_at_small_widths(width, millions):
    assert round(macs(meta(width=width)) / 1e6, 1) == millions


def test_parameters_and_multiply_adds_by_part():
    rows = {row.name: row for row in summarise(meta())}
    assert {name: row.params for name, row in rows.items() if row.params} == PARTS
    assert {name: row.macs for name, row in rows.items() if row.macs} == MACS_64
    residual = sum(PARTS[f"res_block{i}"] for i in (1, 2, 3))
    assert residual == 77_102_592 and 0.960 < residual / sum(PARTS.values()) < 0.962


@pytest.mark.parametrize(
    ("size", "stages", "blocks"),
    [
        (48, (24, 12, 6), (3, 2, 1)),
        (64, (32, 16, 8), (4, 2, 1)),
        (100, (50, 25, 12), (6, 3, 2)),
        (224, (112, 56, 28), (14, 7, 4)),
    ],
)
def test_grids_of_every_stage(size, stages, blocks):
    shapes = {row.name: row.shape for row in summarise(meta(), size)}
    for i, (side, channels) in enumerate(zip(stages, (64, 128, 256), strict=True), 1):
        assert shapes[f"stage{i}"] == (channels, side, side)
    assert shapes["se"] == shapes["stage3"]
    for i, (side, channels) in enumerate(zip(blocks, (512, 1024, 2048), strict=True), 1):
        assert shapes[f"res_block{i}"] == (channels, side, side)
    assert shapes["pool"] == (2048, 1, 1) and shapes["fc4"] == (7,)


# Table IV; columns: configuration, wiring, parameters, multiply-adds at 64 px (None: the audit gives none)
WIRED = [
    ("C1", "drop_and_rewire", 80_238_599, 336_996_096),
    ("C2", "drop_and_rewire", 80_230_407, 336_987_904),
    ("C3", "drop_and_rewire", 80_166_407, 1_023_551_232),
    ("C4", "drop_and_rewire", 79_874_567, 2_849_646_336),
    ("C5", "drop_and_rewire", 73_942_535, 588_654_336),
    ("C6", "drop_and_rewire", 46_146_055, 848_701_184),
    ("C3", "keep_pool", 80_166_407, 257_959_680),
    ("C4", "keep_pool", 79_874_567, 180_692_736),
    ("C5", "adapter", 76_696_583, None),
    ("C6", "adapter", 62_139_911, None),
    ("C1", "out_names", 21_698_823, None),
    ("C5", "out_names", 20_451_335, None),
    ("C6", "out_names", 14_155_271, None),
]


@pytest.mark.parametrize(("ablation", "wiring", "parameters", "count"), WIRED)
def test_ablations(ablation, wiring, parameters, count):
    model = meta(ablation=ablation, wiring=wiring)
    assert count_parameters(model) == parameters
    if count is not None:
        assert macs(model) == count


@pytest.mark.parametrize(("ablation", "wiring"), [(a, w) for a, w, _, _ in WIRED])
def test_ablations_train(ablation, wiring):
    model = small(ablation=ablation, wiring=wiring)
    nn.functional.cross_entropy(model(torch.randn(4, 3, 64, 64)), torch.arange(4)).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_paper_literal_reading_with_one_linear_layer():
    assert count_parameters(meta(wiring="out_names", head="linear")) == 19_998_471


@pytest.mark.parametrize(
    ("ablation", "gate_side", "last_side"), [("C1", 8, 1), ("C3", 16, 2), ("C4", 32, 4), ("C5", 8, 2), ("C6", 8, 4)]
)
def test_ablations_change_the_resolution(ablation, gate_side, last_side):
    shapes = {row.name: row.shape for row in summarise(meta(ablation=ablation))}
    assert shapes["se"] == (256, gate_side, gate_side)
    assert shapes["res_block3"] == (2048, last_side, last_side)


def test_wirings_only_differ_where_stages_are_missing():
    full = [count_parameters(meta(wiring=w)) for w in ("drop_and_rewire", "keep_pool", "adapter")]
    assert full == [80_238_599] * 3


def test_gate_is_readable_and_is_what_multiplies():
    model = small().eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad(), capture(model, ["se.gate", "stage3", "se"]) as seen:
        model(x)
    gate = seen["se.gate"]
    assert gate.shape == (2, 16, 1, 1)
    assert 0 < gate.min() and gate.max() < 1
    assert torch.equal(seen["se"], seen["stage3"] * gate)
    squeezed = seen["stage3"].mean((2, 3))
    by_hand = torch.sigmoid(torch.relu(squeezed @ model.se.fc[0].weight.T) @ model.se.fc[2].weight.T)
    assert torch.allclose(gate[:, :, 0, 0], by_hand, atol=1e-6)


def test_reduction_below_one_is_refused():
    with pytest.raises(ValueError, match="expects reduction >= 1, found 0"):
        small(reduction=0)


def test_gate_has_hidden_size_by_reduction():
    assert meta(reduction=4).se.fc[0].weight.shape == (64, 256)
    assert meta().se.fc[0].weight.shape == (16, 256)
    assert small().se.fc[0].weight.shape == (1, 16)  # 256 / 16 scaled, not 16 / 16 of another number
    assert small(reduction=64).se.fc[0].weight.shape == (1, 16)  # never below one
    assert model_has_no_bias(meta().se)


def model_has_no_bias(module: nn.Module) -> bool:
    return all(layer.bias is None for layer in module.modules() if isinstance(layer, nn.Linear))


def test_heads():
    assert [n for n, _ in small(head="linear").named_children() if n.startswith("fc")] == ["fc"]
    assert [n for n, _ in small().named_children() if n.startswith("fc")] == ["fc1", "fc2", "fc3", "fc4"]
    assert count_parameters(small(head="linear").fc) == (128 + 1) * 7


def test_dropouts_of_the_released_code():
    model = small()
    calls: list[tuple[float, tuple[int, ...]]] = []
    for name in ("stem_dropout", "head_dropout"):
        layer = getattr(model, name)
        layer.register_forward_hook(lambda m, _i, out: calls.append((m.p, tuple(out.shape[1:]))))
    model(torch.randn(2, 3, 64, 64))
    assert calls == [(0.2, (4, 32, 32)), (0.2, (8, 16, 16)), (0.5, (64,)), (0.5, (32,)), (0.5, (16,))]


def test_smallest_input_is_eight_pixels():
    model = small().eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 8, 8)).shape == (1, 7)
        with pytest.raises(RuntimeError, match="[Oo]utput size is too small"):
            model(torch.randn(1, 3, 7, 7))


def test_a_batch_of_one_cannot_train_at_64_px_but_can_at_100():
    """The last maps are 1 x 1 up to 64 px, so batch normalisation has one value per channel:
    the released code crashes there.

    `ferkit.training.batches` therefore never gives a batch of one.
    """
    model = small()
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        model(torch.randn(1, 3, 64, 64))
    assert torch.isfinite(model(torch.randn(1, 3, 100, 100))).all()
    assert model.eval()(torch.randn(1, 3, 64, 64)).shape == (1, 7)


@pytest.mark.parametrize(
    ("size", "layer", "side"),
    [
        (16, "stage1", 8),
        (8, "stage1", 4),
        (32, "stage2", 8),
        (48, "se", 6),
        (64, "se", 8),
        (96, "res_block1", 6),
        (100, "res_block1", 6),
        (192, "res_block2", 6),
        (224, "res_block2", 7),
        (384, "res_block3", 6),
    ],
)
def test_cam_layer_is_the_deepest_with_six_by_six_places(size, layer, side):
    model = small().eval()
    assert model.cam_layer(size) == layer
    assert grid(model, layer, size) == side


@pytest.mark.parametrize(("ablation", "wiring"), [(a, w) for a, w, _, _ in WIRED])
@pytest.mark.parametrize("size", [48, 64, 100])
def test_cam_layer_of_ablations(ablation, wiring, size):
    model = small(ablation=ablation, wiring=wiring).eval()
    order = [
        n for n in ("stage1", "stage2", "stage3", "se", "res_block1", "res_block2", "res_block3") if hasattr(model, n)
    ]
    layer = model.cam_layer(size)
    assert grid(model, layer, size) >= 6
    assert all(grid(model, later, size) < 6 for later in order[order.index(layer) + 1 :])


def grid(model: FerModel, layer: str, size: int) -> int:
    found: list[Tensor] = []
    handle = module_by_name(model, layer).register_forward_hook(lambda _m, _i, out: found.append(out))
    with torch.no_grad():
        model(torch.zeros(1, 3, size, size))
    handle.remove()
    assert found[0].shape[2] == found[0].shape[3]
    return found[0].shape[2]


@pytest.mark.parametrize(("option", "value"), [("head", "two"), ("ablation", "C7"), ("wiring", "any")])
def test_unknown_values_list_the_known_ones(option, value):
    with pytest.raises(ValueError, match=f"resemotenet has no {option}='{value}'; known: "):
        create_model("resemotenet", width=1 / 16, **{option: value})


def test_summary_leaves_the_network_as_it_was():
    model = small()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    rows = summarise(model, 48)
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert sum(row.params for row in rows) == count_parameters(model) == 315_719
    assert [row.name for row in rows][:3] == ["conv1", "bn1", "stage1"]
