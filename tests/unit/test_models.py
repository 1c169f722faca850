"""The contract that every registered network keeps, and the files its weights are kept in."""

import json
import re

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ferkit.explain import module_by_name
from ferkit.labels import EMOTIONS
from ferkit.models import (
    FerModel,
    count_parameters,
    create_model,
    list_models,
    list_weights,
    model_options,
    save_weights,
)
from ferkit.models.registry import read_weights_header, register

WIDTH = 1 / 16
# Library networks that come in one size; tests/unit/test_comparators.py has the same tests for them, at width 1.
ONE_SIZE = {"efficientnet_b2", "googlenet", "inception_v3"}
every_model = pytest.mark.parametrize("name", sorted(set(list_models()) - ONE_SIZE))


def build(name: str, **options) -> FerModel:
    torch.manual_seed(0)
    return create_model(name, **{"width": WIDTH, **options})


def pictures(model: FerModel, n: int = 2, size: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    side = model.input_size if size is None else size
    return torch.randn(n, 1 if model.colour == "grey" else 3, side, side, generator=generator)


def kept_tensors(model: nn.Module) -> set[tuple[str, str]]:
    """Tensors that hang on a module, alone or in a container, without being its parameters or buffers."""

    def holds_tensor(value: object) -> bool:
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
        return any(isinstance(v, Tensor) for v in inside)

    return {
        (name, key)
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if key not in ("_parameters", "_buffers") and holds_tensor(value)
    }


def test_there_are_networks_and_they_are_sorted():
    assert "resemotenet" in list_models()
    assert list_models() == sorted(set(list_models()))


@pytest.mark.parametrize("name", sorted(ONE_SIZE))
def test_networks_of_one_size_say_so(name):
    with pytest.raises(ValueError, match="comes in one size: expected width 1"):
        build(name)


@every_model
def test_shapes_are_the_declared_ones(name):
    model = build(name).eval()
    x = pictures(model)
    with torch.no_grad():
        features = model.forward_features(x)
        logits = model(x)
        parts = model.forward_parts(x)
    assert features.shape == (2, model.num_features)
    assert parts.features.shape == (2, model.num_loss_features) and torch.equal(parts.logits, logits)
    assert logits.shape == (2, 7)
    assert torch.isfinite(logits).all()
    assert not torch.equal(features[0], features[1]), "the features do not depend on the picture"
    assert torch.equal(logits, model.forward_head(features))


@every_model
def test_it_carries_its_preprocessing_and_vocabulary(name):
    model = build(name)
    channels = 1 if model.colour == "grey" else 3
    assert model.colour in ("rgb", "grey3", "grey")
    assert len(model.mean) == len(model.std) == channels
    assert all(s > 0 for s in model.std)
    assert sorted(model.labels) == sorted(EMOTIONS[:7])
    assert build(name, num_classes=8).labels in ((), EMOTIONS)
    assert build(name, num_classes=9).labels == ()
    assert build(name, labels=EMOTIONS[:7]).labels == EMOTIONS[:7]


@every_model
def test_every_parameter_gets_a_gradient(name):
    model = build(name)  # in training mode, as it is built
    assert model.training
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
            # some start residual branches at zero, which stops gradients in the first step only
            nn.init.ones_(module.weight)
    loss = nn.functional.cross_entropy(model(pictures(model, 8)), torch.arange(8) % 7)
    loss.backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert without == []
    # A convolution's bias before a batch normalisation has no effect, so its gradient is zero up to rounding; no
    # weight's is.
    assert [n for n, p in model.named_parameters() if p.ndim > 1 and not p.grad.any()] == []


@every_model
@pytest.mark.parametrize("classes", [2, 8])
def test_number_of_classes(name, classes):
    model = build(name, num_classes=classes).eval()
    assert model(pictures(model)).shape == (2, classes)


@every_model
def test_nothing_is_kept_on_the_network(name):
    model = build(name)
    before = kept_tensors(model)
    model(pictures(model, 4))
    model.eval()(pictures(model, 4))
    assert kept_tensors(model) == before == set()


def test_the_check_for_kept_tensors_notices_one():
    class Hoarder(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            self._seen = [x]
            self.last = x
            return x

    hoarder = nn.Sequential(Hoarder())
    hoarder(torch.ones(1))
    assert kept_tensors(hoarder) == {("0", "_seen"), ("0", "last")}


@every_model
@pytest.mark.parametrize("size", [48, 64, 96, 128, 224])
def test_cam_layer_has_a_map_with_places(name, size):
    # weights for each place of the last map
    sized = {"input_size": size} if "input_size" in model_options(name) else {}
    if "size_policy" in model_options(name):
        sized["size_policy"] = "pad"  # its default refuses some of these sizes
    model = build(name, **sized).eval()
    if size < getattr(model, "smallest_size", 0):
        with pytest.raises(ValueError, match=f"{size} x {size}"):
            model(pictures(model, 1, size))
        return
    layer = model.cam_layer(size)
    maps = []
    handle = module_by_name(model, layer).register_forward_hook(lambda _m, _i, out: maps.append(out))
    with torch.no_grad():
        model(pictures(model, 1, size))
    handle.remove()
    (found,) = maps
    assert found.ndim == 4
    assert 4 <= min(found.shape[2:]) and max(found.shape[2:]) < size
    if model.official_cam_layer is not None:
        assert isinstance(module_by_name(model, model.official_cam_layer), nn.Module)


@every_model
def test_width_scales_every_channel_count(name):
    with torch.device("meta"):
        counts = [count_parameters(create_model(name, width=w)) for w in (1 / 8, 1 / 4, 1 / 2, 1)]
        features = [create_model(name, width=w).num_features for w in (1 / 4, 1 / 2, 1)]
    assert features[0] * 4 == features[1] * 2 == features[2]
    # channels enter twice into a convolution's weights, once into a depthwise one's and a normalisation's
    assert all(3.0 < wide / narrow < 4.1 for narrow, wide in zip(counts[:-1], counts[1:], strict=True))


@every_model
def test_weights_come_back(name, tmp_path):
    sized = {"input_size": 64} if "input_size" in model_options(name) else {}
    model = build(name, num_classes=8, labels=EMOTIONS, **sized)
    model.input_size = 64
    model(pictures(model, 4))  # moves the running statistics
    file = save_weights(model, tmp_path / "deep" / "some.safetensors", weights="some")
    assert [p.name for p in file.parent.iterdir()] == ["some.safetensors"]
    back = create_model(name, weights=file)
    assert back.labels == EMOTIONS and back.input_size == 64 and back.spec == model.spec
    assert back.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(back.state_dict().values(), model.state_dict().values(), strict=True))
    x = pictures(model)
    assert torch.equal(back.eval()(x), model.eval()(x))
    # saying the same again is no conflict
    create_model(name, weights=file, width=WIDTH, num_classes=8, labels=EMOTIONS)


def test_half_precision_files_are_half_the_size_and_compute_in_single(tmp_path):
    model = build("resemotenet")
    full = save_weights(model, tmp_path / "a.safetensors", weights="a")
    half = save_weights(model, tmp_path / "b.safetensors", weights="b", half=True)
    assert 0.45 < half.stat().st_size / full.stat().st_size < 0.6
    back = create_model("resemotenet", weights=half)
    assert {v.dtype for v in back.state_dict().values()} == {torch.float32, torch.int64}
    x = pictures(model)
    assert 0 < (back.eval()(x) - model.eval()(x)).abs().max() < 0.01


def test_weights_know_the_options(tmp_path, monkeypatch):
    model = build("resemotenet", head="linear", ablation="C3", reduction=8)
    save_weights(model, tmp_path / "x.safetensors", weights="fer2013-small")
    monkeypatch.setenv("FERKIT_WEIGHTS", str(tmp_path))
    assert list_weights() == {"resemotenet": ["fer2013-small"]}
    back = create_model("resemotenet", weights="fer2013-small")
    assert back.spec["options"] == {"head": "linear", "ablation": "C3", "reduction": 8}
    assert not hasattr(back, "conv1") and hasattr(back, "fc")


@pytest.mark.parametrize(
    ("stated", "complaint"),
    [
        ({"width": 0.25}, "was trained with width=0.0625, not 0.25"),
        ({"num_classes": 8}, "was trained with num_classes=7, not 8"),
        ({"head": "mlp"}, "was trained with head='linear', not 'mlp'"),
        ({"ablation": "C2"}, "was trained with ablation='C1', not 'C2'"),
        ({"labels": EMOTIONS[6::-1]}, "was trained with labels happiness"),
    ],
)
def test_what_contradicts_the_file_is_refused(tmp_path, stated, complaint):
    file = save_weights(build("resemotenet", head="linear"), tmp_path / "x.safetensors", weights="x")
    with pytest.raises(ValueError, match=re.escape(complaint)):
        create_model("resemotenet", weights=file, **stated)


def test_files_that_are_no_weights_are_refused(tmp_path):
    whole = save_weights(build("resemotenet"), tmp_path / "whole.safetensors", weights="x")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="cut.safetensors is not a readable"):
        create_model("resemotenet", weights=cut)

    foreign = tmp_path / "foreign.safetensors"
    save_file({"w": torch.ones(2)}, foreign)
    with pytest.raises(ValueError, match="foreign.safetensors is not of this network: no conv1.weight"):
        create_model("resemotenet", weights=foreign)
    with pytest.raises(ValueError, match="has no ferkit header"):
        read_weights_header(foreign)

    other = save_weights(build("resmasking"), tmp_path / "other.safetensors", weights="x")
    with pytest.raises(ValueError, match="holds weights of 'resmasking', not of 'resemotenet'"):
        create_model("resemotenet", weights=other)

    for header in ("no json", json.dumps(["a list"]), json.dumps({"model": "resemotenet"})):
        save_file({"w": torch.ones(2)}, foreign, metadata={"ferkit": header})
        with pytest.raises(ValueError, match="has a ferkit header without"):
            create_model("resemotenet", weights=foreign)


def test_options_are_compared_as_what_they_are(tmp_path):
    """A header has lists where Python has tuples, and None is a value that can be asked for."""
    file = save_weights(build("resmasking", depths=(4, 3, 2, 1)), tmp_path / "r.safetensors", weights="r")
    for depths in ((4, 3, 2, 1), [4, 3, 2, 1]):
        assert create_model("resmasking", weights=file, depths=depths).depths == (4, 3, 2, 1)
    with pytest.raises(ValueError, match=re.escape("was trained with depths=[4, 3, 2, 1], not (1, 1, 1, 1)")):
        create_model("resmasking", weights=file, depths=(1, 1, 1, 1))
    esr = save_weights(build("esr", branches=1, attention="cbam"), tmp_path / "e.safetensors", weights="e")
    with pytest.raises(ValueError, match="was trained with attention='cbam', not None"):
        create_model("esr", weights=esr, attention=None)
    plain = save_weights(build("esr", branches=1), tmp_path / "p.safetensors", weights="p")
    assert create_model("esr", weights=plain, attention=None).spec["options"] == {"branches": 1}
    with pytest.raises(
        ValueError, match=re.escape("resmasking needs a value for depths, found None; its default is (4, 3, 2, 1)")
    ):
        create_model("resmasking", depths=None)


def test_a_foreign_or_damaged_file_breaks_only_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("FERKIT_WEIGHTS", str(tmp_path))
    good = save_weights(build("resemotenet"), tmp_path / "m.safetensors", weights="mine")
    save_file({"w": torch.ones(2)}, tmp_path / "a_foreign.safetensors")
    (tmp_path / "b_empty.safetensors").write_bytes(b"")
    (tmp_path / "c_pointer.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "d_cut-run.safetensors").write_bytes(good.read_bytes()[:-10])
    save_file({"w": torch.ones(2)}, tmp_path / "e.safetensors", metadata={"ferkit": "{}"})
    later = {
        "model": "of_a_later_version",
        "weights": "x",
        "num_classes": 7,
        "width": 1,
        "options": {},
        "labels": [],
        "input_size": 48,
    }
    save_file({"w": torch.ones(2)}, tmp_path / "f.safetensors", metadata={"ferkit": json.dumps(later)})
    assert list_weights() == {"resemotenet": ["mine"]}
    assert create_model("resemotenet", weights="mine").input_size == 64
    with pytest.raises(ValueError, match="d_cut-run.safetensors is not a readable"):
        create_model("resemotenet", weights="cut-run")
    with pytest.raises(FileNotFoundError, match="known: mine"):
        create_model("resemotenet", weights="other")


def test_absent_weights_list_the_known_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("FERKIT_WEIGHTS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no weights 'nobody' for resemotenet .*known: none"):
        create_model("resemotenet", weights="nobody")
    save_weights(build("resemotenet"), tmp_path / "x.safetensors", weights="somebody")
    with pytest.raises(FileNotFoundError, match="known: somebody"):
        create_model("resemotenet", weights="nobody")
    with pytest.raises(FileNotFoundError, match="no file of weights at"):
        create_model("resemotenet", weights=tmp_path / "gone.safetensors")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    model = build("resemotenet")
    file = save_weights(model, tmp_path / "x.safetensors", weights="first")
    before = file.read_bytes()

    def half_written(_state, path, **_options):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("ferkit.models.registry.save_file", half_written)
    with pytest.raises(OSError, match="disk full"):
        save_weights(model, file, weights="second")
    assert file.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]
    assert read_weights_header(file)["weights"] == "first"


def test_unknown_names_and_options_list_the_known_ones():
    with pytest.raises(ValueError, match=r"no network named 'resnet0'; known: .*resemotenet"):
        create_model("resnet0")
    with pytest.raises(ValueError, match=r"resemotenet has no option 'depth'; known: head, ablation, wiring"):
        create_model("resemotenet", depth=3)
    with pytest.raises(ValueError, match="6 labels for 7 classes"):
        create_model("resemotenet", width=WIDTH, labels=EMOTIONS[:6])
    with pytest.raises(ValueError, match="width is a factor .* above 0, found 0"):
        create_model("resemotenet", width=0)


def test_options_are_listed_with_their_defaults():
    assert model_options("resemotenet") == {
        "head": "mlp",
        "ablation": "C1",
        "wiring": "drop_and_rewire",
        "reduction": 16,
        "stem_dropout": 0.2,
        "head_dropout": 0.5,
    }


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="registered already"):
        register("resemotenet")(FerModel)
