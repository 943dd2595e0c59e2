"""What it costs to publish runs into tables, against a bare loop that copies the same rows into one file.

    python benchmarks/publish.py --photos 20000 --runs 4

Outputs are made of random vectors, in parts of the size that an enroll job gives ten million photos. All runs
are published one after another, then one in which a hundredth of the photos were processed again; then small
files are merged. CPU-seconds of this process are compared. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from frpipe.core.report import PhotoCounts, Report
from frpipe.core.schema import SCHEMA_VERSION, face_schema, image_schema
from frpipe.io.output import run
from frpipe.io.output.features import Features
from frpipe.io.output.parts import part_file, part_name, write_part
from frpipe.io.storage.folder import Folder
from frpipe.io.tables.table import encoded
from frpipe.jobs.publish.job import Published, Publishing
from frpipe.jobs.publish.sources import result_at

DIM, PART_ROWS, A_PERSON = 512, 1370, 5
HASHES = {name: name[0] * 64 for name in ("embedder_hash", "preprocessing_hash", "detector_hash")}
METADATA = {f"frpipe.{name}": value for name, value in HASHES.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, default=20_000, metavar="N", help="photos of a run")
    parser.add_argument("--runs", type=int, default=4, metavar="N")
    parser.add_argument("--layout", choices=("delta", "parquet"), default="delta")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = _measured(Path(folder), options)
    print(json.dumps(report))


def _measured(place: Path, options: argparse.Namespace) -> dict[str, Any]:
    ids = np.arange(options.photos * options.runs)
    outputs = [
        _made(place / f"run-{n}", chunk, f"2026-05-{n + 1:02d}")
        for n, chunk in enumerate(np.split(ids, options.runs))
    ]
    again = _made(
        place / "again", np.sort(np.random.default_rng(0).permutation(ids)[: len(ids) // 100]), "2026-06-01"
    )
    tables = str(place / "tables")
    parts = [path for out in outputs for path in Path(out.uri).rglob("part-*.parquet")]
    report: dict[str, Any] = {
        "photos": len(ids),
        "small_files": len(parts),
        "small_mb": _mb(sum(path.stat().st_size for path in parts)),
    }
    bare_s, _ = _timed(lambda: _copied(outputs, place / "bare.parquet"))
    spent, done = 0.0, []
    for out in outputs:
        seconds, published = _timed(lambda out=out: _publish(tables, options.layout, out))  # type: ignore[misc]
        spent += seconds
        done.append(published)
    report |= {
        "bare_cpu_s": round(bare_s, 2),
        "publish_cpu_s": round(spent, 2),
        "photos_per_cpu_s": round(len(ids) / spent),
        "ratio_to_bare": round(bare_s / spent, 2),
        "files_after": _files(done[-1]),
    }
    seconds, published = _timed(lambda: _publish(tables, options.layout, again))
    faces = published.written["faces"]
    report["again"] = {
        "photos": len(ids) // 100,
        "cpu_s": round(seconds, 2),
        "rows_replaced": faces.gone,
        "faces_mb_written": _mb(faces.bytes),
        "files_after": _files(published),
    }
    seconds, published = _timed(lambda: _publish(tables, options.layout, compact=True, keep_hours=0))
    report["compacted"] = {"cpu_s": round(seconds, 2), "files_after": _files(published)}
    return report


def _publish(tables: str, layout: Any, *outputs: Folder, **how: Any) -> Published:
    found = [result_at(out.uri, "bench") for out in outputs]
    return Publishing(tables, lambda _: (found, ()), layout=layout, **how).run()


def _copied(outputs: list[Folder], target: Path) -> None:
    """The least that any of it could do: read the faces, sort them, write one file."""
    table = pa.concat_tables(each for out in outputs for each in Features(out).all_faces())
    at = table.schema.get_field_index("embedding")
    plain = pa.list_(pa.field("element", pa.float32(), False))
    table = table.set_column(at, pa.field("embedding", plain, False), table["embedding"].cast(plain))
    table = table.take(pc.sort_indices(table, sort_keys=[("subject_id", "ascending")]))
    target.write_bytes(encoded(table, ["face_id"]))
    assert pq.read_metadata(target).num_rows == table.num_rows


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def _files(published: Published) -> dict[str, str]:
    return {
        name: f"{there['files']} of {_mb(there['bytes'])} MB"
        for name, there in published.tables.items()
        if name in {"photos", "faces"}
    }


def _mb(count: int) -> float:
    return round(count / 1e6, 1)


def _made(place: Path, ids: np.ndarray, day: str) -> Folder:
    """A finished enroll output with one face on each photo."""
    out = Folder.at(str(place))
    facts = {"created": f"{day}T00:00:00+00:00", "manifest": "bench.csv"}
    run.claim(out, {"schema_version": SCHEMA_VERSION, "manifest": day, "recipe": {}}, facts)
    draw, tally, files = np.random.default_rng(int(ids[0])), PhotoCounts(), []
    for part, start in enumerate(range(0, len(ids), PART_ROWS)):
        images, faces = _tables(ids[start : start + PART_ROWS], draw)
        write_part(out, part, images, faces, METADATA)
        tally.add(images)
        names = [f"{sub}/{part_name(part)}" for sub in ("images", "faces")]
        files += [part_file(name, out.read(name)) for name in names]
    report = Report.of(
        tally, pools=[], models={}, parts=1, launch_rows=len(ids), wall_s=1.0, rows_per_s=1.0, output=out.uri
    )
    run.seal(out, files, report.as_dict(), report.text())
    return out


def _tables(ids: np.ndarray, draw: np.random.Generator) -> tuple[pa.Table, pa.Table]:
    names = pa.array([f"people/{n // A_PERSON:08d}/{n:09d}.jpg" for n in ids.tolist()])
    people = pa.array([f"{n // A_PERSON:08d}" for n in ids.tolist()])
    vectors = draw.standard_normal((len(ids), DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    known: dict[str, Any] = {
        "image_id": names,
        "image_uri": names,
        "subject_id": people,
        "face_id": pc.binary_join_element_wise(names, "0", "#"),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM),
        "content_sha256": pa.array(
            [f"{each:032x}" * 2 for each in draw.integers(0, 2**63, len(ids)).tolist()]
        ),
        **{name: pa.repeat(value, len(ids)) for name, value in HASHES.items()},
        "status": pa.repeat("ok", len(ids)),
    }
    measured = draw.random(len(ids))

    def column(field: pa.Field) -> pa.Array:
        if field.name in known:
            return known[field.name].cast(field.type)
        if field.name == "landmarks":
            return pa.FixedSizeListArray.from_arrays(pa.array(np.ones(10 * len(ids), np.float32)), 10).cast(
                field.type
            )
        if pa.types.is_floating(field.type):
            return pa.array(measured).cast(field.type, safe=False)
        if pa.types.is_boolean(field.type):
            return pa.repeat(True, len(ids))
        if pa.types.is_integer(field.type):
            return pa.repeat(pa.scalar(1, field.type), len(ids))
        return (
            pa.repeat("all", len(ids)).cast(field.type)
            if pa.types.is_string(field.type)
            else pa.nulls(len(ids), field.type)
        )

    tables = []
    for schema in (image_schema(pa.schema([])), face_schema(DIM, pa.schema([]))):
        tables.append(pa.Table.from_arrays([column(field) for field in schema], schema=schema))
    return tables[0], tables[1]


if __name__ == "__main__":
    main()
