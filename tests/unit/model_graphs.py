"""Tiny ONNX graphs and cards for the tests of the model store."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper


def serialise(
    nodes: list[Any], inputs: dict[str, list[Any]], outputs: dict[str, list[Any]], weights: list[Any]
) -> bytes:
    """An ONNX file, opset 21, of float32 inputs and outputs given as name -> shape."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        weights,
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10
    ).SerializeToString()


def relu() -> bytes:
    """The least that runs: (N, 3, 4, 4) in, its positive part out."""
    shape = ["n", 3, 4, 4]
    return serialise([helper.make_node("Relu", ["image"], ["out"])], {"image": shape}, {"out": shape}, [])


def external() -> bytes:
    """A graph whose weight lies in a file beside it."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="../secret.bin")
    nodes = [helper.make_node("Add", ["image", "w"], ["out"])]
    return serialise(nodes, {"image": ["n", 3]}, {"out": ["n", 3]}, [weight])


def detector(size: int = 64) -> bytes:
    """As detectors are published: batch and size fixed, weights quantised in blocks (9 along axis 1, or one
    block in all), a Dropout left in, one weight among the inputs, and an input that nothing reads."""
    rng = np.random.default_rng(5)
    weights = {
        "w_q": rng.integers(-127, 127, (4, 27), np.int8),
        "w_scale": rng.uniform(1e-5, 1e-4, (4, 3)).astype(np.float32),
        "w_zero": rng.integers(-5, 5, (4, 3), np.int8),
        "w_shape": np.array([4, 3, 3, 3]),
        "b_q": rng.integers(-127, 127, 4, np.int8),
        "b_scale": np.array([0.02], np.float32),
        "b_zero": np.array([3], np.int8),
        "shape": np.array([1, size * size // 4, 4]),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["w_q", "w_scale", "w_zero"], ["w_flat"], axis=1, block_size=9),
        helper.make_node("Reshape", ["w_flat", "w_shape"], ["w"]),
        helper.make_node("DequantizeLinear", ["b_q", "b_scale", "b_zero"], ["b"], axis=0, block_size=4),
        helper.make_node("Conv", ["image", "w", "b"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Dropout", ["c"], ["d"]),
        helper.make_node("Transpose", ["d"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["t", "shape"], ["boxes"]),
    ]
    inputs = {"image": [1, 3, size, size], "left_over": [4, 3, 3, 3], "b_scale": [1]}
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    return serialise(nodes, inputs, {"boxes": [1, size * size // 4, 4]}, stored)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def card_fields(name: str, data: bytes, **changes: Any) -> dict[str, Any]:
    """A complete card for `data`, as plain values."""
    return {
        "name": name,
        "role": "embedder",
        "architecture": "tiny",
        "file": f"{name}.onnx",
        "sha256": sha256(data),
        "licence": "none",
        "training_data": "none",
        "limits": "a test",
        "source": {"kind": "bring", "how": "draw it yourself"},
        "input": {"colour": "RGB", "mean": [0, 0, 0], "std": [1, 1, 1], "size": [4, 4]},
        "embedder": {"dim": 3},
        **changes,
    }


def write_card(folder: Path, fields: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{fields['name']}.yaml"
    path.write_text(yaml.safe_dump(fields))
    return path


def model_inputs(data: bytes) -> dict[str, list[Any]]:
    """Input name -> shape, a free axis as None."""
    graph = onnx.load_model_from_string(data).graph
    return {
        value.name: [axis.dim_value or None for axis in value.type.tensor_type.shape.dim]
        for value in graph.input
    }
