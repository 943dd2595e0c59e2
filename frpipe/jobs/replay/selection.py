"""Selection of the rows of a run that are done again."""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa

from frpipe.io.output.features import Features


class Selection(Protocol):
    """A selection of rows; `str` says in words what it selects."""

    @property
    def causes(self) -> frozenset[str]:
        """The causes for which rows are done again: they name the selection."""

    def in_part(self, run: Features, part: int) -> pa.ChunkedArray:
        """Mark the images of a published part that are meant, (rows,) bool; only needed columns are read."""

    def among(self, images: pa.Table, faces: pa.Table) -> pa.ChunkedArray:
        """Mark the images that are meant, (rows,) bool, of tables that were read."""
