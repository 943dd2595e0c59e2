"""Reads the parts of an enroll output in order, several at a time: stores are slow to answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from frpipe.core.errors import FrpipeError, OutputError
from frpipe.io.folder import Folder
from frpipe.io.parts import FACES, IMAGES, part_name

T = TypeVar("T")
_THREADS = 8
_AT_ONCE = 64


def in_order(work: Callable[[int], T], parts: Sequence[int]) -> Iterator[T]:
    """What `work` gives for each part, in their order; it is done for a few dozen ahead, in threads."""
    with ThreadPoolExecutor(_THREADS, "parts") as threads:
        for start in range(0, len(parts), _AT_ONCE):
            yield from threads.map(work, parts[start : start + _AT_ONCE])


def read_images(out: Folder, part: int, columns: Sequence[str]) -> pa.Table:
    """Some columns of a published part's images. Raises OutputError where the file is damaged."""
    return _read(out, IMAGES, part, columns)


def read_faces(out: Folder, part: int, columns: Sequence[str]) -> pa.Table:
    """The same of its faces."""
    return _read(out, FACES, part, columns)


def _read(out: Folder, table: str, part: int, columns: Sequence[str]) -> pa.Table:
    try:
        with out.open(f"{table}/{part_name(part)}") as file:
            return pq.read_table(file, columns=list(columns), use_threads=False, pre_buffer=False)
    except FrpipeError:
        raise
    except (OSError, pa.ArrowInvalid):
        raise OutputError(f"part {part} of the run is damaged or gone", "run its enroll job again") from None
