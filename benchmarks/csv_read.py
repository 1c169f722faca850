"""Reading FER2013's csv: ferkit's first read and its later opens beside pandas with two usual per-row conversions.

    python benchmarks/csv_read.py                        # a generated csv of 6,000 rows
    python benchmarks/csv_read.py --csv fer2013.csv      # a real one (.csv or .csv.gz)

Each reader runs in a process of its own, after one untimed read of the file that puts it into the disk cache; the
fastest of `--repeats` rounds counts. Seconds leave out the imports; peak memory (largest resident set) includes them.
On a busy machine trust the CPU seconds. pandas is used in its leanest form, which checks nothing; ferkit's first read
checks every value, hashes the file and writes the cache.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

# This process stays small on purpose: getrusage of a child starts from the peak of the process that started it.

FERKIT = """
from ferkit.data import load_fer2013
start, cpu = time.perf_counter(), time.process_time()
faces = load_fer2013(path)
images, labels = faces.images, faces.labels
"""
PANDAS = """
import numpy as np, pandas
start, cpu = time.perf_counter(), time.process_time()
table = pandas.read_csv(path)
images = np.stack([CONVERT for text in table["pixels"]]).reshape(-1, 48, 48)
labels = table["emotion"].to_numpy()
"""
READERS = {
    "ferkit, first read": FERKIT,
    "ferkit, later open": FERKIT,
    "pandas + np.fromstring": PANDAS.replace("CONVERT", "np.fromstring(text, dtype=np.uint8, sep=' ')"),
    "pandas + str.split": PANDAS.replace("CONVERT", "np.array(text.split(), dtype=np.uint8)"),
}
FRAME = """
import json, resource, sys, time, zlib
path = sys.argv[1]
{body}
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
sums = [zlib.crc32(images.tobytes()), zlib.crc32(labels.astype("int64").tobytes())]
print(json.dumps([seconds, cpu, peak, len(labels), *sums]))
"""


def generate(path: Path, rows: int) -> None:
    source = random.Random(0)
    with path.open("w", encoding="ascii") as file:
        file.write("emotion,pixels,Usage\n")
        for row in range(rows):
            usage = "Training" if row < 0.8 * rows else "PublicTest"
            file.write(f"{row % 7},{' '.join(map(str, source.randbytes(2304)))},{usage}\n")


def run(body: str, path: Path, cache: str) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FRAME.format(body=body), str(path)],
        env=os.environ | {"FERKIT_CACHE": cache, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def measure(path: Path, repeats: int) -> dict[str, list[float]]:
    """Return seconds, CPU seconds, peak MB, rows and two checksums per reader; all readers take turns in every round.
    """
    best: dict[str, list[float]] = {}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            for name, body in READERS.items():  # the later open follows the first read of the same round
                found = run(body, path, cache)
                best[name] = min(found, best.get(name, found), key=lambda result: result[0])
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, help="a FER2013 csv instead of a generated one")
    parser.add_argument("--rows", type=int, default=6000, help="rows of the generated csv")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the results there too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.csv or Path(folder) / "generated.csv"
        if options.csv is None:
            generate(path, options.rows)
            os.utime(path, (0, 0))  # a file this young would be hashed again at the next open
        with path.open("rb") as file:
            while file.read(1 << 20):
                pass
        results = measure(path, options.repeats)
    base = results["ferkit, first read"]
    if len({tuple(result[3:]) for result in results.values()}) != 1:
        raise SystemExit("The readers disagree about the content: the times below would compare different things.")
    print(f"{path.name}: {base[3]:,} rows")
    print(
        f"{'reader':24}{'seconds':>9}{'ratio':>8}{'CPU s':>9}{'ratio':>8}{'peak MB':>9}{'ratio':>8}   "
        "(to the first read)"
    )
    for name, result in results.items():
        columns = [
            f"{value:9.{digits}f}{value / one:8.3f}"
            for value, one, digits in zip(result[:3], base[:3], (3, 3, 0), strict=True)
        ]
        print(f"{name:24}{''.join(columns)}")
    if options.json:
        rows = {
            name: {"seconds": result[0], "cpu_seconds": result[1], "peak_mb": result[2]}
            for name, result in results.items()
        }
        options.json.write_text(json.dumps({"rows": base[3], "readers": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
