"""A stage that holds back faces that are dim."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from frpipe.stages.stage import Column, FaceBatch, FaceStage, Held, Section, StageResult


class DimSettings(Section):
    """Settings of `dim`."""

    least: float = Field(0.0, ge=0, le=255, description="mean grey below which a face is held back")


class Dim(FaceStage):
    """Mean grey of each aligned crop."""

    name = "dim"
    version = 1
    section = DimSettings
    face_columns = (Column("grey", pa.float32(), "mean grey of the aligned crop, 0 black to 255 white"),)
    reasons: ClassVar = {"too_dim": "the mean grey is below `stages.dim.least`"}
    holds = True
    gates = ("least",)

    def process(self, batch: FaceBatch) -> StageResult:
        values = batch.crops.mean(axis=(1, 2, 3)).astype(np.float32)
        least = self.settings.least
        held = [Held("too_dim", "grey", float(grey), least) if grey < least else None for grey in values]
        return StageResult({"grey": values}, held=held)
