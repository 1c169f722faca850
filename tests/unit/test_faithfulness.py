"""Occlusion, insertion and deletion, average drop, randomisation: against captum, against formulas,
and on networks whose evidence is known.
"""

import copy

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam, Occlusion
from torch import Tensor, nn

from ferkit.explain import (
    average_drop,
    insertion_deletion,
    occlusion_map,
    randomisation_check,
    raw_cam,
    shuffle_weights,
)
from ferkit.explain.forward import chosen_classes, evaluating
from ferkit.explain.randomisation import cascade_stages, compare_maps
from ferkit.models import FerModel, create_model
from ferkit.predict import predict_probabilities, prepare_for
from tests.unit.region_reader import RegionReader

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (4, 32, 32)).astype(np.uint8)
FACES = RNG.integers(0, 256, (3, 1, 64, 64)).astype(np.uint8)
CORNER = np.zeros((32, 32))
CORNER[:8, 24:] = 1


@pytest.fixture(scope="module")
def corner() -> RegionReader:
    # a white corner gives class 0 a probability of 0.92, a black one 0.08
    return RegionReader(CORNER, gain=40.0, offset=-0.5)


@pytest.fixture(scope="module")
def model() -> FerModel:
    torch.manual_seed(0)
    net = create_model("resemotenet", width=1 / 16, head="linear")
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.2)
            m.running_var.uniform_(0.05, 0.5)
    return net.eval()


class Probability(nn.Module):
    def __init__(self, net: FerModel) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).softmax(1)


# --------------------------------------------------------------------------------------------------------------- captum


@pytest.mark.parametrize("layer", ["conv3", "se", "res_block1.conv1"])
def test_captum_agrees_on_grad_cam(model: FerModel, layer: str) -> None:
    # (N, 1, h, w)
    theirs = LayerGradCam(model, model.get_submodule(layer)).attribute(prepare_for(model, FACES), target=4)
    ours = raw_cam(model, FACES, target=4, layer=layer)
    assert np.abs(ours).max() > 1e-4
    np.testing.assert_allclose(ours, theirs[:, 0].detach(), rtol=1e-4, atol=1e-5 * np.abs(ours).max())
    assert not np.allclose(ours, raw_cam(model, FACES, target=3, layer=layer), rtol=1e-2)


def test_captum_agrees_on_occlusion(corner: RegionReader) -> None:
    images = IMAGES.copy()
    images[0], images[1] = 200, np.where(CORNER, 250, 90)
    ours = occlusion_map(corner, images, target=0, patch=8, stride=4)
    grey = images.mean((1, 2)).round()
    for image, map_, fill in zip(images, ours, grey, strict=True):
        theirs = Occlusion(Probability(corner)).attribute(
            prepare_for(corner, image[None]),
            sliding_window_shapes=(1, 8, 8),
            strides=(1, 4, 4),
            baselines=fill / 255,
            target=0,
        )
        np.testing.assert_allclose(map_, theirs[0, 0], atol=1e-6)
    assert not ours[0].any()  # a grey patch on an evenly grey picture hides nothing
    assert ours[1].max() > 0.1


# ------------------------------------------------------------------------------------------------------------ occlusion


def test_only_what_the_network_reads_matters(corner: RegionReader) -> None:
    bright = np.where(CORNER, 255, 0).astype(np.uint8)[None]
    heat = occlusion_map(corner, bright, target="happiness", patch=4, stride=2)[0]
    assert heat.shape == (32, 32) and heat.dtype == np.float32
    assert heat[CORNER == 1].min() > 0.01
    assert not heat[12:].any() and not heat[:, :20].any()  # more than a patch away
    np.testing.assert_allclose(occlusion_map(corner, bright, target="sadness", patch=4, stride=2)[0], -heat, atol=1e-6)


def test_one_patch_over_all_and_uneven_strides(corner: RegionReader) -> None:
    picture = np.where(CORNER, 255, 40).astype(np.uint8)[None]
    whole = occlusion_map(corner, picture, target=0, patch=32)
    grey = np.full_like(picture, round(float(picture.mean())))
    fall = predict_probabilities(corner, picture)[0, 0] - predict_probabilities(corner, grey)[0, 0]
    np.testing.assert_allclose(whole, fall, atol=1e-6)
    assert 0.1 < fall < 0.9
    # 32 - 5 is no multiple of 4: the last ends at the border
    uneven = occlusion_map(corner, picture, target=0, patch=5, stride=4)
    assert np.isfinite(uneven).all() and uneven[0, 0, 31] > 0.001


def test_colour_pictures_of_any_size(model: FerModel) -> None:
    heat = occlusion_map(model, RNG.integers(0, 256, (1, 3, 40, 50)).astype(np.uint8), patch=20, stride=20)
    assert heat.shape == (1, 40, 50) and heat.std() > 0


# -------------------------------------------------------------------------------------------------- insertion, deletion


def test_ends_of_the_curves(corner: RegionReader) -> None:
    curves = insertion_deletion(corner, IMAGES, RNG.random(IMAGES.shape), target=0, steps=5)
    p = predict_probabilities(corner, IMAGES)[:, 0]
    grey = np.repeat(IMAGES.mean((1, 2)).round().astype(np.uint8), 32 * 32).reshape(IMAGES.shape)
    np.testing.assert_allclose(curves.deletion[:, 0], p, atol=1e-6)
    np.testing.assert_allclose(curves.insertion[:, -1], p, atol=1e-6)
    np.testing.assert_allclose(curves.deletion[:, -1], predict_probabilities(corner, grey)[:, 0], atol=1e-6)
    np.testing.assert_allclose(curves.fractions, np.arange(6) / 5, atol=1e-3)
    assert curves.deletion.shape == curves.insertion.shape == (4, 6)


def test_a_faithful_map_beats_a_random_and_an_inverted_one(corner: RegionReader) -> None:
    pictures = np.where(CORNER, 250, IMAGES // 4).astype(np.uint8)
    true, inverted = np.broadcast_to(CORNER, pictures.shape), np.broadcast_to(1 - CORNER, pictures.shape)
    curves = {
        name: insertion_deletion(corner, pictures, heat, target=0)
        for name, heat in {"true": true, "random": RNG.random(pictures.shape), "inverted": inverted}.items()
    }
    deletion = [curves[name].deletion_auc.mean() for name in ("true", "random", "inverted")]
    insertion = [curves[name].insertion_auc.mean() for name in ("true", "random", "inverted")]
    assert deletion[0] + 0.05 < deletion[1] < deletion[2] - 0.05
    assert insertion[0] - 0.02 > insertion[1] > insertion[2] + 0.02
    assert 0 < min(deletion + insertion) and max(deletion + insertion) < 1
    # 64 of 1024 places are read: after 1/16 of the pixels everything that matters is gone
    assert np.ptp(curves["true"].deletion[:, 1:], axis=1).max() < 1e-6
    assert (
        np.ptp(curves["inverted"].deletion[:, :-1], axis=1).max()
        < 1e-6
        < np.ptp(curves["random"].deletion[:, 1:], axis=1).min()
    )


def test_areas_are_those_of_trapezoids(corner: RegionReader) -> None:
    curves = insertion_deletion(corner, IMAGES, RNG.random(IMAGES.shape), steps=2)
    np.testing.assert_allclose(curves.deletion_auc, curves.deletion @ [0.25, 0.5, 0.25])
    np.testing.assert_allclose(curves.insertion_auc, curves.insertion @ [0.25, 0.5, 0.25])


def test_equal_heat_comes_in_random_order_not_from_the_top(corner: RegionReader) -> None:
    upper = RegionReader(np.where(np.arange(32)[:, None] < 16, 1.0, 0.0) * np.ones((32, 32)), gain=5.0, offset=-0.5)
    picture = np.where(np.arange(32)[:, None] < 16, 250, 0).astype(np.uint8) * np.ones((1, 32, 32), np.uint8)
    flat = insertion_deletion(upper, picture, np.zeros(picture.shape), target=0, steps=2)
    start, middle, end = flat.deletion[0]
    assert abs(middle - (start + end) / 2) < 0.1 and start - end > 0.2  # half of the upper half is gone, not all of it
    again = insertion_deletion(upper, picture, np.zeros(picture.shape), target=0, steps=2)
    np.testing.assert_array_equal(flat.deletion, again.deletion)
    assert not np.array_equal(
        flat.deletion, insertion_deletion(upper, picture, np.zeros(picture.shape), target=0, steps=2, seed=1).deletion
    )


# --------------------------------------------------------------------------------------------------------- average drop


def test_average_drop_by_formula(corner: RegionReader) -> None:
    pictures = np.where(CORNER, 250, IMAGES // 4).astype(np.uint8)
    before = predict_probabilities(corner, pictures)[:, 0]
    dark = predict_probabilities(corner, np.zeros_like(pictures))[:, 0]
    nothing = average_drop(corner, pictures, np.zeros(pictures.shape), target=0)
    np.testing.assert_allclose(nothing.drop, (before - dark) / before, rtol=1e-5)
    assert nothing.drop.min() > 0.2 and not nothing.increase.any()
    evidence = average_drop(corner, pictures, np.broadcast_to(CORNER, pictures.shape), target=0)
    np.testing.assert_allclose(evidence.drop, 0, atol=1e-6)
    other = average_drop(corner, pictures, np.zeros(pictures.shape), target=1)  # hiding the evidence of 0 speaks for 1
    assert other.increase.all() and not other.drop.any()


# -------------------------------------------------------------------------------------------------------- randomisation


def test_maps_change_with_the_weights_and_the_model_stays() -> None:
    net = create_model("resemotenet", weights="fer2013-teach")
    before = {k: v.clone() for k, v in net.state_dict().items()}
    rows = randomisation_check(net, FACES, stages=("fc", "res_block3", "conv1"))
    assert [r.stage for r in rows] == ["trained", "fc", "res_block3", "conv1"]
    np.testing.assert_allclose(rows[0].rank_correlation, 1, atol=1e-9)
    np.testing.assert_allclose(rows[0].ssim, 1, atol=1e-5)
    assert all(
        -1 <= r.rank_correlation.min() and r.rank_correlation.mean() < 0.7 and r.ssim.mean() < 0.7 for r in rows[1:]
    )
    assert all(r.heats.shape == (3, 64, 64) for r in rows)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_a_map_that_ignores_the_head_passes_no_check_of_it(model: FerModel) -> None:
    rows = randomisation_check(model, FACES, method="eigencam", stages=("fc", "conv1"))
    # eigencam does not look at the class: the head does not matter
    np.testing.assert_allclose(rows[1].rank_correlation, 1, atol=1e-6)
    assert rows[2].rank_correlation.mean() < 0.9


def test_the_class_stays_that_of_the_trained_network() -> None:
    class Headed(RegionReader):
        def __init__(self) -> None:
            super().__init__(CORNER)
            self.head = nn.Linear(1, 2, bias=False)
            self.head.weight.data = torch.tensor([[1.0], [-1.0]])

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.read((images + self.offset) * self.template).mean((2, 3)))

    net = Headed()
    rows = {seed: randomisation_check(net, IMAGES, seed=seed)[1] for seed in range(8)}
    turned = copy.deepcopy(net)
    turned.head.weight.data *= -1
    assert (
        chosen_classes(net, IMAGES, None).tolist() == [0] * 4
        and chosen_classes(turned, IMAGES, None).tolist() == [1] * 4
    )
    assert raw_cam(turned, IMAGES).max() > 0 >= raw_cam(turned, IMAGES, target=0).max()
    # a shuffled head is the same or turned; turned, it would show the same corner for its own class, and has nothing to
    # show for class 0
    assert {bool(row.heats.any()) for row in rows.values()} == {True, False}
    assert {row.stage for row in rows.values()} == {"head"}


def test_stages_go_from_the_head_to_the_input(model: FerModel) -> None:
    assert cascade_stages(model)[:3] == ("fc", "res_block3", "res_block2") and cascade_stages(model)[-2:] == (
        "bn1",
        "conv1",
    )
    assert cascade_stages(create_model("resmasking", width=1 / 16))[:3] == ("fc", "mask4", "layer4")


def test_shuffling_keeps_the_values_and_loses_their_places(model: FerModel) -> None:
    net = copy.deepcopy(model)
    shuffle_weights(net.conv3, seed=1)
    assert not torch.equal(net.conv3.weight, model.conv3.weight)
    assert torch.equal(net.conv3.weight.flatten().sort().values, model.conv3.weight.flatten().sort().values)
    assert torch.equal(net.conv2.weight, model.conv2.weight)
    again, other = copy.deepcopy(model), copy.deepcopy(model)
    shuffle_weights(again.conv3, seed=1)
    shuffle_weights(other.conv3, seed=2)
    assert torch.equal(net.conv3.weight, again.conv3.weight) and not torch.equal(net.conv3.weight, other.conv3.weight)


def test_similarity_of_known_maps() -> None:
    a = RNG.random((3, 32, 32)).astype(np.float32)
    b = np.stack([a[0] ** 3, 1 - a[1], np.zeros_like(a[2])])  # same order, opposite order, no contrast
    rank, ssim = compare_maps(a, b)
    np.testing.assert_allclose(rank, [1, -1, 0], atol=1e-9)
    assert ssim[0] > 0.5 and ssim[1] < 0 and abs(ssim[2]) < 0.1
    with pytest.raises(ValueError, match="of one shape"):
        compare_maps(a, b[:2])


def test_ssim_agrees_with_scikit_image() -> None:
    from skimage.metrics import structural_similarity

    a, b = RNG.random((2, 1, 40, 40)).astype(np.float32)
    b = 0.5 * a + 0.5 * b
    (ours,) = compare_maps(a, b)[1]
    _, full = structural_similarity(
        a[0], b[0], data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    assert ours == pytest.approx(full[5:-5, 5:-5].mean(), abs=0.01) and 0.3 < ours < 0.9


# -------------------------------------------------------------------------------------------------------------- manners


def test_modes_and_precision_come_back(model: FerModel) -> None:
    net = copy.deepcopy(model).train()
    net.bn2.eval()
    modes = [m.training for m in net.modules()]
    heats = RNG.random((3, 64, 64)).astype(np.float32)
    expected = average_drop(net, FACES, heats).drop
    assert [m.training for m in net.modules()] == modes
    with pytest.raises(RuntimeError, match="mine"), evaluating(net):
        assert not any(m.training for m in net.modules())
        raise RuntimeError("mine")
    assert [m.training for m in net.modules()] == modes
    half = average_drop(net.bfloat16(), FACES, heats).drop
    assert net.conv1.weight.dtype == torch.bfloat16
    np.testing.assert_allclose(half, expected, atol=0.1)


def test_bad_input_is_one_sentence(corner: RegionReader, model: FerModel) -> None:
    for call, words in [
        (lambda: occlusion_map(corner, IMAGES[:0]), "empty"),
        (lambda: occlusion_map(corner, IMAGES, target="boredom"), "no class 'boredom'; known: happiness, sadness"),
        (lambda: occlusion_map(corner, IMAGES, patch=33), "1 to 32 pixels"),
        (lambda: occlusion_map(corner, IMAGES, patch=4, stride=5), "stride=5"),
        (lambda: insertion_deletion(corner, IMAGES, np.zeros((4, 8, 8))), r"\(4, 32, 32\), found \(4, 8, 8\)"),
        (lambda: insertion_deletion(corner, IMAGES, np.full(IMAGES.shape, np.inf)), "finite"),
        (lambda: insertion_deletion(corner, IMAGES, np.zeros(IMAGES.shape), steps=0), "at least one step"),
        (lambda: average_drop(corner, IMAGES, np.full(IMAGES.shape, 2.0)), r"in \[0, 1\].*found 2 to 2"),
        (lambda: randomisation_check(model, FACES, stages=("fc", "res_blok1")), "close: res_block1"),
        (lambda: randomisation_check(model, FACES, method="x"), "no method 'x'"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()
