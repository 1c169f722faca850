"""Margin losses: the unit of every margin, the definitions, and what happens at the ends of the arc cosine."""

import math

import pytest
import torch
from pytorch_metric_learning import losses as pml
from torch.nn.functional import cross_entropy, normalize

from ferkit.losses.margins import ArcFaceLoss, CosFaceLoss, NormalisedSoftmaxLoss, SphereFaceLoss

SIZES = {"num_classes": 4, "num_features": 8}


def example():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(20, 8, generator=generator, dtype=torch.float64), torch.arange(20) % 4


def make(kind, **options):
    torch.manual_seed(1)
    return kind(**SIZES, **options).double()


def angles(loss, x):
    return torch.acos(normalize(x) @ normalize(loss.centres).T)  # (N, C)


def with_own(logits, own, y):
    return torch.where(torch.arange(4) == y[:, None], own, logits)


def test_arcface_margin_is_in_radians():
    x, y = example()
    for margin in (0.0, 0.3, 0.5):
        loss = make(ArcFaceLoss, margin=margin)
        theta = angles(loss, x)
        own = torch.where(
            theta <= math.pi - margin, torch.cos(theta + margin), torch.cos(theta) - margin * math.sin(margin)
        )
        assert loss(x, y).item() == pytest.approx(
            cross_entropy(64 * with_own(torch.cos(theta), own, y), y).item(), rel=1e-9
        )
        # The same number in degrees, which the library's class takes for itself, is next to no margin.
        library = pml.ArcFaceLoss(4, 8, margin=margin, scale=64)
        library.W.data = loss.loss.W.data
        assert (abs(library(x, y) - loss(x, y)) < 1e-9) == (margin == 0)
        library = pml.ArcFaceLoss(4, 8, margin=math.degrees(margin), scale=64)
        library.W.data = loss.loss.W.data
        assert library(x, y).item() == pytest.approx(loss(x, y).item(), rel=1e-9)
    with pytest.raises(ValueError, match="margin in radians, from 0 to pi; found 28.6"):
        make(ArcFaceLoss, margin=28.6)


def test_arcface_beyond_pi_minus_the_margin():
    loss = make(ArcFaceLoss)
    x, y = -loss.centres[[2]].detach() + 1e-3, torch.tensor([2])
    theta = angles(loss, x)
    assert theta[0, 2] > math.pi - 0.5
    own = torch.cos(theta) - 0.5 * math.sin(0.5)
    assert loss(x, y).item() == pytest.approx(
        cross_entropy(64 * with_own(torch.cos(theta), own, y), y).item(), rel=1e-9
    )


def test_cosface():
    x, y = example()
    loss = make(CosFaceLoss, margin=0.2, scale=30)
    cosine = torch.cos(angles(loss, x))
    assert loss(x, y).item() == pytest.approx(cross_entropy(30 * with_own(cosine, cosine - 0.2, y), y).item(), rel=1e-9)
    with pytest.raises(ValueError, match="margin at least 0, found -0.1"):
        make(CosFaceLoss, margin=-0.1)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_sphereface(m):
    x, y = example()
    loss = make(SphereFaceLoss, margin=m)
    theta = angles(loss, x)
    q = (theta * m / math.pi).floor()
    psi = (-1) ** q * torch.cos(m * theta) - 2 * q
    assert loss(x, y).item() == pytest.approx(
        cross_entropy(x.norm(dim=1, keepdim=True) * with_own(torch.cos(theta), psi, y), y).item(), rel=1e-9
    )


def test_sphereface_margin_is_a_whole_number():
    with pytest.raises(ValueError, match="a whole number of at least 1, found 0.35"):
        make(SphereFaceLoss, margin=0.35)


def test_normalised_softmax_is_the_margin_losses_without_margin():
    x, y = example()
    value = make(NormalisedSoftmaxLoss)(x, y).item()
    assert make(ArcFaceLoss, margin=0.0)(x, y).item() == pytest.approx(value, rel=1e-9)
    assert make(CosFaceLoss, margin=0.0)(x, y).item() == pytest.approx(value, rel=1e-9)
    assert make(ArcFaceLoss)(x, y).item() > make(CosFaceLoss, margin=0.1)(x, y).item() > value
    with pytest.raises(ValueError, match="scale above 0, found 0"):
        make(NormalisedSoftmaxLoss, scale=0)


@pytest.mark.parametrize("kind", [ArcFaceLoss, CosFaceLoss, SphereFaceLoss, NormalisedSoftmaxLoss])
def test_logits_have_no_margin(kind):
    x, y = example()
    loss = make(kind)
    cosine = torch.cos(angles(loss, x))
    scale = x.norm(dim=1, keepdim=True) if kind is SphereFaceLoss else 64
    assert torch.allclose(loss.logits(x), scale * cosine, rtol=1e-9)
    without = cross_entropy(loss.logits(x), y).item()
    assert (
        loss(x, y).item() == pytest.approx(without, rel=1e-9)
        if kind is NormalisedSoftmaxLoss
        else loss(x, y).item() > without + 0.1
    )
    with pytest.raises(ValueError, match="expected features"):
        loss.logits(x[:, :3])


def test_arcface_stays_off_the_infinite_slope_of_the_arc_cosine():
    """Features of two dimensions arrive exactly on their class's direction; torch before 2.14 then gave NaN gradients.
    """
    loss = ArcFaceLoss(num_classes=2, num_features=2)
    loss.loss.W.data = torch.eye(2)
    features = torch.tensor([[3.0, 0.0], [-2.0, 0.0]], requires_grad=True)
    cosine = torch.tensor([1.0, -1.0, 0.5])
    found, library = loss.loss.get_angles(cosine), pml.ArcFaceLoss(2, 2).get_angles(cosine)
    assert library[0] == 0 and 0 < found[0] < 2e-3 and 0 < math.pi - found[1] < 2e-3 and found[2] == library[2]
    value = loss(features, torch.tensor([0, 0]))
    value.backward()
    assert value > 1 and features.grad.isfinite().all() and loss.loss.W.grad.isfinite().all()
