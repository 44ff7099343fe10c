"""Whether the lines of an audit log are all there, in order, and as they were written."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from service.audit import HERE, NOTHING, ROTATED, START, hash_of


@dataclass(slots=True)
class _Chain:
    number: int
    last: str
    closed: bool


@dataclass(slots=True)
class Check:
    """What a look through one or several files found, the oldest first."""

    lines: int = 0
    problems: list[str] = field(default_factory=list)
    #: The hash of every line at which a chain stands now, to be kept elsewhere.
    heads: dict[str, str] = field(default_factory=dict)
    unclosed: int = 0
    #: Chains that go on from a file that was not shown.
    continued: int = 0


def check_files(
    files: Iterable[tuple[str, Iterable[bytes]]], *, must_hold: Collection[str] = ()
) -> Check:
    """Check lines file by file; ``files`` holds each one's name and lines, their ends kept.

    ``must_hold`` are hashes that were noted before: lines that have them must still be there.
    """
    missing = set(must_hold)
    check, chains = Check(), dict[str, _Chain]()
    known_ends: set[str] = set()
    for name, lines in files:
        before = NOTHING
        for number, line in enumerate(lines, start=1):
            check.lines += 1
            where = f"{name}:{number}"
            problem = _check_line(line, before, chains, check, known_ends)
            if problem:
                check.problems.append(f"{where}: {problem}")
            before = hash_of(line.removesuffix(b"\n"))
            missing.discard(before)
        known_ends |= {chain.last for chain in chains.values()} | {before}
    check.problems += [f"no line has the hash {one[:64]}" for one in sorted(missing)]
    check.heads = {name: chain.last for name, chain in chains.items()}
    check.unclosed = sum(not chain.closed for chain in chains.values())
    return check


def _check_line(
    line: bytes, before: str, chains: dict[str, _Chain], check: Check, known_ends: set[str]
) -> str:
    """Return what is wrong with a line, "" if nothing is, and move its chain on."""
    if not line.endswith(b"\n"):
        return "the line is cut off"
    record = _record(line)
    if record is None:
        return "not a line of an audit log"
    name, number, previous = record["chain"], record["number"], record["previous"]
    chain = chains.get(name)
    problem = (
        _wrong_opening(record, before, check, known_ends)
        if chain is None
        else _wrong_next(chain, number, previous)
    )
    chains[name] = _Chain(number, hash_of(line.removesuffix(b"\n")), record["event"] == "close")
    return problem


def _wrong_next(chain: _Chain, number: int, previous: str) -> str:
    if chain.closed:
        return "comes after the end of its chain"
    if number != chain.number + 1:
        return f"number {number} follows number {chain.number} of its chain: lines are missing"
    return "" if previous == chain.last else "the line before it in its chain was changed"


def _wrong_opening(record: dict[str, Any], before: str, check: Check, known_ends: set[str]) -> str:
    if record["event"] != "open" or record["number"] != 0:
        return "the beginning of its chain is missing"
    after, previous = record.get("after"), record["previous"]
    if after == HERE:
        return "" if previous == before else "the line before it in the file was changed or removed"
    if before != NOTHING:
        return "says that it is the first of its file, and is not"
    if after == START and previous == NOTHING:
        return ""
    if after != ROTATED:
        return "an opening line that contradicts itself"
    # Where the file before is not shown, there is nothing to compare with.
    check.continued += not known_ends
    gone = bool(known_ends) and previous not in known_ends
    return "the end of the file before it was changed or removed" if gone else ""


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(record, dict):
        return None
    kinds = {"chain": str, "number": int, "event": str, "previous": str}
    return record if all(type(record.get(key)) is kind for key, kind in kinds.items()) else None
