"""Nights over drawn photos with tiny models, their publication, and what tables hold."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

import frozen
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from frpipe.core.config import load_config
from frpipe.core.night_config import NightConfig
from frpipe.io.storage.folder import Folder
from frpipe.jobs.features import FeatureRun, stored_settings
from frpipe.jobs.nightly.job import Night
from frpipe.jobs.nightly.published import publishing
from frpipe.jobs.publish import schema
from frpipe.jobs.publish.job import Published
from frpipe.jobs.publish.root import Root
from frpipe.jobs.publish.sources import Publication, result_at
from frpipe.jobs.rejects import Choice
from frpipe.jobs.replay.job import Replay
from frpipe.testing.executors import InThisProcess

# Of the place where a run was done, and not of what it found.
_TIMES = {"fetch_ms", "decode_ms", "detect_ms", "align_ms", "embed_ms", "seconds", "photos_per_s"}
_TIMES |= {"processed_at", "as_of"}
_SIDE, _PATTERN, _TILE, _FACE = 64, 40, 8, 8


@dataclass(frozen=True)
class Place:
    """An album, a gallery, nights and tables."""

    root: Path

    def draw(self, name: str, person: int = 0, number: int = 0) -> None:
        """A photo of a person with a face that a tiny detector finds; person 0: nobody is on it."""
        path = self.root / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(_pixels(person, number)).save(path)

    def spoil(self, name: str) -> None:
        """A photo that is none."""
        path = self.root / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no photo")

    def config(self, tables: str | None = None, **sections: Any) -> NightConfig:
        settings = {
            "detect": {"model": frozen.DETECTOR, "not_photographs": "keep"},
            "embed": {"model": frozen.EMBEDDER},
            "resources": {"part_rows": 4},
        }
        given: dict[str, Any] = {
            "runs": str(self.root / "nights"),
            "gallery": str(self.root / "people"),
            "photos": str(self.root / "album"),
            "dedup": {"threshold": 0.97},
            "identify": {"gallery": {"threshold": 0.97}},
            "drift": {"enabled": False},
            "gates": {"max_vanished_ratio": None},
            "lease": {"expires_s": 6000},
            "settings": settings,
        }
        if tables:
            given["publish"] = {"tables": tables}
        return NightConfig.model_validate({**given, **sections})

    def night(self, date: str, **sections: Any) -> dict[str, Any]:
        report, bad = Night(self.config(**sections), date, InThisProcess()).run()
        assert bad is None
        return report

    def publish(
        self, tables: str, sections: Mapping[str, Any] = MappingProxyType({}), **options: Any
    ) -> Published:
        """Publish the nights, and the outputs of them that were processed again."""
        job = publishing(self.config(tables, **sections), lambda _: None, **options)

        def found(known: Mapping[str, str]) -> tuple[list[Publication], Sequence[str]]:
            nights, unfinished = job.found(known)
            return [*nights, *(result_at(str(path), None) for path in self.replays())], unfinished

        return replace(job, found=found).run()

    def replay(self, date: str) -> None:
        """Process again what was rejected on a night."""
        source, output = (str(self.root / name) for name in (f"nights/{date}/enroll", f"replays/{date}"))
        # Outputs tell their times in seconds.
        while datetime.now(UTC) < FeatureRun.open(source).created + timedelta(seconds=1):
            time.sleep(0.05)
        Replay(
            source, Choice.again(), output, load_config(None, stored_settings(source)), InThisProcess()
        ).run()

    def replays(self) -> list[Path]:
        return sorted((self.root / "replays").glob("*"))


@contextmanager
def tiny_models(place: Path) -> Iterator[None]:
    """The tiny models of the fixtures, told to this process; files need not survive a loss of power."""
    with frozen.copied(place / "fixtures"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


def rows(uri: str, *, times: bool = False) -> dict[str, list[str]]:
    """All rows of all tables as sorted text, without the place of a run.

    times: what differs between two runs of the same photos, too.
    """
    root = Root.opened(uri)
    assert root is not None
    return {spec.name: _texts(root.table(spec).rows(), times=times) for spec in schema.TABLES}


def files(uri: str) -> dict[str, bytes]:
    """All files below a place."""
    folder = Folder.at(uri)
    return {name: folder.read(name) for name, _ in folder.everything()}


def _texts(table: pa.Table, *, times: bool) -> list[str]:
    drop = [name for name in table.column_names if name == "output" or (name in _TIMES and not times)]
    return sorted(map(repr, table.drop_columns(drop).to_pylist()))


def _pixels(person: int, number: int) -> np.ndarray:
    pixels = np.zeros((_SIDE, _SIDE, 3), np.uint8)
    if not person:
        return pixels
    chosen, own = random.Random(f"person {person}"), random.Random(f"{person} {number}")
    for y, x in product(range(0, _PATTERN, _TILE), repeat=2):
        colours = [chosen.choice((40, 110, 180, 250)) - own.randrange(40) for _ in range(2)]
        pixels[y : y + _TILE, x : x + _TILE, 1:] = colours
    middle = slice((_PATTERN - _FACE) // 2, (_PATTERN + _FACE) // 2)
    pixels[middle, middle, 0] = 250 - 3 * (number % 10)
    return pixels
