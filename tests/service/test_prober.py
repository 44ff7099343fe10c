"""Whether rows are independent, asked of models that are plain functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from service.errors import EngineFailure, InvalidRequest
from service.prober import ProbeLimits, probe
from service.tensors import Tensor, Tensors, TensorSpec

X = TensorSpec("x", "FP32", ("n", 2))
Y = TensorSpec("y", "FP32", ("n", 2))
Function = Callable[[Tensor], Tensor]


@dataclass(slots=True)
class Asked:
    """A model of one input and output that remembers what it was asked."""

    function: Function
    calls: list[Tensor] = field(default_factory=list)

    def __call__(self, inputs: Tensors, wanted: Sequence[str], seconds: float) -> dict[str, Tensor]:
        """Answer y for x."""
        assert list(wanted) == ["y"]
        assert seconds > 0
        self.calls.append(inputs["x"])
        return {"y": self.function(inputs["x"])}


def refuse_above(limit: float) -> Function:
    """Return a table look-up that refuses what lies outside the table."""

    def function(x: Tensor) -> Tensor:
        if x.max() > limit:
            raise InvalidRequest("an id outside the table")
        return x

    return function


def spread(x: Tensor) -> Tensor:
    """Scale each row by its own largest number: wide, but each for itself."""
    scaled: Tensor = x / np.abs(x).max(axis=1, keepdims=True)
    return scaled


def jitter(x: Tensor) -> Tensor:
    """Round as another kernel would: a few parts in a thousand, by the number of rows alone."""
    rounded: Tensor = x * np.float32(1 + 0.002 * len(x))
    return rounded


@pytest.mark.parametrize("function", [lambda x: x, spread, jitter, np.sort])
def test_independent_rows(function: Function) -> None:
    """Rows that answer for themselves may share a run, whatever rounding the size brings."""
    found = probe([X], [Y], Asked(function))
    assert (found.verdict, found.as_json()["rows_independent"]) == ("yes", True)


def from_the_left(x: Tensor) -> Tensor:
    """Add all rows before each row."""
    return np.cumsum(x, axis=0)


def from_the_right(x: Tensor) -> Tensor:
    """Add all rows behind each row."""
    return np.cumsum(x[::-1], axis=0)[::-1]


def by_count(x: Tensor) -> Tensor:
    """Divide by the number of rows."""
    return x / np.float32(len(x))


def quantized(x: Tensor) -> Tensor:
    """Round to 256 levels between the smallest and largest number of all rows."""
    step = np.float32(np.ptp(x) / 255)
    levels: Tensor = np.round(x / step) * step
    return levels


def faintly(function: Function, share: float = 0.005) -> Function:
    """Return a function that adds a small share of another one's answer."""

    def faint(x: Tensor) -> Tensor:
        return x + np.float32(share) * function(x)

    return faint


def mean(x: Tensor) -> Tensor:
    """Return the mean of all rows for each of them."""
    return np.broadcast_to(x.mean(axis=0), x.shape)


@pytest.mark.parametrize(
    "function",
    [
        mean,
        *(from_the_left, from_the_right, by_count, quantized),
        *(faintly(mean), faintly(from_the_left), faintly(from_the_right, 0.002)),
    ],
    ids=["mean", "left", "right", "count", "quantized", "faint", "faint left", "faint right"],
)
def test_rows_that_depend_on_their_neighbours(function: Function) -> None:
    """Sums over rows, from either side, their number, a scale that they share; also a little."""
    found = probe([X], [Y], Asked(function))
    assert (found.verdict, "depends on the rows beside it" in found.why) == ("no", True)


def test_a_model_may_depend_on_its_neighbours_only_for_some_values() -> None:
    """All styles of values are tried, and one finding against it outweighs the others."""

    def function(x: Tensor) -> Tensor:
        return x if x.min() >= 0 else x - x.mean(axis=0)

    assert probe([X], [Y], Asked(function)).verdict == "no"


def test_outputs_that_are_not_the_same_twice() -> None:
    """Random answers are named as such, not as rows that depend on each other."""
    random = np.random.default_rng(0)
    found = probe([X], [Y], Asked(lambda x: x + random.random(x.shape, np.float32)))
    assert (found.verdict, "not the same when asked twice" in found.why) == ("no", True)


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x: x[:1], "[1, 2] for 3 rows"),
        (lambda x: x.sum(), "[] for 1 rows"),
        (lambda x: np.concatenate([x, x]), "[2, 2] for 1 rows"),
    ],
)
def test_a_wrong_number_of_rows(function: Function, shape: str) -> None:
    """Outputs that cannot be cut into rows are found by their shape."""
    found = probe([X], [Y], Asked(function))
    assert (found.verdict, found.why) == ("no", f"output 'y' has shape {shape}")


def test_a_model_that_takes_only_one_row() -> None:
    """Rows that it takes alone but not together do not share a run."""

    def function(x: Tensor) -> Tensor:
        if len(x) > 1:
            raise EngineFailure("the model failed on this input")
        return x

    found = probe([X], [Y], Asked(function))
    assert found.verdict == "no"
    assert found.why.startswith("rows that it takes alone")


def test_other_values_are_tried_where_the_first_are_refused() -> None:
    """Ids stay small: a table of two entries is found to be independent."""
    ids = TensorSpec("x", "INT64", ("n", "time"))
    asked = Asked(refuse_above(1))
    assert probe([ids], [TensorSpec("y", "INT64", ("n", "time"))], asked).verdict == "yes"
    assert asked.calls[0].max() > 1


def test_bounds_are_kept() -> None:
    """Known bounds are used in full and never left; one bound is enough to start from."""
    y = TensorSpec("y", "INT64", ("n", 64))
    between = Asked(refuse_above(129))
    assert probe([TensorSpec("x", "INT64", ("n", 64), 100, 129)], [y], between).verdict == "yes"
    assert (between.calls[0].min(), max(call.max() for call in between.calls)) == (100, 129)
    above = Asked(lambda x: x)
    probe([TensorSpec("x", "INT64", ("n", 64), minimum=50)], [y], above)
    assert {int(call.min()) for call in above.calls} == {50}
    below = Asked(lambda x: x)
    probe([TensorSpec("x", "INT64", ("n", 64), maximum=-50)], [y], below)
    assert {int(call.max()) for call in below.calls} == {-50}
    floats = Asked(lambda x: x)
    probe([TensorSpec("x", "FP32", ("n", 64), minimum=0, maximum=0.5)], [Y], floats)
    assert 0.4 < max(call.max() for call in floats.calls) <= 0.5


def test_free_axes_get_other_sizes_where_the_first_are_refused() -> None:
    """A window of 512 is found."""

    def function(x: Tensor) -> Tensor:
        if x.shape[1] != 512:
            raise InvalidRequest("the window is 512")
        return x

    assert probe([TensorSpec("x", "FP32", ("n", -1))], [Y], Asked(function)).verdict == "yes"


def test_nothing_that_the_model_takes() -> None:
    """A model that refuses everything is unknown, with its own words, and so runs unbatched."""
    asked = Asked(refuse_above(-1000))
    found = probe([X], [Y], asked)
    assert (found.verdict, found.as_json()["rows_independent"]) == ("unknown", False)
    assert "an id outside the table" in found.why
    assert len(asked.calls) < 30


def test_the_same_answer_to_everything_proves_nothing() -> None:
    """A constant, and answers that are not numbers."""
    for constant in (0, np.nan):
        found = probe([X], [Y], Asked(lambda x, c=constant: np.full_like(x, c)))  # type: ignore[misc] # bound at once
        assert found.verdict == "unknown"


def test_no_time_and_no_room() -> None:
    """Without time nothing is asked; sizes that are too large are passed over."""
    asked = Asked(lambda x: x)
    assert probe([X], [Y], asked, limits=ProbeLimits(seconds=0)).verdict == "unknown"
    assert not asked.calls
    picture = TensorSpec("x", "FP32", ("n", -1, -1))

    def function(x: Tensor) -> Tensor:
        raise InvalidRequest("too small")

    asked = Asked(function)
    assert probe([picture], [Y], asked, limits=ProbeLimits(elements=10_000)).verdict == "unknown"
    assert {call.shape for call in asked.calls} == {(1, n, n) for n in (1, 4, 32, 48)}


def test_the_same_seed_asks_the_same() -> None:
    """A finding can be repeated."""
    first, second, other = (Asked(lambda x: x) for _ in range(3))
    for asked, seed in ((first, 1), (second, 1), (other, 2)):
        probe([X], [Y], asked, seed=seed)
    assert all(np.array_equal(a, b) for a, b in zip(first.calls, second.calls, strict=True))
    assert not np.array_equal(first.calls[0], other.calls[0])


@pytest.mark.parametrize("datatype", ["BOOL", "BYTES", "UINT8", "INT8", "FP16", "FP64"])
def test_values_of_every_kind(datatype: str) -> None:
    """Booleans, texts and numbers of all sizes are drawn as what they are."""
    spec = TensorSpec("x", datatype, ("n", 8))
    found = probe([spec], [TensorSpec("y", datatype, ("n", 8))], Asked(lambda x: x))
    assert found.verdict == "yes"


def test_maps_are_compared_by_their_scores() -> None:
    """An output of objects is rows like any other."""
    scores = TensorSpec("y", "seq(map(string,tensor(float)))", (-1,))

    def alone(x: Tensor) -> Tensor:
        return np.asarray([{"a": row[0], "b": row[1]} for row in x], object)

    def among(x: Tensor) -> Tensor:
        return alone(x - x.mean(axis=0))

    def other_keys(x: Tensor) -> Tensor:
        return np.asarray([{str(len(x)): row[0]} for row in x], object)

    verdicts = [probe([X], [scores], Asked(f)).verdict for f in (alone, among, other_keys)]
    assert verdicts == ["yes", "no", "no"]


@pytest.mark.parametrize(
    ("inputs", "output", "why"),
    [
        ([("n", 2), ()], ("n", 2), "input 'x1' has shape [], without a free first axis"),
        ([(3, 2)], ("n", 2), "input 'x0' has shape [3, 2]"),
        ([("n", 2), (2, "n", 4)], ("n", 2), "input 'x1' has shape [2, 'n', 4]"),
        ([("...",)], ("n", 2), "input 'x0' has shape ['...']"),
        ([("n", 2)], (2,), "output 'y' has shape [2]"),
        ([("n", "time")], ("time", "n"), "output 'y' leads with 'time'"),
        ([("n", "k"), ("k", "m")], ("n", "m"), "input 'x1' leads with 'k'"),
        ([], ("n",), "needs no input"),
    ],
)
def test_shapes_that_forbid_it(
    inputs: list[tuple[int | str, ...]], output: tuple[int | str, ...], why: str
) -> None:
    """Where an axis is fixed, missing or used twice, the model is not even asked."""

    def never(inputs: Tensors, wanted: Sequence[str], seconds: float) -> dict[str, Tensor]:
        raise AssertionError

    specs = [TensorSpec(f"x{i}", "FP32", shape) for i, shape in enumerate(inputs)]
    found = probe(specs, [TensorSpec("y", "FP32", output)], never)
    assert found.verdict == "no"
    assert why in found.why
