"""From a finished run to what the project commits: weights in half precision, a card beside them, and the record."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ferkit.evaluation.calibration import conformal_sets, conformal_threshold
from ferkit.evaluation.metrics import SCORES, wilson
from ferkit.files import write_json
from ferkit.models import create_model, save_weights
from ferkit.models.registry import weights_folder
from ferkit.predict import graded, predict_probabilities
from ferkit.runs.experiment import load_faces
from ferkit.runs.folder import RunFolder
from ferkit.runs.records import read_record
from ferkit.training.recipe import Recipe

# What every card says of the data; a set that is not here has to be added with its terms.
TERMS = {
    "fer2013": (
        "FER2013 was gathered by web search for a 2013 contest (Goodfellow et al., ICONIP 2013). Its "
        "pictures carry no licence to publish, and none is in this file. The people in them were not asked. "
        "Use the weights for teaching and research."
    ),
    "ferplus": (
        "FER+ (Barsoum et al., ICMI 2016) gives ten raters' votes for the pictures of FER2013; the votes are "
        "published under the MIT licence. FER2013's pictures were gathered by web search for a 2013 contest "
        "(Goodfellow et al., ICONIP 2013), carry no licence to publish, and none is in this file. The people "
        "in them were not asked. Use the weights for teaching and research."
    ),
    "synthetic": "Drawn faces; no person is in them.",
}
LIMITS = (
    "The network names the expression that most raters would have written under a 48-pixel grey picture. It does not "
    "know what a person feels. Labels are noisy, classes are unequal, and who is in the pictures is not documented: "
    "expect it to be worse for faces that web search did not show. Not for decisions about people; in the European "
    "Union emotion recognition at work and in education is prohibited with few exceptions (Regulation (EU) "
    "2024/1689, article 5)."
)


def publish_run(run: Path, *, weights: str | None, data_folder: Path) -> tuple[Path, ...]:
    """Write weights, card and record of a finished run under `data_folder`.

    Args:
        run: folder written by `ferkit.runs.experiment.run`.
        weights: name for `create_model(..., weights=name)`, such as "fer2013-teach"; None writes the record alone, of a
            run that is part of a comparison.
        data_folder: the project's data/; gets weights/<run>.safetensors, weights/<run>.md and results/<run>.json.

    Returns:
        The files: weights, card and record, or the record.

    Raises:
        FileNotFoundError: the run is not finished.
        ValueError: the terms of its data are not known.

    """
    folder = RunFolder.finished(run)
    result, recipe, history = folder.result, folder.recipe, folder.history
    if recipe.data not in TERMS:
        raise ValueError(f"the terms of {recipe.data!r} are not written down; add them to ferkit.runs.publish.TERMS")
    model = folder.model()
    # votes have no degrees: `calibrate` computes it from their probabilities
    if getattr(model, "decision", None) != "plurality":
        result["conformal"] = conformal_record(folder.predictions, tta=recipe.tta)
    result["recipe"]["data_path"] = None  # where one machine keeps its data is nobody's business
    result["history"] = {
        name: [round(v, 4) for v in history.column(name)] for name in ("train_loss", "val_loss", "val_accuracy")
    }
    record = data_folder / "results" / f"{recipe.name}.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    if weights is None:
        write_json(record, result)
        return (record,)
    file = save_weights(model, data_folder / "weights" / f"{recipe.name}.safetensors", weights=weights, half=True)
    write_json(record, result)
    card = file.with_suffix(".md")
    card.write_text(_card(recipe, result, weights, file.stat().st_size), encoding="utf-8")
    return file, card, record


def conformal_record(predictions: Mapping[str, np.ndarray], *, tta: str | None, level: float = 0.9) -> dict[str, Any]:
    """What sets of classes hold the label in `level` of the images: threshold from validation,
    coverage measured on test.

    Args:
        predictions: as in a run's predictions.npz: `validation` and `test` (N, K) with `validation_labels` and
            `test_labels`.
        tta: the test-time augmentation they were made with.
        level: see `ferkit.evaluation.calibration.conformal_threshold`.

    """
    threshold = conformal_threshold(predictions["validation"], predictions["validation_labels"], level=level)
    inside, labels = conformal_sets(predictions["test"], threshold), predictions["test_labels"]
    hits = int(inside[np.arange(len(labels)), labels].sum())
    return {
        "level": level,
        "threshold": threshold,
        "n_validation": len(predictions["validation_labels"]),
        "tta": tta,
        "test_coverage": hits / len(labels),
        "test_coverage_interval": list(wilson(hits, len(labels))),
        "test_mean_size": float(inside.sum(1).mean()),
    }


def calibrate(name: str, *, data_path: str | None = None) -> dict[str, Any]:
    """Compute the conformal threshold of committed weights anew and put it into their record;
    gives the record's new part.

    Networks that vote are asked for the mean of their branches' probabilities, see `graded`.

    Args:
        name: of the record, such as "resemotenet-teach-fer2013".
        data_path: where the recipe's data set lies.

    Raises:
        FileNotFoundError: no such record or weights.
        ValueError: the data are not those of the record.

    """
    record = read_record(name)
    recipe = Recipe(**record["recipe"]).overlay({"data_path": data_path})
    faces = load_faces(recipe)
    if faces.sha256 != record["data"]["sha256"]:
        raise ValueError(
            f"expected the data of the record, sha256 {record['data']['sha256'][:16]}…, found {faces.sha256[:16]}…; "
            "give the copy it was trained on"
        )
    model = graded(create_model(recipe.model, weights=weights_folder() / f"{name}.safetensors"))
    parts = {"validation": faces.select("validation"), "test": faces.select(recipe.test_split)}
    found = {
        split: predict_probabilities(model, part.images, tta=recipe.tta, seed=recipe.seed)
        for split, part in parts.items()
    }
    found |= {f"{split}_labels": part.labels for split, part in parts.items()}
    record["conformal"] = conformal_record(found, tta=recipe.tta)
    write_json(weights_folder().parent / "results" / f"{name}.json", record)
    return record["conformal"]


def _card(recipe: Recipe, result: dict[str, Any], weights: str, size: int) -> str:
    place = recipe.name.replace("-", "/", 1)  # the folder of a recipe is the first word of its name
    test, protocol, data, seconds = result["test"], result["protocol"], result["data"], result["seconds"]
    rows = [("all images", test)] + (
        [("without images that are also in training", test["duplicate_clean"])] if "duplicate_clean" in test else []
    )
    lines = [
        f"# {recipe.name}",
        "",
        (
            f'`create_model("{recipe.model}", weights="{weights}")` · {result["model"]["parameters"]:,} parameters · '
            f"float16, {size / 1e6:.1f} MB"
        ),
        "",
        recipe.source or "",
        "",
        f"## Results on {protocol['test_split']}",
        "",
        "| images | n | " + " | ".join(f"{s.replace('_', ' ')} [95 %]" for s in SCORES) + " |",
        "|---|---|" + "---|" * len(SCORES),
        *(f"| {what} | {m['n']:,} | " + " | ".join(_figure(m, s) for s in SCORES) + " |" for what, m in rows),
        "",
        (
            f"Mean cross entropy {test['cross_entropy']:.3f} nats, expected calibration error {test['ece']:.3f} (15 "
            f"bins). Validation accuracy {_figure(result['validation'], 'accuracy')}. Intervals are bootstrap over "
            "images; they do not hold the spread between seeds, of which there is one."
        ),
        "",
        "| emotion | recall | images |",
        "|---|---|---|",
        *(
            f"| {name} | {recall:.3f} | {sum(counts)} |" if recall is not None else f"| {name} | – | 0 |"
            for (name, recall), counts in zip(test["recall"].items(), test["confusion"], strict=True)
        ),
        "",
        "## How",
        "",
        (
            f"- Recipe: `notebooks/recipes/{place}.yaml`; seed {recipe.seed}; test-time augmentation: "
            f"{protocol['tta'] or 'none'}."
        ),
        f"- Selection: {protocol['selection']}.",
        f"- Data: {data['name']}, sha256 of the source `{data['sha256']}`; images per split: "
        + ", ".join(f"{k} {v:,}" for k, v in data["splits"].items())
        + f"; sha256 of the split `{data['split_sha256'][:16]}…`. {_validation(recipe)}",
        (
            f"- Cost: {seconds['training'] / 60:.0f} minutes of training on {result['environment']['device']}, "
            f"{result['environment']['threads']} thread(s); torch {result['environment']['torch']}."
        ),
        f"- The whole record, with the curve and the confusion matrix: `data/results/{recipe.name}.json`.",
        "",
        "## Limits",
        "",
        LIMITS,
        "",
        "## Terms of the data",
        "",
        TERMS[recipe.data],
        "",
    ]
    return "\n".join(lines)


def _validation(recipe: Recipe) -> str:
    if recipe.validation_split is not None:
        return (
            f"Validation is the data's own {recipe.validation_split}, as the recipe asks; it may hold copies "
            "of training images."
        )
    return "Validation is carved from the training images; copies of one image stay on one side."


def _figure(metrics: dict[str, Any], score: str) -> str:
    low, high = metrics["intervals"][score]
    return f"{100 * metrics[score]:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
