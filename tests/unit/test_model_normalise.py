"""Folding: the same results from plain weights, a free batch and, for detectors, a free size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from model_graphs import detector, model_inputs, relu, serialise
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from frpipe.core.errors import ModelError
from frpipe.models.normalise import batch_difference, check_fold, difference, fold
from frpipe.models.registry import Registry
from frpipe.models.session import open_bytes, open_session


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 255, shape).astype(np.float32)


def test_a_folded_model_gives_what_the_onnx_reference_gives() -> None:
    image = pixels(1, 3, 64, 64)
    unused = {"left_over": np.zeros((4, 3, 3, 3), np.float32)}
    expected = ReferenceEvaluator(onnx.load_model_from_string(detector())).run(
        None, {"image": image, **unused}
    )
    assert difference(expected, open_bytes(fold(detector()), "cpu").run(image)) < 1e-3


def test_a_folded_model_passes_its_own_check() -> None:
    assert check_fold(detector(), fold(detector())) <= 1e-4


def test_only_plain_weights_and_one_input_are_left() -> None:
    folded = onnx.load_model_from_string(fold(detector()))
    assert {node.op_type for node in folded.graph.node} == {"Conv", "Transpose", "Reshape"}
    assert {tensor.data_type for tensor in folded.graph.initializer} == {1, 7}
    assert model_inputs(fold(detector())) == {"image": [None, 3, None, None]}
    assert folded.opset_import[0].version == 17
    onnx.checker.check_model(folded, full_check=True)


def test_a_folded_detector_takes_other_sizes_and_batches() -> None:
    session = open_bytes(fold(detector()), "cpu")
    assert batch_difference(session, pixels(3, 3, 32, 96)) == pytest.approx(0, abs=1e-4)
    assert session.run(pixels(3, 3, 32, 96))[0].shape == (3, 16 * 48, 4)


def test_the_size_of_an_embedder_stays() -> None:
    shape = numpy_helper.from_array(np.array([1, 48]), "shape")
    nodes = [
        helper.make_node("Relu", ["image"], ["r"]),
        helper.make_node("Reshape", ["r", "shape"], ["vector"]),
    ]
    data = serialise(nodes, {"image": [1, 3, 4, 4]}, {"vector": [1, 48]}, [shape])
    folded = fold(data)
    assert model_inputs(folded) == {"image": [None, 3, 4, 4]}
    assert open_bytes(folded, "cpu").run(pixels(5, 3, 4, 4))[0].shape == (5, 48)


def test_the_same_bytes_give_the_same_bytes() -> None:
    assert fold(detector()) == fold(detector())


def test_a_fold_that_is_off_is_refused() -> None:
    model = onnx.load_model_from_string(fold(detector()))
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "b")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) + np.float32(0.01), "b"))
    with pytest.raises(ModelError, match="off by"):
        check_fold(detector(), model.SerializeToString())


def test_a_batch_that_mixes_its_frames_is_refused() -> None:
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["top"], keepdims=1),
        helper.make_node("Sub", ["image", "top"], ["out"]),
    ]
    mixing = serialise(nodes, {"image": ["n", 3, 4, 4]}, {"out": ["n", 3, 4, 4]}, [])
    with pytest.raises(ModelError, match="off by"):
        check_fold(mixing, mixing)


def test_a_model_that_needs_no_folding_keeps_its_results() -> None:
    assert check_fold(relu(), fold(relu())) == 0


def test_what_is_not_foreseen_is_refused() -> None:
    with pytest.raises(ModelError, match="several inputs"):
        fold(
            serialise([helper.make_node("Add", ["a", "b"], ["out"])], {"a": [1], "b": [1]}, {"out": [1]}, [])
        )


@pytest.mark.parametrize(
    ("name", "reference", "shape"),
    [
        ("yunet_2023mar", "det_yunet_2023mar.onnx", (3, 3, 256, 320)),
        ("sface_2021dec", "rec_sface_128.onnx", (3, 3, 112, 112)),
    ],
)
def test_the_default_pack_equals_another_conversion(
    name: str, reference: str, shape: tuple[int, ...], shared: Path
) -> None:
    registry = Registry.default()
    if registry.locate(registry.card(name)) is None:
        pytest.skip(f"{name} has not been pulled")
    ours = open_session(registry.find(registry.card(name)), "cpu")
    theirs = open_session(shared / "models" / reference, "cpu")
    assert batch_difference(ours, pixels(*shape)) < 1e-4
    assert difference(ours.run(pixels(*shape)), theirs.run(pixels(*shape))) < 1e-4
