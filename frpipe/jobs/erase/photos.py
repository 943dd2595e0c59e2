"""Find people's photos in enroll outputs: their ids, the digests of their files, their vectors."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.text import canonical_text
from frpipe.core.text_column import canonical_column
from frpipe.gallery.schema import vectors_of
from frpipe.gallery.suppression import Names
from frpipe.io.erasure.needles import Needle
from frpipe.io.output.features import Features
from frpipe.io.storage.folder import Folder

_COLUMNS = ("image_id", "subject_id", "content_sha256")


@dataclass(slots=True)
class KnownPhotos:
    """The photos of some people, and some photos.

    by_subject: ids and contents of people's photos.  alone: of photos that were named themselves.
    copies: ids of other photos with the same content.  shared: contents that are also photos of other people,
    as group photos are; they are not among the above.  needles: the vectors of all these photos, where they
    were asked for.  kept: vectors of the copies.
    """

    by_subject: dict[str, Names] = field(default_factory=dict)
    alone: Names = field(default_factory=Names)
    copies: set[str] = field(default_factory=set)
    shared: set[str] = field(default_factory=set)
    needles: set[Needle] = field(default_factory=set)
    kept: set[Needle] = field(default_factory=set)

    @property
    def images(self) -> frozenset[str]:
        """The ids of all photos."""
        found = self.alone.images
        return found.union(*(names.images for names in self.by_subject.values()))


def photos_of(
    runs: Sequence[Folder],
    subjects: Collection[str],
    images: Collection[str] = (),
    *,
    needles: bool = False,
    sources: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> KnownPhotos:
    """Find the photos of some people, and some photos, in enroll outputs; in bounded memory.

    Ids are compared in Unicode NFC.  sources: by the address of a run, the prefixes of the ids of its photos
    in galleries; "" for none.

    Reads ids and digests of all parts twice, and vectors of the parts that hold any. Raises OutputError where
    a part is damaged.
    """
    subjects, images = ({canonical_text(each) for each in some} for some in (subjects, images))
    wanted = _Wanted(pa.array(sorted(subjects), pa.string()), pa.array(sorted(images), pa.string()))
    known = KnownPhotos()
    for run, part, table in _tables(runs):
        mine = table.filter(wanted.mask(table))
        for row in mine.to_pylist():
            who, names = canonical_text(row["subject_id"] or ""), _names(row, sources.get(run.uri) or ("",))
            if who in subjects:
                known.by_subject[who] = known.by_subject.get(who, Names()) | names
            else:
                known.alone |= Names(frozenset(), names.images, names.contents)
        if needles and mine.num_rows:
            known.needles |= _vectors(Features(run), part, mine["image_id"])
    _look_for_copies(known, runs, wanted, needles)
    known.by_subject = {who: _without(names, known.shared) for who, names in known.by_subject.items()}
    known.alone = _without(known.alone, known.shared)
    return known


@dataclass(frozen=True, slots=True)
class _Wanted:
    subjects: pa.Array
    images: pa.Array

    def mask(self, table: pa.Table) -> pa.ChunkedArray:
        """Mark the rows of these people, or these photos, (rows,) bool."""
        theirs = pc.is_in(canonical_column(table["subject_id"]), value_set=self.subjects)
        return pc.or_(theirs, pc.is_in(canonical_column(table["image_id"]), value_set=self.images))


def _names(row: dict[str, str | None], sources: Collection[str]) -> Names:
    who, content, image = row["subject_id"], row["content_sha256"], str(row["image_id"])
    return Names(
        frozenset({canonical_text(who)} if who else ()),
        frozenset(f"{source}/{image}" if source else image for source in sources),
        frozenset({content} if content else ()),
    )


def _without(names: Names, contents: set[str]) -> Names:
    return Names(names.subjects, names.images, names.contents - contents)


def _look_for_copies(known: KnownPhotos, runs: Sequence[Folder], wanted: _Wanted, needles: bool) -> None:
    contents = {each for names in (known.alone, *known.by_subject.values()) for each in names.contents}
    values = pa.array(sorted(contents), pa.string())
    for run, part, table in _tables(runs) if len(values) else ():
        same = pc.is_in(table["content_sha256"], value_set=values)
        copies = table.filter(pc.and_not(same, wanted.mask(table)))
        known.copies.update(copies["image_id"].to_pylist())
        of_others = copies.filter(pc.not_equal(pc.fill_null(copies["subject_id"], ""), ""))
        known.shared.update(of_others["content_sha256"].to_pylist())
        if needles and copies.num_rows:
            known.kept |= _vectors(Features(run), part, copies["image_id"])


def _vectors(features: Features, part: int, images: pa.ChunkedArray) -> set[Needle]:
    needles: set[Needle] = set()
    for own in features.by_vectors():
        faces = own.faces(part, ["image_id", "embedding"])
        theirs = faces.filter(pc.is_in(faces["image_id"], value_set=images.combine_chunks()))
        needles.update(Needle.of(vectors_of(theirs)))
    return needles


def _tables(runs: Sequence[Folder]) -> Iterator[tuple[Folder, int, pa.Table]]:
    for run in runs:
        parts = Features(run).parts()
        tables = Features(run).all_images(_COLUMNS, parts)
        yield from ((run, part, table) for part, table in zip(parts, tables, strict=True))
