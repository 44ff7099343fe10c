"""The life of models in memory: loads, leases, unloading, and when a server is ready."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.batcher import BatchPolicy, Ran
from service.errors import EngineFailure, ModelNotFound, ModelNotReady
from service.loader import LoadOptions
from service.registry import LEGAL_MOVES, LiveModel, Readiness, Registry, State, is_ready
from service.repository import Found, scan
from tests.support import models
from tests.support.runtime import HandExecutor, Witness, settle

READY, FAILED, LOADING = State.READY, State.FAILED, State.LOADING
X = {"x": np.asarray([[1, 2]], np.float32)}


@pytest.mark.parametrize(
    ("states", "rule", "ready"),
    [
        ([], Readiness(), True),
        ([("a", READY)], Readiness(), True),
        ([("a", READY), ("b", FAILED)], Readiness(), True),
        ([("a", READY), ("b", LOADING)], Readiness(), False),
        ([("a", READY), ("b", State.PENDING)], Readiness(), False),
        ([("a", READY), ("b", State.VERIFYING)], Readiness(), False),
        ([("a", FAILED)], Readiness(), False),
        ([("a", State.DRAINING)], Readiness(), False),
        ([], Readiness(strict=True), True),
        ([("a", READY), ("b", READY)], Readiness(strict=True), True),
        ([("a", READY), ("b", FAILED)], Readiness(strict=True), False),
        ([("a", READY), ("b", FAILED)], Readiness(requires=("a",)), True),
        ([("a", READY), ("b", FAILED)], Readiness(requires=("b",)), False),
        ([("a", READY), ("b", LOADING)], Readiness(requires=("a",)), False),
        ([], Readiness(requires=("a",)), False),
        ([("a", READY)], Readiness(strict=True, requires=("b",)), False),
        ([("a", READY), ("a", FAILED)], Readiness(requires=("a",)), True),
    ],
)
def test_when_a_server_is_ready(
    states: Sequence[tuple[str, State]], rule: Readiness, *, ready: bool
) -> None:
    """All first attempts have ended and one succeeded; strict asks for all, requires for names."""
    assert is_ready(states, rule) is ready


def test_the_moves_of_a_version() -> None:
    """Every state has its moves; only what was proved is ready, and nothing leaves the end."""
    assert set(LEGAL_MOVES) == set(State)
    assert {s for s, moves in LEGAL_MOVES.items() if READY in moves} == {State.WARMING}
    assert {s for s, moves in LEGAL_MOVES.items() if FAILED in moves} == {
        LOADING,
        State.VERIFYING,
        State.WARMING,
    }
    assert {s for s, moves in LEGAL_MOVES.items() if not moves} == {State.UNLOADED}
    reached, front = set(), {State.PENDING}
    while front:
        reached |= front
        front = {move for state in front for move in LEGAL_MOVES[state]} - reached
    assert reached == set(State)


class Bench:
    """A registry whose threads work by hand."""

    def __init__(self, found: Sequence[Found], readiness: Readiness | None = None) -> None:
        """Build the parts."""
        self.threads = HandExecutor()
        self.loads = HandExecutor()
        self.witness = Witness()
        self.registry = Registry(
            found,
            options=LoadOptions(max_rows=4),
            policy=BatchPolicy(),
            readiness=readiness or Readiness(),
            executor=self.threads,
            loads=self.loads,
            observer=self.witness,
        )

    async def open(self) -> None:
        """Begin to load, and wait until every load has been handed to a thread."""
        await self.registry.open()
        await settle()

    async def loaded(self) -> None:
        """Load everything."""
        await self.open()
        await self.loads.step(len(self.loads.waiting))

    def states(self, name: str) -> list[str]:
        """Return the states that a model went through."""
        return [state for model, state in self.witness.states if model == name]


def ask(live: LiveModel, *, alone: bool = False) -> asyncio.Task[Ran]:
    """Send one row to a model that was leased."""
    deadline = time.monotonic() + 60
    job = live.batcher.submit(X, ["y"], rows=1, deadline=deadline, alone=alone)
    return asyncio.create_task(job)


@pytest.fixture
def doubler(tmp_path: Path) -> Found:
    """Return a bare model y = 2 x."""
    models.write_doubler(tmp_path / "doubler.onnx")
    (found,) = scan(tmp_path)
    return found


@pytest.fixture
def broken(tmp_path: Path) -> Found:
    """Return a file that is no model."""
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    return Found("broken", 1, tmp_path / "broken.onnx")


async def test_a_model_on_its_way_to_traffic(doubler: Found) -> None:
    """It is known at once, loads beside the event loop, and then answers."""
    bench = Bench([doubler])
    await bench.open()
    before = bench.registry.view("doubler")
    assert (before.state, before.inputs, before.info) == (LOADING, (), {})
    assert not bench.registry.ready()
    await bench.loads.step()
    after = bench.registry.view("doubler")
    assert (after.state, after.reason) == (READY, "")
    assert [spec.name for spec in (*after.inputs, *after.outputs)] == ["x", "y"]
    assert after.info["kind"] == "onnx"
    assert bench.registry.ready()
    assert bench.states("doubler") == ["PENDING", "LOADING", "VERIFYING", "WARMING", "READY"]
    await bench.registry.aclose()


async def test_a_model_that_cannot_load_does_not_stop_the_others(
    doubler: Found, broken: Found, caplog: pytest.LogCaptureFixture
) -> None:
    """Its reason is shown and logged; its neighbour is leased, and the server is ready."""
    bench = Bench([broken, doubler])
    await bench.loaded()
    view = bench.registry.view("broken")
    assert view.state is FAILED
    assert "broken.onnx" in view.reason
    assert view.reason in caplog.text
    assert str(broken.path) in caplog.text
    assert str(broken.path) not in view.reason
    assert bench.states("broken") == ["PENDING", "LOADING", "FAILED"]
    with pytest.raises(ModelNotReady) as caught, bench.registry.lease("broken"):
        pass
    assert str(caught.value) == f"model 'broken' is not ready, it is FAILED: {view.reason}"
    with bench.registry.lease("doubler") as live:
        assert (live.name, live.version) == ("doubler", 1)
    assert bench.registry.ready()
    assert repr(bench.registry) == "<Registry 1 FAILED, 1 READY>"
    await bench.registry.aclose()


async def test_a_strict_server_is_not_ready_with_a_failed_model(
    doubler: Found, broken: Found
) -> None:
    """The rule that was given is the one that holds."""
    bench = Bench([broken, doubler], Readiness(strict=True))
    await bench.loaded()
    assert not bench.registry.ready()
    await bench.registry.aclose()


async def test_a_bundle_that_fails_its_proof(tmp_path: Path) -> None:
    """It fails after it began to be verified."""
    bundle = models.picture_bundle(tmp_path)
    output = {"name": "other", "datatype": "FP32", "shape": ["batch", 2]}
    models.resealed(bundle, outputs=[output])
    bench = Bench(scan(tmp_path))
    await bench.loaded()
    assert bench.states("pictures") == ["PENDING", "LOADING", "VERIFYING", "FAILED"]
    assert "other" in bench.registry.view("pictures").reason
    await bench.registry.aclose()


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), MemoryError("too big")])
async def test_a_machine_that_fails(doubler: Found, error: Exception) -> None:
    """What the disk or the memory says is the reason, with the file."""
    bench = Bench([doubler])
    await bench.open()
    await bench.loads.fail(error)
    assert bench.registry.view("doubler").reason == f"{doubler.path.name}: {error}"
    await bench.registry.aclose()


async def test_a_load_that_ends_in_a_surprise(
    doubler: Found, broken: Found, caplog: pytest.LogCaptureFixture
) -> None:
    """The version has failed instead of loading for ever; the log has the error, not the caller."""
    bench = Bench([broken, doubler])
    await bench.open()
    await bench.loads.fail(ZeroDivisionError("secret"))
    await bench.loads.step()
    assert bench.registry.view("broken").state is FAILED
    assert bench.registry.view("broken").reason == "internal error while loading"
    assert bench.registry.view("doubler").state is READY
    assert "ZeroDivisionError: secret" in caplog.text
    await bench.registry.aclose()


async def test_a_thread_that_reports_too_late(doubler: Found) -> None:
    """A step of a load that has already ended changes nothing."""
    bench = Bench([doubler])
    await bench.open()
    work = await bench.loads.fail(MemoryError("gone"))
    *_, on_step = work.arguments
    on_step("VERIFYING")
    await settle()
    assert bench.registry.view("doubler").state is FAILED
    assert bench.states("doubler")[-1] == "FAILED"
    await bench.registry.aclose()


async def test_unknown_models_and_versions(doubler: Found) -> None:
    """Whoever asks hears what was asked for."""
    bench = Bench([doubler])
    await bench.loaded()
    for version, told in ((None, "'nobody' is not found"), (7, "'nobody' version 7 is not found")):
        with pytest.raises(ModelNotFound, match=told):
            bench.registry.view("nobody", version)
        with pytest.raises(ModelNotFound, match=told), bench.registry.lease("nobody", version):
            pass
    with pytest.raises(ModelNotFound, match="'doubler' version 7"):
        bench.registry.view("doubler", 7)
    await bench.registry.aclose()


async def test_the_highest_version_that_is_ready_answers(doubler: Found) -> None:
    """A newer one that has failed is passed over, unless it is named or none is ready."""
    versions = [replace(doubler, version=number) for number in (2, 10, 1)]
    versions.append(replace(doubler, version=11, problem="no model"))
    bench = Bench(versions)
    assert bench.registry.view("doubler").version == 11
    await bench.loaded()
    assert [view.version for view in bench.registry.views()] == [1, 2, 10, 11]
    assert bench.registry.view("doubler").version == 10
    assert bench.registry.view("doubler", 11).state is FAILED
    with bench.registry.lease("doubler") as newest, bench.registry.lease("doubler", 2) as named:
        assert (newest.version, named.version) == (10, 2)
    await bench.registry.aclose()


async def test_no_lease_before_a_model_is_ready(doubler: Found) -> None:
    """The state is told, so that the caller knows whether to wait."""
    bench = Bench([doubler])
    with pytest.raises(ModelNotReady, match="it is PENDING"), bench.registry.lease("doubler"):
        pass
    await bench.open()
    with pytest.raises(ModelNotReady, match="it is LOADING"), bench.registry.lease("doubler"):
        pass
    await bench.loads.step()
    await bench.registry.aclose()


async def test_a_lease_keeps_a_model_open(doubler: Found) -> None:
    """While it is unloaded nobody new gets it; who has it can use it until the last one is out."""
    bench = Bench([doubler])
    await bench.loaded()
    with bench.registry.lease("doubler") as live:
        with bench.registry.lease("doubler"):
            closing = asyncio.create_task(bench.registry.aclose())
            await settle()
            assert bench.registry.view("doubler").state is State.DRAINING
            assert not bench.registry.ready()
            with pytest.raises(ModelNotReady, match="DRAINING"), bench.registry.lease("doubler"):
                pass
        await settle()
        assert not closing.done()
        job = ask(live)
        await settle()
        await bench.threads.step()
        assert job.result().outputs["y"].tolist() == [[2, 4]]
    await closing
    assert bench.registry.view("doubler").state is State.UNLOADED
    assert bench.registry.view("doubler").inputs == ()
    with pytest.raises(EngineFailure, match="closed"):
        live.loaded.engine.run(X, ["y"])


async def test_a_lease_that_was_given_back_does_not_hold_anything(doubler: Found) -> None:
    """Also after an error inside it."""
    bench = Bench([doubler])
    await bench.loaded()
    with pytest.raises(ZeroDivisionError), bench.registry.lease("doubler"):
        raise ZeroDivisionError
    await bench.registry.aclose()
    assert bench.states("doubler")[-2:] == ["DRAINING", "UNLOADED"]


async def test_closing_waits_for_loads(doubler: Found, broken: Found) -> None:
    """A load cannot be stopped; what it opened is closed behind it."""
    bench = Bench([doubler, broken])
    await bench.open()
    closing = asyncio.create_task(bench.registry.aclose())
    await settle()
    assert not closing.done()
    await bench.loads.step(2)
    await closing
    assert bench.states("doubler")[-3:] == ["READY", "DRAINING", "UNLOADED"]
    assert bench.states("broken")[-2:] == ["FAILED", "UNLOADED"]


async def test_closing_what_was_never_opened(doubler: Found) -> None:
    """Nothing has begun, so there is nothing to wait for."""
    bench = Bench([doubler])
    await bench.registry.aclose()
    assert bench.registry.view("doubler").state is State.UNLOADED


async def test_loads_do_not_hold_up_runs(doubler: Found, broken: Found) -> None:
    """A model that is ready answers while another still loads."""
    bench = Bench([doubler, broken])
    await bench.open()
    await bench.loads.step()
    with bench.registry.lease("doubler") as live:
        job = ask(live)
        await settle()
        await bench.threads.step()
        assert job.result().outputs["y"].tolist() == [[2, 4]]
    assert bench.registry.view("broken").state is LOADING
    await bench.loads.step()
    await bench.registry.aclose()


async def test_runs_and_queues_are_reported_under_the_model_s_name(doubler: Found) -> None:
    """Whoever watches learns which model ran how many rows."""
    bench = Bench([doubler])
    await bench.loaded()
    with bench.registry.lease("doubler") as live:
        jobs = [ask(live, alone=True), ask(live, alone=True)]
        await settle()
        assert bench.witness.queues == [1]
        await bench.threads.step()
        await bench.threads.step()
        await asyncio.gather(*jobs)
    report, _ = bench.witness.batches
    assert (report.model, report.version, report.jobs, report.rows) == ("doubler", 1, 1, 1)
    assert bench.witness.queues == [1, 0]
    await bench.registry.aclose()


async def test_a_model_that_left_the_loop_says_so(doubler: Found) -> None:
    """Model-info tells it from then on, and nothing before."""
    bench = Bench([doubler])
    await bench.loaded()
    with bench.registry.lease("doubler") as live:
        assert "moved_to_threads" not in live.info
        live.batcher.moved = "too long"
        assert live.info["moved_to_threads"] == "too long"
    assert bench.registry.view("doubler").info["moved_to_threads"] == "too long"
    await bench.registry.aclose()


async def test_steps_are_logged(doubler: Found, caplog: pytest.LogCaptureFixture) -> None:
    """An operator can follow a load."""
    caplog.set_level(logging.INFO, "onnxport")
    bench = Bench([doubler])
    await bench.loaded()
    await bench.registry.aclose()
    for state in ("LOADING", "VERIFYING", "WARMING", "READY", "DRAINING", "UNLOADED"):
        assert f"model doubler version 1: {state}" in caplog.text
