"""Turn outcomes into Arrow tables, with the manifest's own columns behind ours."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from frpipe.core.held import FACES_HELD
from frpipe.core.reasons import Reason, Status
from frpipe.core.recipe import Recipe
from frpipe.core.schema import (
    IMAGE_COLUMNS,
    IS_SUBJECT,
    MANIFEST_NAMES,
    SCHEMA_VERSION,
    extras_of,
    face_schema,
    image_schema,
    later_image_fields,
    staged_fields,
    vector_type,
    version_of,
)
from frpipe.io.output.embeddings import behind
from frpipe.io.output.held import held_fields, is_held
from frpipe.stages.left_out import noted
from frpipe.stages.locate import CROP_SIDE, Located
from frpipe.stages.part_batch import PartBatch
from frpipe.stages.subject_face import subject_faces
from frpipe.vision.enlarge import Enlarged

ROW = "row"
_OUTCOME = tuple(
    c.name for c in IMAGE_COLUMNS if c.name in Located.__dataclass_fields__ and c.name != "faces"
)
_PLAN_NAMES = (*MANIFEST_NAMES, "location")


def extra_columns(plan: pa.Table) -> pa.Table:
    """The manifest's columns beyond those that we know."""
    return plan.select([name for name in plan.column_names if name not in _PLAN_NAMES])


def tabulate(
    part: int,
    plan: pa.Table,
    outcomes: Sequence[Located],
    attempts: Sequence[int],
    policy: str,
    *,
    version: int = SCHEMA_VERSION,
    later: Collection[str] = (),
) -> PartBatch:
    """Make of a part's outcomes, one per row of its plan, the part batch for the embedder.

    version: of the schema, which the tables go on with.  later: which of the later columns images have.
    """
    extra = extra_columns(plan)
    columns: dict[str, Any] = {name: plan[name] for name in MANIFEST_NAMES}
    columns |= {name: [getattr(outcome, name) for outcome in outcomes] for name in _OUTCOME}
    columns["attempts"] = attempts
    columns["faces"] = [len(outcome.faces) for outcome in outcomes]
    columns["embed_ms"] = [None] * len(outcomes)
    columns |= {name: extra[name] for name in extra.column_names}
    further = later_image_fields(later)
    columns |= {each.name: [outcome.left_out.get(each.name) for outcome in outcomes] for each in further}
    images = _cast(columns, image_schema(extra.schema, version, further))
    return PartBatch(part, images, _faces(outcomes, policy), _crops(outcomes), _enlarged(outcomes))


def finish(
    part_batch: PartBatch,
    vectors: np.ndarray,
    seconds: float,
    recipe: Recipe,
    further: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> tuple[pa.Table, pa.Table]:
    """Add the embeddings and split into the final tables of images and faces.

    vectors: (n, dim) float32, one per crop, as the network gave them.  further: the same of each further
    embedder, by its name; they stand behind the columns of faces.  A vector that is not finite, or zero, is
    no embedding: its face is left out, and a photo that loses its last face so is rejected.  Faces that are
    held back are among the faces still (frpipe.io.output.held).
    """
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    lengths = {name: np.linalg.norm(each.astype(np.float64), axis=1) for name, each in further.items()}
    good = np.logical_and.reduce([np.isfinite(each) & (each > 0) for each in (norms, *lengths.values())])
    rows = part_batch.faces[ROW].to_numpy()
    held = is_held(part_batch.faces)
    reasons = [None if each else Reason.NON_FINITE_EMBEDDING.value for each in good.tolist()]
    images = noted(part_batch.images, part_batch.faces, rows, reasons)
    images = _embedded_images(images, rows, good, held, seconds)
    extra, version = extras_of(images.schema), version_of(images.schema)
    faces = part_batch.faces.filter(pa.array(good))
    owners = images.take(faces[ROW])
    unit = _unit(vectors, norms, good)
    columns: dict[str, Any] = {name: faces[name] for name in faces.column_names if name != ROW}
    columns |= {name: owners[name] for name in (*MANIFEST_NAMES, *extra.names)}
    ids, indices = owners["image_id"].to_pylist(), faces["face_index"].to_pylist()
    columns["face_id"] = [f"{image}#{index}" for image, index in zip(ids, indices, strict=True)]
    columns["norm"] = norms[good].astype(np.float32)
    columns["embedding"] = unit
    if IS_SUBJECT in recipe.columns:
        columns[IS_SUBJECT] = subject_faces(images, faces, faces[ROW].to_numpy())
    for name in ("detector_hash", "embedder_hash", "preprocessing_hash"):
        columns[name] = [getattr(recipe, name)] * len(unit)
    back = held_fields(faces.schema)
    schema = face_schema(vectors.shape[1], extra, version, staged_fields(faces.schema), recipe.columns)
    faces = _cast(columns, pa.schema([*schema, *back]))
    for name, each in further.items():
        unit = _unit(each, lengths[name], good)
        faces = behind(faces, name, unit, pa.array(lengths[name][good].astype(np.float32)))
    return images, faces


def _unit(vectors: np.ndarray, norms: np.ndarray, good: np.ndarray) -> pa.FixedSizeListArray:
    """Scale the good ones of (n, dim) vectors to unit length."""
    unit = (vectors[good] / norms[good, None]).astype(np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(unit.reshape(-1)), type=vector_type(vectors.shape[1]))


def _faces(outcomes: Sequence[Located], policy: str) -> pa.Table:
    counts = [len(outcome.faces) for outcome in outcomes]
    seen = [candidate for outcome in outcomes for candidate in outcome.candidates]
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(o.faces.boxes for o in outcomes)])
    points = np.concatenate([np.zeros((0, 5, 2), np.float32), *(o.faces.points for o in outcomes)])
    landmarks = pa.FixedSizeListArray.from_arrays(pa.array(points.reshape(-1)), type=vector_type(10))
    return pa.table(
        {
            ROW: np.repeat(np.arange(len(outcomes)), counts),
            "face_index": np.concatenate(
                [np.zeros(0, np.int32), *(np.arange(n, dtype=np.int32) for n in counts)]
            ),
            "face_policy": pa.array([policy] * sum(counts), pa.string()),
            **{f"box_{name}": boxes[:, i] for i, name in enumerate(("x1", "y1", "x2", "y2"))},
            "score": np.concatenate([np.zeros(0, np.float32), *(o.faces.scores for o in outcomes)]),
            "landmarks": landmarks,
            "eye_distance_px": np.array([v for o in outcomes for v in o.eye_distance_px], np.float32),
            "roll_deg": pa.array([c.roll_deg for c in seen], pa.float32()),
            "detector_face_px": pa.array([c.seen_px for c in seen], pa.float32()),
            "refined": pa.array([c.is_refined for c in seen], pa.bool_()),
            "landmark_error": pa.array([c.landmark_error for c in seen], pa.float32()),
            "sharpness": np.array([v for o in outcomes for v in o.sharpness], np.float32),
        }
    )


def _crops(outcomes: Sequence[Located]) -> np.ndarray:
    crops = [crop for outcome in outcomes for crop in outcome.crops]
    return np.stack(crops) if crops else np.zeros((0, CROP_SIDE, CROP_SIDE, 3), np.uint8)


def _enlarged(outcomes: Sequence[Located]) -> dict[Enlarged, np.ndarray]:
    """Stack the crops of all faces, by kind; photos without faces may have none."""
    kinds = dict.fromkeys(kind for outcome in outcomes for kind in outcome.enlarged)
    found = {
        kind: [crop for outcome in outcomes for crop in outcome.enlarged.get(kind, ())] for kind in kinds
    }
    return {kind: np.stack(crops) for kind, crops in found.items() if crops}


def _embedded_images(
    images: pa.Table, rows: np.ndarray, good: np.ndarray, held: np.ndarray, seconds: float
) -> pa.Table:
    count = images.num_rows
    tried = np.bincount(rows, minlength=count)
    kept = np.bincount(rows[good & ~held], minlength=count)
    lost = (np.bincount(rows[~held], minlength=count) > 0) & (kept == 0)
    share_ms = seconds * 1000 / max(1, len(rows))
    columns: dict[str, Any] = {name: images[name] for name in images.column_names}
    columns["faces"] = kept.astype(np.int32)
    if FACES_HELD.name in columns and held.any():
        counts = np.bincount(rows[good & held], minlength=count)
        columns[FACES_HELD.name] = pa.array(counts, mask=images[FACES_HELD.name].is_null().to_numpy())
    columns["embed_ms"] = pa.array(tried * share_ms, mask=tried == 0)
    if lost.any():
        columns["status"] = _where(lost, Status.REJECTED.value, images["status"])
        columns["reason"] = _where(lost, Reason.NON_FINITE_EMBEDDING.value, images["reason"])
    return _cast(columns, images.schema)


def _where(mask: np.ndarray, value: str, otherwise: pa.ChunkedArray) -> list[str | None]:
    return [value if hit else old for hit, old in zip(mask, otherwise.to_pylist(), strict=True)]


def _cast(columns: dict[str, Any], schema: pa.Schema) -> pa.Table:
    arrays = []
    for field in schema:
        value = columns[field.name]
        if isinstance(value, pa.ChunkedArray | pa.Array):
            arrays.append(value.cast(field.type))
        else:
            arrays.append(pa.array(value, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)
