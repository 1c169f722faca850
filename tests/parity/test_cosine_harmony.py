"""Losses on features give the numbers of the authors' released class, and of their own definitions, in float64."""

import json
from pathlib import Path

import pytest
import torch

from ferkit.losses.centres import AffinityLoss, CenterLoss
from ferkit.losses.cosine_harmony import CosineHarmonyLoss, adjusted_cosine_distance
from ferkit.losses.feature import cosine_distance
from ferkit.losses.margins import ArcFaceLoss, CosFaceLoss, NormalisedSoftmaxLoss, SphereFaceLoss

FIXTURE = json.loads((Path(__file__).parent / "extra" / "cosine_harmony.json").read_text())
SIZES = {"num_classes": 4, "num_features": 8}


def steps(n: int) -> torch.Tensor:
    return torch.arange(n, dtype=torch.float64)


FEATURES = torch.sin(0.1 * steps(16)[:, None] + 0.7 * steps(8))
CENTRES = torch.cos(0.3 * steps(4)[:, None] + 0.5 * steps(8))
LABELS = torch.arange(16) % 4


def filled(loss):
    loss = loss.double()
    with torch.no_grad():
        loss.centres.copy_(CENTRES)
    return loss


def harmony(variant, **options):
    return filled(CosineHarmonyLoss(**SIZES, variant=variant, **options))


def close(found, expected, tolerance=1e-9):
    wanted = torch.as_tensor(expected, dtype=torch.float64)
    return (
        found.shape == wanted.shape and ((found - wanted).abs() <= tolerance * wanted.abs().clamp(min=1)).all().item()
    )


def test_distances():
    assert close(adjusted_cosine_distance(FEATURES, CENTRES), FIXTURE["adjusted_cosine_distance_matrix"])
    assert close(cosine_distance(FEATURES, CENTRES), FIXTURE["cosine_distance_matrix"])
    assert not close(adjusted_cosine_distance(FEATURES, CENTRES), FIXTURE["cosine_distance_matrix"], 0.01)


def test_pieces():
    terms = harmony("released").terms(FEATURES, LABELS)
    assert close(terms.distances, FIXTURE["adjusted_cosine_distance_matrix"])
    assert close(terms.distances[terms.own].sum(), FIXTURE["own_class_distance_sum"])
    assert close(terms.distances[~terms.own].sum(), FIXTURE["other_class_distance_sum"])
    assert close(terms.d_intra, FIXTURE["intra_class_distance"])
    assert close(terms.d_inter_released, FIXTURE["inter_class_distance_official"])
    assert close(terms.d_inter, FIXTURE["inter_class_distance_complement"])
    assert close(terms.variance, FIXTURE["batch_variance_sum_unbiased"])
    assert close(0.1 * terms.d_intra / terms.variance, FIXTURE["term1_alpha_intra_over_var"])
    assert close(0.9 * terms.d_inter_released, FIXTURE["term2_1malpha_inter_official"])
    within = harmony("released", variance="within_class").terms(FEATURES, LABELS)
    assert close(within.variance, FIXTURE["within_class_variance_mean_unbiased"])


@pytest.mark.parametrize("alpha", FIXTURE["loss_official_by_alpha"])
def test_released_loss_for_every_alpha_of_table_4(alpha):
    loss = harmony("released", alpha=float(alpha))(FEATURES, LABELS)
    assert close(loss, FIXTURE["loss_official_by_alpha"][alpha])
    assert not close(loss, FIXTURE["loss_complement_plus"], 0.01)


def test_printed_loss_and_its_flipped_sign():
    terms = harmony("code_sign").terms(FEATURES, LABELS)
    assert close(terms.loss, FIXTURE["loss_complement_plus"])
    assert close(
        terms.intra_weight * terms.d_intra - terms.inter_weight * terms.d_inter, FIXTURE["loss_complement_minus"]
    )


def test_gradients_of_the_released_loss():
    loss = harmony("released", train_centres=True)
    x = FEATURES.clone().requires_grad_()
    loss(x, LABELS).backward()
    assert close(x.grad[0], FIXTURE["grad_features_row0"], 1e-11)
    assert close(x.grad.abs().sum(), FIXTURE["grad_features_abs_sum"])
    assert close((x.grad * FEATURES).sum(1), FIXTURE["grad_features_dot_features_per_row"], 1e-11)
    assert close(loss.centres.grad, FIXTURE["grad_centers"], 1e-11)
    assert close(loss.centres.grad.abs().sum(), FIXTURE["grad_centers_abs_sum"])
    # The check bites: without the path through 1/V the features' gradients are others.
    other = FEATURES.clone().requires_grad_()
    terms = harmony("released").terms(other, LABELS)
    (terms.intra_weight.detach() * terms.d_intra).backward()
    assert not close(other.grad[0], FIXTURE["grad_features_row0"], 1e-4)


@pytest.mark.parametrize(
    ("loss", "key", "factor", "tolerance"),
    [
        (CenterLoss(**SIZES, reduction="sum"), "center_loss_half_sum", 1, 1e-9),
        (CenterLoss(**SIZES), "center_loss_half_mean", 1, 1e-9),
        (CenterLoss(**SIZES), "center_loss_mean_no_half", 2, 1e-9),
        (AffinityLoss(**SIZES), "affinity_loss_DAN", 1, 1e-9),
        (NormalisedSoftmaxLoss(**SIZES), "norm_softmax_s64", 1, 1e-9),
        (ArcFaceLoss(**SIZES), "arcface_s64_m0.5", 1, 1e-9),
        # The stored value was computed with a margin rounded to float32, which is 3.8e-7 away.
        (CosFaceLoss(**SIZES), "cosface_s64_m0.35", 1, 2e-8),
        (SphereFaceLoss(**SIZES), "sphereface_m4_lambda0", 1, 1e-9),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, torch.nn.Module) else None,
)
def test_related_losses(loss, key, factor, tolerance):
    found = filled(loss)(FEATURES, LABELS)
    assert close(factor * found, FIXTURE[key], tolerance)
    assert not close(factor * loss(FEATURES.roll(1, 0), LABELS), FIXTURE[key], 1e-3), "other features, same number"
