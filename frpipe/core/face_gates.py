"""Limits that a face must meet to go into a gallery, as settings and options name them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from frpipe.core.config import Section, Share


class FaceGates(Section):
    """Limits of a face on its way into a gallery. They need the columns of the stages `quality` and `pad`."""

    preset: Literal["enrolment"] | None = Field(
        None,
        description="limits for those that are null: the preset of the stage `quality`; no `min_pad`",
    )
    min_pad: Share | None = Field(None, description="least pad_score, 0 to 1")
    max_yaw_deg: Annotated[float, Field(ge=0, le=180)] | None = Field(
        None, description="largest yaw to either side, degrees"
    )
    min_inter_eye_px: float | None = Field(None, ge=0, description="least inter_eye_px, pixels of the photo")
    min_quality: Annotated[float, Field(ge=0, le=100)] | None = Field(
        None, description="least quality_score, 0 to 100"
    )
    allow_unassessed: bool = Field(
        False, description="whether a face passes a limit whose measure could not be assessed"
    )
