"""How a session of ONNX Runtime is made, with the providers that were asked for or not at all."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from service import cuda, nvml
from service.errors import BundleError, ProviderUnavailable
from service.faults import fault_of
from service.graph import ORT_SUFFIX, readable
from service.optimizers import DEADLY
from service.options import ENTRIES, check_provider
from service.providers import (
    AUTO,
    Outcome,
    Placement,
    full_name,
    judge,
    normal_names,
    placement_of,
    refuse_broken,
    short_name,
    to_try,
)
from service.refusals import Refusal

# Exhaustive search costs hundreds of milliseconds for each new shape and gains nothing; TF32 moves
# answers away from the CPU's by 1e-3; an arena that doubles wastes what other models could use.
_DEFAULTS: Mapping[str, Mapping[str, str]] = {
    "cuda": {
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "0",
    }
}
# Weights outside the arena, so that it can shrink after a run that was too large.
CUDA_ENTRIES = {"session.use_device_allocator_for_initializers": "1"}
_NO_CPU = "session.disable_cpu_ep_fallback"
_RECORD = "session.record_ep_graph_assignment_info"
# Spinning for longer burns a core and gains nothing, see docs/tuning.md.
SPIN_MICROSECONDS = 200
ENUMS = {
    "execution_mode": ort.ExecutionMode,
    "execution_order": ort.ExecutionOrder,
    "graph_optimization_level": ort.GraphOptimizationLevel,
}
_FOLDER_OF_WEIGHTS = "session.model_external_initializers_file_folder_path"
_NOWHERE = "/dev/null/nowhere"
_NO_MODEL = (ort_errors.InvalidProtobuf, UnicodeDecodeError)
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


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How a session is made.

    ``providers`` are tried in order; "auto" takes CUDA where it really loads and the CPU
    otherwise.  Any other list is a promise: what is not on it does no work in place of what is.
    ``session``, ``provider`` and ``by_provider`` are ONNX Runtime's own options as
    `service.options` returns them; they win over everything else.  ``provider`` must be options of
    the first provider that is tried, ``by_provider`` are keyed by name.  ``strict_placement``
    refuses a model of which a node would run on the CPU beside another provider;
    ``cuda_graphs`` has CUDA record and replay the runs of each batch size.
    """

    providers: tuple[str, ...] = AUTO
    intra_op_threads: int = 1
    session: Mapping[str, str] = field(default_factory=dict)
    provider: Mapping[str, str] = field(default_factory=dict)
    by_provider: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    strict_placement: bool = False
    cuda_graphs: bool = False

    @property
    def threads_in_a_run(self) -> int:
        """The threads that share the work of one run."""
        return int(self.session.get("intra_op_num_threads", self.intra_op_threads))


def on_cpu(options: EngineOptions) -> EngineOptions:
    """Return the options of the same session on the CPU alone."""
    session = {name: v for name, v in options.session.items() if name != _NO_CPU}
    return replace(
        options,
        providers=("cpu",),
        session=session,
        provider={},
        by_provider={},
        cuda_graphs=False,
    )


@dataclass(frozen=True, slots=True)
class ModelBytes:
    """A model in memory: what it is called in texts, its file, and what lies beside that.

    ``weights`` are whole files by the place that the model file names them with.
    """

    name: str
    content: bytes
    weights: Mapping[str, memoryview] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str) -> ModelBytes:
        """Return a file without weights beside it; raises BundleError where there is none."""
        try:
            return cls(path, Path(path).read_bytes())
        except OSError as error:
            raise BundleError(f"{path}: {error.strerror}", Refusal.FILE_MISSING) from error


@dataclass(frozen=True, slots=True)
class Opened:
    """A session, what became of the wish for providers, and the device's memory before it."""

    session: ort.InferenceSession
    outcome: Outcome
    devices: tuple[nvml.Device, ...] = ()


def open_session(model: str | ModelBytes, options: EngineOptions) -> Opened:
    """Load a model; raises BundleError for a bad file, ProviderUnavailable for a promise.

    Nothing is read from the disk but the file at a path.  ConfigurationError says that an option
    is not one of the provider in use.
    """
    try:
        asked = normal_names(options.providers)
    except ValueError as error:
        raise ProviderUnavailable(f"providers: {error}") from error
    offered = [short_name(name) for name in ort.get_available_providers()]
    tried, unavailable = to_try(asked, offered)
    owner = asked[0] if asked != AUTO else tried[0]
    check_provider(options.provider, owner)
    if "cuda" in tried:
        tried, without = _with_cuda(tried)
        unavailable |= without
        refuse_broken(asked, unavailable)
    before = nvml.devices() if tried != ("cpu",) else ()
    source = ModelBytes.read(model) if isinstance(model, str) else model
    session, reasons = _session(source, options, tried, owner)
    unavailable |= reasons
    loaded = {short_name(name) for name in session.get_providers()}
    unavailable |= {
        name: _why_not(name) for name in tried if name not in loaded and name not in unavailable
    }
    refuse_broken(asked, unavailable)
    placement, strict = _placement(session), options.strict_placement
    outcome = judge(asked, tried, unavailable, placement, strict=strict)
    return Opened(session, outcome, before)


def _with_cuda(tried: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Load CUDA's libraries; without a driver leave it out at once, and return why.

    ONNX Runtime would try all the same, and write a page of errors for each model.
    """
    no_driver = cuda.missing_libraries([cuda.DRIVER])
    if no_driver:
        rest = tuple(name for name in tried if name != "cuda")
        return rest or ("cpu",), {"cuda": cuda.why_not(cuda.CudaFacts(no_driver))}
    # It tells on standard output what it misses, and that is for answers alone.
    with redirect_stdout(sys.stderr):
        ort.preload_dlls()
    return tried, {}


def _session(
    model: ModelBytes, options: EngineOptions, tried: Sequence[str], owner: str
) -> tuple[ort.InferenceSession, dict[str, str]]:
    """Return a session, and what kept those providers from the model without which it opened.

    What not even the CPU opens is the model's fault.
    """
    reasons: dict[str, str] = {}
    rest = tuple(tried)
    while True:
        try:
            return _make(model, options, rest, owner), reasons
        except _LOAD_ERRORS as error:
            text = readable(error)
            if rest == ("cpu",):
                told = f"{model.name}: ONNX Runtime cannot load it: {text}"
                raise BundleError(told, _refusal_of(error)) from error
            reasons[rest[0]] = text
            rest = rest[1:] or ("cpu",)


def _make(
    model: ModelBytes, options: EngineOptions, tried: Sequence[str], owner: str
) -> ort.InferenceSession:
    given = [(full_name(name), provider_options_of(name, options, owner)) for name in tried]
    session = ort.InferenceSession(
        model.content,
        _session_options(model, options, tried),
        providers=given,
        disabled_optimizers=list(DEADLY),
        # What stands in for a provider is for us to decide, now and when a run fails.
        enable_fallback=0,
    )
    # It would keep the bytes as long as it lives, for a second try that was just ruled out.
    session._model_bytes = None  # noqa: SLF001
    return session


def _refusal_of(error: Exception) -> Refusal:
    """Return which of our codes an error of a load is; only the texts tell some of them apart."""
    text = str(error)
    if fault_of(text, type(error).__name__) == "memory":
        return Refusal.LOAD_MEMORY
    if "Opset" in text or "opset version" in text:
        return Refusal.UNSUPPORTED_OPSET
    if isinstance(error, ort_errors.NotImplemented) or "is not a registered function/op" in text:
        return Refusal.UNSUPPORTED_OPERATOR
    return Refusal.NOT_ONNX if isinstance(error, _NO_MODEL) else Refusal.INVALID_GRAPH


def provider_options_of(name: str, options: EngineOptions, owner: str) -> dict[str, str]:
    """Return what a provider is opened with; ``owner`` is whom `EngineOptions.provider` is for."""
    own = options.provider if name == owner else {}
    graphs = {"enable_cuda_graph": "1"} if name == "cuda" and options.cuda_graphs else {}
    return {**_DEFAULTS.get(name, {}), **options.by_provider.get(name, {}), **own, **graphs}


def _why_not(name: str) -> str:
    reason = cuda.why_not(cuda.look()) if name == "cuda" else ""
    return reason or "it did not load, though nothing is seen to be missing"


def _placement(session: ort.InferenceSession) -> Placement:
    return placement_of(
        (part.ep_name, [node.op_type for node in part.get_nodes()])
        for part in session.get_provider_graph_assignment_info()
    )


def _session_options(
    model: ModelBytes, options: EngineOptions, tried: Sequence[str]
) -> ort.SessionOptions:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.intra_op_threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    if options.threads_in_a_run > 1:
        settings.add_session_config_entry(
            "session.intra_op.spin_duration_us", str(SPIN_MICROSECONDS)
        )
    entries = {_RECORD: "1", **(CUDA_ENTRIES if "cuda" in tried else {})}
    for name, value in entries.items():
        settings.add_session_config_entry(name, value)
    for name, value in options.session.items():
        if name in ENTRIES:
            settings.add_session_config_entry(name, value)
        elif name in ENUMS:
            setattr(settings, name, ENUMS[name].__members__[value])
        else:
            # Of the flags some are bool, of which int is as good as any other spelling.
            kind = type(getattr(settings, name))
            setattr(settings, name, kind(int(value)))
    form = "ORT" if model.name.endswith(ORT_SUFFIX) else "ONNX"
    settings.add_session_config_entry("session.load_model_format", form)
    # What is not handed over in memory would be looked for in the folder where the server began.
    settings.add_session_config_entry(_FOLDER_OF_WEIGHTS, _NOWHERE)
    if model.weights:
        settings.add_external_initializers_from_files_in_memory(
            list(model.weights),
            list(model.weights.values()),
            [len(one) for one in model.weights.values()],
        )
    return settings


def arenas_of(provider: str, options: EngineOptions) -> str:
    """Return the arenas of a session in ONNX Runtime's spelling, "" where it has none."""
    arenas = [] if options.session.get("enable_cpu_mem_arena") == "0" else ["cpu:0"]
    # What a recorded graph uses is free in the arena's eyes, and must not be given back.
    if provider == "cuda" and not options.cuda_graphs:
        arenas.append(f"gpu:{device_of(options)}")
    return ";".join(arenas)


def device_of(options: EngineOptions) -> int:
    """Return the number of the GPU that CUDA is to use."""
    return int(provider_options_of("cuda", options, "cuda").get("device_id", 0))


def shrinking(arenas: str) -> ort.RunOptions | None:
    """Return the options of a run after which its arenas give back what is free in them.

    They are only read during a run, so that one value serves all of them.  None where there is no
    arena.
    """
    if not arenas:
        return None
    options = ort.RunOptions()
    shrink(options, arenas)
    return options


def shrink(options: ort.RunOptions, arenas: str) -> None:
    """Have the runs with these options end as `shrinking` says; no arena would be refused."""
    if arenas:
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", arenas)
