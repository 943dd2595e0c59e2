"""A gallery: a set of enrolled people, in a folder on a disk or in an object store."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from frpipe.core.errors import GalleryError
from frpipe.gallery.catalog import Catalog, LogEntry, OtherVersion, VersionId, check_readable
from frpipe.gallery.document import damaged, read_sealed, sealed
from frpipe.gallery.encryption import Cipher
from frpipe.gallery.shard_cache import CacheSpec, ShardCache
from frpipe.gallery.shard_store import ShardStore
from frpipe.gallery.snapshot import Snapshot
from frpipe.gallery.spec import FORMAT_VERSION, NORMALISATION, SAME_VECTORS, GallerySpec
from frpipe.gallery.suppression import SuppressionList
from frpipe.io.storage.folder import Folder

GALLERY = "gallery.json"


@dataclass(frozen=True)
class Gallery:
    """A gallery, as a handle on its files.

    Make one with `create`, `open` or `ensure`; change it with `frpipe.gallery.lifecycle`.

    It holds no state: each `snapshot()` looks for the newest version. A pickled gallery has no key in it; the
    key is read from the environment of the machine that unpickles it. cache: of the node's disk, for the
    shards of an object store; it is not pickled.
    """

    folder: Folder
    spec: GallerySpec
    gallery_id: str
    created: str
    key_check: str | None = None
    cache: ShardCache | None = None

    @classmethod
    def create(cls, uri: str, spec: GallerySpec) -> Gallery:
        """Make an empty gallery. Raises GalleryError where there is one already, or the key is missing."""
        made = cls._new(Folder.at(uri), spec)
        if not made.folder.create(GALLERY, sealed(made._facts())):
            raise GalleryError("there is a gallery already", "open it, or choose another folder")
        return made

    @classmethod
    def open(cls, uri: str, cache: CacheSpec | None = None) -> Gallery:
        """Open the gallery of a folder, by its address. Raises GalleryError where there is none.

        cache: where this node keeps shards of an object store; None: nowhere.
        """
        found = cls.at(Folder.at(uri))
        if cache is None or found.folder.is_local:
            return found
        return replace(found, cache=cache.opened())

    @classmethod
    def at(cls, folder: Folder) -> Gallery:
        """Open the gallery of a `Folder`, as `open`."""
        try:
            content = read_sealed(folder, GALLERY)
        except FileNotFoundError:
            raise GalleryError(
                "there is no gallery in this folder", "make one: `frpipe gallery create`"
            ) from None
        return cls.read(folder, content)

    @classmethod
    def read(cls, folder: Folder, content: dict[str, Any]) -> Gallery:
        """Make the gallery of a folder from the content of `gallery.json`. Raises GalleryError."""
        form = content.get("format_version")
        if form != FORMAT_VERSION or content.get("normalisation") != NORMALISATION:
            raise GalleryError(
                f"the gallery has format {form!r}, this frpipe reads {FORMAT_VERSION}",
                "use the frpipe that the gallery was made with, or a newer one",
            )
        try:
            same = {SAME_VECTORS: tuple(content.get(SAME_VECTORS, ()))}  # not in older galleries
            spec = GallerySpec(**{each.name: (content | same)[each.name] for each in fields(GallerySpec)})
            return cls(folder, spec, content["gallery_id"], content["created"], content["key_check"])
        except (KeyError, TypeError):
            raise damaged(GALLERY, "it has not the expected fields") from None

    @classmethod
    def ensure(cls, uri: str, spec: GallerySpec) -> Gallery:
        """Open the gallery of a folder, or create it; of any number of creators exactly one succeeds.

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
        """Address of the gallery's folder."""
        return self.folder.uri

    def snapshot(self, version: int | None = None, commit: str | None = None) -> Snapshot:
        """Open the newest version, or an older one that has not been purged: a snapshot never changes.

        commit: of the version that is meant. Raises OtherVersion if that number has another one.
        """
        found = self._snapshot(version)
        if commit is not None and found.version.commit != commit:
            raise self._other(VersionId(self.gallery_id, found.number, commit), found.version.commit)
        return found

    def keeps(self, named: VersionId, made: str = "", rows: int | None = None) -> bool:
        """Whether the version that a record names can still be read; False: a compaction has purged it.

        made, rows: when the record was made (ISO, UTC), and how many templates it counted. A record without a
        commit is checked by these alone: a version that is younger, or has another number of templates, is
        another one.
        Raises OtherVersion if it is another version, was never here, or is of another gallery; GalleryDamaged
        if its file is lost.
        """
        if named.gallery_id and named.gallery_id != self.gallery_id:
            raise OtherVersion(
                f"{named} is of the gallery {named.gallery_id}, and {self.uri} is another gallery, "
                f"{self.gallery_id}"
            )
        head, trace = self.catalog.head(), self.catalog.trace(named.number)
        if trace is None and named.number <= head.number:
            raise damaged(f"version {named.number}", "its file is missing")
        if trace is None:
            raise OtherVersion(
                f"{named} is not in the gallery, whose newest is {head.number}: it was restored or copied "
                "from an older state"
            )
        commit, created = trace
        if named.commit is None:
            if made and datetime.fromisoformat(created) > datetime.fromisoformat(made):
                raise self._other(named, commit)
        elif named.commit != commit:
            raise self._other(named, commit)
        if named.number and head.purged >= named.number:
            return False
        if named.commit is None and rows is not None and self.snapshot(named.number).rows != rows:
            raise self._other(named, commit)
        return True

    def find(self, named: VersionId, made: str = "", rows: int | None = None) -> Snapshot:
        """Open the version that a record names, checked by `keeps`. Raises GalleryError if it was purged."""
        self.keeps(named, made, rows)
        return self.snapshot(named.number, named.commit)

    def newest(self) -> VersionId:
        """Identity of the newest version."""
        return self.snapshot().id

    def _other(self, named: VersionId, commit: str) -> OtherVersion:
        now = VersionId(self.gallery_id, named.number, commit)
        return OtherVersion(
            f"{named} was meant, and the gallery's {now} is another one: it was restored or copied since"
        )

    def _snapshot(self, version: int | None) -> Snapshot:
        head = self.catalog.head()
        if version is None or version == head.number:
            return Snapshot(self.catalog, self.shard_store, self.gallery_id, head)
        check_readable(version, head)
        try:
            return Snapshot(self.catalog, self.shard_store, self.gallery_id, self.catalog.read(version))
        except FileNotFoundError:
            check_readable(version, self.catalog.head())
            raise damaged(f"version {version}", "its file is missing") from None

    def versions(self) -> list[int]:
        """Numbers of the versions that can be read, ascending; 0 is the empty gallery as it was made."""
        head = self.catalog.head()
        return [0, *(n for n in self.catalog.numbers() if head.purged < n <= head.number)]

    def log(self) -> list[LogEntry]:
        """The audit log, oldest entry first, purged versions included; no ids, no vectors."""
        return self.catalog.entries()

    @cached_property
    def catalog(self) -> Catalog:
        """The catalog of versions."""
        return Catalog(self.folder, self.created)

    @cached_property
    def shard_store(self) -> ShardStore:
        """The store of shard files."""
        return ShardStore(self.folder, self.spec, self.gallery_id, self.cipher, self.cache)

    @cached_property
    def suppressions(self) -> SuppressionList:
        """The suppression list."""
        return SuppressionList(self.folder, self.cipher, lambda: self.catalog.head().suppressed)

    def cipher(self) -> Cipher | None:
        """Cipher of an encrypted gallery, or None. Raises GalleryError where the key is missing or wrong."""
        return self._cipher

    def __reduce__(self) -> tuple[type[Gallery], tuple[Any, ...]]:
        return Gallery, (self.folder, self.spec, self.gallery_id, self.created, self.key_check)

    @classmethod
    def _new(cls, folder: Folder, spec: GallerySpec) -> Gallery:
        gallery_id = str(uuid.uuid4())
        check = Cipher.from_environment(gallery_id).check_value() if spec.encryption else None
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
    def _cipher(self) -> Cipher | None:
        if self.spec.encryption is None:
            return None
        cipher = Cipher.from_environment(self.gallery_id)
        cipher.check(self.key_check or "")
        return cipher
