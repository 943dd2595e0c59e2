"""The gate between an enroll output and a gallery, by limits of the measures of faces.

It asks of the face that was chosen for a photo's person, after the choice: were faces that do not pass left
out before, a bystander would become the person. `held/` is of faces that a stage refused at enroll; here are
those that a run has let in, with its measures beside them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.errors import ConfigError
from frpipe.core.face_gates import FaceGates
from frpipe.core.schema import stage_of
from frpipe.core.text_column import canonical_column
from frpipe.gallery.schema import FACE_ID
from frpipe.stages.quality.settings import PRESETS

GATED = "frpipe.gated"
"""A column of templates that are on their way: why a gate keeps a face out, null where it does not."""
GATE = "gate"
"""Why a face that was chosen is left out: a limit of the gate is not met."""


class _Limit(NamedTuple):
    """A limit: the stage that measures, its column, and 1 for a lower limit, -1 for an upper one."""

    stage: str
    column: str
    sign: int


# The most telling first: `quality_score` is the least of several measures, yaw among them.
_LIMITS: Final[Mapping[str, _Limit]] = {
    "min_pad": _Limit("pad", "pad_score", 1),
    "max_yaw_deg": _Limit("quality", "pose_yaw_deg", -1),
    "min_inter_eye_px": _Limit("quality", "inter_eye_px", 1),
    "min_quality": _Limit("quality", "quality_score", 1),
}
_ALLOWED = "allow_unassessed"


@dataclass(frozen=True, slots=True)
class FaceGate:
    """Limits by the names of their settings; none at all: every face passes."""

    limits: Mapping[str, float]
    allow_unassessed: bool = False

    @classmethod
    def of(cls, gates: FaceGates) -> Self:
        """Make a gate of the limits that are set, those of the preset where a setting is null."""
        own = {name: getattr(gates, name) for name in _LIMITS}
        preset = PRESETS[gates.preset] if gates.preset else {}
        given = {**preset, **{name: value for name, value in own.items() if value is not None}}
        return cls({name: float(given[name]) for name in _LIMITS if name in given}, gates.allow_unassessed)

    @classmethod
    def read(cls, text: str) -> Self:
        """Read the gate that `str` has written."""
        limits = {str(name): float(value) for name, value in json.loads(text or "{}").items()}
        allowed = bool(limits.pop(_ALLOWED, 0))
        return cls(limits, allowed)

    def __str__(self) -> str:
        return json.dumps({**self.limits, **({_ALLOWED: 1} if self.allow_unassessed else {})})

    def __bool__(self) -> bool:
        return bool(self.limits)

    def words(self) -> str:
        """The limits, for people."""
        return ", ".join(f"{name} {value:g}" for name, value in self.limits.items())

    @property
    def stages(self) -> list[str]:
        """The names of the stages whose columns the gate needs."""
        return list(dict.fromkeys(_LIMITS[name].stage for name in self.limits))

    def check(self, faces: pa.Schema) -> None:
        """Raise ConfigError where `faces` of an output lacks a measure; a manifest's own column is none."""
        measured = {field.name for field in faces if stage_of(field) is not None}
        for name in self.limits:
            limit = _LIMITS[name]
            if limit.column not in measured:
                raise ConfigError(
                    f"{name} needs the column {limit.column}, and the faces of this output have none",
                    f"enroll into a new output with --set {limit.stage}.policy=flag; or leave the limit out",
                )

    def marked(self, templates: pa.Table, faces: pa.Table) -> pa.Table:
        """Add the column GATED to templates. faces: of the same part, those of the templates among them."""
        at = pc.index_in(templates[FACE_ID], value_set=canonical_column(faces[FACE_ID]).combine_chunks())
        reasons = self._reasons(faces.select([_LIMITS[name].column for name in self.limits]).take(at))
        return templates.append_column(pa.field(GATED, pa.string()), pa.array(reasons, pa.string()))

    def passing(self, templates: pa.Table, faces: pa.Table) -> pa.Table:
        """Choose the templates that the gate lets in."""
        if not self:
            return templates
        marked = self.marked(templates, faces)
        return marked.filter(marked[GATED].is_null()).drop_columns([GATED])

    def _reasons(self, measures: pa.Table) -> list[str | None]:
        """Find the first limit that each face does not meet, as `unmet` reads it; None: it meets all."""
        reasons: list[str | None] = [None] * measures.num_rows
        for name, number in reversed(list(self.limits.items())):
            column, sign = _LIMITS[name].column, _LIMITS[name].sign
            values = _values(measures[column], name)
            # Measures are stored as float32: a limit is compared as such, so that one at it is met.
            beyond = sign * values < sign * np.float32(number)
            if not self.allow_unassessed:
                beyond |= np.isnan(values)
            for row in np.flatnonzero(beyond):
                value = None if np.isnan(values[row]) else float(values[row])
                reasons[row] = json.dumps([column, value, number])
        return reasons


def unmet(reason: str) -> tuple[str, float | None, float]:
    """Read a value of the column GATED: measure, value and limit."""
    measure, value, limit = json.loads(reason)
    return measure, value, limit


def _values(column: pa.ChunkedArray, name: str) -> NDArray[np.float32]:
    values: NDArray[np.float32] = column.cast(pa.float32()).to_numpy()
    return np.abs(values) if name == "max_yaw_deg" else values
