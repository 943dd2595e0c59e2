"""Read scores that anybody computed, as a list: a row for each comparison, or for each search."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.counted import counted
from frpipe.core.errors import ManifestError
from frpipe.evaluation.calibrated import Known
from frpipe.evaluation.pairs import Labels, Mask
from frpipe.io.manifest.columns import shown
from frpipe.io.manifest.row_list import Batch, RowList
from frpipe.jobs.evaluate.score_columns import ScoreColumns, truth
from frpipe.metrics.scores import Doubles, Indices

_WORDS = "write true or false (also same and different, genuine and impostor, 1 and 0)"
_LONGEST = 30


@dataclass(frozen=True, slots=True)
class ScoreList:
    """A list of n trials. mated: (n,).  score: (n,) in the kind of `columns`; NaN: the trial failed.

    right: (n,) of searches, whether the first candidate is the person; None: rows are comparisons.
    remarks: what was taken otherwise than it is written.
    known: folds, people and groups.
    """

    uri: str
    columns: ScoreColumns
    mated: Mask
    score: Doubles
    right: Mask | None
    remarks: Sequence[str] = ()
    known: Known = field(default_factory=Known)

    @property
    def people(self) -> tuple[Indices, Indices] | None:
        """(n,) numbers of the persons of both sides; of searches twice those of the probes."""
        if self.known.a is None or self.known.b is None:
            return None
        return self.known.a, self.known.b

    @classmethod
    def read(cls, uri: str, columns: ScoreColumns, failed: Sequence[float] = ()) -> ScoreList:
        """Read a CSV, JSON lines or Parquet list, packed or in parts too, as all lists are read.

        An empty score is a trial that failed, and so is one of `failed`; NaN among them: NaN is.
        Raises ManifestError with the row: a score that is no finite number, a label of neither kind, a search
        that is right and not mated, a fold or person that was asked for and is missing; or there are no rows.
        """
        rows = RowList.opened(uri, "list of scores", columns.names, frozenset())
        found = columns.found_in(rows)
        needed = {name for name in (columns.fold, *columns.subjects) if name}
        batches = (batch for batch in rows.batches(_read(found)) if batch.rows.num_rows)
        parts = [_part(_Place(rows, batch, failed), found, needed) for batch in batches]
        if not parts:
            raise ManifestError(f"{rows.names[0]} has columns and no rows", "give a row for each trial")
        mated, score, right = (
            np.concatenate(column)
            for column in zip(*((p.mated, p.score, p.right) for p in parts), strict=True)
        )
        labels = {name: np.concatenate([part.labels[name] for part in parts]) for name in found.labels}
        found, remarks = _without_gaps(found, labels)
        remarks += _disputed(found, labels, mated)
        return cls(
            uri,
            found,
            mated,
            score,
            right if found.right else None,
            (*rows.remarks, *remarks),
            _known(found, labels),
        )


class _Part(NamedTuple):
    mated: Mask
    score: Doubles
    right: Mask
    labels: Mapping[str, Labels]


def _read(columns: ScoreColumns) -> list[str]:
    """Choose the columns to read: each once; one meant twice by mistake is then refused by its values."""
    names = (columns.label, columns.scores, columns.right, *columns.labels)
    return list(dict.fromkeys(name for name in names if name))


def _without_gaps(columns: ScoreColumns, labels: Mapping[str, Labels]) -> tuple[ScoreColumns, list[str]]:
    """Drop folds or people that some rows lack and nobody asked for; with remarks that say so."""
    gaps = {name for name in (columns.fold, *columns.subjects) if name and (labels[name] == "").any()}
    remarks = [
        f"{shown(name)} is empty in some rows: calibration and intervals take no heed of it"
        for name in sorted(gaps)
    ]
    return replace(
        columns,
        fold=None if columns.fold in gaps else columns.fold,
        subjects=() if gaps & {*columns.subjects} else columns.subjects,
    ), remarks


def _known(columns: ScoreColumns, labels: Mapping[str, Labels]) -> Known:
    sides: list[Labels | None] = [None]
    if columns.subjects:
        # Numbers in the order of the ids, so that who is dealt where does not depend on the order of rows.
        numbers, _ = pd.factorize(np.concatenate([labels[name] for name in columns.subjects]), sort=True)
        sides = [*np.split(numbers, len(columns.subjects))]
    return Known(
        labels[columns.fold] if columns.fold else None,
        sides[0],
        sides[-1],
        labels[columns.by] if columns.by else None,
    )


def _disputed(columns: ScoreColumns, labels: Mapping[str, Labels], mated: Mask) -> list[str]:
    """Where two people are named, and the label says another thing."""
    if len(columns.subjects) < 2:
        return []
    first, second = (labels[name] for name in columns.subjects)
    count = int(((first == second) != mated).sum())
    if not count:
        return []
    people = " and ".join(map(shown, columns.subjects))
    return [f"{counted(count, 'rows')} of another label than {people} say: the label counts"]


def _part(at: _Place, columns: ScoreColumns, needed: Collection[str]) -> _Part:
    assert columns.label is not None
    assert columns.scores is not None
    mated = at.truths(columns.label)
    score = at.numbers(columns.scores)
    right = np.zeros(len(mated), bool)
    if columns.right:
        # Whom a failed search, or that of a stranger, would have found right says nothing.
        right = at.truths(columns.right, needed=mated & ~np.isnan(score))
        at.refuse(right & ~mated, "is right, and the person is not in the gallery", "correct one of the two")
    return _Part(mated, score, right, {name: at.labels(name, name in needed) for name in columns.labels})


class _Place(NamedTuple):
    """Some rows of a list, whose values are read. failed: scores that say that a trial failed."""

    rows: RowList
    batch: Batch
    failed: Sequence[float] = ()

    def truths(self, column: str, needed: Mask | None = None) -> Mask:
        """Read truths, (n,). needed: where a value has to be; else false where there is none."""
        codes = self.batch.text(column).dictionary_encode()
        words = [None if word is None else truth(word) for word in codes.dictionary.to_pylist()]
        numbers = codes.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        unclear = np.isin(numbers, [at for at, word in enumerate(words) if word is None])
        if unclear.any():
            word = codes.dictionary[int(numbers[unclear][0])].as_py()
            self.refuse(
                unclear, f"holds {word[:_LONGEST]!r} in {shown(column)}, neither of two kinds", _WORDS
            )
        absent = numbers < 0 if needed is None else (numbers < 0) & needed
        self.refuse(absent, f"has nothing in {shown(column)}", _WORDS)
        said: Mask = np.array([*map(bool, words), False])[numbers]
        return said

    def labels(self, column: str, needed: bool) -> Labels:
        """Read labels, (n,) texts, "" where there is none. needed: there has to be one."""
        try:
            texts = self.batch.text(column).fill_null("").to_numpy(zero_copy_only=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise ManifestError(
                f"{shown(column)} holds no labels but {self.batch.rows.column(column).type}",
                "name a column of texts or numbers",
            ) from None
        found = np.array([*map(str.strip, texts)], dtype=np.str_)
        if needed:
            self.refuse(found == "", f"has nothing in {shown(column)}", "fill it in, or name another column")
        return found

    def numbers(self, column: str) -> Doubles:
        """Read numbers, (n,) float64, NaN where there is none."""
        values = self.batch.rows.column(column)
        if pa.types.is_boolean(values.type):
            raise ManifestError(f"{shown(column)} holds true and false, no scores", "name the scores' column")
        numbers = _parsed(values)
        absent = values.is_null().to_numpy(zero_copy_only=False) | self._signs(values, numbers)
        odd = ~absent & ~np.isfinite(numbers)
        if odd.any():
            word = str(values[int(np.flatnonzero(odd)[0])].as_py())[:_LONGEST]
            self.refuse(
                odd,
                f"holds {word!r} in {shown(column)}, which is no finite number",
                "write a number, or nothing for a trial that failed; --failed-score names what says so",
            )
        return np.where(absent, np.nan, numbers)

    def _signs(self, values: pa.Array, numbers: Doubles) -> Mask:
        """(n,): scores that say that the trial failed."""
        single = pa.types.is_float32(values.type)
        finite = [value for value in self.failed if not np.isnan(value)]
        known = [*finite, *(float(np.float32(value)) for value in finite if single)]
        found: Mask = np.isin(numbers, known)
        if len(finite) < len(self.failed):
            rows = np.flatnonzero(np.isnan(numbers))
            texts = [str(values[int(row)].as_py()) for row in rows]
            found[rows] = [text.strip().lower() == "nan" for text in texts]
        return found

    def refuse(self, rows: Mask, what: str, remedy: str) -> None:
        """Raise ManifestError with the first of these rows, if there is one."""
        if rows.any():
            number = self.batch.first_row + int(np.flatnonzero(rows)[0])
            raise ManifestError(f"row {number} of {self.rows.names[self.batch.file]} {what}", remedy)


def _parsed(values: pa.Array) -> Doubles:
    """Parse numbers, NaN for what is none."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    try:
        found = values.cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        found = pa.array([*_one_by_one(values)], pa.float64())
    return np.asarray(pc.fill_null(found, np.nan).to_numpy(zero_copy_only=False), np.float64)


def _one_by_one(values: pa.Array) -> Iterator[float | None]:
    for value in values.to_pylist():
        try:
            # Python reads 1_000 as a number, and no list means it so.
            yield None if value is None else np.nan if "_" in str(value) else float(value)
        except (TypeError, ValueError):
            yield np.nan
