"""The vectors of people in a gallery, and the proof that none of its files holds them any more."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frpipe.gallery.catalog import LOG, VERSIONS
from frpipe.gallery.gallery import GALLERY, Gallery
from frpipe.gallery.schema import vectors_of
from frpipe.gallery.snapshot import Snapshot
from frpipe.gallery.suppression import SUPPRESSED
from frpipe.io.erasure.erased_ids import ErasedIds
from frpipe.io.erasure.needles import Haystack, Needle
from frpipe.jobs.erase.columns import rows_of
from frpipe.jobs.erase.proof import ErasureError, Proof, Searched

_OWN = re.compile(
    rf"{re.escape(GALLERY)}|(?:{VERSIONS}|{LOG}|{SUPPRESSED})/\d{{9}}\.json|"
    r"shards/[0-9a-f]{20}\.h5|deleted/[0-9a-f]{20}\.bin"
)


def needles_of(snapshot: Snapshot, rows: Mapping[str, NDArray[np.int64]], stored: str) -> set[Needle]:
    """Vectors of some rows, by shard, as they are stored and as float32."""
    needles: set[Needle] = set()
    for ref in snapshot.version.shards:
        if ref.name in rows:
            vectors = vectors_of(snapshot.table_of(ref, [], rows[ref.name], vectors=True))
            needles.update(Needle.of(vectors), Needle.of(vectors, stored))
    return needles


@dataclass(frozen=True, slots=True)
class GalleryProof:
    """What is looked for: see `Proof`. The shards of an encrypted gallery are decrypted and read as rows."""

    gallery: Gallery
    ids: ErasedIds
    texts: frozenset[str]
    vectors: Haystack

    def prove(self) -> Searched:
        """Read the folder of the gallery. Raises ErasureError where something is found."""
        snapshot = self.gallery.snapshot()
        named = {ref.name for ref in snapshot.version.shards}
        named |= {ref.deleted.name for ref in snapshot.version.shards if ref.deleted}
        strays = self.gallery.shard_store.names() - named
        if strays:
            raise _failed(f"{len(strays):,} files of shards that the newest version does not name are there")
        for table in snapshot.tables():
            if rows_of(self.ids, table).any():
                raise _failed("the newest version names somebody who was erased")
            if self.vectors.found_in(vectors_of(table).tobytes()):
                raise _failed("the newest version holds a vector of theirs, under another id")
        return Proof(self.gallery.folder, self.ids, self.texts, self.vectors, own=_OWN).prove()


def _failed(what: str) -> ErasureError:
    return ErasureError(
        f"after the erasure the gallery is not clean: {what}",
        "run the same command again; delete what is under another id by that id",
    )
