"""Fixtures for all tests: one thread unless told, a cache folder of their own, a real FER2013 where there is one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# One thread, child processes included: on two cores the workers of pytest-xdist would fight for them. OMP_NUM_THREADS=4
# tries the tests with four, whatever the machine has.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep parsed data sets out of the user's cache, unless FERKIT_CACHE says where to keep them."""
    with pytest.MonkeyPatch.context() as patch:
        folder = Path(os.environ.get("FERKIT_CACHE") or tmp_path_factory.mktemp("ferkit-cache"))
        patch.setenv("FERKIT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def fer2013_path() -> Path:
    """A real FER2013 csv: FERKIT_FER2013, else ../shared/data beside the checkout; the test is skipped without one."""
    named = os.environ.get("FERKIT_FER2013")
    if named:
        path = Path(named).expanduser()
        assert path.exists(), f"FERKIT_FER2013 names {path}, where there is nothing"
        return path
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "fer2013" / "fer2013.csv.gz"
    if not beside.is_file():
        pytest.skip("needs a real FER2013: set FERKIT_FER2013 to fer2013.csv (data/README.md says how to get it)")
    return beside
