"""Pack text columns into two plain arrays: all bytes in a row, and where each string ends. See ADR 7."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.errors import GalleryError

# Arrow's `string` counts its bytes in 31 bits.
_MOST_BYTES = 2**31 - 1


@dataclass(frozen=True, slots=True)
class PackedStrings:
    """n packed strings.

    String i is `data[offsets[i]:offsets[i + 1]]` in UTF-8, and null where `valid[i]` is 0.

    offsets: (n + 1,) uint32, from 0 upwards.  data: uint8.  valid: (n,) uint8 of 0 and 1; None: no nulls.
    """

    offsets: NDArray[np.uint32]
    data: NDArray[np.uint8]
    valid: NDArray[np.uint8] | None

    @classmethod
    def of(cls, column: pa.Array | pa.ChunkedArray) -> PackedStrings:
        """Pack a column of strings; a null takes no bytes. Raises GalleryError beyond 2 GB."""
        array = _one_chunk(column)
        valid = None
        if array.null_count:
            valid = array.is_valid().to_numpy(zero_copy_only=False).astype(np.uint8)
            array = pc.fill_null(array, "")
        offsets, data = _bytes_of(array)
        return cls((offsets - offsets[0]).astype("<u4"), data[offsets[0] : offsets[-1]], valid)

    @property
    def is_ascii(self) -> bool:
        """Whether all bytes are ASCII."""
        return int(self.data.max(initial=0)) < 128

    def array(self) -> pa.StringArray:
        """The strings as an Arrow array, on the same memory.

        Raises ValueError for offsets that do not rise or leave the data, and for bytes that are not UTF-8.
        """
        rows, nulls, bitmap = len(self.offsets) - 1, 0, None
        if self.valid is not None:
            if self.valid.max(initial=0) > 1:
                raise ValueError("validity is 0 or 1")
            nulls = rows - int(np.count_nonzero(self.valid))
            bitmap = pa.py_buffer(np.packbits(self.valid, bitorder="little"))
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.data):
            raise ValueError("offsets do not span the data")
        buffers = [bitmap, _buffer(self.offsets), _buffer(self.data)]
        array = pa.StringArray.from_buffers(rows, buffers[1], buffers[2], buffers[0], nulls)
        array.validate(full=True)
        return array


def hashes(column: pa.Array | pa.ChunkedArray) -> NDArray[np.uint64]:
    """A 64-bit hash of each string, the same on every machine: (n,) uint64.

    A polynomial in the bytes, so that numpy computes it without a Python object per string, then the mixer
    of splitmix64 (Steele, Lea, Flood 2014). Good for sorting rows into buckets, not for proofs.
    """
    packed = PackedStrings.of(column)
    starts, ends = packed.offsets[:-1].astype(np.int64), packed.offsets[1:].astype(np.int64)
    lengths = ends - starts
    longest = int(lengths.max(initial=0))
    powers = np.cumprod(np.full(longest + 1, 0x9E3779B97F4A7C15, np.uint64), dtype=np.uint64)
    places = np.arange(len(packed.data)) - np.repeat(starts, lengths)
    terms = (packed.data.astype(np.uint64) + np.uint64(1)) * powers[places]
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)])
    return _mixed(sums[ends] - sums[starts] + lengths.astype(np.uint64))


def _mixed(h: NDArray[np.uint64]) -> NDArray[np.uint64]:
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


def _one_chunk(column: pa.Array | pa.ChunkedArray) -> pa.StringArray:
    if isinstance(column, pa.ChunkedArray):
        try:
            column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        except pa.ArrowInvalid:
            raise _too_long() from None
    if isinstance(column, pa.ChunkedArray):
        raise _too_long()
    return column


def _too_long() -> GalleryError:
    return GalleryError(
        f"the texts of one shard take more than {_MOST_BYTES} bytes", "use fewer rows_per_shard"
    )


def _bytes_of(array: pa.StringArray) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    _, offsets, data = array.buffers()
    if not len(array) or offsets is None:
        return np.zeros(1, np.int32), np.zeros(0, np.uint8)
    ends = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1]
    return ends, np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)


def _buffer(array: NDArray[Any]) -> pa.Buffer:
    return pa.py_buffer(np.ascontiguousarray(array))
