"""Execution providers as promises: what their names mean, and what a session made of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from service.errors import ProviderUnavailable

AUTO = ("auto",)
PROVIDERS: Mapping[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_RAW = re.compile(r"[A-Za-z][A-Za-z0-9]{0,60}ExecutionProvider")
_SHORT = {long: short for short, long in PROVIDERS.items()}
_REMEDY = {"cuda": "; install 'onnxport[gpu]'"}
EXPECTED = (
    "auto, or names in order of preference: cpu, cuda, openvino, tensorrt or a whole name of "
    "ONNX Runtime such as QNNExecutionProvider"
)


def short_name(provider: str) -> str:
    """Return our name of a provider, such as "cpu", or its own where we have none."""
    return _SHORT.get(provider, provider)


def full_name(provider: str) -> str:
    """Return ONNX Runtime's name of a provider."""
    return PROVIDERS.get(provider, provider)


def normal_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return a list of providers in our own spelling; ValueError says what is wrong with it."""
    if tuple(names) == AUTO:
        return AUTO
    wrong = [name for name in names if name not in PROVIDERS and not _RAW.fullmatch(name)]
    if wrong or not names:
        seen = ", ".join(f"'{name:.80}'" for name in wrong) or "an empty list"
        raise ValueError(f"{seen} is no provider; expected {EXPECTED}")
    short = tuple(short_name(name) for name in names)
    if len(set(short)) < len(short):
        raise ValueError(f"a provider is named twice in {', '.join(names)}")
    if "cpu" in short[:-1]:
        raise ValueError("the CPU runs everything, so that no provider can stand behind it")
    return short


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the nodes of a graph run, as ONNX Runtime has assigned them after its rewrites.

    ``nodes`` are counted by provider in our spelling, ``on_cpu`` those on the CPU by operator.
    Both are empty for a graph that has none left.
    """

    nodes: Mapping[str, int] = field(default_factory=dict)
    on_cpu: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Return how many nodes there are."""
        return sum(self.nodes.values())


def placement_of(assigned: Iterable[tuple[str, Iterable[str]]]) -> Placement:
    """Return the placement of (provider, operators) pairs, the providers in any spelling."""
    nodes: dict[str, int] = {}
    on_cpu: dict[str, int] = {}
    for provider, operators in assigned:
        name = short_name(provider)
        for operator in operators:
            nodes[name] = nodes.get(name, 0) + 1
            if name == "cpu":
                on_cpu[operator] = on_cpu.get(operator, 0) + 1
    return Placement(dict(sorted(nodes.items())), dict(sorted(on_cpu.items())))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a wish: the provider in use, and why those before it are not.

    ``used`` is the first of the list that runs nodes.
    """

    asked: tuple[str, ...]
    used: str
    unavailable: Mapping[str, str]
    placement: Placement

    @property
    def fell_back(self) -> bool:
        """Whether another provider than the first of an outspoken list does the work."""
        return self.asked != AUTO and self.used != self.asked[0]


def to_try(asked: Sequence[str], offered: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return which providers a session is asked for, and why others of the list are not.

    "auto" is CUDA, where the wheel has it, before the CPU.  ``offered`` is what ONNX Runtime was
    built with, in our spelling.  Raises ProviderUnavailable for a promise that cannot be kept: a
    list without "cpu" allows nothing else.
    """
    if tuple(asked) == AUTO:
        asked = ("cuda", "cpu") if "cuda" in offered else ("cpu",)
    unavailable = {
        name: f"the installed ONNX Runtime has no {full_name(name)}{_REMEDY.get(name, '')}"
        for name in asked
        if name not in offered
    }
    refuse_broken(asked, unavailable)
    return tuple(name for name in asked if name not in unavailable), unavailable


def refuse_broken(asked: Sequence[str], unavailable: Mapping[str, str]) -> None:
    """Raise ProviderUnavailable, with the reason, unless the list lets the CPU stand in."""
    if "cpu" in asked or tuple(asked) == AUTO:
        return
    for name, reason in unavailable.items():
        raise ProviderUnavailable(f"provider '{name}': {reason}")


def judge(
    asked: Sequence[str],
    tried: Sequence[str],
    unavailable: Mapping[str, str],
    placement: Placement,
    *,
    strict: bool = False,
) -> Outcome:
    """Return what became of a wish; raises ProviderUnavailable where it is not what was promised.

    ``tried`` are the providers that the session was asked for.  One that loads and takes no node
    is no better than one that does not load.  ``strict`` refuses every node on the CPU beside
    another provider; to "auto" a CPU that does everything is no other than wished for.
    """
    loaded = [name for name in tried if name not in unavailable] or ["cpu"]
    working = [name for name in (*loaded, "cpu") if placement.nodes.get(name)] or loaded
    used = working[0]
    known = dict(unavailable)
    for name in loaded:
        if name == used:
            break
        known[name] = f"it loaded, but took none of the model's {placement.total} nodes"
    refuse_broken(asked, known)
    wished = used if tuple(asked) == AUTO else asked[0]
    if strict and wished != "cpu":
        _refuse_nodes_on_cpu(wished, known, placement)
    return Outcome(tuple(asked), used, known, placement)


def _refuse_nodes_on_cpu(wished: str, unavailable: Mapping[str, str], placement: Placement) -> None:
    count = placement.nodes.get("cpu", 0)
    if not count:
        return
    operators = ", ".join(f"{name} x{n}" for name, n in placement.on_cpu.items())
    why = "; ".join(f"provider '{name}': {reason}" for name, reason in unavailable.items())
    raise ProviderUnavailable(
        f"strict_placement: {count} of {placement.total} nodes are on the CPU and not on "
        f"'{wished}': {operators}{f' ({why})' if why else ''}"
    )
