"""The page of a night: it says what the report says, escapes it, and loads nothing."""

from __future__ import annotations

import re
from typing import Any

from frpipe.core.night_config import DriftStep
from frpipe.jobs.nightly.distribution import NightSample
from frpipe.jobs.nightly.drift import compare
from frpipe.jobs.nightly.page import page
from frpipe.jobs.nightly.report import report_text

SHARE = NightSample.of_share(3, 400), NightSample.of_share(20, 3000)
SCORES = NightSample.of([0.1, 0.5, 0.9] * 100), NightSample.of([0.5, 0.6, 0.7] * 100)


def _measure(name: str, pair: tuple[NightSample, NightSample]) -> dict[str, Any]:
    return compare(pair[0], [{name: pair[1]}], name, DriftStep())


def _report(**changes: Any) -> dict[str, Any]:
    steps = {
        "scan": {"listed": 1000, "new": 398, "changed": 2, "vanished": 3, "people_without_photos": 1},
        "enroll": {
            "rows": 400,
            "ok": 390,
            "no_face": 7,
            "rejected": 3,
            "faces": 500,
            "reasons": {"corrupt": 3},
        },
        "consolidate": {"version": 4},
        "dedup": {"clusters": 9},
        "identify": {
            "watch-list": {"probes": 500, "identified": 2, "strangers": 498, "threshold": 0.5},
            "took_s": 3.0,
        },
        "drift": {
            "nights": ["2026-11-23"],
            "measures": {"rejected": _measure("rejected", SHARE), "quality": _measure("quality", SCORES)},
        },
        "differences": {
            "people": {"person_new": 21, "person_gone": 0},
            "clusters": {"cluster_new": 1, "cluster_grown": 1, "cluster_gone": 0},
            "gallery": {"version": 4, "templates": 1500, "people": 900},
        },
    }
    report = {
        "night": "2026-11-24",
        "last_night": "2026-11-23",
        "held_back": False,
        "steps": steps,
        "last_steps": {"enroll": {"rows": 100, "rejected": 1, "faces": 130}},
        "reasons": [{"reason": "corrupt", "tonight": 3, "last": 1}],
        "throughput": [
            {
                "step": "scan",
                "count": 1000,
                "of": "photos",
                "seconds": 1.0,
                "per_s": 1000.0,
                "not_done": None,
            },
            {"step": "dedup", "count": None, "of": None, "seconds": None, "per_s": None, "not_done": "<off>"},
        ],
        "cost": {
            "nodes": 2,
            "spent_s": 7200.0,
            "currency": "EUR",
            "night": 4.0,
            "per_million_photos": 10_000.0,
        },
        "gates": [
            {"gate": "max_vanished", "limit": 5, "value": 3, "holds": True, "keeps_out": False},
            {"gate": "max_drift", "limit": 0.1, "value": 0.33, "holds": False, "keeps_out": False},
        ],
        "lists": {"person_new": ["<script>alert(1)</script>", "ann"], "photo_vanished": ["a&b.jpg"]},
        "output": "/nights/2026-11-24",
    }
    return {**report, **changes}


def test_the_page_says_what_happened() -> None:
    text = re.sub(r"<[^>]+>", " ", page(_report()))
    for words in (
        "1 gate does not hold",
        "0.75%",
        "last night 1.00%",
        "900 in all",
        "2.0 h",
        "10,000.00 EUR",
    ):
        assert words in text
    for words in ("moved", "steady", "watch list", "and 19 more", "3 photos that have vanished"):
        assert words in text


def test_texts_are_escaped_and_nothing_is_loaded() -> None:
    html = page(_report())
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "a&amp;b.jpg" in html
    assert "&lt;off&gt;" in html
    assert not re.search(r"(src|href|url)\s*[=(]|@import|https?:", html)


def test_the_verdict_of_a_good_night_and_of_one_that_was_held_back() -> None:
    good = [gate for gate in _report()["gates"] if gate["holds"]]
    assert "all gates hold" in page(_report(gates=good))
    assert "complete, no gates" in page(_report(gates=[]))
    assert "kept from the gallery" in page(_report(held_back=True))


def test_the_first_night_and_a_night_that_did_nothing_have_a_page() -> None:
    quiet = {
        "scan": {"listed": 9, "new": 0, "changed": 0, "vanished": 0, "people_without_photos": 0},
        "enroll": {"not_done": "no new photos"},
    }
    cost = {"nodes": 1, "spent_s": 3.0, "node_hours": 0.1}
    report = _report(
        steps=quiet, last_steps={}, last_night=None, reasons=[], throughput=[], cost=cost, gates=[], lists={}
    )
    html = page(report)
    assert "the first night" in html
    assert "No photo was rejected" in html
    assert "million" not in html
    assert "0 new" in report_text(report)


def test_photos_that_were_left_out_for_their_names_are_told() -> None:
    steps = _report()["steps"]
    report = _report(steps={**steps, "scan": {**steps["scan"], "unreadable_names": 7}})
    assert "7 more left out for their names" in page(report)
    assert "left out   7 photos" in report_text(report)
    assert "left out" not in report_text(_report()) + page(_report())


def test_what_the_scan_left_out_and_who_is_nobodys_is_told() -> None:
    steps = _report()["steps"]
    told = {"left_out": {"system": 3, "raw": 4}, "strays": 2, "no_longer_taken": 5}
    report = _report(steps={**steps, "scan": {**steps["scan"], **told}}, lists={"photo_stray": ["stray.jpg"]})
    text = report_text(report)
    assert "left out   system 3, raw 4" in text
    assert "nobody's   2 photos in no person's folder" in text
    assert "left out   5 photos known before" in text
    html = page(report)
    assert "7 names left out" in html
    assert "2 photos that lie in no person's folder</summary><code>stray.jpg</code>" in html


def test_the_text_names_gates_that_do_not_hold() -> None:
    text = report_text(_report())
    assert "max_drift 0.1: 0.33, does NOT hold" in text
    assert "quality has moved" in text
    assert "21 new, 0 gone" in text
