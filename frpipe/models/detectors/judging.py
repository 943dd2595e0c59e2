"""Decide whether a face is sure: by its detector's score, or by a judge that sees it aligned."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from frpipe.core.reasons import Reject
from frpipe.models.card import LooksSpec
from frpipe.models.detectors.base import Detector
from frpipe.models.detectors.candidates import Case, FaceCandidate, landmark_error
from frpipe.vision.align import align_photo
from frpipe.vision.geometry import template

Pixels = NDArray[np.uint8]

# The judge sees the aligned face at this size, where it tells turned ones from upright ones best.
JUDGED_SIDE_PX = 64
_LEAST_SCORE = 0.05
# So far from the template, in eye distances, may it put the landmarks of a face that is aligned right.
_MOST_ERROR = 0.2


class Judging:
    """Say whether faces are sure, by the numbers of the detector's card."""

    def __init__(self, judge: Detector, looks: LooksSpec) -> None:
        self._judge, self._looks = judge, looks

    def ask(self, faces: Sequence[tuple[Case, FaceCandidate]]) -> None:
        """Have faces judged as they would be aligned from the pixels at hand: `judged`, `judged_error`."""
        crops = [_small_crop(case, face) for case, face in faces]
        for (_, face), found in zip(faces, self._judge.look(crops, _LEAST_SCORE), strict=True):
            face.judged, face.judged_error = 0.0, float("inf")
            if len(found):
                face.judged = float(found.scores[0])
                face.judged_error = landmark_error(found.points[0], template(JUDGED_SIDE_PX))

    def ask_where_needed(self, faces: Sequence[tuple[Case, FaceCandidate]]) -> None:
        """Have the faces judged that were not yet, and whose own score does not say enough; see `ask`."""
        own = self._looks.clear_score is not None
        asked = [(c, f) for c, f in faces if f.judged is None and not (own and self._is_sure_by_score(f))]
        self.ask(asked)

    def is_sure(self, face: FaceCandidate) -> bool:
        """Whether a face is found right, beyond doubt."""
        if not face.is_plausible:
            return False
        return self._is_sure_by_score(face) or (
            (face.judged or 0.0) >= self._looks.judged_score
            and face.evidence >= self._looks.sure_evidence
            and face.judged_error <= _MOST_ERROR
        )

    def is_clear(self, face: FaceCandidate) -> bool:
        """Whether a face's scores are such as faces on negatives and drawings do not get."""
        if self._looks.clear_score is not None:
            return face.score >= self._looks.clear_score
        return (face.judged or 0.0) >= self._looks.judged_clear_score

    def _is_sure_by_score(self, face: FaceCandidate) -> bool:
        return self._looks.sure_score is not None and face.score >= self._looks.sure_score


def _small_crop(case: Case, face: FaceCandidate) -> Pixels:
    try:
        crop = align_photo(case.photo, face.points)
    except Reject:
        return np.zeros((JUDGED_SIDE_PX, JUDGED_SIDE_PX, 3), np.uint8)
    small: Pixels = cv2.resize(crop, (JUDGED_SIDE_PX, JUDGED_SIDE_PX), interpolation=cv2.INTER_AREA)
    return small
