"""Sessions of ONNX Runtime: what they tell, how they run, and what their errors become."""

from __future__ import annotations

import platform
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from service.engine import PROVIDERS, Engine, EngineOptions, OrtEngine, version
from service.errors import (
    BundleError,
    EngineFailure,
    InvalidRequest,
    OutOfMemory,
    ProviderUnavailable,
    ServiceError,
)
from service.tensors import TensorSpec
from tests.support.models import value as tensor
from tests.support.models import (
    write_doubler,
    write_embedding,
    write_identity,
    write_model,
    write_sum_and_difference,
)

CPU = EngineOptions(("cpu",))
ROWS = np.asarray([[1, 2], [3, 4]], np.float32)


def opened(path: Path, options: EngineOptions = CPU) -> OrtEngine:
    """Open a file."""
    return OrtEngine(str(path), options)


def refused(path: Path, error: type[ServiceError], options: EngineOptions = CPU) -> str:
    """Return the text with which a file is refused."""
    with pytest.raises(error) as caught:
        opened(path, options)
    return str(caught.value)


def write_chain(path: Path) -> Path:
    """Write y = the sum of exp(x), by nodes that hand large tensors to each other."""
    node = helper.make_node
    return write_model(
        path,
        [node("Exp", ["x"], ["e"]), node("Transpose", ["e"], ["t"]),
         node("ReduceSum", ["t"], ["y"], keepdims=0)],
        inputs=[tensor("x", TensorProto.FLOAT, "n", 2)],
        outputs=[tensor("y", TensorProto.FLOAT)],
    )  # fmt: skip


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) << 10


def test_an_engine_tells_its_tensors_in_order(tmp_path: Path) -> None:
    """Names, datatypes and shapes are the graph's; axes keep their names."""
    engine: Engine = opened(write_sum_and_difference(tmp_path / "m.onnx"))
    rows = ("INT32", ("n", 2))
    assert engine.inputs == (TensorSpec("a", *rows), TensorSpec("b", *rows))
    assert engine.outputs == (TensorSpec("sum", *rows), TensorSpec("difference", *rows))
    assert engine.provider == "cpu"


def test_an_axis_without_a_name_may_have_any_size(tmp_path: Path) -> None:
    """Two axes without a name are not the same axis, so they become -1."""
    shape = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in "xy"]
    node = helper.make_node("Relu", ["x"], ["y"])
    path = write_model(tmp_path / "m.onnx", [node], inputs=shape[:1], outputs=shape[1:])
    assert opened(path).inputs[0].shape == (-1, -1)


def test_only_what_is_wanted_comes_back(tmp_path: Path) -> None:
    """Outputs are returned by name, in the order in which they were asked for."""
    engine = opened(write_sum_and_difference(tmp_path / "m.onnx"))
    rows = {name: np.asarray([[5, 3]], np.int32) for name in "ab"}
    assert list(engine.run(rows, ["difference"])) == ["difference"]
    both = engine.run(rows, ["difference", "sum"])
    assert list(both) == ["difference", "sum"]
    assert both["sum"].tolist() == [[10, 6]]


def test_several_threads_in_a_run(tmp_path: Path) -> None:
    """A session with more than one thread answers the same."""
    path = write_doubler(tmp_path / "m.onnx")
    engine = opened(path, EngineOptions(("cpu",), intra_op_threads=2))
    assert engine.run({"x": ROWS}, ["y"])["y"].tolist() == (ROWS * 2).tolist()


def test_values_that_the_model_refuses(tmp_path: Path) -> None:
    """An id outside a table is the caller's fault, and says so in our words."""
    path = write_embedding(tmp_path / "secret-folder" / "m.onnx")
    with pytest.raises(InvalidRequest) as caught:
        opened(path).run({"ids": np.asarray([9])}, ["y"])
    assert str(caught.value) == "the model refuses these input values"


def test_shapes_that_the_graph_refuses_while_it_runs(tmp_path: Path) -> None:
    """What an operator finds out only when it sees the values is the caller's fault as well."""
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    inputs = [tensor("x", TensorProto.FLOAT, "n"), tensor("shape", TensorProto.INT64, 2)]
    outputs = [tensor("y", TensorProto.FLOAT, "a", "b")]
    engine = opened(write_model(tmp_path / "m.onnx", nodes, inputs=inputs, outputs=outputs))
    values = {"x": np.zeros(4, np.float32), "shape": np.asarray([3, 3])}
    with pytest.raises(InvalidRequest, match="refuses"):
        engine.run(values, ["y"])


def test_texts_that_have_no_utf8_form(tmp_path: Path) -> None:
    """Half a surrogate pair cannot be handed to the model."""
    engine = opened(write_identity(tmp_path / "m.onnx", TensorProto.STRING, ["n"]))
    with pytest.raises(InvalidRequest):
        engine.run({"x": np.asarray(["\ud800"], object)}, ["y"])


def test_other_errors_are_the_model_s(tmp_path: Path) -> None:
    """What is not the values' fault is a failure, without ONNX Runtime's own text."""
    engine = opened(write_doubler(tmp_path / "secret-folder" / "m.onnx"))
    with pytest.raises(EngineFailure) as caught:
        engine.run({}, ["y"])
    assert str(caught.value) == "the model failed on this input"
    assert caught.value.__cause__ is not None


def test_a_lack_of_memory_is_not_the_caller_s_fault(tmp_path: Path) -> None:
    """The same error type that blames values elsewhere means a failure here."""
    nodes = [helper.make_node("Expand", ["x", "shape"], ["y"])]
    inputs = [tensor("x", TensorProto.FLOAT, 1), tensor("shape", TensorProto.INT64, 1)]
    outputs = [tensor("y", TensorProto.FLOAT, "n")]
    engine = opened(write_model(tmp_path / "m.onnx", nodes, inputs=inputs, outputs=outputs))
    values = {"x": np.zeros(1, np.float32), "shape": np.asarray([1 << 50])}
    with pytest.raises(EngineFailure):
        engine.run(values, ["y"])


def test_a_closed_engine(tmp_path: Path) -> None:
    """It says that it is closed; closing twice is closing."""
    engine = opened(write_doubler(tmp_path / "m.onnx"))
    engine.close()
    engine.close()
    with pytest.raises(EngineFailure, match="closed"):
        engine.run({"x": ROWS}, ["y"])


@pytest.mark.parametrize("content", [b"", b"this is no model", b"\x08\x09"])
def test_files_that_are_no_model(tmp_path: Path, content: bytes) -> None:
    """The file is named, and the reason is one line."""
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    text = refused(path, BundleError)
    assert text.startswith(f"{path}: ONNX Runtime cannot load it: ")
    assert "\n" not in text


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It is a bad bundle like any other."""
    assert "nowhere" in refused(tmp_path / "nowhere.onnx", BundleError)


def test_names_that_cannot_be_written_in_an_answer(tmp_path: Path) -> None:
    """A name that is not UTF-8, or none at all, is refused when the model is opened."""
    path = write_model(
        tmp_path / "m.onnx",
        [helper.make_node("Relu", ["x?"], ["y"])],
        inputs=[tensor("x?", TensorProto.FLOAT, "n")],
        outputs=[tensor("y", TensorProto.FLOAT, "n")],
    )
    path.write_bytes(path.read_bytes().replace(b"x?", b"x\xff"))
    assert "not UTF-8" in refused(path, BundleError)
    model = onnx.load(str(write_doubler(path)))
    model.graph.input.append(tensor("", TensorProto.FLOAT, "n"))
    onnx.save(model, str(path))
    assert refused(path, BundleError) == "an input of the graph has no name"


def test_an_unknown_provider(tmp_path: Path) -> None:
    """The text names it and those that are known."""
    text = refused(tmp_path / "m.onnx", ProviderUnavailable, EngineOptions(("tpu",)))
    assert "'tpu'" in text
    assert all(name in text for name in PROVIDERS)


needs_cpu_wheel = pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="needs the wheel without CUDA"
)


@needs_cpu_wheel
def test_cuda_is_a_promise(tmp_path: Path) -> None:
    """With the CPU wheel it cannot be kept, and the text says what would."""
    path = write_doubler(tmp_path / "m.onnx")
    text = refused(path, ProviderUnavailable, EngineOptions(("cuda",)))
    assert text == (
        "provider 'cuda': the installed ONNX Runtime has no CUDAExecutionProvider; "
        "install 'onnxport[gpu]'"
    )
    assert opened(path, EngineOptions()).provider == "cpu"


@needs_cpu_wheel
def test_a_cpu_that_may_stand_in_says_so(tmp_path: Path) -> None:
    """The reason is kept; who asks for nothing in particular has fallen from nothing."""
    path = write_doubler(tmp_path / "m.onnx")
    seen = opened(path, EngineOptions(("cuda", "cpu"))).as_opened()
    assert seen["fell_back"] is True
    assert "onnxport[gpu]" in str(seen["providers_unavailable"])
    seen = opened(path, EngineOptions()).as_opened()
    assert (seen["fell_back"], seen["providers_unavailable"]) == (False, {})
    assert seen["nodes"] == {"cpu": 1}


AZURE = "AzureExecutionProvider"
needs_azure = pytest.mark.skipif(
    AZURE not in ort.get_available_providers(), reason="needs a wheel with a second provider"
)


@needs_azure
def test_a_provider_by_its_own_name_that_takes_nothing(tmp_path: Path) -> None:
    """It loads, but all nodes are left to the CPU: refused alone, told before it."""
    path = write_doubler(tmp_path / "m.onnx")
    text = refused(path, ProviderUnavailable, EngineOptions((AZURE,)))
    assert text == f"provider '{AZURE}': it loaded, but took none of the model's 1 nodes"
    options = EngineOptions((AZURE, "cpu"), by_provider={AZURE: {"colour": "blue"}})
    engine = opened(path, options)
    seen = engine.as_opened()
    assert (engine.provider, seen["fell_back"]) == ("cpu", True)
    assert seen["provider_options"] == {AZURE: {}, "cpu": {}}
    assert seen["provider_options_unconfirmed"] == {AZURE: ["colour"]}
    assert engine.run({"x": ROWS}, ["y"])["y"].tolist() == (2 * ROWS).tolist()


@needs_azure
def test_strict_placement_refuses_what_is_left_on_the_cpu(tmp_path: Path) -> None:
    """It names the operators; a model for the CPU alone has nothing to be strict about."""
    path = write_doubler(tmp_path / "m.onnx")
    text = refused(path, ProviderUnavailable, EngineOptions((AZURE, "cpu"), strict_placement=True))
    assert "strict_placement: 1 of 1 nodes are on the CPU" in text
    assert "Add x1" in text or "Mul x1" in text
    assert opened(path, EngineOptions(("cpu",), strict_placement=True)).provider == "cpu"


def test_a_run_beyond_all_memory(tmp_path: Path) -> None:
    """It says so in its own kind of error, and the next run is answered."""
    path = write_model(
        tmp_path / "m.onnx",
        [helper.make_node("ConstantOfShape", ["n"], ["y"])],
        inputs=[tensor("n", TensorProto.INT64, 1)],
        outputs=[tensor("y", TensorProto.FLOAT, "rows")],
    )
    engine = opened(path)
    with pytest.raises(OutOfMemory, match="more memory than there is"):
        engine.run({"n": np.asarray([1 << 50])}, ["y"])
    assert engine.run({"n": np.asarray([3])}, ["y"])["y"].tolist() == [0, 0, 0]


@needs_cpu_wheel
def test_a_gpu_wheel_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime falls back in silence: refused where only CUDA was asked for, else the CPU."""
    monkeypatch.setattr(
        ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    path = write_doubler(tmp_path / "m.onnx")
    with warnings.catch_warnings():
        # ONNX Runtime's own remark that the provider is not in this wheel.
        warnings.simplefilter("ignore", UserWarning)
        text = refused(path, ProviderUnavailable, EngineOptions(("cuda",)))
        assert "there is no NVIDIA driver" in text
        for asked in (("cuda", "cpu"), ("auto",)):
            assert opened(path, EngineOptions(asked)).provider == "cpu"


def test_the_version() -> None:
    """It is that of the installed wheel."""
    assert version() == ort.__version__


def test_options_by_their_own_names_reach_the_session(tmp_path: Path) -> None:
    """What ONNX Runtime itself tells of the session is what was asked for."""
    asked = {
        "execution_mode": "ORT_PARALLEL", "graph_optimization_level": "ORT_ENABLE_BASIC",
        "inter_op_num_threads": "2", "enable_mem_reuse": "0", "execution_order": "PRIORITY_BASED",
        "session.disable_prepacking": "1",
    }  # fmt: skip
    engine = opened(write_doubler(tmp_path / "m.onnx"), EngineOptions(("cpu",), session=asked))
    seen = engine.as_opened()
    assert (seen["execution_mode"], seen["inter_op_threads"]) == ("ORT_PARALLEL", 2)
    assert seen["graph_optimization_level"] == "ORT_ENABLE_BASIC"
    options = seen["session_options"]
    assert isinstance(options, dict)
    assert (options["enable_mem_reuse"], options["execution_order"]) == (False, "PRIORITY_BASED")
    assert options["session.disable_prepacking"] == "1"
    engine.close()
    with pytest.raises(EngineFailure, match="closed"):
        engine.as_opened()


@pytest.mark.parametrize("arena", ["1", "0"])
def test_a_run_beyond_the_warm_up_is_answered(tmp_path: Path, arena: str) -> None:
    """ONNX Runtime takes the wish to give memory back, or is not asked where it has no arena."""
    options = EngineOptions(("cpu",), session={"enable_cpu_mem_arena": arena})
    engine = opened(write_doubler(tmp_path / "m.onnx"), options)
    engine.warm_up([{"x": ROWS[:1]}, {"x": ROWS}])
    for rows in (1, 2, 1000, 1):
        inputs = {"x": np.ones((rows, 2), np.float32)}
        assert engine.run(inputs, ["y"])["y"].tolist() == [[2, 2]] * rows


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries keep more")
def test_the_memory_of_a_rare_huge_run_is_given_back(tmp_path: Path) -> None:
    """Without a warm-up nothing is known to be rare, and the arena keeps all of it."""
    huge = np.ones((1 << 22, 2), np.float32)
    kept = {}
    for warm in (False, True):
        path = write_chain(tmp_path / f"{warm}.onnx")
        engine = opened(path)
        engine.run({"x": ROWS}, ["y"])
        if warm:
            engine.warm_up([{"x": ROWS}])
        before = resident()
        engine.run({"x": huge}, ["y"])
        kept[warm] = resident() - before
        engine.close()
    assert kept[False] > huge.nbytes
    assert kept[True] < huge.nbytes / 4
