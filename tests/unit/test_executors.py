"""Worker processes of this machine: what comes out, who dies, who is told, and what is left behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from threadpoolctl import threadpool_info

from frpipe.core.errors import ClusterError, ConfigError, OutputError
from frpipe.runtime.allocation import Node, Pool
from frpipe.runtime.executor import Look, Step, Work
from frpipe.runtime.host import Host
from frpipe.runtime.local import LocalExecutor
from frpipe.runtime.runtime import Runtime


def _rows(
    work: Callable[..., Any], tickets: int = 6, workers: int = 2, **more: Any
) -> Iterator[dict[str, Any]]:
    step = Step("work", Pool("work", workers, 1.0, 0.0, "cpu"), partial(_made, work))
    return LocalExecutor([Node(2)]).stream([{"unit": n} for n in range(tickets)], [step], **more)


def _made(work: Callable[[int, Host], int], host: Host) -> Work:
    def worked(table: pa.Table) -> pa.Table:
        unit = table["unit"][0].as_py()
        return pa.table({"unit": [unit], "made": [work(unit, host)], "pid": [os.getpid()]})

    return worked


def _square(unit: int, _: Host) -> int:
    return unit * unit


def test_each_ticket_gives_its_row_in_another_process() -> None:
    rows = list(_rows(_square))
    assert sorted((row["unit"], row["made"]) for row in rows) == [(n, n * n) for n in range(6)]
    assert os.getpid() not in {row["pid"] for row in rows}
    assert len({row["pid"] for row in rows}) <= 2


def test_what_one_step_makes_the_next_one_gets() -> None:
    pool = Pool("work", 1, 1.0, 0.0, "cpu")
    steps = [Step(name, pool, _doubling) for name in ("first", "second")]
    rows = list(LocalExecutor([Node(2)]).stream([{"unit": 3}], steps))
    assert rows == [{"unit": 12}]


def _doubling(_: Host) -> Work:
    return lambda table: pa.table({"unit": [2 * table["unit"][0].as_py()]})


def _dies_once(place: str, unit: int, _: Host) -> int:
    mark = Path(place, str(unit))
    if unit in {1, 4} and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return unit


def test_the_ticket_of_a_dead_worker_is_done_again(tmp_path: Path) -> None:
    rows = list(_rows(partial(_dies_once, str(tmp_path))))
    assert sorted(row["made"] for row in rows) == list(range(6))


def _dies(unit: int, _: Host) -> int:
    os._exit(75)


def test_a_ticket_that_kills_everybody_is_given_up_with_what_killed_them() -> None:
    with pytest.raises(ClusterError, match=r"died 12 times over one unit, the last with exit code 75"):
        list(_rows(_dies, 1))


def _refuses(unit: int, _: Host) -> int:
    raise OutputError("this part will not do", "make another")


def _breaks(unit: int, _: Host) -> int:
    raise ZeroDivisionError(unit)


def test_the_error_of_a_worker_is_raised_here_with_its_class_and_remedy() -> None:
    with pytest.raises(OutputError, match="this part will not do") as caught:
        list(_rows(_refuses))
    assert caught.value.remedy == "make another"
    with pytest.raises(ZeroDivisionError) as bug:
        list(_rows(_breaks))
    assert "_breaks" in str(bug.value.__cause__)


def _cannot_be_made(_: Host) -> Work:
    raise OutputError("no model", "pull it")


def test_a_worker_that_cannot_be_made_says_why() -> None:
    step = Step("work", Pool("work", 1, 1.0, 0.0, "cpu"), _cannot_be_made)
    with pytest.raises(OutputError, match="no model"):
        list(LocalExecutor([Node(1)]).stream([{"unit": 0}], [step]))


def _resizes(unit: int, _: Host) -> int:
    cv2.setNumThreads(1)
    photo = np.zeros((2000, 2000, 3), np.uint8)
    return int(cv2.resize(photo, (500, 500)).shape[0])


def test_workers_may_use_opencv_though_the_job_has_used_its_threads() -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        cv2.resize(np.zeros((4000, 4000, 3), np.uint8), (1000, 1000))
        assert [row["made"] for row in _rows(_resizes, 2, stall_timeout_s=60)] == [500, 500]
        assert cv2.getNumThreads() == 4
    finally:
        cv2.setNumThreads(before)


def _threads(_: int, __: Host) -> int:
    return max(pool["num_threads"] for pool in threadpool_info())


def test_a_worker_computes_in_one_thread() -> None:
    assert np.ones((2, 2)).dot(np.ones((2, 2)))[0, 0] == 2
    assert {row["made"] for row in _rows(_threads, 2)} == {1}


def _sleeps(unit: int, _: Host) -> int:
    time.sleep(600)
    return unit


def test_a_stall_ends_the_job_and_its_workers() -> None:
    with pytest.raises(ClusterError, match=r"no progress for 0\.2 s: the workers of work .*\(2\)"):
        list(_rows(_sleeps, stall_timeout_s=0.2))


def _tells(unit: int, host: Host) -> int:
    host.report(unit, {"located": 7})
    return unit


def test_what_workers_report_is_seen_by_who_watches() -> None:
    looks: list[Look] = []
    assert len(list(_rows(_tells, 2, watch=looks.append))) == 2
    assert looks[0]() == {0: {"located": 7}, 1: {"located": 7}}


def _sleeps_after_the_first(unit: int, _: Host) -> int:
    if unit:
        time.sleep(600)
    return unit


def test_a_part_that_is_done_is_no_longer_in_hand() -> None:
    looks: list[Look] = []
    step = Step("work", Pool("work", 2, 1.0, 0.0, "cpu"), _made_part)
    executor = LocalExecutor([Node(2)])
    assert len(list(executor.stream([{"part": n} for n in range(3)], [step], watch=looks.append))) == 3
    assert looks[0]() == {}


def _made_part(host: Host) -> Work:
    def worked(table: pa.Table) -> pa.Table:
        host.report(table["part"][0].as_py(), {"located": 1})
        return table

    return worked


def test_whoever_stops_listening_leaves_no_process_behind() -> None:
    rows = _rows(_sleeps_after_the_first)
    pid = next(rows)["pid"]
    rows.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_workers_do_not_outlive_a_job_that_is_killed(tmp_path: Path) -> None:
    """Killed, the job can end nobody: the workers notice it themselves."""
    pids = tmp_path / "pids"
    pids.mkdir()
    job = os.fork()
    if not job:
        try:
            list(_rows(partial(_marks_and_sleeps, str(pids))))
        finally:
            os._exit(1)
    _until(lambda: len(list(pids.iterdir())) == 2)
    os.kill(job, signal.SIGKILL)
    os.waitpid(job, 0)
    _until(lambda: not any(_lives(int(path.name)) for path in pids.iterdir()))


def _marks_and_sleeps(place: str, unit: int, _: Host) -> int:
    Path(place, str(os.getpid())).touch()
    time.sleep(600)
    return unit


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _until(true: Callable[[], bool]) -> None:
    over = threading.Event()
    while not true():
        over.wait(0.02)


def _fails_in_a_way_of_its_own(unit: int, _: Host) -> int:
    class Local(Exception):
        pass

    raise Local(unit)


def test_an_error_that_cannot_travel_is_named_all_the_same() -> None:
    with pytest.raises(RuntimeError, match=r"^Local$"):
        list(_rows(_fails_in_a_way_of_its_own))


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.mark.parametrize(
    ("runtime", "environment", "small", "local"),
    [
        (Runtime(), {}, True, True),
        (Runtime(), {}, False, False),
        (Runtime("head:6379"), {}, True, False),
        (Runtime("local"), {}, True, True),
        (Runtime(), {"RAY_ADDRESS": "head:6379"}, True, False),
        (Runtime(), {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}, True, False),
        (Runtime(choice="local"), {"RAY_ADDRESS": "head:6379"}, False, True),
        (Runtime(choice="ray"), {}, True, False),
    ],
)
def test_without_ray_where_there_is_little_to_do_and_no_cluster_is_named(
    runtime: Runtime, environment: dict[str, str], small: bool, local: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert runtime.is_local(small=small) is local


def test_a_cluster_that_is_named_is_not_left_out_without_a_word() -> None:
    with pytest.raises(ConfigError, match="head:6379 is named, and the executor is local"):
        Runtime("head:6379", "local").is_local(small=True)


def test_what_a_setting_chooses_a_flag_overrides() -> None:
    assert Runtime().choosing("local").choice == "local"
    assert Runtime(choice="ray").choosing("local").choice == "ray"


def test_each_executor_that_is_opened_is_told_of() -> None:
    opened: list[Sequence[Node]] = []
    with Runtime(choice="local", opened=opened.append).open(small=True) as executor:
        assert opened == [executor.nodes]
