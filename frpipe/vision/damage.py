"""Tell why a decoder gave up: the file was cut short, or it is damaged in some other way."""

from __future__ import annotations

from collections.abc import Callable

from PIL.Image import DecompressionBombError

from frpipe.core.reasons import Reason, Reject

_CUT_PHRASES = ("truncated", "premature end", "unexpected end", "not enough", "out of data", "reached eof")


def refuse(data: bytes, name: str, error: Exception) -> Reject:
    """Make the rejection for a decoder's `error` on a file of format `name`."""
    detail = explain(name, error)
    if isinstance(error, DecompressionBombError):
        return Reject(Reason.TOO_MANY_PIXELS, detail)
    if isinstance(error, EOFError) or _says_cut(error) or _is_cut(data, name):
        return Reject(Reason.TRUNCATED, detail)
    return Reject(Reason.CORRUPT, detail)


def explain(name: str, error: BaseException) -> str:
    """Describe a decoder's error in a short printable line: the format and what the decoder said."""
    said = " ".join(str(error).split())[:120]
    text = f"{name}: {said or type(error).__name__}"
    return "".join(character if character.isprintable() else "?" for character in text)


def _says_cut(error: Exception) -> bool:
    said = str(error).lower()
    return any(phrase in said for phrase in _CUT_PHRASES)


def _is_cut(data: bytes, name: str) -> bool:
    """Whether the file lacks the end that its format prescribes. Not conclusive for a file that decodes."""
    test = _CUT_TESTS.get(name)
    return test is not None and test(data)


def _lacks_scan_end(data: bytes) -> bool:
    """Whether the main scan lacks its end: a thumbnail has its own scan before it, so the last one counts."""
    return data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda") or b"\xff\xda" not in data


def _box_overruns(data: bytes) -> bool:
    """Whether a top-level box of an ISO media file (ISO/IEC 14496-12) does not fit into the file."""
    at = 0
    for _ in range(256):
        if at == len(data):
            return False
        size = int.from_bytes(data[at : at + 4])
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16])
        if size == 0:
            return False
        if size < 8 or at + size > len(data):
            return True
        at += size
    return False


_CUT_TESTS: dict[str, Callable[[bytes], bool]] = {
    "JPEG": _lacks_scan_end,
    "PNG": lambda data: b"IEND" not in data[-64:],
    "GIF": lambda data: not data.rstrip(b"\x00").endswith(b";"),
    "WEBP": lambda data: int.from_bytes(data[4:8], "little") + 8 > len(data),
    "BMP": lambda data: int.from_bytes(data[2:6], "little") > len(data),
    "AVIF": _box_overruns,
    "HEIF": _box_overruns,
}
