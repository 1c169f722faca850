"""The diversity term beside the double loop over members that the released code uses, forward and backward.

    python benchmarks/diversity_speed.py [--branches 15] [--batch 64] [--repeats 8]

Both get the same maps and must give the same S, determinant and gradient. The loop is written from the formula: one
kernel for each ordered pair, into a zero matrix, in float32 as released; ours computes in float64. Ten steps
each in turns, one thread, CPU seconds, best of the repeats. Target: at least 20 times.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ferkit.losses.diversity import diversity

# (name, shape of one map): spatial gates of an ESR at 96 pixels, and channel gates
MAPS = (("36-d", (6, 6)), ("512-d", (512,)))
STEPS = 10  # of one method before the other's turn


def double_loop(maps: Tensor, gamma: float = 10.0) -> tuple[Tensor, Tensor]:
    """Determinant and S of maps (L, N, ...), pair by pair, zero diagonal, in the dtype of the maps."""
    members = len(maps)
    s = torch.zeros(members, members, dtype=maps.dtype)
    for a in range(members):
        for b in range(members):
            if a != b:
                squared = torch.square(maps[a] - maps[b]).flatten(1).sum(1)  # (N,)
                s[a, b] = torch.exp(-gamma * squared).mean()
    return torch.linalg.det(s), s


def ours(maps: Tensor) -> tuple[Tensor, Tensor]:
    return diversity(maps, diagonal="zero")


def step(method: Callable[[Tensor], tuple[Tensor, Tensor]], maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    leaf = maps.clone().requires_grad_()
    value, s = method(leaf)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), s.detach(), gradient


def assert_same(maps: Tensor) -> None:
    for found, expected in zip(step(ours, maps.double()), step(double_loop, maps.double()), strict=True):
        assert expected.abs().max() > 0, "the comparison is of nothing"
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--branches", type=int, default=15)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    ratios = {}
    for name, shape in MAPS:
        torch.manual_seed(0)
        dimensions = torch.Size(shape).numel()
        # gates in (0, 1), a common map plus differences that leave similarities around a third
        common, own = torch.rand(1, options.batch, *shape), torch.randn(options.branches, options.batch, *shape)
        maps = (0.3 + 0.4 * common + own * (0.055 / dimensions) ** 0.5).clamp(0, 1)
        assert_same(maps)
        seconds: dict[str, list[float]] = {"loop": [], "ferkit": []}
        for _ in range(options.repeats):
            for key, method in (("loop", double_loop), ("ferkit", ours)):
                start = time.process_time()
                for _ in range(STEPS):
                    step(method, maps)
                seconds[key].append((time.process_time() - start) / STEPS)
        loop, fast = (min(seconds[key]) for key in seconds)
        ratios[name] = round(loop / fast, 1)
        print(
            f"{options.branches} branches, batch {options.batch}, {name} maps: loop {1e3 * loop:.1f} ms, ferkit "
            f"{1e3 * fast:.2f} ms, ratio {loop / fast:.1f}"
        )
    print(json.dumps({"benchmark": "diversity", "branches": options.branches, "batch": options.batch, "ratio": ratios}))


if __name__ == "__main__":
    main()
