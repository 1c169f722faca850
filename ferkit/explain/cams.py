r"""Class activation maps: which places of a layer's map speak for a class.

The formulas are those of the grad-cam package (github.com/jacobgil/pytorch-grad-cam); what surrounds them is ours,
because the package's own run switches the model to evaluation mode for good, clears its gradients, keeps maps that a
following in-place ReLU overwrites, cannot take bfloat16 and swallows an IndexError raised inside its `with` block.
"""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, ScoreCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.nn import functional as F

from ferkit.explain.forward import Target, in_single_precision, refuse_unknown_class, some_pictures, target_indices
from ferkit.models import FerModel
from ferkit.models.capture import capture, module_by_name
from ferkit.models.guard import device_of, refuse_unprepared, unwrapped
from ferkit.predict import prepare_for

_ENGINES = {
    "gradcam": GradCAM,  # Selvaraju et al., ICCV 2017, arXiv 1610.02391
    "gradcam++": GradCAMPlusPlus,  # Chattopadhyay et al., WACV 2018, arXiv 1710.11063
    "hirescam": HiResCAM,  # Draelos & Carin, arXiv 2011.08891
    "layercam": LayerCAM,  # Jiang et al., TIP 2021, doi 10.1109/TIP.2021.3089943
    "scorecam": ScoreCAM,  # Wang et al., CVPRW 2020, arXiv 1910.01279; one forward per channel, no gradient
}

#: Names that `cam` and `raw_cam` take as `method`.
METHODS = (*_ENGINES, "eigencam")


def grad_cam_by_hand(model: nn.Module, inputs: Tensor, layer: str, target: int) -> Tensor:
    r"""Grad-CAM written out (Selvaraju et al., arXiv 1610.02391, equations 1 and 2).

    $\alpha_c = \frac{1}{hw}\sum_{ij} \partial y / \partial A_c(i,j)$, then $L = \mathrm{ReLU}(\sum_c \alpha_c A_c)$,
    with $A$ the output of the layer and $y$ the logit of the class.

    Args:
        model: a classifier in evaluation mode, (B, ...) to logits (B, K).
        inputs: what the model takes (already normalised).
        layer: dotted name of a submodule whose output is (B, C, h, w).
        target: index of the class.

    Returns:
        (B, h, w), not normalised: 0 where the layer says nothing for the class.

    """
    with capture(model, layer, grad=True) as seen:
        logits = model(inputs)  # (B, K)
    maps = seen[layer]  # (B, C, h, w)
    (slopes,) = torch.autograd.grad(logits[:, target].sum(), maps)  # (B, C, h, w)
    weights = slopes.mean(dim=(2, 3))  # (B, C)
    return torch.einsum("bc,bchw->bhw", weights, maps).relu().detach()  # (B, h, w)


def raw_cam(
    model: nn.Module,
    images: Any,
    *,
    target: Target = None,
    layer: str | nn.Module | None = None,
    method: str = "gradcam",
) -> np.ndarray:
    """Return the map of a method on the layer's own grid, signed and not normalised: (N, h, w) float32.

    Arguments as in `cam`.
    """
    if method not in METHODS:
        raise ValueError(f"no method {method!r}; known: {', '.join(METHODS)}")
    net = unwrapped(model)
    refuse_unprepared(net)
    batch = some_pictures(images)
    layer = _layer_name(net, layer)
    targets = target_indices(model, target, len(batch))
    step = 1 if method == "scorecam" else 32  # scorecam makes one masked copy of a picture per channel
    with in_single_precision(model) as net, torch.enable_grad():
        parts = [
            _raw_batch(
                net, prepare_for(net, batch[i : i + step]).to(device_of(net)), targets[i : i + step], layer, method
            )
            for i in range(0, len(batch), step)
        ]
    raw = np.concatenate(parts).astype(np.float32)  # (N, h, w)
    if not np.isfinite(raw).all():
        raise ValueError(f"the map at {layer!r} is not finite; do the network's weights hold NaN or infinity?")
    return raw


def cam(
    model: nn.Module,
    images: Any,
    *,
    target: Target = None,
    layer: str | nn.Module | None = None,
    method: str = "gradcam",
) -> np.ndarray:
    """Return where a network sees a class, as one heat map per picture.

    Args:
        model: any network of `create_model`, or another module that `predict_probabilities` takes. Its mode, its
            gradients and its parameters are left as they were; another precision than float32 is computed on a float32
            copy.
        images: uint8 pictures (N, H, W), (N, 1, H, W) or (N, 3, H, W), of any size, not normalised, or whatever else
            `ferkit.data.transforms.as_batch` takes: one picture, a PIL image, a path, a list of pictures of one size.
        target: the class to explain: None (each picture's predicted class), a name of `model.labels`, an index, or one
            of these per picture. "eigencam" does not use it.
        layer: dotted name of the submodule whose output is explained, or the submodule itself. None:
            `model.cam_layer(model.input_size)`; "official": the layer that the authors' code explains.
        method: one of `METHODS`.

    Returns:
        (N, H, W) float32 in [0, 1]: what is negative is cut off, the map is laid over the picture (bilinear; margins
        that the network put around it are left out) and stretched to 0-1 per picture, so the scale says nothing about
        how sure the network is. A map without any contrast (nothing speaks for the class, or the layer has a single
        place) is all zero.

    Raises:
        ValueError: unknown method, layer (listing close names) or class, a layer whose output is not (B, C, h, w),
            pictures of another shape or type, an empty array.

    """
    batch = some_pictures(images)
    raw = torch.from_numpy(raw_cam(model, batch, target=target, layer=layer, method=method)).relu()  # (N, h, w)
    flat = raw.amax((1, 2)) - raw.amin((1, 2)) <= 1e-6 * raw.amax((1, 2))  # (N,)
    heat = _over_the_picture(unwrapped(model), raw, batch.shape[-2:])  # (N, H, W)
    low, high = heat.amin((1, 2), keepdim=True), heat.amax((1, 2), keepdim=True)
    heat = (heat - low) / (high - low).clamp_min(torch.finfo(torch.float32).tiny)
    heat[flat] = 0
    return heat.clamp(0, 1).numpy()


def _over_the_picture(model: nn.Module, maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (N, h, w) of what the network computes on, as maps (N, H, W) of the picture, which may lie inside margins.
    """
    say: Any = model
    margins = say.margins(say.input_size) if hasattr(model, "margins") else (0, 0)
    if any(margins):
        before, after = margins
        side = before + say.input_size + after
        maps = F.interpolate(maps[:, None], size=(side, side), mode="bilinear", align_corners=False)[:, 0]
        inside = slice(before, before + say.input_size)
        maps = maps[:, inside, inside]
    return F.interpolate(maps[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0]


def _raw_batch(model: FerModel, inputs: Tensor, targets: list[int | None], layer: str, method: str) -> np.ndarray:
    with capture(model, layer, grad=True) as seen:
        logits = model(inputs.requires_grad_())  # (B, K); the inputs need a gradient in case all weights are frozen
    maps = seen.get(layer)
    if not isinstance(maps, Tensor) or maps.ndim != 4:
        found = tuple(maps.shape) if isinstance(maps, Tensor) else "nothing" if maps is None else type(maps).__name__
        raise ValueError(f"expected a layer whose output is a map (B, C, h, w), but {layer!r} gives {found}")
    if method == "eigencam":
        return _eigen(maps.detach()).cpu().numpy()
    chosen = [int(row.argmax()) if t is None else t for row, t in zip(logits, targets, strict=True)]
    for k in chosen:
        refuse_unknown_class(k, logits.shape[1])
    slopes = None
    if method != "scorecam":
        # (B, C, h, w)
        (slopes,) = torch.autograd.grad(logits[range(len(chosen)), chosen].sum(), maps, allow_unused=True)
        if slopes is None:
            raise ValueError(f"the logits do not depend on the output of {layer!r}, so it has no gradient to explain")
    engine = _ENGINES[method](model, [model.get_submodule(layer)])
    engine.activations_and_grads.release()  # its hooks are not needed: capture() did that work
    with contextlib.redirect_stderr(io.StringIO()):  # scorecam draws a progress bar per picture
        return engine.get_cam_image(
            inputs.detach(),
            engine.target_layers[0],
            [ClassifierOutputTarget(t) for t in chosen],
            maps.detach().cpu().numpy(),
            None if slopes is None else slopes.cpu().numpy(),
            False,
        )  # (B, h, w)


def _eigen(maps: Tensor) -> Tensor:
    """Eigen-CAM (Muhammad & Yeasin, IJCNN 2020, arXiv 2008.00299): places along the map's first principal component.

    The package's version builds an (hw, hw) matrix, gigabytes for an early layer, and leaves the component's sign to
    chance; ours points the way in which the map is strong.
    """
    places = maps.flatten(2).transpose(1, 2)  # (B, hw, C)
    centred = places - places.mean(1, keepdim=True)
    axis = torch.linalg.svd(centred, full_matrices=False).Vh[:, :1]  # (B, 1, C)
    raw = (centred * axis).sum(2)  # (B, hw)
    agreement = (raw * places.mean(2)).sum(1, keepdim=True)
    return torch.where(agreement < 0, -raw, raw).view(len(maps), *maps.shape[-2:])  # (B, h, w)


def _layer_name(model: nn.Module, layer: str | nn.Module | None) -> str:
    if isinstance(layer, nn.Module):
        name = next((name for name, module in model.named_modules() if module is layer), "")
        if not name:
            raise ValueError(f"the layer given, a {type(layer).__name__}, is no part of this {type(model).__name__}")
        return name
    say: Any = model
    if layer is None:
        if not hasattr(model, "cam_layer"):
            raise ValueError(
                f"{type(model).__name__} does not say which layer to explain: name one, as in layer='layer4'"
            )
        return say.cam_layer(say.input_size)
    if layer == "official":
        if getattr(model, "official_cam_layer", None) is None:
            raise ValueError(
                f"the authors' code of {type(model).__name__} explains no layer; give a layer's name or None"
            )
        return say.official_cam_layer
    module_by_name(model, layer)
    return layer
