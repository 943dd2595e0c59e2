"""What it costs to start: CPU seconds of commands that work on one or two photos, and of what they import.

    python benchmarks/start_costs.py A.jpg B.jpg [--repeat 7]

Two photos, of one face each. A command is counted with all processes that it starts and waits for; none of
these leaves one behind. The last line is one JSON object: of each command the least and the median of the
repeats, in CPU seconds, and the wall seconds of the quickest.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_FRPIPE = (sys.executable, "-m", "frpipe.cli.main")
# Byte code is kept, as by any installation.
_ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}


@dataclass(frozen=True, slots=True)
class Usage:
    """One run of a command."""

    wall_s: float
    cpu_s: float


def main() -> None:
    """Measure the commands in turns, and print."""
    parser = argparse.ArgumentParser(description="CPU seconds of short commands.")
    parser.add_argument("a", type=Path, help="a photo of one face")
    parser.add_argument("b", type=Path, help="another of a face")
    parser.add_argument("--repeat", type=int, default=7, help="runs of each command (default: %(default)s)")
    options = parser.parse_args()
    a, b = str(options.a.resolve()), str(options.b.resolve())
    with tempfile.TemporaryDirectory() as folder:
        gallery = f"{folder}/gallery"
        _run(*_FRPIPE, "gallery", "create", gallery)
        _run(*_FRPIPE, "gallery", "enroll", gallery, "--photo", a, "--id", "1")
        commands = {
            "verify": (*_FRPIPE, "verify", a, b),
            "identify": (*_FRPIPE, "identify", b, "--gallery", gallery),
            "gallery_list": (*_FRPIPE, "gallery", "list", gallery),
            "models_list": (*_FRPIPE, "models", "list"),
            "help": (*_FRPIPE, "--help"),
            "import_workers": (sys.executable, "-c", "import frpipe.stages.workers"),
            "import_enroll": (sys.executable, "-c", "import frpipe.jobs.enroll.job"),
        }
        found = _measured(commands, options.repeat)
    print(json.dumps({name: _summary(usages) for name, usages in found.items()}))


def _measured(commands: Mapping[str, Sequence[str]], repeat: int) -> dict[str, list[Usage]]:
    """Each command `repeat` times, in turns, after one run that does not count."""
    found: dict[str, list[Usage]] = {name: [] for name in commands}
    for number in range(repeat + 1):
        for name, command in commands.items():
            usage = _run(*command)
            if number:
                found[name].append(usage)
    return found


def _run(*command: str) -> Usage:
    started = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(command, env=_ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            output.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{output.read().decode(errors='replace')}")
    return Usage(time.perf_counter() - started, used.ru_utime + used.ru_stime)


def _summary(usages: Sequence[Usage]) -> dict[str, float]:
    cpu = [usage.cpu_s for usage in usages]
    return {
        "cpu_s": round(min(cpu), 2),
        "cpu_s_median": round(statistics.median(cpu), 2),
        "wall_s": round(min(usage.wall_s for usage in usages), 2),
    }


if __name__ == "__main__":
    main()
