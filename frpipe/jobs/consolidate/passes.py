"""The passes of a consolidation: each reads the faces of a range of people and writes their shards."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import pyarrow as pa

from frpipe.gallery.catalog import Purged
from frpipe.gallery.enroll_pass import PassOutcome, PassSetting, PassTicket, enroll_pass
from frpipe.gallery.external_sort import bounds_of, buckets_of
from frpipe.gallery.suppression import Suppressions
from frpipe.jobs.consolidate.agreeing import AgreeingFaces
from frpipe.jobs.consolidate.gated import GateKeeper
from frpipe.jobs.consolidate.reading import SubjectRange
from frpipe.jobs.consolidate.survey import Hashes, Survey
from frpipe.jobs.face_gate import FaceGate
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.progress import Progress
from frpipe.runtime.allocation import Pool
from frpipe.runtime.between_processes import packed, unpacked
from frpipe.runtime.executor import Executor, Look, Read, Step
from frpipe.runtime.host import Host

# A row is sorted, judged and written.
_STEPS = 3
_LOOK_S = 1.0
_SHORT_S = 5.0
_ROWS = "rows"
Say = Callable[[str], None]


@dataclass(slots=True)
class Findings:
    """What is found out of the faces of people while templates are made of them.

    differences, gated: the tables for whoever wants them; None: nobody does.
    """

    choice: AgreeingFaces
    keeper: GateKeeper
    disputed: Counter[str] = field(default_factory=Counter)
    differences: list[pa.Table] | None = None
    gated: list[pa.Table] | None = None

    @classmethod
    def empty(cls, gate: FaceGate, *, differences: bool = False, gated: bool = False) -> Findings:
        """Nothing yet. differences, gated: whether the tables are kept."""
        changed: list[pa.Table] | None = [] if differences else None
        out: list[pa.Table] | None = [] if gated else None
        choice = AgreeingFaces(None if changed is None else changed.append)
        return cls(choice, GateKeeper(gate, None if out is None else out.append), Counter(), changed, out)

    def add(self, other: Findings) -> None:
        """Take over what was found of other people."""
        self.choice.add(other.choice)
        self.keeper.add(other.keeper)
        self.disputed += other.disputed
        for mine, theirs in ((self.differences, other.differences), (self.gated, other.gated)):
            if mine is not None and theirs is not None:
                mine.extend(theirs)


class People(Protocol):
    """A consolidation, as far as a pass needs it; can be pickled."""

    @property
    def gate(self) -> FaceGate:
        """The gate, which `Findings` count for."""

    def templates_of_people(
        self, source: FeatureRun, barred: Suppressions, of: SubjectRange, found: Findings
    ) -> Iterator[pa.Table]:
        """Iterate over the templates of some people."""


@dataclass(frozen=True, slots=True)
class PassMaker:
    """Make the templates of passes. differences, gated: whether `Findings` keep these tables."""

    job: People
    source: FeatureRun
    barred: Suppressions
    differences: bool
    gated: bool

    def findings(self) -> Findings:
        """Nothing found yet."""
        return Findings.empty(self.job.gate, differences=self.differences, gated=self.gated)

    def tables(self, people: SubjectRange, found: Findings) -> Iterator[pa.Table]:
        """Iterate over the templates of some people."""
        return self.job.templates_of_people(self.source, self.barred, people, found)


@dataclass(slots=True)
class RunPasses:
    """The templates of a run in passes, as `frpipe.gallery.enroll_pass.Passes` wants them.

    rows: templates of all passes.  executor: None: this process.  found: in the last attempt.
    """

    maker: PassMaker
    survey: Survey
    rows: int
    bucket_rows: int
    ranges: Sequence[tuple[int, int]]
    say: Say
    executor: Executor | None = None
    pool: Pool | None = None
    found: Findings = field(init=False)

    def __post_init__(self) -> None:
        self.found = self.maker.findings()

    def read(self) -> Iterator[pa.Table]:
        """Iterate over the templates of all passes, without putting them into a gallery."""
        self.found = self.maker.findings()
        buckets = max(1, buckets_of(self.rows, self.bucket_rows))
        with Progress(self.rows, "templates", self.say) as progress:
            for first, last in self.ranges:
                people = self.survey.range_of(bounds_of(first, buckets)[0], bounds_of(last - 1, buckets)[1])
                for table in self.maker.tables(people, self.found):
                    progress.add(table.num_rows)
                    yield table

    def subject_hashes(self) -> Hashes:
        return self.survey.people()

    def do(self, setting: PassSetting, tickets: Sequence[PassTicket]) -> Iterator[PassOutcome]:
        found: dict[int, Findings] = {}
        heard = _PassProgress(self.rows, self.say)
        work = self._here if self.executor is None else self._spread
        for outcome, findings in work(setting, tickets, heard):
            found[outcome.number] = findings
            yield outcome
        self.found = self.maker.findings()
        for number in sorted(found):
            self.found.add(found[number])

    def _here(
        self, setting: PassSetting, tickets: Sequence[PassTicket], heard: _PassProgress
    ) -> Iterator[tuple[PassOutcome, Findings]]:
        for ticket in tickets:
            task = _Task(self.maker, setting)
            people = self.survey.range_of(*ticket.hashes(setting))
            done = task.done(ticket, people, partial(heard.add, ticket.number))
            heard.end(ticket.number, done[0].rows)
            yield done

    def _spread(
        self, setting: PassSetting, tickets: Sequence[PassTicket], heard: _PassProgress
    ) -> Iterator[tuple[PassOutcome, Findings]]:
        assert self.executor is not None and self.pool is not None
        task = packed(_Task(self.maker, setting))
        rows = [
            {"part": each.number, "task": packed((each, self.survey.range_of(*each.hashes(setting))))}
            for each in tickets
        ]
        step = Step("consolidate", self.pool, partial(PassWorker, self.executor.share(lambda: task)))
        with heard:
            for row in self.executor.stream(rows, [step], watch=heard.watch):
                if row["outcome"] is None:
                    raise Purged.while_at_work()
                outcome, findings = unpacked(row["outcome"])
                heard.end(outcome.number, outcome.rows)
                yield outcome, findings


@dataclass(frozen=True, slots=True)
class _Task:
    """What all passes of one attempt have in common."""

    maker: PassMaker
    setting: PassSetting

    def done(
        self, ticket: PassTicket, people: SubjectRange, heard: Callable[[int], None]
    ) -> tuple[PassOutcome, Findings]:
        """Do a pass. heard: told the rows that have passed each of the steps."""
        findings = self.maker.findings()
        tables = self.maker.tables(people, findings)

        def sorted_rows() -> Iterator[pa.Table]:
            for table in tables:
                heard(table.num_rows)
                yield table

        return enroll_pass(self.setting, ticket, sorted_rows(), heard), findings


class PassWorker:
    """Does one pass after another."""

    def __init__(self, read: Read, host: Host) -> None:
        self._task: _Task = unpacked(read())
        self._host = host

    def __call__(self, table: pa.Table) -> pa.Table:
        row = table.to_pylist()[0]
        ticket, people = unpacked(row["task"])
        done, said = 0, time.monotonic()

        def heard(rows: int) -> None:
            nonlocal done, said
            done += rows
            if time.monotonic() - said >= _LOOK_S:
                said = time.monotonic()
                self._host.report(row["part"], {_ROWS: done})

        try:
            outcome = packed(self._task.done(ticket, people, heard))
        except Purged:
            outcome = None
        return pa.table({"part": [row["part"]], "outcome": pa.array([outcome], pa.large_binary())})


class EnrollProgress:
    """Say how far an enrollment at once is, when all its rows are put aside; nothing where it is short."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._progress: _PassProgress | None = None
        self._begun, self._waiting = 0.0, 0

    def __call__(self, rows: int, total: int) -> None:
        """Count rows that are judged, and later written, of `total`."""
        if self._progress is None:
            self._progress = _PassProgress(total, self._say, steps=2)
            self._begun = time.monotonic()
        self._waiting += rows
        if time.monotonic() - self._begun >= _SHORT_S:
            self._progress.add(0, self._waiting)
            self._waiting = 0


class _PassProgress:
    """Add up what passes have done, and say so now and then, also while they are at work elsewhere."""

    def __init__(self, rows: int, say: Say, steps: int = _STEPS) -> None:
        self._steps = steps
        self._progress = Progress(rows, "templates", say, steps * rows)
        self._done: Counter[int] = Counter()
        self._work = self._told = 0
        self._look: Look = dict
        self._refusal: Exception | None = None
        self._lock, self._over = threading.Lock(), threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="progress", daemon=True)

    def add(self, number: int, rows: int) -> None:
        """Count rows that have passed a step, in this process."""
        self._set(number, self._done[number] + rows)

    def end(self, number: int, rows: int) -> None:
        """Count all rows of a pass. Raises what `say` has raised meanwhile."""
        if self._refusal is not None:
            raise self._refusal
        self._set(number, self._steps * rows)

    def watch(self, look: Look) -> None:
        """Ask from now on how far workers are."""
        self._look = look

    def __enter__(self) -> None:
        self._watcher.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_S):
            try:
                for number, counts in self._look().items():
                    self._set(number, counts.get(_ROWS, 0))
            except Exception as error:  # noqa: BLE001 - such as a lease that is lost: the next end raises it
                self._refusal = error
                return

    def _set(self, number: int, done: int) -> None:
        """Count what a pass has done. A pass that is done again is not counted twice."""
        with self._lock:
            new = max(0, done - self._done[number])
            self._done[number] += new
            self._work += new
            told = self._work // self._steps
            if new:
                self._progress.add(told - self._told, work=new)
            self._told = told
