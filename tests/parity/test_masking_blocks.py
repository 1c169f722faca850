"""Masking blocks, the masking network at several sizes, and its usual mistakes, against the released code in float64.
"""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ferkit.explain import capture
from ferkit.models import FerModel, create_model
from ferkit.models.resmasking import MaskingBlock
from tests.parity.fill import execution_order, sine_fill, sine_input

EXTRA = Path(__file__).parent / "extra"
DIGITS = 2e-11  # the files hold 12 significant digits
VARIANTS = json.loads((EXTRA / "rmn_variants.json").read_text())["variants"]


def fixture_of(name: str) -> dict:
    return json.loads((EXTRA / f"{name}.json").read_text())


def close(found: Tensor, expected: list, tolerance: float = DIGITS) -> bool:
    wanted = torch.tensor(expected, dtype=torch.float64)
    assert found.shape == wanted.shape
    return bool(((found - wanted).abs() <= tolerance * wanted.abs().clamp(min=1)).all())


@pytest.fixture(scope="module")
def network() -> FerModel:
    """The full network, filled; tests must leave it as it was."""
    model = create_model("resmasking").double().eval()
    leaves = execution_order(model, sine_input(1, 3, 64, 64))
    assert len(leaves) == 205 and sine_fill(leaves) == 518
    return model


def sharing_weights(network: FerModel, **options) -> FerModel:
    """The network built with other options on the same weights, without a second copy of them."""
    with torch.device("meta"):
        model = create_model("resmasking", **options)
    state = network.state_dict()
    model.load_state_dict({k: state[k] for k in model.state_dict()}, assign=True)
    return model.eval()


# -------------------------------------------------------------------------------------------------------- single blocks


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_masking_block(depth):
    fixture = fixture_of(f"masking{depth}")
    images = sine_input(*fixture["input_shape"])
    block = MaskingBlock(images.shape[1], depth).double().eval()
    leaves = execution_order(block, images[:1, :, :8, :8])

    assert [[type(m).__name__, list(m.weight.shape)] for m in leaves] == fixture["leaf"]
    assert len(leaves) == fixture["n_leaf"]
    assert sum(p.numel() for p in block.parameters()) == fixture["params"]
    assert sine_fill(leaves) == fixture["n_tensors_k"]
    with torch.no_grad(), capture(block, [f"decode.{depth - 1}"]) as seen:
        mask = block(images)
    z = seen[f"decode.{depth - 1}"]
    assert list(mask.shape) == fixture["output_shape"]
    assert close(mask.flatten()[:8], fixture["first8"]) and close(mask.flatten()[-8:], fixture["last8"])
    assert close(mask[0, :8, 0, 0], fixture["channel_vector_at_b0_y0_x0_first8"])
    assert close(mask.mean(), fixture["output_mean"]) and close(mask.std(), fixture["output_std"])
    assert close(z.flatten()[:8], fixture["pre_softmax_first8"])
    assert close(
        torch.stack((z.mean(), z.std(), z.max())), [fixture[f"pre_softmax_{k}"] for k in ("mean", "std", "max")]
    )


@pytest.mark.parametrize("depth", [1, 2])
def test_a_masking_block_with_a_sigmoid(depth):
    fixture = fixture_of(f"masking{depth}")
    images = sine_input(*fixture["input_shape"])
    block = MaskingBlock(images.shape[1], depth, mask="sigmoid").double().eval()
    sine_fill(execution_order(block, images[:1, :, :8, :8]))
    with torch.no_grad():
        mask = block(images)
    assert close(mask.flatten()[:8], fixture["sigmoid_variant_first8"])
    assert close(
        torch.stack((mask.mean(), mask.std())), [fixture["sigmoid_variant_mean"], fixture["sigmoid_variant_std"]]
    )
    assert not close(mask.flatten()[:8], fixture["first8"], 1e-2)


def test_a_block_with_two_units_exchanged_is_noticed():
    fixture = fixture_of("masking1")
    images = sine_input(*fixture["input_shape"])
    block = MaskingBlock(512, 1).double().eval()
    leaves = execution_order(block, images[:1])
    sine_fill([*leaves[2:4], *leaves[:2], *leaves[4:]])
    with torch.no_grad():
        assert not close(block(images).flatten()[:8], fixture["first8"], 1e-5)


# ---------------------------------------------------------------------------------------------------------- the network


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 96, 128])
def test_the_network_at_other_sizes(network, size):
    fixture = fixture_of(f"rmn_{size}")
    assert (fixture["n_leaf"], fixture["n_tensors_k"]) == (205, 518)
    stages = fixture["stages"]
    with torch.no_grad(), capture(network, list(stages)) as seen:
        logits = network(sine_input(*fixture["input_shape"]))
    assert close(logits, fixture["logits"], 1e-9)
    for name, expected in stages.items():
        found = seen[name]
        assert list(found.shape) == expected["shape"], name
        assert close(found.flatten()[:4], expected["first4"], 1e-9), name
        assert close(torch.stack((found.mean(), found.std())), [expected["mean"], expected["std"]], 1e-9), name


@pytest.mark.slow
def test_single_precision(network):
    fixture = fixture_of("rmn_64")
    model = sharing_weights(network).float()
    with torch.no_grad():
        logits = model(sine_input(*fixture["input_shape"]).float()).double()
    assert close(logits, fixture["logits"], 1e-5) and not close(logits, fixture["logits"], 1e-12)


def test_112_px_is_refused_as_in_the_released_code(network):
    fixture = fixture_of("rmn_112")
    assert fixture["accepted"] is False
    with pytest.raises(ValueError, match="112 x 112 px.*nearest legal sides: 96 or 125"):
        network(torch.zeros(fixture["input_shape"], dtype=torch.float64))


# ----------------------------------------------------------------------------------- the variants, at 224 px, picture 0

OPTIONS = {
    "official (1+m), ch-softmax": {},
    "sigmoid, (1+m)": {"mask": "sigmoid"},
    "spatial softmax, (1+m)": {"mask": "spatial_softmax"},
    "ch-softmax, x*m": {"combine": "multiply"},
    "sigmoid, x*m": {"mask": "sigmoid", "combine": "multiply"},
    "mask ignored (x)": {"mask": "none"},
    "cat order [skip, up]": {},  # a mistake, made by the test
    "BN eps 1e-3": {},  # likewise
}


def test_every_variant_has_its_options():
    assert set(OPTIONS) == set(VARIANTS)


@pytest.mark.slow
@pytest.mark.parametrize("variant", OPTIONS)
def test_variants(network, variant, monkeypatch):
    model = sharing_weights(network, **OPTIONS[variant])
    if variant == "BN eps 1e-3":
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eps = 1e-3
    elif variant == "cat order [skip, up]":
        cat = torch.cat
        monkeypatch.setattr("ferkit.models.resmasking.torch.cat", lambda maps, dim: cat(maps[::-1], dim))
    with torch.no_grad():
        row = model(sine_input(2, 3, 224, 224)[:1])[0]
    for name, expected in VARIANTS.items():  # 10 decimals
        assert close(row, expected[0], 5e-10) == (name == variant), name
