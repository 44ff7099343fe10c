"""What the models that are served now take and answer, as OpenAPI operations of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from service.contract import Contract, ImagePipeline, SequencePipeline, TextPipeline
from service.registry import ModelView, State
from service.showcase import Showcase, ShownTensor
from service.tensors import TensorSpec
from service.web import schemas, snippets

Document = dict[str, Any]

_PREDICT = "/v1/models/{name}:predict"
_INFER = "/v2/models/{name}/infer"
_SHOWN_OF_LONG = 3
_IN_JSON = "The tensors are those of the graph, after all pre-processing."
_IN_BINARY = f"{_IN_JSON} Half precision has no form in JSON: send and ask for binary tensors."
_INVENTED = (
    "This model has recorded no inputs: the example is made up from its contract, and the model "
    "may find its values odd."
)
_TASKS = {
    "classification": "Classifies {what} into {labels} labels.",
    "regression": "Answers numbers for {what}.",
    "tensor": "Runs the graph as it is on {what}.",
}


def answering(views: Sequence[ModelView]) -> tuple[ModelView, ...]:
    """Return of each name the version that answers where none is named, if it has an example."""
    newest = {
        view.name: view
        for view in sorted(views, key=lambda view: view.version)
        if view.state is State.READY and view.showcase is not None
    }
    return tuple(newest[name] for name in sorted(newest))


def with_models(document: Document, views: Sequence[ModelView]) -> Document:
    """Return the general document with two paths, a tag and a summary for each of these models."""
    paths = dict(document["paths"])
    tags, summaries = [], []
    ids: set[str] = set()
    for view in views:
        if view.showcase is None:
            continue
        about = _summary(view, view.showcase)
        summaries.append(about)
        tags.append({"name": _tag(view), "description": about["summary"]})
        identity = _unique(re.sub(r"\W", "_", view.name, flags=re.ASCII), ids)
        for path, operation, general in (
            (about["predict"], _predict(view, view.showcase), _PREDICT),
            (about["infer"], _infer(view, view.showcase), _INFER),
        ):
            verb = "predict" if general == _PREDICT else "infer"
            head = {"operationId": f"{verb}_model_{identity}", "tags": [_tag(view)]}
            same = document["paths"][general]["post"]
            responses = _errors(same) | operation["responses"]
            paths[path] = {"post": {**head, **_secured(operation, same), "responses": responses}}
    return {
        **document,
        "paths": paths,
        "tags": tags,
        "x-models": summaries,
        "x-server": snippets.BASE,
    }


def _tag(view: ModelView) -> str:
    return f"model {view.name}"


def _unique(word: str, taken: set[str]) -> str:
    """Return the word, with a number behind it if another name has become the same word."""
    found, number = word, 2
    while found in taken:
        found, number = f"{word}_{number}", number + 1
    taken.add(found)
    return found


def _errors(operation: Mapping[str, Any]) -> Document:
    return {status: one for status, one in operation["responses"].items() if status != "200"}


def _secured(operation: Document, same: Mapping[str, Any]) -> Document:
    """Return an operation with the key that the general one asks for, if it does."""
    if not same.get("security"):
        return operation
    secured = {**operation, "security": same["security"]}
    if "x-codeSamples" in operation:
        secured["x-codeSamples"] = [
            {**one, "source": snippets.with_key(one["source"])}
            for one in operation["x-codeSamples"]
        ]
    return secured


def _summary(view: ModelView, example: Showcase) -> Document:
    contract, name = example.contract, quote(view.name, safe="")
    what, how = describe_input(contract)
    task = _TASKS[contract.task].format(what=what, labels=len(contract.labels or ()))
    return {
        "name": view.name,
        "version": view.version,
        "summary": task,
        "input": how,
        "labels": contract.labels or [],
        "note": _INVENTED if example.invented else "",
        "inputs": _lines(contract.input_specs),
        "outputs": _lines(contract.output_specs),
        "predict": f"/v1/models/{name}:predict",
        "infer": f"/v2/models/{name}/infer",
        "info": f"/v1/models/{name}/info",
    }


def _lines(specs: Sequence[TensorSpec]) -> list[dict[str, str]]:
    return [{"name": spec.name, "tensor": schemas.describe_tensor(spec)} for spec in specs]


def describe_input(contract: Contract) -> tuple[str, str]:
    """Return what a model looks at, and in which form a V1 instance holds it."""
    kind = contract.pipeline
    if isinstance(kind, ImagePipeline):
        colour = "grey" if kind.channels == 1 else "RGB"
        axes = "[H, W]" if kind.channels == 1 else "[H, W, 3]"
        return "pictures", (
            'A PNG or JPEG file, as the body or as `{"b64": "..."}`, or pixels 0-255 as '
            f"`{axes}`, of any size; the model sees {kind.height} x {kind.width}, {colour}."
        )
    if isinstance(kind, TextPipeline):
        read = kind.tokenizer.max_chars
        return "texts", f"A text; its first {read} characters are read."
    if isinstance(kind, SequencePipeline):
        return "series", (
            f"A series of 1 to {kind.max_length} steps, each an array of {kind.channels} numbers."
        )
    if len(contract.inputs) == 1:
        return "tensors", f"One row of the input '{contract.inputs[0].name}'."
    return "tensors", "An object with one row for each input."


def _predict(view: ModelView, example: Showcase) -> Document:
    contract = example.contract
    path = f"/v1/models/{quote(view.name, safe='')}:predict"
    body: object = {"instances": [example.instance]}
    known = example.instance is not None
    request = _content(schemas.predict_request(contract), body if known else None)
    content = {"application/json": request}
    if isinstance(contract.pipeline, ImagePipeline):
        for kind in ("image/png", "image/jpeg"):
            content[kind] = {"schema": {"type": "string", "format": "binary"}}
    answer = None if example.answer is None else {"predictions": [example.answer]}
    operation = _operation(
        f"Ask '{view.name}' with raw inputs (V1)",
        describe_input(contract)[1],
        content,
        _content(schemas.predict_answer(contract), answer),
    )
    if known:
        operation["x-codeSamples"] = _samples(
            snippets.curl(path, body), snippets.python_predict(view.name, example.instance)
        )
    return operation


def _infer(view: ModelView, example: Showcase) -> Document:
    contract, inputs, outputs = example.contract, example.inputs, example.outputs
    path = f"/v2/models/{quote(view.name, safe='')}/infer"
    specs = (*contract.input_specs, *contract.output_specs)
    has_json = not any(spec.datatype in schemas.NO_JSON for spec in specs)
    whole = all(one.data is not None for one in inputs)
    body: Document = {"inputs": [_member(one) for one in inputs]}
    request = _content(schemas.infer_request(contract), body if has_json and whole else None)
    if has_json and not whole:
        request["examples"] = {"shortened": _shortened(inputs)}
    answer = None
    if has_json and outputs and all(one.data is not None for one in outputs):
        answer = {
            "model_name": view.name,
            "model_version": str(view.version),
            "outputs": [_member(one) for one in outputs],
        }
    operation = _operation(
        f"Run '{view.name}' on its own tensors (V2)",
        _IN_JSON if has_json else _IN_BINARY,
        {"application/json": request},
        _content(schemas.infer_answer(contract), answer),
    )
    if inputs:
        line = snippets.curl(path, body) if whole else snippets.curl_filled(path, inputs)
        program = snippets.python_infer(view.name, inputs)
        operation["x-codeSamples"] = _samples(line if has_json else "", program)
    return operation


def _operation(summary: str, description: str, content: Document, answer: Document) -> Document:
    return {
        "summary": summary,
        "description": description,
        "parameters": [],
        "requestBody": {"required": True, "content": content},
        "responses": {"200": {"description": "OK", "content": {"application/json": answer}}},
    }


def _content(schema: schemas.Schema, example: object) -> Document:
    if example is None:
        return {"schema": schema}
    return {"schema": schema, "examples": {"example": {"value": example}}}


def _member(tensor: ShownTensor, *, shortest: int | None = None) -> Document:
    data = tensor.data if shortest is None else [tensor.fill] * min(shortest, tensor.elements)
    return {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": list(tensor.shape),
        "data": data,
    }


def _shortened(inputs: Sequence[ShownTensor]) -> Document:
    counts = ", ".join(f"'{one.name}' {one.elements}" for one in inputs)
    members = [_member(one, shortest=_SHOWN_OF_LONG) for one in inputs]
    return {"summary": f"Shortened; data must hold: {counts}", "value": {"inputs": members}}


def _samples(curl: str, python: str) -> list[Document]:
    samples = [{"lang": "Shell", "label": "curl", "source": curl}] if curl else []
    return [*samples, {"lang": "Python", "label": "Python", "source": python}]
