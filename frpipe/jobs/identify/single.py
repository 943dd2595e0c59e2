"""Identify: who of a gallery is on this photo, or nobody."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from frpipe.core.config import Config
from frpipe.core.migration import Answer
from frpipe.core.threshold import Threshold, ThresholdCard
from frpipe.gallery.attributes import agreed, known_values
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import attributes_of
from frpipe.gallery.snapshot import Snapshot
from frpipe.gallery.spec import GallerySpec
from frpipe.jobs.going_on import for_gallery
from frpipe.jobs.photo import check_config, embedder_card, face_of
from frpipe.jobs.subject_faces import SubjectPolicy
from frpipe.matching.threshold import expected_fpir, threshold_of
from frpipe.matching.topk import top_k
from frpipe.stages.models import Models


@dataclass(frozen=True, slots=True)
class Candidate(Answer):
    """A person of the gallery, by the nearest of their templates."""

    subject_id: str
    similarity: float
    distance: float
    attributes: dict[str, str]


@dataclass(frozen=True, slots=True)
class Identification(Answer):
    """The answer: `subject_id`, or None for a stranger, with all that it rests on.

    expected_fpir: chance that a stranger is taken for somebody here, `1 - (1 - FMR)^templates`, as if the
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
        """Whether nobody of the gallery is near enough."""
        return self.subject_id is None

    def as_dict(self) -> dict[str, Any]:
        return {"stranger": self.stranger, **asdict(self), "threshold": self.threshold.as_dict()}


def identify(
    photo: str,
    gallery: Gallery,
    config: Config,
    *,
    threshold: float | None = None,
    card: ThresholdCard | None = None,
    top: int = 5,
    faces: SubjectPolicy = "centre-largest",
) -> Identification:
    """Search a whole gallery for the face of a photo, exactly.

    threshold: a similarity; None takes the threshold card, and without one the embedder's, which is meant for
    one-to-one comparison.
    Raises GalleryMismatch, FaceError; ConfigError where there is no threshold.
    """
    config = for_gallery(config, gallery.spec)
    check_config(config, gallery.spec)
    snapshot = gallery.snapshot()
    limit = _threshold(snapshot, gallery.spec, threshold, card)
    face = face_of(photo, config, faces)
    matches = top_k(face.vector[None, :], snapshot.vectors(), top)[0]
    candidates = []
    for match in matches:
        rows = snapshot.show(match.subject_id)
        attributes = agreed(known_values(rows.select(attributes_of(rows.schema)).to_pylist()))
        candidates.append(Candidate(match.subject_id, match.similarity, 1 - match.similarity, attributes))
    found = bool(candidates) and candidates[0].similarity >= limit.similarity
    return Identification(
        subject_id=candidates[0].subject_id if found else None,
        candidates=candidates,
        threshold=limit,
        expected_fpir=None if limit.fmr is None else expected_fpir(limit.fmr, snapshot.rows),
        gallery=gallery.uri,
        gallery_id=gallery.gallery_id,
        version=snapshot.number,
        commit=snapshot.version.commit,
        subjects=snapshot.subjects,
        templates=snapshot.rows,
        faces_found=face.faces_found,
        face_policy=faces,
        quality=face.quality,
        model=Models.of(config).embedder.name,
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
        preprocessing_hash=spec.preprocessing_hash,
    )
