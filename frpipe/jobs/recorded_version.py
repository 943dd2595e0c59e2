"""Recognise the version of a gallery that an output names by its content: its number may come again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from frpipe.core.counted import counted
from frpipe.core.errors import GalleryDamaged, GalleryError, OutputError
from frpipe.gallery.catalog import OtherVersion, VersionId
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.snapshot import Snapshot
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder

_FLAT = "gallery_"


@dataclass(frozen=True, slots=True)
class RecordedVersion:
    """A version, with what identifies it where the output names it without a commit.

    made: when the output was begun.  rows: templates that it counted; None where it has not ended, or a part
    of the gallery was compared.  output: where it lies.
    """

    id: VersionId
    made: str = ""
    rows: int | None = None
    output: str = ""

    @classmethod
    def of(cls, out: Folder, job: str | None = None) -> RecordedVersion | None:
        """Read an output's `run.json`; None where it names no version, or is of another job."""
        begun = run.begun(out)
        identity = begun.get("identity", {})
        if job is not None and identity.get("job") != job:
            return None
        flat = f"{_FLAT}version" in identity
        named = VersionId.read(identity if flat else identity.get("source") or {}, _FLAT if flat else "")
        if named is None:
            return None
        rows = None if identity.get("where") else _report(out).get("templates")
        return cls(named, str(begun.get("created") or ""), rows, out.uri)

    def keeps(self, gallery: Gallery) -> bool:
        """Whether the gallery keeps this version; see `Gallery.keeps`."""
        return gallery.keeps(self.id, self.made, self.rows)

    def find(self, gallery: Gallery) -> Snapshot:
        """Find this version in the gallery; see `Gallery.find`."""
        return gallery.find(self.id, self.made, self.rows)

    @property
    def warning(self) -> str | None:
        """A warning where the output names a number alone."""
        if self.id.commit is not None:
            return None
        held = "" if self.rows is None else f" and its {counted(self.rows, 'templates')}"
        return (
            f"version {self.id.number} of the gallery is taken for the one that was compared, by its time"
            f"{held}: older outputs record no commit of it"
        )


def pinned(gallery: Gallery, asked: int | None, begun: RecordedVersion | None) -> tuple[Snapshot, VersionId]:
    """Choose a version, and tell how the output names it.

    It is the one asked for, else the one that the output was begun with, else the newest. Raises OutputError
    where the output was begun with another gallery or another version of that number; GalleryError where a
    compaction has purged it.
    """
    if begun is None or (asked is not None and asked != begun.id.number):
        found = gallery.snapshot(asked)
        return found, found.id
    try:
        return begun.find(gallery), begun.id
    except GalleryDamaged:
        raise
    except OtherVersion as error:
        raise _refused(error, begun) from None
    except GalleryError as error:
        raise GalleryError(
            f"{error.message}, and the output was begun with it", "use a new --output: it takes the newest"
        ) from None


def purged(gallery: Gallery, asked: int | None, begun: RecordedVersion) -> bool:
    """Whether the version that an output was begun with is the gallery's, and gone by a compaction.

    Raises OutputError as `pinned`.
    """
    if asked is not None and asked != begun.id.number:
        return False
    try:
        return not begun.keeps(gallery)
    except OtherVersion as error:
        raise _refused(error, begun) from None


def _refused(error: OtherVersion, begun: RecordedVersion) -> OutputError:
    return OutputError(
        f"the output was begun with another version: {error.message}",
        f"use another --output (it takes the newest version), or delete {begun.output}",
    )


def _report(out: Folder) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(out.read(run.REPORT))
    except (FileNotFoundError, ValueError):
        return {}
    return found
