"""Lines now and then on how far a long job is."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from frpipe.core.pulse import clock
from frpipe.core.reasons import Status
from frpipe.runtime.executor import Look
from frpipe.runtime.host import LOCATED

Say = Callable[[str], None]
_EVERY_S = 5.0
_LOOK_S = 1.0


class Progress:
    """Count what is done of a known total, and say so at most every few seconds and at the end.

    Entered with `with`, it notes on an interrupt how far it was.
    work: in all, where what is counted differs in how long it takes; the time left goes by it.
    """

    def __init__(self, total: int, noun: str, say: Say, work: int | None = None) -> None:
        self._total, self._noun, self._say = total, noun, say
        self._all = total if work is None else work
        self._counts: Counter[str] = Counter()
        self._done = self._worked = 0
        self._start = self._said = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _note(error, self._done, self._total, self._noun)

    def add(self, done: int, counts: Mapping[str, int] | None = None, work: int | None = None) -> None:
        """Count what was done. counts: what to show beside it, by name.  work: what that was of all of it."""
        self._done += done
        self._worked += done if work is None else work
        self._counts.update(counts or {})
        now = time.monotonic()
        if now - self._said >= _EVERY_S or self._done >= self._total:
            self._said = now
            self._say(self._line(now - self._start))

    def _line(self, seconds: float) -> str:
        counts = "".join(f"  {name} {count:,}" for name, count in self._counts.items())
        left = max(0, self._all - self._worked) * seconds / max(self._worked, 1)
        return f"{share_text(self._done, self._total, self._noun, seconds, left)}{counts}"


class PhotoProgress:
    """Count published parts, and photos in hand, and say so at most every few seconds and at the end.

    What is in hand is asked for between `with` and its end, and never for what must be right.
    """

    def __init__(self, rows: int, say: Say) -> None:
        self._rows = rows
        self._say = say
        self._in_hand: Look = dict
        self._counts: Counter[str] = Counter()
        self._published: set[int] = set()
        self._held: dict[int, Mapping[str, int]] = {}
        self._refusal: Exception | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="progress", daemon=True)
        self._start = self._said = time.monotonic()
        self._shown: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _note(error, self.done, self._rows, "photos")
        self._over.set()
        self._watcher.join()

    @property
    def done(self) -> int:
        """The number of rows published so far."""
        return _photos(self._counts)

    @property
    def seconds(self) -> float:
        """The time since the first row could have started."""
        return time.monotonic() - self._start

    def watch(self, in_hand: Look) -> None:
        """Ask from now on how far workers are with each part."""
        self._in_hand = in_hand

    def add(self, receipt: Mapping[str, int]) -> None:
        """Count a published part. Raises what `say` has raised meanwhile."""
        if self._refusal is not None:
            raise self._refusal
        counts = dict(receipt)
        with self._lock:
            part = counts.pop("part")
            self._published.add(part)
            self._held.pop(part, None)
            self._counts.update({name: int(count) for name, count in counts.items()})
            self._tell(at_once=self.done >= self._rows)

    def look(self) -> None:
        """Count the photos that are in hand now."""
        parts = self._in_hand()
        with self._lock:
            self._held = {part: held for part, held in parts.items() if part not in self._published}
            self._tell()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_S):
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - such as a lease that is lost: the next receipt raises it
                self._refusal = error
                return

    def _tell(self, at_once: bool = False) -> None:
        held: Counter[str] = Counter()
        for counts in self._held.values():
            held.update(counts)
        located = max(0, held.pop(LOCATED, 0) - _photos(held))
        line = self._line(self._counts + held, located)
        shown = (self.done + _photos(held), located)
        if at_once or (shown != self._shown and time.monotonic() - self._said >= _EVERY_S):
            self._said, self._shown = time.monotonic(), shown
            self._say(line)

    def _line(self, counts: Mapping[str, int], located: int) -> str:
        done = _photos(counts)
        rate = done / max(self.seconds, 1e-9)
        left = max(0, self._rows - done) / max(rate, 1e-9)
        statuses = "  ".join(f"{status.value} {counts[status.value]:,}" for status in Status)
        return (
            f"{done:,} of {self._rows:,} photos  {rate:,.1f}/s  {statuses}  "
            f"faces {counts['faces']:,}"
            + (f"  {clock(left)} left" if done else "")
            + (f"  {located:,} more located" if located else "")
        )


def share_text(done: int, total: int, noun: str, seconds: float, left: float | None = None) -> str:
    """Say how far and how fast: `1,024 of 4,096 probes  310/s  0:10 left`.

    left: seconds; None: by the rate so far.
    """
    rate = done / max(seconds, 1e-9)
    if left is None:
        left = max(0, total - done) / max(rate, 1e-9)
    return f"{done:,} of {total:,} {noun}  {rate:,.0f}/s  {clock(left)} left"


def _note(error: BaseException | None, done: int, total: int, noun: str) -> None:
    if isinstance(error, KeyboardInterrupt):
        error.add_note(f"{done:,} of {total:,} {noun} are done")


def _photos(counts: Mapping[str, int]) -> int:
    return sum(counts.get(status.value, 0) for status in Status)
