"""Store of a gallery's shard files: built and checked before they are seen, opened and checked before use."""

from __future__ import annotations

import hashlib
import io
import mmap
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from frpipe.gallery.byte_ranges import Bytes, Held, Mapped, Ranged
from frpipe.gallery.catalog import Deleted, Purged, ShardRef
from frpipe.gallery.derived import SHARDS, DerivedFiles, is_derived
from frpipe.gallery.document import damaged, read_twice
from frpipe.gallery.encryption import Cipher
from frpipe.gallery.hdf5_faults import is_open_for_writing
from frpipe.gallery.layout import Layout, facts_of, read_layout
from frpipe.gallery.schema import attributes_of
from frpipe.gallery.shard import Shard, write_shard
from frpipe.gallery.shard_cache import ShardCache, Stored
from frpipe.gallery.spec import GallerySpec
from frpipe.io.storage.failure import ExplainedFile
from frpipe.io.storage.folder import Folder

DELETED = "deleted"
_MOST_LAYOUTS = 4096


class ShardStore:
    """Reads and writes `shards/` and `deleted/`. Names are random, files never change."""

    def __init__(
        self,
        folder: Folder,
        spec: GallerySpec,
        gallery_id: str,
        cipher: Callable[[], Cipher | None],
        cache: ShardCache | None = None,
    ) -> None:
        """cache: of the shards that are remote; None: each process fetches them for itself."""
        self._folder, self._spec, self._id, self._vault = folder, spec, gallery_id, cipher
        self._cache = None if folder.is_local else cache
        self.dim = spec.dim
        # Shards do not change: one that was checked need not be parsed again while its file is the same.
        self._layouts: dict[tuple[str, str], Layout] = {}

    def begin(self, texts: pa.Table, vectors: NDArray[np.floating], created: str) -> Callable[[], ShardRef]:
        """Write a shard out of sight; the function it returns checks, hashes and publishes it.

        texts: rows sorted by key, without `embedding`; vectors: (n, dim) float, theirs.
        """
        name = f"{SHARDS}/{secrets.token_hex(10)}.h5"
        facts = facts_of(self._spec, self._id, created, texts.num_rows)
        stored = vectors.astype(self._spec.stored_type, copy=False)
        # The call holds on to none of the rows: several wait while the next shard is made.
        rows, attributes = len(stored), tuple(attributes_of(texts.schema))
        draft = self._folder.draft(name) if self._spec.encryption is None else None
        if draft is None:
            image = io.BytesIO()
            write_shard(image, texts, stored, facts)
            return lambda: self._upload(name, image, rows, attributes)
        try:
            write_shard(draft, texts, stored, facts)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        return lambda: self._adopt(name, draft, rows, attributes)

    def open(self, ref: ShardRef, *, vectors: bool = True) -> Shard:
        """Open a checked shard. Without `vectors` an object store is asked for the small columns alone.

        A remote or encrypted shard that is read whole is checked by its SHA-256; a local one by size and
        structure, for to hash it takes ten times as long as to read it: that is what `verify` is for.
        """
        content, file, size, version = self._content(ref, vectors)
        layout = self._layouts.get((ref.name, version))
        if layout is None:
            layout = self._check(file, size, ref.name, ref.rows)
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.clear()
            self._layouts[ref.name, version] = layout
        if (layout.attributes, layout.rows) != (ref.attributes, ref.rows):
            raise damaged(ref.name, "it has other attributes or rows than its version says")
        return Shard(ref.name, layout, content, self._spec.dim)

    def deleted_rows(self, ref: ShardRef) -> NDArray[np.int64]:
        """Row numbers of the shard that are deleted, ascending."""
        if ref.deleted is None:
            return np.zeros(0, np.int64)
        name = ref.deleted.name
        data = self._hashed(name, ref.deleted.sha256, "it is not as it was written")
        if len(data) != 8 * ref.deleted.rows:
            raise damaged(name, "it is not as it was written")
        rows = np.frombuffer(data, "<i8")
        if rows.size and (rows[0] < 0 or rows[-1] >= ref.rows or np.any(np.diff(rows) <= 0)):
            raise damaged(name, "its rows are not rows of the shard")
        return rows

    def write_deleted(self, rows: NDArray[np.int64]) -> Deleted:
        """Write a list of deleted rows, ascending."""
        name, data = f"{DELETED}/{secrets.token_hex(10)}.bin", rows.astype("<i8").tobytes()
        self._folder.write(name, data)
        return Deleted(name, len(rows), hashlib.sha256(data).hexdigest())

    def names(self) -> set[str]:
        """Names of all files of shards and deleted rows, whether a version names them or not."""
        listed = (entry.name for sub in (SHARDS, DELETED) for entry in self._folder.list(sub))
        return {name for name in listed if not is_derived(name)}

    def remove(self, name: str) -> None:
        """Remove a file that no version names any more."""
        self._folder.delete(name)

    def sweep(self) -> int:
        """Remove half-written files of killed writers, then what was derived from shards that are gone.

        A writer at work starts again.
        """
        swept = self._folder.child(SHARDS).sweep(0.0)
        return swept + self.derived.remove_orphans()

    @property
    def derived(self) -> DerivedFiles:
        """What was derived from the shards."""
        return DerivedFiles(self._folder)

    def is_open_for_writing(self, name: str) -> bool:
        """Whether a shard says of itself that a program is writing to it."""
        return self._folder.is_local and is_open_for_writing(Path(self._folder.uri) / name)

    def check_cache(self) -> None:
        """Raise StorageError where a cached shard that is in use is not any more what was fetched."""
        if self._cache is not None:
            self._cache.check()

    def digest(self, name: str) -> str:
        """SHA-256 of a file as it is stored."""
        with self._opened(name) as file:
            return hashlib.file_digest(cast(io.BufferedReader, file), "sha256").hexdigest()

    def _content(self, ref: ShardRef, vectors: bool) -> tuple[Bytes, Path | BinaryIO, int, str]:
        """The bytes, the file for h5py, its size, and what changes when the file does."""
        if self._spec.encryption is not None:
            plain = self._decrypted(ref)
            return Held(plain), io.BytesIO(plain), len(plain), ref.sha256
        if self._folder.is_local:
            path = Path(self._folder.uri) / ref.name
            stat = path.stat()
            _check_size(ref, stat.st_size)
            return Mapped(path), path, ref.bytes, f"{stat.st_ctime_ns} {stat.st_ino}"
        data = self._whole(ref) if vectors else self._cached(ref)
        if isinstance(data, mmap.mmap):
            return Mapped(data), _file_of(data), len(data), ref.sha256
        if data is not None:
            return Held(data), io.BytesIO(data), len(data), ref.sha256
        entry = self._folder.entry(ref.name)
        _check_size(ref, entry.bytes)
        file = self._opened(ref.name)
        return Ranged(file), file, ref.bytes, entry.version

    def _opened(self, name: str) -> BinaryIO:
        return cast(BinaryIO, ExplainedFile(self._folder.open(name), self._folder.uri))

    def _decrypted(self, ref: ShardRef) -> bytearray:
        return cast(Cipher, self._vault()).decrypt(ref.name, self._whole(ref))

    def _whole(self, ref: ShardRef) -> Stored:
        def fetch() -> bytes:
            return self._hashed(ref.name, ref.sha256, "its SHA-256 has changed")

        return self._cache.file(ref.sha256, ref.bytes, fetch) if self._cache else fetch()

    def _cached(self, ref: ShardRef) -> mmap.mmap | None:
        """A shard that this node has already."""
        return self._cache.found(ref.sha256, ref.bytes) if self._cache else None

    def _hashed(self, name: str, sha256: str, fault: str) -> bytes:
        """All bytes of a file, whose digest must be this one."""

        def checked(data: bytes) -> bytes:
            if hashlib.sha256(data).hexdigest() != sha256:
                raise damaged(name, fault)
            return data

        return read_twice(self._folder, name, checked)

    def _adopt(self, name: str, draft: Path, rows: int, attributes: tuple[str, ...]) -> ShardRef:
        try:
            size = draft.stat().st_size
            self._check(draft, size, name, rows)
            sha256 = _digest_of(draft)
            self._folder.adopt(name, draft)
        except FileNotFoundError:
            raise Purged.while_at_work() from None
        finally:
            draft.unlink(missing_ok=True)
        return ShardRef(name, rows, size, sha256, attributes)

    def _upload(self, name: str, image: io.BytesIO, rows: int, attributes: tuple[str, ...]) -> ShardRef:
        view = image.getbuffer()
        self._check(image, len(view), name, rows)
        cipher = self._vault()
        data = bytes(cipher.encrypt(name, view) if cipher else view)
        try:
            self._folder.write(name, data)
        except FileNotFoundError:
            raise Purged.while_at_work() from None
        return ShardRef(name, rows, len(data), hashlib.sha256(data).hexdigest(), attributes)

    def _check(self, file: Path | BinaryIO, size: int, name: str, rows: int) -> Layout:
        return read_layout(file, size, name=name, spec=self._spec, gallery_id=self._id, rows=rows)


def _check_size(ref: ShardRef, size: int) -> None:
    if size != ref.bytes or not size:
        raise damaged(ref.name, "its size has changed")


def _file_of(mapped: mmap.mmap) -> BinaryIO:
    """The file for h5py, which reads some small pieces of it."""
    mapped.seek(0)
    return cast(BinaryIO, mapped)


def _digest_of(path: Path) -> str:
    """SHA-256 of a file that is not empty, through a map: a copy would cost a quarter of the time."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        content.madvise(mmap.MADV_SEQUENTIAL)
        return hashlib.sha256(content).hexdigest()
