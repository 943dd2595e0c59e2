"""What mirrored averaging and weighted templates change for profile faces: CFP, frontal against profile.

    FRPIPE_MODEL_DIR=../shared/models python benchmarks/pose_features.py ../shared/data
    python benchmarks/pose_features.py ../shared/data --features features.npz   # computed once, then kept

- protocol: the pairs of CFP, frontal against profile; each of two folds at the threshold of the other.
- photos: each frontal photo against each profile, of everybody.
- several: the same, and a mean of all frontal photos of a person against each profile.
- enrolled: means of five and seven frontal photos, and of five and two profiles, against the other profiles.
- frontal: each way to keep all frontal photos of a person, against each profile.
- mixed: each way to keep five frontal photos and two profiles, against the other frontal photos and profiles.

FNMR is at a fixed FMR; a photo without a face matches nothing. Intervals are of 95 % and draw people again
(`frpipe.metrics.bootstrap`), those of differences in pairs. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pyarrow as pa
from accuracy import Pair, best_threshold, cfp_pairs, is_right, mated, similarities
from quality import DETECTOR, Bench, config_of

from frpipe.core.config import EmbedConfig, PoolConfig
from frpipe.gallery.schema import template_schema, vector_array, vectors_of
from frpipe.gallery.templates import TemplatePolicy, reduce_templates
from frpipe.gallery.weights import WEIGHED_BY, WEIGHT, weights_of
from frpipe.metrics.bootstrap import curve_replicates, draws, percentiles
from frpipe.metrics.curve import Curve
from frpipe.metrics.scores import Scores
from frpipe.models.loading import load_embedder
from frpipe.models.registry import Registry

Array = np.ndarray[Any, Any]
EMBEDDERS = ("sface_2021dec", "edgeface_xs_q")
FMR, REPLICATES, STEP = 1e-3, 500, 200
MEASURES = ("quality", *WEIGHED_BY.values())
KEPT = ("mean", "quality-mean", *WEIGHED_BY)
Samples = dict[str, Array]
Compared = tuple[Array, Array, Array]
"""Similarities (probes, people), and the people of both sides."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with cfp")
    parser.add_argument("--detector", default=DETECTOR, metavar="CARD")
    parser.add_argument("--features", type=Path, metavar="FILE", help="of features; made if absent")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    faces = features(options.data / "cfp/images", options.detector, options.features)
    pairs = cfp_pairs(options.data / "cfp/pairs_FP.csv")
    report = {"detector": options.detector, "fmr": FMR, **counted(faces)}
    for embedder in EMBEDDERS:
        report[embedder] = measured(faces, embedder, pairs)
        print(f"{embedder}: {json.dumps(report[embedder])}", file=sys.stderr, flush=True)
    print(json.dumps(report))


def features(folder: Path, detector: str, kept: Path | None) -> Samples:
    """Measures and unit vectors of all photos, in the order of `photo`; NaN where there is no face."""
    if kept is not None and kept.is_file():
        return dict(np.load(kept))
    bench, names = (
        Bench(config_of(detector)),
        sorted(str(p.relative_to(folder)) for p in folder.glob("*/*/*")),
    )
    rows, crops, columns = [], [], dict[str, list[float]]()
    for start in range(0, len(names), STEP):
        some = names[start : start + STEP]
        outcomes = bench.locate((folder / name).read_bytes() for name in some)
        faces = bench.faces(outcomes)
        rows += [start + int(row) for row in faces["row"].to_pylist()]
        crops += [outcome.crops[0] for outcome in outcomes if outcome.crops]
        for name in MEASURES[1:]:
            columns.setdefault(name, []).extend(faces[name].to_pylist())
        columns.setdefault("quality", []).extend(_older_quality(faces))
        print(f"{start + len(some)} of {len(names)} photos", file=sys.stderr, flush=True)
    found = {"photo": np.array(names)}
    at = np.array(rows)
    for name, values in columns.items():
        found[name] = _spread(np.array(values, np.float64), at, len(names))
    registry, pool = Registry.default(), PoolConfig()
    for embedder in EMBEDDERS:
        card = registry.card_for("embedder", embedder)
        for flip in (False, True):
            network = load_embedder(card, EmbedConfig(model=embedder, flip=flip), pool)
            vectors = network.embed(np.stack(crops)).astype(np.float64)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            found[_key(embedder, flip)] = _spread(vectors, at, len(names))
            print(f"{embedder}, flip {flip}", file=sys.stderr, flush=True)
    if kept is not None:
        with kept.open("wb") as file:
            np.savez(file, allow_pickle=False, **found)
    return found


def _older_quality(faces: pa.Table) -> list[float]:
    from frpipe.jobs.subject_faces import quality

    columns = (faces[name].to_numpy() for name in ("score", "eye_distance_px", "sharpness"))
    return quality(*columns).tolist()


def _spread(values: Array, rows: Array, count: int) -> Array:
    out = np.full((count, *values.shape[1:]), np.nan)
    out[rows] = values
    return out


def _key(embedder: str, flip: bool) -> str:
    return f"{embedder} mirrored" if flip else embedder


def counted(faces: Samples) -> dict[str, Any]:
    """Photos, those without a face, and the median measures of each side."""
    report: dict[str, Any] = {}
    for side in ("frontal", "profile"):
        own = _side(faces, side)
        known = own & ~np.isnan(faces["quality_score"])
        report[side] = {
            "photos": int(own.sum()),
            "without_a_face": int((own & np.isnan(faces["quality"])).sum()),
            "quality_score": _percentiles(faces["quality_score"][known]),
            "yaw": _percentiles(np.abs(faces["pose_yaw_deg"][own])),
        }
    return report


def _percentiles(values: Array) -> list[float]:
    return [round(float(each), 1) for each in np.nanpercentile(values, [5, 50, 95])]


def _side(faces: Samples, side: str) -> Array:
    return np.array([f"/{side}/" in name for name in faces["photo"]])


def measured(faces: Samples, embedder: str, pairs: Sequence[Pair]) -> dict[str, Any]:
    """All that is measured of one embedder."""
    flips = {flip: faces[_key(embedder, flip)] for flip in (False, True)}
    frontal, profile = (np.flatnonzero(_side(faces, side)) for side in ("frontal", "profile"))
    number, people = np.array([int(Path(name).stem) for name in faces["photo"]]), _people(faces)
    photos = {
        f"flip {flip}": (vectors[profile] @ vectors[frontal].T, people[profile], people[frontal])
        for flip, vectors in flips.items()
    }

    def some(side: Array, first: int, last: int) -> Array:
        return side[(number[side] >= first) & (number[side] <= last)]

    five, seven = some(frontal, 1, 5), some(frontal, 1, 7)
    mixed, probes = np.concatenate([five, some(profile, 1, 2)]), some(profile, 3, 4)
    plain = {"mean": ("mean", flips[False])}
    both = {f"{how}, flip {flip}": (how, each) for flip, each in flips.items() for how in (*KEPT, "all")}
    enrolled = {"5 frontal": five, "7 frontal": seven, "5 frontal, 2 profile": mixed}
    several = {"one photo": photos["flip False"], **templates(faces, plain, frontal, profile)}
    with_profiles = {what: templates(faces, plain, rows, probes)["mean"] for what, rows in enrolled.items()}
    return {
        "protocol": protocol(faces["photo"], flips, pairs),
        "photos": rates(photos),
        "several": rates(several),
        "enrolled": rates(with_profiles),
        "frontal": rates(templates(faces, both, frontal, profile)),
        "mixed, frontal": rates(templates(faces, both, mixed, some(frontal, 6, 10))),
        "mixed, profile": rates(templates(faces, both, mixed, probes)),
    }


def protocol(names: Array, flips: Mapping[bool, Array], pairs: Sequence[Pair]) -> dict[str, Any]:
    """Accuracy on the pairs without and with mirrored averaging, and what the latter gains."""
    folds = sorted({pair.fold for pair in pairs})
    splits = [[[p for p in pairs if (p.fold == fold) == own] for own in (False, True)] for fold in folds]
    tested = [pair for _, test in splits for pair in test]
    a, b = (np.array([int(getattr(p, side)[:3]) - 1 for p in tested]) for side in ("first", "second"))
    report: dict[str, Any] = {"pairs": len(tested)}
    shares = []
    for flip, vectors in flips.items():
        known = {name: v for name, v in zip(names, vectors, strict=True) if not np.isnan(v[0])}
        right = np.concatenate([_right(train, test, known) for train, test in splits]).astype(float)
        shares.append((right.mean(), _replicates(right, a, b)))
        report[f"flip {flip}"] = _with_interval(*shares[-1])
    (plain, plains), (mirrored, mirroreds) = shares
    report["gain"] = _with_interval(mirrored - plain, mirroreds - plains)
    return report


def _right(train: Sequence[Pair], test: Sequence[Pair], known: dict[str, Array]) -> Array:
    threshold = best_threshold(similarities(train, known), mated(train))
    return is_right(similarities(test, known), mated(test), threshold)


def _replicates(right: Array, a: Array, b: Array) -> Array:
    """(replicates,) shares of right decisions, people drawn again. a, b: people of both sides."""
    found = []
    for block in draws(int(max(a.max(), b.max())) + 1, REPLICATES):
        for drawn in block:
            weights = np.where(a == b, drawn[a], drawn[a] * drawn[b])
            found.append(float(weights @ right / weights.sum()))
    return np.array(found)


def templates(
    faces: Samples, ways: Mapping[str, tuple[str, Array]], enrolled: Array, probes: Array
) -> dict[str, Compared]:
    """Probes against the enrolled photos, by ways to keep them: `--templates`, and the vectors of all."""
    people = _people(faces)
    found: dict[str, Compared] = {}
    for name, (how, vectors) in ways.items():
        if how == "all":
            scores = np.nan_to_num(vectors[probes] @ vectors[enrolled].T, nan=-1)
            ids = np.unique(people[enrolled])
            best = np.stack([scores[:, people[enrolled] == each].max(axis=1) for each in ids], axis=1)
        else:
            ids, kept = _reduced(faces, vectors, enrolled, how)
            best = vectors[probes] @ kept.T
        found[name] = best, people[probes], ids
    return found


def _reduced(faces: Samples, vectors: Array, rows: Array, how: str) -> tuple[Array, Array]:
    """(people,) ids and (people, dim) templates, as a gallery has them."""
    rows = rows[~np.isnan(vectors[rows, 0])]
    columns = {
        "subject_id": pa.array(_people(faces)[rows].astype(str)),
        "face_id": pa.array(faces["photo"][rows]),
        "image_uri": pa.nulls(len(rows), pa.string()),
        "quality": pa.array(faces["quality"][rows].astype(np.float32)),
        "enrolled_at": pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * len(rows)),
        "embedding": vector_array(vectors[rows]),
    }
    schema = template_schema(vectors.shape[1])
    table = pa.Table.from_arrays(
        [columns[name].cast(schema.field(name).type) for name in schema.names], schema=schema
    )
    if how in WEIGHED_BY:
        values = pa.chunked_array([pa.array(faces[WEIGHED_BY[how]][rows], from_pandas=True)])
        table = table.append_column(WEIGHT, weights_of(how, values))
    reduced = reduce_templates(table, cast(TemplatePolicy, how))
    return np.array(reduced["subject_id"].to_pylist()).astype(int), vectors_of(reduced)


def _people(faces: Samples) -> Array:
    return np.array([int(name.split("/")[0]) for name in faces["photo"]])


def rates(ways: Mapping[str, Compared]) -> dict[str, Any]:
    """FNMR of each way at the fixed FMR, and how much less it is than that of the first, with intervals."""
    report: dict[str, Any] = {}
    first: tuple[float, Array] | None = None
    for name, (scores, probes, people) in ways.items():
        same = probes[:, None] == people
        a, b = np.broadcast_arrays(probes[:, None], people)
        known = np.nan_to_num(scores, nan=-1)
        given = Scores.of(known[same], known[~same])
        rate = Curve.of(given).fnmr_at(FMR)
        (found,) = curve_replicates(
            given, a[same], (a[~same], b[~same]), [lambda curve: curve.fnmr_at(FMR)], replicates=REPLICATES
        ).T
        report[name] = {
            "comparisons": [len(given.mated), len(given.nonmated)],
            "fnmr": _with_interval(rate, found),
        }
        if first is None:
            first = rate, found
        else:
            report[name]["less"] = _with_interval(first[0] - rate, first[1] - found)
    return report


def _with_interval(value: float, replicates: Array) -> list[float]:
    found = percentiles(replicates)
    return [round(float(each), 4) for each in (value, found.low, found.high)]


if __name__ == "__main__":
    main()
