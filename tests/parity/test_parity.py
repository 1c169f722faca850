"""Each network computes the numbers of its authors' released code, in float64, to 1e-8 (but see `TOLERANCE`)."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.parity.adapters import NETWORKS, TOLERANCE
from tests.parity.fill import execution_order, fill, picture

HERE = Path(__file__).parent


def deviation(found: torch.Tensor, expected: list) -> float:
    wanted = torch.tensor(expected, dtype=torch.float64)
    assert found.shape == wanted.shape
    return ((found - wanted).abs() / wanted.abs().clamp(min=1)).max().item()


def test_every_fixture_has_an_adapter_and_the_reverse():
    assert {p.stem for p in HERE.glob("*.json")} == set(NETWORKS)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "resmasking" else ()) for name in NETWORKS]
)
def test_parity(name):
    fixture = json.loads((HERE / f"{name}.json").read_text())
    model, outputs = NETWORKS[name]()
    model.double().eval()
    sizes = [int(s) for s in fixture["outputs"]]
    leaves = execution_order(model, picture(sizes[0]))

    assert len(leaves) == fixture["n_leaf"]
    assert [[type(m).__name__, list(m.weight.shape), getattr(m, "bias", None) is not None] for m in leaves] == fixture[
        "leaf"
    ]
    assert sum(p.numel() for m in leaves for p in m.parameters()) == fixture["n_parameters"]
    assert fill(leaves) == fixture["n_tensors"]
    for size in sizes:
        with torch.no_grad():
            found = outputs(picture(size))
        assert set(found) == set(fixture["outputs"][str(size)])
        for key, expected in fixture["outputs"][str(size)].items():
            assert deviation(found[key], expected) <= TOLERANCE.get(name, 1e-8), f"{name} {key} at {size} px"


def test_parity_notices_a_changed_network():
    """The guard: one missing operation moves the numbers far beyond the tolerance."""
    fixture = json.loads((HERE / "resemotenet.json").read_text())
    model, outputs = NETWORKS["resemotenet"]()
    model.double().eval()
    fill(execution_order(model, picture(48)))
    model.se = nn.Identity()
    with torch.no_grad():
        assert deviation(outputs(picture(48))["logits"], fixture["outputs"]["48"]["logits"]) > 1e-3
