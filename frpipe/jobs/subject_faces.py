"""Make templates of faces: choose the subject's face of each photo, and say how good it is."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.errors import OutputError
from frpipe.core.held import HELD_FACE, HELD_INSTEAD, is_held_instead
from frpipe.core.left_out import LEFT_OUT_FACE, is_left_out
from frpipe.core.schema import face_columns, later_columns_of, stage_of
from frpipe.core.subject import LEFT_OUT_BY
from frpipe.core.text_column import canonical_column
from frpipe.gallery.schema import EMBEDDING, FACE_ID, FIXED_COLUMNS, QUALITY, SUBJECT_ID, URI, template_schema
from frpipe.gallery.weights import WEIGHED_BY, WEIGHT, weights_of
from frpipe.stages.subject_face import RULE, subject_faces

SubjectPolicy = Literal["centre-largest", "largest", "require-one"]
BY_RULE = "frpipe.by_rule"
"""A column of candidates, null but for the face of each photo that the rule takes. No gallery has it."""
IMAGE_NAMES = [
    *("image_id", "width", "height", "faces_detected", "faces", HELD_INSTEAD.name),
    *LEFT_OUT_BY.values(),
]
SUBJECT_IMAGE_NAMES = ("width", "height", HELD_INSTEAD.name, *LEFT_OUT_BY.values())
SUBJECT_FACE_NAMES = ("box_x1", "box_y1", "box_x2", "box_y2")
"""Columns by which `are_subjects` tells them, beside `image_id`; of images as far as there."""
# Eyes of the ArcFace template at 112 pixels: what is nearer together is enlarged and gains no detail.
_TEMPLATE_EYES_PX = 35.24
# The first percentile of 4,995 LFW photos: such a crop counts one half.
_HALF_SHARP = 30.0

Mask = NDArray[np.bool_]


def templates_of(
    images: pa.Table,
    faces: pa.Table,
    policy: SubjectPolicy,
    enrolled_at: datetime,
    *,
    candidates: bool = False,
    kept_as: str = "all",
) -> tuple[pa.Table, Counter[str]]:
    """Make the templates of one part, and count the other faces by reason: together the rows of `faces`.

    Reasons: `no_subject` (the manifest names nobody), `another_face` (a bystander), `many_faces` (require-one
    and more than one face found), `held_face` (the face that is meant is held back by a stage, and no other
    stands for it), `left_out_face` (it was left out). images: IMAGE_NAMES, as far as there.  faces: all
    columns.  candidates: the others on the photos too, though they are counted as left out, and behind all
    the column BY_RULE.  kept_as: what becomes of the templates; for a weighted mean they have the column
    WEIGHT.  Raises OutputError: nothing to weigh by.
    """
    kept, left_out = _subjects_faces(images, faces, policy)
    by_rule = kept
    if candidates:
        kept = pc.is_in(faces["image_id"], value_set=faces["image_id"].filter(pa.array(kept))).to_numpy()
    faces = faces.filter(pa.array(kept))
    columns: dict[str, Any] = {name: faces[name] for name in (URI, EMBEDDING)}
    # A run from before ids were brought to NFC has them as its manifest wrote them.
    columns |= {name: canonical_column(faces[name]) for name in (SUBJECT_ID, FACE_ID)}
    columns[QUALITY] = pa.array(
        quality(*(faces[name].to_numpy() for name in ("score", "eye_distance_px", "sharpness")))
    )
    columns["enrolled_at"] = pa.array([enrolled_at] * faces.num_rows)
    own = _own_columns(faces)
    schema = template_schema(faces.schema.field(EMBEDDING).type.list_size, own)
    columns |= {name: as_text(column) for name, column in own.items()}
    arrays = [columns[field.name].cast(field.type) for field in schema]
    table = pa.Table.from_arrays(arrays, schema=schema)
    if kept_as in WEIGHED_BY:
        table = table.append_column(WEIGHT, weights_of(kept_as, faces[weighed_by(kept_as, faces.schema)]))
    if candidates:
        marks = pa.array(["yes"] * int(kept.sum()), pa.string(), mask=~by_rule[kept])
        table = table.append_column(pa.field(BY_RULE, pa.string()), marks)
    return table, left_out


def are_subjects(images: pa.Table, faces: pa.Table) -> Mask:
    """Mark the faces that are their photos' subjects, (faces,) bool: those of `is_subject`, by the same rule.

    Of a photo whose subject's face is held back or was left out, none is; of outputs that do not say so, the
    one that is meant of those that are there.
    """
    photos = pc.index_in(faces["image_id"], value_set=images["image_id"].combine_chunks()).to_numpy()
    found: Mask = subject_faces(images, faces, photos) & ~is_held_instead(images, RULE)[photos]
    return found


def weighed_by(kept_as: str, schema: pa.Schema) -> str:
    """The column of `faces` that a weighted mean weighs by. Raises OutputError: it is not there."""
    name = WEIGHED_BY[kept_as]
    at = schema.get_field_index(name)
    if at < 0 or stage_of(schema.field(at)) != "quality":
        raise unweighed(kept_as)
    return name


def unweighed(kept_as: str, manifest: str = "MANIFEST") -> OutputError:
    """The error for faces that the stage `quality` has not measured."""
    return OutputError(
        f"--templates {kept_as} weighs faces by {WEIGHED_BY[kept_as]}, which this enroll output lacks",
        f"enroll with the stage quality: frpipe run enroll --manifest {manifest} --output NEW "
        "--set quality.policy=flag; or take --templates mean",
    )


def quality(
    score: NDArray[np.floating], eye_distance_px: NDArray[np.floating], sharpness: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Score how usable a face is, in [0, 1]: its weakest side counts. It ranks faces, and decides nothing.

    The least of: the detection score; eye distance over that of the aligned crop, at most 1; and
    `s / (s + 30)` of the sharpness.
    """
    sides = (score, np.minimum(eye_distance_px / _TEMPLATE_EYES_PX, 1), sharpness / (sharpness + _HALF_SHARP))
    least: NDArray[np.float32] = np.clip(np.minimum.reduce(sides), 0, 1).astype(np.float32)
    return least


def _subjects_faces(images: pa.Table, faces: pa.Table, policy: SubjectPolicy) -> tuple[Mask, Counter[str]]:
    subjects = pc.fill_null(faces[SUBJECT_ID], "")
    kept: Mask = pc.not_equal(subjects, "").to_numpy().astype(bool)
    left_out = Counter(no_subject=int((~kept).sum()))
    photos = pc.index_in(faces["image_id"], value_set=images["image_id"].combine_chunks()).to_numpy()
    if policy == "require-one":
        found = np.bincount(photos, minlength=images.num_rows)
        found = np.maximum(found, pc.fill_null(images["faces_detected"], 0).to_numpy())
        others, why = found[photos] > 1, "many_faces"
    else:
        others, why = ~subject_faces(images, faces, photos, policy), "another_face"
    for gone, reason in ((is_held_instead, HELD_FACE), (is_left_out, LEFT_OUT_FACE)):
        without = kept & gone(images, policy)[photos]
        kept &= ~without
        left_out[reason] = int(np.count_nonzero(without))
    left_out[why] = int(np.count_nonzero(kept & others))
    return kept & ~others, +left_out


def _own_columns(faces: pa.Table) -> dict[str, pa.ChunkedArray]:
    """The manifest's own columns; one with a name of the gallery's is prefixed manifest_."""
    ours = {column.name for column in face_columns(1, later=())} | {*later_columns_of(faces.schema)}
    names = [field.name for field in faces.schema if field.name not in ours and stage_of(field) is None]
    return {f"manifest_{name}" if name in FIXED_COLUMNS else name: faces[name] for name in names}


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Write a column of any type as strings: numbers and times as Arrow does, nested values as JSON."""
    kind = column.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        values = [None if v is None else json.dumps(v, default=_plain) for v in column.to_pylist()]
        return pa.chunked_array([pa.array(values, pa.string())])
    return column.cast(pa.string())


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
