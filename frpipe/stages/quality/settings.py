"""The settings of the stage `quality`, and its presets of limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from frpipe.core.config import Section
from frpipe.stages.quality.measures import BY_NAME

# YAML takes a bare `off` for false.
Policy = Annotated[
    Literal["off", "flag", "reject"], BeforeValidator(lambda value: "off" if value is False else value)
]
Score = Annotated[float, Field(ge=0, le=100)]
Degrees = Annotated[float, Field(ge=0, le=180)]

# What it costs of good faces is measured in docs/quality.md.
PRESETS: Final[Mapping[str, Mapping[str, float]]] = {
    "enrolment": {"min_quality": 40.0, "max_yaw_deg": 40.0, "min_inter_eye_px": 20.0}
}
"""Limits by the name of the preset."""


class QualitySettings(Section):
    """Settings of `quality`."""

    policy: Policy = Field(
        "flag",
        description="off: nothing is measured, as without the stage; flag: faces beyond a limit are marked; "
        "reject: they are held back",
    )
    model: str | None = Field(
        None, description="a card of role quality, e.g. lightqnet_dm100; null: no learned score"
    )
    pose_model: str | None = Field(
        None, description="a card of role pose, for yaw and pitch; null: from the five points"
    )
    preset: Literal["enrolment"] | None = Field(
        None,
        description="limits for those that are null: enrolment asks for "
        + ", ".join(f"{name} {value:g}" for name, value in PRESETS["enrolment"].items()),
    )
    min_quality: Score | None = Field(None, description="least quality_score, 0 to 100")
    max_yaw_deg: Degrees | None = Field(None, description="largest yaw to either side, degrees")
    max_pitch_deg: Degrees | None = Field(None, description="largest pitch, up or down, degrees")
    max_roll_deg: Degrees | None = Field(None, description="largest roll to either side, degrees")
    min_inter_eye_px: float | None = Field(None, ge=0, description="least inter_eye_px, pixels of the photo")
    min_scores: dict[str, Score] = Field(
        {}, description="least components of other measures, e.g. {ofiq_like_dynamic_range: 50}"
    )

    @field_validator("min_scores", mode="before")
    @classmethod
    def _measures(cls, scores: Any) -> Any:
        """Check the names before the numbers: `{noise:40}`, without a blank, is a name to YAML."""
        for name in scores if isinstance(scores, dict) else ():
            if name not in BY_NAME:
                raise ValueError(f"{name!r} is no measure; there are {', '.join(BY_NAME)}")
        return scores

    @model_validator(mode="after")
    def _limited(self) -> Self:
        if self.policy == "reject" and not self.limits:
            raise ValueError("policy reject needs a limit: preset: enrolment, or one of min_ and max_")
        return self

    @property
    def limits(self) -> dict[str, float]:
        """The limits by setting, `min_scores.NAME` among them; the preset's where a setting is null."""
        own: dict[str, Any] = {name: getattr(self, name) for name in LIMITS}
        given = {name: float(value) for name, value in own.items() if value is not None}
        preset = PRESETS[self.preset] if self.preset else {}
        scores = {f"min_scores.{name}": float(value) for name, value in sorted(self.min_scores.items())}
        return {**preset, **given, **scores}


LIMITS: Final = ("min_quality", "max_yaw_deg", "max_pitch_deg", "max_roll_deg", "min_inter_eye_px")
