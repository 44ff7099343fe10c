"""Real servers, started as the hosting platforms start them."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx
import pytest

from service.__main__ import main
from service.app import create_app
from service.settings import Settings
from tests.support import models
from tests.support.clients import serving
from tests.support.servers import PATIENCE

RIGHT = [[0, 255], [0, 255]]
_FOREIGN = ("ONNXPORT_", "AIP_", "SAGEMAKER_", "STORAGE_URI")


@contextmanager
def hosted(
    folder: Path, environment: Mapping[str, str], *arguments: str
) -> Iterator[tuple[httpx.Client, dict[str, object]]]:
    """Start `serve` in a folder and yield a client once it is ready, and its line at start.

    The line's member `before` holds what was said before it.  A platform opens the server to every
    address; here it stays on this machine.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
    # Nobody reads on while it is asked whether it is ready: a full pipe would stop it.
    quiet = {"ONNXPORT_HOST": "127.0.0.1", "ONNXPORT_ACCESS_LOG": "false"}
    ours = {"PYTHONPATH": str(Path(__file__).parents[2]), **quiet}
    command = [sys.executable, "-m", "service", "serve", *arguments]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=folder, env={**kept, **ours, **environment}
    ) as process:
        try:
            assert process.stderr is not None
            first = _line_at_start(process.stderr)
            with httpx.Client(base_url=str(first["address"]), timeout=PATIENCE) as client:
                while client.get("/readyz").status_code != 200:
                    assert process.poll() is None
                yield client, first
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()


def _line_at_start(stderr: IO[str]) -> dict[str, object]:
    before: list[str] = []
    for text in stderr:
        line = json.loads(text)
        if line["message"] == "listening":
            return {**line, "before": before}
        before.append(line["message"])
    raise AssertionError(before)


def test_sagemaker(tmp_path: Path) -> None:
    """`serve` with its variables answers /ping and /invocations on the port it was given."""
    models.picture_bundle(tmp_path)
    models.write_doubler(tmp_path / "doubler.onnx")
    environment = {
        "SAGEMAKER_BIND_TO_PORT": "0",
        "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "pictures",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "1",
        "ONNXPORT_REPOSITORY": str(tmp_path),
        "ONNXPORT_MODEL_NAME": "digits",
    }
    with hosted(tmp_path, environment) as (client, first):
        assert first["platform"] == "sagemaker"
        assert first["before"] == ["no model is called digits: several keep their names"]
        assert client.get("/ping").status_code == 200
        headers = {"content-type": "image/png"}
        answer = client.post("/invocations", content=models.png(RIGHT), headers=headers)
        assert answer.json()["predictions"][0]["label"] == "right"
        headers = {"content-type": "text/csv", "X-Amzn-SageMaker-Target-Model": "doubler"}
        answer = client.post("/invocations", content="1,2\n3,4\n", headers=headers)
        assert answer.json() == {"predictions": [[2, 4], [6, 8]]}
        large = client.post("/invocations", content=b" " * ((1 << 20) + 1))
        assert large.status_code == 413


def test_vertex(tmp_path: Path) -> None:
    """Its variables name port, routes and models."""
    models.picture_bundle(tmp_path / "artifacts")
    environment = {
        "AIP_MODE": "PREDICTION",
        "AIP_HTTP_PORT": "0",
        "AIP_HEALTH_ROUTE": "/v1/endpoints/1/deployedModels/2",
        "AIP_PREDICT_ROUTE": "/v1/endpoints/1/deployedModels/2:predict",
        "AIP_STORAGE_URI": str(tmp_path / "artifacts"),
    }
    with hosted(tmp_path, environment) as (client, first):
        assert first["platform"] == "vertex"
        assert client.get(environment["AIP_HEALTH_ROUTE"]).status_code == 200
        body = {"instances": [RIGHT], "parameters": {}}
        answer = client.post(environment["AIP_PREDICT_ROUTE"], json=body)
        assert answer.json()["predictions"][0]["label"] == "right"


def test_kserve(tmp_path: Path) -> None:
    """Its flags, in both ways to write them, serve whatever the folder holds under its name."""
    models.write_doubler(tmp_path / "7" / "model.onnx")
    arguments = (
        "--model_name=digits",
        "--model_dir",
        str(tmp_path),
        "--http_port=0",
        "--grpc_port=9",
    )
    with hosted(tmp_path, {"STORAGE_URI": "s3://bucket/net"}, *arguments) as (client, first):
        assert first["platform"] == "kserve"
        assert first["models"] == ["digits"]
        assert first["before"] == ["flags of KServe without a meaning here: --grpc_port"]
        assert client.get("/v1/models/digits").json()["ready"] is True
        assert client.get("/v2/models/digits/versions/7/ready").status_code == 200
        answer = client.post("/v1/models/digits:predict", json={"instances": [[1, 2]]})
        assert answer.json() == {"predictions": [[2, 4]]}


@pytest.mark.parametrize(
    ("environment", "arguments", "text"),
    [
        ({"AIP_STORAGE_URI": "gs://bucket/net"}, [], "gs://bucket/net is not mounted"),
        ({"SAGEMAKER_MULTI_MODEL": "true"}, [], "SAGEMAKER_MULTI_MODEL"),
        ({"SAGEMAKER_BIND_TO_PORT": "http"}, [], "SAGEMAKER_BIND_TO_PORT: "),
        ({}, ["--predictor_host=x"], "--predictor_host: this server is a predictor"),
        ({}, ["--model_dir=a", "b"], "either --repository or --model_dir"),
        ({}, ["--http_port=1", "--port=2"], "either --port or --http_port"),
    ],
)
def test_what_a_platform_cannot_have_is_said_at_start(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environment: dict[str, str],
    arguments: list[str],
    text: str,
) -> None:
    """One line that names the variable or the flag, and exit code 2."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main(["serve", *arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert text in error


def test_a_flag_that_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    """KServe's habit of taking every flag hides slips of the pen."""
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--modelname=x"])
    assert ended.value.code == 2
    assert "--modelname" in capsys.readouterr().err


async def test_an_open_server_warns_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The line names the address and who asked for it."""
    models.write_doubler(tmp_path / "doubler.onnx")
    settings = Settings(repository=tmp_path, host="0.0.0.0", allow_open=True, platform="sagemaker")
    with caplog.at_level(logging.WARNING, logger="onnxport"):
        async with serving(create_app(settings)):
            pass
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("listening on 0.0.0.0 without access control, as SageMaker asks")
