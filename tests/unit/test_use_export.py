"""`python -m ferkit export`: the file says what the network says, also in a process that has no ferkit."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import ferkit
from ferkit.__main__ import app
from ferkit.data import load
from ferkit.explain.opinions import Network
from ferkit.faces import crop_face, find_faces, portrait
from ferkit.models import create_model, save_weights
from ferkit.models.registry import read_weights_header
from ferkit.synthetic import make_faces
from ferkit.use import export as exporting
from ferkit.use.networks import Ensemble, probabilities
from notebooks.build import ROOT

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def small(name="resemotenet", *, colour="grey3", tta="flip", **options):
    """A network whose answers depend on the picture, unlike those of one with new normalisations."""
    torch.manual_seed(0)
    model = create_model(name, width=1 / 16, **options).eval()
    model.colour = colour
    if colour == "grey":
        model.mean, model.std = (0.5,), (0.25,)
    for parameter in model.parameters():
        parameter.data *= 1.5
    return Network("small", model, tta, 0.1)


def faces(side, n=4):
    return make_faces(n, size=side, colour="rgb", seed=3).images


@pytest.mark.parametrize("colour", ["rgb", "grey3"])
@pytest.mark.parametrize("side", [40, 64, 97, 224])
def test_preprocessing_inside_is_the_librarys(side, colour):
    network = small(colour=colour)
    portable = exporting.Portable(network.model, mirrored=True).eval()
    pictures = faces(side)
    with torch.no_grad():
        found = portable(torch.from_numpy(pictures.transpose(0, 2, 3, 1).copy())).numpy()
    wanted = probabilities(network, pictures)
    assert wanted.std(0).max() > 0.002, "the answers do not depend on the picture"
    assert np.abs(found - wanted).max() < (1e-6 if side == 64 else 1e-3)
    plain = exporting.Portable(network.model).eval()
    with torch.no_grad():
        assert np.abs(plain(torch.from_numpy(pictures.transpose(0, 2, 3, 1).copy())).numpy() - wanted).max() > 1e-5


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("onnx") / "deep" / "network.onnx"
    network = small(head="linear")
    return network, exporting.export(network, file)


def test_onnx_takes_uint8_of_any_number_and_size_and_carries_its_labels(onnx_file):
    network, done = onnx_file
    assert done.difference < 1e-5 and done.resized < 1e-3
    session = onnxruntime.InferenceSession(done.file, providers=["CPUExecutionProvider"])
    (asked,) = session.get_inputs()
    assert asked.type == "tensor(uint8)" and [isinstance(n, str) for n in asked.shape] == [True, True, True, False]
    known = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(known["labels"])) == network.labels and json.loads(known["threshold"]) == 0.1
    assert json.loads(known["mirrored"]) is True and "not what a person feels" in known["limits"]
    for n, side in ((1, 64), (3, 64), (5, 112)):
        pictures = faces(side, n)
        found = exporting.run_file(done.file, np.ascontiguousarray(pictures.transpose(0, 2, 3, 1)), batch_size=2)
        assert np.abs(found - probabilities(network, pictures)).max() < (1e-5 if side == 64 else 1e-3)


PROGRAM = """
import json, sys
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
found = session.run(None, {"pictures": np.load(sys.argv[2])})[0]
assert not {"ferkit", "torch"} & set(sys.modules)
print(json.dumps({"labels": labels, "found": found.tolist()}))
"""


def test_another_process_without_ferkit_says_the_same(onnx_file, tmp_path):
    network, done = onnx_file
    pictures = faces(64)
    np.save(tmp_path / "pictures.npy", pictures.transpose(0, 2, 3, 1))
    call = [sys.executable, "-I", "-c", PROGRAM, str(done.file), str(tmp_path / "pictures.npy")]
    said = json.loads(subprocess.run(call, capture_output=True, text=True, check=True, cwd=tmp_path).stdout)
    assert tuple(said["labels"]) == network.labels
    assert np.abs(np.array(said["found"]) - probabilities(network, pictures)).max() < 1e-5


def test_the_page_runs_as_it_is_printed(onnx_file, tmp_path):
    """book/exported.md: its program, on the portrait's face, in a process of its own."""
    _, done = onnx_file
    program = re.findall(r"```python\n(.*?)```", (ROOT / "book" / "exported.md").read_text(encoding="utf-8"), re.S)[0]
    assert len([line for line in program.splitlines() if line.strip()]) <= 10
    photo = portrait()
    Image.fromarray(crop_face(photo, find_faces(photo)[0])).save(tmp_path / "face.png")
    os.link(done.file, tmp_path / "network.onnx")
    call = [sys.executable, "-I", "-c", program]
    said = subprocess.run(call, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    network = onnx_file[0]
    p = probabilities(network, np.asarray(Image.open(tmp_path / "face.png")).transpose(2, 0, 1)[None])[0]
    assert said.split()[0] == network.labels[p.argmax()] and float(said.split()[1]) == pytest.approx(
        p.max(), abs=2e-3
    )


@pytest.mark.slow
def test_torch_file(tmp_path):
    network = small("mobilefacenet", colour="rgb", tta=None)
    done = exporting.export(network, tmp_path / "n.pt2", to="torch")
    assert done.difference < 1e-5
    kept = {"ferkit.json": ""}
    program = torch.export.load(done.file, extra_files=kept)
    assert tuple(json.loads(kept["ferkit.json"])["labels"]) == network.labels
    pictures = faces(80, 3)
    found = program.module()(torch.from_numpy(pictures.transpose(0, 2, 3, 1).copy())).detach().numpy()
    assert np.abs(found - probabilities(network, pictures)).max() < 1e-3


def test_safetensors_are_a_network_again(tmp_path):
    network = small()
    done = exporting.export(network, tmp_path / "n.safetensors", to="safetensors")
    assert read_weights_header(done.file)["preprocessing"] == {
        "size": 64,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "colour": "grey3",
    }
    again = ferkit.load(str(done.file))
    assert np.array_equal(probabilities(again._replace(tta="flip"), faces(64)), probabilities(network, faces(64)))


def test_int8_is_small_and_says_what_it_costs(onnx_file, tmp_path):
    network, done = onnx_file
    data = load("synthetic", n_train=60, n_test=50, colour="rgb")
    said = exporting.write_int8(network, done.file, data)
    small_file = Path(said["file"])
    assert small_file.name == "network.int8.onnx" and small_file.stat().st_size < 0.6 * done.file.stat().st_size
    test = data.select("test")
    pictures = np.ascontiguousarray(test.images.transpose(0, 2, 3, 1))
    place = np.array([network.labels.index(name) for name in test.names])[test.labels]
    for which, file in (("float32", done.file), ("int8", small_file)):
        assert said[which] == pytest.approx((exporting.run_file(file, pictures).argmax(1) == place).mean())
    assert said["n"] == 50 and said["difference"]["accuracy"] == pytest.approx(said["int8"] - said["float32"])
    apart = np.abs(exporting.run_file(small_file, pictures) - exporting.run_file(done.file, pictures)).max()
    assert 1e-5 < apart < 0.2
    known = (
        onnxruntime.InferenceSession(small_file, providers=["CPUExecutionProvider"])
        .get_modelmeta()
        .custom_metadata_map
    )
    assert tuple(json.loads(known["labels"])) == network.labels


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"split": "train"}, "to tune it on .* and others to measure it on"),
        ({"split": "public_test"}, "found 'public_test'"),
    ],
)
def test_int8_is_not_measured_on_what_it_was_tuned_on(onnx_file, options, sentence):
    network, done = onnx_file
    with pytest.raises(ValueError, match=sentence):
        exporting.write_int8(network, done.file, load("synthetic", n_train=20, n_test=20), **options)


@pytest.mark.slow
def test_a_file_that_says_something_else_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "LUMA", (0.9, 0.0, 0.0))
    with pytest.raises(ValueError, match="gives other probabilities than small"):
        exporting.export(small(), tmp_path / "n.pt2", to="torch")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported(tmp_path):
    network = small()
    with pytest.raises(ValueError, match="among onnx, torch, safetensors, found 'tflite'"):
        exporting.export(network, tmp_path / "x", to="tflite")
    with pytest.raises(ValueError, match="export each of them"):
        exporting.export(Ensemble("a+b", (network, network)), tmp_path / "x.onnx")


@pytest.mark.slow
def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_weights(small(head="linear").model, tmp_path / "mine.safetensors", weights="mine")
    more = ["--data", "synthetic", "--set", "n_train=40", "--set", "n_test=40"]
    done = CliRunner().invoke(app, ["export", "mine.safetensors", "--int8", *more])
    assert done.exit_code == 0, done.output
    first, second = done.output.splitlines()
    assert re.fullmatch(r"mine\.onnx: \d\.\d MB; says what the network says to \S+, and to \S+ at other sizes", first)
    assert re.fullmatch(
        r"mine\.int8\.onnx: \d\.\d MB; accuracy \S+ % instead of \S+ %, \S+ points \(\S+ to \S+, n = 40\)", second
    )
    assert sorted(os.listdir()) == ["mine.int8.onnx", "mine.onnx", "mine.safetensors"]
    wrong = CliRunner().invoke(app, ["export", "mine.safetensors", "--to", "torch", "--int8", *more])
    assert str(wrong.exception) == "ferkit: --int8 writes ONNX, found --to torch"
