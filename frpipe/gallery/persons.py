"""The people of a gallery, one row each, in the order of their ids."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.gallery.photos import MADE_OF
from frpipe.gallery.schema import ENROLLED, SUBJECT_ID, attributes_of
from frpipe.gallery.snapshot import Snapshot

TEMPLATES = "templates"


def persons(
    snapshot: Snapshot, where: Mapping[str, str] | None = None, after: str = "", limit: int | None = None
) -> pa.Table:
    """subject_id, templates, enrolled_at (the latest), then the attributes: the first known of each person.

    where: attributes that a template must have to be counted.  after: ids greater than this.  limit: the
    first so many; memory is then a shard and two pages. No vector is read.
    """
    pages: list[pa.Table] = []
    for table in snapshot.list(where):
        last = _last(pages[0], limit) if pages else None
        pages.append(_counted(_within(table, after, last)))
        if limit is not None:
            pages = [_merged(pages).slice(0, limit)]
    return _merged(pages or [_counted(snapshot.show(""))])


def _within(table: pa.Table, after: str, last: str | None) -> pa.Table:
    ids = table[SUBJECT_ID]
    if after:
        table = table.filter(pc.greater(ids, after))
    if last is not None:
        table = table.filter(pc.less_equal(table[SUBJECT_ID], last))
    return table


def _last(page: pa.Table, limit: int | None) -> str | None:
    """The id after which nothing can enter a page that is full."""
    full = limit is not None and page.num_rows >= limit > 0
    return str(page[SUBJECT_ID][-1].as_py()) if full else None


def _counted(table: pa.Table) -> pa.Table:
    ones = pa.array(np.ones(table.num_rows, np.int64))
    plain = table.select([SUBJECT_ID, ENROLLED, *_shown(table)])
    return _united(plain.add_column(1, TEMPLATES, ones))


def _shown(table: pa.Table) -> list[str]:
    return [name for name in attributes_of(table.schema) if name != MADE_OF]


def _merged(pages: list[pa.Table]) -> pa.Table:
    return _united(pa.concat_tables(pages, promote_options="default")).sort_by(SUBJECT_ID)


def _united(rows: pa.Table) -> pa.Table:
    """One row a person. Columns go by number: an attribute may have any name."""
    names = rows.column_names
    how = ["", "sum", "max", *["first"] * (len(names) - 3)]
    plain = rows.rename_columns([str(index) for index in range(len(names))])
    # Columns of a mapped file may lie at any address; group_by wants aligned ones, which a copy has.
    plain = plain.take(pa.array(np.arange(plain.num_rows)))
    pairs = [(str(index), function) for index, function in enumerate(how)][1:]
    grouped = plain.group_by("0", use_threads=False).aggregate(pairs)
    columns = [grouped["0"], *(grouped[f"{index}_{function}"] for index, function in pairs)]
    return pa.table(columns, names=names)
