"""Generated bodies: calls that were right once, damaged in the ways that callers manage."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from tests.faults.corpus import BINARY, INFER, PREDICT
from tests.faults.rig import request

_NUMBERS = (
    -1, 0, 1, 2, 7, 8, 9, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 1e308, -0.0, 0.5,
    float("nan"), float("inf"),
)  # fmt: skip
_WORDS = (
    "", "x", "y", "FP32", "FP16", "INT64", "BYTES", "BOOL", "é", "\0", "\ud800", "a" * 300,
    None, True, False,
)  # fmt: skip
Mutate = Callable[[Random, Any], Any]


def bodies(seed: int, count: int) -> Iterator[bytes]:
    """Yield so many requests; the same for the same seed."""
    random = Random(seed)
    for _ in range(count):
        yield _one(random)


def _one(random: Random) -> bytes:
    kind = random.random()
    if kind < 0.25:
        return _binary(random)
    path = PREDICT if kind < 0.4 else INFER
    call = {"instances": [[1, 2], [3, 4]]} if path == PREDICT else _call(random)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        call = _damaged(random, call)
    return _sent(random, path, _text(call))


def _call(random: Random) -> dict[str, Any]:
    rows = random.choice((1, 2, 5))
    tensor = {"name": "x", "datatype": "FP32", "shape": [rows, 2], "data": [0.5] * rows * 2}
    return {"id": "a", "inputs": [tensor], "outputs": [{"name": "y"}], "parameters": {}}


def _text(value: object) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _value(random: Random) -> object:
    kind = random.randrange(5)
    if kind == 0:
        return random.choice(_NUMBERS)
    if kind == 1:
        return random.choice(_WORDS)
    if kind == 2:
        return [random.choice(_NUMBERS) for _ in range(random.randrange(5))]
    if kind == 3:
        return {str(random.choice(_WORDS)): random.choice(_NUMBERS)}
    deep: object = random.choice(_NUMBERS)
    for _ in range(random.choice((1, 3, 31, 32, 33, 40))):
        deep = [deep]
    return deep


def _damaged(random: Random, value: Any) -> Any:
    """Return a JSON value with one place of it changed, removed, or doubled."""
    if isinstance(value, dict) and value and random.random() < 0.85:
        key = random.choice(list(value))
        changed = dict(value)
        if random.random() < 0.12:
            del changed[key]
        elif random.random() < 0.1:
            changed[str(random.choice(_WORDS))] = _value(random)
        else:
            changed[key] = _damaged(random, value[key])
        return changed
    if isinstance(value, list) and value and random.random() < 0.85:
        at = random.randrange(len(value))
        kind = random.random()
        if kind < 0.15:
            return value[:at] + value[at + 1 :]
        if kind < 0.3:
            return value[:at] + [value[at]] * random.choice((2, 3, 50)) + value[at + 1 :]
        return [*value[:at], _damaged(random, value[at]), *value[at + 1 :]]
    return _value(random)


def _binary(random: Random) -> bytes:
    size: object = 8
    head: dict[str, Any] = {
        "inputs": [
            {
                "name": "x",
                "datatype": random.choice(("FP32", "FP32", "BYTES", "FP16", "UINT8")),
                "shape": [1, 2],
                "parameters": {"binary_data_size": size},
            }
        ],
        "parameters": {"binary_data_output": True},
    }
    if random.random() < 0.7:
        head = _damaged(random, head)
    text = _text(head)
    length: object = len(text)
    if random.random() < 0.3:
        length = random.choice((*_NUMBERS, len(text) - 1, len(text) + 1, len(text) + 8))
    raw = random.randbytes(random.choice((0, 4, 7, 8, 8, 8, 8, 9, 64)))
    return _sent(random, INFER, text + raw, f"{BINARY}: {length}\r\n")


def _sent(random: Random, path: str, body: bytes, head: str = "") -> bytes:
    """Return the body as it is, or cut, with bytes changed, packed, or in chunks."""
    kind = random.random()
    if kind < 0.1 and body:
        at = random.randrange(len(body))
        body = body[:at] + random.randbytes(random.choice((1, 2, 8))) + body[at + 1 :]
    elif kind < 0.15:
        body = body[: random.randrange(len(body) + 1)]
    elif kind < 0.25:
        packed = gzip.compress(body)
        if random.random() < 0.4:
            at = random.randrange(len(packed))
            packed = packed[:at] + random.randbytes(1) + packed[at + 1 :]
        return request(path, packed, head=f"{head}content-encoding: gzip\r\n")
    elif kind < 0.35:
        return _chunked(random, path, body, head)
    return request(path, body or b" ", head=head)


def _chunked(random: Random, path: str, body: bytes, head: str) -> bytes:
    parts = [f"POST {path} HTTP/1.1\r\nhost: faults\r\n{head}transfer-encoding: chunked\r\n\r\n"]
    content = parts[0].encode()
    while body:
        size = random.randrange(1, len(body) + 1)
        content += b"%x\r\n%b\r\n" % (size, body[:size])
        body = body[size:]
    return content + b"0\r\n\r\n"
