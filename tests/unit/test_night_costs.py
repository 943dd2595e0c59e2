"""What a night would take: nothing that is left out of it unsaid, whatever the nights before had."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from frozen import NIGHTS, Frozen, copied

from frpipe.core.night_config import NightConfig
from frpipe.jobs.dry_run import DryRun
from frpipe.jobs.nightly.plan import night_plan


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frozen]:
    with copied(tmp_path_factory.mktemp("costs") / "frozen") as found:
        yield found


def _plan(home: Frozen, **more: Any) -> DryRun:
    facts = yaml.safe_load((home / "night.yaml").read_text(encoding="utf-8"))
    facts |= {"runs": str(home / "nights"), "gallery": str(home / "gallery-plain")}
    facts |= {"photos": str(home / "album")} | more
    return night_plan(NightConfig(**facts), "2026-03-04")


def test_a_step_that_this_machine_cannot_do_is_named(home: Frozen) -> None:
    models = {"detect": {"model": "tiny_yunet"}, "embed": {"model": "tiny_embedder"}}
    plan = _plan(home, settings={**models, "resources": {"embed": {"num_gpus": 1}}})
    assert [*plan.facts["cost"]["unknown"]] == ["enroll"]
    assert "enroll" not in plan.facts["cost"]["steps"]
    assert any("beside enroll and consolidate" in line for line in plan.lines)


def test_a_search_of_nothing_is_not_named(home: Frozen) -> None:
    plan = _plan(home, identify={"gallery": {"enabled": False}})
    assert [*plan.facts["cost"]["unknown"]] == []
    assert not any(line.startswith("  identify") for line in plan.lines)


def test_an_encrypted_watch_list_is_held_by_each_worker(home: Frozen) -> None:
    def cost(watched: str) -> dict[str, Any]:
        how = {"gallery": {"threshold": 0.9}, "watch_list": {"uri": str(home / watched), "threshold": 0.9}}
        found: dict[str, Any] = _plan(home, identify=how).facts["cost"]["steps"]["identify"]
        return found

    plain, secret = cost("people.gallery"), cost("gallery-encrypted")
    assert secret["memory_mb"] - plain["memory_mb"] > secret["read_bytes"] / 1e6


def test_where_nothing_is_left_nothing_is_said(home: Frozen, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    plan = _plan(home, photos=str(tmp_path / "empty"))
    assert plan.facts["cost"]["steps"] == {}
    assert not any(line.startswith("takes") for line in plan.lines)


@pytest.mark.parametrize("told", [None, {}, {"faces": None, "rows": None}, {"faces": 0, "rows": 0}])
def test_a_night_that_does_not_say_its_faces_counts_as_one_a_photo(home: Frozen, told: Any) -> None:
    path = home.root / "nights" / NIGHTS[0] / "night.json"
    before = path.read_text(encoding="utf-8")
    record = json.loads(before)
    record["steps"]["enroll"] = told
    path.write_text(json.dumps(record), encoding="utf-8")
    try:
        assert _plan(home).facts["cost"]["written_bytes"] > 0
    finally:
        path.write_text(before, encoding="utf-8")
