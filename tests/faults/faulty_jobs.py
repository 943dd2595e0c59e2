"""The jobs that are disturbed: their commands, and what must come out of them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from dedup_runs import THRESHOLD, make_gallery, people_of, read_clusters, read_pairs
from enrollment import ROOT, content, write_manifest

from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery

PART_ROWS, PEOPLE, PER_PERSON = 3, 12, 3
_RUN_FILES = {"run.json", "files.json", "report.json", "report.md", "_SUCCESS"}


@dataclass(frozen=True)
class Job:
    """A job without its output. content: what of an output must be as in an undisturbed run."""

    name: str
    words: tuple[str, ...]
    content: Callable[[Path], Any]
    check: Callable[[Path], None]
    place: str = "--output"

    def command(self, output: object) -> list[str]:
        return [sys.executable, f"jobs/{self.name}.py", *self.words, self.place, str(output)]

    def run(self, output: object, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(output),
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )


def people(shared: Path) -> list[Path]:
    """Photos of a few people, three of each."""
    folders = (sorted(each.glob("*.jpg")) for each in sorted((shared / "data/lfw/images").iterdir()))
    several = islice((photos for photos in folders if len(photos) >= PER_PERSON), PEOPLE)
    return [photo.resolve() for photos in several for photo in photos[:PER_PERSON]]


def write_inputs(folder: Path, photos: Sequence[Path]) -> None:
    """m.csv with a photo that is no photo, a gallery `synthetic`, and lists of pairs."""
    broken = folder / "broken.jpg"
    broken.write_bytes(photos[0].read_bytes()[:2000])
    listed = [*photos, broken]
    write_manifest(folder / "m.csv", listed, subject_id=[photo.parent.name for photo in listed])
    make_gallery(folder / "synthetic", [people_of(0, 100, 1)])
    ids = np.array([f"id-{number:04d}" for number in range(len(photos))])
    sides = np.random.default_rng(3).integers(0, len(ids), (200_000, 2))
    for name, some in (("pairs", sides), ("few", sides[:2000])):
        pq.write_table(pa.table({"a": ids[some[:, 0]], "b": ids[some[:, 1]]}), folder / f"{name}.parquet")


def jobs(folder: Path) -> dict[str, Job]:
    """By name; those behind enroll read its output `features`, its gallery `gallery`, and `verified`."""

    def job(name: str, *words: object, of: Callable[[Path], Any], check: Any = check_run, **more: Any) -> Job:
        return Job(name, tuple(map(str, words)), of, check, **more)

    features = folder / "features"
    parts = ("--set", f"resources.part_rows={PART_ROWS}", "--set", "detect.policy=centre-largest")
    blocks = ("--block-rows", 25, "--threshold", THRESHOLD)
    found = [
        job("enroll", "--manifest", folder / "m.csv", *parts, of=_enrolled),
        job("consolidate", "--features", features, of=_templates, check=check_gallery, place="--gallery"),
        job("identify", "--probes", features, "--gallery", folder / "gallery", "--probe-rows", 3, of=_probes),
        job("dedup", "--gallery", folder / "synthetic", *blocks, of=_duplicates),
        job("verify", "--pairs", folder / "pairs.parquet", "--features", features, of=_pairs),
        job("metrics", "verification", "--results", folder / "verified", of=_numbers),
    ]
    return {each.name: each for each in found}


def check_run(output: Path) -> None:
    """The mark of success, every listed file as listed, no other file, and no mark of work under way."""
    assert (output / "_SUCCESS").exists()
    files = json.loads((output / "files.json").read_text())["files"]
    for file in files:
        data = (output / file["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
    there = {path.relative_to(output).as_posix() for path in output.rglob("[!.]*") if path.is_file()}
    own = {name for name in there if not name.startswith("_plan/")} - _RUN_FILES
    assert own == {file["name"] for file in files}


def check_gallery(output: Path) -> None:
    """Whole, and changed once only."""
    gallery = Gallery.open(str(output))
    assert lifecycle.verify(gallery) == []
    assert gallery.snapshot().number == 1


def _enrolled(output: Path) -> Any:
    return [content(output, table) for table in ("images", "faces")]


def _templates(output: Path) -> Any:
    table = pa.concat_tables(Gallery.open(str(output)).snapshot().tables())
    return table.sort_by("face_id").combine_chunks()


def _probes(output: Path) -> Any:
    return pq.read_table(output / "probes").sort_by([("image_id", "ascending"), ("face_id", "ascending")])


def _duplicates(output: Path) -> Any:
    return [read_pairs(output), read_clusters(output)]


def _pairs(output: Path) -> Any:
    return pq.read_table(output / "pairs")


def _numbers(output: Path) -> Any:
    return [pq.read_table(output / f"{name}.parquet") for name in ("numbers", "curves")]
