"""The measures of an evaluation: their names, the lecture's too, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["high", "low"] | None
Of = Literal["threshold", "FMR", "FPIR", "rank", "score", "APCER", "discard"] | None


@dataclass(frozen=True, slots=True)
class Measure:
    """A number that an evaluation may hold.

    name: the key, in files.  title: for people.  better: which way is better; None: neither.  of: what `at`
    is, for measures that are taken at something.  means: the definition in one line.  lecture: its name
    there.
    """

    name: str
    title: str
    better: Better
    of: Of
    means: str
    lecture: str | None = None


def _low(name: str, title: str, means: str, lecture: str | None = None) -> Measure:
    """Make the measure of an error at a threshold."""
    return Measure(name, title, "low", "threshold", means, lecture)


def _high(name: str, title: str, means: str, of: Of = None, lecture: str | None = None) -> Measure:
    return Measure(name, title, "high", of, means, lecture)


_ON_OTHERS = "mean over the folds, the threshold chosen on the other folds"

MEASURES = (
    _low("FMR", "False match rate", "non-mated comparisons accepted / completed ones", "1 - TRR"),
    _low("FNMR", "False non-match rate", "mated comparisons rejected / completed ones", "1 - TAR"),
    _low("FAR", "False accept rate", "FMR, with failed comparisons counted as rejections"),
    _low("FRR", "False reject rate", "FNMR, with failed comparisons counted as rejections"),
    _high("accuracy", "Accuracy", "completed comparisons decided rightly", "threshold"),
    _high("accuracy_all", "Accuracy with failures", "failed ones as rejections", "threshold"),
    Measure("FTA", "Failure to acquire", "low", None, "probe photos without a usable face / all"),
    Measure("FTE", "Failure to enrol", "low", None, "references without a usable face / all"),
    _high("AUC_exact", "Area under the ROC, exact", "P(mated > non-mated) + P(equal) / 2", lecture="AUC"),
    _high(
        "AUC_grid",
        "Area under the ROC, on a grid",
        "trapezoids at round thresholds over all scores, as the lecture has it",
        lecture="AUC",
    ),
    Measure("EER", "Equal error rate", "low", None, "where FMR = FNMR, between points by a straight line"),
    _high("d_prime", "d'", "difference of the mean scores in standard deviations, of samples"),
    _high("TAR", "True accept rate", "1 - FNMR, where FMR is at most the target", "FMR", "TAR"),
    _high("folds_accuracy", "Accuracy over folds", f"{_ON_OTHERS}: most decisions right"),
    _high("folds_accuracy_all", "Accuracy over folds with failures", "the same, failures as rejections"),
    _high("folds_youden", "Accuracy over folds, rule of Youden", f"{_ON_OTHERS}: largest TAR - FMR"),
    _low(
        "FPIR",
        "False positive identification rate",
        "non-mated searches whose best candidate is accepted / completed ones",
        "1 - TNIR",
    ),
    _low(
        "FNIR",
        "False negative identification rate",
        "mated searches whose mate is beyond the rank (first, unless said) or not accepted / completed ones",
        "1 - TPIR",
    ),
    _low("FPIR_all", "FPIR with failures", "a failed non-mated search raises no alarm"),
    _low("FNIR_all", "FNIR with failures", "a failed mated search, or a mate who failed to enrol, is a miss"),
    _low("named_wrong", "Named wrongly", "mated searches that accept somebody else first / completed ones"),
    _low("selectivity", "Selectivity", "candidates accepted per completed non-mated search"),
    _high(
        "TPIR",
        "True positive identification rate",
        "1 - FNIR, where FPIR is at most the target",
        "FPIR",
        "TPIR",
    ),
    Measure(
        "FNIR_identification",
        "FNIR(N, L, T), identification mode",
        "low",
        "FPIR",
        "mated searches whose mate is not among L candidates, or below the T of the FPIR / completed ones",
    ),
    Measure(
        "FNIR_investigation",
        "FNIR(N, R, 0), investigation mode",
        "low",
        "rank",
        "mated searches whose mate is beyond rank R, at any score / completed ones: 1 - CMC",
    ),
    _high("CMC", "Cumulative match", "mated searches with the mate within the rank, at any score", "rank"),
    Measure(
        "EDC_gain",
        "Gain of discarding",
        "high",
        "discard",
        "area that a measure takes off error versus discard, of what an ideal one does; 0: as by chance",
    ),
    Measure(
        "EDC_pAUC",
        "Area under error versus discard",
        "low",
        "discard",
        "of the error that is left, as trials of lowest quality are discarded, up to the fraction",
    ),
    Measure(
        "FNMR_discard",
        "FNMR after discards",
        "low",
        "discard",
        "FNMR of what is left; a pair has the lower quality of its sides, the threshold stays",
    ),
    Measure(
        "FNIR_discard",
        "FNIR after discards",
        "low",
        "discard",
        "FNIR of what is left; a search has the quality of its probe, the threshold stays",
    ),
    Measure(
        "APCER",
        "Attack presentation classification error rate",
        "low",
        "score",
        "attacks of a species classified as bona fide / those with a response; in all: of the worst species",
    ),
    Measure(
        "BPCER",
        "Bona fide presentation classification error rate",
        "low",
        "score",
        "bona fide presentations classified as attacks / those with a response",
    ),
    Measure(
        "BPCER_fixed",
        "BPCER at a fixed APCER",
        "low",
        "APCER",
        "BPCER where the APCER of every species is at most the target: BPCER10, BPCER20, BPCER100",
    ),
    Measure("APNRR", "Attack presentation non-response rate", None, None, "attacks without a response / all"),
    Measure(
        "BPNRR",
        "Bona fide presentation non-response rate",
        "low",
        None,
        "bona fide presentations without a response / all",
    ),
    _low(
        "IAPAR",
        "Impostor attack presentation accept rate",
        "attacks of a species classified as bona fide and matched / all; in all: of the worst species",
    ),
    _low("FRR_system", "FRR of the whole system", "bona fide presentations refused or not matched / all"),
    _low("RIAPAR", "Relative IAPAR", "IAPAR of the worst species + FRR of the whole system"),
    *(
        _low(f"{name}_ratio", f"{name}, ratio", f"{name} of the group / {name} of the largest group")
        for name in ("FMR", "FNMR", "FPIR", "FNIR")
    ),
    *(
        _low(f"{name}_{key}", f"{name}, {title}", means.format(name))
        for name in ("FMR", "FNMR")
        for key, title, means in (
            ("worst_over_mean", "worst over geometric mean", "largest {} of a group / geometric mean of all"),
            ("worst_over_best", "worst over best", "largest {} of a group / smallest"),
            (
                "gini",
                "Gini coefficient",
                "mean difference of two groups' {} / twice the mean; 0: all are equal",
            ),
        )
    ),
    _low("GARBE", "Gini aggregation rate", "mean of the Gini coefficients of FMR and FNMR over groups"),
    _low(
        "FMR_between", "FMR between two groups", "non-mated comparisons of the two accepted / completed ones"
    ),
)
DIFFERENTIALS = (
    *(f"{name}_{key}" for name in ("FMR", "FNMR") for key in ("worst_over_mean", "worst_over_best", "gini")),
    "GARBE",
)
"""Measures over all groups of a column."""
BETWEEN = "FMR_between"
"""The measure of each two groups of a column; `group` names both."""
BY_NAME = {measure.name: measure for measure in MEASURES}
