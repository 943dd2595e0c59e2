"""The executor without Ray: worker processes of this machine, forked from the job's own.

A forked worker has what the job has imported already, so a small run costs no start. It copies what it is
told first, as if that came from elsewhere: connections to stores do not outlive a fork.
"""

from __future__ import annotations

import copy
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import takewhile
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, ClassVar, Never

import pyarrow as pa
from threadpoolctl import threadpool_limits

from frpipe.core.errors import ClusterError
from frpipe.runtime import stop, telemetry
from frpipe.runtime.allocation import Node
from frpipe.runtime.cpus import usable_cpus
from frpipe.runtime.executor import STALL_TIMEOUT_S, Executor, Maker, Read, Step, Watch
from frpipe.runtime.failure import EXPECTED, as_text, revive
from frpipe.runtime.host import Host
from frpipe.runtime.parent_death import die_with_parent

# So often may one ticket lose its worker: what counts the losses of a part gives up sooner.
_MOST_LOSSES = 12
_ORPHANED_S = 5.0
_ROWS, _FAILURE, _BUG, _REPORT = "rows", "failure", "bug", "report"
_VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"


class LocalExecutor(Executor):
    """Worker processes of this machine, each of which does all steps of its tickets."""

    name: ClassVar[str] = "local"

    def __init__(self, nodes: Sequence[Node] = ()) -> None:
        """Offer machines to workers.

        nodes: what is offered; empty for this machine, with the CPUs and GPUs of this process.
        """
        self._nodes = nodes or [Node(float(usable_cpus()), float(len(_visible_gpus())))]

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
        crew = _Crew(steps, tickets, stall_timeout_s, self._gpus_for(steps))
        if watch is not None:
            watch(crew.in_hand.copy)
        # Closed at once, however it is left: else workers go on.
        with stop.at_worst(crew.kill), closing(crew.rows()) as rows:
            yield from rows

    def share(self, read: Read) -> Read:
        return read

    def _gpus_for(self, steps: Sequence[Step]) -> list[str]:
        """Names of the GPUs that workers share, where a step needs one."""
        if not any(step.pool.num_gpus for step in steps):
            return []
        return _visible_gpus() or [str(number) for number in range(int(self._nodes[0].gpus))]


def _visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use: as CUDA, none behind one that is not there."""
    named = os.environ.get(_VISIBLE_GPUS)
    if named is None:
        return _gpus()
    return list(takewhile(lambda name: name not in ("", "-1"), map(str.strip, named.split(","))))


def _gpus() -> list[str]:
    """Names of the GPUs of this machine."""
    return [str(number) for number, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]


class _Worker:
    """The parent's side of a worker process.

    place: among the workers of a crew; that of a dead one is taken again.
    """

    def __init__(self, place: int) -> None:
        self.place = place
        self.ticket: int | None = None
        self.pid = 0
        self.connection, self._theirs = Pipe()

    def start(self, makers: Sequence[Maker], gpu: str | None) -> None:
        """Start the process. Raises OSError where the machine has no room for it."""
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        parent = os.getpid()
        with stop.held(), _held_signals() as before:
            self.pid = os.fork()
            if not self.pid:
                _live(self, makers, gpu, parent, before)
        self._theirs.close()

    def be(self) -> Connection:
        """Take the worker's side; in its process."""
        self.connection.close()
        return self._theirs

    def hand(self, number: int, ticket: Mapping[str, Any]) -> None:
        """Give the worker a ticket; one that is dead takes it too, and is found to be dead later."""
        self.ticket = number
        with suppress(OSError):
            self.connection.send(dict(ticket))

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def reap(self) -> int:
        """Wait for the end of the process; its exit code, negative for a signal, 0 where it is not known."""
        self.connection.close()
        self._theirs.close()
        # Where SIGCHLD is ignored, the system waits for children itself.
        with suppress(ChildProcessError):
            if self.pid:
                return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return 0


class _Crew:
    """The workers of one stream. in_hand: what they last reported of each part that is not done."""

    def __init__(
        self,
        steps: Sequence[Step],
        tickets: Sequence[Mapping[str, Any]],
        stall_timeout_s: float | None,
        gpus: Sequence[str],
    ) -> None:
        self._makers = [step.make for step in steps]
        self._name = " and ".join(step.name for step in steps)
        self._tickets = tickets
        self._most = min(max(step.pool.workers for step in steps), len(tickets))
        self._stall_timeout_s = stall_timeout_s
        self._gpus = gpus
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
                        for part in [row["part"] for row in rows if "part" in row]:
                            self.in_hand.pop(part, None)
                        yield from rows
        finally:
            with stop.held():
                self.kill()
                for worker in self._workers:
                    worker.reap()

    def kill(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.kill()

    def _employ(self) -> None:
        """Give every worker something to do, and start more where there is more."""
        if self._left and len(self._workers) < self._most:
            with _without_opencv_threads(), threadpool_limits(1):
                self._take_on()
        for worker in self._workers:
            if self._left and worker.ticket is None:
                self._hand(worker)

    def _take_on(self) -> None:
        while self._left and len(self._workers) < self._most:
            try:
                worker = self._started()
            except OSError as error:
                if not self._workers:
                    raise _too_few_processes(error) from None
                # The workers that have started do it all.
                self._most = len(self._workers)
            else:
                self._hand(worker)

    def _started(self) -> _Worker:
        taken = {worker.place for worker in self._workers}
        place = next(place for place in range(self._most) if place not in taken)
        worker = _Worker(place)
        # Before it starts: else nobody would end it where an interrupt comes in between.
        self._workers.append(worker)
        try:
            worker.start(self._makers, self._gpus[place % len(self._gpus)] if self._gpus else None)
        except OSError:
            self._workers.remove(worker)
            worker.reap()
            raise
        return worker

    def _hand(self, worker: _Worker) -> None:
        number = self._left.popleft()
        worker.hand(number, self._tickets[number])

    def _heard(self, worker: _Worker) -> list[dict[str, Any]] | None:
        """Take the news of a worker: the rows of a ticket, if it is done."""
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


def _too_few_processes(error: OSError) -> ClusterError:
    return ClusterError(
        f"no worker process could be started: {error.strerror or type(error).__name__}",
        "see whether the machine has memory left, and how many processes (ulimit -u) and open files "
        "(ulimit -n) it allows",
    )


@contextmanager
def _held_signals() -> Iterator[set[int]]:
    """Hold signals back from this thread; yields those that were held back before.

    What a job does at an interrupt, a worker that has hardly been forked must not do too.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stop.SIGNALS)
    try:
        yield {int(each) for each in before}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _without_opencv_threads() -> Iterator[None]:
    """Have OpenCV end its threads before a fork: a child that uses them would wait for ever."""
    cv2 = sys.modules.get("cv2")
    if cv2 is None:
        yield
        return
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _live(
    worker: _Worker, makers: Sequence[Maker], gpu: str | None, parent: int, signals: Iterable[int]
) -> Never:
    """Work as a worker until this process ends. signals: which are held back from now on."""
    try:
        _leave_family(parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        _take_place(gpu)
        _serve(worker.be(), makers, parent)
    except (EOFError, OSError):  # the parent is gone
        pass
    finally:
        # Not the usual end: that would close what is the parent's.
        os._exit(0)


def _leave_family(parent: int) -> None:
    """End with the parent, who handles signals for all."""
    stop.forget()
    die_with_parent()
    if os.getppid() != parent:
        os._exit(0)
    telemetry.forget_ray()


def _take_place(gpu: str | None) -> None:
    """Take a GPU of one's own, as on Ray, and keep standard output for what the job writes."""
    # For libraries that are loaded from now on.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if gpu is not None:
        os.environ[_VISIBLE_GPUS] = gpu
    with suppress(OSError):
        os.dup2(2, 1)


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
            _send_bug(connection, error, traceback.format_exc())
            continue
        connection.send(news)


def _send_bug(connection: Connection, error: Exception, trace: str) -> None:
    """Send an error; only its kind where it cannot be pickled, or not be made again from its parts."""
    try:
        copy.copy(error)
        connection.send((_BUG, (error, trace)))
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - whatever its own pickling does; nothing is sent then
        connection.send((_BUG, (RuntimeError(type(error).__name__), trace)))
