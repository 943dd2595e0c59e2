"""Tell a file's format by its first bytes, and open it with Pillow without reading its pixels."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import cast

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.Image import DecompressionBombError
from PIL.ImageFile import ImageFile

from frpipe.core.reasons import Reason, Reject

# What Pillow and its libraries raise on a file that they cannot read (EOFError, KeyError, UnicodeError and
# the like are subclasses). Seen on hostile files; nothing wider is caught, so that our own bugs still show.
DECODER_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    AttributeError,
    AssertionError,
    RuntimeError,
    struct.error,
    zlib.error,
    DecompressionBombError,
    # Where warnings are turned into errors: Pillow warns of broken metadata.
    UserWarning,
    RuntimeWarning,
)

_Opener = Callable[[io.BytesIO], ImageFile]

# The plugin classes themselves and not PIL.Image.open: exactly one format is tried, nothing is registered,
# and Pillow's own pixel limit and its warning stay out of the way of DecodeConfig.max_pixels.
_OPENERS: dict[str, _Opener] = {
    "AVIF": AvifImagePlugin.AvifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "JPEG2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
}

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
)
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"}
_PNM_KINDS = b"123456"


def sniff(data: bytes) -> str:
    """Name of the format, such as "JPEG" or "WEBP".

    Rejects: EMPTY, UNKNOWN_FORMAT.
    """
    if not data:
        raise Reject(Reason.EMPTY)
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:1] == b"P" and data[1:2] in _PNM_KINDS and data[2:3].isspace():
        return "PPM"
    if data[4:8] == b"ftyp":
        return _iso_brand(data)
    raise Reject(Reason.UNKNOWN_FORMAT)


def _iso_brand(data: bytes) -> str:
    # Size, "ftyp", major brand, version, then compatible brands: 64 bytes hold a dozen.
    length = min(int.from_bytes(data[:4]), 64)
    brands = {data[8:12]} | {data[at : at + 4] for at in range(16, length, 4)}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    if brands & _HEIF_BRANDS:
        return "HEIF"
    raise Reject(Reason.UNKNOWN_FORMAT)


def open_lazily(data: bytes, name: str) -> ImageFile:
    """Open a file that `sniff` named; its pixels are not read.

    Raises one of DECODER_ERRORS where the file is damaged. Rejects: MISSING_CODEC.
    """
    opener = _opener(name)
    return opener(io.BytesIO(data))


def _opener(name: str) -> _Opener:
    if name == "HEIF":
        return _heif_opener()
    if name not in _OPENERS:
        raise Reject(Reason.MISSING_CODEC, f"{name} needs a decoder of yours in decode.plugins")
    return _OPENERS[name]


def _heif_opener() -> _Opener:
    try:
        import pillow_heif  # noqa: PLC0415 - an optional extra, and slow to load
    except ImportError:
        raise Reject(Reason.MISSING_CODEC, "HEIF needs the extra frpipe[heic]") from None
    return cast(_Opener, pillow_heif.HeifImageFile)
