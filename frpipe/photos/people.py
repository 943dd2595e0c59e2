"""A gallery of people, photo by photo: create, enroll, list, delete, clear, identify.

For many photos there are jobs: enroll, consolidate, identify. This is the same gallery, from Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self, overload

from frpipe.core.calibration import CalibrationCard
from frpipe.core.config import Config
from frpipe.core.errors import ConfigError, FaceError
from frpipe.core.migration import Answer, also_called
from frpipe.core.threshold import ThresholdCard, least_similarity
from frpipe.gallery import gallery as galleries
from frpipe.gallery import lifecycle
from frpipe.gallery.outcome import Outcome
from frpipe.gallery.persons import TEMPLATES, persons
from frpipe.jobs import gallery_photo
from frpipe.jobs.identify import single
from frpipe.jobs.identify.single import Identification
from frpipe.jobs.photo import spec_of
from frpipe.jobs.subject_faces import SubjectPolicy
from frpipe.photos.faces import settings

# The class below has a method `list`.
Several = list[str] | list[Path] | list[str | Path] | tuple[str | Path, ...]
Answers = list[Identification | FaceError]
_FIXED = ("subject_id", TEMPLATES, "enrolled_at")


@dataclass(frozen=True, slots=True)
class Person(Answer):
    """A person of a gallery.

    templates: how many.  enrolled_at: the latest.  attributes: by name, each with the values that the
    person's templates have, in order; mostly one.
    """

    subject_id: str
    templates: int
    enrolled_at: datetime
    attributes: Mapping[str, tuple[str, ...]]


class Gallery:
    """A gallery in a folder or a bucket. Every change makes a new version; nothing is kept in this object.

    config: settings; None: the models that the gallery was made with.
    Raises GalleryError where there is no gallery.
    """

    def __init__(self, uri: str, *, config: Config | None = None) -> None:
        self._stored = galleries.Gallery.open(uri)
        self._config = config or Config()

    @classmethod
    def create(
        cls,
        uri: str,
        *,
        detector: str | None = None,
        embedder: str | None = None,
        config: Config | None = None,
    ) -> Self:
        """Make an empty gallery for the vectors of an embedder. Raises GalleryError where one is there."""
        made = settings(config, detector=detector, embedder=embedder)
        galleries.Gallery.create(uri, spec_of(made))
        return cls(uri, config=config)

    @property
    def uri(self) -> str:
        """The address of the gallery."""
        return self._stored.uri

    def __len__(self) -> int:
        """The number of people."""
        return self._stored.snapshot().subjects

    def enroll(
        self,
        photo: str | Path | Iterable[str | Path],
        subject_id: str,
        attributes: Mapping[str, str] = {},
        *,
        faces: SubjectPolicy = "require-one",
        strict: bool = False,
    ) -> Outcome:
        """Add the face of a photo, or of each of several, to a person: all or none.

        faces: which face of a photo of several is meant; by default that is refused.  strict: refuse a face
        that is unlike the person's others, or very like another's.
        Raises FaceError where a photo has no face.
        """
        photos = [str(each) for each in ([photo] if isinstance(photo, str | Path) else photo)]
        return gallery_photo.enroll_photos(
            self._stored, photos, subject_id, attributes, self._config, faces=faces, strict=strict
        )

    def list(self, where: Mapping[str, str] | None = None) -> list[Person]:
        """List the people, in the order of ids. where: attributes that a template must have to be counted."""
        return [_person(row) for row in persons(self._stored.snapshot(), where).to_pylist()]

    def delete(self, subject_id: str | Iterable[str]) -> Outcome:
        """Delete people, and suppress them: nothing brings them back until they are allowed again."""
        wanted = [subject_id] if isinstance(subject_id, str) else subject_id
        return lifecycle.delete(self._stored, wanted)

    def clear(self) -> Outcome:
        """Delete everybody, to fill the gallery anew: nobody is suppressed."""
        return lifecycle.clear(self._stored)

    @overload
    def identify(
        self,
        photo: str | Path,
        *,
        threshold: float | None = None,
        distance: float | None = None,
        card: ThresholdCard | None = None,
        top: int = 5,
        faces: SubjectPolicy = "centre-largest",
        calibration: CalibrationCard | None = None,
    ) -> Identification: ...

    @overload
    def identify(
        self,
        photo: Several,
        *,
        threshold: float | None = None,
        distance: float | None = None,
        card: ThresholdCard | None = None,
        top: int = 5,
        faces: SubjectPolicy = "centre-largest",
        calibration: CalibrationCard | None = None,
    ) -> Answers: ...

    @also_called(img_path="photo")
    def identify(
        self,
        photo: str | Path | Several,
        *,
        threshold: float | None = None,
        distance: float | None = None,
        card: ThresholdCard | None = None,
        top: int = 5,
        faces: SubjectPolicy = "centre-largest",
        calibration: CalibrationCard | None = None,
    ) -> Identification | Answers:
        """Say who is on a photo, or on each of several: `subject_id` is None for a stranger.

        threshold: a similarity, or in its place `distance`; None takes the threshold card, and without one
        the embedder's.  calibration: for `llr` of candidates; None takes that of the threshold card, where it
        has one.  Of several photos the answers are in their order, and a FaceError stands in the place
        of one without a face; of a single photo it is raised.
        Raises ConfigError where more than one of threshold, distance and card is given.
        """
        if sum(given is not None for given in (threshold, distance, card)) > 1:
            raise ConfigError("a threshold is given more than once", "give one of threshold, distance, card")
        if distance is not None:
            threshold = least_similarity(distance)
        alone = isinstance(photo, str | Path)
        photos = [str(photo)] if isinstance(photo, str | Path) else [str(each) for each in photo]
        found = single.identify_each(
            photos,
            self._stored,
            self._config,
            threshold=threshold,
            card=card,
            top=top,
            faces=faces,
            calibration=calibration,
        )
        if not alone:
            return found
        if isinstance(found[0], FaceError):
            raise found[0]
        return found[0]


@overload
def identify(photo: str | Path, gallery: str | Path | Gallery, **wishes: Any) -> Identification: ...


@overload
def identify(photo: Several, gallery: str | Path | Gallery, **wishes: Any) -> Answers: ...


@also_called(img_path="photo", db_path="gallery")
def identify(
    photo: str | Path | Several, gallery: str | Path | Gallery, **wishes: Any
) -> Identification | Answers:
    """Say who of a gallery (its folder, or one that is open) is on a photo, or on each of several.

    See `Gallery.identify`.
    """
    opened = gallery if isinstance(gallery, Gallery) else Gallery(str(gallery))
    return opened.identify(photo, **wishes)


def _person(row: dict[str, Any]) -> Person:
    known = {name: tuple(values) for name, values in row.items() if name not in _FIXED and values}
    return Person(row["subject_id"], row[TEMPLATES], row["enrolled_at"], known)
