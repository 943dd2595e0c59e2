"""Columns that frpipe writes: name, Arrow type, whether they may be null, and what they mean.

The documentation's tables are generated from here (a test compares them), and the columns of the
manifest travel behind ours under their own names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import pyarrow as pa

from frpipe.core.subject import LEFT_OUT_BY

# Version 1 has no columns on turns and second looks: recipes that look once at a photo write it still.
# Version 3 has times of capture, which recipes write that ask for them. There is no further number: what came
# later has a name, which a recipe lists, so that each such column is there or not for itself.
SCHEMA_VERSION, WITH_CAPTURE_TIMES = 2, 3
IS_SUBJECT = "is_subject"
LATER_COLUMNS = (IS_SUBJECT, *LEFT_OUT_BY.values())
"""Columns of `faces` and `images` that outputs begun by older code go on without."""

MANIFEST_NAMES = ("image_id", "image_uri", "subject_id")
# In the metadata of a field: the further stage that wrote it, so that nobody takes it for the manifest's.
_STAGE = b"frpipe.stage"
# In the metadata of a later column: the mark that it is ours, as a manifest may have had one of its name.
_LATER = {b"frpipe.column": b"later"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an output table."""

    name: str
    type: pa.DataType
    doc: str
    nullable: bool = False
    since: int = 1

    @property
    def field(self) -> pa.Field:
        return pa.field(self.name, self.type, self.nullable, _LATER if self.name in LATER_COLUMNS else None)

    def field_of(self, stage: str) -> pa.Field:
        """The field of a column that a further stage writes."""
        return self.field.with_metadata({_STAGE: stage.encode()})


_ID = Column("image_id", pa.string(), "id of the photo, unique in the run; the manifest's, or its image_uri")
_URI = Column(
    "image_uri", pa.string(), "where the photo lies, as the manifest says; null for embedded photos", True
)
_SUBJECT = Column("subject_id", pa.string(), "id of the person, where the manifest knows it", True)

IMAGE_COLUMNS = (
    _ID,
    _URI,
    _SUBJECT,
    Column("status", pa.string(), "`ok`, `no_face` or `rejected`: each row has exactly one"),
    Column("reason", pa.string(), "why the row is rejected, from a closed list", True),
    Column("detail", pa.string(), "more on the reason, for people", True),
    Column("attempts", pa.int32(), "times that the photo was tried"),
    Column("format", pa.string(), "file format by its content", True),
    Column("bytes", pa.int64(), "encoded size, bytes", True),
    Column("content_sha256", pa.string(), "SHA-256 of the encoded photo, hex", True),
    Column("width", pa.int32(), "of the upright photo, pixels", True),
    Column("height", pa.int32(), "of the upright photo, pixels", True),
    Column("orientation", pa.int8(), "EXIF orientation 1..8 that was applied; 1 is upright", True),
    Column("faces_detected", pa.int32(), "faces found, before the face policy", True),
    Column("faces", pa.int32(), "rows of this photo in `faces`"),
    Column("fetch_ms", pa.float32(), "time that the worker waited for the photo, ms", True),
    Column("decode_ms", pa.float32(), "time to decode it, ms", True),
    Column("detect_ms", pa.float32(), "its share of a batch's detection, ms", True),
    Column("align_ms", pa.float32(), "time to cut out and align its faces, ms", True),
    Column("embed_ms", pa.float32(), "its share of a batch's embedding, ms", True),
    Column("turn_deg", pa.int16(), "degrees clockwise that make the EXIF-upright photo upright", True, 2),
    Column("faces_refused", pa.int32(), "faces found that are implausible, or on no photograph", True, 2),
    Column("least_face_px", pa.float32(), "width of the smallest faces looked for, pixels", True, 2),
    Column(
        "captured_at",
        pa.timestamp("us"),
        "with `decode.captured_at`: when it was taken; UTC with a zone, else what the camera's clock showed",
        True,
        3,
    ),
    Column(
        "captured_at_zone",
        pa.string(),
        "with `decode.captured_at`: the zone that EXIF names, as `+09:00`; null: not known",
        True,
        3,
    ),
)

LATER_IMAGE_COLUMNS = tuple(
    Column(
        name,
        pa.string(),
        f"why the face that `{policy}` means was left out, if it was: no other stands for it",
        True,
    )
    for policy, name in LEFT_OUT_BY.items()
)
# In place of the name of a stage, which no stage has: of columns that any of them may fill.
BY_ANY = "held"

_FACE_COLUMNS_HEAD = (
    Column("face_id", pa.string(), "`image_id#face_index`, unique in the run"),
    _ID,
    _URI,
    Column("face_index", pa.int32(), "0 for the best scored face of the photo"),
    Column(
        IS_SUBJECT,
        pa.bool_(),
        "whether it is the photo's subject, whoever that is: one face of each `ok` photo, here or in `held`; "
        "none where that face was left out",
    ),
    _SUBJECT,
    Column("face_policy", pa.string(), "which faces of a photo were kept"),
    Column("box_x1", pa.float32(), "left edge, pixels of the upright photo"),
    Column("box_y1", pa.float32(), "top edge, pixels of the upright photo"),
    Column("box_x2", pa.float32(), "right edge, pixels of the upright photo"),
    Column("box_y2", pa.float32(), "bottom edge, pixels of the upright photo"),
    Column("score", pa.float32(), "detection score, 0..1"),
    Column(
        "landmarks",
        pa.list_(pa.field("item", pa.float32(), False), 10),
        "x, y of the eye, eye, nose, mouth corner, mouth corner (viewer's left first), pixels",
    ),
    Column("eye_distance_px", pa.float32(), "between the eyes, pixels of the upright photo"),
    Column(
        "roll_deg", pa.float32(), "degrees clockwise that the face is rolled, (-180, 180]; 0 upright", since=2
    ),
    Column("detector_face_px", pa.float32(), "width that the detector saw it with, pixels", since=2),
    Column("refined", pa.bool_(), "whether its landmarks are those of a second look", since=2),
    Column(
        "landmark_error",
        pa.float32(),
        "how far apart both looks put the landmarks, mean, in eye distances; null after a single look",
        True,
        2,
    ),
    Column("sharpness", pa.float32(), "variance of the Laplacian of the grey aligned crop"),
    Column("norm", pa.float32(), "length of the embedding before it was made a unit vector"),
)

_FACE_COLUMNS_TAIL = (
    Column("detector_hash", pa.string(), "SHA-256 of the detector's weights"),
    Column("embedder_hash", pa.string(), "SHA-256 of the embedder's weights"),
    Column("preprocessing_hash", pa.string(), "hash of all that turns a photo into the embedder's input"),
)


def vector_type(dim: int) -> pa.DataType:
    """The type of vectors of `dim` numbers: a fixed-size list of non-null float32."""
    return pa.list_(pa.field("item", pa.float32(), False), dim)


def embedding_columns(dim: int) -> tuple[Column, ...]:
    """Columns of `embeddings/NAME`, for a further embedder of `dim` numbers."""
    return (
        Column("face_id", pa.string(), "of the row of `faces` at the same place of the same part"),
        _ID,
        Column("norm", pa.float32(), "length of the embedding before it was made a unit vector"),
        Column("embedding", vector_type(dim), "unit vector of the face"),
        *_FACE_COLUMNS_TAIL,
    )


def embedding_schema(dim: int) -> pa.Schema:
    """Schema of `embeddings/NAME`."""
    return pa.schema([column.field for column in embedding_columns(dim)])


def image_columns(version: int = SCHEMA_VERSION) -> tuple[Column, ...]:
    """Columns of `images` in a version of the schema."""
    return tuple(column for column in IMAGE_COLUMNS if column.since <= version)


def later_image_fields(later: Collection[str] = LATER_COLUMNS) -> list[pa.Field]:
    """The fields of the later columns of `images` that are among names, as what a further stage writes."""
    return [column.field_of(BY_ANY) for column in LATER_IMAGE_COLUMNS if column.name in later]


def face_columns(
    dim: int, version: int = SCHEMA_VERSION, later: Collection[str] = LATER_COLUMNS
) -> tuple[Column, ...]:
    """Columns of `faces` for embeddings of `dim` numbers, in a version of the schema.

    later: which of LATER_COLUMNS are among them.
    """
    embedding = Column("embedding", vector_type(dim), "unit vector of the face")
    left_out = {*LATER_COLUMNS} - {*later}
    columns = (*_FACE_COLUMNS_HEAD, embedding, *_FACE_COLUMNS_TAIL)
    return tuple(column for column in columns if column.since <= version and column.name not in left_out)


def reserved_names(version: int = SCHEMA_VERSION, later: Collection[str] = LATER_COLUMNS) -> frozenset[str]:
    """Names that a manifest may not use for columns of its own."""
    names = {column.name for column in (*image_columns(version), *face_columns(1, version, later))}
    names |= {field.name for field in later_image_fields(later)}
    return frozenset(names - set(MANIFEST_NAMES))


def image_schema(
    extra: pa.Schema, version: int = SCHEMA_VERSION, staged: Iterable[pa.Field] = ()
) -> pa.Schema:
    """Schema of `images`: the columns of further stages behind ours, the manifest's own last."""
    return pa.schema([*(column.field for column in image_columns(version)), *staged, *extra])


def face_schema(
    dim: int,
    extra: pa.Schema,
    version: int = SCHEMA_VERSION,
    staged: Iterable[pa.Field] = (),
    later: Collection[str] = LATER_COLUMNS,
) -> pa.Schema:
    """Schema of `faces`: the columns of further stages behind ours, the manifest's own last."""
    return pa.schema([*(column.field for column in face_columns(dim, version, later)), *staged, *extra])


def later_columns_of(faces: pa.Schema) -> tuple[str, ...]:
    """The names among LATER_COLUMNS that a table of faces has as ours."""
    return tuple(field.name for field in faces if _LATER.items() <= (field.metadata or {}).items())


def stage_of(field: pa.Field) -> str | None:
    """The further stage that wrote a column; None where none did."""
    stage = (field.metadata or {}).get(_STAGE)
    return stage.decode() if stage is not None else None


def staged_fields(schema: pa.Schema) -> list[pa.Field]:
    """The columns of a table that further stages wrote."""
    stages = [(field, stage_of(field)) for field in schema]
    return [
        pa.field(field.name, _as_declared(field.type), field.nullable, {_STAGE: stage.encode()})
        for field, stage in stages
        if stage is not None
    ]


def _as_declared(kind: pa.DataType) -> pa.DataType:
    """A type with Arrow's own name for the items of lists: Parquet gives them another."""
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind):
        inner = pa.field("item", _as_declared(kind.value_type), kind.value_field.nullable)
        return pa.list_(inner, kind.list_size) if pa.types.is_fixed_size_list(kind) else pa.list_(inner)
    return kind


def version_of(images: pa.Schema) -> int:
    """The version of the schema that a table of images was written with."""
    fields = [(field.name, field.type) for field in images]
    for version in (WITH_CAPTURE_TIMES, SCHEMA_VERSION):
        # By type as well: `captured_at` may be a manifest's own, behind the columns of version 2.
        known = [(column.name, column.type) for column in image_columns(version)]
        if fields[: len(known)] == known:
            return version
    return 1


def extras_of(images: pa.Schema) -> pa.Schema:
    """The manifest's own columns in a table of images."""
    behind = list(images)[len(image_columns(version_of(images))) :]
    return pa.schema([field for field in behind if stage_of(field) is None])


def markdown(columns: Iterable[Column]) -> str:
    """A table of columns for the documentation, in Markdown."""
    lines = ["| column | type | null | meaning |", "|---|---|---|---|"]
    for column in columns:
        name = str(column.type).replace("item: ", "").replace(" not null", "")
        lines.append(f"| `{column.name}` | {name} | {'yes' if column.nullable else ''} | {column.doc} |")
    return "\n".join(lines)
