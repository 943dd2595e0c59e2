"""What it costs to plan a night of few new photos, by how many are known: time and memory.

    python benchmarks/night.py --known 1000000 10000000 --new 1000

The photos are made up: nothing is read but their metadata. `folder` lists all of them, as in a bucket, and
compares them with what is known; `table` reads the new file of a table. Each is measured in its own process;
seconds are of its CPU, without imports. The last line is one JSON object; `exponent` says how the seconds
grow with the number of known photos between the smallest and the largest.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from frpipe.core.night_config import NightConfig, ScanStep
from frpipe.gallery.suppression import Suppressions
from frpipe.io.manifest.id_order import BLOCK_ROWS
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.listed import LISTED
from frpipe.jobs.nightly import photos
from frpipe.jobs.nightly.known_photos import LEVEL, write_known
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
            people = pc.binary_join_element_wise("p", _padded(numbers // PER_PERSON, 9), "")
            ids = pc.binary_join_element_wise(people, _padded(numbers % PER_PERSON, 1), "/")
            columns = [pc.binary_join_element_wise(ids, ".jpg", ""), pa.array(numbers % 90_000 + 10_000)]
            columns += [
                _padded(numbers * 2_654_435_761 % 10**15, 32),
                people,
                pa.array([False] * len(numbers)),
            ]
            yield pa.table(columns, schema=LEVEL)


def _padded(numbers: np.ndarray, width: int) -> pa.Array:
    return pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width, "0")


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
    """A simulated listing: what a store lists, of files that are nowhere."""
    for block in MadeUp(known).tables():
        yield pa.table(block.columns[:3], schema=LISTED)
    for start in range(0, new, BLOCK_ROWS):
        some = range(start, min(start + BLOCK_ROWS, new))
        names = [f"q{number:09d}/0.jpg" for number in some]
        yield pa.table([names, [1] * len(some), ["v"] * len(some)], schema=LISTED)


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
    if options.measure == "build":
        build(runs, known)
    else:
        facts = plan(runs, known, options.new, options.measure, Path(options.place) / "table")
        assert (facts["new"], facts["changed"], facts["vanished"]) == (options.new, 0, 0), facts
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    spent = {"cpu_s": round(time.process_time() - cpu, 2), "wall_s": round(time.monotonic() - start, 2)}
    print(json.dumps({**spent, "peak_mb": round(peak)}))


def main() -> None:
    """Measure each number of known photos, and print one JSON object at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--known", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--new", type=int, default=1_000)
    parser.add_argument("--modes", nargs="+", default=["folder", "table"], choices=["folder", "table"])
    parser.add_argument("--measure", choices=["build", "folder", "table"], help=argparse.SUPPRESS)
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
