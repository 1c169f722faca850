"""bfloat16 on CPUs: where it is refused, and why."""

import pytest
import torch
from torch import nn

from ferkit.models import create_model
from ferkit.training import precision
from ferkit.training.precision import choose_precision, refuse_broken_bf16

CPU = torch.device("cpu")


def gradient_error(side: int) -> float:
    """Relative error of a strided 3x3 convolution's weight gradient under bfloat16 autocast, on maps of `side` pixels.
    """
    torch.manual_seed(0)
    conv, x = nn.Conv2d(32, 64, 3, stride=2, padding=1), torch.randn(16, 32, side, side)
    gradients = []
    for enabled in (False, True):
        conv.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            y = conv(x)
        y.float().square().sum().backward()
        gradients.append(conv.weight.grad.clone())
    return ((gradients[1] - gradients[0]).norm() / gradients[0].norm()).item()


@pytest.mark.parametrize("side", [2, 3, 4, 8])
def test_bf16_is_right_on_maps_of_two_places_and_more(side):
    assert gradient_error(side) < 0.02


@pytest.mark.parametrize(("size", "refused"), [(32, True), (16, True), (48, False), (64, False)])
def test_refused_where_a_strided_convolution_sees_one_place(size, refused):
    model = create_model("resemotenet", width=0.0625)
    model.input_size = size
    model.train()
    if refused:
        with pytest.raises(ValueError, match=r"strided convolution res_block\d.* sees a single place"):
            refuse_broken_bf16(model, CPU)
    else:
        refuse_broken_bf16(model, CPU)
    assert model.training
    refuse_broken_bf16(model, torch.device("meta"))  # other devices are not concerned


@pytest.mark.parametrize(("units", "size", "chosen"), [(True, 64, "bf16"), (False, 64, "no"), (True, 32, "no")])
def test_auto_is_bf16_where_the_machine_has_units_and_the_network_may(units, size, chosen, monkeypatch):
    monkeypatch.setattr(precision, "_cpu_has_bf16_units", lambda: units)
    model = create_model("resemotenet", width=0.0625)
    model.input_size = size
    assert choose_precision("auto", model, CPU) == chosen
    assert choose_precision("no", model, CPU) == "no"
    if size == 32:
        with pytest.raises(ValueError, match="sees a single place"):
            choose_precision("bf16", model, CPU)
    else:
        assert choose_precision("bf16", model, CPU) == "bf16", "what is asked for is done, also where it is slower"


def test_a_processor_says_whether_it_has_units():
    assert precision._cpu_has_bf16_units() in (True, False)
