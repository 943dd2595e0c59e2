"""LFW as a search: everybody's first photo is enrolled, the others are probes; then half of them are unknown.

    frpipe manifest scan ../shared/data/lfw/images -o lfw.parquet
    python jobs/enroll.py --manifest lfw.parquet --output out/lfw
    python benchmarks/lfw_identify.py out/lfw

Closed set: the gallery holds everybody; probes are the other photos of people with at least two. Open set:
the gallery holds every second person; the photos of the others are the non-mated probes. Of a photo with
several faces the one nearest the centre counts. Rates are as ISO/IEC 19795-1 names them, TPIR at rank 1. LFW
has a few wrong labels, which count as errors here. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.identify.job import Identifying

COLUMNS = ["face_id", "probe_subject_id", "decision", "rank1_subject_id", "rank1_similarity"]
FPIR = 0.01


@dataclass(frozen=True)
class Found:
    """probes: one row a probe of `COLUMNS`, gallery photos left out.  enrolled: who is in the gallery."""

    probes: pd.DataFrame
    enrolled: set[str]
    report: Mapping[str, Any]

    @property
    def mated(self) -> pd.DataFrame:
        """Probes of people who are enrolled."""
        return self.probes[self.probes["probe_subject_id"].isin(self.enrolled)]

    @property
    def non_mated(self) -> pd.DataFrame:
        """The others."""
        return self.probes[~self.probes["probe_subject_id"].isin(self.enrolled)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("features", help="output of jobs/enroll.py, with subject_id")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(options.features, Path(scratch))
    print(json.dumps(found))


def measure(features: str, scratch: Path) -> dict[str, Any]:
    """Both experiments."""
    Consolidation(features, str(scratch / "all")).run()
    everything = Gallery.open(str(scratch / "all"))
    rows = pa.concat_tables(everything.snapshot().tables()).sort_by("face_id").combine_chunks()
    people = sorted(set(rows["subject_id"].to_pylist()))

    def search(name: str, enrolled: set[str], closed: bool) -> Found:
        first = _firsts(rows, enrolled.__contains__)
        gallery = Gallery.create(str(scratch / name), everything.spec)
        lifecycle.enroll(gallery, [first])
        output = scratch / f"{name}-found"
        report = Identifying(features, gallery.uri, str(output), k=1, closed=closed, say=_say).run()
        probes = pd.read_parquet(output / "probes", columns=COLUMNS)
        own = set(rows["face_id"].to_pylist()) - set(first["face_id"].to_pylist())
        return Found(probes[probes["face_id"].isin(own)], enrolled, report)

    return _closed(search("closed", set(people), True)) | _open(search("open", set(people[::2]), False))


def _firsts(rows: pa.Table, wanted: Callable[[str], bool]) -> pa.Table:
    """Everybody's first photo."""
    subjects = rows["subject_id"].to_pylist()
    first = {name: number for number, name in reversed(list(enumerate(subjects))) if wanted(name)}
    return rows.filter(pc.is_in(pa.array(range(len(subjects))), pa.array(sorted(first.values()))))


def _closed(found: Found) -> dict[str, Any]:
    right = found.mated["rank1_subject_id"] == found.mated["probe_subject_id"]
    return {
        "closed_gallery": len(found.enrolled),
        "closed_probes": len(right),
        "closed_rank1_right": int(right.sum()),
        "closed_rank1_rate": round(float(right.mean()), 5),
    }


def _open(found: Found) -> dict[str, Any]:
    mated, others = found.mated, found.non_mated
    right = mated["rank1_subject_id"] == mated["probe_subject_id"]
    named = mated["decision"] == "identified"
    false = others["decision"] == "identified"
    strict = float(np.quantile(others["rank1_similarity"], 1 - FPIR, method="higher"))
    return {
        "open_gallery": len(found.enrolled),
        "threshold_similarity": found.report["threshold"]["similarity"],
        "threshold_source": found.report["threshold"]["source"],
        "mated": len(mated),
        "mated_named_right": int((right & named).sum()),
        "mated_named_wrong": int((~right & named).sum()),
        "tpir": round(float((right & named).mean()), 5),
        "non_mated": len(others),
        "non_mated_named": int(false.sum()),
        "fpir": round(float(false.mean()), 5),
        "threshold_near_fpir_0.01": round(strict, 4),
        "tpir_there": round(float((right & (mated["rank1_similarity"] >= strict)).mean()), 5),
        "probes_per_s": found.report["probes_per_s"],
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
