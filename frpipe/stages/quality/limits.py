"""Compare the measures of faces with limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from frpipe.stages.quality.measures import Raw
from frpipe.vision.quality.component import Floats

# Of each limit the measure that it is on; of one on a component, `min_scores.NAME`, it follows.
_ANGLES: Final = {"max_yaw_deg": "pose_yaw", "max_pitch_deg": "pose_pitch", "max_roll_deg": "pose_roll"}


REASONS: Final = {
    "quality_too_low": "`quality_score` or a component is below its limit, or could not be assessed",
    "turned_too_far": "yaw, pitch or roll is beyond its limit",
    "eyes_too_close": "`inter_eye_px` is below its limit, or could not be assessed in profile",
}
"""Why a face is held back, with what that means."""


class Unmet(NamedTuple):
    """A limit that a face does not meet. measure: the column.  value: NaN where it could not be assessed."""

    setting: str
    measure: str
    value: float
    limit: float

    @property
    def reason(self) -> str:
        """The reason to leave the face out, one of `REASONS`."""
        if self.setting in _ANGLES:
            return "turned_too_far"
        return "eyes_too_close" if self.setting == "min_inter_eye_px" else "quality_too_low"


def unmet(limits: Mapping[str, float], raw: Raw, scores: Raw, quality: Floats) -> list[list[Unmet]]:
    """The limits that each face does not meet, in their order.

    What could not be assessed meets no limit: a gate lets in what it has seen to be good. Values are compared
    as they are written, in float32, so that whoever asks the columns finds the same faces.
    """
    found: list[list[Unmet]] = [[] for _ in quality]
    for setting, limit in limits.items():
        column, precise, sign = _limited(setting, raw, scores, quality)
        values = precise.astype(np.float32).astype(np.float64)
        for row in np.flatnonzero(~(sign * values >= sign * limit)):
            found[row].append(Unmet(setting, column, float(values[row]), limit))
    return found


def _limited(setting: str, raw: Raw, scores: Raw, quality: Floats) -> tuple[str, Floats, int]:
    """The column of a limit's measure, its values, and 1 for a lower limit, -1 for an upper one."""
    if setting == "min_quality":
        return "quality_score", quality, 1
    if setting == "min_inter_eye_px":
        return "inter_eye_px", raw["inter_eye"], 1
    if setting in _ANGLES:
        return f"{_ANGLES[setting]}_deg", np.abs(raw[_ANGLES[setting]]), -1
    name = setting.removeprefix("min_scores.")
    return f"{name}_score", scores[name], 1
