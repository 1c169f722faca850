"""The diversity term: values known in closed form, bounds, gradients that stay finite, and attachment to any network.
"""

import pytest
import torch
from torch import nn

from benchmarks.diversity_speed import double_loop, step
from ferkit.losses.attached import AttachedDiversity, attached
from ferkit.losses.diversity import (
    DiversityTerm,
    describe_similarity,
    determinant,
    diversity,
    pool_channels,
    pool_space,
    similarity,
    squared_distances,
)

DIAGONALS = ("unit", "zero")


def equal_similarities(members: int, s: float, diagonal: float) -> torch.Tensor:
    matrix = torch.full((members, members), s, dtype=torch.float64)
    return matrix.fill_diagonal_(diagonal)


def simplex(members: int, s: float, gamma: float = 10.0) -> torch.Tensor:
    """Maps (L, 1, L) whose similarities are all s: the corners of a regular simplex."""
    side = (-torch.log(torch.tensor(s, dtype=torch.float64)) / gamma).sqrt()
    return (torch.eye(members, dtype=torch.float64) * side / 2**0.5)[:, None]


def random_maps(members: int = 4, images: int = 5, *, spread: float = 0.1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(members, images, 3, 4, generator=generator, dtype=torch.float64)


# --------------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("members", "s", "expected"),
    [(4, 0.1, 0.948), (4, 0.5, 0.312), (4, 0.9, 0.0037), (9, 0.1, 0.775), (9, 0.5, 0.0195), (9, 0.9, 8.2e-8)]
    + [(15, 0.1, 0.549), (15, 0.5, 4.9e-4), (15, 0.9, 1.4e-13)],
)
def test_unit_diagonal_with_equal_similarities(members, s, expected):
    value, matrix = diversity(simplex(members, s))
    assert torch.allclose(matrix, equal_similarities(members, s, 1.0), atol=1e-12)
    assert float(value) == pytest.approx((1 - s) ** (members - 1) * (1 + (members - 1) * s), rel=1e-9, abs=1e-20)
    assert float(value) == pytest.approx(expected, rel=0.02)


def test_two_members():
    value, matrix = diversity(simplex(2, 0.6))
    assert float(value) == pytest.approx(1 - 0.6**2) and float(matrix[0, 1]) == pytest.approx(0.6)


@pytest.mark.parametrize(("members", "loss"), [(2, 1), (3, -2), (4, 3), (9, -8), (15, -14)])
def test_the_sign_with_zero_diagonal_alternates_with_the_number_of_branches(members, loss):
    """The released loss adds -det: for identical branches it is this number, so odd counts of branches are rewarded."""
    for s in (0.3, 0.9):
        value, matrix = diversity(simplex(members, s), diagonal="zero")
        assert matrix.diagonal().abs().max() == 0
        assert float(value) == pytest.approx((-1) ** (members - 1) * (members - 1) * s**members, rel=1e-9)
        assert (float(-value) < 0) == (members % 2 == 1)
    same = torch.ones(members, 2, 5)
    assert float(-diversity(same, diagonal="zero")[0]) == pytest.approx(loss)
    assert float(diversity(same)[0]) == pytest.approx(0, abs=1e-12)  # equation 1 never rewards identical branches


@pytest.mark.parametrize(
    ("groups", "expected"),
    [((2, 2), 1), ((4,), -3), ((3, 1), 0), ((3, 3, 3), 8), ((9,), 8), ((5, 4), -12), ((5, 5, 5), 64), ((15,), 14)],
)
def test_groups_of_identical_members(groups, expected):
    """prod (m_i - 1)(-1)^(m_i - 1) with zero diagonal, whose largest value may be pairs or triples;
    0 with unit diagonal.
    """
    members = torch.cat([torch.eye(len(groups))[i].expand(m, -1) for i, m in enumerate(groups)]) * 10
    value, _ = diversity(members[:, None], diagonal="zero")
    formula = 1.0
    for m in groups:
        formula *= (m - 1) * (-1) ** (m - 1)
    assert formula == expected
    assert float(value) == pytest.approx(expected, abs=1e-9)
    assert float(diversity(members[:, None])[0]) == pytest.approx(0, abs=1e-9)


def test_orthonormal_and_identical_maps():
    value, matrix = diversity(torch.eye(6)[:, None])
    assert float(matrix[0, 1]) == pytest.approx(2.061e-9, rel=1e-3)  # exp(-20)
    assert float(value) == pytest.approx(1, abs=1e-12)
    value, matrix = diversity(random_maps(1, spread=10).expand(6, -1, -1, -1))
    assert torch.equal(matrix, torch.ones(6, 6, dtype=torch.float64)) and abs(float(value)) < 1e-12


@pytest.mark.parametrize("spread", [1e-4, 0.03, 0.1, 0.3, 3.0])
@pytest.mark.parametrize("members", [2, 5, 15])
def test_the_matrix_is_positive_and_the_determinant_within_zero_and_one(members, spread):
    for seed in range(5):
        value, matrix = diversity(random_maps(members, spread=spread, seed=seed))
        assert torch.allclose(matrix, matrix.T, atol=1e-15) and float(torch.linalg.eigvalsh(matrix)[0]) > -1e-12
        assert -1e-12 <= float(value) <= 1
        assert (
            -members * 14
            < float(diversity(random_maps(members, spread=spread, seed=seed), objective="logdet")[0])
            <= 1e-9
        )


def test_the_bound_is_of_the_unit_diagonal():
    values = [float(diversity(torch.ones(m, 1, 1), diagonal="zero")[0]) for m in (4, 15)]
    assert values[0] < -2.9 and values[1] > 13.9


def test_distances_sum_mean_and_median():
    maps = random_maps()
    squared = squared_distances(maps)
    assert squared.shape == (4, 4, 5) and squared.dtype == torch.float64
    assert torch.allclose(squared[1, 3], (maps[1] - maps[3]).square().sum((1, 2)), atol=1e-15)
    entries = 12
    assert torch.allclose(similarity(maps, gamma=3.0, distance="mean"), similarity(maps, gamma=3.0 / entries))
    assert not torch.allclose(similarity(maps, distance="mean"), similarity(maps), atol=0.1)
    median = similarity(maps, gamma_mode="median")
    assert torch.allclose(median, similarity(1000 * maps, gamma_mode="median"))  # at any scale
    assert torch.allclose(median, similarity(1000 * maps, gamma_mode="median", distance="mean"))
    apart = ~torch.eye(4, dtype=torch.bool)
    assert torch.allclose(median, similarity(maps, gamma=1 / float(squared[apart].median())))
    assert 0.2 < float(median[apart].mean()) < 0.5 and float(similarity(1000 * maps)[apart].max()) == 0
    same = similarity(torch.ones(3, 2, 4), gamma_mode="median")
    assert torch.equal(same, torch.ones(3, 3, dtype=torch.float64))


def test_the_median_is_a_constant_to_the_gradient():
    maps = random_maps().requires_grad_()
    apart = ~torch.eye(4, dtype=torch.bool)
    fixed = diversity(maps, gamma=1 / float(squared_distances(maps)[apart].median()))[0]
    expected = torch.autograd.grad(fixed, maps)[0]
    assert (
        torch.allclose(torch.autograd.grad(diversity(maps, gamma_mode="median")[0], maps)[0], expected)
        and expected.norm() > 0.1
    )


def test_pools():
    maps = torch.randn(2, 3, 4, 5, 6)
    assert torch.allclose(pool_channels(maps)[1, 2, 3, 4], maps[1, 2, :, 3, 4].mean())
    assert torch.allclose(pool_space(maps)[1, 2, 3], maps[1, 2, 3].mean())
    assert pool_channels(maps).shape == (2, 3, 5, 6) and pool_space(maps).shape == (2, 3, 4)


def test_it_averages_similarities_not_determinants():
    near, far = simplex(4, 0.9), simplex(4, 0.1)
    value, matrix = diversity(torch.cat([near, far], 1))
    assert float(matrix[0, 1]) == pytest.approx(0.5)
    assert abs(float(value) - float(diversity(near)[0] + diversity(far)[0]) / 2) > 0.05


def test_describe():
    inert, active, collapsed = (describe_similarity(similarity(simplex(9, s))) for s in (1e-9, 0.3, 0.95))
    assert [d["state"] for d in (inert, active, collapsed)] == ["inert", "active", "collapsed"]
    assert active["mean"] == pytest.approx(0.3) and active["max"] == pytest.approx(0.3)
    assert active["unit"] == pytest.approx(0.7**8 * 3.4) and active["zero"] == pytest.approx(8 * 0.3**9)
    assert describe_similarity(similarity(simplex(9, 0.3), diagonal="zero")) == pytest.approx(active)


# ------------------------------------------------------------------------------------------------------------ gradients


@pytest.mark.parametrize(
    "options", [{}, {"diagonal": "zero"}, {"objective": "logdet"}, {"distance": "mean", "gamma": 50.0}], ids=str
)
@pytest.mark.parametrize("members", [2, 5])
def test_gradient_is_that_of_finite_differences(members, options):
    maps = random_maps(members, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda m: diversity(m, **options)[0], maps, rtol=1e-4, atol=1e-8)
    assert torch.autograd.gradcheck(lambda m: diversity(m, **options)[1].square().sum(), maps, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("rank", [4, 3, 2, 1])
def test_gradient_of_the_determinant_of_singular_matrices(rank):
    """The cofactors, which need no inverse: not zero at rank L-1, zero below."""
    generator = torch.Generator().manual_seed(rank)
    half = torch.randn(4, rank, dtype=torch.float64, generator=generator)
    matrix = (half @ half.T).requires_grad_()
    (gradient,) = torch.autograd.grad(determinant(matrix), matrix)
    values, vectors = torch.linalg.eigh(matrix.detach())
    others = torch.stack([torch.cat([values[:i], values[i + 1 :]]).prod() for i in range(4)])
    assert torch.allclose(gradient, vectors @ torch.diag(others) @ vectors.T, atol=1e-10)
    assert (float(gradient.abs().max()) > 1e-3) == (rank >= 3)


def test_gradient_of_the_determinant_of_any_matrix():
    matrix = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for scale in (1.0, 1e-3, 1e-50):  # by the inverse, and, where det leaves the range of numbers, by cofactors
        m = (matrix * scale).requires_grad_()
        (gradient,) = torch.autograd.grad(determinant(m), m)
        expected = torch.linalg.det(matrix) * torch.linalg.inv(matrix).T * scale**4
        assert torch.allclose(gradient / scale**4, expected / scale**4, rtol=1e-9)


@pytest.mark.parametrize("members", [2, 3, 9])
@pytest.mark.parametrize("diagonal", DIAGONALS)
@pytest.mark.parametrize("log_s", [-700.0, -300.0, -92.0, -50.0, -1e-3, 0.0])
def test_gradient_is_finite_where_similarities_vanish_or_are_one(members, diagonal, log_s):
    side = (-log_s / 20) ** 0.5
    maps = (torch.eye(members)[:, None] * side).requires_grad_()
    value, _ = diversity(maps, diagonal=diagonal)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(maps.grad).all()


def test_the_released_form_gives_nan_there():
    """The guard of the test above: float32 and a zero diagonal, where det underflows while the inverse overflows."""
    matrix = equal_similarities(3, 1e-40, 0.0).float().requires_grad_()
    (gradient,) = torch.autograd.grad(torch.linalg.det(matrix), matrix)
    assert not torch.isfinite(gradient).all()
    assert torch.isfinite(torch.autograd.grad(determinant(matrix.double()), matrix)[0]).all()


def test_logdet_pushes_where_det_has_stopped():
    maps = random_maps(15, spread=0.02).requires_grad_()
    (det,) = torch.autograd.grad(diversity(maps)[0], maps)
    (logdet,) = torch.autograd.grad(diversity(maps, objective="logdet")[0], maps)
    assert det.norm() < 1e-10 and logdet.norm() > 1


def test_ascent_separates_with_unit_diagonal_and_collapses_with_zero():
    def distances(diagonal: str) -> torch.Tensor:
        points = (0.2 * torch.randn(3, 1, 2, generator=torch.Generator().manual_seed(1))).requires_grad_()
        for _ in range(150):
            (gradient,) = torch.autograd.grad(diversity(points, diagonal=diagonal)[0], points)
            points.data += 0.005 * gradient
        return squared_distances(points)[~torch.eye(3, dtype=torch.bool)].sqrt()

    assert distances("unit").min() > 0.4
    assert distances("zero").max() < 0.02


def test_same_numbers_as_the_double_loop():
    maps = random_maps(5, 6).double()
    for found, expected in zip(
        step(lambda m: diversity(m, diagonal="zero"), maps), step(double_loop, maps), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    value, _, gradient = step(lambda m: diversity(m, diagonal="zero"), maps.float())
    assert gradient.dtype == torch.float32 and value.dtype == torch.float64
    torch.testing.assert_close(gradient.double(), step(double_loop, maps)[2], rtol=1e-4, atol=1e-6)
    other = step(double_loop, maps * 1.01)[2]
    assert not torch.allclose(gradient.double(), other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((1, 3, 4), {}, "at least two members"),
        ((3, 0, 4), {}, "at least two members"),
        ((3, 4), {}, "at least two members"),
        ((3, 2, 4), {"distance": "max"}, "known: sum, mean"),
        ((3, 2, 4), {"diagonal": "one"}, "known: unit, zero"),
        ((3, 2, 4), {"gamma_mode": "auto"}, "known: fixed, median"),
        ((3, 2, 4), {"objective": "trace"}, "known: det, logdet"),
        ((3, 2, 4), {"objective": "logdet", "diagonal": "zero"}, "no logarithm"),
        ((3, 2, 4), {"gamma": 0.0}, "gamma must be above zero"),
        ((3, 2, 4), {"jitter": 0.0}, "jitter must be above zero"),
    ],
)
def test_bad_input(shape, options, message):
    with pytest.raises(ValueError, match=message):
        diversity(torch.zeros(shape), **options)


# ------------------------------------------------------------------------------------------------------------- the term


def test_term_weighs_and_pools():
    maps = torch.randn(3, 4, 5, 6, 7, generator=torch.Generator().manual_seed(0)) * 0.3
    losses = DiversityTerm(spatial=0.5, channel=2.0, gamma=1.0)(spatial=maps, channel=maps)
    assert list(losses) == ["diversity_spatial", "diversity_channel"]
    assert float(losses["diversity_spatial"]) == pytest.approx(
        -0.5 * float(diversity(pool_channels(maps), gamma=1.0)[0]), rel=1e-6
    )
    assert float(losses["diversity_channel"]) == pytest.approx(
        -2 * float(diversity(pool_space(maps), gamma=1.0)[0]), rel=1e-6
    )
    pooled = DiversityTerm(spatial=0.5, channel=2.0, gamma=1.0)(
        spatial=list(pool_channels(maps)), channel=pool_space(maps)
    )
    assert {k: float(v) for k, v in losses.items()} == pytest.approx({k: float(v) for k, v in pooled.items()})
    assert all(v.dtype == torch.float32 and v.ndim == 0 for v in losses.values())
    assert DiversityTerm()(spatial=maps.double())["diversity_spatial"].dtype == torch.float64


def test_term_leaves_out_what_has_no_weight_and_waits_for_a_second_member():
    maps = torch.rand(3, 4, 6, 6)
    assert list(DiversityTerm(channel=0)(spatial=maps, channel=maps[..., 0])) == ["diversity_spatial"]
    assert DiversityTerm()() == {}
    assert float(DiversityTerm()(spatial=maps[:1])["diversity_spatial"]) == 0
    assert float(DiversityTerm()(spatial=maps)["diversity_spatial"]) < 0
    measured = DiversityTerm(spatial=0)  # the weight is no part of what is logged
    assert torch.equal(measured.similarities(spatial=maps)["spatial"], similarity(maps))


def test_term_in_half_precision_and_autocast():
    maps = torch.rand(4, 8, 6, 6)
    exact = DiversityTerm()(spatial=maps)["diversity_spatial"]
    leaf = maps.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = DiversityTerm()(spatial=leaf)["diversity_spatial"]
        (gradient,) = torch.autograd.grad(inside, leaf)
    assert torch.equal(inside, exact)
    whole = maps.clone().requires_grad_()
    assert torch.equal(gradient, torch.autograd.grad(DiversityTerm()(spatial=whole)["diversity_spatial"], whole)[0])
    half = maps.bfloat16().requires_grad_()
    loss = DiversityTerm()(spatial=half)["diversity_spatial"]
    loss.backward()
    assert loss.dtype == torch.float32 and half.grad.dtype == torch.bfloat16
    assert float(loss.detach()) == pytest.approx(float(exact), abs=0.02)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"spatial": [torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 8, 8)]},
            r"maps of one shape, found \(2, 4, 4\) and \(2, 8, 8\)",
        ),
        ({"channel": [torch.zeros(2, 3), torch.zeros(2, 5)]}, "equally many channels"),
        ({"spatial": torch.zeros(3, 2, 4)}, r"compares maps \(N, H, W\)"),
        ({"channel": torch.zeros(3, 2, 4, 4)}, r"compares maps \(N, C\)"),
    ],
)
def test_term_refuses_maps_that_do_not_fit(given, message):
    with pytest.raises(ValueError, match=message):
        DiversityTerm()(**given)


def test_term_tells_wrong_options_at_once():
    with pytest.raises(ValueError, match="known: unit, zero"):
        DiversityTerm(diagonal="hollow")
    assert "gamma=10.0" in repr(DiversityTerm())


# ----------------------------------------------------------------------------------------------------------- attachment


class Branches(nn.Module):
    """Two branches of different widths on one grid, one on half of it, and a block that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.left = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(inplace=True))
        self.right = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(inplace=True))
        self.low = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.patch = nn.Conv2d(4, 5, 3)
        self.pair = Pair()
        self.idle = nn.Linear(1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.stem(images)
        near, far = self.patch(x[..., :4]), self.patch(x[..., 4:])
        self.pair(x)
        return self.left(x).mean() + self.right(x).mean() + self.low(x).mean() + near.mean() + far.mean()


class Pair(nn.Module):
    def forward(self, x):
        return x, x


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Branches()


def test_attached_outputs_are_in_the_graph_and_the_hooks_go(network):
    images = torch.randn(3, 1, 8, 8)
    plain = network(images)
    with attached(network, ["left.0", "patch"]) as seen:
        out = network(images)
    assert torch.equal(out, plain)
    assert seen["left.0"][0].min() < 0  # not overwritten by the ReLU behind
    assert [m.shape[1:] for m in seen["patch"]] == [(5, 6, 2), (5, 6, 2)]
    assert all(m.requires_grad for maps in seen.values() for m in maps)
    network(images)
    assert len(seen["patch"]) == 2
    assert not any(m._forward_hooks for m in network.modules())


def test_attached_hooks_go_after_an_error(network):
    with pytest.raises(RuntimeError), attached(network, "left"):
        network(torch.randn(1, 7, 8, 8))
    assert not any(m._forward_hooks for m in network.modules())


@pytest.mark.parametrize(
    ("names", "channel"), [(["left", "right"], False), (["patch"], False), (["left", "low"], True)]
)
def test_attached_diversity_trains(network, names, channel):
    """Branches with other widths on one grid, patches of one block, layers of other sizes with equally many channels.
    """
    images = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    attach = AttachedDiversity(DiversityTerm(gamma=1.0), **{"channel" if channel else "spatial": names})
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    values = []
    for _ in range(8):
        out, losses = attach(network, images)
        assert out.ndim == 0 and len(losses) == 1
        (loss,) = losses.values()
        optimizer.zero_grad()
        loss.backward()
        assert all(
            p.grad is not None and p.grad.abs().sum() > 0
            for p in network.get_submodule(names[0]).parameters()
            if p.ndim > 1
        )
        optimizer.step()
        values.append(float(loss.detach()))
    assert values[-1] < values[0] - 0.02 and -1 <= min(values) and max(values) < 0
    assert list(attach.parameters()) == []


def test_attached_uses_forward_parts():
    from ferkit.models import create_model

    model = create_model("resemotenet", width=1 / 16, head="linear")
    images = torch.randn(2, 3, 64, 64)
    parts, losses = AttachedDiversity(DiversityTerm(spatial=0.1), spatial=["res_block1.bn1", "res_block1.bn2"])(
        model, images
    )
    assert parts.logits.shape == (2, 7) and -0.1001 <= float(losses["diversity_spatial"]) <= 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spatial": ["lefft"]}, "no submodule 'lefft'; close: left"),
        ({"spatial": ["left", "low"]}, "take submodules on one grid"),
        ({"channel": ["left", "right"]}, "take submodules with equally many channels"),
        ({"spatial": ["left", "idle"]}, "idle did not run"),
        ({"spatial": "left"}, "two maps or more, left gave 1"),
        ({"spatial": ["left", "pair"]}, "one tensor of each submodule, pair gives a tuple"),
    ],
)
def test_attached_refuses(network, options, message):
    with pytest.raises(ValueError, match=message):
        AttachedDiversity(DiversityTerm(), **options)(network, torch.randn(2, 1, 8, 8))
    assert not any(m._forward_hooks for m in network.modules())


def test_attached_needs_a_name():
    with pytest.raises(ValueError, match="at least one submodule"):
        AttachedDiversity(DiversityTerm())
