"""Tabulate the rows that identification publishes from candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.calibration import CalibrationMap
from frpipe.core.schema import IS_SUBJECT
from frpipe.jobs.identify.schema import (
    CANDIDATE,
    LATER_PROBE_COLUMNS,
    PROBE_SCHEMA,
    RATIO,
    RATIO_COLUMN,
    probe_schema,
)
from frpipe.jobs.ratios import ratios_of
from frpipe.jobs.subject_faces import SUBJECT_FACE_NAMES, SUBJECT_IMAGE_NAMES, are_subjects
from frpipe.matching.ranking import Ranking

IMAGE_NAMES = ("image_id", "image_uri", "subject_id", "status", "reason", "faces", *SUBJECT_IMAGE_NAMES)
FACE_NAMES = ("image_id", "face_id", *SUBJECT_FACE_NAMES)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The rule by which candidates become decisions.

    threshold: a similarity; None: a closed set, where the nearest is named.  facts: of the gallery, the same
    in every row.  calibration: for the ratios beside similarities; None: no such columns.  later: which of
    LATER_PROBE_COLUMNS there are.
    """

    threshold: float | None
    facts: dict[str, Any]
    calibration: CalibrationMap | None = None
    later: tuple[str, ...] = LATER_PROBE_COLUMNS

    def table(self, images: pa.Table, faces: pa.Table, ranking: Ranking) -> pa.Table:
        """Tabulate a unit, in the order of its photos. ranking: of its faces, by `Ranking.top`."""
        candidates = _candidates(ranking, faces.num_rows, self.calibration)
        rank1 = _firsts(ranking, faces.num_rows)
        failures = images.filter(pc.equal(images["faces"], 0))
        # For each row the number of its face, or null, and that of its photo.
        face = pa.array([*range(faces.num_rows), *[None] * failures.num_rows], pa.int64())
        photo_ids = pa.concat_arrays(
            [faces["image_id"].combine_chunks(), failures["image_id"].combine_chunks()]
        )
        photo = pc.index_in(photo_ids, value_set=images["image_id"].combine_chunks())
        order = pc.sort_indices(pa.table({"p": photo, "f": face}), [("p", "ascending"), ("f", "ascending")])
        face, photo = face.take(order), photo.take(order)
        columns: dict[str, Any] = {
            name: images[name].take(photo) for name in ("image_id", "image_uri", "status", "reason")
        }
        columns["probe_subject_id"] = images["subject_id"].take(photo)
        columns["face_id"] = faces["face_id"].take(face)
        if IS_SUBJECT in self.later:
            columns[IS_SUBJECT] = pa.array(are_subjects(images, faces)).take(face)
        columns["candidates"] = candidates.take(face)
        for name, values in rank1.items():
            columns[f"rank1_{name}"] = values.take(face)
        columns["decision"] = self._decisions(face, columns["rank1_similarity"])
        facts = {"threshold_similarity": self.threshold, **self.facts}
        columns |= {
            name: pa.repeat(pa.scalar(value, PROBE_SCHEMA.field(name).type), len(face))
            for name, value in facts.items()
        }
        schema = probe_schema(self.later, calibrated=self.calibration is not None)
        if self.calibration is not None:
            columns[RATIO_COLUMN.name] = ratios_of(self.calibration, columns["rank1_similarity"])
        return pa.table([columns[name] for name in schema.names], schema=schema)

    def _decisions(self, face: pa.Array, similarity: pa.Array) -> pa.Array:
        nobody = "stranger" if self.threshold is not None else None
        found = pc.fill_null(
            pc.greater_equal(similarity, -9 if self.threshold is None else self.threshold), False
        )
        decided = pc.if_else(found, "identified", pa.scalar(nobody, pa.string()))
        return pc.if_else(face.is_valid(), decided, pa.scalar(None, pa.string()))


def _candidates(ranking: Ranking, probes: int, calibration: CalibrationMap | None) -> pa.ListArray:
    edges = _edges(ranking, probes)
    rank = np.arange(len(ranking.probe)) - edges[ranking.probe] + 1
    similarity = pa.array(ranking.similarity)
    arrays = [
        pa.array(rank.astype(np.int32)),
        ranking.subject_id,
        similarity,
        pa.array(1 - ranking.similarity),
    ]
    fields, schema = list(CANDIDATE), probe_schema(calibrated=calibration is not None)
    if calibration is not None:
        arrays.append(ratios_of(calibration, similarity))
        fields = [*fields, RATIO]
    values = pa.StructArray.from_arrays(arrays, fields=fields)
    return pa.ListArray.from_arrays(
        pa.array(edges.astype(np.int32)), values, type=schema.field("candidates").type
    )


def _firsts(ranking: Ranking, probes: int) -> dict[str, pa.Array]:
    """The best candidate of each probe; null where there is none."""
    edges = _edges(ranking, probes)
    first = pa.array(edges[:-1], mask=np.diff(edges) == 0)
    similarity = pa.array(ranking.similarity).take(first)
    return {
        "subject_id": ranking.subject_id.take(first),
        "similarity": similarity,
        "distance": pc.subtract(1.0, similarity),
    }


def _edges(ranking: Ranking, probes: int) -> NDArray[np.int64]:
    return np.searchsorted(ranking.probe, np.arange(probes + 1)).astype(np.int64)
