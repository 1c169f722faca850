"""The weights of the best epoch so far."""

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from ferkit.models import FerModel, save_state, save_weights
from ferkit.training.history import History
from ferkit.training.recipe import Recipe


class Best:
    """Keeps the weights of the best epoch: on disk if there is a folder, in memory if not."""

    def __init__(self, folder: Path | None, recipe: Recipe, history: History, criterion: nn.Module) -> None:
        self._file = None if folder is None else folder / "best.safetensors"
        # Centres, trained or fixed, of the same epoch: what the loss itself holds, so that a run can be looked at
        # afterwards.
        self._criterion = criterion if criterion.state_dict() else None
        self._select, self._last = recipe.select, recipe.equal_epochs == "last"
        self.value = max(history.column(self._select)) if history.rows else float("-inf")
        self._state: dict[str, Tensor] = {}

    def consider(self, model: FerModel, row: dict[str, float], is_main: bool) -> bool:
        """Keep the weights if no epoch before was better, or, of equals, as the recipe says;
        return whether this one is better than all before.
        """
        better = row[self._select] > self.value
        if better or (self._last and row[self._select] == self.value):
            self._keep(model, is_main)
        self.value = max(self.value, row[self._select])
        return better

    def _keep(self, model: FerModel, is_main: bool) -> None:
        if self._file is None:
            self._state = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
        elif is_main:
            save_weights(model, self._file, weights=self._file.parent.name)
            if self._criterion is not None:
                save_state(self._criterion, self._file.with_name("criterion.safetensors"))

    def restore(self, model: FerModel) -> None:
        """Put the best weights into the network."""
        model.load_state_dict(self._state if self._file is None else load_file(self._file))
