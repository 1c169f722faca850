"""The optional fast path: the numbers and gradients of the plain layers, on them and off again."""

import pytest
import torch
from torch import nn

from ferkit.models import create_model
from ferkit.models.attention import CoordinateAttention
from ferkit.models.fast import FAST, FastCoordinateAttention, FastMixedDepthwise, FastPReLU, use_fast_path
from ferkit.models.fuse import fuse
from ferkit.models.layers import MixedDepthwise
from ferkit.training import Recipe, fit, make_task
from tests.unit.small_faces import NAMES, small_faces

FORMATS = pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])


def layers():
    torch.manual_seed(0)
    return (
        nn.PReLU(6),
        CoordinateAttention(6, hidden=3),
        MixedDepthwise([(3, 4), (5, 2)], stride=1),
        MixedDepthwise([(3, 6)]),
    )


@FORMATS
def test_numbers_and_gradients_are_those_of_the_plain_layers(memory_format):
    torch.manual_seed(1)
    x = torch.randn(2, 6, 4, 3, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    weights = torch.randn(2, 6, 4, 3, dtype=torch.float64)
    for layer in layers():
        layer = layer.double()
        parameters, kind = list(layer.parameters()), type(layer)
        plain = layer(x)
        slopes = torch.autograd.grad((plain * weights).sum(), [x, *parameters])
        restore = use_fast_path(layer)
        assert type(layer) is FAST[kind] and list(layer.parameters()) == parameters
        fast = layer(x)
        assert torch.allclose(fast, plain, rtol=1e-12, atol=1e-14)
        for a, b in zip(torch.autograd.grad((fast * weights).sum(), [x, *parameters]), slopes, strict=True):
            assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)
        assert slopes[0].abs().max() > 0.01
        assert torch.autograd.gradcheck(layer, x)
        layer.eval()
        assert torch.allclose(layer(x), layer(x.detach()), rtol=1e-12)
        restore()
        assert type(layer) is kind


def test_prelu_takes_the_slope_at_zero_as_torch_does_and_leaves_other_shapes_to_it():
    x = torch.zeros(1, 1, 2, 2, requires_grad=True)
    ours, torchs = FastPReLU(1), nn.PReLU(1)
    assert torch.equal(*(torch.autograd.grad(m(x).sum(), x)[0] for m in (ours, torchs)))
    for shape in ((3, 1), (2, 5, 4, 4)):  # one slope for all channels
        y = torch.randn(shape, requires_grad=True)
        assert torch.equal(*(torch.autograd.grad((m(y) ** 2).sum(), y)[0] for m in (ours, torchs)))


def test_depthwise_gradients_in_bfloat16_are_computed_in_float32():
    torch.manual_seed(0)
    layer, x = MixedDepthwise([(5, 4)], stride=2), torch.randn(2, 4, 8, 8)
    plain = layer(x)
    use_fast_path(layer)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = layer(x.bfloat16())
    assert half.dtype == torch.bfloat16 and torch.equal(half, layer(x.bfloat16().float()).bfloat16())
    assert torch.allclose(half.float(), plain, atol=0.05)


def test_a_training_uses_it_and_leaves_the_layers_as_they_were(monkeypatch):
    faces = small_faces(24)
    model = create_model("lfnsb", width=1 / 16, labels=NAMES, input_size=48)
    seen = set()
    for kind in FAST.values():
        monkeypatch.setattr(
            kind, "forward", lambda self, x, kind=kind, plain=kind.forward: (seen.add(kind), plain(self, x))[1]
        )
    recipe = Recipe(name="x", model="lfnsb", width=1 / 16, epochs=1, batch_size=12, image_size=48)
    fit(make_task(model, recipe, faces.counts()), faces, faces, recipe, progress=False)
    assert seen == {FastPReLU, FastCoordinateAttention, FastMixedDepthwise}
    kinds = {type(m) for m in model.modules()}
    assert not kinds & set(FAST.values()) and set(FAST) <= kinds
    assert FastCoordinateAttention in {type(m) for m in fuse(model.eval()).modules()}
