"""Erase people from published tables and from their older versions, and prove it over every file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.counted import counted
from frpipe.core.errors import FileDamaged, OutputError
from frpipe.io.erasure import table_marks
from frpipe.io.erasure.erased_ids import ErasedIds
from frpipe.io.erasure.needles import Haystack, Needle
from frpipe.io.erasure.table_marks import TableMarks
from frpipe.io.storage.folder import Folder
from frpipe.io.tables.state import NONE
from frpipe.io.tables.table import Change, edited
from frpipe.jobs.erase.columns import people_of, rows_of
from frpipe.jobs.erase.proof import Proof, Searched
from frpipe.jobs.identify.candidates import without_candidates
from frpipe.jobs.publish import moved_sources
from frpipe.jobs.publish.merge import Mask
from frpipe.jobs.publish.root import TABLES_JSON, Root
from frpipe.jobs.publish.schema import FACES, PHOTOS, TABLES, vector_columns
from frpipe.jobs.publish.strike import Leaving, gone_with_photos, photos_of, strike

_IDS = ["source", "image_id", "subject_id", "face_id"]
_NAMES = "|".join(spec.name for spec in TABLES)
_OWN = re.compile(
    rf"{TABLES_JSON}|{table_marks.FOLDER}/[0-9a-f]{{24}}\.json|{moved_sources.FOLDER}/\d{{6}}\.json|"
    rf"(?:{_NAMES})/(?:_files/\d{{9}}\.json|(?:month=[^/]+/)?part-[0-9a-f]{{24}}\.parquet)"
)
# Lines of JSON, and not one object: they are searched as text.
_LOGS = re.compile(rf"(?:{_NAMES})/_delta_log/.+")


@dataclass(frozen=True)
class TableErasure:
    """An erasure of people from the tables below an address, in all sources.

    copies: what to do with rows of the same photo under another id; `refuse` ends the erasure before anything
    is changed.  known: further vectors to look for.
    """

    root: Root
    subjects: frozenset[str]
    images: frozenset[str]
    copies: str = "refuse"
    say: Callable[[str], None] = lambda _: None
    known: frozenset[Needle] = frozenset()

    @classmethod
    def at(cls, uri: str, subjects: frozenset[str], images: frozenset[str], **how: Any) -> TableErasure:
        """Make the erasure for the tables below an address. Raises OutputError where there are none."""
        root = Root.opened(uri)
        if root is None:
            raise OutputError(f"{uri} holds no published tables", "give the --tables of frpipe run publish")
        return cls(root, subjects, images, **how)

    def check(self) -> int:
        """Count the rows of `photos` to erase. Raises OutputError where there are copies under other ids."""
        leaving, kept = self._leaving(self._own)
        if kept and self.copies == "refuse":
            raise OutputError(
                f"in {self.root.folder.uri} {counted(kept, 'photos are')} the same as some that would go, "
                "under other ids, which are not named: the same faces would stay. Nothing was changed",
                "say --copies erase, or --copies keep where these rows are somebody else's",
            )
        table = self.root.table(PHOTOS)
        names = ["image_id", "subject_id", "content_sha256"]
        return sum(int(leaving.rows(found).sum()) for _, found in table.scan(table.head(), names))

    def run(self) -> tuple[int, Searched]:
        """Erase the people; returns the number of rows, and the scope of the proof.

        Killed anywhere, it is completed by running it again, or by any other erasure from these tables.
        Raises OutputError as `check`; ErasureError: the proof fails, and the same command proves again.
        """
        photos = self.root.table(PHOTOS)
        if photos.head().version == NONE:
            # A publisher was killed before its first version. The key of the digests is of this table: a mark
            # from before it could not be read after.
            photos.transact(lambda base: Change(edited(base)) if base.version == NONE else None)
            return replace(self).run()
        self.check()
        folder, faces = self.root.folder, self.root.table(FACES).folder
        # Files that killed writers left half written may name these people.
        folder.sweep(0)
        before = self._marks()
        ids = self._own | before.ids
        marks = before.written(ids, self._needles(before))
        gone = strike(self.root, self._leaving(ids)[0])
        for table in sorted(self.root.tables(), key=lambda each: each.folder == faces):
            table.vacuum(barrier=True)
        self.say(f"{counted(gone, 'rows')} are out of the tables; reading every file back")
        proof = Proof(folder, ids, self.subjects | self.images, Haystack(marks.needles), own=_OWN)
        searched = proof.prove()
        marks.remove()
        return gone, replace(searched, others=searched.others - _logs(folder))

    def needles(self) -> set[Needle]:
        """Digest the vectors of the faces to erase, by each embedder, but for those of faces that stay."""
        return self._needles(self._marks())

    def _marks(self) -> TableMarks:
        return TableMarks.of(self.root.folder, self._own.key)

    @cached_property
    def _own(self) -> ErasedIds:
        """The ids that are named, under a key that is of these tables alone."""
        key = self.root.table(PHOTOS).head().table_id
        return ErasedIds.of(key, self.subjects, self.images)

    def _leaving(self, ids: ErasedIds) -> tuple[Leaving, int]:
        """Say whose rows go; and count the photos that stay and are the same as some that go."""
        contents, named = self._contents(ids)
        same = pa.array(sorted(contents), pa.string())

        def rows(table: pa.Table) -> Mask:
            hit = rows_of(ids, table)
            if self.copies == "erase" and "content_sha256" in table.column_names:
                hit |= np.asarray(pc.is_in(table["content_sha256"], value_set=same).to_numpy(), bool)
            return hit

        table, kept = self.root.table(PHOTOS), 0
        if contents and self.copies != "erase":
            for _, found in table.scan(table.head(), ["content_sha256", "faces"]):
                with_face = found.filter(pc.greater(found["faces"], 0))
                kept += pc.sum(pc.is_in(with_face["content_sha256"], value_set=same)).as_py() or 0
        leaving = Leaving(rows, lambda found: without_candidates(found, partial(people_of, ids)))
        return leaving, max(0, kept - named) if contents else 0

    def _contents(self, ids: ErasedIds) -> tuple[set[str], int]:
        """Collect the contents of photos with a face that go by their ids, and count their rows."""
        table, contents, rows = self.root.table(PHOTOS), set[str](), 0
        head = table.head()
        names = ["image_id", "subject_id", "content_sha256", "faces"]
        for _, found in table.scan(head, names) if head.version != NONE else ():
            mine = found.filter(pa.array(rows_of(ids, found)))
            mine = mine.filter(pc.and_(pc.is_valid(mine["content_sha256"]), pc.greater(mine["faces"], 0)))
            contents.update(mine["content_sha256"].to_pylist())
            rows += len(mine)
        return contents, rows

    def _needles(self, marks: TableMarks) -> set[Needle]:
        """Digest the vectors to look for, with those of erasures that broke off.

        Files of older versions are read, too: of an older frpipe that was killed there is no mark.
        """
        leaving, _ = self._leaving(self._own | marks.ids)
        theirs = gone_with_photos(leaving.rows, photos_of(self.root.table(PHOTOS), leaving))
        table, needles = self.root.table(FACES), {*self.known, *marks.needles}
        head = table.head()
        vectors = vector_columns(head.schema)
        earlier: set[Needle] = set()
        for file in table.files_there(head) if vectors else ():
            try:
                hit = theirs(table.read(head, file, _IDS))
                going = table.read(head, file, vectors).filter(pa.array(hit)) if hit.any() else pa.table({})
            except FileDamaged:
                if file.path in head.files:
                    raise
                continue
            found = {needle for values in _vectors(going) for needle in Needle.of(values)}
            (needles if file.path in head.files else earlier).update(found)
        earlier -= needles
        if vectors and (earlier or (needles and self.copies == "keep")):
            doubted = earlier | needles if self.copies == "keep" else earlier
            haystack = Haystack(doubted)
            for _, rows in table.scan(head, [*_IDS, *vectors]):
                for values in _vectors(rows.filter(pa.array(~theirs(rows))).select(vectors)):
                    doubted -= haystack.found_in(values.tobytes())
            needles = doubted if self.copies == "keep" else needles | doubted
        return needles


def _vectors(table: pa.Table) -> Iterator[np.ndarray]:
    """Iterate over columns of vectors, each as (n, dim) of the rows that have one."""
    for column in table.columns:
        there = column.drop_null().combine_chunks()
        if len(there):
            yield there.flatten().to_numpy(zero_copy_only=False).reshape(len(there), -1)


def _logs(folder: Folder) -> int:
    return sum(1 for name, is_file in folder.everything() if is_file and _LOGS.fullmatch(name))
