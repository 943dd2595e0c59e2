"""Erase people from published tables: rows, files of older versions, and a proof over every file."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.counted import counted
from frpipe.core.errors import OutputError
from frpipe.io.erasure.erased_ids import ErasedIds
from frpipe.io.erasure.needles import Haystack, Needle
from frpipe.io.storage.folder import Folder
from frpipe.io.tables.state import NONE
from frpipe.jobs.erase.columns import people_of, rows_of
from frpipe.jobs.erase.proof import Proof, Searched
from frpipe.jobs.publish.merge import Mask
from frpipe.jobs.publish.root import TABLES_JSON, Root
from frpipe.jobs.publish.schema import EMBEDDING, FACES, PHOTOS, TABLES
from frpipe.jobs.publish.strike import Leaving, strike

_NAMES = "|".join(spec.name for spec in TABLES)
_OWN = re.compile(
    rf"{TABLES_JSON}|(?:{_NAMES})/(?:_files/\d{{9}}\.json|(?:month=[^/]+/)?part-[0-9a-f]{{24}}\.parquet)"
)
# Lines of JSON, and not one object: they are searched as text.
_LOGS = re.compile(rf"(?:{_NAMES})/_delta_log/.+")


@dataclass(frozen=True)
class TableErasure:
    """Erasure of people from the tables below an address.

    copies: rows of the same photo under another id: erase takes them too, keep leaves them, and refuse ends
    it before anything is changed.  known: vectors of theirs that are looked for, too. An id is looked for in
    all sources.
    """

    root: Root
    subjects: frozenset[str]
    images: frozenset[str]
    copies: str = "refuse"
    say: Callable[[str], None] = lambda _: None
    known: frozenset[Needle] = frozenset()

    @classmethod
    def at(cls, uri: str, subjects: frozenset[str], images: frozenset[str], **how: Any) -> TableErasure:
        """Of the tables below an address. Raises OutputError where there are none."""
        root = Root.opened(uri)
        if root is None:
            raise OutputError(f"{uri} holds no published tables", "give the --tables of frpipe run publish")
        return cls(root, subjects, images, **how)

    def check(self) -> int:
        """How many rows of `photos` would go. Raises OutputError where copies stand under other ids."""
        leaving, kept = self._leaving()
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
        """Erase the people; how many rows, and what the proof has read. Killed anywhere, run it again.

        Raises OutputError as `check`; ErasureError: the proof fails.
        """
        self.check()
        leaving, _ = self._leaving()
        needles = self._needles(leaving)
        folder = self.root.folder
        # What killed writers left half written: it may name anybody.
        folder.sweep(0)
        gone = strike(self.root, leaving, barrier=True)
        for table in self.root.tables():
            table.vacuum(barrier=True)
        self.say(f"{counted(gone, 'rows')} are out of the tables; reading every file back")
        ids = ErasedIds.of("tables", self.subjects, self.images)
        searched = Proof(folder, ids, self.subjects | self.images, Haystack(needles), own=_OWN).prove()
        return gone, replace(searched, others=searched.others - _logs(folder))

    def _leaving(self) -> tuple[Leaving, int]:
        """Whose rows go; and how many photos stay that are the same as some that go."""
        ids = ErasedIds.of("tables", self.subjects, self.images)
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
        return Leaving(rows, lambda who: people_of(ids, who)), max(0, kept - named) if contents else 0

    def _contents(self, ids: ErasedIds) -> tuple[set[str], int]:
        """Contents of photos with a face that go by their ids, and how many rows have them."""
        table, contents, rows = self.root.table(PHOTOS), set[str](), 0
        head = table.head()
        names = ["image_id", "subject_id", "content_sha256", "faces"]
        for _, found in table.scan(head, names) if head.version != NONE else ():
            mine = found.filter(pa.array(rows_of(ids, found)))
            mine = mine.filter(pc.and_(pc.is_valid(mine["content_sha256"]), pc.greater(mine["faces"], 0)))
            contents.update(mine["content_sha256"].to_pylist())
            rows += len(mine)
        return contents, rows

    def _needles(self, leaving: Leaving) -> set[Needle]:
        """Vectors of the faces that go, less those that faces that stay have too."""
        table, needles = self.root.table(FACES), set(self.known)
        head = table.head()
        if not self.root.embeddings or head.version == NONE:
            return needles
        names = ["image_id", "subject_id", "face_id", EMBEDDING]
        for file, found in table.scan(head, names[:-1]):
            hit = leaving.rows(found)
            if hit.any():
                whole = table.read(head, file, names).filter(pa.array(hit))
                needles.update(Needle.of(_vectors(whole)))
        if self.copies == "keep" and needles:
            for _, found in table.scan(head, names):
                stays = found.filter(pa.array(~leaving.rows(found)))
                needles -= Haystack(needles).found_in(_vectors(stays).tobytes())
        return needles


def _vectors(table: pa.Table) -> np.ndarray:
    column = table[EMBEDDING].combine_chunks()
    values: np.ndarray = column.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(table), -1) if len(table) else values.reshape(0, 1)


def _logs(folder: Folder) -> int:
    return sum(1 for name, is_file in folder.everything() if is_file and _LOGS.fullmatch(name))
