"""What it costs to take one person, and a thousand, out of an enroll output: CPU seconds.

    python benchmarks/erase.py --rows 1000000

The output is made up: a face of 16 numbers for each photo, five photos a person, spread over all
parts. `dry` only looks for them; `run` writes parts anew, audits and proves. The last line is one JSON
object; `ratio` is what a thousand cost to one.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from frpipe.core.report import PhotoCounts, Report
from frpipe.core.schema import SCHEMA_VERSION, face_schema, image_schema
from frpipe.io.output import run
from frpipe.io.output.parts import check_part, write_part
from frpipe.io.output.plan import plan
from frpipe.io.storage.folder import Folder
from frpipe.jobs.erase.job import Erase

DIM, PART_ROWS, PER_PERSON = 16, 8192, 5
HASHES = {"embedder_hash": "e" * 64, "preprocessing_hash": "p" * 64, "detector_hash": "d" * 64}
NOTHING = pa.schema([])


def made_up(place: Path, rows: int) -> Folder:
    """A finished output of so many photos."""
    numbers = np.arange(rows)
    people = named("person", numbers % (rows // PER_PERSON))
    photos = pc.binary_join_element_wise(people, named("photo", numbers), "/")
    manifest = place / "manifest.parquet"
    pq.write_table(pa.table({"image_id": photos, "image_uri": photos, "subject_id": people}), manifest)
    out = Folder.at(str(place / "out"))
    cut = plan(str(manifest), out, PART_ROWS)
    facts = {"created": "2026-05-01T00:00:00+00:00", "manifest": str(manifest)}
    run.claim(out, {"schema_version": SCHEMA_VERSION, "manifest": cut.fingerprint, "recipe": {}}, facts)
    tally, files = PhotoCounts(), []
    for part in range(cut.parts):
        at = slice(part * PART_ROWS, min((part + 1) * PART_ROWS, rows))
        tables = made_up_tables(photos[at], people[at], part)
        write_part(out, part, *tables, {f"frpipe.{n}": v for n, v in HASHES.items()})
        *own, images = check_part(out, part)
        files += own
        tally.add(images)
    told = {
        "pools": [],
        "models": {},
        "parts": cut.parts,
        "launch_rows": rows,
        "wall_s": 1.0,
        "rows_per_s": 1.0,
    }
    report = Report.of(tally, **told, output=out.uri)
    run.seal(out, files, report.as_dict(), report.text())
    return out


def made_up_tables(
    photos: pa.Array, people: pa.Array, part: int, dim: int = DIM
) -> tuple[pa.Table, pa.Table]:
    """Images and faces of some photos, a face each."""
    count = len(photos)
    vectors = np.random.default_rng(part).standard_normal((count, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    own = {"image_id": photos, "image_uri": photos, "subject_id": people}
    of_image = {**own, "status": "ok", "attempts": 1, "faces": 1, "width": 100, "height": 100}
    of_image["content_sha256"] = pc.utf8_lpad(photos, 64, "0")
    of_face = {**own, "face_id": pc.binary_join_element_wise(photos, "0", "#"), "face_index": 0, **HASHES}
    of_face |= {"is_subject": True, "face_policy": "all", "refined": False, "landmarks": [1.0] * 10}
    of_face["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim)
    return tuple(
        _filled(s, v, count)
        for s, v in ((image_schema(NOTHING), of_image), (face_schema(dim, NOTHING), of_face))
    )  # type: ignore[return-value]


def _filled(schema: pa.Schema, values: dict[str, Any], count: int) -> pa.Table:
    columns = []
    for wanted in schema:
        value = values.get(
            wanted.name, 1.0 if not wanted.nullable and pa.types.is_floating(wanted.type) else None
        )
        if isinstance(value, pa.Array):
            columns.append(value.cast(wanted.type))
        else:
            columns.append(pa.array([value] * count, wanted.type))
    return pa.table(columns, schema=schema)


def named(noun: str, numbers: np.ndarray) -> pa.Array:
    """Names with numbers, which sort as these."""
    return pc.binary_join_element_wise(noun, pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 9, "0"), "-")


def main() -> None:
    """Make an output, erase one person and then many from it, and print one JSON object at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--people", type=int, default=1_000)
    options = parser.parse_args()
    spent: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="frpipe-erase-") as place:
        out = made_up(Path(place), options.rows)
        step = options.rows // PER_PERSON // (options.people + 1)
        names = [f"person-{number * step:09d}" for number in range(options.people + 1)]
        for count, who in ((1, names[:1]), (options.people, names[1:])):
            for what in ("dry", "run"):
                job, start = Erase(out.uri, frozenset(who), frozenset()), time.process_time()
                done = job.dry_run() if what == "dry" else job.run()
                spent[f"{what}_{count}"] = round(time.process_time() - start, 2)
                assert done.images == PER_PERSON * count, done
                print({"people": count, "what": what, "cpu_s": spent[f"{what}_{count}"]}, flush=True)
    micros = {name: round(1e6 * seconds / options.rows, 2) for name, seconds in spent.items()}
    ratio = round(spent[f"run_{options.people}"] / spent["run_1"], 2)
    print(json.dumps({"rows": options.rows, "cpu_s": spent, "microseconds_a_photo": micros, "ratio": ratio}))


if __name__ == "__main__":
    main()
