"""What `service.calls` promises."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.calls import CHUNK, Call, calls_for, own_rows, row_mode
from service.contract import SequencePipeline, TextPipeline
from service.errors import InvalidRequest
from service.pipeline import Pipeline, Row, SequenceRows, TensorRows, TextRows
from service.tensors import ANY_SHAPE, Tensor, TensorSpec
from service.tokens import TokenizerConfig

X = TensorSpec("x", "FP32", ("n", 2))
IDS = TensorSpec("ids", "INT64", ("n",), minimum=0, maximum=9)
SERIES = (
    TensorSpec("values", "FP32", ("n", "time", 2), finite=True),
    TensorSpec("lengths", "INT64", ("n",), minimum=1),
)
SERIES_ROWS = SequenceRows(
    SequencePipeline(channels=2, mean=[0, 0], std=[1, 1], max_length=9), "values", "lengths"
)


def row(*values: object, name: str = "x") -> Row:
    """Return a row of FP32."""
    return {name: np.asarray(values, np.float32)}


def plain_calls(
    specs: Sequence[TensorSpec], rows: Sequence[Row], *, chunk: int = CHUNK
) -> list[Call]:
    """Turn rows of a graph's own tensors into calls."""
    return calls_for(specs, TensorRows(specs), rows, chunk=chunk)


def refusal(specs: Sequence[TensorSpec], pipeline: Pipeline, rows: Sequence[Row]) -> str:
    """Return the text with which rows are refused."""
    with pytest.raises(InvalidRequest) as caught:
        calls_for(specs, pipeline, rows)
    return str(caught.value)


@pytest.mark.parametrize(
    ("shapes", "mode"),
    [
        ([("n", 2)], "rows"),
        ([(-1,), ("n", 2)], "rows"),
        ([(1, 2)], "single"),
        ([(1,), (1, "time")], "single"),
        ([(2, 2)], "whole"),
        ([()], "whole"),
        ([("n", 2), ()], "whole"),
        ([("n", 2), (1, 2)], "whole"),
    ],
)
def test_how_instances_fit_a_graph(shapes: list[tuple[int | str, ...]], mode: str) -> None:
    """All inputs must have a batch axis, or all a batch of one; else an instance is the inputs."""
    assert row_mode([TensorSpec(f"x{i}", "FP32", s) for i, s in enumerate(shapes)]) == mode


def test_no_instances_need_no_call() -> None:
    """Nothing is run for nothing."""
    assert plain_calls([X], []) == []


@given(st.integers(1, 70), st.integers(1, 40))
def test_a_long_request_is_cut(count: int, chunk: int) -> None:
    """Every row is in one call, in order, and no call has more rows than allowed."""
    calls = plain_calls([X], [row(i, -i) for i in range(count)], chunk=chunk)
    assert [len(call.inputs["x"]) for call in calls] == [call.rows for call in calls]
    assert max(call.rows for call in calls) == min(chunk, count)
    assert all(call.rows == chunk for call in calls[:-1])
    joined = np.concatenate([call.inputs["x"] for call in calls])
    assert joined.tolist() == [[i, -i] for i in range(count)]


def test_a_batch_of_one_takes_one_row_a_call() -> None:
    """The axis that the graph wants is put in front of each row."""
    calls = plain_calls([TensorSpec("x", "FP32", (1, 2))], [row(1, 2), row(3, 4)])
    assert [(call.rows, call.inputs["x"].tolist()) for call in calls] == [
        (1, [[1, 2]]),
        (1, [[3, 4]]),
    ]


def test_without_a_batch_axis_an_instance_is_the_inputs() -> None:
    """Each instance is a call of its own and keeps its shape."""
    calls = plain_calls([TensorSpec("x", "FP32", (2,))], [row(1, 2), row(3, 4)])
    assert [(call.rows, call.inputs["x"].tolist()) for call in calls] == [(1, [1, 2]), (1, [3, 4])]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 5))
def test_series_are_padded_to_the_longest_of_their_call(lengths: list[int], chunk: int) -> None:
    """Cut to its length, each row is the series that came in; behind it there are zeros."""
    series = [np.full((length, 2), index + 1, np.float32) for index, length in enumerate(lengths)]
    rows = [SERIES_ROWS.scale(one) for one in series]
    calls = calls_for(SERIES, SERIES_ROWS, rows, chunk=chunk)
    found = [pair for call in calls for pair in zip(*call.inputs.values(), strict=True)]
    for (values, length), own in zip(found, series, strict=True):
        np.testing.assert_array_equal(values[:length], own, strict=True)
        assert not values[length:].any()
    for call in calls:
        assert call.inputs["values"].shape[1] == call.inputs["lengths"].max()


def test_a_long_text_does_not_pad_other_calls() -> None:
    """What is cut apart is padded apart."""
    config = TextPipeline(tokenizer=TokenizerConfig(pairs=False))
    pipeline = TextRows(config, "ids")
    rows = [pipeline.parse(text) for text in ("a", "b c d e f", "g")]
    calls = calls_for([TensorSpec("ids", "INT64", ("n", "time"))], pipeline, rows, chunk=2)
    assert [call.inputs["ids"].shape for call in calls] == [(2, 6), (1, 2)]


def test_an_optional_input_has_no_rows() -> None:
    """It is not stacked, and whoever sends one does not share a call."""
    optional = TensorSpec("scale", "FP32", (2,), optional=True)
    rows = [row(1, 2), {**row(3, 4), **row(9, 9, name="scale")}, row(5, 6)]
    calls = plain_calls([X, optional], rows)
    assert [{n: v.tolist() for n, v in call.inputs.items()} for call in calls] == [
        {"x": [[1, 2]]},
        {"x": [[3, 4]], "scale": [9, 9]},
        {"x": [[5, 6]]},
    ]
    assert row_mode([X, optional]) == "rows"
    assert row_mode([optional]) == "whole"
    assert len(plain_calls([X, optional], rows[::2])) == 1


@pytest.mark.parametrize(
    ("axes", "sent", "shape"),
    [
        (("n", "boxes", 4), [], (1, 0, 4)),
        (("a", "b", "c"), [[]], (1, 1, 0)),
        ((0, 4), [], (0, 4)),
        (ANY_SHAPE, [], (0,)),
    ],
)
def test_axes_behind_no_elements(
    axes: tuple[int | str, ...], sent: object, shape: tuple[int, ...]
) -> None:
    """JSON writes [0, 4] as an empty list; the axes that it cannot tell are the graph's own."""
    spec = TensorSpec("x", "FP32", axes)
    (call,) = plain_calls([spec], [{"x": np.asarray(sent, np.float32)}])
    assert call.inputs["x"].shape == shape


def test_no_elements_where_there_must_be_some() -> None:
    """An empty row of four is refused, and the shape that was seen is told."""
    spec = TensorSpec("x", "FP32", ("boxes", 4))
    text = refusal([spec], TensorRows([spec]), [row()])
    assert text == "instances[0]: input 'x': expected shape [-1, 4], got [1, 0]"


@pytest.mark.parametrize("guilty", [0, 1, 31, 32, 40])
def test_the_guilty_instance_is_named(guilty: int) -> None:
    """It is counted over the whole request, whichever call it is in."""
    rows = [{"ids": np.asarray(i % 10)} for i in range(41)]
    rows[guilty] = {"ids": np.asarray(10)}
    assert refusal([IDS], TensorRows([IDS]), rows) == (
        f"instances[{guilty}]: input 'ids': 10 is above the largest value 9"
    )


@pytest.mark.parametrize(
    ("axes", "text"),
    [
        ((1, 2), "instances[1]: input 'x': expected shape [1, 2], got [1, 3]"),
        ((2,), "instances[1]: input 'x': expected shape [2], got [3]"),
    ],
)
def test_the_guilty_instance_is_named_in_every_mode(axes: tuple[int, ...], text: str) -> None:
    """One at a time or as they are, the place is told."""
    spec = TensorSpec("x", "FP32", axes)
    assert refusal([spec], TensorRows([spec]), [row(1, 2), row(1, 2, 3)]) == text


def test_a_series_that_overflows_is_named() -> None:
    """What the scale makes infinite is found before it reaches a batch."""
    pipeline = SequenceRows(
        SequencePipeline(channels=2, mean=[0, 0], std=[1e-9, 1], max_length=9), "values", "lengths"
    )
    rows = [pipeline.parse([[0, 0]]), pipeline.parse([[0, 0], [3e38, 0]])]
    assert refusal(SERIES, pipeline, rows) == (
        "instances[1]: input 'values': element 2 is inf, must be finite"
    )


def test_instances_that_only_do_not_fit_each_other() -> None:
    """Nobody alone is guilty, so the text tells what differs."""
    spec = TensorSpec("x", "FP32", ("n", "m"))
    text = refusal([spec], TensorRows([spec]), [row(1, 2), row(1, 2, 3)])
    assert text == "input 'x': shape [3] in one instance, [2] in another"


@given(st.integers(1, 5), st.lists(st.integers(0, 3), max_size=2))
def test_outputs_are_cut_into_rows(rows: int, trailing: list[int]) -> None:
    """There is an array for each instance, and together they are the output."""
    value = np.arange(rows * int(np.prod(trailing, dtype=int))).reshape(rows, *trailing)
    found = own_rows(value, rows)
    assert all(isinstance(one, np.ndarray) for one in found)
    np.testing.assert_array_equal(np.stack(found), value, strict=True)


def test_texts_are_cut_into_arrays_too() -> None:
    """A row of one text still has a type and a shape."""
    found = own_rows(np.asarray(["a", "b"], object), 2)
    assert [(one.dtype, one.shape, one.tolist()) for one in found] == [
        (np.dtype(object), (), "a"),
        (np.dtype(object), (), "b"),
    ]


@pytest.mark.parametrize("value", [np.asarray(7), np.arange(3), np.zeros((0, 2))])
def test_an_output_without_a_batch_axis_belongs_to_every_row(value: Tensor) -> None:
    """Where the first axis does not count the rows, each gets the whole."""
    assert all(one is value for one in own_rows(value, 2))
    assert len(own_rows(value, 2)) == 2
