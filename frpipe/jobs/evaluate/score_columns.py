"""Columns of a list of scores, by what they hold, and the words of its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from frpipe.core.errors import ConfigError, ManifestError
from frpipe.io.manifest.columns import shown
from frpipe.io.manifest.row_list import RowList
from frpipe.metrics.scores import Kind

# Words that people write for the two kinds of trial.
MATED = frozenset({"true", "1", "1.0", "yes", "t", "y", "mated", "same", "genuine", "positive"})
NONMATED = frozenset(
    {"false", "0", "0.0", "-1", "no", "f", "n", "non-mated", "nonmated", "different", "impostor", "negative"}
)
# Names that columns have elsewhere, by what they hold.
_USUAL = {
    "label": ("label", "mated", "same", "is_same", "gt", "genuine", "target", "y_true"),
    "similarity": ("similarity", "cosine_similarity", "cosine", "score", "y_score"),
    "distance": ("distance", "cosine_distance", "dist"),
    "right": ("right", "correct", "rank1_correct"),
}
# Of comparisons alone, and taken in this order: what calibration is cross-fitted by.
_FOLD = ("fold",)
_PEOPLE = (("subject_a", "subject_b"), ("first_subject", "second_subject"), ("subject",), ("subject_id",))


@dataclass(frozen=True, slots=True)
class ScoreColumns:
    """Names of columns; None: found by their usual names.

    label: whether a comparison is mated; of searches, whether the person is in the gallery.
    right: of searches, whether the first candidate is that person.  subjects: the person of both sides, or of
    the first and of the second; of searches that of the probe.  Of comparisons, fold: any labels; by: labels
    of groups, never usual.
    """

    label: str | None = None
    similarity: str | None = None
    distance: str | None = None
    right: str | None = None
    fold: str | None = None
    subjects: tuple[str, ...] = ()
    by: str | None = None

    def found_in(self, rows: RowList) -> ScoreColumns:
        """Find all columns that the list has, by name.

        Raises ManifestError, ConfigError: one is missing, or two fit.
        """
        asked = {name: value for name in _USUAL if (value := getattr(self, name)) is not None}
        rows.require(*asked.values(), *self.labels)
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
        return found._with_labels(rows)

    @property
    def labels(self) -> list[str]:
        """The columns of folds, people and groups."""
        return [name for name in (self.fold, *self.subjects, self.by) if name]

    def _with_labels(self, rows: RowList) -> ScoreColumns:
        """Add the folds and people of comparisons by their usual names."""
        if len(self.subjects) > 2:
            raise ConfigError("a comparison has two sides", "name one column of people, or two")
        taken = (self.label, self.scores, self.right)
        own = {name.casefold(): name for name in rows.schema.names if name not in taken}
        if self.right is not None:
            if self.fold or self.by or len(self.subjects) > 1:
                what = "folds, groups and second people are of comparisons"
                raise ConfigError(f"{what}, and {shown(self.right)} makes rows searches", "leave them out")
            probe = next(
                (own[name] for names in _PEOPLE for name in names if len(names) == 1 and name in own), None
            )
            return replace(self, subjects=self.subjects or ((probe,) if probe else ()))
        people = next((names for names in _PEOPLE if own.keys() >= {*names}), ())
        return replace(
            self,
            fold=self.fold or next((own[name] for name in _FOLD if name in own), None),
            subjects=self.subjects or tuple(own[name] for name in people),
        )

    @property
    def names(self) -> frozenset[str]:
        """The names that are given, and all usual ones."""
        given = {name for role in _USUAL if (name := getattr(self, role)) is not None}
        usual = {name for names in (*_USUAL.values(), _FOLD, *_PEOPLE) for name in names}
        return frozenset(usual | given | {*self.labels})

    @property
    def scores(self) -> str | None:
        """The column of scores."""
        return self.distance if self.similarity is None else self.similarity

    @property
    def kind(self) -> Kind:
        """The kind of the scores."""
        return "distance" if self.similarity is None else "similarity"


def _one(rows: RowList, names: Sequence[str], what: str, option: str) -> None:
    if len(names) > 1:
        raise ConfigError(
            f"{rows.names[0]} has several columns that may hold {what}: {', '.join(map(shown, names))}",
            f"say which with {option}",
        )


def truth(word: str) -> bool | None:
    """The truth value of a word, whatever its case and the blanks around it; None for any other word."""
    folded = word.strip().casefold()
    return True if folded in MATED else False if folded in NONMATED else None
