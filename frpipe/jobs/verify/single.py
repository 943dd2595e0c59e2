"""Verify whether two photos are of one person."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from frpipe.core.calibration import CalibrationCard, CalibrationMap, ratio_of, without_ratio
from frpipe.core.config import Config
from frpipe.core.errors import ConfigError, FaceError
from frpipe.core.migration import Answer
from frpipe.core.reasons import Status
from frpipe.core.threshold import Threshold, ThresholdCard, least_similarity
from frpipe.jobs.face_pipeline import FacePipeline, PhotoSource, pipeline_of
from frpipe.matching.calibration import calibration_of
from frpipe.matching.exact import inner_products
from frpipe.matching.threshold import threshold_of
from frpipe.stages.locate import Located
from frpipe.stages.models import Models

DEFAULT = Config.model_validate({"detect": {"policy": "centre-largest"}})


@dataclass(frozen=True, slots=True)
class FacialArea(Answer):
    """The place of the compared face, in pixels of the upright photo; the left eye is the person's own."""

    x: float
    y: float
    w: float
    h: float
    left_eye: tuple[float, float]
    right_eye: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Verification(Answer):
    """The answer, with all that it rests on; `result["threshold"]` is the distance, as DeepFace has it.

    similarity: cosine in [-1, 1].  distance: 1 - similarity, in [0, 2].  threshold: in both forms; verified
    exactly when similarity >= threshold.similarity.  time: seconds, without loading the models.
    llr: log-likelihood ratio of the similarity, in nats; None: there is no calibration.
    """

    verified: bool
    distance: float
    similarity: float
    threshold: Threshold
    model: str
    detector_backend: str
    similarity_metric: Literal["cosine"]
    face_policy: str
    facial_areas: dict[str, FacialArea]
    time: float
    llr: float | None = None

    def __getitem__(self, name: str) -> Any:
        return self.threshold.distance if name == "threshold" else Answer.__getitem__(self, name)

    def as_dict(self) -> dict[str, Any]:
        return without_ratio({**asdict(self), "threshold": self.threshold.as_dict()})


def verify(
    a: PhotoSource,
    b: PhotoSource,
    *,
    config: Config = DEFAULT,
    threshold: float | None = None,
    distance: float | None = None,
    card: ThresholdCard | None = None,
    calibration: CalibrationCard | None = None,
) -> Verification:
    """Compare the face in `a` with the face in `b`, as jobs compare many.

    a, b: a path or URI, the bytes of an encoded photo, or (H, W, 3) uint8 RGB pixels.
    config: detector, embedder and the policy for photos of several faces; by default the largest face near
    the centre.  threshold: a similarity, or in its place `distance`, a cosine distance; None takes the
    threshold card, and without one the embedder's.  calibration: for `llr`; None takes the threshold card's.
    Raises FaceError if a photo cannot be read or shows no face; ConfigError if there is no threshold, or the
    policy does not single out one face; GalleryMismatch for a card of another embedder.
    """
    if config.detect.policy == "all":
        raise ConfigError(
            "verification compares one face of each photo",
            "set detect.policy to centre-largest, largest or require-one",
        )
    if threshold is not None and distance is not None:
        raise ConfigError("a threshold and a distance are given", "give one of them: they say the same")
    pipeline, models = pipeline_of(config), Models.of(config)
    limit = _threshold(config, pipeline, threshold if distance is None else least_similarity(distance), card)
    ratios = _calibration(config, pipeline, calibration, card)
    start = time.perf_counter()
    located = pipeline.locate((a, b))
    _comparable(located)
    similarity = _similarity(pipeline, located)
    return Verification(
        verified=similarity >= limit.similarity,
        distance=1 - similarity,
        similarity=similarity,
        threshold=limit,
        model=models.embedder.name,
        detector_backend=models.detector.name,
        similarity_metric="cosine",
        face_policy=config.detect.policy,
        facial_areas={name: _area(one) for name, one in zip(("img1", "img2"), located, strict=True)},
        time=time.perf_counter() - start,
        llr=ratio_of(ratios, similarity),
    )


def _similarity(pipeline: FacePipeline, located: Sequence[Located]) -> float:
    """The similarity of the first faces, to the bit that of an enroll output's unit vectors (float32)."""
    vectors = pipeline.embed([one.crops[0] for one in located])
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise FaceError("the model gives no vector for a face", "choose another photo")
    unit = (vectors / lengths).astype(np.float32)
    first, second = np.array([0]), np.array([1])
    return float(np.clip(inner_products(unit, first, unit, second), -1, 1)[0])


def _comparable(located: Sequence[Located]) -> None:
    for number, one in enumerate(located, start=1):
        if one.status is not Status.OK:
            why = one.reason or one.status
            raise FaceError(f"photo {number} gives no face to compare: {why}", "choose another photo")


def _threshold(
    config: Config, pipeline: FacePipeline, given: float | None, card: ThresholdCard | None
) -> Threshold:
    return threshold_of(
        pipeline.card.sha256,
        given=given,
        card=card,
        embedder_card=pipeline.card,
        preprocessing=Models.of(config).recipe.preprocessing_hashes if card else None,
    )


def _calibration(
    config: Config, pipeline: FacePipeline, calibration: CalibrationCard | None, card: ThresholdCard | None
) -> CalibrationMap | None:
    if calibration is None and (card is None or card.calibration is None):
        return None
    # The recipe takes a tenth of a second to import, which a comparison without a card need not wait for.
    recipe = Models.of(config).recipe
    return calibration_of(
        pipeline.card.sha256,
        recipe.detector_hash,
        recipe.preprocessing_hashes,
        card=calibration,
        threshold_card=card,
    )


def _area(located: Located) -> FacialArea:
    x1, y1, x2, y2 = (float(v) for v in located.faces.boxes[0])
    # The detector's first eye is on the left for the viewer.
    right, left = ((float(x), float(y)) for x, y in located.faces.points[0][:2])
    return FacialArea(x1, y1, x2 - x1, y2 - y1, left, right)
