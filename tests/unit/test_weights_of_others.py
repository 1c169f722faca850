"""Files as the authors' scripts save them, and what people mistake for such files;
the layouts are the tests' own knowledge.
"""

import argparse
import re
from collections import defaultdict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ferkit.models import create_model, freeze, initialise, load_released, read_released, save_weights, thaw
from ferkit.models.tensors import read_tensors
from ferkit.runs.experiment import build_model
from ferkit.training import Recipe

WIDTH = 1 / 16


def build(name, **options):
    torch.manual_seed(0)
    model = create_model(name, width=WIDTH, **options)
    for buffer in model.buffers():  # running statistics that are not those of a fresh network
        if buffer.is_floating_point():
            buffer.add_(0.1 * torch.rand_like(buffer))
    return model


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def lfnsb_names(state):
    """LFNSB2.py@caf8fad: backbone in a Sequential, blocks of LFN.py, Spatial_bias; written from the file."""
    stages = ["conv1", "conv2_dw", "conv_23", "conv_3", "conv_34", "conv_4", "conv_45", "conv_5", "repvgg"]
    inside = {
        "expand.conv": "conv.conv", "expand.bn": "conv.bn", "expand.act": "conv.prelu", "attention.conv1": "CA.conv1",
        "attention.bn1": "CA.bn1", "attention.conv_height": "CA.conv2", "attention.conv_width": "CA.conv3",
        "project.conv": "project.conv", "project.bn": "project.bn",
    }  # fmt: skip
    out = {}
    for key, value in state.items():
        stage, _, rest = key.partition(".")
        if stage == "spatial_bias":
            part, _, leaf = rest.partition(".")
            key = (
                "sb."
                + {"reduce": "feature_reduction.0", "bn": "feature_reduction.1", "mix": "sb_conv"}[part]
                + f".{leaf}"
            )
        elif stage in stages:
            if stage in ("conv1", "conv2_dw"):
                rest = rest.replace("conv.", "c.")
            elif stage == "repvgg":
                rest = rest.replace("conv3.", "conv.c.").replace("bn3.", "conv.bn.")
            else:
                number, _, rest = rest.partition(".")
                rest = rest.replace("depthwise.convs.", "conv_dw.mixed_depthwise_conv.")
                for ours, theirs in inside.items():
                    rest = re.sub(rf"^{re.escape(ours)}\.", f"{theirs}.", rest)
                rest = f"model.{number}.{rest}" if stage in ("conv_3", "conv_4", "conv_5") else rest
            key = f"features.{stages.index(stage)}.{rest}"
        out[key] = value
    return out | {"bn.weight": torch.ones(7), "bn.bias": torch.zeros(7)}  # constructed, never called


def manet_names(state):
    out = {}
    for key, value in state.items():
        key = re.sub(r"^fc_local\.", "fc_1.", key)
        key = re.sub(r"^fc_global\.", "fc_2.", key)
        key = re.sub(r"^global_layer([34])\.", r"layer\1_2.", key)
        key = re.sub(r"^local\.patches\.(\d)\.layer([34])\.", lambda m: f"layer{m[2]}_1_p{int(m[1]) + 1}.", key)
        for path, chain in ((1, "a"), (2, "b")):
            for kind in ("conv", "bn"):
                key = re.sub(
                    rf"\.chain_{chain}\.{kind}s\.(\d)\.", lambda m, k=kind, p=path: f".{k}{p}_2_{int(m[1]) + 1}.", key
                )
        key = key.replace("channel_gate.mlp.0", "ChannelGate.mlp.1").replace("channel_gate.mlp.2", "ChannelGate.mlp.3")
        out[key.replace("spatial_gate.", "SpatialGate.spatial.")] = value
    return out


def masking_names(state):
    out = {}
    for key, value in state.items():
        if match := re.match(r"mask(\d)\.(encode|decode|up)\.(\d)\.(.*)", key):
            depth, k = 5 - int(match[1]), int(match[3]) + 1
            k += depth if match[2] != "encode" else 0
            key = f"mask{match[1]}.{'up_pool' if match[2] == 'up' else 'conv'}{k}.{match[4]}"
        out[key] = value
    return out


LAYOUTS = {"resemotenet": dict, "resmasking": masking_names, "lfnsb": lfnsb_names, "manet": manet_names}


class RecorderMeter:
    """What MA-Net's main.py saves beside the weights."""

    def __init__(self):
        self.epoch_losses = np.zeros((5, 2), np.float32)


class Settings(dict):
    """As of easydict or yacs."""


def settings():
    found = Settings(lr=0.1, sizes=np.arange(3))
    found.frozen = True
    return found


WRAPPINGS = {
    "bare": lambda s: s,
    "net": lambda s: {"net": s, "test_acc": 74.1},
    "model_state_dict, optimiser": lambda s: {
        "iter": 1, "model_state_dict": s,
        "optimizer_state_dict": {"state": {i: {"exp_avg": torch.zeros(3)} for i in range(3000)}},
    },
    "state_dict of DataParallel, recorder": lambda s: {
        "epoch": 100, "state_dict": {f"module.{k}": v for k, v in s.items()}, "best_acc": torch.tensor(88.4),
        "recorder": RecorderMeter(),
    },
    "numpy numbers": lambda s: {"model": s, "acc": np.float64(74.1), "curve": np.zeros(4)},
    "settings and histories": lambda s: {"args": argparse.Namespace(lr=1), "history": defaultdict(list, a=[1]),
                                         "cfg": settings(), "model": s},
}  # fmt: skip


#: Every wrapping and both file formats with the network that is quickest to build, and each other layout once.
CASES = [("resemotenet", wrapping, zipped) for wrapping in WRAPPINGS for zipped in (True, False)]
CASES += [
    ("resmasking", "net", False),
    ("lfnsb", "model_state_dict, optimiser", True),
    ("manet", "state_dict of DataParallel, recorder", True),
]


@pytest.mark.parametrize(("name", "wrapping", "zipped"), CASES)
def test_checkpoints_of_the_authors(name, wrapping, zipped, tmp_path):
    source = build(name)
    content = WRAPPINGS[wrapping](LAYOUTS[name](source.state_dict()))
    torch.save(content, tmp_path / "theirs.pth", _use_new_zipfile_serialization=zipped)
    back = create_model(name, weights=str(tmp_path / "theirs.pth"))
    assert same(back, source) and back.spec["width"] == WIDTH and back.labels == source.labels
    with pytest.raises(ValueError, match=r"theirs.pth is of width 0.0625, not 1$"):
        create_model(name, weights=tmp_path / "theirs.pth", width=1)


@pytest.mark.parametrize("name", LAYOUTS)
def test_safetensors_of_others_and_whole_modules(name, tmp_path):
    source = build(name)
    state = {f"_orig_mod.{k}": v.contiguous() for k, v in LAYOUTS[name](source.state_dict()).items()}
    save_file(state, tmp_path / "converted.safetensors")
    assert same(create_model(name, weights=tmp_path / "converted.safetensors"), source)
    if name == "resemotenet":
        torch.save(nn.DataParallel(source), tmp_path / "whole.pth")
        assert same(create_model(name, weights=tmp_path / "whole.pth", width=WIDTH, num_classes=7), source)


def test_options_that_names_give_away_are_taken_and_others_said(tmp_path):
    for name, options in (
        ("resemotenet", {"head": "linear"}),
        ("resmasking", {"head": "linear"}),
        ("manet", {"num_classes": 20}),
    ):
        source = build(name, **options)
        torch.save(source.state_dict(), tmp_path / "x.pth")
        assert same(create_model(name, weights=tmp_path / "x.pth"), source)
    torch.save(build("resemotenet", ablation="C3").state_dict(), tmp_path / "x.pth")
    with pytest.raises(
        ValueError,
        match=r"x.pth is not of this network: no conv1.weight; .*The network was resemotenet of "
        r"width 1.* ablation='C1'",
    ):
        create_model("resemotenet", weights=tmp_path / "x.pth")
    assert (
        create_model("resemotenet", weights=tmp_path / "x.pth", ablation="C3", width=WIDTH).spec["options"]["ablation"]
        == "C3"
    )


def test_a_folder_of_esr(tmp_path):
    for attention in (None, "cbam"):
        source = build("esr", branches=2, attention=attention)
        for part, file in (
            (source.base, "Net-Base-Shared_Representations.pt"),
            *((b, f"Net-Branch_{i}.pt") for i, b in enumerate(source.branches, 1)),
        ):
            state = {}
            for key, value in part.state_dict().items():
                key = re.sub(r"^attention(\d)", r"cbam\1", key).replace("channel_gate.mlp.0", "ChannelGate.mlp.1")
                state[
                    key.replace("channel_gate.mlp.2", "ChannelGate.mlp.3").replace(
                        "spatial_gate.", "SpatialGate.spatial."
                    )
                ] = value
            torch.save(state, tmp_path / file)
        back = create_model("esr", weights=tmp_path)
        assert same(back, source) and back.spec["options"] == {
            "branches": 2,
            "attention": attention,
            "valence_arousal": False,
        }
    (tmp_path / "Net-Branch_1.pt").unlink()
    with pytest.raises(FileNotFoundError, match="lacks Net-Base-Shared_Representations.pt or Net-Branch_1.pt"):
        create_model("esr", weights=tmp_path)


def test_a_backbone_without_classifier_is_to_start_from(tmp_path):
    """DDAMFN publishes MixedFeatureNet as a whole module with an embedding, and with layers that it never calls."""
    source = build("mfn")
    state = {k: v for k, v in source.state_dict().items() if not k.startswith("fc.")}
    state |= {
        "linear.weight": torch.zeros(9, 3),
        "bn.weight": torch.zeros(9),
        "conv_23.conv_dw.bn.weight": torch.zeros(9),
        "conv_3.model.0.conv_dw.prelu.weight": torch.zeros(9),
    }
    torch.save(state, tmp_path / "MFN_msceleb.pth")
    with pytest.raises(
        ValueError, match=r"MFN_msceleb.pth has no classifier \(fc.weight, fc.bias\): start from it with initialise"
    ):
        create_model("mfn", weights=tmp_path / "MFN_msceleb.pth")
    model = build("mfn", num_classes=5)
    assert initialise(model, tmp_path / "MFN_msceleb.pth").stayed == ["fc.bias", "fc.weight"]
    assert torch.equal(model.conv1.conv.weight, source.conv1.conv.weight)
    assert load_released(model, tmp_path / "MFN_msceleb.pth") == ["fc.weight", "fc.bias"]


NO_WEIGHTS = {
    "empty": (b"", "is empty"),
    "pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n",
        "pointer of Git LFS.*git lfs pull",
    ),
    "page": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page, not weights"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page, not weights"),
    "json": (b'{"message": "Not Found"}', "cannot be read as weights"),
    "text": (b"hello there", "cannot be read as weights"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(300), "cannot be read as weights"),
    "zip": (b"PK\x03\x04" + bytes(300), "cannot be read as weights"),
}


@pytest.mark.parametrize("kind", NO_WEIGHTS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ""])
def test_what_is_no_weights_is_one_sentence(kind, suffix, tmp_path):
    content, complaint = NO_WEIGHTS[kind]
    file = tmp_path / f"weights{suffix}"
    file.write_bytes(content)
    for attempt in (
        lambda: create_model("lfnsb", weights=file),
        lambda: initialise(build("lfnsb"), file),
        lambda: read_tensors(file),
    ):
        with pytest.raises(ValueError, match=complaint) as caught:
            attempt()
        assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.01, 0.5, 0.999])
def test_cut_files_are_one_sentence(zipped, kept, tmp_path):
    file = tmp_path / "cut.pth"
    torch.save(build("lfnsb").state_dict(), file, _use_new_zipfile_serialization=zipped)
    data = file.read_bytes()
    file.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(ValueError, match="cut.pth cannot be read as weights") as caught:
        create_model("lfnsb", weights=file)
    assert "\n" not in str(caught.value)


def test_absent_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file of weights at .*gone.pth"):
        create_model("lfnsb", weights=str(tmp_path / "gone.pth"))
    with pytest.raises(
        FileNotFoundError, match="no weights to start from: .* expected a published name, a file, or imagenet"
    ):
        initialise(build("lfnsb"), "nobody")
    with pytest.raises(ValueError, match="is a folder; expected a file"):
        create_model("lfnsb", weights=tmp_path)


def test_what_lies_beside_the_weights(tmp_path):
    torch.save(
        {"net": build("lfnsb").state_dict(), "acc": 0.7, "who": "me", "recorder": RecorderMeter()}, tmp_path / "x.pth"
    )
    assert read_released("lfnsb", tmp_path / "x.pth").beside == {"acc": 0.7, "who": "me"}


# --- fine-tuning ------------------------------------------------------------------------------------------------------


@pytest.fixture
def published(tmp_path, monkeypatch):
    monkeypatch.setenv("FERKIT_WEIGHTS", str(tmp_path))
    source = build("lfnsb")
    save_weights(source, tmp_path / "lfnsb-fer.safetensors", weights="fer")
    return source


@pytest.mark.parametrize(
    "labels",
    [
        ("happiness", "sadness", "neutral"),
        ("neutral", "boredom", "anger", "pain"),
        ("neutral", "sadness", "happiness", "anger", "fear", "disgust", "surprise"),
        None,
    ],
)
def test_rows_of_the_head_are_kept_by_class_name(published, labels):
    theirs = published.labels
    labels = (*theirs, "contempt") if labels is None else labels
    model = build("lfnsb", num_classes=len(labels), labels=labels)
    before = model.fc.weight.clone()
    done = initialise(model, "fer")
    assert done.stayed == [] and torch.equal(model.conv1.conv.weight, published.conv1.conv.weight)
    assert done.kept == tuple(n for n in labels if n in theirs) and done.new == tuple(
        n for n in labels if n not in theirs
    )
    assert set(done.dropped) == set(theirs) - set(labels)
    for i, name in enumerate(labels):
        expected = published.fc.weight[theirs.index(name)] if name in theirs else before[i]
        assert torch.equal(model.fc.weight[i], expected), name
    said = str(done)
    assert f"rows of the head kept for {', '.join(done.kept)}" in said
    assert all(
        f"{word}: {', '.join(names)}" in said
        for word, names in (("new and random", done.new), ("dropped", done.dropped))
        if names
    )


def test_a_run_says_what_it_kept_and_dropped(published):
    said = []
    recipe = Recipe(name="tuned", model="lfnsb", width=WIDTH, init="fer", image_size=112)
    model = build_model(recipe, ("happiness", "boredom"), say=said.append)
    assert said == [
        (
            "started from fer: rows of the head kept for happiness; new and random: boredom; dropped: "
            f"{', '.join(n for n in published.labels if n != 'happiness')}"
        )
    ]
    assert torch.equal(model.fc.weight[0], published.fc.weight[published.labels.index("happiness")])


def test_unknown_classes_leave_the_head_alone(published):
    model = build("lfnsb", num_classes=3, labels=("bored", "calm", "tense"))
    before = model.fc.weight.clone()
    assert initialise(model, "fer") == (["fc.bias", "fc.weight"], (), (), ())
    assert torch.equal(model.fc.weight, before)


def test_classes_of_the_authors_files_are_known_by_their_number(tmp_path):
    source = build("resemotenet")  # happiness first
    torch.save({"model_state_dict": source.state_dict()}, tmp_path / "theirs.pth")
    model = build("resemotenet", labels=("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"))
    assert initialise(model, tmp_path / "theirs.pth").kept == model.labels
    assert torch.equal(model.fc4.bias[3], source.fc4.bias[source.labels.index("happiness")])


def test_frozen_parts_keep_parameters_statistics_and_mode():
    model = build("resemotenet")
    freeze(model, ["conv1", "bn1", "res_block2", "fc4.bias"])
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for _ in range(2):
        model.train()
        assert model.training and model.bn2.training and not model.bn1.training and not model.res_block2.bn2.training
        loss = nn.functional.cross_entropy(model(torch.randn(4, 3, 64, 64)), torch.arange(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.eval()
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    frozen = {k for k in before if k.startswith(("conv1.", "bn1.", "res_block2.")) or k == "fc4.bias"}
    assert (
        not moved & frozen and {"conv2.weight", "bn2.running_mean", "res_block1.bn2.running_var", "fc4.weight"} <= moved
    )


def test_thawed_parts_are_trained_again():
    model = build("resemotenet")
    freeze(model, ["conv", "bn1", "fc4.bias"])
    thaw(model, ["conv", "fc4.bias"])
    model.train()
    assert all(p.requires_grad == (not k.startswith("bn1.")) for k, p in model.named_parameters())
    assert model.conv1.training and not model.bn1.training
    model.eval()
    thaw(model, "bn1")
    assert not model.bn1.training and model.bn1.weight.requires_grad
    model.train()
    assert model.bn1.training
    with pytest.raises(ValueError, match="has no submodule 'conv9'"):
        thaw(model, "conv9")


def test_frozen_lists_copies_and_unknown_names():
    import copy
    import pickle

    model = build("esr", branches=2)
    freeze(model, "branches")
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model.branches))):
        again.train()
        branches = getattr(again, "branches", again)
        assert not branches[1].bn1.training and not any(p.requires_grad for p in branches.parameters())
    assert copy.deepcopy(model).train().base.bn1.training
    with pytest.raises(ValueError, match="ESR has no submodule 'brunch'; close: .*branches"):
        freeze(model, "brunch")
    several = build("resnet18")
    freeze(several, "layer")
    several.train()
    assert not several.layer1.training and not several.layer4[1].bn2.training and several.bn1.training
