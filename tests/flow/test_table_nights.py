"""Nights over a Hive-partitioned table: new partitions are taken, a person is erased from all of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from nights import Place
from real_photos import people_with

from frpipe.core.night_config import NightConfig
from frpipe.io.storage.folder import Folder
from frpipe.jobs.erase.everywhere import EraseEverywhere
from frpipe.jobs.nightly.photos import listing_of
from frpipe.jobs.nightly.plan import night_plan


@pytest.fixture(scope="module")
def people(real_photos: Path) -> list[list[Path]]:
    return people_with(2, real_photos)


def _partition(place: Place, day: str, photos: list[Path]) -> None:
    """Put a partition of a table into its folder. Its photos lie elsewhere, named by whole addresses."""
    rows: dict[str, list[str]] = {"image_id": [], "image_uri": [], "subject_id": []}
    for photo in photos:
        target = place.root / "photos" / photo.parent.name / photo.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(photo, target)
        rows["image_id"].append(f"{photo.parent.name}/{photo.name}")
        rows["image_uri"].append(str(target))
        rows["subject_id"].append(photo.parent.name)
    folder = place.root / f"table/day={day}"
    folder.mkdir(parents=True)
    pq.write_table(pa.table(rows), folder / "part.parquet")


def test_nights_take_new_partitions_and_a_person_goes_out_of_all_of_them(
    people: list[list[Path]], tmp_path: Path
) -> None:
    place = Place(tmp_path)
    how: dict[str, Any] = {
        "photos": {"manifest": str(tmp_path / "table"), "new": "arrived", "arrived": "day"},
        "settings": {"storage": {"roots": [str(tmp_path / "photos")]}},
        "retention": {"nights": 1},
        "dedup": {"enabled": False},
        "identify": {"enabled": False},
        "drift": {"enabled": False},
    }
    _partition(place, "2026-11-23", [photos[0] for photos in people[:3]])
    report, bad = place.run("2026-11-24", **how)
    assert bad is None
    assert (report["steps"]["scan"]["new"], report["steps"]["enroll"]["ok"]) == (3, 3)
    _partition(place, "2026-11-24", [people[0][1], people[3][0]])
    config = NightConfig.model_validate(place.settings(**how))
    assert "2 photos: 2 new, 0 changed" in "\n".join(night_plan(config, "2026-11-25").lines)
    report, bad = place.run("2026-11-25", **how)
    assert bad is None
    scan = report["steps"]["scan"]
    assert (scan["new"], scan["files"], scan["files_read"]) == (2, 2, 1)
    assert not place.night("2026-11-24").exists(), "retention has removed it"
    listing = listing_of(Folder.at(str(place.night("2026-11-25") / "scan")))
    assert listing.table().num_rows == 5, "what it knew is known"
    gone = people[0][0].parent.name
    done = EraseEverywhere(config, frozenset({gone})).run()
    assert (done.templates, done.absent) == (2, 0)
    left = {row["subject_id"] for row in listing.table().to_pylist()}
    assert left == {photos[0].parent.name for photos in people[1:4]}
    assert all(gone.encode() not in path.read_bytes() for path in (tmp_path / "nights").rglob("*.parquet"))
    report, bad = place.run("2026-11-26", **how)
    assert bad is None
    assert report["steps"]["scan"]["new"] == 0
