"""The supervisor's part of the control plane: one answer for all workers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

from service.control import (
    Admit,
    Answer,
    Ask,
    Board,
    Condemn,
    Culprit,
    Done,
    Figures,
    Json,
    Message,
    Order,
    Request,
    Start,
    States,
    Uploaded,
    VersionState,
)
from service.fleet import board_of
from service.folders import UploadFolders
from service.gate import Gate
from service.handover import hand_over
from service.logs import printable
from service.poller import Task
from service.seat import Seat
from service.snapshots import Snapshot, bury, nothing, prune

_log = logging.getLogger("onnxport.supervisor")
# How long a worker may take to tell its figures before its last ones are taken.
PATIENCE: Final = 0.5


class Desk:
    """Keeps the desired state and what dead workers had counted; asks and tells all workers."""

    def __init__(
        self, seats: Mapping[int, Seat], gate: Gate, folders: UploadFolders | None = None
    ) -> None:
        """Begin with nothing said.

        ``gate`` has versions proved, ``folders`` keep what comes with requests.
        """
        self._seats = seats
        self._gate = gate
        self._folders = folders or UploadFolders()
        self._loop = asyncio.get_running_loop()
        self._ids = count(1)
        self._waiting: dict[tuple[int, int], asyncio.Future[Message | None]] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self._desired: dict[str, bool] = {}
        self._past: Snapshot = nothing()
        self._board: Board | None = None
        self._known: tuple[VersionState, ...] = ()
        self._posting = False
        self.culprits: dict[tuple[str, int], Culprit] = {}
        self.restarts = 0
        self.repository_ok: Callable[[], bool] = lambda: True

    def start_of(self, seat: Seat, *, threads: int, address: str, settings: Json) -> Start:
        """Return the first message for a worker: it begins with the desired state."""
        seat.desired = dict(self._desired)
        return Start(
            seat.number,
            threads,
            address,
            settings,
            loaded=tuple(name for name, wanted in self._desired.items() if wanted),
            unloaded=tuple(name for name, wanted in self._desired.items() if not wanted),
            culprits=tuple(self.culprits.values()),
            known=self._known,
            uploads=str(self._folders.root),
            uploaded=tuple(Uploaded(m, str(path)) for m, path in self._folders.all().items()),
        )

    def hear(self, seat: Seat, message: Message) -> None:
        """Note what a worker says of itself, and do what it asks."""
        if isinstance(message, States):
            seat.states = message
            if message.settled and not seat.settled:
                seat.settled = True
                _log.info("worker %d has tried its models", seat.number)
            self.post()
        elif isinstance(message, Figures):
            seat.snapshot = message.content
            self._arrived(seat, message.id, message)
        elif isinstance(message, Done):
            self._arrived(seat, message.id, message)
        elif isinstance(message, Request):
            self._begin(self._serve(seat, message))
        elif isinstance(message, Admit):
            self._begin(self._admit(seat, message))

    def post(self) -> None:
        """Tell all workers what holds for all, once for everything that this turn brings."""
        if not self._posting:
            self._posting = True
            self._loop.call_soon(self._post)

    def _post(self) -> None:
        self._posting = False
        board = board_of([s.states for s in self._seats.values() if s.counts and s.states])
        if board.versions:
            # While nobody is there, what was live last is what is to be live again.
            self._known = board.versions
        if all(seat.settled for seat in self._seats.values()):
            if self._gate.hurries:
                self._begin(self._gate.cool_down())
            self._gate.settle({(one.model, one.version) for one in board.versions})
        if not all(seat.counts or seat.restarted for seat in self._seats.values()):
            # The first start is not over, and whoever waits for it wants all workers.
            board = replace(board, ready=False)
        if board == self._board:
            return
        if board.ready and not (self._board and self._board.ready):
            _log.info("ready", extra={"fields": {"workers": self.workers}})
        self._board = board
        for seat in self._seats.values():
            seat.send(board)

    def greet(self, seat: Seat) -> None:
        """Tell a worker that is up what holds, and what was asked for while it started."""
        if self._board is not None:
            seat.send(self._board)
        for model, wanted in self._desired.items():
            if seat.desired.get(model) is not wanted:
                folder = str(self._folders.of(model) or "")
                verb = "load" if wanted else "unload"
                seat.send(Order(next(self._ids), verb, model, folder=folder))

    @property
    def workers(self) -> int:
        """How many workers take connections."""
        return sum(seat.up for seat in self._seats.values())

    def lost(self, seat: Seat) -> None:
        """Keep what a dead worker had counted, and let nobody wait for it."""
        if seat.snapshot is not None:
            self._past = bury(self._past, seat.snapshot)
        for (number, asked), future in list(self._waiting.items()):
            if number == seat.number and not future.done():
                future.set_result(None)
                self._waiting.pop((number, asked), None)

    def condemn(self, culprit: Culprit) -> None:
        """Have no worker serve a version any more."""
        self.culprits[culprit.model, culprit.version] = culprit
        for seat in self._seats.values():
            seat.send(Condemn(culprit))

    def close(self) -> None:
        """Drop what is still being asked, and what was kept of requests."""
        for task in self._tasks:
            task.cancel()
        self._folders.close()

    async def sync(self, model: str, task: Task) -> bool:
        """Have all workers bring a model in line with the disk; whether all of it is READY then.

        As with a load one of them goes first.  What it has told of a failure is told by no other.
        """
        order = Order(0, "sync", model, task.settling, task.retry)
        async with self._turns.setdefault(model, asyncio.Lock()):
            done, others = await self._in_turn(order, None)
        self._post()
        if done is None:
            return False
        for one in others:
            if one.code and one.text != done.text:
                # Its files may have changed since the first has read them; it is tried again.
                _log.info("model %s: another worker failed: %s", model, printable(one.text))
        return not any(one.code for one in [done, *others])

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, seat: Seat, request: Request) -> None:
        if request.verb == "figures":
            seat.send(Answer(request.id, content=await self.figures()))
            return
        order = Order(0, request.verb, request.model, folder=request.folder)
        done = await self._order(seat, order)
        # The board first: who has been told that it is done must find it so.
        self._post()
        seat.send(Answer(request.id, done.code, done.text))

    async def _admit(self, seat: Seat, message: Admit) -> None:
        """Have a version proved, and hand out what was admitted: first the files, then the word."""
        child, key = seat.child, (message.model, message.version)
        again = seat.restarted and not seat.settled
        outcome = await self._gate.ask(
            key, message.claim, message.order, asker=child or seat, again=again
        )
        if child is None or seat.child is not child:
            return
        if outcome.descriptor is not None:
            try:
                hand_over(child.files, message.id, outcome.descriptor)
            except OSError as error:
                text = f"the files could not be handed over: {error.strerror}"
                seat.send(Answer(message.id, "internal", text))
                return
        seat.send(Answer(message.id, outcome.code, outcome.reason, outcome.report))

    async def figures(self) -> Json:
        """Return the figures of all workers; those that do not answer in time are as last heard."""
        asked = {
            (seat.number, number): self._ask(seat, Ask(number))
            for seat in self._seats.values()
            if seat.up and (number := next(self._ids))
        }
        if asked:
            await asyncio.wait(asked.values(), timeout=PATIENCE)
        for key in asked:
            self._waiting.pop(key, None)
        living = {s.number: s.snapshot for s in self._seats.values() if s.snapshot is not None}
        if self._board is not None and any(seat.settled for seat in self._seats.values()):
            known = {(one.model, one.version) for one in self._board.versions}
            self._past = prune(self._past, known)
        return {
            "live": {str(number): snapshot for number, snapshot in living.items()},
            "past": self._past,
            "workers": self.workers,
            "restarts": self.restarts,
            "repository_ok": self.repository_ok(),
        }

    async def _order(self, asker: Seat, order: Order) -> Done:
        """Have all workers load or unload a model; the first error is the answer.

        One of them goes first, and not the one that was asked: a model that ends its process must
        neither take the others along nor him who can tell of it.
        """
        verb, model = order.verb, order.model
        folder = Path(order.folder) if order.folder else None
        async with self._turns.setdefault(model, asyncio.Lock()):
            self._pardon(model)
            done, others = await self._in_turn(order, asker)
            dead = Done(0, "load_refused", f"failed to {verb} '{model}', it ended its process")
            answer = next((one for one in [done or dead, *others] if one.code), done or dead)
            if not answer.code:
                self._folders.keep(model, folder)
            elif folder is not None:
                self._folders.remove(folder)
            if answer.code == "" or (answer.code == "load_refused" and done and folder is None):
                self._desired[model] = verb == "load"
            return answer

    async def _in_turn(self, order: Order, asker: Seat | None) -> tuple[Done | None, list[Done]]:
        """Have one worker do it and then all others; return what they say, None if it died."""
        up = [seat for seat in self._seats.values() if seat.up]
        first = next((seat for seat in up if seat is not asker), asker)
        if first is None:
            return None, []
        told = {(first.number, first.child)}
        done = await self._tell(first, order)
        if done is None:
            return None, []
        order, others = replace(order, quiet=order.verb == "sync"), []
        while rest := [s for s in self._seats.values() if s.up and (s.number, s.child) not in told]:
            told |= {(seat.number, seat.child) for seat in rest}
            answers = await asyncio.gather(*(self._tell(seat, order) for seat in rest))
            others += [one for one in answers if one is not None]
        return done, others

    def _pardon(self, model: str) -> None:
        for key in [key for key in self.culprits if key[0] == model]:
            del self.culprits[key]

    async def _tell(self, seat: Seat, order: Order) -> Done | None:
        done = await self._ask(seat, replace(order, id=next(self._ids)))
        return done if isinstance(done, Done) else None

    def _ask(self, seat: Seat, question: Ask | Order) -> asyncio.Future[Message | None]:
        future: asyncio.Future[Message | None] = self._loop.create_future()
        self._waiting[seat.number, question.id] = future
        seat.send(question)
        return future

    def _arrived(self, seat: Seat, asked: int, message: Message) -> None:
        future = self._waiting.pop((seat.number, asked), None)
        if future is not None and not future.done():
            future.set_result(message)
