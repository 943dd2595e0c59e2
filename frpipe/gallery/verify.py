"""Verify a gallery's files: everything about them that can be checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.errors import GalleryConflict, GalleryError
from frpipe.gallery.catalog import VERSIONS, ShardRef, Version
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.hash_spill import HashSpill
from frpipe.gallery.packed import hashes
from frpipe.gallery.schema import FACE_ID, SUBJECT_ID, TEXTS, is_unit
from frpipe.gallery.shard_store import index_name
from frpipe.gallery.suppression import SUPPRESSED
from frpipe.io.storage.whole_file import none_found

_TRIES = 10


@dataclass(frozen=True, slots=True, order=True)
class GalleryProblem:
    """A file of a gallery and what is wrong with it."""

    file: str
    what: str


def verify(gallery: Gallery) -> list[GalleryProblem]:
    """Read every file that a readable version names, and the log; returns the problems, or an empty list.

    Checked: the SHA-256 and size of every file, the structure of every shard, that its texts are UTF-8, its
    vectors finite and of length 1, its rows sorted and each key once, that deleted rows are rows, that no
    version is missing, that no template is twice in the newest version, and the suppression list.

    If a compaction removes files meanwhile, it starts again; GalleryConflict after ten times. If the newest
    version's file is lost and nothing was compacted since, that cannot be found: see the format.
    """
    for _ in range(_TRIES):
        purged = _purged(gallery)
        problems = _problems(gallery)
        if not problems or _purged(gallery) == purged:
            return sorted(problems)
    raise GalleryConflict(
        f"compactions came in between, {_TRIES} times", "verify again when the gallery is less busy"
    )


def _purged(gallery: Gallery) -> int | None:
    """State that every compaction changes; None if the newest version is damaged."""
    try:
        return gallery.catalog.head().purged
    except GalleryError:
        return None


def _problems(gallery: Gallery) -> set[GalleryProblem]:
    problems = {*_log_problems(gallery)}
    try:
        head = gallery.catalog.head()
    except GalleryError as error:
        problems.add(GalleryProblem(VERSIONS, error.message))
        return problems | _version_problems(gallery, gallery.catalog.numbers())
    if max(gallery.catalog.logged(), default=-1) >= head.number > 0:
        problems.add(GalleryProblem(VERSIONS, f"newer ones than {head.number} are missing: the log has them"))
    problems |= _version_problems(gallery, range(head.purged + 1, head.number + 1))
    problems.update(_suppression_problems(gallery))
    return problems or {*_key_problems(gallery, head)}


def _version_problems(gallery: Gallery, numbers: Iterable[int]) -> set[GalleryProblem]:
    problems: set[GalleryProblem] = set()
    checked: set[ShardRef] = set()
    digests: dict[str, str] = {}
    for number in numbers:
        try:
            version = gallery.catalog.read(number)
        except FileNotFoundError:
            problems.add(GalleryProblem(f"version {number}", "it is missing"))
        except GalleryError as error:
            problems.add(GalleryProblem(f"version {number}", error.message))
        else:
            for ref in version.shards:
                if ref not in checked:
                    checked.add(ref)
                    problems.update(_shard_problems(gallery, ref, digests))
    return problems


def _log_problems(gallery: Gallery) -> Iterator[GalleryProblem]:
    try:
        entries = gallery.log()
    except GalleryError as error:
        yield GalleryProblem("log", error.message)
        return
    missing = set(range(entries[-1].version + 1)) - {entry.version for entry in entries}
    if missing:
        yield GalleryProblem("log", f"entries are missing: {sorted(missing)[:10]}")


def _suppression_problems(gallery: Gallery) -> Iterator[GalleryProblem]:
    try:
        gallery.suppressions.read()
    except GalleryError as error:
        yield GalleryProblem(SUPPRESSED, error.message)


def _shard_problems(gallery: Gallery, ref: ShardRef, digests: dict[str, str]) -> Iterator[GalleryProblem]:
    """Problems of a shard. digests: of files that were hashed before, as a shard may be in many versions."""
    try:
        if ref.name not in digests:
            digests[ref.name] = _digest(gallery, ref)
        if digests[ref.name] != ref.sha256:
            yield _changed(gallery, ref.name)
            return
        shard = gallery.shard_store.open(ref, by_index=False)
        texts = {name: shard.text(name) for name in (*TEXTS, *ref.attributes)}
        gallery.shard_store.deleted_rows(ref)
        is_index_sound = gallery.shard_store.is_index_sound(ref)
    except FileNotFoundError as error:
        name = ref.name if ref.deleted is None or ref.name in str(error) else ref.deleted.name
        if gallery.folder.exists(name):
            raise none_found(gallery.folder, name) from None
        yield GalleryProblem(name, "it is missing")
    except GalleryError as error:
        yield GalleryProblem(ref.name, error.message)
    else:
        if not is_unit(shard.vectors()):
            yield GalleryProblem(ref.name, "it holds vectors that are not of length 1")
        if not _ascending(texts[SUBJECT_ID], texts[FACE_ID]):
            yield GalleryProblem(ref.name, "its rows are not sorted, or a key comes twice")
        if not is_index_sound:
            yield GalleryProblem(index_name(ref.name), "it is not that of its shard; compact writes it anew")


def _digest(gallery: Gallery, ref: ShardRef) -> str:
    """SHA-256 of a shard; it is read twice before a difference is reported."""
    found = gallery.shard_store.digest(ref.name)
    return found if found == ref.sha256 else gallery.shard_store.digest(ref.name)


def _changed(gallery: Gallery, name: str) -> GalleryProblem:
    if gallery.shard_store.is_open_for_writing(name):
        return GalleryProblem(
            name,
            "it is open for writing in another program, or was when that died: close it there, verify again",
        )
    return GalleryProblem(name, "its SHA-256 has changed")


def _ascending(subjects: pa.StringArray, faces: pa.StringArray) -> bool:
    if len(subjects) < 2:
        return True
    before, after = subjects.slice(0, len(subjects) - 1), subjects.slice(1)
    tied = pc.and_(pc.equal(before, after), pc.less(faces.slice(0, len(faces) - 1), faces.slice(1)))
    return bool(pc.all(pc.or_(pc.less(before, after), tied)).as_py())


def _key_problems(gallery: Gallery, head: Version) -> Iterator[GalleryProblem]:
    try:
        yield from _twice(gallery, head)
    except GalleryError as error:
        yield GalleryProblem(f"version {head.number}", error.message)


def _twice(gallery: Gallery, head: Version) -> Iterator[GalleryProblem]:
    """Find keys that are twice in the newest version: by 64-bit hash, then compared in full."""
    snapshot = gallery.snapshot(head.number)
    twice = [np.zeros(0, np.uint64)]
    with HashSpill() as spill:
        for table in snapshot.stored_keys():
            spill.add(_key_hashes(table))
        for parts in spill.ranges():
            values, counts = np.unique(np.concatenate(parts), return_counts=True)
            twice.append(values[counts > 1])
    suspects = np.concatenate(twice)
    if not suspects.size:
        return
    keys: set[tuple[str, str]] = set()
    for table in snapshot.stored_keys():
        rows = table.filter(pa.array(np.isin(_key_hashes(table), suspects)))
        for key in zip(rows.column(0).to_pylist(), rows.column(1).to_pylist(), strict=True):
            if key in keys:
                yield GalleryProblem(f"version {head.number}", "a template is there twice")
                return
            keys.add(key)


def _key_hashes(table: pa.Table) -> NDArray[np.uint64]:
    return hashes(table.column(SUBJECT_ID)) * np.uint64(31) + hashes(table.column(FACE_ID))
