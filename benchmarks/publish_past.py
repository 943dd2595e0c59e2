"""What it costs to publish one more night, by the nights that are in the tables already.

    python benchmarks/publish_past.py --nights 30 100 365

The past is made of random vectors: whole months in one run each, the last month night by night. Then a night
comes of which all photos are new, and one of which a hundredth were known. Each is published by a process of
its own, which says what it has spent, held and read. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import publish as runs

from frpipe.jobs.publish.job import Publishing
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
    parser.add_argument("--publish", nargs=3, metavar=("TABLES", "OUT", "NIGHT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    runs.DIM = options.dim
    if options.publish:
        print(json.dumps(_spent(*options.publish, options.layout)))
        return
    report: dict[str, Any] = {"photos_a_night": options.photos, "dim": options.dim, "layout": options.layout}
    for count in sorted(options.nights):
        with tempfile.TemporaryDirectory() as folder:
            report[f"{count} nights"] = _measured(Path(folder), count, options)
        print(json.dumps(report), flush=True)


def _measured(place: Path, nights: int, options: argparse.Namespace) -> dict[str, Any]:
    past = np.arange(nights * options.photos)
    months = max(0, nights - 1) // MONTH
    bounds = [*(month * MONTH for month in range(months + 1)), *range(months * MONTH + 1, nights + 1)]
    for start, stop in pairwise(bounds):
        ids = past[start * options.photos : stop * options.photos]
        _published(place, f"past-{start}", ids, start, options)
    new = np.arange(len(past), len(past) + options.photos)
    known = np.random.default_rng(1).choice(past, options.photos // AGAIN, replace=False)
    found = {"new": _published(place, "new", new, nights, options)}
    mixed = np.sort(np.concatenate([new[len(known) :] + options.photos, known]))
    return {**found, "a hundredth known": _published(place, "mixed", mixed, nights + 1, options)}


def _published(
    place: Path, name: str, ids: np.ndarray, night: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Publish a night in a process of its own; returns what that took."""
    day = (FIRST + timedelta(days=night)).isoformat()
    out = runs._made(place / name, ids, day)
    words = ["--layout", options.layout, "--dim", str(options.dim)]
    command = [sys.executable, __file__, *words, "--publish", str(place / "tables"), out.uri, day]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    spent: dict[str, Any] = json.loads(text.splitlines()[-1])
    return spent


def _spent(tables: str, out: str, night: str, layout: Any) -> dict[str, Any]:
    found = replace(result_at(out, "bench"), night=date.fromisoformat(night))
    before, start, held = _read_bytes(), time.process_time(), _peak()
    done = Publishing(tables, lambda _: ((found,), ()), layout=layout).run()
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
