"""The stage `quality`: measure each face, and mark or hold back those beyond a limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, NamedTuple

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from frpipe.core.errors import ModelError
from frpipe.models.card import Card, PoseSpec, QualitySpec
from frpipe.models.crop_model import CropModel
from frpipe.stages.quality.measures import (
    LEARNED,
    MEASURES,
    Raw,
    components,
    failures,
    measured,
    points_of,
    quality_score,
)
from frpipe.stages.quality.settings import LIMITS, QualitySettings
from frpipe.stages.stage import Column, Enlarged, FaceBatch, FaceStage, Held, StageResult
from frpipe.vision.quality.component import Floats, sigmoid, whole
from frpipe.vision.quality.pose import Pose, pose_of_points, pose_of_rotations

_WIDE = "pose"


# Of each limit the measure that it is on; of one on a component, `min_scores.NAME`, it follows.
_ANGLES: Final = {"max_yaw_deg": "pose_yaw", "max_pitch_deg": "pose_pitch", "max_roll_deg": "pose_roll"}

REASONS: Final = {
    "quality_too_low": "`quality_score` or a component is below its limit, or could not be assessed",
    "turned_too_far": "yaw, pitch or roll is beyond its limit",
    "eyes_too_close": "`inter_eye_px` is below its limit, or could not be assessed in profile",
}
"""Why a face is held back, with what that means."""


class Quality(FaceStage):
    """Measures of quality after ISO/IEC 29794-5, with limits."""

    name = "quality"
    version = 1
    section = QualitySettings
    roles: ClassVar = {"model": "quality", "pose_model": "pose"}
    reasons: ClassVar = REASONS
    holds = True
    gates = ("policy", "preset", *LIMITS, "min_scores")
    face_columns = (
        Column("quality_score", pa.float32(), "0 to 100: the least of the components that decide"),
        Column("quality_flags", pa.string(), "with policy flag: limits that it does not meet", True),
        Column("quality_failures", pa.string(), "measures that could not be assessed, and why", True),
        Column(LEARNED, pa.float32(), "what the network of `model` says; null without one", True),
        Column(f"{LEARNED}_score", pa.int8(), "component of learned quality, 0 to 100", True),
        *(column for measure in MEASURES for column in measure.columns),
    )

    @classmethod
    def enlarged(cls, settings: QualitySettings, cards: Mapping[str, Card]) -> Mapping[str, Enlarged]:
        card = cards.get("pose_model")
        return {_WIDE: _window(card)} if card else {}

    @classmethod
    def judged_otherwise(
        cls, settings: QualitySettings, cards: Mapping[str, Card], faces: pa.Table
    ) -> NDArray[np.bool_]:
        raw = {measure.name: _numbers(faces[measure.raw]) for measure in MEASURES}
        scores = {measure.name: _numbers(faces[f"{measure.name}_score"]) for measure in MEASURES}
        scores[LEARNED] = _numbers(faces[f"{LEARNED}_score"])
        beyond = unmet(settings.limits, raw, scores, _numbers(faces["quality_score"]))
        flags = zip(map(_flags, beyond), faces["quality_flags"].to_pylist(), strict=True)
        if settings.policy == "reject":
            return np.array([bool(new or old) for new, old in flags], bool)
        return np.array([new != old for new, old in flags], bool)

    def process(self, batch: FaceBatch) -> StageResult:
        raw = measured(batch, self._pose(batch))
        scores = components(raw)
        learned = self._learned(batch.crops)
        if learned is not None:
            scores[LEARNED] = learned[1]
        quality = quality_score(scores)
        beyond = unmet(self.settings.limits, raw, scores, quality)
        holds = self.settings.policy == "reject"
        flags = [None if holds else _flags(some) for some in beyond]
        held = [Held(some[0].reason, *some[0][1:]) if holds and some else None for some in beyond]
        count = len(batch.crops)
        return StageResult(
            {
                "quality_score": quality,
                "quality_flags": flags,
                "quality_failures": failures(raw),
                LEARNED: _floats(learned[0]) if learned else pa.nulls(count, pa.float32()),
                f"{LEARNED}_score": _bytes(learned[1]) if learned else pa.nulls(count, pa.int8()),
                **{measure.raw: _floats(raw[measure.name]) for measure in MEASURES},
                **{f"{measure.name}_score": _bytes(scores[measure.name]) for measure in MEASURES},
            },
            held=held,
        )

    def _learned(self, crops: NDArray[np.uint8]) -> tuple[Floats, Floats] | None:
        """The learned quality that the network gives, and its component."""
        model = self.models.get("model")
        return learned_quality(model, crops) if model else None

    def _pose(self, batch: FaceBatch) -> Pose | None:
        """The pose: yaw and pitch by the network, whose crops are turned by quarters; roll by the points."""
        model = self.models.get("pose_model")
        if model is None:
            return None
        yaw, pitch, _ = network_pose(model, batch.enlarged[_WIDE])
        return Pose(yaw, pitch, pose_of_points(points_of(batch)).roll)


def learned_quality(model: CropModel, crops: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Qualities, (n,), that a network of role quality gives aligned crops (n, 112, 112, 3), and components.

    The crops are resized bilinearly to what the card says. Raises ModelError: it gives no number for a crop.
    """
    size = model.card.input.size
    if isinstance(size, tuple) and size != (crops.shape[2], crops.shape[1]):
        crops = np.stack([cv2.resize(crop, size, interpolation=cv2.INTER_LINEAR) for crop in crops])
    outputs = model.run(crops)
    if outputs[0].size != len(crops) or not np.isfinite(outputs[0]).all():
        raise ModelError(
            f"{model.card.name} does not give one number for each crop",
            "bring the weights that its card describes",
        )
    raw = outputs[0].reshape(-1).astype(np.float64)
    spec = model.card.quality or QualitySpec()
    return raw, whole(100.0 * (raw if spec.x0 is None else sigmoid(raw, spec.x0, spec.w)))


def network_pose(model: CropModel, crops: NDArray[np.uint8]) -> Pose:
    """The pose of heads by a network of role pose, from the crops that its card asks for.

    Raises ModelError: it gives no rotation for each crop.
    """
    outputs = model.run(crops)
    if outputs[0].shape != (len(crops), 3, 3):
        raise ModelError(
            f"{model.card.name} does not give a 3 x 3 rotation for each crop",
            "bring the weights that its card describes",
        )
    spec = model.card.pose or PoseSpec()
    yaw, pitch, roll = pose_of_rotations(outputs[0])
    return Pose(spec.yaw_sign * yaw, spec.pitch_sign * pitch, roll)


def _window(card: Card) -> Enlarged:
    """The crops that a card of role pose asks for. Raises ModelError: their size is not fixed and square."""
    size, spec = card.input.size, card.pose or PoseSpec()
    if isinstance(size, str) or size[0] != size[1]:
        raise ModelError(f"{card.name} takes crops of {size}, and not a fixed square", "mend its card")
    return Enlarged(scale=spec.scale, side=size[0], border=spec.border)


def _flags(beyond: Sequence[Unmet]) -> str | None:
    """The value of `quality_flags`: the limits that a face does not meet."""
    return ", ".join(each.setting for each in beyond) or None


def _numbers(column: pa.ChunkedArray) -> Floats:
    """A column as it was written, NaN where it is null."""
    return np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)


def _floats(values: Floats) -> pa.Array:
    """A column of float32, null where the value is NaN."""
    unknown = np.isnan(values)
    return pa.array(values.astype(np.float32), mask=unknown if unknown.any() else None)


def _bytes(values: Floats) -> pa.Array:
    """A column of int8, null where the value is NaN."""
    unknown = np.isnan(values)
    if not unknown.any():
        return pa.array(values.astype(np.int8))
    return pa.array(np.where(unknown, 0, values).astype(np.int8), mask=unknown)


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
