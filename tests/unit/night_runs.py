"""A gallery, a finished night with results of each kind, and one that was killed while it enrolled."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from frpipe.core.night_config import NightConfig
from frpipe.io.storage.folder import Folder
from frpipe.jobs.nightly.journal import encoded

FIXTURES = Path(__file__).parent.parent / "fixtures"
DONE, KILLED = "2026-03-01", "2026-03-02"


def known_nights(place: Path) -> NightConfig:
    """anna, bela, cora, dana and emil, whose photo is broken; fred and ines come with the second night."""
    shutil.copytree(FIXTURES / "nights", place / "nights")
    shutil.rmtree(place / "nights/_lease")  # of a night that was killed: somebody would wait for it to expire
    shutil.copytree(FIXTURES / "people.gallery", place / "people.gallery")
    done = place / "nights" / DONE
    shutil.rmtree(done / "dedup")
    shutil.copytree(FIXTURES / "dedup", done / "dedup")
    shutil.copytree(FIXTURES / "identify", done / "identify/gallery")
    reports = {name: _json(done / where / "report.json") for name, where in _REPORTS.items()}
    record = _json(done / "night.json")
    similarity = reports["identify"]["threshold"]["similarity"]
    record["steps"]["identify"] = {"gallery": {**reports["identify"], "threshold": similarity}}
    record["steps"]["dedup"] |= {n: reports["dedup"][n] for n in ("pairs", "same_person", "clusters")}
    folder = Folder.at(str(done))
    folder.write("night.json", encoded(record))
    report = _json(done / "report.json")
    folder.write("report.json", encoded({**report, "steps": record["steps"]}))
    return NightConfig(
        runs=str(place / "nights"), gallery=str(place / "people.gallery"), photos=str(place / "photos")
    )


_REPORTS = {"identify": "identify/gallery", "dedup": "dedup"}


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found
