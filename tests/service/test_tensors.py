"""What `service.tensors` promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequest
from service.tensors import (
    ANY_SHAPE,
    DATATYPES,
    Tensor,
    TensorSpec,
    check,
    from_numpy,
    from_onnx,
    pad_rows,
    split,
    stack,
)
from tests.support.strategies import numbers, rows

PAIR = (TensorSpec("a", "FP32", ("n", 2)), TensorSpec("b", "INT64", ("n",)))
BOUNDED = TensorSpec("x", "INT64", (-1,), minimum=0, maximum=9)


def floats(*shape: int) -> Tensor:
    """Return zeros of FP32."""
    return np.zeros(shape, np.float32)


def refusal(inputs: dict[str, Tensor], *specs: TensorSpec) -> str:
    """Return the text with which tensors are refused."""
    with pytest.raises(InvalidRequest) as caught:
        check(inputs, specs)
    return str(caught.value)


@pytest.mark.parametrize("wire", DATATYPES)
def test_a_datatype_is_found_under_each_of_its_names(wire: str) -> None:
    """Numpy's and ONNX Runtime's name of a type lead to the name on the wire."""
    datatype = DATATYPES[wire]
    assert datatype.wire == wire
    assert from_numpy(datatype.numpy) is datatype
    assert from_onnx(datatype.onnx) is datatype


def test_what_has_no_datatype() -> None:
    """Types that the protocol does not know, and foreign byte order, have no datatype."""
    assert from_onnx("tensor(complex64)") is None
    assert from_onnx("seq(map(int64,tensor(float)))") is None
    assert from_numpy(np.dtype(np.complex64)) is None
    assert from_numpy(np.dtype(np.float32).newbyteorder()) is None


def test_what_a_datatype_tells_of_itself() -> None:
    """Size in bytes, 0 where it varies, and the kind of number, if it is one."""
    assert [DATATYPES[name].size for name in ("BOOL", "INT16", "FP64", "BYTES")] == [1, 2, 8, 0]
    assert {name for name in DATATYPES if name.startswith("FP")} <= {
        name for name, datatype in DATATYPES.items() if datatype.is_float
    }
    assert {name for name in DATATYPES if "INT" in name} == {
        name for name, datatype in DATATYPES.items() if datatype.is_integer
    }


def test_every_variable_axis_is_minus_one_on_the_wire() -> None:
    """The protocol knows no names of axes."""
    assert TensorSpec("x", "FP32", ("batch", 3, -1, "time")).wire_shape == [-1, 3, -1, -1]


def test_what_is_a_tensor() -> None:
    """Sequences and maps, which a graph may answer, are none."""
    assert TensorSpec("y", "BYTES", ()).is_tensor
    assert not TensorSpec("y", "seq(map(int64,tensor(float)))", ANY_SHAPE).is_tensor


@pytest.mark.parametrize(
    ("shape", "leads"),
    [(("n", 2), True), ((-1,), True), ((1, 2), False), ((0,), False), ((), False)],
)
def test_a_batch_axis_is_a_first_axis_of_any_size(
    shape: tuple[int | str, ...], *, leads: bool
) -> None:
    """A fixed first axis cannot hold more rows, and a scalar has none."""
    assert TensorSpec("x", "FP32", shape).leads_with_batch is leads


def test_tensors_as_described_pass() -> None:
    """Axes of one name may have any size as long as it is one size."""
    for count in (0, 1, 5):
        check({"b": np.zeros(count, np.int64), "a": floats(count, 2)}, PAIR)
    check({"x": floats(3, 3)}, [TensorSpec("x", "FP32", (-1, -1))])
    check({"x": floats()}, [TensorSpec("x", "FP32", ())])
    check({}, [])


def test_what_need_not_be_there_and_what_may_have_any_shape() -> None:
    """An optional input may be left out; a shape of which nothing is known fits everything."""
    optional = TensorSpec("o", "FP32", (2,), optional=True)
    check({}, [optional])
    assert "expected shape [2], got [3]" in refusal({"o": floats(3)}, optional)
    for shape in ((), (0,), (2, 3, 4)):
        check({"x": floats(*shape)}, [TensorSpec("x", "FP32", ANY_SHAPE)])


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({"c": floats(1)}, "input 'c': the model has no such input; it takes 'a', 'b'"),
        ({"a": floats(1, 2)}, "input 'b': missing"),
        ({"a": floats(1, 2).astype(np.float64)}, "input 'a': expected FP32, got FP64"),
        ({"a": floats(1, 2).astype(np.complex64)}, "input 'a': expected FP32, got complex64"),
        ({"a": floats(2)}, "input 'a': expected 2 dimensions [-1, 2], got 1: [2]"),
        ({"a": floats(1, 3)}, "input 'a': expected shape [-1, 2], got [1, 3]"),
        (
            {"a": floats(2, 2), "b": np.zeros(3, np.int64)},
            "input 'b': axis 'n' is 3, but 2 in input 'a'",
        ),
    ],
)
def test_other_tensors_are_refused(inputs: dict[str, Tensor], text: str) -> None:
    """The input is named, with what was expected and what was seen."""
    assert refusal(inputs, *PAIR) == text


def test_a_graph_without_inputs_takes_none() -> None:
    """The text says so instead of an empty list."""
    assert refusal({"x": floats(1)}).endswith("it takes none")


def test_one_axis_name_holds_within_one_tensor_too() -> None:
    """A square input must be square."""
    assert "axis 'n' is 3, but 2 in input 'x'" in refusal(
        {"x": floats(2, 3)}, TensorSpec("x", "FP32", ("n", "n"))
    )


@pytest.mark.parametrize(
    ("seen", "text"),
    [(-1, "-1 is below the smallest value 0"), (10, "10 is above the largest value 9")],
)
def test_bounds_are_inclusive(seen: int, text: str) -> None:
    """The bounds themselves pass, one beyond them is refused with the value and the bound."""
    check({"x": np.asarray([0, 9])}, [BOUNDED])
    assert refusal({"x": np.asarray([3, seen])}, BOUNDED) == f"input 'x': {text}"


@pytest.mark.parametrize("first", [True, False])
def test_an_axis_may_bound_the_elements_of_another_input(*, first: bool) -> None:
    """As the longest series of a call bounds the lengths, whichever input comes first."""
    lengths = TensorSpec("lengths", "INT64", ("n",), maximum_axis="time")
    values = TensorSpec("values", "FP32", ("n", "time"))
    specs = [lengths, values] if first else [values, lengths]
    check({"lengths": np.asarray([1, 2]), "values": floats(2, 2)}, specs)
    check({"lengths": np.zeros(0, np.int64), "values": floats(0, 2)}, specs)
    assert refusal({"lengths": np.asarray([2, 9]), "values": floats(2, 2)}, *specs) == (
        "input 'lengths': element 1 is 9, but axis 'time' of input 'values' is 2 long"
    )


def test_an_axis_of_an_input_that_is_left_out_bounds_nothing() -> None:
    """There is nothing to compare with."""
    check(
        {"lengths": np.asarray([9])},
        [
            TensorSpec("lengths", "INT64", ("n",), maximum_axis="time"),
            TensorSpec("values", "FP32", ("n", "time"), optional=True),
        ],
    )


def test_a_bound_is_compared_in_the_tensors_own_precision() -> None:
    """What is 0.1 in FP32 is neither below nor above a bound of 0.1."""
    spec = TensorSpec("x", "FP32", (1,), minimum=0.1, maximum=0.1)
    check({"x": np.asarray([0.1], np.float32)}, [spec])


@pytest.mark.parametrize("wire", ["FP16", "FP32", "UINT8", "INT64"])
def test_a_bound_beyond_the_type_never_refuses(wire: str) -> None:
    """What the type cannot even hold is compared without a warning."""
    value = np.zeros(1, DATATYPES[wire].numpy)
    check({"x": value}, [TensorSpec("x", wire, (1,), minimum=-1e300, maximum=1e300)])


def test_bounds_of_nothing_and_of_texts() -> None:
    """An empty tensor has no element out of bounds, and texts have no order."""
    check({"x": np.zeros(0, np.int64)}, [BOUNDED])
    check(
        {"x": np.asarray(["a"], object)}, [TensorSpec("x", "BYTES", (1,), maximum=0, finite=True)]
    )


@pytest.mark.parametrize("seen", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_named_with_its_place(seen: float) -> None:
    """The element is counted over all axes."""
    value = np.asarray([[0, 1], [seen, seen]], np.float32)
    text = refusal({"x": value}, TensorSpec("x", "FP32", (2, 2), finite=True))
    assert text == f"input 'x': element 2 is {seen}, must be finite"


def test_nan_is_within_all_bounds_unless_it_is_refused() -> None:
    """A missing value does not hide one out of bounds."""
    spec = TensorSpec("x", "FP32", (-1,), minimum=0, maximum=1)
    check({"x": np.asarray([math.nan, 1], np.float32)}, [spec])
    check({"x": np.asarray([math.nan], np.float32)}, [spec])
    assert "2.0 is above" in refusal({"x": np.asarray([math.nan, 2], np.float32)}, spec)


@given(numbers().flatmap(lambda dtype: rows(dtype, at_most=5)))
def test_jobs_that_were_joined_are_split_back(jobs: list[Tensor]) -> None:
    """Each job gets exactly its own rows, jobs without a row included."""
    parts = [{"x": job, "places": np.arange(len(job))} for job in jobs]
    joined = stack(parts)
    assert len(joined["x"]) == sum(map(len, jobs))
    for part, back in zip(parts, split(joined, [len(job) for job in jobs]), strict=True):
        for name, value in part.items():
            np.testing.assert_array_equal(back[name], value, strict=True)


def test_one_job_alone_is_not_copied() -> None:
    """The common case costs nothing."""
    value = floats(2, 2)
    assert stack([{"x": value}])["x"] is value


@given(numbers().flatmap(lambda dtype: rows(dtype, at_most=5)))
def test_a_padded_row_is_still_there(series: list[Tensor]) -> None:
    """Cut to its own length it is the row, and everything behind it is zero."""
    padded = pad_rows(series)
    assert padded.dtype == series[0].dtype
    assert padded.shape == (len(series), max(map(len, series)), *series[0].shape[1:])
    for row, own in zip(padded, series, strict=True):
        np.testing.assert_array_equal(row[: len(own)], own, strict=True)
        assert not row[len(own) :].any()


@given(st.lists(st.integers(0, 5), max_size=6))
def test_a_split_is_as_long_as_asked(sizes: list[int]) -> None:
    """There is one set a job, whatever their sizes, and together they hold every row once."""
    value = np.arange(sum(sizes))
    sets = split({"x": value}, sizes)
    assert [len(one["x"]) for one in sets] == sizes
    assert [int(row) for one in sets for row in one["x"]] == value.tolist()
