"""Small tables of templates, the content of a gallery in a form that can be compared, and a rival writer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import TIME, template_schema, vector_array
from frpipe.gallery.shard_store import files_of, index_name
from frpipe.gallery.snapshot import Snapshot
from frpipe.gallery.spec import GallerySpec

DIM = 16
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def spec(**changes: Any) -> GallerySpec:
    """A gallery of small vectors and small shards."""
    settings = {"dim": DIM, "rows_per_shard": 40, **changes}
    return GallerySpec(
        embedder_hash="e" * 64, preprocessing_hash="p" * 64, detector_hash="d" * 64, **settings
    )


def unit(count: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    """(count, dim) float32 unit vectors."""
    vectors = np.random.default_rng(seed).standard_normal((count, dim), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def people(
    names: Sequence[str], *, faces: int = 1, seed: int = 0, dim: int = DIM, **attributes: list[str | None]
) -> pa.Table:
    """`faces` templates of each subject; attributes hold one value a row."""
    subjects = [name for name in names for _ in range(faces)]
    rows = len(subjects)
    columns = {
        "subject_id": subjects,
        "face_id": [f"{name}#{face}" for name in names for face in range(faces)],
        "image_uri": [f"{name}.jpg" for name in subjects],
        "quality": pa.array([0.5] * rows, pa.float32()),
        "enrolled_at": pa.array([NOW] * rows, TIME),
        "embedding": vector_array(unit(rows, seed, dim)),
        **attributes,
    }
    return pa.table(columns, schema=template_schema(dim, attributes))


def ids(count: int, start: int = 0) -> list[str]:
    """p0000, p0001, ..."""
    return [f"p{number:04d}" for number in range(start, start + count)]


def third_version(place: Path) -> Gallery:
    """A gallery at version 3, of ten people in each."""
    made = Gallery.create(str(place), spec())
    for start in (0, 10, 20):
        lifecycle.enroll(made, [people(ids(10, start))], "append")
    return made


def content(snapshot: Snapshot) -> list[tuple[Any, ...]]:
    """All rows by key, without the time of enrolment; attributes that are null are left out."""
    return sorted(_row(row) for table in snapshot.tables() for row in table.to_pylist())


def _row(row: dict[str, Any]) -> tuple[Any, ...]:
    vector = np.array(row.pop("embedding"), np.float32).tobytes()
    del row["enrolled_at"]
    there = sorted((name, value) for name, value in row.items() if value is not None)
    return row["subject_id"], row["face_id"], vector, repr(there)


def files(folder: Path) -> Iterator[Path]:
    """All files below, hidden ones too."""
    return (path for path in folder.rglob("*") if path.is_file())


def files_with(folder: Path, *needles: bytes) -> list[str]:
    """Names of the files that hold any of the byte strings."""
    return [path.name for path in files(folder) if any(needle in path.read_bytes() for needle in needles)]


def vector_of(gallery: Gallery, subject: str) -> np.ndarray:
    """(dim,) float32 of the first template of a person."""
    shown = gallery.snapshot().show(subject, vectors=True)
    return np.array(shown.column("embedding")[0].as_py(), np.float32)


def rival_commits_first(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let another writer enroll somebody just before the next commit, which so loses its number."""
    real, done = type(gallery.catalog).commit, list[int]()

    def commit(self: object, version: object) -> bool:
        if not done:
            done.append(1)
            lifecycle.enroll(Gallery.open(gallery.uri), [people(["first"])])
        return real(self, version)  # type: ignore[arg-type]

    monkeypatch.setattr(type(gallery.catalog), "commit", commit)


def only_what_versions_name(gallery: Gallery) -> None:
    """Assert that there is no shard, index of one or list of deleted rows that no version names."""
    refs = {ref for number in gallery.versions() for ref in gallery.snapshot(number).version.shards}
    assert gallery.shard_store.names() == files_of(refs) | {index_name(ref.name) for ref in refs}
