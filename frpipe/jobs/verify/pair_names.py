"""The photos and faces that a list of pairs names, numbered, and what their embeddings take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from frpipe.core.errors import ConfigError, ManifestError
from frpipe.core.text import canonical_text
from frpipe.core.text_column import canonical_column
from frpipe.jobs.verify.named_faces import NAME_BYTES
from frpipe.jobs.verify.pair_list import PairList
from frpipe.jobs.verify.schema import A, B

_MB = 10**6


@dataclass(frozen=True, slots=True)
class PairNames:
    """number: of each name, in NFC, from 0 without gaps.  pairs: rows of the list.  mb: memory for all."""

    number: dict[str, int]
    pairs: int
    mb: float

    @classmethod
    def read(cls, pairs: PairList, dim: int, memory_mb: int) -> PairNames:
        """Go through the whole list.

        Raises ManifestError: rows that cannot be used, or none; ConfigError, with the arithmetic: embeddings
        of `dim` numbers for all names do not fit.
        """
        number: dict[str, int] = {}
        rows = 0
        for table in pairs.checked():
            rows += table.num_rows
            for side in (A, B):
                for name in table[side].drop_null().unique().to_pylist():
                    number.setdefault(canonical_text(name), len(number))
            if len(number) * NAME_BYTES > memory_mb * _MB:
                raise _too_many("at least ", len(number), dim, memory_mb)
        if not rows:
            raise ManifestError("the list of pairs has no rows", "check --pairs")
        if len(number) * _bytes_each(dim) > memory_mb * _MB:
            raise _too_many("", len(number), dim, memory_mb)
        return cls(number, rows, len(number) * _bytes_each(dim) / _MB)

    def numbers(self, side: pa.ChunkedArray) -> NDArray[np.int64]:
        """(n,) of the names in one side of some pairs."""
        try:
            names = canonical_column(side).to_pylist()
            return np.fromiter(map(self.number.__getitem__, names), np.int64, len(side))
        except KeyError:
            raise ManifestError(
                "the list of pairs changed while it was read", "run the same command again"
            ) from None


def _bytes_each(dim: int) -> int:
    return 4 * dim + NAME_BYTES


def _too_many(least: str, names: int, dim: int, memory_mb: int) -> ConfigError:
    need = -(-names * _bytes_each(dim) // _MB)
    return ConfigError(
        f"the pairs name {least}{names:,} photos of {_bytes_each(dim):,} bytes each ({dim} numbers of 4, "
        f"and {NAME_BYTES} for the name): {need:,} MB, and --memory-mb is {memory_mb:,}",
        f"give --memory-mb {need} where the machine has it, or cut the list so that each names fewer photos",
    )
