"""What it costs to publish one more night, by the nights that are in the tables already.

    python benchmarks/publish_past.py --nights 30 100 365
    python benchmarks/publish_past.py --against ../older           # another tree of frpipe, in turns
    python benchmarks/publish_past.py --single --photos 20         # every night comes by itself
    python benchmarks/publish_past.py --rows 1000000 10000000      # tables without vectors, by their rows

The past is made of random vectors: whole months in one run each, the nights of the last month as they come.
Then a night comes of which all photos are new, and one of which a hundredth were known, each into a copy of
the tables. A process of its own publishes it, and says what it has spent, held and read since its imports.
With --single every night of the past is a publication, by each tree into tables of its own; the last ten
nights up to each number are counted together, and small files are merged at the end.
With --rows the tables are written at once, half a million photos a file, one face on each, and then one
person is erased from a copy, too; --spread gives each file ids from the whole range. The last line is one
JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import publish as runs
import pyarrow as pa

from frpipe.io.storage.folder import Folder
from frpipe.io.tables.table import Change, edited
from frpipe.jobs.erase.tables import TableErasure
from frpipe.jobs.publish import schema
from frpipe.jobs.publish.job import Published, Publishing
from frpipe.jobs.publish.root import Root
from frpipe.jobs.publish.rows import plain, with_run
from frpipe.jobs.publish.sources import Publication, result_at

FIRST, MONTH = date(2026, 1, 1), 30
AGAIN = 100
"""Of so many photos of a night one was known."""
FILE_ROWS, LAST = 500_000, 10


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nights", type=int, nargs="+", default=[30, 100, 365], metavar="N")
    parser.add_argument("--single", action="store_true", help="publish each night of the past by itself")
    parser.add_argument("--rows", type=int, nargs="+", metavar="N", help="rows of faces, in place of nights")
    parser.add_argument("--spread", action="store_true", help="with --rows: ids in no order of time")
    parser.add_argument("--photos", type=int, default=1000, metavar="N", help="photos of a night")
    parser.add_argument("--dim", type=int, default=128, metavar="N", help="numbers of a vector")
    parser.add_argument("--layout", choices=("delta", "parquet"), default="delta")
    parser.add_argument("--against", metavar="FOLDER", help="another tree of frpipe")
    parser.add_argument("--publish", nargs=3, metavar=("TABLES", "OUT", "NIGHT"), help=argparse.SUPPRESS)
    parser.add_argument("--come", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--erase", nargs=2, metavar=("TABLES", "WHO"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    runs.DIM = options.dim
    if options.publish:
        tables, out, night = options.publish
        print(json.dumps(_spent(lambda: _publish(tables, out, night, options.layout), options.layout)))
        return
    if options.erase:
        tables, who = options.erase
        print(json.dumps(_spent(lambda: _erased(tables, who), options.layout)))
        return
    if options.come:
        _come(Path(options.come), options)
        return
    report: dict[str, Any] = {"photos_a_night": options.photos, "dim": options.dim, "layout": options.layout}
    if options.single:
        for name, tree in _trees(options).items():
            with tempfile.TemporaryDirectory() as folder:
                nights = ["--nights", *map(str, options.nights), "--photos", str(options.photos)]
                report[name] = _by(tree, ["--come", folder, *nights], options)
        print(json.dumps(report))
        return
    with tempfile.TemporaryDirectory() as folder:
        done = 0
        for count in sorted(options.rows or options.nights):
            if options.rows:
                name, nights = f"{count} rows", 30 * (1 + count // FILE_ROWS)
                _lay(Path(folder), done, count, options)
            else:
                name, nights = f"{count} nights", count
                _grow(Path(folder), done, count, options)
            ids = count if options.rows else nights * options.photos
            report[name] = _measured(Path(folder), ids, nights, options)
            done = count
            print(json.dumps(report), flush=True)


def _lay(place: Path, start: int, stop: int, options: argparse.Namespace) -> None:
    """Write the rows from `start` up to `stop` into the tables, which a small run has begun."""
    uri = str(place / "tables")
    if not start:
        first = _made(place / "first", np.arange(10**9, 10**9 + 10), 0)
        _publish(uri, first, _day(0), options.layout, embeddings=False)
    root = Root.opened(uri)
    assert root is not None
    for at in range(start, stop, FILE_ROWS):
        ids = np.arange(at, min(at + FILE_ROWS, stop))
        when = datetime.fromisoformat(_day(MONTH * (at // FILE_ROWS))).replace(tzinfo=UTC)
        laid = Publication(f"laid-{at}", "enroll", "", "bench", when.date(), when, when)
        if options.spread:
            ids = np.sort(_scattered(ids))
        made = runs._tables(ids, np.random.default_rng(at))
        for spec, found in zip((schema.PHOTOS, schema.FACES), made, strict=True):
            table = root.table(spec)
            columns = {name: plain(found[name], name) for name in found.column_names}
            hashes = {name: pa.repeat(value, len(ids)) for name, value in runs.HASHES.items()}
            part = with_run(pa.table({**hashes, **columns}), laid, root.recipe)
            files = table.write(table.schema, [part])
            table.transact(lambda base, files=files: Change(edited(base, fresh=files)))  # type: ignore[misc]
    # People are counted by the next publication.
    _publish(uri, None, _day(0), options.layout)


def _scattered(ids: np.ndarray) -> np.ndarray:
    """Other numbers below 10**9, one of each: those of any range are spread over all of it."""
    return ids * 387_420_489 % 10**9


def _grow(place: Path, start: int, stop: int, options: argparse.Namespace) -> None:
    """Publish the nights from `start` up to `stop`."""
    while start < stop:
        last = start + (MONTH if start + MONTH <= stop and start % MONTH == 0 else 1)
        ids = np.arange(start * options.photos, last * options.photos)
        out = _made(place / f"past-{start}", ids, start)
        _publish(str(place / "tables"), out, _day(start), options.layout)
        shutil.rmtree(place / f"past-{start}")
        start = last


def _measured(place: Path, count: int, nights: int, options: argparse.Namespace) -> dict[str, Any]:
    new = np.arange(count, count + options.photos)
    known = np.random.default_rng(1).choice(count, max(1, options.photos // AGAIN), replace=False)
    if options.spread:
        new, known = _scattered(new), _scattered(known)
    kinds = {"new": new, "a hundredth known": np.sort(np.concatenate([new[len(known) :], known]))}
    found: dict[str, Any] = {}
    for kind, ids in kinds.items():
        out = _made(place / "night", ids, nights)
        found[kind] = _in_turns(place, ["--publish", str(place / "copy"), out, _day(nights)], options)
        shutil.rmtree(place / "night")
    if options.rows:
        who = f"{known[0] // runs.A_PERSON:08d}"
        found["one person erased"] = _in_turns(place, ["--erase", str(place / "copy"), who], options)
    return found


def _in_turns(place: Path, work: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """What it costs by each tree, on a copy of the tables."""
    found = {}
    for name, tree in _trees(options).items():
        # No file is written twice, but for small ones that are replaced whole.
        shutil.copytree(place / "tables", place / "copy", copy_function=os.link)
        found[name] = _by(tree, work, options)
        shutil.rmtree(place / "copy")
    return found


def _trees(options: argparse.Namespace) -> dict[str, str]:
    here = {"this": str(Path(__file__).parents[1])}
    return {**here, "other": options.against} if options.against else here


def _by(tree: str, work: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Run some of this script in a process with another tree of frpipe; returns what it has said last."""
    words = ["--layout", options.layout, "--dim", str(options.dim)]
    command = [sys.executable, __file__, *words, *work]
    environment = {**os.environ, "PYTHONPATH": tree}
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    found: dict[str, Any] = json.loads(text.splitlines()[-1])
    return found


def _come(place: Path, options: argparse.Namespace) -> None:
    """Publish all nights, each as it comes; say what the last ones of some numbers of them have cost."""
    opened = [0]
    report: dict[str, dict[str, Any]] = {}
    _count_opens(opened)
    last: list[dict[str, float]] = []
    for night in range(max(options.nights)):
        ids = np.arange(night * options.photos, (night + 1) * options.photos)
        out = _made(place / "night", ids, night)
        done, cost = _cost(opened, lambda out=out, night=night: _night(place, out, night, options))  # type: ignore[misc]
        shutil.rmtree(place / "night")
        last = [*last[1 - LAST :], cost]
        if night + 1 in options.nights:
            means = {name: round(sum(each[name] for each in last) / len(last), 2) for name in cost}
            report[f"{night + 1} nights"] = {**means, **_sizes(done)}
            print(json.dumps(report), flush=True)
    done, cost = _cost(opened, lambda: _night(place, None, 0, options, compact=True))
    report["compacted"] = {**cost, **_sizes(done)}
    done, cost = _cost(opened, lambda: _night(place, None, 0, options))
    report["nothing new"] = cost
    print(json.dumps(report))


def _count_opens(opened: list[int]) -> None:
    """Count the files that are opened in folders."""
    before = Folder.open

    def counted(self: Folder, *words: Any, **how: Any) -> Any:
        opened[0] += 1
        return before(self, *words, **how)

    Folder.open = counted  # type: ignore[method-assign]


def _cost(opened: list[int], work: Callable[[], Published]) -> tuple[Published, dict[str, float]]:
    opened[0] = 0
    read, written, start = *_io_bytes(), time.process_time()
    done = work()
    now_read, now_written = _io_bytes()
    return done, {
        "cpu_s": round(time.process_time() - start, 2),
        "opens": opened[0],
        "read_mb": round((now_read - read) / 1e6, 2),
        "written_mb": round((now_written - written) / 1e6, 2),
    }


def _night(place: Path, out: str | None, night: int, options: argparse.Namespace, **how: Any) -> Published:
    found = (replace(result_at(out, "bench"), night=date.fromisoformat(_day(night))),) if out else ()
    return Publishing(str(place / "tables"), lambda _: (found, ()), layout=options.layout, **how).run()


def _sizes(done: Published) -> dict[str, str]:
    tables = done.tables.items()
    return {name: f"{each['files']} of {each['bytes'] / 1e6:.2f} MB" for name, each in tables}


def _day(night: int) -> str:
    return (FIRST + timedelta(days=night)).isoformat()


def _made(place: Path, ids: np.ndarray, night: int) -> str:
    return runs._made(place, ids, _day(night)).uri


def _publish(tables: str, out: str | None, night: str, layout: Any, **how: Any) -> dict[str, Any]:
    found = (replace(result_at(out, "bench"), night=date.fromisoformat(night)),) if out else ()
    done = Publishing(tables, lambda _: (found, ()), layout=layout, **how).run()
    return {
        "written_mb": round(sum(each.bytes for each in done.written.values()) / 1e6, 1),
        "files": {name: done.tables[name]["files"] for name in ("photos", "faces")},
    }


def _erased(tables: str, who: str) -> dict[str, Any]:
    rows, searched = TableErasure.at(tables, frozenset({who}), frozenset(), copies="keep").run()
    return {"rows": rows, "files_proven": searched.files}


def _spent(work: Callable[[], dict[str, Any]], layout: Any) -> dict[str, Any]:
    # What is imported at the first publication is none of a night's.
    with tempfile.TemporaryDirectory() as folder:
        first = _made(Path(folder) / "first", np.arange(2), 0)
        _publish(f"{folder}/tables", first, _day(0), layout)
    # What the process had held that started this one counts until then.
    Path("/proc/self/clear_refs").write_text("5")
    before, start, began, held = _io_bytes()[0], time.process_time(), time.monotonic(), _peak()
    done = work()
    return {
        "cpu_s": round(time.process_time() - start, 2),
        "wall_s": round(time.monotonic() - began, 2),
        "read_mb": round((_io_bytes()[0] - before) / 1e6, 1),
        "peak_mb": round(_peak() - held),
        "load": round(os.getloadavg()[0], 1),
        **done,
    }


def _io_bytes() -> tuple[int, int]:
    """Bytes that this process has read, from files or their cache, and written."""
    words = Path("/proc/self/io").read_text().split()
    return int(words[1]), int(words[3])


def _peak() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(each.split()[1]) for each in lines if each.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
