"""Lease with a heartbeat: one night runs at a time, on any storage that can create a file exclusively.

Leases are numbered files, and the highest number holds. A rival takes over by creating the next number, and
only one of any number of rivals can do so. A number is also a fencing token: a holder that finds a higher one
has lost.

Clocks of different machines are never compared. A holder rewrites its file every sixth of `expires_s`. A
rival watches the file by its own clock. If it changes, the holder is alive and the rival gives up; if it
stays the same for `expires_s` (the longer of both settings), the holder is dead. A holder that cannot write
for so long takes itself for dead.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from frpipe.core.errors import FrpipeError, OutputError
from frpipe.io.storage.folder import Folder

Say = Callable[[str], None]
LEASES = "_lease"
_BEATS = 6


@dataclass(frozen=True, slots=True)
class Holder:
    """Identity of a process that holds a lease.

    born: when the process began, in ticks of its machine, as process ids are reused.  machine: kernel and
    process namespace, in which an id names one process; empty: unknown.  since, beat: UTC.  expires_s: of the
    holder's configuration; 0: written by a version that did not record it.
    """

    night: str
    token: str
    host: str
    pid: int
    born: str
    machine: str
    since: str
    beat: str
    released: bool = False
    expires_s: float = 0.0

    @classmethod
    def me(cls, night: str, expires_s: float = 0.0) -> Holder:
        """The identity of this process."""
        pid, since, token = os.getpid(), now(), uuid.uuid4().hex
        host, machine = socket.gethostname(), _machine()
        return cls(night, token, host, pid, _born(pid), machine, since, since, expires_s=expires_s)

    @property
    def known_dead(self) -> bool:
        """Whether the holder was a process of this machine that no longer exists."""
        return bool(self.machine) and self.machine == _machine() and _born(self.pid) != self.born

    def __str__(self) -> str:
        return f"the night of {self.night}, since {self.since} on {self.host}, process {self.pid}"

    def encoded(self) -> bytes:
        """Stored form of the holder."""
        return (json.dumps(asdict(self), indent=1) + "\n").encode()


def now() -> str:
    """The current time, UTC, fine enough to tell one heartbeat from the next."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _machine() -> str:
    """Identity of a kernel and a process namespace, within which process ids are unique; empty: unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _born(pid: int) -> str:
    """Start time of a process, in ticks since the start of the machine; empty: it does not exist."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else rest[18]


class LeaseError(FrpipeError, RuntimeError):
    """Error: another night is under way, or has taken over from this one."""

    code = "lease"
    exit_code = 15


class Lease:
    """A lease that is held. before: the last holder, with its last heartbeat; None where there was none."""

    def __init__(self, place: Folder, number: int, holder: Holder, expires_s: float, before: Holder | None):
        self._place, self._number, self._holder, self._expires_s = place, number, holder, expires_s
        self.before = before
        self._beaten = time.monotonic()
        self._lost_to: str | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise LeaseError where the lease is lost, by a look into the storage."""
        if self._lost_to is None and _highest(self._place) > self._number:
            self._lost_to = "another night has taken over"
        self.check_known()

    def check_known(self) -> None:
        """Raise LeaseError where the lease is known to be lost, without reading the storage.

        It is cheap enough for every line of progress.
        """
        if self._lost_to is None and time.monotonic() - self._beaten > self._expires_s:
            self._lost_to = "no heartbeat could be written for too long"
        if self._lost_to is not None:
            raise LeaseError(
                f"this night has lost its lease: {self._lost_to}",
                "nothing of its current step is recorded; the same command goes on once no other night runs",
            )

    def guarded(self, say: Say) -> Say:
        """Make a `say` that raises LeaseError once the lease is lost, so that a long step ends there."""

        def checked(line: str) -> None:
            self.check_known()
            say(line)

        return checked

    def release(self) -> None:
        """Release the lease, so that the next one need not wait."""
        self._ended.set()
        self._thread.join()
        with suppress(FrpipeError, OSError):
            self._write(replace(self._holder, beat=now(), released=True))

    def _beat(self) -> None:
        while not self._ended.wait(self._expires_s / _BEATS):
            begun = time.monotonic()
            # Storage may be away for a moment; `check_known` judges by the last beat that was written.
            with suppress(FrpipeError, OSError):
                self._write(replace(self._holder, beat=now()))
                if _highest(self._place) > self._number:
                    self._lost_to = "another night has taken over"
                    return
                self._beaten = begun

    def _write(self, holder: Holder) -> None:
        self._place.write(_name(self._number), holder.encoded())


@contextmanager
def lease(runs: Folder, night: str, expires_s: float, say: Say = lambda _: None) -> Iterator[Lease]:
    """Hold the lease of a folder of nights. Raises LeaseError where another night is alive."""
    place = runs.child(LEASES)
    held = _taken(place, Holder.me(night, expires_s), expires_s, say)
    try:
        yield held
    finally:
        held.release()


def _taken(place: Folder, me: Holder, expires_s: float, say: Say) -> Lease:
    while True:
        number, holder = _newest(place)
        live = holder is not None and not (holder.released or holder.known_dead)
        if holder is not None and live and not _stands_still(place, number, holder, expires_s, say):
            continue
        # A store that loses its answer may say no although the file is ours, and a slow rival may create a
        # number again that has come and gone meanwhile. So the file is read back.
        place.create(_name(number + 1), me.encoded())
        if _newest(place) == (number + 1, me):
            for old in _numbers(place):
                if old <= number:
                    place.delete(_name(old))
            return Lease(place, number + 1, me, expires_s, holder)


def _stands_still(place: Folder, number: int, holder: Holder, expires_s: float, say: Say) -> bool:
    """Watch a holder: True once it is dead, False if it has left. Raises LeaseError if it is alive."""
    say(f"{holder}, holds the lease; watching for its heartbeat")
    patience_s = max(expires_s, holder.expires_s)
    deadline, looked = time.monotonic() + patience_s, 0.0
    # The last look must begin after the deadline: one that took long, or was frozen, saw an earlier state.
    while looked < deadline:
        time.sleep(patience_s / _BEATS / 4)
        looked = time.monotonic()
        newest, seen = _newest(place)
        if newest != number or seen is None or seen.released:
            return False
        if seen.beat != holder.beat:
            raise LeaseError(
                f"another night is under way: {seen}, last heartbeat {seen.beat}",
                "wait for its end; one that has died is taken over by itself",
            )
    say(f"no heartbeat for {patience_s:g} s: taking over from {holder}")
    return True


def _newest(place: Folder) -> tuple[int, Holder | None]:
    """Read the highest number and its holder; 0 and None where there was none yet."""
    while numbers := _numbers(place):
        try:
            return max(numbers), Holder(**json.loads(place.read(_name(max(numbers)))))
        except FileNotFoundError:
            continue
        except (ValueError, TypeError):
            raise OutputError(
                "the lease of the nights cannot be read", f"remove the folder {LEASES} if no night runs"
            ) from None
    return 0, None


def _numbers(place: Folder) -> list[int]:
    return [int(entry.name[:-5]) for entry in place.list() if entry.name[:-5].isdecimal()]


def _highest(place: Folder) -> int:
    return max(_numbers(place), default=0)


def _name(number: int) -> str:
    return f"{number:09d}.json"
