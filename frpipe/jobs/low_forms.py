"""Store a gallery's rows, in the form of a kernel of few dimensions, beside its shards for all searches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError, FrpipeError, GalleryError, StorageError
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
from frpipe.gallery.search_view import SearchView
from frpipe.gallery.snapshot import Snapshot
from frpipe.gallery.verify import GalleryProblem
from frpipe.matching.basis import Basis
from frpipe.matching.choice import (
    SAMPLE_PROBES,
    SAMPLE_ROWS,
    Choice,
    Sample,
    Stored,
    Task,
    choose,
    spread,
    worth_a_look,
)
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
# Large shards whose rows stand for all: where they are not mapped, each is fetched whole.
_SAMPLED = 2
# The search that forms are made for before there is one: a unit of an identification, by its defaults.
_CANDIDATES, _UNIT = 10, 4096
# Making forms may fail in these ways without any harm to templates.
_FAILURES = (ConfigError, GalleryError, StorageError, MemoryError)
_NOT_TRUE = "it was derived from a shard and is not as it should be: delete it, searches make it anew"


def can_be_stored(gallery: Gallery) -> bool:
    """Whether a gallery may have forms beside its shards.

    In an object store, or encrypted, a shard is fetched whole, checked and decrypted before a row of it is
    used: that takes as long as to make the forms, and forms would have to be fetched and kept secret, too.
    """
    return gallery.folder.is_local and gallery.spec.encryption is None


def stored_forms(gallery: Gallery, snapshot: Snapshot) -> Stored | None:
    """Find the stored forms of a version of a gallery: in the first basis that is there and whole.

    None where the gallery may have none.
    """
    if not can_be_stored(gallery):
        return None
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


def store_basis(gallery: Gallery, choice: Choice, stored: Stored | None, refs: Sequence[ShardRef]) -> bool:
    """Store the basis of a choice that was made on a sample of these shards, where none is stored yet.

    stored: what is there now.  Returns whether forms in the basis of the choice are stored or can be.
    """
    basis = choice.basis
    if choice.stored or basis is None or stored is None or stored.basis is not None:
        return choice.stored
    files, name = DerivedFiles(gallery.folder), basis_name(digest_of(basis.matrix))
    return files.write(name, refs, lambda: derived_from(refs, {}, basis.matrix))


def typical_shards(refs: Sequence[ShardRef]) -> list[ShardRef]:
    """Choose some large shards, which stand for all.

    Where one is full, compactions join them with no others, so that what is measured on them stays.
    """
    most = max((ref.live_rows for ref in refs), default=0)
    large = [ref for ref in refs if 2 * ref.live_rows >= most]
    places = sorted({len(large) * place // _SAMPLED for place in range(_SAMPLED)}) if large else []
    return [large[place] for place in places]


def typical_rows(view: SearchView) -> Floats:
    """Sample the templates of typical shards, which stand for all."""
    refs = typical_shards(view.shards)
    return evenly([block[1] for _, _, block in view.located(refs)], SAMPLE_ROWS)


def evenly(parts: Iterable[Floats], count: int) -> Floats:
    """Choose about `count` vectors, as many of each part as of any other, evenly spread."""
    known = [part for part in parts if len(part)]
    each = -(-count // max(1, len(known)))
    if not known:
        return np.zeros((0, 1), np.float32)
    return np.concatenate([spread(part, each) for part in known])


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

    def store(self, ref: ShardRef) -> bool:
        """Make the forms of all rows of a shard, and store them; whether they are there now."""
        if ref.rows * self._row_bytes * 4 > _MOST_BYTES:
            return False
        name = form_name(ref, self._basis, self._kind)
        return self._files.write(name, [ref], lambda: self._made(ref))

    def _stored(self, ref: ShardRef) -> ReadyRows | None:
        found = self._read(ref)
        return self._read(ref) if found is None and self.store(ref) else found

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


@dataclass(frozen=True, slots=True)
class MadeForms:
    """Forms that were made before a search asked for them.

    kernels: whose forms the gallery keeps, as far as it is known.  made: files of forms.  lacking: files that
    are left for a search to make.  why: for people, where none are made or something failed.
    """

    kernels: tuple[Name, ...] = ()
    made: int = 0
    lacking: int = 0
    why: str = ""

    def line(self) -> str:
        """The result for people."""
        if not self.kernels:
            return f"forms      none made: {self.why}"
        left = f", {self.lacking:,} left for a search to make" if self.lacking else ""
        left += f": {self.why}" if self.why else ""
        return f"forms      {counted(self.made, 'files')} of {' and '.join(self.kernels)} made{left}"


def make_forms(gallery: Gallery) -> MadeForms:
    """Make the forms that shards of the newest version lack, for the kernels whose forms are stored already.

    Where none are stored yet, a trial on a sample chooses the kernel, as a search of 4,096 probes for the
    best 10 does, and its basis is stored. What cannot be made or stored is told, and left to searches: the
    templates are in the gallery.
    """
    try:
        return _made_where_wanted(gallery)
    except _FAILURES as error:
        return MadeForms(why=_reason(error))


def _made_where_wanted(gallery: Gallery) -> MadeForms:
    snapshot = gallery.snapshot()
    stored = stored_forms(gallery, snapshot)
    if stored is None:
        return MadeForms(why="the gallery is encrypted or in an object store, where they would not pay")
    kinds = tuple(kind for kind in LOW if stored.lacking.get(kind, 1) < 1)
    if kinds:
        return _made(gallery, snapshot, kinds, cast("Basis", stored.basis))
    choice, refs = _chosen(snapshot, stored), typical_shards(snapshot.version.shards)
    if choice.basis is None or not store_basis(gallery, choice, stored, refs):
        return MadeForms(why="their basis cannot be stored" if choice.basis else choice.why)
    return _made(gallery, snapshot, (choice.name,), choice.basis)


def _chosen(snapshot: Snapshot, stored: Stored) -> Choice:
    """Choose the kernel whose forms are made, on a sample of the gallery, half of it as probes."""
    if not worth_a_look("auto", snapshot.rows * _UNIT):
        return Choice("fp32", "so few templates that searches do without")
    rows = typical_rows(SearchView(snapshot, {}))
    sample = Sample(rows[::2], spread(rows[1::2], SAMPLE_PROBES))
    return choose("auto", sample, Task(snapshot.rows, _CANDIDATES, -1, _UNIT), stored=stored)


def _made(gallery: Gallery, snapshot: Snapshot, kinds: tuple[Name, ...], basis: Basis) -> MadeForms:
    """Make what is not there; a compaction that takes shards away meanwhile ends it."""
    there, digest = set(DerivedFiles(gallery.folder).names()), digest_of(basis.matrix)
    made = lacking = 0
    why = ""
    for kind in kinds:
        wanted = [ref for ref in snapshot.version.shards if form_name(ref, digest, kind) not in there]
        before, lacking = made, lacking + len(wanted)
        # What this machine cannot make is for others.
        try:
            kernel = kernel_of(kind, basis)
            forms = LowForms(gallery, snapshot, kernel, basis, name=kind, most_bytes=0)
            for ref in wanted:
                made += forms.store(ref)
        except _FAILURES as error:
            why = _reason(error)
        lacking -= made - before
    return MadeForms(kinds, made, lacking, why)


def _reason(error: Exception) -> str:
    """What failed, for people."""
    return error.message if isinstance(error, FrpipeError) else "there is not enough memory"


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
