"""Tensors as bytes behind the JSON, alone."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequest
from service.tensors import DATATYPES, Tensor, TensorSpec
from service.web import binary, wire
from tests.support.infer import blob_of, body_of, in_binary, in_json
from tests.support.strategies import tensors

FP32 = DATATYPES["FP32"]


def take(body: bytes, size: object, datatype: str, *shape: int, start: int | None = 0) -> Tensor:
    """Return the only tensor of a body."""
    blobs = binary.Blobs(body, start)
    found = blobs.take(size, DATATYPES[datatype], shape, "input 'x'")
    blobs.end()
    return found


def decode(request: dict[str, object], *blobs: bytes) -> wire.InferCall:
    """Decode a request with bytes behind its JSON."""
    body, headers = body_of(request, *blobs)
    return wire.decode(body, json_bytes=int(next(iter(headers.values()))))


@given(st.data(), st.sampled_from(sorted(DATATYPES)), st.integers(0, 3))
def test_every_bit_survives_the_way_there_and_back(
    data: st.DataObject, datatype: str, gap: int
) -> None:
    """What encode writes, `Blobs` reads, at any place in a body, aligned for compiled loops."""
    sent = data.draw(tensors(datatype))
    blob = bytes(binary.encode(sent))
    assert blob == blob_of(sent)
    got = take(bytes(gap) + blob, len(blob), datatype, *sent.shape, start=gap)
    assert got.dtype == sent.dtype
    assert got.shape == sent.shape
    assert got.flags.aligned
    assert got.tolist() == sent.tolist() if datatype == "BYTES" else got.tobytes() == blob


def test_aligned_bytes_are_not_copied() -> None:
    """A tensor that lies well in the body is a view of it."""
    body = bytes(16)
    assert np.shares_memory(take(body, 16, "FP32", 4), np.frombuffer(body, np.uint8))


def test_an_encoded_array_is_not_copied() -> None:
    """A tensor that lies in order is written from where it is."""
    value = np.arange(4.0)
    assert np.shares_memory(np.frombuffer(binary.encode(value), np.float64), value)


def test_inputs_of_both_forms_in_any_order() -> None:
    """Bytes belong to the binary inputs in the order of the inputs; JSON may stand between."""
    a, b, c = np.asarray([1, 2], np.int8), np.asarray([0.5]), np.asarray([3], np.uint16)
    inputs = [in_binary("a", a), in_json("b", b), in_binary("c", c)]
    call = decode({"inputs": inputs}, blob_of(a), blob_of(c))
    assert {n: v.tolist() for n, v in call.inputs.items()} == {"a": [1, 2], "b": [0.5], "c": [3]}
    inputs = [in_binary("c", c), in_binary("a", a), in_json("b", b)]
    call = decode({"inputs": inputs}, blob_of(c), blob_of(a))
    assert {n: v.tolist() for n, v in call.inputs.items()} == {"c": [3], "a": [1, 2], "b": [0.5]}


def test_scalars_and_empty_tensors() -> None:
    """Rank 0 is one element, a zero in the shape is none, and null is no data."""
    assert take(struct.pack("<f", 1.5), 4, "FP32").shape == ()
    assert take(b"", 0, "FP32", 0, 4).shape == (0, 4)
    assert take(b"", 0, "BYTES", 0).shape == (0,)
    assert take(b"", 0, "BOOL", 2, 0).shape == (2, 0)
    tensor = {**in_binary("x", np.zeros((0, 2), np.float32)), "data": None}
    assert decode({"inputs": [tensor]}).inputs["x"].shape == (0, 2)
    # KServe's client sends it so, without the header that tells JSON from bytes.
    assert wire.decode(body_of({"inputs": [tensor]})[0]).inputs["x"].shape == (0, 2)


@pytest.mark.parametrize("size", [-1, 2**31, 2**32, 2**63, 2**64, 8.0, "8", True, 1e400])
def test_sizes_that_are_none(size: object) -> None:
    """A size is a whole number of bytes that are there."""
    with pytest.raises(InvalidRequest, match=r"input 'x'\.parameters\.binary_data_size: "):
        take(bytes(8), size, "FP32", 2)


@pytest.mark.parametrize(
    ("size", "datatype", "shape", "words"),
    [
        (8, "FP32", (1,), "takes 4 bytes, got 8"),
        (4, "FP64", (1,), "takes 8 bytes, got 4"),
        (0, "FP32", (1,), "takes 4 bytes, got 0"),
        (3, "FP32", (), "takes 4 bytes, got 3"),
        (8, "FP32", (0, 4), "takes 0 bytes, got 8"),
        (9, "UINT8", (9,), "only 8 bytes are left"),
    ],
)
def test_sizes_that_do_not_fit(
    size: int, datatype: str, shape: tuple[int, ...], words: str
) -> None:
    """A size that is not the shape's, or more than there is, is told with both numbers."""
    with pytest.raises(InvalidRequest, match=f"input 'x'.*{words}"):
        take(bytes(8), size, datatype, *shape)


def test_bytes_that_belong_to_nobody() -> None:
    """Bytes behind the last tensor are refused, also where no tensor is in binary."""
    with pytest.raises(InvalidRequest, match="body: 4 bytes behind the last tensor"):
        take(bytes(8), 4, "FP32", 1)
    with pytest.raises(InvalidRequest, match="body: 1 bytes behind"):
        decode({"inputs": [in_json("x", np.zeros(1))]}, b"\n")


def test_a_size_without_the_header() -> None:
    """Without the header nothing tells where the JSON ends."""
    body, _ = body_of({"inputs": [in_binary("x", np.zeros(1))]})
    with pytest.raises(InvalidRequest, match=r"binary_data_size: 8, but .* is missing"):
        wire.decode(body)


def test_data_in_both_forms_or_in_none() -> None:
    """One tensor has one form."""
    tensor = {**in_binary("x", np.zeros(1)), "data": [0]}
    with pytest.raises(InvalidRequest, match=r"input 'x': data is given, and .*_data_size"):
        decode({"inputs": [tensor]}, bytes(8))
    del tensor["data"], tensor["parameters"]
    with pytest.raises(InvalidRequest, match=r"input 'x'\.data: missing"):
        decode({"inputs": [tensor]})


def test_booleans_are_0_or_1() -> None:
    """Any other byte would be true in one place and not in another."""
    assert take(b"\x00\x01", 2, "BOOL", 2).tolist() == [False, True]
    with pytest.raises(InvalidRequest, match="input 'x': element 1 is 2, BOOL is 0 or 1"):
        take(b"\x01\x02", 2, "BOOL", 2)


@pytest.mark.parametrize(
    ("blob", "count", "words"),
    [
        (b"\x01\x00\x00", 1, "3 bytes behind the last element"),
        (b"\x02\x00\x00\x00a", 1, "an element of 2 bytes, 1 are left"),
        (b"\xff\xff\xff\xff", 1, "an element of 4294967295 bytes, 0 are left"),
        (b"\x00\x00\x00\x00" * 2, 1, "more than the 1 elements"),
        (b"\x00\x00\x00\x00", 2**30, "takes 1073741824 elements, got 1"),
        (b"", 1, "takes 1 elements, got 0"),
        (b"\x02\x00\x00\x00a\xff", 1, "element 0 is not UTF-8, byte 1 is 0xff"),
    ],
)
def test_texts_that_are_framed_badly(blob: bytes, count: int, words: str) -> None:
    """A length that overruns, a wrong count, and bytes that are no text are named."""
    with pytest.raises(InvalidRequest, match=f"input 'x': .*{words}"):
        take(blob, len(blob), "BYTES", count)


@pytest.mark.parametrize("header", [None, b"0", b"7", b" 10 ", b"0010"])
def test_headers_that_are_lengths(header: bytes | None) -> None:
    """Any decimal number up to the body's own length."""
    assert binary.json_length(header, 10) == (None if header is None else int(header))


@pytest.mark.parametrize(
    "header", [b"", b"-1", b"+1", b"1.0", b"0x1", b"1_0", b"1, 1", b"\xb2", b"11", b"9" * 5000]
)
def test_headers_that_are_none(header: bytes) -> None:
    """Everything else is refused by the header's name."""
    with pytest.raises(InvalidRequest, match="Inference-Header-Content-Length"):
        binary.json_length(header, 10)


def spec(datatype: str, *shape: int | str) -> TensorSpec:
    """Describe the only input of a model."""
    return TensorSpec("x", datatype, shape)


@pytest.mark.parametrize(
    ("only", "body", "shape"),
    [
        (spec("FP32", "n", 2), bytes(8), (1, 2)),
        (spec("FP32", "n", "time", 2), bytes(24), (1, 3, 2)),
        (spec("FP32", "n", "time", 2), b"", (1, 0, 2)),
        (spec("UINT8", 2, -1), bytes(6), (2, 3)),
        (spec("INT64"), bytes(8), ()),
        (spec("FP32", "n", "time", 0), b"", (1, 0, 0)),
        (spec("BYTES", "n"), b"text", (1,)),
        (spec("BYTES", "n", 1), b"", (1, 1)),
        (spec("BYTES"), b"text", ()),
    ],
)
def test_a_body_that_is_nothing_but_the_input(
    only: TensorSpec, body: bytes, shape: tuple[int, ...]
) -> None:
    """It is one row; one more axis takes what size the body gives it; a text is itself."""
    found = binary.raw(body, [only])["x"]
    assert found.shape == shape
    if only.datatype == "BYTES":
        assert found.reshape(-1).tolist() == [body.decode()]
    else:
        assert found.tobytes() == body


@pytest.mark.parametrize(
    ("specs", "body", "words"),
    [
        ([spec("INT64", "n", 2)], bytes(5), "5 bytes are not a whole number of INT64"),
        ([spec("FP32", "n", "time", 2)], bytes(9), "9 bytes are not a whole number of FP32"),
        ([spec("FP32", "n", 2)], bytes(4), r"4 bytes are 1 elements .* shape \[-1, 2\]"),
        ([spec("FP32", "n", "time", 2)], bytes(12), r"3 elements .* shape \[-1, -1, 2\]"),
        ([spec("FP32", "n", "time", 0)], bytes(4), r"1 elements .* shape \[-1, -1, 0\]"),
        ([spec("FP32", "n", "h", "w")], bytes(8), "several unknown axes"),
        ([spec("BYTES", "n", 2)], b"text", "more than one text"),
        ([spec("BYTES", "n", "m")], b"text", "more than one text"),
        ([spec("BYTES", "n")], b"\xff", "not UTF-8"),
        ([spec("FP32", "n")] * 2, bytes(4), "the model has 2"),
        ([], bytes(4), "the model has 0"),
    ],
)
def test_bodies_whose_shape_cannot_be_told(
    specs: list[TensorSpec], body: bytes, words: str
) -> None:
    """What fits no shape, or more than one, is refused."""
    with pytest.raises(InvalidRequest, match=words):
        binary.raw(body, specs)


@given(st.data())
def test_any_bytes_behind_any_request_are_a_call_or_an_error_of_ours(data: st.DataObject) -> None:
    """No body gets past the codec with anything but tensors or an InvalidRequest."""
    shapes = st.lists(st.integers(-1, 3) | st.just(2**62), max_size=3)
    sizes = st.integers(-1, 20) | st.sampled_from([2**31, 2**63, 2**64, 1.0, "4", True, None])
    inputs = [
        {
            "name": name,
            "datatype": data.draw(st.sampled_from(sorted(DATATYPES))),
            "shape": data.draw(shapes),
            "parameters": {"binary_data_size": data.draw(sizes)},
        }
        for name in data.draw(st.sampled_from(["", "x", "xy"]))
    ]
    body, _ = body_of({"inputs": inputs}, data.draw(st.binary(max_size=30)))
    length = data.draw(st.integers(0, len(body)) | st.none())
    try:
        names = list(wire.decode(body, json_bytes=length).inputs)
    except InvalidRequest:
        return
    assert names == [tensor["name"] for tensor in inputs]
