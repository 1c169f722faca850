"""From pictures to network input: one deterministic `prepare`,
and random augmentations named after the papers' recipes.

The two are kept apart on purpose. `prepare` is part of a network (its size, colour and normalisation travel with it),
is the same in training and in use, and runs on whole batches. An augmentation only ever touches training pictures, one
at a time, as uint8 and before `prepare` brings them to the network's size.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from ferkit.data.faceset import Rows
from ferkit.faces.decode import as_pixels, eight_bits, read_picture

COLOURS = ("rgb", "grey3", "grey")
_CHANNELS = (1, 3, 4)


def as_batch(images: Any) -> Tensor:
    """Pictures, however they come, as one uint8 tensor (N, C, H, W) with 1 or 3 channels.

    Args:
        images: pictures as an array or tensor (N, H, W), (N, C, H, W) or (N, H, W, C); one picture as (H, W), (H, W,
            C), a PIL image, a path, the bytes of a file or a data URL; or a list of such single pictures, all of one
            size. Channels are 1, 3 or 4; types are those of `ferkit.faces.read_picture`.

    Raises:
        ValueError: what is no picture, pictures of different sizes, or an array (3, H, W), which may be three grey
            pictures or one in colour; one sentence.
        FileNotFoundError: no file at a path.

    """
    if isinstance(images, list | tuple):
        return _joined([_one(image) for image in images])
    if isinstance(images, Rows):
        images = np.asarray(images)
    if not isinstance(images, np.ndarray | Tensor):
        return _one(images)[None]
    shape = tuple(images.shape)
    last = bool(shape) and shape[-1] in _CHANNELS and not (len(shape) == 4 and shape[1] in _CHANNELS)
    if len(shape) == 2 or (len(shape) == 3 and last):
        return _one(images)[None]
    if len(shape) == 3 and shape[0] == 3:
        raise ValueError(
            f"expected one picture or several, found {shape}, which may be one in colour or three grey ones; "
            f"say which by the shape {(1, *shape)} or {(3, 1, *shape[1:])}"
        )
    if len(shape) not in (3, 4) or (len(shape) == 4 and not last and shape[1] not in _CHANNELS) or 0 in shape[1:]:
        raise ValueError(
            f"expected pictures (N, H, W), (N, C, H, W) or (N, H, W, C) with 1, 3 or 4 channels, found {shape}"
        )
    if len(shape) == 4 and shape[-1 if last else 1] == 4 and len(images):
        return _joined([_one(image) for image in images])
    batch = _tensor(images)
    return batch[:, None] if len(shape) == 3 else batch.movedim(-1, 1) if last else batch  # (N, C, H, W)


def as_pictures(images: Any) -> np.ndarray | Tensor:
    """Pictures to be taken in parts: those of a data set stay as they are, on the disk or not;
    all else is what `as_batch` makes of it.
    """
    if isinstance(images, np.ndarray | Tensor | Rows) and str(images.dtype).endswith("uint8"):
        grey = images.ndim == 3 and images.shape[0] != 3 and images.shape[2] not in _CHANNELS
        if grey or (images.ndim == 4 and images.shape[1] in (1, 3)):
            return cast(np.ndarray, images)  # which Rows are to all who use them
    return as_batch(images)


def _one(image: Any) -> Tensor:
    """One picture as (C, H, W)."""
    pixels = as_pixels(image) if isinstance(image, np.ndarray | Tensor) else read_picture(image)
    values = torch.from_numpy(np.array(pixels))  # a copy, because tensors must not share memory that is read-only
    return values[None] if values.ndim == 2 else values.movedim(-1, 0)


def _joined(pictures: list[Tensor]) -> Tensor:
    if not pictures:
        raise ValueError("expected pictures, found an empty list")
    sizes = list(dict.fromkeys(f"{picture.shape[1]}x{picture.shape[2]}" for picture in pictures))
    if len(sizes) > 1:
        raise ValueError(
            f"expected pictures of one size, found {', '.join(sizes[:3])}{', ...' if len(sizes) > 3 else ''} (rows x "
            "columns); cut or scale them to one (ferkit.faces.crop_face), or give them one at a time"
        )
    if len({len(picture) for picture in pictures}) > 1:  # grey ones among colour
        pictures = [picture.expand(3, -1, -1) for picture in pictures]
    return torch.stack(pictures)


def _tensor(values: np.ndarray | Tensor) -> Tensor:
    """The values as a uint8 tensor; that of a uint8 tensor or array of the same memory, where it can be written to."""
    if isinstance(values, Tensor):
        if values.dtype == torch.uint8:
            return values
        values = (values.detach().float() if values.is_floating_point() else values).cpu().numpy()
    values = eight_bits(values)
    # Memory maps are read-only, which tensors cannot be: those are copied.
    return torch.from_numpy(np.ascontiguousarray(values) if values.flags.writeable else np.array(values))


def prepare(
    images: np.ndarray | Tensor, *, size: int, mean: tuple[float, ...], std: tuple[float, ...], colour: str
) -> Tensor:
    """Uint8 pictures of any size to normalised float32 input (N, C, size, size).

    Resizing is bilinear with antialiasing, grey is ITU-R 601 luma, as PIL does both; then values are divided by 255 and
    normalised. `colour` "grey3" copies luma to three channels, "rgb" copies a grey picture, "grey" gives one channel.

    What is (N, H, W) is N grey pictures here, also if N is 3, so that every part of a data set is read alike; for
    single pictures and other forms see `as_batch`, which takes what this does not know.
    """
    if colour not in COLOURS:
        raise ValueError(f"no colour mode {colour!r}; known: {', '.join(COLOURS)}")
    several = isinstance(images, np.ndarray | Tensor) and images.ndim == 3 and images.shape[-1] not in _CHANNELS
    x = as_batch(images[:, None] if several else images)
    if x.shape[-2:] != (size, size):
        x = F.resize(x, [size, size], antialias=True)  # (N, C, size, size)
    if colour == "rgb":
        x = F.grayscale_to_rgb(x)  # (N, 3, size, size)
    else:
        x = F.rgb_to_grayscale(x, num_output_channels=1 if x.shape[1] == 1 or colour == "grey" else 3)
        if colour == "grey3":
            x = x.expand(-1, 3, -1, -1)
    return F.normalize(x.float().div_(255), list(mean), list(std))


IMAGENET_MEAN_COLOUR = [124, 116, 104]  # of 255: what networks that normalise with ImageNet's mean see as zero


def _at_112() -> list[nn.Module]:
    """How LFNSB's two scripts begin: colour, 112 px, mirrored with a chance of one half."""
    return [v2.RGB(), v2.Resize((112, 112)), v2.RandomHorizontalFlip()]


def _diversity_rafdb(side: int) -> nn.Module:
    """To the network's side, mirrored half of the time, at times turned and moved,
    at times a part hidden by ImageNet's mean colour.
    """
    return v2.Compose(
        [
            v2.RGB(),
            v2.Resize((side, side)),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.RandomRotation(20), v2.RandomCrop(side, padding=32)], p=0.2),
            v2.RandomErasing(p=0.5, scale=(0.02, 0.25), value=IMAGENET_MEAN_COLOUR),
        ]
    )


# What each recipe does to a training picture. Sources: the papers' training scripts and texts; "mild" is ours.
AUGMENTATIONS: dict[str, Callable[[], nn.Module]] = {
    "none": lambda: v2.Identity(),
    # ResEmoteNet: paper section III, train_files/ResEmoteNet_train.py@fabbe680
    "resemotenet": lambda: v2.RandomHorizontalFlip(),
    # Residual Masking Network: paper section IV-B ("flip, rotation in [-30, 30]"), utils/augmenters and dataset code
    # @9141618: to 224 px first, whatever the network takes afterwards, so that turning blurs little; then mirrored with
    # a chance of one half, and always turned, by any angle, black outside (fill=None; 0 would darken the edge twice).
    # The enlarged picture makes it some 1.5 ms a picture instead of 0.1 at 48 px; small networks that cannot afford
    # this have "mild".
    "resmasking": lambda: v2.Compose(
        [
            v2.Resize((224, 224), interpolation=v2.InterpolationMode.BILINEAR),
            v2.RandomHorizontalFlip(),
            v2.RandomRotation(30, interpolation=v2.InterpolationMode.BILINEAR, fill=None),
        ]
    ),
    # LFNSB: main.py@caf8fad on RAF-DB, whose kinds are those of the paper's section 3.2 and whose values the paper
    # leaves out; fill and interpolation (nearest) are torchvision's defaults. There a hole is 0 after normalisation,
    # which is ImageNet's mean colour.
    "lfnsb_rafdb": lambda: v2.Compose(
        [
            *_at_112(),
            v2.RandomApply([v2.RandomRotation(5), v2.RandomCrop(112, padding=8)], p=0.2),
            v2.RandomErasing(p=0.5, scale=(0.02, 0.25), value=IMAGENET_MEAN_COLOUR),
        ]
    ),
    # LFNSB: affectnet.py@caf8fad
    "lfnsb_affectnet": lambda: v2.Compose(
        [
            *_at_112(),
            v2.RandomApply([v2.RandomAffine(degrees=20, translate=(0.2, 0.2), scale=(0.8, 1.0))], p=0.7),
            v2.RandomErasing(value=IMAGENET_MEAN_COLOUR),
        ]
    ),
    # ESR and its diversified version on AffectNet and FER+: model/ml/esr_9.py@5980cbf of the ESR repository,
    # esr_affectnet.py@808a02a
    "esr": lambda: v2.Compose(
        [
            v2.ColorJitter(brightness=0.5, contrast=0.5),
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(
                degrees=30, translate=(0.1, 0.1), scale=(1.0, 1.25), interpolation=v2.InterpolationMode.BILINEAR
            ),
        ]
    ),
    # The diversified networks on RAF-DB: esr_rafdb.py and manet_rafdb.py@808a02a, at their sides of 96 and 224 px
    "diversity_rafdb_96": lambda: _diversity_rafdb(96),
    "diversity_rafdb_224": lambda: _diversity_rafdb(224),
    # MA-Net's own: main.py@923fa6c
    "manet": lambda: v2.Compose([v2.RGB(), v2.RandomResizedCrop(224), v2.RandomHorizontalFlip()]),
    # ours: what a head does in front of a camera, and no more
    "mild": lambda: v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(
                degrees=10, translate=(0.08, 0.08), scale=(0.9, 1.1), interpolation=v2.InterpolationMode.BILINEAR
            ),
            v2.ColorJitter(brightness=0.2, contrast=0.2),
        ]
    ),
    # ours, for long trainings: mild, and a part of the picture hidden now and then
    "mild_erasing": lambda: v2.Compose([AUGMENTATIONS["mild"](), v2.RandomErasing(p=0.5, scale=(0.02, 0.15), value=0)]),
}


def augmentation(preset: str) -> nn.Module:
    """A random transform of one uint8 picture (C, H, W), by preset name. Draws from torch's global generator."""
    if preset not in AUGMENTATIONS:
        raise ValueError(f"no augmentation {preset!r}; known: {', '.join(AUGMENTATIONS)}")
    return AUGMENTATIONS[preset]()
