"""What `service.pipeline` promises."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from service.contract import (
    Contract,
    ImagePipeline,
    InputContract,
    OutputContract,
    SequencePipeline,
    TensorPipeline,
    TextPipeline,
)
from service.contract import Pipeline as PipelineConfig
from service.errors import InvalidRequest, TooLarge
from service.pipeline import (
    NPZ,
    ImageRows,
    Pipeline,
    Row,
    SequenceRows,
    TensorRows,
    TextRows,
    make_pipeline,
)
from service.tensors import Tensor, TensorSpec
from service.tokens import Tokenizer, TokenizerConfig
from tests.support.models import png
from tests.support.strategies import JSON, damaged

TOKENIZER = TokenizerConfig(buckets=64, max_tokens=8, max_chars=40)
COLOURED = ImagePipeline(height=2, width=3, channels=3, mean=[0.5, 0.25, 0], std=[0.5, 0.25, 2])
GREY = ImagePipeline(height=2, width=2, channels=1, mean=[0], std=[1])
SERIES = SequencePipeline(channels=2, mean=[1, 10], std=[2, 5], max_length=4)
TEXT = TextPipeline(tokenizer=TOKENIZER)
SPECS = (TensorSpec("a", "FP32", ("n", 2)), TensorSpec("b", "INT64", ("n",)))

IMAGES = ImageRows(COLOURED, "image")
FP32 = "a number from -3.4028235e+38 to 3.4028235e+38, as FP32 holds"
SERIES_ROWS = SequenceRows(SERIES, "values", "lengths")
TEXTS = TextRows(TEXT, "tokens")
TENSORS = TensorRows(SPECS)
ALL: list[Pipeline] = [IMAGES, ImageRows(GREY, "image"), SERIES_ROWS, TEXTS, TENSORS]


def npz(**members: Tensor) -> bytes:
    """Return arrays as an npz file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **members)
    return buffer.getvalue()


def refusal(pipeline: Pipeline, instance: object) -> str:
    """Return the text with which an instance is refused."""
    with pytest.raises(InvalidRequest) as caught:
        pipeline.parse(instance)
    return str(caught.value)


def contract(config: PipelineConfig, *inputs: tuple[str, str]) -> Contract:
    """Return a contract with a pipeline over inputs of these names and types."""
    return Contract(
        task="tensor",
        inputs=[InputContract(name=name, datatype=kind, shape=["n", 2]) for name, kind in inputs],
        outputs=[OutputContract(name="y", datatype="FP32", shape=["n"])],
        pipeline=config,
        batchable=True,
    )


@pytest.mark.parametrize(
    ("promised", "kind", "instance", "names"),
    [
        (contract(GREY, ("picture", "FP32")), ImageRows, [[0, 1], [2, 3]], ["picture"]),
        (contract(SERIES, ("x", "FP32"), ("n", "INT64")), SequenceRows, [[0, 0]], ["x", "n"]),
        (contract(TEXT, ("ids", "INT64")), TextRows, "word", ["ids"]),
        (contract(TensorPipeline(), ("x", "FP32")), TensorRows, [1, 2], ["x"]),
    ],
)
def test_the_contract_says_which_tensors_an_instance_becomes(
    promised: Contract, kind: type, instance: object, names: list[str]
) -> None:
    """The names are those of the contract's inputs, whatever they are."""
    pipeline = make_pipeline(promised)
    assert type(pipeline) is kind
    row = pipeline.parse(instance)
    assert list(row) == names
    assert {name: value[0].tolist() for name, value in pipeline.collate([row]).items()} == {
        name: value.tolist() for name, value in row.items()
    }


@pytest.mark.parametrize("pipeline", ALL)
@settings(max_examples=40)
@given(instance=JSON)
def test_any_instance_is_a_row_or_refused(pipeline: Pipeline, instance: object) -> None:
    """Whatever JSON a caller sends, no other error is raised, and the row can be collated."""
    try:
        row = pipeline.parse(instance)
    except (InvalidRequest, TooLarge):
        return
    assert all(len(value) == 2 for value in pipeline.collate([row, row]).values())


@pytest.mark.parametrize("pipeline", ALL)
@pytest.mark.parametrize("media_type", ["image/png", NPZ])
@settings(max_examples=40)
@given(
    raw=st.binary()
    | damaged(png([[1, 2], [3, 4]]))
    | damaged(b'{"a": [[1, NaN]], "b": [7]}')
    | damaged(npz(a=np.zeros(2, np.float32), b=np.asarray(1)))
)
def test_any_raw_input_is_a_row_or_refused(pipeline: Pipeline, media_type: str, raw: bytes) -> None:
    """Whatever bytes a file holds, no other error is raised."""
    try:
        row = pipeline.decode(raw, media_type)
    except (InvalidRequest, TooLarge):
        return
    assert isinstance(row, Mapping)


@given(arrays.arrays(np.uint8, (2, 3, 3)))
def test_a_picture_is_scaled_by_channel(pixels: Tensor) -> None:
    """The formula of the contract, with the channels first, in FP32."""
    row = IMAGES.parse(pixels.tolist())["image"]
    wanted = (np.moveaxis(pixels / 255, -1, 0) - [[[0.5]], [[0.25]], [[0]]]) / [
        [[0.5]],
        [[0.25]],
        [[2]],
    ]
    assert row.dtype == np.float32
    assert row.flags.c_contiguous
    np.testing.assert_allclose(row, wanted, rtol=1e-6, atol=1e-6)


def test_a_picture_is_the_same_in_every_form() -> None:
    """A file, its base64, its numbers, and each of them under the input's name."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 3), np.uint8)
    raw = png(pixels)
    coded = {"b64": base64.b64encode(raw).decode()}
    rows = [IMAGES.decode(raw, "image/jpeg"), IMAGES.decode(raw, "")]
    for form in (coded, pixels.tolist()):
        rows += [IMAGES.parse(form), IMAGES.parse({"image": form})]
    for row in rows:
        assert list(row) == ["image"]
        np.testing.assert_array_equal(row["image"], rows[0]["image"], strict=True)


def test_a_picture_of_another_size_is_resized() -> None:
    """One colour stays that colour, and the tensor has the contract's size."""
    row = IMAGES.parse(np.full((9, 4, 3), 255).tolist())["image"]
    assert row.shape == (3, 2, 3)
    assert row[0].tolist() == [[1, 1, 1], [1, 1, 1]]


def test_many_pictures_are_scaled_as_one() -> None:
    """Training scales whole batches; its tensors are those that serving makes one by one."""
    pictures = np.random.default_rng(0).integers(0, 256, (5, 2, 3, 3), np.uint8)
    rows = [IMAGES.parse(one.tolist()) for one in pictures]
    np.testing.assert_array_equal(IMAGES.collate(rows)["image"], IMAGES.pixels(pictures))


@given(st.integers(1, 4).flatmap(lambda n: arrays.arrays(np.int16, (n, 2))))
def test_a_series_is_scaled_by_channel(series: Tensor) -> None:
    """The formula of the contract, with the true length beside it."""
    row = SERIES_ROWS.parse(series.tolist())
    assert [value.dtype for value in row.values()] == [np.float32, np.int64]
    np.testing.assert_allclose(row["values"], (series - [1, 10]) / [2, 5], rtol=1e-6)
    assert row["lengths"] == len(series)


def test_a_series_is_the_same_in_every_form() -> None:
    """A file of JSON, the instance, and the instance under the input's name."""
    series = [[1, 2.5], [3, 4]]
    rows = [
        SERIES_ROWS.decode(orjson.dumps(series), "text/csv"),
        SERIES_ROWS.parse(series),
        SERIES_ROWS.parse({"values": series}),
    ]
    assert [row["values"].tolist() for row in rows] == [rows[0]["values"].tolist()] * 3


@pytest.mark.parametrize(
    ("instance", "text"),
    [
        ([], "series: expected shape [length >= 1, 2], got [0]"),
        ([[]], "series: expected shape [length >= 1, 2], got [1, 0]"),
        ([1, 2], "series: expected shape [length >= 1, 2], got [2]"),
        ([[1], [2]], "series: expected shape [length >= 1, 2], got [2, 1]"),
        ([[[1, 2]]], "series: expected shape [length >= 1, 2], got [1, 1, 2]"),
        ([[1, 2], [3]], "series: ragged or mixed nesting of lists"),
        ([[1, 2]] * 5, "series: 5 steps, the longest allowed is 4"),
        ([[1, 2], [3, None]], "series: step 1, channel 1 is null, expected a finite number"),
        ([[math.nan, 1]], "series: step 0, channel 0 is NaN, expected a finite number"),
        ([[math.inf, math.nan]], f"series: step 0, channel 0 is Infinity, expected {FP32}"),
        ([[1, -1e39]], f"series: step 0, channel 1 is -1e+39, expected {FP32}"),
        (np.asarray([[1, 1e308]]), f"series: step 0, channel 1 is 1e+308, expected {FP32}"),
        ([[1, "2"]], "series[0][1]: expected a number, got a string"),
        ([[1, True]], "series[0][1]: expected a number, got a boolean"),
        ({"steps": []}, "series: expected a number, got an object"),
        (None, "series: expected shape [length >= 1, 2], got []"),
    ],
)
def test_series_that_are_none(instance: object, text: str) -> None:
    """The text says what was expected and what was seen, with its place."""
    assert refusal(SERIES_ROWS, instance) == text


def test_a_series_beyond_fp32_becomes_infinite() -> None:
    """What only overflows when it is scaled is left to the check of the tensors."""
    narrow = SequencePipeline(channels=1, mean=[0], std=[1e-9], max_length=4)
    row = SequenceRows(narrow, "values", "lengths").parse([[3e38]])
    assert row["values"].tolist() == [[math.inf]]


@given(st.text(max_size=60))
def test_a_text_becomes_the_tokenizer_s_ids(text: str) -> None:
    """As a file in UTF-8, as an instance, and under the input's name."""
    ids = Tokenizer(TOKENIZER).encode(text).tolist()
    assert TEXTS.decode(text.encode(), "application/json")["tokens"].tolist() == ids
    assert TEXTS.parse(text)["tokens"].tolist() == ids
    assert TEXTS.parse({"tokens": text})["tokens"].tolist() == ids


@given(st.lists(st.text(max_size=60), min_size=1, max_size=5))
def test_texts_of_different_lengths_share_a_tensor(texts: Sequence[str]) -> None:
    """Padding is 0, which no token is, so each text can be told from what fills it up."""
    found = TEXTS.collate([TEXTS.parse(text) for text in texts])["tokens"]
    for row, text in zip(found, texts, strict=True):
        assert row[row != 0].tolist() == Tokenizer(TOKENIZER).encode(text).tolist()
        assert not row[np.count_nonzero(row) :].any()


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\xff", "text: byte 0 is 0xff, not UTF-8"),
        (b"caf\xe9 au lait", "text: byte 3 is 0xe9, not UTF-8"),
        (b"cut \xf0\x9f\x98", "text: byte 4 is 0xf0, not UTF-8"),
        (b"half \xed\xa0\x80", "text: byte 5 is 0xed, not UTF-8"),
        ("wide".encode("utf-16"), "text: byte 0 is 0xff, not UTF-8"),
    ],
)
def test_a_file_that_is_not_utf8(raw: bytes, text: str) -> None:
    """The first byte that fits nothing is told, with its place."""
    with pytest.raises(InvalidRequest) as caught:
        TEXTS.decode(raw, "text/plain")
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("instance", "kind"),
    [
        (5, "the number 5"),
        (None, "null"),
        (["a"], "an array"),
        ({"text": "a"}, "an object"),
        ({"tokens": 7}, "the number 7"),
        ({"tokens": "a", "more": "b"}, "an object"),
    ],
)
def test_texts_that_are_none(instance: object, kind: str) -> None:
    """A text is a string, alone or under the input's name alone."""
    assert refusal(TEXTS, instance) == f"text: expected a string, got {kind}"


def test_a_row_of_tensors_in_every_form() -> None:
    """An object of rows, its JSON, and an npz file with an array for each input."""
    instance = {"b": 7, "a": [1, 2]}
    a, b = np.asarray([1, 2], np.float32), np.asarray(7)
    for row in (
        TENSORS.parse(instance),
        TENSORS.decode(orjson.dumps(instance), "application/json"),
        TENSORS.decode(npz(a=a, b=b), NPZ),
    ):
        assert list(row) == ["a", "b"]
        np.testing.assert_array_equal(row["a"], a, strict=True)
        np.testing.assert_array_equal(row["b"], b, strict=True)


def test_the_only_input_needs_no_name() -> None:
    """The row itself is enough, of every type, beside optional inputs too."""
    words = TensorSpec("words", "BYTES", ("n",))
    extra = TensorSpec("extra", "FP32", (), optional=True)
    for specs in ([words], [words, extra], [extra, words]):
        pipeline = TensorRows(specs)
        for form in ("yes", {"words": "yes"}):
            row = pipeline.parse(form)
            assert {name: value.tolist() for name, value in row.items()} == {"words": "yes"}


def test_a_graph_of_optional_inputs_wants_names() -> None:
    """Which of them a bare row is for cannot be known."""
    pipeline = TensorRows([replace(spec, optional=True) for spec in SPECS])
    assert refusal(pipeline, [1, 2]).endswith("send an object with 'a', 'b'")


def test_an_npz_file_that_unpacks_to_too_much() -> None:
    """The limit holds for what its members say of their size."""
    with pytest.raises(TooLarge, match=f"at most {64 << 20} are allowed"):
        TENSORS.decode(npz(a=np.broadcast_to(np.zeros(1, np.uint8), 64 << 20)), NPZ)


@pytest.mark.parametrize(
    ("instance", "text"),
    [
        ([1, 2], "the model has several inputs, send an object with 'a', 'b'"),
        ({"a": [1, 2], "c": 1}, "input 'c': the model has no such input"),
        ({"a": [1, "2"], "b": 1}, "input 'a'[1]: expected a number, got a string"),
        ({"a": [[1], [1, 2]], "b": 1}, "input 'a': ragged or mixed nesting of lists"),
        ({"a": [1, 2], "b": 2**63}, f"input 'b': {2**63} is outside {-(2**63)}..{2**63 - 1}"),
    ],
)
def test_rows_of_tensors_that_are_none(instance: object, text: str) -> None:
    """The input is named, or what should have been sent."""
    assert refusal(TENSORS, instance).startswith(text)


def test_an_input_that_is_missing_is_left_to_the_check() -> None:
    """Which inputs are needed is said in one place for every protocol."""
    assert list(TENSORS.parse({"a": [1, 2]})) == ["a"]
    assert TENSORS.parse({}) == {}


def row(**values: object) -> Row:
    """Return a row of arrays."""
    return {name: np.asarray(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([row(a=[1], b=1), row(a=[2])], "input 'b': not in all instances"),
        ([row(a=[1]), row(a=[2], b=1)], "input 'b': not in all instances"),
        ([row(a=[1]), row(a=[1, 2])], "input 'a': shape [2] in one instance, [1] in another"),
        ([row(a=1), row(a=[1])], "input 'a': shape [1] in one instance, [] in another"),
        ([row(a=1), row(a=1.5)], "input 'a': float64 in one instance, int64 in another"),
    ],
)
def test_rows_that_do_not_fit_each_other(rows: list[Row], text: str) -> None:
    """Nothing is widened, cut or filled up in silence."""
    with pytest.raises(InvalidRequest) as caught:
        TENSORS.collate(rows)
    assert str(caught.value) == text


@given(st.lists(arrays.arrays(np.float32, (2, 3)), min_size=1, max_size=5))
def test_rows_are_stacked_in_order(values: list[Tensor]) -> None:
    """A batch axis is put in front of what each instance is."""
    found = TENSORS.collate([{"a": value} for value in values])
    np.testing.assert_array_equal(found["a"], np.stack(values), strict=True)
