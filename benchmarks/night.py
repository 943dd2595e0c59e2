"""What it costs to plan a night of few new photos, by how many are known: time and memory.

    python benchmarks/night.py --known 1000000 10000000 --new 1000

The photos are made up: nothing is read but their metadata. `build` writes what is known, as the first night
does; `listing` only makes up a listing of all photos, as a bucket gives it, with the new ones among them;
`folder` makes it up too, and compares the photos with what is known; `table` reads the new file of a table.
Each is measured in its own process; seconds are of its CPU, without imports. `spool_mb` is the most that
temporary files held, `known_mb` what lies in `_known/`. The last line is one JSON object; `exponent` says how
the seconds grow with the number of known photos between the smallest and the largest.

What a real store takes to list photos: `benchmarks/listing.py`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from frpipe.core.night_config import NightConfig, ScanStep
from frpipe.gallery.suppression import Suppressions
from frpipe.io.manifest.id_order import BLOCK_ROWS
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.listed import LISTED, NAME
from frpipe.jobs.nightly import photos
from frpipe.jobs.nightly.known_photos import LEVEL, STORE, write_known
from frpipe.jobs.nightly.photo_table import taken
from frpipe.jobs.nightly.tables import write_blocks

FIRST, SECOND = "2026-01-01", "2026-01-02"
PER_PERSON = 5


@dataclass(frozen=True)
class MadeUp:
    """A level of photos that nobody has taken: five a person, in order of their ids."""

    rows: int

    def tables(self) -> Iterator[pa.Table]:
        for start in range(0, self.rows, BLOCK_ROWS):
            numbers = np.arange(start, min(start + BLOCK_ROWS, self.rows))
            people, photos = _digits(numbers // PER_PERSON, 3), _digits(numbers % PER_PERSON, 1)[:, 2:]
            columns = [
                _texts(b"p", people, b"/", photos, b".jpg"),
                pa.array(numbers % 90_000 + 10_000),
                _texts(b"0" * 17, _digits(numbers * 2_654_435_761 % 10**15, 5)),
                _texts(b"p", people),
                pa.array(np.zeros(len(numbers), bool)),
            ]
            yield pa.table(columns, schema=LEVEL)


_THREE_DIGITS = np.array([[*f"{number:03d}".encode()] for number in range(1000)], np.uint8)


def _digits(numbers: np.ndarray, groups: int) -> np.ndarray:
    """(rows, 3 groups) uint8: the digits of numbers, with zeros before them."""
    found = np.empty((len(numbers), groups, 3), np.uint8)
    for group in reversed(range(groups)):
        numbers, rest = np.divmod(numbers, 1000)
        found[:, group] = _THREE_DIGITS[rest]
    return found.reshape(len(numbers), -1)


def _texts(*parts: bytes | np.ndarray) -> pa.Array:
    """Texts of one length, from what all begin or end with, and from what each has of its own."""
    (rows,) = {len(part) for part in parts if isinstance(part, np.ndarray)}
    spread = [np.frombuffer(p, np.uint8)[None].repeat(rows, 0) if isinstance(p, bytes) else p for p in parts]
    texts = np.hstack(spread)
    starts = np.arange(rows + 1, dtype=np.int32) * texts.shape[1]
    return pa.StringArray.from_buffers(rows, pa.py_buffer(starts), pa.py_buffer(np.ascontiguousarray(texts)))


def build(runs: Folder, known: int) -> None:
    """Record a night that knows so many photos."""
    place = runs.child(f"{FIRST}/scan")
    write_known(place, [], MadeUp(known), {})
    write_blocks(place, photos.AGAIN, photos._AGAIN, [])


def plan(runs: Folder, known: int, new: int, mode: str, table: Path) -> dict[str, Any]:
    """Plan the night after it; returns what it found."""
    before = runs.child(f"{FIRST}/scan")
    if mode == "folder":
        Folder.walk_blocks = lambda *_, **__: _listed(known, new)  # type: ignore[method-assign]
        found: photos.PhotoScan = photos.look("memory://album", ScanStep(), photos.known_of(before))
    else:
        where = {"runs": runs.uri, "gallery": f"{runs.uri}/none"}
        config = NightConfig.model_validate({**where, "photos": {"manifest": str(table), "new": "files"}})
        found = taken(config, before, photos.known_of(before), Suppressions(()), print, source="")
    found.write(runs.child(f"{SECOND}-{mode}/scan"))
    return found.facts()


def _listed(known: int, new: int) -> Iterator[pa.Table]:
    """A simulated listing: what a store lists, of files that are nowhere. New photos lie far apart."""
    people = -(-known // PER_PERSON)
    every = max(people // new, 1) if new else people + 1
    at = 0
    for block in MadeUp(known).tables():
        rows = pa.table(block.columns[:3], schema=LISTED)
        # A person's new photo comes behind those that are known, with the last of them.
        due = range(at // PER_PERSON, (at + rows.num_rows) // PER_PERSON) if new else range(0)
        at += rows.num_rows
        names = [f"p{n:09d}/new.jpg" for n in due[-due.start % every :: every] if n // every < new]
        if names:
            fresh = pa.table([names, [1] * len(names), ["v"] * len(names)], schema=LISTED)
            rows = pa.concat_tables([rows, fresh]).sort_by(NAME)
        yield rows


class Spool:
    """The most that this process has held in temporary files, by looking now and then."""

    def __init__(self) -> None:
        self.most = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Spool:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            self.most = max(self.most, self._now())

    @staticmethod
    def _now() -> int:
        """Bytes on disk of open files in the folder of temporary ones, without a name or with one."""
        found, place = 0, os.path.realpath(tempfile.gettempdir())
        for entry in os.scandir("/proc/self/fd"):
            with suppress(OSError):
                if str(Path(entry.path).readlink()).startswith(f"{place}/"):
                    found += Path(entry.path).stat().st_blocks * 512
        return found


def _table(path: Path, new: int) -> None:
    ids = [f"q{number:09d}/0.jpg" for number in range(new)]
    rows = {"image_id": ids, "image_uri": ids, "subject_id": [name[:10] for name in ids]}
    path.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(rows), path / "new.parquet")


def _measured(options: argparse.Namespace) -> None:
    """One measurement, in this process."""
    runs = Folder.at(options.place)
    (known,), start, cpu = options.known, time.monotonic(), time.process_time()
    facts: dict[str, Any] = {}
    with Spool() as spool:
        if options.measure == "build":
            build(runs, known)
        elif options.measure == "listing":
            assert sum(map(len, _listed(known, options.new))) == known + options.new
        else:
            facts = plan(runs, known, options.new, options.measure, Path(options.place) / "table")
            assert (facts["new"], facts["changed"], facts["vanished"]) == (options.new, 0, 0), facts
    # Not `ru_maxrss`, which is never less than what the process held that began this one.
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    spent = {"cpu_s": round(time.process_time() - cpu, 2), "wall_s": round(time.monotonic() - start, 2)}
    stored = sum(entry.bytes for entry in runs.child(STORE).list())
    sizes = {"peak_mb": round(peak), "spool_mb": round(spool.most / 1e6), "known_mb": round(stored / 1e6)}
    print(json.dumps({**spent, **sizes}))


def main() -> None:
    """Measure each number of known photos, and print one JSON object at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--known", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--new", type=int, default=1_000)
    modes = ["listing", "folder", "table"]
    parser.add_argument("--modes", nargs="+", default=modes, choices=modes)
    parser.add_argument("--measure", choices=["build", *modes], help=argparse.SUPPRESS)
    parser.add_argument("--place", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        _measured(options)
        return
    rows: list[dict[str, Any]] = []
    for known in options.known:
        with tempfile.TemporaryDirectory(prefix="frpipe-night-") as place:
            _table(Path(place) / "table", options.new)
            for what in ("build", *options.modes):
                words = [
                    "--known",
                    str(known),
                    "--new",
                    str(options.new),
                    "--measure",
                    what,
                    "--place",
                    place,
                ]
                done = subprocess.run(
                    [sys.executable, __file__, *words], check=True, capture_output=True, text=True
                )
                rows.append({"known": known, "what": what, **json.loads(done.stdout.splitlines()[-1])})
                print(rows[-1], flush=True)
    print(json.dumps({"new": options.new, "rows": rows, "exponent": _exponents(rows, options)}))


def _exponents(rows: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, float]:
    least, most = min(options.known), max(options.known)
    if least == most:
        return {}
    spent = {(row["what"], row["known"]): max(row["cpu_s"], 0.01) for row in rows}
    return {
        mode: round(math.log(spent[mode, most] / spent[mode, least]) / math.log(most / least), 2)
        for mode in options.modes
    }


if __name__ == "__main__":
    main()
