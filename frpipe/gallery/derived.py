"""Files derived from shards, which searches use to be quick: beside the vectors, and gone with them.

Such a file says which shards it was made of, by name and SHA-256, and ends with the SHA-256 of all the rest.
One that is damaged, torn, or of other shards is nothing to a reader, and is made anew by whoever needs it.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frpipe.core.errors import StorageError
from frpipe.gallery.catalog import ShardRef
from frpipe.io.storage.folder import Folder

SHARDS = "shards"
DERIVED = rf"{SHARDS}/(?:[0-9a-f]{{20}}\.[0-9a-f]{{16}}\.[a-z0-9-]{{1,20}}\.low|[0-9a-f]{{16}}\.basis)"
"""Names of derived files."""

_NAME = re.compile(DERIVED)
_MAGIC = b"FRPLOW01"
_LENGTH_BYTES, _MOST_HEADER = 4, 1 << 20
_ALIGNMENT, _DIGEST_BYTES = 64, 32
_DTYPES = ("|u1", "<f4")


@dataclass(frozen=True, slots=True)
class Derived:
    """An array that was computed from shards, and numbers that belong to it.

    sources: SHA-256 of the shards, by name.  array: uint8 or float32, of two dimensions.
    """

    sources: Mapping[str, str]
    facts: Mapping[str, float]
    array: NDArray[Any]


def is_derived(name: str) -> bool:
    """Whether a file of a gallery has the name of a derived one."""
    return _NAME.fullmatch(name) is not None


def form_name(ref: ShardRef, basis: str, kind: str) -> str:
    """The name of a shard's rows in the form of a kernel, in the basis of this digest."""
    stem = ref.name.removeprefix(f"{SHARDS}/").removesuffix(".h5")
    return f"{SHARDS}/{stem}.{basis}.{kind}.low"


def basis_name(basis: str) -> str:
    """The name of the basis of this digest."""
    return f"{SHARDS}/{basis}.basis"


def digest_of(array: NDArray[Any]) -> str:
    """16 hex digits that name a basis by its content."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


class DerivedFiles:
    """The derived files of a gallery on a mounted file system. Elsewhere there are none."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Names of all that are there, whole or not."""
        return [entry.name for entry in self._folder.list(SHARDS) if is_derived(entry.name)]

    def read(self, name: str) -> Derived | None:
        """A derived file, mapped; None where there is none, or it is not as it was written."""
        if not self._folder.is_local:
            return None
        try:
            with (Path(self._folder.uri) / name).open("rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            # Not there, not readable, or empty.
            return None
        found = _parsed(memoryview(content))
        if found is not None and name.endswith(".low") and {*found.sources} != {_shard_of(name)}:
            return None
        return found

    def of_shards(self, name: str, refs: Sequence[ShardRef]) -> Derived | None:
        """The same; None also where it was not made of exactly these shards."""
        found = self.read(name)
        return found if found is not None and found.sources == _sources(refs) else None

    def write(self, name: str, refs: Sequence[ShardRef], make: Callable[[], Derived | None]) -> bool:
        """Put a derived file in place; whether it was.

        Not where one of its shards is gone, or `make` gives nothing, or the storage takes no more. Whoever
        has removed shards calls `remove_orphans`: it takes drafts first and files then. So a draft that was
        there before goes, or its file does, and one that comes later finds the shard gone.
        """
        try:
            draft = self._folder.draft(name)
            if draft is None:
                return False
            try:
                if not all(self._folder.exists(ref.name) for ref in refs):
                    return False
                made = make()
                if made is None:
                    return False
                _fill(draft, made)
                self._folder.adopt(name, draft)
            finally:
                draft.unlink(missing_ok=True)
        except (StorageError, OSError):
            # A search does without: the gallery may not be ours to write to, or its disk is full.
            return False
        return True

    def remove_orphans(self) -> int:
        """Remove derived files whose shards are not all there any more, and what is not whole; how many.

        For whoever has just removed shards. Drafts of all go: a search that loses one does without.
        """
        self._folder.child(SHARDS).sweep(0.0, lambda name: is_derived(f"{SHARDS}/{name}"))
        names = self.names()
        if not names:
            return 0
        shards = {entry.name for entry in self._folder.list(SHARDS)}
        gone = [name for name in names if not self._is_sound(name, shards)]
        kept = set(names) - set(gone)
        gone += [name for name in kept if name.endswith(".low") and basis_name(_basis_of(name)) not in kept]
        for name in gone:
            self._folder.delete(name)
        return len(gone)

    def strays(self, refs: Iterable[ShardRef]) -> list[str]:
        """Derived files that are not whole, or not of these shards."""
        there = _sources(refs)
        found = {name: self.read(name) for name in self.names()}
        return sorted(
            name for name, each in found.items() if each is None or not each.sources.items() <= there.items()
        )

    def _is_sound(self, name: str, shards: set[str]) -> bool:
        found = self.read(name)
        return found is not None and found.sources.keys() <= shards


def _sources(refs: Iterable[ShardRef]) -> dict[str, str]:
    return {ref.name: ref.sha256 for ref in refs}


def derived_from(refs: Iterable[ShardRef], facts: Mapping[str, float], array: NDArray[Any]) -> Derived:
    """What is to be written of an array that was computed from these shards."""
    return Derived(_sources(refs), facts, array)


def _shard_of(name: str) -> str:
    return f"{name.split('.', maxsplit=1)[0]}.h5"


def _basis_of(name: str) -> str:
    return name.split(".")[1]


def _fill(path: Path, made: Derived) -> None:
    array = np.ascontiguousarray(made.array)
    header = {
        "sources": dict(made.sources),
        "facts": dict(made.facts),
        "dtype": array.dtype.str,
        "shape": [*array.shape],
    }
    text = json.dumps(header, sort_keys=True).encode()
    text += b" " * (-(len(_MAGIC) + _LENGTH_BYTES + len(text)) % _ALIGNMENT)
    digest = hashlib.sha256()
    # Not made anew: a draft that was removed meanwhile is one of a shard that may have gone.
    with path.open("r+b") as file:
        for piece in (_MAGIC, len(text).to_bytes(_LENGTH_BYTES, "little"), text, array.data.cast("B")):
            file.write(piece)
            digest.update(piece)
        file.write(digest.digest())


def _parsed(content: memoryview) -> Derived | None:
    """A file's content; None where it is not exactly what `_fill` writes."""
    start = len(_MAGIC) + _LENGTH_BYTES
    body = content[:-_DIGEST_BYTES]
    if len(body) < start or hashlib.sha256(body).digest() != content[-_DIGEST_BYTES:]:
        return None
    length = int.from_bytes(content[len(_MAGIC) : start], "little")
    if content[: len(_MAGIC)] != _MAGIC or length > min(_MOST_HEADER, len(body) - start):
        return None
    try:
        header = json.loads(bytes(body[start : start + length]))
        dtype, (rows, width) = header["dtype"], map(int, header["shape"])
        sources = {str(name): str(sha256) for name, sha256 in header["sources"].items()}
        facts = {str(name): float(value) for name, value in header["facts"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    data = body[start + length :]
    sound = dtype in _DTYPES and min(rows, width) > 0 and all(map(math.isfinite, facts.values()))
    if not sound or not sources or len(data) != rows * width * np.dtype(dtype).itemsize:
        return None
    return Derived(sources, facts, np.frombuffer(data, dtype).reshape(rows, width))
