r"""Is a heat map where the evidence is?

Scores against known masks, with what chance and a guess at the centre would get.

On synthetic faces (`ferkit.synthetic.faces.make_faces(..., masks=True)`) the places that define the label are known. A
score means something only beside its baselines: faces are centred, so a map that points at the middle of any picture
does well. That a score beats a baseline is a statement about the differences per picture: `margins`.

All three scores take what they compare, heat (N, H, W) and masks bool (N, H, W), and give one value in [0, 1] per
picture (N,); NaN where the mask is empty (say, hidden by an occluder), and such pictures are left out of means. Where
values of the heat are tied, each of the tied places counts in proportion, so a map without contrast gets exactly what
chance gets.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from ferkit.evaluation.bootstrap import Measured, resampled_mean
from ferkit.explain.cams import METHODS, cam
from ferkit.explain.faithfulness import occlusion_map
from ferkit.explain.forward import Target, some_pictures

#: Names that `heat_maps` and `score_network` take as methods.
HEAT_METHODS = (*METHODS, "occlusion")

#: Per-picture values: {score: (N,)}.
Scored = dict[str, np.ndarray]


def heat_maps(
    model: nn.Module, images: Any, *, method: str = "gradcam", target: Target = None, layer: str | None = None
) -> np.ndarray:
    """Return maps (N, H, W) of any method of `HEAT_METHODS`: `cam`, or the positive part of `occlusion_map`,
    which has no layer.
    """
    if method not in HEAT_METHODS:
        raise ValueError(f"no method {method!r}; known: {', '.join(HEAT_METHODS)}")
    if method == "occlusion":
        return np.maximum(occlusion_map(model, images, target=target), 0)
    return cam(model, images, target=target, layer=layer, method=method)


def pointing_game(heats: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return 1 where the hottest place lies in the mask, else 0 (Zhang et al., IJCV 2018, arXiv 1608.00507),
    without tolerance.
    """
    h, m = _flat(heats, masks)
    hottest = h == h.max(1, keepdims=True)
    return _known((hottest & m).sum(1) / hottest.sum(1), m)


def energy_in_mask(heats: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the share of the heat that lies in the mask (Wang et al., CVPRW 2020, arXiv 1910.01279);
    negative heat counts as 0.
    """
    h, m = _flat(heats, masks)
    h = np.maximum(h, 0)
    h[~h.any(1)] = 1  # nothing is hot, so everything is as hot as the rest
    return _known((h * m).sum(1) / h.sum(1), m)


def iou_at_area(heats: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the intersection over union of the mask with the hottest places, as many as the mask has:
    no threshold to choose.
    """
    h, m = _flat(heats, masks)
    scores = np.full(len(h), np.nan)
    for i in np.flatnonzero(m.any(1)):
        area = int(m[i].sum())
        last = np.partition(h[i], len(h[i]) - area)[len(h[i]) - area]  # the coolest value that is still taken
        above, tied = h[i] > last, h[i] == last
        overlap = (m[i] & above).sum() + (area - above.sum()) * (m[i] & tied).sum() / tied.sum()
        scores[i] = overlap / (2 * area - overlap)
    return scores


SCORES = {"pointing": pointing_game, "energy": energy_in_mask, "iou": iou_at_area}


def score_maps(heats: np.ndarray, masks: np.ndarray) -> Scored:
    """Return all of `SCORES`, per picture.

    A strict control: `score_maps(np.roll(heats, 1, axis=0), masks)`, every picture with the map of another one.
    """
    return {name: score(heats, masks) for name, score in SCORES.items()}


def chance_scores(masks: np.ndarray) -> Scored:
    """Return what a map gets that does not know where anything is: with a the mask's share of the picture, a,
    a and a / (2 - a).
    """
    return score_maps(np.zeros(np.shape(masks), np.float32), masks)


def centre_prior(height: int, width: int) -> np.ndarray:
    """Return a map (H, W) that guesses the middle of every picture: a Gaussian of a quarter of the sides,
    1 in the centre.
    """
    y, x = ((np.arange(n) - (n - 1) / 2) / (n / 4) for n in (height, width))
    heat = np.exp(-(y[:, None] ** 2 + x**2) / 2)
    return (heat / heat.max()).astype(np.float32)


def score_network(
    model: nn.Module,
    images: Any,
    masks: np.ndarray,
    *,
    methods: Sequence[str] = ("gradcam",),
    target: Target = None,
    layer: str | None = None,
) -> dict[str, Scored]:
    """Return scores per picture of a network's maps and of the baselines "chance" and "centre prior": {method: {score:
    (N,)}}.

    Args:
        model: any network of `create_model`; left as it was.
        images: uint8 pictures (N, H, W), (N, 1, H, W) or (N, 3, H, W).
        masks: bool (N, H, W), where the evidence is, for example `make_faces(..., masks=True).masks["evidence"]`.
        methods: of `HEAT_METHODS`.
        target, layer: as in `cam`.

    Raises:
        ValueError: what `cam` refuses, or masks that are not one per picture, of the pictures' size.

    """
    images, masks = some_pictures(images), np.asarray(masks)
    expected = (len(images), *images.shape[-2:])
    if masks.shape != expected or masks.dtype != bool:
        raise ValueError(f"expected one bool mask per picture {expected}, found {masks.dtype} {masks.shape}")
    heats = {m: heat_maps(model, images, method=m, target=target, layer=layer) for m in methods}
    heats["centre prior"] = np.broadcast_to(centre_prior(*masks.shape[1:]), masks.shape)
    return {**{name: score_maps(heat, masks) for name, heat in heats.items()}, "chance": chance_scores(masks)}


def estimate(values: np.ndarray, *, n_bootstrap: int = 1000, seed: int = 0, level: float = 0.95) -> Measured:
    """Return the mean of per-picture values (N,) without NaN,
    with its percentile interval over pictures drawn with replacement.

    Raises ValueError if no value is left.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if len(known) == 0:
        raise ValueError("expected at least one picture with a score, found none: are all masks empty?")
    return Measured(*map(float, resampled_mean(known, n_bootstrap=n_bootstrap, seed=seed, level=level)))


def estimates(
    scored: Mapping[str, Scored], *, n_bootstrap: int = 1000, seed: int = 0
) -> dict[str, dict[str, Measured]]:
    """Return what `score_network` gives as means with intervals: {method: {score: Measured}}."""
    return {
        name: {score: estimate(values, n_bootstrap=n_bootstrap, seed=seed) for score, values in row.items()}
        for name, row in scored.items()
    }


def margins(
    scored: Mapping[str, Scored], over: str, *, n_bootstrap: int = 1000, seed: int = 0
) -> dict[str, dict[str, Measured]]:
    """Return by how much each row beats the row `over`, picture by picture; an interval above 0 says that it does.

    Raises ValueError if there is no row of that name.
    """
    if over not in scored:
        raise ValueError(f"no row {over!r}; known: {', '.join(scored)}")
    differences = {
        name: {score: values - scored[over][score] for score, values in row.items()}
        for name, row in scored.items()
        if name != over
    }
    return estimates(differences, n_bootstrap=n_bootstrap, seed=seed)


def _flat(heats: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    h, m = np.asarray(heats), np.asarray(masks)
    if h.ndim != 3 or h.shape != m.shape or m.dtype != bool:
        raise ValueError(
            f"expected heat (N, H, W) and bool masks of the same shape, found {h.shape} and {m.dtype} {m.shape}"
        )
    if not np.isfinite(h).all():
        raise ValueError("the heat must be finite, found NaN or infinity")
    return h.reshape(len(h), -1).astype(np.float64), m.reshape(len(m), -1)


def _known(scores: np.ndarray, masks: np.ndarray) -> np.ndarray:
    return np.where(masks.any(1), scores, np.nan)
