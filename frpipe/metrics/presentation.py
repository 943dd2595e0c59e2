"""Metrics of presentation attack detection (PAD), with the names of ISO/IEC 30107-3.

A score is the larger the more bona fide; a presentation is classified as bona fide when score >= threshold.
An attack belongs to a species: presentations that are made alike, as prints, or replays on one screen. What
is reported is the worst species, as an attacker chooses; a mean over species, or over both errors, is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from frpipe.core.counted import counted
from frpipe.metrics.bootstrap import of_draws, percentiles, replicates_of
from frpipe.metrics.clustered import Pairing
from frpipe.metrics.curve import ROUNDING, Curve, Ordered
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.intervals import LEVEL, Interval
from frpipe.metrics.operating import RULE_OF_3, RULE_OF_30, Insufficient
from frpipe.metrics.rate import Rate
from frpipe.metrics.scores import Doubles, Scores, finite

FIXED_APCER = (0.1, 0.05, 0.01)
"""The APCER of BPCER10, BPCER20 and BPCER100."""


@dataclass(frozen=True, slots=True)
class Presentations:
    """Scores of presentations. bona_fide: (b,).  attacks: by species, (n,) each.

    bona_fide_lost, attacks_lost: presentations without a response, as no face was found.
    """

    bona_fide: Doubles
    attacks: Mapping[str, Doubles]
    bona_fide_lost: int = 0
    attacks_lost: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        bona_fide: ArrayLike,
        attacks: Mapping[str, ArrayLike],
        *,
        bona_fide_lost: int = 0,
        attacks_lost: Mapping[str, int] | None = None,
    ) -> Presentations:
        """Make presentations.

        Raises ScoresError: a score is not finite, a count is negative, or of a species without scores.
        """
        lost = dict(attacks_lost or {})
        if bona_fide_lost < 0 or any(count < 0 for count in lost.values()):
            raise ScoresError(
                "a count of presentations without response is negative", "count each presentation once"
            )
        if not lost.keys() <= attacks.keys():
            raise ScoresError(
                "presentations of a species that has no scores", "give it an empty list of scores"
            )
        scored = {name: finite(values, "presentation's") for name, values in sorted(attacks.items())}
        return cls(finite(bona_fide, "bona fide presentation's"), scored, bona_fide_lost, lost)


@dataclass(frozen=True, slots=True)
class PadRates:
    """Rates at one threshold. apcer, apnrr: by species.

    apcer, bpcer: of presentations with a response; apnrr, bpnrr: the share of all that caused none.
    """

    threshold: float
    apcer: Mapping[str, Rate]
    bpcer: Rate
    apnrr: Mapping[str, Rate]
    bpnrr: Rate

    @property
    def worst(self) -> str | None:
        """The species of the largest APCER, of equals the first by name; None: no attack had a response."""
        known = {name: rate.value for name, rate in self.apcer.items() if rate.value is not None}
        return max(known, key=lambda name: known[name]) if known else None


@dataclass(frozen=True, slots=True)
class BpcerAtApcer:
    """BPCER at the most lenient threshold at which every species' APCER is at most `target`.

    species: the one that asks for this threshold.  apcer: its own there.  support: the rule that the attacks
    of the rarest species satisfy.
    """

    target: float
    threshold: float
    species: str
    apcer: Rate
    bpcer: Rate
    support: Literal["rule of 3", "rule of 30"]


def pad_rates(found: Presentations, threshold: float) -> PadRates:
    """Rates at a threshold: score >= threshold is classified as bona fide.

    APCER = attacks of a species classified as bona fide / its attacks; BPCER = bona fide presentations
    classified as attacks / bona fide presentations. Raises ScoresError: the threshold is NaN.
    """
    if np.isnan(threshold):
        raise ScoresError("a threshold is not a number", "give a score")
    lost, refused = found.attacks_lost, int(np.count_nonzero(found.bona_fide < threshold))
    amount = len(found.bona_fide)
    return PadRates(
        threshold,
        {name: Rate(int(np.count_nonzero(s >= threshold)), len(s)) for name, s in found.attacks.items()},
        Rate(refused, amount),
        {name: Rate(lost.get(name, 0), lost.get(name, 0) + len(s)) for name, s in found.attacks.items()},
        Rate(found.bona_fide_lost, found.bona_fide_lost + amount),
    )


def bpcer_at_apcer(found: Presentations, target: float) -> BpcerAtApcer | Insufficient:
    """BPCER at a fixed APCER: BPCER10, BPCER20 and BPCER100 at 0.1, 0.05 and 0.01.

    Insufficient: a species has fewer than 3 / target attacks with a response, or nothing was bona fide.
    Raises ScoresError: the target is not in (0, 1].
    """
    if not 0 < target <= 1:
        raise ScoresError("a target is a rate above 0 and at most 1", "for example 0.05")
    if not found.attacks or not len(found.bona_fide):
        return Insufficient("no attacks, or no bona fide presentations", 0, 1)
    rarest = min(found.attacks, key=lambda name: len(found.attacks[name]))
    have, need = len(found.attacks[rarest]), int(np.ceil(RULE_OF_3 / target - ROUNDING))
    if have < need:
        return Insufficient(f"{counted(have, 'attacks')} of {rarest}, {target:g} needs {need:,}", have, need)
    limits = {name: _limit(curve, target) for name, curve in _curves(found).items()}
    species = max(limits, key=lambda name: limits[name])
    rates = pad_rates(found, limits[species])
    support: Literal["rule of 3", "rule of 30"] = (
        "rule of 30" if have * target + ROUNDING >= RULE_OF_30 else "rule of 3"
    )
    return BpcerAtApcer(target, limits[species], species, rates.apcer[species], rates.bpcer, support)


def bpcer_interval(
    found: Presentations,
    bona_fide: ArrayLike,
    attacks: Mapping[str, ArrayLike],
    target: float,
    *,
    replicates: int | None = None,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Interval of BPCER at a fixed APCER: persons are drawn again, and the threshold is chosen anew.

    bona_fide, attacks: the persons of the scores, (b,), and by species (n,) those who are imitated.
    replicates: None: as `replicates_of`.
    """
    names = [*found.attacks]
    own, *others = Pairing.of((bona_fide, bona_fide), *((attacks[name], attacks[name]) for name in names))
    ordered = [Ordered.of(Scores.of(found.bona_fide, found.attacks[name])) for name in names]
    scores = len(found.bona_fide) + sum(map(len, found.attacks.values()))
    count = replicates_of(scores) if replicates is None else replicates

    def rate(drawn: Doubles) -> float:
        weights = drawn[own.a]
        curves = [
            each.weighted(weights, drawn[pairing.a]) for each, pairing in zip(ordered, others, strict=True)
        ]
        if not weights.sum() > 0 or any(not curve.nonmated_trials > 0 for curve in curves):
            return np.nan
        limit = max(_limit(curve, target) for curve in curves)
        return float(weights[found.bona_fide < limit].sum() / weights.sum())

    def rates(block: Doubles) -> Doubles:
        return np.array([rate(drawn) for drawn in block])

    return percentiles(of_draws(own.people, count, seed, rates), level)


def det(found: Presentations, species: str | None = None) -> tuple[Doubles, Doubles, Doubles]:
    """Thresholds, APCER and BPCER (p,) at infinity and at each score, strictest first.

    species: whose; None: the worst at each threshold. Raises ScoresError: no attacks, or none bona fide.
    """
    chosen = found.attacks if species is None else {species: found.attacks[species]}
    if not chosen:
        raise ScoresError("there are no attacks", "a DET curve needs both kinds of presentation")
    curves = _curves(Presentations(found.bona_fide, chosen)).values()
    thresholds = np.unique(np.concatenate([curve.threshold for curve in curves]))[::-1]
    rates = [curve.at(thresholds) for curve in curves]
    return thresholds, np.max([apcer for apcer, _ in rates], axis=0), rates[0][1]


def iapar(passed: ArrayLike, similarity: ArrayLike, threshold: float) -> Rate:
    """Impostor attack presentation accept rate of one species: (n,) attacks accepted by the whole system.

    passed: classified as bona fide; False without a response.  similarity: to the person who is attacked, NaN
    where nothing was compared: such an attack is not accepted.  threshold: of comparison.
    Raises ScoresError: lengths differ, or the threshold is NaN.
    """
    through, alike = np.asarray(passed, bool), np.asarray(similarity, np.float64)
    if through.shape != alike.shape:
        raise ScoresError("decisions and similarities differ in length", "give both for each attack")
    if np.isnan(threshold):
        raise ScoresError("a threshold is not a number", "give a similarity")
    return Rate(int(np.count_nonzero(through & (alike >= threshold))), len(through))


def _curves(found: Presentations) -> dict[str, Curve]:
    """Curves of each species: the APCER as the FMR of a curve, the BPCER as its FNMR."""
    return {name: Curve.of(Scores.of(found.bona_fide, scores)) for name, scores in found.attacks.items()}


def _limit(curve: Curve, target: float) -> float:
    """The most lenient threshold at which the APCER is at most the target."""
    place = int(np.searchsorted(curve.nonmated, target * curve.nonmated_trials + ROUNDING, "right")) - 1
    return float(curve.threshold[place])
