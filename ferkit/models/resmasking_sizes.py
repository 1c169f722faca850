"""Which pictures the Residual Masking Network takes: its masking blocks halve a map and double it again,
which must come out even.
"""

from collections.abc import Sequence
from typing import NamedTuple

DEPTHS = (4, 3, 2, 1)  # of the masking blocks after layer1..4: one pooling less than that in each


def legal_size(side: int, depths: Sequence[int] = DEPTHS) -> bool:
    """Return whether the released network takes pictures of this side; height and width may differ.

    Stage k has a grid of ceil(side / 2**(k+1)) places a side (strides round up); a masking block of depth d halves it
    d - 1 times (poolings round down) and doubles it as often, so the grid must be a multiple of 2**(d-1). With the
    released depths: side at most 3 below a multiple of 32.
    """
    return side > 0 and all(grid(side, k) % 2 ** (d - 1) == 0 for k, d in enumerate(depths, 1) if d)


def nearest_legal_sizes(side: int, depths: Sequence[int] = DEPTHS) -> tuple[int, ...]:
    """Return the legal sides next to one that is not: the one below, if there is any, and the one above."""
    below = next((n for n in range(side, 0, -1) if legal_size(n, depths)), None)
    above = next(n for n in range(max(side, 1), side + period(depths) + 1) if legal_size(n, depths))
    return tuple(sorted({n for n in (below, above) if n is not None}))


class BlockSides(NamedTuple):
    """Sides of the maps in one masking block: those of the encoder, and (what comes up, the skip it must meet)
    from the bottom.
    """

    down: tuple[int, ...]
    up: tuple[tuple[int, int], ...]


def block_sides(side: int, depths: Sequence[int] = DEPTHS) -> list[BlockSides | None]:
    """Return the sides of all maps in the masking blocks for pictures of `side`; None for a block of depth 0.

    Behind a pair that does not match the list goes on with the skip's side, as size_policy="resize" does.
    """
    rows: list[BlockSides | None] = []
    for k, depth in enumerate(depths, 1):
        down = tuple(grid(side, k) // 2**i for i in range(depth))
        rows.append(
            BlockSides(down, tuple((2 * below, here) for here, below in zip(down[-2::-1], down[::-1], strict=False)))
            if depth
            else None
        )
    return rows


def grid(side: int, stage: int) -> int:
    """Return the places a side of stage 1 to 4 for pictures of `side`: strides round up."""
    return -(-side // 2 ** (stage + 1))


def period(depths: Sequence[int]) -> int:
    """Return the number whose multiples are legal: 32 with the released depths."""
    return max(2 ** (k + max(d, 1)) for k, d in enumerate(depths, 1))
