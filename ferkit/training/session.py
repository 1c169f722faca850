"""What a training needs around its loop: setting up, resuming, adding up over processes, keeping the best, reporting.
"""

import hashlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ferkit.data.faceset import FaceSet
from ferkit.data.transforms import augmentation
from ferkit.models import FerModel
from ferkit.models.fast import use_fast_path
from ferkit.predict import prepare_for
from ferkit.training.batches import Draws, EpochBatches, TrainingImages, as_it_is, class_balance, stream
from ferkit.training.best import Best
from ferkit.training.checkpoints import newest_checkpoint, save_checkpoint
from ferkit.training.distributed import synchronised_batch_norm
from ferkit.training.history import History
from ferkit.training.optim import Schedule, averaged, make_optimizer, parameter_groups
from ferkit.training.precision import choose_precision
from ferkit.training.progress import Reporter
from ferkit.training.recipe import Recipe
from ferkit.training.task import Task

#: On a GPU asking whether a loss is finite means waiting for it, so that is done every so many steps only.
STEPS_BETWEEN_LOOKS = 16


class OutOfTime(Exception):
    """The time given is over before the training is; the checkpoint has all of it so far,
    and the same call goes on from there.
    """


class _Where:
    """Where a training is; goes into the checkpoint beside weights, optimiser, schedule and random states."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"epoch": 0, "step": 0, "bad_epochs": 0, "seconds": 0.0, "sums": {}}
        self.history = History()

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values, "rows": self.history.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.values, self.history.rows = state["values"], state["rows"]


def make_accelerator(precision: str = "no") -> Accelerator:
    """Return an Accelerator of a precision; unlike accelerate's own, it may differ from an earlier one in a notebook.
    """
    AcceleratorState._reset_state(reset_partial_state=False)
    # On a machine without GPUs several processes find each other only if told that the CPU is meant.
    return Accelerator(mixed_precision=precision, cpu=not torch.accelerator.is_available())


class Session:
    """One training: `fit` reads as the loop it is because everything around it is here. Arguments are those of `fit`.

    Attributes:
        model: the task as accelerate wraps it, which the loop calls.
        optimizer: as accelerate wraps it; `inner_optimizer` is the one inside.
        schedule: the learning rate's.
        judged: the network whose answers are validated and kept: the averaged one, if there is an average.

    """

    def __init__(
        self,
        task: Task,
        train: FaceSet,
        validation: FaceSet,
        recipe: Recipe,
        *,
        folder: Path | None,
        resume: bool,
        progress: bool,
        until: float | None = None,
    ) -> None:
        for faces in (train, validation):
            if tuple(faces.names) != tuple(task.model.labels):
                raise ValueError(
                    f"the network's logits mean {', '.join(task.model.labels) or 'nothing yet'}; the {faces.name} "
                    f"labels mean {', '.join(faces.names)}: build it with create_model(..., "
                    f"num_classes={len(faces.names)}, labels=train.names)"
                )
        device = make_accelerator().device
        self.accelerator = make_accelerator(choose_precision(recipe.precision, task.model, device))
        self._recipe, self._task, self._folder, self._until = recipe, task, folder, until
        self._rank, self._world = self.accelerator.process_index, self.accelerator.num_processes
        # no two processes drop the same units
        torch.manual_seed(stream(recipe.seed, self._rank) if self._rank else recipe.seed)
        self._format = torch.channels_last if recipe.channels_last else torch.contiguous_format
        network = task.model.to(memory_format=self._format)
        self._restore_layers = use_fast_path(task) if device.type == "cpu" else _nothing
        self._restore_batch_norm = synchronised_batch_norm(task) if self._world > 1 else _nothing
        self.inner_optimizer = make_optimizer(
            parameter_groups(task, recipe.lr, recipe.part_lr),
            name=recipe.optimizer,
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            sam_rho=recipe.sam_rho,
        )
        self.schedule = Schedule(
            self.inner_optimizer,
            name=recipe.schedule,
            epochs=recipe.epochs,
            warmup=recipe.warmup_epochs,
            floor=recipe.lr_floor,
            drop=recipe.lr_drop,
            patience=recipe.plateau_patience,
            every=recipe.step_epochs,
        )
        self.model, self.optimizer = self.accelerator.prepare(task, self.inner_optimizer)
        self._average = averaged(network, recipe.ema_decay).to(device) if recipe.ema_decay else None
        self.judged = network if self._average is None else cast(FerModel, self._average.module)

        self._images = TrainingImages(train, augmentation(recipe.augmentation), seed=recipe.seed, target=recipe.target)
        self._chances = None if recipe.sampler == "shuffle" else class_balance(torch.as_tensor(train.labels))
        self._draws = Draws()
        self._loader = DataLoader(
            self._images,
            batch_sampler=self._draws,  # type: ignore[arg-type]
            collate_fn=as_it_is,  # type: ignore[arg-type]
            num_workers=recipe.workers,
            persistent_workers=recipe.workers > 0,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # its own: it would otherwise draw from the stream that dropout draws from
        )
        self._where = _Where()
        self._where.values["data"] = hashlib.blake2b(
            train.labels.tobytes() + train.sha256.encode(), digest_size=8
        ).hexdigest()
        self._resume(resume)
        self._best = Best(folder, recipe, self._where.history, task.criterion)
        self._reporter = Reporter(recipe.epochs, enabled=progress and self.accelerator.is_main_process)

    @property
    def epochs_done(self) -> float:
        """Epochs that lie behind, a fraction inside an epoch."""
        return self._now["epoch"] + self._now["step"] / self._epoch_batches.steps

    def is_over(self) -> bool:
        """Whether all epochs are done, or too many in a row brought no improvement."""
        patience = self._recipe.early_stopping
        return self._now["epoch"] >= self._recipe.epochs or (
            patience is not None and self._now["bad_epochs"] > patience
        )

    def begin_epoch(self) -> None:
        """Deal the batches of the next epoch, from where an interrupted one stopped.

        Raises OutOfTime if it would take too long.
        """
        if self._until is not None and too_late(self._until, self._where.history, self.accelerator):
            raise OutOfTime(f"stopped after {self._now['epoch']} of {self._recipe.epochs} epochs")
        self._began, self._before = time.perf_counter(), self._now["seconds"]
        self._epoch_batches = EpochBatches(
            len(self._images),
            self._recipe.batch_size,
            seed=self._recipe.seed,
            epoch=self._now["epoch"],
            start=self._now["step"],
            rank=self._rank,
            world=self._world,
            weights=self._chances,
        )
        self._draws.deal(self._epoch_batches, self._now["epoch"])
        self.model.train()

    def batches(self) -> Iterator[tuple[Tensor, Tensor, float]]:
        """Give what this process computes: prepared pictures (B, C, S, S), targets (B,) or (B, K),
        and the loss's share.

        DDP averages gradients over processes; the share makes that the mean over the global batch, however it was
        dealt.
        """
        device = self.accelerator.device
        for pictures, targets in self._loader:
            # (B, C, S, S)
            x = prepare_for(self._task.model, pictures.to(device, non_blocking=True)).contiguous(
                memory_format=self._format
            )
            whole = self._epoch_batches.whole[self._now["step"]]
            mass = (
                1.0
                if self._world == 1
                else self._world * _mass(self._task, targets) / _mass(self._task, self._images.targets[whole])
            )
            yield x, targets.to(device, non_blocking=True), mass

    def refuse_unless_finite(self, loss: Tensor) -> None:
        """Raise FloatingPointError for a loss that is not finite,
        before it reaches the weights (a GPU is asked now and then).
        """
        if loss.device.type != "cpu" and self._now["step"] % STEPS_BETWEEN_LOOKS:
            return
        if not torch.isfinite(loss):
            where = f"epoch {self._now['epoch'] + 1}, step {self._now['step'] + 1}"
            if self._where.history.rows:
                self._best.restore(self._task.model)
            raise FloatingPointError(f"the loss is {loss.item()} in {where}; try a smaller lr or grad_clip")

    def end_step(self, losses: dict[str, Tensor], logits: Tensor, targets: Tensor, share: float) -> None:
        """Add up what the step says, without waiting for the device, and write a checkpoint if one is due."""
        if self._average is not None:
            self._average.update_parameters(self._task.model)
        now, recipe = self._now, self._recipe
        truth = targets.argmax(1) if recipe.target == "votes" else targets
        images_here = share * len(self._epoch_batches.whole[now["step"]]) / self._world
        exact = torch.float32 if logits.device.type == "mps" else torch.float64
        terms = {name: loss.detach().to(exact) * images_here for name, loss in losses.items()}
        done = {
            "loss": torch.stack(list(terms.values())).sum(),
            "correct": (logits.detach().argmax(1) == truth).sum(),
            "seen": float(len(targets)),
        }
        if len(terms) > 1:
            done |= {f"{name} loss": term for name, term in terms.items()}
        now["sums"] = {name: now["sums"].get(name, 0.0) + amount for name, amount in done.items()}
        now["step"] += 1
        self._reporter.step(
            now["epoch"] + 1,
            now["step"],
            self._epoch_batches.steps,
            lambda: float(now["sums"]["loss"]) / now["sums"]["seen"],
        )
        if self._folder is not None and recipe.checkpoint_steps and now["step"] % recipe.checkpoint_steps == 0:
            now["seconds"] = self._before + time.perf_counter() - self._began
            total = self._total()
            # zeros, not nothing: if this was the epoch's last step, the processes add up once more
            now["sums"] = total if self.accelerator.is_main_process else dict.fromkeys(total, 0.0)
            save_checkpoint(self.accelerator, self._folder / "checkpoint", now["epoch"], now["step"])

    def end_epoch(self, scores: dict[str, float]) -> None:
        """Write down what the epoch brought: a row of the history, the best weights, a checkpoint,
        a line for the reader; tell the schedule.
        """
        now, sums = self._now, self._total()
        row = {
            "epoch": now["epoch"] + 1,
            "lr": self.inner_optimizer.param_groups[0]["lr"],
            "train_loss": sums["loss"] / sums["seen"],
            "train_accuracy": sums["correct"] / sums["seen"],
            **{
                f"train_{name.removesuffix(' loss')}": sums[name] / sums["seen"]
                for name in sums
                if name.endswith(" loss")
            },
            **scores,
            "seconds": self._before + time.perf_counter() - self._began,
        }
        self.schedule.after_epoch(row[self._recipe.select])
        improved = self._best.consider(self.judged, row, self.accelerator.is_main_process)
        self._where.history.rows.append(row)
        now.update(
            epoch=now["epoch"] + 1, step=0, sums={}, seconds=0.0, bad_epochs=0 if improved else now["bad_epochs"] + 1
        )
        self._reporter.epoch(row, self._best.value)
        if self._folder is not None:
            if self.accelerator.is_main_process:
                self._where.history.save(self._folder / "history.csv")
            save_checkpoint(self.accelerator, self._folder / "checkpoint", now["epoch"], 0)

    def finish(self) -> History:
        """Put the best weights into the network, take it out of accelerate's wrapping, and return the history."""
        self.optimizer.zero_grad()
        self.accelerator.wait_for_everyone()
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self._restore_batch_norm()
        self._restore_layers()
        self._best.restore(self._task.model)
        return self._where.history

    @property
    def _now(self) -> dict[str, Any]:
        return self._where.values

    def _resume(self, resume: bool) -> None:
        self.accelerator.register_for_checkpointing(
            *(s for s in (self._where, self.schedule, self._average) if s is not None)
        )
        if self._folder is None:
            return
        checkpoints = self._folder / "checkpoint"
        if not resume:
            if self.accelerator.is_main_process:
                shutil.rmtree(checkpoints, ignore_errors=True)
            self.accelerator.wait_for_everyone()
        elif (newest := newest_checkpoint(checkpoints)) is not None:
            data = self._now["data"]
            self.accelerator.load_state(str(newest))
            if self._now.get("data", data) != data:
                raise ValueError(
                    f"{checkpoints} was written while training on other data; give this run another name, or begin "
                    "anew (--no-resume, resume=False)"
                )
            if not self.accelerator.is_main_process:  # the sums in a checkpoint are those of all processes
                self._now["sums"] = dict.fromkeys(self._now["sums"], 0.0)

    def _total(self) -> dict[str, float]:
        """Losses, correct answers and images seen in this epoch, over all processes."""
        sums = {name: float(amount) for name, amount in self._now["sums"].items()}
        if self._world == 1:
            return sums
        mine = torch.tensor(list(sums.values()), dtype=torch.float64, device=self.accelerator.device)
        return dict(zip(sums, self.accelerator.reduce(mine, "sum").tolist(), strict=True))


def too_late(until: float, history: History, accelerator: Accelerator) -> bool:
    """Whether an epoch as long as the last one would end after `until`; processes decide together,
    since their clocks differ.
    """
    late = time.monotonic() + (history.rows[-1]["seconds"] if history.rows else 0.0) > until
    if accelerator.num_processes == 1:
        return late
    return bool(accelerator.reduce(torch.tensor(float(late), device=accelerator.device), "sum").item())


def _mass(task: Task, targets: Tensor) -> float:
    """What the mean loss of a batch divides by: the number of images or, in a weighted cross entropy,
    their weights' sum.
    """
    weight = next((m.weight for m in task.criterion.modules() if isinstance(m, nn.CrossEntropyLoss)), None)
    return float(len(targets)) if weight is None or targets.ndim > 1 else weight.cpu()[targets.cpu()].sum().item()


def _nothing() -> None:
    return None
