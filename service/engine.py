"""The engine: one ONNX Runtime session, its options, and its errors translated into ours."""

from __future__ import annotations

import os

# numpy and onnxruntime start threads and telemetry at import; this must be said before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import math
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Protocol

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from service.bfloat import bfloats_of, run_bfloats
from service.errors import BundleError, EngineFailure, InvalidRequest, ProviderUnavailable
from service.graph import ORT_SUFFIX, as_array, input_spec, output_spec, readable
from service.memory import outgrows
from service.options import ATTRIBUTES, ENTRIES, check_provider
from service.tensors import Tensor, Tensors, TensorSpec

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_CUDA_OPTIONS = {
    "cudnn_conv_algo_search": "HEURISTIC",
    "arena_extend_strategy": "kSameAsRequested",
    "use_tf32": "0",
}
# Spinning for longer burns a core and gains nothing, see docs/tuning.md.
SPIN_MICROSECONDS = 200
_ENUMS = {
    "execution_mode": ort.ExecutionMode,
    "execution_order": ort.ExecutionOrder,
    "graph_optimization_level": ort.GraphOptimizationLevel,
}
# It reads memory that is not its own in some half-precision graphs, and ends the process.
_DEADLY_OPTIMIZERS = ["FuseFp16InitializerToFp32NodeTransformer"]
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
    otherwise.  Any other list is a promise: what is not on it is not used.  ``session`` and
    ``provider`` are ONNX Runtime's own options as `service.options` returns them; they win over
    everything else, and ``provider`` must be options of the first provider that is tried.
    """

    providers: tuple[str, ...] = ("auto",)
    intra_op_threads: int = 1
    session: Mapping[str, str] = field(default_factory=dict)
    provider: Mapping[str, str] = field(default_factory=dict)

    @property
    def threads_in_a_run(self) -> int:
        """The threads that share the work of one run."""
        return int(self.session.get("intra_op_num_threads", self.intra_op_threads))


class OrtEngine:
    """One session of ONNX Runtime over a model file."""

    def __init__(
        self, path: str, options: EngineOptions, *, any_shape: Collection[str] | None = ()
    ) -> None:
        """Load the model; raises BundleError for a bad file, ProviderUnavailable for a promise.

        Only under a name that ends in ``.ort`` may the file hold ONNX Runtime's own format.
        ``any_shape`` names the inputs and outputs whose number of axes the file leaves open, None
        if that is not known.
        """
        session = _open(path, options)
        try:
            specs = [
                *(input_spec(node, any_shape=any_shape) for node in session.get_inputs()),
                *(input_spec(n, optional=True) for n in session.get_overridable_initializers()),
            ]
            self._outputs = tuple(
                output_spec(node, any_shape=any_shape) for node in session.get_outputs()
            )
        except UnicodeDecodeError as error:
            raise BundleError(f"{path}: a name in the graph is not UTF-8: {error}") from error
        self._inputs = tuple(spec for spec in specs if not spec.optional)
        self._optional_inputs = tuple(spec for spec in specs if spec.optional)
        if not self._outputs:
            raise BundleError("the graph has no outputs")
        self._bfloats = bfloats_of(specs, self._outputs)
        self._datatypes = {spec.name: spec.datatype for spec in self._outputs}
        self._provider = _short_name(session.get_providers()[0])
        self._session: ort.InferenceSession | None = session
        self._options = options
        self._usual_bytes: float = math.inf
        self._shrinking = _shrinking(self._provider, options)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The graph's inputs that every call needs, batch axis included."""
        return self._inputs

    @property
    def optional_inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs that a call may leave out: they have a default, or are optional values."""
        return self._optional_inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The graph's outputs, in the graph's order."""
        return self._outputs

    @property
    def provider(self) -> str:
        """The provider that really runs the graph."""
        return self._provider

    def as_opened(self) -> dict[str, object]:
        """Return what ONNX Runtime itself says it runs with, as plain values."""
        session = self._session
        if session is None:
            raise EngineFailure("the engine is closed")
        return _read_back(session, self._options)

    def warm_up(self, batches: Iterable[Tensors]) -> None:
        """Run each of these once, and take the largest for the most that is usual.

        A later run of more bytes gives the memory that it needed back when it ends.
        """
        names = [spec.name for spec in self._outputs]
        largest = 0
        for batch in batches:
            # The first gives back what a proof or a calibration with larger ones has left.
            self._run(batch, names, None if largest else self._shrinking)
            largest = max(largest, _bytes_of(batch))
        self._usual_bytes = largest or math.inf

    def run(self, inputs: Tensors, wanted: Sequence[str]) -> dict[str, Tensor]:
        """Run the graph; InvalidRequest where the model refuses the values, else EngineFailure.

        ONNX Runtime's texts carry paths and names from the model file, so callers get our own.
        """
        beyond = outgrows(_bytes_of(inputs), self._usual_bytes)
        return self._run(inputs, wanted, self._shrinking if beyond else None)

    def run_within(
        self, inputs: Tensors, wanted: Sequence[str], seconds: float
    ) -> dict[str, Tensor]:
        """Run the graph as `run` does; a run that takes longer is ended with EngineFailure.

        It ends before the next node of the graph, so a single endless operator would not.
        """
        options = ort.RunOptions()
        timer = threading.Timer(seconds, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            return self._run(inputs, wanted, options)
        except EngineFailure as error:
            if options.terminate:
                raise EngineFailure(f"a run took longer than {seconds:.1f} s") from error
            raise
        finally:
            timer.cancel()

    def _run(
        self, inputs: Tensors, wanted: Sequence[str], options: ort.RunOptions | None
    ) -> dict[str, Tensor]:
        session = self._session
        if session is None:
            raise EngineFailure("the engine is closed")
        try:
            if self._bfloats:
                values = run_bfloats(session, inputs, wanted, self._bfloats, options)
            else:
                values = session.run(list(wanted), dict(inputs), options)
        # ONNX Runtime raises types of its own and plain RuntimeError, MemoryError and others.
        except Exception as error:
            if _refuses_values(error, self._provider):
                raise InvalidRequest("the model refuses these input values") from error
            raise EngineFailure("the model failed on this input") from error
        return {
            name: as_array(value, self._datatypes[name])
            for name, value in zip(wanted, values, strict=True)
        }

    def close(self) -> None:
        """Drop the session; its memory goes when the last run has ended."""
        self._session = None


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
    check_provider(options.provider, asked[0])
    given = {"cuda": {**_CUDA_OPTIONS}, "cpu": {}}
    given[asked[0]] |= options.provider
    providers: list[Any] = [(PROVIDERS[name], given[name]) for name in asked]
    try:
        return ort.InferenceSession(
            path,
            _session_options(path, options),
            providers=providers,
            disabled_optimizers=_DEADLY_OPTIMIZERS,
        )
    except _LOAD_ERRORS as error:
        raise BundleError(f"{path}: ONNX Runtime cannot load it: {readable(error)}") from error


def _session_options(path: str, options: EngineOptions) -> ort.SessionOptions:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.intra_op_threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    if options.threads_in_a_run > 1:
        settings.add_session_config_entry(
            "session.intra_op.spin_duration_us", str(SPIN_MICROSECONDS)
        )
    for name, value in options.session.items():
        if name in ENTRIES:
            settings.add_session_config_entry(name, value)
        elif name in _ENUMS:
            setattr(settings, name, _ENUMS[name].__members__[value])
        else:
            # Of the flags some are bool, of which int is as good as any other spelling.
            kind = type(getattr(settings, name))
            setattr(settings, name, kind(int(value)))
    form = "ORT" if path.endswith(ORT_SUFFIX) else "ONNX"
    settings.add_session_config_entry("session.load_model_format", form)
    return settings


def _read_back(session: ort.InferenceSession, options: EngineOptions) -> dict[str, object]:
    settings = session.get_session_options()
    seen: dict[str, object] = {}
    for name in ATTRIBUTES:
        value = getattr(settings, name)
        seen[name] = value.name if name in _ENUMS else value
    entries = {name for name in options.session if name in ENTRIES}
    if options.threads_in_a_run > 1:
        entries.add("session.intra_op.spin_duration_us")
    for name in sorted({*entries, "session.load_model_format"}):
        seen[name] = settings.get_session_config_entry(name)
    return {
        "intra_op_threads": settings.intra_op_num_threads,
        "inter_op_threads": settings.inter_op_num_threads,
        "execution_mode": settings.execution_mode.name,
        "graph_optimization_level": settings.graph_optimization_level.name,
        "session_options": seen,
        "provider_options": {
            _short_name(name): dict(one) for name, one in session.get_provider_options().items()
        },
    }


def _shrinking(provider: str, options: EngineOptions) -> ort.RunOptions | None:
    """Return the options of a run after which its arenas give back what is free in them.

    They are only read during a run, so that one value serves all of them.  None where there is no
    arena: ONNX Runtime would refuse the run.
    """
    arenas = [] if options.session.get("enable_cpu_mem_arena") == "0" else ["cpu:0"]
    if provider == "cuda":
        arenas.append(f"gpu:{options.provider.get('device_id', '0')}")
    if not arenas:
        return None
    shrinking = ort.RunOptions()
    shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", ";".join(arenas))
    return shrinking


def _bytes_of(inputs: Tensors) -> int:
    return sum(value.nbytes for value in inputs.values())


def _cuda_is_offered() -> bool:
    return PROVIDERS["cuda"] in ort.get_available_providers()


def _short_name(provider: str) -> str:
    names = {long: short for short, long in PROVIDERS.items()}
    return names.get(provider, provider)
