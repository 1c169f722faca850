"""500 hostile uploads give a sentence or a picture to look for faces in: no traceback, no hang, no more than 500 MB,
no file.

By default every third is tried, all kinds among them. FERKIT_CASES=1 tries all 500, FERKIT_CASES=20 ten thousand.
"""

import collections
import io
import os
import sys
import time
from multiprocessing.connection import Connection

import numpy as np
import pytest
from PIL import Image

from ferkit.faces import crop_face, describe, find_faces, portrait, read_picture
from ferkit.faces.decode import LARGE
from tests.support.uploads import encode, hostile_uploads
from tests.unit.children import CONTEXT, child_process

pytest.importorskip("facenet_pytorch")

MEGABYTES = 500
SECONDS = 20  # of the clock, for one upload, on a busy machine
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from Linux's /proc")


def memory(key: str) -> float:
    """A line of /proc/self/status in MB: VmRSS is what is held now, VmHWM the most that was ever held."""
    with open("/proc/self/status", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith(key)).split()[1]) / 1024


def look(data: bytes) -> str:
    """What the widgets do with an upload: the sentence about it, or about the faces in it."""
    try:
        picture = read_picture(data)
    except ValueError as error:
        return f"refused: {error}"
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    found = find_faces(picture)
    assert crop_face(picture, found[0] if found else None, size=64).shape == (64, 64, 3)
    return ("face: " if found else "none: ") + describe(found, picture)


def serve(pipe: Connection) -> None:
    """In a process of its own: answer uploads, with the memory above what was held before the first."""
    written: list[str] = []

    def hear(event: str, args: tuple) -> None:
        if event == "open" and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            written.append(str(args[0]))

    look(encode(Image.fromarray(portrait()), "PNG"))  # libraries and MTCNN's weights are there from now on
    before = memory("VmRSS")
    sys.addaudithook(hear)
    while (data := pipe.recv()) is not None:
        try:
            if isinstance(data, str):
                open(data, "w").close()  # a careless act, which must be heard
                said = "done"
            else:
                said = look(data)
        except BaseException as error:
            said = f"TRACEBACK: {type(error).__name__}: {error}"
        pipe.send((said, memory("VmHWM") - before, list(written)))


class Server:
    """The child process; `ask` fails when it dies or gives no answer in time."""

    def __enter__(self) -> "Server":
        self.pipe, theirs = CONTEXT.Pipe()
        self.process = child_process(serve, theirs)
        self.process.start()
        return self

    def ask(self, data: bytes | str) -> tuple[str, float, list[str]]:
        self.pipe.send(data)
        if not self.pipe.poll(SECONDS + 60 * (not hasattr(self, "answered"))):  # its first answer needs the libraries
            return "HANG", 0.0, []
        self.answered = True
        return self.pipe.recv()

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.join()


@linux
@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_hostile_uploads(tmp_path):
    times = int(os.environ.get("FERKIT_CASES", "0"))
    uploads = list(hostile_uploads(portrait(), seed=max(0, times - 1), times=max(1, times)))
    assert len(uploads) == 500 * max(1, times)
    if not times:
        uploads = [u for i, u in enumerate(uploads) if i % 3 == 0]
    kinds: collections.Counter[str] = collections.Counter()
    wrong = []
    peak = 0.0
    with Server() as server:
        for name, data in uploads:
            start = time.monotonic()
            said, held, written = server.ask(data)
            kind = said.split(":")[0]
            kinds[kind] += 1
            if (
                kind not in ("refused", "face", "none")
                or "\n" in said
                or len(said) > 300
                or written
                or held > MEGABYTES
            ):
                wrong.append(f"{name}: {said!r}, {held:.0f} MB, {time.monotonic() - start:.0f} s, wrote {written}")
                if kind == "HANG" or held > MEGABYTES:
                    break
            peak = max(peak, held)
    print(f"{sum(kinds.values())} uploads: {dict(kinds)}, at most {peak:.0f} MB")
    assert not wrong, "\n".join(wrong)
    assert (
        kinds["refused"] > len(uploads) / 3 and kinds["face"] > len(uploads) / 10 and kinds["none"] > len(uploads) / 20
    )
    assert peak > 50, "large pictures are among them, so this measured nothing"


@linux
def test_the_server_hears_what_is_wrong(tmp_path):
    with Server() as server:
        said, _, written = server.ask(str(tmp_path / "left.png"))
        assert said == "done" and written == [str(tmp_path / "left.png")]
        assert server.ask(5)[0].startswith("refused: expected a picture's bytes")
        assert server.ask(np.zeros((2, 2, 2)))[0].startswith("refused")
        server.process.kill()
        with pytest.raises((EOFError, OSError)):
            server.ask(b"")
            server.ask(b"")


def test_large_pictures_are_averaged_down_and_keep_their_place():
    side = 5000  # 25 megapixels
    ramp = np.linspace(0, 255, side).astype(np.uint8)
    image = Image.fromarray(np.repeat(ramp[None], side, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: left becomes top
    for data in (encode(image, "PNG", compress_level=1), encode(image, "JPEG")):
        picture = read_picture(data)
        assert picture.shape == (side // 2, side // 2, 3) and side * side > LARGE >= picture.size / 3
        assert np.abs(picture[7, :, 0].astype(int) - ramp[::2]).max() <= 2
    turned = read_picture(encode(image, "JPEG", exif=exif))
    assert turned[0].max() < 5 and turned[-1].min() > 250


def test_a_strip_at_a_time_changes_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    pictures = [
        rng.integers(0, 256, shape).astype(kind)
        for shape, kind in (((37, 23, 3), np.uint8), ((37, 23, 4), np.uint8), ((37, 23), np.uint16))
    ]
    data = [encode(Image.fromarray(p), "PNG") for p in pictures]
    whole = [read_picture(d) for d in data]
    monkeypatch.setattr("ferkit.faces.decode._STRIP", 50)
    for one, d in zip(whole, data, strict=True):
        np.testing.assert_array_equal(read_picture(d), one)
    monkeypatch.setattr("ferkit.faces.decode.LARGE", 200)  # 37 x 23 needs a third of its sides
    small = read_picture(data[0])
    assert small.shape == (13, 8, 3)
    np.testing.assert_allclose(small[0, 0], pictures[0][:3, :3].mean((0, 1)), atol=1)


def test_damaged_exif_does_not_cost_the_picture():
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8))
    assert read_picture(encode(image, "PNG", exif=b"Exif\0\0" + b"\xff" * 99)).shape == (6, 8, 3)


@pytest.mark.parametrize("values", [[np.nan, 0.5], [0.5, np.inf], [-0.1, 0.5], [0, 200]])
def test_real_numbers_without_a_meaning_are_refused_as_file_and_as_array(values):
    array = np.array([values], np.float32)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "TIFF")
    for source in (array, buffer.getvalue()):
        with pytest.raises(ValueError, match=r"expected floats in \[0, 1\], found"):
            read_picture(source)
