"""What the stage `quality` costs: for benchmarks/quality.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import pyarrow as pa
from duel import duel
from graphs import rewritten

from frpipe.models.card import Card
from frpipe.models.loading import load_embedder
from frpipe.stages.quality.measures import DECISIVE, MEASURES
from frpipe.stages.tabulate import tabulate
from frpipe.testing.faces import plan_of
from frpipe.vision.quality.border import border_distances
from frpipe.vision.quality.cheeks import illumination_uniformity, natural_colour
from frpipe.vision.quality.compression import bits_per_pixel
from frpipe.vision.quality.detail import detail
from frpipe.vision.quality.eyes import inter_eye_distance
from frpipe.vision.quality.luminance import (
    dynamic_range,
    face_histograms,
    luminance_mean,
    luminance_variance,
    over_exposure,
    under_exposure,
)
from frpipe.vision.quality.pose import pose_of_points

Array = np.ndarray[Any, Any]
ROUNDS, ROWS = 9, 8


def timed(learned: Any, plain: Any, photos: Sequence[Path]) -> dict[str, Any]:
    """`bare / ours` of faces a CPU-second, and the stage's share of what enroll does beside it."""
    encoded = [path.read_bytes() for path in photos]
    outcomes = plain.locate(encoded)
    crops = np.stack([each.crops[0] for each in outcomes if each.crops])
    points = np.stack([each.faces.points[0] for each in outcomes if each.crops]).astype(np.float64)
    part = tabulate(0, plan_of(len(outcomes)), outcomes, [1] * len(outcomes), "all")
    report: dict[str, Any] = {
        "measures": duel(lambda: plain.chain(part), lambda: bare(crops, points), len(crops), ROUNDS)
    }
    card = learned.models.stage_cards.get("quality", {}).get("model")
    if card is not None:
        network = Bare(card)
        report[f"measures and {card.name}"] = duel(
            lambda: learned.chain(part),
            partial(_bare_and_network, network, crops, points),
            len(crops),
            ROUNDS,
        )
    models = plain.models
    embedder = load_embedder(models.embedder, models.config.embedder, models.config.resources.embed)
    rest = _ms(lambda: plain.locate(encoded), len(photos)) + _ms(lambda: embedder.embed(crops), len(photos))
    own = {
        name: _ms(partial(each.chain, part), len(photos))
        for name, each in (("plain", plain), ("learned", learned))
    }
    report["of an enrolment"] = {
        "photos": len(photos),
        "faces": len(crops),
        "locate and embed, ms": round(rest, 2),
        "embedder": models.embedder.name,
        "measures, ms": round(own["plain"], 3),
        "measures, share": round(own["plain"] / rest, 4),
        "with the network, ms": round(own["learned"], 3),
        "with the network, share": round(own["learned"] / rest, 4),
    }
    return report


def bare(crops: Array, points: Array) -> pa.Table:
    """The same numbers by the pure functions alone, in one table: no nulls, no limits, no causes."""
    yaw, pitch, roll = pose_of_points(points)
    light = face_histograms(crops)
    sides = np.full(len(crops), 250.0)
    sharpness, noise = detail(crops)
    raw = [
        yaw,
        pitch,
        roll,
        inter_eye_distance(np.hypot(*(points[:, 1] - points[:, 0]).T), yaw),
        np.zeros(len(crops)),
        *border_distances(points, sides),
        luminance_mean(light),
        luminance_variance(light),
        dynamic_range(light),
        over_exposure(light),
        under_exposure(light),
        illumination_uniformity(crops),
        natural_colour(crops),
        sharpness,
        bits_per_pixel(sides, sides, sides),
        noise,
    ]
    named = dict(zip(MEASURES, raw, strict=True))
    scores = {f"{measure.name}_score": measure.component(values) for measure, values in named.items()}
    return pa.table(
        {measure.raw: values.astype(np.float32) for measure, values in named.items()}
        | {name: values.astype(np.int8) for name, values in scores.items()}
        | {"quality_score": np.min([scores[f"{name}_score"] for name in DECISIVE], axis=0)}
    )


def _bare_and_network(network: Bare, crops: Array, points: Array) -> None:
    bare(crops, points)
    network.run(crops)


class Bare:
    """ONNX Runtime with nothing around it but the filling of its input."""

    def __init__(self, card: Card) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        graph = rewritten(card).SerializeToString()
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._card = card

    def run(self, crops: Array) -> None:
        spec = self._card.input
        assert isinstance(spec.size, tuple)
        blob = np.empty((ROWS, 3, *spec.size[::-1]), np.float32)
        order = (0, 1, 2) if spec.colour == "RGB" else (2, 1, 0)
        for start in range(0, len(crops), ROWS):
            some = crops[start : start + ROWS]
            for target, crop in zip(blob, some, strict=False):
                planes = cv2.split(cv2.resize(crop, spec.size))
                for channel, plane in zip(target, order, strict=True):
                    channel[:] = planes[plane]
            filled = (blob[: len(some)] - np.float32(spec.mean[0])) * np.float32(1 / spec.std[0])
            self._session.run(None, {self._input: filled})


def _ms(function: Callable[[], Any], items: int, rounds: int = 5) -> float:
    """The best CPU time per item."""
    function()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times) / items * 1000
