"""Check every row of a manifest before any work, and normalise the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from frpipe.core.errors import ManifestError
from frpipe.core.text_column import canonical_column
from frpipe.io.manifest.columns import ID, LOCATION, SUBJECT, URI
from frpipe.io.manifest.duplicates import SeenIds, confirmed, hashes_of
from frpipe.io.manifest.image_struct import HAS_BYTES
from frpipe.io.manifest.image_struct import ids as image_ids
from frpipe.io.manifest.manifest import Manifest
from frpipe.io.manifest.roots import Resolver
from frpipe.io.manifest.row_faults import BadRow, RowFault, RowTally
from frpipe.io.manifest.row_list import Batch
from frpipe.io.manifest.row_ref import RowRef
from frpipe.io.manifest.survey import Survey


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
    survey: Survey | None = None,
    *,
    whole: bool = True,
) -> Iterator[pa.Table]:
    """Iterate over all rows of a manifest, normalised, in order, in batches.

    resolver: one that counts.  survey: takes what is doubtful in the rows, and no fault.  whole: false for a
    part of a table, in which ids may repeat, and which may have no row.

    After a bad row nothing more comes out; the rest is read for the count, and the iteration ends with
    ManifestError. Only an iteration that ends without one has checked the manifest.
    """
    tally = RowTally(manifest.names)
    resolver = resolver or Resolver(manifest.folder.uri, roots)
    survey = survey or Survey(manifest.nobody)
    admission = _Admission(manifest, resolver, tally, survey)
    rows = 0
    with SeenIds() as seen:
        for batch in manifest.batches(manifest.columns.read):
            table, ids = admission.normalise(batch)
            rows += len(ids)
            if whole:
                seen.add(hashes_of(ids))
            if not tally:
                yield table
        _count_duplicates(manifest, seen, tally)
    tally.raise_if_any()
    if whole and not rows:
        raise ManifestError("the manifest has no rows", "list at least one photo")


class _Admission:
    def __init__(self, manifest: Manifest, resolver: Resolver, tally: RowTally, survey: Survey) -> None:
        self._manifest = manifest
        self._columns = manifest.columns
        self._resolver = resolver
        self._tally = tally
        self._survey = survey
        self._schema = plan_schema(manifest)

    def normalise(self, batch: Batch) -> tuple[pa.Table, list[str]]:
        """Normalise rows for the plan; they and their ids (an empty text where one is missing)."""
        rows = len(batch.rows)
        if self._columns.has_images:
            uris, locations = self._images(batch)
        elif self._columns.embedded:
            uris, locations = pa.nulls(rows, pa.string()), self._references(batch)
        else:
            uris = batch.text(URI)
            locations = self._locations(batch, uris.to_pylist())
        ids = canonical_column(self._written_ids(batch).fill_null(""))
        texts: list[str] = ids.to_pylist()
        if self._columns.has_id:
            self._check_ids(batch, texts)
        subjects = self._survey.people(batch.text(SUBJECT)) if self._columns.has_subject else None
        table = pa.table(
            [
                ids,
                uris,
                pa.array(locations, pa.string()),
                pa.nulls(rows, pa.string()) if subjects is None else subjects,
                *(batch.rows.column(name) for name in self._columns.extra.names),
            ],
            schema=self._schema,
        )
        return table, texts

    def _locations(self, batch: Batch, uris: Sequence[str | None]) -> list[str]:
        resolve = self._resolver.resolve
        locations = []
        for index, uri in enumerate(uris):
            try:
                locations.append(resolve(uri or ""))
            except BadRow as bad:
                self._tally.add(bad.fault, batch.file, batch.first_row + index)
                locations.append("")
        return locations

    def _images(self, batch: Batch) -> tuple[pa.Array, list[str]]:
        """Find addresses and locations of photos, which are rows where they have bytes, or no path either."""
        paths, has_bytes = batch.text(URI).to_pylist(), batch.rows.column(HAS_BYTES).to_pylist()
        uris = [None if has else path or None for path, has in zip(paths, has_bytes, strict=True)]
        locations = self._references(batch)
        for index, uri in enumerate(uris):
            # A part without a column of images has no bytes to speak of.
            if uri is not None or has_bytes[index] is None:
                row = Batch(batch.file, batch.first_row + index, batch.rows.slice(index, 1))
                (locations[index],) = self._locations(row, [uri])
        return pa.array(uris, pa.string()), locations

    def _written_ids(self, batch: Batch) -> pa.Array:
        if self._columns.has_id:
            return batch.text(ID)
        uris = batch.text(URI)
        if not self._columns.has_images:
            return uris
        file = self._manifest.parts[batch.file].file.name
        return pa.array(image_ids(uris.to_pylist(), file, batch.first_row), pa.string())

    def _references(self, batch: Batch) -> list[str]:
        file = f"{self._manifest.folder.uri.rstrip('/')}/{self._manifest.parts[batch.file].file.name}"
        first = batch.first_row - 1
        return [str(RowRef(file, first + index)) for index in range(batch.rows.num_rows)]

    def _check_ids(self, batch: Batch, ids: Sequence[str]) -> None:
        for index, value in enumerate(ids):
            if not value or value.isspace():
                self._tally.add(RowFault.NO_ID, batch.file, batch.first_row + index)


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
