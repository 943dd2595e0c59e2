"""Which measures of quality find the photos that are not recognised: error versus discard over all pairs.

    python jobs/enroll.py --manifest lfw.csv --output out/lfw --set detect.policy=centre-largest \\
        --set quality.policy=flag
    python benchmarks/quality_discard.py out/lfw --leave-out wrongly_named.txt
    python benchmarks/quality_discard.py out/cfp --across view --bins pose_yaw_deg

Every two photos are compared, or those that differ in the column of --across. The threshold is the one at
which the FMR of all non-mated pairs is the target; FNMR is of all mated pairs, whose quality is the lower of
both sides. Persons are drawn again for intervals. For each measure: the gain of discarding the lowest 20 %
(0: chance, 1: errors alone), and the FNMR that 5, 10, 20 and 30 % leave. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from frpipe.evaluation.quality import QualityMeasure
from frpipe.jobs.features import FeatureRun
from frpipe.metrics.binned_rate import quantile_edges, rate_by_bin
from frpipe.metrics.clustered import clustered_rate
from frpipe.metrics.discard import discard_areas, kept, pair_quality
from frpipe.metrics.operating import Insufficient
from frpipe.metrics.rate import Rate

Array = np.ndarray[Any, Any]
MEASURES = (
    "quality_score",
    "learned_quality",
    "pose_yaw_deg",
    "pose_pitch_deg",
    "pose_roll_deg",
    "inter_eye_px",
    "crop_left_eyes",
    "ofiq_like_sharpness",
    "noise_sigma:low",
    "ofiq_like_compression",
    "ofiq_like_luminance_mean_score",
    "ofiq_like_luminance_variance_score",
    "ofiq_like_dynamic_range",
    "ofiq_like_over_exposure:low",
    "ofiq_like_under_exposure:low",
    "ofiq_like_illumination_uniformity",
    "ofiq_like_natural_colour:low",
    "second_face_share:low",
    "score",
    "sharpness",
    "norm",
)
FRACTIONS = (0.05, 0.1, 0.2, 0.3)
LIMIT = 0.2


@dataclass(frozen=True)
class Photos:
    """ids: (n,) of the photos.  person: (n,) numbers.  side: (n,) numbers of labels; None: all pairs count.
    vectors: (n, d), unit.  quality: by measure, (n,) higher better.
    """

    ids: Array
    person: Array
    side: Array | None
    vectors: Array
    quality: dict[QualityMeasure, Array]

    def without(self, ids: Sequence[str]) -> Photos:
        """All but some."""
        rest = ~np.isin(self.ids, list(ids))
        side = None if self.side is None else self.side[rest]
        quality = {measure: values[rest] for measure, values in self.quality.items()}
        return Photos(self.ids[rest], self.person[rest], side, self.vectors[rest], quality)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("features", help="of jobs/enroll.py, one face a photo, people in subject_id")
    add("--embedder", metavar="NAME", help="of several (default: the first)")
    add("--fmr", type=float, default=1e-4, metavar="P", help="%(default)s")
    add("--across", metavar="COLUMN", help="compare photos that differ in this column of the manifest")
    add("--measures", nargs="+", default=[], metavar="COLUMN", help="default: those that are there")
    add("--bins", nargs="+", default=[], metavar="COLUMN", help="FNMR by bins of these measures too")
    add("--leave-out", type=Path, metavar="FILE", help="image_ids of photos to leave out, a line each")
    options = parser.parse_args()
    left_out = options.leave_out.read_text(encoding="utf-8").split("\n") if options.leave_out else []
    photos = read(options.features, options.embedder, options.across, options.measures).without(left_out)
    report = measured(photos, options.fmr, options.bins)
    print(json.dumps(report | {"features": options.features, "embedder": options.embedder or "first"}))


def read(uri: str, embedder: str | None, across: str | None, asked: Sequence[str]) -> Photos:
    """The faces, and what was measured of them."""
    features = FeatureRun.open(uri, embedder).features
    known = features.faces(features.some_parts()[0], None).schema.names
    measures = [QualityMeasure.parse(text) for text in asked or MEASURES]
    measures = [one for one in measures if asked or one.column in known]
    columns = [one.column for one in measures]
    images, faces = (
        pa.concat_tables(tables)
        for tables in zip(
            *features.tables(
                ["image_id", "subject_id", *([across] if across else [])], ["image_id", "embedding", *columns]
            ),
            strict=True,
        )
    )
    ids = faces["image_id"].to_numpy(zero_copy_only=False)
    rows = images.to_pandas().set_index("image_id").loc[ids]
    return Photos(
        ids.astype(str),
        np.unique(rows["subject_id"].astype(str), return_inverse=True)[1],
        np.unique(rows[across].astype(str), return_inverse=True)[1] if across else None,
        faces["embedding"].combine_chunks().flatten().to_numpy().reshape(len(ids), -1),
        {
            one: one.quality(faces[one.column].cast(pa.float64()).to_numpy(zero_copy_only=False))
            for one in measures
        },
    )


def measured(photos: Photos, fmr: float, bins: Sequence[str]) -> dict[str, Any]:
    """Print a table; the same as data."""
    a, b, mated, similarity = pairs_of(photos)
    nonmated = similarity[~mated]
    allowed = int(fmr * len(nonmated) + 1e-9)
    # All that is above the first score too many is accepted.
    limit = float(np.partition(nonmated, -(allowed + 1))[-(allowed + 1)])
    a, b, alike = a[mated], b[mated], similarity[mated]
    wrong, people = alike <= limit, photos.person[a]
    everything = rated(wrong, people)
    print(f"{len(photos.person):,} photos of {len(np.unique(photos.person)):,} people")
    print(f"mated {len(wrong):,} pairs of {len(np.unique(people)):,} people, non-mated {len(nonmated):,}")
    print(f"similarity above {limit:.4f}: FMR {allowed / len(nonmated):.3g}, FNMR {everything['text']}")
    report: dict[str, Any] = {
        "mated": len(wrong),
        "people": len(np.unique(people)),
        "nonmated": len(nonmated),
        "fmr": fmr,
        "similarity": limit,
        "fnmr": everything,
        "measures": {},
        "bins": {},
    }
    for measure, each in photos.quality.items():
        quality = pair_quality(each[a], each[b])
        report["measures"][measure.column] = row_of(measure, quality, wrong, people)
        if measure.column in bins:
            report["bins"][measure.column] = binned(measure, quality, wrong, people)
    return report


def pairs_of(photos: Photos) -> tuple[Array, Array, Array, Array]:
    """Both photos of each pair, whether it is mated, and the similarity."""
    a, b = np.triu_indices(len(photos.person), 1)
    if photos.side is not None:
        across = photos.side[a] != photos.side[b]
        a, b = a[across], b[across]
    similarity = (photos.vectors @ photos.vectors.T)[a, b]
    return a, b, photos.person[a] == photos.person[b], similarity


def rated(wrong: Array, people: Array) -> dict[str, Any]:
    rate, between = Rate(int(wrong.sum()), len(wrong)), clustered_rate(wrong, people)
    text = f"{rate.value:.4f} [{between.low:.4f}, {between.high:.4f}] ({rate.count:,} of {rate.trials:,})"
    return {
        "value": rate.value,
        "low": between.low,
        "high": between.high,
        "count": rate.count,
        "trials": rate.trials,
        "text": text,
    }


def row_of(measure: QualityMeasure, quality: Array, wrong: Array, people: Array) -> dict[str, Any]:
    """The gain and what is left, of one measure."""
    areas = discard_areas(wrong, quality, people, [LIMIT])
    if isinstance(areas, Insufficient):
        print(f"{measure.column:36} {areas}")
        return {"note": str(areas)}
    (area,), unknown = areas, int(np.isnan(quality).sum())
    left = {str(at): rated(wrong[kept(quality, at)], people[kept(quality, at)]) for at in FRACTIONS}
    rates = " ".join(f"{each['value']:.4f} [{each['low']:.4f}, {each['high']:.4f}]" for each in left.values())
    gain = f"{area.gain:+.3f} [{area.gain_interval.low:+.3f}, {area.gain_interval.high:+.3f}]"
    print(f"{measure.column:36} {gain}  {rates}" + (f"  not measured {unknown:,}" if unknown else ""))
    return {
        "better": measure.better,
        "gain": [area.gain, area.gain_interval.low, area.gain_interval.high],
        "left": left,
        "not_measured": unknown,
    }


def binned(measure: QualityMeasure, quality: Array, wrong: Array, people: Array) -> list[dict[str, Any]]:
    """FNMR by bins of the worse side."""
    values, found = measure.values(quality), []
    for one in rate_by_bin(wrong, people, values, measure.edges or quantile_edges(values)):
        if one.interval is None:
            continue
        said = f" {one.lacking}" if one.lacking else ""
        text = f"{one.rate.value:.4f} [{one.interval.low:.4f}, {one.interval.high:.4f}]"
        counts = f"({one.rate.count:,} of {one.rate.trials:,})"
        print(f"  {measure.column} {one.low:g} to {one.high:g}: {text} {counts}{said}")
        found.append({"low": one.low, "high": one.high, "text": text, "counts": counts, "note": said.strip()})
    return found


if __name__ == "__main__":
    main()
