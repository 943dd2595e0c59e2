"""Gates: what they judge, and that they say nothing where there is nothing to judge."""

from __future__ import annotations

from typing import Any

import pytest

from frpipe.core.night_config import Gates
from frpipe.jobs.nightly.gates import GateResult, broken, gate_error, judged

STEPS: dict[str, Any] = {
    "scan": {"new": 90, "changed": 10, "vanished": 30, "known_before": 300},
    "enroll": {"rows": 100, "rejected": 5, "no_face": 20},
    "differences": {"clusters": {"cluster_new": 3, "cluster_grown": 1, "cluster_gone": 9}},
    "drift": {
        "measures": {
            "quality": {"distance": 0.3, "verdict": "moved"},
            "rejected": {"distance": 0.4, "verdict": "steady"},
            "mated_similarity": {"distance": None, "verdict": "insufficient data"},
        }
    },
}


@pytest.mark.parametrize(
    ("gate", "value", "tighter"),
    [
        ("max_reject_ratio", 0.05, 0.04),
        ("max_no_face_ratio", 0.2, 0.19),
        ("max_vanished_ratio", 0.1, 0.09),
        ("max_vanished", 30, 29),
        ("min_photos", 100, 101),
        ("max_new_duplicates", 4, 3),
        ("max_drift", 0.3, 0.29),
    ],
)
def test_a_gate_holds_up_to_its_limit(gate: str, value: float, tighter: float) -> None:
    alone = dict.fromkeys(Gates.model_fields)
    (verdict,) = judged(Gates(**{**alone, gate: value}), STEPS)
    assert (verdict.gate, verdict.value, verdict.holds) == (gate, value, True)
    (verdict,) = judged(Gates(**{**alone, gate: tighter}), STEPS)
    assert not verdict.holds


def test_nothing_to_judge_holds() -> None:
    gates = Gates(max_reject_ratio=0, max_no_face_ratio=0, max_new_duplicates=0, max_drift=0, min_photos=1)
    first = {"scan": {"not_done": "switched off"}, "enroll": {"not_done": "no new photos"}}
    for steps in ({}, first, {"drift": {"measures": {}}, "differences": {"clusters": None}}):
        assert all(verdict.holds and verdict.value is None for verdict in judged(gates, steps))


def test_what_is_steady_passes_any_limit_of_drift() -> None:
    steady = {"drift": {"measures": {"rejected": {"distance": 0.4, "verdict": "steady"}}}}
    (verdict,) = judged(Gates(max_drift=0.01, max_vanished_ratio=None), steady)
    assert (verdict.value, verdict.holds) == (0, True)


def test_the_error_has_its_own_code_and_says_what_reached_the_gallery() -> None:
    late = judged(Gates(max_drift=0.1), STEPS)
    error = gate_error(late, "out/report.html", held_back=False)
    assert error is not None
    assert error.exit_code == 16
    assert "max_drift 0.1: 0.3" in error.message
    assert "reached the gallery" not in error.message
    early = judged(Gates(max_reject_ratio=0.01), STEPS)
    assert broken(early, keep_out=True)
    for held_back in (True, False):
        told = str(gate_error(early, "out/report.html", held_back=held_back))
        assert ("nothing of it has reached the gallery" in told) is held_back
    assert gate_error(judged(Gates(), STEPS), "out/report.html", held_back=False) is None


def test_counts_are_told_in_full_and_shares_to_four_digits() -> None:
    assert str(GateResult("max_vanished", 1_000_000, 1_234_567, False, False)) == (
        "max_vanished 1,000,000: 1,234,567"
    )
    assert str(GateResult("max_drift", 0.2, 1 / 3, False, False)) == "max_drift 0.2: 0.3333"
