"""Identify the person on a single photo in a gallery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from frpipe.core.calibration import CalibrationCard, CalibrationMap, ratio_of, without_ratio
from frpipe.core.config import Config
from frpipe.core.errors import FaceError
from frpipe.core.migration import Answer
from frpipe.core.threshold import Threshold, ThresholdCard
from frpipe.gallery.attributes import agreed, known_values
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import attributes_of
from frpipe.gallery.snapshot import Snapshot
from frpipe.gallery.spec import GallerySpec
from frpipe.jobs.going_on import for_gallery
from frpipe.jobs.photo import PhotoFace, check_config, embedder_card, face_of
from frpipe.jobs.ratios import calibration_for
from frpipe.jobs.subject_faces import SubjectPolicy
from frpipe.matching.threshold import expected_fpir, threshold_of
from frpipe.matching.topk import Match, top_k
from frpipe.stages.models import Models


@dataclass(frozen=True, slots=True)
class Candidate(Answer):
    """A person of the gallery, by the nearest of their templates.

    llr: log-likelihood ratio of the similarity, in nats; None: there is no calibration.
    """

    subject_id: str
    similarity: float
    distance: float
    attributes: dict[str, str]
    llr: float | None = None


@dataclass(frozen=True, slots=True)
class Identification(Answer):
    """The answer for a photo: `subject_id`, or None for a stranger, with the facts behind it.

    expected_fpir: probability that a stranger is identified as somebody, `1 - (1 - FMR)^templates`, as if
    comparisons were independent; None where the FMR is unknown.
    """

    subject_id: str | None
    candidates: list[Candidate]
    threshold: Threshold
    expected_fpir: float | None
    gallery: str
    gallery_id: str
    version: int
    commit: str
    subjects: int
    templates: int
    faces_found: int
    face_policy: str
    quality: float
    model: str

    @property
    def stranger(self) -> bool:
        """Whether nobody in the gallery reaches the threshold."""
        return self.subject_id is None

    def as_dict(self) -> dict[str, Any]:
        candidates = [without_ratio(asdict(one)) for one in self.candidates]
        more = {"candidates": candidates, "threshold": self.threshold.as_dict()}
        return {"stranger": self.stranger, **asdict(self), **more}


def identify_each(
    photos: Sequence[str],
    gallery: Gallery,
    config: Config,
    *,
    threshold: float | None = None,
    card: ThresholdCard | None = None,
    top: int = 5,
    faces: SubjectPolicy = "centre-largest",
    calibration: CalibrationCard | None = None,
) -> list[Identification | FaceError]:
    """Search for the face of each photo in one version of a gallery, exactly and in one pass.

    threshold: a similarity; None takes the threshold card, and without one the embedder's, which is meant for
    one-to-one comparison.  calibration: for `llr`; None takes the threshold card's.  A photo without a face
    has its FaceError in its place and does not stop the others.
    Raises GalleryMismatch; ConfigError where there is no threshold.
    """
    config = for_gallery(config, gallery.spec)
    check_config(config, gallery.spec)
    snapshot = gallery.snapshot()
    limit = _threshold(snapshot, gallery.spec, threshold, card)
    ratios = calibration_for(gallery.spec, calibration, card)
    found = [_face_or_error(photo, config, faces) for photo in photos]
    seen = [face for face in found if isinstance(face, PhotoFace)]
    ranked = iter(top_k(np.stack([face.vector for face in seen]), snapshot.vectors(), top) if seen else ())
    model = Models.of(config).embedder.name
    search = _Search(gallery, snapshot, limit, faces, model, ratios)
    return [search.answer(face, next(ranked)) if isinstance(face, PhotoFace) else face for face in found]


def _face_or_error(photo: str, config: Config, faces: SubjectPolicy) -> PhotoFace | FaceError:
    try:
        return face_of(photo, config, faces)
    except FaceError as error:
        return error


@dataclass(frozen=True, slots=True)
class _Search:
    """The facts that the answers for several photos share."""

    gallery: Gallery
    snapshot: Snapshot
    limit: Threshold
    faces: SubjectPolicy
    model: str
    ratios: CalibrationMap | None

    def answer(self, face: PhotoFace, matches: Sequence[Match]) -> Identification:
        """Make the answer for one photo. matches: the best people, best first."""
        candidates = []
        for match in matches:
            rows = self.snapshot.show(match.subject_id)
            attributes = agreed(known_values(rows.select(attributes_of(rows.schema)).to_pylist()))
            llr = ratio_of(self.ratios, match.similarity)
            candidates.append(
                Candidate(match.subject_id, match.similarity, 1 - match.similarity, attributes, llr)
            )
        found = bool(candidates) and candidates[0].similarity >= self.limit.similarity
        return Identification(
            subject_id=candidates[0].subject_id if found else None,
            candidates=candidates,
            threshold=self.limit,
            expected_fpir=None
            if self.limit.fmr is None
            else expected_fpir(self.limit.fmr, self.snapshot.rows),
            gallery=self.gallery.uri,
            gallery_id=self.gallery.gallery_id,
            version=self.snapshot.number,
            commit=self.snapshot.version.commit,
            subjects=self.snapshot.subjects,
            templates=self.snapshot.rows,
            faces_found=face.faces_found,
            face_policy=self.faces,
            quality=face.quality,
            model=self.model,
        )


def _threshold(
    snapshot: Snapshot, spec: GallerySpec, threshold: float | None, card: ThresholdCard | None
) -> Threshold:
    return threshold_of(
        spec.embedder_hash,
        given=threshold,
        card=card,
        embedder_card=embedder_card(spec),
        searched=snapshot.rows,
        subjects=snapshot.subjects if card and card.purpose == "identification" else None,
        preprocessing=spec.preprocessing_hashes,
    )
