"""Weights in the layouts of the authors' files: read safely, renamed to our names,
and checked before anything is copied.

The workbook ships none of these files. `create_model(name, weights=FILE)` and `initialise(model, FILE)` take them.
Names of tensors as in ArnabKumarRoy02/ResEmoteNet@fabbe680 (ours are the same),
phamquiluan/ResidualMaskingNetwork@9141618, 1chenchen22/LFNSB@caf8fad and the networks it comes from
(SainingZhang/DDAMFN@351825e), zengqunzhao/MA-Net@923fa6c,
siqueira-hc/Efficient-Facial-Feature-Learning-with-Wide-Ensemble-based-Convolutional-Neural-Networks@5980cbf and
negarhdr/Diversified-Facial-Expression-Recognition@808a02a.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from ferkit.models.tensors import Contents, read_tensors

Rules = Sequence[tuple[str, str]]
State = dict[str, Tensor]

BASE_FILE = "Net-Base-Shared_Representations.pt"
BRANCH_FILE = "Net-Branch_{}.pt"  # counted from 1

_CBAM: Rules = (
    (r"ChannelGate\.mlp\.1\.", "channel_gate.mlp.0."),  # the released MLP starts with a layer that flattens
    (r"ChannelGate\.mlp\.3\.", "channel_gate.mlp.2."),
    (r"SpatialGate\.spatial\.", "spatial_gate."),
)
_ESR: Rules = (*_CBAM, (r"^cbam(\d)\.", r"attention\1."))
_MANET: Rules = (
    *_CBAM,
    (r"^fc_1\.", "fc_local."),
    (r"^fc_2\.", "fc_global."),
    (r"^layer([34])_2\.", r"global_layer\1."),
    *((rf"^layer([34])_1_p{p}\.", rf"local.patches.{p - 1}.layer\1.") for p in (1, 2, 3, 4)),
    *(
        (rf"\.{ours[:-1]}{path}_2_{g}\.", f".chain_{chain}.{ours}.{g - 1}.")
        for path, chain in ((1, "a"), (2, "b"))
        for g in (1, 2, 3, 4)
        for ours in ("convs", "bns")
    ),
)
# LFNSB and DDAMFN number the children of their backbone where they take it apart.
_NUMBERED = ("conv1", "conv2_dw", "conv_23", "conv_3", "conv_34", "conv_4", "conv_45", "conv_5", "conv_6_sep")
_FAMILY: Rules = (
    *((rf"^features\.{i}\.", f"{name}.") for i, name in enumerate(_NUMBERED)),
    (r"\.prelu\.", ".act."),
    (r"^(conv1|conv2_dw)\.c\.", r"\1.conv."),
    (r"^(conv_23|conv_34|conv_45)\.(?!\d)", r"\1.0."),  # a stage of one block has no number there
    (r"^(conv_[345])\.model\.", r"\1."),
    (r"^(conv_\d+\.\d+)\.conv\.", r"\1.expand."),
    (r"\.conv_dw\.mixed_depthwise_conv\.", ".depthwise.convs."),
    (r"\.conv_dw\.", ".depthwise."),
    (r"\.CA\.conv2\.", ".attention.conv_height."),
    (r"\.CA\.conv3\.", ".attention.conv_width."),
    (r"\.CA\.", ".attention."),
)
_LFN: Rules = (
    *_FAMILY,
    (r"^(conv6_sep|conv_6_sep)\.", "repvgg."),
    (r"^repvgg\.conv\.c\.", "repvgg.conv3."),
    (r"^repvgg\.conv\.bn\.", "repvgg.bn3."),
    (r"^sb\.feature_reduction\.0\.", "spatial_bias.reduce."),
    (r"^sb\.feature_reduction\.1\.", "spatial_bias.bn."),
    (r"^sb\.sb_conv\.", "spatial_bias.mix."),
)
# What the released code constructs and never calls, and the embedding that DDAMFN and LFNSB leave out as classifiers.
_UNUSED = {
    "mobilefacenet": r"(linear|bn)\.",
    "mfn": r"(linear|bn|cat_head\d|Linear)\.|.*\.depthwise\.(bn|act)\.",
    "lfn": r"(linear|bn)\.",
    "lfnsb": r"(linear|bn)\.",
}


def _masking(state: Mapping[str, Tensor]) -> State:
    """The Residual Masking Network: encoder and decoder of a masking block are counted through, up to twice its depth.

    `mask{s}.conv{k}` is `mask{s}.encode.{k-1}` for the first half of the k of that block and `decode` for the second;
    `up_pool{k}` goes with decoder `conv{k}`. `mask{s}.downsample{k}.*` repeats `mask{s}.conv{k}.downsample.*` and is
    dropped.
    """
    units: dict[str, int] = {}  # per block: the highest k, twice its depth
    for key in state:
        if unit := re.match(r"(mask\d+)\.conv(\d+)\.", key):
            units[unit[1]] = max(units.get(unit[1], 0), int(unit[2]))
    renamed = {}
    for key, value in state.items():
        part = re.match(r"(mask\d+)\.(conv|up_pool|downsample)(\d+)\.(.*)", key)
        if part is None or part[1] not in units:
            renamed[key] = value
        elif part[2] != "downsample":
            depth, k = units[part[1]] // 2, int(part[3]) - 1
            name = "up" if part[2] == "up_pool" else "encode" if k < depth else "decode"
            renamed[f"{part[1]}.{name}.{k if name == 'encode' else k - depth}.{part[4]}"] = value
    return renamed


def _by(rules: Rules) -> Callable[[Mapping[str, Tensor]], State]:
    def rename(state: Mapping[str, Tensor]) -> State:
        renamed = {}
        for name, tensor in state.items():
            for pattern, ours in rules:
                name = re.sub(pattern, ours, name)  # noqa: PLW2901
            renamed[name] = tensor
        return renamed

    return rename


_LAYOUTS: dict[str, Callable[[Mapping[str, Tensor]], State]] = {
    "resmasking": _masking,
    "manet": _by(_MANET),
    "esr": _by(_ESR),
    "mobilefacenet": _by(_FAMILY),
    "mfn": _by(_FAMILY),
    "lfn": _by(_LFN),
    "lfnsb": _by(_LFN),
}


def in_our_names(network: str, state: Mapping[str, Tensor]) -> State:
    """Return a state dict of the authors' code for `network` under our names;
    one that has our names already stays as it is.
    """
    renamed = _LAYOUTS.get(network, dict)(state)
    unused = _UNUSED.get(network)
    return renamed if unused is None else {k: v for k, v in renamed.items() if not re.match(unused, k)}


def read_released(network: str, path: str | Path) -> Contents:
    """Read a file of the authors (or a folder, for ESR), with its tensors under our names.

    Args:
        network: a name of `list_models()`.
        path: what `read_tensors` takes; or the folder in which the scripts of ESR and of its diversified form leave
            "Net-Base-Shared_Representations.pt" and "Net-Branch_1.pt", "Net-Branch_2.pt" ...

    Raises:
        FileNotFoundError: no such file, or a folder that lacks one of ESR's.
        ValueError: what `read_tensors` refuses.

    """
    path = Path(path)
    if network == "esr" and path.is_dir():
        return Contents(_esr_folder(path), {}, {})
    found = read_tensors(path)
    return found._replace(tensors=in_our_names(network, found.tensors))


def _esr_folder(folder: Path) -> State:
    branches: list[Path] = []
    while (file := folder / BRANCH_FILE.format(len(branches) + 1)).is_file():
        branches.append(file)
    if not (folder / BASE_FILE).is_file() or not branches:
        raise FileNotFoundError(
            f"{folder} lacks {BASE_FILE} or {BRANCH_FILE.format(1)}: expected the base and one file per "
            "branch, counted from 1"
        )
    rename = _LAYOUTS["esr"]
    state = {f"base.{name}": v for name, v in rename(read_tensors(folder / BASE_FILE).tensors).items()}
    for i, file in enumerate(branches):
        state |= {f"branches.{i}.{name}": v for name, v in rename(read_tensors(file).tensors).items()}
    return state


def misfit(state: Mapping[str, Tensor], own: Mapping[str, Tensor], *, may_differ: Sequence[str] = ()) -> str:
    """Say in a few words how a state dict differs from a network's own; "" where it fits.

    Args:
        state: under our names.
        own: the network's.
        may_differ: names that may lack or have another shape, such as those of the head.

    """
    # Files written before PyTorch 0.4.1 do not count batches.
    wanted = [k for k in own if not k.endswith("num_batches_tracked") and k not in may_differ]
    listed = [f"no {k}" for k in wanted if k not in state]
    listed += [f"{k} which the network lacks" for k in state if k not in own]
    listed += [
        f"{k} {tuple(state[k].shape)} instead of {tuple(own[k].shape)}"
        for k in wanted
        if k in state and state[k].shape != own[k].shape
    ]
    return "; ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")


def told_by_names(network: str, state: Mapping[str, Tensor]) -> dict[str, object]:
    """Return the options of a network that the names of its tensors give away,
    such as the number of branches of an ESR.
    """
    if network == "esr":
        branches = {name.split(".")[1] for name in state if name.startswith("branches.")}
        return {
            "branches": max(1, len(branches)),
            "attention": "cbam" if any(".channel_gate." in name for name in state) else None,
            "valence_arousal": any(".fc_dimensional." in name for name in state),
        }
    if network in ("resmasking", "resemotenet") and "fc.weight" in state:
        return {"head": "linear"}
    return {}
