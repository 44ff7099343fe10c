"""A model in a process of its own: it answers as in this one, and takes nobody along."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from service.engine import EngineOptions, OrtEngine, Stop
from service.errors import EngineFailure, InvalidRequest, ModelNotReady, ProcessEnded
from service.isolated import IsolatedEngine, isolate
from service.loader import Loaded, LoadOptions, load_model, options_for
from service.repository import scan
from service.serving import ServingRules, parse_rules
from service.version import read_version
from tests.support import graphs, models

Write = Callable[[Path], Path]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[[Write], IsolatedEngine]]:
    """Return what opens a model in a process of its own, and ends it after the test."""
    opened: list[IsolatedEngine] = []

    def make(write: Write) -> IsolatedEngine:
        write(tmp_path / "m.onnx")
        (found,) = scan(tmp_path / "m.onnx")
        version = read_version(found, max_bytes=1 << 20)
        with closing(OrtEngine(version.source, EngineOptions(("cpu",)))) as like:
            engine = IsolatedEngine(version.kept(), EngineOptions(("cpu",)), like)
        version.sealed.close()
        opened.append(engine)
        return engine

    yield make
    for engine in opened:
        engine.close()


def quotient(engine: IsolatedEngine, one: int, other: int) -> int:
    """Divide; the smallest number by -1 ends a process."""
    inputs = {"a": np.asarray([one], np.int32), "b": np.asarray([other], np.int32)}
    (name,) = (spec.name for spec in engine.outputs)
    return int(engine.run(inputs, [name])[name][0])


def test_it_answers_as_in_this_process(made: Callable[[Write], IsolatedEngine]) -> None:
    """From another process, with what is known of the model here."""
    engine = made(models.write_doubler)
    assert engine.pid not in (None, os.getpid())
    answer = engine.run({"x": np.asarray([[1, 2], [3, 4]], np.float32)}, ["y"])["y"]
    assert answer.tolist() == [[2, 4], [6, 8]]
    assert engine.run({"x": np.zeros((0, 2), np.float32)}, ["y"])["y"].shape == (0, 2)
    assert ([spec.name for spec in engine.inputs], engine.provider) == (["x"], "cpu")


def test_texts_travel_too(made: Callable[[Write], IsolatedEngine]) -> None:
    """They are no plain memory."""
    engine = made(lambda path: models.write_identity(path, TensorProto.STRING))
    texts = np.asarray([["a", "ä"]], dtype=object)
    (name,) = (spec.name for spec in engine.outputs)
    assert engine.run({engine.inputs[0].name: texts}, [name])[name].tolist() == [["a", "ä"]]


def test_what_the_model_refuses_is_the_callers_fault(
    made: Callable[[Write], IsolatedEngine],
) -> None:
    """The kind of error is the same as in this process."""
    engine = made(models.write_embedding)
    (spec,) = engine.inputs
    with pytest.raises(InvalidRequest, match="refuses these input values"):
        engine.run({spec.name: np.full((1, 3), 10**6)}, [engine.outputs[0].name])


def test_a_crash_costs_one_run(made: Callable[[Write], IsolatedEngine]) -> None:
    """Another process takes its place, later and later the oftener it is needed."""
    engine = made(graphs.write_deadly_quotient)
    assert quotient(engine, 7, 2) == 3
    first = engine.pid
    with pytest.raises(ProcessEnded):
        quotient(engine, -(2**31), -1)
    while True:
        try:
            assert quotient(engine, 7, 2) == 3
            break
        except ModelNotReady:
            continue
    assert engine.pid not in (None, first)
    with pytest.raises(ProcessEnded):
        quotient(engine, -(2**31), -1)
    with pytest.raises(ModelNotReady, match=r"it is started in 0\.[12] s"):
        quotient(engine, 7, 2)


def test_after_a_crash_it_serves_what_was_proved_whatever_lies_on_the_disk(
    made: Callable[[Write], IsolatedEngine], tmp_path: Path
) -> None:
    """Other files were not proved; a reload does that."""
    engine = made(models.write_doubler)
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    models.write_divider(tmp_path / "m.onnx")
    row = {"x": np.ones((1, 2), np.float32)}
    with pytest.raises(ProcessEnded):
        engine.run(row, ["y"])
    while True:
        try:
            assert engine.run(row, ["y"])["y"].tolist() == [[2, 2]]
            break
        except ModelNotReady:
            continue


def test_weights_beside_a_model_go_with_it(
    made: Callable[[Write], IsolatedEngine], tmp_path: Path
) -> None:
    """From memory as well: they may be gone from the disk when the process begins anew."""

    def write(path: Path) -> Path:
        graphs.write_weights(path.parent / "w.bin")
        return graphs.write_external(path, "w.bin")

    engine = made(write)
    (tmp_path / "w.bin").unlink()
    answer = engine.run({"x": np.zeros((1, 2), np.float32)}, ["y"])
    assert answer["y"].tolist() == [[1, 2]]


def test_a_run_is_ended_between_two_nodes(made: Callable[[Write], IsolatedEngine]) -> None:
    """The process goes on; the next run is another one."""
    engine, stop = made(graphs.write_endless), Stop()
    first = engine.pid
    threading.Timer(0.1, stop.stop).start()
    with pytest.raises(EngineFailure):
        engine.run({"x": np.zeros((1, 2), np.float32)}, ["y"], stop)
    assert engine.pid == first


def test_a_run_that_cannot_be_ended_ends_its_process(
    made: Callable[[Write], IsolatedEngine],
) -> None:
    """After two seconds; the thread that waits for it is free then."""
    engine = made(graphs.write_toil)
    for patience in (0.1, 1, 10):
        stop = Stop()
        threading.Timer(patience, stop.stop).start()
        with pytest.raises((ProcessEnded, EngineFailure)) as caught:
            engine.run({"x": np.full((1, 1), 1e6, np.float32)}, ["y"], stop)
        if isinstance(caught.value, ProcessEnded):
            break
        # On a busy machine it was told so before it had come to the node that does not end.
    assert engine.pid is None


def test_the_end_gives_everything_back(made: Callable[[Write], IsolatedEngine]) -> None:
    """The process is no more, and no run may follow."""
    engine = made(models.write_doubler)
    pid = engine.pid
    assert pid is not None
    engine.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(EngineFailure, match="closed"):
        engine.run({"x": np.zeros((1, 2), np.float32)}, ["y"])


def loaded_with(folder: Path, rules: ServingRules) -> Loaded:
    """Load the model of a folder under rules."""
    models.write_doubler(folder / "m" / "1" / "model.onnx")
    text = f'isolation = "{rules.isolation}"' if rules.isolation else ""
    (folder / "m" / "serving.toml").write_text(text)
    (found,) = scan(folder)
    options = options_for(found, LoadOptions())
    return isolate(load_model(found, options, lambda _: None), found, options)


def test_the_rules_of_a_model_ask_for_it(tmp_path: Path) -> None:
    """And model-info tells; all others stay where they are."""
    for rules in (ServingRules(), ServingRules(isolation="worker")):
        loaded = loaded_with(tmp_path, rules)
        assert isinstance(loaded.engine, OrtEngine)
        assert "isolation" not in loaded.info
        loaded.engine.close()
    loaded = loaded_with(tmp_path, parse_rules({"isolation": "process"}))
    with closing(loaded.engine):
        assert isinstance(loaded.engine, IsolatedEngine)
        assert loaded.info["isolation"] == "process"
