"""Weights in the layouts of the authors' files, for ESR and MA-Net: read safely, renamed, and checked before anything is copied.

The workbook ships none of these files. Names of tensors as in
siqueira-hc/Efficient-Facial-Feature-Learning-with-Wide-Ensemble-based-Convolutional-Neural-Networks@14b121f model/ml/esr_9.py,
negarhdr/Diversified-Facial-Expression-Recognition@03164c5 model/diversified_esr.py and cbam.py, zengqunzhao/MA-Net@923fa6c
model/manet.py.
"""

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from ferkit.models.esr import ESR
from ferkit.models.manet import MANet

BASE_FILE = "Net-Base-Shared_Representations.pt"
BRANCH_FILE = "Net-Branch_{}.pt"  # counted from 1

_CBAM = (
    (r"ChannelGate\.mlp\.1\.", "channel_gate.mlp.0."),  # the released MLP starts with a layer that flattens
    (r"ChannelGate\.mlp\.3\.", "channel_gate.mlp.2."),
    (r"SpatialGate\.spatial\.", "spatial_gate."),
)
_ESR = (*_CBAM, (r"^cbam(\d)\.", r"attention\1."))
_MANET = (
    (r"^module\.", ""),
    *_CBAM,
    (r"^fc_1\.", "fc_local."),
    (r"^fc_2\.", "fc_global."),
    (r"^layer([34])_2\.", r"global_layer\1."),
    *((rf"^layer([34])_1_p{p}\.", rf"local.patches.{p - 1}.layer\1.") for p in (1, 2, 3, 4)),
    *(
        (rf"\.conv{path}_2_{g}\.", f".chain_{chain}.convs.{g - 1}.")
        for path, chain in ((1, "a"), (2, "b"))
        for g in (1, 2, 3, 4)
    ),
    *(
        (rf"\.bn{path}_2_{g}\.", f".chain_{chain}.bns.{g - 1}.")
        for path, chain in ((1, "a"), (2, "b"))
        for g in (1, 2, 3, 4)
    ),
)


def load_released_branches(model: ESR, folder: str | Path, *, bgr: bool = False) -> list[str]:
    """Copy an ensemble saved by the released scripts of ESR or diversified ESR into a network of `create_model("esr", ...)`.

    Args:
        model: width 1, `attention="cbam"` for files of the diversified one. With fewer branches than the folder has files
            it gets the first ones.
        folder: holds "Net-Base-Shared_Representations.pt" and "Net-Branch_1.pt", "Net-Branch_2.pt" ...: state dicts.
        bgr: the weights were trained on blue-green-red pictures, as OpenCV reads them and as the released AffectNet
            scripts do. The first convolution's input channels are turned round, so that the network takes RGB.

    Returns:
        Names of the tensors that stayed as they were: a classifier for another number of classes (`fc`), or a
        valence-arousal layer the files lack. What the files have of the latter beyond the network is left out.

    Raises:
        FileNotFoundError: no such folder, or a file is missing.
        ValueError: a file that does not hold tensors alone, or tensors of another network. The network is then unchanged.

    """
    folder = Path(folder)
    files = [folder / BASE_FILE, *(folder / BRANCH_FILE.format(i + 1) for i in range(len(model.branches)))]
    missing = [f.name for f in files if not f.is_file()]
    if missing:
        present = sum((folder / BRANCH_FILE.format(i + 1)).is_file() for i in range(100))
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(missing)}: expected {BASE_FILE} and one {BRANCH_FILE.format('i')} per branch, "
            f"i from 1; found {present} branches, the network has {len(model.branches)} (create_model('esr', branches=...))"
        )
    parts: list[tuple[str, nn.Module]] = [("base", model.base)]
    parts += [(f"branches.{i}", branch) for i, branch in enumerate(model.branches)]
    stayed: list[str] = []
    plans = []
    for file, (name, part) in zip(files, parts, strict=True):
        state = _renamed(_tensors(file), _ESR)
        if getattr(part, "fc_dimensional", None) is None:
            state = {k: v for k, v in state.items() if not k.startswith("fc_dimensional.")}
        if bgr and name == "base" and "conv1.weight" in state:
            state["conv1.weight"] = state["conv1.weight"].flip(1)
        fitting, left = _fitting(part, state, file, heads=("fc.", "fc_dimensional."))
        plans.append((part, fitting))
        stayed += [f"{name}.{k}" for k in left]
    for part, fitting in plans:
        part.load_state_dict(fitting, strict=False)
    return stayed


def load_released_manet(model: MANet, file: str | Path) -> list[str]:
    """Copy a checkpoint saved by MA-Net's released script, such as the one trained on MS-Celeb-1M, into `create_model("manet")`.

    Args:
        model: width 1. The files of both directions of the global blocks have the same names: `multi_scale` has to be
            known from elsewhere.
        file: a state dict, or a dictionary with one under "state_dict"; names may begin with "module.".

    Returns:
        Names of the tensors that stayed as they were: both classifiers if the file's are for another number of classes
        (12,666 identities in the MS-Celeb-1M checkpoint).

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that does not hold tensors alone, or tensors of another network. The network is then unchanged.

    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"no checkpoint of MA-Net at {file}")
    fitting, left = _fitting(model, _renamed(_tensors(file), _MANET), file, heads=("fc_local.", "fc_global."))
    model.load_state_dict(fitting, strict=False)
    return left


def _tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a .pt file; weights_only=True runs no code that such a file may hold."""
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no error type of its own
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{file} cannot be read as a file of tensors alone ({reason}); expected a state dict saved by torch.save"
        ) from None
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not found or not all(isinstance(v, Tensor) for v in found.values()):
        raise ValueError(
            f"{file} holds no state dict; expected names and tensors, or a dictionary with them under 'state_dict'"
        )
    return found


def _renamed(state: dict[str, Tensor], rules: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in state.items():
        for pattern, ours in rules:
            name = re.sub(pattern, ours, name)  # noqa: PLW2901
        renamed[name] = tensor
    return renamed


def _fitting(
    module: nn.Module, state: dict[str, Tensor], file: Path, *, heads: tuple[str, ...]
) -> tuple[dict[str, Tensor], list[str]]:
    """What of a file is copied, and the names that stay: only those of heads may lack or differ in shape."""
    own = module.state_dict()
    # Files written before PyTorch 0.4.1 do not count batches.
    wanted = [k for k in own if not k.endswith("num_batches_tracked")]
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    left = [k for k in wanted if k not in fitting]
    wrong = [k for k in left if not k.startswith(heads)]
    unknown = [k for k in state if k not in own]
    if wrong or unknown:
        shapes = [f"{k} {tuple(state[k].shape)} instead of {tuple(own[k].shape)}" for k in wrong if k in state]
        lacking = [f"no {k}" for k in wrong if k not in state]
        extra = [f"{k} which the network lacks" for k in unknown]
        listed = [*shapes, *lacking, *extra]
        raise ValueError(
            f"{file.name} is not of this network: {'; '.join(listed[:3])}{f' and {len(listed) - 3} more' if len(listed) > 3 else ''}. "
            "Released files are of width 1, and those with CBAM need the network with CBAM"
        )
    return fitting, left
