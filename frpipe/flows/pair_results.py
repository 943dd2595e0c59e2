"""Results of jobs/verify.py as trials of verification."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.errors import ConfigError, OutputError
from frpipe.evaluation.pairs import Labels, Mask, PairTrials
from frpipe.evaluation.sample import numbered
from frpipe.flows.pair_schema import UNKNOWN_FACE, UNKNOWN_IMAGE
from frpipe.flows.photo_facts import PhotoFacts
from frpipe.flows.verify_pairs import PAIRS
from frpipe.io import run
from frpipe.io.folder import Folder
from frpipe.io.units import Units

_TRUE, _FALSE = {"true", "1", "yes", "mated", "same"}, {"false", "0", "no", "non-mated", "different"}


@dataclass(frozen=True, slots=True)
class PairColumns:
    """Names of the list's columns. mated: whether both are one person; without it, who they are decides.

    by: columns of the list, or of the enrolled manifest, whose labels make groups.
    """

    mated: str = "mated"
    fold: str = "fold"
    subject_a: str = "subject_a"
    subject_b: str = "subject_b"
    by: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class PairResults:
    """A finished result. threshold: of its run, a similarity.  digest: of its files."""

    uri: str
    trials: PairTrials
    threshold: float
    features: str
    digest: str
    provenance: dict[str, Any]
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, uri: str, columns: PairColumns) -> PairResults:
        """Raises OutputError: it is no finished result; ConfigError: nothing says which pairs are mated."""
        folder = Folder.at(uri)
        report = run.complete(folder)
        if report is None or "feature_run" not in report:
            raise OutputError(
                f"{uri} is not a finished result of jobs/verify.py", "run that job to its end first"
            )
        table = pa.concat_tables(Units(folder, PAIRS).tables())
        trials, warnings = _Reading(table, columns, str(report["features"])).trials()
        digest = hashlib.sha256(folder.read(run.FILES)).hexdigest()
        provenance = {
            "result": uri,
            "result_files": digest,
            "pairs": json.loads(folder.read(run.RUN))["identity"]["pairs"],
            **{
                name: report[name] for name in ("feature_run", "embedder_hash", "preprocessing_hash", "faces")
            },
        }
        threshold = float(report["threshold"]["similarity"])
        return cls(uri, trials, threshold, str(report["features"]), digest, provenance, warnings)


class _Reading:
    """One table of pairs, understood."""

    def __init__(self, table: pa.Table, columns: PairColumns, features: str) -> None:
        self._table, self._columns, self._features = table, columns, features
        self._facts: PhotoFacts | None = None
        self.a, self.b = self._text("a"), self._text("b")

    def trials(self) -> tuple[PairTrials, list[str]]:
        names_a, names_b, warnings = self._persons()
        known = bool(len(names_a)) and not warnings
        mated = self._mated(names_a, names_b, known)
        # A mated pair has one person, whatever the two sides are called.
        person_a, person_b = numbered(names_a, np.where(mated, names_a, names_b))
        status = self._text("status")
        trials = PairTrials(
            self.a,
            self.b,
            mated,
            self._table["similarity"].to_numpy().astype(np.float64),
            np.isin(status, ["missing_a", "missing_both"]),
            np.isin(status, ["missing_b", "missing_both"]),
            person_a,
            person_b,
            self._text(self._columns.fold) if self._columns.fold in self._table.column_names else None,
            {column: self._shared(column) for column in self._columns.by},
        )
        return trials, [*warnings, *_disputed(mated, names_a == names_b, known), *self._unknown()]

    def _mated(self, names_a: Labels, names_b: Labels, known: bool) -> Mask:
        if self._columns.mated in self._table.column_names:
            return _truths(self._text(self._columns.mated), self._columns.mated)
        if known:
            return np.asarray(names_a == names_b)
        raise ConfigError(
            f"nothing says which pairs are mated: there is no column {self._columns.mated!r}, and not all "
            "persons are known",
            "give the list a column of true and false and name it with --mated, or enroll with subject_id",
        )

    def _persons(self) -> tuple[Labels, Labels, list[str]]:
        """Who is on both sides: as the list says, else as the manifest did, else a photo is a person."""
        own = self._columns.subject_a, self._columns.subject_b
        if {*own} <= {*self._table.column_names}:
            return self._text(own[0]), self._text(own[1]), []
        sides = [self._photo("subject_id", side) for side in (self.a, self.b)]
        if all((side != "").all() for side in sides):
            return sides[0], sides[1], []
        warning = (
            "who is on the photos is not known: intervals take each photo for a person, and are too narrow"
        )
        return self.a, self.b, [warning]

    def _shared(self, column: str) -> Labels:
        """The label of both sides; empty where they differ."""
        if column in self._table.column_names:
            return self._text(column)
        sides = [self._photo(column, side) for side in (self.a, self.b)]
        return np.where(sides[0] == sides[1], sides[0], "")

    def _photo(self, column: str, side: Labels) -> Labels:
        if self._facts is None or column not in self._facts.table:
            self._facts = PhotoFacts.of(self._features, self._wanted())
        return self._facts.of_photos(column, side)

    def _wanted(self) -> list[str]:
        return [name for name in self._columns.by if name not in self._table.column_names]

    def _unknown(self) -> list[str]:
        reasons = np.concatenate([self._text("reason_a"), self._text("reason_b")])
        count = int(np.isin(reasons, [UNKNOWN_IMAGE, UNKNOWN_FACE]).sum())
        words = (
            f"{count:,} sides of pairs name a photo or face that was never enrolled; they count as failures"
        )
        return [words] if count else []

    def _text(self, column: str) -> Labels:
        return texts(self._table[column])


def _disputed(mated: Mask, alike: Mask, known: bool) -> list[str]:
    count = int(np.count_nonzero(mated != alike)) if known else 0
    words = f"{count:,} pairs are called mated or non-mated against the names of their persons"
    return [words] if count else []


def texts(column: pa.ChunkedArray) -> Labels:
    """(n,) strings; empty: null."""
    values: Labels = pc.fill_null(column.cast(pa.string()), "").to_numpy()
    return values


def _truths(values: Labels, column: str) -> Mask:
    folded = np.char.lower(values.astype(str))
    true, false = np.isin(folded, [*_TRUE]), np.isin(folded, [*_FALSE])
    if not (true | false).all():
        raise ConfigError(
            f"the column {column!r} has values that are neither true nor false",
            "write true for two photos of one person, and false for photos of two",
        )
    return np.asarray(true)
