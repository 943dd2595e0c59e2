"""A search that no worker could hold is refused before it begins."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from frpipe.core.errors import ConfigError
from frpipe.io.output import run
from frpipe.io.output.parts import FACES, IMAGES, part_name
from frpipe.io.storage.folder import Folder
from frpipe.jobs.identify.plan import MOST_CANDIDATES, IdentifyPlan


def _plan(folder: Path, k: int, subjects: int | None, probe_rows: int = 3000) -> IdentifyPlan:
    """Four parts of 1,000 faces. subjects: None: they must not be counted."""
    files = [
        {"name": f"{sub}/{part_name(part)}", "rows": 1000, "bytes": 1, "sha256": ""}
        for part in range(4)
        for sub in (IMAGES, FACES)
    ]
    (folder / run.FILES).write_text(json.dumps({"files": files}))
    search_view: dict[str, Any] = {} if subjects is None else {"subjects": subjects}
    search_plan: Any = SimpleNamespace(spec=SimpleNamespace(k=k), search_view=SimpleNamespace(**search_view))
    source: Any = SimpleNamespace(folder=Folder.at(str(folder)))
    return IdentifyPlan(source, search_plan, probe_rows, print)


def test_more_candidates_than_a_worker_holds_are_refused_with_the_arithmetic(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"3,000 probes with 20,000 candidates each is 60,000,000"
    ) as caught:
        _plan(tmp_path, 10**9, 20_000).check()
    most = MOST_CANDIDATES // 3000
    assert f"--top {most} or less" in caught.value.remedy
    _plan(tmp_path, most, None).check()
    _plan(tmp_path, 10**9, 20_000, probe_rows=1000).check()


def test_a_list_is_no_longer_than_the_people_are_many(tmp_path: Path) -> None:
    _plan(tmp_path, 10**9, 100).check()
