"""Make threshold cards from an evaluation whose trials carry the error rate that is aimed at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from frpipe.core.threshold import Target, ThresholdCard
from frpipe.evaluation.evaluation import Evaluation
from frpipe.evaluation.pairs import PairTrials
from frpipe.evaluation.searches import SearchTrials
from frpipe.metrics.clustered import Pairing
from frpipe.metrics.curve import Curve
from frpipe.metrics.effective import EffectiveTrials
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.identification import roc as search_roc
from frpipe.metrics.scores import Doubles, Indices
from frpipe.metrics.verification import roc

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Strangers:
    """Non-mated trials that a card rests on.

    curve: exact, of all trials.  best: (n,) similarities, of comparisons, or the highest of each search.  a,
    b: (n,) persons of both sides; of a search that of its probe.
    """

    curve: Curve
    best: Doubles
    a: Indices
    b: Indices

    @classmethod
    def of(cls, trials: PairTrials | SearchTrials) -> Strangers:
        """Choose from completed trials, each two photos once."""
        if isinstance(trials, SearchTrials):
            searches, persons = trials.searches(), trials.persons()[trials.done_strangers]
            curve = search_roc(searches, trials.rank, one_kind=True)
            return cls(curve, searches.best_stranger, persons, persons)
        once = trials.distinct()
        some = once.some(~once.mated & once.completed)
        curve = roc(once.scores().completed(), one_kind=True)
        return cls(curve, some.similarity, some.person_a, some.person_b)

    def effective(self, target: float, confidence: float) -> EffectiveTrials | None:
        """The worth of the trials in independent ones; None where there are none."""
        if not len(self.best):
            return None
        (pairing,) = Pairing.of((self.a, self.b))
        return EffectiveTrials.of(self.best, pairing, target, confidence)


def threshold_card(
    evaluation: Evaluation,
    strangers: Strangers,
    target: float,
    created: datetime,
    confidence: float = CONFIDENCE,
) -> ThresholdCard:
    """Choose the most lenient threshold whose rate, FMR or FPIR, is at most the target, with this confidence.

    The bound is the one-sided one of Clopper and Pearson, for as many independent trials as these are worth,
    which share people: see `effective`.
    Raises ScoresError: even no error at all would not show it, or equal scores leave no such threshold. There
    is no extrapolation: the tail beyond the last score is not known.
    """
    name, curve = _rate(evaluation), strangers.curve
    worth = strangers.effective(target, confidence)
    errors = worth.allowed(target, confidence) if worth else None
    if worth is None or errors is None:
        raise _too_few(name, target, confidence, worth)
    place = int(np.searchsorted(curve.nonmated, errors, "right")) - 1
    if not np.isfinite(curve.threshold[place]):
        raise ScoresError(
            f"no threshold for {name} {target:g}: too many non-mated trials have the highest score",
            "look for photos of one person under two names: jobs/dedup.py finds them",
        )
    found = int(curve.nonmated[place])
    return ThresholdCard(
        kind="similarity",
        value=float(np.clip(curve.threshold[place], -1, 1)),
        target=Target(rate=name, value=target),  # type: ignore[arg-type]
        trials=worth.trials,
        source=f"{evaluation.name}: {name} <= {target:g} with {confidence:.0%} confidence, by {found:,} "
        f"errors in {worth.trials:,} trials{_worth(worth)}{_searched(evaluation)}",
        created=created,
        **_use(evaluation),
    )


def _worth(worth: EffectiveTrials) -> str:
    if worth.effective == worth.trials:
        return " that share no person"
    return f", by the people that they share worth {worth.effective:,.0f} independent ones"


def _too_few(name: str, target: float, confidence: float, worth: EffectiveTrials | None) -> ScoresError:
    need = int(np.ceil(np.log(1 - confidence) / np.log1p(-target)))
    have = "0 non-mated trials" if worth is None else f"{worth.trials:,} non-mated trials{_worth(worth)}"
    return ScoresError(
        f"no threshold for {name} {target:g}: {have}; {need:,} independent ones are needed for "
        f"{confidence:.0%} confidence",
        "aim at a higher rate, or evaluate non-mated trials of more people; it is not extrapolated",
    )


def _rate(evaluation: Evaluation) -> str:
    return "FMR" if evaluation.task == "verification" else "FPIR"


def _searched(evaluation: Evaluation) -> str:
    """The gallery that was searched and its version, by the content; empty where none was."""
    facts = evaluation.provenance
    if evaluation.task != "identification" or "gallery_version" not in facts:
        return ""
    commit = f", commit {facts['gallery_commit']}" if facts.get("gallery_commit") else ""
    return f"; gallery {facts['gallery_id']}, version {facts['gallery_version']}{commit}"


def _use(evaluation: Evaluation) -> dict[str, Any]:
    subjects = evaluation.counts["gallery"] if evaluation.task == "identification" else None
    hashes = {name: str(evaluation.provenance[name]) for name in ("embedder_hash", "preprocessing_hash")}
    return {**hashes, "purpose": evaluation.task, "gallery_subjects": subjects}
