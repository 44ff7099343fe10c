"""A device that is lost: what is ready, what is answered, and how the process ends."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from service.blackbox import make_memory
from service.children import environment
from service.control import Decoder, Go, Message, Start, States, Up, encode
from service.engine import Stop
from service.errors import DeviceLost, ModelNotReady
from service.lifecycle import State
from service.loader import Loaded, LoadOptions
from service.planning import Control
from service.repository import Found
from service.tensors import Tensor, Tensors
from service.worker import EXIT_DEVICE_LOST
from tests.support.loads import PATIENCE, GatedEngine, Loads, put_model, rig, running
from tests.support.models import write_doubler
from tests.support.runtime import Witness

ALL = Control("explicit", ("*",))
GONE = "the device of provider 'cuda' is lost"


class Device(GatedEngine):
    """An engine on a device that is lost from some moment on."""

    provider = "cuda"
    lost = False

    def run(
        self, inputs: Tensors, wanted: Sequence[str], stop: Stop | None = None
    ) -> dict[str, Tensor]:
        """Wait at the gate; then the device may be gone."""
        found = super().run(inputs, wanted, stop)
        if self.lost:
            raise DeviceLost(GONE)
        return found


class DeviceLoads(Loads):
    """Loads onto the device all models but those called "cpu"."""

    def __init__(self) -> None:
        """Begin without a device in use."""
        super().__init__()
        self.devices: list[Device] = []
        self.lost = False
        self.runtime: dict[str, object] = {"nodes": {"cuda": 3}, "fell_back": False}

    def __call__(
        self, found: Found, options: LoadOptions, on_step: Callable[[str], None]
    ) -> Loaded:
        """Load."""
        loaded = super().__call__(found, options, on_step)
        if self.lost:
            raise DeviceLost(GONE)
        if found.name == "cpu":
            return loaded
        device = Device(self.count, found.version)
        self.devices.append(device)
        return replace(loaded, engine=device, info={"kind": "fake", "runtime": self.runtime})


async def test_a_lost_device(tmp_path: Path) -> None:
    """What ran there fails typed and is ready no more, at once; models on the CPU go on."""
    for name in ("cpu", "m", "other"):
        put_model(tmp_path, name)
    loads = DeviceLoads()
    async with rig(tmp_path, ALL, loads=loads) as made:
        for device in loads.devices:
            device.gate.clear()
        asked = [asyncio.create_task(made.infer(name=name)) for name in ("m", "other")]
        for device in loads.devices:
            await running(device)
            device.lost = True
            device.gate.set()
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(answer, DeviceLost)
        assert made.registry.health.reason == GONE
        await asyncio.sleep(0)
        for name in ("m", "other"):
            view = made.registry.view(name)
            assert (view.state, view.reason) == (State.FAILED, GONE)
            with pytest.raises(ModelNotReady, match="is lost"):
                await made.infer(name=name)
        assert await made.infer(name="cpu") > 0


async def test_a_device_that_is_lost_while_a_model_loads(tmp_path: Path) -> None:
    """The load fails with it, and so does everything else on the device."""
    put_model(tmp_path, "m")
    loads = DeviceLoads()
    async with rig(tmp_path, ALL, loads=loads) as made:
        assert made.registry.ready()
        loads.lost = True
        put_model(tmp_path, "late")
        with pytest.raises(Exception, match="is lost"):
            await made.reloader.load("late")
        await asyncio.sleep(0)
        assert made.registry.view("m").state is State.FAILED
        assert not made.registry.ready()


async def test_where_a_model_runs_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Observers hear of the nodes when it is ready; the log of another provider than was asked."""
    put_model(tmp_path, "m")
    loads, witness = DeviceLoads(), Witness()
    loads.runtime = {
        "provider": "cpu",
        "nodes": {"cpu": 3},
        "fell_back": True,
        "providers_unavailable": {"cuda": "there is no NVIDIA driver"},
    }
    async with rig(tmp_path, ALL, loads=loads, observer=witness):
        assert witness.placements == [("m", {"cpu": 3}, True)]
    assert "runs on 'cpu' instead: provider 'cuda': there is no NVIDIA driver" in caplog.text


def test_a_worker_without_its_device_ends(tmp_path: Path) -> None:
    """Its exit code is not 0, so that the supervisor starts another one in its place."""
    model = write_doubler(tmp_path / "m.onnx")
    control, its_control = socket.socketpair()
    connections, its_connections = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    memory = make_memory()
    with control, its_control, connections, its_connections:
        control.settimeout(6 * PATIENCE)
        inherited = (its_control.fileno(), its_connections.fileno(), memory)
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.support.losing_worker", *map(str, inherited)],
            env=environment(),
            stdin=subprocess.PIPE,
            pass_fds=inherited,
        )
        try:
            settings = {"repository": str(model), "providers": ["cpu"]}
            control.sendall(encode(Start(1, 1, "http://h:1", settings)) + encode(Go()))
            until_heard(control, lambda message: isinstance(message, Up))
            until_heard(control, lambda message: isinstance(message, States) and message.ready)
            worker.communicate(b"\n", timeout=6 * PATIENCE)
        finally:
            worker.kill()
            worker.wait()
    os.close(memory)
    assert worker.returncode == EXIT_DEVICE_LOST


def until_heard(control: socket.socket, wanted: Callable[[Message], bool]) -> None:
    """Read messages until one is what is wanted."""
    decoder = Decoder()
    while data := control.recv(1 << 16):
        if any(wanted(message) for message in decoder.feed(data)):
            return
    pytest.fail("the worker has gone")
