"""Units are read back by workers as by the driver: same sums, files and damage, whoever dies meanwhile."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import frozen
import pytest
from erase_runs import PARTS, ROWS, finished_run, image_id
from part_work import PartsOf
from staged_runs import config

from frpipe.core.errors import ClusterError, FileDamaged, InvariantError, StorageError
from frpipe.core.report import PhotoCounts
from frpipe.io.output import run
from frpipe.io.output.parts import check_part, part_name
from frpipe.io.output.plan import load_plan
from frpipe.io.output.units import Units
from frpipe.io.storage.folder import Entry, Folder
from frpipe.jobs import reading_back
from frpipe.jobs.contract import until_whole
from frpipe.jobs.enroll import audit as enroll_audit
from frpipe.jobs.enroll.audit import audit
from frpipe.jobs.enroll.job import Enrollment
from frpipe.jobs.reading_back import ReadingBack, read_units, weight_of, workers_for
from frpipe.jobs.rejects import Choice
from frpipe.jobs.replay.job import Replay
from frpipe.runtime.allocation import Node
from frpipe.runtime.executor import Executor, Step
from frpipe.runtime.local import LocalExecutor
from frpipe.testing.executors import InThisProcess, SameProcess

WORKERS = LocalExecutor([Node(2)])


@pytest.fixture
def spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """However little there is to read, workers read it."""
    monkeypatch.setattr(reading_back, "WORKER_BYTES", 1)
    monkeypatch.setattr(reading_back, "DRIVER_CPUS", 0)


@pytest.fixture
def out(tmp_path: Path) -> Folder:
    return finished_run(tmp_path)


class _Nobody(SameProcess):
    """Has CPUs, and no work is expected of it."""

    def stream(self, *_: Any, **__: Any) -> Iterator[dict[str, Any]]:
        raise AssertionError("workers were started")


class _LastFirst(SameProcess):
    """Ends with the ticket that came first."""

    def stream(
        self, tickets: Sequence[Mapping[str, Any]], *words: Any, **more: Any
    ) -> Iterator[dict[str, Any]]:
        return super().stream([*reversed(tickets)], *words, **more)


class _Forgetful(SameProcess):
    """Loses what came of the first ticket."""

    def stream(self, *words: Any, **more: Any) -> Iterator[dict[str, Any]]:
        rows = super().stream(*words, **more)
        next(rows)
        yield from rows


def _spoil(out: Folder, name: str) -> None:
    Path(out.uri, name).write_bytes(bytes(len(out.read(name))))


@pytest.mark.usefixtures("spread")
@pytest.mark.parametrize("executor", [WORKERS, _LastFirst()], ids=["processes", "last first"])
def test_workers_find_what_the_driver_finds(out: Folder, executor: SameProcess) -> None:
    plan, said = load_plan(out), list[str]()
    here, there = audit(out, plan), audit(out, plan, said.append, executor)
    assert there == here
    assert [*there.tally.reasons] == [*here.tally.reasons]
    assert there.files == run.file_list(out)
    assert said == [f"{ROWS} photos are read back by 2 workers"]


@pytest.mark.usefixtures("spread")
def test_what_a_worker_finds_damaged_or_gone_is_done_again(out: Folder, tmp_path: Path) -> None:
    plan, before = load_plan(out), {file.name: out.read(file.name) for file in run.file_list(out)}
    run.reopen(out)
    _spoil(out, f"faces/{part_name(2)}")
    launches: list[Sequence[int]] = []

    def publish(parts: Sequence[int]) -> int:
        launches.append(parts)
        if not parts:
            # After the parts that are there were counted, and before they are read.
            out.delete(f"images/{part_name(4)}")
        for part in parts:
            for sub in ("faces", "images"):
                out.create(f"{sub}/{part_name(part)}", before[f"{sub}/{part_name(part)}"])
        return len(parts)

    said: list[str] = []
    found, _ = until_whole(PartsOf(plan, publish), out, WORKERS, said.append)
    assert launches == [[], [2, 4]]
    assert any("2 parts are damaged and will be done again" in line for line in said)
    assert {file.name: out.read(file.name) for file in found.files} == before


def _fails(error: Exception, unit: int) -> int:
    if unit == 3:
        raise error
    return unit


def _dies_once(place: str, unit: int) -> int:
    mark = Path(place, str(unit))
    if unit in {2, 9} and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 10 * unit


@pytest.mark.usefixtures("spread")
def test_a_worker_that_dies_costs_nothing(tmp_path: Path) -> None:
    reading = ReadingBack(range(12), partial(_dies_once, str(tmp_path)), 12, print)
    assert list(reading.results(WORKERS)) == [(unit, 10 * unit) for unit in range(12)]
    assert len([*tmp_path.iterdir()]) == 2


@pytest.mark.usefixtures("spread")
def test_what_cannot_be_told_is_an_error_and_no_damage() -> None:
    for error, found in (
        (StorageError("the object store does not answer", "wait"), StorageError),
        (OSError(5, "Input/output error"), StorageError),
    ):
        reading = ReadingBack(range(6), partial(_fails, error), 6, print)
        with pytest.raises(found):
            list(reading.results(WORKERS))
    damaged = ReadingBack(range(6), partial(_fails, FileDamaged("it is", "mend it")), 6, print)
    assert list(damaged.results(WORKERS)) == [(unit, None if unit == 3 else unit) for unit in range(6)]


@pytest.mark.usefixtures("spread")
def test_units_that_nobody_speaks_of_are_not_taken_for_read() -> None:
    with pytest.raises(InvariantError, match="0 of 6 shares were read back"):
        list(ReadingBack(range(6), int, 6, print).results(_Forgetful()))


def _always_dies(_: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


@pytest.mark.usefixtures("spread")
def test_a_unit_that_kills_every_worker_ends_the_job() -> None:
    with pytest.raises(ClusterError, match="a worker of read back died"):
        list(ReadingBack(range(2), _always_dies, 2, print).results(WORKERS))


def _hangs(_: int) -> int:
    time.sleep(600)
    return 0


@pytest.mark.usefixtures("spread")
def test_workers_that_hang_while_they_read_are_waited_for_as_long_as_is_set(
    out: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enroll_audit, "check_part", lambda _, part: _hangs(part))
    work = PartsOf(load_plan(out), len, stall_timeout_s=0.2)
    run.reopen(out)
    with pytest.raises(ClusterError, match=r"no progress for 0\.2 s: the workers of read back"):
        until_whole(work, out, WORKERS, print)
    monkeypatch.undo()
    assert not audit(out, load_plan(out)).damaged


@dataclass(frozen=True)
class _Noting(InThisProcess):
    """Notes how long is waited for the workers of each step."""

    waits: set[tuple[str, float | None]] = field(default_factory=set)

    @contextmanager
    def open(self, *, small: bool) -> Iterator[Executor]:
        noted = self.waits

        class Noted(SameProcess):
            def stream(
                self, tickets: Sequence[Mapping[str, Any]], steps: Sequence[Step], **more: Any
            ) -> Iterator[dict[str, Any]]:
                noted.update((step.name, more.get("stall_timeout_s")) for step in steps)
                return super().stream(tickets, steps, **more)

        yield Noted()


@pytest.mark.usefixtures("spread")
def test_enroll_and_replay_wait_as_long_while_they_read_back_as_while_they_work(tmp_path: Path) -> None:
    with frozen.copied(tmp_path / "frozen") as home:
        given, seen = config("run.stall_timeout_s=77"), _Noting()
        Enrollment(str(home / "photos.csv"), str(tmp_path / "out"), given, seen).run()
        read = ("read back", 77.0)
        assert read in seen.waits and {wait for _, wait in seen.waits} == {77.0}
        again = _Noting()
        Replay(str(tmp_path / "out"), Choice.again(), str(tmp_path / "again"), given, again).run()
        assert again.waits == seen.waits


@pytest.mark.usefixtures("spread")
def test_receipts_hold_no_rows_and_no_ids(out: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    receipts: list[dict[str, Any]] = []
    real = ReadingBack._receipts

    def noted(*words: Any) -> Iterator[dict[str, Any]]:
        for receipt in real(*words):
            receipts.append(receipt)
            yield receipt

    monkeypatch.setattr(ReadingBack, "_receipts", noted)
    audit(out, load_plan(out), print, SameProcess())
    told = b"".join(receipt["results"] for receipt in receipts)
    assert b"faces/part-000005.parquet" in told
    assert not any(image_id(row).encode() in told or b"person-" in told for row in range(ROWS))


def test_little_is_read_by_the_driver_alone(out: Folder) -> None:
    assert len(audit(out, load_plan(out), print, _Nobody()).files) == 2 * PARTS
    units = Units(out, "faces")
    found, damaged = read_units(units, _Faces(), _Faces.of_file, _Nobody(), print)
    assert (found.rows, damaged, [*found.files]) == (11, 0, [*range(PARTS)])


def test_workers_are_started_for_two_gigabytes_each_and_one_for_a_cpu() -> None:
    nodes = [Node(4), Node(2.5)]
    parts = [Entry(f"faces/{part_name(part)}", 4 << 20) for part in range(1000)]
    assert [workers_for(weight_of(parts[:count]), nodes) for count in (0, 400, 900, 1000)] == [0, 0, 2, 2]
    assert workers_for(weight_of(parts * 50), nodes) == 6
    assert workers_for(weight_of(parts * 50), []) == 0


@pytest.mark.usefixtures("spread")
def test_one_unit_starts_no_workers() -> None:
    for units in (0, 1):
        assert list(ReadingBack(range(units), int, 1 << 50, print).results(_Nobody())) == [(0, 0)][:units]


def _at_once(place: str, unit: int) -> int:
    mark = Path(place, str(unit))
    mark.touch()
    time.sleep(0.01)
    found = len([*Path(place).iterdir()])
    mark.unlink()
    return found


@pytest.mark.usefixtures("spread")
@pytest.mark.parametrize("executor", [None, SameProcess()], ids=["driver", "worker"])
def test_large_units_are_read_one_at_a_time(executor: SameProcess | None, tmp_path: Path) -> None:
    reading = ReadingBack(range(40), partial(_at_once, str(tmp_path)), 40 << 30, print)
    assert [*reading.results(executor)] == [(unit, 1) for unit in range(40)]


def test_two_cpus_of_one_machine_are_the_drivers_own() -> None:
    much = 1 << 50
    assert [workers_for(much, [Node(cpus)]) for cpus in (1, 2, 3)] == [0, 0, 3]
    assert workers_for(much, [Node(0), Node(2)]) == 2


def test_parts_that_are_counted_apart_give_the_counts_of_all(out: Folder) -> None:
    together, merged = PhotoCounts(), PhotoCounts()
    for part in range(PARTS):
        *_, images = check_part(out, part)
        together.add(images)
        one = PhotoCounts()
        one.add(images)
        merged.merge(one)
    assert merged == together


class _Faces:
    """Counts that nobody asks for."""

    @classmethod
    def of_file(cls, _: bytes) -> _Faces:
        return cls()

    def merge(self, other: _Faces) -> None:
        """Add nothing."""
