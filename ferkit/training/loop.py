"""One visible training loop on accelerate: the same on a laptop, a GPU, or many of them."""

import hashlib
import shutil
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ferkit.data.faceset import FaceSet
from ferkit.data.transforms import augmentation
from ferkit.evaluation.metrics import scores_of_confusion
from ferkit.models import FerModel, save_state, save_weights
from ferkit.predict import predict_logits, prepare_for
from ferkit.training.batches import EpochBatches, TrainingImages, class_balance, stream
from ferkit.training.checkpoints import newest_checkpoint, save_checkpoint
from ferkit.training.distributed import synchronised_batch_norm
from ferkit.training.history import History
from ferkit.training.optim import SAM, Schedule, averaged, make_optimizer, parameter_groups
from ferkit.training.precision import refuse_broken_bf16
from ferkit.training.progress import Reporter
from ferkit.training.recipe import Recipe
from ferkit.training.task import Task, make_task

__all__ = ["Task", "fit", "make_accelerator", "make_task", "validate"]


class _Progress:
    """Where a training is; goes into the checkpoint beside weights, optimiser, schedule and random states."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"epoch": 0, "step": 0, "bad_epochs": 0, "seconds": 0.0, "sums": {}}
        self.history = History()

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values, "rows": self.history.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.values, self.history.rows = state["values"], state["rows"]


def make_accelerator(recipe: Recipe) -> Accelerator:
    """An Accelerator of the recipe's precision; unlike accelerate's own, it may differ from an earlier one in a notebook."""
    AcceleratorState._reset_state(reset_partial_state=False)
    # On a machine without GPUs several processes find each other only if told that the CPU is meant.
    return Accelerator(mixed_precision=recipe.precision, cpu=not torch.accelerator.is_available())


def fit(
    task: Task,
    train: FaceSet,
    validation: FaceSet,
    recipe: Recipe,
    *,
    folder: Path | None = None,
    resume: bool = True,
    progress: bool = True,
    accelerator: Accelerator | None = None,
) -> History:
    """Train a network; afterwards it holds the weights of its best epoch, and is on the device it was trained on.

    Args:
        task: network and criterion.
        train, validation: images; the test split is no business of training.
        recipe: what to do.
        folder: where history.csv, best.safetensors and checkpoint/ go; None keeps all in memory.
        resume: go on from the newest complete checkpoint in `folder`, if there is one. On a CPU, with the same number
            of threads and processes, the result is bit for bit that of a training that was never interrupted. False
            removes the checkpoints of an earlier training.
        progress: report epochs.
        accelerator: an existing one; default made from the recipe.

    Returns:
        The history: epoch, lr, train_loss (what is minimised), train_accuracy (while learning, augmented), val_loss (mean
        cross entropy in nats), val_accuracy, val_macro_f1, val_balanced_accuracy, seconds.

    Raises:
        ValueError: a recipe or a network that does not fit the data.
        FloatingPointError: the loss is no longer finite.

    """
    for faces in (train, validation):
        if tuple(faces.names) != tuple(task.model.labels):
            raise ValueError(
                f"the network's logits mean {', '.join(task.model.labels) or 'nothing yet'}; the {faces.name} labels mean "
                f"{', '.join(faces.names)}: build it with create_model(..., num_classes={len(faces.names)}, labels=train.names)"
            )
    accelerator = accelerator or make_accelerator(recipe)
    accelerator.free_memory()  # one that served another training still holds what that one prepared
    accelerator._custom_objects.clear()
    device, rank, world = accelerator.device, accelerator.process_index, accelerator.num_processes
    if recipe.precision == "bf16":
        refuse_broken_bf16(task.model, device)
    memory_format = torch.channels_last if recipe.channels_last else torch.contiguous_format
    model = task.model.to(memory_format=memory_format)
    restore_batch_norm = synchronised_batch_norm(task) if world > 1 else _nothing
    optimizer = make_optimizer(
        parameter_groups(task, recipe.lr, recipe.lr_factors),
        name=recipe.optimizer,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        sam_rho=recipe.sam_rho,
    )
    schedule = Schedule(
        optimizer,
        name=recipe.schedule,
        epochs=recipe.epochs,
        warmup=recipe.warmup_epochs,
        floor=recipe.lr_floor,
        factor=recipe.lr_factor,
        patience=recipe.plateau_patience,
        every=recipe.step_epochs,
    )
    wrapped, wrapped_optimizer = accelerator.prepare(task, optimizer)
    average = averaged(model, recipe.ema_decay).to(device) if recipe.ema_decay else None
    state = _Progress()
    data = hashlib.blake2b(train.labels.tobytes() + train.sha256.encode(), digest_size=8).hexdigest()
    state.values["data"] = data
    accelerator.register_for_checkpointing(*(s for s in (state, schedule, average) if s is not None))
    checkpoints = None if folder is None else folder / "checkpoint"
    if rank:  # every process was seeded alike; without this each would drop the same units
        torch.manual_seed(stream(recipe.seed, rank))
    if checkpoints is not None and not resume:
        if accelerator.is_main_process:
            shutil.rmtree(checkpoints, ignore_errors=True)
        accelerator.wait_for_everyone()
    if checkpoints is not None and resume:
        newest = newest_checkpoint(checkpoints)
        if newest is not None:
            accelerator.load_state(str(newest))
            if state.values.get("data", data) != data:
                raise ValueError(f"{checkpoints} was written while training on other data; give this run another name, or pass resume=False")
            if not accelerator.is_main_process:  # the sums in a checkpoint are those of all processes
                state.values["sums"] = dict.fromkeys(state.values["sums"], 0.0)
    images = TrainingImages(train, augmentation(recipe.augmentation), seed=recipe.seed, target=recipe.target)
    chances = None if recipe.sampler == "shuffle" else class_balance(torch.as_tensor(train.labels))
    history, now = state.history, state.values
    best = _Best(folder, recipe.select, history, task.criterion)
    reporter = Reporter(recipe.epochs, enabled=progress and accelerator.is_main_process)
    soft_targets = recipe.target == "votes"

    while now["epoch"] < recipe.epochs and not _tired(now["bad_epochs"], recipe.early_stopping):
        epoch, began, before = now["epoch"], time.perf_counter(), now["seconds"]
        images.epoch = epoch
        batches = EpochBatches(len(images), recipe.batch_size, seed=recipe.seed, epoch=epoch, start=now["step"], rank=rank, world=world, weights=chances)
        # A generator of its own: the loader would otherwise draw from the stream that dropout draws from.
        loader = DataLoader(images, batch_sampler=batches, num_workers=recipe.workers, generator=torch.Generator())  # type: ignore[arg-type]
        wrapped.train()
        for pictures, targets in loader:
            x = prepare_for(model, pictures.to(device)).contiguous(memory_format=memory_format)  # (B, C, S, S)
            targets = targets.to(device)
            # DDP averages gradients over processes; this makes it the mean over the global batch, however it was dealt.
            whole = batches.whole[now["step"]]
            share = 1.0 if world == 1 else world * _mass(task, targets) / _mass(task, images.targets[whole])
            schedule.before_step(epoch + now["step"] / batches.steps)

            losses, logits = _backward(wrapped, x, targets, share, accelerator)
            if recipe.sam_rho and isinstance(optimizer, SAM):
                optimizer.ascend()
                wrapped_optimizer.zero_grad()
                _backward(wrapped, x, targets, share, accelerator)
            if recipe.grad_clip:
                accelerator.clip_grad_norm_(task.parameters(), recipe.grad_clip)
            wrapped_optimizer.step()
            wrapped_optimizer.zero_grad()
            if average is not None:
                average.update_parameters(model)

            truth = targets.argmax(1) if soft_targets else targets
            value = sum(float(loss) for loss in losses.values())
            if not np.isfinite(value):
                raise FloatingPointError(f"the loss is {value} in epoch {epoch + 1}, step {now['step'] + 1}; try a smaller lr or grad_clip")
            images_here = share * len(whole) / world
            done = {f"{name} loss": float(term) * images_here for name, term in losses.items()} if len(losses) > 1 else {}
            done |= {"loss": value * images_here, "correct": (logits.argmax(1) == truth).sum().item(), "seen": float(len(targets))}
            now["sums"] = {name: now["sums"].get(name, 0.0) + amount for name, amount in done.items()}
            now["step"] += 1
            reporter.step(epoch + 1, now["step"], batches.steps, now["sums"]["loss"] / now["sums"]["seen"])
            if checkpoints is not None and recipe.checkpoint_steps and now["step"] % recipe.checkpoint_steps == 0:
                now["seconds"] = before + time.perf_counter() - began
                total = _total(now["sums"], accelerator)
                # zeros, not nothing: if this was the epoch's last step, the processes add up once more
                now["sums"] = total if accelerator.is_main_process else dict.fromkeys(total, 0.0)
                save_checkpoint(accelerator, checkpoints, epoch, now["step"])

        judged = cast(FerModel, average.module) if average is not None else model
        sums = _total(now["sums"], accelerator)
        row = {
            "epoch": epoch + 1,
            "lr": optimizer.param_groups[0]["lr"],
            "train_loss": sums["loss"] / sums["seen"],
            "train_accuracy": sums["correct"] / sums["seen"],
            **{f"train_{name.removesuffix(' loss')}": sums[name] / sums["seen"] for name in sums if name.endswith(" loss")},
            **validate(judged, validation, accelerator, batch_size=max(64, recipe.batch_size)),
        }
        schedule.after_epoch(row[recipe.select])
        row["seconds"] = before + time.perf_counter() - began
        improved = best.consider(judged, row, accelerator.is_main_process)
        history.rows.append(row)
        now.update(epoch=epoch + 1, step=0, sums={}, seconds=0.0, bad_epochs=0 if improved else now["bad_epochs"] + 1)
        reporter.epoch(row, best.value)
        if folder is not None:
            if accelerator.is_main_process:
                history.save(folder / "history.csv")
            save_checkpoint(accelerator, folder / "checkpoint", epoch + 1, 0)

    wrapped_optimizer.zero_grad()
    accelerator.wait_for_everyone()
    accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
    restore_batch_norm()
    best.restore(model)
    return history


def _backward(wrapped: nn.Module, x: Tensor, targets: Tensor, share: float, accelerator: Accelerator) -> tuple[dict[str, Tensor], Tensor]:
    losses, logits = wrapped(x, targets)
    accelerator.backward(torch.stack(list(losses.values())).sum() * share)
    return {name: loss.detach() for name, loss in losses.items()}, logits.detach()


def _mass(task: Task, targets: Tensor) -> float:
    """What the mean loss of a batch divides by: the number of images or, in a weighted cross entropy, their weights' sum."""
    weight = next((m.weight for m in task.criterion.modules() if isinstance(m, nn.CrossEntropyLoss)), None)
    return float(len(targets)) if weight is None or targets.ndim > 1 else weight.cpu()[targets.cpu()].sum().item()


def _total(sums: dict[str, float], accelerator: Accelerator) -> dict[str, float]:
    """Losses, correct answers and images seen in this epoch, over all processes."""
    if accelerator.num_processes == 1:  # float64 below is more than some single devices (mps) know
        return sums
    mine = torch.tensor(list(sums.values()), dtype=torch.float64, device=accelerator.device)
    return dict(zip(sums, accelerator.reduce(mine, "sum").tolist(), strict=True))


def _tired(bad_epochs: int, patience: int | None) -> bool:
    return patience is not None and bad_epochs > patience


def _nothing() -> None:
    return None


def validate(model: FerModel, faces: FaceSet, accelerator: Accelerator, *, batch_size: int) -> dict[str, float]:
    """Cross entropy and scores on a set of faces; processes share the work."""
    mine = np.arange(accelerator.process_index, len(faces), accelerator.num_processes)
    k = len(faces.names)
    logits = torch.zeros(len(faces), k, dtype=torch.float64)
    if len(mine):
        logits[mine] = predict_logits(model, faces.images[mine], batch_size=batch_size).double()
    if accelerator.num_processes > 1:
        logits = accelerator.reduce(logits.to(accelerator.device), "sum").cpu()  # (N, K)
    labels = torch.as_tensor(faces.labels)
    confusion = torch.bincount(labels * k + logits.argmax(1), minlength=k * k).reshape(k, k).numpy()
    scores = {f"val_{name}": float(value) for name, value in scores_of_confusion(confusion).items()}
    return {"val_loss": nn.functional.cross_entropy(logits, labels).item(), **scores}


class _Best:
    """Keeps the weights of the best epoch so far: on disk if there is a folder, in memory if not."""

    def __init__(self, folder: Path | None, select: str, history: History, criterion: nn.Module) -> None:
        self.file = None if folder is None else folder / "best.safetensors"
        # Centres, trained or fixed, of the same epoch: what the loss itself holds, so that a run can be looked at afterwards.
        self.criterion = criterion if criterion.state_dict() else None
        self.select = select
        self.value = max(history.column(select), default=float("-inf")) if history.rows else float("-inf")
        self.state: dict[str, Tensor] = {}

    def consider(self, model: FerModel, row: dict[str, float], is_main: bool) -> bool:
        """Keep the weights if the row is strictly better than every one before."""
        if row[self.select] <= self.value:
            return False
        self.value = row[self.select]
        if self.file is None:
            self.state = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
        elif is_main:
            save_weights(model, self.file, weights=self.file.parent.name)
            if self.criterion is not None:
                save_state(self.criterion, self.file.with_name("criterion.safetensors"))
        return True

    def restore(self, model: FerModel) -> None:
        """Put the best weights into the network."""
        state = self.state if self.file is None else load_file(self.file)
        model.load_state_dict(state)
