"""Photos that come night after night, the nightly job as a user runs it, and what it leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from cluster import Cluster
from enrollment import ROOT, content

from frpipe.core.night_config import NightConfig
from frpipe.gallery.gallery import Gallery
from frpipe.io.storage.folder import Folder
from frpipe.jobs.nightly.job import Night
from frpipe.jobs.nightly.photos import listing_of
from frpipe.runtime.runtime import Runtime
from frpipe.testing.executors import InThisProcess

# Times, and what is counted of one launch alone.
_NOT_CONTENT = {"took_s", "wall_s", "rows_per_s", "probes_per_s", "launch_rows", "added", "unchanged"}
# Of the gallery of one place, and of no other.
_NOT_CONTENT |= {"gallery_id", "commit", "gallery_commit", "since_commit"}


@dataclass(frozen=True)
class Place:
    """A folder with an album, a gallery and the nights."""

    root: Path

    @property
    def album(self) -> Path:
        return self.root / "album"

    @property
    def gallery(self) -> Gallery:
        return Gallery.open(str(self.root / "people"))

    def add(self, photos: Sequence[Path], person: str | None = None) -> None:
        """Put photos into the folder of their person, or of another."""
        for photo in photos:
            folder = self.album / (person or photo.parent.name)
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(photo, folder / photo.name)

    def settings(self, **sections: Any) -> dict[str, Any]:
        return {
            "runs": str(self.root / "nights"),
            "gallery": str(self.root / "people"),
            "photos": str(self.album),
            "dedup": {"threshold": 0.9},
            "identify": {"gallery": {"threshold": 0.42}},
            "drift": {"least_values": 5},
            "lease": {"expires_s": 15},
            **sections,
        }

    def run(
        self, date: str, cluster: Cluster | None = None, **sections: Any
    ) -> tuple[dict[str, Any], Exception | None]:
        """A night driven by this process, which does the work too where no cluster is given."""
        config = NightConfig.model_validate(self.settings(**sections))
        return Night(config, date, Runtime(cluster.address) if cluster else InThisProcess()).run()

    def words(self, date: str, **sections: Any) -> list[str]:
        """What to give to `jobs/nightly.py`."""
        path = self.root / "night.yaml"
        path.write_text(yaml.safe_dump(self.settings(**sections)), encoding="utf-8")
        return ["--config", str(path), "--date", date]

    def launch(
        self, cluster: Cluster | None, date: str, output: Any = subprocess.PIPE, **sections: Any
    ) -> subprocess.Popen[str]:
        """`python jobs/nightly.py`, under way, without a cluster on this machine's processes.

        output: where all that it says goes.
        """
        command = [sys.executable, "jobs/nightly.py", *self.words(date, **sections)]
        environment = {**os.environ, **({"RAY_ADDRESS": cluster.address} if cluster else {})}
        out = subprocess.STDOUT
        return subprocess.Popen(command, stdout=output, stderr=out, text=True, cwd=ROOT, env=environment)

    def night(self, date: str) -> Path:
        return self.root / "nights" / date

    def content(self, date: str) -> dict[str, Any]:
        """All that a night has left, without times and without the place where it lies."""
        folder = self.night(date)
        tables = {
            "scan/listing": listing_of(Folder.at(str(folder / "scan"))).table(),
            "dedup/clusters.parquet": pq.read_table(folder / "dedup/clusters.parquet"),
        }
        found: dict[str, Any] = {name: _rows(table) for name, table in tables.items()}
        found |= {
            name: _rows(pq.read_table(folder / name)) for name in ("dedup/pairs", "identify/gallery/probes")
        }
        found |= {name: _rows(content(folder / "enroll", name)) for name in ("images", "faces")}
        return found

    def templates(self) -> list[tuple[Any, ...]]:
        """Of the gallery: subject, face and vector of each row."""
        rows = [row for table in self.gallery.snapshot().tables() for row in table.to_pylist()]
        return sorted((row["subject_id"], row["face_id"], tuple(row["embedding"])) for row in rows)


def told(steps: dict[str, Any]) -> dict[str, Any]:
    """What steps have recorded, without times."""
    return {
        name: told(value) if isinstance(value, dict) else value
        for name, value in steps.items()
        if name not in _NOT_CONTENT
    }


def _rows(table: Any) -> list[str]:
    """Rows as text, sorted. Where a photo lies, when somebody was enrolled and into which gallery are of the
    copy."""
    own = {"enrolled_at", "gallery_id", "version"}
    drop = [name for name in table.column_names if name.startswith("image_uri") or name in own]
    return sorted(map(repr, table.drop_columns(drop).to_pylist()))
