"""CPU time of embedders as published and as rewritten, and how far their vectors differ.

    python benchmarks/graph_rewrite.py [MODEL ...] [--batches 1 16 64] [--seconds 2]

A MODEL is a card's name or the path of an ONNX file; without any: every embedder whose weights are on this
machine, and an IResNet-50 of random weights. One thread; the two sides take turns within one process, and the
medians of process time are given, so that other load on the machine disturbs both alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from frpipe.models.registry import Registry
from frpipe.models.session import Session, open_bytes

FEWEST_ROUNDS = 3


def models(names: list[str]) -> Iterator[tuple[str, bytes]]:
    registry = Registry.default()
    if not names:
        cards = [
            card
            for card in registry.cards().values()
            if card.role == "embedder" and card.input.size == (112, 112)
        ]
        yield from ((card.name, path.read_bytes()) for card in cards if (path := registry.locate(card)))
        yield "iresnet50_random", iresnet50()
    for name in names:
        path = Path(name) if name.endswith(".onnx") else registry.find(registry.card(name))
        yield path.stem, path.read_bytes()


class IResNet:
    """The graph of ArcFace's IResNet as exported from PyTorch, with random weights."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def weight(self, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), f"w{len(self.weights)}"))
        return self.weights[-1].name

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [f"n{len(self.nodes)}"], **attributes))
        return self.nodes[-1].output[0]

    def conv(self, data: str, inputs: int, outputs: int, side: int = 3, stride: int = 1) -> str:
        """A convolution and the normalisation that an export has folded into it."""
        scale = (inputs * side * side) ** -0.5
        weight = self.weight(self.rng.normal(0, scale, (outputs, inputs, side, side)))
        bias = self.weight(self.rng.normal(0, 0.1, outputs))
        return self.add("Conv", data, weight, bias, strides=[stride] * 2, pads=[side // 2] * 4)

    def norm(self, data: str, channels: int) -> str:
        spans = ((0.5, 1.0), (-0.1, 0.1), (-0.1, 0.1), (0.5, 2.0))
        rows = [self.rng.uniform(low, high, channels) for low, high in spans]
        return self.add("BatchNormalization", data, *map(self.weight, rows), epsilon=1e-5)

    def prelu(self, data: str, channels: int) -> str:
        return self.add("PRelu", data, self.weight(self.rng.uniform(-0.2, 0.6, (channels, 1, 1))))

    def block(self, data: str, inputs: int, outputs: int, stride: int) -> str:
        inner = self.prelu(self.conv(self.norm(data, inputs), inputs, outputs), outputs)
        inner = self.conv(inner, outputs, outputs, stride=stride)
        return self.add("Add", inner, self.conv(data, inputs, outputs, 1, stride) if stride > 1 else data)


def iresnet50() -> bytes:
    net = IResNet()
    data, inputs = net.prelu(net.conv("x", 3, 64), 64), 64
    for depth, outputs in ((3, 64), (4, 128), (14, 256), (3, 512)):
        for index in range(depth):
            data, inputs = net.block(data, inputs, outputs, 1 if index else 2), outputs
    data = net.add("Flatten", net.norm(data, 512))
    weight = net.weight(net.rng.normal(0, 0.006, (512, 512 * 7 * 7)))
    data = net.add("Gemm", data, weight, transB=1)
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 112, 112])
    exit_ = helper.make_tensor_value_info(data, TensorProto.FLOAT, ["n", 512])
    graph = helper.make_graph(net.nodes, "iresnet50", [entry], [exit_], net.weights)
    opsets = [helper.make_opsetid("", 11)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=6).SerializeToString()


def opened(data: bytes, rewrite: bool) -> tuple[Session, float]:
    start = time.process_time()
    session = open_bytes(data, "cpu", rewrite=rewrite)
    return session, time.process_time() - start


def compare(sides: list[Session], batch: int, seconds: float) -> dict[str, float]:
    blob = np.random.default_rng(batch).uniform(-1, 1, (batch, 3, 112, 112)).astype(np.float32)
    plain, faster = (side.run(blob)[0].reshape(batch, -1).astype(np.float64) for side in sides)
    times: list[list[float]] = [[], []]
    while sum(map(sum, times)) < 2 * seconds or len(times[0]) < FEWEST_ROUNDS:
        for side, spent in zip(sides, times, strict=True):
            start = time.process_time()
            side.run(blob)
            spent.append(time.process_time() - start)
    before, after = (1000 * statistics.median(spent) / batch for spent in times)
    length = np.linalg.norm(plain, axis=1)
    return {
        "before_ms": round(before, 2),
        "after_ms": round(after, 2),
        "ratio": round(before / after, 3),
        "difference": float((np.abs(faster - plain).max(axis=1) / length).max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=2, help="of CPU, for each side and batch")
    arguments = parser.parse_args()
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name, data in models(arguments.models):
        (plain, slow), (faster, fast) = opened(data, False), opened(data, True)
        print(f"{name}: opened in {slow:.2f} s as published, {fast:.2f} s rewritten")
        results[name] = {}
        for batch in arguments.batches:
            row = results[name][str(batch)] = compare([plain, faster], batch, arguments.seconds)
            print(f"  batch {batch:3}: {row['before_ms']:7.2f} -> {row['after_ms']:7.2f} ms a crop", end="")
            print(f"  x{row['ratio']:.2f}  difference {row['difference']:.1e} of the vector's length")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
