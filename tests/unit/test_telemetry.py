"""Labels are few, nothing is counted outside Ray, and the dashboard asks for series that exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from frpipe.core.reasons import Reason, Status
from frpipe.runtime import telemetry
from frpipe.runtime.telemetry import METRICS, OTHER, record, record_photos, timed

ROOT = Path(__file__).resolve().parents[2]
PANELS = json.loads((ROOT / "k8s/grafana/frpipe.json").read_text(encoding="utf-8"))["panels"]
EXPORTED = {series for name, metric in METRICS.items() for series in metric.exported(name)}


class Instrument:
    """Keeps what is given to it."""

    def __init__(self) -> None:
        self.kept: list[tuple[float, dict[str, str]]] = []

    def inc(self, value: float, labels: dict[str, str]) -> None:
        self.kept.append((value, labels))

    observe = inc


@pytest.fixture
def instruments(monkeypatch: pytest.MonkeyPatch) -> dict[str, Instrument]:
    made = {name: Instrument() for name in METRICS}
    monkeypatch.setattr(telemetry, "_in_ray", lambda: True)
    monkeypatch.setattr(telemetry, "_instrument", made.__getitem__)
    return made


def test_photos_are_counted_by_how_they_ended(instruments: dict[str, Instrument]) -> None:
    rows = {"status": ["ok", "ok", "rejected"], "reason": [None, None, "truncated"]}
    record_photos(pa.table(rows))
    assert instruments["frpipe_photos"].kept == [
        (2, {"status": Status.OK, "reason": ""}),
        (1, {"status": Status.REJECTED, "reason": Reason.TRUNCATED}),
    ]


def test_a_value_that_is_not_declared_makes_no_series_of_its_own(instruments: dict[str, Instrument]) -> None:
    record("frpipe_photos", 1, status="ok", reason="somebody's name")
    ((_, labels),) = instruments["frpipe_photos"].kept
    assert labels["reason"] == OTHER


def test_what_is_not_declared_at_all_is_an_error(instruments: dict[str, Instrument]) -> None:
    with pytest.raises(KeyError):
        record("frpipe_secrets", 1)
    with pytest.raises(KeyError):
        record("frpipe_comparisons", 1)


def test_work_is_timed_and_how_it_ended(instruments: dict[str, Instrument]) -> None:
    @timed("search")
    def work(fails: bool) -> None:
        if fails:
            raise ZeroDivisionError

    work(False)
    with pytest.raises(ZeroDivisionError):
        work(True)
    labels = [labels for _, labels in instruments["frpipe_unit_seconds"].kept]
    assert labels == [{"stage": "search", "outcome": "ok"}, {"stage": "search", "outcome": "failed"}]
    assert all(seconds >= 0 for seconds, _ in instruments["frpipe_busy_seconds"].kept)


def test_outside_ray_nothing_is_counted_and_ray_is_not_loaded() -> None:
    code = (
        "import sys\n"
        "from frpipe.stages import workers\n"
        "from frpipe.runtime.telemetry import record\n"
        "record('frpipe_faces', 1)\n"
        "print('ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_series_stay_few() -> None:
    for name, metric in METRICS.items():
        series = len(metric.bounds) + 3 if metric.bounds else 1
        for values in metric.labels.values():
            series *= len(values) + 1
        assert series <= 300, name


# the dashboard


def _queries() -> list[str]:
    return [target["expr"] for panel in PANELS for target in panel.get("targets", [])]


def test_the_dashboard_asks_for_series_that_the_code_declares() -> None:
    asked = {series for query in _queries() for series in re.findall(r"\bray_frpipe_\w+", query)}
    assert asked
    assert asked <= EXPORTED
    assert {name for name in METRICS if any(f"ray_{name}" in series for series in asked)} == set(METRICS)


def test_the_dashboard_filters_by_values_that_exist() -> None:
    for query in _queries():
        for series, filters in re.findall(
            r"ray_(frpipe_\w+?)(?:_total|_bucket|_count|_sum)\{([^}]*)\}", query
        ):
            labels = METRICS[series].labels
            for name, value in re.findall(r'(\w+)=~?"([^"$]+)"', filters):
                assert set(value.split("|")) <= set(labels[name]), query


def test_the_pages_name_every_metric() -> None:
    page = (ROOT / "docs/observability.md").read_text(encoding="utf-8")
    for name, metric in METRICS.items():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        assert f"| `{metric.exported(name)[0].removesuffix('_bucket')}` | {labels} |" in page


def test_panels_lie_on_the_grid_and_not_on_one_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place: dict[str, Any] = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
