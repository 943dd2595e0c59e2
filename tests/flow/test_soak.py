"""Long runs of nights: ten in a row, killed at random (seeded), and two on an object store.

FRPIPE_SOAK_NIGHTS and FRPIPE_SOAK_SEED change it. What was measured is printed (`pytest -s`).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster
from enrollment import ROOT
from nights import Place
from real_photos import people_with
from s3server import S3, s3  # noqa: F401 - a fixture

from frpipe.core.night_config import NightConfig
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.io.storage.folder import Folder
from frpipe.jobs.dedup.job import Dedup
from frpipe.jobs.nightly import job as night_flow
from frpipe.runtime.runtime import Runtime

pytestmark = pytest.mark.slow

NIGHTS = int(os.environ.get("FRPIPE_SOAK_NIGHTS", "10"))
SEED = int(os.environ.get("FRPIPE_SOAK_SEED", "7"))
NIGHT_1, NIGHT_2 = "2026-11-24", "2026-11-25"
# What the rule keeps, and as many as the drift window needs.
KEPT = 3
SETTINGS: dict[str, Any] = {
    "retention": {"nights": KEPT},
    "drift": {"nights": KEPT, "least_values": 10},
    "dedup": {"threshold": 0.9},
}


@dataclass(frozen=True)
class Night:
    """What a night has cost: bytes on disk at its end, peak memory of the job, launches, and its counts."""

    steps: dict[str, Any]
    launches: int
    seconds: float
    peak_mb: float
    nights_bytes: int
    gallery_bytes: int
    kept: int


def test_nights_in_a_row(cluster: Cluster, shared: Path, tmp_path: Path) -> None:
    people, chance = people_with(2, shared / "data/lfw/images"), random.Random(SEED)
    place, nights, longest = Place(tmp_path), [], 20.0
    for number in range(NIGHTS):
        _new_photos(place, people, number)
        night = _night(place, cluster, number, chance, longest)
        longest = max(longest, night.seconds / night.launches)
        nights.append(night)
        _check(place, nights)
        _say(number, night)
    assert sum(night.launches for night in nights) > NIGHTS, "no kill met a running job"
    _explained(nights)
    _chain_equals_one_search(place, cluster, tmp_path)


def _new_photos(place: Place, people: list[list[Path]], number: int) -> None:
    """Ten new people, second photos of the ten before, one photo of a double, and one that vanishes."""
    fresh, before = people[10 * number : 10 * number + 10], people[max(0, 10 * number - 10) : 10 * number]
    for photos in fresh:
        place.add(photos[:1])
    for photos in before:
        place.add(photos[1:2])
    place.add(fresh[0][:1], person=f"double-{number:02d}")
    if before:
        (place.album / before[9][0].parent.name / before[9][0].name).unlink()


def _night(place: Place, cluster: Cluster, number: int, chance: random.Random, longest: float) -> Night:
    """Launch until it ends; on most nights kill it first, once or twice."""
    day = (date(2026, 11, 1) + timedelta(days=number)).isoformat()
    begin, launches, peak = time.monotonic(), 0, 0.0
    for _ in range(chance.choice((0, 1, 1, 2))):
        launches += 1
        code, used = _launched(place, cluster, day, chance.uniform(1, longest))
        peak = max(peak, used)
        if code == 0:
            break
    code, used = _launched(place, cluster, day, None)
    record = json.loads((place.night(day) / "night.json").read_text())
    kept = [path for path in (place.root / "nights").iterdir() if path.name[0] != "_"]
    return Night(
        steps=record["steps"],
        launches=launches + 1,
        seconds=time.monotonic() - begin,
        peak_mb=max(peak, used),
        nights_bytes=_bytes(place.root / "nights"),
        gallery_bytes=_shard_bytes(place.gallery),
        kept=len(kept),
    )


def _launched(place: Place, cluster: Cluster, day: str, kill_after_s: float | None) -> tuple[int, float]:
    """Exit code, and peak memory in MB; killed with SIGKILL after so long."""
    begin, peak, log = time.monotonic(), 0.0, place.root / "job.log"
    with log.open("w") as file:
        process = place.launch(cluster, day, output=file, **SETTINGS)
    while process.poll() is None:
        peak = max(peak, _peak_mb(process.pid))
        if kill_after_s is not None and time.monotonic() - begin > kill_after_s:
            process.kill()
            process.wait()
            return -9, peak
        assert time.monotonic() - begin < 900, f"the night hangs: {log.read_text()}"
        time.sleep(0.2)
    said = log.read_text()
    assert process.returncode == 0, said
    assert "Traceback" not in said
    return 0, peak


def _peak_mb(pid: int) -> float:
    """Of the process so far; 0 where it has just ended."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(
        (int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0
    )


def _check(place: Place, nights: list[Night]) -> None:
    """After each night: the gallery is whole, and each photo with a face has given one template, once."""
    verified = subprocess.run(
        [sys.executable, "-m", "frpipe.cli.main", "gallery", "verify", str(place.root / "people")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
    keys = [(subject, face) for subject, face, _ in place.templates()]
    assert len(set(keys)) == len(keys) == sum(night.steps["consolidate"]["used"] for night in nights)
    photos = sum(night.steps["enroll"]["rows"] for night in nights)
    listed, gone = (
        nights[-1].steps["scan"]["listed"],
        sum(night.steps["scan"]["vanished"] for night in nights),
    )
    assert photos == listed + gone
    assert nights[-1].steps["dedup"]["clusters"] == len(nights)


def _shard_bytes(gallery: Gallery) -> int:
    """The bytes that the newest version needs. What nights have joined stays beside it, for older ones."""
    return sum(ref.bytes for ref in gallery.snapshot().version.shards)


def _explained(nights: list[Night]) -> None:
    """Disk and memory grow with the data that is kept, and with nothing else."""
    assert max(night.kept for night in nights) <= KEPT + 1
    settled = nights[KEPT:]
    # A vector of 128 numbers with its texts, in a shard that has a header of its own a night.
    first, last = settled[0], settled[-1]
    templates = last.steps["dedup"]["templates"] - first.steps["dedup"]["templates"]
    per_template = (last.gallery_bytes - first.gallery_bytes) / max(1, templates)
    # A night holds a line of each photo there is, and each pair of duplicates, beside its own vectors.
    photos = last.steps["scan"]["listed"] - first.steps["scan"]["listed"]
    per_photo = (last.nights_bytes / last.kept - first.nights_bytes / first.kept) / max(1, photos)
    sys.stdout.write(f"gallery: {per_template:,.0f} bytes a new template\n")
    sys.stdout.write(f"a kept night: {per_photo:,.0f} bytes more for each photo that is there\n")
    assert per_template < 2000
    assert per_photo < 400
    peaks = [night.peak_mb for night in settled]
    assert max(peaks) < 1.1 * min(peaks) + 20


def _chain_equals_one_search(place: Place, cluster: Cluster, tmp_path: Path) -> None:
    """What ten nights have carried on is what one search of all pairs finds."""
    last = sorted((place.root / "nights").glob("2*"))[-1].name
    whole = Dedup(
        str(tmp_path / "whole"),
        gallery=str(place.root / "people"),
        threshold=SETTINGS["dedup"]["threshold"],
        runtime=Runtime(cluster.address),
    ).run()
    steps = json.loads((place.night(last) / "night.json").read_text())["steps"]
    assert {name: whole[name] for name in ("pairs", "same_photo", "same_person", "clusters")} == {
        name: steps["dedup"][name] for name in ("pairs", "same_photo", "same_person", "clusters")
    }


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _say(number: int, night: Night) -> None:
    sys.stdout.write(
        f"night {number + 1}: {night.launches} launches, {night.seconds:.0f} s, peak {night.peak_mb:.0f} MB; "
        f"{night.kept} nights of {night.nights_bytes / 1e6:.2f} MB; gallery of "
        f"{night.steps['dedup']['templates']} templates, {night.gallery_bytes / 1e6:.2f} MB\n"
    )
    sys.stdout.flush()


def test_nights_probes_and_a_watch_list_on_an_object_store(
    s3: S3,  # noqa: F811
    shared: Path,
) -> None:
    """With a Ray of its own: workers need to know the store."""
    store, people = Folder.at(s3.uri), people_with(3, shared / "data/lfw/images")
    _upload(store, "photos", [some[0] for some in people[:6]])
    report, bad = _night_on(s3, NIGHT_1)
    assert bad is None
    assert report["steps"]["consolidate"]["version"] == 1
    _upload(store, "photos", [photo for some in people[:8] for photo in some[:2]])
    _upload(store, "probes", [some[2] for some in people[:9]])
    names = {"probes": f"{s3.uri}/probes", "watch_list": {"uri": f"{s3.uri}/people", "threshold": 0.42}}
    report, bad = _night_on(s3, NIGHT_2, identify=names, retention={"nights": 1}, drift={"nights": 1})
    assert bad is None
    assert (report["steps"]["scan"]["new"], report["steps"]["scan"]["changed"]) == (10, 0)
    found = report["steps"]["identify"]
    assert found["gallery"]["gallery_version"] == found["watch-list"]["gallery_version"] == 2
    assert found["gallery"]["identified"] == found["watch-list"]["identified"] >= 7
    again, bad = _night_on(s3, NIGHT_2, identify=names, retention={"nights": 1}, drift={"nights": 1})
    assert (again["steps"], bad) == (report["steps"], None)
    assert {name.split("/")[1] for name in store.walk() if name.startswith("nights/2")} == {NIGHT_2}
    assert lifecycle.verify(Gallery.open(f"{s3.uri}/people")) == []


def _upload(store: Folder, prefix: str, photos: list[Path]) -> None:
    for photo in photos:
        store.write(f"{prefix}/{photo.parent.name}/{photo.name}", photo.read_bytes())


def _night_on(s3: S3, date: str, **sections: Any) -> tuple[dict[str, Any], Exception | None]:  # noqa: F811
    places = {"runs": f"{s3.uri}/nights", "gallery": f"{s3.uri}/people", "photos": f"{s3.uri}/photos"}
    config = {"dedup": {"threshold": 0.9}, "identify": {"gallery": {"threshold": 0.42}}, **places, **sections}
    return night_flow.Night(NightConfig.model_validate(config), date).run()
