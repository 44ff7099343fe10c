"""Hold a server's answers against ONNX Runtime's, alone and side by side."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from benchmarks.dialects import Dialect, Request
from benchmarks.errors import BenchmarkError, ServerUnusable
from benchmarks.models import SAMPLES, Batch
from benchmarks.servers import Server, ask

RELATIVE = 1e-3
ABSOLUTE = 1e-5


def difference(got: Batch, expected: Batch) -> str:
    """Return what is wrong with an answer in words, or nothing."""
    for name, wanted in expected.items():
        if name not in got:
            return f"output '{name}' is missing, got {sorted(got)}"
        if got[name].shape != wanted.shape:
            return f"output '{name}' has shape {got[name].shape}, expected {wanted.shape}"
        if not np.allclose(got[name], wanted, RELATIVE, ABSOLUTE):
            largest = np.abs(got[name] - wanted).max()
            return f"output '{name}' differs by up to {largest:.3g}"
    return ""


def require_distinct(model: str, expected: Sequence[Batch]) -> None:
    """Raise BenchmarkError if an answer given to the wrong caller could pass for right."""
    for first, second in pairwise(expected):
        if not difference(first, second):
            raise BenchmarkError(f"model '{model}': two samples have the same answer")


def check(
    server: Server, dialect: Dialect, requests: Sequence[Request], expected: Sequence[Batch]
) -> None:
    """Send all requests one by one, then all at once; raise ServerUnusable at a wrong answer."""
    for request, wanted in zip(requests, expected, strict=True):
        _check_one(server, dialect, request, wanted)
    with ThreadPoolExecutor(SAMPLES) as pool:
        futures = [
            pool.submit(_check_one, server, dialect, request, wanted)
            for request, wanted in zip(requests, expected, strict=True)
        ]
        for future in futures:
            future.result()


def _check_one(server: Server, dialect: Dialect, request: Request, expected: Batch) -> None:
    status, headers, body = ask(server.port, request)
    if status != 200:
        text = body[:300].decode(errors="replace")
        raise ServerUnusable(f"{request.path}: status {status}, {text}")
    try:
        wrong = difference(dialect.read(headers, body), expected)
    except (KeyError, ValueError, TypeError) as error:
        raise ServerUnusable(f"{request.path}: {error!r} in the answer {body[:200]!r}") from error
    if wrong:
        raise ServerUnusable(f"{request.path}: a wrong answer: {wrong}")
