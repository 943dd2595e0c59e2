"""The workers of the job one after another in this process, without Ray, against the hand-written loop.

What is left between this and end_to_end is Ray: starting it, and moving parts between its processes. On a
busy machine this ratio is much steadier, as the two sides take turns of seconds within one process.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import cv2
import pyarrow as pa
import pyarrow.parquet as pq
from duel import duel
from end_to_end import DETECTOR, PACKS, Pack, graph
from photos import lfw, write_manifest
from reference import WINDOW, Loop

from frpipe.core.config import Config
from frpipe.core.schema import reserved_names
from frpipe.io.output.plan import plan
from frpipe.io.storage.folder import Folder
from frpipe.stages.models import Models
from frpipe.stages.run_spec import RunSpec
from frpipe.stages.workers import Enroll

PHOTOS, ROUNDS = 256, 5


def chain(shared: Path) -> dict[str, Any]:
    """`ours / reference` of photos per CPU-second, one part of photos, one thread."""
    cv2.setNumThreads(1)
    photos = lfw(shared)[:: 6543 // PHOTOS][:PHOTOS]
    return {pack.name: _pack(pack, photos) for pack in PACKS}


def _pack(pack: Pack, photos: list[Path]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        workers = Workers(DETECTOR, pack.embedder, photos, scratch)
        models = [graph(scratch, "detector", DETECTOR), graph(scratch, "embedder", pack.embedder)]
        scale = (float(pack.scale[0]), float(pack.scale[1])) if pack.scale else None
        loop = Loop(models[0], models[1], scale)
        names = [str(photo) for photo in photos]
        windows = [names[start : start + WINDOW] for start in range(0, len(names), WINDOW)]

        def by_hand() -> None:
            pq.write_table(pa.Table.from_pylist(loop.run(iter(windows))), scratch / "reference.parquet")

        return duel(workers.run, by_hand, len(photos), ROUNDS)


class Workers:
    """The workers of a job over one part of photos, without Ray."""

    def __init__(self, detector: str, embedder: str, photos: list[Path], scratch: Path) -> None:
        models = Models.of(
            Config.model_validate({"detect": {"model": detector}, "embed": {"model": embedder}})
        )
        self._out = scratch / "out"
        self._spec = RunSpec(
            output=str(self._out),
            launch="bench",
            config=models.config,
            detector=models.detector,
            embedder=models.embedder,
            judge=models.judge,
        )
        manifest = write_manifest(scratch / "photos.parquet", photos)
        plan(str(manifest), Folder.at(self._spec.output), len(photos), (), reserved_names())
        self._worker = Enroll(self._spec)

    def run(self) -> None:
        """All of the part, from its plan to its two files, as if for the first time."""
        for name in ("_attempts", "images", "faces"):
            shutil.rmtree(self._out / name, ignore_errors=True)
        self._worker(pa.table({"part": [0]}))
