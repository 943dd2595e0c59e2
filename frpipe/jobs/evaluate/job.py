"""Evaluate results of jobs/verify.py or jobs/identify.py: numbers, plots, one page, threshold cards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np

from frpipe.core.calibration import CalibrationCard, CalibrationMap
from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError
from frpipe.core.threshold import ThresholdCard
from frpipe.evaluation.calibration_cards import Method
from frpipe.evaluation.cards import CONFIDENCE, Strangers, threshold_card
from frpipe.evaluation.identification import IdentificationQuestion
from frpipe.evaluation.pairs import PairTrials
from frpipe.evaluation.presentations import PadTrials
from frpipe.evaluation.quality import QualityMeasure
from frpipe.evaluation.targets import usual
from frpipe.evaluation.verification import VerificationQuestion
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.contract import Launch, Plan, ReportResult, Startable
from frpipe.jobs.dry_run import DryRun
from frpipe.jobs.evaluate.calibrations import calibrations_of
from frpipe.jobs.evaluate.derived import Derivations, Derived
from frpipe.jobs.evaluate.normalised_searches import normalised_searches
from frpipe.jobs.evaluate.output import MetricsOutput, report_text
from frpipe.jobs.evaluate.pad_results import PadResults
from frpipe.jobs.evaluate.pair_results import PairColumns, PairResults, finished
from frpipe.jobs.evaluate.search_results import SearchResults
from frpipe.jobs.evaluate.systems import System, Trials, compared, named, worst_pictures
from frpipe.jobs.output_place import output_place, refuse_relative
from frpipe.runtime.executor import Executor
from frpipe.runtime.runtime import Runtime

Say = Callable[[str], None]
R = TypeVar("R", PairResults, SearchResults, PadResults)
FMR_TARGETS = (0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6)
FPIR_TARGETS = (0.1, 0.03, 0.01, 3e-3, 1e-3, 1e-4)
TRAINING = "train"
_VERSION = 2


@dataclass(frozen=True, slots=True)
class Asked:
    """Settings that every evaluation has.

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
        if any(not -1 <= threshold <= 1 for threshold in self.thresholds):
            raise ConfigError("--threshold is a similarity, from -1 to 1", "for a distance say --distance")
        if any(not 0 < target <= 1 for target in self.targets):
            raise ConfigError("a target is a rate above 0 and at most 1", "for example --target 0.001")
        if any(not 0 < target < 1 for target in self.cards):
            raise ConfigError("a threshold card is for a rate between 0 and 1", "for example --card 0.001")
        if not 0 < self.confidence < 1:
            raise ConfigError("a confidence is between 0 and 1", "for example --confidence 0.95")

    def options(self) -> dict[str, Any]:
        """The settings that decide the content, beside the results."""
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
class VerificationMetrics(Startable[ReportResult]):
    """An evaluation of results of jobs/verify.py.

    columns: of the lists of pairs.  chosen_on: a result of pairs in folds of the same names, whose thresholds
    score these.  quality: measures of the compared faces.  derivations: further systems, of other scores of
    the same pairs.  calibrate: methods that a calibration card is written by.  `run` raises OutputError,
    ConfigError, ScoresError: see the parts that it is made of.
    """

    asked: Asked
    columns: PairColumns
    chosen_on: str | None = None
    say: Say = lambda _: None
    quality: Sequence[QualityMeasure] = ()
    derivations: Derivations = field(default_factory=Derivations)
    calibrate: Sequence[Method] = ()

    @property
    def runtime(self) -> Runtime:
        """The runtime: this process."""
        return Runtime(choice="local")

    def place(self) -> Folder:
        """The output folder. Refuses what makes no sense."""
        self.derivations.check()
        if self.chosen_on is not None:
            refuse_relative("--thresholds-from", self.chosen_on)
        return evaluation_place(self.asked)

    def plan(self, out: Folder, *, dry: bool = False) -> EvaluationPlan[PairResults]:
        """Plan the evaluation. Reads the results."""
        chooser = PairResults.open(self.chosen_on, self.columns) if self.chosen_on else None
        results = [
            PairResults.open(uri, self.columns).measured(self.quality) for uri in told(self.asked, self.say)
        ]
        task = {
            "task": "verification",
            "columns": asdict(self.columns),
            "chosen_on": chooser.digest if chooser else None,
            **_quality(self.quality),
            **self.derivations.identity(),
            **({"calibrate": [*self.calibrate]} if self.calibrate else {}),
        }

        def evaluated(name: str, found: PairResults) -> System:
            quality = self.quality if found.trials.quality else ()
            return pair_system(name, found, self.asked, chooser, quality)

        plan = EvaluationPlan(self.asked, out, results, task, evaluated, self.say)
        return replace(plan, derived=self.derivations.of, calibrate=self.calibrate)


@dataclass(frozen=True, slots=True)
class IdentificationMetrics(Startable[ReportResult]):
    """An evaluation of results of jobs/identify.py.

    enrolled: the enroll output that the gallery was made from; see `SearchResults.open`.  quality: measures
    of the probes.  rank: within which a mate counts as found.  galleries: sizes of smaller galleries.
    derivations: further systems, of normalised scores.  `run` raises OutputError, ConfigError, ScoresError,
    GalleryError: see the parts that it is made of.
    """

    asked: Asked
    enrolled: str | None = None
    say: Say = lambda _: None
    quality: Sequence[QualityMeasure] = ()
    rank: int = 1
    galleries: Sequence[int] = ()
    derivations: Derivations = field(default_factory=Derivations)

    @property
    def runtime(self) -> Runtime:
        """The runtime: this process."""
        return Runtime(choice="local")

    def place(self) -> Folder:
        """The output folder. Refuses what makes no sense."""
        self.derivations.check()
        if self.enrolled is not None:
            refuse_relative("--enrolled", self.enrolled)
        if self.rank < 1 or any(size < 1 for size in self.galleries):
            raise ConfigError("ranks and galleries count from 1", "for example --rank 5 --galleries 1000")
        return evaluation_place(self.asked)

    def ended(self, out: Folder) -> ReportResult | None:
        """The stored report.

        A compaction may have taken the searched version since: who was in it is not asked again.
        """
        if not run.begun(out):
            return None
        digests = [run.digest(finished(uri, "identify")[0]) for uri in self.asked.results]
        identity = _identity(self.asked, digests, self._task)
        stored = run.complete(out) if run.check_claim(out, identity) else None
        if stored is None:
            return None
        self.say("this run is complete already: nothing to do")
        return ReportResult(stored, report_text)

    def plan(self, out: Folder, *, dry: bool = False) -> EvaluationPlan[SearchResults]:
        """Plan the evaluation. Reads the results."""
        uris = told(self.asked, self.say)
        results = [SearchResults.open(uri, self.asked.by, self.enrolled, self.quality) for uri in uris]

        def evaluated(name: str, found: SearchResults) -> System:
            quality = self.quality if found.trials.quality else ()
            return search_system(name, found, self.asked, quality, (self.rank, self.galleries))

        plan = EvaluationPlan(self.asked, out, results, self._task, evaluated, self.say)
        return replace(plan, derived=self._derived)

    def _derived(self, name: str, found: SearchResults) -> Iterator[Derived]:
        asked = self.derivations
        if asked.cohort is not None:
            yield from normalised_searches(name, found, asked.normalise, asked.cohort, asked.top)

    @property
    def _task(self) -> dict[str, Any]:
        enrolled = run.digest(Folder.at(self.enrolled)) if self.enrolled else None
        # Named where they are asked for alone: an output of before is found complete.
        more: dict[str, Any] = {"rank": self.rank} if self.rank != 1 else {}
        more |= {"galleries": sorted({*self.galleries})} if self.galleries else {}
        more |= {**_quality(self.quality), **self.derivations.identity()}
        return {"task": "identification", "enrolled": enrolled, **more}


@dataclass
class EvaluationPlan(Plan[None], Generic[R]):
    """Results that are read, and how each is evaluated. It has no units: what takes long is the reading."""

    asked: Asked
    out: Folder
    results: Sequence[R]
    task: dict[str, Any]
    evaluated: Callable[[str, R], System]
    say: Say
    derived: Callable[[str, R], Iterator[Derived]] | None = None
    calibrate: Sequence[Method] = ()

    @property
    def identity(self) -> dict[str, Any]:
        return _identity(self.asked, [found.digest for found in self.results], self.task)

    @property
    def small(self) -> bool:
        return True

    @cached_property
    def created(self) -> datetime:
        """The time when the output was begun, so that all of it bears one time."""
        begun = run.begun(self.out)
        if begun:
            return datetime.fromisoformat(begun["created"])
        return datetime.now(UTC).replace(microsecond=0)

    @cached_property
    def systems(self) -> list[System]:
        """The results, evaluated. Raises the errors of their data."""
        found = []
        for name, result in zip(self._names, self.results, strict=True):
            self.say(f"{name}: {counted(len(result.trials), 'trials')}, evaluating")
            found.append(self.evaluated(name, result))
            for one in self.derived(name, result) if self.derived else ():
                self.say(f"{one.name}: evaluating")
                system = self.evaluated(one.name, one.results)  # type: ignore[arg-type]
                found.append(replace(system, bases=one.bases))
        return found

    @cached_property
    def cards(self) -> dict[str, ThresholdCard]:
        """The threshold cards that were asked for, of the results themselves."""
        own = [system for system in self.systems if not system.bases]
        maps = {
            name: self.calibrations[f"{name}-{self.calibrate[0]}"].map
            for name in (self._names if self.calibrate else ())
        }
        return _cards(self.asked, own, self.created, maps)

    @cached_property
    def calibrations(self) -> dict[str, CalibrationCard]:
        """The calibration cards that were asked for, of the results themselves."""
        pairs: dict[str, PairResults] = {}
        for name, result in zip(self._names, self.results, strict=True):
            if isinstance(result, PairResults):
                pairs[name] = result
        return calibrations_of(pairs, self.calibrate, self.created)

    @cached_property
    def output(self) -> MetricsOutput:
        """The output, without the cards. Raises ConfigError where results cannot be compared."""
        systems = self.systems
        self.say("comparing, drawing")
        return MetricsOutput(
            self.out,
            [system.evaluation for system in systems],
            compared(systems),
            self.created,
            self.asked.title,
            worst_pictures(systems) if self.asked.thumbnails else None,
        )

    def before_claim(self) -> None:
        """Evaluate: a command that its data refuses must not keep the folder from a better one."""
        _ = self.output, self.cards, self.calibrations

    def facts(self) -> dict[str, Any]:
        return {"created": self.created.isoformat()}

    def work(self, out: Folder, executor: Executor) -> int:
        return sum(len(found.trials) for found in self.results)

    def read_back(self, out: Folder, executor: Executor) -> tuple[None, int]:
        return None, 0

    def publish(self, out: Folder, found: None, launch: Launch) -> ReportResult:
        return self.stored(out, self.output.publish(self.cards, self.calibrations))

    def stored(self, out: Folder, report: dict[str, Any]) -> ReportResult:
        return ReportResult(report, report_text)

    def describe(self) -> DryRun:
        systems = {
            name: {"results": uri, "trials": len(found.trials)}
            for name, uri, found in zip(self._names, self.asked.results, self.results, strict=True)
        }
        lines: list[str] = [
            f"evaluated  {name}: {counted(len(found.trials), 'trials')}"
            for name, found in zip(self._names, self.results, strict=True)
        ]
        facts = {"job": "metrics", **self.task, "systems": systems, "output": self.asked.output}
        return DryRun([*lines, f"output     {self.asked.output}"], facts)

    @property
    def _names(self) -> Sequence[str]:
        return named(self.asked.results, self.asked.names)


def evaluation_place(asked: Asked) -> Folder:
    """The output folder. Refuses all that can be refused before anything is read."""
    asked.check()
    for uri in asked.results:
        refuse_relative("--results", uri)
    named(asked.results, asked.names)
    return output_place(asked.output)


def told(asked: Asked, say: Say) -> Iterator[str]:
    """Read the results, and say so of each."""
    for uri, name in zip(asked.results, named(asked.results, asked.names), strict=True):
        say(f"{name}: reading")
        yield uri


def _identity(asked: Asked, results: Sequence[str], task: dict[str, Any]) -> dict[str, Any]:
    """The identity of an output: what decides the content. results: digests of their files."""
    return {"job": "metrics", "version": _VERSION, "results": [*results], **asked.options(), **task}


def _quality(measures: Sequence[QualityMeasure]) -> dict[str, Any]:
    """The measures of quality in an identity; empty where there are none, as in older outputs."""
    return {"quality": [asdict(measure) for measure in measures]} if measures else {}


def pair_system(
    name: str,
    found: PairResults,
    asked: Asked,
    chooser: PairResults | None,
    quality: Sequence[QualityMeasure],
) -> System:
    """Evaluate pairs. chooser: of thresholds, in folds of the same names."""
    trials, training = _without_training(found.trials)
    own = [] if found.threshold is None else [found.threshold]
    own += asked.thresholds if found.cosines else []
    question = VerificationQuestion(
        each_once(*own),
        each_once(*asked.targets) or usual(FMR_TARGETS, trials.distinct_nonmated),
        training=training,
        chosen_on=_without_training(chooser.trials)[0] if chooser and found.cosines else None,
        quality=quality,
    )
    provenance = {**found.provenance, **({"chosen_on": chooser.digest} if chooser else {})}
    evaluation = question.answer(name, trials, provenance, found.warnings)
    if not (asked.worst or asked.thumbnails) or not found.cosines:
        evaluation = replace(evaluation, worst=())
    return System(evaluation, trials, question.estimates(), found.features)


def _without_training(trials: PairTrials) -> tuple[PairTrials, PairTrials | None]:
    """Split pairs into those that are scored, and the fold `train`, which only chooses a threshold."""
    if trials.fold is None or not (trials.fold == TRAINING).any() or (trials.fold == TRAINING).all():
        return trials, None
    mask = trials.fold == TRAINING
    return trials.some(~mask), trials.some(mask)


def search_system(
    name: str,
    found: SearchResults,
    asked: Asked,
    quality: Sequence[QualityMeasure],
    within: tuple[int, Sequence[int]] = (1, ()),
) -> System:
    """Evaluate searches. within: the rank that counts as found, and sizes of smaller galleries."""
    rank, galleries = within
    own = [] if found.threshold is None else [found.threshold]
    own += asked.thresholds if found.cosines else []
    trials = found.trials.ranked(rank)
    question = IdentificationQuestion(
        each_once(*own),
        each_once(*asked.targets) or usual(FPIR_TARGETS, int(np.count_nonzero(trials.done_strangers))),
        listed=found.listed,
        quality=quality,
        rank=rank,
        galleries=galleries,
        least=found.least,
    )
    evaluation = question.answer(name, trials, found.provenance, found.warnings)
    return System(evaluation, trials, question.estimates(), found.features)


def each_once(*numbers: float) -> tuple[float, ...]:
    return tuple(dict.fromkeys(numbers))


def _cards(
    asked: Asked, systems: Sequence[System], created: datetime, maps: Mapping[str, CalibrationMap]
) -> dict[str, ThresholdCard]:
    """Make threshold cards. maps: the calibration that the cards of a system hold, by its name."""
    found = {}
    for system in systems if asked.cards else ():
        strangers = _strangers(system.trials)
        for target in asked.cards:
            card = threshold_card(system.evaluation, strangers, target, created, asked.confidence)
            own = maps.get(system.evaluation.name)
            found[f"{system.evaluation.name}-{target:g}"] = (
                card if own is None else card.model_copy(update={"calibration": own})
            )
    return found


def _strangers(trials: Trials | PadTrials) -> Strangers:
    if isinstance(trials, PadTrials):
        raise ConfigError("there is no threshold card of presentations", "leave --card away")
    return Strangers.of(trials)
