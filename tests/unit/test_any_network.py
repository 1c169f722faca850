"""What people hand in as a model: wrapped, in another precision, partly frozen, or a bare module of another library."""

import base64
import copy
import io

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from ferkit.explain import attention_maps, cam, features_of, occlusion_map, raw_cam
from ferkit.models import create_model, summarise
from ferkit.models.guard import evaluating
from ferkit.predict import predict_logits, predict_probabilities

FACES = np.random.default_rng(0).integers(0, 256, (2, 48, 48), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create_model("lfnsb", width=1 / 8, input_size=64).eval()


USES = {
    "probabilities": lambda m, x: predict_probabilities(m, x),
    "flipped": lambda m, x: predict_probabilities(m, x, tta="resmasking_random_2"),
    "logits": lambda m, x: predict_logits(m, x).numpy(),
    "cam": lambda m, x: cam(m, x, target=1),
    "occlusion": lambda m, x: occlusion_map(m, x, target=1, patch=24, stride=24),
    "features": lambda m, x: features_of(m, x),
    "gates": lambda m, x: attention_maps(m, x)["conv_45.0.attention.product"],
}


@pytest.mark.slow
@pytest.mark.parametrize("use", USES)
def test_wrapped_and_in_other_precisions(model, use):
    expected = USES[use](model, FACES)
    assert np.isfinite(expected).all() and expected.std() > 0
    wrapped = {
        "DataParallel": nn.DataParallel,
        "compiled": lambda m: torch.compile(m, backend="eager"),
        "both": lambda m: torch.compile(nn.DataParallel(m), backend="eager"),
    }
    for name, wrap in wrapped.items():
        np.testing.assert_allclose(USES[use](wrap(copy.deepcopy(model)), FACES), expected, atol=1e-5, err_msg=name)
    for dtype, tolerance in ((torch.float64, 1e-4), (torch.float16, 0.05), (torch.bfloat16, 0.3)):
        other = copy.deepcopy(model).to(dtype)
        found = USES[use](other, FACES)
        assert found.dtype in (np.float32, np.float64) and np.abs(found - expected).max() < tolerance * max(
            1, np.abs(expected).max()
        ), dtype
        assert {p.dtype for p in other.parameters()} == {dtype}


@pytest.mark.parametrize("use", USES)
def test_every_submodule_is_left_in_its_mode(model, use):
    """A network trained with some of its statistics frozen must not learn them after it was looked at."""
    mixed = copy.deepcopy(model).train()
    mixed.conv_3.eval()
    mixed.repvgg.bn.eval()
    before = {name: m.training for name, m in mixed.named_modules()}
    state = {k: v.clone() for k, v in mixed.state_dict().items()}
    assert True in before.values() and False in before.values()
    USES[use](mixed, FACES)
    assert {name: m.training for name, m in mixed.named_modules()} == before
    assert all(torch.equal(v, state[k]) for k, v in mixed.state_dict().items())


def test_modes_come_back_after_an_error_and_after_counting(model):
    mixed = copy.deepcopy(model).train()
    mixed.conv1.eval()
    with pytest.raises(RuntimeError), evaluating(mixed):
        assert not mixed.training
        raise RuntimeError
    summarise(mixed)
    assert mixed.training and not mixed.conv1.bn.training and mixed.conv2_dw.bn.training


@pytest.mark.parametrize("use", ["probabilities", "cam", "occlusion", "features"])
def test_one_picture_however_it_comes(model, use, tmp_path):
    """Grey (H, W), with a last axis, as a batch, as PIL, as a path, as bytes, in a list: the same answer."""
    grey = FACES[0]
    expected = USES[use](model, grey[None])
    Image.fromarray(grey).save(tmp_path / "face.png")
    forms = (
        grey,
        grey[..., None],
        grey[None, None],
        Image.fromarray(grey),
        tmp_path / "face.png",
        str(tmp_path / "face.png"),
        (tmp_path / "face.png").read_bytes(),
        io.BytesIO((tmp_path / "face.png").read_bytes()),
        f"data:image/png;base64,{base64.b64encode((tmp_path / 'face.png').read_bytes()).decode()}",
        [grey],
        [tmp_path / "face.png"],
        torch.from_numpy(grey),
        grey / 255.0,
    )
    for form in forms:
        np.testing.assert_allclose(USES[use](model, form), expected, atol=1e-4, err_msg=type(form).__name__)
    colour = np.random.default_rng(1).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    np.testing.assert_allclose(USES[use](model, colour), USES[use](model, colour.transpose(2, 0, 1)[None]), atol=1e-5)
    with pytest.raises(ValueError, match="may be one in colour or three grey ones"):
        USES[use](model, colour.transpose(2, 0, 1))
    for wrong, words in (
        ([FACES[0], FACES[0][:40]], "pictures of one size, found 48x48, 40x48"),
        (FACES[:0], "the array is empty"),
    ):
        with pytest.raises(ValueError, match=words):
            USES[use](model, wrong)


# --- modules of other libraries ---------------------------------------------------------------------------------------


def test_a_bare_module_says_what_it_lacks_and_works_once_it_has_it():
    torch.manual_seed(0)
    bare = torchvision.models.resnet18(num_classes=5).eval()
    for attempt in (predict_probabilities, predict_logits, cam, occlusion_map, features_of, attention_maps):
        with pytest.raises(
            ValueError,
            match="ResNet does not say how pictures are prepared for it: it lacks input_size, mean, std, "
            "colour. Set them on it",
        ):
            attempt(bare, FACES)
    bare.input_size, bare.mean, bare.std, bare.colour = 64, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "rgb"
    assert predict_probabilities(bare, FACES).shape == (2, 5)
    with pytest.raises(ValueError, match="ResNet does not say which layer to explain: name one, as in layer='layer4'"):
        cam(bare, FACES)
    heat = cam(bare, FACES, layer="layer2", target=4)
    assert heat.shape == (2, 48, 48) and np.array_equal(cam(bare, FACES, layer=bare.layer2, target=4), heat)
    assert occlusion_map(bare, FACES, target=4, patch=24, stride=24).shape == (2, 48, 48)
    assert attention_maps(bare, FACES) == {}
    with pytest.raises(ValueError, match="ResNet has no forward_parts"):
        features_of(bare, FACES)
    for attempt in (
        lambda t: cam(bare, FACES, layer="layer2", target=t),
        lambda t: occlusion_map(bare, FACES, target=t),
    ):
        with pytest.raises(ValueError, match="no class 5; the network has 5, counted from 0"):
            attempt(5)
        with pytest.raises(ValueError, match="no class 'fear'; known: none, give an index"):
            attempt("fear")
    bare.labels = ("bored", "calm", "tense", "fear", "pain")
    assert np.array_equal(cam(bare, FACES, layer="layer2", target="pain"), heat)
    with pytest.raises(ValueError, match="the layer given, a Conv2d, is no part of this ResNet"):
        cam(bare, FACES, layer=nn.Conv2d(1, 1, 1))


def test_outputs_that_are_no_logits_are_said(model):
    class Answer(nn.Module):
        input_size, mean, std, colour = 64, model.mean, model.std, "rgb"

        def __init__(self, answer):
            super().__init__()
            self.answer = answer

        def forward(self, x):
            return self.answer(x)

    for answer, found in (
        (lambda x: {"logits": x}, "found dict"),
        (lambda x: x, r"found \(2, 3, 64, 64\)"),
        (lambda x: x[0, :, :2, 0], r"found \(3, 2\)"),
    ):
        with pytest.raises(ValueError, match=rf"expected Answer to give logits \(B, K\) for 2 pictures, {found}"):
            predict_probabilities(Answer(answer), FACES)


# --- margins ----------------------------------------------------------------------------------------------------------


def test_maps_of_a_padded_network_lie_over_the_picture():
    """At 48 px the Residual Masking Network pads to 64: its map of 16 x 16 places reaches 8 pixels beyond each edge."""
    torch.manual_seed(0)
    padded = create_model("resmasking", width=1 / 16, size_policy="pad").eval()
    padded.input_size = 48
    assert padded.margins(48) == (8, 8) and padded.margins(64) == (0, 0) and sum(padded.margins(50)) == 14
    raw = torch.from_numpy(raw_cam(padded, FACES, target=2, layer="masked1", method="eigencam")).relu()
    assert raw.shape == (2, 16, 16)
    heat = torch.from_numpy(cam(padded, FACES, target=2, layer="masked1", method="eigencam"))
    # the place that covers rows 8 to 11 of the padded picture is rows 0 to 3 of the picture itself
    inner = nn.functional.avg_pool2d(heat[:, None], 4)[:, 0]
    close, shifted = (
        torch.corrcoef(torch.stack([inner.flatten(), cut.flatten()]))[0, 1]
        for cut in (raw[:, 2:14, 2:14], raw[:, 4:16, 4:16])
    )
    assert close > 0.97 and shifted < close - 0.1
    assert create_model("lfnsb", width=1 / 16).margins(48) == (0, 0)
