"""Say where the photos of an output lie, in place of relative paths of its manifest."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.gallery.photos import is_absolute
from frpipe.io.manifest.columns import ID, LOCATION, URI
from frpipe.io.output.plan import read_part
from frpipe.io.storage.folder import Folder


def located(folder: Folder, part: int, *tables: pa.Table) -> list[pa.Table]:
    """Put the absolute place of each photo where `image_uri` is relative.

    folder: of an enroll output.  part: the part that all rows are of.  tables: of photos or faces, with
    image_id and image_uri. A place that the plan does not know stays as it is.
    """
    if all(pc.all(is_absolute(table[URI]), min_count=0).as_py() is not False for table in tables):
        return [*tables]
    plan = read_part(folder, part)
    return [_located(table, plan) for table in tables]


def _located(table: pa.Table, plan: pa.Table) -> pa.Table:
    at = pc.index_in(table[ID], value_set=plan[ID].combine_chunks())
    places = plan[LOCATION].take(at)
    known = pc.and_(is_absolute(places), pc.invert(pc.fill_null(is_absolute(table[URI]), True)))
    column = pc.if_else(pc.fill_null(known, False), places, table[URI])
    return table.set_column(table.column_names.index(URI), table.schema.field(URI), column)
