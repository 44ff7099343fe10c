"""The application as a whole: what it is built of, and how it begins and ends."""

from __future__ import annotations

import os
from pathlib import Path

from service.app import create_app
from service.settings import Settings
from tests.support import models
from tests.support.clients import serving


async def test_a_name_that_is_no_text_harms_nobody(tmp_path: Path) -> None:
    """One file whose name is not UTF-8 is listed as failed; index, metrics and others answer."""
    models.write_doubler(tmp_path / "doubler.onnx")
    models.write_doubler(tmp_path / os.fsdecode(b"caf\xe9.onnx"))
    async with serving(create_app(Settings(repository=tmp_path))) as client:
        assert (await client.get("/v1/models")).json()["models"] == [r"caf\udce9", "doubler"]
        assert r'model_name="caf\\udce9"' in (await client.get("/metrics")).text
        assert (await client.get("/v2/health/ready")).json() == {"ready": True}
        answer = await client.get(r"/v1/models/caf\udce9/info")
        assert "cannot be a model's name" in answer.json()["reason"]
