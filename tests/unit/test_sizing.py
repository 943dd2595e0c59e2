"""The sizes that are computed are those that were measured, and pods of the overlays are as large."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from frpipe.cli.main import main
from frpipe.core.sizing import CONSTANTS, cluster_size, consolidate_bytes, enroll_bytes, spill_bytes

ROOT = Path(__file__).resolve().parents[2]
RECORD: dict[str, Any] = json.loads((ROOT / "benchmarks/sizing.json").read_text())
WITHIN = 0.2


def _close(computed: float, measured: float) -> bool:
    return abs(computed - measured) <= WITHIN * measured


def test_the_record_has_three_sizes_and_another_dimension() -> None:
    sizes = {(row["photos"], row["dim"]) for row in RECORD["sizes"]}
    assert len({photos for photos, dim in sizes if dim == 128}) >= 3
    assert {dim for _, dim in sizes} >= {128, 512}


@pytest.mark.parametrize("row", RECORD["sizes"], ids=lambda row: f"{row['photos']} of {row['dim']}")
def test_formulas_give_what_was_measured(row: dict[str, Any]) -> None:
    photos, dim = row["photos"], row["dim"]
    assert _close(enroll_bytes(photos) / 1e6, row["enroll_mb"])
    assert _close(consolidate_bytes(photos, photos, dim) / 1e6, row["consolidate_mb"])
    assert _close(spill_bytes(photos, dim) / 1e6, row["spill_mb"])


def test_the_services_of_a_head_are_those_that_were_measured() -> None:
    assert _close(CONSTANTS.services / 1e6, RECORD["head_services_mb"])


def test_more_photos_need_no_less_of_anything() -> None:
    small, large = cluster_size(10_000), cluster_size(10_000_000, faces=2.0)
    assert small.head_memory < large.head_memory
    assert small.head_tmp < large.head_tmp
    assert small.head_object_store < small.head_memory
    assert cluster_size(10_000, cpus=2).worker_memory < small.worker_memory


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cluster", "size", "--photos", "10M", "--workers", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["spill"] == spill_bytes(10_000_000, 512)
    assert found["workers_memory"] == 4 * found["worker_memory"]
    assert main(["cluster", "size", "--photos", "10M"]) == 0
    assert "GiB" in capsys.readouterr().out
    assert main(["cluster", "size", "--photos", "10M", "--faces", "0"]) == 2
    for bad in ("0", "x", "1.5", "-3", "M"):
        with pytest.raises(SystemExit):
            main(["cluster", "size", "--photos", bad])
