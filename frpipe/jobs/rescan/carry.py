"""Rows of a run of a single look as the recipe that looks again would have written them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.reasons import Status
from frpipe.core.recipe import Recipe
from frpipe.core.schema import extras_of, face_schema, image_schema, staged_fields
from frpipe.io.output.embeddings import fields_behind
from frpipe.jobs.rescan.criteria import Criteria, points_of, roll_or_none

Tables = tuple[pa.Table, pa.Table]
"""Images and faces."""


@dataclass(frozen=True)
class Carry:
    """recipe: of the new output, whose hash the faces bear from here on."""

    criteria: Criteria
    recipe: Recipe

    def over(self, images: pa.Table, faces: pa.Table) -> Tables:
        """A part in the columns of the new recipe: what they say is what a sure face of a single look has.

        Of rows that are done again it says nothing; they are replaced.
        """
        version, extra = self.recipe.schema_version, extras_of(images.schema)
        scales = self.criteria.scales(images)
        ok = np.asarray(pc.equal(images["status"], Status.OK.value).to_numpy())
        least = [px if fine else None for px, fine in zip(self.criteria.least_px(images), ok, strict=True)]
        nothing = np.zeros(len(ok), np.int64)
        new_images = {
            "turn_deg": pa.array(nothing, mask=~ok),
            "faces_refused": pa.array(nothing, mask=~ok),
            "least_face_px": pa.array(least, pa.float32()),
        }
        dim = faces.schema.field("embedding").type.list_size
        return (
            _with(images, new_images, image_schema(extra, version, staged_fields(images.schema))),
            _with(
                faces,
                self._of_faces(images, faces, scales),
                pa.schema(
                    [
                        *face_schema(dim, extra, version, staged_fields(faces.schema)),
                        *fields_behind(faces.schema),
                    ]
                ),
            ),
        )

    def _of_faces(self, images: pa.Table, faces: pa.Table, scales: np.ndarray) -> dict[str, pa.Array]:
        owners = pc.index_in(faces["image_id"], value_set=images["image_id"].combine_chunks()).to_numpy()
        across, down = (
            faces[f"box_{axis}2"].to_numpy() - faces[f"box_{axis}1"].to_numpy() for axis in ("x", "y")
        )
        count = faces.num_rows
        return {
            "roll_deg": pa.array([roll_or_none(marks) or 0.0 for marks in points_of(faces)], pa.float32()),
            "detector_face_px": pa.array(np.maximum(across, down) * scales[owners], pa.float32()),
            "refined": pa.array(np.zeros(count, np.bool_)),
            "landmark_error": pa.nulls(count, pa.float32()),
            "preprocessing_hash": pa.array([self.recipe.preprocessing_hash] * count, pa.string()),
        }


def _with(table: pa.Table, new: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    """The table in another schema, some columns being new."""
    columns = [
        (pa.chunked_array([new[field.name]]) if field.name in new else table[field.name]).cast(field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
