"""Tests that any bulk job must pass. Subclass `JobKit` in a test module; pytest collects the subclass."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frpipe.core.errors import OutputError, StorageError
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs import reading_back
from frpipe.jobs.contract import Job, Plan, Result, Say, carry_out, planned
from frpipe.runtime.allocation import Node
from frpipe.runtime.executor import Executor
from frpipe.runtime.runtime import Runtime
from frpipe.runtime.stop import SIGNALS, stoppable
from frpipe.testing.executors import InThisProcess
from frpipe.testing.kills import Killed, at_call, at_change

Make = Callable[[str, Runtime, Say], Job[Any]]
"""Makes a job for an output folder. A job that always runs in this process leaves the runtime aside."""

_OF_A_RUN = frozenset({run.RUN, run.FILES, run.REPORT, run.REPORT_TEXT, run.SUCCESS})
_TIMES = re.compile(r"created|replayed|when|claim|pools?|launch_\w+|\w+_m?s")
_ROUNDING = 1e-4
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")


@dataclass(frozen=True, slots=True)
class Done:
    """A job that was carried out. written: names of the files, in the order in which they were put in place.

    units: the files that were there before the first reading back, but for those that end with the run.
    """

    folder: Folder
    result: Result
    said: Sequence[str]
    written: Sequence[str]
    units: Sequence[str]
    changes: int
    calls: int


class JobKit:
    """The kit of a job. Override `make` and `other`: a small job, of three units or more if it can be."""

    most_kills = 6  # moments at which the job is killed, of all changes that it makes
    most_signals = 4  # moments at which a signal comes, of all calls of functions

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls) -> Make:
        """Make the job."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def other(cls) -> Make:
        """Make a job of the same kind, of which the output is another: another threshold, say."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def whole(cls, make: Make, tmp_path_factory: pytest.TempPathFactory) -> Done:
        """The job, carried out and undisturbed. Tests leave it as it is."""
        return _done(make, tmp_path_factory.mktemp("whole") / "out")

    def test_a_dry_run_says_what_would_be_done_and_writes_nothing(self, make: Make, tmp_path: Path) -> None:
        said: list[str] = []
        plan = planned(make(str(tmp_path / "out"), InThisProcess(), said.append))
        assert not list(tmp_path.rglob("*"))
        assert plan.text().splitlines()[-1] == "dry run: nothing was written"
        facts = json.loads(json.dumps(plan.as_dict(), allow_nan=False))
        assert facts["dry_run"] is True
        assert facts["job"] and isinstance(facts["job"], str)
        assert facts["executor"] in {"local", "ray"}

    def test_a_dry_run_leaves_a_finished_output_alone(self, make: Make, whole: Done) -> None:
        before = _stamps(whole.folder)
        planned(make(whole.folder.uri, InThisProcess(), _silent))
        assert _stamps(whole.folder) == before

    def test_the_output_says_whose_it_is_and_what_it_holds(self, whole: Done) -> None:
        begun = json.loads(whole.folder.read(run.RUN))
        assert begun["identity"] and begun[run.CLAIM]
        _assert_listed(whole.folder)
        assert whole.written[-1] == run.SUCCESS
        assert whole.folder.read(run.SUCCESS) == b""

    def test_the_result_is_for_people_and_for_programs(self, whole: Done) -> None:
        assert whole.result.text().strip()
        facts = json.loads(json.dumps(whole.result.as_dict(), allow_nan=False))
        assert facts == json.loads(whole.folder.read(run.REPORT))
        assert whole.folder.read(run.REPORT_TEXT).decode().strip() == whole.result.text().strip()

    def test_progress_is_said_to_the_end(self, whole: Done) -> None:
        assert whole.said
        if whole.units:
            assert any(re.match(r"([\d,]+) of \1 \w+", line) for line in whole.said), whole.said

    def test_the_same_command_again_does_nothing(self, make: Make, whole: Done) -> None:
        before, said = _stamps(whole.folder), list[str]()
        again = carry_out(make(whole.folder.uri, InThisProcess(), said.append))
        assert _stamps(whole.folder) == before
        assert any("complete already" in line for line in said), said
        assert _through_json(again) == _through_json(whole.result)
        assert again.text().strip() == whole.result.text().strip()

    def test_another_job_may_not_have_the_folder(self, other: Make, whole: Done) -> None:
        before = _stamps(whole.folder)
        for attempt in (planned, carry_out):
            with pytest.raises(OutputError, match=r"other settings: \S+ was .+, is "):
                attempt(other(whole.folder.uri, InThisProcess(), _silent))
        assert _stamps(whole.folder) == before

    def test_a_folder_of_other_files_is_refused(self, make: Make, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        for attempt in (planned, carry_out):
            with pytest.raises(OutputError, match="holds other files, and no run"):
                attempt(make(str(tmp_path), InThisProcess(), _silent))
        assert [path.name for path in tmp_path.rglob("*")] == ["notes.txt"]

    def test_killed_at_any_change_the_same_command_ends_alike(
        self, make: Make, whole: Done, tmp_path: Path
    ) -> None:
        for moment in _spread(whole.changes, self.most_kills):
            out = Folder.at(str(tmp_path / str(moment)))
            with at_change(moment), pytest.raises(Killed):
                carry_out(make(out.uri, InThisProcess(), _silent))
            if out.exists(run.SUCCESS):
                _assert_listed(out)
            before = _stamps(out)
            again = carry_out(make(out.uri, InThisProcess(), _silent))
            after = _stamps(out)
            done = _complete(whole.units, before)
            assert {name: after[name] for name in done} == {name: before[name] for name in done}, moment
            _assert_same(out, whole.folder, f"killed at change {moment} of {whole.changes}")
            ours, theirs = _plain(again.as_dict(), out), _plain(whole.result.as_dict(), whole.folder)
            _assert_close(ours, theirs, f"the result of a run that was killed at change {moment}")

    def test_stopped_by_a_signal_at_any_moment_the_same_command_ends_alike(
        self, make: Make, whole: Done, tmp_path: Path
    ) -> None:
        for turn, moment in enumerate(_spread(whole.calls, self.most_signals)):
            out, number = Folder.at(str(tmp_path / str(moment))), SIGNALS[turn % len(SIGNALS)]
            came, stopped = [0], False
            with stoppable(lambda number: number.name):
                try:
                    with at_call(moment, partial(signal.raise_signal, number)) as came:
                        carry_out(make(out.uri, InThisProcess(), _silent))
                except KeyboardInterrupt:
                    stopped = True
            # A run of a warmed-up process may take fewer calls.
            assert stopped == (came[0] >= moment), f"{number.name} at call {moment} of {whole.calls}"
            if out.exists(run.SUCCESS):
                _assert_listed(out)
            carry_out(make(out.uri, InThisProcess(), _silent))
            _assert_same(out, whole.folder, f"stopped at call {moment} of {whole.calls}")

    def test_a_failure_leaves_an_output_that_goes_on(self, make: Make, whole: Done, tmp_path: Path) -> None:
        """The last unit cannot be published: its worker fails, in a process of its own if it has one."""
        out = Folder.at(str(tmp_path / "out"))
        listed = [file.name for file in run.file_list(whole.folder)]
        with _no_room_for((whole.units or listed)[-1]), pytest.raises(StorageError, match="no room"):
            carry_out(make(out.uri, Runtime(choice="local"), _silent))
        assert run.complete(out) is None
        carry_out(make(out.uri, InThisProcess(), _silent))
        _assert_same(out, whole.folder, "after a failure")

    def test_rows_do_not_depend_on_the_executor(self, make: Make, whole: Done, tmp_path: Path) -> None:
        """Nor on who reads them back."""
        out = Folder.at(str(tmp_path / "out"))
        with _read_by_workers():
            carry_out(make(out.uri, Runtime(choice="local"), _silent))
        _assert_same(out, whole.folder, "by worker processes")

    @pytest.mark.parametrize("kind", ["cut", "zeroed", "flipped"])
    def test_units_that_are_damaged_are_done_again(
        self, make: Make, whole: Done, tmp_path: Path, kind: str
    ) -> None:
        """The first file of each folder, or a file of one of them: damaged once all are published."""
        _needs_units(whole)
        folders, out, said = _folders(whole.units), Folder.at(str(tmp_path / "out")), list[str]()
        first, one, other = [names[0] for names in folders], folders[0][-1:], folders[-1][-1:]
        chosen = {"cut": first, "zeroed": one, "flipped": other}[kind]
        job = make(out.uri, InThisProcess(), said.append)
        with _read_by_workers() if kind == "cut" else nullcontext():
            carry_out(_Disturbed(job, lambda: _damage(out, chosen, kind)))
        assert any("damaged and will be done again" in line for line in said), said
        _assert_same(out, whole.folder, f"{chosen} {kind}")

    def test_a_finished_output_that_has_lost_files_is_made_whole(
        self, make: Make, whole: Done, tmp_path: Path
    ) -> None:
        """One is gone, another one cut short; units that have lost nothing stay as they are."""
        listed = [file.name for file in run.file_list(whole.folder)]
        gone, cut = (whole.units or listed)[0], (whole.units or listed)[-1]
        out = Folder.at(str(shutil.copytree(whole.folder.uri, tmp_path / "out")))
        out.delete(gone)
        if cut != gone:
            _damage(out, [cut], "cut")
        before = _stamps(out)
        carry_out(make(out.uri, InThisProcess(), _silent))
        after = _stamps(out)
        _assert_same(out, whole.folder, f"without {gone}")
        hurt = {name.rpartition("/")[2] for name in (gone, cut)}
        kept = [name for name in whole.units if name.rpartition("/")[2] not in hurt]
        assert {name: after[name] for name in kept} == {name: before[name] for name in kept}

    def test_damaged_again_and_again_is_an_error_and_not_an_end(
        self, make: Make, whole: Done, tmp_path: Path
    ) -> None:
        _needs_units(whole)
        out = Folder.at(str(tmp_path / "out"))
        unlucky = _Disturbed(
            make(out.uri, InThisProcess(), _silent), lambda: _damage(out, whole.units[:1], "zeroed"), most=99
        )
        with pytest.raises(OutputError, match="damaged again and again"):
            carry_out(unlucky)
        assert not out.exists(run.SUCCESS)
        carry_out(make(out.uri, InThisProcess(), _silent))
        _assert_same(out, whole.folder, "once the damage had ended")

    def test_what_another_process_has_finished_is_not_withdrawn(
        self, make: Make, whole: Done, tmp_path: Path
    ) -> None:
        """Another process ends the run while this one is at it; then a file is damaged."""
        _needs_units(whole)
        out = Folder.at(str(tmp_path / "out"))

        def finished_and_damaged() -> None:
            carry_out(make(out.uri, InThisProcess(), _silent))
            _damage(out, whole.units[:1], "zeroed")

        with pytest.raises(OutputError, match="finished by another process"):
            carry_out(_Disturbed(make(out.uri, InThisProcess(), _silent), finished_and_damaged))
        assert out.exists(run.SUCCESS)
        assert {file.name for file in run.file_list(out)} <= set(out.walk())

    def test_what_another_process_finishes_meanwhile_is_taken_as_it_is(
        self, make: Make, tmp_path: Path
    ) -> None:
        """Another process carries the job out while this one waits for its executor."""
        out, finished = Folder.at(str(tmp_path / "out")), list[dict[str, tuple[int, int]]]()

        def faster() -> None:
            carry_out(make(out.uri, InThisProcess(), _silent))
            finished.append(_stamps(out))

        found = carry_out(_Disturbed(make(out.uri, InThisProcess(), _silent), settling=faster))
        assert [_stamps(out)] == finished
        assert _through_json(found) == json.loads(out.read(run.REPORT))


def _silent(_: str) -> None:
    """Say nothing."""


@dataclass
class _Disturbed:
    """A job to which something happens.

    event: when all units are published, before they are read back; `most` times at most.  settling: once its
    executor is there.  units: the files that the units have put in place.
    """

    job: Job[Any]
    event: Callable[[], object] = bool
    settling: Callable[[], object] = bool
    most: int = 1
    units: Sequence[str] = ()

    @property
    def say(self) -> Say:
        return self.job.say

    @property
    def runtime(self) -> Runtime:
        return self.job.runtime

    def place(self) -> Folder:
        return self.job.place()

    def ended(self, out: Folder) -> Result | None:
        return self.job.ended(out)

    def plan(self, out: Folder, *, dry: bool = False) -> Plan[Any]:
        plan: Plan[Any] = self.job.plan(out, dry=dry)
        work, settle = plan.work, plan.settle

        def disturbed(out: Folder, executor: Executor) -> int:
            before = set(out.walk())
            rows = work(out, executor)
            self.units = [name for name in out.walk() if name not in before and not name.startswith("_")]
            if self.most:
                self.most -= 1
                self.event()
            return rows

        def settled(nodes: Sequence[Node]) -> None:
            settle(nodes)
            self.settling()

        vars(plan).update(work=disturbed, settle=settled)
        return plan


def _done(make: Make, place: Path) -> Done:
    """Carry a job out, and watch what it writes."""
    out, said, written = Folder.at(str(place)), list[str](), list[tuple[str, str]]()
    job = _Disturbed(make(out.uri, InThisProcess(), said.append))
    with _noted(written), at_change(None) as changes, at_call(None, bool) as calls:
        result = carry_out(job)
    names = [name for uri, name in written if uri == out.uri]
    return Done(out, result, said, names, job.units, changes[0], calls[0])


@contextmanager
def _noted(written: list[tuple[str, str]]) -> Iterator[None]:
    """Note the folder and the name of each file that is put in place."""

    def noting(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(folder: Folder, name: str, *more: Any) -> Any:
            found = original(folder, name, *more)
            written.append((folder.uri, name))
            return found

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("write", "create", "publish", "adopt"):
            patch.setattr(Folder, name, noting(getattr(Folder, name)))
        yield


@contextmanager
def _no_room_for(name: str) -> Iterator[None]:
    """Refuse a file of this name, in this process and in those that it forks."""

    def refusing(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(folder: Folder, asked: str, *more: Any) -> Any:
            if asked == name:
                raise StorageError("no room", "make room")
            return original(folder, asked, *more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for method in ("write", "create"):
            patch.setattr(Folder, method, refusing(getattr(Folder, method)))
        yield


def _spread(last: int, most: int) -> list[int]:
    """Choose of 1 to `last` at most so many, the first and the last among them."""
    return sorted({1 + round((last - 1) * step / max(1, most - 1)) for step in range(most)})


def _damage(out: Folder, names: Sequence[str], kind: str) -> None:
    for name in names:
        out.write(name, _damaged(out.read(name), kind))


def _damaged(data: bytes, kind: str) -> bytes:
    """Damage data as a bad disk may: its first half, nothing but zeros, or all but for one bit."""
    if kind == "zeroed":
        return bytes(len(data))
    at = _in_a_page(data) if kind == "flipped" else None
    return data[: len(data) // 2] if at is None else data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _in_a_page(data: bytes) -> int | None:
    """The place of a byte of a value, in a Parquet file; None where there is none."""
    found = pq.read_metadata(pa.BufferReader(data))
    for group in map(found.row_group, range(found.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            if column.num_values:
                return int(column.data_page_offset + column.total_compressed_size) - 1
    return None


def _folders(names: Sequence[str]) -> list[list[str]]:
    """Group names by their folders."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    return [*folders.values()]


@contextmanager
def _read_by_workers() -> Iterator[None]:
    """While it lasts, workers read units back, however little there is to read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading_back, "WORKER_BYTES", 1)
        patch.setattr(reading_back, "DRIVER_CPUS", 0)
        yield


def _complete(units: Sequence[str], there: Mapping[str, object]) -> list[str]:
    """Find the files of units of which none is lacking. Those of one unit have one name in their folders."""
    lacking = {name.rpartition("/")[2] for name in units if name not in there}
    return [name for name in units if name.rpartition("/")[2] not in lacking]


def _needs_units(whole: Done) -> None:
    if not whole.units:
        pytest.skip("the job publishes nothing before its end")


def _stamps(out: Folder) -> dict[str, tuple[int, int]]:
    """Stamps of every file, hidden ones too, by name: when it was changed, and its size."""
    places = {name: Path(out.uri, name).stat() for name, _ in out.everything()}
    return {name: (stat.st_mtime_ns, stat.st_size) for name, stat in places.items()}


def _assert_listed(out: Folder) -> None:
    """Assert that the list of files names each file that is not the run's own, as it is."""
    listed = {file.name: (file.bytes, file.sha256) for file in run.file_list(out)}
    own = {name for name in out.walk() if name in _OF_A_RUN or name.startswith("_")}
    there = {name: out.read(name) for name in out.walk() if name not in own}
    assert listed == {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in there.items()}


def _assert_same(out: Folder, whole: Folder, what: str) -> None:
    """Assert that two outputs are alike but for times, places and what depends on the machine."""
    _assert_listed(out)
    assert sorted(out.walk()) == sorted(whole.walk()), what
    for name in whole.walk():
        _assert_close(_content(out, name), _content(whole, name), f"{name}: {what}")


def _assert_close(found: Any, wanted: Any, where: str) -> None:
    """Assert that two values are the same, numbers but for the rounding of a CPU."""
    if isinstance(wanted, Mapping):
        assert found.keys() == wanted.keys(), where
        for name, value in wanted.items():
            _assert_close(found[name], value, f"{where}, {name}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for ours, theirs in zip(found, wanted, strict=True):
            _assert_close(ours, theirs, where)
    elif isinstance(wanted, float) and isinstance(found, float):
        same = math.isclose(found, wanted, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
        assert same or (math.isnan(found) and math.isnan(wanted)), f"{where}: {found} for {wanted}"
    else:
        assert found == wanted, where


def _content(out: Folder, name: str) -> Any:
    data = out.read(name)
    if name == run.FILES:
        return {file.name: file.rows for file in run.file_list(out)}
    if name.endswith(".json"):
        return _plain(json.loads(data), out)
    if name.endswith(".parquet"):
        table = pq.read_table(pa.BufferReader(data))
        kept = table.select([column for column in table.column_names if not _TIMES.fullmatch(column)])
        return {"schema": str(kept.schema.remove_metadata()), "rows": kept.to_pylist()}
    return _NUMBER.sub("#", data.decode(errors="replace").replace(out.uri, "OUT"))


def _plain(value: Any, out: Folder) -> Any:
    """Data as JSON holds it, without times and without the place of the output."""
    if isinstance(value, Mapping):
        return {name: _plain(each, out) for name, each in value.items() if not _TIMES.fullmatch(name)}
    if isinstance(value, list | tuple):
        return [_plain(each, out) for each in value]
    return value.replace(out.uri, "OUT") if isinstance(value, str) else value


def _through_json(result: Result) -> Any:
    return json.loads(json.dumps(result.as_dict()))
