"""Commands as a user runs them, stopped by signals, and what they must leave: nothing, and a way on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import frozen
import yaml
from enrollment import ROOT
from frozen import THRESHOLD, Frozen

from frpipe.io.output import run

# What native code, an interpreter or a library says where it was not asked.
_DUMPS = ("*** SIG", "Fatal Python", "Segmentation", "Traceback", "core dumped", "Exception ignored", "bug")
# In every stack of it.
_PROGRAM = "return _program("
_PATIENCE_S = 20.0
_TIMES = 4
FEATURES, GALLERY = "features", "gallery"
PHASES = ("start", "start of Ray", "claimed", "first part", "midway", "sealing", "end")


@dataclass(frozen=True)
class Command:
    """A command line without the place that it writes to. content: what must be as in an undisturbed run."""

    name: str
    words: Callable[[Path], list[str]]
    content: Callable[[Path], Any]

    def start(self, place: Path, log: Path, **environment: str) -> subprocess.Popen[bytes]:
        """Start it in a process group of its own."""
        with log.open("wb") as said:
            return subprocess.Popen(
                [sys.executable, *self.words(place)],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def finish(self, place: Path, log: Path) -> None:
        """Run it to its end."""
        with self.start(place, log) as process:
            code = process.wait(300)
        assert code == 0, f"{self.name}: {code}\n{log.read_text()}"


@dataclass(frozen=True)
class Stop:
    """A signal, so long after a phase has begun.

    group: to all processes of the terminal's job, not to one.  again_s: a second one so much later.
    """

    number: signal.Signals
    phase: str
    after_s: float
    group: bool = False
    again_s: float | None = None

    def __str__(self) -> str:
        twice = f", again after {self.again_s:g} s" if self.again_s else ""
        whom = "group" if self.group else "driver"
        return f"{self.number.name} to the {whom}, {self.phase} and {self.after_s:.2f} s{twice}"


def disturbed(command: Command, stop: Stop, place: Path, log: Path) -> str:
    """Stop a command, and see how it ends; returns the phase that the signal hit."""
    mark = f"stopped-{uuid.uuid4().hex}"
    with command.start(place, log, FRPIPE_RUN=mark) as process:
        while process.poll() is None and PHASES.index(_phase(place, mark)) < PHASES.index(stop.phase):
            time.sleep(0.01)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(stop.after_s)
        phase = _phase(place, mark) if process.poll() is None else "end"
        _send(process, stop)
        sent = time.monotonic()
        if stop.again_s is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(stop.again_s)
            _send(process, stop)
        try:
            code = process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"{command.name} does not end: {stop}\n{log.read_text()}") from None
    said = log.read_text()
    what = f"{command.name}: {stop}, {phase}: {code}\n{said}"
    while left := _marked(mark):
        assert time.monotonic() < sent + _PATIENCE_S, f"{left} are left of {what}"
        time.sleep(0.05)
    # Until anything of ours is loaded, Python itself or the system ends it.
    if code == -stop.number and phase == "start" and _PROGRAM not in said:
        return "before the program"
    assert not any(word in said for word in _DUMPS), what
    if phase == "end" and code in (0, -stop.number):
        return phase
    assert code == 128 + stop.number, what
    assert f"stopped by {stop.number.name}" in said, what
    return phase


def _send(process: subprocess.Popen[bytes], stop: Stop) -> None:
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if stop.group else os.kill)(process.pid, stop.number)


def _phase(place: Path, mark: str) -> str:
    """How far a command is, by what it has written and started."""
    there = {path.name for path in place.rglob("*")}
    if run.SUCCESS in there and not any(name.startswith("night") for name in there):
        return "end"
    if run.FILES in there:
        return "sealing"
    parts = sum(name.startswith("part-") for name in there)
    if parts:
        return "first part" if parts == 1 else "midway"
    if run.RUN in there:
        return "claimed"
    return "start of Ray" if any("gcs_server" in line for line in _marked(mark)) else "start"


def _marked(mark: str) -> list[str]:
    """The command lines of processes that bear a mark, those that it has started too."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return [each for each in found if each]


def commands(home: Frozen) -> dict[str, Command]:
    """The jobs that are stopped, on this machine's processes and on Ray. See `prepare`."""

    def job(name: str, *words: object) -> Callable[[Path], list[str]]:
        return lambda out: [f"jobs/{name}.py", *map(str, words), "--output", str(out)]

    settings = [word for each in _settings() for word in ("--set", each)]
    enroll = job("enroll", "--manifest", _many_photos(home), *settings)
    here = "--threshold", THRESHOLD, "--executor", "local"
    probes = "--probes", home / FEATURES, "--gallery", home / GALLERY
    source = "--features", home / FEATURES, "--block-rows", 3
    found = [
        Command("enroll", enroll, frozen.enrolled),
        Command("identify", job("identify", *probes, "--probe-rows", 3, *here), frozen.identified),
        Command("dedup", job("dedup", *source, *here), frozen.duplicates),
        Command("nightly", partial(_night, home), _night_content),
        Command("enroll on Ray", lambda out: [*enroll(out), "--executor", "ray"], frozen.enrolled),
    ]
    return {command.name: command for command in found}


def prepare(home: Frozen) -> None:
    """Make what the jobs behind enroll read."""
    commands(home)["enroll"].finish(home / FEATURES, home / "log")
    words = ["jobs/consolidate.py", "--features", str(home / FEATURES), "--gallery"]
    Command("consolidate", lambda out: [*words, str(out)], str).finish(home / GALLERY, home / "log")


def _many_photos(home: Frozen) -> Path:
    """A manifest that has the photos several times."""
    head, *lines = (home / "photos.csv").read_text(encoding="utf-8").splitlines()
    again = [f"{time}-{line}" for time in range(_TIMES) for line in lines]
    (home / "many.csv").write_text("\n".join([head, *again]) + "\n", encoding="utf-8")
    return home / "many.csv"


def _settings() -> list[str]:
    return [*frozen.settings(part_rows=3), "detect.not_photographs=keep"]


def _night(home: Frozen, place: Path) -> list[str]:
    settings = yaml.safe_load((home / "night.yaml").read_text(encoding="utf-8"))
    settings |= {"runs": str(place), "gallery": f"{place}.gallery", "photos": str(home / "album")}
    config = place.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return ["jobs/nightly.py", "--config", str(config), "--date", "2026-03-04"]


def _night_content(place: Path) -> Any:
    night, gallery = place / "2026-03-04", frozen.gallery(Path(f"{place}.gallery"))
    rows = frozen.enrolled(night / "enroll")
    return rows, gallery["templates"], gallery["people"], len(gallery["versions"])
