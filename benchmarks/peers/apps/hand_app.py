"""The server that `hand` starts: FastAPI, pydantic and ONNX Runtime, nothing else."""

import json
import os
from typing import Any

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel, create_model

_PYTHON = {"tensor(float)": (float, np.float32), "tensor(int64)": (int, np.int64)}


def open_session(file: str) -> ort.InferenceSession:
    """Open a model with one thread, because there is a worker a core."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def body_of(name: str, session: ort.InferenceSession) -> type[BaseModel]:
    """Return the type of ``{"inputs": {name: nested lists}}`` for a model."""
    fields: dict[str, Any] = {}
    for each in session.get_inputs():
        kind: Any = _PYTHON[each.type][0]
        for _ in each.shape:
            kind = list[kind]
        fields[each.name] = (kind, ...)
    inputs: Any = create_model(f"{name}_inputs", **fields)
    return create_model(f"{name}_body", inputs=(inputs, ...))


def add_route(app: FastAPI, name: str, session: ort.InferenceSession) -> None:
    """Answer ``POST /name``."""
    kinds = {each.name: _PYTHON[each.type][1] for each in session.get_inputs()}
    # Its author knows which output is wanted: the first.
    names = [each.name for each in session.get_outputs()[:1]]
    body_type = body_of(name, session)

    @app.post(f"/{name}")
    async def predict(body: body_type) -> dict[str, Any]:  # type: ignore[valid-type]  # made above
        inputs = {key: np.asarray(getattr(body.inputs, key), kind) for key, kind in kinds.items()}
        outputs = session.run(names, inputs)
        return {"outputs": {key: value.tolist() for key, value in zip(names, outputs, strict=True)}}


def create_app() -> FastAPI:
    """Serve the models that ``BENCHMARK_MODELS`` lists as JSON, name to file."""
    app = FastAPI()
    for name, file in json.loads(os.environ["BENCHMARK_MODELS"]).items():
        add_route(app, name, open_session(file))

    @app.get("/health")
    async def health() -> dict[str, bool]:
        return {"ok": True}

    return app


app = create_app()
