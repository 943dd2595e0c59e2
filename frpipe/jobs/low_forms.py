"""Store a gallery's rows, in the form of a kernel of few dimensions, beside its shards for all searches."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from frpipe.core.kernel_names import Name
from frpipe.gallery.catalog import ShardRef
from frpipe.gallery.derived import (
    Derived,
    DerivedFiles,
    basis_name,
    derived_from,
    digest_of,
    form_name,
)
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.snapshot import Snapshot
from frpipe.gallery.verify import GalleryProblem
from frpipe.matching.basis import Basis
from frpipe.matching.choice import Stored
from frpipe.matching.kernel import Floats, Indices, Kernel
from frpipe.matching.kernels import kernel_of
from frpipe.matching.sieve import Packed

if TYPE_CHECKING:
    from frpipe.matching.subspace import ReadyRows, Subspace

LOW: tuple[Name, ...] = ("subspace", "subspace-int8")
"""Kernels of few dimensions."""

# Memory of the low forms of a shard while they are made, in float32. Larger shards have none stored.
_MOST_BYTES = 512 << 20
# Rows of a stored form that are compared with their vectors before it is used.
_TRIED = 16
# A basis that was measured is off by less than a ten thousandth.
_MOST_DEFECT = 0.01
# Rows at a time, in float64.
_PIECE = 4096
_NOT_TRUE = "it was derived from a shard and is not as it should be: delete it, searches make it anew"


def can_be_stored(gallery: Gallery) -> bool:
    """Whether a gallery may have forms beside its shards.

    In an object store, or encrypted, a shard is fetched whole, checked and decrypted before a row of it is
    used: that takes as long as to make the forms, and forms would have to be fetched and kept secret, too.
    """
    return gallery.folder.is_local and gallery.spec.encryption is None


def stored_forms(gallery: Gallery, snapshot: Snapshot) -> Stored:
    """Find the stored forms of a version of a gallery: in the first basis that is there and whole."""
    files = DerivedFiles(gallery.folder)
    names = files.names()
    for name in names:
        basis = _basis(files.read(name), name, gallery.spec.dim) if _is_basis(name) else None
        if basis is not None:
            return Stored(basis, _lacking(snapshot, digest_of(basis.matrix), set(names)))
    return Stored()


def _basis(found: Derived | None, name: str, dim: int) -> Basis | None:
    """Read the basis that a file holds; None where it is none for vectors of `dim` numbers."""
    if found is None or found.array.dtype != np.float32 or len(found.array) != dim:
        return None
    if not np.isfinite(found.array).all() or basis_name(digest_of(found.array)) != name:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        basis = Basis.of(found.array)
    # With any other products may leave float32, and a bound that is no number rules out everybody.
    return basis if basis.defect < _MOST_DEFECT else None


def store_basis(gallery: Gallery, refs: list[ShardRef], basis: Basis) -> bool:
    """Store a basis that was measured on these shards; whether it is there."""
    name = basis_name(digest_of(basis.matrix))
    files = DerivedFiles(gallery.folder)
    return files.write(name, refs, lambda: derived_from(refs, {}, basis.matrix))


class LowForms:
    """Stored forms of a version's shards, in a basis. What is not there is made, and stored.

    kernel: `name`'s, of few dimensions, in the basis.  most_bytes: of forms of some rows of a shard that are
    kept in memory.
    """

    def __init__(
        self,
        gallery: Gallery,
        snapshot: Snapshot,
        kernel: Kernel,
        basis: Basis,
        *,
        name: Name,
        most_bytes: int,
    ) -> None:
        assert name in LOW
        self._files, self._snapshot = DerivedFiles(gallery.folder), snapshot
        self._kernel, self._kind = cast("Subspace", kernel), name
        self._basis, self._room = digest_of(basis.matrix), most_bytes
        self._row_bytes = self._kernel.row_bytes(basis.dim)
        self._whole: dict[str, ReadyRows | None] = {}
        self._taken: dict[str, ReadyRows] = {}

    def of(self, ref: ShardRef, rows: Indices | None) -> ReadyRows | None:
        """The forms of some rows of a shard, ascending, or of all (None). None: the search makes its own."""
        if ref.name in self._taken:
            return self._taken[ref.name]
        if ref.name not in self._whole:
            # For a few rows of a shard all of its forms would not pay.
            most = rows is None or 2 * len(rows) >= ref.rows
            self._whole[ref.name] = self._stored(ref) if most else self._read(ref)
        whole = self._whole[ref.name]
        if whole is None or rows is None:
            return whole
        taken = whole.taken(rows)
        size = len(rows) * self._row_bytes
        if size <= self._room:
            self._room -= size
            self._taken[ref.name] = taken
        return taken

    def _stored(self, ref: ShardRef) -> ReadyRows | None:
        found = self._read(ref)
        if found is None and ref.rows * self._row_bytes * 4 <= _MOST_BYTES:
            name = form_name(ref, self._basis, self._kind)
            if self._files.write(name, [ref], lambda: self._made(ref)):
                found = self._read(ref)
        return found

    def _read(self, ref: ShardRef) -> ReadyRows | None:
        found = self._files.of_shards(form_name(ref, self._basis, self._kind), [ref])
        if found is None or len(found.array) != ref.rows:
            return None
        packed = Packed(found.array, found.facts)
        try:
            ready = self._kernel.ready(packed)
        except ValueError:
            return None
        some = np.unique(np.linspace(0, ref.rows - 1, _TRIED).astype(np.int64))
        return ready if self._kernel.fits(packed, self._vectors(ref, some), some) else None

    def _made(self, ref: ShardRef) -> Derived | None:
        packed = self._kernel.packed(self._vectors(ref))
        return None if packed is None else derived_from([ref], packed.facts, packed.array)

    def _vectors(self, ref: ShardRef, rows: Indices | slice = slice(None)) -> Floats:
        return self._snapshot.open(ref).vectors()[rows].astype(np.float32, copy=False)


def _lacking(snapshot: Snapshot, basis: str, names: set[str]) -> dict[str, float]:
    """The share, by kernel, of a version's rows whose form is not stored."""
    shards = snapshot.version.shards
    found: dict[str, float] = {}
    for kind in LOW:
        rows = sum(ref.rows for ref in shards if form_name(ref, basis, kind) not in names)
        found[kind] = rows / max(1, sum(ref.rows for ref in shards))
    return found


def form_problems(gallery: Gallery) -> list[GalleryProblem]:
    """Find derived files that are damaged, or are not the forms of the vectors of their shards.

    Searches do without those that are damaged, and make them anew. Those of shards that the newest version
    does not have are read, and not compared.
    """
    files, snapshot = gallery.shard_store.derived, gallery.snapshot()
    shards = {ref.name: ref for ref in snapshot.version.shards}
    found = {name: files.read(name) for name in files.names()} if can_be_stored(gallery) else {}
    whole = {name: _basis(each, name, gallery.spec.dim) for name, each in found.items() if _is_basis(name)}
    bases = {name: basis for name, basis in whole.items() if basis is not None}
    problems = [name for name, each in found.items() if each is None or (name in whole and name not in bases)]
    for name, each in found.items():
        if each is None or name in whole:
            continue
        basis = bases.get(basis_name(name.split(".")[1]))
        refs = [shards[source] for source in each.sources if source in shards]
        if basis is not None and refs and not _is_true(each, refs, name.split(".")[2], basis, snapshot):
            problems.append(name)
    # A compaction may have taken some away meanwhile.
    still = set(files.names())
    return [GalleryProblem(name, _NOT_TRUE) for name in sorted(problems) if name in still]


def _is_basis(name: str) -> bool:
    return name.endswith(".basis")


def _is_true(found: Derived, refs: list[ShardRef], kind: str, basis: Basis, snapshot: Snapshot) -> bool:
    """Whether a form is that of all vectors of its shard."""
    if kind not in LOW:
        return False
    kernel = cast("Subspace", kernel_of(kind, basis))
    ref, packed = refs[0], Packed(found.array, found.facts)
    if found.sources != {ref.name: ref.sha256} or len(found.array) != ref.rows:
        return False
    try:
        kernel.ready(packed)
    except ValueError:
        return False
    vectors = snapshot.open(ref).vectors()
    pieces = (slice(start, start + _PIECE) for start in range(0, ref.rows, _PIECE))
    return all(kernel.fits(packed, vectors[some].astype(np.float32), some) for some in pieces)
