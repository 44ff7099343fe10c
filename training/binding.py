"""From TOML to frozen dataclasses and back: strict, with texts that say what is allowed."""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

Section = TypeVar("Section")
Tree = dict[str, Any]


class RecipeError(ValueError):
    """A recipe has a wrong key or value; the text names it and says what is allowed."""


@dataclass(frozen=True, slots=True)
class Range:
    """Inclusive bounds of a number, as the argument of an ``Annotated`` type."""

    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        """Say it in words, for error texts."""
        if self.high == math.inf:
            return f"at least {self.low:g}"
        return f"from {self.low:g} to {self.high:g}"


Share = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(1)]
Amount = Annotated[float, Range(0)]


def bind(kind: type[Section], tree: Mapping[str, object], where: str = "") -> Section:
    """Return a ``kind`` with the values of ``tree``; raise RecipeError at the first wrong one.

    A field may be a number, a boolean, a text, a ``Literal``, a tuple of those, one of them or
    None, an ``Annotated`` number with a `Range`, another dataclass, or a union of dataclasses that
    is told apart by its first field, a ``Literal``.
    """
    hints = get_type_hints(kind, include_extras=True)
    names = _names(kind)
    _refuse_unknown(tree, names, where)
    values = {
        name: _value(tree[name], hints[name], _join(where, name)) for name in names if name in tree
    }
    missing = [name for name in _required(kind) if name not in values]
    if missing:
        raise RecipeError(f"{_join(where, missing[0])}: missing")
    try:
        return kind(**values)
    except ValueError as error:
        raise RecipeError(f"{where}: {error}" if where else str(error)) from error


def override(kind: type, tree: Tree, assignment: str) -> None:
    """Put one ``section.key=value`` into ``tree``, read as the type that the key has.

    A value is written as in TOML, texts also without quotes: ``model.cell=gru``.
    """
    key, sign, text = assignment.partition("=")
    if not sign or not key:
        raise RecipeError(f"'{assignment}': an override is written key=value")
    *path, last = key.split(".")
    here: Any = kind
    for depth, part in enumerate(path):
        here = _branch(_field_type(here, part, path[:depth]), tree.get(part))
        if here is None:
            raise RecipeError(f"{key}: '{'.'.join(path[: depth + 1])}' is not a section")
        section = tree.setdefault(part, {})
        if not isinstance(section, dict):
            raise RecipeError(f"{'.'.join(path[: depth + 1])} is {section!r}: must be a table")
        tree = section
    tree[last] = _parsed(text, _field_type(here, last, path))


def to_toml(section: object) -> str:
    """Return the whole dataclass as TOML, every value written, nested ones as tables."""
    return "\n".join(_lines(section, "")).strip() + "\n"


def _lines(section: Any, where: str) -> Iterator[str]:  # noqa: ANN401 - any dataclass
    values = {field.name: getattr(section, field.name) for field in fields(section)}
    if where:
        yield f"\n[{where}]"
    for name, value in values.items():
        if not is_dataclass(value) and value is not None:
            yield f"{name} = {_literal(value)}"
    for name, value in values.items():
        if is_dataclass(value):
            yield from _lines(value, _join(where, name))


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's too, but for a lone 0x7f, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return f"[{', '.join(_literal(one) for one in value)}]"
    return repr(value)


def _value(value: object, hint: Any, where: str) -> object:  # noqa: ANN401 - a type annotation
    hint = _without_none(hint)
    if get_origin(hint) is Annotated:
        base, *bounds = get_args(hint)
        return _in_range(_value(value, base, where), bounds, where)
    branch = _branch(hint, value)
    if branch is not None:
        if not isinstance(value, Mapping):
            raise RecipeError(f"{where} is {value!r}: must be a table")
        return bind(branch, value, where)
    if get_origin(hint) is Literal:
        return _choice(value, get_args(hint), where)
    if get_origin(hint) is tuple:
        return _list(value, get_args(hint), where)
    return _scalar(value, hint, where)


def _list(value: object, kinds: tuple[Any, ...], where: str) -> tuple[object, ...]:
    if not isinstance(value, list | tuple):
        raise RecipeError(f"{where} is {value!r}: must be a list")
    if kinds[-1] is not Ellipsis and len(value) != len(kinds):
        raise RecipeError(f"{where} is {value!r}: must have {len(kinds)} elements")
    return tuple(_value(one, kinds[0], where) for one in value)


def _scalar(value: object, hint: type, where: str) -> object:
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
        raise RecipeError(f"{where} is {value!r}: must be {names[hint]}")
    return value


def _in_range(value: Any, bounds: Sequence[Any], where: str) -> object:  # noqa: ANN401 - a number
    for bound in bounds:
        if isinstance(bound, Range) and not bound.low <= value <= bound.high:
            raise RecipeError(f"{where} is {value!r}: must be {bound}")
    return value


def _choice(value: object, allowed: tuple[object, ...], where: str) -> object:
    if value not in allowed or type(value) not in {type(one) for one in allowed}:
        raise RecipeError(
            f"{where} is {value!r}: must be {_listed(allowed)}{_suggestion(value, allowed)}"
        )
    return value


def _branch(hint: Any, value: object) -> type | None:  # noqa: ANN401 - a type annotation
    """Return the dataclass that a table is for, or None where a plain value is wanted."""
    hint = _without_none(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        return cast("type", hint)
    if get_origin(hint) not in (UnionType, Union):
        return None
    branches: dict[str, type] = {_tag(one)[1]: one for one in get_args(hint)}
    name = _tag(get_args(hint)[0])[0]
    tag = value.get(name) if isinstance(value, Mapping) else None
    _choice(tag, tuple(branches), name)
    return branches[str(tag)]


def _without_none(hint: Any) -> Any:  # noqa: ANN401 - type annotations
    """Return X for ``X | None``: TOML has no null, a value that is none is not written."""
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    is_union = get_origin(hint) in (UnionType, Union)
    return kinds[0] if is_union and len(kinds) == 1 else hint


def _tag(branch: type) -> tuple[str, str]:
    """Return the name of a branch's first field and the one text that it may hold."""
    name = fields(branch)[0].name
    return name, get_args(get_type_hints(branch)[name])[0]


def _field_type(kind: type, name: str, path: Sequence[str]) -> Any:  # noqa: ANN401 - annotation
    _refuse_unknown({name: None}, _names(kind), ".".join(path))
    return get_type_hints(kind, include_extras=True)[name]


def _parsed(text: str, hint: Any) -> object:  # noqa: ANN401 - a type annotation
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    wants_text = hint is str or get_origin(hint) is Literal
    return text if wants_text and not isinstance(value, str) else value


def _names(kind: type) -> list[str]:
    return [field.name for field in fields(kind) if field.init]


def _required(kind: type) -> list[str]:
    return [
        field.name
        for field in fields(kind)
        if field.init and field.default is MISSING and field.default_factory is MISSING
    ]


def _refuse_unknown(tree: Mapping[str, object], names: Sequence[str], where: str) -> None:
    for name in tree:
        if name not in names:
            place = f" in [{where}]" if where else ""
            raise RecipeError(
                f"'{name}': no such key{place}{_suggestion(name, names)}; "
                f"there are {', '.join(names)}"
            )


def _suggestion(value: object, allowed: Sequence[object]) -> str:
    near = difflib.get_close_matches(str(value), [str(one) for one in allowed], n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _listed(allowed: Sequence[object]) -> str:
    return " or ".join(f"'{one}'" if isinstance(one, str) else str(one) for one in allowed)


def _join(where: str, name: str) -> str:
    bare = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)
    return f"{where}.{bare}" if where else bare
