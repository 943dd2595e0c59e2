"""Scores that anybody computed, as a list: a row for each comparison, or for each search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.errors import ConfigError, ManifestError
from frpipe.core.truths import truth
from frpipe.evaluation.pairs import Mask
from frpipe.io.manifest.columns import shown
from frpipe.io.manifest.row_list import Batch, RowList
from frpipe.metrics.scores import Doubles, Kind

# Names that columns have elsewhere, by what they hold.
_USUAL = {
    "label": ("label", "mated", "same", "is_same", "gt", "genuine", "target", "y_true"),
    "similarity": ("similarity", "cosine_similarity", "cosine", "score", "y_score"),
    "distance": ("distance", "cosine_distance", "dist"),
    "right": ("right", "correct", "rank1_correct"),
}
_WORDS = "write true or false (also same and different, genuine and impostor, 1 and 0)"
_LONGEST = 30


@dataclass(frozen=True, slots=True)
class ScoreColumns:
    """Names of columns; None: found by their usual names.

    label: whether a comparison is mated; of searches, whether the person is in the gallery.
    right: of searches, whether the first candidate is that person.
    """

    label: str | None = None
    similarity: str | None = None
    distance: str | None = None
    right: str | None = None

    def found_in(self, rows: RowList) -> ScoreColumns:
        """All that the list has, by name. Raises ManifestError, ConfigError: one is missing, or two fit."""
        asked = {name: value for name in _USUAL if (value := getattr(self, name)) is not None}
        rows.require(*asked.values())
        if {"similarity", "distance"} <= {*asked}:
            raise ConfigError("scores are similarities or distances", "name one column of scores")
        taken = {*asked.values()}
        usual = {
            role: [name for name in rows.schema.names if name.casefold() in names and name not in taken]
            for role, names in _USUAL.items()
            if role not in asked
        }
        if taken & {self.similarity, self.distance}:
            usual = {role: names for role, names in usual.items() if role not in ("similarity", "distance")}
        # Of a list with both, as ours are, one is the other: 1 - distance.
        if "similarity" in usual.get("similarity", ()):
            usual |= {"similarity": ["similarity"], "distance": []}
        scores = [*usual.get("similarity", ()), *usual.get("distance", ())]
        _one(rows, scores, "scores", "--similarity COLUMN or --distance COLUMN")
        for role in ("label", "right"):
            _one(rows, usual.get(role, ()), f"the {role}", f"--{role} COLUMN")
        found = replace(self, **{role: names[0] for role, names in usual.items() if names})
        if found.label is None or found.scores is None:
            what = "labels" if found.label is None else "scores"
            option = "--label COLUMN" if found.label is None else "--similarity COLUMN, or --distance COLUMN"
            raise ManifestError(
                f"{rows.names[0]} has no column that is known to hold {what} (its columns: "
                f"{', '.join(map(shown, rows.schema.names[:8]))})",
                f"name it with {option}",
            )
        return found

    @property
    def scores(self) -> str | None:
        """The column of scores."""
        return self.distance if self.similarity is None else self.similarity

    @property
    def kind(self) -> Kind:
        """Of the scores."""
        return "distance" if self.similarity is None else "similarity"


@dataclass(frozen=True, slots=True)
class ScoreList:
    """n trials. mated: (n,).  score: (n,) in the kind of `columns`; NaN: the trial failed.

    right: (n,) of searches, whether the first candidate is the person; None: rows are comparisons.
    remarks: what was taken otherwise than it is written.
    """

    uri: str
    columns: ScoreColumns
    mated: Mask
    score: Doubles
    right: Mask | None
    remarks: Sequence[str] = ()

    @classmethod
    def read(cls, uri: str, columns: ScoreColumns) -> ScoreList:
        """Read a CSV, JSON lines or Parquet list, packed or in parts too, as all lists are read.

        An empty score is a trial that failed. Raises ManifestError with the row: a score that is no finite
        number, a label of neither kind, a search that is right and not mated; or there are no rows.
        """
        names = frozenset(name for usual in _USUAL.values() for name in usual)
        given = {name for role in _USUAL if (name := getattr(columns, role)) is not None}
        rows = RowList.opened(uri, "list of scores", names | given, frozenset())
        found = columns.found_in(rows)
        parts = [_part(rows, batch, found) for batch in rows.batches(_read(found)) if batch.rows.num_rows]
        if not parts:
            raise ManifestError(f"{rows.names[0]} has columns and no rows", "give a row for each trial")
        mated, score, right = (np.concatenate(column) for column in zip(*parts, strict=True))
        return cls(uri, found, mated, score, right if found.right else None, rows.remarks)


class _Part(NamedTuple):
    mated: Mask
    score: Doubles
    right: Mask


def _read(columns: ScoreColumns) -> list[str]:
    """Columns to read: each once, for one may be meant twice by mistake and is then refused by its values."""
    return list(dict.fromkeys(name for name in (columns.label, columns.scores, columns.right) if name))


def _part(rows: RowList, batch: Batch, columns: ScoreColumns) -> _Part:
    assert columns.label is not None
    assert columns.scores is not None
    at = _Place(rows, batch)
    mated = at.truths(columns.label)
    score = at.numbers(columns.scores)
    right = np.zeros(len(mated), bool)
    if columns.right:
        # Whom a failed search, or that of a stranger, would have found right says nothing.
        right = at.truths(columns.right, needed=mated & ~np.isnan(score))
        at.refuse(right & ~mated, "is right, and the person is not in the gallery", "correct one of the two")
    return _Part(mated, score, right)


class _Place(NamedTuple):
    """Some rows of a list, to be understood."""

    rows: RowList
    batch: Batch

    def truths(self, column: str, needed: Mask | None = None) -> Mask:
        """(n,). needed: where a value has to be; else false where there is none."""
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

    def numbers(self, column: str) -> Doubles:
        """(n,) float64, NaN where there is none."""
        values = self.batch.rows.column(column)
        if pa.types.is_boolean(values.type):
            raise ManifestError(f"{shown(column)} holds true and false, no scores", "name the scores' column")
        numbers = _parsed(values)
        absent = values.is_null().to_numpy(zero_copy_only=False)
        odd = ~absent & ~np.isfinite(numbers)
        if odd.any():
            word = str(values[int(np.flatnonzero(odd)[0])].as_py())[:_LONGEST]
            self.refuse(
                odd,
                f"holds {word!r} in {shown(column)}, which is no finite number",
                "write a number, or nothing for a trial that failed: it is counted as such",
            )
        return numbers

    def refuse(self, rows: Mask, what: str, remedy: str) -> None:
        """Raise ManifestError with the first of these rows, if there is one."""
        if rows.any():
            number = self.batch.first_row + int(np.flatnonzero(rows)[0])
            raise ManifestError(f"row {number} of {self.rows.names[self.batch.file]} {what}", remedy)


def _parsed(values: pa.Array) -> Doubles:
    """Numbers, NaN for what is none."""
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


def _one(rows: RowList, names: Sequence[str], what: str, option: str) -> None:
    if len(names) > 1:
        raise ConfigError(
            f"{rows.names[0]} has several columns that may hold {what}: {', '.join(map(shown, names))}",
            f"say which with {option}",
        )
