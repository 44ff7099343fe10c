"""Pickle files read as what they are, a list of instructions, of which none is ever carried out.

``pickle.loads`` imports what a file names and calls it. Here a small stack machine goes over the
opcodes that Python 2 wrote for numbers, texts, lists and NumPy arrays: names stay names, calls stay
a record of what would be called. Everything else is refused.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import DataError

_RECONSTRUCT = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
_NDARRAY = "numpy ndarray"
_DTYPE = "numpy dtype"
_NAMES = frozenset((*_RECONSTRUCT, _NDARRAY, _DTYPE))
_MAX_NAME = 80


@dataclass(frozen=True, slots=True)
class Name:
    """A module and a name in it, which nobody imports."""

    text: str


@dataclass(slots=True, eq=False)
class Call:
    """What would be called, with what, and the state that would be set on the result."""

    function: Name
    arguments: tuple[Any, ...]
    state: object = None


@dataclass(slots=True)
class _Machine:
    """The stack, the marks in it and the memo of a pickle that is being read."""

    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def pop(self) -> Any:  # noqa: ANN401 - a pickle holds anything
        """Take the topmost value; marks guard what lies below them."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("takes from an empty stack")
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        """Take everything above the last mark, and the mark."""
        if not self.marks:
            raise ValueError("takes a mark where there is none")
        mark = self.marks.pop()
        taken = self.stack[mark:]
        del self.stack[mark:]
        return taken

    def top(self, kind: type) -> Any:  # noqa: ANN401 - as pop
        """Return the topmost value, which must be of this kind."""
        if not self.stack or len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("looks at an empty stack")
        if type(self.stack[-1]) is not kind:
            raise ValueError(f"needs a {kind.__name__}, finds a {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def finish(self, left: int) -> None:
        """Refuse a file that ends with more or less than one value, or goes on behind its end."""
        if self.marks or len(self.stack) != 1:
            raise ValueError(f"leaves {len(self.stack)} values and {len(self.marks)} marks")
        if left:
            raise ValueError(f"is followed by {left} bytes")


def read_pickle(raw: bytes, where: str) -> Any:  # noqa: ANN401 - a pickle holds anything
    """Return what a pickle holds: plain values, with ``Name`` and ``Call`` where it asks for code.

    Python 2's byte strings come as bytes. Raises DataError for an opcode or a name outside the few
    that CIFAR-10's files need, and for damaged files.
    """
    machine = _Machine()
    opcode, at = "", 0
    try:
        with warnings.catch_warnings():
            # genops only warns of an escape that texts do not know; it is damage like any other.
            warnings.simplefilter("error", DeprecationWarning)
            for code, argument, position in pickletools.genops(raw):
                opcode, at = code.name, position or 0
                if opcode == "STOP":
                    break
                _STEPS.get(opcode, _refuse)(machine, argument)
        machine.finish(len(raw) - at - 1)
    # LookupError: a memo that was never filled; the rest is genops on damaged files.
    except (ValueError, LookupError, OverflowError, DeprecationWarning) as error:
        raise DataError(f"{where}: opcode {opcode or 'none'} at byte {at}: {error}") from error
    return machine.stack[0]


def read_uint8(value: object, where: str) -> NDArray[np.uint8]:
    """Return the array of unsigned bytes that this call would make; raise DataError otherwise."""
    match value:
        case Call(
            Name(function),
            (Name("numpy ndarray"), (0,), b"b" | "b"),
            (1, tuple(shape), Call(Name("numpy dtype"), (b"u1" | "u1", 0, 1)), False, bytes(raw)),
        ) if function in _RECONSTRUCT:
            pass
        case _:
            raise DataError(f"{where}: not a C-ordered NumPy array of unsigned bytes")
    if not shape or not all(type(side) is int and 0 < side <= len(raw) for side in shape):
        raise DataError(f"{where}: {len(raw)} bytes of values in a shape that is not theirs")
    if int(np.prod(shape, dtype=object)) != len(raw):
        raise DataError(f"{where}: {len(raw)} bytes of values, shape {list(shape)} needs others")
    return np.frombuffer(raw, np.uint8).reshape(shape)


def _refuse(_machine: _Machine, _: object) -> None:
    raise ValueError("is not among the opcodes of a data file")


def _global(machine: _Machine, argument: str) -> None:
    if argument not in _NAMES:
        raise ValueError(f"asks for '{argument[:_MAX_NAME]}', only NumPy's array names are known")
    machine.stack.append(Name(argument))


def _reduce(machine: _Machine, _: object) -> None:
    arguments = machine.pop()
    function = machine.pop()
    if not isinstance(function, Name) or not isinstance(arguments, tuple):
        # The file is wrong, not the type that our caller gave.
        raise ValueError("calls something that is not one of NumPy's names")  # noqa: TRY004
    machine.stack.append(Call(function, arguments))


def _build(machine: _Machine, _: object) -> None:
    state = machine.pop()
    call: Call = machine.top(Call)
    if call.state is not None:
        raise ValueError("sets the state of a value twice")
    call.state = state


def _append(machine: _Machine, _: object) -> None:
    value = machine.pop()
    machine.top(list).append(value)


def _appends(machine: _Machine, _: object) -> None:
    values = machine.pop_mark()
    machine.top(list).extend(values)


def _set_item(machine: _Machine, _: object) -> None:
    value, key = machine.pop(), machine.pop()
    _put(machine, [key, value])


def _set_items(machine: _Machine, _: object) -> None:
    _put(machine, machine.pop_mark())


def _put(machine: _Machine, pairs: list[Any]) -> None:
    target: dict[bytes, Any] = machine.top(dict)
    if len(pairs) % 2:
        raise ValueError("sets a key without a value")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        # Only plain names: the hash of a tuple that holds itself many times over takes for ever.
        name = key.encode() if isinstance(key, str) else key
        if not isinstance(name, bytes) or name in target:
            raise ValueError(f"sets a key that is no new name, but a {type(key).__name__}")
        target[name] = value


def _tuple(machine: _Machine, _: object) -> None:
    machine.stack.append(tuple(machine.pop_mark()))


def _tuple_of(size: int) -> Callable[[_Machine, object], None]:
    def step(machine: _Machine, _: object) -> None:
        machine.stack.append(tuple(reversed([machine.pop() for _ in range(size)])))

    return step


def _put_memo(machine: _Machine, place: int) -> None:
    value = machine.pop()
    machine.stack.append(value)
    machine.memo[place] = value


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda _machine, _: None,
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "BININT": lambda machine, number: machine.stack.append(number),
    "BININT1": lambda machine, number: machine.stack.append(number),
    "BININT2": lambda machine, number: machine.stack.append(number),
    # genops shows Python 2's byte strings as Latin-1 text, which is one character a byte.
    "SHORT_BINSTRING": lambda machine, text: machine.stack.append(text.encode("latin-1")),
    "BINSTRING": lambda machine, text: machine.stack.append(text.encode("latin-1")),
    "BINUNICODE": lambda machine, text: machine.stack.append(text),
    "BINPUT": _put_memo,
    "LONG_BINPUT": _put_memo,
    "BINGET": lambda machine, place: machine.stack.append(machine.memo[place]),
    "LONG_BINGET": lambda machine, place: machine.stack.append(machine.memo[place]),
    "TUPLE": _tuple,
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "APPEND": _append,
    "APPENDS": _appends,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "GLOBAL": _global,
    "REDUCE": _reduce,
    "BUILD": _build,
}
