"""What should be live, decided from plain values: what is on disk and what is in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from typing import Literal

from service.errors import ConfigurationError
from service.fingerprints import is_complete
from service.lifecycle import LEAVING, ModelView, State
from service.repository import Found
from service.serving import NEWEST, SERVING_FILE, ServingRules, VersionPolicy, choose

ALL_MODELS = "*"
Key = tuple[str, int]
Mode = Literal["none", "poll", "explicit"]
_EMPTY: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True)
class Control:
    """Who decides what is live.

    "none": everything on disk at the start, and nothing changes afterwards.  "poll": what is live
    follows the disk.  "explicit": the named models ("*" for all) at the start, afterwards what is
    asked for by request.
    """

    mode: Mode = "none"
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """Which models are decided on, None for all, and their versions where no rules say it."""

    names: frozenset[str] | None = None
    versions: VersionPolicy = NEWEST


@dataclass(frozen=True, slots=True)
class Plan:
    """What to load, and what to unload once all of that has been loaded well.

    ``refused`` is wanted and has failed with the files as they are.
    """

    load: tuple[Found, ...]
    unload: tuple[Key, ...]
    refused: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """What stands for a version: what it was loaded from, and what failed to take its place."""

    found: Found
    state: State
    reason: str = ""
    rejected: Found | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What is known of files since they were loaded.

    ``changed`` are READY versions whose files are others now, ``tried`` versions that have failed
    with the files as they are, and ``settling`` those whose files still change.
    """

    changed: Collection[Key] = ()
    tried: Collection[Key] = ()
    settling: Collection[Key] = ()


def plan(
    found: Iterable[Found],
    live: Mapping[Key, State],
    policy: Policy,
    changes: Changes | None = None,
    *,
    again: bool = False,
) -> Plan:
    """Decide from what is on disk and what is in memory; other models than the policy's are left.

    A version that is settling is not there yet, or stays as it is.  ``again`` also loads what is
    READY, because its files may be others than they were.
    """
    changes, found = changes or Changes(), list(found)
    there = [
        one
        for one in found
        if (one.name, one.version) not in changes.settling
        or live.get((one.name, one.version)) is State.READY
    ]
    chosen = {(one.name, one.version): one for one in wanted(there, policy)}
    waits = {key for key in chosen if key in changes.settling}
    due = {
        key
        for key in chosen
        if key not in waits
        and (again or key in changes.changed or live.get(key) is not State.READY)
    }
    load = tuple(one for key, one in chosen.items() if key in due and key not in changes.tried)
    refused = tuple(sorted(key for key in due if key in changes.tried))
    aspired = {(one.name, one.version) for one in wanted(found, policy)}
    if any(live.get(key) is not State.READY for key in aspired & set(changes.settling)):
        # What is to take a place is still being written, even if what had it is gone from the disk.
        return Plan(load, (), refused)
    unload = (
        key
        for key, state in sorted(live.items())
        if key not in chosen and state not in LEAVING and _concerns(policy, key[0])
    )
    return Plan(load, tuple(unload), refused)


def changes_of(
    found: Iterable[Found],
    held: Mapping[int, Held],
    *,
    settling: Collection[str] = (),
    retry: bool = False,
) -> Changes:
    """Compare what is on disk of a model with what it was loaded from.

    ``settling`` are names of version folders; ``retry`` counts nothing as tried.
    """
    changed, tried, unsettled = set(), set(), set()
    for one in found:
        key, known = (one.name, one.version), held.get(one.version)
        if one.path.name in settling:
            unsettled.add(key)
        if known is None:
            continue
        if known.state is State.READY:
            if not _same(known.found, one):
                changed.add(key)
            if known.rejected is not None and _same(known.rejected, one):
                tried.add(key)
        elif known.state is State.FAILED and _same(known.found, one):
            tried.add(key)
    return Changes(changed, frozenset() if retry else tried, unsettled)


def _same(one: Found, other: Found) -> bool:
    """Whether loading the one would be loading the other."""
    return (one.fingerprint, one.problem, _of_a_load(one.rules)) == (
        other.fingerprint,
        other.problem,
        _of_a_load(other.rules),
    )


def _of_a_load(rules: ServingRules) -> ServingRules:
    """Return the rules without what only says which versions are live and what they are called."""
    return replace(rules, versions=None, labels=_EMPTY)


def wanted(found: Iterable[Found], policy: Policy) -> list[Found]:
    """Return the versions that should be live, sorted by name and version.

    A version that a label names is wanted whatever the policy says.  One that the rules ask for
    but that is not on disk is returned with that as its problem.
    """
    by_name = attrgetter("name")
    chosen: list[Found] = []
    for name, versions in groupby(sorted(found, key=by_name), key=by_name):
        if _concerns(policy, name):
            chosen += _wanted_versions({one.version: one for one in versions}, policy.versions)
    return chosen


def _wanted_versions(found: Mapping[int, Found], default: VersionPolicy) -> list[Found]:
    any_of_them = next(iter(found.values()))
    rules = any_of_them.rules
    numbers = choose(rules.versions or default, found) | set(rules.labels.values())
    return [found.get(number) or _missing(any_of_them, number, found) for number in sorted(numbers)]


def _missing(other: Found, number: int, found: Collection[int]) -> Found:
    folder = other.path.parent / str(number)
    there = ", ".join(str(version) for version in sorted(found))
    problem = f"{folder}: not on disk, but {SERVING_FILE} asks for it; there are {there}"
    return Found(other.name, number, folder, problem, other.rules, other.notes)


def _concerns(policy: Policy, name: str) -> bool:
    return policy.names is None or name in policy.names


@dataclass(frozen=True, slots=True)
class Asked:
    """What a server has come to since it began, for a process that starts later.

    ``loaded`` and ``unloaded`` are models that were loaded and unloaded by request, ``serving`` the
    versions that answer.
    """

    loaded: Collection[str] = ()
    unloaded: Collection[str] = ()
    serving: Collection[Key] = field(default_factory=frozenset)


def at_start(found: Sequence[Found], control: Control, asked: Asked | None = None) -> list[Found]:
    """Return what is to be loaded when a process starts.

    What answers elsewhere is loaded here, too, and not what is to replace it: that is still to be
    proved.  Raises ConfigurationError for a name of the settings that is not on disk.
    """
    asked = asked or Asked()
    there = sorted({one.name for one in found})
    if control.mode != "explicit" or ALL_MODELS in control.names:
        names = frozenset(there) - frozenset(asked.unloaded)
    else:
        for name in control.names:
            if name not in there:
                raise ConfigurationError(
                    f"load_model: '{name}' is not in the repository; "
                    f"it holds {', '.join(there) or 'no model'}"
                )
        names = frozenset({*control.names, *asked.loaded}) - frozenset(asked.unloaded)
    if control.mode == "poll":
        found = _without_unfinished(found)
    return _as_elsewhere(found, wanted(found, Policy(names)), asked.serving)


def _without_unfinished(found: Sequence[Found]) -> list[Found]:
    """Leave out what is still being written, where another version of the model is complete."""
    whole = [one for one in found if one.problem or is_complete(one.path)]
    able = {one.name for one in whole}
    return [one for one in found if one in whole or one.name not in able]


def _as_elsewhere(
    found: Iterable[Found], chosen: Sequence[Found], serving: Collection[Key]
) -> list[Found]:
    there = [one for one in found if (one.name, one.version) in serving]
    settled = {one.name for one in there}
    names = {one.name for one in chosen}
    same = [one for one in there if one.name in names]
    rest = [one for one in chosen if one.name not in settled]
    return sorted([*same, *rest], key=lambda one: (one.name, one.version))


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One line of the index; a model that was never loaded has neither version nor state."""

    name: str
    version: int | None = None
    state: State | None = None
    reason: str = ""
    code: str = ""


def index_rows(
    views: Iterable[ModelView], unloaded: Mapping[str, Collection[int]], on_disk: Iterable[str]
) -> list[IndexRow]:
    """Return what is in memory, what was unloaded by request, and by name what else there is."""
    rows = {
        (v.name, v.version): IndexRow(v.name, v.version, v.state, v.reason, v.code) for v in views
    }
    for name, versions in unloaded.items():
        for version in versions:
            row = IndexRow(name, version, State.UNLOADED, "unloaded")
            rows.setdefault((name, version), row)
    known = {name for name, _ in rows}
    rest = [IndexRow(name) for name in on_disk if name not in known]
    return sorted([*rows.values(), *rest], key=lambda row: (row.name, row.version or 0))
