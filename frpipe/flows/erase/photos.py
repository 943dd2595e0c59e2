"""What enroll outputs know of people's photos: their ids, and the digests of their files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.flows.rejects.reading import in_order, read_images
from frpipe.gallery.suppression import Names
from frpipe.io.folder import Folder
from frpipe.io.parts import done_parts

_COLUMNS = ("image_id", "subject_id", "content_sha256")


@dataclass(slots=True)
class KnownPhotos:
    """by_subject: ids and contents of photos.  shared: contents that are also photos of other people, as group
    photos are; they are not among those of `by_subject`."""

    by_subject: dict[str, Names] = field(default_factory=dict)
    shared: int = 0


def photos_of(runs: Sequence[Folder], subjects: Collection[str]) -> KnownPhotos:
    """The photos of some people in enroll outputs, in bounded memory: reads ids and digests, twice.

    Raises OutputError where a part is damaged.
    """
    wanted = pa.array(sorted(subjects), pa.string())
    images: dict[str, set[str]] = {}
    contents: dict[str, set[str]] = {}
    for table in _tables(runs):
        mine = table.filter(pc.is_in(table["subject_id"], value_set=wanted))
        for row in mine.to_pylist():
            images.setdefault(row["subject_id"], set()).add(row["image_id"])
            if row["content_sha256"]:
                contents.setdefault(row["subject_id"], set()).add(row["content_sha256"])
    shared = _of_others(runs, wanted, {each for some in contents.values() for each in some})
    return KnownPhotos(
        {
            who: Names(frozenset({who}), frozenset(found), frozenset(contents.get(who, set()) - shared))
            for who, found in images.items()
        },
        len(shared),
    )


def _of_others(runs: Sequence[Folder], subjects: pa.Array, contents: Iterable[str]) -> set[str]:
    """Those of the contents that are photos of other people too."""
    values = pa.array(sorted(contents), pa.string())
    shared: set[str] = set()
    for table in _tables(runs) if len(values) else ():
        named = pc.fill_null(table["subject_id"], "")
        others = pc.and_(pc.not_equal(named, ""), pc.invert(pc.is_in(named, value_set=subjects)))
        both = pc.and_(others, pc.is_in(table["content_sha256"], value_set=values))
        shared.update(table.filter(both)["content_sha256"].to_pylist())
    return shared


def _tables(runs: Sequence[Folder]) -> Iterator[pa.Table]:
    for run in runs:
        yield from in_order(lambda part, run=run: read_images(run, part, _COLUMNS), sorted(done_parts(run)))
