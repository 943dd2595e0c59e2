"""Verification protocols: pairs, the manifest of their photos, and what is known of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from frpipe.protocols.errata import Errata
from frpipe.protocols.listed import ListedPair
from frpipe.protocols.pair_check import PairCheck
from frpipe.protocols.pair_columns import ERRATUM, PAIR_COLUMNS, typed
from frpipe.protocols.photo_folder import PhotoFolder
from frpipe.protocols.protocol import Protocol, SourceFile, ThresholdRule
from frpipe.protocols.publish import publish
from frpipe.protocols.source import Source

PAIRS, MANIFEST = "pairs", "manifest"
_RULES: Mapping[ThresholdRule, str] = {
    "other-folds": "the threshold for a fold is chosen on all others; mean and standard error over folds",
    "train-fold": "the threshold is chosen on the fold train, and scored on the fold test",
    "other-protocol": "the threshold for a fold is chosen on the other folds of lfw-view2, not of this list",
    "outside": "the threshold comes from elsewhere: what these pairs choose is not scored on them",
}


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
    """The protocol of a list of pairs of any origin, and the list with `mated` and `fold` of our types.

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
