"""How long the upload widget takes to redraw each of its views, and where the time goes.

    python benchmarks/redraw_speed.py [--repeats 7]

CPU milliseconds of this process (one thread), least and median of the repeats. "figure" is the plain function:
networks, maps and matplotlib's objects; "live" draws it as the widget does; "stored" draws it as a notebook keeps it,
in 256 colours. Target: figure and live together within 300 ms for one light network; views that ask all networks grow
with their number.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from ferkit import plots
from ferkit.widgets import FaceUpload, cam_figure
from ferkit.widgets import upload as views


def clock(work: Callable[[], object], repeats: int) -> list[float]:
    """CPU milliseconds of each repeat; a first one, which imports and caches, is not counted."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(1000 * (time.process_time() - start))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    widget = FaceUpload()
    every, crop = widget.networks, widget.crop
    picture = views.as_channels(crop)[0]
    figures: dict[str, Callable[[], plots.Figure]] = {
        "faces found": lambda: views.found_figure(widget.picture, widget.found)
    }
    for name in every:
        one = {name: every[name]}
        figures |= {
            f"answers, {name}": lambda one=one: views.answers_figure(one, crop),
            f"where it looks, {name}": lambda name=name: cam_figure(every[name].model, picture),
            f"small changes, {name}": lambda name=name: views.stability_figure(every, crop, name),
        }
    figures |= {
        f"answers, all {len(every)}": lambda: views.answers_figure(every, crop),
        f"hide a part, all {len(every)}": lambda: views.hidden_figure(every, crop),
        f"side by side, all {len(every)}": lambda: views.side_by_side_figure(every, crop),
    }
    print(f"{'view':48} {'figure':>8} {'live':>8} {'stored':>8}   figure + live, least (median)")
    for name, make in figures.items():
        figure = make()
        parts = [
            clock(work, options.repeats)
            for work in (make, lambda f=figure: plots.to_png(f, small=False), lambda f=figure: plots.to_png(f))
        ]
        both = [a + b for a, b in zip(parts[0], parts[1], strict=True)]
        least = "".join(f" {min(part):8.0f}" for part in parts)
        print(f"{name:48}{least}   {min(both):.0f} ({statistics.median(both):.0f}) ms")


if __name__ == "__main__":
    main()
