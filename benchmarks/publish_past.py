"""What it costs to publish one more night, by the nights that are in the tables already.

    python benchmarks/publish_past.py --nights 30 100 365
    python benchmarks/publish_past.py --against ../older           # another tree of frpipe, in turns

The past is made of random vectors: whole months in one run each, the nights of the last month as they come.
Then a night comes of which all photos are new, and one of which a hundredth were known, each into a copy of
the tables. A process of its own publishes it, and says what it has spent, held and read since its imports.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import publish as runs

from frpipe.jobs.publish.job import Published, Publishing
from frpipe.jobs.publish.sources import result_at

FIRST, MONTH = date(2026, 1, 1), 30
AGAIN = 100
"""Of so many photos of a night one was known."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nights", type=int, nargs="+", default=[30, 100, 365], metavar="N")
    parser.add_argument("--photos", type=int, default=1000, metavar="N", help="photos of a night")
    parser.add_argument("--dim", type=int, default=128, metavar="N", help="numbers of a vector")
    parser.add_argument("--layout", choices=("delta", "parquet"), default="delta")
    parser.add_argument("--against", metavar="FOLDER", help="another tree of frpipe")
    parser.add_argument("--publish", nargs=3, metavar=("TABLES", "OUT", "NIGHT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    runs.DIM = options.dim
    if options.publish:
        tables, out, night = options.publish
        print(json.dumps(_spent(tables, out, night, options.layout)))
        return
    report: dict[str, Any] = {"photos_a_night": options.photos, "dim": options.dim, "layout": options.layout}
    with tempfile.TemporaryDirectory() as folder:
        done = 0
        for count in sorted(options.nights):
            _grow(Path(folder), done, count, options)
            report[f"{count} nights"] = _measured(Path(folder), count, options)
            done = count
            print(json.dumps(report), flush=True)


def _grow(place: Path, start: int, stop: int, options: argparse.Namespace) -> None:
    """Publish the nights from `start` up to `stop`."""
    while start < stop:
        last = start + (MONTH if start + MONTH <= stop and start % MONTH == 0 else 1)
        ids = np.arange(start * options.photos, last * options.photos)
        out = _made(place / f"past-{start}", ids, start)
        _publish(str(place / "tables"), out, _day(start), options.layout)
        shutil.rmtree(place / f"past-{start}")
        start = last


def _measured(place: Path, nights: int, options: argparse.Namespace) -> dict[str, Any]:
    count = nights * options.photos
    new = np.arange(count, count + options.photos)
    known = np.random.default_rng(1).choice(count, max(1, options.photos // AGAIN), replace=False)
    kinds = {"new": new, "a hundredth known": np.sort(np.concatenate([new[len(known) :], known]))}
    trees = {
        "this": str(Path(__file__).parents[1]),
        **({"other": options.against} if options.against else {}),
    }
    found: dict[str, Any] = {}
    for kind, ids in kinds.items():
        out = _made(place / "night", ids, nights)
        found[kind] = {}
        for name, tree in trees.items():
            shutil.copytree(place / "tables", place / "copy")
            words = ["--layout", options.layout, "--dim", str(options.dim)]
            published = ["--publish", str(place / "copy"), out, _day(nights)]
            environment = {**os.environ, "PYTHONPATH": tree}
            command = [sys.executable, __file__, *words, *published]
            text = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True, env=environment
            ).stdout
            found[kind][name] = json.loads(text.splitlines()[-1])
            shutil.rmtree(place / "copy")
        shutil.rmtree(place / "night")
    return found


def _day(night: int) -> str:
    return (FIRST + timedelta(days=night)).isoformat()


def _made(place: Path, ids: np.ndarray, night: int) -> str:
    return runs._made(place, ids, _day(night)).uri


def _publish(tables: str, out: str, night: str, layout: Any) -> Published:
    found = replace(result_at(out, "bench"), night=date.fromisoformat(night))
    return Publishing(tables, lambda _: ((found,), ()), layout=layout).run()


def _spent(tables: str, out: str, night: str, layout: Any) -> dict[str, Any]:
    # What is imported at the first publication is none of a night's.
    with tempfile.TemporaryDirectory() as folder:
        first = _made(Path(folder) / "first", np.arange(2), 0)
        _publish(f"{folder}/tables", first, _day(0), layout)
    before, start, held = _read_bytes(), time.process_time(), _peak()
    done = _publish(tables, out, night, layout)
    return {
        "cpu_s": round(time.process_time() - start, 2),
        "read_mb": round((_read_bytes() - before) / 1e6, 1),
        "peak_mb": round(_peak() - held),
        "written_mb": round(sum(each.bytes for each in done.written.values()) / 1e6, 1),
        "files": {name: done.tables[name]["files"] for name in ("photos", "faces")},
    }


def _read_bytes() -> int:
    """Bytes that this process has read, from files or their cache."""
    return int(Path("/proc/self/io").read_text().split()[1])


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
