"""List the people of a gallery, one row each, in the order of their ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.text import canonical_text
from frpipe.gallery.attributes import is_shown, value_lists
from frpipe.gallery.schema import ENROLLED, SUBJECT_ID, attributes_of
from frpipe.gallery.snapshot import Snapshot

TEMPLATES = "templates"
_FACTS = 3
# Rows to collect before they are counted.
_TOGETHER = 1 << 15


def persons(
    snapshot: Snapshot, where: Mapping[str, str] | None = None, after: str = "", limit: int | None = None
) -> pa.Table:
    """List people, one row each: subject_id, templates, enrolled_at (the latest), then the attributes.

    An attribute is the sorted list of the distinct values that the person's templates have; empty where none
    is known. An attribute that is named `templates` is `attribute:templates` here.

    where: attributes that a template must have to be counted.  after: ids greater than this.  limit: the
    first so many; memory is then a shard and two pages. No vector is read.
    """
    table = _people(snapshot, where, after, limit)
    names = [f"attribute:{name}" if name == TEMPLATES else name for name in table.column_names]
    return table.rename_columns([names[0], TEMPLATES, *names[2:]])


def _people(
    snapshot: Snapshot, where: Mapping[str, str] | None = None, after: str = "", limit: int | None = None
) -> pa.Table:
    """List as `persons`. The column of the number of templates is called "", which no attribute can be."""
    pages: list[pa.Table] = []
    if limit is None:
        tables = snapshot.list(where)
    else:
        columns = [SUBJECT_ID, ENROLLED, *filter(is_shown, snapshot.attributes)]
        tables = _joined(snapshot.list_first(limit, where, after, columns))
    for table in tables:
        last = _last(pages[0], limit) if pages else None
        pages.append(_counted(_within(table, after, last)))
        if limit is not None:
            pages = [_merged(pages).slice(0, limit)]
    return _merged(pages or [_counted(snapshot.show(""))])


def _joined(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join small tables: counting a few rows takes as long as counting thousands."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(each.num_rows for each in waiting) >= _TOGETHER:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def agreed_attributes(templates: pa.Table) -> dict[str, dict[str, str]]:
    """People of a table by id, each with the attributes of which their templates there have one value."""
    table = _counted(templates)
    names = table.column_names[_FACTS:]
    ids, *lists = (table.column(at).to_pylist() for at in (0, *range(_FACTS, table.num_columns)))
    return {
        subject: {name: row[0] for name, row in zip(names, rows, strict=True) if len(row) == 1}
        for subject, *rows in zip(ids, *lists, strict=True)
    }


def _within(table: pa.Table, after: str, last: str | None) -> pa.Table:
    ids = table[SUBJECT_ID]
    if after:
        table = table.filter(pc.greater(ids, canonical_text(after)))
    if last is not None:
        table = table.filter(pc.less_equal(table[SUBJECT_ID], last))
    return table


def _last(page: pa.Table, limit: int | None) -> str | None:
    """Last id of a full page, after which no person can enter it; None if it is not full."""
    full = limit is not None and page.num_rows >= limit > 0
    return str(page[SUBJECT_ID][-1].as_py()) if full else None


def _counted(table: pa.Table) -> pa.Table:
    ones = pa.array(np.ones(table.num_rows, np.int64))
    plain = table.select([SUBJECT_ID, ENROLLED, *filter(is_shown, attributes_of(table.schema))])
    return _united(plain.add_column(1, "", ones))


def _merged(pages: list[pa.Table]) -> pa.Table:
    return _united(pa.concat_tables(pages, promote_options="default")).sort_by(SUBJECT_ID)


def _united(rows: pa.Table) -> pa.Table:
    """Concatenate rows of people.

    Attributes are texts, or lists of texts. Columns are addressed by number, since any name is possible.
    """
    names = rows.column_names
    # Columns of a mapped file may lie at any address; group_by wants aligned ones, which a copy has.
    rows = rows.rename_columns([str(index) for index in range(len(names))])
    rows = rows.take(pa.array(np.arange(rows.num_rows)))
    grouped = (
        rows.select(["0", "1", "2"]).group_by("0", use_threads=False).aggregate([("1", "sum"), ("2", "max")])
    )
    people = grouped["0"].combine_chunks()
    of = pc.index_in(rows["0"], value_set=people).to_numpy().astype(np.int64)
    columns: list[pa.Array | pa.ChunkedArray] = [people, grouped["1_sum"], grouped["2_max"]]
    for index in range(_FACTS, len(names)):
        column = rows[str(index)].combine_chunks()
        if pa.types.is_list(column.type):
            inside = pc.list_parent_indices(column).to_numpy()
            columns.append(value_lists(people, of[inside], pc.list_flatten(column)))
        else:
            columns.append(value_lists(people, of, column))
    return pa.table(columns, names=names)
