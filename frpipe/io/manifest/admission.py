"""The check of every row of a manifest before any work, and the normalised rows that come out of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from frpipe.core.errors import ManifestError
from frpipe.core.text import alike, canonical_text
from frpipe.io.manifest.columns import ID, LOCATION, SUBJECT, URI
from frpipe.io.manifest.duplicates import SeenIds, confirmed, hashes_of
from frpipe.io.manifest.image_struct import HAS_BYTES
from frpipe.io.manifest.image_struct import ids as image_ids
from frpipe.io.manifest.manifest import Batch, Manifest
from frpipe.io.manifest.roots import Resolver
from frpipe.io.manifest.row_faults import BadRow, RowFault, RowTally
from frpipe.io.manifest.row_ref import RowRef

_SHOWN = 5


def plan_schema(manifest: Manifest) -> pa.Schema:
    """Columns of a normalised row.

    image_id, in Unicode NFC; image_uri as written, null for embedded photos; location, what a worker reads;
    subject_id, in NFC, null where unknown; then the manifest's own columns, as written.
    """
    own = [pa.field(ID, pa.string(), False), pa.field(URI, pa.string())]
    own += [pa.field(LOCATION, pa.string(), False), pa.field(SUBJECT, pa.string())]
    return pa.schema(own + list(manifest.columns.extra))


def admitted(
    manifest: Manifest,
    roots: tuple[str, ...],
    resolver: Resolver | None = None,
    people: WrittenPeople | None = None,
) -> Iterator[pa.Table]:
    """All rows of a manifest, normalised, in order, in batches.

    resolver: one that counts.  people: takes the subject ids as they are written.

    After a bad row nothing more comes out; the rest is read for the count, and the iteration ends with
    ManifestError. Only an iteration that ends without one has checked the manifest.
    """
    tally = RowTally(manifest.names)
    admission = _Admission(manifest, resolver or Resolver(manifest.folder.uri, roots), tally, people)
    rows = 0
    with SeenIds() as seen:
        for batch in manifest.batches(tally):
            table, ids = admission.normalise(batch)
            rows += len(ids)
            seen.add(hashes_of(ids))
            if not tally:
                yield table
        if RowFault.COLUMNS not in tally.kinds:
            _count_duplicates(manifest, seen, tally)
    tally.raise_if_any()
    if not rows:
        raise ManifestError("the manifest has no rows", "list at least one photo")


class _Admission:
    def __init__(
        self, manifest: Manifest, resolver: Resolver, tally: RowTally, people: WrittenPeople | None
    ) -> None:
        self._manifest = manifest
        self._columns = manifest.columns
        self._resolver = resolver
        self._tally = tally
        self._people = people
        self._schema = plan_schema(manifest)

    def normalise(self, batch: Batch) -> tuple[pa.Table, list[str]]:
        """The rows as they go into the plan, and their ids (an empty text where one is missing)."""
        uris: list[str | None] | None = None
        if self._columns.has_images:
            uris, locations = self._images(batch)
        elif self._columns.embedded:
            locations = self._references(batch)
        else:
            uris = self._texts(batch, URI)
            locations = self._locations(batch, uris)
        ids = self._ids(batch) if self._columns.has_id else self._uris_as_ids(batch)
        table = pa.table(
            [
                pa.array(ids, pa.string()),
                pa.nulls(len(ids), pa.string()) if uris is None else pa.array(uris, pa.string()),
                pa.array(locations, pa.string()),
                self._subjects(batch),
                *(_cast(batch.rows.column(field.name), field) for field in self._columns.extra),
            ],
            schema=self._schema,
        )
        return table, ids

    def _locations(self, batch: Batch, uris: list[str | None]) -> list[str]:
        resolve = self._resolver.resolve
        locations = []
        for index, uri in enumerate(uris):
            try:
                locations.append(resolve(uri or ""))
            except BadRow as bad:
                self._tally.add(bad.fault, batch.file, batch.first_row + index)
                locations.append("")
        return locations

    def _images(self, batch: Batch) -> tuple[list[str | None], list[str]]:
        """Addresses and locations of photos that are rows where they have bytes, or have no path either."""
        paths, has_bytes = self._texts(batch, URI), batch.rows.column(HAS_BYTES).to_pylist()
        uris = [None if has else path or None for path, has in zip(paths, has_bytes, strict=True)]
        locations = self._references(batch)
        for index, uri in enumerate(uris):
            if uri is not None:
                row = Batch(batch.file, batch.first_row + index, batch.rows.slice(index, 1))
                (locations[index],) = self._locations(row, [uri])
        return uris, locations

    def _uris_as_ids(self, batch: Batch) -> list[str]:
        uris = self._texts(batch, URI)
        if self._columns.has_images:
            uris = [*image_ids(uris, self._manifest.files[batch.file].name, batch.first_row)]
        return [canonical_text(uri or "") for uri in uris]

    def _references(self, batch: Batch) -> list[str]:
        file = f"{self._manifest.folder.uri.rstrip('/')}/{self._manifest.files[batch.file].name}"
        first = batch.first_row - 1
        return [str(RowRef(file, first + index)) for index in range(batch.rows.num_rows)]

    def _ids(self, batch: Batch) -> list[str]:
        ids = self._texts(batch, ID)
        for index, value in enumerate(ids):
            if not value:
                self._tally.add(RowFault.NO_ID, batch.file, batch.first_row + index)
        return [canonical_text(value or "") for value in ids]

    def _subjects(self, batch: Batch) -> pa.Array:
        if not self._columns.has_subject:
            return pa.nulls(batch.rows.num_rows, pa.string())
        written = self._texts(batch, SUBJECT)
        if self._people is not None:
            self._people.add(written)
        return pa.array([canonical_text(value) if value else None for value in written], pa.string())

    def _texts(self, batch: Batch, name: str) -> list[str | None]:
        try:
            texts: list[str | None] = batch.rows.column(name).cast(pa.string()).to_pylist()
        except (UnicodeDecodeError, pa.ArrowInvalid):
            raise ManifestError(
                f"{name} holds text that is not UTF-8", "write the manifest as UTF-8"
            ) from None
        return texts


def _cast(column: pa.Array, field: pa.Field) -> pa.Array:
    return column if column.type == field.type else column.cast(field.type)


def _count_duplicates(manifest: Manifest, seen: SeenIds, tally: RowTally) -> None:
    candidates, capped = seen.candidates()
    if not len(candidates):
        return
    for found in confirmed(candidates, manifest.ids()):
        if found.same:
            tally.add(RowFault.DUPLICATE_ID, found.file, found.row)
        else:
            tally.add(RowFault.OTHER_FORM, found.file, found.row, found.earlier)
    if capped:
        tally.cap()


class WrittenPeople:
    """Subject ids as a manifest writes them.

    Memory: each distinct id, so it is for a check that somebody asks for.
    """

    def __init__(self) -> None:
        self._written: set[str] = set()

    def add(self, ids: Iterable[str | None]) -> None:
        """Take the subject ids of some rows; null means that the row names nobody."""
        self._written.update(value for value in ids if value)

    def __len__(self) -> int:
        """The number of people: ids in Unicode NFC."""
        return len(set(map(canonical_text, self._written)))

    def remarks(self) -> Iterator[str]:
        """Lines about ids that are written in several ways; a few of the ids are named, as ASCII."""
        forms: dict[str, list[str]] = {}
        for text in sorted(self._written):
            forms.setdefault(canonical_text(text), []).append(text)
        several = [texts for texts in forms.values() if len(texts) > 1]
        if several:
            yield f"subject ids in several Unicode forms, one person each: {_named(several)}"
        meant = alike(forms)
        if meant:
            yield (
                "warning: subject ids that differ only in case, blanks, width or invisible characters, each "
                f"another person: {_named(meant)}"
            )


def _named(groups: list[list[str]]) -> str:
    more = f"; ... ({len(groups):,} in all)" if len(groups) > _SHOWN else ""
    return "; ".join(" and ".join(map(ascii, group)) for group in groups[:_SHOWN]) + more
