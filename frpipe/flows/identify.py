"""Identify: who of a gallery is on this photo, or nobody."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from frpipe.core.config import Config
from frpipe.core.errors import ConfigError
from frpipe.flows.photo import check_config, embedder_card, face_of
from frpipe.flows.subject_faces import SubjectPolicy
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import attributes_of
from frpipe.gallery.spec import GallerySpec
from frpipe.matching.topk import top_k


@dataclass(frozen=True, slots=True)
class Limit:
    """Where a stranger begins: accepted is similarity >= `similarity`, which is distance <= `distance`.

    fmr: the false match rate of one comparison that it was chosen for; None: unknown.
    """

    similarity: float
    distance: float
    source: str
    fmr: float | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A person of the gallery, by the nearest of their templates."""

    subject_id: str
    similarity: float
    distance: float
    attributes: dict[str, str]


@dataclass(frozen=True, slots=True)
class Identification:
    """The answer: `subject_id`, or None for a stranger, with all that it rests on.

    expected_fpir: chance that a stranger is taken for somebody here, `1 - (1 - FMR)^templates`, as if the
    comparisons were independent; None where the FMR is unknown.
    """

    subject_id: str | None
    candidates: list[Candidate]
    threshold: Limit
    expected_fpir: float | None
    gallery: str
    version: int
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
        return {"stranger": self.stranger, **asdict(self)}


def identify(
    photo: str,
    gallery: Gallery,
    config: Config,
    *,
    threshold: float | None = None,
    top: int = 5,
    faces: SubjectPolicy = "centre-largest",
) -> Identification:
    """Search a whole gallery for the face of a photo, exactly.

    threshold: a similarity; None takes the embedder's card, which is meant for one-to-one comparison.
    Raises GalleryMismatch, FaceError; ConfigError where there is no threshold.
    """
    check_config(config, gallery.spec)
    limit = limit_of(gallery.spec, threshold)
    face = face_of(photo, config, faces)
    snapshot = gallery.snapshot()
    matches = top_k(face.vector[None, :], snapshot.vectors(), top)[0]
    candidates = []
    for match in matches:
        rows = snapshot.show(match.subject_id)
        known = ((name, rows[name].drop_null()) for name in attributes_of(rows.schema))
        attributes = {name: values[0].as_py() for name, values in known if len(values)}
        candidates.append(Candidate(match.subject_id, match.similarity, 1 - match.similarity, attributes))
    found = bool(candidates) and candidates[0].similarity >= limit.similarity
    return Identification(
        subject_id=candidates[0].subject_id if found else None,
        candidates=candidates,
        threshold=limit,
        expected_fpir=expected_fpir(limit.fmr, snapshot.rows),
        gallery=gallery.uri,
        version=snapshot.number,
        subjects=snapshot.subjects,
        templates=snapshot.rows,
        faces_found=face.faces_found,
        face_policy=faces,
        quality=face.quality,
        model=config.embed.model,
    )


def limit_of(spec: GallerySpec, given: float | None) -> Limit:
    """The threshold in both forms. Raises ConfigError where neither the caller nor the card has one."""
    if given is not None:
        if not -1 <= given <= 1:
            raise ConfigError("--threshold is a similarity, from -1 to 1", "distance d is similarity 1 - d")
        return Limit(given, 1 - given, "given", None)
    card = embedder_card(spec)
    known = card.embedder.threshold if card and card.embedder else None
    if known is None:
        raise ConfigError("the card of the gallery's embedder suggests no threshold", "pass --threshold")
    return Limit(known.similarity, known.distance, known.source, known.fmr)


def expected_fpir(fmr: float | None, templates: int) -> float | None:
    """`1 - (1 - FMR)^N` for N independent comparisons."""
    return None if fmr is None else -math.expm1(templates * math.log1p(-fmr)) if fmr < 1 else 1.0
