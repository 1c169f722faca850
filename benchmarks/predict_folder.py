"""Where the time of `python -m ferkit predict` goes, and how much memory it takes: drawn faces, one and two workers.

    python benchmarks/predict_folder.py --pictures 1000

The parts are summed over threads, so two workers may spend two seconds in a second. The face detector is by far the
slowest part. Memory is told beside that of the imported libraries, of which PyTorch with GPU support alone maps half a
gigabyte; with more pictures it must not grow. On a busy machine trust the CPU seconds.
"""

import argparse
import multiprocessing
import resource
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import torch
from PIL import Image

from ferkit.synthetic import make_faces
from ferkit.use import pictures


def draw(folder: Path, n: int, side: int = 400) -> None:
    """Pictures with a drawn face each, on grey paper as a photograph has something around its face."""
    for start in range(0, n, 50):
        faces = make_faces(min(50, n - start), size=200, colour="rgb", seed=start).images
        for i, face in enumerate(faces):
            paper = Image.new("RGB", (side, side), (150, 150, 150))
            paper.paste(Image.fromarray(face.transpose(1, 2, 0)), (100, 100))
            paper.save(folder / f"{start + i:05}.jpg", quality=90)


def timed(spent: Counter, name: str, function):
    """The function, its seconds added to `spent`."""
    lock = threading.Lock()

    def call(*arguments, **options):
        began = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            with lock:
                spent[name] += time.perf_counter() - began

    return call


def peak() -> float:
    """The most memory this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Draw, ask with one and with two workers, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=200)
    n = parser.parse_args().pictures
    torch.set_num_threads(1)
    spent: Counter = Counter()
    for name, function in (("reading", "upright"), ("detection", "find_faces"), ("network", "opinions")):
        setattr(pictures, function, timed(spent, name, getattr(pictures, function)))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "pictures"
        folder.mkdir()
        drawing = multiprocessing.get_context("spawn").Process(target=draw, args=(folder, n))  # its memory is its own
        drawing.start()
        drawing.join()
        print(f"imported: {peak():.0f} MB")
        for workers in (1, 2):
            spent.clear()
            began, cpu = time.perf_counter(), time.process_time()
            out = Path(place) / f"{workers}.csv"
            counts, _ = pictures.predict_to_file([folder], pictures.BEST, out, workers=workers, progress=False)
            seconds = time.perf_counter() - began
            cpu = (time.process_time() - cpu) / n
            shares = ", ".join(
                f"{name} {100 * spent[name] / seconds:.0f} %" for name in ("reading", "detection", "network")
            )
            print(
                f"{workers} worker(s): {counts.pictures / seconds:.1f} pictures a second, {counts.faces} faces; "
                f"{1000 * cpu:.0f} ms of CPU each; of the time {shares}; {peak():.0f} MB at most"
            )


if __name__ == "__main__":
    main()
