"""Command lines and programs that ask a model for its example, ready to be pasted."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import orjson

from service.showcase import ShownTensor
from service.tensors import DATATYPES

# The address stands here until a caller's own address of the server is known.
BASE = "http://onnxport.invalid"
_CURL = "curl -sS -H 'Content-Type: application/json'"


def curl(path: str, body: object) -> str:
    """Return a line for a shell; ``path`` is percent-encoded."""
    return f"{_CURL} -d {shlex.quote(orjson.dumps(body).decode())} {BASE}{path}"


def curl_filled(path: str, inputs: Sequence[ShownTensor]) -> str:
    """Return a line for tensors that are too long to be written out: Python writes the body."""
    tensors = ", ".join(
        f'{{"name": {_text(one.name)}, "datatype": "{one.datatype}", "shape": {list(one.shape)}, '
        f'"data": [{one.fill!r}] * {one.elements}}}'
        for one in inputs
    )
    code = f'import json; print(json.dumps({{"inputs": [{tensors}]}}))'
    return f"python3 -c {shlex.quote(code)} | {_CURL} -d @- {BASE}{path}"


def with_key(source: str) -> str:
    """Return a sample of this module for a server that asks for a key, read from a variable."""
    opened = f'Client("{BASE}")'
    if opened in source:
        keyed = f'Client("{BASE}", api_key=os.environ["KEY"])'
        return "import os\n" + source.replace(opened, keyed)
    return source.replace(_CURL, f'{_CURL} -H "X-API-Key: $KEY"', 1)


def python_predict(model: str, instance: object) -> str:
    """Return a program for the client of this package that sends one instance."""
    picture = isinstance(instance, dict) and instance.keys() == {"b64"}
    lines = ["from service.client import Client", ""]
    shown = repr(instance)
    if picture and isinstance(instance, dict):
        lines = ["import base64", "", *lines]
        shown = f'base64.b64decode("{instance["b64"]}")'
    return "\n".join(
        [
            *lines,
            f'with Client("{BASE}") as client:',
            f"    print(client.predict({model!r}, [{shown}]))",
        ]
    )


def python_infer(model: str, inputs: Sequence[ShownTensor]) -> str:
    """Return a program for the client of this package that sends the tensors."""
    names = ["BFloat16", "Client"] if any(one.datatype == "BF16" for one in inputs) else ["Client"]
    return "\n".join(
        [
            "import numpy as np",
            "",
            f"from service.client import {', '.join(names)}",
            "",
            "inputs = {",
            *(f"    {one.name!r}: {_array(one)}," for one in inputs),
            "}",
            f'with Client("{BASE}") as client:',
            f"    print(client.infer({model!r}, inputs).outputs)",
        ]
    )


def _array(tensor: ShownTensor) -> str:
    shape = tuple(tensor.shape)
    kind = _dtype(tensor.datatype)
    if tensor.data is None:
        array = f"np.full({shape}, {tensor.fill!r}, {kind})"
    else:
        elements = ", ".join("np.nan" if one is None else repr(one) for one in tensor.data)
        array = f"np.array([{elements}], {kind}).reshape({shape})"
    return f"BFloat16.from_float32({array})" if tensor.datatype == "BF16" else array


def _dtype(datatype: str) -> str:
    if datatype == "BYTES":
        return "object"
    return "np.float32" if datatype == "BF16" else f"np.{DATATYPES[datatype].numpy.name}"


def _text(value: str) -> str:
    return orjson.dumps(value).decode()
