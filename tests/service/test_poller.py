"""When a changed repository is acted upon."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from service.fingerprints import OWN, Print
from service.poller import (
    LONGEST_RETRY,
    PATIENCE,
    Poller,
    Task,
    Watched,
    begun,
    ended,
    retry_after,
    seen_again,
    task_for,
)
from tests.support.loads import put_model

CONFIRM = 0.5
DONE = Print("done")


@dataclass(slots=True)
class Model:
    """One model as it is looked at, at times that a test gives."""

    known: Watched = field(default_factory=Watched)

    def look(self, now: float, **parts: str) -> Task | None:
        """See versions with these fingerprints; those that end in "..." are incomplete."""
        seen = {name.strip("v"): Print(f, not f.endswith("...")) for name, f in parts.items()}
        return self.see(now, seen)

    def see(self, now: float, seen: Mapping[str, Print]) -> Task | None:
        """See this, and begin what is to be done."""
        self.known = seen_again(self.known, seen, now)
        task = task_for(self.known, now, CONFIRM)
        if task is not None:
            self.known = begun(self.known, task)
        return task

    def end(self, now: float, *, well: bool) -> None:
        """End what was begun."""
        self.known = ended(self.known, now, well=well)


def test_a_new_version_is_acted_upon_when_it_has_been_seen_twice() -> None:
    """And then no more, while it stays as it is."""
    model = Model()
    assert model.look(0, v1="a") is None
    assert model.look(0.5, v1="a") == Task()
    assert model.look(1, v1="a") is None
    assert model.look(9, v1="a") is None


def test_what_changes_is_left_until_it_rests() -> None:
    """Each change begins the wait anew."""
    model = Model()
    for step in range(20):
        assert model.look(step / 2, v1=f"a{step}") is None
    assert model.look(10, v1="a19") == Task()


def test_what_changes_keeps_no_other_version_waiting() -> None:
    """It is named, so that it is left as it is."""
    model = Model()
    model.look(0, v1="a", v2="x1")
    assert model.look(0.5, v1="a", v2="x2") == Task(settling=("2",))
    assert model.look(1, v1="a", v2="x3") is None
    assert model.look(1.5, v1="a", v2="x3") == Task()


def test_rules_that_change_keep_everything_waiting() -> None:
    """Half a file of rules must not be acted upon."""
    model = Model()
    model.see(0, {"1": DONE, OWN: Print("r1")})
    assert model.see(1, {"1": DONE, OWN: Print("r2")}) is None
    assert model.see(2, {"1": DONE, OWN: Print("r2")}) == Task()


def test_what_is_incomplete_has_longer() -> None:
    """A copy may stop for a while; after that somebody should hear what is missing."""
    model = Model()
    model.look(0, v1="half...")
    assert model.look(PATIENCE - 1, v1="half...") is None
    assert model.look(PATIENCE, v1="half...") == Task()


def test_what_has_gone_must_have_gone_twice() -> None:
    """A folder that is replaced by renaming may be missing for a moment."""
    model = Model()
    model.look(0, v1="a", v2="b")
    model.look(1, v1="a", v2="b")
    assert model.look(2, v1="a") is None
    assert model.look(2.5, v1="a", v2="b") is None
    assert model.look(3, v1="a") is None
    assert model.look(3.5, v1="a") == Task()
    assert model.look(4, v1="a") is None
    assert model.look(5) is None
    assert model.look(6) == Task()
    assert model.known == Watched()


def test_a_failure_is_tried_again_later_and_later() -> None:
    """And at once, from the start, when the files change."""
    model = Model()
    model.look(0, v1="a")
    assert model.look(1, v1="a") == Task()
    model.end(1, well=False)
    assert model.look(1.9, v1="a") is None
    assert model.look(2, v1="a") == Task(retry=True)
    model.end(2, well=False)
    assert model.look(3.9, v1="a") is None
    assert model.look(4, v1="a") == Task(retry=True)
    model.end(4, well=False)
    assert model.look(4.5, v1="b") is None
    assert model.look(5, v1="b") == Task()
    model.end(5, well=False)
    assert model.known.retry_at == 6
    assert model.look(6, v1="b") == Task(retry=True)
    model.end(6, well=True)
    assert model.look(1000, v1="b") is None


def test_the_wait_doubles_up_to_a_minute() -> None:
    """However often it fails."""
    assert [retry_after(n) for n in (1, 2, 3, 7, 1000)] == [1, 2, 4, LONGEST_RETRY, LONGEST_RETRY]


@dataclass(slots=True)
class Bench:
    """A poller over a real folder, with a clock of its own."""

    folder: Path
    tasks: list[tuple[str, Task]] = field(default_factory=list)
    well: bool = True
    now: float = 0.0
    poller: Poller = field(init=False)

    def __post_init__(self) -> None:
        """Build it."""
        self.poller = Poller(self.folder, self.sync, interval=1, clock=lambda: self.now)

    async def sync(self, name: str, task: Task) -> bool:
        """Note the task."""
        self.tasks.append((name, task))
        return self.well

    async def step(self, *, seconds: float = 1) -> list[tuple[str, Task]]:
        """Look once, after some time, and return what was done."""
        self.now += seconds
        self.tasks = []
        await self.poller.step()
        await self.poller.until_idle()
        return self.tasks


async def test_every_model_is_synced_once(tmp_path: Path) -> None:
    """Then only what changes, and a model that has gone a last time."""
    put_model(tmp_path, "a")
    (tmp_path / "b.onnx").write_text("b")
    (tmp_path / "a" / "1" / "model.onnx").write_text("a")
    bench = Bench(tmp_path)
    assert await bench.step() == []
    assert sorted(await bench.step()) == [("a", Task()), ("b", Task())]
    assert await bench.step() == []
    (tmp_path / "b.onnx").unlink()
    assert await bench.step() == []
    assert await bench.step() == [("b", Task())]
    assert await bench.step() == []


async def test_a_repository_that_cannot_be_read_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A volume that is gone for a while is no order to unload everything; it is told once."""
    caplog.set_level(logging.INFO)
    folder = tmp_path / "repository"
    put_model(folder)
    bench = Bench(folder)
    await bench.step()
    await bench.step(seconds=PATIENCE)
    folder.rename(tmp_path / "away")
    for _ in range(5):
        assert await bench.step() == []
    assert [r.levelname for r in caplog.records] == ["ERROR"]
    (tmp_path / "away").rename(folder)
    assert await bench.step() == []
    assert "can be read again" in caplog.text


async def test_looking_anew(tmp_path: Path) -> None:
    """Everything is synced once more, though nothing has changed."""
    put_model(tmp_path)
    (tmp_path / "m" / "1" / "model.onnx").write_text("x")
    bench = Bench(tmp_path)
    await bench.step()
    assert await bench.step() == [("m", Task())]
    bench.poller.look_anew()
    assert await bench.step() == [("m", Task())]
    assert await bench.step() == []


async def test_a_model_is_synced_once_at_a_time(tmp_path: Path) -> None:
    """What changes meanwhile is acted upon when that has ended."""
    (tmp_path / "m.onnx").write_text("1")
    gate, begun_ = asyncio.Event(), []

    async def sync(name: str, task: Task) -> bool:
        begun_.append(name)
        await gate.wait()
        return True

    now = 0.0
    poller = Poller(tmp_path, sync, interval=1, clock=lambda: now)
    for step in range(6):
        now = float(step)
        if step == 3:
            (tmp_path / "m.onnx").write_text("12")
        await poller.step()
        await asyncio.sleep(0)
    assert begun_ == ["m"]
    gate.set()
    await poller.until_idle()
    now = 6.0
    await poller.step()
    await poller.until_idle()
    assert begun_ == ["m", "m"]
