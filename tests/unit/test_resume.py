"""A training that is killed and started again is bit for bit the training that was not.

Every feature with a memory is in play: momentum, averaged weights, the plateau schedule, all dropouts, augmentation,
early stopping. The killed processes are real ones, killed by SIGKILL at chosen places.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ferkit.models import create_model
from ferkit.training import fit, make_task
from ferkit.training.checkpoints import complete_checkpoints, newest_checkpoint
from ferkit.training.history import History
from ferkit.training.recipe import Recipe
from tests.unit.children import child_process, run_children
from tests.unit.small_faces import NAMES, small_faces

RECIPE = Recipe(
    name="run",
    width=1 / 16,
    image_size=24,
    epochs=4,
    batch_size=16,
    lr=0.05,
    augmentation="mild_erasing",
    ema_decay=0.8,
    schedule="plateau",
    plateau_patience=0,
    grad_clip=2.0,
    label_smoothing=0.1,
    class_weight="balanced",
    early_stopping=3,
    seed=3,
)  # the released head: two dropouts of 0.2 and three of 0.5
STEPS = 5


def train(folder: Path, recipe: Recipe = RECIPE) -> History:
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    model = create_model("resemotenet", width=recipe.width, labels=NAMES, **recipe.model_options)
    model.input_size = recipe.image_size
    faces, validation = small_faces(STEPS * 16 - 3), small_faces(30, seed=1, split="validation")
    return fit(make_task(model, recipe, faces.counts()), faces, validation, recipe, folder=folder, progress=False)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# --- where a process dies: each sets a trap and is called in the process that is to die -------------------------------


def in_epoch(epoch: int, step: int) -> None:
    """After a step of an epoch; a checkpoint of that step is not yet written."""
    from ferkit.training.progress import Reporter

    Reporter.step = lambda _self, e, s, _steps, _loss: die() if (e, s) == (epoch, step) else None


def in_save(nth: int) -> None:
    """Inside the nth save: some files are whole, one is half, one is missing."""
    from accelerate import Accelerator

    save, calls = Accelerator.save_state, []

    def half(self: Accelerator, folder: str) -> None:
        save(self, folder)
        calls.append(folder)
        if len(calls) == nth:
            (Path(folder) / "optimizer.bin").unlink()
            weights = Path(folder) / "model.safetensors"
            weights.write_bytes(weights.read_bytes()[:1000])
            die()

    Accelerator.save_state = half


def before_save(nth: int) -> None:
    """Between the nth best.safetensors and history.csv and the checkpoint that belongs to them."""
    from ferkit.training import session as module

    save, calls = module.save_checkpoint, []

    def late(*args: object) -> None:
        calls.append(args)
        die() if len(calls) == nth else save(*args)

    module.save_checkpoint = late


def in_best(nth: int) -> None:
    """Inside the nth writing of best.safetensors."""
    from ferkit.models import registry

    save, calls = registry.save_file, []

    def half(state: dict, file: Path, **options: object) -> None:
        calls.append(file)
        save(state, file, **options)
        if len(calls) == nth:
            file.write_bytes(file.read_bytes()[:100])
            die()

    registry.save_file = half


def after_save(nth: int) -> None:
    """After the nth checkpoint is complete, before the older one is gone."""
    import shutil

    remove, calls = shutil.rmtree, []

    def late(folder: Path, **options: object) -> None:
        if Path(folder).name[0].isdigit() and Path(folder).is_dir():
            calls.append(folder)
            if len(calls) == nth:
                die()
        remove(folder, **options)

    shutil.rmtree = late


def slowly() -> None:
    """Nowhere, but slow enough for somebody else to kill it."""
    from ferkit.training.progress import Reporter

    Reporter.step = lambda *_: time.sleep(0.1)


def trapped(trap: Callable[..., None] | None, where: tuple[int, ...], folder: Path, recipe: Recipe) -> None:
    if trap is not None:
        trap(*where)
    train(folder, recipe)


def run(
    folder: Path, recipe: Recipe = RECIPE, trap: Callable[..., None] | None = None, where: tuple[int, ...] = ()
) -> None:
    code = run_children(trapped, trap, where, folder, recipe)
    assert code == [-signal.SIGKILL if trap else 0], "the process was to " + ("be killed" if trap else "finish")


def everything(folder: Path) -> dict[str, object]:
    """What a finished training leaves: history, best weights, and the last checkpoint with optimiser and averages."""
    (last,) = complete_checkpoints(folder / "checkpoint")
    history = History.read(folder / "history.csv")
    optimizer = torch.load(last / "optimizer.bin", weights_only=True)
    average = [torch.load(f, weights_only=True) for f in sorted(last.glob("custom_checkpoint_*.pkl"))]
    return {
        "last": last.name,
        "history": [{k: v for k, v in row.items() if k != "seconds"} for row in history.rows],
        "best": (folder / "best.safetensors").read_bytes(),
        "weights": (last / "model.safetensors").read_bytes(),
        "momentum": [v["momentum_buffer"] for v in optimizer["state"].values()],
        "average": [v for state in average for v in state.values() if isinstance(v, torch.Tensor)],
    }


def assert_equal(found: dict[str, object], expected: dict[str, object]) -> None:
    for key in ("last", "history", "best", "weights"):
        assert found[key] == expected[key], key
    for key in ("momentum", "average"):
        assert len(found[key]) == len(expected[key]) > 10
        assert all(torch.equal(a, b) for a, b in zip(found[key], expected[key], strict=True)), key


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    run(folder)
    found = everything(folder)
    rates = [row["lr"] for row in found["history"]]
    assert len(set(rates)) > 1, "the plateau schedule is to act in this training"
    return found


def test_a_training_repeats_itself_at_all(unbroken, tmp_path):
    run(tmp_path / "run")
    assert_equal(everything(tmp_path / "run"), unbroken)


@pytest.mark.parametrize(
    ("trap", "where", "steps", "left"),
    [
        (in_epoch, (1, 2), 0, []),
        (in_epoch, (3, 4), 0, ["00002-0000000"]),
        (in_save, (2,), 0, ["00001-0000000"]),
        (before_save, (2,), 0, ["00001-0000000"]),
        (in_best, (1,), 0, []),
        (after_save, (2,), 0, ["00002-0000000", "00003-0000000"]),
        (in_epoch, (2, 5), 2, ["00001-0000004"]),
        (in_epoch, (4, 3), 1, ["00003-0000002"]),
        (in_save, (5,), 2, ["00001-0000002"]),
        (before_save, (4,), 5, ["00001-0000005"]),  # all steps of the epoch are done, its validation is not
    ],
)
def test_killed_and_resumed_is_unbroken(unbroken, tmp_path, trap, where, steps, left):
    folder = tmp_path / "run"
    recipe = RECIPE.overlay({"checkpoint_steps": steps})
    run(folder, recipe, trap, where)
    assert [p.name for p in complete_checkpoints(folder / "checkpoint")] == left
    assert (folder / "checkpoint" / ".partial").exists() == (trap is in_save)
    run(folder, recipe)
    assert_equal(everything(folder), unbroken)
    assert not (folder / "checkpoint" / ".partial").exists()


def test_killed_again_and_again(unbroken, tmp_path):
    folder = tmp_path / "run"
    recipe = RECIPE.overlay({"checkpoint_steps": 2})
    for trap, where in (
        (in_epoch, (1, 3)),
        (in_save, (1,)),
        (in_epoch, (2, 4)),
        (before_save, (3,)),
        (in_epoch, (4, 5)),
    ):
        run(folder, recipe, trap, where)
    run(folder, recipe)
    assert_equal(everything(folder), unbroken)


def test_killed_from_outside(unbroken, tmp_path):
    """The process is killed at whatever it is doing when its first checkpoint appears."""
    folder = tmp_path / "run"
    child = child_process(trapped, slowly, (), folder, RECIPE)
    child.start()
    deadline = time.monotonic() + 120
    while newest_checkpoint(folder / "checkpoint") is None and time.monotonic() < deadline:
        time.sleep(0.005)
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    run(folder)
    assert_equal(everything(folder), unbroken)


def test_the_comparison_notices_a_lost_state(unbroken, tmp_path):
    """A resume that forgot the averaged weights, the momentum or the random numbers would be caught."""
    folder = tmp_path / "run"
    run(folder, RECIPE, in_epoch, (3, 1))
    checkpoint = newest_checkpoint(folder / "checkpoint")
    (random_states,) = checkpoint.glob("random_states_*.pkl")
    states = torch.load(random_states, weights_only=False)
    states["torch_manual_seed"] = torch.Generator().manual_seed(99).get_state()
    torch.save(states, random_states)
    run(folder)
    found = everything(folder)
    assert found["history"][:2] == unbroken["history"][:2]
    assert found["history"][2] != unbroken["history"][2]


def test_a_finished_training_is_not_trained_again(unbroken, tmp_path):
    folder = tmp_path / "run"
    run(folder)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    run(folder)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()} == before
    assert_equal(everything(folder), unbroken)


def test_leftovers_are_no_checkpoints(tmp_path):
    for name in (".partial", "00001-0000000", "00002-0000000", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "00009-0000000").write_text("a file")
    assert [p.name for p in complete_checkpoints(tmp_path)] == ["00001-0000000", "00002-0000000"]
    assert newest_checkpoint(tmp_path) == tmp_path / "00002-0000000"
    assert newest_checkpoint(tmp_path / "nowhere") is None
