"""Find the photos of a run that are others than those of the same ids in published tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.counted import counted
from frpipe.gallery.photos import differ, place_hashes
from frpipe.io.tables.ranges import Wanted
from frpipe.io.tables.state import State
from frpipe.io.tables.table import PublishedTable
from frpipe.jobs.publish.rows import RunRows

_ID, _PLACE, _CONTENT = "image_id", "image_uri", "content_sha256"
Standing = Callable[[str, pa.Array], Iterator[pa.Table]]
"""Reads ids and a column of the rows of some photos that other runs have published."""


@dataclass(frozen=True, slots=True)
class OtherPhotos:
    """Photos that are others than those of the tables: how many, the id of one, its place there and now."""

    count: int
    image_id: str
    there: str
    now: str

    def text(self, source: str) -> str:
        """Say which. source: what the ids belong to."""
        return (
            f"{counted(self.count, 'photos')} with the ids of others in the tables, from another place and "
            f"of other content: {self.image_id} of {source} is {self.there} there, and {self.now} now"
        )


def other_photos(photos: PublishedTable, version: State, rows: RunRows) -> OtherPhotos | None:
    """Find the photos of a run whose ids are, in the table `photos`, those of other photos of its source.

    Others are those of another place and of another content. Where one of the two is not known, or is the
    same, a photo has moved or changed. Places are read of photos that have changed alone.
    """
    ids = rows.keys()
    there = partial(_standing, photos, version, rows)
    changed = _changed(there, rows, ids)
    if not len(changed):
        return None
    now = _of(rows.images([_ID, _PLACE]), changed)
    stood = _of(there(_PLACE, changed), changed)
    at = pc.index_in(now[_ID], value_set=stood[_ID].combine_chunks()).combine_chunks()
    before = stood[_PLACE].combine_chunks().take(at)
    apart = np.flatnonzero(differ(place_hashes(now[_PLACE]), place_hashes(before)))
    if not len(apart):
        return None
    one = int(apart[0])
    return OtherPhotos(len(apart), now[_ID][one].as_py(), before[one].as_py(), now[_PLACE][one].as_py())


def _changed(standing: Standing, rows: RunRows, ids: pa.Array) -> pa.Array:
    """Find the ids of the photos whose content is not that of their row in the table."""
    there = pa.concat_tables([*standing(_CONTENT, ids)])
    contents = there[_CONTENT].combine_chunks()
    found = []
    for table in rows.features.all_images([_ID, _CONTENT]) if len(there) else ():
        at = pc.index_in(table[_ID], value_set=there[_ID].combine_chunks())
        other = pc.not_equal(contents.take(at.combine_chunks()), table[_CONTENT].combine_chunks())
        found.append(table[_ID].combine_chunks().filter(pc.fill_null(other, False)))
    return pa.chunked_array(found, pa.string()).combine_chunks()


def _standing(
    photos: PublishedTable, version: State, rows: RunRows, name: str, ids: pa.Array
) -> Iterator[pa.Table]:
    """Read ids and a column of the rows of these photos that other runs have published."""
    own = rows.publication
    for _, table in photos.scan(version, [_ID, name, "source", "run_id"], Wanted({_ID: ids})):
        mine = pc.and_(pc.equal(table["source"], own.source), pc.not_equal(table["run_id"], own.run_id))
        yield table.filter(pc.and_(mine, pc.is_in(table[_ID], value_set=ids))).select([_ID, name])
    yield photos.empty(version, [_ID, name])


def _of(tables: Iterator[pa.Table], ids: pa.Array) -> pa.Table:
    return pa.concat_tables([table.filter(pc.is_in(table[_ID], value_set=ids)) for table in tables])
