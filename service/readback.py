"""What a session of ONNX Runtime says of itself once it is made."""

from __future__ import annotations

from collections.abc import Mapping

from service import nvml
from service.options import ATTRIBUTES, ENTRIES
from service.providers import AUTO, Outcome, short_name
from service.session import CUDA_ENTRIES, ENUMS, EngineOptions, Opened, provider_options_of


def read_back(opened: Opened, options: EngineOptions) -> dict[str, object]:
    """Return what ONNX Runtime says a session runs with, as plain values.

    It lists no session entries, so those are asked for that were set.
    """
    session = opened.session
    settings = session.get_session_options()
    accepted = {short_name(name): dict(one) for name, one in session.get_provider_options().items()}
    seen: dict[str, object] = {}
    for name in ATTRIBUTES:
        value = getattr(settings, name)
        seen[name] = value.name if name in ENUMS else value
    entries = {name for name in options.session if name in ENTRIES}
    if options.threads_in_a_run > 1:
        entries.add("session.intra_op.spin_duration_us")
    if "cuda" in accepted:
        entries |= set(CUDA_ENTRIES)
    for name in sorted({*entries, "session.load_model_format"}):
        seen[name] = settings.get_session_config_entry(name)
    return {
        "intra_op_threads": settings.intra_op_num_threads,
        "inter_op_threads": settings.inter_op_num_threads,
        "execution_mode": settings.execution_mode.name,
        "graph_optimization_level": settings.graph_optimization_level.name,
        "session_options": seen,
        "provider_options": accepted,
        **_kept(opened, accepted, options),
    }


def _kept(
    opened: Opened, accepted: Mapping[str, Mapping[str, str]], options: EngineOptions
) -> dict[str, object]:
    """Return what became of the wish for providers; devices only where one was tried."""
    outcome = opened.outcome
    return {
        "provider_options_unconfirmed": _unconfirmed(accepted, outcome, options),
        "providers_unavailable": dict(outcome.unavailable),
        "fell_back": outcome.fell_back,
        "nodes": dict(outcome.placement.nodes),
        "operators_on_cpu": dict(outcome.placement.on_cpu) if outcome.used != "cpu" else {},
        "devices": nvml.compared(opened.devices, nvml.devices() if opened.devices else ()),
    }


def _unconfirmed(
    accepted: Mapping[str, Mapping[str, str]], outcome: Outcome, options: EngineOptions
) -> dict[str, list[str]]:
    """Return which options that were given are not read back as they were given, by provider."""
    owner = outcome.asked[0] if outcome.asked != AUTO else outcome.used
    found = {}
    for name, read in accepted.items():
        given = provider_options_of(name, options, owner)
        names = sorted(key for key, value in given.items() if read.get(key) != value)
        if names:
            found[name] = names
    return found
