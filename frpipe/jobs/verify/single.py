"""Verification of two photos: are they of one person?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from frpipe.core.config import Config
from frpipe.core.errors import ConfigError, FaceError
from frpipe.core.reasons import Status
from frpipe.core.threshold import Threshold
from frpipe.jobs.face_pipeline import PhotoSource, pipeline_of
from frpipe.models.card import Card
from frpipe.stages.locate import Located
from frpipe.stages.models import Models

DEFAULT = Config.model_validate({"detect": {"policy": "centre-largest"}})


@dataclass(frozen=True, slots=True)
class FacialArea:
    """Where the compared face lies, in pixels of the upright photo; eyes as the viewer sees them."""

    x: float
    y: float
    w: float
    h: float
    left_eye: tuple[float, float]
    right_eye: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Verification:
    """The answer, with all that it rests on.

    similarity: cosine in [-1, 1].  distance: 1 - similarity, in [0, 2].  threshold: of the distance; verified
    exactly when distance <= threshold.  time: seconds, without loading the models.
    """

    verified: bool
    distance: float
    similarity: float
    threshold: float
    threshold_source: str
    model: str
    detector_backend: str
    similarity_metric: Literal["cosine"]
    face_policy: str
    facial_areas: dict[str, FacialArea]
    time: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def verify(
    a: PhotoSource, b: PhotoSource, *, config: Config = DEFAULT, threshold: float | None = None
) -> Verification:
    """Compare the face in `a` with the face in `b`.

    a, b: a path or URI, the bytes of an encoded photo, or (H, W, 3) uint8 RGB pixels.
    config: detector, embedder and the policy for photos of several faces; by default the largest face near
    the centre.  threshold: cosine distance; None takes the embedder's card.
    Raises FaceError if a photo cannot be read or shows no face; ConfigError if there is no threshold, or the
    policy does not single out one face.
    """
    if config.detect.policy == "all":
        raise ConfigError(
            "verification compares one face of each photo",
            "set detect.policy to centre-largest, largest or require-one",
        )
    pipeline, models = pipeline_of(config), Models.of(config)
    limit = _threshold(pipeline.card, threshold)
    start = time.perf_counter()
    located = pipeline.locate((a, b))
    _comparable(located)
    vectors = pipeline.embed([one.crops[0] for one in located])
    similarity = cosine_similarity(vectors[0], vectors[1])
    distance = 1 - similarity
    return Verification(
        verified=distance <= limit.distance,
        distance=distance,
        similarity=similarity,
        threshold=limit.distance,
        threshold_source=limit.source,
        model=models.embedder.name,
        detector_backend=models.detector.name,
        similarity_metric="cosine",
        face_policy=config.detect.policy,
        facial_areas={name: _area(one) for name, one in zip(("img1", "img2"), located, strict=True)},
        time=time.perf_counter() - start,
    )


def cosine_similarity(a: np.ndarray, b: np.ndarray) -> float:
    """`a.b / (|a||b|)` of two vectors (dim,), clipped to [-1, 1]."""
    return float(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1, 1))


def _comparable(located: Sequence[Located]) -> None:
    for number, one in enumerate(located, start=1):
        if one.status is not Status.OK:
            why = one.reason or one.status
            raise FaceError(f"photo {number} gives no face to compare: {why}", "choose another photo")


def _threshold(card: Card, given: float | None) -> Threshold:
    if given is not None:
        return Threshold.stated("distance", given, "given")
    known = card.embedder.threshold if card.embedder else None
    if known is None:
        raise ConfigError(
            f"the card of {card.name} suggests no threshold", "pass a threshold (cosine distance)"
        )
    return Threshold.stated(known.kind, known.value, known.source, purpose="verification")


def _area(located: Located) -> FacialArea:
    x1, y1, x2, y2 = (float(v) for v in located.faces.boxes[0])
    left, right = ((float(x), float(y)) for x, y in located.faces.points[0][:2])
    return FacialArea(x1, y1, x2 - x1, y2 - y1, left, right)
