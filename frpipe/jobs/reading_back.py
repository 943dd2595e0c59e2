"""Read published units back: in this process, or by the workers of an executor where there is much to read.

Whoever reads a unit returns what was counted of it: no rows, and no ids of people. Results come in the order
of the units, whoever has read them, so that no sum depends on that. Files that are damaged are withdrawn by
the run's own driver alone, once all are read.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Protocol, Self, TypeVar

import pyarrow as pa

from frpipe.core.counted import counted
from frpipe.core.errors import FileDamaged, InvariantError
from frpipe.core.pulse import Pulse
from frpipe.io.output import run
from frpipe.io.output.parts import PartFile
from frpipe.io.output.units import Units
from frpipe.io.storage.folder import Entry
from frpipe.io.storage.in_order import in_order
from frpipe.runtime.allocation import Node, Pool
from frpipe.runtime.between_processes import packed, unpacked
from frpipe.runtime.executor import STALL_TIMEOUT_S, Executor, Step
from frpipe.runtime.host import Host

Say = Callable[[str], None]
T = TypeVar("T")
Examine = Callable[[int], T]
"""Reads the files of a unit and returns what is counted of them. Raises FileDamaged where one is damaged."""
Results = Generator[tuple[int, T | None], None, None]
"""Units in their order, with what was counted of each; None: it is damaged."""

# What a worker should have to read: it takes longer than a worker on Ray takes to start.
WORKER_BYTES = 2 << 30
# So many CPUs of one machine the driver's own threads keep busy.
DRIVER_CPUS = 2
# To open a file and parse its columns takes as long as to hash so many bytes.
_FILE_BYTES = 1 << 20
# So many, so that workers end together; and few enough units each, so that it can be told how far they are.
_TICKETS_A_WORKER, _MOST_UNITS = 8, 64
# Units that a process reads at once, and bytes of their files, which take several times as much when parsed.
_THREADS, _HELD_BYTES = 8, 256 << 20


class Counts(Protocol):
    """Numbers that are counted file by file."""

    def merge(self, other: Self) -> None:
        """Add those of further files."""


C = TypeVar("C", bound=Counts)


@dataclass
class UnitsRead(Generic[C]):
    """All published units but for damaged ones. counts: of all together.  files: by unit, in order."""

    counts: C
    files: dict[int, PartFile] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """The number of rows of all files."""
        return sum(file.rows for file in self.files.values())


@dataclass(frozen=True, slots=True)
class ReadingBack(Generic[T]):
    """The reading back of units.

    examine: can be pickled.  weight: how much there is to read, as `weight_of` says.  noun, sizes: what is
    counted for a line of progress, and how many of them each unit holds; None: they are the units.
    stall_timeout_s: as of `Executor.stream`, for workers.
    """

    units: Sequence[int]
    examine: Examine[T]
    weight: int
    say: Say
    noun: str = "units"
    sizes: Mapping[int, int] | None = None
    stall_timeout_s: float | None = STALL_TIMEOUT_S

    def results(self, executor: Executor | None) -> Results[T]:
        """Read all units. executor: None: in this process, whatever there is to read.

        Raises what `examine` raises but for FileDamaged, and the errors of the executor.
        """
        total = len(self.units) if self.sizes is None else sum(self.sizes.values())
        workers = min(len(self.units), workers_for(self.weight, executor.nodes)) if executor else 0
        if executor is None or workers < 2:
            results = self._here()
        else:
            self.say(f"{counted(total, f'{self.noun} are')} read back by {workers} workers")
            results = self._spread(executor, workers)
        pulse, done = Pulse(self.say), 0
        with closing(results):
            for unit, result in results:
                yield unit, result
                done += 1 if self.sizes is None else self.sizes[unit]
                pulse.beat(done, f"{{}} of {total:,} {self.noun} read back", total)

    def _here(self) -> Results[T]:
        examine = partial(_examined, self.examine)
        found: Iterable[T | None] = in_order(examine, self.units, threads=self._threads)
        yield from zip(self.units, found, strict=True)

    def _spread(self, executor: Executor, workers: int) -> Results[T]:
        step = max(1, min(_MOST_UNITS, len(self.units) // (workers * _TICKETS_A_WORKER)))
        shares = [list(self.units[start : start + step]) for start in range(0, len(self.units), step)]
        # What comes before its turn is held.
        early: dict[int, bytes] = {}
        turn = 0
        with closing(self._receipts(executor, workers, shares)) as receipts:
            for receipt in receipts:
                early[receipt["share"]] = receipt["results"]
                while turn in early:
                    yield from zip(shares[turn], unpacked(early.pop(turn)), strict=True)
                    turn += 1
        if turn < len(shares):
            raise InvariantError(
                f"{turn:,} of {len(shares):,} shares were read back", "keep the output and report this"
            )

    def _receipts(
        self, executor: Executor, workers: int, shares: Sequence[list[int]]
    ) -> Generator[dict[str, Any], None, None]:
        pool = Pool("read back", workers, 1.0, 0.0, "cpu")
        tickets = [{"share": number, "units": units} for number, units in enumerate(shares)]
        step = Step(pool.name, pool, partial(Reader, self.examine, self._threads))
        yield from executor.stream(tickets, [step], stall_timeout_s=self.stall_timeout_s)

    @property
    def _threads(self) -> int:
        """The number of units that a process reads at once: fewer where they are large."""
        return max(1, min(_THREADS, _HELD_BYTES * len(self.units) // max(1, self.weight)))


class Reader:
    """A worker that reads one share of the units after another, several units at a time."""

    def __init__(self, examine: Examine[Any], threads: int, _host: Host) -> None:
        self._examine, self._threads = partial(_examined, examine), threads

    def __call__(self, table: pa.Table) -> pa.Table:
        (ticket,) = table.to_pylist()
        found = in_order(self._examine, ticket["units"], threads=self._threads)
        results = packed(list(found))
        return pa.table({"share": [ticket["share"]], "results": pa.array([results], pa.large_binary())})


def read_units(
    units: Units, total: C, count: Callable[[bytes], C], executor: Executor, say: Say
) -> tuple[UnitsRead[C], int]:
    """Read the published units of a run back; what they hold, and how many were damaged and are withdrawn.

    total: counts of nothing.  count: of the bytes of a file, every page read; can be pickled.
    Raises OutputError where another process has ended the run and one is damaged; and as `ReadingBack`.
    """
    files, found, damaged = units.published(), UnitsRead(total), list[int]()
    reading = ReadingBack(sorted(files), partial(units.counted, count=count), weight_of(files.values()), say)
    with closing(reading.results(executor)) as results:
        for unit, result in results:
            if result is None:
                damaged.append(unit)
                continue
            found.files[unit], counts = result
            found.counts.merge(counts)
    if damaged:
        run.refuse_sealed(units.folder)
        for unit in damaged:
            units.withdraw(unit)
    return found, len(damaged)


def weight_of(files: Iterable[Entry]) -> int:
    """How much there is to read, in bytes: those of the files, and some more for each of them."""
    return sum(file.bytes + _FILE_BYTES for file in files)


def workers_for(weight: int, nodes: Sequence[Node]) -> int:
    """The number of workers worth their start, at most one for each CPU. Below two there is no use in any."""
    cpus = [int(node.cpus) for node in nodes]
    if len(cpus) < 2 and sum(cpus) <= DRIVER_CPUS:
        return 0
    return min(sum(cpus), weight // WORKER_BYTES)


def _examined(examine: Examine[T], unit: int) -> T | None:
    try:
        return examine(unit)
    except FileDamaged:
        return None
