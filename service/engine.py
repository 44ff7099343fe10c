"""The engine: one ONNX Runtime session, its options, and its errors translated into ours."""

from __future__ import annotations

import os

# numpy and onnxruntime start threads and telemetry at import; this must be said before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from service.errors import BundleError, EngineFailure, InvalidRequest, ProviderUnavailable
from service.tensors import BFLOAT16, Tensor, Tensors, TensorSpec, from_onnx

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_CUDA_OPTIONS = {
    "cudnn_conv_algo_search": "HEURISTIC",
    "arena_extend_strategy": "kSameAsRequested",
    "use_tf32": "0",
}
_ONNX_BFLOAT16 = 16
# What the texts of ONNX Runtime's own troubles hold: no memory, and a run that was told to end.
_NOT_THE_VALUES = ("BFCArena", "bad_alloc", "llocat", "terminate")
_LOAD_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.InvalidArgument,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    RuntimeError,
    UnicodeDecodeError,
)


class Engine(Protocol):
    """What the batcher and the verifier need of a loaded model."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The graph's inputs, batch axis included."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The graph's outputs, in the graph's order."""
        ...

    @property
    def provider(self) -> str:
        """The provider that really runs the graph: "cpu" or "cuda"."""
        ...

    def run(self, inputs: Tensors, wanted: Sequence[str]) -> dict[str, Tensor]:
        """Return the wanted outputs; may be called from several threads at once."""
        ...

    def close(self) -> None:
        """Give the session's memory back; no run may follow."""
        ...


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How a session is made.

    ``providers`` are tried in order; "auto" takes CUDA where it really loads and the CPU
    otherwise.  Any other list is a promise: what is not on it is not used.
    """

    providers: tuple[str, ...] = ("auto",)
    intra_op_threads: int = 1


class OrtEngine:
    """One session of ONNX Runtime over a model file."""

    def __init__(self, path: str, options: EngineOptions) -> None:
        """Load the model; raises BundleError for a bad file, ProviderUnavailable for a promise."""
        self._session: ort.InferenceSession | None = _open(path, options)
        self._provider = _short_name(self._session.get_providers()[0])
        try:
            self._inputs = tuple(_spec(node, "input") for node in self._session.get_inputs())
            self._outputs = tuple(_spec(node, "output") for node in self._session.get_outputs())
        except UnicodeDecodeError as error:
            raise BundleError(f"{path}: a name in the graph is not UTF-8: {error}") from error
        self._bfloats = _bfloats(self._inputs, self._outputs)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The graph's inputs, batch axis included."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The graph's outputs, in the graph's order."""
        return self._outputs

    @property
    def provider(self) -> str:
        """The provider that really runs the graph."""
        return self._provider

    def run(self, inputs: Tensors, wanted: Sequence[str]) -> dict[str, Tensor]:
        """Run the graph; InvalidRequest where the model refuses the values, else EngineFailure.

        ONNX Runtime's texts carry paths and names from the model file, so callers get our own.
        """
        session = self._session
        if session is None:
            raise EngineFailure("the engine is closed")
        try:
            if self._bfloats:
                values = _run_bfloats(session, inputs, wanted, self._bfloats)
            else:
                values = session.run(list(wanted), dict(inputs))
        # ONNX Runtime raises types of its own and plain RuntimeError, MemoryError and others.
        except Exception as error:
            if _refuses_values(error, self._provider):
                raise InvalidRequest("the model refuses these input values") from error
            raise EngineFailure("the model failed on this input") from error
        return {name: np.asarray(v) for name, v in zip(wanted, values, strict=True)}

    def close(self) -> None:
        """Drop the session; its memory goes when the last run has ended."""
        self._session = None


def _bfloats(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> frozenset[str]:
    """Return the names of all bfloat16 inputs and outputs, which ONNX Runtime's numpy side lacks.

    Raises BundleError where they could never be run: texts are only taken by way of numpy.
    """
    texts = [spec.name for spec in inputs if spec.datatype == "BYTES"]
    names = [spec.name for spec in outputs if spec.datatype == "BF16"]
    if texts and names:
        raise BundleError(
            f"output '{names[0]}': ONNX Runtime does not return bfloat16 to a caller that sends "
            f"texts (input '{texts[0]}')"
        )
    return frozenset(s.name for s in (*inputs, *outputs) if s.datatype == "BF16")


def _run_bfloats(
    session: ort.InferenceSession, inputs: Tensors, wanted: Sequence[str], bfloats: frozenset[str]
) -> list[Tensor]:
    """Run a graph with bfloat16 at its edge; such inputs go in as their bits, without a copy."""
    values = {
        name: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
            np.asarray(value, order="C").view(np.uint16), _ONNX_BFLOAT16
        )
        for name, value in inputs.items()
        if name in bfloats
    }
    if bfloats.isdisjoint(wanted):
        found: list[Tensor] = session.run(list(wanted), {**inputs, **values})
        return found
    for name in inputs.keys() - values.keys():
        values[name] = ort.OrtValue.ortvalue_from_numpy(np.asarray(inputs[name], order="C"))
    # `run_with_ort_values` does the same, but its result takes 50 us to read.
    binding = session.io_binding()
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    for name in wanted:
        binding.bind_output(name)
    session.run_with_iobinding(binding)
    return [
        _bits(output) if name in bfloats else output.numpy()
        for name, output in zip(wanted, binding.get_outputs(), strict=True)
    ]


def _bits(output: ort.OrtValue) -> Tensor:
    """Copy a bfloat16 tensor out of ONNX Runtime's own memory."""
    raw = ctypes.string_at(output.data_ptr(), output.tensor_size_in_bytes())
    return np.frombuffer(raw, BFLOAT16).reshape(output.shape())


def version() -> str:
    """Return ONNX Runtime's version."""
    return str(ort.__version__)


def check_wheels() -> None:
    """Raise ProviderUnavailable if both ONNX Runtime wheels are installed over each other."""
    found = {d.metadata["Name"].lower() for d in metadata.distributions(name="onnxruntime")}
    found |= {d.metadata["Name"].lower() for d in metadata.distributions(name="onnxruntime-gpu")}
    if len(found) > 1:
        raise ProviderUnavailable(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; mend it "
            "with: pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'onnxport[cpu]' "
            "(or 'onnxport[gpu]')"
        )


def _refuses_values(error: Exception, provider: str) -> bool:
    """Whether an error of a run is the input's fault, such as an index outside a table.

    Some operators say so with INVALID_ARGUMENT; others (Add, MatMul, Reshape, GatherElements,
    Cast) with FAIL or RUNTIME_EXCEPTION, which is also what a lack of memory, a request to stop
    and any fault of a GPU look like.
    """
    if isinstance(error, (ort_errors.InvalidArgument, UnicodeEncodeError)):
        return True
    if provider != "cpu" or not isinstance(error, (ort_errors.Fail, ort_errors.RuntimeException)):
        return False
    text = str(error)
    return "while running" in text and not any(mark in text for mark in _NOT_THE_VALUES)


def _open(path: str, options: EngineOptions) -> ort.InferenceSession:
    asked = options.providers
    if asked == ("auto",):
        asked = ("cuda", "cpu") if _cuda_is_offered() else ("cpu",)
    for name in asked:
        if name not in PROVIDERS:
            raise ProviderUnavailable(f"provider '{name}': unknown; known are {list(PROVIDERS)}")
    if "cuda" in asked and not _cuda_is_offered():
        raise ProviderUnavailable(
            "provider 'cuda': the installed ONNX Runtime has no CUDA; install 'onnxport[gpu]'"
        )
    if "cuda" in asked:
        ort.preload_dlls()
    session = _session(path, options, asked)
    if "cuda" in asked and "cpu" not in asked and _short_name(session.get_providers()[0]) != "cuda":
        raise ProviderUnavailable("provider 'cuda': it did not load (driver or library missing)")
    return session


def _session(path: str, options: EngineOptions, asked: Sequence[str]) -> ort.InferenceSession:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.intra_op_threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    if options.intra_op_threads > 1:
        # Spinning for longer burns a core and gains nothing, see docs/architecture.md.
        settings.add_session_config_entry("session.intra_op.spin_duration_us", "200")
    providers: list[Any] = [
        (PROVIDERS[name], _CUDA_OPTIONS) if name == "cuda" else PROVIDERS[name] for name in asked
    ]
    try:
        return ort.InferenceSession(path, settings, providers=providers)
    except _LOAD_ERRORS as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BundleError(f"{path}: ONNX Runtime cannot load it: {first_line}") from error


def _cuda_is_offered() -> bool:
    return PROVIDERS["cuda"] in ort.get_available_providers()


def _short_name(provider: str) -> str:
    names = {long: short for short, long in PROVIDERS.items()}
    return names.get(provider, provider)


def _spec(node: Any, kind: str) -> TensorSpec:  # noqa: ANN401 - ONNX Runtime ships no types
    if not node.name:
        raise BundleError(f"an {kind} of the graph has no name")
    datatype = from_onnx(node.type)
    if datatype is None:
        raise BundleError(f"{kind} '{node.name}': {node.type} has no form on the wire")
    return TensorSpec(node.name, datatype.wire, tuple(_axis(size) for size in node.shape))


def _axis(size: object) -> int | str:
    # ONNX Runtime gives None or '?' for an axis without a name; equal '?' are not the same axis.
    if isinstance(size, int):
        return size
    return str(size) if size and size != "?" else -1
