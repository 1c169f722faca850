"""Reading folders of pictures and looking for copies: ferkit beside torchvision and the plain PIL and numpy way,
in one run.

    python benchmarks/data_reading.py                    # 4,000 generated jpeg pictures of 100x100
    python benchmarks/data_reading.py --pictures DIR     # class folders of one's own
    python benchmarks/data_reading.py --search 300000    # the search for near copies alone, on that many made-up
    records

Every reader gets the same folder, works in a process of its own with `--workers` threads or worker processes, and runs
after one untimed pass over the files that puts them into the disk cache; the fastest of `--repeats` rounds counts.
"epoch" is every picture once as uint8 (3, 112, 112). "hash" is what duplicate searches keep of a picture: an exact
digest, and a perceptual hash of 64 bits (imagehash's phash: 32x32 grey, cosine transform), which ferkit computes from
its records. Comparing is left out of "hash": the plain way has only all pairs, which is n (n - 1) / 2 comparisons.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

FERKIT = """
import warnings
from ferkit.data import load_folder
start, cpu = time.perf_counter(), clock()
faces = load_folder(path, size=112, order="fer2013", workers=workers, progress=False)
for i in range(0, len(faces), 256):
    seen += len(faces.images[i : i + 256].copy())
"""
TORCHVISION = """
import torch, torchvision
from torchvision.transforms import v2
torch.set_num_threads(1)
start, cpu = time.perf_counter(), clock()
change = v2.Compose([v2.Resize((112, 112)), v2.PILToTensor()])
folder = torchvision.datasets.ImageFolder(path + "/train", change)
for images, _ in torch.utils.data.DataLoader(folder, batch_size=256, num_workers=workers if workers > 1 else 0):
    seen += len(images)
"""
FERKIT_HASH = """
from ferkit.doctor.scan import look
from ferkit.doctor.survey import survey
from ferkit.doctor.copies import _hashes
import numpy as np
start, cpu = time.perf_counter(), clock()
records = look(survey(path, order="fer2013"), workers=workers, progress=False)
seen = len(_hashes(records["thumb"], np.arange(len(records)))[0])
"""
PLAIN_HASH = """
import hashlib, numpy as np
from pathlib import Path
from PIL import Image
from scipy.fft import dctn
start, cpu = time.perf_counter(), clock()
for file in sorted(Path(path).rglob("*.jpg")):
    digest = hashlib.md5(file.read_bytes()).hexdigest()
    with Image.open(file) as image:
        small = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), float)
    low = dctn(small)[:8, :8]
    seen += (low > np.median(low)).size > 0
"""
READERS = {
    "ferkit, first epoch (decodes)": FERKIT,
    "ferkit, later epoch": FERKIT,
    "torchvision ImageFolder, every epoch": TORCHVISION,
    "ferkit doctor, first look": FERKIT_HASH,
    "ferkit doctor, later look": FERKIT_HASH,
    "PIL + md5 + phash": PLAIN_HASH,
}
FRAME = """
import json, os, resource, sys, time
path, workers, seen = sys.argv[1], int(sys.argv[2]), 0
clock = lambda: sum(os.times()[:4])
{body}
seconds, cpu = time.perf_counter() - start, clock() - cpu
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
print(json.dumps([seconds, cpu, peak, seen]))
"""
SEARCH = """
import numpy as np
from scipy.ndimage import gaussian_filter
from ferkit.doctor import copies, scan
n = workers
rng, records = np.random.default_rng(0), np.zeros(n, scan.RECORD)
for i in range(0, n, 10000):
    made = gaussian_filter(rng.normal(0, 1, (min(10000, n - i), 16, 16)).astype(np.float32), (0, 1.2, 1.2)) * 150 + 128
    records["thumb"][i : i + 10000] = made.clip(0, 255)
records["digest"], records["width"] = np.arange(n), 48
records["thumb"][-n // 100 :] = records["thumb"][: n // 100] // 2 + 40
start, cpu = time.perf_counter(), clock()
seen = len(copies.near_copies(records).pairs)
"""


def generate(folder: Path, n: int) -> None:
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(n):
        file = folder / f"train/{i % 7}/{i:06d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        spots = rng.normal(0, 45, (12, 12, 3)) + (170, 125, 105)
        Image.fromarray(spots.clip(0, 255).astype(np.uint8)).resize((100, 100), Image.Resampling.BICUBIC).save(
            file, quality=90
        )


def run(body: str, path: str, workers: int, cache: str) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FRAME.format(body=body), path, str(workers)],
        env=os.environ | {"FERKIT_CACHE": cache, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", help="class folders train/0 ... train/6; default: generated")
    parser.add_argument("--n", type=int, default=4000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--search", type=int, default=0)
    args = parser.parse_args()
    if args.search:
        seconds, cpu, peak, pairs = run(SEARCH, "", args.search, "")
        print(
            f"near copies among {args.search:,} records: {seconds:.1f} s ({cpu:.1f} CPU s), {peak:.0f} MB, {pairs:,} "
            f"pairs ({args.search // 100:,} planted)"
        )
        return
    with tempfile.TemporaryDirectory() as made:
        if not args.pictures:
            generate(Path(made), args.n)
        path = args.pictures or made
        for file in Path(path).rglob("*.jpg"):
            file.read_bytes()
        best: dict[str, list[float]] = {}
        for _ in range(args.repeats):
            with tempfile.TemporaryDirectory() as cache:
                for name, body in READERS.items():
                    found = run(body, path, args.workers, cache)
                    best[name] = min(best.get(name, found), found)
    n = int(next(iter(best.values()))[3])
    print(f"{n:,} pictures, {args.workers} workers, fastest of {args.repeats}")
    print(f"{'':38}{'seconds':>9}{'CPU s':>8}{'peak MB':>9}{'pictures/s':>12}")
    for name, (seconds, cpu, peak, seen) in best.items():
        assert seen == n, (name, seen)
        print(f"{name:38}{seconds:9.2f}{cpu:8.2f}{peak:9.0f}{n / seconds:12,.0f}")


if __name__ == "__main__":
    main()
