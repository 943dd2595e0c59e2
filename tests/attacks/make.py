"""Hostile photos, made here and never stored: each is a few kilobytes and asks for a great deal.

`python tests/attacks/make.py FOLDER` writes them out, to try another program on them.
"""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image

SIDE = 32_000


def _saved(name: str, **options: object) -> bytearray:
    buffer = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").resize((64, 48)).save(buffer, name, **options)
    return bytearray(buffer.getvalue())


def _jpeg(**options: object) -> bytes:
    data = _saved("JPEG", **options)
    frame = data.index(b"\xff\xc2" if options else b"\xff\xc0")
    struct.pack_into(">HH", data, frame + 5, SIDE, SIDE)
    return bytes(data)


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png() -> bytes:
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    # A megabyte of nothing in a kilobyte: the start of a real bomb.
    pixels = zlib.compress(bytes(1 << 20), 9)
    chunks = _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", pixels) + _png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _gif() -> bytes:
    data = _saved("GIF")
    struct.pack_into("<HH", data, 6, SIDE, SIDE)
    return bytes(data)


def _gif_frame() -> bytes:
    """A modest screen, and a first frame far larger than it."""
    data = _saved("GIF")
    struct.pack_into("<HH", data, data.index(b"\x2c\x00\x00\x00\x00") + 5, SIDE, SIDE)
    return bytes(data)


def _bmp() -> bytes:
    data = _saved("BMP")
    struct.pack_into("<ii", data, 18, SIDE, SIDE)
    return bytes(data)


def _tiff() -> bytes:
    data = _saved("TIFF")
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, at)[0] in (256, 257):
            struct.pack_into("<HII", data, at + 2, 4, 1, SIDE)
    return bytes(data)


def _webp(side: int = 16_383) -> bytes:
    """An extended header; 16,383 is the largest side of a WebP picture."""
    canvas = bytes(4) + (side - 1).to_bytes(3, "little") * 2
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + bytes(_saved("WEBP")[12:])
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_lossless() -> bytes:
    data = _saved("WEBP", lossless=True)
    (bits,) = struct.unpack_from("<I", data, 21)
    struct.pack_into("<I", data, 21, bits | 0x0FFF_FFFF)
    return bytes(data)


def _ppm() -> bytes:
    return f"P6 {SIDE} {SIDE} 255 ".encode() + bytes(100)


def _jpeg2000() -> bytes:
    data = _saved("JPEG2000")
    box = data.index(b"ihdr")
    struct.pack_into(">II", data, box + 4, SIDE, SIDE)
    return bytes(data)


# Files whose header claims far more than 80 million pixels.
FORGED: dict[str, Callable[[], bytes]] = {
    "jpeg": _jpeg,
    "jpeg-progressive": lambda: _jpeg(progressive=True),
    "png": _png,
    "gif": _gif,
    "gif-frame": _gif_frame,
    "bmp": _bmp,
    "tiff": _tiff,
    "webp-extended": _webp,
    "webp-lossless": _webp_lossless,
    "ppm": _ppm,
    "jpeg2000": _jpeg2000,
}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in FORGED.items():
        (folder / f"forged-{name}").write_bytes(make())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
