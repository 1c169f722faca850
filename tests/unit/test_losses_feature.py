"""What all losses on features promise: clear errors, precision, centres that are saved, finite gradients at the edges.
"""

import copy

import pytest
import torch

from ferkit.losses.centres import AffinityLoss, CenterLoss, IslandLoss, SeparateLoss
from ferkit.losses.cosine_harmony import CosineHarmonyLoss
from ferkit.losses.feature import FeatureLoss, cosine_distance, unit_rows
from ferkit.losses.margins import ArcFaceLoss, CosFaceLoss, NormalisedSoftmaxLoss, SphereFaceLoss

SIZES = {"num_classes": 4, "num_features": 8}
LOSSES = {
    "ours": lambda **sizes: CosineHarmonyLoss(**sizes),
    "released": lambda **sizes: CosineHarmonyLoss(variant="released", **sizes),
    "code_sign": lambda **sizes: CosineHarmonyLoss(variant="code_sign", **sizes),
    "center": CenterLoss,
    "affinity": AffinityLoss,
    "separate": SeparateLoss,
    "island": IslandLoss,
    "arcface": ArcFaceLoss,
    "cosface": CosFaceLoss,
    "sphereface": SphereFaceLoss,
    "normalised_softmax": NormalisedSoftmaxLoss,
}
DIVIDES_BY_VARIANCE = ("released", "code_sign")

every_loss = pytest.mark.parametrize("name", LOSSES)


def make(name, **sizes) -> FeatureLoss:
    torch.manual_seed(0)
    return LOSSES[name](**(sizes or SIZES))


def batch(n=12, d=8, classes=4):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, d, generator=generator), torch.arange(n) % classes


def gradients(loss, x, y):
    x = x.clone().requires_grad_()
    value = loss(x, y)
    value.backward()
    return value.detach(), [x.grad, *(p.grad for p in loss.parameters())]


@every_loss
def test_a_scalar_that_depends_on_features_and_labels(name):
    loss = make(name)
    x, y = batch()
    value, grads = gradients(loss, x, y)
    assert value.shape == () and value.dtype == torch.float32
    assert all(g.abs().sum() > 0 for g in grads)
    assert abs(value - loss(x, y.roll(1))) > 1e-3
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(loss(x[order], y[order]), value, rtol=1e-5)


@every_loss
@pytest.mark.parametrize("eager", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(name, eager):
    loss = make(name)
    x, y = batch()
    x = x.to(eager)
    expected, found = loss(x.float(), y), loss(x, y)
    assert found.dtype == torch.float32 and found == expected
    assert next(iter(loss.state_dict().values())).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(x.float(), y) == expected
        assert (x.float() @ x.float().T).dtype == torch.bfloat16  # the check bites: autocast is on


@every_loss
def test_float64_stays_float64_and_the_centres_keep_their_own_precision(name):
    loss = make(name)
    x, y = batch()
    value = loss(x.double(), y)
    assert value.dtype == torch.float64 and torch.allclose(value.float(), loss(x, y), rtol=1e-4)
    assert loss.centres.dtype == torch.float32
    assert loss.double()(x, y).dtype == torch.float64


@every_loss
def test_centres_are_saved_and_loaded(name):
    first, second = make(name), LOSSES[name](**SIZES)
    x, y = batch()
    assert first(x, y) != second(x, y)
    assert len(first.state_dict()) == 1
    second.load_state_dict(first.state_dict())
    assert first(x, y) == second(x, y) == copy.deepcopy(first)(x, y)
    trained = name != "released" and name != "code_sign"
    assert len(list(first.parameters())) == trained
    assert first.centres.shape == (4, 8)


@every_loss
def test_a_batch_of_one_missing_classes_and_identical_samples(name):
    loss = make(name)
    x, y = batch()
    for features, labels in (
        (x[:1], y[:1]),
        (x[:1].repeat(5, 1), y[:1].repeat(5)),
        (x[:1].repeat(5, 1), y[:5]),
        (x, torch.full_like(y, 2)),
    ):
        flat = len(features) == 1 or bool((features == features[0]).all())
        if flat and name in DIVIDES_BY_VARIANCE:
            with pytest.raises(
                ValueError, match="batch_total variance of this batch of . is 0.*eps > 0, or variant='ours'"
            ):
                loss(features, labels)
            continue
        value, grads = gradients(loss, features, labels)
        assert value.isfinite() and all(g.isfinite().all() for g in grads)
    if name not in (*DIVIDES_BY_VARIANCE, "island"):  # the mean over copies of a sample is the sample's loss
        assert torch.allclose(loss(x[:1].repeat(5, 1), y[:1].repeat(5)), loss(x[:1], y[:1]), rtol=1e-5)


@every_loss
def test_zero_features_and_features_on_their_centre_have_small_gradients(name):
    loss = make(name)
    x, y = batch()
    x[0] = 0
    x[1:5] = loss.centres.detach()[y[1:5]] * 3
    x[5] = -loss.centres.detach()[y[5]]
    value, grads = gradients(loss, x, y)
    assert value.isfinite() and all(g.isfinite().all() and g.abs().max() < 1e4 for g in grads)


def test_a_plain_normalisation_would_fail_at_zero():
    x = torch.zeros(1, 8, requires_grad=True)
    torch.nn.functional.normalize(x).sum().backward()
    assert x.grad.abs().max() > 1e11
    x.grad = None
    unit_rows(x).sum().backward()
    assert (x.grad == 0).all()


@every_loss
@pytest.mark.parametrize(
    ("features", "targets", "message"),
    [
        (
            torch.ones(3, 8, 1, 1),
            torch.zeros(3, dtype=torch.int64),
            r"expected features \(B, 8\).*found \(3, 8, 1, 1\): pool a map",
        ),
        (torch.ones(3, 7), torch.zeros(3, dtype=torch.int64), r"expected features \(B, 8\).*found \(3, 7\)"),
        (torch.ones(0, 8), torch.zeros(0, dtype=torch.int64), r"of at least one sample, found \(0, 8\)"),
        (
            torch.ones(3, 8),
            torch.full((3, 4), 0.25),
            r"one integer label per sample, shape \(3,\), found torch.float32 \(3, 4\).*no soft targets",
        ),
        (torch.ones(3, 8), torch.zeros(3), "found torch.float32"),
        (torch.ones(3, 8), torch.zeros(2, dtype=torch.int64), r"shape \(3,\), found torch.int64 \(2,\)"),
        (torch.ones(3, 8), torch.tensor([0, 4, 1]), "found the label 4, expected 0 to 3.*shift labels that begin at 1"),
        (torch.ones(3, 8), torch.tensor([0, -1, 1]), "found the label -1, expected 0 to 3"),
    ],
)
def test_bad_input_is_one_clear_sentence(name, features, targets, message):
    with pytest.raises(ValueError, match=message):
        make(name)(features, targets)


@every_loss
def test_sizes_are_checked(name):
    with pytest.raises(ValueError, match="at least 2 classes and 1 feature; found 1 and 8"):
        make(name, num_classes=1, num_features=8)
    assert "num_classes=4, num_features=8" in repr(make(name))


@every_loss
def test_gradients_are_those_of_the_value(name):
    loss = make(name).double()
    x, y = batch(6)
    x = x.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda features: loss(features, y), (x,), eps=1e-6, atol=1e-4)


def test_cosine_distance():
    x, c = torch.tensor([[2.0, 0], [0, -3], [0, 0]]), torch.tensor([[1.0, 0], [0, 1]])
    assert torch.allclose(cosine_distance(x, c), torch.tensor([[0.0, 1], [1, 2], [1, 1]]))
