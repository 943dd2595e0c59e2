"""Selection of the rows of a run that are done again."""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa

from frpipe.io.output.features import Features


class Selection(Protocol):
    """Says in words, by `str`, what it selects."""

    @property
    def causes(self) -> frozenset[str]:
        """Causes for which rows are done again: they name the selection."""

    def in_part(self, run: Features, part: int) -> pa.ChunkedArray:
        """(rows,) bool: which images of a published part are meant; only the columns needed are read."""

    def among(self, images: pa.Table, faces: pa.Table) -> pa.ChunkedArray:
        """(rows,) bool: which images are meant, of tables that were read."""
