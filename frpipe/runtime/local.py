"""The executor without Ray: worker processes of this machine, forked from the job's own.

A forked worker has what the job has imported already, so a small run costs no start. It copies what it is
told first, as if that came from elsewhere: connections to stores do not outlive a fork.
"""

from __future__ import annotations

import copy
import ctypes
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, ClassVar, Never

import pyarrow as pa
from threadpoolctl import threadpool_limits

from frpipe.core.errors import ClusterError
from frpipe.runtime import telemetry
from frpipe.runtime.allocation import Node
from frpipe.runtime.cpus import usable_cpus
from frpipe.runtime.executor import STALL_TIMEOUT_S, Executor, Maker, Read, Step, Watch
from frpipe.runtime.failure import EXPECTED, as_text, revive
from frpipe.runtime.host import Host

# So often may one ticket lose its worker: what counts the losses of a part gives up sooner.
_MOST_LOSSES = 12
_ORPHANED_S = 5.0
_ROWS, _FAILURE, _BUG, _REPORT = "rows", "failure", "bug", "report"
_PR_SET_PDEATHSIG = 1


class LocalExecutor(Executor):
    """Worker processes of this machine, each of which does all steps of its tickets."""

    name: ClassVar[str] = "local"

    def __init__(self, nodes: Sequence[Node] = ()) -> None:
        """nodes: none: this machine, with the CPUs that this process may use."""
        gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))
        self._nodes = nodes or [Node(float(usable_cpus()), float(gpus))]

    @property
    def nodes(self) -> Sequence[Node]:
        return self._nodes

    def stream(
        self,
        tickets: Sequence[Mapping[str, Any]],
        steps: Sequence[Step],
        *,
        stall_timeout_s: float | None = STALL_TIMEOUT_S,
        watch: Watch | None = None,
    ) -> Iterator[dict[str, Any]]:
        crew = _Crew(steps, tickets, stall_timeout_s)
        if watch is not None:
            watch(crew.in_hand.copy)
        # Closed at once, however it is left: else workers go on.
        with closing(crew.rows()) as rows:
            yield from rows

    def share(self, read: Read) -> Read:
        return read


class _Worker:
    """The parent's side of a worker process."""

    def __init__(self, makers: Sequence[Maker]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.connection, theirs = Pipe()
        parent = os.getpid()
        with _without_opencv_threads():
            self.pid = os.fork()
            if not self.pid:
                self.connection.close()
                _live(theirs, makers, parent)
        theirs.close()
        self.ticket: int | None = None

    def hand(self, number: int, ticket: Mapping[str, Any]) -> None:
        """Give it a ticket; one that is dead takes it too, and is found to be dead later."""
        self.ticket = number
        with suppress(OSError):
            self.connection.send(dict(ticket))

    def end(self) -> None:
        """End the process, whatever it is doing."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.reap()

    def reap(self) -> int:
        """Wait for the end of the process; its exit code, negative for a signal."""
        self.connection.close()
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


class _Crew:
    """The workers of one stream. in_hand: what they last reported of each part."""

    def __init__(
        self, steps: Sequence[Step], tickets: Sequence[Mapping[str, Any]], stall_timeout_s: float | None
    ) -> None:
        self._makers = [step.make for step in steps]
        self._name = steps[-1].name
        self._tickets = tickets
        self._most = min(max(step.pool.workers for step in steps), len(tickets))
        self._stall_timeout_s = stall_timeout_s
        self._losses = [0] * len(tickets)
        self._left = deque(range(len(tickets)))
        self._workers: list[_Worker] = []
        self.in_hand: dict[int, Mapping[str, int]] = {}

    def rows(self) -> Generator[dict[str, Any], None, None]:
        """Do all tickets."""
        try:
            done, moved = 0, time.monotonic()
            while done < len(self._tickets):
                self._employ()
                ready = wait([worker.connection for worker in self._workers], self._patience(moved))
                if not ready:
                    raise self._stalled()
                moved = time.monotonic()
                for worker in [each for each in self._workers if each.connection in ready]:
                    rows = self._heard(worker)
                    if rows is not None:
                        done += 1
                        yield from rows
        finally:
            for worker in self._workers:
                worker.end()

    def _employ(self) -> None:
        """Give everybody something to do, and take on more where there is more."""
        while self._left and len(self._workers) < self._most:
            self._workers.append(_Worker(self._makers))
            self._hand(self._workers[-1])
        for worker in self._workers:
            if self._left and worker.ticket is None:
                self._hand(worker)

    def _hand(self, worker: _Worker) -> None:
        number = self._left.popleft()
        worker.hand(number, self._tickets[number])

    def _heard(self, worker: _Worker) -> list[dict[str, Any]] | None:
        """The rows of a ticket that is done, if that was the news."""
        try:
            kind, news = worker.connection.recv()
        except (EOFError, OSError):
            self._lost(worker)
            return None
        if kind == _REPORT:
            part, counts = news
            self.in_hand[part] = counts
            return None
        if kind == _FAILURE:
            raise revive(news)
        if kind == _BUG:
            error, trace = news
            raise error from RuntimeError(trace)
        worker.ticket = None
        return list(news)

    def _lost(self, worker: _Worker) -> None:
        """Have the ticket of a dead worker done again."""
        self._workers.remove(worker)
        code = worker.reap()
        if worker.ticket is None:
            return
        self._losses[worker.ticket] += 1
        if self._losses[worker.ticket] >= _MOST_LOSSES:
            ended = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise ClusterError(
                f"a worker of {self._name} died {_MOST_LOSSES} times over one unit, the last with {ended}",
                "see whether the machine has enough memory; the same command goes on from here",
            )
        self._left.appendleft(worker.ticket)

    def _patience(self, moved: float) -> float | None:
        if self._stall_timeout_s is None:
            return None
        return max(0.0, moved + self._stall_timeout_s - time.monotonic())

    def _stalled(self) -> ClusterError:
        held = sum(worker.ticket is not None for worker in self._workers)
        return ClusterError(
            f"no progress for {self._stall_timeout_s:g} s: "
            f"the workers of {self._name} do not finish what they have in hand ({held})",
            "see that the storage of photos and output answers; the same command goes on from here "
            "(enroll waits longer with run.stall_timeout_s)",
        )


@contextmanager
def _without_opencv_threads() -> Iterator[None]:
    """Have OpenCV end its threads before a fork: who tries it afterwards waits for ever."""
    cv2 = sys.modules.get("cv2")
    if cv2 is None:
        yield
        return
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


def _live(connection: Connection, makers: Sequence[Maker], parent: int) -> Never:
    """Be a worker to the end of this process."""
    try:
        _leave_family(parent)
        _serve(connection, makers, parent)
    except (EOFError, OSError):  # the parent is gone
        pass
    finally:
        # Not the usual end: that would close what is the parent's.
        os._exit(0)


def _leave_family(parent: int) -> None:
    """Outlive neither the parent nor its interrupt, which the parent handles for all."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    telemetry.forget_ray()
    # There is a worker for each CPU.
    threadpool_limits(1)


def _serve(connection: Connection, makers: Sequence[Maker], parent: int) -> None:
    def report(part: int, counts: Mapping[str, int]) -> None:
        with suppress(OSError):
            connection.send((_REPORT, (part, dict(counts))))

    works = None
    while True:
        while not connection.poll(_ORPHANED_S):
            if os.getppid() != parent:
                return
        ticket = connection.recv()
        try:
            if works is None:
                works = [make(Host(report=report)) for make in copy.deepcopy(makers)]
            table = pa.Table.from_pylist([ticket])
            for work in works:
                table = work(table)
            news: tuple[str, Any] = (_ROWS, table.to_pylist())
        except EXPECTED as error:
            news = (_FAILURE, as_text(error))
        except Exception as error:  # noqa: BLE001 - the parent raises it
            news = (_BUG, (error, traceback.format_exc()))
        _send(connection, news)


def _send(connection: Connection, news: tuple[str, Any]) -> None:
    """Send news; of an error that cannot travel its kind."""
    try:
        connection.send(news)
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - whatever its own pickling does; nothing is sent then
        error, trace = news[1]
        connection.send((_BUG, (RuntimeError(type(error).__name__), trace)))
