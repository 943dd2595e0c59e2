"""Read results of jobs/verify.py as trials of verification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError, OutputError
from frpipe.core.text import alike
from frpipe.core.text_column import canonical_column
from frpipe.evaluation.pairs import Labels, Mask, PairTrials
from frpipe.evaluation.quality import QualityMeasure
from frpipe.evaluation.sample import numbered
from frpipe.io.output import run
from frpipe.io.output.run import ListedFiles
from frpipe.io.storage.folder import Folder
from frpipe.jobs.evaluate.face_measures import FaceMeasures
from frpipe.jobs.evaluate.photo_facts import PhotoFacts
from frpipe.jobs.evaluate.score_columns import truth
from frpipe.jobs.verify.job import PAIRS
from frpipe.jobs.verify.schema import UNKNOWN_FACE, UNKNOWN_IMAGE
from frpipe.metrics.discard import pair_quality


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
    """A finished result.

    threshold: of its run, a similarity; None: it has none.  digest: of its files.  cosines: whether the
    scores are similarities.
    people: ids of those who are known to be on a side.  anonymous: whether there are others.
    """

    uri: str
    trials: PairTrials
    threshold: float | None
    features: str
    digest: str
    provenance: dict[str, Any]
    warnings: list[str] = field(default_factory=list)
    people: frozenset[str] = frozenset()
    anonymous: bool = False
    detector_hash: str | None = None
    cosines: bool = True

    @classmethod
    def open(cls, uri: str, columns: PairColumns) -> PairResults:
        """Read a result.

        Raises OutputError: it is no finished result; ConfigError: nothing says which pairs are mated.
        """
        folder, report = finished(uri, "verify")
        table = listed_rows(folder, PAIRS)
        reading = _Reading(table, columns, report["features"], report["feature_run"])
        trials, warnings = reading.trials()
        detector = (table.schema.metadata or {}).get(b"frpipe.detector_hash")
        digest = run.digest(folder)
        provenance = {
            "result": uri,
            "result_files": digest,
            "pairs": run.begun(folder)["identity"]["pairs"],
            **{
                name: report[name] for name in ("feature_run", "embedder_hash", "preprocessing_hash", "faces")
            },
        }
        threshold = float(report["threshold"]["similarity"])
        return cls(
            uri,
            trials,
            threshold,
            str(report["features"]),
            digest,
            provenance,
            warnings,
            frozenset(reading.people),
            reading.anonymous,
            detector.decode() if detector else None,
        )

    def measured(self, measures: Sequence[QualityMeasure]) -> PairResults:
        """Add the qualities of pairs, the lower of both sides. Raises what `FaceMeasures` does."""
        if not measures:
            return self
        sides, facts = (self.trials.a, self.trials.b), self.provenance
        found = FaceMeasures(
            self.features,
            [measure.column for measure in measures],
            np.concatenate(sides),
            str(facts["faces"]),
            str(facts["feature_run"]),
        )
        values = [found.of(side) for side in sides]
        quality = {
            measure.column: pair_quality(*(measure.quality(side[measure.column]) for side in values))
            for measure in measures
        }
        return replace(self, trials=replace(self.trials, quality=quality))


class _Reading:
    """One table of pairs, understood."""

    def __init__(self, table: pa.Table, columns: PairColumns, features: str = "", run_id: str = "") -> None:
        self._table, self._columns, self._features, self._run_id = table, columns, features, run_id
        self._facts: PhotoFacts | None = None
        self.a, self.b = self._text("a"), self._text("b")
        self.people: set[str] = set()
        self.anonymous = False

    def trials(self) -> tuple[PairTrials, list[str]]:
        names = self._persons()
        self.people = {*np.concatenate(names)} - {""}
        self.anonymous = bool((np.concatenate(names) == "").any())
        known = (names[0] != "") & (names[1] != "")
        mated = self._mated(names[0] == names[1], known)
        owners, warnings = self._owners(names)
        # A mated pair has one person, whatever the two sides are called.
        one = np.where(names[0] != "", owners[0], owners[1])
        person_a, person_b = numbered(*(np.where(mated, one, owner) for owner in owners))
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
            {column: _shared(*self._sides(column)) for column in self._columns.by},
            {column: self._sides(column) for column in self._columns.by},
        )
        disputed = known & (mated != (names[0] == names[1]))
        said = (_disputed(disputed), _repeated(trials), _unscored(trials), self._unknown(), alike_ids(*names))
        return trials, [*warnings, *(words for each in said for words in each)]

    def _mated(self, alike: Mask, known: Mask) -> Mask:
        if self._columns.mated in self._table.column_names:
            return _truths(self._text(self._columns.mated), self._columns.mated)
        if known.all():
            return np.asarray(alike)
        raise ConfigError(
            f"nothing says which pairs are mated: there is no column {self._columns.mated!r}, and not all "
            "persons are known",
            "give the list a column of true and false and name it with --mated, or enroll with subject_id",
        )

    def _persons(self) -> list[Labels]:
        """The persons on both sides, as the list says, or as the manifest did; empty: not said."""
        own = self._columns.subject_a, self._columns.subject_b
        if {*own} <= {*self._table.column_names}:
            return [self._text(name) for name in own]
        return [self._photo("subject_id", side) for side in (self.a, self.b)]

    def _owners(self, names: list[Labels]) -> tuple[list[Labels], list[str]]:
        """A person for each side; an unknown one counts as the photo."""
        photos = np.concatenate([self.a, self.b])
        unknown = len(pd.unique(photos[np.concatenate(names) == ""]))
        if not unknown:
            return names, []
        words = (
            f"who is on {unknown:,} of {len(pd.unique(photos)):,} photos is not known: intervals take each "
            "of these for a person, and are too narrow"
        )
        # No id has a NUL: a photo is nobody who is known.
        sides = zip(names, (self.a, self.b), strict=True)
        return [np.where(name == "", "\0" + photo, name) for name, photo in sides], [words]

    def _sides(self, column: str) -> tuple[Labels, Labels]:
        """The labels of both sides: a column of the list is of both, unless it has one for each."""
        own = [f"{column}_a", f"{column}_b"]
        if {*own} <= {*self._table.column_names}:
            return self._text(own[0]), self._text(own[1])
        if column in self._table.column_names:
            return self._text(column), self._text(column)
        return self._photo(column, self.a), self._photo(column, self.b)

    def _photo(self, column: str, side: Labels) -> Labels:
        if self._facts is None or column not in self._facts.table:
            self._facts = PhotoFacts.of(self._features, self._wanted(), self._run_id)
        return self._facts.of_photos(column, side)

    def _wanted(self) -> list[str]:
        names = {*self._table.column_names}
        return [
            name for name in self._columns.by if name not in names and not {f"{name}_a", f"{name}_b"} <= names
        ]

    def _unknown(self) -> list[str]:
        reasons = np.concatenate([self._text("reason_a"), self._text("reason_b")])
        count = int(np.isin(reasons, [UNKNOWN_IMAGE, UNKNOWN_FACE]).sum())
        words = (
            f"{counted(count, 'sides of pairs have')} a photo or face that was never "
            "enrolled, which is a failure"
        )
        return [words] if count else []

    def _text(self, column: str) -> Labels:
        return texts(self._table[column])


def pair_trials(table: pa.Table, columns: PairColumns) -> tuple[PairTrials, list[str]]:
    """Read trials from a table of jobs/verify.py, which says who is on both sides; with warnings."""
    return _Reading(table, columns).trials()


def _shared(a: Labels, b: Labels) -> Labels:
    """The label of both sides; empty where they differ."""
    return np.where(a == b, a, "")


def finished(uri: str, job: str) -> tuple[Folder, dict[str, Any]]:
    """Open a result and its report. Raises OutputError: it is not of this job, or has not ended."""
    folder = Folder.at(uri)
    report = run.complete(folder)
    if report is None or run.begun(folder).get("identity", {}).get("job") != job:
        raise OutputError(f"{uri} is not a finished result of jobs/{job}.py", "run that job to its end first")
    return folder, report


def listed_rows(folder: Folder, sub: str) -> pa.Table:
    """Read the rows of the files of a finished result that it lists under `sub/`, and of no others.

    Raises OutputError: one is not what was listed, or there is none.
    """
    files = ListedFiles.of(folder)
    tables = [files.table(name) for name in files.below(sub)]
    if not tables:
        raise OutputError(f"{folder.uri} holds no results", "nothing was compared there")
    return pa.concat_tables(tables)


def _repeated(trials: PairTrials) -> list[str]:
    again, itself = len(trials) - len(trials.distinct()), int(np.count_nonzero(trials.a == trials.b))
    found = []
    if again:
        found.append(
            f"{counted(again, 'pairs are')} listed before, in this or the other order: every rate counts "
            "them again, threshold cards and the rule of 3 do not"
        )
    if itself:
        found.append(f"{counted(itself, 'pairs are')} of a photo with itself, which says nothing of a system")
    return found


def _unscored(trials: PairTrials) -> list[str]:
    count = int(np.count_nonzero(~trials.completed & ~trials.lost_a & ~trials.lost_b))
    words = f"{counted(count, 'pairs have')} no score, though both sides had a face: counted as failures"
    return [words] if count else []


def alike_ids(*ids: Labels) -> list[str]:
    """Warn where ids of persons may be meant as one; see `frpipe.core.text.alike`."""
    known = {name for each in ids for name in pd.unique(each) if name}
    meant = sum(len(group) - 1 for group in alike(known))
    words = (
        f"{counted(meant, 'ids differ')} from another only in case, blanks, width or invisible characters: "
        "each counts as another person"
    )
    return [words] if meant else []


def _disputed(disputed: Mask) -> list[str]:
    count = int(np.count_nonzero(disputed))
    words = f"{counted(count, 'pairs are')} called mated or non-mated against the names of their persons"
    return [words] if count else []


def texts(column: pa.ChunkedArray) -> Labels:
    """(n,) strings in Unicode NFC; empty: null."""
    values: Labels = pc.fill_null(canonical_column(column.cast(pa.string())), "").to_numpy()
    return values


def _truths(values: Labels, column: str) -> Mask:
    codes, words = pd.factorize(values)
    said = [truth(str(word)) for word in words]
    if None in said:
        raise ConfigError(
            f"the column {column!r} has values that are neither true nor false",
            "write true for two photos of one person, and false for photos of two",
        )
    return np.asarray(said, bool)[codes]
