"""Find the templates that are new since an older version, and the pairs of its result that still hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.distinct import without
from frpipe.core.errors import OutputError
from frpipe.core.text_column import canonical_column
from frpipe.gallery.catalog import ShardRef
from frpipe.gallery.schema import vectors_of
from frpipe.gallery.snapshot import Snapshot
from frpipe.io.output import run
from frpipe.io.output.run import ListedFiles
from frpipe.io.storage.folder import Folder
from frpipe.jobs.dedup.source import KEYS, GallerySource
from frpipe.jobs.dedup.worker import PAIRS
from frpipe.jobs.recorded_version import RecordedVersion

CLUSTERS = "clusters.parquet"
REMEDY = "leave --since out, with a new --output if this one was begun: all pairs are compared then"

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class OldResult:
    """An older finished result, which is read and never changed."""

    files: ListedFiles
    identity: dict[str, Any]

    @classmethod
    def open(cls, uri: str) -> OldResult:
        """Open a result. Raises OutputError: none is there, or it is unfinished, damaged or another job's."""
        folder = Folder.at(uri)
        identity = run.begun(folder).get("identity", {})
        if identity.get("job") != "dedup" or run.complete(folder) is None:
            raise OutputError(
                "--since is not the finished result of a jobs/dedup.py run",
                "give the --output of such a run, or leave --since out: all pairs are compared then",
            )
        files = ListedFiles.of(folder, REMEDY)
        for name in files.sha256:
            files.read(name)
        return cls(files, identity)

    @property
    def version(self) -> RecordedVersion:
        """The gallery version of the result. Raises OutputError: it is of an enroll run."""
        version = RecordedVersion.of(self.files.folder)
        if version is None:
            raise OutputError("the result given as --since is not of a gallery", "leave --since out")
        return version

    @property
    def digest(self) -> str:
        """The digest of its files."""
        return run.digest(self.files.folder)

    def check(self, identity: dict[str, Any]) -> None:
        """Raise OutputError unless a run of this identity would find the same pairs."""
        names = ("schema_version", "threshold_similarity")
        differs = [name for name in names if identity[name] != self.identity.get(name)]
        if self.identity["source"].get("gallery_id") != identity["source"]["gallery_id"]:
            differs.append("gallery_id")
        since = self.identity.get("since")
        if since is not None and "result" not in since:
            differs.append("since: it holds the pairs of new templates alone")
        if differs:
            raise OutputError(
                f"the result given as --since is of another run: {', '.join(differs)}",
                "leave --since out: all pairs are compared then",
            )

    def pairs(self) -> list[str]:
        """The names of its files of pairs, in order."""
        return self.files.below(PAIRS)

    def read(self, name: str) -> pa.Table:
        """Read one of its files. Raises OutputError: it is damaged."""
        return self.files.table(name)

    def clusters(self) -> dict[str, list[str]]:
        """The subjects of each cluster, by its id."""
        members: dict[str, list[str]] = {}
        table = self.read(CLUSTERS)
        ids, subjects = table["cluster_id"].to_pylist(), canonical_column(table["subject_id"]).to_pylist()
        for cluster, subject in zip(ids, subjects, strict=True):
            members.setdefault(cluster, []).append(subject)
        return members


def with_fresh(source: GallerySource, before: Snapshot) -> GallerySource:
    """Mark the templates of a source that the older version lacks or has otherwise.

    A template is the same if subject, face, photo and vector are. Shards do not change: of a shard that both
    versions name, only rows that are hidden in one of them and in sight in the other are read.
    """
    now = source.snapshot
    moved = _moved(before, now)
    old = {ref.name: ref for ref in before.version.shards}
    fresh: dict[str, bytes] = {}
    for ref in now.version.shards:
        rows = _live(now, ref)
        known = _live(before, old[ref.name]) if ref.name in old else np.zeros(0, np.int64)
        come = np.flatnonzero(~np.isin(rows, known))
        if len(come):
            mask = np.zeros(len(rows), bool)
            mask[come] = [digest not in moved for digest in _digests(now, ref, rows[come])]
            if mask.any():
                fresh[ref.name] = np.packbits(mask).tobytes()
    return replace(source, fresh=fresh)


def _moved(before: Snapshot, now: Snapshot) -> set[bytes]:
    """Digests of templates that the newer version does not have, or has in another shard."""
    new = {ref.name: ref for ref in now.version.shards}
    found: set[bytes] = set()
    for ref in before.version.shards:
        rows = _live(before, ref)
        if ref.name in new:
            rows = without(rows, _live(now, new[ref.name]))
        if len(rows):
            found.update(_digests(before, ref, rows))
    return found


def _live(snapshot: Snapshot, ref: ShardRef) -> Rows:
    rows = snapshot.live_rows(ref)
    return np.arange(ref.rows) if rows is None else rows


def _digests(snapshot: Snapshot, ref: ShardRef, rows: Rows) -> Iterator[bytes]:
    table = snapshot.table_of(ref, KEYS, rows, vectors=True)
    texts = zip(*(table[name].to_pylist() for name in KEYS), strict=True)
    for names, vector in zip(texts, vectors_of(table), strict=True):
        yield hashlib.blake2b(repr(names).encode() + vector.tobytes(), digest_size=16).digest()


class Carried:
    """The pairs of an older result whose templates are both there and not fresh."""

    def __init__(self, result: OldResult, source: GallerySource) -> None:
        self._result, self._source = result, source
        self._known: pa.Array | None = None

    def table(self, name: str) -> pa.Table:
        """Select the pairs of a file of the older result that still hold."""
        pairs = _canonical(self._result.read(name))
        known = self._still_there()
        keep = [pc.is_in(_keys(pairs, f"subject_{s}", f"face_{s}"), value_set=known) for s in "ab"]
        return pairs.filter(pc.and_(*keep))

    def _still_there(self) -> pa.Array:
        """The keys of templates of the older result that are not fresh. Memory: the keys of its pairs."""
        if self._known is None:
            named = [
                _keys(table, f"subject_{side}", f"face_{side}").unique()
                for table in map(_canonical, map(self._result.read, self._result.pairs()))
                for side in "ab"
            ]
            wanted = pa.chunked_array(named, pa.string()).unique()
            found = [keys.filter(pc.is_in(keys, value_set=wanted)) for keys in self._old_keys()]
            self._known = pa.concat_arrays([pa.array([], pa.string()), *found])
        return self._known

    def _old_keys(self) -> Iterator[pa.Array]:
        snapshot = self._source.snapshot
        for ref in snapshot.version.shards:
            table = snapshot.table_of(ref, KEYS[:2], vectors=False)
            keys = _keys(table, *KEYS[:2]).filter(pa.array(~self._source.fresh_of(ref)))
            yield keys.combine_chunks()


def _canonical(pairs: pa.Table) -> pa.Table:
    """Bring ids into the form of a snapshot: an older result has them as its gallery held them."""
    for name in (f"{kind}_{side}" for kind in ("subject", "face") for side in "ab"):
        at = pairs.column_names.index(name)
        pairs = pairs.set_column(at, pairs.field(at), canonical_column(pairs[name]))
    return pairs


def _keys(table: pa.Table, subject: str, face: str) -> pa.ChunkedArray:
    """Join subject and face to a key. Ids hold no NUL."""
    return pc.binary_join_element_wise(table[subject], table[face], "\0")
