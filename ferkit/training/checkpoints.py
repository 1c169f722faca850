"""Checkpoints that are complete or absent: what a kill in the middle of a save leaves behind is never read."""

import os
import shutil
from pathlib import Path

from accelerate import Accelerator


def save_checkpoint(accelerator: Accelerator, folder: Path, epoch: int, step: int) -> None:
    """Write a checkpoint under a name that exists only once it is complete; older ones go afterwards."""
    final, partial = folder / f"{epoch:05d}-{step:07d}", folder / ".partial"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        for old in complete_checkpoints(folder):
            if old != final:
                shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()


def complete_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first; a write that was cut off is not among them."""
    return sorted(p for p in folder.glob("[0-9]*-[0-9]*") if p.is_dir())


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint to go on from, if any."""
    return next(reversed(complete_checkpoints(folder)), None)
