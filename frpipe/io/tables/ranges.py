"""Files of a table that cannot hold some rows, by the least and greatest values in their footers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


@dataclass(frozen=True)
class Wanted:
    """Rows that have one of some texts in a column, or in another. texts: by column."""

    texts: Mapping[str, pa.Array]

    def may_be_in(self, footer: pq.FileMetaData) -> bool:
        """Whether a file may hold one of the rows; true where its footer does not tell."""
        leaves = {footer.schema.column(at).path: at for at in range(len(footer.schema))}
        groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
        return any(
            name not in leaves or any(_may_hold(group.column(leaves[name]), texts) for group in groups)
            for name, texts in self._sorted.items()
        )

    @cached_property
    def _sorted(self) -> dict[str, list[str]]:
        """Texts in the order of their code points, which is that of statistics."""
        return {name: sorted(pc.drop_null(texts).to_pylist()) for name, texts in self.texts.items()}


def _may_hold(column: pq.ColumnChunkMetaData, texts: list[str]) -> bool:
    told = column.statistics
    try:
        if told is None or not told.has_min_max or not isinstance(told.min, str):
            return True
        at = bisect_left(texts, told.min)
        return at < len(texts) and texts[at] <= told.max
    except UnicodeDecodeError:
        return True  # another program cut a text within a character
