"""capture(): what is caught, and that no hook survives."""

import pytest
import torch
from torch import nn

from ferkit.explain import capture, module_by_name
from ferkit.models import create_model


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return create_model("resemotenet", width=1 / 16, head="linear").eval()


def test_catches_what_the_module_returns(model: nn.Module) -> None:
    x = torch.randn(2, 3, 64, 64)
    with capture(model, ["conv1", "se.gate", "stage3"]) as seen:
        assert seen == {}
        assert hooks(model) == 3
        model(x)
    assert hooks(model) == 0
    assert torch.equal(seen["conv1"], model.conv1(x))
    assert seen["se.gate"].shape == (2, 16, 1, 1)
    assert 0 < seen["se.gate"].min() and seen["se.gate"].max() < 1
    assert seen["stage3"].shape == (2, 16, 8, 8)
    assert not seen["conv1"].requires_grad


def test_second_forward_replaces(model: nn.Module) -> None:
    a, b = torch.randn(2, 1, 3, 64, 64)
    with capture(model, "conv1") as seen:
        model(a)
        model(b)
    assert torch.equal(seen["conv1"], model.conv1(b))


def test_in_place_relu_after_the_module_does_not_change_what_was_caught() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    x = torch.randn(2, 1, 8, 8)
    plain = net(x)
    for grad in (False, True):
        with capture(net, "0", grad=grad) as seen:
            out = net(x)
        assert torch.equal(seen["0"], net[0](x))
        assert (seen["0"] < 0).any()
        assert torch.equal(out, plain)
    (slope,) = torch.autograd.grad(out.sum(), seen["0"])
    # d mean(relu(a)) / d a = 1/36 where a > 0, else 0
    assert torch.allclose(slope, (seen["0"] > 0) / 36)


def test_grad_is_kept_only_on_request(model: nn.Module) -> None:
    x = torch.randn(1, 3, 64, 64)
    with capture(model, "se.gate", grad=True) as seen:
        y = model(x)
    (slope,) = torch.autograd.grad(y[0, 0], seen["se.gate"])
    assert slope.shape == (1, 16, 1, 1) and slope.abs().sum() > 0


@pytest.mark.parametrize("error", [IndexError, RuntimeError, KeyboardInterrupt])
def test_exceptions_pass_and_hooks_go(model: nn.Module, error: type[BaseException]) -> None:
    with pytest.raises(error, match="mine"):
        with capture(model, ["conv1", "conv2"]):
            raise error("mine")
    assert hooks(model) == 0


def test_a_forward_that_fails_leaves_no_hook(model: nn.Module) -> None:
    with pytest.raises(RuntimeError):
        with capture(model, ["conv1", "stage3"]) as seen:
            model(torch.randn(1, 3, 4, 4))  # too small for three poolings
    assert hooks(model) == 0
    assert "conv1" in seen and "stage3" not in seen


@pytest.mark.parametrize(
    ("name", "offered"),
    [("se.gates", "se.gate"), ("resblock1", "res_block1"), ("features.conv3", "conv3"), ("", "conv1")],
)
def test_unknown_names_are_refused_with_close_ones(model: nn.Module, name: str, offered: str) -> None:
    with pytest.raises(ValueError, match="no submodule") as info:
        with capture(model, ["conv1", name]):
            pass
    assert offered in str(info.value).split(":", 1)[1]
    assert hooks(model) == 0


def test_a_name_unlike_any_lists_the_top_level(model: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"at the top level: conv1, bn1"):
        module_by_name(model, "zzzzzzzz")


def test_tuples_are_caught_too() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x + 1, x + 2

    net = nn.Sequential(Two())
    with capture(net, "0") as seen:
        net(torch.zeros(3))
    assert seen["0"][0].tolist() == [1, 1, 1] and seen["0"][1].tolist() == [2, 2, 2]


def test_every_run_is_kept_on_request(model: nn.Module) -> None:
    """A module that runs several times leaves all its outputs, and one that does not run none."""
    twice = nn.ModuleDict({"again": nn.Linear(3, 3), "idle": nn.Linear(3, 3)})
    x = torch.ones(2, 3)
    for grad in (False, True):
        with capture(twice, ["again", "idle"], grad=grad, every_run=True) as seen:
            assert seen == {"again": [], "idle": []}
            last = twice["again"](twice["again"](x))
        assert len(seen["again"]) == 2 and seen["idle"] == []
        assert torch.equal(seen["again"][1], last) and seen["again"][0].requires_grad == grad
