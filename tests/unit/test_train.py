"""fit(): what it computes, keeps and reports.

Interruptions are in test_resume.py, several processes in test_distributed.py.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ferkit.data import FaceSet
from ferkit.evaluation.metrics import evaluate
from ferkit.models import FerModel, create_model
from ferkit.predict import predict_logits, predict_probabilities, prepare_for
from ferkit.training import Recipe, Task, fit, make_accelerator, make_task, validate
from ferkit.training.batches import EpochBatches
from ferkit.training.checkpoints import complete_checkpoints
from ferkit.training.history import History
from tests.unit.small_faces import NAMES, small_faces

RECIPE = Recipe(
    name="small",
    width=1 / 16,
    model_options={"head": "linear", "stem_dropout": 0.0},
    image_size=24,
    epochs=3,
    batch_size=32,
    lr=0.05,
    weight_decay=5e-4,
)
TRAIN, VALIDATION = small_faces(150), small_faces(70, seed=1, split="validation")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(recipe: Recipe = RECIPE, names: tuple[str, ...] = NAMES) -> FerModel:
    torch.manual_seed(recipe.seed)
    model = create_model(recipe.model, width=recipe.width, num_classes=len(names), labels=names, **recipe.model_options)
    model.input_size = recipe.image_size
    return model


# torch 2.14 on CPUs with AVX512-BF16 gives garbage for the weights of a strided 3x3 convolution of a 1x1 map in
# bfloat16; from 40 px on the last block's map is larger.
BF16 = {"precision": "bf16", "image_size": 40}


def trained(recipe: Recipe = RECIPE, train: FaceSet = TRAIN, **options) -> tuple[FerModel, History]:
    model = network(recipe)
    return model, fit(make_task(model, recipe, train.counts()), train, VALIDATION, recipe, progress=False, **options)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([v.detach().double().flatten() for v in model.state_dict().values()])


def without_seconds(history: History) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history.rows]


def test_it_learns_and_says_how():
    recipe = RECIPE.overlay({"epochs": 8, "schedule": "cosine", "augmentation": "resemotenet"})
    model, history = trained(recipe)
    assert [row["epoch"] for row in history.rows] == list(range(1, 9))
    assert list(history.rows[0]) == [
        "epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_macro_f1",
        "val_balanced_accuracy", "seconds",
    ]  # fmt: skip
    assert max(history.column("val_accuracy")) > 0.8
    assert history.column("train_loss")[-1] < 0.5 * history.column("train_loss")[0]
    assert history.column("lr")[0] > history.column("lr")[-1] > 0
    assert all(s > 0 for s in history.column("seconds"))
    right = predict_probabilities(model, VALIDATION.images).argmax(1) == VALIDATION.labels
    assert right.mean() == max(history.column("val_accuracy"))


def test_fit_is_the_plain_loop():
    """The loop that anybody would write in PyTorch, on the same batches, gives the same weights and the same figures.
    """
    recipe = RECIPE.overlay(
        {
            "class_weight": "balanced",
            "label_smoothing": 0.1,
            "nesterov": True,
            "schedule": "cosine",
            "warmup_epochs": 0.5,
        }
    )
    model = network(recipe)
    n = np.array(list(TRAIN.counts().values()))
    loss_of = nn.CrossEntropyLoss(weight=torch.tensor(n.sum() / (7 * n), dtype=torch.float32), label_smoothing=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
    losses, accuracies, states = [], [], []
    for epoch in range(recipe.epochs):
        model.train()
        total = right = seen = 0.0
        batches = EpochBatches(len(TRAIN), recipe.batch_size, seed=recipe.seed, epoch=epoch)
        for step, rows in enumerate(batches):
            progress = epoch + step / len(batches)
            lr = recipe.lr * (
                progress / 0.5
                if progress < 0.5
                else 0.5 * (1 + np.cos(np.pi * (progress - 0.5) / (recipe.epochs - 0.5)))
            )
            optimizer.param_groups[0]["lr"] = float(lr)
            targets = torch.from_numpy(TRAIN.labels[rows])
            logits = model(prepare_for(model, TRAIN.images[rows]))
            loss = loss_of(logits, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
            right += (logits.argmax(1) == targets).sum().item()
            seen += len(rows)
        losses.append(total / seen)
        accuracies.append(right / seen)
        states.append(weights(model))
    fitted, history = trained(recipe)
    assert history.column("train_loss") == pytest.approx(losses, rel=1e-6)
    assert history.column("train_accuracy") == accuracies
    assert torch.allclose(weights(fitted), states[history.best("val_accuracy")], atol=1e-6)


def test_validation_figures_are_those_of_evaluate():
    model = network()
    found = validate(model, VALIDATION, make_accelerator(), batch_size=16)
    expected = evaluate(predict_probabilities(model, VALIDATION.images), VALIDATION.labels, NAMES, n_bootstrap=2)
    assert found["val_accuracy"] == expected["accuracy"]
    assert found["val_macro_f1"] == pytest.approx(expected["macro_f1"])
    assert found["val_balanced_accuracy"] == pytest.approx(expected["balanced_accuracy"])
    assert found["val_loss"] == pytest.approx(expected["cross_entropy"], rel=1e-5)


def test_same_seed_same_training_bit_for_bit():
    recipe = RECIPE.overlay({"augmentation": "mild_erasing", "model_options": {}, "epochs": 2})  # with all dropouts
    (one, first), (two, second) = trained(recipe), trained(recipe)
    assert without_seconds(first) == without_seconds(second)
    assert torch.equal(weights(one), weights(two))
    other, third = trained(recipe.overlay({"seed": 1}))
    assert not torch.equal(weights(one), weights(other))


def test_workers_change_nothing():
    recipe = RECIPE.overlay({"augmentation": "mild", "model_options": {}, "epochs": 2})
    (one, first), (two, second) = trained(recipe), trained(recipe.overlay({"workers": 1}))
    assert without_seconds(first) == without_seconds(second)
    assert torch.equal(weights(one), weights(two))


def scripted(monkeypatch: pytest.MonkeyPatch, values: list[float], column: str = "val_accuracy") -> list[Tensor]:
    """Let validation find these values, epoch by epoch; returns the weights that were validated."""
    seen: list[Tensor] = []

    def validated(model: FerModel, faces: FaceSet, *args: object, **options: int) -> dict[str, float]:
        seen.append(weights(model))
        return {**validate(model, faces, *args, **options), column: values[len(seen) - 1]}

    monkeypatch.setattr("ferkit.training.loop.validate", validated)
    return seen


def test_the_best_epoch_is_kept_on_disk_and_in_memory(tmp_path, monkeypatch):
    values = [0.2, 0.1, 0.9, 0.4, 0.9]  # the first of equals
    recipe = RECIPE.overlay({"epochs": 5})
    seen = scripted(monkeypatch, values)
    in_memory, history = trained(recipe)
    assert torch.equal(weights(in_memory), seen[2]) and not torch.equal(seen[2], seen[4])
    scripted(monkeypatch, values)
    on_disk, again = trained(recipe, folder=tmp_path / "run")
    assert without_seconds(history) == without_seconds(again)
    assert torch.equal(weights(on_disk), seen[2])
    back = create_model("resemotenet", weights=tmp_path / "run" / "best.safetensors")
    assert torch.equal(weights(back), seen[2]) and back.labels == NAMES and back.input_size == 24
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["best.safetensors", "checkpoint", "history.csv"]
    assert [p.name for p in (tmp_path / "run" / "checkpoint").iterdir()] == ["00005-0000000"]
    assert History.read(tmp_path / "run" / "history.csv").rows == again.rows


def test_of_equal_epochs_the_last_is_kept_where_the_recipe_says_so(tmp_path, monkeypatch):
    """As the released ESR code does, whose comparison is >=; patience counts improvements all the same."""
    values = [0.2, 0.9, 0.9, 0.4, 0.9, 0.1]
    recipe = RECIPE.overlay({"epochs": 6, "equal_epochs": "last", "early_stopping": 3})
    for options in ({}, {"folder": tmp_path / "run"}):
        seen = scripted(monkeypatch, values)
        model, history = trained(recipe, **options)
        assert (
            len(history.rows) == 6
            and history.best("val_accuracy", last=True) == 4
            and history.best("val_accuracy") == 1
        )
        assert torch.equal(weights(model), seen[4])


def test_by_hand_the_seed_decides_everything():
    """Weights from `create_model`, and then `fit`, whatever was drawn before."""
    recipe = RECIPE.overlay({"augmentation": "mild", "model_options": {}, "epochs": 1, "seed": 3})
    results = []
    for _ in range(2):
        model = network(recipe)
        torch.randn(len(results) * 5 + 1)  # what else a notebook draws in between
        fit(make_task(model, recipe, TRAIN.counts()), TRAIN, VALIDATION, recipe, progress=False)
        results.append(weights(model))
    assert torch.equal(*results)


def test_a_second_pass_leaves_no_trace_in_the_statistics():
    """SAM looks at a batch twice, at other weights the second time; batch normalisation remembers the first time alone.
    """
    recipe = RECIPE.overlay({"epochs": 1, "momentum": 0.0, "weight_decay": 0.0, "lr": 1e-12})

    def statistics(recipe: Recipe) -> list[Tensor]:
        return [m.running_mean.clone() for m in trained(recipe)[0].modules() if isinstance(m, nn.BatchNorm2d)]

    plain, near, far = (
        statistics(recipe),
        statistics(recipe.overlay({"sam_rho": 0.5})),
        statistics(recipe.overlay({"sam_rho": 50.0})),
    )
    for a, b, c in zip(plain, near, far, strict=True):
        assert torch.allclose(a, b, atol=1e-6) and torch.allclose(a, c, atol=1e-6)
    counts = [
        int(m.num_batches_tracked)
        for m in trained(recipe.overlay({"sam_rho": 0.5}))[0].modules()
        if isinstance(m, nn.BatchNorm2d)
    ]
    assert set(counts) == {5}


def test_selection_by_another_column(monkeypatch):
    seen = scripted(monkeypatch, [0.1, 0.8, 0.3], column="val_macro_f1")
    model, _ = trained(RECIPE.overlay({"select": "val_macro_f1"}))
    assert torch.equal(weights(model), seen[1])


@pytest.mark.parametrize(("patience", "epochs"), [(0, 3), (1, 4), (2, 5), (None, 8)])
def test_early_stopping_forgives_so_many_epochs(patience, epochs, monkeypatch):
    """`patience` epochs without improvement in a row are forgiven, the next one stops: 15 stops on the 16th,
    as released.
    """
    scripted(monkeypatch, [0.1, 0.5, 0.5, 0.4, 0.3, 0.9, 0.9, 0.9])
    _, history = trained(RECIPE.overlay({"epochs": 8, "early_stopping": patience}), small_faces(32))
    assert len(history.rows) == epochs


def test_plateau_schedule_lowers_the_rate(monkeypatch):
    scripted(monkeypatch, [0.5, 0.5, 0.6, 0.6, 0.6, 0.7])
    recipe = RECIPE.overlay({"schedule": "plateau", "plateau_patience": 1, "epochs": 6, "lr": 0.01})
    _, history = trained(recipe, small_faces(32))
    assert history.column("lr") == pytest.approx([0.01] * 5 + [0.001])


@pytest.mark.slow
def test_residual_masking_recipe_lowers_on_the_third_bad_epoch_and_stops_after_nine(monkeypatch):
    """trainers/tta_trainer.py@9141618 of the Residual Masking Network: 1e-4, 1e-5, 1e-6 and no lower;
    "more than 8 steps" is nine.
    """
    recipes = Path(__file__).parents[2] / "notebooks" / "recipes" / "resmasking"
    rules = (
        "optimizer", "lr", "weight_decay", "schedule", "lr_drop", "plateau_patience", "lr_floor", "early_stopping",
        "epochs",
    )

    def replay(file: str, values: list[float]) -> list[float]:
        scripted(monkeypatch, values)
        recipe = Recipe.load(recipes / file)
        return trained(RECIPE.overlay({key: getattr(recipe, key) for key in rules}), small_faces(32))[1].column("lr")

    peak_in_the_third = [0.5, 0.6, 0.7] + [0.69, 0.7] * 10
    assert replay("released.yaml", peak_in_the_third) == pytest.approx([1e-4] * 6 + [1e-5] * 3 + [1e-6] * 3)
    assert replay("printed.yaml", peak_in_the_third)[:9] == pytest.approx([1e-4] * 5 + [1e-5] * 2 + [1e-6] * 2)
    relieved = [0.5] * 9 + [0.6] + [0.5] * 20  # the tenth epoch comes just in time
    assert len(replay("released.yaml", relieved)) == 19
    assert len(replay("released.yaml", [k / 100 for k in range(50)])) == 50


def test_gradient_clipping_bounds_the_step():
    recipe = RECIPE.overlay({"grad_clip": 1e-3, "momentum": 0.0, "weight_decay": 0.0, "lr": 1.0, "epochs": 1})
    before = network(recipe)
    model, _ = trained(recipe)
    steps = 5
    moved = (
        torch.cat([(a - b).flatten() for a, b in zip(model.parameters(), before.parameters(), strict=True)])
        .norm()
        .item()
    )
    assert 1e-4 < moved <= steps * 1e-3 * 1.001
    free, _ = trained(recipe.overlay({"grad_clip": 0.0, "lr": 0.01}))
    assert (
        torch.cat([(a - b).flatten() for a, b in zip(free.parameters(), before.parameters(), strict=True)]).norm()
        > steps * 1e-3
    )


def test_averaged_weights_are_the_ones_validated_and_kept():
    plain, _ = trained()
    model, history = trained(RECIPE.overlay({"ema_decay": 0.9}))
    assert history.column("train_loss") == trained()[1].column("train_loss")  # the training itself is the same
    assert not torch.allclose(weights(model), weights(plain), atol=1e-3)
    best = history.best("val_accuracy")
    assert validate(model, VALIDATION, make_accelerator(), batch_size=64)["val_loss"] == pytest.approx(
        history.column("val_loss")[best]
    )


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "sgd", "sam_rho": 0.05},
        {"optimizer": "adamw", "lr": 0.002},
        {"optimizer": "radam", "lr": 0.005},
        {"channels_last": True},
        BF16,
        {**BF16, "channels_last": True, "ema_decay": 0.5, "grad_clip": 1.0},
        {"target": "votes"},
        {"class_weight": "effective_number"},
    ],
    ids=str,
)
def test_every_way_of_training_learns(change):
    recipe = RECIPE.overlay({"epochs": 5, "schedule": "cosine", **change})
    model, history = trained(recipe, small_faces(230, votes=True))
    losses = history.column("train_loss")
    floor = 1.0 if recipe.target == "votes" else 0.0  # a distribution has an entropy
    assert losses[-1] - floor < 0.75 * (losses[0] - floor)
    assert max(history.column("val_accuracy")) > 0.35  # chance is 0.14
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_memory_format_and_precision_change_only_the_rounding():
    def first_losses(**change: object) -> list[float]:
        return trained(RECIPE.overlay({"epochs": 2, "lr": 0.01, **change}))[1].column("train_loss")

    exact = first_losses(image_size=40)
    # The other kernels sum in another order. Rounding of 6e-8 stays small over the first epoch's few steps; afterwards
    # every step enlarges it, and how much depends on the CPU (1 % on one without AVX).
    otherwise = first_losses(image_size=40, channels_last=True)
    assert otherwise[0] == pytest.approx(exact[0], rel=1e-4) and otherwise == pytest.approx(exact, rel=0.1)
    rounded = first_losses(**BF16)
    assert rounded == pytest.approx(exact, rel=0.15) and rounded != exact


def test_the_network_is_left_as_a_plain_module():
    recipe = RECIPE.overlay({**BF16, "epochs": 1})
    model = network(recipe)
    task = make_task(model, recipe, TRAIN.counts())
    fit(task, TRAIN, VALIDATION, recipe, progress=False)
    assert task.forward.__func__ is Task.forward, "accelerate's wrapper is to be gone"
    assert all(p.grad is None for p in model.parameters())
    assert {type(m) for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {nn.BatchNorm2d}
    assert predict_logits(model, VALIDATION.images[:2]).dtype == torch.float32
    # and a second training, with another precision, in the same process
    fit(task, TRAIN, VALIDATION, recipe.overlay({"precision": "no"}), progress=False)


class TwoTerms(nn.Module):
    """Cross entropy and a learnable temperature's penalty, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {
            "entropy": nn.functional.cross_entropy(self.scale * logits, targets),
            "penalty": 0.1 * (self.scale - 1) ** 2,
        }


def test_a_criterion_with_parameters_and_several_terms_is_trained_along():
    model, criterion = network(), TwoTerms()
    history = fit(Task(model, criterion), TRAIN, VALIDATION, RECIPE, progress=False)
    assert criterion.scale.item() != 2.0
    assert history.column("train_loss")[-1] < history.column("train_loss")[0]
    images, targets = prepare_for(model, TRAIN.images[:4]), torch.from_numpy(TRAIN.labels[:4])
    losses, logits = Task(model, criterion)(images, targets)
    assert set(losses) == {"entropy", "penalty"} and logits.shape == (4, 7)


def test_a_loss_that_explodes_stops_the_training_and_says_where(tmp_path):
    with pytest.raises(FloatingPointError, match=r"the loss is (nan|inf) in epoch \d, step \d+; try a smaller lr"):
        trained(RECIPE.overlay({"lr": 1e30, "epochs": 3}), folder=tmp_path)


def test_a_loss_that_is_not_finite_never_reaches_the_weights():
    """Found before the step: the network, and the average, hold what they held;
    after an epoch they hold the best one's weights.
    """

    class Breaks(nn.Module):
        def __init__(self, at: int) -> None:
            super().__init__()
            self.left = at

        def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
            self.left -= 1
            return nn.functional.cross_entropy(logits, targets) * (float("nan") if self.left < 0 else 1.0)

    for at, epochs_before in ((2, 0), (7, 1)):  # five steps an epoch
        model = network()
        with pytest.raises(FloatingPointError, match=rf"the loss is nan in epoch {epochs_before + 1}, step 3"):
            fit(Task(model, Breaks(at)), TRAIN, VALIDATION, RECIPE.overlay({"ema_decay": 0.5}), progress=False)
        assert torch.isfinite(weights(model)).all()
        if epochs_before:
            assert torch.equal(weights(model), weights(trained(RECIPE.overlay({"ema_decay": 0.5, "epochs": 1}))[0]))


def test_a_network_with_other_labels_is_refused():
    model = network(names=NAMES[::-1])
    with pytest.raises(
        ValueError, match=r"the network's logits mean anger, .*small faces labels mean neutral, .*labels=train.names"
    ):
        fit(make_task(model, RECIPE, TRAIN.counts()), TRAIN, VALIDATION, RECIPE, progress=False)
    eight = create_model("resemotenet", width=1 / 16, num_classes=8)
    with pytest.raises(ValueError, match="logits mean nothing yet"):
        fit(make_task(eight, RECIPE, TRAIN.counts()), TRAIN, VALIDATION, RECIPE, progress=False)


def test_data_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match="trains on votes, but small faces has none"):
        trained(RECIPE.overlay({"target": "votes"}), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_training_again_without_resume_forgets_the_first(tmp_path):
    trained(RECIPE, folder=tmp_path)  # three epochs: its checkpoint has the larger number
    recipe = RECIPE.overlay({"epochs": 2, "seed": 5})
    model, history = trained(recipe, folder=tmp_path, resume=False)
    assert [p.name for p in complete_checkpoints(tmp_path / "checkpoint")] == ["00002-0000000"]
    fresh, expected = trained(recipe)
    assert without_seconds(history) == without_seconds(expected)
    assert torch.equal(weights(model), weights(fresh))


def test_progress_is_one_line_per_epoch_or_nothing(capsys):
    model = network()
    task = make_task(model, RECIPE, TRAIN.counts())
    fit(task, TRAIN, VALIDATION, RECIPE, progress=False)
    assert capsys.readouterr() == ("", "")
    fit(task, TRAIN, VALIDATION, RECIPE)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:11] for line in lines] == ["epoch   1/3", "epoch   2/3", "epoch   3/3"]
    assert "val accuracy" in lines[0] and "best" in lines[0]


def test_history():
    history = History()
    history.rows = [
        {"epoch": 1, "val_accuracy": 0.5},
        {"epoch": 2, "val_accuracy": 0.75},
        {"epoch": 3, "val_accuracy": 0.75},
    ]
    assert history.column("val_accuracy") == [0.5, 0.75, 0.75]
    assert history.best("val_accuracy") == 1
    with pytest.raises(KeyError, match="no column 'test_accuracy'; known: epoch, val_accuracy"):
        history.column("test_accuracy")


def test_history_comes_back_exactly_and_a_cut_off_write_leaves_the_old_file(tmp_path, monkeypatch):
    history = History()
    history.rows = [{"epoch": 1, "train_loss": 0.1 + 0.2, "seconds": 1 / 3}]
    history.save(tmp_path / "history.csv")
    assert History.read(tmp_path / "history.csv").rows == history.rows
    assert isinstance(History.read(tmp_path / "history.csv").rows[0]["epoch"], int)

    def disk_full(*_args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", disk_full)
    history.rows = history.rows * 2
    with pytest.raises(OSError, match="disk full"):
        history.save(tmp_path / "history.csv")
    assert len(History.read(tmp_path / "history.csv").rows) == 1
