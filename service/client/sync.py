"""The client for programs that wait for each answer; threads may share one."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

import httpx

from service.client import calls
from service.client.calls import Call, InferOptions, T
from service.client.errors import NO_ANSWER, ClientError, NotFound
from service.client.instances import Instances
from service.client.progress import Progress, Waiting
from service.client.replies import Reply
from service.client.transport import (
    Counts,
    OptionKeys,
    Options,
    httpx_options,
    our_errors,
    phase_timeouts,
    reply_of,
    server_url,
    shown_url,
)
from service.client.values import (
    Answer,
    BFloat16,
    IndexEntry,
    InferResult,
    JsonObject,
    ModelMetadata,
    Prediction,
    ServerMetadata,
)
from service.tensors import Tensor


class Client:
    """Talks to one server over connections that it keeps.

    >>> with Client("http://127.0.0.1:8080") as client:
    ...     client.predict("mails", ["See you at noon", "You have won!!!"])
    [Prediction(label='ham', score=0.98), Prediction(label='spam', score=0.99)]

    ``base_url`` may have a path, as behind a proxy.  ``timeout`` is the seconds that a call may
    take, retries and waits included; the server is told, so that it stops as well.  Within it
    ``connect_timeout`` bounds making a connection and ``read_timeout`` each wait for bytes.
    ``retries`` is how often a call that cannot have been run, or may run twice, is sent again:
    after a refused connection, after 429 and 503 with Retry-After, and, but for load and unload,
    after a broken connection; never after a timeout.  ``api_key`` is sent as a bearer token,
    ``headers`` with every request.  ``compress`` sends and takes gzip.  ``verify`` is httpx's:
    False, or a TLS context.  ``trust_env`` lets proxies in the environment matter.  ``transport``
    replaces httpx's own.

    Everything that goes wrong is a `ClientError`.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8080",
        *,
        transport: httpx.BaseTransport | None = None,
        **options: Unpack[OptionKeys],
    ) -> None:
        """Keep the options; nothing is connected before the first call."""
        url = server_url(base_url)
        self._options = Options(**options)
        self._server = shown_url(url)
        self._counts = Counts()
        self._http = httpx.Client(transport=transport, **httpx_options(url, self._options))

    def __repr__(self) -> str:
        """Show the server and what was done."""
        return f"<Client {self._server} {self._counts}>"

    def __enter__(self) -> Self:
        """Return the client, which the block's end closes."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        self._http.close()

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Tensor | BFloat16],
        *,
        outputs: Sequence[str] | None = None,
        version: int | str | None = None,
        binary: bool = True,
        id: str | None = None,  # noqa: A002 - the protocol's word
        timeout: float | None = None,
        priority: int | None = None,
    ) -> InferResult:
        """Run a model on its own tensors (V2), each with its batch axis.

        >>> result = client.infer("tiny", {"values": np.zeros((1, 4), np.float32)})
        >>> result.outputs["scores"].shape
        (1, 2)

        Dtypes are sent as they are; texts are arrays of ``str`` or ``bytes``, bfloat16 is an
        ml_dtypes array or `BFloat16`.  ``outputs`` names what is wanted, all without it.
        ``binary=False`` sends and asks for JSON, for servers without the binary extension.
        """
        options = InferOptions(outputs, version, binary, id, priority)
        return self._run(calls.infer(model, inputs, options), timeout)

    def predict(
        self,
        model: str,
        instances: Instances,
        *,
        version: int | None = None,
        timeout: float | None = None,
    ) -> list[Answer]:
        """Answer raw inputs through the model's own pre-processing (V1), one answer an instance.

        >>> client.predict("digits", [Path("seven.png"), picture_bytes, pixel_array])
        >>> client.predict("series", [np.zeros((5, 2)), np.zeros((9, 2))])
        >>> client.predict("mails", "You have won!!!")

        One instance is a text, ``bytes`` of a PNG or JPEG, a path (.png .jpg .txt .json .npy), one
        array, or an object by input; a list, a tuple or an iterator holds many.  A classifier
        answers `Prediction`, other models plain values.
        """
        return self._run(calls.predict(model, instances, version), timeout)

    def classify(
        self,
        model: str,
        instances: Instances,
        *,
        version: int | None = None,
        timeout: float | None = None,
    ) -> list[Prediction]:
        """Answer as `predict` does, with a model that is a classifier; BadAnswer if it is not.

        >>> [one.label for one in client.classify("mails", ["See you at noon"])]
        ['ham']
        """
        return self._run(calls.classify(model, instances, version), timeout)

    def predict_file(
        self,
        model: str,
        file: str | os.PathLike[str],
        *,
        version: int | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Answer one file; a picture is sent as it lies on disk.

        >>> client.predict_file("digits", "seven.png")
        Prediction(label='7', score=0.99)
        """
        return self._run(calls.predict_file(model, Path(file), version), timeout)

    def models(self) -> list[str]:
        """Return the models' names, those included that could not be loaded."""
        return self._run(calls.models())

    def server(self) -> ServerMetadata:
        """Return the server's name, version and extensions."""
        return self._run(calls.server())

    def metadata(self, model: str, *, version: int | str | None = None) -> ModelMetadata:
        """Return a model's inputs and outputs with their shapes and datatypes."""
        return self._run(calls.metadata(model, version))

    def info(self, model: str, *, version: int | None = None) -> JsonObject:
        """Return everything that the server knows of a model: contract, evaluation, state, ..."""
        return self._run(calls.info(model, version))

    def live(self) -> bool:
        """Whether a server answers at all."""
        return not self._why_not(calls.live(), None)

    def ready(self, model: str | None = None, *, version: int | str | None = None) -> bool:
        """Whether the server, or one model, should be sent traffic; False if nobody answers.

        Raises NotFound for a model that the server does not know.
        """
        return not self._why_not(calls.ready(model, version), None)

    def wait_until_ready(
        self, timeout: float = 60.0, *, model: str | None = None, version: int | str | None = None
    ) -> None:
        """Return once the server, or one model, is ready, which may not even run yet.

        Raises DeadlineExceeded with the last reason after ``timeout`` seconds.
        """
        call = calls.ready(model, version)
        waiting = Waiting(timeout, time.monotonic())
        while True:
            try:
                reason = self._why_not(call, waiting.probe_timeout(time.monotonic()))
            except NotFound as error:
                # A model may still be on its way to the repository.
                reason = str(error)
            if not reason:
                return
            time.sleep(waiting.pause(reason, time.monotonic()))

    def _why_not(self, call: Call[str], timeout: float | None) -> str:
        try:
            return self._run(call, timeout)
        except NO_ANSWER as error:
            return str(error)

    def load(self, model: str, *, timeout: float | None = None) -> None:
        """Load a model, or load it anew, and return when it answers."""
        self._run(calls.load(model), timeout)

    def unload(self, model: str, *, timeout: float | None = None) -> None:
        """Take a model out of service; its running requests end first."""
        self._run(calls.unload(model), timeout)

    def index(self, *, ready: bool = False) -> list[IndexEntry]:
        """Return every version in the repository with its state, or only those that are ready."""
        return self._run(calls.index(ready=ready))

    def statistics(
        self, model: str | None = None, *, version: int | str | None = None
    ) -> list[JsonObject]:
        """Return the counters of one model or of all, one object a version."""
        return self._run(calls.statistics(model, version))

    def _run(self, call: Call[T], timeout: float | None = None) -> T:
        progress = Progress(call, self._options, timeout, time.monotonic())
        while True:
            try:
                return call.value_of(self._attempt(progress))
            except ClientError as error:
                pause = progress.pause(error, time.monotonic())
                if pause is None:
                    self._counts.add("errors")
                    raise
            self._counts.add("retries")
            time.sleep(pause)

    def _attempt(self, progress: Progress[T]) -> Reply:
        remaining = progress.begin(time.monotonic())
        self._counts.add("requests")
        request = self._http.build_request(
            progress.call.method,
            progress.call.path,
            content=progress.call.content,
            headers=progress.headers(remaining),
            timeout=phase_timeouts(self._options, remaining),
        )
        parts = []
        with our_errors(self._server):
            response = self._http.send(request, stream=True)
            try:
                for part in response.iter_bytes():
                    # httpx bounds each wait, not their sum.
                    progress.remaining(time.monotonic())
                    parts.append(part)
            finally:
                response.close()
        return reply_of(response, b"".join(parts))
