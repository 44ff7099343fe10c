"""One real server over a repository with a model of each kind, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import models
from tests.support.servers import PATIENCE, RealServer, real_server


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with three bundles, a bare file, and two models that cannot load."""
    root = tmp_path_factory.mktemp("repository")
    models.picture_bundle(root)
    models.series_bundle(root)
    models.text_bundle(root)
    models.write_doubler(root / "doubler.onnx")
    (root / "broken.onnx").write_bytes(b"this is no model")
    liar = models.picture_bundle(root, "liar")
    models.resealed(liar, labels=["a", "b", "c"], outputs=[_wide()])
    return root


def _wide() -> dict[str, object]:
    """Describe an output that the graph does not have."""
    return {"name": "scores", "datatype": "FP32", "shape": ["batch", 3]}


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[RealServer]:
    """Return a server whose good models are all ready."""
    with real_server(repository, "--max-body-bytes", 1 << 20) as running:
        running.logged("ready")
        yield running


@pytest.fixture
def client(server: RealServer) -> Iterator[httpx.Client]:
    """Return a client that is connected to the server by a socket."""
    with httpx.Client(base_url=server.address, timeout=PATIENCE) as connected:
        yield connected
