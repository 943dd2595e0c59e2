"""Vectors to look for in the bytes of files, remembered without keeping the vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

# Eight bytes, two numbers of a vector, find the places that are worth a digest; twenty of their bits, those
# that differ most, the places that are worth a look at eight bytes.
_ANCHOR = 8
_BITS = np.uint64((1 << 20) - 1)


@dataclass(frozen=True, slots=True, order=True)
class Needle:
    """A vector: its first eight bytes and the digest of all, both in hex, and its size in bytes."""

    anchor: str
    digest: str
    bytes: int

    @classmethod
    def of(cls, vectors: np.ndarray, stored: str = "<f4") -> list[Needle]:
        """Digest some vectors.

        vectors: (n, dim) float, of 8 bytes or more each.  stored: NumPy's name of the numbers in files.
        """
        rows = [row.tobytes() for row in np.ascontiguousarray(vectors, stored)]
        return [cls(row[:_ANCHOR].hex(), _digest(row), len(row)) for row in rows]


class Haystack:
    """Search of bytes for many vectors at once; the time does not depend on their number."""

    def __init__(self, needles: Iterable[Needle]) -> None:
        self._wanted: dict[bytes, set[Needle]] = {}
        for needle in needles:
            self._wanted.setdefault(bytes.fromhex(needle.anchor), set()).add(needle)
        self._anchors = np.frombuffer(b"".join(self._wanted), "<u8")
        self._seen = np.zeros(1 << 20, bool)
        self._seen[self._anchors & _BITS] = True

    def __len__(self) -> int:
        return sum(map(len, self._wanted.values()))

    def found_in(self, data: bytes) -> set[Needle]:
        """The vectors that occur in some bytes, at any offset."""
        return set(self._found(data)) if self._wanted else set()

    def _found(self, data: bytes) -> Iterator[Needle]:
        for shift in range(min(_ANCHOR, len(data))):
            words = np.frombuffer(data, "<u8", (len(data) - shift) // _ANCHOR, shift)
            likely = np.flatnonzero(self._seen[words & _BITS])
            for word in likely[np.isin(words[likely], self._anchors)]:
                start = shift + int(word) * _ANCHOR
                for needle in self._wanted[data[start : start + _ANCHOR]]:
                    if _digest(data[start : start + needle.bytes]) == needle.digest:
                        yield needle


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
