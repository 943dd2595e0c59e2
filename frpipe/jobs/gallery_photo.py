"""Enroll photos of one person, as the lecture does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.config import Config
from frpipe.core.distinct import without
from frpipe.core.errors import ConfigError, FaceError
from frpipe.core.text import canonical_text
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.outcome import Outcome
from frpipe.gallery.photos import RunPhotos
from frpipe.gallery.policy import SAME_FACE, Policy
from frpipe.gallery.schema import (
    FACE_ID,
    FIXED_COLUMNS,
    attributes_of,
    canonical_where,
    template_schema,
    vector_array,
    vectors_of,
)
from frpipe.io.storage import uri as uris
from frpipe.jobs.going_on import for_gallery
from frpipe.jobs.likeness import likeness_of
from frpipe.jobs.photo import PhotoFace, check_config, face_of
from frpipe.jobs.subject_faces import SubjectPolicy


def enroll_photos(
    gallery: Gallery,
    photos: Sequence[str],
    subject_id: str,
    attributes: Mapping[str, str],
    config: Config,
    *,
    faces: SubjectPolicy = "require-one",
    policy: Policy = "append",
    strict: bool = False,
    threshold: float | None = None,
) -> Outcome:
    """Add the faces of photos to a person, all of them or none, in one version of the gallery.

    The face id is the photo's SHA-256, short: one photo counts once.

    A photo that is there already keeps the attributes that are not given anew. A face is of one person: where
    another has the same face of the same photo, it moves. A file with another content is another photo,
    though it lies at the same place.

    strict: refuse a face that does not fit.  threshold: similarity of one person; None: the embedder card's.

    Raises FaceError where a photo has no face, or several and `faces` does not say which; GalleryMismatch
    where the configuration is not the gallery's; DoubtError where strict.
    """
    taken = sorted(set(attributes) & set(FIXED_COLUMNS))
    if taken or not subject_id:
        raise ConfigError(
            f"{taken[0]} is a column of every gallery" if taken else "the id is empty",
            "choose another name for the attribute" if taken else "give --id",
        )
    subject_id, attributes = canonical_text(subject_id), canonical_where(attributes)
    config = for_gallery(config, gallery.spec)
    check_config(config, gallery.spec)
    if not photos:
        raise ConfigError("there is no photo to enroll", "name one or more")
    found = {}
    for photo in photos:
        face = _face(photo, config, faces)
        found[f"photo:{face.content_sha256[:20]}"] = photo, face
    known = {face_id: {**_known(gallery, subject_id, face_id), **attributes} for face_id in found}
    names = sorted({name for each in known.values() for name in each})
    columns = {
        "subject_id": [subject_id] * len(found),
        "face_id": [*found],
        "image_uri": [uris.canonical(photo) for photo, _ in found.values()],
        "quality": [face.quality for _, face in found.values()],
        "enrolled_at": [datetime.now(UTC)] * len(found),
        "embedding": vector_array(np.stack([face.vector for _, face in found.values()])),
        **{name: [each.get(name) for each in known.values()] for name in names},
    }
    moved = [face_id for face_id, (_, face) in found.items() if _is_moved(gallery, face_id, face.vector)]
    return lifecycle.enroll(
        gallery,
        [pa.table(columns, schema=template_schema(gallery.spec.dim, names))],
        policy,
        note=f"{'one photo' if len(found) == 1 else f'{len(found)} photos'}, faces {faces}",
        photos=_outcomes(moved),
        likeness=likeness_of(gallery.spec, threshold, strict),
    )


def _face(photo: str, config: Config, faces: SubjectPolicy) -> PhotoFace:
    try:
        return face_of(photo, config, faces)
    except FaceError as error:
        raise FaceError(f"{photo}: {error.message}", error.remedy) from None


def _is_moved(gallery: Gallery, face_id: str, vector: NDArray[np.float32]) -> bool:
    """Whether somebody has this face of the photo already; False where others on it have other faces."""
    snapshot, alike = gallery.snapshot(), list[bool]()
    for ref in snapshot.version.shards:
        is_it = pc.equal(snapshot.open(ref, vectors=False).text(FACE_ID), face_id)
        rows = without(np.flatnonzero(is_it.to_numpy(False)), snapshot.deleted_rows(ref))
        if rows.size:
            found = snapshot.table_of(ref, [FACE_ID], rows, vectors=True)
            alike += (vectors_of(found) @ vector >= SAME_FACE).tolist()
    return bool(alike) and all(alike)


def _outcomes(face_ids: list[str]) -> RunPhotos | None:
    """The photos whose older templates are replaced."""
    if not face_ids:
        return None
    photos = RunPhotos()
    photos.add(pa.array(face_ids), pa.nulls(len(face_ids), pa.string()))
    return photos


def _known(gallery: Gallery, subject_id: str, face_id: str) -> dict[str, str]:
    """Read the attributes of a template that is there already."""
    rows = gallery.snapshot().show(subject_id)
    row = rows.filter(pc.equal(rows[FACE_ID], face_id)).select(attributes_of(rows.schema)).to_pylist()
    return {name: value for name, value in row[0].items() if value is not None} if row else {}
