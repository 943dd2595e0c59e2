"""The columns of published tables. The page docs/tables.md is generated from them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from frpipe.core.schema import WITH_CAPTURE_TIMES, Column, face_columns, image_columns
from frpipe.io.tables.types import portable
from frpipe.jobs.dedup.schema import CLUSTER_COLUMNS
from frpipe.jobs.identify.schema import PROBE_COLUMNS

_TIME = pa.timestamp("us", tz="UTC")
MONTH, EMBEDDING, VECTOR = "month", "embedding", pa.list_(pa.field("element", pa.float32(), False))
_NAMES = pa.list_(pa.field("element", pa.string(), False))

SOURCE = Column("source", pa.string(), "what the ids of photos belong to: those of two sources never meet")
_VANISHED = Column("vanished", pa.date32(), "the night that did not find the photo any more", True)
_HASHES = (
    Column("detector_hash", pa.string(), "SHA-256 of the detector's weights"),
    Column("embedder_hash", pa.string(), "SHA-256 of the embedder's weights"),
    Column("preprocessing_hash", pa.string(), "hash of all that turns a photo into the embedder's input"),
)
_RUN_ID = Column("run_id", pa.string(), "the run, or the night, that the row is of: a row of `runs`")
_NIGHT = Column("night", pa.date32(), "date of the night; null of a run by itself", True)
_TIMES = (
    Column("as_of", _TIME, "which state of the photos the row speaks of: a later one replaces it"),
    Column("processed_at", _TIME, "when that run was begun: `as_of`, but for a replay"),
)
_RECIPE = Column(
    "recipe", pa.string(), "the recipe of these tables: 16 digits of a hash of embedder and input"
)
_AS_SAID = tuple(replace(each, nullable=True) for each in (*_HASHES, _RECIPE))
"""The same of results, as far as they say it; null, too, in rows of older code."""
_PARTITION = Column(MONTH, pa.string(), "partition: the month of the night, or else of `as_of`: 2026-11")
_OF_RUN = (_RUN_ID, _NIGHT, *_TIMES)
_TAIL = (_VANISHED, *_OF_RUN, *_HASHES, _RECIPE, _PARTITION)
_OF_REJECTS = ("image_id", "image_uri", "subject_id", "reason", "detail", "attempts", "format", "bytes")


@dataclass(frozen=True, slots=True)
class TableSpec:
    """The specification of a table: columns, order of the rows in a file, and ids with Bloom filters."""

    name: str
    doc: str
    columns: tuple[Column, ...]
    sort_by: tuple[str, ...]
    ids: tuple[str, ...] = ()

    @property
    def partition_by(self) -> str | None:
        """The column whose values are folders; None where there is none."""
        return MONTH if _PARTITION in self.columns else None

    def schema(self, *, embeddings: bool = True) -> pa.Schema:
        """Make the schema of a new table."""
        kept = (each for each in self.columns if embeddings or each.name != EMBEDDING)
        return pa.schema([pa.field(each.name, each.type, each.nullable) for each in kept])


def _with_places(columns: Sequence[Column]) -> tuple[Column, ...]:
    doc = "where the photo lies, a relative path of the manifest resolved; null for embedded photos"
    return tuple(replace(each, doc=doc) if each.name == "image_uri" else each for each in columns)


def _ours(columns: tuple[Column, ...], *needed: str) -> tuple[Column, ...]:
    """Convert columns of an output to those of tables. needed: those that no output lacks."""
    return tuple(
        Column(
            each.name,
            VECTOR if each.name == EMBEDDING else portable(each.type, each.name),
            each.doc,
            each.name not in needed,
        )
        for each in columns
    )


_IMAGES, _FACES = _with_places(image_columns(WITH_CAPTURE_TIMES)), _with_places(face_columns(1))
PHOTOS = TableSpec(
    "photos",
    "a row for each photo, as it ended when it was last processed",
    (SOURCE, *_ours(_IMAGES, "image_id", "status"), *_TAIL),
    ("subject_id", "image_id"),
    ("image_id", "subject_id"),
)
FACES = TableSpec(
    "faces",
    "a row for each face of these photos",
    (
        SOURCE,
        *_ours(
            tuple(each for each in _FACES if each not in _HASHES),
            "face_id",
            "image_id",
            "face_index",
            EMBEDDING,
        ),
        *_TAIL,
    ),
    ("subject_id", "face_id"),
    ("face_id", "image_id", "subject_id"),
)
REJECTS = TableSpec(
    "rejects",
    "a row for each of these photos that was rejected",
    (
        SOURCE,
        *_ours(tuple(c for c in _IMAGES if c.name in (*_OF_REJECTS, "content_sha256")), "image_id"),
        *_TAIL,
    ),
    ("subject_id", "image_id"),
    ("image_id", "subject_id"),
)
MATCHES = TableSpec(
    "matches",
    "a row for each probe that was searched for, and for each photo that gave none",
    (
        SOURCE,
        Column("search", pa.string(), "of a night `gallery` or `watch-list`; else the id of the gallery"),
        *_ours(PROBE_COLUMNS, "image_id"),
        Column(
            "photo_run_id", pa.string(), "the run that found the face; null where that is not known", True
        ),
        *_OF_RUN,
        _RECIPE,
        _PARTITION,
        Column("photo_as_of", _TIME, "`as_of` of the run that found the face", True),
        Column("photo_night", pa.date32(), "`night` of the run that found the face", True),
        Column("photo_processed_at", _TIME, "`processed_at` of the run that found the face", True),
        _AS_SAID[0],
    ),
    ("probe_subject_id", "image_id"),
    ("image_id", "face_id"),
)
_SCOPE = Column("scope", pa.string(), "what was searched for duplicates: id of a gallery, or the run")
DUPLICATES = TableSpec(
    "duplicates",
    "a row for each cluster of subjects who are alike, of the newest search of each scope",
    (
        _SCOPE,
        *_ours(tuple(c for c in CLUSTER_COLUMNS if c.name in {"cluster_id", "component_id"}), "cluster_id"),
        Column("members", pa.int32(), "subjects of the cluster", False),
        Column("keeper", pa.string(), "the subject to keep, by template quality", True),
        Column("weak", pa.bool_(), "whether the component was too large to be split", True),
        *_OF_RUN,
        *_AS_SAID,
    ),
    ("cluster_id",),
    ("cluster_id",),
)
MEMBERS = TableSpec(
    "duplicate_members",
    "a row for each subject of these clusters",
    (
        _SCOPE,
        *_ours(
            tuple(c for c in CLUSTER_COLUMNS if c.name not in {"component_id", "size", "weak"}),
            "cluster_id",
            "subject_id",
        ),
        *_OF_RUN,
        *_AS_SAID,
    ),
    ("subject_id",),
    ("subject_id", "cluster_id"),
)
PEOPLE = TableSpec(
    "people",
    "a row for each person of a source who has photos, vanished ones left out",
    (
        SOURCE,
        Column("subject_id", pa.string(), "id of the person"),
        Column("photos", pa.int64(), "photos of theirs"),
        Column(
            "photos_ok",
            pa.int64(),
            "of them with a face that was embedded, theirs or not: `is_subject` in `faces`",
        ),
        Column("faces", pa.int64(), "faces on these photos, bystanders' too"),
        Column("first_as_of", _TIME, "`as_of` of the oldest of these rows"),
        Column("last_as_of", _TIME, "`as_of` of the newest"),
        _AS_SAID[-1],
    ),
    ("subject_id",),
    ("subject_id",),
)
RUNS = TableSpec(
    "runs",
    "a row for each run and night that is in the tables: once it is here, it is in all of them",
    (
        _RUN_ID,
        Column("kind", pa.string(), "`enroll`, `night`, `identify` or `dedup`"),
        Column("source", pa.string(), "of its photos", True),
        _NIGHT,
        *_TIMES,
        Column("photos", pa.int64(), "photos that it processed", True),
        Column("ok", pa.int64(), "of them with a face that was embedded", True),
        Column("no_face", pa.int64(), "of them without a face", True),
        Column("rejected", pa.int64(), "of them rejected", True),
        Column("faces", pa.int64(), "faces that it found", True),
        Column("probes", pa.int64(), "probes that were searched for", True),
        Column("identified", pa.int64(), "of them identified", True),
        Column("clusters", pa.int64(), "clusters of duplicates that it found", True),
        Column("vanished", pa.int64(), "photos that it did not find any more", True),
        Column("detector", pa.string(), "name of the detector, with the first digits of its hash", True),
        Column("embedder", pa.string(), "the same of the embedder", True),
        *_AS_SAID[:-1],
        Column("seconds", pa.float64(), "time that it took; of a night, of all its launches", True),
        Column("nodes", pa.int64(), "nodes of a night", True),
        Column("cost", pa.float64(), "price of a night, where `cost.node_hour` was given", True),
        Column("currency", pa.string(), "of that price", True),
        Column("replay_of", pa.string(), "the output that it is a replay of", True),
        Column("output", pa.string(), "where it lies, or lay", True),
        Column("content", pa.string(), "SHA-256 that stands for what was published of it"),
        _RECIPE,
        Column(
            "gallery_prefix",
            pa.string(),
            "of a night, what its gallery has before the ids of its photos: nothing, or `consolidate.source`",
            True,
        ),
        Column("probe_source", pa.string(), "source of the probes, where a night searched for others", True),
        Column("photos_per_s", pa.float64(), "photos enrolled in a second, in the last launch", True),
        Column(
            "detection_score_mean", pa.float64(), "of a night with the step `drift`: mean of its faces", True
        ),
        Column("quality_mean", pa.float64(), "likewise: mean template quality of its faces, 0..1", True),
        Column(
            "mated_similarity_mean",
            pa.float64(),
            "likewise: mean best similarity of a new template to older ones of the same person",
            True,
        ),
        Column(
            "gates_hold",
            pa.bool_(),
            "of a night: whether all gates held when it was published; null: none was set",
            True,
        ),
        Column("gates_broken", _NAMES, "the gates that did not", True),
        Column(
            "drift_distance",
            pa.float64(),
            "of a night: the largest distance of a measure from nights before, 0..1; null: none compared",
            True,
        ),
        Column("drift_moved", _NAMES, "the measures that have moved; null: none was measured", True),
    ),
    ("as_of",),
    ("run_id",),
)
TABLES = (PHOTOS, FACES, REJECTS, MATCHES, DUPLICATES, MEMBERS, PEOPLE, RUNS)
_FURTHER = re.compile(rf"{EMBEDDING}_.+_[0-9a-z]{{8}}")
OWN_NAMES = frozenset(column.name.casefold() for spec in TABLES[:3] for column in spec.columns)
"""Names that columns of manifests and stages may not have in `photos` and `faces`."""


def further_column(name: str, embedder: str, hashes: Sequence[str]) -> str:
    """Name a column of a further embedder. name: that of the first.  hashes: of embedder and input."""
    return f"{name}_{embedder}_{''.join(each[:4] for each in hashes)}"


def vector_columns(schema: pa.Schema) -> list[str]:
    """Names of the columns of `faces` with vectors of embedders, the first one's first."""
    further = [field.name for field in schema if _FURTHER.fullmatch(field.name) and field.type == VECTOR]
    return [*(name for name in (EMBEDDING,) if name in schema.names), *further]
