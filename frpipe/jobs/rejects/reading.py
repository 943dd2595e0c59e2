"""Reads the parts of an enroll output in order, several at a time: stores are slow to answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pyarrow as pa

from frpipe.io.output.features import read_published
from frpipe.io.output.parts import FACES, IMAGES, part_name
from frpipe.io.storage.folder import Folder

T = TypeVar("T")
_THREADS = 8
_AT_ONCE = 64


def in_order(work: Callable[[int], T], parts: Sequence[int]) -> Iterator[T]:
    """What `work` gives for each part, in their order; it is done for a few dozen ahead, in threads."""
    with ThreadPoolExecutor(_THREADS, "parts") as threads:
        for start in range(0, len(parts), _AT_ONCE):
            yield from threads.map(work, parts[start : start + _AT_ONCE])


def read_images(out: Folder, part: int, columns: Sequence[str]) -> pa.Table:
    """Some columns of a published part's images. Raises as `read_published`."""
    return read_published(out, f"{IMAGES}/{part_name(part)}", [*columns])


def read_faces(out: Folder, part: int, columns: Sequence[str]) -> pa.Table:
    """The same of its faces."""
    return read_published(out, f"{FACES}/{part_name(part)}", [*columns])
