"""What it costs to start: CPU seconds of commands that work on one or two photos, and of what they import.

    python benchmarks/start_costs.py A.jpg B.jpg [--repeat 7]

Two photos, of one face each. A command is counted with all processes that it starts: those that it waits for,
and, where it may start Ray, all that bear its mark in their environment, looked at fifty times a second. The
last line is one JSON object: of each command the least and the median of the repeats, in CPU seconds, and the
wall seconds of the quickest. `enroll_*`: the two photos, four times each, through the job.
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
import uuid
from collections.abc import Callable, Mapping, Sequence
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
        found = _measured(commands, options.repeat, _run)
        manifest = Path(folder, "eight.csv")
        manifest.write_text("image_id,image_uri\n" + "".join(f"{n},{(a, b)[n % 2]}\n" for n in range(8)))
        jobs = {f"enroll_{name}": _enroll(manifest, name) for name in ("local", "ray")}
        found |= _measured(jobs, min(3, options.repeat), _sampled)
    print(json.dumps({name: _summary(usages) for name, usages in found.items()}))


def _enroll(manifest: Path, executor: str) -> tuple[str, ...]:
    """The job, into a folder that is removed first."""
    output = manifest.with_name(f"out-{executor}")
    code = (
        f"import shutil; shutil.rmtree({str(output)!r}, ignore_errors=True); "
        "import sys; from frpipe.cli.main import main; sys.exit(main())"
    )
    words = ("run", "enroll", "--manifest", str(manifest), "--output", str(output), "--executor", executor)
    return (sys.executable, "-c", code, *words)


def _measured(
    commands: Mapping[str, Sequence[str]], repeat: int, run: Callable[..., Usage]
) -> dict[str, list[Usage]]:
    """Each command `repeat` times, in turns, after one run that does not count."""
    found: dict[str, list[Usage]] = {name: [] for name in commands}
    for number in range(repeat + 1):
        for name, command in commands.items():
            usage = run(*command)
            if number:
                found[name].append(usage)
    return found


def _sampled(*command: str) -> Usage:
    """Run a command, and add up what all processes with its mark have used when they were last seen."""
    mark, used, started = uuid.uuid4().hex, {}, time.perf_counter()
    environment = {**_ENVIRONMENT, "FRPIPE_BENCHMARK": mark}
    ours: dict[tuple[str, str], bool] = {}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        while child.poll() is None:
            for stat in Path("/proc").glob("[0-9]*/stat"):
                try:
                    fields = stat.read_text().rpartition(")")[2].split()
                    key = (stat.parent.name, fields[19])
                    if key not in ours:
                        ours[key] = mark.encode() in stat.with_name("environ").read_bytes()
                except OSError:
                    continue
                if ours[key]:
                    used[key] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            time.sleep(0.02)
    if child.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit code {child.returncode}")
    return Usage(time.perf_counter() - started, sum(used.values()))


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
