"""Read the lines of a text file in UTF-8, in blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BufferedReader
from typing import BinaryIO

import numpy as np

from frpipe.core.errors import ManifestError

# It stays in a core's cache while it is looked through and parsed.
_BLOCK_BYTES = 1 << 18
_TAIL_BYTES = 1 << 16
_LINE_BYTES = 64 << 20
_BOM = b"\xef\xbb\xbf"
_NO_TEXT = {
    b"\xff\xfe": ("is UTF-16 or UTF-32", "save it as UTF-8"),
    b"\xfe\xff": ("is UTF-16 or UTF-32", "save it as UTF-8"),
    b"PK\x03\x04": ("is a spreadsheet or another ZIP file", "export it as CSV in UTF-8"),
    b"\x1f\x8b": ("is packed with gzip", "let its name say so: .csv.gz, .jsonl.gz"),
    b"\x28\xb5\x2f\xfd": ("is packed with zstd", "let its name say so: .csv.zst, .jsonl.zst"),
    b"PAR1": ("is Parquet", "name it .parquet"),
}


def pieces(file: BinaryIO, name: str, blocks: int = 1) -> Iterator[bytes]:
    """Iterate over the bytes of a text file, without a byte order mark, some blocks of 256 KiB at a time.

    name: of the file, for messages.  Raises ManifestError: it is of another kind, or damaged.
    """
    first = True
    while data := _read(file, name, blocks * _BLOCK_BYTES):
        if first:
            _check_kind(data, name)
            data = data.removeprefix(_BOM)
        first = False
        yield data


def blocks(data: Iterable[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """Iterate over (number of its first line, block of whole lines).

    Raises ManifestError: no UTF-8, or no lines.
    """
    rest, line = b"", 1
    for piece in data:
        end = piece.rfind(b"\n") + 1
        if end == len(piece) and not rest:
            block = piece
        elif end:
            block, rest = b"".join((rest, memoryview(piece)[:end])), piece[end:]
        else:
            rest += piece
            if len(rest) > _LINE_BYTES:
                raise ManifestError(f"line {line} of {name} is too long", "end each row with a line feed")
            continue
        _check_utf8(block, line, name)
        yield line, block
        line += int(np.count_nonzero(np.frombuffer(block, np.uint8) == ord("\n")))
    if rest:
        _check_utf8(rest, line, name)
        yield line, rest


def _read(file: BinaryIO, name: str, size: int) -> bytes:
    try:
        data = file.read(size)
        # To read on to the end of a line costs less than to cut one off and to put it before the next.
        return data + file.readline(_TAIL_BYTES) if isinstance(file, BufferedReader) else data
    except OSError as error:
        # What Arrow says of a packed file is OSError, of no class and no number of its own.
        if type(error) is not OSError or error.errno is not None:
            raise
        raise ManifestError(
            f"{name} is cut short, damaged, or not packed as its name says", "write it anew"
        ) from None


def _check_kind(start: bytes, name: str) -> None:
    for mark, (kind, remedy) in _NO_TEXT.items():
        if start.startswith(mark):
            raise ManifestError(f"{name} {kind}", remedy)
    if b"\0" in start[:4]:
        raise ManifestError(f"{name} is UTF-16, or no text", "save it as UTF-8")


def _check_utf8(block: bytes, first_line: int, name: str) -> None:
    if block.isascii():
        return
    try:
        block.decode()
    except UnicodeDecodeError as error:
        line = first_line + block.count(b"\n", 0, error.start)
        raise ManifestError(f"line {line} of {name} is not UTF-8", "save the file as UTF-8") from None
