"""Files that are no photos, or photos that lie, laid out in a folder for a job: name -> how it may end.

Made here and never stored. Bombs are small on disk; those within the limit of pixels are decoded in full.
"""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from make import _png_chunk
from PIL import Image

# What a row may say: `no_face` or `blank` where the file is a picture after all, else another reason.
Ends = tuple[str, ...]
_NO_PHOTO: Ends = ("unknown_format", "corrupt", "truncated", "missing_codec")
# Of one colour, most of them.
_FACELESS: Ends = ("no_face", "blank")
_ANY: Ends = (*_FACELESS, "too_many_pixels", "too_few_pixels", *_NO_PHOTO)


def photo(side: int = 64, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").resize((side, side)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def _png(width: int, height: int, chunks: bytes, data: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = _png_chunk(b"IHDR", header) + chunks + _png_chunk(b"IDAT", data) + _png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _zeros(size: int) -> bytes:
    press = zlib.compressobj(1)
    blocks = (press.compress(bytes(1 << 20)) for _ in range(size >> 20))
    return b"".join(blocks) + press.flush()


def pixel_bomb() -> bytes:
    """64 million pixels, within the limit, of 300 kB."""
    return _png(8000, 8000, b"", _zeros(65 << 20))


def overlong_bomb() -> bytes:
    """Sixteen pixels by its header, 100 MB by its data."""
    return _png(16, 16, b"", _zeros(100 << 20))


def text_bomb() -> bytes:
    """A comment and a colour profile of 100 MB each."""
    packed = _zeros(100 << 20)
    text = _png_chunk(b"zTXt", b"Comment\0\0" + packed) + _png_chunk(b"iCCP", b"p\0\0" + packed)
    return _png(16, 16, text, zlib.compress(bytes(17 * 16)))


def exif_loop() -> bytes:
    """An image directory whose successor, and whose sub-directory, it is itself."""
    entry = struct.pack("<HHII", 0x8769, 4, 1, 8)
    tiff = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry + struct.pack("<I", 8)
    body = b"Exif\0\0" + tiff
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(body) + 2) + body + photo()[2:]


def exif_far() -> bytes:
    """An orientation that lies 4 GB further on, and a count of values to match."""
    tiff = b"II*\0" + struct.pack("<I", 8) + struct.pack("<HHHII", 1, 0x0112, 3, 0xFFFFFFFF, 0xFFFFFF00)
    body = b"Exif\0\0" + tiff
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(body) + 2) + body + photo()[2:]


def cut_at_each_segment() -> dict[str, bytes]:
    """A JPEG that ends at, and within, each of its segments."""
    data, at, cuts = photo(), 2, {}
    while data[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, at + 2)
        cuts[f"cut-{at:04d}-before.jpg"] = data[:at]
        cuts[f"cut-{at:04d}-within.jpg"] = data[: at + 2 + length // 2]
        at += 2 + length
    return {**cuts, "cut-scan.jpg": data[: at + 12], "cut-end.jpg": data[:-2]}


def _gif_of_many_frames() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("L", (16, 16), number % 256) for number in range(500)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def _tiff_loop() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20)).save(buffer, "TIFF")
    data = bytearray(buffer.getvalue())
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    struct.pack_into("<I", data, start + 2 + 12 * count, start)
    return bytes(data)


CONTENTS: dict[str, tuple[Callable[[], bytes], Ends]] = {
    "zero.jpg": (lambda: b"", ("empty",)),
    "one.jpg": (lambda: b"\xff", _NO_PHOTO),
    "text.jpg": (lambda: b"<html>not found</html>", ("unknown_format",)),
    "nulls.jpg": (lambda: bytes(100_000), _NO_PHOTO),
    "svg.png": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', _NO_PHOTO),
    "pickle.jpg": (lambda: b"\x80\x04\x95cos\nsystem\n(S'true'\ntR.", _NO_PHOTO),
    "pixel-bomb.png": (pixel_bomb, _FACELESS),
    "overlong-bomb.png": (overlong_bomb, _ANY),
    "text-bomb.png": (text_bomb, _ANY),
    "exif-loop.jpg": (exif_loop, _FACELESS),
    "exif-far.jpg": (exif_far, _FACELESS),
    "frames.gif": (_gif_of_many_frames, _FACELESS),
    "loop.tiff": (_tiff_loop, _ANY),
    "\x1b[2Jescape\x07.jpg": (lambda: b"\x1b[2J", _NO_PHOTO),
    f"{'x' * 240}.jpg": (photo, _FACELESS),
}


def lay_out(root: Path) -> dict[str, Ends]:
    """Write everything into a folder; how each name there may end."""
    ends: dict[str, Ends] = {}
    for name, (make, ways) in CONTENTS.items():
        (root / name).write_bytes(make())
        ends[name] = ways
    for name, data in cut_at_each_segment().items():
        (root / name).write_bytes(data)
        ends[name] = _NO_PHOTO
    return {**ends, **_no_files(root)}


def _no_files(root: Path) -> dict[str, Ends]:
    (root / "folder.jpg").mkdir()
    os.mkfifo(root / "pipe.jpg")
    # A socket's path is limited to 108 bytes, so it is bound by its name in the current folder.
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(root)
        listener.bind("socket.jpg")
        os.chdir(here)
    for name in ("link-loop.jpg", "link-nowhere.jpg"):
        (root / name).symlink_to(root / name.replace("nowhere", "gone"))
    none = ("folder.jpg", "pipe.jpg", "socket.jpg", "gone.jpg", "link-loop.jpg", "link-nowhere.jpg")
    return dict.fromkeys(none, ("not_found", "fetch_failed"))


def links_out(root: Path, outside: Path) -> list[Path]:
    """Links in `root` that lead out of it."""
    (outside / "secret.jpg").write_bytes(photo())
    targets = {"secret": outside / "secret.jpg", "device": Path("/dev/zero"), "proc": Path("/proc/self/mem")}
    for name, target in targets.items():
        (root / f"link-{name}.jpg").symlink_to(target)
    return [root / f"link-{name}.jpg" for name in targets]
