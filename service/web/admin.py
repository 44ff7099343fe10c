"""The repository extension: what there is, load, unload."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.access import ANYBODY
from service.arrays import kind_of
from service.errors import InvalidRequest, NotBuilt
from service.lifecycle import State
from service.reloader import IndexRow
from service.web import fields, wire
from service.web.exchange import CALLER, WebParts, headers_of, json_response, read_body

# Triton's words for the life of a version.
_STATES: Mapping[State, str] = {
    State.PENDING: "LOADING",
    State.LOADING: "LOADING",
    State.VERIFYING: "LOADING",
    State.READY: "READY",
    State.DRAINING: "UNLOADING",
    State.FAILED: "UNAVAILABLE",
    State.UNLOADED: "UNAVAILABLE",
}


class Admin:
    """Handlers of the POST roads below /v2/repository."""

    def __init__(self, parts: WebParts) -> None:
        """Keep what the roads ask."""
        self._repository = parts.repository
        self._options = parts.options
        self._auditor = parts.auditor

    async def index(self, request: Request) -> Response:
        """List all versions in memory and, by name, the other models on disk."""
        only_ready = _flag(await self._object(request), "ready")
        rows = [
            _row(row)
            for row in await self._repository.index()
            if row.state is State.READY or not only_ready
        ]
        return json_response(rows)

    async def load(self, request: Request) -> Response:
        """Load a model, or load it again; the answer is there when it is ready."""
        parameters = _parameters(await self._object(request))
        for key in parameters:
            if key == "config" or key.startswith("file:"):
                raise NotBuilt(
                    f"parameters.{key[:64]}: a model is loaded as it lies in the repository; put "
                    "its files there and what the server should do with it into serving.toml"
                )
        _refuse_unknown(parameters, ())
        name = request.path_params["name"]
        async with self._noted("load", name, request):
            await self._repository.load(name)
        return json_response({"name": name, "load": True})

    async def unload(self, request: Request) -> Response:
        """Take a model out of service, whether it is known or not; it drains."""
        parameters = _parameters(await self._object(request))
        _refuse_unknown(parameters, ("unload_dependents",))
        # No model here depends on another, so there is nothing else to do for it.
        fields.flag(parameters, "unload_dependents", "parameters")
        name = request.path_params["name"]
        async with self._noted("unload", name, request):
            await self._repository.unload(name)
        return json_response({"name": name, "unload": True})

    def _noted(self, action: str, name: str, request: Request) -> AbstractAsyncContextManager[None]:
        caller = request.scope.get(CALLER, ANYBODY).name
        client = request.client.host if request.client else ""
        return self._auditor.action(action, name, caller=caller, client=client)

    async def _object(self, request: Request) -> Mapping[str, Any]:
        body = await read_body(
            request.receive,
            headers_of(request.scope),
            max_decompressed=self._options.max_decompressed_bytes,
        )
        return wire.load_object(body, max_depth=self._options.max_json_depth) if body else {}


def _row(row: IndexRow) -> dict[str, str]:
    if row.version is None or row.state is None:
        return {"name": row.name}
    line = {"name": row.name, "version": str(row.version), "state": _STATES[row.state]}
    return {**line, "reason": row.reason} if row.reason else line


def _parameters(body: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = body.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidRequest(f"parameters: expected an object, got {kind_of(parameters)}")
    return parameters


def _refuse_unknown(parameters: Mapping[str, Any], known: Collection[str]) -> None:
    for key in parameters:
        if key not in known:
            there = ", ".join(known) or "none"
            raise InvalidRequest(f"parameters.{key[:64]}: unknown; known here are: {there}")


def _flag(members: Mapping[str, Any], key: str) -> bool:
    value = members.get(key)
    if not isinstance(value, bool | None):
        raise InvalidRequest(f"{key}: expected true or false, got {kind_of(value)}")
    return bool(value)
