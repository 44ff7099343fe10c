"""The engine: one ONNX Runtime session, its options, and its errors translated into ours."""

from __future__ import annotations

import os

# numpy and onnxruntime start threads and telemetry at import; this must be said before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Else a model file could say with which options it is opened.
os.environ["ORT_LOAD_CONFIG_FROM_MODEL"] = "0"

import math
import threading
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from service.bfloat import bfloats_of, run_bfloats
from service.errors import (
    BundleError,
    DeviceLost,
    EngineFailure,
    InvalidRequest,
    OutOfMemory,
    ProviderUnavailable,
    ServiceError,
)
from service.faults import fault_of
from service.fixed import FixedRuns, Place, why_not_recorded
from service.graph import as_array, input_spec, output_spec
from service.memory import outgrows
from service.providers import PROVIDERS
from service.readback import read_back
from service.refusals import Refusal
from service.session import (
    EngineOptions,
    ModelBytes,
    Opened,
    arenas_of,
    device_of,
    on_cpu,
    open_session,
    shrink,
    shrinking,
)
from service.tensors import Tensor, Tensors, TensorSpec

# The rest of the service takes these from here, where the environment is set first.
__all__ = ["PROVIDERS", "Engine", "EngineOptions", "ModelBytes", "OrtEngine", "on_cpu", "version"]


class Stop:
    """Ends a run from another thread, before the next node of its graph.

    It may serve several runs; once used, it ends every run at its beginning.  With ``give_back``
    these runs end with the memory given back that is free then.
    """

    __slots__ = ("give_back", "options")

    def __init__(self) -> None:
        """Begin unused."""
        self.options = ort.RunOptions()
        self.give_back = False

    @property
    def stopped(self) -> bool:
        """Whether it was used."""
        return bool(self.options.terminate)

    def stop(self) -> None:
        """End the run, and every later one."""
        self.options.terminate = True


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

    def run(
        self, inputs: Tensors, wanted: Sequence[str], stop: Stop | None = None
    ) -> dict[str, Tensor]:
        """Return the wanted outputs; may be called from several threads at once.

        A run that ``stop`` ends raises EngineFailure.
        """
        ...

    def close(self) -> None:
        """Give the session's memory back; no run may follow."""
        ...


class EngineAround:
    """What a class that changes how another engine runs has in common with that engine."""

    def __init__(self, engine: Engine) -> None:
        """Keep the engine within."""
        self._engine = engine

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The engine's inputs."""
        return self._engine.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The engine's outputs."""
        return self._engine.outputs

    @property
    def provider(self) -> str:
        """The provider that runs the graph."""
        return self._engine.provider

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()


class OrtEngine:
    """One session of ONNX Runtime over a model in memory."""

    def __init__(
        self,
        model: str | ModelBytes,
        options: EngineOptions,
        *,
        any_shape: Collection[str] | None = (),
    ) -> None:
        """Load the model; raises BundleError for a bad file, ProviderUnavailable for a promise.

        A path stands for the file there, which must not have weights beside it.

        Only under a name that ends in ``.ort`` may the file hold ONNX Runtime's own format.
        ``any_shape`` names the inputs and outputs whose number of axes the file leaves open, None
        if that is not known.
        """
        opened = open_session(model, options)
        session = opened.session
        try:
            specs = [
                *(input_spec(node, any_shape=any_shape) for node in session.get_inputs()),
                *(input_spec(n, optional=True) for n in session.get_overridable_initializers()),
            ]
            self._outputs = tuple(
                output_spec(node, any_shape=any_shape) for node in session.get_outputs()
            )
        except UnicodeDecodeError as error:
            name = model if isinstance(model, str) else model.name
            text = f"{name}: a name in the graph is not UTF-8: {error}"
            raise BundleError(text, Refusal.UNSUPPORTED_TYPE) from error
        self._inputs = tuple(spec for spec in specs if not spec.optional)
        self._optional_inputs = tuple(spec for spec in specs if spec.optional)
        if not self._outputs:
            raise BundleError("the graph has no outputs", Refusal.INVALID_GRAPH)
        self._bfloats = bfloats_of(specs, self._outputs)
        self._datatypes = {spec.name: spec.datatype for spec in self._outputs}
        self._provider = opened.outcome.used
        self._opened: Opened | None = opened
        self._options = options
        self._usual_bytes: float = math.inf
        self._arenas = arenas_of(self._provider, options)
        self._shrinking = shrinking(self._arenas)
        self._fixed = self._recorded(opened, options)

    def _recorded(self, opened: Opened, options: EngineOptions) -> FixedRuns | None:
        """Return what replays runs, where that is wished for and the device does the work."""
        if not options.cuda_graphs or self._provider != "cuda":
            return None
        reason = why_not_recorded(
            (*self._inputs, *self._optional_inputs), self._outputs, opened.outcome.placement
        )
        if reason:
            raise ProviderUnavailable(f"cuda_graphs: {reason}")
        device = Place("cuda", device_of(options))
        return FixedRuns(opened.session, self._inputs, self._outputs, device)

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
        opened = self._opened
        if opened is None:
            raise EngineFailure("the engine is closed")
        return read_back(opened, self._options)

    def warm_up(self, batches: Iterable[Tensors]) -> None:
        """Run each of these once, and take the largest for the most that is usual.

        A later run of more bytes gives the memory that it needed back when it ends.
        """
        names = [spec.name for spec in self._outputs]
        largest = 0
        for batch in batches:
            if self._fixed is not None:
                self._fixed.prepare(len(next(iter(batch.values()))))
            # The first gives back what a proof or a calibration with larger ones has left.
            self._run(batch, names, None if largest else self._shrinking)
            largest = max(largest, _bytes_of(batch))
        self._usual_bytes = largest or math.inf

    def run(
        self, inputs: Tensors, wanted: Sequence[str], stop: Stop | None = None
    ) -> dict[str, Tensor]:
        """Run the graph; InvalidRequest where the model refuses the values, else EngineFailure.

        ONNX Runtime's texts carry paths and names from the model file, so callers get our own.
        """
        beyond = outgrows(_bytes_of(inputs), self._usual_bytes)
        if stop is None:
            return self._run(inputs, wanted, self._shrinking if beyond else None)
        if beyond or stop.give_back:
            shrink(stop.options, self._arenas)
        return self._run(inputs, wanted, stop.options)

    def run_within(
        self, inputs: Tensors, wanted: Sequence[str], seconds: float
    ) -> dict[str, Tensor]:
        """Run the graph as `run` does; a run that takes longer is ended with EngineFailure.

        It ends before the next node of the graph, so a single endless operator would not.
        """
        stop = Stop()
        timer = threading.Timer(seconds, stop.stop)
        timer.daemon = True
        timer.start()
        try:
            return self.run(inputs, wanted, stop)
        except EngineFailure as error:
            if stop.stopped:
                raise EngineFailure(f"a run took longer than {seconds:.1f} s") from error
            raise
        finally:
            timer.cancel()

    def _run(
        self, inputs: Tensors, wanted: Sequence[str], options: ort.RunOptions | None
    ) -> dict[str, Tensor]:
        opened = self._opened
        if opened is None:
            raise EngineFailure("the engine is closed")
        session = opened.session
        try:
            if self._fixed is not None:
                values = self._fixed.run(inputs, wanted, options)
            elif self._bfloats:
                values = run_bfloats(session, inputs, wanted, self._bfloats, options)
            else:
                values = session.run(list(wanted), dict(inputs), options)
        # ONNX Runtime raises types of its own and plain RuntimeError, MemoryError and others.
        except Exception as error:
            raise self._translated(error) from error
        return {
            name: as_array(value, self._datatypes[name])
            for name, value in zip(wanted, values, strict=True)
        }

    def _translated(self, error: Exception) -> ServiceError:
        """Return what callers hear of an error of ONNX Runtime."""
        fault = fault_of(str(error), type(error).__name__)
        if fault == "device" and self._provider != "cpu":
            return DeviceLost(f"the device of provider '{self._provider}' is lost")
        if fault == "memory":
            return OutOfMemory("the model asks for more memory than there is")
        if fault == "other" and _refuses_values(error, self._provider):
            return InvalidRequest("the model refuses these input values")
        return EngineFailure("the model failed on this input")

    def close(self) -> None:
        """Drop the session; its memory goes when the last run has ended."""
        self._opened = None


def version() -> str:
    """Return ONNX Runtime's version."""
    return str(ort.__version__)


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
    return "while running" in text and "llocat" not in text


def _bytes_of(inputs: Tensors) -> int:
    return sum(value.nbytes for value in inputs.values())
