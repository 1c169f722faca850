"""Optimisers, schedules, class weights and averaged weights that the papers' recipes need;
torch's own wherever it has them.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RAdam
from torch.optim import lr_scheduler as schedules
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

CLASS_WEIGHTS = ("none", "balanced", "one_minus_frequency", "effective_number")
SCHEDULES = ("constant", "cosine", "plateau", "step")


class SAM(Optimizer):
    r"""Sharpness-aware minimisation (Foret et al., ICLR 2021, arXiv 2010.01412) around any torch optimiser.

    Takes the step of `base` with the gradient found at $w + \rho\, g / \lVert g \rVert_2$ instead of at $w$ (equations
    2-3). A training step is: backward, `ascend()`, zero_grad, backward on the same batch, `step()`.

    Args:
        base: the optimiser that takes the step; its parameter groups (and their learning rates) are shared.
        rho: radius of the neighbourhood (0.05 in the paper).

    """

    def __init__(self, base: Optimizer, *, rho: float = 0.05) -> None:
        super().__init__([p for group in base.param_groups for p in group["params"]], {"rho": rho})
        self.base = base
        self.rho = rho
        self.param_groups = base.param_groups
        self._origins: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def ascend(self) -> None:
        """Move to the worst point of the neighbourhood, as the gradient sees it."""
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.stack([p.grad.norm() for p in params]).norm()
        self._origins = [(p, p.clone()) for p in params]
        for p in params:
            p.add_(p.grad * (self.rho / (norm + 1e-12)))

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Go back to where `ascend` started and take the base optimiser's step with the gradients found there."""
        for p, origin in self._origins:
            p.copy_(origin)
        self._origins = []
        self.base.step()

    def state_dict(self) -> dict[str, Any]:
        """The base optimiser's state; the origins live only between two passes."""
        return self.base.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the base optimiser's state."""
        self.base.load_state_dict(state_dict)
        self.param_groups = self.base.param_groups


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
    # decoupled weight decay, as the Residual Masking Network's trainer has it
    "radam": lambda params, **options: RAdam(params, decoupled_weight_decay=True, **options),
}


def parameter_groups(module: nn.Module, lr: float, factors: dict[str, float]) -> list[dict[str, Any]]:
    """Parameters grouped by the factor on their learning rate; the first group is that of the plain rate,
    if it has any.

    A loss's own parameters, centres for the most part, get no weight decay: they are places, and zero is not a better
    one.

    Args:
        module: a `ferkit.training.task.Task`; names are those inside its network, and "criterion..." for the loss's
            own.
        lr: the plain rate.
        factors: beginning of a dotted name to factor; the longest that fits counts.

    Raises:
        ValueError: a beginning that fits no parameter.

    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {(1.0, False): []}
    used = set()
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        dotted = name.removeprefix("model.") + "."
        fits = [prefix for prefix in factors if dotted.startswith(prefix + ".")]
        used.update(fits)
        factor = factors[max(fits, key=len)] if fits else 1.0
        groups.setdefault((factor, dotted.startswith("criterion.")), []).append(parameter)
    idle = sorted(set(factors) - used)
    if idle:
        parts = sorted({name.removeprefix("model.").split(".")[0] for name, _ in module.named_parameters()})
        raise ValueError(
            f"part_lr names {', '.join(idle)}, which no parameter's name begins with; the network has "
            f"{', '.join(parts)}"
        )
    return [
        {"params": params, "lr": lr * factor, **({"weight_decay": 0.0} if own else {})}
        for (factor, own), params in groups.items()
        if params
    ]


def make_optimizer(
    params: Iterable[nn.Parameter] | list[dict[str, Any]],
    *,
    name: str,
    lr: float,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    nesterov: bool = False,
    sam_rho: float = 0.0,
) -> Optimizer:
    """An optimiser by name; momentum and nesterov only concern SGD, `sam_rho` > 0 wraps it in SAM."""
    if name not in OPTIMIZERS:
        raise ValueError(f"no optimizer {name!r}; known: {', '.join(OPTIMIZERS)}")
    options: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
    if name == "sgd":
        options |= {"momentum": momentum, "nesterov": nesterov}
    optimizer = OPTIMIZERS[name](params, **options)
    return SAM(optimizer, rho=sam_rho) if sam_rho else optimizer


class Schedule:
    """A learning-rate schedule that is told the progress: `before_step(progress)` and `after_epoch(metric)`.

    constant; cosine (per step, from lr to lr * floor); step (times `drop` every `every` epochs); plateau (times `drop`
    after more than `patience` epochs without a better metric, but not below lr * floor). The first `warmup` epochs rise
    linearly from zero, except for plateau, which decides by metric alone.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        name: str,
        epochs: int,
        warmup: float = 0.0,
        floor: float = 0.0,
        drop: float = 0.1,
        patience: int = 10,
        every: int = 30,
    ) -> None:
        if name not in SCHEDULES:
            raise ValueError(f"no schedule {name!r}; known: {', '.join(SCHEDULES)}")
        if name == "plateau" and warmup:
            raise ValueError("the plateau schedule has no warm-up; set warmup_epochs to 0")
        self.optimizer, self.name, self.epochs, self.warmup = optimizer, name, epochs, warmup
        self.floor, self.drop, self.every = floor, drop, every
        self.base_lrs = [group["lr"] for group in optimizer.param_groups]
        inner = optimizer.base if isinstance(optimizer, SAM) else optimizer
        self.plateau = (
            schedules.ReduceLROnPlateau(
                inner,
                mode="max",
                factor=drop,
                patience=patience,
                threshold=0.0,
                min_lr=[floor * lr for lr in self.base_lrs],
            )
            if name == "plateau"
            else None
        )

    def scale(self, progress: float) -> float:
        """Factor on the learning rate after `progress` epochs (fractions allowed)."""
        if progress < self.warmup:
            return progress / self.warmup
        if self.name == "cosine":
            done = (progress - self.warmup) / max(self.epochs - self.warmup, 1e-9)
            return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        if self.name == "step":
            return self.drop ** int(progress / self.every)
        return 1.0

    def before_step(self, progress: float) -> None:
        """Set the learning rates for the optimiser step that starts after `progress` epochs."""
        if self.plateau is None:
            for group, lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
                group["lr"] = lr * self.scale(progress)

    def after_epoch(self, metric: float) -> None:
        """Tell the plateau schedule the epoch's validation metric (higher is better)."""
        if self.plateau is not None:
            self.plateau.step(metric)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs; only the plateau schedule has a memory."""
        return {} if self.plateau is None else self.plateau.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` gave."""
        if self.plateau is not None:
            self.plateau.load_state_dict(state)


def class_weights(counts: np.ndarray, kind: str, *, beta: float = 0.9999) -> Tensor | None:
    r"""Weights of the classes from their training counts $n_c$, N in all, K classes; None for "none".

    balanced: $N / (K n_c)$. one_minus_frequency: $1 - n_c / N$. effective_number: $(1-\beta) / (1-\beta^{n_c})$, scaled
    to mean 1 (Cui et al., CVPR 2019, arXiv 1901.05555). A class without images gets weight 0.
    """
    if kind not in CLASS_WEIGHTS:
        raise ValueError(f"no class weighting {kind!r}; known: {', '.join(CLASS_WEIGHTS)}")
    if kind == "none":
        return None
    n = np.asarray(counts, dtype=np.float64)
    seen = n > 0
    safe = np.where(seen, n, 1)
    if kind == "balanced":
        weights = n.sum() / (len(n) * safe)
    elif kind == "one_minus_frequency":
        weights = 1 - safe / n.sum()
    else:
        weights = (1 - beta) / (1 - beta**safe)
        weights = weights / weights[seen].mean()
    return torch.tensor(np.where(seen, weights, 0.0), dtype=torch.float32)


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Let batch normalisation use the batch's statistics without remembering them:
    for a second pass over the same batch.

    SAM's gradient at the worst place nearby is taken at weights that are not kept (davda54/sam's
    `disable_running_stats` does the same).
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    counts = [m.num_batches_tracked for m in norms if m.num_batches_tracked is not None]
    momenta, kept = [m.momentum for m in norms], [count.clone() for count in counts]
    try:
        for m in norms:
            m.momentum = 0.0
        yield
    finally:
        for m, momentum in zip(norms, momenta, strict=True):
            m.momentum = momentum
        for count, before in zip(counts, kept, strict=True):
            count.copy_(before)


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of weights and batch-norm statistics, updated with `update_parameters(model)`.

    The decay rises to `decay` as (1 + n) / (10 + n) over the first n updates, so that random first weights are soon
    gone.
    """

    def average(old: Any, new: Any, updates: Tensor | int) -> None:
        n = int(updates)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(old, new, updates)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)
