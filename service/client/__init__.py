"""Talk to an onnxport server, or to any other that speaks its protocols, with numpy in and out.

>>> from service.client import Client
>>> with Client("http://127.0.0.1:8080", api_key=key, timeout=5) as client:
...     client.wait_until_ready()
...     client.predict("mails", ["See you at noon"])
...     client.infer("tiny", {"values": np.zeros((1, 4), np.float32)}).outputs["scores"]

`AsyncClient` is the same with ``async with`` and ``await``.
"""

from __future__ import annotations

from service.client.aio import AsyncClient
from service.client.errors import (
    BadAnswer,
    ClientError,
    ConnectionFailed,
    ConnectionLost,
    DeadlineExceeded,
    InvalidInput,
    NotAllowed,
    NotFound,
    Refused,
    ServerFailed,
    Unavailable,
)
from service.client.sync import Client
from service.client.values import (
    Answer,
    BFloat16,
    IndexEntry,
    InferResult,
    ModelMetadata,
    Plain,
    Prediction,
    ServerMetadata,
)

__all__ = [
    "Answer",
    "AsyncClient",
    "BFloat16",
    "BadAnswer",
    "Client",
    "ClientError",
    "ConnectionFailed",
    "ConnectionLost",
    "DeadlineExceeded",
    "IndexEntry",
    "InferResult",
    "InvalidInput",
    "ModelMetadata",
    "NotAllowed",
    "NotFound",
    "Plain",
    "Prediction",
    "Refused",
    "ServerFailed",
    "ServerMetadata",
    "Unavailable",
]
