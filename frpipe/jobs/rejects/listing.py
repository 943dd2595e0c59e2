"""Rejects: what an enroll run rejected, at which stage and why, and some of each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.reasons import STAGE_OF, Status
from frpipe.io.output import run
from frpipe.io.output.features import Features, no_output
from frpipe.io.output.plan import load_plan
from frpipe.jobs.rejects.choice import NO_FACE, Choice, causes_of

_COLUMNS = ("image_id", "image_uri", "status", "reason", "detail")
STAGE_OF_CAUSE = {**{reason.value: stage for reason, stage in STAGE_OF.items()}, NO_FACE: "detect"}


@dataclass(slots=True)
class Rejects:
    """photos: rows so far, of the `planned`.  counts: chosen rows by cause.  samples: the first of each."""

    run: str
    planned: int
    photos: int = 0
    rejected: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    finished: bool = False

    def as_dict(self) -> dict[str, Any]:
        reasons = [
            {
                "reason": cause,
                "stage": STAGE_OF_CAUSE[cause],
                "photos": count,
                "share": count / max(1, self.photos),
                "samples": self.samples.get(cause, []),
            }
            for cause, count in self.counts.most_common()
        ]
        facts = {name: getattr(self, name) for name in ("run", "finished", "planned", "photos", "rejected")}
        return {**facts, "reasons": reasons}


def rejects_of(uri: str, choice: Choice, limit: int = 3) -> Rejects:
    """Count the chosen rows of an enroll output; the first `limit` of each cause are kept as samples.

    An unfinished run is counted as far as it is published. Raises OutputError where there is no run.
    """
    features = Features.at(uri)
    try:
        planned = load_plan(features.folder).rows
    except FileNotFoundError:
        raise no_output(uri) from None
    found = Rejects(uri, planned, finished=run.complete(features.folder) is not None)
    for images in features.all_images(_COLUMNS, features.parts()):
        _add(found, images, choice, limit)
    return found


def _add(found: Rejects, images: pa.Table, choice: Choice, limit: int) -> None:
    found.photos += images.num_rows
    found.rejected += pc.sum(pc.equal(images["status"], Status.REJECTED.value)).as_py() or 0
    chosen = images.filter(choice.mask(images))
    causes = causes_of(chosen).to_pylist()
    found.counts.update(causes)
    for row, cause in enumerate(causes):
        samples = found.samples.setdefault(cause, [])
        if len(samples) < limit:
            samples.append({n: chosen[n][row].as_py() for n in ("image_id", "image_uri", "detail")})
