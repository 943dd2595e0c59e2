"""A labelled manifest as a whole: ids, persons and places of all photos, ready to be divided."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from frpipe.core.errors import ManifestError
from frpipe.core.schema import reserved_names
from frpipe.io.manifest.admission import admitted
from frpipe.io.manifest.columns import ID, LOCATION, SUBJECT, URI
from frpipe.io.manifest.manifest import Manifest
from frpipe.protocols.protocol import SourceFile, sources_of

MATED = "mated"


@dataclass(frozen=True, slots=True)
class LabelledPhotos:
    """Labelled photos. rows: image_id, image_uri (absolute), subject_id, then the manifest's own columns.

    written: image_uri as the manifest has it.
    """

    rows: pa.Table
    written: list[str]
    sources: list[SourceFile]

    @classmethod
    def read(cls, uri: str) -> LabelledPhotos:
        """Read all of a manifest, checked as a run would.

        Raises ManifestError: embedded photos, a column `mated`, or what is wrong with a manifest.
        """
        manifest = Manifest.open(uri, reserved_names() | {MATED})
        if manifest.columns.embedded:
            raise ManifestError(
                "a manifest that holds the photos themselves cannot be divided",
                "name the photos by image_uri",
            )
        found = pa.concat_tables(admitted(manifest, ()))
        rows = found.drop_columns([URI]).rename_columns({LOCATION: URI})
        return cls(rows, found[URI].to_pylist(), sources_of(manifest))

    @property
    def images(self) -> list[str]:
        """The ids of all photos."""
        ids: list[str] = self.rows[ID].to_pylist()
        return ids

    @property
    def subjects(self) -> list[str | None]:
        """The person on each photo, None where unknown."""
        people: list[str | None] = self.rows[SUBJECT].to_pylist()
        return people
