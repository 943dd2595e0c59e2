"""A stage that measures how bright a face is, and leaves out dark ones."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from frpipe.core.config import Section
from frpipe.core.schema import Column
from frpipe.stages.stage import FaceBatch, FaceStage, StageResult
from frpipe.vision.quality import brightness


class BrightnessSettings(Section):
    """Settings of `brightness`."""

    least: float = Field(0.0, ge=0, le=255, description="mean grey below which a face is left out")


class Brightness(FaceStage):
    """Mean grey of each aligned crop, and of each photo's brightest."""

    name = "brightness"
    version = 1
    settings = BrightnessSettings
    face_columns = (
        Column("brightness", pa.float32(), "mean grey of the aligned crop, 0 black to 255 white"),
    )
    image_columns = (Column("brightest_face", pa.float32(), "the highest `brightness` of its faces", True),)
    reasons: ClassVar = {"too_dark": "the mean grey is below `stages.brightness.least`"}

    def process(self, batch: FaceBatch) -> StageResult:
        values = np.array([brightness(crop) for crop in batch.crops], np.float32)
        brightest = np.zeros(batch.images.num_rows, np.float32)
        np.maximum.at(brightest, batch.faces["row"].to_numpy(), values)
        reasons = ["too_dark" if value < self.given.least else None for value in values]
        return StageResult({"brightness": values}, {"brightest_face": brightest}, reasons)
