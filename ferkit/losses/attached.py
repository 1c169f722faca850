"""The diversity term on outputs of named submodules of any network."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor, nn

from ferkit.losses.diversity import DiversityTerm
from ferkit.models.capture import capture


def attached(model: nn.Module, names: str | Iterable[str]) -> AbstractContextManager[dict[str, list[Tensor]]]:
    """Return `ferkit.explain.capture` as a loss needs it: outputs of every run, as part of the graph.

    ``with attached(model, names) as seen: logits = model(x)`` then ``term(spatial=[m for n in names for m in
    seen[n]])``.
    """
    return capture(model, names, grad=True, every_run=True)


class AttachedDiversity(nn.Module):
    """Diversity between named submodules of any network: branches, layers, or one block that runs on several patches.

    Args:
        term: weights and options.
        spatial, channel: dotted names of the submodules whose outputs are compared, as spatial maps and as channel
            vectors. Outputs are feature maps (N, C, H, W), pooled first, so that the spatial term compares maps with
            any number of channels on the same grid, and the channel term maps of any size with the same channels.

    ``parts, losses = AttachedDiversity(term, spatial=[...])(model, images)``: no hook is left behind.

    """

    def __init__(self, term: DiversityTerm, *, spatial: Sequence[str] = (), channel: Sequence[str] = ()) -> None:
        super().__init__()
        self.names = {"spatial": _as_names(spatial), "channel": _as_names(channel)}
        if not any(self.names.values()):
            raise ValueError("name at least one submodule, for spatial or for channel")
        self.term = term

    def forward(self, model: nn.Module, images: Tensor) -> tuple[Any, dict[str, Tensor]]:
        """One pass through the network.

        Args:
            model: a network that has the named submodules.
            images: what it takes.

        Returns:
            What `model.forward_parts` gives (or `model` itself, if it has no such method), and the losses of
            `DiversityTerm`.

        Raises:
            ValueError: unknown names, a submodule that did not run, fewer than two maps, or maps that do not fit each
                other.

        """
        with attached(model, dict.fromkeys([*self.names["spatial"], *self.names["channel"]])) as seen:
            forward: Callable[[Tensor], Any] = getattr(model, "forward_parts", model)
            parts = forward(images)
        given: dict[str, list[Tensor]] = {}
        for kind, names in self.names.items():
            if idle := [name for name in names if not seen[name]]:
                raise ValueError(f"submodule {', '.join(idle)} did not run in this forward pass")
            maps = [_one_tensor(name, m) for name in names for m in seen[name]]
            if names and len(maps) < 2:
                raise ValueError(f"diversity needs two maps or more, {', '.join(names)} gave {len(maps)}")
            if names:
                given[kind] = maps
        return parts, self.term(**given)


def _one_tensor(name: str, output: Any) -> Tensor:
    if not isinstance(output, Tensor):
        raise ValueError(f"diversity needs one tensor of each submodule, {name} gives a {type(output).__name__}")
    return output


def _as_names(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
