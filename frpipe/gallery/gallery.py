"""A gallery: the set of enrolled people, in a folder on a disk or in an object store."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from frpipe.core.errors import GalleryError
from frpipe.gallery.catalog import Catalog, Entry, check_readable
from frpipe.gallery.document import damaged, sealed, unsealed
from frpipe.gallery.shelf import Shelf
from frpipe.gallery.snapshot import Snapshot
from frpipe.gallery.spec import FORMAT_VERSION, NORMALISATION, GallerySpec
from frpipe.gallery.suppression import SuppressionList
from frpipe.gallery.vault import Vault
from frpipe.io.folder import Folder

GALLERY = "gallery.json"


@dataclass(frozen=True)
class Gallery:
    """Make one with `create`, `open` or `ensure`; change it with `frpipe.gallery.lifecycle`.

    It holds no state of its own: each `snapshot()` looks for the newest version. Pickled, it takes no key
    with it; where it is unpickled, the key is read from that machine's environment.
    """

    folder: Folder
    spec: GallerySpec
    gallery_id: str
    created: str
    key_check: str | None = None

    @classmethod
    def create(cls, uri: str, spec: GallerySpec) -> Gallery:
        """Make an empty gallery. Raises GalleryError where there is one already, or the key is missing."""
        made = cls._new(Folder.at(uri), spec)
        if not made.folder.create(GALLERY, sealed(made._facts())):
            raise GalleryError("there is a gallery already", "open it, or choose another folder")
        return made

    @classmethod
    def open(cls, uri: str) -> Gallery:
        """The gallery of a folder. Raises GalleryError where there is none."""
        return cls.at(Folder.at(uri))

    @classmethod
    def at(cls, folder: Folder) -> Gallery:
        """As `open`, of a folder."""
        try:
            content = unsealed(folder.read(GALLERY), GALLERY)
        except FileNotFoundError:
            raise GalleryError(
                "there is no gallery in this folder", "make one: `frpipe gallery create`"
            ) from None
        form = content.get("format_version")
        if form != FORMAT_VERSION or content.get("normalisation") != NORMALISATION:
            raise GalleryError(
                f"the gallery has format {form!r}, this frpipe reads {FORMAT_VERSION}",
                "use the frpipe that the gallery was made with, or a newer one",
            )
        try:
            spec = GallerySpec(**{field.name: content[field.name] for field in fields(GallerySpec)})
            return cls(folder, spec, content["gallery_id"], content["created"], content["key_check"])
        except (KeyError, TypeError):
            raise damaged(GALLERY, "it has not the expected fields") from None

    @classmethod
    def ensure(cls, uri: str, spec: GallerySpec) -> Gallery:
        """The gallery of a folder, made if there is none; of any number of makers one makes it.

        Raises GalleryMismatch where it is there and was made for another recipe.
        """
        folder = Folder.at(uri)
        if not folder.exists(GALLERY):
            made = cls._new(folder, spec)
            if folder.create(GALLERY, sealed(made._facts())):
                return made
        found = cls.at(folder)
        found.spec.check_same(spec)
        return found

    @property
    def uri(self) -> str:
        """Where it is."""
        return self.folder.uri

    def snapshot(self, version: int | None = None) -> Snapshot:
        """The newest version, or an older one that has not been purged: it never changes."""
        head = self.catalog.head()
        if version is None or version == head.number:
            return Snapshot(self.catalog, self.shelf, self.gallery_id, head)
        check_readable(version, head)
        try:
            return Snapshot(self.catalog, self.shelf, self.gallery_id, self.catalog.read(version))
        except FileNotFoundError:
            check_readable(version, self.catalog.head())
            raise damaged(f"version {version}", "its file is missing") from None

    def versions(self) -> list[int]:
        """Numbers of the versions that can be read, ascending; 0 is the empty gallery as it was made."""
        head = self.catalog.head()
        return [0, *(n for n in self.catalog.numbers() if head.purged < n <= head.number)]

    def log(self) -> list[Entry]:
        """What was done to the gallery, oldest first, purged versions included; no ids, no vectors."""
        return self.catalog.entries()

    @cached_property
    def catalog(self) -> Catalog:
        """The versions' files."""
        return Catalog(self.folder, self.created)

    @cached_property
    def shelf(self) -> Shelf:
        """The shards' files."""
        return Shelf(self.folder, self.spec, self.gallery_id, lambda: self._vault)

    @cached_property
    def suppressions(self) -> SuppressionList:
        """Who must not come back."""
        return SuppressionList(self.folder, lambda: self._vault, lambda: self.catalog.head().suppressed)

    def __reduce__(self) -> tuple[type[Gallery], tuple[Any, ...]]:
        return Gallery, (self.folder, self.spec, self.gallery_id, self.created, self.key_check)

    @classmethod
    def _new(cls, folder: Folder, spec: GallerySpec) -> Gallery:
        gallery_id = str(uuid.uuid4())
        check = Vault.from_environment(gallery_id).check_value() if spec.encryption else None
        return cls(folder, spec, gallery_id, datetime.now(UTC).isoformat(timespec="seconds"), check)

    def _facts(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "gallery_id": self.gallery_id,
            "created": self.created,
            "normalisation": NORMALISATION,
            **asdict(self.spec),
            "key_check": self.key_check,
        }

    @cached_property
    def _vault(self) -> Vault | None:
        if self.spec.encryption is None:
            return None
        vault = Vault.from_environment(self.gallery_id)
        vault.check(self.key_check or "")
        return vault
