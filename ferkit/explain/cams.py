r"""Class activation maps: which places of a layer's map speak for a class.

The formulas are those of the grad-cam package (github.com/jacobgil/pytorch-grad-cam); what surrounds them is ours, because
the package's own run switches the model to evaluation mode for good, clears its gradients, keeps maps that a following
in-place ReLU overwrites, cannot take bfloat16 and swallows an IndexError raised inside its `with` block.
"""

import contextlib
import io

import numpy as np
import torch
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, ScoreCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.nn import functional as F

from ferkit.data.transforms import as_batch
from ferkit.explain.forward import Target, device_of, evaluating, target_indices
from ferkit.models import FerModel
from ferkit.models.capture import capture, module_by_name
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

    $\alpha_c = \frac{1}{hw}\sum_{ij} \partial y / \partial A_c(i,j)$, then $L = \mathrm{ReLU}(\sum_c \alpha_c A_c)$, with $A$
    the output of the layer and $y$ the logit of the class.

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
    model: FerModel,
    images: np.ndarray | Tensor,
    *,
    target: Target = None,
    layer: str | None = None,
    method: str = "gradcam",
) -> np.ndarray:
    """The map of a method on the layer's own grid, signed and not normalised: (N, h, w) float32. Arguments as in `cam`."""
    if method not in METHODS:
        raise ValueError(f"no method {method!r}; known: {', '.join(METHODS)}")
    batch = as_batch(images)
    if len(batch) == 0:
        raise ValueError("no pictures to explain: the array is empty")
    layer = _layer_name(model, layer)
    module_by_name(model, layer)
    targets = target_indices(model, target, len(batch))
    step = 1 if method == "scorecam" else 32  # scorecam makes one masked copy of a picture per channel
    with evaluating(model) as net, torch.enable_grad():
        parts = [
            _raw_batch(net, prepare_for(net, batch[i : i + step]).to(device_of(net)), targets[i : i + step], layer, method)
            for i in range(0, len(batch), step)
        ]
    raw = np.concatenate(parts).astype(np.float32)  # (N, h, w)
    if not np.isfinite(raw).all():
        raise ValueError(f"the map at {layer!r} is not finite; do the network's weights hold NaN or infinity?")
    return raw


def cam(
    model: FerModel,
    images: np.ndarray | Tensor,
    *,
    target: Target = None,
    layer: str | None = None,
    method: str = "gradcam",
) -> np.ndarray:
    """Where a network sees a class, as one heat map per picture.

    Args:
        model: any network of `create_model`. Its mode, its gradients and its parameters are left as they were; another
            precision than float32 is computed on a float32 copy.
        images: uint8 pictures (N, H, W), (N, 1, H, W) or (N, 3, H, W), of any size, not normalised.
        target: the class to explain: None (each picture's predicted class), a name of `model.labels`, an index, or one of
            these per picture. "eigencam" does not use it.
        layer: dotted name of the submodule whose output is explained. None: `model.cam_layer(model.input_size)`;
            "official": the layer that the authors' code explains.
        method: one of `METHODS`.

    Returns:
        (N, H, W) float32 in [0, 1]: what is negative is cut off, the map is resized (bilinear) and stretched to 0-1 per
        picture, so the scale says nothing about how sure the network is. A map without any contrast (nothing speaks for
        the class, or the layer has a single place) is all zero.

    Raises:
        ValueError: unknown method, layer (listing close names) or class, a layer whose output is not (B, C, h, w),
            pictures of another shape or type, an empty array.

    """
    raw = torch.from_numpy(raw_cam(model, images, target=target, layer=layer, method=method)).relu()  # (N, h, w)
    flat = raw.amax((1, 2)) - raw.amin((1, 2)) <= 1e-6 * raw.amax((1, 2))  # (N,)
    size = as_batch(images).shape[-2:]
    heat = F.interpolate(raw[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]  # (N, H, W)
    low, high = heat.amin((1, 2), keepdim=True), heat.amax((1, 2), keepdim=True)
    heat = (heat - low) / (high - low).clamp_min(torch.finfo(torch.float32).tiny)
    heat[flat] = 0
    return heat.clamp(0, 1).numpy()


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
    slopes = None
    if method != "scorecam":
        (slopes,) = torch.autograd.grad(logits[range(len(chosen)), chosen].sum(), maps, allow_unused=True)  # (B, C, h, w)
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


def _layer_name(model: FerModel, layer: str | None) -> str:
    if layer is None:
        return model.cam_layer(model.input_size)
    if layer == "official":
        if model.official_cam_layer is None:
            raise ValueError(f"the authors' code of {type(model).__name__} explains no layer; give a layer's name or None")
        return model.official_cam_layer
    return layer
