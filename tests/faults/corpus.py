"""Requests that no client should send, as bytes: over a hundred and fifty, each with a name.

Every one is to be refused, or answered if it is odd but right, within two seconds, never with
a 5xx.
The server has the models ``doubler`` (y = 2x over FP32 [n, 2]) and ``counts`` (INT64 [n]).
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from tests.faults.rig import infer_body, request

INFER = "/v2/models/doubler/infer"
COUNTS = "/v2/models/counts/infer"
PREDICT = "/v1/models/doubler:predict"
BINARY = "Inference-Header-Content-Length"
LARGE = (2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 10**30)


@dataclass(frozen=True, slots=True)
class Case:
    """A request; ``unfinished`` says that the caller sends no more and waits for a reaction."""

    name: str
    content: bytes
    unfinished: bool = False


def cases() -> list[Case]:
    """Return the whole corpus."""
    found = [
        *_framing(), *_heads(), *_paths(), *_auth(), *_json(), *_tensors(), *_binary(),
        *_encodings(), *_v1(),
    ]  # fmt: skip
    names = [case.name for case in found]
    assert len(set(names)) == len(names), "two cases have one name"
    return found


def _named(area: str, contents: dict[str, bytes]) -> Iterator[Case]:
    for name, content in contents.items():
        yield Case(f"{area}: {name}", content)


def _post(lines: str, body: bytes = b"{}") -> bytes:
    return f"POST {INFER} HTTP/1.1\r\nhost: faults\r\n{lines}\r\n".encode("latin-1") + body


def _framing() -> Iterator[Case]:
    chunked = "transfer-encoding: chunked\r\n"
    yield from _named(
        "framing",
        {
            "length and chunks": _post("content-length: 2\r\n" + chunked, b"2\r\n{}\r\n0\r\n\r\n"),
            "chunks and length": _post(chunked + "content-length: 5\r\n", b"0\r\n\r\n"),
            "two lengths": _post("content-length: 2\r\ncontent-length: 3\r\n"),
            "the same length twice": _post("content-length: 2\r\ncontent-length: 2\r\n"),
            "a list of lengths": _post("content-length: 2, 2\r\n"),
            "a negative length": _post("content-length: -1\r\n"),
            "a length with a sign": _post("content-length: +2\r\n"),
            "a hexadecimal length": _post("content-length: 0x2\r\n"),
            "an empty length": _post("content-length: \r\n"),
            "a length of 2^64": _post(f"content-length: {2**64}\r\n"),
            "a length of 1000 digits": _post(f"content-length: {'9' * 1000}\r\n"),
            "a fraction of a length": _post("content-length: 2.0\r\n"),
            "a length in other digits": _post("content-length: \xb2\r\n"),
            "an unknown coding": _post("transfer-encoding: cow\r\n"),
            "chunks in a list": _post("transfer-encoding: gzip, chunked\r\n", b"0\r\n\r\n"),
            "chunks twice": _post(chunked + chunked, b"0\r\n\r\n"),
            "chunks, then not": _post("transfer-encoding: chunked, identity\r\n"),
            "a coding with a tab": _post("transfer-encoding:\tchunked\r\n", b"0\r\n\r\n"),
            "a blank before the colon": _post("transfer-encoding : chunked\r\n", b"0\r\n\r\n"),
            "a size that is no number": _post(chunked, b"zz\r\n{}\r\n"),
            "a negative size": _post(chunked, b"-1\r\n{}\r\n"),
            "a size of 2^64": _post(chunked, b"FFFFFFFFFFFFFFFFF\r\n{}"),
            "a chunk longer than said": _post(chunked, b"1\r\n{}\r\n0\r\n\r\n"),
            "a chunk shorter than said": _post(chunked, b"5\r\n{}\r\n0\r\n\r\n\r\n\r\n"),
            "extensions without end": _post(chunked, b"2;" + b"a" * 70_000 + b"\r\n{}\r\n"),
            "trailers": _post(chunked, b"2\r\n{}\r\n0\r\nhost: other\r\n\r\n"),
            "many trailers": _post(chunked, b"0\r\n" + b"a: b\r\n" * 500 + b"\r\n"),
            "bare line feeds": f"POST {INFER} HTTP/1.1\nhost: a\n\n{{}}".encode(),
            "bare carriage returns": b"GET / HTTP/1.1\rhost: a\r\r\r\n\r\n",
            "a body on a GET": request("/v2", b"{}", method="GET"),
            "HTTP/0.9": b"GET /\r\n\r\n",
            "HTTP/1.0": b"GET /v2 HTTP/1.0\r\n\r\n",
            "HTTP/2.0": b"GET /v2 HTTP/2.0\r\nhost: a\r\n\r\n",
            "HTTP/1.9": b"GET /v2 HTTP/1.9\r\nhost: a\r\n\r\n",
            "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "a TLS hello": bytes.fromhex("16030100050100000103") + b"\0" * 40,
            "noise": bytes(range(256)) * 8,
            "zeros": b"\0" * 1000,
            "line ends only": b"\r\n" * 1000,
            "an upgrade": request("/v2", head="connection: upgrade\r\nupgrade: websocket\r\n"),
            "an upgrade to h2c": request("/v2", head="connection: upgrade\r\nupgrade: h2c\r\n"),
            "an expectation": _post("expect: 200-ok\r\ncontent-length: 2\r\n"),
            "two requests, one broken": request("/v2") + b"GET\r\n\r\n",
        },
    )
    yield Case("framing: half a head", b"GET /v2 HTTP/1.1\r\nhost: a", unfinished=True)
    yield Case("framing: half a body", _post("content-length: 9\r\n"), unfinished=True)


def _heads() -> Iterator[Case]:
    def get(lines: str) -> bytes:
        return f"GET /v2 HTTP/1.1\r\n{lines}\r\n".encode("latin-1")

    yield from _named(
        "head",
        {
            "no host": get(""),
            "two hosts": get("host: a\r\nhost: b\r\n"),
            "an empty host": get("host: \r\n"),
            "a host with a path": get("host: a/b?c\r\n"),
            "200 headers": get("host: a\r\n" + "x: y\r\n" * 200),
            "20,000 headers": get("host: a\r\n" + "x: y\r\n" * 20_000),
            "one of 70 kB": get(f"host: a\r\nx: {'y' * 70_000}\r\n"),
            "one of 1 MB": get(f"host: a\r\nx: {'y' * 1_000_000}\r\n"),
            "a name of 70 kB": get(f"host: a\r\n{'y' * 70_000}: x\r\n"),
            "no colon": get("host a\r\n"),
            "no name": get(": a\r\n"),
            "a blank in a name": get("ho st: a\r\n"),
            "control bytes in a name": get("ho\x01st: a\r\n"),
            "control bytes in a value": get("host: a\r\nx: \x01\x02\x7f\r\n"),
            "a zero in a value": get("host: a\r\nx: a\0b\r\n"),
            "bytes above 127": get("host: a\r\nx: \xff\xfe\r\n"),
            "folded": get("host: a\r\nx: a\r\n  b\r\n"),
            "a request id with line ends": get("host: a\r\nx-request-id: a\rb\r\n"),
            "a long request id": get(f"host: a\r\nx-request-id: {'a' * 5000}\r\n"),
            "an odd traceparent": get("host: a\r\ntraceparent: 00-zz-zz-zz\r\n"),
            "a timeout that is none": _post("x-request-timeout-ms: soon\r\ncontent-length: 2\r\n"),
            "a negative timeout": _post("x-request-timeout-ms: -5\r\ncontent-length: 2\r\n"),
            "an endless timeout": _post(
                f"x-request-timeout-ms: {'9' * 400}\r\ncontent-length: 2\r\n"
            ),
            "a method of 10 kB": b"G" * 10_000 + b" / HTTP/1.1\r\nhost: a\r\n\r\n",
            "an unknown method": request("/v2", method="FROB"),
            "TRACE": request("/v2", method="TRACE"),
            "CONNECT": b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n",
            "a small method": request("/v2", method="get"),
            "OPTIONS *": b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
        },
    )


def _paths() -> Iterator[Case]:
    odd = {
        "dots": "/v2/../../etc/passwd",
        "coded dots": "/v2/%2e%2e/%2e%2e/etc/passwd",
        "a coded slash": "/v2/models/a%2f..%2fb/infer",
        "a coded zero": "/v2/models/a%00b/infer",
        "coded control bytes": "/v2/models/a%0d%0ax:%20y/infer",
        "half an escape": "/v2/models/%/infer",
        "broken UTF-8": "/v2/models/%ff%fe/infer",
        "an overlong dot": "/v2/models/%c0%ae%c0%ae/infer",
        "a name of 10 kB": f"/v2/models/{'a' * 10_000}/infer",
        "a path of 60 kB": f"/{'a' * 60_000}",
        "a path of 70 kB": f"/{'a' * 70_000}",
        "60,000 slashes": "/" * 60_000,
        "a whole URL": "http://other.example/v2",
        "a URL without a host": "http:///v2",
        "a fragment": "/v2#x",
        "a query": "/v2?" + "a=b&" * 5000,
        "a version of 30 digits": f"/v2/models/doubler/versions/{'9' * 30}/infer",
        "a negative version": "/v2/models/doubler/versions/-1/infer",
        "version 0": "/v2/models/doubler/versions/0/infer",
        "a version in other digits": "/v2/models/doubler/versions/%D9%A1/infer",
        "no name": "/v2/models//infer",
        "a backslash": "/v2\\models",
        "not a path": "v2",
        "bytes above 127": "/v2/\xff\xfe",
    }
    for name, path in odd.items():
        content = f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{{}}"
        yield Case(f"path: {name}", content.encode("latin-1"))


def _auth() -> Iterator[Case]:
    values = {
        "an empty bearer": "authorization: Bearer\r\n",
        "a bearer of 60 kB": f"authorization: Bearer {'a' * 60_000}\r\n",
        "an unknown scheme": "authorization: Frob x\r\n",
        "a basic that is no base64": "authorization: Basic !!!\r\n",
        "a basic without a colon": "authorization: Basic YWJj\r\n",
        "control bytes": "authorization: Bearer a\x01b\r\n",
        "two keys": "x-api-key: a\r\nx-api-key: b\r\n",
        "a token of dots": f"authorization: Bearer {'.' * 100}\r\n",
        "a token signed by nobody": "authorization: Bearer eyJhbGciOiJub25lIn0.e30.\r\n",
    }
    for name, head in values.items():
        yield Case(f"auth: {name}", request(INFER, infer_body(), head=head))


def _json() -> Iterator[Case]:
    bodies = {
        "nothing": b" ",
        "null": b"null",
        "a list": b"[]",
        "a number": b"1e999",
        "a text": b'"inputs"',
        "half an object": b'{"inputs": [',
        "two objects": b"{}{}",
        "a comma too many": b'{"inputs": [],}',
        "nested lists": b'{"inputs": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        "nested objects": b'{"a": ' * 20_000 + b"1" + b"}" * 20_000,
        "an open nest": b"[" * 100_000,
        "a member twice": b'{"inputs": [], "inputs": 1}',
        "10,000 members": orjson.dumps({str(n): n for n in range(10_000)}),
        "broken UTF-8": b'{"inputs": "\xff\xfe"}',
        "half a surrogate": b'{"id": "\\ud800", "inputs": []}',
        "a zero in a text": b'{"id": "a\\u0000b", "inputs": []}',
        "a byte order mark": b"\xef\xbb\xbf{}",
        "UTF-16": '{"inputs": []}'.encode("utf-16"),
        "NaN": b'{"inputs": NaN}',
        "a number of 100,000 digits": b'{"inputs": ' + b"9" * 100_000 + b"}",
        "inputs of null": b'{"inputs": null}',
        "inputs of an object": b'{"inputs": {}}',
        "inputs of numbers": b'{"inputs": [1, 2]}',
        "inputs of nothing": b'{"inputs": []}',
        "an id of 1 MB": orjson.dumps({**infer_body(), "id": "x" * (1 << 20)}),
        "an id that is a list": orjson.dumps({**infer_body(), "id": [[]]}),
        "parameters of a text": orjson.dumps({**infer_body(), "parameters": "x"}),
        "a timeout of 2^70": orjson.dumps(infer_body())[:-1]
        + b',"parameters":{"timeout":%d}}' % 2**70,
        "outputs of null": orjson.dumps({**infer_body(), "outputs": None}),
        "outputs without names": orjson.dumps({**infer_body(), "outputs": [{}, {}]}),
        "an unknown output": orjson.dumps({**infer_body(), "outputs": [{"name": "z"}]}),
        "an output 1,000 times": orjson.dumps({**infer_body(), "outputs": [{"name": "y"}] * 1000}),
    }
    for name, body in bodies.items():
        yield Case(f"JSON: {name}", request(INFER, body))


def _tensor(**changes: object) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2], **changes}
    found = {"inputs": [{key: value for key, value in tensor.items() if value != "absent"}]}
    # Large numbers are no numbers to orjson.
    return json.dumps(found).encode()


def _tensors() -> Iterator[Case]:
    bodies = {
        "no name": _tensor(name="absent"),
        "a name of null": _tensor(name=None),
        "an unknown name": _tensor(name="z"),
        "no datatype": _tensor(datatype="absent"),
        "an unknown datatype": _tensor(datatype="FP33"),
        "another datatype": _tensor(datatype="INT64"),
        "a datatype of texts": _tensor(datatype="BYTES", data=["a", "b"]),
        "no shape": _tensor(shape="absent"),
        "a shape of nothing": _tensor(shape=[]),
        "a shape of a text": _tensor(shape="2"),
        "a shape of fractions": _tensor(shape=[1.0, 2.0]),
        "a shape of truths": _tensor(shape=[True, 2]),
        "a negative shape": _tensor(shape=[-1, 2]),
        "two negatives": _tensor(shape=[-1, -2]),
        "a shape of zero": _tensor(shape=[0, 2], data=[]),
        "a shape of zero with data": _tensor(shape=[0, 2]),
        "zero times much": _tensor(shape=[0, 2**62], data=[]),
        "a shape that wraps": _tensor(shape=[2**32, 2**32]),
        "a shape that wraps to 2": _tensor(shape=[2**63 + 1, 2]),
        "1,000 axes": _tensor(shape=[1] * 1000 + [2]),
        "a higher rank": _tensor(shape=[1, 1, 2]),
        "no data": _tensor(data="absent"),
        "data of null": _tensor(data=None),
        "data of an object": _tensor(data={}),
        "too little data": _tensor(data=[1]),
        "too much data": _tensor(data=[1, 2, 3]),
        "data of texts": _tensor(data=["1", "2"]),
        "data of truths": _tensor(data=[True, False]),
        "data with null": _tensor(data=[1, None]),
        "ragged data": _tensor(shape=[2, 2], data=[[1], [2, 3, 4]]),
        "data nested too deep": _tensor(data=[[[1, 2]]]),
        "mixed nesting": _tensor(data=[1, [2]]),
        "data beyond FP32": _tensor(data=[1e300, -1e300]),
        "the same input twice": orjson.dumps({"inputs": infer_body()["inputs"] * 2}),  # type: ignore[operator]
        "1,000 inputs": orjson.dumps({"inputs": infer_body()["inputs"] * 1000}),  # type: ignore[operator]
    }
    for number in LARGE:
        bodies[f"{number} rows"] = _tensor(shape=[number, 2])
        bodies[f"INT64 of {number}"] = _tensor(datatype="INT64", shape=[1], data=[number])
        bodies[f"{number} bytes announced"] = _tensor(
            data="absent", parameters={"binary_data_size": number}
        )
    for name, body in bodies.items():
        path = COUNTS if name.startswith("INT64") else INFER
        yield Case(f"tensor: {name}", request(path, body))


def _binary() -> Iterator[Case]:
    def binary(head: dict[str, object], raw: bytes, length: object = None) -> bytes:
        text = orjson.dumps(head)
        said = len(text) if length is None else length
        return request(INFER, text + raw, head=f"{BINARY}: {said}\r\n")

    def call(size: object, **changes: object) -> dict[str, object]:
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], **changes}
        return {"inputs": [{**tensor, "parameters": {"binary_data_size": size}}]}

    for length in (
        0,
        -1,
        1,
        10**6,
        2**31,
        2**63,
        2**64,
        "x",
        "",
        "1.5",
        "+5",
        "0x10",
        "1e2",
        "5, 5",
    ):
        yield Case(f"binary: a head of {length!r}", binary(call(8), bytes(8), length))
    sizes: tuple[object, ...] = (
        0, 1, 7, 9, -1, 2**31 - 1, 2**63 - 1, True, None, "8", 8.0, [8], {},
    )  # fmt: skip
    for size in sizes:
        yield Case(f"binary: {size!r} bytes of 8", binary(call(size), bytes(8)))
    yield Case("binary: too few bytes", binary(call(8), bytes(4)))
    yield Case("binary: bytes left over", binary(call(8), bytes(20)))
    yield Case("binary: bytes and numbers", binary(call(8, data=[1, 2]), bytes(8)))
    texts = call(8, datatype="BYTES", shape=[1])
    for said in (0, 5, 2**31, 2**32 - 1):
        raw = said.to_bytes(4, "little") + b"abcd"
        yield Case(f"binary: a text of {said} bytes in 4", binary(texts, raw))


def _encodings() -> Iterator[Case]:
    good = orjson.dumps(infer_body())
    packed = gzip.compress(good)
    bomb = gzip.compress(bytes(200 << 20), 9)
    bodies = {
        "no gzip": ("gzip", good),
        "half a gzip": ("gzip", packed[:-9]),
        "a gzip with a wrong sum": ("gzip", packed[:-8] + b"\0" * 8),
        "a gzip and more": ("gzip", packed + b"more"),
        "a gzip of nothing": ("gzip", gzip.compress(b"")),
        "a gzip in a gzip": ("gzip", gzip.compress(packed)),
        "a bomb": ("gzip", bomb),
        "a bomb in a bomb": ("gzip", gzip.compress(bomb)),
        "no deflate": ("deflate", good),
        "a bomb by deflate": ("deflate", zlib.compress(bytes(200 << 20), 9)),
        "an unknown coding": ("br", good),
        "two codings": ("gzip, gzip", gzip.compress(packed)),
        "an empty coding": ("", good),
        "a coding of 1 kB": ("x" * 1000, good),
    }
    for name, (coding, body) in bodies.items():
        head = f"content-encoding: {coding}\r\n"
        yield Case(f"encoding: {name}", request(INFER, body, head=head))


def _v1() -> Iterator[Case]:
    bodies = {
        "no instances": b"{}",
        "instances of null": b'{"instances": null}',
        "no instance": b'{"instances": []}',
        "a text": b'{"instances": ["a"]}',
        "ragged": b'{"instances": [[1, 2], [3]]}',
        "nested": b'{"instances": [[[[[[1, 2]]]]]]}',
        "100,000 instances": b'{"instances": [' + b"[1,2]," * 99_999 + b"[1,2]]}",
        "both forms": b'{"instances": [[1, 2]], "inputs": [[1, 2]]}',
        "a base64 that is none": b'{"instances": [{"b64": "!!!"}]}',
        "an open nest": b'{"instances": ' + b"[" * 50_000,
        "no picture": b"\x89PNG\r\n\x1a\n" + b"\0" * 50,
    }
    for name, body in bodies.items():
        kind = "image/png" if name == "no picture" else "application/json"
        yield Case(f"V1: {name}", request(PREDICT, body, head=f"content-type: {kind}\r\n"))
    yield Case("V1: an unknown verb", request("/v1/models/doubler:frob", b"{}"))
    yield Case("V1: form data", request(PREDICT, b"a=b", head="content-type: multipart/x\r\n"))
