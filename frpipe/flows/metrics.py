"""Evaluate results of jobs/verify.py or jobs/identify.py: numbers, plots, one page, threshold cards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from frpipe.core.errors import ConfigError
from frpipe.core.threshold import ThresholdCard
from frpipe.evaluation.cards import CONFIDENCE, threshold_card
from frpipe.evaluation.identification import IdentificationQuestion
from frpipe.evaluation.pairs import PairTrials
from frpipe.evaluation.targets import usual
from frpipe.evaluation.verification import VerificationQuestion
from frpipe.flows.metrics_output import MetricsOutput
from frpipe.flows.output_place import output_place
from frpipe.flows.pair_results import PairColumns, PairResults
from frpipe.flows.search_results import SearchResults
from frpipe.flows.systems import System, compared, named
from frpipe.flows.worst_pictures import worst_pictures
from frpipe.io import run
from frpipe.metrics.identification import roc as search_roc
from frpipe.metrics.verification import roc

Say = Callable[[str], None]
FMR_TARGETS = (0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6)
FPIR_TARGETS = (0.1, 0.03, 0.01, 3e-3, 1e-3, 1e-4)
TRAINING = "train"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Asked:
    """What every evaluation is asked.

    names: for people, one for each result.  thresholds: similarities, beside those of the runs.  targets: of
    FMR or FPIR; empty: the usual ones.  by: columns whose labels make groups.  cards: targets that a
    threshold card is written for.  worst: whether the page names the worst pairs; thumbnails: and shows them.
    """

    results: Sequence[str]
    output: str
    names: Sequence[str] = ()
    thresholds: Sequence[float] = ()
    targets: Sequence[float] = ()
    by: Sequence[str] = ()
    cards: Sequence[float] = ()
    confidence: float = CONFIDENCE
    title: str = ""
    thumbnails: bool = False
    worst: bool = True

    def options(self) -> dict[str, Any]:
        """What decides the content, beside the results."""
        return {
            "names": named(self.results, self.names),
            "thresholds": [*self.thresholds],
            "targets": [*self.targets],
            "by": [*self.by],
            "cards": [*self.cards],
            "confidence": self.confidence,
            "title": self.title,
            "thumbnails": self.thumbnails,
            "worst": self.worst,
        }


@dataclass(frozen=True, slots=True)
class VerificationMetrics:
    """columns: of the lists of pairs.  chosen_on: a result of pairs in folds of the same names, whose
    thresholds score these."""

    asked: Asked
    columns: PairColumns
    chosen_on: str | None = None
    say: Say = lambda _: None

    def run(self) -> dict[str, Any]:
        """The report. Raises OutputError, ConfigError, ScoresError: see the parts that it is made of."""
        names = named(self.asked.results, self.asked.names)
        chooser = PairResults.open(self.chosen_on, self.columns) if self.chosen_on else None
        systems = []
        for uri, name in zip(self.asked.results, names, strict=True):
            self.say(f"{name}: reading")
            found = PairResults.open(uri, self.columns)
            self.say(f"{name}: {len(found.trials):,} pairs, evaluating")
            systems.append(_pair_system(name, found, self.asked, chooser))
        more = {
            "task": "verification",
            "columns": asdict(self.columns),
            "chosen_on": chooser.digest if chooser else None,
        }
        return _published(self.asked, systems, more, self.say)


@dataclass(frozen=True, slots=True)
class IdentificationMetrics:
    """enrolled: the enroll output that the gallery was made from; see `SearchResults.open`."""

    asked: Asked
    enrolled: str | None = None
    say: Say = lambda _: None

    def run(self) -> dict[str, Any]:
        """The report. Raises OutputError, ConfigError, ScoresError, GalleryError: see its parts."""
        names = named(self.asked.results, self.asked.names)
        systems = []
        for uri, name in zip(self.asked.results, names, strict=True):
            self.say(f"{name}: reading")
            found = SearchResults.open(uri, self.asked.by, self.enrolled)
            self.say(f"{name}: {len(found.trials):,} searches, evaluating")
            systems.append(_search_system(name, found, self.asked))
        return _published(
            self.asked, systems, {"task": "identification", "enrolled": self.enrolled}, self.say
        )


def _pair_system(name: str, found: PairResults, asked: Asked, chooser: PairResults | None) -> System:
    trials, training = _without_training(found.trials)
    question = VerificationQuestion(
        (found.threshold, *asked.thresholds),
        asked.targets or usual(FMR_TARGETS, int(np.count_nonzero(~trials.mated & trials.completed))),
        training=training,
        chosen_on=chooser.trials if chooser else None,
    )
    provenance = {**found.provenance, **({"chosen_on": chooser.digest} if chooser else {})}
    evaluation = question.answer(name, trials, provenance, found.warnings)
    curve = roc(trials.scores().completed())
    if not asked.worst:
        evaluation = replace(evaluation, worst=())
    return System(evaluation, trials, curve, question.estimates(), found.features, found.digest)


def _without_training(trials: PairTrials) -> tuple[PairTrials, PairTrials | None]:
    """What is scored, and what only chooses a threshold: the fold that is called train."""
    if trials.fold is None or not (trials.fold == TRAINING).any() or (trials.fold == TRAINING).all():
        return trials, None
    mask = trials.fold == TRAINING
    return trials.some(~mask), trials.some(mask)


def _search_system(name: str, found: SearchResults, asked: Asked) -> System:
    own = () if found.threshold is None else (found.threshold,)
    question = IdentificationQuestion(
        (*own, *asked.thresholds),
        asked.targets or usual(FPIR_TARGETS, int(np.count_nonzero(found.trials.done_strangers))),
        listed=found.listed,
    )
    evaluation = question.answer(name, found.trials, found.provenance, found.warnings)
    curve = search_roc(found.trials.searches())
    return System(evaluation, found.trials, curve, question.estimates(), found.features, found.digest)


def _published(asked: Asked, systems: Sequence[System], more: dict[str, Any], say: Say) -> dict[str, Any]:
    out = output_place(asked.output)
    identity = {
        "job": "metrics",
        "version": _VERSION,
        "results": [system.digest for system in systems],
        **asked.options(),
        **more,
    }
    created = datetime.now(UTC)
    begun = run.claim(out, identity, {"created": created.isoformat(timespec="seconds")})
    stored = run.complete(out)
    if stored is not None:
        say("this run is complete already: nothing to do")
        return stored
    run.reopen(out)
    out.sweep()
    created = datetime.fromisoformat(begun["created"])
    say("comparing, drawing")
    result = MetricsOutput(
        out,
        [system.evaluation for system in systems],
        compared(systems),
        created,
        asked.title,
        worst_pictures(systems) if asked.thumbnails else None,
    )
    return result.publish(_cards(asked, systems, created))


def _cards(asked: Asked, systems: Sequence[System], created: datetime) -> dict[str, ThresholdCard]:
    if any(not 0 < target < 1 for target in asked.cards):
        raise ConfigError("a threshold card is for a rate between 0 and 1", "for example --card 0.001")
    return {
        f"{system.evaluation.name}-{target:g}": threshold_card(
            system.evaluation, system.curve, target, created, asked.confidence
        )
        for system in systems
        for target in asked.cards
    }
