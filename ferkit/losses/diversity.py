r"""Feature diversity: how different the maps of branches, patches or layers are, as a determinant to be maximised.

Heidari and Iosifidis, arXiv 2210.09381, equations 1-3, and what their released code does instead
(negarhdr/Diversified-Facial-Expression-Recognition@808a02a). With pooled maps $\varphi_l(x_i)$ of L members and N
images

$$S_{lk} = \tfrac1N\sum_i \exp(-\gamma\,\lVert\varphi_l(x_i)-\varphi_k(x_i)\rVert^2), \qquad D = \det S, \qquad
\mathrm{loss} = L_{ce} - (D_{ch} + D_{sp})$$

By equation 1 the diagonal is one, so $0 \le D \le 1$: 0 for identical members, 1 for members far apart. The released
code leaves the diagonal at zero (`diagonal="zero"`), where the sign of D changes with the number of branches: equal
similarities s give $(-1)^{L-1}(L-1)s^L$.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

GAMMA = 10.0  # of the released code; the paper gives no value
# Below and above these the gradient has nothing to act on: kernels all zero, or members that coincide.
INERT, COLLAPSED = 1e-4, 1e-7


def pool_channels(maps: Tensor) -> Tensor:
    """Feature maps (..., C, H, W) to spatial maps (..., H, W): the mean over channels."""
    return maps.mean(-3)


def pool_space(maps: Tensor) -> Tensor:
    """Feature maps (..., C, H, W) to channel vectors (..., C): the mean over places."""
    return maps.mean((-2, -1))


@torch.no_grad()
def squared_distances(maps: Tensor) -> Tensor:
    """Return squared distances (L, L, N) in float64 between maps (L, N, ...) of L members, image by image:
    to choose a gamma by.

    Raises:
        ValueError: fewer than two members, or no image.

    """
    return _squared(_centred(_rows(maps))).permute(1, 2, 0)


def similarity(
    maps: Tensor, *, gamma: float = GAMMA, gamma_mode: str = "fixed", distance: str = "sum", diagonal: str = "unit"
) -> Tensor:
    r"""Return the matrix S of equation 1: mean over the images of $\exp(-\gamma d^2)$.

    Args:
        maps: (L, N, ...), L members and N images; (L, N, H, W) spatial maps or (L, N, C) channel vectors.
        gamma: 10 in the released code. The kernel pulls hardest at a distance of $1/\sqrt{2\gamma}$ (0.22) and hardly
            at all far from it.
        gamma_mode: "fixed", or "median": $\gamma$ is one over the batch's median squared distance, whatever `gamma`
            says, so that the term acts at any scale of the maps. The median is a constant to the gradient.
        distance: $d^2$ is the "sum" over the entries of a map (paper and released code) or their "mean".
        diagonal: "unit" (equation 1) or "zero" (released code).

    Returns:
        S (L, L) in float64.

    Raises:
        ValueError: unknown option, gamma not above zero, fewer than two members, or no image.

    """
    _known("gamma_mode", gamma_mode, ("fixed", "median"))
    _known("distance", distance, ("sum", "mean"))
    _known("diagonal", diagonal, ("unit", "zero"))
    if gamma <= 0:
        raise ValueError(f"gamma must be above zero, found {gamma}")
    x = _rows(maps)
    factor = None if gamma_mode == "median" else gamma / (x.shape[2] if distance == "mean" else 1)
    s = _Similarity.apply(x, factor)
    same = torch.eye(len(s), dtype=torch.bool, device=s.device)
    return s.masked_fill(same, 1.0 if diagonal == "unit" else 0.0)


def _rows(maps: Tensor) -> Tensor:
    """(L, N, ...) to (L, N, D), at least float32, on a device that has float64."""
    if maps.ndim < 3 or maps.shape[0] < 2 or 0 in maps.shape:
        raise ValueError(
            "diversity needs maps of shape (L, N, ...) with at least two members and one image, found "
            f"{tuple(maps.shape)}"
        )
    rows = maps.cpu() if maps.device.type == "mps" else maps  # Apple's GPUs have no float64
    return rows.to(torch.promote_types(rows.dtype, torch.float32)).flatten(2)


def _centred(x: Tensor) -> Tensor:
    """(L, N, D) less the mean over members: distances stay, and inner products of maps nearly alike lose no digits."""
    return x - x.mean(0)


def _squared(x: Tensor) -> Tensor:
    """(L, N, D) to squared distances (N, L, L) in float64: in float32 a determinant below 1e-7 has a random sign."""
    rows = torch.empty(x.shape[1], x.shape[0], x.shape[2], dtype=torch.float64, device=x.device)
    rows.copy_(x.transpose(0, 1))
    gram = rows @ rows.mT  # (N, L, D) x (N, D, L) -> (N, L, L)
    own = gram.diagonal(dim1=1, dim2=2)  # (N, L)
    return torch.add(own[:, :, None], own[:, None, :]).sub_(gram, alpha=2).clamp_(min=0)


class _Similarity(torch.autograd.Function):
    """S from maps (L, N, D) by one matrix product forward and one backward; autograd of all differences is much slower.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: float | None) -> Tensor:
        x = _centred(x)
        kernel = _squared(x)  # (N, L, L)
        if gamma is None:
            apart = ~torch.eye(x.shape[0], dtype=torch.bool, device=x.device)
            gamma = 1 / max(float(kernel[:, apart].median()), 1e-12)
        kernel.mul_(-gamma).exp_()
        ctx.save_for_backward(x, kernel)
        ctx.gamma = gamma
        return kernel.mean(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, kernel = ctx.saved_tensors
        # dS_lk/dx_l = -2 gamma/N exp(-gamma d^2)(x_l - x_k). Summed over all pairs: minus a graph Laplacian times x.
        pull = kernel * ((grad + grad.mT) * (2 * ctx.gamma / len(kernel)))  # (N, L, L)
        pull.diagonal(dim1=1, dim2=2).sub_(pull.sum(2))
        with torch.autocast(x.device.type, enabled=False):
            return (pull.to(x.dtype) @ x.transpose(0, 1)).transpose(0, 1), None  # (N, L, L) x (N, L, D) -> (L, N, D)


def diversity(
    maps: Tensor,
    *,
    gamma: float = GAMMA,
    gamma_mode: str = "fixed",
    distance: str = "sum",
    diagonal: str = "unit",
    objective: str = "det",
    jitter: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    r"""Return the diversity D of L members, to be maximised (subtracted from a loss), and the matrix S it comes from.

    Value and gradient are finite for identical members and for members whose similarity underflows, where the gradient
    of the released float32 determinant can be NaN.

    Args:
        maps, gamma, gamma_mode, distance, diagonal: as in `similarity`.
        objective: "det" (paper), or "logdet", which keeps pushing members apart where the determinant's gradient
            vanishes.
        jitter: for "logdet" only: $\log\det((S + jI)/(1 + j))$, at most 0. The determinant takes S as it is.

    Returns:
        D, a scalar, and S (L, L), both in float64. The mean is over similarities, so D depends on the batch.

    Raises:
        ValueError: as `similarity`; jitter not above zero, or "logdet" with `diagonal="zero"`, whose determinant can be
            negative.

    """
    _known("objective", objective, ("det", "logdet"))
    if objective == "logdet" and diagonal == "zero":
        raise ValueError(
            'the determinant with diagonal="zero" can be negative and has no logarithm; use diagonal="unit" '
            'or objective="det"'
        )
    if jitter <= 0:
        raise ValueError(f"jitter must be above zero, found {jitter}")
    s = similarity(maps, gamma=gamma, gamma_mode=gamma_mode, distance=distance, diagonal=diagonal)
    if objective == "det":
        return determinant(s), s
    eye = torch.eye(len(s), dtype=s.dtype, device=s.device)
    return torch.linalg.slogdet((s + jitter * eye) / (1 + jitter)).logabsdet, s


def determinant(matrix: Tensor) -> Tensor:
    """Return the determinant of a square matrix (L, L), L small,
    with a gradient that is finite for singular matrices too.
    """
    return _Determinant.apply(matrix)


class _Determinant(torch.autograd.Function):
    """The derivative by each entry is that entry's cofactor:
    L^2 small determinants and no division where the inverse fails.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        value = torch.linalg.det(matrix)
        ctx.save_for_backward(matrix, value)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        matrix, value = ctx.saved_tensors
        size = len(matrix)
        lu, pivots, _ = torch.linalg.lu_factor_ex(matrix)
        sizes = lu.diagonal().abs()
        # far from singular: det times inverse, and quicker
        if value.abs() > 1e-200 and sizes.min() > 1e-6 * sizes.max():
            eye = torch.eye(size, dtype=matrix.dtype, device=matrix.device)
            return grad * value * torch.linalg.lu_solve(lu, pivots, eye).mT
        index = torch.arange(size, device=matrix.device)
        rest = index.expand(size, size)[index[:, None] != index].view(size, size - 1)  # row l: all indices but l
        minors = matrix[rest[:, None, :, None], rest[None, :, None, :]]  # (L, L, L-1, L-1)
        sign = 1.0 - 2.0 * ((index[:, None] + index) % 2)
        return grad * sign * torch.linalg.det(minors)


@torch.no_grad()
def describe_similarity(similarities: Tensor) -> dict[str, Any]:
    """Return what to log about a matrix S (L, L): its off-diagonal entries, both determinants,
    and whether the term can act.

    Returns:
        mean, max: of the off-diagonal; unit, zero: determinants with either diagonal; state: "inert" when no pair is
        more similar than 1e-4, "collapsed" when the determinant with unit diagonal is below 1e-7, else "active".

    """
    s = similarities.detach().cpu().double()
    same = torch.eye(len(s), dtype=torch.bool)
    off = s[~same]
    unit, zero = (float(torch.linalg.det(s.masked_fill(same, value))) for value in (1.0, 0.0))
    state = "inert" if off.max() < INERT else "collapsed" if unit < COLLAPSED else "active"
    return {"mean": float(off.mean()), "max": float(off.max()), "unit": unit, "zero": zero, "state": state}


class DiversityTerm(nn.Module):
    """The diversity part of a loss: weights times minus D, for spatial maps and for channel vectors.

    Args:
        spatial, channel: weights of the two terms; both 1 in the paper. A term of weight 0 is left out.
        gamma, gamma_mode, distance, diagonal, objective, jitter: as in `diversity`.

    """

    def __init__(
        self,
        *,
        spatial: float = 1.0,
        channel: float = 1.0,
        gamma: float = GAMMA,
        gamma_mode: str = "fixed",
        distance: str = "sum",
        diagonal: str = "unit",
        objective: str = "det",
        jitter: float = 1e-6,
    ) -> None:
        super().__init__()
        self.weights = {"spatial": spatial, "channel": channel}
        self.options: dict[str, Any] = dict(
            gamma=gamma, gamma_mode=gamma_mode, distance=distance, diagonal=diagonal, objective=objective, jitter=jitter
        )
        diversity(torch.zeros(2, 1, 1), **self.options)  # wrong options are told here, not in the first step

    def forward(
        self, *, spatial: Tensor | Sequence[Tensor] | None = None, channel: Tensor | Sequence[Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The terms to be added to a loss.

        Args:
            spatial: maps of L members: gates or pooled maps (L, N, H, W), or feature maps (L, N, C, H, W), which are
                pooled over channels. One tensor, or a sequence of L tensors without the first axis.
            channel: vectors (L, N, C), or feature maps (L, N, C, H, W), which are pooled over places.

        Returns:
            diversity_spatial, diversity_channel: minus the weighted D, scalars, for what was given and has a weight. A
            single member (the first stage of a growing ensemble) gives 0.

        Raises:
            ValueError: maps that do not fit each other.

        """
        losses = {}
        for kind, maps in (("spatial", spatial), ("channel", channel)):
            if maps is None or not self.weights[kind]:
                continue
            stacked = _pooled(maps, kind)
            if len(stacked) < 2:
                losses[f"diversity_{kind}"] = stacked.new_zeros(())
                continue
            value, _ = diversity(stacked, **self.options)
            dtype = torch.float64 if stacked.dtype == torch.float64 else torch.float32
            # two steps: Apple's GPUs cannot even receive float64
            losses[f"diversity_{kind}"] = (-self.weights[kind] * value).to(dtype).to(stacked.device)
        return losses

    @torch.no_grad()
    def similarities(
        self, *, spatial: Tensor | Sequence[Tensor] | None = None, channel: Tensor | Sequence[Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Return the matrices S (L, L) of the same maps by kind, "spatial" and "channel", for logs and figures;
        weights play no part.
        """
        options = {k: v for k, v in self.options.items() if k not in ("objective", "jitter")}
        given = (("spatial", spatial), ("channel", channel))
        return {kind: similarity(_pooled(maps, kind), **options) for kind, maps in given if maps is not None}

    def extra_repr(self) -> str:
        """Weights and options, for `print(term)`."""
        return ", ".join(f"{k}={v!r}" for k, v in {**self.weights, **self.options}.items())


def _pooled(maps: Tensor | Sequence[Tensor], kind: str) -> Tensor:
    """(L, N, H, W) or (L, N, C) from maps of either kind, pooled already or not."""
    pool, rank, wanted = (pool_channels, 3, "(N, H, W)") if kind == "spatial" else (pool_space, 2, "(N, C)")
    rows = []
    for one in maps:
        if one.ndim not in (rank, 4):
            raise ValueError(
                f"the {kind} term compares maps {wanted} or feature maps (N, C, H, W), found {tuple(one.shape)}"
            )
        one = one.to(torch.promote_types(one.dtype, torch.float32))  # half precision would round the means
        rows.append(pool(one) if one.ndim == 4 else one)
    shapes = sorted({tuple(row.shape) for row in rows})
    if len(shapes) != 1:
        advice = "take submodules on one grid" if kind == "spatial" else "take submodules with equally many channels"
        raise ValueError(
            f"the {kind} term needs maps of one shape, found {' and '.join(map(str, shapes))} after pooling; {advice}"
        )
    return torch.stack(rows)


def _known(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{option}={value!r} is unknown; known: {', '.join(known)}")
