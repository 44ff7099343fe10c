"""The client for programs on asyncio; tasks may share one."""

from __future__ import annotations

import asyncio
import math
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


class AsyncClient:
    """`Client` with ``async``: the same options, methods, answers and errors.

    >>> async with AsyncClient("http://127.0.0.1:8080") as client:
    ...     await client.predict("mails", ["See you at noon", "You have won!!!"])
    [Prediction(label='ham', score=0.98), Prediction(label='spam', score=0.99)]

    A call that is cancelled closes its connection, so that the server stops working on it.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8080",
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Unpack[OptionKeys],
    ) -> None:
        """Keep the options; nothing is connected before the first call."""
        url = server_url(base_url)
        self._options = Options(**options)
        self._server = shown_url(url)
        self._counts = Counts()
        self._http = httpx.AsyncClient(transport=transport, **httpx_options(url, self._options))

    def __repr__(self) -> str:
        """Show the server and what was done."""
        return f"<AsyncClient {self._server} {self._counts}>"

    async def __aenter__(self) -> Self:
        """Return the client, which the block's end closes."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        await self._http.aclose()

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Tensor | BFloat16],
        *,
        outputs: Sequence[str] | None = None,
        version: int | str | None = None,
        binary: bool = True,
        id: str | None = None,  # noqa: A002 - the protocol's word
        timeout: float | None = None,  # noqa: ASYNC109 - the server is told of it, too
        priority: int | None = None,
    ) -> InferResult:
        """Run a model on its own tensors (V2), each with its batch axis; see `Client.infer`.

        >>> result = await client.infer("tiny", {"values": np.zeros((1, 4), np.float32)})
        """
        options = InferOptions(outputs, version, binary, id, priority)
        return await self._run(calls.infer(model, inputs, options), timeout)

    async def predict(
        self,
        model: str,
        instances: Instances,
        *,
        version: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as in infer
    ) -> list[Answer]:
        """Answer raw inputs (V1), one answer an instance; see `Client.predict`.

        >>> await client.predict("series", [np.zeros((5, 2)), np.zeros((9, 2))])
        """
        # Files are read and pictures coded on a thread: the loop belongs to others as well.
        call = await asyncio.to_thread(calls.predict, model, instances, version)
        return await self._run(call, timeout)

    async def classify(
        self,
        model: str,
        instances: Instances,
        *,
        version: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as in infer
    ) -> list[Prediction]:
        """Answer as `predict` does, with a model that is a classifier; BadAnswer if it is not.

        >>> [one.label for one in await client.classify("mails", ["See you at noon"])]
        ['ham']
        """
        call = await asyncio.to_thread(calls.classify, model, instances, version)
        return await self._run(call, timeout)

    async def predict_file(
        self,
        model: str,
        file: str | os.PathLike[str],
        *,
        version: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as in infer
    ) -> Answer:
        """Answer one file; a picture is sent as it lies on disk.

        >>> await client.predict_file("digits", "seven.png")
        Prediction(label='7', score=0.99)
        """
        call = await asyncio.to_thread(calls.predict_file, model, Path(file), version)
        return await self._run(call, timeout)

    async def models(self) -> list[str]:
        """Return the models' names, those included that could not be loaded."""
        return await self._run(calls.models())

    async def server(self) -> ServerMetadata:
        """Return the server's name, version and extensions."""
        return await self._run(calls.server())

    async def metadata(self, model: str, *, version: int | str | None = None) -> ModelMetadata:
        """Return a model's inputs and outputs with their shapes and datatypes."""
        return await self._run(calls.metadata(model, version))

    async def info(self, model: str, *, version: int | None = None) -> JsonObject:
        """Return everything that the server knows of a model: contract, evaluation, state, ..."""
        return await self._run(calls.info(model, version))

    async def live(self) -> bool:
        """Whether a server answers at all."""
        return not await self._why_not(calls.live(), None)

    async def ready(self, model: str | None = None, *, version: int | str | None = None) -> bool:
        """Whether the server, or one model, should be sent traffic; False if nobody answers.

        Raises NotFound for a model that the server does not know.
        """
        return not await self._why_not(calls.ready(model, version), None)

    async def wait_until_ready(
        self,
        timeout: float = 60.0,  # noqa: ASYNC109 - as in infer
        *,
        model: str | None = None,
        version: int | str | None = None,
    ) -> None:
        """Return once the server, or one model, is ready, which may not even run yet.

        Raises DeadlineExceeded with the last reason after ``timeout`` seconds.
        """
        call = calls.ready(model, version)
        waiting = Waiting(timeout, time.monotonic())
        while True:
            try:
                reason = await self._why_not(call, waiting.probe_timeout(time.monotonic()))
            except NotFound as error:
                # A model may still be on its way to the repository.
                reason = str(error)
            if not reason:
                return
            await asyncio.sleep(waiting.pause(reason, time.monotonic()))

    async def _why_not(self, call: Call[str], limit: float | None) -> str:
        try:
            return await self._run(call, limit)
        except NO_ANSWER as error:
            return str(error)

    async def load(
        self,
        model: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as in infer
    ) -> None:
        """Load a model, or load it anew, and return when it answers."""
        await self._run(calls.load(model), timeout)

    async def unload(
        self,
        model: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as in infer
    ) -> None:
        """Take a model out of service; its running requests end first."""
        await self._run(calls.unload(model), timeout)

    async def index(self, *, ready: bool = False) -> list[IndexEntry]:
        """Return every version in the repository with its state, or only those that are ready."""
        return await self._run(calls.index(ready=ready))

    async def statistics(
        self, model: str | None = None, *, version: int | str | None = None
    ) -> list[JsonObject]:
        """Return the counters of one model or of all, one object a version."""
        return await self._run(calls.statistics(model, version))

    async def _run(self, call: Call[T], limit: float | None = None) -> T:
        progress = Progress(call, self._options, limit, time.monotonic())
        while True:
            try:
                return call.value_of(await self._attempt(progress))
            except ClientError as error:
                pause = progress.pause(error, time.monotonic())
                if pause is None:
                    self._counts.add("errors")
                    raise
            self._counts.add("retries")
            await asyncio.sleep(pause)

    async def _attempt(self, progress: Progress[T]) -> Reply:
        remaining = progress.begin(time.monotonic())
        self._counts.add("requests")
        request = self._http.build_request(
            progress.call.method,
            progress.call.path,
            content=progress.call.content,
            headers=progress.headers(remaining),
            timeout=phase_timeouts(self._options, remaining),
        )
        with our_errors(self._server):
            async with asyncio.timeout(None if math.isinf(remaining) else remaining):
                response = await self._http.send(request)
        return reply_of(response, response.content)
