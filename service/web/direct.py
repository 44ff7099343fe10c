"""The shortest road: V2 infer between a connection and the predictor, without ASGI between them.

It takes the plain call, which is almost every call: a body of known, moderate length that is not
packed.  What it does is what `service.web.infer` does with the same parts, but with no scope, no
task and no message a call; everything else is left to that road.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from service import logs
from service.access import Identity
from service.errors import ServiceError
from service.inference import Prediction
from service.web import binary, wire
from service.web.encoding import MIN_PACKED_BYTES, chosen, pack
from service.web.errors import ErrorAnswers, error_parts, internal_text
from service.web.exchange import UnderWay, WebParts, deadline_of
from service.web.response import Encoded, encode, head_of
from service.web.security import Access, Gate
from service.web.skim import Skimmer
from service.web.visit import Visit, Visits
from service.web.wire import InferCall

# Above, a body is turned into tensors beside the event loop, by the other road.
MAX_BODY_BYTES = 1 << 20

_PATH = re.compile(
    rb"/v2/models/([A-Za-z0-9][A-Za-z0-9._-]{0,127})(?:/versions/([0-9]{1,18}))?/infer"
)
_ROAD = "/v2/models/{name}/infer"
_VERSION_ROAD = "/v2/models/{name}/versions/{version}/infer"
# A request with one of these needs more than this road has.
_UNUSUAL = frozenset({b"content-encoding", b"transfer-encoding", b"expect", b"upgrade"})
_log = logging.getLogger("onnxport.web")

Head = list[tuple[bytes, bytes]]
Respond = Callable[[int, Head, bytes], None]


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names."""

    path: str
    road: str
    model: str
    version: int | None


@lru_cache(maxsize=1024)
def target_of(path: bytes) -> Target | None:
    """Return what a path names, None where it is not the path of an infer call."""
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    name, version = match.groups()
    road = _ROAD if version is None else _VERSION_ROAD
    number = None if version is None else int(version)
    return Target(path.decode(), road, name.decode(), number)


def is_plain(headers: Mapping[bytes, bytes], max_bytes: int) -> bool:
    """Whether the body of a call is announced with its length and comes as it is."""
    length = headers.get(b"content-length", b"")
    if not (length.isdigit() and len(length) < 10 and 0 < int(length) <= max_bytes):
        return False
    return _UNUSUAL.isdisjoint(headers) and headers.get(binary.HEADER) != b"0"


class DirectRoad:
    """What all direct calls of a process share."""

    def __init__(
        self,
        parts: WebParts,
        errors: ErrorAnswers,
        visits: Visits,
        *,
        gate: Gate,
        access: Mapping[str, Access],
    ) -> None:
        """Keep the parts; calls are begun on the event loop only.

        ``access`` is what the table of roads says of the paths that this road takes.
        """
        self._gate = gate
        self._access = {road: access[road] for road in (_ROAD, _VERSION_ROAD)}
        self.answers = parts.answers
        self.options = parts.options
        self.errors = errors
        self.visits = visits
        self.skimmer = Skimmer()
        # Answers that are packed or encoded beside the loop; kept, for the loop does not.
        self.slow: set[asyncio.Task[tuple[Head, bytes]]] = set()

    @property
    def max_body_bytes(self) -> int:
        """The longest body that this road takes."""
        return min(MAX_BODY_BYTES, self.options.max_body_bytes)

    def admit(
        self, target: Target, headers: Sequence[tuple[bytes, bytes]], port: int | None
    ) -> Identity | None:
        """Return who calls, None if the way is not open to them; the other road says why."""
        return self._gate.passes(self._access[target.road], headers, port)

    def begin(
        self,
        target: Target,
        headers: Mapping[bytes, bytes],
        body: bytes,
        *,
        caller: Identity,
        client: str,
        respond: Respond,
    ) -> DirectCall:
        """Start to answer a call; ``respond`` gets status, headers and body, once."""
        visit = self.visits.open(
            headers.get(b"x-request-id", b""), method="POST", path=target.path, client=client
        )
        visit.road = target.road
        visit.received = len(body)
        visit.caller = caller.name
        if visit.hashes is not None:
            visit.hashes.asked.update(body)
        call = DirectCall(self, visit, headers, respond)
        call.begin(target, body)
        return call

    def abandon(self, target: Target, *, client: str, received: int) -> None:
        """Note a call whose caller went before its body was whole."""
        visit = self.visits.open(b"", method="POST", path=target.path, client=client)
        visit.road, visit.received, visit.error = target.road, received, "client_gone"
        self.visits.close(visit)


class DirectCall:
    """One call, from its whole body to its answer."""

    __slots__ = ("_call", "_headers", "_inference", "_over", "_respond", "_road", "_visit")

    def __init__(
        self, road: DirectRoad, visit: Visit, headers: Mapping[bytes, bytes], respond: Respond
    ) -> None:
        """Keep what is needed until the answer is out."""
        self._road = road
        self._visit = visit
        self._headers = headers
        self._respond = respond
        self._call: InferCall | None = None
        self._inference: UnderWay | None = None
        self._over = False

    def begin(self, target: Target, body: bytes) -> None:
        """Decode the body and queue its tensors; a refusal is answered at once."""
        self._guarded(self._begin, target, body)

    def _guarded(self, step: Callable[..., None], *arguments: object) -> None:
        """Take a step of the call; whatever it raises is answered."""
        token = logs.request_id.set(self._visit.id.decode())
        try:
            step(*arguments)
        except ServiceError as error:
            status, text, headers = self._road.errors.answer(error, known=bool(self._visit.model))
            self._visit.error = error.code
            self._fail(status, text, headers)
        # The last resort of this road: the caller gets JSON and the id, the log gets the rest.
        except Exception:  # noqa: BLE001 - see above
            _log.exception("unexpected error")
            self._visit.error = "internal"
            self._fail(500, internal_text(), {})
        finally:
            logs.request_id.reset(token)

    def _begin(self, target: Target, body: bytes) -> None:
        road, visit = self._road, self._visit
        options = road.options
        json_bytes = binary.json_length(self._headers.get(binary.HEADER), len(body))
        call = self._call = wire.decode(
            body, json_bytes=json_bytes, max_depth=options.max_json_depth, skimmer=road.skimmer
        )
        deadline = deadline_of(
            self._headers, visit.started, default=options.deadline, timeout=call.timeout
        )
        visit.model = target.model
        self._inference = road.answers.start(
            target.model,
            target.version,
            call.inputs,
            wanted=call.wanted,
            deadline=deadline,
            on_done=self._done,
        )

    def cancel(self) -> None:
        """End the call without an answer: its caller has gone."""
        if self._over:
            return
        self._over = True
        if self._inference is not None:
            self._inference.cancel()
        self._visit.error = "client_gone"
        self._road.visits.close(self._visit)

    def _done(self, outcome: Prediction | ServiceError) -> None:
        if not self._over:
            self._guarded(self._answer, outcome)

    def _answer(self, outcome: Prediction | ServiceError) -> None:
        if isinstance(outcome, ServiceError):
            raise outcome
        call = self._call
        assert call is not None
        self._visit.version = outcome.version
        coding = chosen(self._headers.get(b"accept-encoding")) or ""
        encoded = None
        if sum(value.nbytes for value in outcome.outputs.values()) <= MAX_BODY_BYTES:
            encoded = encode(call, outcome)
            if not coding or len(encoded.body) < MIN_PACKED_BYTES:
                self._end(200, head_of(encoded), encoded.body)
                return
        task = asyncio.ensure_future(self._answer_slowly(call, outcome, encoded, coding))
        self._road.slow.add(task)
        task.add_done_callback(self._road.slow.discard)
        task.add_done_callback(lambda done: self._guarded(lambda: self._end(200, *done.result())))

    async def _answer_slowly(
        self, call: InferCall, prediction: Prediction, encoded: Encoded | None, coding: str
    ) -> tuple[Head, bytes]:
        """Encode beside the loop where that takes long; pack where the caller accepts it."""
        if encoded is None:
            encoded = await asyncio.to_thread(encode, call, prediction)
        if not coding or len(encoded.body) < MIN_PACKED_BYTES:
            return head_of(encoded), encoded.body
        return head_of(encoded, coding), await pack(encoded.body, coding)

    def _fail(self, status: int, text: str, headers: Mapping[str, str]) -> None:
        self._end(status, *error_parts(text, headers))

    def _end(self, status: int, head: Head, body: bytes) -> None:
        if self._over:
            return
        self._over = True
        visit = self._visit
        visit.status, visit.sent = status, len(body)
        if visit.hashes is not None:
            visit.hashes.answered.update(body)
        self._respond(status, [*head, (b"x-request-id", visit.id)], body)
        self._road.visits.close(visit)
