"""One application with tiny real models for all tests of the HTTP side."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from io import StringIO
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from onnx import TensorProto

from service import logs
from service.app import create_app
from service.settings import Settings
from tests.support import models
from tests.support.clients import on_a_socket, serving


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with three bundles, bare files and one that cannot load."""
    root = tmp_path_factory.mktemp("repository")
    models.picture_bundle(root)
    models.series_bundle(root)
    models.text_bundle(root)
    models.write_doubler(root / "doubler.onnx")
    models.write_sum_and_difference(root / "pair.onnx")
    models.write_divider(root / "divider.onnx")
    models.write_embedding(root / "embedding.onnx")
    models.write_doubler(root / "bytes8.onnx", TensorProto.UINT8)
    models.write_identity(root / "words.onnx", TensorProto.STRING, ["n"])
    models.write_identity(root / "half.onnx", TensorProto.FLOAT16)
    models.write_identity(root / "brain.onnx", TensorProto.BFLOAT16)
    models.write_doubler(root / "counts.onnx", TensorProto.INT64, ["n"])
    (root / "broken.onnx").write_bytes(b"this is no model")
    return root


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def asgi_client(repository: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of a server over the repository, all models tried; 1 MiB bodies at most."""
    settings = Settings(repository=repository, max_body_bytes=1 << 20)
    async with serving(create_app(settings)) as connected:
        yield connected


@pytest.fixture
def client(asgi_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """Return that client; modules that ask by both roads have their own."""
    return asgi_client


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def direct_client(repository: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of such a server whose calls go through a socket and our protocol class."""
    app = create_app(Settings(repository=repository, max_body_bytes=1 << 20))
    async with serving(app), on_a_socket(app) as connected:
        yield connected


@pytest.fixture
def log() -> Iterator[StringIO]:
    """Return what is logged as JSON lines while the test runs."""
    root, ours = logging.getLogger(), logging.getLogger("onnxport")
    before = (root.handlers[:], root.level, ours.level)
    stream = StringIO()
    logs.configure(level="debug", style="json", stream=stream)
    yield stream
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])
