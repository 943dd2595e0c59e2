"""List the photos of a finished run that second looks may change, and the causes."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.config import load_config
from frpipe.core.errors import ConfigError
from frpipe.core.report import STAGES
from frpipe.io.manifest.list_files import Format
from frpipe.io.manifest.manifest_writer import write_manifest
from frpipe.io.output import run
from frpipe.io.output.features import Features
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.in_order import in_order
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.rescan.affected import Affected, settings_to_look_again
from frpipe.jobs.rescan.criteria import FACE_NAMES, IMAGE_NAMES, MEANING, Cause, of_scope

_FORMATS: dict[str, Format] = {".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl"}
_LIST = pa.schema([("image_id", pa.string()), ("image_uri", pa.string()), ("causes", pa.string())])


@dataclass(slots=True)
class Listing:
    """The result of the listing. photos: of the run.  counts: by cause; a photo may have several.

    affected, found: photos of each scope.  seconds: of workers, that the affected ones took in the run.
    unjudged: whether no score of this detector is enough to know a face for sure.
    """

    run: str
    detector: str
    unjudged: bool
    photos: int = 0
    affected: int = 0
    found: int = 0
    seconds: float = 0.0
    found_seconds: float = 0.0
    counts: Counter[Cause] = field(default_factory=Counter)

    @property
    def causes(self) -> list[tuple[Cause, int, str]]:
        """The causes that occur: of each its number of photos, and its meaning."""
        return [(cause, self.counts[cause], MEANING[cause]) for cause in Cause if self.counts[cause]]

    def as_dict(self) -> dict[str, Any]:
        facts = {name: getattr(self, name) for name in ("run", "detector", "photos", "affected", "found")}
        causes = [{"cause": c.value, "photos": count, "meaning": says} for c, count, says in self.causes]
        times = {"worker_s": round(self.seconds, 3), "found_worker_s": round(self.found_seconds, 3)}
        return {**facts, "unjudged": self.unjudged, "causes": causes, **times}


def rescan_of(uri: str, target: str | None = None) -> Listing:
    """Count the photos of a finished run that second looks may change; nothing of the run is written.

    target: where to write the list of them: .parquet, .csv or .jsonl, local or remote; a column names the
    causes. Memory: a few dozen parts at a time. Raises OutputError: no finished run, or one that looked again
    already; ConfigError: a target of no known format, or inside the run.
    """
    features = FeatureRun.open(uri).features
    recipe = run.begun(features.folder)["identity"]["recipe"]
    settings = [one for one in settings_to_look_again(uri) if one.startswith("detect.") or "model=" in one]
    affected = Affected.of(recipe, load_config(None, settings))
    criteria = affected.criteria
    found = Listing(uri, criteria.card.name, criteria.sure_score is None)
    tables = _listed(features, affected, found)
    if target is None:
        for _ in tables:
            pass
        return found
    parent, name = uris.parent(uris.canonical(target))
    format = _FORMATS.get(PurePosixPath(name).suffix.lower())
    if format is None:
        raise ConfigError(f"{name} is no name for a list", "end it in .parquet, .csv or .jsonl")
    if uris.inside(parent, features.folder.uri):
        raise ConfigError("the list may not lie inside the run", "write it elsewhere")
    with tempfile.TemporaryDirectory(prefix="frpipe-rescan-") as scratch:
        finished = Path(scratch) / "list"
        write_manifest(finished, format, _LIST, (batch for table in tables for batch in table.to_batches()))
        Folder.at(parent).publish(name, finished)
    return found


def _listed(features: Features, affected: Affected, found: Listing) -> Iterator[pa.Table]:
    """Iterate over the affected photos of each part, which are counted as they go by."""
    names = (*IMAGE_NAMES, "image_uri", *STAGES.values())

    def read(part: int) -> tuple[pa.Table, dict[Cause, np.ndarray]]:
        images, faces = features.part(part, names, FACE_NAMES)
        return images, affected.criteria.causes(images, faces)

    for images, causes in in_order(read, features.parts()):
        every = np.any(list(causes.values()), axis=0)
        some = np.any([hit for cause, hit in causes.items() if cause in of_scope("found")], axis=0)
        took_s = _seconds(images)
        found.photos += images.num_rows
        found.affected += int(every.sum())
        found.found += int(some.sum())
        found.seconds += float(took_s[every].sum())
        found.found_seconds += float(took_s[some].sum())
        found.counts.update({cause: int(hit.sum()) for cause, hit in causes.items()})
        why = [",".join(c.value for c, hit in causes.items() if hit[row]) for row in np.flatnonzero(every)]
        rows = images.filter(pa.array(every))
        yield pa.table([rows["image_id"], rows["image_uri"], pa.array(why, pa.string())], schema=_LIST)


def _seconds(images: pa.Table) -> np.ndarray:
    """The worker time for each photo, in seconds."""
    times = [pc.fill_null(images[name], 0.0).to_numpy() for name in STAGES.values()]
    found: np.ndarray = np.asarray(np.sum(times, axis=0, dtype=np.float64)) / 1000
    return found
