"""The table `runs` has the rate, the means, the gates and the drift that reports tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import frozen
from made_runs import Photo, made_run, made_search

from frpipe.jobs.nightly.published import nights_at
from frpipe.jobs.publish.job import Publishing
from frpipe.jobs.publish.root import Root
from frpipe.jobs.publish.schema import RUNS
from frpipe.jobs.publish.sources import result_at

MEASURES = (
    "photos_per_s",
    "detection_score_mean",
    "quality_mean",
    "mated_similarity_mean",
    "gates_hold",
    "gates_broken",
    "drift_distance",
    "drift_moved",
)
DATE = frozen.NIGHTS[0]


def _told(root: Path) -> list[dict[str, Any]]:
    opened = Root.opened(str(root))
    assert opened is not None
    rows = opened.table(RUNS).rows().sort_by("as_of").to_pylist()
    return [{name: row[name] for name in MEASURES} for row in rows]


def _night(place: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> dict[str, Any]:
    """What is published of the first frozen night, whose reports are changed."""
    with frozen.copied(place / "frozen") as home:
        for path in ("report.json", "night.json"):
            file = home / f"nights/{DATE}/{path}"
            facts = json.loads(file.read_text())
            change(facts)
            file.write_text(json.dumps(facts))
        nights = str(home / "nights")
        Publishing(str(place / "tables"), lambda known: nights_at(nights, None, known)).run()
    (row,) = _told(place / "tables")
    return row


def test_of_a_night_they_are_those_of_its_report(tmp_path: Path) -> None:
    assert _night(tmp_path) == {
        "photos_per_s": 1.58,
        "detection_score_mean": 0.975548,
        "quality_mean": 0.18591,
        "mated_similarity_mean": None,
        "gates_hold": True,
        "gates_broken": [],
        "drift_distance": None,
        "drift_moved": [],
    }


def test_gates_that_do_not_hold_and_measures_that_have_moved_are_named(tmp_path: Path) -> None:
    def moved(facts: dict[str, Any]) -> None:
        measures = facts["steps"]["drift"]["measures"]
        measures["quality"] |= {"distance": 0.4, "verdict": "moved"}
        measures["no_face"] |= {"distance": 0.5, "verdict": "steady"}
        measures["mated_similarity"] = {
            **measures["quality"],
            "tonight": {"mean": 0.75},
            "distance": 0.25,
            "verdict": "moved",
        }
        gate = {"gate": "max_drift", "limit": 0.3, "value": 0.4, "holds": False, "keeps_out": False}
        facts.setdefault("gates", []).append(gate)

    row = _night(tmp_path, moved)
    assert (row["gates_hold"], row["gates_broken"]) == (False, ["max_drift"])
    assert (row["drift_distance"], row["drift_moved"]) == (0.5, ["mated_similarity", "quality"])
    assert row["mated_similarity_mean"] == 0.75


def test_of_a_night_without_gates_and_drift_they_are_null(tmp_path: Path) -> None:
    def off(facts: dict[str, Any]) -> None:
        facts["steps"]["drift"] = {"not_done": "switched off"}
        facts["gates"] = []

    row = _night(tmp_path, off)
    assert row == {**dict.fromkeys(MEASURES), "photos_per_s": 1.58}


def test_of_a_run_by_itself_there_is_the_rate_and_of_a_search_nothing(tmp_path: Path) -> None:
    enrolled = made_run(tmp_path / "run", [Photo("1.jpg", "anna", "a1")])
    searched = made_search(tmp_path / "search", enrolled, "2026-05-02T00:00:00+00:00", "anna")
    found = [result_at(out.uri, "album") for out in (enrolled, searched)]
    Publishing(str(tmp_path / "tables"), lambda _: (found, ())).run()
    nothing = dict.fromkeys(MEASURES)
    assert _told(tmp_path / "tables") == [{**nothing, "photos_per_s": 1.0}, nothing]
