"""The evaluation of comparisons one to one: every rate with its counts and its interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from frpipe.core.distinct import merged
from frpipe.evaluation.curves import binned, det_series, roc_series
from frpipe.evaluation.differentials import differential_numbers
from frpipe.evaluation.evaluation import CurveName, Evaluation, Series, Trial
from frpipe.evaluation.groups import by_group, ratios
from frpipe.evaluation.number import Number
from frpipe.evaluation.pairs import Labels, Mask, PairTrials
from frpipe.evaluation.quality import Judged, QualityMeasure, chosen_threshold
from frpipe.evaluation.sample import CurveMeasure, at_target, auc, eer
from frpipe.evaluation.targets import curve_numbers, grid_number, target_numbers
from frpipe.metrics.clustered import clustered_rate
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.folds import cross_validated, standard_error
from frpipe.metrics.intervals import LEVEL, Interval
from frpipe.metrics.rate import Rate
from frpipe.metrics.scores import Doubles, Kind
from frpipe.metrics.verification import Rule, best_threshold, d_prime, roc

_WORST = 12


_RULES: tuple[tuple[Rule, str], ...] = (("accuracy", "folds_accuracy"), ("youden", "folds_youden"))


@dataclass(frozen=True, slots=True)
class VerificationQuestion:
    """The question that is put to comparisons.

    thresholds: similarities.  targets: of FMR.  training: comparisons that choose one more threshold, by
    accuracy, and are not scored.  chosen_on: comparisons, in folds of the same names, that choose the folds'
    thresholds instead of those that are scored.  quality: measures, whose values the trials have.
    """

    thresholds: Sequence[float] = ()
    targets: Sequence[float] = (0.1, 0.01, 0.001)
    training: PairTrials | None = None
    chosen_on: PairTrials | None = None
    quality: Sequence[QualityMeasure] = ()

    def estimates(self) -> list[CurveMeasure]:
        """The estimates that a curve gives."""
        return [auc(), eer(), *(at_target("TAR", target) for target in self.targets)]

    def answer(
        self, name: str, trials: PairTrials, provenance: dict[str, Any], warnings: Sequence[str] = ()
    ) -> Evaluation:
        """Evaluate comparisons; of one kind alone, what that kind gives; see `unmeasured`."""
        groups, skipped = by_group(trials)
        judged = self._judged(trials)
        numbers = [
            *self._numbers(trials),
            *fold_numbers(trials, self.chosen_on),
            *(number for group in groups for number in self._numbers(group.trials, **group.where)),
        ]
        return Evaluation(
            name,
            "verification",
            _counts(trials),
            [
                *numbers,
                *ratios(numbers, ("FMR", "FNMR")),
                *self._differentials(trials),
                *(judged.numbers() if judged else ()),
            ],
            {**_curves(trials, self.targets), **(judged.curves() if judged else {})},
            provenance,
            [
                *warnings,
                *unmeasured(trials),
                *self._untrained(),
                *skipped,
                *(judged.warnings() if judged else ()),
            ],
            worst(trials),
        )

    def _differentials(self, trials: PairTrials) -> Iterator[Number]:
        for threshold in self.thresholds:
            yield from differential_numbers(trials, threshold)

    def _numbers(self, trials: PairTrials, **where: Any) -> Iterator[Number]:
        for threshold in self.thresholds:
            yield from _at_threshold(trials, threshold, **where)
        if self.training is not None and both_kinds(self.training):
            chosen = best_threshold(self.training.scores()).threshold
            yield from _at_threshold(trials, chosen, note="at the threshold of the training fold", **where)
        for measure, rate in zip(("FTA", "FTE"), trials.failures(), strict=True):
            yield Number.rate(measure, rate, **where)
        scores, sample = trials.scores(), trials.sample()
        if not both_kinds(trials):
            for one in self.estimates():
                yield Number.missing(one.measure, _lacking(trials), at=one.at, **where)
            return
        curve = roc(scores)
        yield grid_number(curve, **where)
        spread = d_prime(scores)
        number = Number.scalar if isinstance(spread, float) else Number.missing
        yield number("d_prime", spread, **where)  # type: ignore[arg-type]
        yield from curve_numbers(curve, sample, [auc(), eer()], **where)
        yield from target_numbers("TAR", curve, sample, self.targets, trials.distinct_nonmated, **where)

    def _judged(self, trials: PairTrials) -> Judged | None:
        """The completed mated comparisons with their qualities; None where no quality is asked for."""
        if not self.quality:
            return None
        curve = roc(trials.scores().completed()) if both_kinds(trials) else None
        chosen = chosen_threshold(curve, "FMR", self.targets, self.thresholds, trials.distinct_nonmated)
        some = trials.mated & trials.completed
        if chosen is None or not some.any():
            return None
        return Judged(
            "FNMR",
            trials.similarity[some] < chosen[0],
            trials.person_a[some],
            *chosen,
            {measure: trials.quality[measure.column][some] for measure in self.quality},
        )

    def _untrained(self) -> list[str]:
        if self.training is None or both_kinds(self.training):
            return []
        return [f"the training pairs choose no threshold: {_lacking(self.training)}"]


def both_kinds(trials: PairTrials) -> bool:
    """Whether there are completed comparisons of both kinds."""
    return not _lacking(trials)


def _lacking(trials: PairTrials) -> str:
    """The kind of completed comparisons that is missing, in words; empty: neither."""
    kinds = [
        name
        for name, of in (("mated", trials.mated), ("non-mated", ~trials.mated))
        if not (of & trials.completed).any()
    ]
    return f"no {' and no '.join(kinds)} comparisons" if kinds else ""


def unmeasured(trials: PairTrials) -> Iterator[str]:
    """Warnings of what the trials cannot tell, and which folds lack a kind, in sentences."""
    if not both_kinds(trials):
        yield f"{_lacking(trials)}: there are no curves, no AUC, no EER and no TAR at an FMR"
    for label in _folds(trials) if both_kinds(trials) else ():
        lacking = _lacking(trials.some(trials.fold == label))
        if lacking:
            yield f"the fold {label} has {lacking}: an accuracy over folds says little"


def _at_threshold(trials: PairTrials, threshold: float, **where: Any) -> Iterator[Number]:
    accepted, done = trials.similarity >= threshold, trials.completed
    wrong = accepted != trials.mated
    every = np.ones(len(trials), bool)
    for measure, errors, among in (
        ("FMR", accepted, ~trials.mated & done),
        ("FNMR", ~accepted, trials.mated & done),
        ("FAR", accepted, ~trials.mated),
        ("FRR", ~accepted, trials.mated),
        ("accuracy", ~wrong, done),
        ("accuracy_all", ~wrong, every),
    ):
        yield _rate(measure, trials, errors, among, at=threshold, **where)


def _rate(measure: str, trials: PairTrials, errors: Mask, among: Mask, **rest: Any) -> Number:
    rate = Rate(int(np.count_nonzero(errors & among)), int(np.count_nonzero(among)))
    if not rate.trials:
        return Number.rate(measure, rate, **rest)
    persons = trials.person_a[among], np.where(trials.mated, trials.person_a, trials.person_b)[among]
    return Number.rate(measure, rate, clustered_rate(errors[among], *persons), **rest)


def _counts(trials: PairTrials) -> dict[str, int]:
    scores, distinct = trials.scores(), trials.distinct_nonmated
    return {
        "mated": len(scores.mated),
        "nonmated": len(scores.nonmated),
        **({} if distinct == len(scores.nonmated) else {"nonmated_distinct": distinct}),
        "mated_lost": scores.mated_lost,
        "nonmated_lost": scores.nonmated_lost,
        "persons": len(merged(trials.person_a, trials.person_b)),
    }


def _curves(trials: PairTrials, targets: Sequence[float]) -> dict[CurveName, Series]:
    scores, found = trials.scores().completed(), dict[CurveName, Series]()
    if both_kinds(trials):
        curve = roc(scores)
        found = {"roc": roc_series(curve, trials.sample(), targets), "det": det_series(curve)}
    parts: dict[CurveName, Doubles] = {"mated": scores.mated, "nonmated": scores.nonmated}
    return {**found, **{name: binned(part) for name, part in parts.items() if len(part)}}


def worst(trials: PairTrials, amount: int = _WORST) -> list[Trial]:
    """The worst comparisons: mated ones that look least alike, then non-mated ones that look most alike."""
    found = []
    for mated, sign in ((True, 1), (False, -1)):
        rows = np.flatnonzero((trials.mated == mated) & trials.completed)
        order = rows[np.argsort(sign * trials.similarity[rows], kind="stable")[:amount]]
        found += [
            Trial(str(trials.a[row]), str(trials.b[row]), mated, float(trials.similarity[row]))
            for row in order
        ]
    return found


def fold_numbers(trials: PairTrials, chosen_on: PairTrials | None = None) -> Iterator[Number]:
    """Mean accuracy over the folds, by both rules; nothing where there are fewer than two folds.

    A comparison without a label is of no fold.  Folds that carry no accuracy, as each is of one kind, give
    numbers without a value.
    chosen_on: other comparisons, in folds of the same names, that choose the thresholds.
    Raises ScoresError: they cannot, as either list has no such folds.
    """
    if chosen_on is None and (trials.fold is None or len(_folds(trials)) < 2 or not both_kinds(trials)):
        return
    try:
        yield from list(_by_folds(trials, chosen_on))
    except ScoresError as error:
        if chosen_on is not None and not np.isin(_folds(trials), _folds(chosen_on)).all():
            raise
        yield Number.missing("folds_accuracy", f"no threshold for a fold: {error.message}")


def _folds(trials: PairTrials) -> Labels:
    """The labels of folds, each once."""
    return np.unique(trials.fold[trials.fold != ""]) if trials.fold is not None else np.zeros(0, object)


def _by_folds(trials: PairTrials, chosen_on: PairTrials | None) -> Iterator[Number]:
    scored, chooser = _columns(trials), _columns(chosen_on) if chosen_on is not None else None
    for rule, measure in _RULES:
        found = cross_validated(*scored, rule=rule, chosen_on=chooser)
        yield accuracy_number(measure, found.accuracies)
        if rule == "accuracy":
            yield accuracy_number("folds_accuracy_all", found.accuracies_all)


def _columns(trials: PairTrials) -> tuple[Doubles, Mask, Labels]:
    if trials.fold is None:
        raise ScoresError(
            "thresholds are to be chosen on the folds of other pairs, and a list has no folds",
            "give both lists a column of folds and name it with --fold",
        )
    some = trials.fold != ""
    return trials.similarity[some], trials.mated[some], trials.fold[some]


def accuracy_number(measure: str, accuracies: Doubles) -> Number:
    """Make a number of the mean accuracy over folds, with the usual interval, by Student's t.

    It is too narrow where folds share people.

    No interval where all folds are alike: that says nothing of the next one.
    """
    folds, mean, error = len(accuracies), float(accuracies.mean()), standard_error(accuracies)
    reach = float(stdtrit(folds - 1, (1 + LEVEL) / 2)) * error
    interval = Interval(
        max(0.0, mean - reach), min(1.0, mean + reach), LEVEL, f"Student's t over {folds} folds"
    )
    return Number.scalar(
        measure, mean, interval if error else None, note=f"standard error {error:.4f} over {folds} folds"
    )


def fold_accuracy(kind: Kind, mated: Mask, score: Doubles, fold: Labels) -> list[Number]:
    """Accuracy over folds, each at the threshold that the others choose.

    Of completed comparisons, and with failed ones as rejections where there are any.
    mated, score, fold: (n,); NaN: failed.  Where folds carry no accuracy, a number without a value says why.
    """
    try:
        found = cross_validated(score, mated, fold, kind=kind)
    except ScoresError as error:
        return [Number.missing("folds_accuracy", f"no threshold for a fold: {error.message}")]
    numbers = [accuracy_number("folds_accuracy", found.accuracies)]
    if (found.accuracies != found.accuracies_all).any():
        numbers.append(accuracy_number("folds_accuracy_all", found.accuracies_all))
    return numbers
