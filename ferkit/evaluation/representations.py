"""Whether members compute the same inside: their features, and the places their gates open."""

from collections.abc import Sequence

import numpy as np

from ferkit.evaluation.bootstrap import Pairwise, all_pairs, between_pairs, resampled_rows, resampled_sums


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    r"""Return the linear centred kernel alignment of two representations (Kornblith et al., ICML 2019,
    arXiv 1905.00414).

    $\lVert Y^\top X\rVert_F^2 / (\lVert X^\top X\rVert_F\,\lVert Y^\top Y\rVert_F)$ of centred features, each factor
    without its bias (Song et al., JMLR 13, 2012), which would make even noise score high where features outnumber
    images. 1 for features that are a rotation and scaling of each other, about 0 (or a little below) for features
    without linear relation; nan for constant ones.

    Args:
        x, y: (N, D1) and (N, D2), row i of both from image i.

    """
    a, b = _features(x), _features(y)
    if len(a) != len(b):
        raise ValueError(f"both representations must be of the same images, found {len(a)} and {len(b)}")
    return float(_alignment([a - a.mean(0), b - b.mean(0)])[0, 1])


def cka(features: Sequence[np.ndarray], *, n_bootstrap: int = 100, seed: int = 0) -> Pairwise:
    """Return linear CKA between the features of all pairs of members.

    Args:
        features: (L, N, D), or L arrays (N, D) with widths of their own; maps are flattened.
        n_bootstrap: replicates, each of which costs as much as the value itself.
        seed: of the bootstrap.

    """
    rows = [_features(x) for x in features]
    if len({len(x) for x in rows}) != 1:
        raise ValueError(f"all representations must be of the same images, found {sorted({len(x) for x in rows})}")
    a, b = all_pairs(len(rows))

    def matrix(drawn: np.ndarray | slice) -> np.ndarray:
        picked = [x[drawn] for x in rows]
        return _alignment([x - x.mean(0) for x in picked])[a, b]

    found = np.stack([matrix(slice(None)), *map(matrix, resampled_rows(len(rows[0]), n_bootstrap, seed))])
    # images drawn twice push CKA up: only the spread of the replicates is used
    found[1:] += found[0] - found[1:].mean(0)
    return between_pairs(found, len(rows), diagonal=1.0)


def attention_overlap(
    gates: np.ndarray, *, kind: str = "cosine", top: float = 0.2, n_bootstrap: int = 1000, seed: int = 0
) -> Pairwise:
    """Return how far the gates of two members cover the same places, mean over images; 1 for equal gates.

    Args:
        gates: (L, N, ...), not negative; attention maps or channel gates.
        kind: "cosine" between the gates, or "iou", intersection over union of each one's strongest entries. Gates from
            a sigmoid are all alike to the cosine; the overlap of the strongest is not.
        top: for "iou": the share of entries that count as strongest, at least one entry. Equal values go by position.
        n_bootstrap, seed: of the intervals.

    Raises:
        ValueError: unknown kind, negative gates, or top not in (0, 1).

    """
    if kind not in ("cosine", "iou"):
        raise ValueError(f"kind={kind!r} is unknown; known: cosine, iou")
    if not 0 < top < 1:
        raise ValueError(f"top must lie between 0 and 1, found {top}")
    found = np.asarray(gates, dtype=np.float64)
    if found.ndim < 3 or 0 in found.shape or found.min() < 0:
        raise ValueError(
            f"expected gates (L, N, ...) of L members on N images, none negative, found shape {found.shape}"
        )
    flat = found.reshape(*found.shape[:2], -1)  # (L, N, D)
    if kind == "iou":
        count = max(1, round(top * flat.shape[2]))
        strongest = np.argsort(-flat, axis=2, kind="stable")[:, :, :count]
        flat = np.zeros_like(flat)
        np.put_along_axis(flat, strongest, 1.0, axis=2)
    a, b = all_pairs(len(flat))
    products = np.stack([np.einsum("nd,nd->n", flat[i], flat[j]) for i, j in zip(a, b, strict=True)])  # (P, N)
    own = np.einsum("lnd,lnd->ln", flat, flat)
    # two gates that are closed everywhere cover the same places, one closed gate shares none with another
    closed = (own[a] == 0) & (own[b] == 0)
    size = np.sqrt(own[a] * own[b]) if kind == "cosine" else own[a] + own[b] - products
    values = np.where(closed, 1.0, products / np.where(size > 0, size, 1.0))
    return between_pairs(resampled_sums(values, n_bootstrap, seed) / flat.shape[1], len(flat), diagonal=1.0)


def _features(x: np.ndarray) -> np.ndarray:
    found = np.asarray(x, dtype=np.float64)
    if found.ndim < 2 or len(found) < 4:
        raise ValueError(f"expected features (N, D) of at least four images, found shape {found.shape}")
    return found.reshape(len(found), -1)


def _alignment(centred: list[np.ndarray]) -> np.ndarray:
    """Debiased CKA (L, L) of centred features (N, D): by whichever of the matrices N x N and D x D is smaller."""
    n, width = len(centred[0]), max(x.shape[1] for x in centred)
    if n < width:
        kernels = np.stack([(x @ x.T).ravel() for x in centred])  # (L, N * N)
        products = kernels @ kernels.T
    else:
        products = np.empty((len(centred), len(centred)))
        for i, x in enumerate(centred):
            for j, y in enumerate(centred[: i + 1]):
                products[i, j] = products[j, i] = ((x.T @ y) ** 2).sum()
    norms = np.stack([np.square(x).sum(1) for x in centred])  # (L, N)
    total = norms.sum(1)
    products += np.outer(total, total) / ((n - 1) * (n - 2)) - n / (n - 2) * norms @ norms.T
    with np.errstate(invalid="ignore", divide="ignore"):
        own = np.sqrt(np.diagonal(products))
        return products / (own[:, None] * own)
