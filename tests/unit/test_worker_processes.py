"""Worker processes under awkward circumstances: signals at the fork, odd errors, closed streams."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pytest

from frpipe.core.errors import ClusterError
from frpipe.runtime import local
from frpipe.runtime.allocation import Node, Pool
from frpipe.runtime.executor import Step, Work
from frpipe.runtime.host import Host
from frpipe.runtime.local import LocalExecutor


def _rows(
    work: Callable[[int], Any], tickets: int = 4, *, workers: int = 2, gpus: float = 0.0, nodes: float = 0.0
) -> Iterator[dict[str, Any]]:
    step = Step("work", Pool("work", workers, 1.0, gpus, "cpu"), partial(_made, work))
    return LocalExecutor([Node(2, nodes)]).stream([{"unit": n} for n in range(tickets)], [step])


def _made(work: Callable[[int], Any], _: Host) -> Work:
    return lambda table: pa.table({"made": [work(table["unit"][0].as_py())]})


def _same(unit: int) -> int:
    return unit


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_the_fork_does_not_make_the_worker_end_the_job(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C reaches all processes of a terminal: what the job does then, a worker must not do too."""
    ended = tmp_path / "ended"
    fork = os.fork

    def interrupted() -> int:
        pid = fork()
        if not pid:
            os.kill(os.getpid(), number)
        return pid

    job = fork()
    if not job:
        monkeypatch.setattr(os, "fork", interrupted)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        me = os.getpid()
        try:
            next(_rows(_same), None)
        except BaseException:  # noqa: BLE001 - whatever it is, it must not be seen in a worker
            if os.getpid() != me:
                ended.touch()
        finally:
            os._exit(0)
    os.waitpid(job, 0)
    assert not ended.exists()


class _Particular(Exception):
    """Error that pickle writes, and cannot read: its constructor wants more than the message."""

    def __init__(self, unit: int, why: str) -> None:
        super().__init__(f"unit {unit}: {why}")


def _is_particular(unit: int) -> NoReturn:
    raise _Particular(unit, "because")


def test_an_error_that_cannot_be_read_again_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"^_Particular$") as caught:
        list(_rows(_is_particular))
    assert "_is_particular" in str(caught.value.__cause__)


def test_closed_streams_are_no_hindrance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python has none of them where the descriptors are closed when it starts."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert len(list(_rows(_same))) == 4


def test_a_job_whose_children_nobody_waits_for_ends_as_others_do() -> None:
    """Who ignores SIGCHLD, and a supervisor may hand that down, has no children to wait for."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert len(list(_rows(_same))) == 4
    finally:
        signal.signal(signal.SIGCHLD, before)


def _refused_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fork = os.fork
    made: list[int] = []

    def some() -> int:
        if len(made) == count:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        made.append(1)
        return fork()

    monkeypatch.setattr(os, "fork", some)


def test_fewer_workers_than_wanted_do_the_work_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    _refused_after(1, monkeypatch)
    assert sorted(row["made"] for row in _rows(_same, workers=3)) == list(range(4))


def test_where_no_worker_can_be_started_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    _refused_after(0, monkeypatch)
    with pytest.raises(
        ClusterError, match="no worker process could be started: Resource temporarily"
    ) as caught:
        list(_rows(_same))
    assert "ulimit -u" in caught.value.remedy


def _prints(unit: int) -> int:
    os.write(1, b"a library says something\n")
    return unit


def test_what_a_worker_prints_does_not_mix_with_the_output_of_the_job(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert len(list(_rows(_prints))) == 4
    out, err = capfd.readouterr()
    assert (out, err.count("a library says something")) == ("", 4)


def _threads(unit: int) -> int:
    square = np.ones((512, 512), np.float32)
    np.matmul(square, square)
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_a_worker_multiplies_with_one_thread_as_on_ray() -> None:
    square = np.ones((512, 512), np.float32)
    np.matmul(square, square)
    assert {row["made"] for row in _rows(_threads)} == {1}


def _visible(unit: int) -> str:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all")


@pytest.mark.parametrize(
    ("given", "gpus", "seen"),
    [
        (None, 1.0, ["0", "1"]),
        ("4,7", 1.0, ["4", "7"]),
        ("4,7", 0.0, ["4,7", "4,7"]),
        (None, 0.0, ["all"] * 2),
    ],
)
def test_each_worker_has_a_gpu_of_its_own(
    given: str | None, gpus: float, seen: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert sorted(row["made"] for row in _rows(_visible, 2, gpus=gpus, nodes=2)) == seen


@pytest.mark.parametrize(("given", "gpus"), [(None, 3), ("1,2", 2), ("", 0), ("-1", 0)])
def test_hidden_gpus_are_not_offered(given: str | None, gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_gpus", lambda: ["0", "1", "2"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert LocalExecutor().nodes[0].gpus == gpus


_HANGS = """
import time
from frpipe.stages.quarantine import trial

def hang(_, say):
    say("taken 0")
    time.sleep(600)

trial.try_photos = hang
trial._main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends it")
def test_a_photo_that_hangs_does_not_keep_its_trial_alive_when_the_worker_is_killed(tmp_path: Path) -> None:
    """It would take a CPU for ever: whoever watches it is gone."""
    mark = tmp_path / "trial"
    worker = os.fork()
    if not worker:
        try:
            child = subprocess.Popen(
                [sys.executable, "-c", _HANGS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert child.stdin and child.stdout
            child.stdin.write("{}")
            child.stdin.close()
            child.stdout.readline()
            (tmp_path / "new").write_text(str(child.pid))
            (tmp_path / "new").rename(mark)
            signal.pause()
        finally:
            os._exit(0)
    over = threading.Event()
    while not mark.exists():
        over.wait(0.05)
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
    trial = int(mark.read_text())
    for _ in range(1200):
        if not _lives(trial):
            return
        over.wait(0.05)
    os.kill(trial, signal.SIGKILL)
    pytest.fail("the trial lives on")


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
