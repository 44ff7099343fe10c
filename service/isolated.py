"""An engine whose model runs in a process of its own: a crash costs one run, its end all memory."""

from __future__ import annotations

import logging
import select
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import numpy as np

from service import errors
from service.allowance import share_of
from service.children import command_of, environment
from service.cpu import usable_memory
from service.engine import Engine, EngineOptions, Stop
from service.errors import BundleError, ModelNotReady, ProcessEnded, ServiceError
from service.fleet import restart_plan
from service.loader import Loaded, LoadOptions
from service.parcel import Parcel, receive_parcel, send_parcel
from service.repository import Found
from service.tensors import Tensor, Tensors, TensorSpec
from service.version import Kept

_log = logging.getLogger("onnxport.registry")
# How often a run is asked whether it is to end, and how long it may take to do so.
_LOOK_MS: Final = 20
_PATIENCE: Final = 2.0
_START: Final = 60.0
_KINDS: Final = ("InvalidRequest", "EngineFailure", "OutOfMemory", "BundleError")


class IsolatedEngine:
    """The engine's interface over another process, which is started again after its end."""

    def __init__(self, kept: Kept, options: EngineOptions, like: Engine) -> None:
        """Start the process; ``like`` is an engine of the same model in this one.

        It opens the very bytes that were proved, whenever it has to begin anew; they are this
        engine's to close.  Raises BundleError or ProviderUnavailable where it cannot open them.
        """
        self.inputs: tuple[TensorSpec, ...] = like.inputs
        self.outputs: tuple[TensorSpec, ...] = like.outputs
        self.provider = like.provider
        self._kept = kept
        self._found = kept.found
        self._options = options
        self._lock = threading.Lock()
        # Changed under the lock.
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._deaths: list[float] = []
        self._closed = False
        self._start()

    @property
    def pid(self) -> int | None:
        """The number of the process, None while there is none."""
        return self._process.pid if self._process else None

    def run(
        self, inputs: Tensors, wanted: Sequence[str], stop: Stop | None = None
    ) -> dict[str, Tensor]:
        """Run the graph over there, one run at a time.

        Raises what the engine there raises, ProcessEnded where the process ends in the run, and
        ModelNotReady while it is not to be started again.
        """
        with self._lock:
            if self._closed:
                raise errors.EngineFailure("the engine is closed")
            if self._connection is None:
                self._start_again()
            assert self._connection is not None
            try:
                send_parcel(self._connection, Parcel({"wanted": list(wanted)}, inputs))
                answer = self._answer(self._connection, stop)
            except OSError:
                answer = None
            if answer is None:
                raise self._lost()
        if "error" in answer.said:
            raise _error_of(answer.said)
        return dict(answer.tensors)

    def close(self) -> None:
        """End the process; all that it held goes back to the system."""
        with self._lock:
            if not self._closed:
                self._kept.close()
            self._closed = True
            self._end()

    def _answer(self, connection: socket.socket, stop: Stop | None) -> Parcel | None:
        """Wait for the answer, and pass on that the run is to end; None if there will be none."""
        asked = 0.0
        # Not select: it knows no descriptor above a thousand.
        answered = select.poll()
        answered.register(connection, select.POLLIN)
        while not answered.poll(_LOOK_MS):
            if stop is not None and stop.stopped and not asked:
                asked = time.monotonic()
                send_parcel(connection, Parcel({"stop": True}))
            if asked and time.monotonic() - asked > _PATIENCE:
                return None
        return receive_parcel(connection)

    def _start_again(self) -> None:
        now = time.monotonic()
        wait = restart_plan(self._deaths, now) if self._deaths else 0.0
        left = self._deaths[-1] + wait - now if self._deaths else 0.0
        name = f"model '{self._found.name}'"
        if left > 0:
            raise ModelNotReady(f"{name} has ended its process; it is started in {left:.1f} s")
        try:
            self._start()
        except BundleError as error:
            self._deaths.append(now)
            raise ModelNotReady(f"{name} cannot be started again: {error}") from error

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command_of("service.solitary", theirs.fileno()),
                env=environment(),
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        self._connection = ours
        options, source = asdict(self._options), self._kept.source
        said = {
            "name": source.name,
            "weights": list(source.weights),
            "providers": list(options.pop("providers")),
            "options": options,
            "any_shape": None,
            "memory": 0 if self.provider != "cpu" else share_of(usable_memory(), 1),
        }
        ours.settimeout(_START)
        try:
            contents = [memoryview(source.content), *source.weights.values()]
            files = {str(n): np.frombuffer(one, np.uint8) for n, one in enumerate(contents)}
            send_parcel(ours, Parcel(said, files))
            answer = receive_parcel(ours)
        except OSError:
            answer = None
        ours.settimeout(None)
        if answer is None or "error" in answer.said:
            self._end()
            if answer is None:
                raise BundleError(f"{self._found.path}: its process ended while it was opened")
            raise _error_of(answer.said)

    def _lost(self) -> ServiceError:
        """Note that the process is no more; what runs next starts another one, soon."""
        self._end()
        self._deaths = [*self._deaths[-15:], time.monotonic()]
        _log.error(
            "model %s version %d has ended its own process", self._found.name, self._found.version
        )
        return ProcessEnded(f"model '{self._found.name}' has ended its process in this run")

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _error_of(said: Any) -> ServiceError:  # noqa: ANN401 - a message
    name = str(said.get("kind", ""))
    kind = getattr(errors, name) if name in _KINDS and hasattr(errors, name) else None
    return (kind or errors.EngineFailure)(str(said["error"]))


def _require_tensors(found: Found, engine: Engine) -> None:
    if not all(spec.is_tensor for spec in (*engine.inputs, *engine.outputs)):
        raise BundleError(f"{found.path}: isolation = process: only tensors can be passed on")


def isolate(loaded: Loaded, found: Found, options: LoadOptions) -> Loaded:
    """Return what was loaded with an engine of its own process, if the model's rules ask for one.

    What it held in this process is given back.
    """
    if not found.rules.apart:
        return loaded
    kept = loaded.kept
    assert kept is not None
    try:
        _require_tensors(found, loaded.engine)
        engine = IsolatedEngine(kept, options.engine, loaded.engine)
    except BaseException:
        # Whatever has ended it: nobody else closes what was kept.
        kept.close()
        raise
    finally:
        loaded.engine.close()
    info = {**loaded.info, "isolation": "process"}
    return replace(loaded, engine=engine, info=info, kept=None)
