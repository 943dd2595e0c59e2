"""A photo that a further stage does not survive is found in a child process, and costs itself alone."""

from __future__ import annotations

from pathlib import Path

import frozen
import installed
import pytest

from frpipe.core.config import load_config
from frpipe.io.output.plan import plan
from frpipe.io.storage.folder import Folder
from frpipe.jobs.enroll.job import run_spec
from frpipe.stages.quarantine.sandbox import find_poison

# It knows photos by the sizes of their files.
STAGE = """
import os, signal, time
from frpipe.stages.stage import FaceStage, StageResult


class Killer(FaceStage):
    name, version = "killer", 1

    def process(self, batch):
        for size in batch.images["bytes"].to_pylist():
            if size == {crash}:
                os.kill(os.getpid(), signal.SIGSEGV)
            if size == {hang}:
                time.sleep(3600)
        return StageResult()
"""


@pytest.mark.slow
def test_a_stage_that_crashes_or_hangs_on_a_photo(tmp_path: Path) -> None:
    sizes = [(frozen.FIXTURES / f"photos/{name}").stat().st_size for name in ("anna-2.png", "bela-1.png")]
    (tmp_path / "killer_stage.py").write_text(STAGE.format(crash=sizes[0], hang=sizes[1]))
    registered = installed.registered(
        tmp_path / "installed", {"frpipe.stages": {"killer": "killer_stage:Killer"}}, "killer", tmp_path
    )
    with frozen.copied(tmp_path / "frozen") as home, registered:
        settings = ["detect.not_photographs=keep", "stages.killer={}", "resources.row_timeout_s=5"]
        spec = run_spec(load_config(None, [*frozen.settings(), *settings]), str(tmp_path / "out"))
        plan(str(home / "photos.csv"), Folder.at(spec.output), 20)
        found = find_poison(spec, 0, range(4), {}, attempt=2)
    ended = {row: poison.reason.value for row, poison in found.items()}
    assert ended == {1: "crashed_worker", 2: "hung_worker"}
