"""Outputs of an earlier frpipe, kept as files in tests/fixtures, brought to where a test can use them.

What has to go on where it stopped must lie where it was begun, since a run is known by the place of its
manifest: `at_home` puts a copy there, for one test process at a time. What is only read may lie anywhere:
`copied`. Git keeps no times of files, and a night knows photos by theirs: both restore them.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from frpipe.core.config import Config, load_config
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.persons import persons
from frpipe.io.storage.folder import Folder
from frpipe.jobs.nightly.photos import listing_of

FIXTURES = Path(__file__).parent / "fixtures"
HOME = Path("/tmp/frpipe-fixtures")
DETECTOR, EMBEDDER = "tiny_yunet", "tiny_embedder"
THRESHOLD = 0.95
NIGHTS = ("2026-03-01", "2026-03-02", "2026-03-03")
_TIMES = ("fetch_ms", "decode_ms", "detect_ms", "align_ms", "embed_ms")
# Times, what is counted of one launch alone, and into which of its bins a number falls that lies on an edge.
_NOT_CONTENT = {"took_s", "wall_s", "rows_per_s", "probes_per_s", "launch_rows"}
_NOT_CONTENT |= {"edges", "tonight_shares", "before_shares", "distance", "chance"}

# What later code adds to a card, the weights being as they were: {card: {field: value}}, sections laid over
# the frozen ones. A test gives its own to `copied` and `at_home`; here is what all tests are to take.
Amendments = Mapping[str, Mapping[str, Any]]
AMENDED: Amendments = {
    DETECTOR: {
        "looks": {
            "judge": DETECTOR,
            "sure_score": 0.5,
            "judged_score": 0.5,
            "sure_evidence": 1.0,
            "judged_clear_score": 0.5,
            "proposal_score": 0.4,
            "smallest_face_px": 8,
            "steady_face_px": 16,
            "steady_roll_deg": 12,
            "largest_face_px": 300,
        }
    }
}


@dataclass(frozen=True)
class Frozen:
    """A copy of the fixtures."""

    root: Path

    def __truediv__(self, name: str) -> Path:
        return self.root / name

    @property
    def environment(self) -> dict[str, str]:
        """What tells this copy's models and key to a process."""
        return {
            "FRPIPE_CARD_DIR": str(self.root / "cards"),
            "FRPIPE_MODEL_DIR": str(self.root / "models"),
            "FRPIPE_CACHE": str(self.root / "cache"),
            "FRPIPE_GALLERY_KEY_FILE": str(self.root / "gallery.key"),
        }

    def amend(self, cards: Amendments) -> None:
        """Lay fields over those of cards that are there."""
        for name, fields in cards.items():
            path = self.root / "cards" / f"{name}.yaml"
            card = yaml.safe_load(path.read_text(encoding="utf-8"))
            path.write_text(yaml.safe_dump(_laid_over(card, fields), sort_keys=False), encoding="utf-8")

    def third_night(self) -> None:
        """Put the photos of the third night into the album, those of the second being there."""
        shutil.copytree(self.root / "later", self.root / "album", dirs_exist_ok=True)


def expected() -> dict[str, Any]:
    """What was true of the fixtures when they were made."""
    found: dict[str, Any] = json.loads((FIXTURES / "expected.json").read_text(encoding="utf-8"))
    return found


def settings(part_rows: int = 4) -> list[str]:
    """The settings of the frozen runs, as --set takes them."""
    return [f"detect.model={DETECTOR}", f"embed.model={EMBEDDER}", f"resources.part_rows={part_rows}"]


def config(part_rows: int = 4) -> Config:
    return load_config(None, settings(part_rows))


@contextmanager
def copied(target: Path, amended: Amendments = AMENDED) -> Iterator[Frozen]:
    """A copy for reading, its models and key told to this process."""
    frozen = _copy(target, amended)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in frozen.environment.items():
            patch.setenv(name, value)
        yield frozen


@contextmanager
def at_home(amended: Amendments = AMENDED) -> Iterator[Frozen]:
    """As `copied`, where everything was made; other test processes wait until it is gone again."""
    with Path(f"{HOME}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(HOME, ignore_errors=True)
        try:
            with copied(HOME, amended) as frozen:
                yield frozen
        finally:
            shutil.rmtree(HOME, ignore_errors=True)


def _copy(target: Path, amended: Amendments) -> Frozen:
    shutil.copytree(
        FIXTURES, target, ignore=shutil.ignore_patterns("make.py", "expected.json", "tables", "__pycache__")
    )
    for name, time_ns in expected()["times_ns"].items():
        os.utime(target / name, ns=(time_ns, time_ns))
    frozen = Frozen(target)
    frozen.amend(amended)
    return frozen


def _laid_over(below: Any, above: Any) -> Any:
    if not isinstance(below, dict) or not isinstance(above, Mapping):
        return above
    return {**below, **{name: _laid_over(below.get(name), value) for name, value in above.items()}}


def enrolled(output: Path) -> dict[str, dict[str, Any]]:
    """The rows of an enroll output by id, without times; `images` and `faces`."""
    tables = {name: pq.read_table(output / name) for name in ("images", "faces")}
    keys = {"images": "image_id", "faces": "face_id"}
    return {
        name: {
            row[keys[name]]: {key: value for key, value in row.items() if key not in _TIMES}
            for row in table.to_pylist()
        }
        for name, table in tables.items()
    }


def metadata(output: Path) -> dict[str, str]:
    """The key-value metadata of the first file of faces."""
    found = pq.read_schema(output / "faces/part-000000.parquet").metadata or {}
    return {key.decode(): value.decode() for key, value in found.items() if key.startswith(b"frpipe.")}


def gallery(place: Path) -> dict[str, Any]:
    """Who is in a gallery, with what, and how it came to that."""
    found = Gallery.open(str(place))
    rows = [row for table in found.snapshot().tables() for row in table.to_pylist()]
    listed = persons(found.snapshot()).to_pylist()
    return {
        "gallery_id": found.gallery_id,
        "versions": found.versions(),
        "people": {row["subject_id"]: row["templates"] for row in listed},
        "departments": {row["subject_id"]: next(iter(row.get("department", ())), None) for row in listed},
        "templates": {f"{row['subject_id']} {row['face_id']}": row["embedding"] for row in rows},
        "hashes": {
            name: getattr(found.spec, name)
            for name in ("embedder_hash", "preprocessing_hash", "detector_hash")
        },
        "log": [entry.action for entry in found.log()],
    }


def identified(output: Path) -> dict[str, dict[str, Any]]:
    """What a search has said of each probe, by photo."""
    names = ("status", "decision", "rank1_subject_id", "rank1_similarity", "gallery_version")
    rows = pq.read_table(output / "probes").to_pylist()
    return {row["face_id"] or row["image_id"]: {name: row.get(name) for name in names} for row in rows}


def duplicates(output: Path) -> dict[str, Any]:
    """The pairs of a deduplication, and who is in a cluster with whom."""
    rows = pq.read_table(output / "pairs").to_pylist()
    clusters: dict[str, list[str]] = {}
    for row in pq.read_table(output / "clusters.parquet").to_pylist():
        clusters.setdefault(row["cluster_id"], []).append(row["subject_id"])
    return {
        "pairs": {f"{row['face_a']} {row['face_b']}": row["similarity"] for row in rows},
        "clusters": sorted(sorted(members) for members in clusters.values()),
    }


def verified(output: Path) -> list[dict[str, Any]]:
    """The answers to a list of pairs, in its order."""
    return pq.read_table(output / "pairs").to_pylist()


def night(folder: Path) -> dict[str, Any]:
    """All that a night has left, without times."""
    found: dict[str, Any] = {
        "steps": _told(json.loads((folder / "night.json").read_text(encoding="utf-8"))["steps"]),
        "listing": listing_of(Folder.at(str(folder / "scan"))).table().to_pylist(),
        "enroll": enrolled(folder / "enroll"),
        "dedup": duplicates(folder / "dedup"),
    }
    if (folder / "identify/gallery").exists():
        found["identify"] = identified(folder / "identify/gallery")
    return found


def _told(steps: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _told(value) if isinstance(value, dict) else value
        for name, value in steps.items()
        if name not in _NOT_CONTENT
    }


def holds(found: Any, wanted: Any, tolerance: float = 1e-6, path: str = "") -> None:
    """Assert that all of `wanted` is there, numbers as near as `tolerance`; more may be there beside it."""
    if isinstance(wanted, Mapping):
        assert wanted.keys() <= found.keys(), f"{path}: {sorted(wanted.keys() - found.keys())} are missing"
        for name, value in wanted.items():
            holds(found[name], value, tolerance, f"{path}/{name}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), f"{path}: {len(found)} for {len(wanted)}"
        for number, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
            holds(ours, theirs, tolerance, f"{path}/{number}")
    elif isinstance(wanted, float):
        assert math.isclose(found, wanted, rel_tol=tolerance, abs_tol=tolerance), f"{path}: {found} {wanted}"
    else:
        assert found == wanted, f"{path}: {found!r} for {wanted!r}"


def same_keys(found: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Mapping[str, Any]]) -> None:
    """Assert that tables hold the same rows by id, none more and none less."""
    assert {name: sorted(rows) for name, rows in found.items()} == {
        name: sorted(rows) for name, rows in wanted.items()
    }
