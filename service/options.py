"""ONNX Runtime's own options by its own names: which may be set, and to what.

ONNX Runtime takes an unknown session entry without a word, and some of what it knows reads or
writes files, loads code or trusts a number as an address.  So only what is listed here gets there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from service.errors import ConfigurationError
from service.providers import normal_names

Scalar = bool | int | str
_MAX_INT = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Allowed:
    """What an option takes: one of some words, or a whole number from-to, or any short text."""

    words: tuple[str, ...] = ()
    least: int = 0
    most: int = _MAX_INT
    text: bool = False

    def __str__(self) -> str:
        """Say it for a person."""
        if self.text:
            return "a text of at most 200 characters"
        if self.words:
            return f"one of {', '.join(self.words)}"
        return f"a whole number from {self.least} to {self.most}"

    def takes(self, value: str) -> bool:
        """Whether a value, written as ONNX Runtime reads it, is among them."""
        if self.text:
            return 0 < len(value) <= 200 and value.isprintable()
        if self.words:
            return value in self.words
        return value.lstrip("-").isdecimal() and self.least <= int(value) <= self.most


_FLAG = Allowed(words=("0", "1"))
_NUMBER = Allowed()
_THREADS = Allowed(least=1, most=1024)
_MICROSECONDS = Allowed(most=1_000_000)

ATTRIBUTES: Mapping[str, Allowed] = {
    "enable_cpu_mem_arena": _FLAG,
    "enable_mem_pattern": _FLAG,
    "enable_mem_reuse": _FLAG,
    "execution_mode": Allowed(words=("ORT_SEQUENTIAL", "ORT_PARALLEL")),
    "execution_order": Allowed(words=("DEFAULT", "PRIORITY_BASED", "MEMORY_EFFICIENT")),
    "graph_optimization_level": Allowed(
        words=(
            "ORT_DISABLE_ALL",
            "ORT_ENABLE_BASIC",
            "ORT_ENABLE_EXTENDED",
            "ORT_ENABLE_LAYOUT",
            "ORT_ENABLE_ALL",
        )
    ),
    "inter_op_num_threads": _THREADS,
    "intra_op_num_threads": _THREADS,
    "log_severity_level": Allowed(most=4),
    "use_deterministic_compute": _FLAG,
}
ENTRIES: Mapping[str, Allowed] = {
    "mlas.enable_gemm_fastmath_arm64_bfloat16": _FLAG,
    "optimization.enable_cast_chain_elimination": _FLAG,
    "optimization.enable_gelu_approximation": _FLAG,
    "session.disable_aot_function_inlining": _FLAG,
    "session.disable_cpu_ep_fallback": _FLAG,
    "session.disable_double_qdq_remover": _FLAG,
    "session.disable_prepacking": _FLAG,
    "session.disable_quant_qdq": _FLAG,
    "session.dynamic_block_base": Allowed(most=64),
    "session.enable_quant_qdq_cleanup": _FLAG,
    "session.force_spinning_stop": _FLAG,
    "session.graph_optimizations_loop_level": Allowed(most=2),
    "session.inter_op.allow_spinning": _FLAG,
    "session.inter_op.spin_backoff_max": _NUMBER,
    "session.inter_op.spin_duration_us": _MICROSECONDS,
    "session.intra_op.allow_spinning": _FLAG,
    "session.intra_op.spin_backoff_max": _NUMBER,
    "session.intra_op.spin_duration_us": _MICROSECONDS,
    "session.intra_op_thread_affinities": Allowed(text=True),
    "session.qdq_matmulnbits_accuracy_level": Allowed(most=4),
    "session.qdqisint8allowed": _FLAG,
    "session.set_denormal_as_zero": _FLAG,
    "session.strict_shape_type_inference": _FLAG,
    "session.use_device_allocator_for_initializers": _FLAG,
    "session.x64quantprecision": _FLAG,
}
# What is left out on purpose hands over streams and allocators as addresses.
PROVIDER_OPTIONS: Mapping[str, Mapping[str, Allowed]] = {
    "cpu": {},
    "cuda": {
        "arena_extend_strategy": Allowed(words=("kNextPowerOfTwo", "kSameAsRequested")),
        "cudnn_conv1d_pad_to_nc1d": _FLAG,
        "cudnn_conv_algo_search": Allowed(words=("EXHAUSTIVE", "HEURISTIC", "DEFAULT")),
        "cudnn_conv_use_max_workspace": _FLAG,
        "device_id": Allowed(most=1023),
        "do_copy_in_default_stream": _FLAG,
        "enable_cudnn": _FLAG,
        "enable_skip_layer_norm_strict_mode": _FLAG,
        "fuse_conv_bias": _FLAG,
        "gpu_mem_limit": Allowed(least=1 << 20, most=1 << 50),
        "prefer_nhwc": _FLAG,
        "sdpa_kernel": _NUMBER,
        "use_ep_level_unified_stream": _FLAG,
        "use_tf32": _FLAG,
    },
}
_FILES_OR_CODE = (
    "custom_op",
    "external",
    "file",
    "optimized_model",
    "profil",
    "register",
    "folder",
    "context",
    "_dir",
    "_path",
)
_ADDRESSES = ("stream", "alloc", "handle", "pointer", "_ptr", "library", "plugin")
_NEVER = (*_FILES_OR_CODE, *_ADDRESSES)
_OPTION = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,99}")


def session_options(given: object, where: str = "ort.session") -> dict[str, str]:
    """Return session attributes and entries as ONNX Runtime spells them, each checked.

    Tables inside tables are names with dots, as TOML reads ``session.intra_op.x = 1``.  Raises
    ConfigurationError that names the option and what is allowed.
    """
    return _checked(_flat(given, where), {**ATTRIBUTES, **ENTRIES}, where)


def provider_options(given: object, where: str = "ort.provider") -> dict[str, str]:
    """Return options that at least one provider knows, each checked as `session_options` does."""
    known = {name: one for options in PROVIDER_OPTIONS.values() for name, one in options.items()}
    return _checked(_flat(given, where), known, where)


def options_by_provider(given: object, where: str = "ort.providers") -> dict[str, dict[str, str]]:
    """Return the options of each provider that is named, in our spelling of its name.

    Of a provider without a list here any option passes that has a plain value and is not called
    after a file, a library or an address.  Raises ConfigurationError as `session_options` does.
    """
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{where}: expected a table of providers, got {given!r:.80}")
    options = {}
    for raw, table in given.items():
        try:
            (name,) = normal_names([str(raw)])
        except ValueError as error:
            raise ConfigurationError(f"{where}: {error}") from error
        inside, flat = f"{where}.{raw}", _flat(table, f"{where}.{raw}")
        known = PROVIDER_OPTIONS.get(name)
        options[name] = _unlisted(flat, inside) if known is None else _checked(flat, known, inside)
    return options


def _unlisted(given: Mapping[str, object], where: str) -> dict[str, str]:
    checked = {}
    for name, value in given.items():
        text = _text(value)
        if _OPTION.fullmatch(name) is None or any(mark in name.lower() for mark in _NEVER):
            raise ConfigurationError(
                f"{where}: '{name:.80}' is not allowed: it could name a file, code or an address"
            )
        if text is None or not Allowed(text=True).takes(text):
            raise ConfigurationError(
                f"{where}: '{name}' takes {Allowed(text=True)}, got {value!r:.80}"
            )
        checked[name] = text
    return checked


def check_provider(given: Mapping[str, str], provider: str) -> None:
    """Raise ConfigurationError for an option that the provider in use does not have."""
    known = PROVIDER_OPTIONS.get(provider, {})
    for name in given:
        if name not in known:
            allowed = ", ".join(sorted(known)) or "none"
            raise ConfigurationError(
                f"ort.provider: '{name}' is no option of provider '{provider}'; allowed: "
                f"{allowed}; options of other providers stand in [ort.providers.NAME]"
            )


def _flat(given: object, where: str) -> dict[str, object]:
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{where}: expected a table of options, got {given!r:.80}")
    flat: dict[str, object] = {}
    for name, value in given.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": one for inner, one in _flat(value, where).items()}
        else:
            flat[str(name)] = value
    return flat


def _checked(
    given: Mapping[str, object], known: Mapping[str, Allowed], where: str
) -> dict[str, str]:
    checked = {}
    for name, value in given.items():
        if name not in known:
            raise ConfigurationError(f"{where}: {_unknown(name, known)}")
        text = _text(value)
        if text is None or not known[name].takes(text):
            raise ConfigurationError(f"{where}: '{name}' takes {known[name]}, got {value!r:.80}")
        checked[name] = text
    return checked


def _unknown(name: str, known: Mapping[str, Allowed]) -> str:
    if any(mark in name.lower() for mark in _FILES_OR_CODE):
        reason = "is not allowed: it could read or write files or run code"
    else:
        reason = "is unknown"
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"'{name:.80}' {reason}; {hint}allowed: {', '.join(sorted(known))}"


def _text(value: object) -> str | None:
    """Return a value as ONNX Runtime reads it; None for what it has no spelling for."""
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value) if isinstance(value, (int, str)) else None
