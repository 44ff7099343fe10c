"""How a session of ONNX Runtime is made, and what it says of itself once it is."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from service.errors import BundleError, ProviderUnavailable
from service.graph import ORT_SUFFIX, readable
from service.optimizers import DEADLY
from service.options import ATTRIBUTES, ENTRIES, check_provider

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


def open_session(path: str, options: EngineOptions) -> ort.InferenceSession:
    """Load a model; raises BundleError for a bad file, ProviderUnavailable for a promise.

    ConfigurationError says that an option is not one of the provider in use.
    """
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
        # It tells on standard output what it misses, and that is for answers alone.
        with redirect_stdout(sys.stderr):
            ort.preload_dlls()
    session = _session(path, options, asked)
    if "cuda" in asked and "cpu" not in asked and short_name(session.get_providers()[0]) != "cuda":
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
            disabled_optimizers=list(DEADLY),
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


def read_back(session: ort.InferenceSession, options: EngineOptions) -> dict[str, object]:
    """Return what ONNX Runtime says a session runs with, as plain values.

    It lists no session entries, so those are asked for that were set.
    """
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
            short_name(name): dict(one) for name, one in session.get_provider_options().items()
        },
    }


def arenas_of(provider: str, options: EngineOptions) -> str:
    """Return the arenas of a session in ONNX Runtime's spelling, "" where it has none."""
    arenas = [] if options.session.get("enable_cpu_mem_arena") == "0" else ["cpu:0"]
    if provider == "cuda":
        arenas.append(f"gpu:{options.provider.get('device_id', '0')}")
    return ";".join(arenas)


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


def _cuda_is_offered() -> bool:
    return PROVIDERS["cuda"] in ort.get_available_providers()


def short_name(provider: str) -> str:
    """Return our name of a provider, such as "cpu", or its own where we have none."""
    names = {long: short for short, long in PROVIDERS.items()}
    return names.get(provider, provider)
