"""From settings to a guarded server: what is refused at the start, and what then holds."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from service.app import create_app
from service.errors import ConfigurationError
from service.registry import State
from service.settings import Settings
from service.sources import load_settings
from tests.support import models
from tests.support.access import Closed, bearer, secret, toml
from tests.support.apps import make_app
from tests.support.clients import client_of, on_a_socket
from tests.support.fakes import FakeModels, view
from tests.support.remote import running

INFER = "/v2/models/doubler/infer"
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository with one model."""
    root = tmp_path / "models"
    models.write_doubler(root / "doubler.onnx")
    return root


def refusal(**given: object) -> str:
    """Return the text with which settings are refused."""
    with pytest.raises(ConfigurationError) as caught:
        create_app(load_settings({"repository": "nothing", **given}), [])
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"tls_cert": "a.pem"}, ["tls_cert, tls_key", "both"]),
        ({"tls_key": "a.pem"}, ["both"]),
        ({"tls_client_ca": "a.pem"}, ["tls_client_ca", "tls_cert"]),
        ({"jwks_file": "j"}, ["jwt_audience", "jwt_issuer"]),
        ({"jwt_audience": "a", "jwt_issuer": "i"}, ["jwks_file"]),
        ({"jwt_algorithms": "RS256,none"}, ["--jwt-algorithms", "RS256"]),
        ({"jwt_algorithms": "HS256"}, ["--jwt-algorithms"]),
        ({"public": "health,predict"}, ["--public", "none, or names among health"]),
        ({"audit_predictions": "true"}, ["audit_log"]),
        ({"admin_port": "8080"}, ["admin_port 8080"]),
        ({"host": "0.0.0.0"}, ["--keys-file", "--allow-open"]),
        ({"admin_port": "9000", "admin_host": "0.0.0.0"}, ["0.0.0.0", "--allow-open"]),
        ({"keys": "nonsense"}, ["keys: not TOML"]),
        ({"keys_file": "none.toml"}, ["none.toml: No such file"]),
        ({"audit_log": "none/audit.log"}, ["audit_log: none/audit.log: No such file"]),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, object], parts: list[str]) -> None:
    """At the start, with the names of the settings."""
    text = refusal(**given)
    for part in parts:
        assert part in text


def test_other_addresses_need_no_further_word_with_keys() -> None:
    """Keys, or certificates of callers, are access control; a certificate of ours is none."""
    for given in (
        {"keys": toml("a")},
        {"keys_file": "f"},
        {"tls_cert": "c", "tls_key": "k", "tls_client_ca": "ca"},
        {"jwks_file": "j", "jwt_audience": "a", "jwt_issuer": "i"},
    ):
        assert load_settings({"host": "0.0.0.0", **given}).host == "0.0.0.0"
    assert "--allow-open" in refusal(host="0.0.0.0", tls_cert="c", tls_key="k")


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files and charts write variables that hold nothing."""
    for name in ("KEYS", "KEYS_FILE", "JWKS_FILE", "TLS_CERT", "AUDIT_LOG", "ADMIN_PORT"):
        monkeypatch.setenv(f"ONNXPORT_{name}", "")
    settings = load_settings({})
    assert not settings.has_keys
    assert (settings.tls_cert, settings.audit_log, settings.admin_port) == (None, None, None)


async def test_keys_come_from_the_environment_and_from_a_file(
    repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A mounted secret and a variable count together, by hashes only."""
    (tmp_path / "keys.toml").write_text(toml("file"))
    monkeypatch.setenv("ONNXPORT_KEYS", toml("variable"))
    monkeypatch.setenv("ONNXPORT_KEYS_FILE", str(tmp_path / "keys.toml"))
    app = create_app(load_settings({"repository": str(repository)}))
    async with app.router.lifespan_context(app), client_of(app) as client:
        for name, known in (("file", True), ("variable", True), ("other", False)):
            answer = await client.get("/v2", headers=bearer(name))
            assert answer.status_code == (403 if known else 401)


@pytest.mark.parametrize("platform", ["sagemaker", "vertex", "kserve"])
async def test_a_platform_opens_no_road_to_those_without_a_key(
    repository: Path, platform: str
) -> None:
    """Its contract allows to listen openly; keys close its roads, too."""
    settings = load_settings(
        {"repository": str(repository), "platform": platform, "keys": toml("a")}
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app), client_of(app) as client:
        assert (await client.post("/invocations", json={"instances": [[1]]})).status_code == 401
        assert (await client.get("/ping")).status_code in (200, 503)


async def test_a_closed_server_does_not_warn(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning is for those who listen openly."""
    caplog.set_level(logging.INFO, "onnxport")
    settings = Settings(repository=repository, host="0.0.0.0", keys=toml("a"))
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        pass
    assert "without access control" not in caplog.text


async def test_probes_learn_no_names_of_models() -> None:
    """Who may read learns why a server is not ready, who shows nothing learns that it is not."""
    known = FakeModels((view("secret-project", State.LOADING),))
    async with client_of(make_app(models=known, gate=Closed().gate())) as client:
        for path in ("/readyz", "/startupz"):
            for key, told in (("", False), ("predict", False), ("read", True)):
                answer = await client.get(path, headers=bearer(key) if key else {})
                assert answer.status_code == 503
                assert ("secret-project" in answer.text) is told


def test_the_documented_samples_work_with_a_key(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take it from a variable; the document is valid."""
    keys = toml("app", scopes='["read", "predict"]')
    monkeypatch.setenv("KEY", secret("app"))
    with running(create_app(Settings(repository=repository, keys=keys))) as address:
        document: dict[str, Any] = {}
        while not document.get("x-models"):
            document = httpx.get(f"{address}/openapi.json", headers=bearer("app")).json()
        assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
        samples = [
            (one["lang"], one["source"])
            for path in ("/v1/models/doubler:predict", "/v2/models/doubler/infer")
            for one in document["paths"][path]["post"]["x-codeSamples"]
        ]
        assert [language for language, _ in samples] == ["Shell", "Python"] * 2
        for language, source in samples:
            command = ["bash", "-c"] if language == "Shell" else [sys.executable, "-c"]
            done = subprocess.run(
                [*command, source], capture_output=True, text=True, check=True
            ).stdout
            assert "error" not in done, done
            assert done.strip()


def lines_of(file: Path) -> list[dict[str, Any]]:
    """Return the records of a log."""
    return [json.loads(line) for line in file.read_bytes().splitlines()]


async def test_admin_actions_are_noted_before_and_after(repository: Path, tmp_path: Path) -> None:
    """By the key's name, the model and the outcome; refused callers do nothing to be noted."""
    file = tmp_path / "audit.log"
    keys = toml("ops", scopes='["admin"]') + toml("app")
    settings = Settings(repository=repository, keys=keys, audit_log=file, model_control="explicit")
    app = create_app(settings)
    load = "/v2/repository/models/{}/load"
    async with app.router.lifespan_context(app), client_of(app) as client:
        headers = {**bearer("ops"), "X-Request-Id": "call-1"}
        assert (await client.post(load.format("doubler"), headers=headers)).status_code == 200
        assert (await client.post(load.format("none"), headers=headers)).status_code == 404
        assert (await client.post(load.format("doubler"), headers=bearer("app"))).status_code == 403
    records = lines_of(file)
    assert [one["event"] for one in records] == ["open", "start", *["admin"] * 4, "close"]
    told = [(one["action"], one["model"], one["outcome"]) for one in records[2:-1]]
    assert told == [
        ("load", "doubler", "begun"),
        ("load", "doubler", "done"),
        ("load", "none", "begun"),
        ("load", "none", "model_not_found"),
    ]
    assert {(one["caller"], one["request_id"]) for one in records[2:-1]} == {("ops", "call-1")}


async def test_what_cannot_be_noted_is_not_done(repository: Path, tmp_path: Path) -> None:
    """Without its audit log a server refuses admin actions, and goes on to answer."""
    folder = tmp_path / "log"
    folder.mkdir()
    settings = Settings(
        repository=repository, audit_log=folder / "audit.log", model_control="explicit"
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app), client_of(app) as client:
        (folder / "audit.log").unlink()
        folder.rmdir()
        answer = await client.post("/v2/repository/models/doubler/load")
        assert answer.status_code == 503
        assert "audit log" in answer.json()["error"]
        assert (await client.get("/v1/models")).json() == {"models": []}
        folder.mkdir()
        assert (await client.post("/v2/repository/models/doubler/load")).status_code == 200


async def test_predictions_are_noted_by_hashes_only(repository: Path, tmp_path: Path) -> None:
    """Over both ways into the server, with id, key, version and the hashes of both bodies."""
    file = tmp_path / "audit.log"
    settings = Settings(
        repository=repository, keys=toml("app"), audit_log=file, audit_predictions=True
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app), on_a_socket(app) as client:
        body = json.dumps(BODY).encode()
        for more in ({}, {"Content-Type": "x", "Connection": "close"}):
            while (await ask(client, body, more)).status_code == 503:
                pass
        answer = await ask(client, body, {"X-Request-Id": "mine"})
        await client.get("/livez")
    records = [one for one in lines_of(file) if one["event"] == "prediction"]
    last = records[-1]
    assert (last["request_id"], last["caller"], last["status"]) == ("mine", "app", 200)
    assert (last["model"], last["version"]) == ("doubler", 1)
    assert last["request_sha256"] == sha256(body).hexdigest()
    assert last["response_sha256"] == sha256(answer.content).hexdigest()
    assert {one["road"] for one in records} == {"/v2/models/{name}/infer"}
    text = file.read_text()
    assert "FP32" not in text
    assert "app-secret" not in text


async def ask(client: httpx.AsyncClient, body: bytes, more: dict[str, str]) -> httpx.Response:
    """Ask the doubler."""
    return await client.post(INFER, content=body, headers={**bearer("app"), **more})


async def test_keys_that_change_are_noted_by_name(repository: Path, tmp_path: Path) -> None:
    """Which came and which went, and no hash of theirs."""
    file, keys = tmp_path / "audit.log", tmp_path / "keys.toml"
    keys.write_text(toml("old"))
    app = create_app(Settings(repository=repository, keys_file=keys, audit_log=file))
    async with app.router.lifespan_context(app), client_of(app) as client:
        # The first call looks at the file.
        keys.write_text(toml("new"))
        assert (await client.get("/v2", headers=bearer("old"))).status_code == 401
        assert (await client.get("/v2", headers=bearer("new"))).status_code == 403
    (change,) = [one for one in lines_of(file) if one["event"] == "keys"]
    assert (change["added"], change["removed"]) == (["new"], ["old"])
