"""Check whether a list of pairs is fit to be scored: counts by fold, and what is wrong or may be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from frpipe.core.counted import counted
from frpipe.core.errors import ManifestError
from frpipe.protocols.lfw import TEST, TRAIN
from frpipe.protocols.protocol import ThresholdRule, resolution
from frpipe.protocols.source import numbered

_ONE = "all"


@dataclass(frozen=True, slots=True)
class PairCheck:
    """The check of a list.

    counts: of the list.  folds: mated and non-mated pairs in each.  warnings: in sentences.
    """

    counts: dict[str, int]
    folds: dict[str, dict[str, int]]
    warnings: list[str]

    @classmethod
    def of(cls, pairs: pa.Table) -> PairCheck:
        """Check the columns a, b, mated (bool) and, where they are there, fold, subject_a, subject_b.

        Raises ManifestError: a photo paired with itself, a pair that is mated in one row and non-mated in
        another, or `mated` at odds with the subjects; with row numbers from 1.
        """
        names = [
            name
            for name in ("a", "b", "mated", "fold", "subject_a", "subject_b")
            if name in pairs.column_names
        ]
        frame = pairs.select(names).to_pandas()
        frame["fold"] = frame.get("fold", _ONE)
        swapped = (frame["a"] > frame["b"]).to_numpy()
        frame["low"] = np.where(swapped, frame["b"], frame["a"])
        frame["high"] = np.where(swapped, frame["a"], frame["b"])
        _refuse(frame)
        return cls(_counts(frame), _folds(frame), list(_warnings(frame)))

    @property
    def threshold(self) -> ThresholdRule:
        """The rule by which a threshold can be found with these folds."""
        if set(self.folds) == {TRAIN, TEST}:
            return "train-fold"
        return "other-folds" if len(self.folds) > 1 else "outside"

    @property
    def note(self) -> str:
        """Say what the non-mated pairs that are scored can show."""
        scored = self.folds[TEST] if self.threshold == "train-fold" else self.counts
        return resolution(scored["nonmated"], "non-mated pairs", "FMR")


def _counts(frame: pd.DataFrame) -> dict[str, int]:
    mated = int(frame["mated"].sum())
    counts = {"pairs": len(frame), "mated": mated, "nonmated": len(frame) - mated}
    counts |= {"folds": int(frame["fold"].nunique()), "photos": len(set(frame["a"]) | set(frame["b"]))}
    if _has_subjects(frame):
        counts["subjects"] = len({*frame["subject_a"].dropna(), *frame["subject_b"].dropna()})
    return counts


def _folds(frame: pd.DataFrame) -> dict[str, dict[str, int]]:
    return {
        str(label): {"mated": int(same.sum()), "nonmated": int((~same).sum())}
        for label, same in frame.groupby("fold")["mated"]
    }


def _refuse(frame: pd.DataFrame) -> None:
    bad = {"a photo is paired with itself": frame["a"] == frame["b"]}
    kinds = frame.groupby(["low", "high"])["mated"].transform("nunique")
    bad["a pair is both mated and non-mated"] = kinds > 1
    if _has_subjects(frame):
        known = frame["subject_a"].notna() & frame["subject_b"].notna()
        same = frame["subject_a"] == frame["subject_b"]
        bad["mated is not what subject_a and subject_b say"] = known & (same != frame["mated"])
    for what, rows in bad.items():
        if rows.any():
            where = numbered("row", (np.flatnonzero(rows) + 1).tolist())
            raise ManifestError(f"the list of pairs: {what}: {where}", "mend these rows, or take them out")


def _warnings(frame: pd.DataFrame) -> Iterator[str]:
    rows = (np.flatnonzero(frame.duplicated(["low", "high"])) + 1).tolist()
    if rows:
        where = numbered("row", rows)
        yield (
            f"{counted(len(rows), 'pairs are')} listed again, either way round, for which "
            f"all count twice: {where}"
        )
    for fold, counts in _folds(frame).items():
        for kind, words in (("mated", "mated"), ("nonmated", "non-mated")):
            if not counts[kind]:
                yield f"fold {fold} has no {words} pairs"
    shared = _in_several_folds(frame, "subject_a", "subject_b") if _has_subjects(frame) else 0
    if shared:
        yield f"{counted(shared, 'people are')} in more than one fold: the folds are not independent"
    photos = _in_several_folds(frame, "a", "b")
    if photos and not _has_subjects(frame):
        yield f"{counted(photos, 'photos are')} in more than one fold: the folds are not independent"


def _in_several_folds(frame: pd.DataFrame, *sides: str) -> int:
    columns = [frame[[side, "fold"]].set_axis(["who", "fold"], axis=1) for side in sides]
    folds = pd.concat(columns).dropna().drop_duplicates().groupby("who").size()
    return int((folds > 1).sum())


def _has_subjects(frame: pd.DataFrame) -> bool:
    return {"subject_a", "subject_b"} <= set(frame.columns)
