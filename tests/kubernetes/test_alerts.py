"""The alerts over series of nights, as Prometheus' own tool computes them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from k8s_overlays import ROOT

RULES = ROOT / "k8s/components/alerts/rules.yaml"


@pytest.mark.slow
def test_alerts_are_set_off_when_they_are_to_be(tmp_path: Path) -> None:
    path = os.pathsep.join((os.environ.get("FRPIPE_KUBERNETES", ""), os.environ["PATH"]))
    promtool = shutil.which("promtool", path=path)
    if promtool is None:
        pytest.skip("promtool is neither in FRPIPE_KUBERNETES nor elsewhere on this machine")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(yaml.safe_load(RULES.read_text())["spec"]))
    shutil.copy(Path(__file__).with_name("alerts.yaml"), tmp_path)
    done = subprocess.run(
        [promtool, "test", "rules", str(tmp_path / "alerts.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
