"""predict_probabilities: raw pictures in, probabilities out, whatever the batch size."""

import numpy as np
import pytest
import torch

from ferkit.models import FerModel, create_model
from ferkit.predict import predict_logits, predict_probabilities, prepare_for

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (7, 48, 48), dtype=np.uint8)


@pytest.fixture
def model() -> FerModel:
    torch.manual_seed(0)
    model = create_model("resemotenet", width=1 / 16, head="linear")
    for layer in model.modules():  # as after training: statistics that make the logits differ
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3)
            layer.weight.data.uniform_(0.5, 2)
    return model


def test_probabilities(model):
    found = predict_probabilities(model, GREY)
    assert found.shape == (7, 7) and found.dtype == np.float32
    assert np.allclose(found.sum(1), 1, atol=1e-6)
    assert 0 < found.min() and found.std(0).max() > 1e-3
    model.eval()
    with torch.no_grad():
        by_hand = model(prepare_for(model, GREY)).softmax(1).numpy()
    assert np.allclose(found, by_hand, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_batch_size_does_not_matter(model, batch_size):
    assert np.allclose(predict_probabilities(model, GREY, batch_size=batch_size), predict_probabilities(model, GREY), atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 48, 48), (2, 1, 48, 48), (2, 3, 48, 48), (2, 100, 80), (2, 3, 20, 31)])
def test_any_size_and_colour(model, shape):
    pictures = RNG.integers(0, 256, shape, dtype=np.uint8)
    assert prepare_for(model, pictures).shape == (2, 3, 64, 64)
    assert predict_probabilities(model, pictures).shape == (2, 7)


def test_a_grey_picture_is_itself_in_three_channels(model):
    three = np.repeat(GREY[:, None], 3, 1)
    assert np.allclose(predict_probabilities(model, three), predict_probabilities(model, GREY), atol=2e-2)
    assert np.allclose(predict_probabilities(model, GREY[:, None]), predict_probabilities(model, GREY), atol=1e-7)


def test_it_uses_evaluation_mode_and_leaves_the_mode_and_statistics(model):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    first = predict_probabilities(model.train(), GREY)
    assert model.training
    second = predict_probabilities(model.eval(), GREY)
    assert not model.training
    assert np.array_equal(first, second)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not predict_logits(model, GREY).requires_grad


def test_mode_is_left_after_an_error(model):
    model.train()
    with pytest.raises(ValueError):
        predict_logits(model, GREY.astype(np.float32))
    assert model.training


def test_flip_averages_the_probabilities_of_picture_and_mirror_image(model):
    mirrored = predict_probabilities(model, GREY[:, :, ::-1])
    plain = predict_probabilities(model, GREY)
    flip = predict_probabilities(model, GREY, tta="flip")
    assert np.allclose(flip, (plain + mirrored) / 2, atol=1e-4)
    assert np.abs(plain - mirrored).max() > 1e-3
    assert np.allclose(flip, predict_probabilities(model, GREY[:, :, ::-1], tta="flip"), atol=1e-4)
    assert np.array_equal(flip, predict_probabilities(model, GREY, tta="flip"))


def test_memory_maps_are_read_batch_by_batch(model, tmp_path):
    np.save(tmp_path / "x.npy", GREY)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert np.array_equal(predict_probabilities(model, mapped, batch_size=2), predict_probabilities(model, GREY, batch_size=2))


def test_the_network_decides_the_preprocessing(model):
    plain = predict_probabilities(model, GREY)
    model.input_size = 48
    assert prepare_for(model, GREY).shape == (7, 3, 48, 48)
    assert not np.allclose(predict_probabilities(model, GREY), plain, atol=1e-4)


def test_errors(model):
    with pytest.raises(ValueError, match="no test-time augmentation 'crops'; known: none, flip"):
        predict_probabilities(model, GREY, tta="crops")
    with pytest.raises(ValueError, match="no pictures to predict"):
        predict_probabilities(model, GREY[:0])
    with pytest.raises(ValueError, match="must be uint8"):
        predict_probabilities(model, GREY / 255)
    with pytest.raises(ValueError, match="channels before rows"):
        predict_probabilities(model, np.zeros((48, 48, 3), np.uint8))
    with pytest.raises(ValueError, match="found list"):
        predict_probabilities(model, list(GREY))
