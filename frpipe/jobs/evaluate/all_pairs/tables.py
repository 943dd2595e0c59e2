"""The tables of a unit of comparisons, for its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa

from frpipe.core.errors import OutputError
from frpipe.jobs.evaluate.all_pairs.blocks import Cell
from frpipe.matching.kernel import Indices
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.streaming import ScoreHistogram

# cell: number of a cohort, or CROSS or REST.  low, high: the extremes of the scores.  bin, count: of the bins
# that hold something, of 2^k over [-1, 1].
HISTOGRAM_SCHEMA = pa.schema(
    [
        pa.field("cell", pa.int32(), False),
        pa.field("mated", pa.bool_(), False),
        pa.field("bins", pa.int32(), False),
        pa.field("low", pa.float64(), False),
        pa.field("high", pa.float64(), False),
        pa.field("bin", pa.list_(pa.int32()), False),
        pa.field("count", pa.list_(pa.int64()), False),
    ]
)
# threshold: its place among those of the run.  mated: whether the errors are misses, or false matches.
# second: which of the unit's blocks the row is of.  row: of the block.
ERROR_SCHEMA = pa.schema(
    [
        pa.field("cell", pa.int32(), False),
        pa.field("threshold", pa.int32(), False),
        pa.field("mated", pa.bool_(), False),
        pa.field("second", pa.bool_(), False),
        pa.field("row", pa.int32(), False),
        pa.field("count", pa.int64(), False),
    ]
)


def histogram_table(cells: Mapping[int, Cell]) -> pa.Table:
    """Tabulate histograms, a row for each that holds something, in the order of the cells."""
    rows = [
        _row(cell, mated, histogram)
        for cell, found in sorted(cells.items())
        for mated, histogram in ((True, found.mated), (False, found.nonmated))
        if histogram.total
    ]
    return pa.Table.from_pylist(rows, schema=HISTOGRAM_SCHEMA)


def histograms_of(table: pa.Table) -> Iterator[tuple[int, bool, ScoreHistogram]]:
    """Iterate over a table's histograms: cell, whether mated, histogram.

    Raises OutputError: it is no such table.
    """
    for row in range(table.num_rows):
        one = {name: table[name][row] for name in table.column_names}
        known = {"bins": str(one["bins"]), **{end: one[end].as_py().hex() for end in ("low", "high")}}
        schema = pa.schema([("bin", pa.int32()), ("count", pa.int64())], metadata=known)
        counts = pa.table([one["bin"].values, one["count"].values], schema=schema)
        try:
            yield one["cell"].as_py(), one["mated"].as_py(), ScoreHistogram.from_arrow(counts)
        except ScoresError:
            raise OutputError("a file of histograms is damaged", "use another output folder") from None


def error_table(cells: Mapping[int, Cell]) -> pa.Table:
    """Tabulate errors, a row for each template with one, in the order of cells, thresholds and rows."""
    parts = [
        _rows(cell, threshold, mated, second, counts)
        for cell, found in sorted(cells.items())
        for threshold, errors in enumerate(found.errors)
        for mated, second, counts in (
            (True, False, errors.misses),
            (False, False, errors.first),
            (False, True, errors.second),
        )
    ]
    return pa.concat_tables([ERROR_SCHEMA.empty_table(), *parts])


def _row(cell: int, mated: bool, histogram: ScoreHistogram) -> dict[str, object]:
    some = np.flatnonzero(histogram.counts)
    extremes = {"low": float(histogram.low), "high": float(histogram.high)}
    bins = {"bins": histogram.bins, "bin": some, "count": histogram.counts[some]}
    return {"cell": cell, "mated": mated, **extremes, **bins}


def _rows(cell: int, threshold: int, mated: bool, second: bool, counts: Indices) -> pa.Table:
    some = np.flatnonzero(counts)
    same = [pa.repeat(pa.scalar(value), len(some)) for value in (cell, threshold, mated, second)]
    columns = [*same, pa.array(some), pa.array(counts[some])]
    return pa.table(
        [column.cast(field.type) for column, field in zip(columns, ERROR_SCHEMA, strict=True)],
        schema=ERROR_SCHEMA,
    )
