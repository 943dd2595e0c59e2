"""The columns of a protocol's pairs, and lists of any origin brought to their types."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.errors import ManifestError
from frpipe.core.schema import Column

PAIR_COLUMNS = (
    Column("pair_id", pa.string(), "protocol, fold and place in the fold"),
    Column("a", pa.string(), "image_id of one side"),
    Column("b", pa.string(), "image_id of the other side"),
    Column("mated", pa.bool_(), "whether the list says that both are one person"),
    Column("fold", pa.string(), "`01`, `02`, ..., or `train` and `test`"),
    Column("subject_a", pa.string(), "person of side a, by the list"),
    Column("subject_b", pa.string(), "person of side b"),
    Column("protocol", pa.string(), "name of the protocol"),
)
ERRATUM = Column(
    "erratum",
    pa.string(),
    "only with `--errata`: `pair`: known that `mated` is wrong; `photo`: a side bears a wrong name",
    True,
)
# What spreadsheets and other tools write; jobs/metrics.py reads the same words.
_TRUTH = dict.fromkeys(("true", "1", "yes", "mated", "same"), True)
_TRUTH |= dict.fromkeys(("false", "0", "no", "non-mated", "different"), False)


def typed(tables: Iterable[pa.Table]) -> pa.Table:
    """A list of pairs with `mated` as booleans and `fold`, where there is one, as text.

    Raises ManifestError: no pairs, no column `mated`, or rows without a usable value, with their numbers.
    """
    found = [table for table in tables if table.num_rows]
    if not found:
        raise ManifestError("the list of pairs has no rows", "check the path")
    table = pa.concat_tables(found)
    if "mated" not in table.column_names:
        raise ManifestError(
            "the list of pairs has no column mated",
            "say of each pair whether both are one person: true, false",
        )
    table = _with(table, "mated", _truth(table["mated"]), "true or false")
    if "fold" in table.column_names:
        table = _with(table, "fold", table["fold"].cast(pa.string()), "the label of a fold")
    return table


def _truth(column: pa.ChunkedArray) -> pa.Array:
    if pa.types.is_boolean(column.type):
        return column
    texts = column.cast(pa.string()).to_pylist()
    return pa.array([_TRUTH.get(text.strip().lower()) if text else None for text in texts], pa.bool_())


def _with(table: pa.Table, name: str, column: pa.Array, what: str) -> pa.Table:
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py() + 1
        raise ManifestError(
            f"{column.null_count:,} rows of the list of pairs have no usable {name}, first row {row:,}",
            f"give {what} in every row",
        )
    return table.set_column(table.column_names.index(name), name, column)
