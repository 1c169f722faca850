"""Center loss and its relatives against values worked out by hand."""

import math

import pytest
import torch

from ferkit.losses.centres import AffinityLoss, CenterLoss, IslandLoss, SeparateLoss

SIZES = {"num_classes": 3, "num_features": 2}
CENTRES = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
FEATURES = torch.tensor([[1.0, 1.0], [2.0, 2.0], [0.0, 0.0], [-1.0, 0.0]])
LABELS = torch.tensor([0, 1, 1, 2])
SQUARES = [1.0, 4.0, 4.0, 4.0]  # of the distances to the own centre


def make(kind, **options):
    loss = kind(**SIZES, **options)
    with torch.no_grad():
        loss.centres.copy_(CENTRES)
    return loss


def descend(loss, x, y, steps=300, lr=0.05):
    optimizer = torch.optim.Adam(loss.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(x, y).backward()
        optimizer.step()
    return loss.centres.detach()


def test_center_loss():
    assert make(CenterLoss)(FEATURES, LABELS).item() == pytest.approx(sum(SQUARES) / 8)
    assert make(CenterLoss, reduction="sum")(FEATURES, LABELS).item() == pytest.approx(sum(SQUARES) / 2)
    with pytest.raises(ValueError, match="no reduction 'none'; known: mean, sum"):
        make(CenterLoss, reduction="none")


def test_center_loss_moves_centres_by_the_sum_of_their_differences_and_leaves_missing_classes():
    loss = make(CenterLoss, reduction="sum")
    loss(FEATURES[:3], LABELS[:3]).backward()
    assert torch.allclose(loss.centres.grad, torch.tensor([[0.0, -1.0], [-2.0, 2.0], [0.0, 0.0]]))


def test_centres_end_at_the_means_of_their_classes():
    centres = descend(make(CenterLoss), FEATURES, LABELS)
    assert torch.allclose(centres, torch.tensor([[1.0, 1.0], [1.0, 1.0], [-1.0, 0.0]]), atol=0.02)


def test_affinity_loss():
    # Variances of (1, 0, -3) and (0, 2, 0): 13/3 and 4/3.
    assert make(AffinityLoss)(FEATURES, LABELS).item() == pytest.approx(sum(SQUARES) / 4 / (17 / 3))


def test_affinity_loss_of_equal_centres_is_a_clear_error():
    loss = make(AffinityLoss)
    with torch.no_grad():
        loss.centres.fill_(1.0)
    with pytest.raises(ValueError, match="all centres of the affinity loss are the same"):
        loss(FEATURES, LABELS)


def test_affinity_loss_spreads_centres_where_center_loss_does_not():
    spread = {kind: descend(make(kind), FEATURES, LABELS).var(0).sum().item() for kind in (CenterLoss, AffinityLoss)}
    assert spread[CenterLoss] == pytest.approx(5 / 3, abs=0.05)
    assert spread[AffinityLoss] > 3


def test_separate_loss():
    cosines = [1 / math.sqrt(2), 1 / math.sqrt(2), 0.0, 1.0]  # a zero vector has none, and counts as 0
    pairs = [0.0, -1.0, 0.0]
    expected = sum(1 - c for c in cosines) / 4 + sum(1 + c for c in pairs) / 3
    assert make(SeparateLoss)(FEATURES, LABELS).item() == pytest.approx(expected)
    assert "stand-in" in SeparateLoss.__doc__


def test_separate_loss_does_not_see_lengths_and_center_loss_does():
    for kind, same in ((SeparateLoss, True), (CenterLoss, False), (AffinityLoss, False)):
        loss = make(kind)
        assert torch.allclose(loss(FEATURES, LABELS), loss(3 * FEATURES, LABELS), rtol=1e-5) is same


def test_island_loss():
    centre = sum(SQUARES) / 8
    pairs = 2 * (1.0 + 0.0 + 1.0)  # 1 + cosine of three pairs, in both orders
    assert make(IslandLoss)(FEATURES, LABELS).item() == pytest.approx(centre + pairs)
    assert make(IslandLoss, separation=0.25)(FEATURES, LABELS).item() == pytest.approx(centre + pairs / 4)
    assert make(IslandLoss, reduction="sum", separation=0.0)(FEATURES, LABELS).item() == pytest.approx(4 * centre)
    with pytest.raises(ValueError, match="separation at least 0, found -1"):
        make(IslandLoss, separation=-1)


def test_island_loss_turns_centres_away_from_each_other():
    x, y = torch.tensor([[1.0, 0.1], [1.0, 0.0], [1.0, -0.1]]), torch.arange(3)
    together = descend(make(CenterLoss), x, y)
    apart = descend(make(IslandLoss), x, y)
    cosine = torch.nn.functional.cosine_similarity
    assert all(cosine(together[k], together[k - 1], dim=0) > 0.97 for k in range(3))
    assert sum(cosine(apart[k], apart[k - 1], dim=0) for k in range(3)) == pytest.approx(-1.5, abs=0.05)
