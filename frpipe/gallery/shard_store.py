"""Store of a gallery's shard files, which are checked before they are published and before they are used."""

from __future__ import annotations

import hashlib
import io
import mmap
import re
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from frpipe.core.errors import FrpipeError, GalleryDamaged, StorageError
from frpipe.gallery.byte_ranges import Bytes, Held, Mapped, Ranged
from frpipe.gallery.catalog import Deleted, Purged, ShardRef
from frpipe.gallery.derived import SHARDS, DerivedFiles, is_derived
from frpipe.gallery.document import damaged, read_twice
from frpipe.gallery.encryption import Cipher
from frpipe.gallery.hdf5_faults import is_open_for_writing
from frpipe.gallery.layout import Layout, facts_of, read_layout, structure_digest
from frpipe.gallery.photos import MADE_OF
from frpipe.gallery.schema import FACE_ID, SUBJECT_ID, attributes_of
from frpipe.gallery.shard import Shard, write_shard
from frpipe.gallery.shard_cache import ShardCache, Stored
from frpipe.gallery.shard_index import BrokenIndex, Kind, Read, Rows, ShardIndex, index_of
from frpipe.gallery.spec import GallerySpec
from frpipe.io.storage.failure import ExplainedFile
from frpipe.io.storage.folder import Folder

DELETED = "deleted"
INDEX = ".index"
_OF_A_WRITER = re.compile(rf"{SHARDS}/[0-9a-f]{{20}}(?:\.h5|\{INDEX})|{DELETED}/[0-9a-f]{{20}}\.bin")
_MOST_LAYOUTS = 4096
# Columns of a shard lie side by side: what is read of one takes the next with it, and no vectors.
_AHEAD = 1 << 18


class ShardStore:
    """Store of the files in `shards/` and `deleted/`. Names are random, and files never change."""

    def __init__(
        self,
        folder: Folder,
        spec: GallerySpec,
        gallery_id: str,
        cipher: Callable[[], Cipher | None],
        cache: ShardCache | None = None,
    ) -> None:
        """Make the store. cache: for remote shards; None: each process fetches them for itself."""
        self._folder, self._spec, self._id, self._cipher = folder, spec, gallery_id, cipher
        self._cache = None if folder.is_local else cache
        self.dim = spec.dim
        # Shards never change: one that was checked is not parsed again while its file is the same.
        self._layouts: dict[tuple[str, str], Layout] = {}
        # None: the shard has no usable index.
        self._indexes: dict[str, ShardIndex | None] = {}

    def begin(self, texts: pa.Table, vectors: NDArray[np.floating], created: str) -> Callable[[], ShardRef]:
        """Write a shard as a draft; the function that is returned checks, hashes and publishes it.

        texts: rows sorted by key, without `embedding`; vectors: (n, dim) float, theirs.
        """
        name = f"{SHARDS}/{secrets.token_hex(10)}.h5"
        facts = facts_of(self._spec, self._id, created, texts.num_rows)
        stored = vectors.astype(self._spec.stored_type, copy=False)
        # The function must not hold the vectors: several wait while the next shard is made.
        known = [column for column in (SUBJECT_ID, FACE_ID, MADE_OF) if column in texts.column_names]
        keys, attributes = texts.select(known), tuple(attributes_of(texts.schema))
        draft = self._folder.draft(name) if self._spec.encryption is None else None
        if draft is None:
            image = io.BytesIO()
            write_shard(image, texts, stored, facts)
            return lambda: self._upload(name, image, keys, attributes)
        try:
            write_shard(draft, texts, stored, facts)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        return lambda: self._adopt(name, draft, keys, attributes)

    def open(self, ref: ShardRef, *, vectors: bool = True, by_index: bool = True) -> Shard:
        """Open a checked shard. Without `vectors`, only the small columns are fetched from an object store.

        A shard with an index is not parsed, unless `by_index` is false: the index was made after the shard
        was checked, and locates its columns. Before vectors are read, the bytes that the check goes by must
        be those that it found sound. No index is fetched for a shard whose bytes are on this machine anyway.

        A remote or encrypted shard that is read whole is checked by its SHA-256, a local one by size and
        structure: hashing takes ten times as long as reading, and is left to `verify`.
        """
        content, file, size, version = self._content(ref, vectors)
        told = self._told(ref, content, size, vectors) if by_index else None
        layout = told or self._layouts.get((ref.name, version))
        if layout is None:
            layout = self._check(file, size, ref.name, ref.rows)
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.clear()
            self._layouts[ref.name, version] = layout
        if (layout.attributes, layout.rows) != (ref.attributes, ref.rows):
            raise damaged(ref.name, "it has other attributes or rows than its version says")
        return Shard(ref.name, layout, content, self._spec.dim)

    def _told(self, ref: ShardRef, content: Bytes, size: int, vectors: bool) -> Layout | None:
        """Layout of a shard by its index; None where the shard is to be parsed."""
        is_here = not self._folder.is_local and not isinstance(content, Ranged)
        if is_here or (vectors and self._spec.encryption is not None):
            return None
        index = self.index(ref)
        # Every range in an index lies within the size that it states.
        if index is None or index.size != size:
            return None
        if vectors and index.structure != self._structure(content, index.layout, size):
            return None
        return index.layout

    def deleted_rows(self, ref: ShardRef) -> NDArray[np.int64]:
        """Read the numbers of a shard's deleted rows, ascending."""
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

    def index(self, ref: ShardRef) -> ShardIndex | None:
        """Read the index of a shard; None if it has none, or a damaged one."""
        found = self._indexes.get(ref.name)
        if found is None and ref.name not in self._indexes:
            with suppress(FileNotFoundError, BrokenIndex):
                found = self._parsed(self._index_reader(ref))
            if len(self._indexes) >= _MOST_LAYOUTS:
                self._indexes.clear()
            self._indexes[ref.name] = found
        # An index is valid only for the file that it was made from, not for another file of that name.
        return (
            found if found is not None and (found.sha256, found.stored) == (ref.sha256, ref.bytes) else None
        )

    def find(self, ref: ShardRef, kind: Kind, wanted: NDArray[np.uint64]) -> Rows | None:
        """Find all rows of a shard with one of these hashes, and perhaps others; None: no index, any may."""
        index = self.index(ref)
        try:
            return None if index is None else index.find(kind, wanted, self._index_reader(ref))
        except (FileNotFoundError, BrokenIndex):
            self._indexes[ref.name] = None
            return None

    def subject_hashes(self, ref: ShardRef) -> NDArray[np.uint64] | None:
        """Read the hashes of the people of all rows: (rows,); None if there is no index."""
        index = self.index(ref)
        try:
            return None if index is None else index.subjects(self._index_reader(ref))
        except (FileNotFoundError, BrokenIndex):
            self._indexes[ref.name] = None
            return None

    def write_index(self, ref: ShardRef) -> bool:
        """Write the index of a shard if it has none, or a damaged one; returns whether it was written.

        One of earlier code is written anew where a structure in it would spare searches the parsing of the
        shard: not in object stores, nor where shards are encrypted. Raises Purged where a compaction has
        removed the shard.
        """
        index = self.index(ref)
        parses = self._folder.is_local and self._spec.encryption is None
        try:
            if index is not None and (index.structure or not parses):
                index.check(self._index_reader(ref))
                return False
        except (FileNotFoundError, BrokenIndex):
            pass
        try:
            made = self._index_data(ref)
        except FileNotFoundError:
            raise Purged.while_at_work() from None
        # It may have been misread, or written by another process since it was looked for.
        with suppress(FileNotFoundError, BrokenIndex):
            if self._whole_index(ref) == made:
                self._indexes.pop(ref.name, None)
                return False
        name, data = self._index_file(ref, made)
        self._write(name, data)
        self._indexes.pop(ref.name, None)
        # A compaction that removed the shard before may have looked for its index before, too.
        if not self._folder.exists(ref.name):
            self._folder.delete(name)
            raise Purged.while_at_work()
        return True

    def is_index_sound(self, ref: ShardRef) -> bool:
        """Whether the index of a shard is missing, or exactly what is built from the shard."""
        try:
            found = self._whole_index(ref)
            head = self._parsed(lambda start, end: found[start:end])
        except FileNotFoundError:
            return True
        except BrokenIndex:
            return False
        return found == self._index_data(ref, structure=bool(head.structure))

    def names(self) -> set[str]:
        """Names of all files of shards and deleted rows, whether a version names them or not."""
        listed = (entry.name for sub in (SHARDS, DELETED) for entry in self._folder.list(sub))
        return {name for name in listed if not is_derived(name)}

    @staticmethod
    def strays(names: Iterable[str], refs: Iterable[ShardRef]) -> set[str]:
        """Names of files that belong to none of these shards, nor were made from one."""
        stems = {_stem(name) for name in files_of(refs)}
        return {name for name in names if _stem(name) not in stems}

    def remove(self, names: Iterable[str]) -> None:
        """Remove files that no version names any more, and with a shard its index.

        Files derived from it are removed by `DerivedFiles.remove_orphans`.
        """
        gone = set(names)
        indexes = {index_name(name) for name in gone if name.startswith(f"{SHARDS}/")}
        # An index goes last: after a kill it is still found by the name of its shard, or has no shard. Who
        # writes one meanwhile looks for its shard afterwards.
        for name in [*sorted(gone - indexes), *sorted(indexes)]:
            self._folder.delete(name)

    def sweep(self, older_than: timedelta = timedelta(0)) -> int:
        """Remove drafts of killed writers, then files derived from shards that are gone.

        A writer at work on such a draft starts again.
        """
        swept = self._folder.child(SHARDS).sweep(older_than.total_seconds())
        return swept + self.derived.remove_orphans()

    @property
    def derived(self) -> DerivedFiles:
        """Files derived from the shards."""
        return DerivedFiles(self._folder)

    def is_open_for_writing(self, name: str) -> bool:
        """Whether a shard is marked as open for writing."""
        return self._folder.is_local and is_open_for_writing(Path(self._folder.uri) / name)

    def check_cache(self) -> None:
        """Raise StorageError if a cached shard that is in use has been changed."""
        if self._cache is not None:
            self._cache.check()

    def digest(self, name: str) -> str:
        """SHA-256 of a file as it is stored."""
        with self._opened(name) as file:
            return hashlib.file_digest(cast(io.BufferedReader, file), "sha256").hexdigest()

    def _content(self, ref: ShardRef, vectors: bool) -> tuple[Bytes, str | BinaryIO, int, str]:
        """Bytes of a shard, the file for h5py, its size, and a text that changes when the file does."""
        if self._spec.encryption is not None:
            plain = self._decrypted(ref)
            return Held(plain), io.BytesIO(plain), len(plain), ref.sha256
        if self._folder.is_local:
            # Text: to make a Path takes as long as to open the file.
            path = f"{self._folder.uri}/{ref.name}"
            content = Mapped(path)
            status = content.status()
            _check_size(ref, status.st_size)
            return content, path, ref.bytes, f"{status.st_ctime_ns} {status.st_ino}"
        data = self._whole(ref) if vectors else self._cached(ref)
        if isinstance(data, mmap.mmap):
            return Mapped(data), _file_of(data), len(data), ref.sha256
        if data is not None:
            return Held(data), io.BytesIO(data), len(data), ref.sha256
        entry = self._folder.entry(ref.name)
        _check_size(ref, entry.bytes)
        file = self._opened(ref.name, _AHEAD)
        return Ranged(file), file, ref.bytes, entry.version

    def _opened(self, name: str, ahead: int | None = None) -> BinaryIO:
        return cast(BinaryIO, ExplainedFile(self._folder.open(name, ahead), self._folder.uri))

    def _decrypted(self, ref: ShardRef) -> bytearray:
        return cast(Cipher, self._cipher()).decrypt(ref.name, self._whole(ref))

    def _whole(self, ref: ShardRef) -> Stored:
        def fetch() -> bytes:
            return self._hashed(ref.name, ref.sha256, "its SHA-256 has changed")

        return self._cache.file(ref.sha256, ref.bytes, fetch) if self._cache else fetch()

    def _cached(self, ref: ShardRef) -> mmap.mmap | None:
        """Map a shard that is in this node's cache; else None."""
        return self._cache.found(ref.sha256, ref.bytes) if self._cache else None

    def _hashed(self, name: str, sha256: str, fault: str) -> bytes:
        """Read all bytes of a file, which must have this digest."""

        def checked(data: bytes) -> bytes:
            if hashlib.sha256(data).hexdigest() != sha256:
                raise damaged(name, fault)
            return data

        return read_twice(self._folder, name, checked)

    def _index_reader(self, ref: ShardRef) -> Read:
        """Reader of byte ranges of an index."""
        if self._spec.encryption is None:
            return partial(self._folder.read_range, index_name(ref.name))
        view = memoryview(self._whole_index(ref))
        return lambda start, end: view[start:end]

    def _whole_index(self, ref: ShardRef) -> bytes | bytearray:
        """Read the plain bytes of a shard's index. FileNotFoundError if it has none; BrokenIndex."""
        name = index_name(ref.name)
        data, cipher = self._folder.read(name), self._cipher() if self._spec.encryption is not None else None
        try:
            return cipher.decrypt(name, data) if cipher else data
        except GalleryDamaged:
            raise BrokenIndex from None

    def _parsed(self, read: Read) -> ShardIndex:
        return ShardIndex.read(read, self._spec.dim, self._spec.stored_type)

    def _index_data(self, ref: ShardRef, *, structure: bool = True) -> bytes:
        """Build the index of a shard from its file. structure: false: as earlier code did."""
        content, file, size, _ = self._content(ref, vectors=False)
        shard = Shard(ref.name, self._check(file, size, ref.name, ref.rows), content, self._spec.dim)
        known = [name for name in (SUBJECT_ID, FACE_ID, MADE_OF) if name in shard.layout.texts]
        keys = pa.table({name: shard.text(name) for name in known})
        its = self._structure(content, shard.layout, size) if structure else ""
        return index_of(keys, shard.layout, ref.sha256, ref.bytes, size, structure=its)

    def _index_file(self, ref: ShardRef, data: bytes) -> tuple[str, bytes]:
        """Name and bytes of the index of a shard, as they are stored."""
        name = index_name(ref.name)
        cipher = self._cipher() if self._spec.encryption is not None else None
        return name, bytes(cipher.encrypt(name, memoryview(data))) if cipher else data

    def _adopt(self, name: str, draft: Path, keys: pa.Table, attributes: tuple[str, ...]) -> ShardRef:
        try:
            size = draft.stat().st_size
            layout = self._check(draft, size, name, keys.num_rows)
            sha256, structure = _digest_of(draft), self._structure(Mapped(draft), layout, size)
            self._folder.adopt(name, draft)
        except FileNotFoundError:
            raise Purged.while_at_work() from None
        finally:
            draft.unlink(missing_ok=True)
        ref = ShardRef(name, keys.num_rows, size, sha256, attributes)
        return self._indexed(ref, index_of(keys, layout, sha256, size, size, structure=structure))

    def _upload(self, name: str, image: io.BytesIO, keys: pa.Table, attributes: tuple[str, ...]) -> ShardRef:
        view = image.getbuffer()
        layout = self._check(image, len(view), name, keys.num_rows)
        cipher = self._cipher()
        data = bytes(cipher.encrypt(name, view) if cipher else view)
        self._write(name, data)
        ref = ShardRef(name, keys.num_rows, len(data), hashlib.sha256(data).hexdigest(), attributes)
        structure = self._structure(Held(view), layout, len(view))
        index = index_of(keys, layout, ref.sha256, ref.bytes, len(view), structure=structure)
        return self._indexed(ref, index)

    def _indexed(self, ref: ShardRef, index: bytes) -> ShardRef:
        """Write the index of a new shard; if that fails the shard is removed, as no version will name it."""
        try:
            self._write(*self._index_file(ref, index))
        except FrpipeError:
            with suppress(StorageError):
                self.remove([ref.name])
            raise
        return ref

    def _write(self, name: str, data: bytes) -> None:
        """Write a file. Raises Purged if a compaction removes its draft."""
        try:
            self._folder.write(name, data)
        except FileNotFoundError:
            raise Purged.while_at_work() from None

    def _check(self, file: Path | str | BinaryIO, size: int, name: str, rows: int) -> Layout:
        file = Path(file) if isinstance(file, str) else file
        return read_layout(file, size, name=name, spec=self._spec, gallery_id=self._id, rows=rows)

    def _structure(self, content: Bytes, layout: Layout, size: int) -> str:
        return structure_digest(content, layout, size, spec=self._spec, gallery_id=self._id)


def files_of(refs: Iterable[ShardRef]) -> set[str]:
    """Names of the files of shards and of their deleted rows."""
    return {name for ref in refs for name in (ref.name, ref.deleted.name if ref.deleted else ref.name)}


def is_of_a_writer(name: str) -> bool:
    """Whether a file has the name of a shard, an index or a list of deleted rows."""
    return _OF_A_WRITER.fullmatch(name) is not None


def _stem(name: str) -> str:
    """Common part of the names of a shard and the files made from it."""
    return name.partition(".")[0]


def index_name(shard: str) -> str:
    """Name of the index of a shard."""
    return f"{_stem(shard)}{INDEX}"


def _check_size(ref: ShardRef, size: int) -> None:
    if size != ref.bytes or not size:
        raise damaged(ref.name, "its size has changed")


def _file_of(mapped: mmap.mmap) -> BinaryIO:
    """File object for h5py, which reads small pieces of it."""
    mapped.seek(0)
    return cast(BinaryIO, mapped)


def _digest_of(path: Path) -> str:
    """SHA-256 of a file that is not empty. It is mapped: copying would take a quarter of the time."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        content.madvise(mmap.MADV_SEQUENTIAL)
        return hashlib.sha256(content).hexdigest()
