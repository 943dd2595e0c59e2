"""Read an enroll output for a gallery: photos, faces, and the photos whose outcome the run reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.reasons import PASSING
from frpipe.core.text_column import canonical_column
from frpipe.gallery.external_sort import ExternalSort
from frpipe.gallery.packed import hashes
from frpipe.gallery.photos import MADE_OF, image_ids, made_of, place_hashes
from frpipe.gallery.schema import EMBEDDING, FACE_ID, SUBJECT_ID, URI, vector_array
from frpipe.gallery.templates import TemplatePolicy, reduce_templates
from frpipe.io.output.features import OF_EMBEDDER
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.photo_places import located
from frpipe.jobs.suppressed_faces import IMAGE_NAMES

_NAMES = [*IMAGE_NAMES, URI, SUBJECT_ID, "status", "reason"]


_BUCKET_ROWS = 32_768


@dataclass(frozen=True, slots=True)
class SubjectRange:
    """People whose ids have hashes from `low` up to `high`, exclusive, and the parts that may hold any."""

    low: int
    high: int
    parts: Sequence[int]

    def of(self, table: pa.Table) -> pa.Table:
        """The rows of these people."""
        found = subject_hashes(table)
        inside = found >= np.uint64(self.low)
        if self.high < 1 << 64:
            inside &= found < np.uint64(self.high)
        return table.filter(pa.array(inside))


def subject_hashes(table: pa.Table) -> NDArray[np.uint64]:
    """(n,) hashes of the people of rows, as a gallery sorts them; of nobody, that of an empty id."""
    return hashes(canonical_column(pc.fill_null(table[SUBJECT_ID], "")))


def photos_and_faces(
    source: FeatureRun, of: SubjectRange | None = None, *, vectors: bool = True
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Iterate over (images, faces) of each part. Addresses are absolute, as the plan of the run has them.

    of: only what is of these people.  vectors: whether they are read; else `embedding` is of one number, 0.
    """
    parts = source.features.some_parts() if of is None else of.parts
    columns = None if vectors else _small_columns(source)
    tables = source.features.tables(_NAMES, columns, parts=parts)
    for part, (images, faces) in zip(parts, tables, strict=True):
        if of is not None:
            images, faces = of.of(images), of.of(faces)  # noqa: PLW2901
        if not vectors:
            zeros = vector_array(np.zeros((faces.num_rows, 1), np.float32))
            faces = faces.append_column(EMBEDDING, zeros)  # noqa: PLW2901
        images, faces = located(source.folder, part, images, faces)  # noqa: PLW2901
        yield images, faces


def _small_columns(source: FeatureRun) -> list[str]:
    """The columns of faces that are not of an embedder."""
    names: list[str] = source.features.faces(source.features.some_parts()[0]).column_names
    return [name for name in names if name not in OF_EMBEDDER]


def spoken_of(images: pa.Table) -> tuple[pa.Table, int, int]:
    """Collect the photos whose outcome the run reports, as far as a gallery is concerned.

    Not among them are photos that could not be read this time, for reasons that pass (PASSING), and photos
    with a face and without a person: nobody says whose it is. How many of each.
    """
    reasons = pa.array([reason.value for reason in PASSING])
    passing = pc.is_in(images["reason"], value_set=reasons)
    nameless = pc.equal(pc.fill_null(images[SUBJECT_ID], ""), "")
    unnamed = pc.and_(pc.equal(images["status"], "ok"), nameless)
    told = images.filter(pc.invert(pc.or_(passing, unnamed)))
    return told, pc.sum(passing).as_py() or 0, pc.sum(unnamed).as_py() or 0


def derived(table: pa.Table, how: TemplatePolicy, disputed: Counter[str] | None = None) -> pa.Table:
    """Derive the templates kept of each person, with the photos that each was derived from.

    table: holds all rows of each of its people.  disputed: as `reduce_templates`.
    """
    reduced = reduce_templates(table, how, disputed)
    if how in ("all", "medoid") or not table.num_rows:
        return reduced
    table = table.sort_by(SUBJECT_ID)
    photos, places = hashes(image_ids(table[FACE_ID])), place_hashes(table[URI])
    codes = pc.dictionary_encode(table[SUBJECT_ID]).combine_chunks().indices.to_numpy()
    edges = [*np.flatnonzero(np.diff(codes, prepend=-1)).tolist(), len(codes)]
    texts = [made_of(photos[start:end], places[start:end]) for start, end in pairwise(edges)]
    return reduced.append_column(pa.field(MADE_OF, pa.string()), pa.array(texts, pa.string()))


def grouped(tables: Iterable[pa.Table], dim: int, bucket_rows: int = _BUCKET_ROWS) -> Iterator[pa.Table]:
    """Regroup rows by person: tables of about `bucket_rows` rows, each with all rows of its people.

    tables: templates tables, in any order. Their rows lie in unnamed temporary files meanwhile, in clear.
    """
    with ExternalSort(dim, "<f4", bucket_rows) as spill:
        spill.take(tables)
        for number in range(spill.buckets):
            bucket = spill.bucket(number)
            rows = bucket.texts.num_rows
            if rows:
                vectors = vector_array(bucket.vectors(np.arange(rows)))
                yield bucket.texts.append_column(EMBEDDING, vectors)
