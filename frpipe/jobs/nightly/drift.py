"""Compare the distributions of a night's measures with those of the nights before it."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from frpipe.core.night_config import DriftStep
from frpipe.io.storage.folder import Folder
from frpipe.jobs.nightly.distribution import NightSample, chance, distance, edges_of
from frpipe.jobs.nightly.history import Past
from frpipe.jobs.nightly.journal import Facts
from frpipe.jobs.nightly.measures import Samples, measured
from frpipe.jobs.nightly.tables import read_table, write_table
from frpipe.jobs.nightly.work import Work, nothing_done

SAMPLES = "drift/samples.parquet"
INSUFFICIENT, STEADY, MOVED = "insufficient data", "steady", "moved"


def drift(work: Work) -> Facts:
    """Measure tonight, keep the samples for the nights to come, and compare."""
    if not work.did("enroll"):
        return nothing_done("nothing was enrolled")
    tonight = measured(work)
    _write(work.folder, tonight)
    nights = window(work.past, work.config.drift.nights, work.config.settings.recipe())
    before = [_read(night.folder) for night in nights]
    compared = {name: compare(sample, before, name, work.config.drift) for name, sample in tonight.items()}
    return {"nights": [night.date for night in nights], "measures": compared}


def window(past: Sequence[Past], nights: int, recipe: Facts | None = None) -> list[Past]:
    """Choose the newest finished nights that have samples and the same recipe."""
    alike = [
        night
        for night in past
        if night.complete and night.did("drift") and recipe in (None, night.identity.get("recipe"))
    ]
    return alike[-nights:]


def compare(tonight: NightSample, nights: Sequence[Samples], name: str, how: DriftStep) -> Facts:
    """Compare one measure: both summaries, the distance, its chance level, a verdict, and bins to draw.

    The verdict is `insufficient data` with fewer than `least_values` on either side; `moved` where the
    distance exceeds both `least_distance` and what equal distributions exceed once in 1000 times; else
    `steady`.
    """
    before = NightSample.pooled(samples[name] for samples in nights if name in samples)
    apart, by_chance, edges = distance(tonight, before), chance(tonight, before), edges_of(tonight, before)
    limit = max(by_chance, how.least_distance)
    enough = min(tonight.count, before.count) >= how.least_values
    return {
        "tonight": tonight.summary(),
        "before": before.summary(),
        "distance": round(apart, 6) if enough else None,
        "chance": round(by_chance, 6) if enough else None,
        "verdict": INSUFFICIENT if not enough else MOVED if apart > limit else STEADY,
        "edges": [round(float(edges[0]), 6), round(float(edges[-1]), 6)],
        "tonight_shares": tonight.shares(edges),
        "before_shares": before.shares(edges),
    }


def _write(folder: Folder, samples: Samples) -> None:
    names = [name for name, sample in samples.items() for _ in sample.values]
    columns = {
        "measure": pa.array(names, pa.string()),
        "value": pa.array([v for sample in samples.values() for v in sample.values], pa.float64()),
        "weight": pa.array([w for sample in samples.values() for w in sample.weights], pa.float64()),
    }
    write_table(folder, SAMPLES, pa.table(columns))


def _read(folder: Folder) -> Samples:
    table = read_table(folder, SAMPLES).to_pandas()
    return {
        str(name): NightSample(rows["value"].to_numpy(), rows["weight"].to_numpy())
        for name, rows in table.groupby("measure")
    }
