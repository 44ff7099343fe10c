"""The application as a whole: what it is built of, and how it begins and ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
from pathlib import Path

import httpx
import pytest

from service.app import create_app, load_options, make_core
from service.batcher import BatchPolicy
from service.cpu import usable_cores
from service.engine import EngineOptions
from service.errors import ConfigurationError, ProviderUnavailable
from service.loader import LoadOptions
from service.repository import Found, scan
from service.settings import Settings
from tests.support import models
from tests.support.clients import client_of, serving
from tests.support.runtime import write_distribution

PREDICT = "/v1/models/doubler:predict"
ROW = {"instances": [[1, 2]]}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository with one model."""
    models.write_doubler(tmp_path / "doubler.onnx")
    return tmp_path


def test_settings_become_the_options_of_a_load() -> None:
    """Each part gets a small value of its own."""
    cores = usable_cores()
    assert load_options(Settings()) == LoadOptions(
        EngineOptions(("auto",)), "enforce", 32, cores=cores
    )
    settings = Settings(providers=("cpu",), verify="advisory", max_batch_rows=7, profile="latency")
    assert load_options(settings) == LoadOptions(
        EngineOptions(("cpu",)), "advisory", 7, "latency", cores
    )


async def test_the_parts_of_a_core(repository: Path) -> None:
    """Loads, runs and raw inputs have threads of their own, all of which end with it."""
    core = make_core(Settings(threads=3), scan(repository))
    assert [view.name for view in core.registry.views()] == ["doubler"]
    assert len({id(executor) for executor in core.executors}) == 3
    began = [executor.submit(threading.get_ident) for executor in core.executors]
    assert len({one.result() for one in began}) == 3
    await core.aclose()
    for executor in core.executors:
        with pytest.raises(RuntimeError, match=r"shutdown|ended"):
            executor.submit(threading.get_ident)


async def test_as_many_threads_as_cores(repository: Path) -> None:
    """Unless a number is given, the cores that may be used decide how much is done at once.

    Loads wait for proofs in other processes, of which there are as many as cores.
    """
    for threads, workers in (("auto", usable_cores()), (5, 5)):
        core = make_core(Settings(threads=threads), scan(repository))
        runs, inputs, _ = core.executors
        for executor in (runs, inputs):
            everybody = threading.Barrier(workers)
            met = [executor.submit(everybody.wait, 60) for _ in range(workers)]
            assert sorted(one.result() for one in met) == list(range(workers))
        await core.aclose()


async def test_from_begin_to_end(repository: Path) -> None:
    """An application loads when it begins, answers, and after its end says that it is over."""
    app = create_app(Settings(repository=repository))
    async with serving(app) as client:
        assert (await client.post(PREDICT, json=ROW)).json() == {"predictions": [[2, 4]]}
        assert "onnxport_batch_rows_count" in (await client.get("/metrics")).text
    async with client_of(app) as client:
        answer = await client.post(PREDICT, json=ROW)
        assert answer.status_code == 503
        assert "UNLOADED" in answer.json()["error"]


async def test_what_lives_after_the_first_loads_is_not_collected(repository: Path) -> None:
    """Full collections pass it over while the application runs, and no longer afterwards."""
    gc.unfreeze()
    async with serving(create_app(Settings(repository=repository))):
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(gc.get_freeze_count):
                pass
        assert gc.get_freeze_count() > 10_000
    assert gc.get_freeze_count() == 0


async def test_an_application_that_ends_at_once_leaves_nothing_behind(repository: Path) -> None:
    """Its loads may still be under way."""
    app = create_app(Settings(repository=repository))
    async with app.router.lifespan_context(app):
        pass
    assert gc.get_freeze_count() == 0


async def test_what_a_load_measures_becomes_the_policy(tmp_path: Path) -> None:
    """A model's batches are what was measured; its waits and queues what the settings say."""
    models.write_doubler(tmp_path / "doubler" / "1" / "model.onnx")
    models.write_doubler(tmp_path / "told" / "1" / "model.onnx")
    told = "profile = 'latency'\n[batching]\nmax_rows = 5\nrun = 'threads'\nmax_wait_ms = 4\n"
    (tmp_path / "told" / "serving.toml").write_text(told)
    settings = Settings(
        repository=tmp_path, max_wait_ms=3, queue_bytes=1 << 20, threads=3, cache_dir="none"
    )
    core = make_core(settings, scan(tmp_path))
    for one in scan(tmp_path):
        assert await core.registry.load([one]) == {}
    measured, ruled = (core.registry.view(name) for name in ("doubler", "told"))
    tuning, policy = measured.info["tuning"], measured.batching
    assert isinstance(tuning, dict)
    assert policy == BatchPolicy(
        max_rows=tuning["calibrated"]["cap"],
        concurrency=3,
        run="tick",
        tick_rows=32,
        max_wait=0.003,
        queue_bytes=1 << 20,
    )
    assert ruled.batching == BatchPolicy(5, concurrency=1, max_wait=0.004, queue_bytes=1 << 20)
    await core.aclose()


async def test_nothing_is_loaded_before_it_begins(repository: Path) -> None:
    """Building an application opens no model."""
    async with client_of(create_app(Settings(repository=repository))) as client:
        answer = await client.get("/v2/models/doubler/ready")
    assert answer.status_code == 503
    assert "PENDING" in answer.json()["error"]


async def test_what_was_found_is_not_looked_for_again(repository: Path) -> None:
    """The caller's scan is the one that counts."""
    other = Found("other", 1, repository / "doubler.onnx")
    async with serving(create_app(Settings(repository=repository), [other])) as client:
        assert (await client.get("/v1/models")).json() == {"models": ["other"]}


def test_nothing_to_serve(tmp_path: Path) -> None:
    """A repository that is not there is a mistake of the settings."""
    with pytest.raises(ConfigurationError, match="nowhere"):
        create_app(Settings(repository=tmp_path / "nowhere"))


def test_a_default_model_that_is_not_there(repository: Path) -> None:
    """Where nothing is loaded later, its roads could never answer: the mistake is told at once."""
    models.write_doubler(repository / "a.onnx")
    with pytest.raises(ConfigurationError) as caught:
        create_app(Settings(repository=repository, default_model="typo", model_control="none"))
    assert str(caught.value) == (
        "default_model: 'typo' is not in the repository; it holds a, doubler"
    )


async def test_a_default_model_that_may_still_come(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is asked for in one line, and the server is not ready before it has been loaded."""
    settings = Settings(
        repository=repository, default_model="late", model_control="explicit", load_model=("*",)
    )
    core = make_core(settings, scan(repository))
    (warning,) = (r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    assert warning.startswith("default_model: 'late' is not in the repository; it holds doubler;")
    assert await core.registry.load(scan(repository)) == {}
    assert not core.registry.ready()
    models.write_doubler(repository / "late.onnx")
    await core.reloader.load("late")
    assert core.registry.ready()
    await core.aclose()


def test_wheels_over_each_other(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation is told before anything is served."""
    monkeypatch.syspath_prepend(repository)
    for name in ("onnxruntime", "onnxruntime-gpu"):
        write_distribution(repository, name)
    with pytest.raises(ProviderUnavailable):
        create_app(Settings(repository=repository))


async def test_limits_reach_the_roads(repository: Path) -> None:
    """Body, depth, instances and deadline are those of the settings."""
    settings = Settings(
        repository=repository, max_body_bytes=200, max_json_depth=4, queue_rows=2, deadline=1e-6
    )
    async with serving(create_app(settings)) as client:

        async def said(content: str) -> tuple[int, str]:
            answer = await client.post(PREDICT, content=content)
            return answer.status_code, answer.json()["error"]

        assert await said(" " * 201) == (413, "body: at most 200 bytes are allowed, got 201 bytes")
        status, text = await said('{"instances": [[[[[1]]]]]}')
        assert (status, "deeper than 4" in text) == (400, True)
        assert (await said('{"instances": [[1, 2]]}'))[0] == 504


async def test_too_many_instances(repository: Path) -> None:
    """A request may not hold more than a queue."""
    settings = Settings(repository=repository, queue_rows=2)
    async with serving(create_app(settings)) as client:
        answer = await client.post(PREDICT, json={"instances": [[1, 2]] * 3})
        assert answer.status_code == 413
        assert 'outcome="too_large"' in (await client.get("/metrics")).text


async def asked(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the names of the loggers that wrote about one call."""
    caplog.clear()
    await client.post(PREDICT, json=ROW)
    return [record.name for record in caplog.records]


async def test_the_access_log_can_be_switched_off(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line a request, or none."""
    caplog.set_level(logging.INFO, "onnxport")
    for access_log, names in ((True, ["onnxport.access"]), (False, [])):
        settings = Settings(repository=repository, access_log=access_log)
        async with serving(create_app(settings)) as client:
            assert await asked(client, caplog) == names


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
async def test_an_open_server_says_so(
    repository: Path, caplog: pytest.LogCaptureFixture, host: str, *, warned: bool
) -> None:
    """Whoever listens for everybody reads a warning at the start."""
    settings = Settings(repository=repository, host=host, allow_open=True)
    async with serving(create_app(settings)):
        pass
    assert ("without access control" in caplog.text) is warned


async def test_a_name_that_is_no_text_harms_nobody(repository: Path) -> None:
    """One file whose name is not UTF-8 is listed as failed; index, metrics and others answer."""
    models.write_doubler(repository / os.fsdecode(b"caf\xe9.onnx"))
    async with serving(create_app(Settings(repository=repository))) as client:
        assert (await client.get("/v1/models")).json()["models"] == [r"caf\udce9", "doubler"]
        assert r'model_name="caf\\udce9"' in (await client.get("/metrics")).text
        assert (await client.get("/v2/health/ready")).json() == {"ready": True}
        answer = await client.get(r"/v1/models/caf\udce9/info")
        assert "cannot be a model's name" in answer.json()["reason"]
