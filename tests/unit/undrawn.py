"""Evaluations without their plots, which take seconds."""

from __future__ import annotations

from typing import Any

import pytest

from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.evaluate import job as metrics_job
from frpipe.jobs.evaluate.all_pairs import plan as all_pairs_plan


def undrawn(patch: pytest.MonkeyPatch) -> None:
    """Draw no plots."""
    for evaluated in (all_pairs_plan, metrics_job):
        patch.setattr(evaluated, "MetricsOutput", _Undrawn)


class _Undrawn:
    def __init__(self, out: Folder, *_: object) -> None:
        self._out = out

    def write(self, _: object) -> list[Any]:
        return []

    def publish(self, *_: object) -> dict[str, Any]:
        run.seal(self._out, [], {"drawn": False}, "")
        return {"drawn": False}
