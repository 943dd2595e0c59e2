"""Compare two versions: people who were added or removed, and whose templates changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from frpipe.core.distinct import are_among, distinct
from frpipe.gallery.schema import EMBEDDING, ENROLLED, FACE_ID, SUBJECT_ID, vectors_of
from frpipe.gallery.snapshot import Snapshot

# A row's subject and content, as digests of 16 bytes: a comparison takes 32 bytes of memory for each row.
_DIGEST = np.dtype([("subject", "S16"), ("content", "S16")])


@dataclass(frozen=True, slots=True)
class GalleryDifference:
    """Difference of two versions: ids of people, sorted. changed: with other templates or attributes."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def as_dict(self) -> dict[str, tuple[str, ...]]:
        """JSON form of the difference."""
        return asdict(self)


def diff(before: Snapshot, after: Snapshot) -> GalleryDifference:
    """Compare two versions, of one gallery or of two. When a row was enrolled does not count."""
    old, new = _rows(before), _rows(after)
    touched = distinct(np.setxor1d(old, new)["subject"])
    had, has = are_among(touched, old["subject"]), are_among(touched, new["subject"])
    kinds = (touched[~had], touched[had & ~has], touched[had & has])
    names = _names((before, after), set(touched.tolist()))
    return GalleryDifference(*(tuple(sorted(names[digest] for digest in kind.tolist())) for kind in kinds))


def _rows(snapshot: Snapshot) -> NDArray[np.void]:
    """(n,) digests of all rows, sorted."""
    parts = [_digests(table) for table in snapshot.tables()]
    return np.sort(np.concatenate(parts)) if parts else np.zeros(0, _DIGEST)


def _digests(table: pa.Table) -> NDArray[np.void]:
    names = [n for n in table.column_names if n not in (SUBJECT_ID, FACE_ID, ENROLLED, EMBEDDING)]
    subjects, faces = table.column(SUBJECT_ID).to_pylist(), table.column(FACE_ID).to_pylist()
    facts = zip(*(table.column(name).to_pylist() for name in names), strict=True)
    out = np.zeros(table.num_rows, _DIGEST)
    for row, (subject, face, values, vector) in enumerate(
        zip(subjects, faces, facts, vectors_of(table), strict=True)
    ):
        there = [(name, value) for name, value in zip(names, values, strict=True) if value is not None]
        content = repr((subject, face, there)).encode() + vector.tobytes()
        out[row] = _digest(subject.encode()), _digest(content)
    return out


def _digest(data: bytes) -> bytes:
    """Digest of 16 bytes whose last byte is never 0: NumPy's byte strings drop trailing zeros."""
    digest = hashlib.blake2b(data, digest_size=16).digest()
    return digest if digest[-1] else digest[:-1] + b"\1"


def _names(snapshots: Iterable[Snapshot], wanted: set[bytes]) -> dict[bytes, str]:
    if not wanted:
        return {}
    return {
        digest: subject
        for snapshot in snapshots
        for table in snapshot.tables([SUBJECT_ID], vectors=False)
        for subject in table.column(SUBJECT_ID).unique().to_pylist()
        if (digest := _digest(subject.encode())) in wanted
    }
