"""How many synthetic faces a second one core draws, beside a plain loop that draws one picture at a time.

    python benchmarks/synthetic_rate.py [--n 4096] [--size 64] [--colour grey|rgb] [--masks]

Seconds are CPU seconds of this process (one thread), so a busy machine does not spoil them much.
Target: at least 2,000 grey faces of 64 x 64 a second without masks.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from ferkit.synthetic.faces import make_faces


def rate(draw: Callable[[], object], n: int, repeats: int) -> float:
    """Return the best of some runs, in pictures per CPU second."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        draw()
        seconds.append(time.process_time() - start)
    return n / min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=4096)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--colour", choices=("grey", "rgb"), default="grey")
    parser.add_argument("--masks", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    knobs = {"size": options.size, "colour": options.colour, "masks": options.masks}
    make_faces(8, **knobs)  # the noise strip is made once

    few = max(16, options.n // 64)
    batched = rate(lambda: make_faces(options.n, **knobs), options.n, 3)
    loop = rate(lambda: [make_faces(1, start=i, **knobs) for i in range(few)], few, 2)
    print(f"{options.size} x {options.size} {options.colour}{', masks' if options.masks else ''}, one core")
    print(f"in chunks     {batched:8,.0f} faces/s")
    print(f"one by one    {loop:8,.0f} faces/s")
    print(f"ratio         {batched / loop:8.1f}")


if __name__ == "__main__":
    main()
