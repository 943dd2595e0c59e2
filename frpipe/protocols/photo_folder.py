"""Where the photos that a list names lie below a folder or prefix, whatever folders are between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa

from frpipe.core.errors import ManifestError
from frpipe.core.text import canonical_text
from frpipe.io.manifest.columns import ID, SUBJECT, URI
from frpipe.io.manifest.photo_listing import PhotoListing
from frpipe.io.storage.folder import Folder
from frpipe.protocols.listed import Photo


@dataclass(frozen=True, slots=True)
class PhotoFolder:
    """paths: of the photos that were found, relative to the folder; in NFC they are ids, as of a scan."""

    folder: Folder
    paths: dict[Photo, str]

    @classmethod
    def find(cls, uri: str, wanted: Iterable[Photo]) -> PhotoFolder:
        """Look for `Person_0001` with any suffix of a photo.

        Raises ManifestError: none is there, or one more than once.
        """
        folder, by_stem = Folder.at(uri), {canonical_text(photo.stem): photo for photo in wanted}
        paths: dict[Photo, str] = {}
        doubled: set[Photo] = set()
        for name in PhotoListing(folder).names():
            photo = by_stem.get(canonical_text(PurePosixPath(name).stem))
            if photo is not None:
                if photo in paths:
                    doubled.add(photo)
                paths[photo] = name
        if doubled:
            raise ManifestError(
                f"{len(doubled):,} photos of the list are in {folder.uri} more than once",
                "name the folder that holds one copy of each",
            )
        if not paths:
            raise ManifestError(f"no photo of the list is in {folder.uri}", "check the path")
        return cls(folder, paths)

    def image_id(self, photo: Photo) -> str:
        """The photo's id; of a missing one, what it would be in the data set as published."""
        return canonical_text(self.paths.get(photo, photo.published_name))

    def manifest(self) -> pa.Table:
        """image_id, image_uri, subject_id of all photos that were found, in the order of ids."""
        base = self.folder.uri.rstrip("/")
        rows = sorted(
            (canonical_text(path), f"{base}/{path}", canonical_text(photo.subject))
            for photo, path in self.paths.items()
        )
        columns = (pa.array(column, pa.string()) for column in zip(*rows, strict=True))
        return pa.table(dict(zip((ID, URI, SUBJECT), columns, strict=True)))
