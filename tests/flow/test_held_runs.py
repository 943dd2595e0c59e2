"""Faces that are held back by workers of Ray and by local ones: the same rows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import frozen
import installed
import pytest
from enrollment import content, enroll
from frozen import Frozen, copied


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frozen]:
    place = tmp_path_factory.mktemp("held-runs")
    with copied(place / "frozen") as found, installed.example(place / "installed"):
        yield found


@pytest.mark.slow
def test_rows_do_not_depend_on_the_executor(home: Frozen, tmp_path: Path) -> None:
    settings = [*frozen.settings(), "detect.not_photographs=keep", "stages.dim.least=112"]
    words = [word for each in settings for word in ("--set", each)]
    place = home.root.parent / "installed"
    paths = (str(place), str(installed.EXAMPLE), os.environ.get("PYTHONPATH", ""))
    for executor in ("ray", "local"):
        done = enroll(
            home / "photos.csv",
            tmp_path / executor,
            *words,
            "--executor",
            executor,
            PYTHONPATH=os.pathsep.join(filter(None, paths)),
            **home.environment,
        )
        assert done.returncode == 0, done.stderr
    for name in ("images", "faces", "held"):
        ray, local = (content(tmp_path / executor, name) for executor in ("ray", "local"))
        if name == "images":
            ray, local = ray.drop_columns("dim_ms"), local.drop_columns("dim_ms")
        assert ray.equals(local) and ray.num_rows
    ray, local = (json.loads((tmp_path / each / "files.json").read_text()) for each in ("ray", "local"))
    assert [f["rows"] for f in ray["files"]] == [f["rows"] for f in local["files"]]
