"""What of the exchanges goes into the audit log: names, hashes and outcomes, never payloads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from service import logs
from service.audit import AuditLog
from service.errors import AuditUnavailable, ServiceError
from service.web.visit import Visit

_log = logging.getLogger("onnxport.audit")


class Auditor:
    """Writes to an audit log, if there is one."""

    def __init__(self, log: AuditLog | None = None, *, predictions: bool = False) -> None:
        """Keep the log, and whether predictions go there, too."""
        self._log = log
        self.predictions = predictions and log is not None
        # Whether the last note of a prediction failed; one line in the log says it.
        self._failing = False
        self._predict_roads: frozenset[str] = frozenset()

    def watch(self, roads: Sequence[str]) -> None:
        """Take the templates of the roads whose exchanges are predictions."""
        self._predict_roads = frozenset(roads)

    def open(self, version: str) -> None:
        """Note the start; raises AuditUnavailable, since nothing may happen unnoted."""
        if self._log is not None:
            self._log.write("start", {"version": version})

    def close(self) -> None:
        """Note the end."""
        try:
            if self._log is not None:
                self._log.close()
        except AuditUnavailable as error:
            _log.error("%s", error)

    def keys_changed(self, file: str, came: Sequence[str], went: Sequence[str]) -> None:
        """Note the names of the keys that are new and of those that are gone."""
        if self._log is not None:
            self._note("keys", {"file": file, "added": came, "removed": went}, durable=True)

    @asynccontextmanager
    async def action(
        self, name: str, model: str, *, caller: str, client: str
    ) -> AsyncIterator[None]:
        """Note an admin action before it is begun, and how it has ended.

        Raises AuditUnavailable before it is begun if it cannot be noted.
        """
        if self._log is None:
            yield
            return
        fields = {
            "action": name,
            "model": model,
            "caller": caller,
            "client": client,
            "request_id": logs.request_id.get(),
        }
        await self._noted(self._log, fields, "begun")
        try:
            yield
        except ServiceError as error:
            await self._noted(self._log, fields, error.code)
            raise
        except BaseException:
            # Also where the caller or the server has gone: the log must not leave it open.
            await self._noted(self._log, fields, "interrupted")
            raise
        await self._noted(self._log, fields, "done")

    async def _noted(self, log: AuditLog, fields: Mapping[str, object], outcome: str) -> None:
        # A disk takes its time to have it for certain.
        await asyncio.to_thread(log.write, "admin", {**fields, "outcome": outcome})

    def prediction(self, visit: Visit, status: int) -> None:
        """Note an exchange that has ended, if its road is one of predictions."""
        if visit.hashes is None or visit.road not in self._predict_roads:
            return
        fields = {
            "request_id": visit.id.decode(),
            "caller": visit.caller,
            "client": visit.client,
            "road": visit.road,
            "model": visit.model,
            "version": visit.version,
            "status": status,
            "request_sha256": visit.hashes.asked.hexdigest(),
            "response_sha256": visit.hashes.answered.hexdigest(),
        }
        self._note("prediction", fields, durable=False)

    def _note(self, event: str, fields: Mapping[str, object], *, durable: bool) -> None:
        """Note what has happened already: a failure cannot undo it, but is said aloud."""
        assert self._log is not None
        try:
            self._log.write(event, fields, durable=durable)
        except AuditUnavailable as error:
            if not self._failing:
                _log.error("%s", error)
            self._failing = True
        else:
            self._failing = False
