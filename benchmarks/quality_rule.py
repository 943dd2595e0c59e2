"""Which components tell whether a face is recognised: for benchmarks/quality.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from worsen import LADDERS, pixels_of, worse

from frpipe.core.config import Config, load_config
from frpipe.models.loading import load_embedder
from frpipe.models.registry import Registry
from frpipe.stages.quality.measures import MEASURES

Array = np.ndarray[Any, Any]
EMBEDDERS = {"edgeface_xs_q": 0.325, "sface_2021dec": 0.363}
DISCARDED = (0.1, 0.2, 0.3)


def ruled(bench: Any, config: Config, data: Path, people: int, decisive: Sequence[str]) -> dict[str, Any]:
    """By embedder: the rate of non-matches; of each component and join its correlation and discards."""
    folders = [f for f in sorted((data / "lfw/images").iterdir()) if len(list(f.glob("*.jpg"))) > 1]
    pairs = [
        sorted(folder.glob("*.jpg"))[:2] for folder in folders[:: max(1, len(folders) // people)][:people]
    ]
    references = bench.locate(one.read_bytes() for one, _ in pairs)
    steps = [("clean", 0.0), *((kind, amount) for kind, some in LADDERS.items() for amount in some)]
    owners, crops, columns = [], [], []
    for kind, amount in steps:
        photos = (
            other.read_bytes() if kind == "clean" else worse(pixels_of(other), kind, amount, seed)
            for seed, (_, other) in enumerate(pairs)
        )
        outcomes = bench.locate(photos)
        kept = [i for i, each in enumerate(outcomes) if each.crops and references[i].crops]
        owners += kept
        crops += [outcomes[i].crops[0] for i in kept]
        columns.append(bench.faces([outcomes[i] for i in kept]))
    scores = _scores(columns)
    joined = [name for name in decisive if name in scores]
    points = [name for name in joined if name != "learned_quality"]
    candidates = {
        **scores,
        "min of decisive, no network": np.fmin.reduce([scores[name] for name in points]),
        "mean of decisive, no network": np.nanmean([scores[name] for name in points], axis=0),
        "min of decisive": np.fmin.reduce([scores[name] for name in joined]),
        "min of all, no network": np.fmin.reduce([scores[m.name] for m in MEASURES]),
        "mean of all, no network": np.nanmean([scores[m.name] for m in MEASURES], axis=0),
    }
    report: dict[str, Any] = {"photos": len(owners)}
    for name, threshold in EMBEDDERS.items():
        similarity = _similarities(name, references, owners, crops)
        wrong = similarity < threshold
        report[name] = {"non-matches": round(float(wrong.mean()), 4)} | {
            what: [round(_correlation(values, similarity), 3), *_left(values, wrong)]
            for what, values in candidates.items()
        }
    return report


def _scores(tables: Sequence[Any]) -> dict[str, Array]:
    names = {measure.name: f"{measure.name}_score" for measure in MEASURES}
    names |= {"learned_quality": "learned_quality_score", "quality_score": "quality_score"}
    found = {}
    for name, column in names.items():
        values = np.concatenate([table[column].cast("float64").to_numpy() for table in tables])
        if not np.isnan(values).all():
            found[name] = values
    return found


def _similarities(
    name: str, references: Sequence[Any], owners: Sequence[int], crops: Sequence[Array]
) -> Array:
    config = load_config(None, [f"embed.model={name}"])
    embedder = load_embedder(
        Registry.default().card_for("embedder", name), config.embedder, config.resources.embed
    )
    known = sorted(set(owners))
    first = dict(
        zip(known, _unit(embedder.embed(np.stack([references[i].crops[0] for i in known]))), strict=True)
    )
    second = _unit(embedder.embed(np.stack(crops)))
    return np.array([first[owner] @ vector for owner, vector in zip(owners, second, strict=True)])


def _unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _correlation(one: Array, other: Array) -> float:
    """Spearman's, ties by their mean rank; what is not known counts as the best."""
    ranks = [_ranks(np.nan_to_num(values, nan=np.inf)) for values in (one, other)]
    if any(np.ptp(each) == 0 for each in ranks):
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: Array) -> Array:
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[where]


def _left(values: Array, wrong: Array) -> list[float]:
    """The rate of non-matches once so many of the lowest are discarded; ties count in equal parts."""
    order = np.lexsort((np.random.default_rng(0).random(len(values)), np.nan_to_num(values, nan=np.inf)))
    return [round(float(wrong[order][int(share * len(order)) :].mean()), 4) for share in DISCARDED]
