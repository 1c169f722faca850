"""Class activation maps: equal to the package and to the formula, and the model is left as it was."""

import warnings

import numpy as np
import pytest
import torch
from pytorch_grad_cam import EigenCAM, GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from ferkit.explain import METHODS, cam, grad_cam_by_hand, raw_cam
from ferkit.models import FerModel, create_model
from ferkit.predict import predict_probabilities, prepare_for


class Corner(FerModel):
    """Class k is the mean brightness of corner k: where each class looks is known."""

    input_size, mean, std, colour, labels = 32, (0.0,), (1.0,), "grey", ("anger", "fear", "disgust", "neutral")

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, 4, 1, bias=False)  # four copies of the picture
        nn.init.ones_(self.maps.weight)
        self.mask = nn.Identity()
        self.scale = nn.Parameter(torch.ones(4))
        corners = torch.zeros(4, 32, 32)
        for k, (y, x) in enumerate([(0, 0), (0, 16), (16, 0), (16, 16)]):
            corners[k, y : y + 16, x : x + 16] = 1
        self.register_buffer("corners", corners)

    def forward(self, images: Tensor) -> Tensor:
        x = self.mask(self.maps(images) * self.corners)  # (B, 4, 32, 32)
        return x.mean((2, 3)) * self.scale

    def cam_layer(self, input_size: int) -> str:
        return "mask"


@pytest.fixture(scope="module")
def model() -> FerModel:
    torch.manual_seed(0)
    net = create_model("resemotenet", width=1 / 16, head="linear")
    for m in net.modules():  # a fresh BatchNorm in evaluation mode is nearly the identity; make it do something
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.2)
            m.running_var.uniform_(0.05, 0.5)
    return net.eval()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 64, 64)).astype(np.uint8)


@pytest.mark.parametrize("layer", ["conv3", "se", "res_block1.conv1"])
def test_gradcam_by_hand_equals_the_library(model: FerModel, images: np.ndarray, layer: str) -> None:
    by_hand = grad_cam_by_hand(model, prepare_for(model, images), layer, 3).numpy()
    raw = np.maximum(raw_cam(model, images, target=3, layer=layer), 0)
    assert by_hand.max() > 1e-4
    np.testing.assert_allclose(by_hand, raw, rtol=1e-5, atol=1e-5 * by_hand.max())


@pytest.mark.parametrize(
    ("method", "engine"),
    [("gradcam", GradCAM), ("gradcam++", GradCAMPlusPlus), ("hirescam", HiResCAM), ("layercam", LayerCAM)],
)
def test_equals_a_plain_run_of_the_package(model: FerModel, images: np.ndarray, method: str, engine: type) -> None:
    x = prepare_for(model, images)
    with engine(model=model, target_layers=[model.se]) as package:
        theirs = package(x, [ClassifierOutputTarget(2)] * len(x))
    ours = cam(model, images, target=2, layer="se", method=method)
    assert ours.std() > 0.1
    # the package divides by max + 1e-7, resizes before that, and does both twice
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_eigencam_equals_the_package_up_to_its_arbitrary_sign(model: FerModel, images: np.ndarray) -> None:
    x = prepare_for(model, images)
    with EigenCAM(model=model, target_layers=[model.se]) as package:
        package(x, [ClassifierOutputTarget(0)] * len(x))
        theirs = package.get_cam_image(x, None, None, package.activations_and_grads.activations[0].numpy(), None, False)
    ours = raw_cam(model, images, layer="se", method="eigencam")
    for a, b in zip(ours, theirs, strict=True):
        sign = np.sign((a * b).sum())
        np.testing.assert_allclose(a, sign * b, atol=1e-4 * np.abs(a).max())


@pytest.mark.parametrize("method", METHODS)
def test_heat_lies_where_the_class_is_decided(method: str) -> None:
    net = Corner()
    picture = np.full((1, 32, 32), 100, np.uint8)
    picture[0, 20:28, 20:28] = 250  # bright spot in the last corner
    heat = cam(net, picture, target="neutral", method=method)[0]
    assert heat.shape == (32, 32) and heat.dtype == np.float32
    assert heat.min() == 0 and heat.max() == 1
    # eigencam looks for contrast between places and does not know the class
    assert heat[16:, 16:].sum() / heat.sum() > (0.2 if method == "eigencam" else 0.9)
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert 20 <= y < 28 and 20 <= x < 28


def test_maps_come_back_at_the_size_of_the_pictures(model: FerModel) -> None:
    rng = np.random.default_rng(1)
    for shape in [(2, 48, 48), (2, 3, 90, 70), (1, 1, 200, 120)]:
        heat = cam(model, rng.integers(0, 256, shape).astype(np.uint8))
        assert heat.shape == (shape[0], *shape[-2:])
        assert np.isfinite(heat).all() and heat.min() >= 0 and heat.max() <= 1


def test_targets_by_name_by_index_and_by_default(model: FerModel, images: np.ndarray) -> None:
    predicted = predict_probabilities(model, images).argmax(1)
    assert np.array_equal(cam(model, images), cam(model, images, target=predicted))
    k = model.labels.index("fear")
    by_name = cam(model, images, target="fear")
    assert np.array_equal(by_name, cam(model, images, target=k))
    assert np.array_equal(by_name, cam(model, images, target=["fear"] * 5))
    assert not np.allclose(by_name, cam(model, images, target="anger"))
    mixed = cam(model, images[:2], target=["anger", "fear"])
    np.testing.assert_allclose(mixed[1], by_name[1], atol=1e-5)


def test_more_pictures_than_one_batch(model: FerModel) -> None:
    many = np.random.default_rng(2).integers(0, 256, (35, 32, 32)).astype(np.uint8)
    np.testing.assert_allclose(cam(model, many, target=0)[33:], cam(model, many[33:], target=0), atol=1e-5)


def test_official_layer_is_the_one_the_authors_hook(model: FerModel, images: np.ndarray) -> None:
    assert np.array_equal(cam(model, images, layer="official"), cam(model, images, layer="conv3"))
    assert raw_cam(model, images, layer="official").shape == (5, 16, 16)
    assert raw_cam(model, images).shape == (5, 8, 8)  # cam_layer(64) = "se"


def test_one_place_has_no_contrast(model: FerModel, images: np.ndarray) -> None:
    assert raw_cam(model, images, layer="res_block3").shape == (5, 1, 1)
    assert not cam(model, images, layer="res_block3").any()


@pytest.mark.parametrize("method", METHODS)
def test_leaves_the_model_as_it_was(images: np.ndarray, method: str) -> None:
    net = create_model("resemotenet", width=1 / 16, head="linear").train()
    net.bn2.eval()  # a frozen BatchNorm inside a training network
    net.conv1.weight.requires_grad_(False)
    net.conv2.weight.grad = torch.full_like(net.conv2.weight, 7.0)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    modes = [m.training for m in net.modules()]
    needs = [p.requires_grad for p in net.parameters()]
    cam(net, images[:1], method=method)
    assert [m.training for m in net.modules()] == modes
    assert [p.requires_grad for p in net.parameters()] == needs
    assert (net.conv2.weight.grad == 7).all() and net.conv3.weight.grad is None
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks for m in net.modules())


def test_modes_come_back_after_an_error(images: np.ndarray) -> None:
    net = create_model("resemotenet", width=1 / 16, head="linear").train()
    with pytest.raises(ValueError, match="'fc' gives"):
        cam(net, images, layer="fc")
    assert all(m.training for m in net.modules())
    assert not any(m._forward_hooks for m in net.modules())


def test_same_maps_without_gradients_outside_and_with_frozen_weights(model: FerModel, images: np.ndarray) -> None:
    expected = cam(model, images, target=1)
    with torch.no_grad():
        np.testing.assert_allclose(cam(model, images, target=1), expected, atol=1e-6)
    with torch.inference_mode():
        np.testing.assert_allclose(cam(model, images, target=1), expected, atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_allclose(cam(model, images, target=1), expected, atol=1e-6)
    frozen = create_model("resemotenet", width=1 / 16, head="linear").requires_grad_(False)
    frozen.load_state_dict(model.state_dict())
    np.testing.assert_allclose(cam(frozen, images, target=1), expected, atol=1e-6)
    frozen.to(memory_format=torch.channels_last)
    np.testing.assert_allclose(cam(frozen, images, target=1), expected, atol=1e-4)
    frozen.bfloat16()
    half = cam(frozen, images, target=1)
    assert next(frozen.parameters()).dtype == torch.bfloat16
    assert np.abs(half - expected).mean() < 0.05


def test_in_place_relu_after_the_layer_does_not_change_the_map() -> None:
    class Net(Corner):
        def __init__(self, inplace: bool) -> None:
            super().__init__()
            self.act = nn.ReLU(inplace=inplace)

        def forward(self, images: Tensor) -> Tensor:
            x = self.mask(self.maps(images) * self.corners - 0.3)
            return self.act(x).mean((2, 3)) * self.scale

    picture = np.random.default_rng(0).integers(0, 256, (2, 32, 32)).astype(np.uint8)
    a, b = (raw_cam(Net(inplace), picture, target=1) for inplace in (False, True))
    np.testing.assert_array_equal(a, b)
    assert a.min() < 0


def test_scorecam_is_quiet(model: FerModel, images: np.ndarray, capfd: pytest.CaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cam(model, images[:2], method="scorecam")
    out, err = capfd.readouterr()
    assert out == "" and err == ""


def test_bad_input_is_one_sentence(model: FerModel, images: np.ndarray) -> None:
    for kwargs, words in [
        ({"method": "grad-cam"}, "known: gradcam, gradcam[+][+], hirescam"),
        ({"layer": "res_blok1"}, "close: res_block1"),
        ({"target": "boredom"}, "no class 'boredom'; known: happiness"),
        ({"target": 7}, "the network has 7, counted from 0"),
        ({"target": -1}, "counted from 0"),
        ({"target": [0, 1]}, r"one per picture \(5\), found 2"),
        ({"layer": "fc"}, r"map \(B, C, h, w\), but 'fc' gives \(5, 7\)"),
    ]:
        with pytest.raises(ValueError, match=words):
            cam(model, images, **kwargs)
    with pytest.raises(ValueError, match="explains no layer"):
        cam(Corner(), images, layer="official")
    with pytest.raises(ValueError, match="uint8"):
        cam(model, images.astype(np.float32))
    with pytest.raises(ValueError, match="empty"):
        cam(model, images[:0])
    broken = create_model("resemotenet", width=1 / 16, head="linear")
    nn.init.constant_(broken.fc.weight, float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        cam(broken, images)
