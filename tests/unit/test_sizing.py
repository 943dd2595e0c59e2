"""Sizes that are computed are those that were measured where no constant was taken from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from frpipe.cli.main import main
from frpipe.core.sizing import (
    CONSTANTS,
    GalleryLoad,
    cluster_size,
    consolidate_bytes,
    enroll_bytes,
    spill_bytes,
)
from frpipe.jobs.consolidate.memory import worker_bytes
from frpipe.jobs.consolidate.room import Room

ROOT = Path(__file__).resolve().parents[2]
RECORD: dict[str, Any] = json.loads((ROOT / "benchmarks/sizing.json").read_text())
HELD_OUT: list[dict[str, Any]] = [row for row in RECORD["sizes"] if not row["fitted"]]
PART_FACES = 2048
WITHIN = 0.2


def _close(computed: float, measured: float) -> bool:
    return abs(computed - measured) <= WITHIN * measured


def _load(row: dict[str, Any]) -> GalleryLoad:
    return GalleryLoad(row["photos"], row["photos"], row["dim"], part_faces=PART_FACES, **row["load"])


def test_sizes_that_are_held_out_differ_in_number_dimension_and_way() -> None:
    assert len({row["photos"] for row in HELD_OUT}) >= 3
    assert len({row["dim"] for row in HELD_OUT}) >= 2
    assert {row["way"] for row in HELD_OUT} >= {"plain", "examined", "mean", "encrypted"}


@pytest.mark.parametrize(
    "row", RECORD["sizes"], ids=lambda row: f"{row['photos']} of {row['dim']}, {row['way']}"
)
def test_formulas_give_what_was_measured(row: dict[str, Any]) -> None:
    load = _load(row)
    assert row["enroll_mb"] is None or _close(enroll_bytes(row["photos"]) / 1e6, row["enroll_mb"])
    assert _close(consolidate_bytes(load) / 1e6, row["consolidate_mb"])
    assert _close(spill_bytes(load) / 1e6, row["spill_mb"])


def test_the_services_of_a_head_are_those_that_were_measured() -> None:
    assert _close(CONSTANTS.services / 1e6, RECORD["head_services_mb"])


def test_more_photos_need_no_less_of_anything() -> None:
    small, large = cluster_size(10_000), cluster_size(10_000_000, faces=2.0)
    assert small.head_memory < large.head_memory
    assert small.head_tmp < large.head_tmp
    assert small.head_object_store < small.head_memory
    assert cluster_size(10_000, cpus=2).worker_memory < small.worker_memory


def test_a_gallery_of_small_shards_takes_less_memory_and_a_mean_or_a_key_more() -> None:
    load = GalleryLoad(200_000, 200_000, 512)
    plain = consolidate_bytes(load)
    assert consolidate_bytes(GalleryLoad(200_000, 200_000, 512, shard_rows=8192)) < plain / 1.5
    assert consolidate_bytes(GalleryLoad(200_000, 200_000, 512, reduced="mean")) > plain
    assert consolidate_bytes(GalleryLoad(200_000, 200_000, 512, image="encrypted")) > plain
    assert consolidate_bytes(GalleryLoad(200_000, 200_000, 512, examined=False)) < plain


def test_faces_that_are_sorted_before_are_put_aside_twice() -> None:
    once = GalleryLoad(200_000, 50_000, 512, faces=200_000)
    twice = GalleryLoad(200_000, 50_000, 512, faces=200_000, reduced="mean")
    assert spill_bytes(twice) == 4 * spill_bytes(once)
    assert spill_bytes(GalleryLoad(10, 200_000, 512, reduced="chosen")) > 1.9 * spill_bytes(
        GalleryLoad(10, 200_000, 512)
    )


def test_a_worker_of_passes_takes_less_where_it_shares_the_pages_of_its_job() -> None:
    load = GalleryLoad(1_000_000, 1_000_000, 128)
    alone, forked, apart = (
        worker_bytes(load, 8, room) for room in (Room.alone(1), Room(1, 4, forked=True), Room(1, 4))
    )
    assert forked < apart - 150_000_000
    # What is known of all photos is in the process of the job.
    assert apart < alone


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cluster", "size", "--photos", "10M", "--workers", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["spill"] == spill_bytes(GalleryLoad(10_000_000, 10_000_000, 512))
    assert found["workers_memory"] == 4 * found["worker_memory"]
    assert main(["cluster", "size", "--photos", "10M"]) == 0
    assert "GiB" in capsys.readouterr().out
    assert main(["cluster", "size", "--photos", "10M", "--faces", "0"]) == 2
    for bad in ("0", "x", "1.5", "-3", "M"):
        with pytest.raises(SystemExit):
            main(["cluster", "size", "--photos", bad])
