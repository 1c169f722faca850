r"""What attention blocks do to a picture: gates over channels and places, masks, coordinate strips, patches.

Everything is read from named submodules with `capture`, so it works for any network whose blocks follow the naming of
`ferkit.models.attention`, and for timm's squeeze-and-excitation and CBAM, which follow it too. Values are those of the
network: nothing is stretched, cut off or resized.

About the masks of the Residual Masking Network: the released one is a softmax over the channels, so $\sum_c F_M = 1$ at
every place, and the channel mean $1/C$ is a constant picture, whatever the face. It cannot show where the network
looks. What can differ from place to place is shown instead: the channel sums of $F_R$, $F_R \odot F_M$ and $F_N$ (all
at least 0, since $F_R$ leaves a ReLU), and the channel maximum of $F_M$, which says how much one channel is preferred
at a place.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ferkit.explain.forward import in_single_precision, some_pictures
from ferkit.models.attention import SpatialBias
from ferkit.models.capture import capture
from ferkit.models.guard import device_of
from ferkit.models.manet import MANet, mosaic
from ferkit.models.resmasking import MaskingBlock
from ferkit.predict import prepare_for

#: A reading is names of submodules and what to make of their outputs: {name: (B, h, w) or (B, C)}.
Reading = tuple[list[str], Callable[[dict[str, Tensor]], dict[str, Tensor]]]


def attention_maps(model: nn.Module, images: Any, *, batch_size: int = 16) -> dict[str, np.ndarray]:
    """Return every gate, mask and patch map of a network, in the order of its submodules; empty if it has none.

    What is over places is (N, h, w), what is over channels (N, C). Names are those of the submodules, a quantity
    computed from their output stands behind a colon:

    - squeeze-and-excitation, CBAM: `X.gate`, `X.channel_gate` (N, C) and `X.spatial_gate` (N, h, w), in (0, 1).
    - a gate (C, h, w) per picture, as of BAM (before 1 is added) and the Residual Attention Network:
      `X.gate: channel mean` (N, h, w) and `X.gate: place mean` (N, C).
    - coordinate attention: `X.height_gate` (N, h, 1) and `X.width_gate` (N, 1, w), channel means, and of their outer
      product `X.product` (N, h, w) and `X.product: place mean` (N, C). The mean of the products is not the product of
      the means.
    - masking blocks: `maskK: F_R`, `maskK: F_R*F_M`, `maskK: F_N` (channel sums), `maskK: max F_M`, `maskK: mean F_M`,
      all (N, h, w), and `maskK: place mean` (N, C). With a channel softmax `mean F_M` is constant, see the module's
      text.
    - spatial bias: `X: channel mean` (N, r, r), any sign.
    - ESR with CBAM: `base.attentionI...`, and `branches.L.attentionI...` for each branch.
    - MA-Net: `local_map: channel mean`, `global_map: channel mean`, and the gates of the four patches put back in their
      places under one name, `local.layer3.0.cbam.spatial_gate` (N, 2h, 2w); channel gates stay one per patch.

    Args:
        model: any network of `create_model`; left as it was.
        images: uint8 pictures (N, H, W), (N, 1, H, W) or (N, 3, H, W), of any size, or whatever else `as_batch` takes.
        batch_size: pictures at a time.

    Raises:
        ValueError: pictures of another shape or type, or an empty array.

    """
    batch = some_pictures(images)
    parts: dict[str, list[np.ndarray]] = {}
    with in_single_precision(model) as net, torch.no_grad():
        readings = list(_readings(net))
        names = {name for needed, _ in readings for name in needed}
        if not names:
            return {}
        for i in range(0, len(batch), batch_size):
            with capture(net, names) as seen:
                net(prepare_for(net, batch[i : i + batch_size]).to(device_of(net)))
            found = {name: value for _, read in readings for name, value in read(seen).items()}
            for name, value in (_patches_in_place(found) if isinstance(net, MANet) else found).items():
                parts.setdefault(name, []).append(value.cpu().numpy())
    return {name: np.concatenate(values) for name, values in parts.items()}


def spatial_maps(model: nn.Module, images: Any, *, batch_size: int = 16) -> dict[str, np.ndarray]:
    """Return the part of `attention_maps` that is over places: (N, h, w) each, (N, h, 1) and (N, 1, w) for strips."""
    return {
        name: value for name, value in attention_maps(model, images, batch_size=batch_size).items() if value.ndim == 3
    }


def channel_gates(model: nn.Module, images: Any, *, batch_size: int = 16) -> dict[str, np.ndarray]:
    """Return the part of `attention_maps` that is over channels: (N, C) each."""
    return {
        name: value for name, value in attention_maps(model, images, batch_size=batch_size).items() if value.ndim == 2
    }


def _readings(model: nn.Module) -> Iterator[Reading]:
    for name, module in model.named_modules():
        dot = f"{name}." if name else ""
        children = dict(module.named_children())
        if isinstance(module, MaskingBlock):
            yield _masking_block(model, name)
        elif isinstance(module, SpatialBias):
            yield [name], lambda seen, name=name: {f"{name}: channel mean": seen[name].mean(1)}  # type: ignore[misc]
        elif {"height_gate", "width_gate"} <= children.keys():
            yield _coordinate_attention(name, dot)
        elif "gate" in children:
            yield _gate(f"{dot}gate")
        else:
            for child in ("channel_gate", "spatial_gate"):
                if child in children:
                    yield _gate(f"{dot}{child}")
    if isinstance(model, MANet):
        for name in ("local_map", "global_map"):
            yield [name], lambda seen, name=name: {f"{name}: channel mean": seen[name].mean(1)}  # type: ignore[misc]


def _gate(name: str) -> Reading:
    def read(seen: dict[str, Tensor]) -> dict[str, Tensor]:
        gate = seen[name]  # (B, C, 1, 1), (B, 1, h, w) or (B, C, h, w)
        if gate.shape[1] == 1 and (gate[0, 0].numel() > 1 or "spatial" in name):
            return {name: gate[:, 0]}  # (B, h, w)
        if gate[0, 0].numel() == 1:
            return {name: gate.flatten(1)}  # (B, C)
        return {f"{name}: channel mean": gate.mean(1), f"{name}: place mean": gate.mean((2, 3))}  # (B, h, w), (B, C)

    return [name], read


def _coordinate_attention(name: str, dot: str) -> Reading:
    names = [f"{dot}height_gate", f"{dot}width_gate"]

    def read(seen: dict[str, Tensor]) -> dict[str, Tensor]:
        height, width = (seen[n] for n in names)  # (B, C, h, 1), (B, C, 1, w)
        product = f"{dot}product"
        return {
            names[0]: height.mean(1),  # (B, h, 1)
            names[1]: width.mean(1),  # (B, 1, w)
            product: (height * width).mean(1),  # (B, h, w)
            f"{product}: place mean": (height * width).mean((2, 3)),  # (B, C)
        }

    return names, read


def _masking_block(model: nn.Module, name: str) -> Reading:
    """F_R, F_M and F_N of the block `maskK` are the outputs of `layerK`, `maskK` and `maskedK`."""
    stage = re.fullmatch(r"mask(\d+)", name)
    around = [f"layer{stage[1]}", f"masked{stage[1]}"] if stage else []
    around = around if all(n in dict(model.named_children()) for n in around) else []

    def read(seen: dict[str, Tensor]) -> dict[str, Tensor]:
        f_m = seen[name]  # (B, C, h, w)
        shown: dict[str, Tensor] = {}
        if around:
            f_r, f_n = (seen[n] for n in around)
            shown = {"F_R": f_r.sum(1), "F_R*F_M": (f_r * f_m).sum(1), "F_N": f_n.sum(1)}
        shown |= {"max F_M": f_m.amax(1), "mean F_M": f_m.mean(1), "place mean": f_m.mean((2, 3))}
        return {f"{name}: {what}": value for what, value in shown.items()}

    return [name, *around], read


def _patches_in_place(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Four spatial gates `local.patches.P.X` (B, h, w) become one, `local.X` (B, 2h, 2w), where the first of them was.
    """
    joined: dict[str, Tensor] = {}
    for name, value in found.items():
        match = re.fullmatch(r"local\.patches\.(\d)\.(.*spatial_gate)", name)
        if match is None:
            joined[name] = value
        elif match[1] == "0":
            four = torch.stack([found[f"local.patches.{p}.{match[2]}"] for p in range(4)])  # (4, B, h, w)
            joined[f"local.{match[2]}"] = mosaic(four[:, :, None])[:, 0]
    return joined
