"""The diversity term gives the numbers of the released code and of equation 1, values and gradients, in float64."""

import json
from pathlib import Path

import pytest
import torch

from ferkit.losses.diversity import diversity, pool_channels, pool_space, similarity

FIXTURE = json.loads((Path(__file__).parent / "extra" / "diversity.json").read_text())
KINDS = {"spatial": pool_channels, "channel": pool_space}


def maps() -> torch.Tensor:
    """phi_l[n, c, h, w] = sin(0.1 n + 0.2 c + 0.3 h + 0.4 w + 0.9 l), L=4, N=3, C=5, H=6, W=7."""
    member, n, c, h, w = torch.meshgrid(
        *(torch.arange(size, dtype=torch.float64) for size in (4, 3, 5, 6, 7)), indexing="ij"
    )
    return torch.sin(0.1 * n + 0.2 * c + 0.3 * h + 0.4 * w + 0.9 * member)


def close(found: torch.Tensor | float, expected: list | float, tolerance: float = 1e-8) -> bool:
    """Relative, so that numbers such as 1e-219 are compared too; subnormal ones carry few digits."""
    return torch.allclose(
        torch.as_tensor(found), torch.tensor(expected, dtype=torch.float64), rtol=tolerance, atol=1e-300
    )


@pytest.mark.parametrize("kind", KINDS)
def test_similarities_and_determinants(kind):
    pooled, expected = KINDS[kind](maps()), FIXTURE[kind]
    paper, s = diversity(pooled)
    assert close(s, expected["S_unit"]) and close(paper, expected["paper"]["det_unit"])
    released, s = diversity(pooled, diagonal="zero")
    assert s.diagonal().abs().max() == 0 and close(s.sum(), expected["official"]["direct_div"])
    assert close(released, expected["official"]["det_hollow"]) and close(-released, expected["official"]["det_div"])
    logarithm, _ = diversity(pooled, objective="logdet", jitter=1e-12)
    assert float(logarithm) == pytest.approx(expected["paper"]["logdet_unit"], abs=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gamma", [0.1, 1.0])
def test_other_gammas(kind, gamma):
    pooled, expected = KINDS[kind](maps()), FIXTURE[kind][f"gamma_{gamma}"]
    paper, s = diversity(pooled, gamma=gamma)
    assert close(s, expected["S_unit"]) and close(paper, expected["det_unit"])
    assert close(diversity(pooled, gamma=gamma, diagonal="zero")[0], expected["det_hollow"])
    # the guards: another gamma, or the mean for the sum, is seen
    assert not close(diversity(pooled, gamma=gamma * 1.001)[1], expected["S_unit"], 1e-4)
    assert not close(similarity(pooled, gamma=gamma, distance="mean"), expected["S_unit"], 1e-2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("diagonal", "key"), [("unit", "paper_loss_minus_det_unit"), ("zero", "official_loss_minus_det_hollow")]
)
def test_gradient_norm(kind, diagonal, key):
    phi = maps().requires_grad_()
    (gradient,) = torch.autograd.grad(-diversity(KINDS[kind](phi), diagonal=diagonal)[0], phi)
    expected, largest = FIXTURE[kind]["grad_norm"][key], gradient.abs().max()
    if expected:
        assert close(largest * (gradient / largest).norm(), expected)
    else:  # about 1e-254, whose square is 0
        assert largest < 1e-200 and gradient.norm() == 0


def test_gates_of_a_network():
    """Nine branches of the diversified ESR with weights from the formula of the parity fixtures."""
    fixture = FIXTURE["esr9_spatial_gates"]
    gates = torch.tensor(fixture["maps"], dtype=torch.float64)  # (9, 2, 6, 6)
    released, s = diversity(gates, diagonal="zero")
    assert float(-released) == pytest.approx(fixture["official_det_div"], rel=1e-7)
    assert float(s.sum()) == pytest.approx(fixture["direct_div"], rel=1e-9)
    assert float(diversity(gates)[0]) == pytest.approx(fixture["det_unit"], rel=1e-6)
