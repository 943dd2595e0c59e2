"""Verification protocols: pairs, the manifest of their photos, and what is known of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.counted import counted
from frpipe.core.errors import ManifestError
from frpipe.core.schema import Column
from frpipe.core.text import canonical_text
from frpipe.io.manifest.columns import ID, SUBJECT, URI
from frpipe.io.manifest.photo_listing import PhotoListing
from frpipe.io.storage.folder import Folder
from frpipe.protocols.errata import Errata
from frpipe.protocols.pair_check import PairCheck
from frpipe.protocols.protocol import Protocol, SourceFile, ThresholdRule, publish
from frpipe.protocols.source import ListedPair, PhotoName, Source

PAIRS, MANIFEST = "pairs", "manifest"
_RULES: Mapping[ThresholdRule, str] = {
    "other-folds": "the threshold for a fold is chosen on all others; mean and standard error over folds",
    "train-fold": "the threshold is chosen on the fold train, and scored on the fold test",
    "other-protocol": "the threshold for a fold is chosen on the other folds of lfw-view2, not of this list",
    "outside": "the threshold comes from elsewhere: what these pairs choose is not scored on them",
}


PAIR_COLUMNS = (
    Column("pair_id", pa.string(), "protocol, fold and place in the fold"),
    Column("a", pa.string(), "image_id of one side"),
    Column("b", pa.string(), "image_id of the other side"),
    Column("mated", pa.bool_(), "whether the list says that both are one person"),
    Column("fold", pa.string(), "`01`, `02`, ..., or `train` and `test`"),
    Column("subject_a", pa.string(), "person of side a, by the list"),
    Column("subject_b", pa.string(), "person of side b"),
    Column("protocol", pa.string(), "name of the protocol"),
)
ERRATUM = Column(
    "erratum",
    pa.string(),
    "only with `--errata`: `pair`: known that `mated` is wrong; `photo`: a side bears a wrong name",
    True,
)
# Words that spreadsheets and other tools write; jobs/metrics.py reads the same.
_TRUTH = dict.fromkeys(("true", "1", "yes", "mated", "same"), True)


@dataclass(frozen=True, slots=True)
class NamedList:
    """Pairs as a data set's own files name them.

    sources: those files.  threshold: where it comes from.
    """

    name: str
    pairs: Sequence[ListedPair]
    sources: Sequence[Source]
    threshold: ThresholdRule
    notes: Sequence[str] = field(default=())

    def write(
        self,
        images: str,
        place: str,
        *,
        errata: Source | None = None,
        allow_missing: bool = False,
        csv: bool = False,
    ) -> Protocol:
        """Look the photos up below `images` and write pairs, manifest and protocol to the folder `place`.

        allow_missing: keep pairs whose photos are not there; the manifest lists those that are.
        Raises ManifestError: photos are missing, with the lines that name them.
        """
        photos = PhotoFolder.find(images, {side for pair in self.pairs for side in (pair.a, pair.b)})
        missing = [pair for pair in self.pairs if not {pair.a, pair.b} <= photos.paths.keys()]
        if not allow_missing:
            self._refuse(missing)
        table = self._table(photos, Errata.of(errata) if errata else None)
        manifest = photos.manifest()
        protocol = self._protocol(table, manifest, [*self.sources, *([errata] if errata else [])], missing)
        publish(protocol, {PAIRS: table, MANIFEST: manifest}, place, csv=csv)
        return protocol

    def _refuse(self, missing: Sequence[ListedPair]) -> None:
        for source in self.sources:
            source.refuse(
                [pair.line for pair in missing if pair.source is source],
                "photos are not there",
                "check the folder of photos; --allow-missing keeps such pairs, which then count as failures",
            )

    def _table(self, photos: PhotoFolder, errata: Errata | None) -> pa.Table:
        place: Counter[str] = Counter()
        rows = []
        for pair in self.pairs:
            place[pair.fold] += 1
            name = f"{self.name}-{pair.fold}-{place[pair.fold]:04d}"
            sides = (photos.image_id(pair.a), photos.image_id(pair.b))
            subjects = (pair.a.subject, pair.b.subject)
            rows.append((name, *sides, pair.mated, pair.fold, *subjects, self.name))
        columns = zip(*rows, strict=True)
        schema = pa.schema([column.field for column in PAIR_COLUMNS])
        table = pa.table([pa.array(column) for column in columns], schema=schema)
        if errata is None:
            return table
        marks = pa.array([errata.of_pair(pair) for pair in self.pairs], pa.string())
        return table.append_column(ERRATUM.field, marks)

    def _protocol(
        self, table: pa.Table, manifest: pa.Table, sources: Sequence[Source], missing: Sequence[ListedPair]
    ) -> Protocol:
        check = PairCheck.of(table)
        counts = check.counts | {"photos_missing": check.counts["photos"] - manifest.num_rows}
        counts["pairs_with_missing_photo"] = len(missing)
        if ERRATUM.name in table.column_names:
            marks = Counter(table[ERRATUM.name].to_pylist())
            counts |= {"pairs_known_wrong": marks["pair"], "pairs_with_misnamed_photo": marks["photo"]}
        return _document(
            self.name,
            check,
            threshold=self.threshold,
            counts=counts,
            files={"pairs.parquet": table.num_rows, "manifest.parquet": manifest.num_rows},
            sources=[SourceFile(**source.as_dict()) for source in sources],
            notes=self.notes,
        )


def checked_pairs(
    tables: Iterable[pa.Table], name: str, sources: list[SourceFile]
) -> tuple[Protocol, pa.Table]:
    """Make the protocol of a list of pairs of any origin, and the list with `mated` and `fold` of our types.

    Raises ManifestError: see `PairCheck.of` and `typed`.
    """
    table = typed(tables)
    check = PairCheck.of(table)
    files = {"pairs.parquet": table.num_rows}
    protocol = _document(
        name, check, threshold=check.threshold, counts=check.counts, files=files, sources=sources
    )
    return protocol, table


def _document(
    name: str,
    check: PairCheck,
    *,
    threshold: ThresholdRule,
    counts: dict[str, int],
    files: dict[str, int],
    sources: list[SourceFile],
    notes: Sequence[str] = (),
) -> Protocol:
    return Protocol(
        kind="verification",
        name=name,
        threshold=threshold,
        rules=["a pair is accepted when similarity >= threshold", _RULES[threshold]],
        counts=counts,
        folds=check.folds,
        files=files,
        sources=sources,
        notes=[check.note, *notes],
        warnings=check.warnings,
    )


_TRUTH |= dict.fromkeys(("false", "0", "no", "non-mated", "different"), False)


def typed(tables: Iterable[pa.Table]) -> pa.Table:
    """Read a list of pairs with `mated` as booleans and `fold`, where there is one, as text.

    Raises ManifestError: no pairs, no column `mated`, or rows without a usable value, with their numbers.
    """
    found = [table for table in tables if table.num_rows]
    if not found:
        raise ManifestError("the list of pairs has no rows", "check the path")
    table = pa.concat_tables(found)
    if "mated" not in table.column_names:
        raise ManifestError(
            "the list of pairs has no column mated",
            "say of each pair whether both are one person: true, false",
        )
    table = _with(table, "mated", _truth(table["mated"]), "true or false")
    if "fold" in table.column_names:
        table = _with(table, "fold", table["fold"].cast(pa.string()), "the label of a fold")
    return table


def _truth(column: pa.ChunkedArray) -> pa.Array:
    if pa.types.is_boolean(column.type):
        return column
    texts = column.cast(pa.string()).to_pylist()
    return pa.array([_TRUTH.get(text.strip().lower()) if text else None for text in texts], pa.bool_())


def _with(table: pa.Table, name: str, column: pa.Array, what: str) -> pa.Table:
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py() + 1
        raise ManifestError(
            f"{counted(column.null_count, 'rows of the list of pairs have')} no usable "
            f"{name}, first row {row:,}",
            f"give {what} in every row",
        )
    return table.set_column(table.column_names.index(name), name, column)


@dataclass(frozen=True, slots=True)
class PhotoFolder:
    """A folder of photos.

    paths: of those that were found, relative to it; in NFC they are ids, as of a scan.
    """

    folder: Folder
    paths: dict[PhotoName, str]

    @classmethod
    def find(cls, uri: str, wanted: Iterable[PhotoName]) -> PhotoFolder:
        """Look for `Person_0001` with any suffix of a photo.

        Raises ManifestError: none is there, or one more than once.
        """
        folder, by_stem = Folder.at(uri), {canonical_text(photo.stem): photo for photo in wanted}
        paths: dict[PhotoName, str] = {}
        doubled: set[PhotoName] = set()
        for name in PhotoListing(folder).names():
            photo = by_stem.get(canonical_text(PurePosixPath(name).stem))
            if photo is not None:
                if photo in paths:
                    doubled.add(photo)
                paths[photo] = name
        if doubled:
            raise ManifestError(
                f"{counted(len(doubled), 'photos of the list are')} in {folder.uri} more than once",
                "name the folder that holds one copy of each",
            )
        if not paths:
            raise ManifestError(f"no photo of the list is in {folder.uri}", "check the path")
        return cls(folder, paths)

    def image_id(self, photo: PhotoName) -> str:
        """The photo's id; of a missing one, what it would be in the data set as published."""
        return canonical_text(self.paths.get(photo, photo.published_name))

    def manifest(self) -> pa.Table:
        """Make the manifest of the photos that were found: image_id, image_uri, subject_id, by id."""
        base = self.folder.uri.rstrip("/")
        rows = sorted(
            (canonical_text(path), f"{base}/{path}", canonical_text(photo.subject))
            for photo, path in self.paths.items()
        )
        columns = (pa.array(column, pa.string()) for column in zip(*rows, strict=True))
        return pa.table(dict(zip((ID, URI, SUBJECT), columns, strict=True)))
