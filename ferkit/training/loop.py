"""One visible training loop on accelerate: the same on a laptop, a GPU, or many of them."""

from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from ferkit.data.faceset import FaceSet
from ferkit.evaluation.metrics import scores_of_confusion
from ferkit.models import FerModel
from ferkit.predict import predict_logits
from ferkit.training.history import History
from ferkit.training.optim import SAM, frozen_statistics
from ferkit.training.recipe import Recipe
from ferkit.training.session import Session
from ferkit.training.task import Task


def fit(
    task: Task,
    train: FaceSet,
    validation: FaceSet,
    recipe: Recipe,
    *,
    folder: Path | None = None,
    resume: bool = True,
    progress: bool = True,
    until: float | None = None,
) -> History:
    """Train a network; afterwards it holds the weights of its best epoch, and is on the device it was trained on.

    Args:
        task: network and criterion.
        train, validation: images; the test split is no business of training.
        recipe: what to do. Its seed decides order, augmentation and dropout, whatever was drawn before.
        folder: where history.csv, best.safetensors and checkpoint/ go; None keeps all in memory.
        resume: go on from the newest complete checkpoint in `folder`, if there is one. On a CPU, with the same number
            of threads and processes, the result is bit for bit that of a training that was never interrupted. False
            removes the checkpoints of an earlier training.
        progress: report epochs.
        until: when to stop, as `time.monotonic()` counts: no epoch begins that would end later, as long as the last one
            was.

    Returns:
        The history: epoch, lr, train_loss (what is minimised), train_accuracy (while learning, augmented), val_loss
        (mean cross entropy in nats), val_accuracy, val_macro_f1, val_balanced_accuracy, seconds.

    Raises:
        ValueError: a recipe or a network that does not fit the data.
        FloatingPointError: the loss is no longer finite; the network then holds the weights of its best epoch so far.
        OutOfTime: the time until `until` is too short for the next epoch; the checkpoint has all before it.

    """
    session = Session(task, train, validation, recipe, folder=folder, resume=resume, progress=progress, until=until)
    accelerator, model, optimizer = session.accelerator, session.model, session.optimizer
    while not session.is_over():
        session.begin_epoch()
        # (B, C, S, S), (B,) or (B, K); share: of the global batch's mean loss
        for x, targets, share in session.batches():
            session.schedule.before_step(session.epochs_done)
            losses, logits = model(x, targets)  # by name, (B, K)
            loss = torch.stack(list(losses.values())).sum()
            session.refuse_unless_finite(loss)
            accelerator.backward(loss * share)
            if isinstance(session.inner_optimizer, SAM):  # a second gradient, at the worst place nearby
                session.inner_optimizer.ascend()
                optimizer.zero_grad()
                with frozen_statistics(task):
                    accelerator.backward(torch.stack(list(model(x, targets)[0].values())).sum() * share)
            if recipe.grad_clip:
                accelerator.clip_grad_norm_(task.parameters(), recipe.grad_clip)
            optimizer.step()
            optimizer.zero_grad()
            session.end_step(losses, logits, targets, share)
        scores = validate(session.judged, validation, accelerator, batch_size=max(64, recipe.batch_size))
        session.end_epoch(scores)  # one more row of the history, the schedule told, the best weights kept, a checkpoint
    return session.finish()


def validate(model: FerModel, faces: FaceSet, accelerator: Accelerator, *, batch_size: int) -> dict[str, float]:
    """Return cross entropy and scores on a set of faces, in the training's precision; processes share the work."""
    mine = np.arange(accelerator.process_index, len(faces), accelerator.num_processes)
    k = len(faces.names)
    logits = torch.zeros(len(faces), k, dtype=torch.float64)
    if len(mine):
        with accelerator.autocast():
            logits[mine] = predict_logits(model, faces.images[mine], batch_size=batch_size).double()
    if accelerator.num_processes > 1:
        logits = accelerator.reduce(logits.to(accelerator.device), "sum").cpu()  # (N, K)
    labels = torch.as_tensor(faces.labels)
    confusion = torch.bincount(labels * k + logits.argmax(1), minlength=k * k).reshape(k, k).numpy()
    scores = {f"val_{name}": float(value) for name, value in scores_of_confusion(confusion).items()}
    return {"val_loss": nn.functional.cross_entropy(logits, labels).item(), **scores}
