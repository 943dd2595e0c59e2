"""Evaluate results of jobs/verify.py or jobs/identify.py: numbers, plots, one page, threshold cards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np

from frpipe.core.errors import ConfigError
from frpipe.core.threshold import ThresholdCard
from frpipe.evaluation.cards import CONFIDENCE, threshold_card
from frpipe.evaluation.identification import IdentificationQuestion
from frpipe.evaluation.pairs import PairTrials
from frpipe.evaluation.targets import usual
from frpipe.evaluation.verification import VerificationQuestion
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.evaluate.output import MetricsOutput
from frpipe.jobs.evaluate.pair_results import PairColumns, PairResults, finished
from frpipe.jobs.evaluate.search_results import SearchResults
from frpipe.jobs.evaluate.systems import System, Trials, compared, named, worst_pictures
from frpipe.jobs.output_place import output_place, refuse_relative
from frpipe.metrics.curve import Curve
from frpipe.metrics.identification import roc as search_roc
from frpipe.metrics.verification import roc

Say = Callable[[str], None]
R = TypeVar("R", PairResults, SearchResults)
FMR_TARGETS = (0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6)
FPIR_TARGETS = (0.1, 0.03, 0.01, 3e-3, 1e-3, 1e-4)
TRAINING = "train"
_VERSION = 2


@dataclass(frozen=True, slots=True)
class Asked:
    """What every evaluation is asked.

    names: for people, one for each result.  thresholds: similarities, beside those of the runs.  targets: of
    FMR or FPIR; empty: the usual ones.  by: columns whose labels make groups.  cards: targets that a
    threshold card is written for.  worst: whether the page lists the worst pairs; thumbnails: with photos.
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
    worst: bool = False

    def check(self) -> None:
        """Raise ConfigError where a number is none, or is out of its range."""
        if not np.isfinite(self.thresholds).all():
            raise ConfigError(
                "a threshold is not a finite number", "give similarities, for example --threshold 0.4"
            )
        if any(not 0 < target <= 1 for target in self.targets):
            raise ConfigError("a target is a rate above 0 and at most 1", "for example --target 0.001")
        if any(not 0 < target < 1 for target in self.cards):
            raise ConfigError("a threshold card is for a rate between 0 and 1", "for example --card 0.001")
        if not 0 < self.confidence < 1:
            raise ConfigError("a confidence is between 0 and 1", "for example --confidence 0.95")

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
        job = _Job.of(self.asked, self.say)
        if self.chosen_on is not None:
            refuse_relative("--thresholds-from", self.chosen_on)
        chooser = PairResults.open(self.chosen_on, self.columns) if self.chosen_on else None
        results = [PairResults.open(uri, self.columns) for uri in job.told()]
        identity = {
            "task": "verification",
            "columns": asdict(self.columns),
            "chosen_on": chooser.digest if chooser else None,
        }
        return job.done(results, identity, lambda name, found: _pair_system(name, found, self.asked, chooser))


@dataclass(frozen=True, slots=True)
class IdentificationMetrics:
    """enrolled: the enroll output that the gallery was made from; see `SearchResults.open`."""

    asked: Asked
    enrolled: str | None = None
    say: Say = lambda _: None

    def run(self) -> dict[str, Any]:
        """The report. Raises OutputError, ConfigError, ScoresError, GalleryError: see its parts."""
        job = _Job.of(self.asked, self.say)
        if self.enrolled is not None:
            refuse_relative("--enrolled", self.enrolled)
        enrolled = run.digest(Folder.at(self.enrolled)) if self.enrolled else None
        identity = {"task": "identification", "enrolled": enrolled}
        if run.begun(job.out):
            # A compaction may have taken the searched version since: who was in it is not asked again.
            digests = [run.digest(finished(uri, "identify")[0]) for uri in self.asked.results]
            stored = job.stored(job.identity(digests, identity))
            if stored is not None:
                return stored
        results = [SearchResults.open(uri, self.asked.by, self.enrolled) for uri in job.told()]
        return job.done(results, identity, lambda name, found: _search_system(name, found, self.asked))


@dataclass(frozen=True, slots=True)
class _Job:
    """What both tasks do. names: of the systems, for people."""

    asked: Asked
    names: Sequence[str]
    out: Folder
    say: Say

    @classmethod
    def of(cls, asked: Asked, say: Say) -> _Job:
        """All that can be refused before anything is read."""
        asked.check()
        for uri in asked.results:
            refuse_relative("--results", uri)
        return cls(asked, named(asked.results, asked.names), output_place(asked.output), say)

    def told(self) -> Iterator[str]:
        """The results, each of which is said to be read."""
        for uri, name in zip(self.asked.results, self.names, strict=True):
            self.say(f"{name}: reading")
            yield uri

    def identity(self, results: Sequence[str], task: dict[str, Any]) -> dict[str, Any]:
        """What decides the content. results: digests of their files."""
        return {
            "job": "metrics",
            "version": _VERSION,
            "results": [*results],
            **self.asked.options(),
            **task,
        }

    def stored(self, identity: dict[str, Any]) -> dict[str, Any] | None:
        """The report, if it was done before. Raises OutputError where the output is another run's."""
        found = run.complete(self.out) if run.check_claim(self.out, identity) else None
        if found is not None:
            self.say("this run is complete already: nothing to do")
        return found

    def done(
        self, results: Sequence[R], identity: dict[str, Any], evaluated: Callable[[str, R], System]
    ) -> dict[str, Any]:
        """Evaluate and publish, unless it was done before; the report."""
        identity = self.identity([found.digest for found in results], identity)
        stored = self.stored(identity)
        if stored is not None:
            return stored
        begun = run.check_claim(self.out, identity)
        created = (
            datetime.fromisoformat(begun["created"]) if begun else datetime.now(UTC).replace(microsecond=0)
        )
        systems = []
        for name, found in zip(self.names, results, strict=True):
            self.say(f"{name}: {len(found.trials):,} trials, evaluating")
            systems.append(evaluated(name, found))
        self.say("comparing, drawing")
        return self._published(systems, identity, created)

    def _published(
        self, systems: Sequence[System], identity: dict[str, Any], created: datetime
    ) -> dict[str, Any]:
        result = MetricsOutput(
            self.out,
            [system.evaluation for system in systems],
            compared(systems),
            created,
            self.asked.title,
            worst_pictures(systems) if self.asked.thumbnails else None,
        )
        cards = _cards(self.asked, systems, created)
        # Only now: a command that its data refused must not keep the folder from a better one.
        run.claim(self.out, identity, {"created": created.isoformat()})
        run.reopen(self.out)
        self.out.sweep()
        return result.publish(cards)


def _pair_system(name: str, found: PairResults, asked: Asked, chooser: PairResults | None) -> System:
    trials, training = _without_training(found.trials)
    question = VerificationQuestion(
        _each_once(found.threshold, *asked.thresholds),
        _each_once(*asked.targets)
        or usual(FMR_TARGETS, int(np.count_nonzero(~trials.mated & trials.completed))),
        training=training,
        chosen_on=_without_training(chooser.trials)[0] if chooser else None,
    )
    provenance = {**found.provenance, **({"chosen_on": chooser.digest} if chooser else {})}
    evaluation = question.answer(name, trials, provenance, found.warnings)
    if not (asked.worst or asked.thumbnails):
        evaluation = replace(evaluation, worst=())
    return System(evaluation, trials, question.estimates(), found.features)


def _without_training(trials: PairTrials) -> tuple[PairTrials, PairTrials | None]:
    """What is scored, and what only chooses a threshold: the fold that is called train."""
    if trials.fold is None or not (trials.fold == TRAINING).any() or (trials.fold == TRAINING).all():
        return trials, None
    mask = trials.fold == TRAINING
    return trials.some(~mask), trials.some(mask)


def _search_system(name: str, found: SearchResults, asked: Asked) -> System:
    own = () if found.threshold is None else (found.threshold,)
    question = IdentificationQuestion(
        _each_once(*own, *asked.thresholds),
        _each_once(*asked.targets) or usual(FPIR_TARGETS, int(np.count_nonzero(found.trials.done_strangers))),
        listed=found.listed,
    )
    evaluation = question.answer(name, found.trials, found.provenance, found.warnings)
    return System(evaluation, found.trials, question.estimates(), found.features)


def _each_once(*numbers: float) -> tuple[float, ...]:
    return tuple(dict.fromkeys(numbers))


def _cards(asked: Asked, systems: Sequence[System], created: datetime) -> dict[str, ThresholdCard]:
    found = {}
    for system in systems if asked.cards else ():
        curve = _curve(system.trials)
        for target in asked.cards:
            card = threshold_card(system.evaluation, curve, target, created, asked.confidence)
            found[f"{system.evaluation.name}-{target:g}"] = card
    return found


def _curve(trials: Trials) -> Curve:
    """Of trials that a card may take as independent: no pair of photos twice."""
    if isinstance(trials, PairTrials):
        return roc(trials.distinct().scores().completed())
    return search_roc(trials.searches())
