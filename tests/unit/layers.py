"""Small convolutional networks with random weights, as ONNX graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 12


class Net:
    """A graph being built: float32 weights from a seed, one (n, 3, 12, 12) input named x."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: dict[str, np.ndarray] = {}
        self.opset = 17
        self.ir_version = 8
        self.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])]

    def weight(self, name: str, values: Any, kind: Any = np.float32) -> str:
        self.weights[name] = np.asarray(values, kind)
        return name

    def conv(self, data: str, result: str, shape: tuple[int, ...], bias: bool = True, **kinds: Any) -> str:
        inputs = [data, self.weight(f"{result}_w", self.rng.normal(0, 0.3, shape))]
        if bias:
            inputs.append(self.weight(f"{result}_b", self.rng.normal(size=shape[0])))
        return self.node("Conv", inputs, result, **kinds)

    def norm(self, data: str, result: str, channels: int) -> str:
        scale, shift, mean = self.rng.normal(size=(3, channels))
        rows = {"scale": scale, "shift": shift, "mean": mean, "var": self.rng.uniform(0.1, 2, channels)}
        return self.node(
            "BatchNormalization", [data, *(self.weight(f"{result}_{k}", v) for k, v in rows.items())], result
        )

    def prelu(self, data: str, result: str, slope: Any) -> str:
        return self.node("PRelu", [data, self.weight(f"{result}_slope", slope)], result)

    def node(self, kind: str, inputs: list[str], result: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [result], **attributes))
        return result

    def model(self, *outputs: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "net",
            self.inputs,
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in outputs],
            [numpy_helper.from_array(values, name) for name, values in self.weights.items()],
        )
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=self.ir_version)
