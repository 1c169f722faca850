"""LFNSB on the fast path beside the network as it is written: a training step and inference, same weights,
same numbers.

    python benchmarks/lfnsb_speed.py [--size 64] [--batch 64] [--width 1] [--repeats 7] [--profile]

`ferkit.models` writes the layers down as the paper draws them: torch's PReLU, means and products by broadcasting; that
is the "transcription" below. "ferkit" is the same network after `ferkit.models.fast.use_fast_path`, as trainings use
it; its inference is fused as well (`ferkit.models.fuse`). All ways run in turns, one step each; medians of CPU seconds
of one thread count, so a busy machine does not spoil them much. Targets: twice as fast.

On a CPU with AVX512-BF16 (one thread of a busy machine, width 1, 64 px, batch 64, torch 2.14.1), in images a second:

                                training step      inference
    transcription, float32              36.6          149.2
    ferkit, float32, channels_last      67.0 (1.8)    266.8 (1.8)
    ferkit, bfloat16, channels_last     90.3 (2.5)    410.2 (2.75)

So twice as fast is reached in bfloat16 with channels_last and not in float32. The last lines of every run say what
bounds it: how much of ours is convolution, which is oneDNN's, and how fast all would be if the rest took no time. The
transcription's step loses its time in PReLU's gradient (not vectorised), in the attention's reductions and broadcasts,
and in depthwise gradients: strided or larger than 3 x 3 they are the slowest of all in bfloat16. What remains is
bounded by oneDNN's convolutions, two thirds of fused float32 inference and half of a float32 step, and by passes over
the maps of BatchNorm, PReLU and gates; `--profile` lists the operations.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ferkit.models import create_model
from ferkit.models.fast import use_fast_path
from ferkit.models.fuse import fuse

WAYS = {
    "transcription, float32": (True, False, torch.contiguous_format),
    "transcription, float32, channels_last": (True, False, torch.channels_last),
    "transcription, bfloat16, channels_last": (True, True, torch.channels_last),
    "ferkit, float32": (False, False, torch.contiguous_format),
    "ferkit, float32, channels_last": (False, False, torch.channels_last),
    "ferkit, bfloat16, channels_last": (False, True, torch.channels_last),
}


def training_step(model: nn.Module, images: Tensor, half: bool) -> Callable[[], Tensor]:
    optimizer = torch.optim.SGD(model.train().parameters(), lr=1e-3, momentum=0.9)
    targets = torch.arange(len(images)) % 7

    def step() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            loss = nn.functional.cross_entropy(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def inference(model: nn.Module, images: Tensor, half: bool) -> Callable[[], Tensor]:
    model.eval()

    def run() -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            return model(images).float()

    return run


def compare(title: str, runs: dict[str, Callable[[], Tensor]], images: int, repeats: int) -> dict[str, float]:
    """Print rates, ratios to the first way, and how far the first result is from the first way's;
    median seconds of each.
    """
    first = {name: run() for name, run in runs.items()}
    wanted = next(iter(first.values()))
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    base = statistics.median(next(iter(seconds.values())))
    print(f"\n{title:40} images/s   ratio   spread of seconds   deviation of the first result")
    for name, values in seconds.items():
        middle, gap = statistics.median(values), (first[name] - wanted).abs().max() / wanted.abs().max()
        print(
            f"{name:40} {images / middle:8.1f} {base / middle:7.2f}   {min(values):6.3f} - "
            f"{max(values):6.3f}   {gap:14.1e}"
        )
    return {name: statistics.median(values) for name, values in seconds.items()}


def operations(run: Callable[[], Tensor]) -> list[tuple[str, float, int]]:
    """Name, CPU seconds of its own and calls of every operation of one run, the most expensive first."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        run()
    return sorted(
        ((e.key, e.self_cpu_time_total / 1e6, e.count) for e in profile.key_averages()), key=lambda found: -found[1]
    )


def bound(title: str, runs: dict[str, Callable[[], Tensor]], seconds: dict[str, float]) -> None:
    """Print whether ours is twice as fast as the first way, and what bounds it: the share that is convolution."""
    base = next(iter(seconds.values()))
    for name in (n for n in runs if n.startswith("ferkit") and "channels_last" in n):
        found = operations(runs[name])
        share = sum(s for key, s, _ in found if "conv" in key) / sum(s for _, s, _ in found)
        ratio = base / seconds[name]
        rest = base / 2 - share * seconds[name]  # what all other operations may take together for twice as fast
        others = (1 - share) * seconds[name]
        verdict = (
            "reached"
            if ratio >= 2
            else f"would need all other operations in {rest / others:.0%} of their time"
            if rest > 0
            else "is out of reach while convolutions take this long"
        )
        print(
            f"{title}, {name.removeprefix('ferkit, ')}: {ratio:.2f} times as fast; {share:.0%} of it is convolution, "
            f"and {ratio / share:.1f} times would be all if nothing else took time; twice as fast {verdict}"
        )


def gradient_gap(a: nn.Module, b: nn.Module, images: Tensor) -> float:
    """Largest difference of gradients, relative to the largest gradient of the tensor, in float64."""
    gradients = []
    for model in (a, b):
        model = copy.deepcopy(model).double().train()
        nn.functional.cross_entropy(model(images.double()), torch.arange(len(images)) % 7).backward()
        gradients.append([p.grad for p in model.parameters() if p.ndim > 1])
    return max(((x - y).abs().max() / x.abs().max()).item() for x, y in zip(*gradients, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--profile", action="store_true", help="print the ten most expensive operations of each training step"
    )
    options = parser.parse_args()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler otherwise reports its own starts and stops
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ours = create_model("lfnsb", width=options.width)
    images = torch.randn(options.batch, 3, options.size, options.size)
    with torch.no_grad():
        ours(images)  # statistics of BatchNorm that fit the pictures
    plain = copy.deepcopy(ours)
    use_fast_path(ours)
    print(
        f"LFNSB, width {options.width:g}, {options.size} px, batch {options.batch}, one thread, torch "
        f"{torch.__version__}"
    )
    print(f"gradients agree to {gradient_gap(plain, ours, images[:8]):.0e} in float64")

    steps, inferences = {}, {}
    for name, (direct, half, memory_format) in WAYS.items():
        pictures = images.contiguous(memory_format=memory_format)
        model = copy.deepcopy(plain if direct else ours).to(memory_format=memory_format)
        steps[name] = training_step(model, pictures, half)
        model = copy.deepcopy(plain if direct else ours).eval()
        inferences[name] = inference((model if direct else fuse(model)).to(memory_format=memory_format), pictures, half)
    step_seconds = compare("training step", steps, options.batch, options.repeats)
    inference_seconds = compare("inference (ferkit fused)", inferences, options.batch, options.repeats)
    print("\nwhat bounds it")
    bound("training step", steps, step_seconds)
    bound("fused inference", inferences, inference_seconds)
    if options.profile:
        for name, run in [*steps.items(), *((f"inference, {name}", run) for name, run in inferences.items())]:
            found = operations(run)
            total = sum(s for _, s, _ in found)
            print(f"\n{name}: {1e3 * total:,.0f} ms")
            for key, own, calls in found[:10]:
                print(f"  {key:36} {1e3 * own:8.1f} ms {100 * own / total:5.1f} % {calls:6} calls")


if __name__ == "__main__":
    main()
