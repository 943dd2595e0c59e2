"""Evaluations of invented systems on invented scores, from a seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from frpipe.evaluation.difference import Difference
from frpipe.evaluation.evaluation import CurveName, Evaluation, Series, Trial
from frpipe.evaluation.number import Number
from frpipe.metrics.curve import Curve
from frpipe.metrics.intervals import Interval, clopper_pearson
from frpipe.metrics.operating import Insufficient, at_target, equal_error
from frpipe.metrics.rate import Rate
from frpipe.metrics.scores import Scores

TARGETS = (1e-1, 1e-2, 1e-3, 1e-4)
THRESHOLD = 0.32


def verification(
    name: str, seed: int = 0, mean: float = 0.56, trials: tuple[int, int] = (3000, 20000)
) -> Evaluation:
    """Everything that an evaluation may have: curves with bands, targets, groups, failures, worst pairs."""
    rng = np.random.default_rng(seed)
    scores = Scores.of(rng.normal(mean, 0.13, trials[0]), rng.normal(0.03, 0.075, trials[1]), mated_lost=4)
    curve = Curve.of(scores)
    eer = equal_error(curve)
    assert not isinstance(eer, Insufficient)
    fmr, fnmr = (float(rates[0]) for rates in curve.at([THRESHOLD]))
    return Evaluation(
        name=name,
        task="verification",
        counts={"mated": trials[0], "nonmated": trials[1], "people": 1200, "mated_lost": 4},
        numbers=[
            *_targets("TAR", curve),
            Number.rate("FMR", Rate(round(fmr * trials[1]), trials[1]), at=THRESHOLD),
            Number.rate("FNMR", Rate(round(fnmr * trials[0]), trials[0]), at=THRESHOLD),
            Number.scalar("AUC_exact", curve.auc(), Interval(curve.auc() - 4e-4, 0.9999, 0.95, "bootstrap")),
            Number.scalar("EER", eer.value, Interval(eer.low * 0.8, eer.high * 1.2, 0.95, "bootstrap")),
            Number.scalar("d_prime", 4.9213),
            Number.rate("FTA", Rate(4, trials[0])),
            *_groups(rng),
        ],
        curves={"roc": _roc(curve), "det": Series(*curve.det()), **_histograms(scores)},
        provenance=_provenance(name),
        warnings=["4 photos had no usable face: rates of completed comparisons leave them out."],
        worst=[
            Trial("m/0007/001", "m/0007/004", True, -0.0312),
            Trial("m/0193/002", "m/0193/003", True, 0.0104),
            Trial("m/0021/001", "m/0744/001", False, 0.3987),
        ],
    )  # fmt: skip


def identification(name: str, seed: int = 0, mean: float = 0.52, ranks: int = 50) -> Evaluation:
    rng = np.random.default_rng(seed)
    scores = Scores.of(rng.normal(mean, 0.13, 2000), rng.normal(0.2, 0.05, 4000))
    curve = Curve.of(scores)
    rank = np.arange(1, ranks + 1, dtype=np.float64)
    fpir, fnir = (float(rates[0]) for rates in curve.at([THRESHOLD]))
    return Evaluation(
        name=name,
        task="identification",
        counts={"mated": 2000, "nonmated": 4000, "gallery_subjects": 5000},
        numbers=[
            *_targets("TPIR", curve),
            Number.rate("FPIR", Rate(round(fpir * 4000), 4000), at=THRESHOLD),
            Number.rate("FNIR", Rate(round(fnir * 2000), 2000), at=THRESHOLD),
            Number.rate("CMC", Rate(1930 + seed, 2000), at=1),
            Number.rate("CMC", Rate(1990, 2000), at=20),
        ],
        curves={
            "open_roc": _roc(curve),
            "open_det": Series(*curve.det()),
            "cmc": Series(rank, 1 - (0.04 - 0.002 * seed) / rank**0.6),
            **_histograms(scores),
        },
        provenance=_provenance(name),
    )


def difference(value: float = 0.0123, p: float = 0.003, *, significant: bool = True) -> Difference:
    return Difference(
        "TAR", "model A", "model B", value, 1e-3, value - 0.006, value + 0.006, 0.95, p, significant, 2996,
        "bootstrap over people, paired",
    )  # fmt: skip


def _targets(measure: str, curve: Curve) -> list[Number]:
    found: list[Number] = []
    for target in TARGETS:
        at = at_target(curve, target)
        if isinstance(at, Insufficient):
            found.append(Number.missing(measure, at, at=target))
        else:
            found.append(Number.rate(measure, at.tar, at=target, threshold=at.threshold, support=at.support))
    return found


def _roc(curve: Curve) -> Series:
    low, high = clopper_pearson(curve.mated, curve.mated_trials)
    return Series(curve.fmr, curve.tar, curve.threshold, low, high)


def _histograms(scores: Scores) -> dict[CurveName, Series]:
    edges = np.linspace(-1, 1, 513)
    parts: Sequence[tuple[CurveName, np.ndarray]] = (("mated", scores.mated), ("nonmated", scores.nonmated))
    return {name: Series(edges[:-1], np.histogram(part, edges)[0].astype(float)) for name, part in parts}


def _groups(rng: np.random.Generator) -> list[Number]:
    columns = {"age": ("under 30", "30 to 59", "60 and over"), "light": ("daylight", "indoor", "night")}
    return [
        Number.rate(measure, Rate(int(rng.binomial(n, rate)), n), at=THRESHOLD, column=column, group=group)
        for column, groups in columns.items()
        for measure, rate, n in (("FMR", 2e-4, 7000), ("FNMR", 0.035, 900))
        for group in groups
    ]


def _provenance(name: str) -> dict[str, object]:
    return {
        "embedder": {"name": name, "embedder_hash": f"{abs(len(name)) % 10}" * 64},
        "preprocessing_hash": "0c3f" * 16,
        "trials": {"file": "pairs.csv", "sha256": "ab12" * 16, "rows": 23000},
    }
