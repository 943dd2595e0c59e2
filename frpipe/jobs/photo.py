"""Make one face vector of one photo, by the recipe of a gallery."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frpipe.core.config import Config
from frpipe.core.errors import ConfigError, FaceError, GalleryMismatch
from frpipe.core.reasons import Reason, Status
from frpipe.gallery.spec import GallerySpec
from frpipe.jobs.face_pipeline import pipeline_of
from frpipe.jobs.features import card_name
from frpipe.jobs.subject_faces import SubjectPolicy, quality
from frpipe.models.card import Card
from frpipe.models.registry import Registry
from frpipe.stages.locate import Located
from frpipe.stages.models import Models


@dataclass(frozen=True, slots=True)
class PhotoFace:
    """The face of a photo that is meant.

    vector: (dim,) float32, unit length.  quality: in [0, 1], see `subject_faces`.  box: x1, y1, x2, y2 in
    pixels of the upright photo.  faces_found: in the whole photo.  content_sha256: of the encoded photo.
    """

    vector: NDArray[np.float32]
    quality: float
    box: tuple[float, ...]
    faces_found: int
    content_sha256: str


def face_of(photo: str, config: Config, policy: SubjectPolicy) -> PhotoFace:
    """Find the face of a photo (path or URI) that the policy means.

    Raises FaceError where the photo cannot be read, shows no face, or several under `require-one`.
    """
    chosen = config.model_copy(update={"detect": config.detect.model_copy(update={"policy": policy})})
    pipeline = pipeline_of(chosen)
    located = pipeline.locate([photo])[0]
    _refuse_faceless(located)
    vector = pipeline.embed(located.crops[:1])[0]
    length = np.linalg.norm(vector)
    if not np.isfinite(length) or not length:
        raise FaceError("the model gives no vector for the face", "choose another photo")
    sides = (
        np.array([v]) for v in (located.faces.scores[0], located.eye_distance_px[0], located.sharpness[0])
    )
    return PhotoFace(
        vector=(vector / length).astype(np.float32),
        quality=float(quality(*sides)[0]),
        box=tuple(float(v) for v in located.faces.boxes[0]),
        faces_found=located.faces_detected or len(located.faces),
        content_sha256=located.content_sha256 or "",
    )


def _refuse_faceless(located: Located) -> None:
    if located.status is Status.OK:
        return
    if located.reason == Reason.MANY_FACES:
        raise FaceError(
            f"the photo shows {located.faces_detected} faces", "say which is meant: --faces centre-largest"
        )
    why = located.reason or located.status
    raise FaceError(f"the photo gives no face: {why}", "choose another photo")


def spec_of(config: Config, embedder: str | None = None) -> GallerySpec:
    """The specification of a gallery for vectors of this configuration.

    embedder: by its name or an alias; None: the first.  Raises ConfigError where it is not among them.
    """
    models = Models.of(config)
    cards = {card.name: card for card in (models.embedder, *models.further)}
    name = Registry.default().among(cards, embedder) if embedder else models.embedder.name
    if name is None:
        raise ConfigError(f"the run is to have no embeddings of {embedder}", f"it has {', '.join(cards)}")
    card = cards[name]
    recipe = models.recipe if card is models.embedder else models.recipe.of_embedder(card.name)
    dim = card.embedder.dim if card.embedder else 0
    hashes = recipe.embedder_hash, recipe.preprocessing_hash, recipe.detector_hash
    return GallerySpec(dim, *hashes, same_vectors=recipe.same_vectors)


def check_config(config: Config, gallery: GallerySpec) -> None:
    """Raise GalleryMismatch, both hashes named, unless this configuration makes the gallery's vectors."""
    own = spec_of(config)
    try:
        gallery.check_same(own)
    except GalleryMismatch as error:
        raise GalleryMismatch(error.message, _remedy(gallery, own)) from None


def _remedy(gallery: GallerySpec, own: GallerySpec) -> str:
    names = {}
    for role, made, sha in (
        ("embed", gallery.embedder_hash, own.embedder_hash),
        ("detect", gallery.detector_hash, own.detector_hash),
    ):
        if made != sha:
            names[role] = card_name(made)
            if names[role] is None:
                return f"no card here is of the gallery's model {made[:12]}: set FRPIPE_CARD_DIR"
    if not names:
        return (
            "the models are the gallery's: give its other settings (decode, detect, align, embed.flip), too"
        )
    known = " ".join(f"--set {role}.model={name}" for role, name in names.items())
    return f"give the settings that the gallery was made with: {known}"


def embedder_card(gallery: GallerySpec) -> Card | None:
    """The card of the gallery's embedder, if this machine has it."""
    name = card_name(gallery.embedder_hash)
    return Registry.default().card(name) if name else None
