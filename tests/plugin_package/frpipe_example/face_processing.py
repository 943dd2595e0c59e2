"""A stage that evens out the light of a face before it is embedded."""

from __future__ import annotations

import cv2
import numpy as np
from pydantic import Field

from frpipe.stages.stage import FaceBatch, FaceStage, Section, StageResult


class FaceProcessingSettings(Section):
    """Settings of `face_processing`."""

    clip: float = Field(2.0, ge=1, le=40, description="how much contrast may be enlarged")


class FaceProcessing(FaceStage):
    """The lightness of each aligned crop, equalised in 4 x 4 tiles."""

    name = "face_processing"
    version = 1
    section = FaceProcessingSettings
    changes_vectors = True

    def process(self, batch: FaceBatch) -> StageResult:
        equaliser = cv2.createCLAHE(self.settings.clip, (4, 4))
        crops = np.empty_like(batch.crops)
        for number, crop in enumerate(batch.crops):
            lab = cv2.cvtColor(crop, cv2.COLOR_RGB2LAB)
            lab[..., 0] = equaliser.apply(np.ascontiguousarray(lab[..., 0]))
            crops[number] = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
        return StageResult(crops=crops)
