"""What a run leaves in Ray's exporter and in its logs: counts, and nothing that names a photo or a secret."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster
from enrollment import ROOT, enroll, write_manifest

from frpipe.core.reasons import Reason
from frpipe.runtime.telemetry import METRICS

SECRETS = {"AWS_SECRET_ACCESS_KEY": "a-needle-in-a-stack", "FRPIPE_GALLERY_KEY": "another-needle-in-a-stack"}
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
_SAMPLE = re.compile(r"^(ray_\w+)\{(.*)\} (\S+)$", re.MULTILINE)


class Run:
    """An enrollment of three good photos and a broken one, and what it adds to the exporter's samples."""

    def __init__(self, cluster: Cluster, photos: list[Path], folder: Path) -> None:
        broken = folder / "broken.jpg"
        broken.write_bytes(photos[0].read_bytes()[:2000])
        manifest = write_manifest(folder / "m.csv", [*photos[:3], broken])
        self.output = folder / "out"
        before = _samples(cluster)
        self.done = enroll(manifest, self.output, RAY_ADDRESS=cluster.address, **SECRETS)
        self.samples = _more(cluster, before, 4)
        self.ray_folder = Path(_started_with(cluster, "temp-dir"))

    def total(self, name: str, **labels: str) -> float:
        return sum(
            value
            for (series, found), value in self.samples.items()
            if series == name and labels.items() <= dict(found).items()
        )


@pytest.fixture(scope="module")
def run(cluster: Cluster, photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = Run(cluster, photos, tmp_path_factory.mktemp("telemetry"))
    assert made.done.returncode == 0, made.done.stderr
    return made


def _samples(cluster: Cluster) -> Samples:
    port = _started_with(cluster, "metrics-export-port")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as reply:
            text = reply.read().decode()
    except OSError:
        return {}  # the exporter comes up after the job server
    return {
        (name, tuple(re.findall(r'(\w+)="([^"]*)"', labels))): float(value)
        for name, labels, value in _SAMPLE.findall(text)
    }


def _more(cluster: Cluster, before: Samples, photos: int) -> Samples:
    """What has been added, once so many photos have: workers report every few seconds."""
    deadline = time.monotonic() + 60
    while True:
        more = {key: value - before.get(key, 0.0) for key, value in _samples(cluster).items()}
        counted = sum(value for (name, _), value in more.items() if name == "ray_frpipe_photos_total")
        if counted >= photos or time.monotonic() > deadline:
            return more
        time.sleep(0.5)


def _started_with(cluster: Cluster, option: str) -> str:
    words = Path(f"/proc/{cluster.pid}/cmdline").read_text().split("\0")
    return next(word.partition("=")[2] for word in words if word.startswith(f"--{option}="))


def test_the_exporter_serves_what_the_report_says(run: Run) -> None:
    report = json.loads((run.output / "report.json").read_text())
    assert run.total("ray_frpipe_photos_total") == 4
    assert run.total("ray_frpipe_photos_total", status="ok") == 3
    assert run.total("ray_frpipe_photos_total", status="rejected", reason=Reason.TRUNCATED) == 1
    assert run.total("ray_frpipe_faces_total") == report["faces"]
    for stage in ("locate", "embed", "publish"):
        assert run.total("ray_frpipe_unit_seconds_count", stage=stage, outcome="ok") == report["parts"]
        assert run.total("ray_frpipe_busy_seconds_total", stage=stage) > 0


def test_its_series_are_declared_and_so_are_their_labels(run: Run) -> None:
    declared = {series: metric for name, metric in METRICS.items() for series in metric.exported(name)}
    ours = {(series, labels) for series, labels in run.samples if series.startswith("ray_frpipe_")}
    assert {series for series, _ in ours} <= set(declared)
    for series, labels in ours:
        for name, value in labels:
            if name in declared[series].labels:
                assert value in declared[series].labels[name]


def test_the_dashboard_asks_ray_for_what_it_serves(run: Run) -> None:
    text = (ROOT / "k8s/grafana/frpipe.json").read_text(encoding="utf-8")
    asked = set(re.findall(r"\bray_(?!frpipe)\w+", text))
    assert asked
    assert asked <= {series for series, _ in run.samples}


def test_no_series_names_a_photo(run: Run) -> None:
    values = {value for _, labels in run.samples for _, value in labels}
    assert "truncated" in values
    assert not [value for value in values if "id-0" in value or "jpg" in value or "/out" in value]


def test_secrets_are_neither_said_nor_written(run: Run) -> None:
    said = run.done.stdout + run.done.stderr
    assert not [name for name, value in SECRETS.items() if value in said]
    logs = list(_files(run.ray_folder))
    assert [path for path in logs if path.name.startswith("raylet")]
    for path in (*_files(run.output), *logs):
        text = path.read_bytes()
        assert not [name for name, value in SECRETS.items() if value.encode() in text], path.name


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
