"""Sessions: the device asked for or an error, nothing read from beside the file, no travel."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from model_graphs import external, relu, serialise
from onnx import helper

from frpipe.core.errors import ModelError, ModelMissing, ProviderMissing
from frpipe.models.session import open_bytes, open_session

NO_GPU = "CUDAExecutionProvider" not in ort.get_available_providers()


@pytest.fixture
def relu_path(tmp_path: Path) -> Path:
    path = tmp_path / "relu.onnx"
    path.write_bytes(relu())
    return path


def test_runs_on_the_provider_asked_for(relu_path: Path) -> None:
    session = open_session(relu_path, "cpu")
    (out,) = session.run(np.full((2, 3, 4, 4), -1, np.float32))
    assert session.provider == "CPUExecutionProvider"
    assert session.outputs == ("out",)
    assert out.shape == (2, 3, 4, 4)
    assert not out.any()


@pytest.mark.skipif(not NO_GPU, reason="this machine has CUDA")
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_missing_gpu_is_an_error_and_not_a_slow_cpu(relu_path: Path, device: str) -> None:
    with pytest.raises(ProviderMissing) as raised:
        open_session(relu_path, device)  # type: ignore[arg-type]
    assert device in raised.value.message
    assert "CPUExecutionProvider" in raised.value.message
    assert "frpipe[gpu]" in raised.value.remedy


def test_a_provider_that_falls_back_is_an_error(relu_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime-gpu without a driver lists CUDA as available, then runs on the CPU with a warning."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    if not NO_GPU:
        pytest.skip("this machine has CUDA")
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"), pytest.raises(ProviderMissing):
        open_session(relu_path, "cuda")


def test_an_invented_device_is_refused(relu_path: Path) -> None:
    with pytest.raises(ProviderMissing, match="abacus"):
        open_session(relu_path, "abacus")  # type: ignore[arg-type]


def test_weights_in_other_files_are_refused() -> None:
    with pytest.raises(ModelError, match="other files"):
        open_bytes(external(), "cpu")


def test_weights_in_other_files_are_found_in_nested_graphs() -> None:
    constant = helper.make_node("Constant", [], ["hidden"])
    tensor = constant.attribute.add(name="value", type=4).t
    tensor.data_type, tensor.data_location = 1, 1
    tensor.external_data.add(key="location", value="/etc/hostname")
    branch = helper.make_graph([constant], "branch", [], [helper.make_tensor_value_info("hidden", 1, [1])])
    choice = helper.make_node("If", ["image"], ["out"], then_branch=branch, else_branch=branch)
    with pytest.raises(ModelError, match="other files"):
        open_bytes(serialise([choice], {"image": [1]}, {"out": [1]}, []), "cpu")


@pytest.mark.parametrize(
    "junk", [b"", b"<!DOCTYPE html><html></html>", bytes(1000)], ids=["empty", "html", "zeros"]
)
def test_what_is_not_onnx_is_refused(junk: bytes) -> None:
    with pytest.raises(ModelError, match="not an ONNX model"):
        open_bytes(junk, "cpu")


def test_a_graph_that_onnx_runtime_refuses_is_a_model_error() -> None:
    graph = serialise(
        [helper.make_node("NoSuchOperator", ["image"], ["out"])], {"image": [1]}, {"out": [1]}, []
    )
    with pytest.raises(ModelError, match="cannot load"):
        open_bytes(graph, "cpu")


def test_a_graph_of_two_inputs_is_refused() -> None:
    graph = serialise([helper.make_node("Add", ["a", "b"], ["out"])], {"a": [1], "b": [1]}, {"out": [1]}, [])
    with pytest.raises(ModelError, match="2 inputs"):
        open_bytes(graph, "cpu")


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing):
        open_session(tmp_path / "none.onnx", "cpu")


def test_a_session_refuses_to_be_pickled(relu_path: Path) -> None:
    with pytest.raises(TypeError, match="in each worker"):
        pickle.dumps(open_session(relu_path, "cpu"))
