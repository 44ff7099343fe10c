"""A model on a device, whose engine is made by hand: sizes, memory that ends, and a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.device import Cap, DeviceEngine, DeviceHealth, on_device, padded, size_for
from service.engine import Stop
from service.errors import DeviceFull, DeviceLost, EngineFailure, OutOfMemory, ServiceError
from service.tensors import Tensor, Tensors, TensorSpec

SPEC = (TensorSpec("x", "FP32", ("n", 2)),)


@dataclass(slots=True)
class SmallDevice:
    """Doubles rows as long as they fit; ``trouble`` is raised instead, once it is set."""

    fits: int = 1 << 20
    trouble: ServiceError | None = None
    provider: str = "cuda"
    sizes: list[int] = field(default_factory=list)
    given_back: list[bool] = field(default_factory=list)
    inputs: tuple[TensorSpec, ...] = SPEC
    outputs: tuple[TensorSpec, ...] = (TensorSpec("y", "FP32", ("n", 2)),)
    closed: bool = False

    def run(
        self, inputs: Tensors, wanted: Sequence[str], stop: Stop | None = None
    ) -> dict[str, Tensor]:
        """Run, and remember how many rows there were and whether memory was to be given back."""
        rows = len(inputs["x"])
        self.sizes.append(rows)
        self.given_back.append(stop is not None and stop.give_back)
        if self.trouble is not None:
            raise self.trouble
        if rows > self.fits:
            raise OutOfMemory("full")
        return dict.fromkeys(wanted, 2 * inputs["x"])

    def close(self) -> None:
        """Remember it."""
        self.closed = True


def rows(count: int) -> dict[str, Tensor]:
    """Return so many different rows."""
    return {"x": np.arange(2 * count, dtype=np.float32).reshape(count, 2)}


def served(
    device: SmallDevice, max_rows: int = 32, health: DeviceHealth | None = None
) -> DeviceEngine:
    """Return the engine over a device."""
    return DeviceEngine(device, health or DeviceHealth(), max_rows=max_rows, batchable=True)


def check(engine: DeviceEngine, count: int) -> None:
    """Run so many rows; each must come back doubled, and in its place."""
    inputs = rows(count)
    answer = engine.run(inputs, ["y"])["y"]
    np.testing.assert_array_equal(answer, 2 * inputs["x"])


def test_runs_have_few_sizes() -> None:
    """A batch is filled up to a power of two or the most, and its own rows come back."""
    device = SmallDevice()
    engine = served(device, max_rows=24)
    for count in (1, 2, 3, 5, 9, 17, 24):
        check(engine, count)
    assert device.sizes == [1, 2, 4, 8, 16, 24, 24]
    assert not any(device.given_back)


def test_a_batch_beyond_the_most_is_cut() -> None:
    """Its parts are put together again."""
    device = SmallDevice()
    check(served(device, max_rows=4), 11)
    assert device.sizes == [4, 4, 4]


def test_what_has_no_rows_is_run_as_it_is() -> None:
    """Nothing is known that could be cut or filled up."""
    device = SmallDevice()
    engine = DeviceEngine(device, DeviceHealth(), max_rows=4, batchable=False)
    check(engine, 11)
    check(served(device), 0)
    assert device.sizes == [11, 0]


def test_memory_that_runs_out() -> None:
    """One row makes the arena shrink, the halves are tried, and later runs are smaller."""
    device = SmallDevice(fits=16)
    engine = served(device)
    check(engine, 32)
    assert device.sizes == [32, 1, 16, 16]
    assert device.given_back == [False, True, True, True]
    assert engine.rows_cap == 16
    device.sizes.clear()
    check(engine, 32)
    assert device.sizes == [16, 16]


def test_halves_that_do_not_fit_either() -> None:
    """The second try is the last; the caller hears when to come back, and the cap is lower."""
    device = SmallDevice(fits=8)
    engine = served(device)
    with pytest.raises(DeviceFull) as caught:
        engine.run(rows(32), ["y"])
    assert caught.value.retry_after >= 1
    assert device.sizes == [32, 1, 16]
    assert engine.rows_cap == 8
    device.sizes.clear()
    check(engine, 32)
    assert device.sizes == [8, 8, 8, 8]


def test_a_part_that_does_not_fit_makes_the_next_one_smaller() -> None:
    """A call is cut anew as it goes."""
    device = SmallDevice(fits=4)
    engine = served(device, max_rows=8)
    check(engine, 16)
    assert device.sizes == [8, 1, 4, 4, 4, 4]


def test_a_device_without_any_memory() -> None:
    """One row is tried twice, and so is a call that cannot be cut."""
    device = SmallDevice(fits=0)
    with pytest.raises(DeviceFull):
        served(device).run(rows(1), ["y"])
    whole = DeviceEngine(device, DeviceHealth(), max_rows=4, batchable=False)
    with pytest.raises(DeviceFull):
        whole.run(rows(3), ["y"])
    assert device.sizes == [1, 1, 3, 3]


def test_the_callers_stop_holds_for_the_second_try() -> None:
    """What is told to end must end, whichever try it is in."""
    device = SmallDevice(fits=1)
    stop = Stop()
    served(device, max_rows=2).run(rows(2), ["y"], stop)
    assert stop.give_back


def test_a_lowered_cap_rises_again() -> None:
    """Who else used the memory may have gone; a thousand good runs double it."""
    cap = Cap(32, 32).lowered(32).lowered(16)
    assert cap.now == 8
    for _ in range(1000):
        assert cap.now == 8
        cap = cap.confirmed()
    assert cap.now == 16
    for _ in range(1000):
        cap = cap.confirmed()
    assert cap == Cap(32, 32)
    assert cap.confirmed() is cap
    assert Cap(32, 1).lowered(1).now == 1


def test_a_lost_device() -> None:
    """Who runs then hears it, so does everybody later without a run, and listeners hear it once."""
    device, health = SmallDevice(), DeviceHealth()
    heard: list[str] = []
    health.on_loss(heard.append)
    engine, other = served(device, health=health), served(SmallDevice(), health=health)
    check(engine, 2)
    device.trouble = DeviceLost("the device of provider 'cuda' is lost")
    with pytest.raises(DeviceLost):
        engine.run(rows(1), ["y"])
    device.trouble = None
    device.sizes.clear()
    for one in (engine, other):
        with pytest.raises(DeviceLost, match="'cuda' is lost"):
            one.run(rows(1), ["y"])
    assert device.sizes == []
    assert heard == ["the device of provider 'cuda' is lost"]
    assert health.reason == heard[0]


def test_a_loss_in_the_second_try() -> None:
    """It is no lack of memory."""
    device, health = SmallDevice(fits=1), DeviceHealth()

    def lose(inputs: Tensors, wanted: Sequence[str], stop: Stop | None = None) -> dict[str, Tensor]:
        if stop is not None:
            raise DeviceLost("gone")
        return SmallDevice.run(device, inputs, wanted, stop)

    engine = DeviceEngine(_With(device, lose), health, max_rows=4, batchable=True)
    with pytest.raises(DeviceLost):
        engine.run(rows(4), ["y"])
    assert health.reason == "gone"


def test_other_failures_pass() -> None:
    """They say nothing of the device."""
    health = DeviceHealth()
    device = SmallDevice(trouble=EngineFailure("no"))
    with pytest.raises(EngineFailure, match="no"):
        served(device, health=health).run(rows(3), ["y"])
    health.check()


def test_the_cpu_needs_none_of_this() -> None:
    """Its runs may have any size, and its engine stays what it was."""
    device = SmallDevice(provider="cpu")
    assert on_device(device, DeviceHealth(), max_rows=4, batchable=True) is device
    device = SmallDevice()
    engine = on_device(device, DeviceHealth(), max_rows=4, batchable=True)
    assert (engine.inputs, engine.outputs) == (device.inputs, device.outputs)
    assert engine.provider == "cuda"
    engine.close()
    assert device.closed


@given(st.integers(1, 400), st.integers(1, 100), st.integers(1, 200))
def test_every_row_is_answered_once(count: int, most: int, fits: int) -> None:
    """Whatever fits, rows come back in order, or the whole call is refused."""
    engine = served(SmallDevice(fits=fits), max_rows=most)
    try:
        check(engine, count)
    except DeviceFull:
        assert size_for(min(count, most), most) > fits
    assert 1 <= engine.rows_cap <= most


@given(st.integers(1, 300), st.integers(1, 300))
def test_sizes(count: int, most: int) -> None:
    """A size holds its rows and is no larger than the most."""
    size = size_for(count, most)
    assert size >= count
    assert size <= max(count, most)
    assert len(padded(rows(count), size)["x"]) == size


@dataclass(slots=True)
class _With:
    """A device with another way to run."""

    device: SmallDevice
    run: Callable[..., dict[str, Tensor]]
    provider: str = "cuda"

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self.device.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self.device.outputs

    def close(self) -> None:
        self.device.close()
