"""Look-ups in a gallery of many people, and a year of nights, by this code and by an earlier checkout.

    python benchmarks/gallery_scale.py [--rows 10000000] [--nights 365] [--before CHECKOUT] [--folder DIR]

CPU seconds of a fresh process, imports left out (of nights the least of some calls, each of which opens the
gallery anew), and megabytes (10**6) that are asked of the gallery's files (HDF5's own reads left out).
Vectors are synthetic and of 8 numbers: it is about ids. A year of nights is one gallery a kind: as nights
leave it with `merge_shards_over` 8, without, and compacted; once more with vectors of 512 numbers. Who comes
in which night has nothing to do with the order of ids. The last line is one JSON object.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from machine import machine

from frpipe.gallery import byte_ranges, lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.persons import persons
from frpipe.gallery.photos import RunPhotos
from frpipe.gallery.schema import vector_array
from frpipe.gallery.search_view import SearchView
from frpipe.gallery.spec import GallerySpec
from frpipe.io.storage.folder import Folder

_DIM, _USUAL_DIM = 8, 512
_BLOCK = 65_536
_GIVEN = 1000
_A_NIGHT = 200
_MOST = 8
_TURNS = 5


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000, help="0: nights alone")
    parser.add_argument("--nights", type=int, default=365)
    parser.add_argument("--before", type=Path, help="a checkout of earlier code to compare with")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument(
        "--child", nargs=4, metavar=("WHAT", "GALLERY", "COUNT", "DIM"), help=argparse.SUPPRESS
    )
    args = parser.parse_args()
    if args.child:
        what, uri, count, dim = args.child
        print(json.dumps(_CHILDREN[what](uri, int(count), int(dim))))
        return 0
    found: dict[str, Any] = {"bench": "gallery_scale", "machine": machine()}
    with tempfile.TemporaryDirectory(prefix="frpipe-bench-", dir=args.folder) as folder:
        if args.rows:
            found["people"] = _people(f"{folder}/people", args.rows, args.before)
        found["nights"] = [
            _nights(f"{folder}/{dim}", args.nights, dim, args.before if dim == _DIM else None)
            for dim in (_DIM, _USUAL_DIM)
        ]
    print(json.dumps(found))
    return 0


def _people(uri: str, rows: int, before: Path | None) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": rows, "made": _child("make", uri, rows)}
    sides = {"after": None} | ({"before": before} if before else {})
    for side, code in sides.items():
        found[side] = _child("look", uri, rows, code)
        _say(f"{rows:,} people, {side}", found[side])
    shutil.rmtree(uri)
    return found


def _nights(folder: str, nights: int, dim: int, before: Path | None) -> dict[str, Any]:
    Path(folder).mkdir()
    kinds: dict[str, tuple[str, Path | None]] = {"merged": ("merged", None), "compacted": ("copied", None)}
    kinds |= {"apart": ("apart", None)} if dim == _DIM else {}
    kinds |= {"before": ("apart", before)} if before else {}
    made = {kind: _child(how, f"{folder}/{kind}", nights, code, dim) for kind, (how, code) in kinds.items()}
    # In turns: what else the machine does falls on all of them.
    turns: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(_TURNS):
        for kind, (_, code) in kinds.items():
            turns[kind].append(_child("search", f"{folder}/{kind}", nights, code, dim))
    found: dict[str, Any] = {"nights": nights, "people_a_night": _A_NIGHT, "dim": dim}
    for kind in kinds:
        least = {name: min(turn[name] for turn in turns[kind]) for name in turns[kind][0]}
        found[kind] = made[kind] | least
        _say(f"{nights} nights of {dim}, {kind}", found[kind])
    found["merged_to_compacted"] = {
        name: round(found["merged"][name] / found["compacted"][name], 2)
        for name in ("list_cpu_s", "show_cpu_s", "search_cpu_s")
    }
    _say(f"{nights} nights of {dim}, ratio", found["merged_to_compacted"])
    return found


def _child(what: str, uri: str, count: int, code: Path | None = None, dim: int = _DIM) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", what, uri, str(count), str(dim)]
    # Threads that wait for each other would count as work.
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"} | ({"PYTHONPATH": str(code)} if code else {})
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _say(what: str, found: dict[str, Any]) -> None:
    for name, value in found.items():
        print(f"{what:<28} {name:<20} {value}", flush=True)


def _made(uri: str, rows: int, dim: int) -> dict[str, Any]:
    begin = time.process_time()
    blocks = range(0, rows, _BLOCK)
    names = ([_name(row) for row in range(start, min(start + _BLOCK, rows))] for start in blocks)
    lifecycle.enroll(Gallery.create(uri, _spec(dim)), (_table(some, dim) for some in names))
    return {"cpu_s": round(time.process_time() - begin, 1), "peak_rss_mb": _peak_mb()}


def _year(uri: str, nights: int, dim: int, *, merging: bool) -> dict[str, Any]:
    """A gallery as so many nights leave it; the CPU of all of them.

    versions_kb: of all version files; newest_kb: of the newest one.  written: rows of joined shards, as
    multiples of all rows.
    """
    gallery, begin = Gallery.create(uri, _spec(dim)), time.process_time()
    everybody = np.random.default_rng(365).permutation(nights * _A_NIGHT).reshape(nights, _A_NIGHT)
    most = 0
    for people in everybody.tolist():
        if merging:
            lifecycle.merge_shards(gallery, _MOST)
        lifecycle.enroll(gallery, [_table([_name(one) for one in people], dim)], "append")
        most = max(most, len(gallery.snapshot().version.shards))
    cpu = round(time.process_time() - begin, 1)
    versions = sorted(Path(uri).glob("versions/*"))
    joined = sum(entry.counts["rows"] for entry in gallery.log() if entry.action == "merge shards")
    return {
        "shards": len(gallery.snapshot().version.shards),
        "most_shards": most,
        "versions": len(versions),
        "versions_kb": round(sum(path.stat().st_size for path in versions) / 1e3),
        "newest_kb": round(versions[-1].stat().st_size / 1e3, 1),
        "written": round(joined / (nights * _A_NIGHT), 2),
        "nights_cpu_s": cpu,
    }


def _name(number: int) -> str:
    return f"person-{number:08d}"


def _looked(uri: str, rows: int, dim: int) -> dict[str, Any]:
    """Each look-up in a gallery that was just opened."""
    count = [0]
    for owner, name in ((byte_ranges.Mapped, "read"), (Folder, "read"), (Folder, "read_range")):
        setattr(owner, name, _counting(getattr(owner, name), count))
    new = [f"new-{os.getpid()}-{one:04d}" for one in range(_GIVEN)]
    told = RunPhotos()
    told.add(pa.array([f"{who}.jpg" for who in new]), pa.array([f"/photos/{who}.jpg" for who in new]))
    gone = _name(os.getpid() % rows)
    calls: dict[str, Callable[[Gallery], object]] = {
        "show": lambda g: g.snapshot().show(_name(rows // 2)),
        "list": lambda g: persons(g.snapshot(), limit=100),
        "list_after": lambda g: persons(g.snapshot(), after=_name(rows // 2), limit=100),
        "append_1000": lambda g: lifecycle.enroll(g, [_table(new, dim)], "append", photos=told),
        "delete": lambda g: lifecycle.delete(g, [gone]),
        "count": lambda g: g.snapshot().subjects,
    }
    found: dict[str, Any] = {}
    for name, call in calls.items():
        count[0], begin = 0, time.process_time()
        call(Gallery.open(uri))
        found[f"{name}_cpu_s"] = round(time.process_time() - begin, 3)
        found[f"{name}_mb"] = round(count[0] / 1e6, 2)
    return found | {"peak_rss_mb": _peak_mb()}


def _searched(uri: str, nights: int, dim: int) -> dict[str, Any]:
    probe = np.ones(dim, np.float32)

    def search(gallery: Gallery) -> float:
        return max(
            float((vectors @ probe).max()) for _, vectors in SearchView(gallery.snapshot(), {}).blocks()
        )

    calls: dict[str, Callable[[Gallery], object]] = {
        "list": lambda g: persons(g.snapshot(), limit=100),
        "show": lambda g: g.snapshot().show(_name(nights)),
        "search": search,
    }
    found = {}
    for name, call in calls.items():
        call(Gallery.open(uri))  # what a process does once, such as loading Arrow's kernels
        spent = []
        for _ in range(_TURNS):
            begin = time.process_time()
            call(Gallery.open(uri))
            spent.append(time.process_time() - begin)
        found[f"{name}_cpu_s"] = round(min(spent), 5)
    return found


def _copied(uri: str, _: int, __: int) -> dict[str, Any]:
    """The gallery that nights have merged, compacted."""
    shutil.copytree(Path(uri).parent / "merged", uri)
    return {"shards": lifecycle.compact(Gallery.open(uri)).shards}


def _counting(real: Callable[..., Any], count: list[int]) -> Callable[..., Any]:
    def call(*given: Any) -> Any:
        found = real(*given)
        count[0] += len(found)
        return found

    return call


def _table(names: list[str], dim: int) -> pa.Table:
    vectors = np.random.default_rng(len(names)).standard_normal((len(names), dim), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return pa.table(
        {
            "subject_id": names,
            "face_id": [f"{who}.jpg#0" for who in names],
            "image_uri": [f"/photos/{who}.jpg" for who in names],
            "embedding": vector_array(vectors),
        }
    )


def _spec(dim: int) -> GallerySpec:
    return GallerySpec(dim, "0" * 64, "0" * 64, "0" * 64)


def _peak_mb() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


_CHILDREN: dict[str, Callable[[str, int, int], dict[str, Any]]] = {
    "make": _made,
    "look": _looked,
    "merged": lambda uri, nights, dim: _year(uri, nights, dim, merging=True),
    "apart": lambda uri, nights, dim: _year(uri, nights, dim, merging=False),
    "search": _searched,
    "copied": _copied,
}


if __name__ == "__main__":
    sys.exit(main())
