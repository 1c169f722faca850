"""The vectors a network decides on, and ways to lay them out on paper."""

import hashlib
import importlib
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch import nn

from ferkit.explain.forward import in_single_precision, some_pictures
from ferkit.models.guard import device_of
from ferkit.predict import prepare_for

PROJECTIONS = ("pca", "tsne", "umap")
_KEPT = 8  # layouts in memory
_layouts: dict[tuple, "Projection"] = {}


class Projection(NamedTuple):
    """Points on paper, and how they came there."""

    points: np.ndarray  # (N, 2) float32
    axes: tuple[str, str]
    fitted: Any  # sklearn's PCA or umap's UMAP; None for t-SNE

    def place(self, vectors: np.ndarray) -> np.ndarray:
        """Return other vectors (M, D), such as learnt class centres or another split, on the same paper: (M, 2)
        float32.

        Raises ValueError for t-SNE, which is defined for the points it was made from alone.
        """
        if self.fitted is None:
            raise ValueError(
                "t-SNE has no place for points it was not made from; use pca, or lay out all vectors together"
            )
        return np.asarray(self.fitted.transform(np.asarray(vectors)), dtype=np.float32)


def features_of(model: nn.Module, images: Any, *, batch_size: int = 64) -> np.ndarray:
    """Return what a loss on features sees of pictures: `forward_parts(...).features`, (N, D) float32.

    Args:
        model: any network of `create_model`; D is its `num_loss_features`.
        images: uint8 pictures (N, H, W), (N, 1, H, W) or (N, 3, H, W), of any size, or whatever else
            `ferkit.data.transforms.as_batch` takes.
        batch_size: pictures at a time.

    Raises:
        ValueError: what is no picture, an empty array, or a module without `forward_parts`.

    """
    batch = some_pictures(images)
    with in_single_precision(model) as net, torch.no_grad():
        if not hasattr(net, "forward_parts"):
            raise ValueError(
                f"{type(net).__name__} has no forward_parts(images) that gives features; read a layer with "
                "ferkit.explain.capture"
            )
        parts = [
            net.forward_parts(prepare_for(net, batch[i : i + batch_size]).to(device_of(net))).features.cpu()  # type: ignore[attr-defined]
            for i in range(0, len(batch), batch_size)
        ]
    return torch.cat(parts).numpy()  # (N, D)


def project(features: np.ndarray, *, method: str = "pca", seed: int = 0) -> Projection:
    """Return features (N, D) as points on paper (N, 2).

    Only "pca" is a straight view: distances are at most what they are in the full space, its axes say which share of
    the variance they show, and other vectors can be placed. "tsne" (van der Maaten & Hinton, JMLR 2008; perplexity 30,
    or (N - 1) / 3 for few points) and "umap" (McInnes et al., arXiv 1802.03426; needs umap-learn) keep neighbours
    together; sizes of groups and distances between them mean nothing. These two are slow, so the last eight layouts are
    remembered.

    Raises:
        ValueError: unknown method, or fewer than three vectors.
        ImportError: "umap" without umap-learn.

    """
    if method not in PROJECTIONS:
        raise ValueError(f"no projection {method!r}; known: {', '.join(PROJECTIONS)}")
    x = np.ascontiguousarray(features, dtype=np.float32)
    if x.ndim != 2 or len(x) < 3 or x.shape[1] < 2:
        raise ValueError(f"expected at least three vectors of two or more values (N, D), found {x.shape}")
    if method == "pca":
        pca = PCA(2, svd_solver="full").fit(x)
        first, second = (
            f"component {i}: {share:.0%} of the variance" for i, share in enumerate(pca.explained_variance_ratio_, 1)
        )
        return Projection(pca.transform(x).astype(np.float32), (first, second), pca)
    key = (method, seed, x.shape, hashlib.sha256(x.tobytes()).hexdigest())
    if key not in _layouts:
        while len(_layouts) >= _KEPT:
            _layouts.pop(next(iter(_layouts)))
        _layouts[key] = _tsne(x, seed) if method == "tsne" else _umap(x, seed)
    return _layouts[key]


def _tsne(x: np.ndarray, seed: int) -> Projection:
    points = TSNE(2, perplexity=min(30.0, (len(x) - 1) / 3), init="pca", random_state=seed).fit_transform(x)
    return Projection(points.astype(np.float32), ("t-SNE 1", "t-SNE 2"), None)


def _umap(x: np.ndarray, seed: int) -> Projection:
    try:
        umap = importlib.import_module("umap")
    except ImportError:
        raise ImportError(
            "UMAP needs the package umap-learn (pip install umap-learn); pca and tsne work without it"
        ) from None
    fitted = umap.UMAP(n_neighbors=min(15, len(x) - 1), random_state=seed, n_jobs=1).fit(x)
    return Projection(np.asarray(fitted.embedding_, dtype=np.float32), ("UMAP 1", "UMAP 2"), fitted)
