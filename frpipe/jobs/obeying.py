"""Read the suppression lists that an enroll job obeys."""

from __future__ import annotations

from collections.abc import Iterable

from frpipe.gallery.gallery import GALLERY, Gallery
from frpipe.gallery.suppression import Suppressions
from frpipe.io.storage.folder import Folder
from frpipe.jobs.output_place import refuse_relative
from frpipe.stages.obeyed import Obeyed


def suppressions(uri: str) -> Suppressions:
    """Read the suppression list of a gallery; an empty one where there is no gallery yet."""
    there = Folder.at(uri).exists(GALLERY)
    return Gallery.open(uri).suppressions.read() if there else Suppressions(())


def obeyed_at(galleries: Iterable[str], into: str | None = None) -> Obeyed:
    """Read the lists of galleries, and of the one that the faces are put into, if it is there yet.

    Raises GalleryError where one of `galleries` is none, or a list cannot be read.
    """
    uris = list(dict.fromkeys(galleries))
    for uri in uris:
        refuse_relative("--obey", uri)
    lists = [Gallery.open(uri).suppressions.read() for uri in uris]
    return Obeyed.of(lists if into is None else [*lists, suppressions(into)])
