"""Sessions: the device asked for or an error, nothing read from beside the file, no travel."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from model_graphs import external, relu, serialise
from onnx import helper

from frpipe.core.errors import ModelError, ModelMissing, ProviderMissing
from frpipe.models import cuda
from frpipe.models.session import open_bytes, open_session
from frpipe.models.wire import sized

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
def test_a_missing_gpu_is_an_error_and_not_a_slow_cpu(relu_path: Path) -> None:
    with pytest.raises(ProviderMissing) as raised:
        open_session(relu_path, "cuda")
    assert "device cuda" in raised.value.message
    assert "CPUExecutionProvider" in raised.value.message
    assert "frpipe[gpu]" in raised.value.remedy


@pytest.fixture
def built_with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate an onnxruntime-gpu on a machine without a GPU: it lists CUDA, then runs on the CPU."""
    if not NO_GPU:
        pytest.skip("this machine has CUDA")
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(cuda, "preload", lambda: None)


@pytest.mark.parametrize(
    ("library", "said", "remedy"),
    [
        ("libcublasLt.so.13", "libcublasLt.so.13 is missing", r"frpipe\[gpu\]"),
        ("libcudnn.so.9", "libcudnn.so.9 is missing", r"frpipe\[gpu\]"),
        ("libcuda.so.1", "no NVIDIA driver", "--gpus"),
        (None, "gets no GPU", "nvidia-smi"),
    ],
)
@pytest.mark.usefixtures("built_with_cuda")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_what_keeps_cuda_from_starting_is_named(
    relu_path: Path, library: str | None, said: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> None:
        if library:
            raise OSError(f"{library}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(cuda.ctypes, "CDLL", load)
    with pytest.raises(ProviderMissing, match=said) as raised:
        open_session(relu_path, "cuda")
    assert re.search(remedy, raised.value.remedy)


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


def _elsewhere() -> onnx.TensorProto:
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=1)
    tensor.external_data.add(key="location", value="/etc/hostname")
    return tensor


def _in_a_list(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.add(name="many", type=9).tensors.append(_elsewhere())


def _in_a_sparse_tensor(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(_elsewhere())


def _in_sparse_indices(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.add(name="few", type=11).sparse_tensor.indices.CopyFrom(_elsewhere())


def _in_a_function(model: onnx.ModelProto) -> None:
    node = model.functions.add(name="f", domain="d").node.add(op_type="Constant", output=["w"])
    node.attribute.add(name="value", type=4).t.CopyFrom(_elsewhere())


def _in_a_default_of_a_function(model: onnx.ModelProto) -> None:
    function = model.functions.add(name="f", domain="d")
    function.attribute_proto.add(name="value", type=4).t.CopyFrom(_elsewhere())


@pytest.mark.parametrize(
    "hide", [_in_a_list, _in_a_sparse_tensor, _in_sparse_indices, _in_a_function, _in_a_default_of_a_function]
)
def test_weights_in_other_files_are_found_wherever_a_file_can_name_them(
    hide: Callable[[onnx.ModelProto], None],
) -> None:
    model = onnx.load_model_from_string(relu())
    hide(model)
    with pytest.raises(ModelError, match="other files"):
        open_bytes(model.SerializeToString(), "cpu")


def test_a_tensor_said_twice_cannot_hide_where_its_weights_lie() -> None:
    """Protobuf merges what is said twice: the place of the one and the values of the other."""
    model = onnx.load_model_from_string(relu())
    attribute = model.graph.node[0].attribute.add(name="value", type=4)
    attribute.t.CopyFrom(_elsewhere())
    twice = (
        attribute.SerializeToString()
        + onnx.AttributeProto(t=onnx.TensorProto(name="w", raw_data=b"abcd")).SerializeToString()
    )
    del model.graph.node[0].attribute[:]
    node = model.graph.node[0].SerializeToString() + sized(5, twice)
    del model.graph.node[:]
    graph = model.graph.SerializeToString() + sized(1, node)
    model.ClearField("graph")
    with pytest.raises(ModelError, match="other files"):
        open_bytes(model.SerializeToString() + sized(7, graph), "cpu")


def test_a_graph_in_two_pieces_is_refused() -> None:
    with pytest.raises(ModelError, match="not an ONNX model"):
        open_bytes(relu() + sized(7, b""), "cpu")


@pytest.mark.parametrize(
    "junk",
    [b"", b"<!DOCTYPE html><html></html>", bytes(1000), b"\xff" * 40, relu()[:-9], sized(7, b"\x0a\xff")],
    ids=["empty", "html", "zeros", "endless number", "cut short", "a field beyond its end"],
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
