"""Make calibration cards from results of jobs/verify.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from frpipe.core.calibration import CalibrationCard
from frpipe.evaluation.calibrated import Calibrated, Known, calibrated
from frpipe.evaluation.calibration_cards import Method, calibration_card
from frpipe.jobs.evaluate.pair_results import PairResults
from frpipe.metrics.operating import Insufficient


def calibrations_of(
    results: Mapping[str, PairResults], methods: Sequence[Method], created: datetime
) -> dict[str, CalibrationCard]:
    """Fit cards, by name of the system and method, on all completed pairs, each two photos once.

    Raises ScoresError: too few pairs of a kind.
    """
    return {
        f"{name}-{method}": card
        for name, found in (results if methods else {}).items()
        for method, card in _of_result(name, found, methods, created).items()
    }


def _of_result(
    name: str, found: PairResults, methods: Sequence[Method], created: datetime
) -> dict[Method, CalibrationCard]:
    trials = found.trials.distinct()
    facts = found.provenance
    hashes = {
        "embedder_hash": str(facts["embedder_hash"]),
        "preprocessing_hash": str(facts["preprocessing_hash"]),
        "detector_hash": found.detector_hash,
    }
    scores = trials.scores()
    words = f"{name}: {len(scores.mated):,} mated and {len(scores.nonmated):,} non-mated pairs"
    first = {
        method: calibration_card(scores, method, hashes=hashes, source=words, created=created)
        for method in methods
    }
    # No folds: a threshold is chosen on them, and people may be in several.
    known = Known(a=trials.person_a, b=trials.person_b)
    costs = calibrated("similarity", trials.mated, trials.similarity, known, 0.0)
    return {method: _costed(card, method, costs) for method, card in first.items()}


def _costed(card: CalibrationCard, method: Method, costs: Calibrated) -> CalibrationCard:
    if isinstance(costs.methods, Insufficient):
        return card
    return card.model_copy(
        update={
            "cllr": costs.methods[method].cllr,
            "min_cllr": costs.min_cllr,
            "source": f"{card.source}; Cllr cross-fitted by subject",
        }
    )
