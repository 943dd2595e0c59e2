"""Graphs rewritten for the CPU are the same function, and are left alone where they are none of ours."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from layers import SIDE, Net
from onnx import TensorProto, helper

from frpipe.core.config import DecodeConfig, DetectConfig
from frpipe.models import session as session_module
from frpipe.models.card import Card
from frpipe.models.detectors.base import Detector
from frpipe.models.embedders.arcface import Embedder
from frpipe.models.onnx_file import OnnxFile
from frpipe.models.registry import Registry
from frpipe.models.rewrite import speed_up
from frpipe.models.session import open_bytes, open_session
from frpipe.vision.align import align_photo
from frpipe.vision.decode import decode

on_x86 = pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="x86 only")
SLOPES = {
    "zero": np.zeros(32),
    "one": np.ones(32),
    "negative": np.linspace(-2, -0.1, 32),
    "beyond one": np.linspace(1.01, 40, 32),
    "all kinds": np.r_[0, 1, -1, 2, 1e-8, 1 - 1e-7, 1 + 1e-6, -300, np.linspace(-3, 3, 24)],
    "shared": np.full(32, -1.5),
}


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    """The outputs for three random inputs, with ONNX Runtime's own rewriting as in use."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    inner = ort.InferenceSession(
        model.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"]
    )
    data = np.random.default_rng(9).normal(size=(3, 3, SIDE, SIDE)).astype(np.float32)
    results: list[np.ndarray] = inner.run(None, {"x": data})
    return results


def rewritten(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.load_model_from_string(speed_up(OnnxFile.parse(model.SerializeToString())))


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def assert_same(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewritten, valid, without PRelu and equal to the original in every output."""
    faster = rewritten(model)
    assert "PRelu" not in kinds(faster)
    onnx.checker.check_model(faster)
    for ours, theirs in zip(run(faster), run(model), strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= 2e-6 * np.abs(theirs).max()
    return faster


@pytest.mark.parametrize("slope", SLOPES.values(), ids=SLOPES.keys())
@pytest.mark.parametrize("shape", [(32, 1, 1), (1, 32, 1, 1)])
def test_every_slope(slope: np.ndarray, shape: tuple[int, ...]) -> None:
    net = Net()
    net.prelu(net.conv("x", "a", (32, 3, 3, 3)), "y", slope.reshape(shape))
    assert_same(net.model("y"))


@pytest.mark.parametrize("slope", [0.25, -3.0, 0.0, 1.0, 7.0])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1), (1, 1, 1, 1)])
def test_one_slope_for_all(slope: float, shape: tuple[int, ...]) -> None:
    net = Net()
    net.prelu(net.conv("x", "a", (32, 3, 3, 3)), "y", np.full(shape, slope))
    assert kinds(assert_same(net.model("y"))) == ["Conv", "LeakyRelu"]


def test_positive_values_stay_as_they_are() -> None:
    net = Net()
    net.prelu(net.conv("x", "a", (32, 3, 3, 3)), "y", SLOPES["all kinds"].reshape(32, 1, 1))
    plain, bent = run(rewritten(net.model("a", "y")))
    assert np.array_equal(bent[plain > 0], plain[plain > 0])


@pytest.mark.parametrize("seed", range(12))
def test_random_networks(seed: int) -> None:
    """Groups, strides, padding of one side, dilation, BatchNormalization on both sides, sums."""
    net = Net(seed)
    rng, data = net.rng, net.conv("x", "start", (32, 3, 3, 3), pads=[1, 1, 1, 1])
    for depth in range(4):
        group = int(rng.choice([1, 2, 32]))
        pads = [int(pad) for pad in rng.integers(1, 4, 4)]
        shape = (32, 32 // group, 3, 3)
        name = f"l{depth}"
        kind = {"strides": [1, 2]} if rng.random() < 0.3 else {"dilations": [1, 2]}
        data = net.conv(data, f"{name}c", shape, bool(rng.random() < 0.5), group=group, pads=pads, **kind)
        if rng.random() < 0.5:
            data = net.norm(data, f"{name}n", 32)
        data = net.prelu(data, f"{name}p", rng.normal(0.3, 1, (32, 1, 1)))
        if rng.random() < 0.5:
            data = net.norm(data, f"{name}m", 32)
        if rng.random() < 0.5:
            data = net.node("Add", [data, net.conv(data, f"{name}d", (32, 32, 1, 1))], f"{name}s")
    assert_same(net.model(data))


def test_maps_that_are_outputs_too() -> None:
    net = Net()
    net.prelu(net.conv("x", "a", (32, 3, 3, 3)), "b", SLOPES["negative"].reshape(32, 1, 1))
    net.prelu(net.conv("b", "c", (16, 32, 1, 1)), "d", [0.5])
    net.conv("d", "e", (16, 16, 1, 1))
    assert_same(net.model("e", "a", "b", "c", "d"))


def test_one_map_and_one_slope_used_twice() -> None:
    net = Net()
    net.conv("x", "a", (32, 3, 3, 3))
    slope = net.weight("slope", SLOPES["all kinds"].reshape(32, 1, 1))
    other = net.weight("other", [[[-0.5]]])
    left, right = net.node("PRelu", ["a", slope], "left"), net.node("PRelu", ["a", other], "right")
    far = net.node("PRelu", [net.conv(left, "b", (32, 32, 1, 1)), slope], "far")
    net.node("Sum", [far, right, slope], "y")
    assert "LeakyRelu" not in kinds(assert_same(net.model("y")))


def test_names_in_use_are_not_taken_again() -> None:
    net = Net()
    net.prelu(net.conv("x", "a", (32, 3, 3, 3)), "y", SLOPES["all kinds"].reshape(32, 1, 1))
    net.node("Relu", ["x"], "y_bent")
    net.node("Add", ["x", net.weight("y_bent_factors", [2])], "y_kept")
    assert_same(net.model("y", "y_bent", "y_kept"))


def test_a_name_used_inside_a_branch_is_not_taken() -> None:
    net = Net()
    net.prelu(net.conv("x", "a", (32, 3, 3, 3)), "y", SLOPES["all kinds"].reshape(32, 1, 1))
    out = helper.make_tensor_value_info("y_kept", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Neg", ["a"], ["y_kept"])], "branch", [], [out])
    always = net.weight("always", True, np.bool_)
    net.node("If", [always], "z", then_branch=branch, else_branch=branch)
    faster = assert_same(net.model("y", "z"))
    assert "y_kept" not in [name for node in faster.graph.node for name in node.output]


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 21, 23])
def test_every_version_of_the_operators(opset: int) -> None:
    net = Net()
    net.opset = opset
    net.prelu(net.conv("x", "a", (32, 3, 3, 3)), "b", SLOPES["all kinds"].reshape(32, 1, 1))
    net.prelu(net.conv("b", "c", (32, 32, 3, 3)), "y", np.full((1, 1, 1), 0.3))
    assert_same(net.model("y"))


def test_old_files_list_their_weights_as_inputs() -> None:
    net = Net()
    net.opset, net.ir_version = 9, 3
    net.prelu(net.conv("x", "a", (32, 3, 3, 3)), "y", SLOPES["negative"].reshape(32, 1, 1))
    net.inputs += [
        helper.make_tensor_value_info(k, TensorProto.FLOAT, v.shape) for k, v in net.weights.items()
    ]
    assert_same(net.model("y"))


def _slope_is_an_input(net: Net) -> None:
    net.conv("x", "a", (32, 3, 3, 3))
    net.inputs.append(helper.make_tensor_value_info("slope", TensorProto.FLOAT, [32, 1, 1]))
    net.weight("slope", np.ones((32, 1, 1)))
    net.node("PRelu", ["a", "slope"], "y")


def _slope_is_computed(net: Net) -> None:
    net.conv("x", "a", (32, 3, 3, 3))
    net.node("PRelu", ["a", net.node("GlobalAveragePool", ["a"], "slope")], "y")


def _slope_per_column(net: Net) -> None:
    net.prelu(net.conv("x", "a", (32, 3, 3, 3), pads=[1, 1, 1, 1]), "y", np.linspace(-1, 1, SIDE))


def _slope_per_column_of_a_map_as_wide_as_deep(net: Net) -> None:
    net.prelu(net.conv("x", "a", (16, 3, 3, 3), pads=[3, 3, 3, 3]), "y", np.linspace(-1, 1, 16))


def _channels_do_not_fill_blocks(net: Net) -> None:
    net.prelu(net.conv("x", "a", (24, 3, 3, 3)), "y", np.linspace(-1, 1, 24).reshape(24, 1, 1))


def _after_something_else(net: Net) -> None:
    net.prelu(net.node("Neg", [net.conv("x", "a", (32, 3, 3, 3))], "b"), "y", np.ones((32, 1, 1)))


def _infinite_slope(net: Net) -> None:
    net.prelu(net.conv("x", "a", (32, 3, 3, 3)), "y", np.full((32, 1, 1), np.inf))


def _weights_are_computed(net: Net) -> None:
    weight = net.node("Neg", [net.weight("w", net.rng.normal(size=(32, 3, 3, 3)))], "v")
    net.prelu(net.node("Conv", ["x", weight], "a"), "y", np.ones((32, 1, 1)))


def _no_prelu(net: Net) -> None:
    net.node("Relu", [net.conv("x", "a", (32, 3, 3, 3))], "y")


def _operator_of_another_domain(net: Net) -> None:
    net.conv("x", "a", (32, 3, 3, 3))
    slope = net.weight("slope", np.ones((32, 1, 1)))
    net.nodes.append(helper.make_node("PRelu", ["a", slope], ["y"], domain="somewhere.else"))


def _newer_operators_than_were_tried(net: Net) -> None:
    net.opset = 99
    net.prelu(net.conv("x", "a", (32, 3, 3, 3)), "y", np.ones((32, 1, 1)))


@pytest.mark.parametrize(
    "build",
    [
        _slope_is_an_input,
        _slope_is_computed,
        _slope_per_column,
        _slope_per_column_of_a_map_as_wide_as_deep,
        _channels_do_not_fill_blocks,
        _after_something_else,
        _infinite_slope,
        _weights_are_computed,
        _no_prelu,
        _operator_of_another_domain,
        _newer_operators_than_were_tried,
    ],
    ids=lambda build: build.__name__.strip("_"),
)
def test_left_alone(build: Any) -> None:
    net = Net()
    build(net)
    file = OnnxFile.parse(net.model("y").SerializeToString())
    assert speed_up(file) is file.data


def _two_layers() -> onnx.ModelProto:
    net = Net()
    net.prelu(net.conv("x", "a", (32, 3, 3, 3)), "b", SLOPES["all kinds"].reshape(32, 1, 1))
    net.prelu(
        net.norm(net.conv("b", "c", (32, 32, 3, 3)), "d", 32), "e", SLOPES["negative"].reshape(32, 1, 1)
    )
    net.conv("e", "y", (16, 32, 1, 1))
    return net.model("y")


@on_x86
def test_the_runtime_keeps_the_result_in_blocks(tmp_path: Path) -> None:
    """What the rewriting is for: a release of ONNX Runtime that no longer does this makes it a loss."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    data = speed_up(OnnxFile.parse(_two_layers().SerializeToString()))
    ort.InferenceSession(data, sess_options=options, providers=["CPUExecutionProvider"])
    optimised = kinds(onnx.load(tmp_path / "optimised.onnx"))
    assert optimised == ["Conv"] * 7 + ["ReorderOutput"]


@on_x86
def test_sessions_on_the_cpu_are_rewritten_unless_told_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(session_module, "speed_up", lambda file: asked.append(file) or speed_up(file))
    data = _two_layers().SerializeToString()
    blob = np.random.default_rng(1).normal(size=(2, 3, SIDE, SIDE)).astype(np.float32)
    plain = open_bytes(data, "cpu", rewrite=False).run(blob)[0]
    assert asked == []
    faster = open_bytes(data, "cpu").run(blob)[0]
    assert len(asked) == 1
    assert np.abs(faster - plain).max() <= 2e-6 * np.abs(plain).max()


@pytest.fixture(scope="module")
def crops(real_photos: Path, real_models: Registry, real_card: Callable[[str], Card]) -> np.ndarray:
    """(N, 112, 112, 3) uint8 RGB, the first face of some ten photos, aligned."""
    card = real_card("yunet_2023mar")
    detector = Detector(card, open_session(real_models.find(card), "cpu"), DetectConfig(), 1)
    paths = sorted(real_photos.glob("*/*.jpg"))
    photos = [decode(path.read_bytes(), DecodeConfig()) for path in paths[:: len(paths) // 9]]
    found = [detector.detect([photo.pixels])[0].points for photo in photos]
    return np.stack(
        [align_photo(p, points[0]) for p, points in zip(photos, found, strict=True) if len(points)]
    )


@pytest.mark.parametrize("name", ["sface_2021dec", "mobilefacenet_faceplugin", "mobilefacenet_foamliu"])
def test_real_vectors_stay_as_they_are(
    name: str, real_models: Registry, real_card: Callable[[str], Card], crops: np.ndarray
) -> None:
    card = real_card(name)
    plain, faster = (
        Embedder(card, open_session(real_models.find(card), "cpu", rewrite=rewrite), 8).embed(crops)
        for rewrite in (False, True)
    )
    length = np.linalg.norm(plain, axis=1)
    cosine = np.sum(plain * faster, axis=1, dtype=np.float64) / length / np.linalg.norm(faster, axis=1)
    assert len(crops) >= 5
    assert cosine.min() >= 1 - 1e-6
    assert (np.abs(faster - plain).max(axis=1) / length).max() <= 1e-5
