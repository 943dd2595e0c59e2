"""The evaluation of presentation attack detection: every species apart, and the worst of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from frpipe.core.counted import counted
from frpipe.evaluation.evaluation import CurveName, Evaluation, Series
from frpipe.evaluation.groups import by_group
from frpipe.evaluation.number import Number
from frpipe.evaluation.pairs import Mask
from frpipe.evaluation.presentations import PadTrials
from frpipe.metrics.clustered import clustered_rate
from frpipe.metrics.operating import Insufficient
from frpipe.metrics.presentation import (
    FIXED_APCER,
    BpcerAtApcer,
    Presentations,
    bpcer_at_apcer,
    bpcer_interval,
    det,
)
from frpipe.metrics.rate import Rate

SPECIES = "attack species"
"""`Number.column` of numbers of one species."""
CURVE = "pad_det"
_POINTS = 1000


@dataclass(frozen=True, slots=True)
class PadQuestion:
    """The question that is put to presentations.

    thresholds: of the score.  targets: of APCER.  match: the similarity from which on the whole system
    accepts, where presentations were compared; None: the detection alone.
    """

    thresholds: Sequence[float] = (0.5,)
    targets: Sequence[float] = FIXED_APCER
    match: float | None = None

    def answer(
        self, name: str, trials: PadTrials, provenance: dict[str, Any], warnings: Sequence[str] = ()
    ) -> Evaluation:
        """Evaluate presentations; of one kind alone, what that kind gives."""
        groups, skipped = by_group(trials)
        numbers = [
            *self._numbers(trials),
            *self._by_species(trials),
            *(number for group in groups for number in self._numbers(group.trials, **group.where)),
        ]
        return Evaluation(
            name,
            "pad",
            _counts(trials),
            numbers,
            _curves(trials.presentations()),
            provenance,
            [*warnings, *_unmeasured(trials), *skipped],
        )

    def _numbers(self, trials: PadTrials, **where: Any) -> Iterator[Number]:
        """Numbers of all species together, each rate of attacks that of the worst."""
        done, attack = trials.responded, ~trials.bona_fide
        for threshold in self.thresholds:
            passed = trials.score >= threshold
            yield from _worst("APCER", trials, passed, done, at=threshold, **where)
            yield _rate("BPCER", trials, ~passed, trials.bona_fide & done, at=threshold, **where)
        yield from self._fixed(trials, **where)
        yield _rate("APNRR", trials, ~done, attack, **where)
        yield _rate("BPNRR", trials, ~done, trials.bona_fide, **where)
        yield from self._system(trials, **where)

    def _by_species(self, trials: PadTrials) -> Iterator[Number]:
        done = trials.responded
        for name in trials.all_species:
            where = {"column": SPECIES, "group": name}
            for threshold in self.thresholds:
                passed = trials.score >= threshold
                yield _rate("APCER", trials, passed, trials.of(name) & done, at=threshold, **where)
                accepted = self._accepted(trials, threshold)
                if accepted is not None:
                    note = f"at score {threshold:g}"
                    among = trials.of(name)
                    yield _rate("IAPAR", trials, accepted, among, at=self.match, note=note, **where)
            yield _rate("APNRR", trials, ~done, trials.of(name), **where)

    def _fixed(self, trials: PadTrials, **where: Any) -> Iterator[Number]:
        """BPCER at each target of APCER, or why the attacks are too few for it."""
        found = trials.presentations()
        for target in self.targets:
            rate = bpcer_at_apcer(found, target)
            if isinstance(rate, Insufficient):
                yield Number.missing("BPCER_fixed", rate, at=target, **where)
            else:
                yield _at_target(trials, found, rate, **where)

    def _system(self, trials: PadTrials, **where: Any) -> Iterator[Number]:
        """Numbers of attacks on detection and comparison together, at the first threshold."""
        accepted = self._accepted(trials, self.thresholds[0]) if self.thresholds else None
        if accepted is None:
            return
        every = np.ones(len(trials), bool)
        rest = {"at": self.match, **where}
        attacks = list(_worst("IAPAR", trials, accepted, every, **rest))
        refused = _rate("FRR_system", trials, ~accepted, trials.bona_fide, **rest)
        yield from [*attacks, refused]
        values = [number.value for number in (*attacks, refused)]
        if len(values) == 2 and values[0] is not None and values[1] is not None:
            yield Number.scalar("RIAPAR", values[0] + values[1], **rest)

    def _accepted(self, trials: PadTrials, threshold: float) -> Mask | None:
        """Mask, (n,), of what the whole system accepts; None: nothing was compared."""
        if trials.similarity is None or self.match is None:
            return None
        return np.asarray((trials.score >= threshold) & (trials.similarity >= self.match), bool)


def _at_target(trials: PadTrials, found: Presentations, rate: BpcerAtApcer, **where: Any) -> Number:
    done = trials.responded
    people = {name: trials.person[trials.of(name) & done] for name in found.attacks}
    bona_fide = trials.person[trials.bona_fide & done]
    if 0 < rate.bpcer.count < rate.bpcer.trials:
        interval = bpcer_interval(found, bona_fide, people, rate.target)
    else:
        # Drawing again says nothing where none, or every one, is refused.
        interval = clustered_rate(np.full(rate.bpcer.trials, rate.bpcer.count > 0), bona_fide)
    name = f"BPCER{1 / rate.target:.4g}, set by {rate.species}: APCER {rate.apcer.count}/{rate.apcer.trials}"
    return Number.rate(
        "BPCER_fixed",
        rate.bpcer,
        interval,
        at=rate.target,
        threshold=rate.threshold,
        support=rate.support,
        note=name,
        **where,
    )


def _worst(measure: str, trials: PadTrials, errors: Mask, among: Mask, **rest: Any) -> Iterator[Number]:
    """The largest rate of a species, of equals the first by name."""
    found = {name: _rate(measure, trials, errors, among & trials.of(name)) for name in trials.all_species}
    known = {name: one.value for name, one in found.items() if one.value is not None}
    if not known:
        yield Number.missing(measure, "no attack presentations", **rest)
        return
    name = max(known, key=lambda each: known[each])
    note = f"worst of {len(found)} species: {name}"
    yield _rate(measure, trials, errors, among & trials.of(name), note=note, **rest)


def _rate(measure: str, trials: PadTrials, errors: Mask, among: Mask, **rest: Any) -> Number:
    rate = Rate(int(np.count_nonzero(errors & among)), int(np.count_nonzero(among)))
    if not rate.trials:
        # Without trials the note says so, and nothing of how the rate would have been taken.
        return Number.rate(measure, rate, **{key: rest[key] for key in rest if key != "note"})
    return Number.rate(measure, rate, clustered_rate(errors[among], trials.person[among]), **rest)


def _counts(trials: PadTrials) -> dict[str, int]:
    lost, bona_fide = ~trials.responded, trials.bona_fide
    return {
        "bona_fide": int(np.count_nonzero(bona_fide)),
        "attacks": int(np.count_nonzero(~bona_fide)),
        "species": len(trials.all_species),
        "bona_fide_without_response": int(np.count_nonzero(bona_fide & lost)),
        "attacks_without_response": int(np.count_nonzero(~bona_fide & lost)),
        "persons": len(np.unique(trials.person)),
    }


def _curves(found: Presentations) -> dict[CurveName, Series]:
    """DET curves of the worst species, and of each where there are several; none where a kind is missing."""
    scored = {name: scores for name, scores in found.attacks.items() if len(scores)}
    if not scored or not len(found.bona_fide):
        return {}
    heard = Presentations(found.bona_fide, scored)
    each = {f"{CURVE}:{name}": _series(heard, name) for name in scored} if len(scored) > 1 else {}
    return {CURVE: _series(heard), **each}


def _series(found: Presentations, species: str | None = None) -> Series:
    thresholds, apcer, bpcer = det(found, species)
    turns = np.ones(len(thresholds), bool)
    turns[1:-1] = (np.diff(apcer)[1:] != 0) | (np.diff(bpcer)[1:] != 0)
    rows = np.flatnonzero(turns)
    if len(rows) > _POINTS:
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, _POINTS).astype(int))]
    return Series(apcer[rows], bpcer[rows], thresholds[rows])


def _unmeasured(trials: PadTrials) -> Iterator[str]:
    """Warnings of what the presentations cannot tell, in sentences."""
    done = trials.responded
    for mask, words in ((trials.bona_fide, "bona fide"), (~trials.bona_fide, "attack")):
        if not (mask & done).any():
            yield f"no {words} presentation had a response: there is no DET, and no BPCER at a fixed APCER"
    people = len(np.unique(trials.person[~trials.bona_fide]))
    if 0 < people < 10:
        yield f"the attacks are on {counted(people, 'persons')}: intervals say little of other people"
