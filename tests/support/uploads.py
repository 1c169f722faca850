"""Hostile uploads, made from a seed: cut off, flipped, renamed, bombs, odd modes, odd sizes, broken metadata."""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
MODES = (
    "1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16", "I;16B", "RGBX", "RGBa",
    "La",
)
MEGA = 7000  # 49 megapixels: the largest that may be opened


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, depth: int, colour: int, body: bytes, before: bytes = b"") -> bytes:
    """A PNG of which the parts need not fit together."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def hostile_uploads(portrait: np.ndarray, *, seed: int = 0, times: int = 1) -> Iterator[tuple[str, bytes]]:
    """Yield 500 x `times` pairs of a name that says what is wrong, and the bytes; another seed gives other bytes."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(portrait).resize((160, 160))
    good = {kind: encode(small, kind) for kind in FORMATS}
    fixed = [*_modes(small), *_sizes(small), *_bombs(), *_renamed(), *_metadata(small)]
    yield from fixed
    rest = 500 * times - len(fixed)
    for number in range(rest):
        kind = FORMATS[number % len(FORMATS)]
        data = bytearray(good[kind])
        how = ("cut", "flip", "fill", "header", "splice", "magic")[number // len(FORMATS) % 6]
        if how == "cut":
            data = data[: int(rng.integers(1, len(data)))]
        elif how == "flip":
            for place in rng.integers(0, len(data), int(rng.integers(1, 40))):
                data[place] ^= 1 << int(rng.integers(8))
        elif how == "fill":
            start = int(rng.integers(0, len(data)))
            data[start : start + 200] = bytes([int(rng.integers(256))]) * len(data[start : start + 200])
        elif how == "header":
            for place in rng.integers(0, 64, 6):
                data[place] = int(rng.integers(256))
        elif how == "splice":
            other = good[FORMATS[int(rng.integers(len(FORMATS)))]]
            data = data[: int(rng.integers(len(data)))] + other[int(rng.integers(len(other))) :]
        else:
            data = data[:16] + rng.bytes(3000)
        yield f"{how} {kind} {number}", bytes(data)


def _modes(small: Image.Image) -> Iterator[tuple[str, bytes]]:
    values = np.asarray(small.convert("L"), np.float64)
    for mode in MODES:
        if mode in ("I", "F", "I;16", "I;16B"):
            kind = {"I": np.int32, "F": np.float32, "I;16": "<u2", "I;16B": ">u2"}[mode]
            image = Image.fromarray((values * (257 if mode != "F" else 1 / 255)).astype(kind))
        elif mode in ("RGBa", "La"):
            image = small.convert("RGBA" if mode == "RGBa" else "LA").convert(mode)
        elif mode == "LAB":
            image = Image.merge("LAB", small.split())
        elif mode == "PA":
            image = small.convert("P").convert("PA")
        else:
            image = small.convert(mode)
        for kind in FORMATS:
            try:
                yield f"mode {mode} {kind}", encode(image, kind)
            except (OSError, KeyError, ValueError):
                continue  # this format has no such mode
    odd = np.array([[np.nan, np.inf, -np.inf, 1e30, -5.0] * 20] * 100, np.float32)
    yield "mode F with NaN TIFF", encode(Image.fromarray(odd), "TIFF")


def _sizes(small: Image.Image) -> Iterator[tuple[str, bytes]]:
    for width, height in (
        (1, 1),
        (1, 2),
        (2, 1),
        (1, 20000),
        (20000, 1),
        (3, 9000),
        (9000, 3),
        (65000, 11),
        (11, 65000),
        (12, 12),
        (19, 2000),
    ):
        yield f"size {width} x {height}", encode(small.resize((width, height)), "PNG")
    yield "largest grey", encode(Image.new("L", (MEGA, MEGA), 90), "PNG")
    yield "largest RGB", encode(Image.new("RGB", (MEGA, MEGA), (90, 80, 70)), "JPEG")
    yield "largest RGBA", encode(Image.new("RGBA", (MEGA, MEGA), (90, 80, 70, 90)), "PNG", compress_level=1)
    yield "largest 16-bit", encode(Image.fromarray(np.full((MEGA, MEGA), 9000, np.uint16)), "PNG", compress_level=1)
    yield "largest CMYK", encode(Image.new("CMYK", (MEGA, MEGA), (9, 8, 7, 6)), "JPEG")
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "largest RGB, on its side", encode(Image.new("RGB", (MEGA, MEGA), (90, 80, 70)), "JPEG", exif=exif)
    yield "largest palette with transparency", encode(Image.new("P", (MEGA, MEGA)), "PNG", transparency=0)
    yield "largest float", encode(Image.new("F", (MEGA, MEGA), 0.5), "TIFF", compression="tiff_deflate")
    yield "photograph of a face, 36 megapixels", encode(small.resize((6000, 6000)), "JPEG", quality=40)


def _bombs() -> Iterator[tuple[str, bytes]]:
    for side in (7100, 9000, 20000, 60000, 2**31 - 1):
        yield f"bomb PNG {side}", png(side, side, 8, 2, zlib.compress(b"\0" * 1000))
    yield "bomb PNG that decodes", png(100, 100, 8, 2, zlib.compress(b"\0" * 60_000_000))
    for side in (9000, 30000, 65535):
        gif = bytearray(encode(Image.new("P", (9, 9)), "GIF"))
        gif[6:10] = struct.pack("<HH", side, side)
        yield f"bomb GIF {side}", bytes(gif)
        bmp = bytearray(encode(Image.new("RGB", (9, 9)), "BMP"))
        bmp[18:26] = struct.pack("<ii", side, side)
        yield f"bomb BMP {side}", bytes(bmp)
        yield f"bomb PPM {side}", b"P6 %d %d 255\n" % (side, side) + b"\0" * 99
        yield f"bomb TIFF {side}", _tiff(side)
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * 90_000_000))
    yield "bomb PNG text", png(8, 8, 8, 0, zlib.compress(b"\0" * 72), text)
    many = chunk(b"tEXt", b"Comment\0" + b"x" * 1000) * 3000
    yield "bomb PNG of small texts", png(8, 8, 8, 0, zlib.compress(b"\0" * 72), many)
    yield (
        "bomb PNG profile",
        png(8, 8, 8, 0, zlib.compress(b"\0" * 72), chunk(b"iCCP", b"p\0\0" + zlib.compress(b"\0" * 90_000_000))),
    )
    frames = [Image.new("P", (2000, 2000), i) for i in range(8)]
    yield "animated GIF", encode(frames[0], "GIF", save_all=True, append_images=frames[1:] * 8)
    yield (
        "animated WEBP",
        encode(frames[0].convert("RGB"), "WEBP", save_all=True, append_images=[f.convert("RGB") for f in frames[1:]]),
    )
    yield "animated PNG", encode(frames[0], "PNG", save_all=True, append_images=frames[1:])
    yield (
        "TIFF of many pages",
        encode(Image.new("L", (60, 60)), "TIFF", save_all=True, append_images=[Image.new("L", (60, 60))] * 300),
    )


def _tiff(side: int) -> bytes:
    tiff = bytearray(encode(Image.new("L", (9, 9)), "TIFF"))
    entries = struct.unpack("<I", tiff[4:8])[0]
    for number in range(struct.unpack("<H", tiff[entries : entries + 2])[0]):
        place = entries + 2 + 12 * number
        if struct.unpack("<H", tiff[place : place + 2])[0] in (256, 257):
            tiff[place + 2 : place + 12] = struct.pack("<HII", 4, 1, side)
    return bytes(tiff)


def _renamed() -> Iterator[tuple[str, bytes]]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", b"\0" * 5_000_000)
    brands = [
        b"\0\0\0\x18ftyp" + brand + b"\0" * 40 for brand in (b"heic", b"mif1", b"isom", b"qt  ", b"avif", b"avis")
    ]
    others: list[bytes] = [
        b"", b"\0", b"\xff", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*",
        b"RIFF\0\0\0\0WEBP", b"P6", b"P7\n", b"Pf\n1 1\n1\n",
        b"hello", b"a face,a label\n" * 999, b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<html><body>404</body></html>", b"<?xml version='1.0'?>",
        b"%PDF-1.7\n%%EOF", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
        json.dumps({"cells": [], "nbformat": 4}).encode(),
        b"\x7fELF" + b"\0" * 500, b"MZ" + b"\0" * 500, b"\x1f\x8b" + b"\0" * 99, b"ID3" + b"\0" * 99,
        b"\x80\x04\x95cos\nsystem\n(S'id'\ntR.", "\ufeffein Gesicht".encode("utf-16"),
        b"\0" * 1_000_000, b"\n" * 100_000, b"P3 3 3 255\n" + b"1 " * 9, b"P3 3 3 255\n" + b"x " * 99,
        b"P1 99 99\n" + b"1" * 99, b"#define x_width 9\n#define x_height 9\nstatic char x_bits[]={0};",
        b"\x93NUMPY\x01\0v\0", b"SIMPLE  =                    T", b"8BPS\0\1", b"\0\0\1\0\1\0",
        b"\0\0\0\x0cjP  \r\n\x87\n", *brands, archive.getvalue(),
    ]  # fmt: skip
    for number, data in enumerate(others):
        yield f"renamed {number} {data[:12]!r}", data


def _metadata(small: Image.Image) -> Iterator[tuple[str, bytes]]:
    for value in range(10):
        exif = Image.Exif()
        exif[0x0112] = value
        yield f"orientation {value}", encode(small, "JPEG", exif=exif)
    for number, body in enumerate(
        (
            b"",
            b"Exif\0\0",
            b"Exif\0\0II*\0\xff\xff\xff\xff",
            b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04abc\0",
            b"Exif\0\0" + b"\xff" * 999,
        )
    ):
        yield f"broken EXIF {number}", encode(small, "JPEG", exif=body)
        yield f"broken EXIF PNG {number}", encode(small, "PNG", exif=body)
    yield "broken profile JPEG", encode(small, "JPEG", icc_profile=b"\xff" * 5000)
    yield "broken profile PNG", encode(small, "PNG", icc_profile=b"no profile")
    yield (
        "palette shorter than its indices",
        png(8, 8, 8, 3, zlib.compress((b"\0" + bytes(range(200, 208))) * 8), chunk(b"PLTE", b"abc")),
    )
    yield "no palette", png(8, 8, 8, 3, zlib.compress((b"\0" + bytes(8)) * 8))
    for depth, colour in ((3, 2), (16, 3), (8, 5), (1, 6), (0, 0)):
        yield f"depth {depth}, colour type {colour}", png(8, 8, depth, colour, zlib.compress(b"\0" * 999))
    for width, height in ((0, 0), (0, 5), (5, 0)):
        yield f"PNG {width} x {height}", png(width, height, 8, 0, zlib.compress(b"\0"))
    yield "BMP of negative height", _bmp(9, -9)
    yield "BMP of negative width", _bmp(-9, 9)


def _bmp(width: int, height: int) -> bytes:
    bmp = bytearray(encode(Image.new("RGB", (9, 9)), "BMP"))
    bmp[18:26] = struct.pack("<ii", width, height)
    return bytes(bmp)
