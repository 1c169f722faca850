"""The Cosine-Harmony loss: what its distance sees, what its variants weigh, and where training with them ends."""

import pytest
import torch
from torch import nn

from ferkit.losses.cosine_harmony import VARIANTS, CosineHarmonyLoss, adjusted_cosine_distance
from ferkit.losses.feature import cosine_distance

SIZES = {"num_classes": 4, "num_features": 8}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make(**options):
    torch.manual_seed(0)
    return CosineHarmonyLoss(**{**SIZES, **options}).double()


# --- the distance ---------------------------------------------------------------------------------------------------


def test_adjusted_cosine_distance_is_one_minus_pearson():
    x, c = normal(5, 8), normal(3, 8, seed=1)
    pearson = torch.corrcoef(torch.cat([x, c]))[:5, 5:]
    assert torch.allclose(adjusted_cosine_distance(x, c), 1 - pearson, atol=1e-14)
    assert not torch.allclose(cosine_distance(x, c), 1 - pearson, atol=0.01)


def test_neither_length_nor_offset_counts_but_the_sign_does():
    x, c = normal(5, 8), normal(3, 8, seed=1)
    plain = adjusted_cosine_distance(x, c)
    assert torch.allclose(adjusted_cosine_distance(7 * x + 3, 0.1 * c - 2), plain, atol=1e-13)
    assert torch.allclose(adjusted_cosine_distance(-x, c), 2 - plain, atol=1e-13)
    assert not torch.allclose(cosine_distance(7 * x + 3, c), cosine_distance(x, c), atol=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", [0.0, 0.1, 5.3, -1e4])
def test_equal_entries_have_no_correlation_and_no_gradient(dtype, level):
    x = torch.full((1, 256), level, dtype=dtype, requires_grad=True)
    distance = adjusted_cosine_distance(x, normal(3, 256).to(dtype))
    assert torch.allclose(distance, torch.ones_like(distance), atol=1e-6)
    distance.sum().backward()
    assert (x.grad == 0).all()
    # not flat: the guard leaves it alone
    nearly = (x.detach() + 1e-2 * normal(1, 256, seed=2).to(dtype)).requires_grad_()
    adjusted_cosine_distance(nearly, normal(3, 256).to(dtype)).sum().backward()
    assert nearly.grad.abs().max() > 0.01


# --- the pieces -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_loss_is_its_weights_times_its_distances(variant):
    loss = make(variant=variant, alpha=0.3, separation=0.7)
    x, y = normal(12, 8), torch.arange(12) % 4
    with torch.no_grad():
        terms = loss.terms(x, y)
    weights = {
        "released": (0.3 / terms.variance + 0.7 / 3, 0.0),
        "code_sign": (0.3 / terms.variance, 0.7),
        "ours": (1.0, -0.7),
    }[variant]
    assert terms.intra_weight.item() == pytest.approx(float(weights[0]), abs=1e-12)
    assert terms.inter_weight.item() == pytest.approx(weights[1], abs=1e-12)
    assert terms.loss.item() == pytest.approx(float(weights[0] * terms.d_intra + weights[1] * terms.d_inter), abs=1e-12)
    assert terms.loss == loss(x, y)
    rows = range(12)
    assert terms.d_intra.item() == pytest.approx(sum(terms.distances[i, y[i]].item() for i in rows) / 12, abs=1e-12)
    others = sum(terms.distances[i, k].item() for i in rows for k in range(4) if k != y[i])
    assert terms.d_inter.item() == pytest.approx(others / 36, abs=1e-12)
    assert terms.own.sum(1).tolist() == [1] * 12 and terms.own[5, 1]


def test_no_other_class_enters_the_released_loss():
    x, y = normal(12, 8), torch.zeros(12, dtype=torch.int64)
    for variant, same in (("released", True), ("code_sign", False), ("ours", False)):
        loss = make(variant=variant)
        before = loss(x, y)
        with torch.no_grad():
            loss.centres[1:] = normal(3, 8, seed=9)
        assert (before == loss(x, y)).item() is same


def test_variances():
    x, y = normal(9, 8), torch.tensor([0, 0, 0, 0, 1, 1, 1, 3, 3])
    total = make(variant="released").terms(x, y).variance
    assert total.item() == pytest.approx(x.var(0).sum().item(), abs=1e-12)
    within = make(variant="released", variance="within_class").terms(x, y).variance
    pooled = sum((x[y == k].var(0) * ((y == k).sum() - 1)).sum() for k in (0, 1, 3)) / 6
    assert within.item() == pytest.approx(pooled.item(), abs=1e-12)
    assert abs(within - total) > 0.01


def test_eps_is_the_way_out_of_a_batch_without_variance():
    x, y = normal(1, 8).repeat(3, 1), torch.tensor([0, 1, 1])
    for variant in ("released", "code_sign"):
        with pytest.raises(ValueError, match=f"variance of this batch of 3 is 0, and the {variant} loss divides by it"):
            make(variant=variant)(x, y)
        assert make(variant=variant, eps=0.5)(x, y).isfinite()
    with pytest.raises(ValueError, match="within_class variance of this batch of 3"):
        make(variant="code_sign", variance="within_class")(normal(3, 8), torch.tensor([0, 1, 2]))
    terms = make().terms(x, y)
    assert terms.variance == 0 and terms.loss.isfinite()


def test_rounding_is_not_taken_for_variance():
    x = (normal(1, 8) * 100).float().repeat(7, 1)
    assert ((x - x.mean(0)) ** 2).sum() > 0, "the example has no rounding to be mistaken for variance"
    with pytest.raises(ValueError, match="variance of this batch of 7 is 0"):
        make(variant="released").float()(x, torch.zeros(7, dtype=torch.int64))
    assert (
        make(variant="released").float()(x + 1e-3 * normal(7, 8).float(), torch.zeros(7, dtype=torch.int64)).isfinite()
    )


def test_ours_stays_between_its_bounds():
    loss = make(separation=0.5)
    with torch.no_grad():
        loss.centres[0] = normal(8, seed=3)
        loss.centres[1:] = -loss.centres[0]
    x, y = 4 * loss.centres[:1].detach(), torch.tensor([0])
    assert loss(x, y).item() == pytest.approx(-1.0, abs=1e-12)
    assert loss(-x, y).item() == pytest.approx(2.0, abs=1e-12)


def test_only_ours_trains_its_centres_unless_told():
    for variant, trained in (("released", False), ("code_sign", False), ("ours", True)):
        assert make(variant=variant).centres.requires_grad is trained
        assert make(variant=variant, train_centres=not trained).centres.requires_grad is not trained
        assert (
            list(make(variant=variant).state_dict())
            == list(make(variant=variant, train_centres=not trained).state_dict())
            == ["centres"]
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "printed"}, "no variant 'printed'.*known: released, code_sign, ours"),
        ({"variance": "total"}, "no variance 'total'.*known: batch_total, within_class"),
        ({"alpha": 1.5}, r"alpha in \[0, 1\].*found 1.5"),
        ({"separation": -1.0}, "at least 0; found 0.1, -1.0"),
        ({"eps": -1e-6}, "at least 0; found 0.1, 1.0 and -1e-06"),
        ({"num_features": 1}, "at least 2 features, found 1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


# --- where training ends --------------------------------------------------------------------------------------------


def train(variant, *, flip=False, steps=150):
    """Five Gaussian clusters, a small network and its classifier: mean correlation of class means,
    own and other distance.
    """
    torch.manual_seed(0)
    labels = torch.arange(100) % 5
    x = 3 * torch.randn(5, 20)[labels] + torch.randn(100, 20)
    network, head = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 16)), nn.Linear(16, 5)
    loss = CosineHarmonyLoss(num_classes=5, num_features=16, variant=variant, train_centres=True)
    optimizer = torch.optim.Adam([*network.parameters(), *head.parameters(), *loss.parameters()], lr=1e-2)
    for _ in range(steps):
        features = network(x)
        terms = loss.terms(features, labels)
        harmony = terms.intra_weight * terms.d_intra - terms.inter_weight * terms.d_inter if flip else terms.loss
        optimizer.zero_grad()
        (nn.functional.cross_entropy(head(features), labels) + harmony).backward()
        optimizer.step()
    with torch.no_grad():
        features = network(x)
        terms = loss.terms(features, labels)
        # every one of them classifies: only the space differs
        assert (head(features).argmax(1) == labels).float().mean() > 0.95
        means = torch.stack([features[labels == k].mean(0) for k in range(5)])
    correlation = torch.corrcoef(means)[~torch.eye(5, dtype=torch.bool)].mean()
    return correlation.item(), terms.d_intra.item(), terms.d_inter.item()


def test_ours_moves_classes_apart_into_a_simplex():
    correlation, own, other = train("ours")
    assert -0.26 < correlation < -0.24  # -1/(C - 1) is the least that five means can have
    assert own < 0.02 and 1.2 < other < 1.26


def test_the_printed_sign_collapses_the_classes_into_one_direction():
    correlation, own, other = train("code_sign")
    assert 0.9 < correlation <= 1
    assert other < 0.2


def test_flipping_the_printed_sign_alone_pushes_features_off_their_own_centre():
    correlation, own, _ = train("code_sign", flip=True)
    assert own > 1 and correlation > 0.5


def test_the_released_loss_only_attracts():
    correlation, own, other = train("released")
    assert own < 0.05 and -0.15 < correlation < 0.3
    assert 0.8 < other < 1.15
