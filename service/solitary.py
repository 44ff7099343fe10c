"""A process that runs one model and nothing else, for a worker that must outlive it."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from typing import Any

from service.allowance import limit_memory
from service.children import ignore_signals
from service.engine import EngineOptions, ModelBytes, OrtEngine, Stop
from service.errors import ControlBroken, ServiceError
from service.parcel import Parcel, receive_parcel, send_parcel


class Solitary:
    """Answers runs over a socket, one at a time; a second thread hears that one is to end."""

    def __init__(self, connection: socket.socket) -> None:
        """Keep the socket to the worker."""
        self._connection = connection
        self._stop = Stop()
        self._waiting: list[Parcel] = []
        self._arrived = threading.Condition()

    def serve(self) -> None:
        """Open the model that the first message names, then run; the worker's end is the end."""
        first = receive_parcel(self._connection)
        if first is None:
            return
        engine = self._open(first)
        if engine is None:
            return
        threading.Thread(target=self._hear, name="hear", daemon=True).start()
        while True:
            self._answer(engine, self._next())

    def _open(self, first: Parcel) -> OrtEngine | None:
        said: Any = first.said
        limit_memory(int(said["memory"]))
        options = EngineOptions(**{**said["options"], "providers": tuple(said["providers"])})
        content, *weights = (value.data for value in first.tensors.values())
        beside = dict(zip(said["weights"], weights, strict=True))
        source = ModelBytes(said["name"], bytes(content), beside)
        try:
            engine = OrtEngine(source, options, any_shape=said["any_shape"])
        except ServiceError as error:
            self._fail(error)
            return None
        send_parcel(self._connection, Parcel({"provider": engine.provider}))
        return engine

    def _hear(self) -> None:
        try:
            while (parcel := receive_parcel(self._connection)) is not None:
                if parcel.said.get("stop"):
                    self._stop.stop()
                    continue
                with self._arrived:
                    # Before the run can begin, so that no stop that follows is for another one.
                    self._stop = Stop()
                    self._waiting.append(parcel)
                    self._arrived.notify()
        except ControlBroken:
            pass
        # Whatever runs, nobody waits for it any more.
        os._exit(0)

    def _next(self) -> Parcel:
        with self._arrived:
            self._arrived.wait_for(lambda: self._waiting)
            return self._waiting.pop(0)

    def _answer(self, engine: OrtEngine, parcel: Parcel) -> None:
        try:
            outputs = engine.run(parcel.tensors, parcel.said["wanted"], self._stop)
        except ServiceError as error:
            self._fail(error)
            return
        send_parcel(self._connection, Parcel({}, outputs))

    def _fail(self, error: ServiceError) -> None:
        said = {"error": str(error), "kind": type(error).__name__}
        send_parcel(self._connection, Parcel(said))


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve; the argument is the descriptor of the socket."""
    ignore_signals()
    # The worker's end is this one's, too, by way of the socket.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    (descriptor,) = map(int, arguments or sys.argv[1:])
    Solitary(socket.socket(fileno=descriptor)).serve()


if __name__ == "__main__":
    main()
