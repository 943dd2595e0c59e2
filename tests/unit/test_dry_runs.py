"""A dry run says what a job would do, in words or as JSON, and writes nothing; no cluster is started."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import frozen
import pytest
from frozen import Frozen

from frpipe.core.errors import GalleryMismatch

JOBS = Path(__file__).resolve().parents[2] / "jobs"
NIGHT = "2026-03-05"
PLACES = ["--set", "runs={}/new", "--set", "gallery={}/people.gallery", "--set", "photos={}/album"]
SETTINGS = [word for setting in frozen.settings() for word in ("--set", setting)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frozen]:
    with frozen.copied(tmp_path_factory.mktemp("frozen") / "copy") as found:
        yield found


# The job, its words, and one fact that a program would look for.
PLANS: dict[str, tuple[str, list[str], tuple[str, Any]]] = {
    "enroll": ("enroll", ["--manifest", "{}/photos.csv", "--output", "{}/new", *SETTINGS], ("rows", 11)),
    "replay": ("enroll", ["--replay", "{}/enroll-finished", "--output", "{}/new"], ("rows_again", 2)),
    "consolidate": (
        "consolidate",
        ["--features", "{}/enroll-finished", "--gallery", "{}/new"],
        ("version", None),
    ),
    "identify": (
        "identify",
        ["--probes", "{}/enroll-probes", "--gallery", "{}/gallery-plain", "--output", "{}/new"],
        ("gallery_version", 2),
    ),
    "identify a manifest": (
        "identify",
        ["--probes", "{}/probes.csv", "--gallery", "{}/gallery-plain", "--output", "{}/new", *SETTINGS],
        ("probes", None),
    ),
    "verify": (
        "verify",
        ["--pairs", "{}/pairs.csv", "--features", "{}/enroll-finished", "--output", "{}/new"],
        ("faces", "centre-largest"),
    ),
    "dedup": ("dedup", ["--gallery", "{}/gallery-plain", "--output", "{}/new"], ("since", None)),
    "all-pairs": (
        "metrics",
        ["all-pairs", "--features", "{}/enroll-finished", "--output", "{}/new"],
        ("job", "all-pairs"),
    ),
    "nightly": ("nightly", ["--config", "{}/night.yaml", "--date", NIGHT, *PLACES], ("night", NIGHT)),
}


# Those that say where they would be worked on, and what that takes.
COSTED = ("enroll", "replay", "identify", "verify", "dedup", "all-pairs")


@pytest.mark.parametrize("name", PLANS)
def test_every_job_says_its_plan_in_words_and_as_json(
    home: Frozen, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    job, words, (key, value) = PLANS[name]
    words = [*(word.replace("{}", str(home.root)) for word in words), "--dry-run"]
    if job in {"identify", "dedup", "verify"}:
        words += ["--threshold", "0.9"]
    main = runpy.run_path(str(JOBS / f"{job}.py"))["main"]
    before = _names(home.root)
    assert main(words) == 0
    assert "dry run: nothing was written" in capfd.readouterr().out
    assert main([*words, "--json"]) == 0
    facts = json.loads(capfd.readouterr().out)
    assert facts.get(key) == value
    if name in COSTED:
        assert facts["executor"] == "local" and facts["estimate"]["memory_mb"] > 10
        # Each process has libraries; forked workers share those of the job.
        assert all(scale["memory_mb"] > 250 for scale in facts["estimate"]["scales"])
    if name == "nightly":
        cost = facts["cost"]
        assert list(cost["steps"]) == ["enroll", "consolidate", "dedup", "identify"]
        assert all(step["memory_mb"] > 100 for step in cost["steps"].values())
        assert cost["steps"]["enroll"]["seconds"] > 0 < cost["steps"]["enroll"]["read_bytes"]
        assert cost["written_bytes"] > 0 < cost["temporary_bytes"]
    assert _names(home.root) == before


def test_a_dry_run_refuses_probes_that_the_gallery_was_not_made_for(
    home: Frozen, capfd: pytest.CaptureFixture[str]
) -> None:
    _, words, _ = PLANS["identify a manifest"]
    words = [*(word.replace("{}", str(home.root)) for word in words), "--threshold", "0.9"]
    main = runpy.run_path(str(JOBS / "identify.py"))["main"]
    for more in ([], ["--dry-run"]):
        assert main([*words, "--set", "embed.flip=true", *more]) == GalleryMismatch.exit_code
        assert "gallery" in capfd.readouterr().err


def _names(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))
