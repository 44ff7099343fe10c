"""What `training.binding` promises."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.binding import Amount, Count, RecipeError, Share, bind, override, to_toml


@dataclass(frozen=True, slots=True)
class Round:
    shape: Literal["round"] = "round"
    radius: Amount = 1.0


@dataclass(frozen=True, slots=True)
class Square:
    shape: Literal["square"] = "square"
    side: Count = 2


@dataclass(frozen=True, slots=True)
class Inner:
    rate: Share = 0.5
    mode: Literal["slow", "fast"] = "slow"
    note: str = ""

    def __post_init__(self) -> None:
        if self.mode == "fast" and self.rate == 0:
            raise ValueError("fast needs a rate above 0")


@dataclass(frozen=True, slots=True)
class Outer:
    name: str
    form: Round | Square = field(default_factory=Round)
    inner: Inner = field(default_factory=Inner)
    sizes: tuple[int, ...] = (1, 2)
    on: bool = True
    box: tuple[int, int] | None = None


def outer(text: str, *assignments: str) -> Outer:
    """Bind a text after overrides."""
    tree = tomllib.loads(text)
    for assignment in assignments:
        override(Outer, tree, assignment)
    return bind(Outer, tree)


def test_what_is_not_written_has_its_default() -> None:
    """Only a field without a default must be there."""
    assert outer("name = 'x'") == Outer("x")
    with pytest.raises(RecipeError, match="name: missing"):
        outer("")


def test_tables_become_dataclasses() -> None:
    """Nested tables, lists and the branch that a union's tag names are read."""
    text = "name='x'\nsizes=[3]\n[form]\nshape='square'\nside=4\n[inner]\nrate=1\n"
    assert outer(text) == Outer("x", Square(side=4), Inner(rate=1.0), (3,))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nane='x'", r"'nane': no such key \(did you mean 'name'\?\); there are name, form"),
        ("name='x'\n[inner]\nrat=1", r"'rat': no such key in \[inner\] \(did you mean 'rate'"),
        ("name=1", "name is 1: must be a text"),
        ("name='x'\non=1", "on is 1: must be true or false"),
        ("name='x'\nsizes=3", "sizes is 3: must be a list"),
        ("name='x'\nbox=[1]", r"box is \[1\]: must have 2 elements"),
        ("name='x'\nsizes=['a']", "sizes is 'a': must be a whole number"),
        ("name='x'\n[inner]\nrate=1.5", "inner.rate is 1.5: must be from 0 to 1"),
        ("name='x'\n[inner]\nrate=true", "inner.rate is True: must be a number"),
        ("name='x'\n[inner]\nrate=nan", "inner.rate is nan: must be from 0 to 1"),
        ("name='x'\n[inner]\nmode='fist'", r"inner.mode is 'fist': must be .*mean 'fast'\?"),
        ("name='x'\ninner=3", "inner is 3: must be a table"),
        ("name='x'\n[form]\nshape='oval'", "shape is 'oval': must be 'round' or 'square'"),
        ("name='x'\nform=3", "shape is None: must be"),
        ("name='x'\n[form]\nshape='square'\nside=0", "form.side is 0: must be at least 1"),
        ("name='x'\n[form]\nshape='square'\nradius=1", r"'radius': no such key in \[form\]"),
        ("name='x'\n[inner]\nmode='fast'\nrate=0", "inner: fast needs a rate above 0"),
    ],
)
def test_a_wrong_key_or_value_is_refused_with_what_is_allowed(text: str, message: str) -> None:
    """The error names the key and the value, and suggests the nearest that exists."""
    with pytest.raises(RecipeError, match=message):
        outer(text)


def test_an_override_is_read_as_the_type_that_its_key_has() -> None:
    """Texts need no quotes, even where they look like numbers."""
    changed = outer("name='x'", "name=123", "inner.rate=1e-1", "inner.mode=fast", "on=false")
    assert changed == Outer("123", inner=Inner(0.1, "fast"), on=False)
    assert outer("name='x'", "inner.note='quoted'").inner.note == "quoted"
    assert outer("name='x'", "inner.note=").inner.note == ""


def test_an_override_reaches_into_the_chosen_branch() -> None:
    """The tag in the text decides which keys there are."""
    text = "name='x'\n[form]\nshape='square'"
    assert outer(text, "form.side=7").form == Square(side=7)
    with pytest.raises(RecipeError, match=r"'radius': no such key in \[form\]"):
        outer(text, "form.radius=7")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("inner.rat=1", "did you mean 'rate'"),
        ("inne.rate=1", "did you mean 'inner'"),
        ("name.first=1", "name.first: 'name' is not a section"),
        ("inner.rate", "an override is written key=value"),
        ("inner.rate=much", "inner.rate is 'much': must be a number"),
    ],
)
def test_a_wrong_override_is_refused(assignment: str, message: str) -> None:
    """Overrides are held to the same rules as the file."""
    with pytest.raises(RecipeError, match=message):
        outer("name='x'", assignment)


def test_an_override_within_a_value_that_is_no_table_is_refused() -> None:
    """The file is wrong there, and the error says where."""
    with pytest.raises(RecipeError, match="inner is 3: must be a table"):
        outer("name='x'\ninner=3", "inner.rate=1")


@given(
    name=st.text(st.characters(exclude_categories=["Cs"])),
    rate=st.floats(0, 1),
    sizes=st.lists(st.integers(-(2**40), 2**40)),
    on=st.booleans(),
)
def test_a_recipe_survives_being_written(
    name: str, rate: float, sizes: list[int], *, on: bool
) -> None:
    """What `to_toml` writes is read back as the same value, whatever the texts hold."""
    value = Outer(name, Square(side=3), Inner(rate, "fast" if rate else "slow"), tuple(sizes), on)
    assert outer(to_toml(value)) == value


def test_everything_is_written() -> None:
    """Defaults too: the file tells the whole run."""
    written = tomllib.loads(to_toml(Outer("x")))
    expected = asdict(Outer("x"))
    del expected["box"]
    assert written == {**expected, "sizes": [1, 2]}


def test_none_is_not_written_and_a_value_in_its_place_is() -> None:
    """What TOML cannot say is said by leaving it out."""
    value = outer("name='x'\nbox=[1, 2]")
    assert value.box == (1, 2)
    assert outer(to_toml(value)) == value
    assert "box" not in to_toml(Outer("x"))
