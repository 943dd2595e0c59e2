"""What the stage `pad` costs: for benchmarks/pad.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import pyarrow as pa
from duel import duel
from graphs import rewritten

from frpipe.core.config import load_config
from frpipe.models.card import Card
from frpipe.models.crop_model import CropModel
from frpipe.models.loading import load_embedder
from frpipe.stages.chain import StageChain
from frpipe.stages.locate import locator_of
from frpipe.stages.models import Models
from frpipe.stages.pad.probabilities import spec_of
from frpipe.stages.tabulate import tabulate
from frpipe.testing.faces import plan_of

Array = np.ndarray[Any, Any]
ROUNDS = 9


def timed(bench: Any, networks: Sequence[CropModel], encoded: Sequence[bytes]) -> dict[str, Any]:
    """`bare / ours` of faces a CPU-second, and the stage's share of what enroll does beside it."""
    names = [network.card.name for network in networks]
    second = names[1] if len(names) > 1 else "null"
    plain = bench.models
    given = [f"detect.model={plain.detector.name}", "detect.policy=centre-largest", f"pad.model={names[0]}"]
    models = Models.of(
        load_config(None, [*given, f"pad.second_model={second}", "detect.not_photographs=keep"])
    )
    chain = StageChain.of(models.config, models.stage_cards)
    without = locator_of(plain.config, plain.detector, plain.judge)
    beside = locator_of(models.config, models.detector, models.judge, enlarged=chain.enlarged)
    outcomes = [each for each in beside.locate(encoded) if each.crops]
    part = tabulate(0, plan_of(len(outcomes)), outcomes, [1] * len(outcomes), "all")
    crops = [part.enlarged[kind] for kind in chain.enlarged]
    bare = [Bare(network.card, models.config.resources.locate.batch_rows) for network in networks]
    faces = np.stack([each.crops[0] for each in outcomes])
    embedder = load_embedder(models.embedder, models.config.embedder, models.config.resources.embed)
    times = {
        "locate": _ms(lambda: list(without.locate(encoded)), len(encoded)),
        "locate and cut": _ms(lambda: list(beside.locate(encoded)), len(encoded)),
        "embed": _ms(lambda: embedder.embed(faces), len(faces)),
        "stage": _ms(lambda: chain(part), len(faces)),
    }
    rest = times["locate"] + times["embed"]
    added = times["locate and cut"] - times["locate"] + times["stage"]
    return {
        "photos": len(encoded),
        "faces": len(faces),
        "networks": names,
        "stage against a bare loop": duel(
            lambda: chain(part), lambda: together(bare, crops), len(faces), ROUNDS
        ),
        "CPU ms": {name: round(value, 3) for name, value in times.items()},
        "added to locate and embed, share": round(added / rest, 3),
        "embedder": models.embedder.name,
    }


class Bare:
    """ONNX Runtime with nothing around it but the filling of its input and a softmax."""

    def __init__(self, card: Card, rows: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        graph = rewritten(card).SerializeToString()
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._card, self._rows = card, rows if card.input.batched else 1

    def run(self, crops: Array) -> Array:
        spec, side = self._card.input, self._card.input.side
        order = (0, 1, 2) if spec.colour == "RGB" else (2, 1, 0)
        found = []
        for start in range(0, len(crops), self._rows):
            some = crops[start : start + self._rows]
            blob = np.empty((len(some), 3, side, side), np.float32)
            for target, crop in zip(blob, some, strict=True):
                planes = cv2.split(crop)
                for channel, plane in zip(target, order, strict=True):
                    channel[:] = planes[plane]
            if spec.std[0] != 1:
                blob *= np.float32(1 / spec.std[0])
            found.append(self._session.run(None, {self._input: blob})[0])
        rows = np.concatenate(found)
        if spec_of(self._card).outputs == "logits":
            rows = np.exp(rows - rows.max(axis=1, keepdims=True))
            rows /= rows.sum(axis=1, keepdims=True)
        return rows


def together(networks: Sequence[Bare], crops: Sequence[Array]) -> pa.Table:
    """Score and class of each face, in a table."""
    mean = np.mean([each.run(some) for each, some in zip(networks, crops, strict=True)], axis=0)
    return pa.table({"pad_score": mean[:, 1], "pad_label": mean.argmax(axis=1)})


def _ms(function: Callable[[], Any], items: int, rounds: int = 5) -> float:
    """The best CPU time per item."""
    function()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times) / items * 1000
