"""What should be live, decided from plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from service.errors import ConfigurationError
from service.lifecycle import ModelView, State
from service.planning import (
    Asked,
    Control,
    IndexRow,
    Plan,
    Policy,
    at_start,
    index_rows,
    plan,
    wanted,
)
from service.repository import Found
from service.serving import All, Latest, ServingRules, Specific

LIVE = Mapping[tuple[str, int], State]


def on_disk(*versions: int, name: str = "m", rules: ServingRules | None = None) -> list[Found]:
    """Return versions of a model as a scan would."""
    path = Path("models") / name
    return [Found(name, v, path / str(v), rules=rules or ServingRules()) for v in versions]


def live(*versions: int, state: State = State.READY, name: str = "m") -> LIVE:
    """Return versions that are in memory."""
    return {(name, version): state for version in versions}


def keys(found: Sequence[Found]) -> list[tuple[str, int]]:
    """Return what was chosen by name and version."""
    return [(one.name, one.version) for one in found]


def decided(made: Plan) -> tuple[list[int], list[int]]:
    """Return the versions to load and those to unload."""
    return [one.version for one in made.load], [version for _, version in made.unload]


def test_the_newest_version_is_wanted_where_nothing_is_said() -> None:
    """Of each model, whatever the order of the scan."""
    found = [*on_disk(2, 10, 9), *on_disk(1, name="a")]
    assert keys(wanted(found, Policy())) == [("a", 1), ("m", 10)]
    assert keys(wanted(found, Policy(versions=Latest(2)))) == [("a", 1), ("m", 9), ("m", 10)]


def test_a_models_own_rules_win() -> None:
    """They hold for that model only."""
    found = [*on_disk(1, 2, rules=ServingRules(versions=All())), *on_disk(1, 2, name="a")]
    assert keys(wanted(found, Policy())) == [("a", 2), ("m", 1), ("m", 2)]


def test_a_version_that_a_label_names_is_wanted_too() -> None:
    """Else the label would name nothing as soon as a newer version comes."""
    rules = ServingRules(labels={"stable": 1, "newest": 3})
    assert keys(wanted(on_disk(1, 2, 3, rules=rules), Policy())) == [("m", 1), ("m", 3)]


def test_a_version_that_is_asked_for_but_not_there() -> None:
    """It is tried, so that somebody sees the reason; what is there is named."""
    rules = ServingRules(versions=Specific((2, 5)), labels={"stable": 4})
    there, label, missing = wanted(on_disk(1, 2, rules=rules), Policy())
    assert there.problem == ""
    assert (label.version, missing.version) == (4, 5)
    assert missing.problem == (
        "models/m/5: not on disk, but serving.toml asks for it; there are 1, 2"
    )
    assert missing.rules == rules


def test_only_named_models_are_decided_on() -> None:
    """The others are neither loaded nor unloaded."""
    made = plan(
        [*on_disk(1), *on_disk(1, name="a")],
        {**live(7, name="a"), **live(9)},
        Policy(frozenset({"m"})),
    )
    assert (keys(made.load), made.unload) == ([("m", 1)], (("m", 9),))


def test_a_newer_version_takes_the_older_ones_place() -> None:
    """One is loaded, the other unloaded, and what is ready and wanted is left."""
    assert decided(plan(on_disk(1, 2), live(1), Policy())) == ([2], [1])
    assert decided(plan(on_disk(1, 2), live(2), Policy())) == ([], [])
    assert decided(plan(on_disk(1, 2), live(2), Policy(), again=True)) == ([2], [])
    assert decided(plan(on_disk(1), live(2), Policy())) == ([1], [2])
    assert decided(plan([], live(1, 2), Policy())) == ([], [1, 2])


@pytest.mark.parametrize("state", [State.FAILED, State.DRAINING, State.UNLOADED])
def test_what_is_wanted_and_does_not_answer_is_loaded(state: State) -> None:
    """A failed version is tried again, one that leaves is loaded anew."""
    assert decided(plan(on_disk(1), live(1, state=state), Policy())) == ([1], [])


def test_what_leaves_is_not_unloaded_again() -> None:
    """A failed version that is no longer wanted goes, one that already goes is left alone."""
    assert decided(plan([], live(1, state=State.FAILED), Policy())) == ([], [1])
    assert decided(plan([], live(1, state=State.DRAINING), Policy())) == ([], [])


FOUND = [*on_disk(1, 2), *on_disk(1, name="a")]


@pytest.mark.parametrize(
    ("control", "chosen"),
    [
        (Control(), [("a", 1), ("m", 2)]),
        (Control("explicit"), []),
        (Control("explicit", ("m",)), [("m", 2)]),
        (Control("explicit", ("m", "a", "m")), [("a", 1), ("m", 2)]),
        (Control("explicit", ("*",)), [("a", 1), ("m", 2)]),
    ],
)
def test_what_is_loaded_at_the_start(control: Control, chosen: list[tuple[str, int]]) -> None:
    """Everything, or exactly what is named."""
    assert keys(at_start(FOUND, control)) == chosen


def test_a_name_that_is_not_there_at_the_start() -> None:
    """The server is not started without a model that was asked for by name."""
    with pytest.raises(ConfigurationError, match=r"'x' is not in the repository; it holds a, m"):
        at_start(FOUND, Control("explicit", ("m", "x")))
    with pytest.raises(ConfigurationError, match="holds no model"):
        at_start([], Control("explicit", ("x",)))


def seen(version: int, state: State, reason: str = "") -> ModelView:
    """Return a version of model m as the registry shows it."""
    return ModelView("m", version, state, reason, (), (), {})


def test_the_index_is_memory_then_disk() -> None:
    """What is live, what was unloaded, and by name alone what was never loaded, sorted."""
    views = [seen(10, State.READY), seen(9, State.FAILED, "broken")]
    rows = index_rows(views, {"gone": (2, 1)}, {"m", "gone", "a"})
    assert rows == [
        IndexRow("a"),
        IndexRow("gone", 1, State.UNLOADED, "unloaded"),
        IndexRow("gone", 2, State.UNLOADED, "unloaded"),
        IndexRow("m", 9, State.FAILED, "broken"),
        IndexRow("m", 10, State.READY),
    ]


def test_a_model_that_still_drains_is_listed_once() -> None:
    """Until it is gone, its state in memory is what counts."""
    rows = index_rows([seen(1, State.DRAINING)], {"m": (1,)}, {"m"})
    assert rows == [IndexRow("m", 1, State.DRAINING)]


def test_what_was_asked_for_holds_for_a_process_that_starts_later() -> None:
    """Loaded models are added, unloaded ones left out; what has gone from the disk is no error."""
    explicit = Control("explicit", (FOUND[0].name,))
    names = {one.name for one in FOUND}
    added = at_start(FOUND, explicit, Asked(loaded=[*names, "gone"]))
    assert {one.name for one in added} == names
    assert at_start(FOUND, explicit, Asked(unloaded=[FOUND[0].name])) == []
    rest = at_start(FOUND, Control("explicit", ("*",)), Asked(unloaded=[FOUND[0].name]))
    assert {one.name for one in rest} == names - {FOUND[0].name}
