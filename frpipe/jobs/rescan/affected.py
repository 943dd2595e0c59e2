"""Select photos of a run of a single look that second looks may change; the others are carried over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.config import SINGLE_LOOK_BUCKETS_PX, SINGLE_LOOK_SIDE_PX, Config
from frpipe.core.errors import ConfigError, OutputError
from frpipe.core.left_out import columns_there
from frpipe.core.reasons import Status
from frpipe.core.recipe import SINGLE_LOOK, Recipe
from frpipe.core.schema import (
    IS_SUBJECT,
    extras_of,
    face_schema,
    image_schema,
    later_image_fields,
    reserved_names,
    staged_fields,
)
from frpipe.io.output.embeddings import fields_behind
from frpipe.io.output.features import Features
from frpipe.io.output.held import held_fields
from frpipe.jobs.features import flat, stored_settings
from frpipe.jobs.rescan.criteria import (
    FACE_NAMES,
    IMAGE_NAMES,
    Cause,
    Criteria,
    Scope,
    of_scope,
    points_of,
    roll_or_none,
)
from frpipe.stages.models import Models
from frpipe.stages.subject_face import subject_faces

# What makes a recipe one that looks again; all else must be the run's.
_LOOKS = {"algorithm", "schema_version", "looks", "columns"} | {
    f"settings.detect.{name}"
    for name in ("turns", "refine", "min_face_px", "not_photographs", "max_side_px", "bucket_sides_px")
}
_SINGLE_LOOK = {"turns", "refine", "not_photographs", "min_face_px"}


Tables = tuple[pa.Table, pa.Table]
"""Images and faces."""


@dataclass(frozen=True)
class Affected:
    """The selection of affected photos. criteria: which they are.  causes: those that count."""

    criteria: Criteria
    causes: frozenset[str]

    @classmethod
    def of(cls, run: Mapping[str, Any], config: Config, scope: Scope = "all") -> Self:
        """Make a selection. run: the recipe of a run, as in its run.json.  config: to look again with.

        Raises OutputError where the run looked again already, or its detector cannot; ConfigError where the
        configuration leaves out the second looks.
        """
        if run["algorithm"] != SINGLE_LOOK:
            raise OutputError(
                "the run was made by a recipe that looks again: nothing of it is affected",
                "to change its settings, enroll its manifest anew",
            )
        models = Models.of(config)
        if models.detector.looks is None:
            raise OutputError(
                f"the card of {models.detector.name} has no `looks`: it can look at a photo only once",
                "enroll with another detector, or measure this one (docs/new-model.md)",
            )
        if models.detector.sha256 != run["detector"]["sha256"]:
            raise OutputError(
                f"{models.detector.name} has other weights than those that made the run",
                "use the card of that time, or enroll the manifest anew",
            )
        if (config.detect.turns, config.detect.refine) != ("auto", "auto"):
            raise ConfigError(
                "detect.turns and detect.refine are what a rescan is for",
                "leave both at auto",
            )
        criteria = Criteria(models.detector, run["settings"]["detect"], models.config.detect)
        return cls(criteria, frozenset(cause.value for cause in of_scope(scope)))

    def __str__(self) -> str:
        left = ", ".join(sorted(frozenset(Cause) - self.causes))
        return f"affected by the single look{f', but for {left}' if left else ''}"

    def in_part(self, run: Features, part: int) -> pa.ChunkedArray:
        """Mark the images of a published part that are meant, (rows,) bool."""
        return self.among(*run.part(part, IMAGE_NAMES, FACE_NAMES))

    def among(self, images: pa.Table, faces: pa.Table) -> pa.ChunkedArray:
        """Mark the images that are meant, (rows,) bool, of tables that were read."""
        found = self.criteria.causes(images, faces)
        hits = [hit for cause, hit in found.items() if cause in self.causes]
        return pa.chunked_array([np.any(hits, axis=0)])

    def changes(self, run: Recipe, schema_version: int, again: Recipe, extra: pa.Schema) -> dict[str, Any]:
        """Settings of the recipe that looks again which differ from the run's, by name.

        extra: the manifest's own columns. Raises OutputError where anything else differs, or a column of the
        manifest has the name of a new one.
        """
        theirs = flat(json.loads(json.dumps(run.as_dict()))) | {"schema_version": schema_version}
        ours = flat(json.loads(json.dumps(again.as_dict()))) | {"schema_version": again.schema_version}
        differing = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
        refused = [name for name in differing if name not in _LOOKS and not name.startswith("looks.")]
        if refused:
            said = (
                f"{n.removeprefix('settings.')} was {theirs.get(n)}, is {ours.get(n)}" for n in refused[:5]
            )
            raise OutputError(
                "a rescan changes how faces are looked for, and nothing else: " + "; ".join(said),
                "leave these settings out, and replay once more with them afterwards",
            )
        taken = sorted(reserved_names(again.schema_version, again.columns) & set(extra.names))
        if taken:
            raise OutputError(
                f"columns of the manifest have names that are ours now: {', '.join(taken)}",
                "rename them in the manifest, and enroll it anew",
            )
        names = [n for n in differing if n.startswith("settings.") and n in ours]
        return {name.removeprefix("settings."): ours[name] for name in names}


def settings_to_look_again(uri: str) -> list[str]:
    """The settings of a run as `--set` takes them, without those of a single look.

    A side or buckets that are those of every first recipe were no choice. Raises OutputError: no run.
    """
    kept = []
    defaults = {
        "detect.max_side_px": SINGLE_LOOK_SIDE_PX,
        "detect.bucket_sides_px": list(SINGLE_LOOK_BUCKETS_PX),
    }
    for setting in stored_settings(uri):
        name, _, value = setting.partition("=")
        if name in {f"detect.{each}" for each in _SINGLE_LOOK} or json.loads(value) == defaults.get(name, ()):
            continue
        kept.append(setting)
    return kept


@dataclass(frozen=True)
class Carry:
    """Carry rows of a single-look run over to the recipe that looks again; faces then bear its hash."""

    criteria: Criteria
    recipe: Recipe

    def over(self, images: pa.Table, faces: pa.Table) -> Tables:
        """Rewrite a part in the columns of the new recipe, filled with what a sure face of a single look has.

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
        later, known = later_image_fields(self.recipe.columns), {*columns_there(images.schema).values()}
        new_images |= {each.name: pa.nulls(len(ok), pa.string()) for each in later if each.name not in known}
        staged = [*later, *(each for each in staged_fields(images.schema) if each.name not in known)]
        dim = faces.schema.field("embedding").type.list_size
        ours = face_schema(dim, extra, version, staged_fields(faces.schema), self.recipe.columns)
        schema = pa.schema([*ours, *fields_behind(faces.schema), *held_fields(faces.schema)])
        return (
            _with(images, new_images, image_schema(extra, version, staged)),
            _with(faces, self._of_faces(images, faces, scales), schema),
        )

    def _of_faces(self, images: pa.Table, faces: pa.Table, scales: np.ndarray) -> dict[str, pa.Array]:
        owners = pc.index_in(faces["image_id"], value_set=images["image_id"].combine_chunks()).to_numpy()
        across, down = (
            faces[f"box_{axis}2"].to_numpy() - faces[f"box_{axis}1"].to_numpy() for axis in ("x", "y")
        )
        count, subject = faces.num_rows, subject_faces(images, faces, owners)
        return {
            "roll_deg": pa.array([roll_or_none(marks) or 0.0 for marks in points_of(faces)], pa.float32()),
            "detector_face_px": pa.array(np.maximum(across, down) * scales[owners], pa.float32()),
            "refined": pa.array(np.zeros(count, np.bool_)),
            # An output begun without it may have one of the manifest's by that name.
            **({IS_SUBJECT: pa.array(subject)} if IS_SUBJECT in self.recipe.columns else {}),
            "landmark_error": pa.nulls(count, pa.float32()),
            "preprocessing_hash": pa.array([self.recipe.preprocessing_hash] * count, pa.string()),
        }


def _with(table: pa.Table, new: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    """Cast a table to another schema in which some columns are new."""
    columns = [
        (pa.chunked_array([new[field.name]]) if field.name in new else table[field.name]).cast(field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
