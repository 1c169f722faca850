"""A training step of ResEmoteNet in bfloat16 with channels_last beside float32.

    python benchmarks/precision.py [--width 0.25] [--size 64] [--batch 64] [--repeats 15]

All ways run in turns, one step each; medians count. One thread. bfloat16 pays on CPUs with AVX512-BF16 or AMX and not
on others.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from ferkit.models import create_model

WAYS = {
    "float32": (False, torch.contiguous_format),
    "float32, channels_last": (False, torch.channels_last),
    "bfloat16": (True, torch.contiguous_format),
    "bfloat16, channels_last": (True, torch.channels_last),
}


def step_of(options: argparse.Namespace, half: bool, memory_format: torch.memory_format) -> Callable[[], None]:
    torch.manual_seed(0)
    model = create_model("resemotenet", width=options.width, head="linear").to(memory_format=memory_format)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images = torch.randn(options.batch, 3, options.size, options.size).contiguous(memory_format=memory_format)
    targets = torch.arange(options.batch) % 7

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            loss = nn.functional.cross_entropy(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    steps = {name: step_of(options, *way) for name, way in WAYS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.repeats + 1):
        for name, step in steps.items():
            start = time.process_time()
            step()
            seconds[name].append(time.process_time() - start)
    median = {name: statistics.median(values[1:]) for name, values in seconds.items()}  # the first round warms up
    print(f"ResEmoteNet, width {options.width:g}, {options.size} px, batch {options.batch}, one thread")
    for name, value in median.items():
        print(f"{name:<24} {options.batch / value:8,.0f} images/s   {median['float32'] / value:5.2f} times float32")
    ratio = median["float32"] / median["bfloat16, channels_last"]
    print(
        json.dumps(
            {
                "benchmark": "precision",
                "ratio": round(ratio, 3),
                "images_per_s": {k: round(options.batch / v, 1) for k, v in median.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
