"""A real server that was asked for a GPU on a machine without one."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from service.cuda import look, why_not
from tests.support import models
from tests.support.servers import PATIENCE, real_server


def test_a_promise_is_kept_or_told(tmp_path: Path) -> None:
    """Where the CPU may stand in it does and says so; where it may not, the model's load fails."""
    if not why_not(look()):
        pytest.skip("this machine has CUDA")
    models.text_bundle(tmp_path)
    models.text_bundle(tmp_path, "only")
    (tmp_path / "only" / "serving.toml").write_text('providers = ["cuda"]\n')
    with (
        real_server(tmp_path, "--workers", 1, "--providers", "cuda,cpu") as server,
        httpx.Client(base_url=server.address, timeout=PATIENCE) as client,
    ):
        while not (said := server.line())["message"].startswith("model texts version 1: runs on"):
            pass
        assert said["level"] == "warning"
        assert "runs on 'cpu' instead: provider 'cuda': " in said["message"]
        server.logged("ready")
        runtime = client.get("/v1/models/texts/info").json()["runtime"]
        assert (runtime["provider"], runtime["fell_back"]) == ("cpu", True)
        labels = 'model_name="texts",model_version="1"'
        assert f"onnxport_model_fallback{{{labels}}} 1.0" in client.get("/metrics").text
        refused = client.get("/v2/models/only/ready")
        assert refused.status_code == 503
        assert "provider 'cuda': " in refused.text
