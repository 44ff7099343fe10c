"""The one table of every road: path, methods, who may take it, where it leads, what it means."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.exceptions import HTTPException
from starlette.routing import Route, compile_path
from starlette.types import Receive, Scope, Send

from service.web import documents, hosted_documents, repository_documents, security_documents
from service.web.admin import Admin
from service.web.exchange import CALLER, PROBE, ROAD, WebParts, port_of
from service.web.infer import Infer
from service.web.infer_document import INFER
from service.web.pages import Pages
from service.web.platforms import Invocations
from service.web.routes import Routes
from service.web.security import NOBODY, SCOPE, Access, Gate
from service.web.v1 import ModelRoads, OtherVerb, Predict

_NAME = "/{name}"
_VERSION = "/{name}/versions/{version}"
_LABEL = "/{name}/labels/{label}"
_READ, _PREDICT, _ADMIN = Access.READ, Access.PREDICT, Access.ADMIN


@dataclass(frozen=True, slots=True)
class Road:
    """One path with one method; a GET also answers HEAD.

    ``document`` is the OpenAPI operation; roads without one do not appear in the documentation.
    A ``probe`` comes every second or so; its lines in the access log would hide all others.
    """

    access: Access
    method: str | None
    path: str
    endpoint: Callable[..., Any]
    document: Mapping[str, Any] | None = None
    probe: bool = False


class RoadRoute(Route):
    """A route that tells the guard its template, which is what metrics may be labelled with."""

    def __init__(self, road: Road, gate: Gate) -> None:
        """Take a road of the table; the gate knows who may take it."""
        methods = [road.method] if road.method else None
        super().__init__(road.path, road.endpoint, methods=methods)
        self.access = road.access
        self._probe = road.probe
        self._gate = gate

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse who may not, and a wrong method with a stable list of the right ones; pass on."""
        identity = scope.get(CALLER, NOBODY)
        self._gate.authorize(identity, self.access, scope["headers"], port_of(scope))
        scope[ROAD] = self.path_format
        scope[PROBE] = self._probe
        if self.methods and scope["method"] not in self.methods:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(self.methods))})
        await self.app(scope, receive, send)


def make_roads(parts: WebParts) -> tuple[Road, ...]:
    """Return every road, the busiest first: routes are tried in order."""
    infer, predict = Infer(parts), Predict(parts)
    routes, models = Routes(parts), ModelRoads(parts)
    admin, about = Admin(parts), repository_documents
    return (
        *_hosted(parts, routes, Invocations(parts, infer=infer, predict=predict)),
        *_both(_PREDICT, "POST", "/v2/models", "/infer", infer, INFER),
        *_every(_PREDICT, "POST", ":predict", predict, documents.PREDICT),
        *_health(routes),
        *_both(_READ, "GET", "/v2/models", "/ready", routes.model_ready, documents.MODEL_READY),
        *_both(_READ, "GET", "/v2/models", "/config", routes.config, about.CONFIG),
        *_both(_READ, "GET", "/v2/models", "/stats", routes.statistics, about.STATISTICS),
        Road(_READ, "GET", "/v2/models/stats", routes.all_statistics, about.STATISTICS),
        *_both(_READ, "GET", "/v2/models", "", routes.metadata, documents.METADATA),
        Road(_READ, "GET", "/v2/models", routes.models, documents.INDEX),
        Road(_READ, "POST", "/v2/repository/index", admin.index, about.INDEX),
        Road(_ADMIN, "POST", f"/v2/repository/models{_NAME}/load", admin.load, about.LOAD),
        Road(_ADMIN, "POST", f"/v2/repository/models{_NAME}/unload", admin.unload, about.UNLOAD),
        Road(_READ, "GET", "/v2", routes.server, documents.SERVER),
        Road(_READ, "GET", "/v2/", routes.server),
        Road(_READ, "GET", "/v1/models", models.index, documents.INDEX),
        *_every(_READ, "GET", "/info", models.info, documents.INFO),
        *_every(_READ, "GET", "/metadata", models.metadata, hosted_documents.METADATA),
        *_every(_PREDICT, "POST", ":explain", models.explain, hosted_documents.EXPLAIN),
        *_every(_PREDICT, None, ":{verb}", OtherVerb(), None),
        *_every(_READ, "GET", "", models.status, documents.STATUS),
    )


def _hosted(parts: WebParts, routes: Routes, invocations: Invocations) -> tuple[Road, ...]:
    """Return the roads of the hosting platforms; those that the operator has named come first."""
    health, predict = parts.options.health_route, parts.options.predict_route
    pings = [path for path in (health, "/ping") if path]
    calls = [path for path in (predict, "/invocations") if path]
    return (
        *(
            Road(Access.HEALTH, "GET", path, routes.ready, hosted_documents.PING, probe=True)
            for path in pings
        ),
        *(
            Road(_PREDICT, "POST", path, invocations, hosted_documents.INVOCATIONS)
            for path in calls
        ),
    )


def _health(routes: Routes) -> tuple[Road, ...]:
    """Return what probes and scrapers ask, under all the names that they use for it."""
    roads = (
        Road(Access.HEALTH, "GET", "/v2/health/live", routes.live, documents.LIVE),
        Road(Access.HEALTH, "GET", "/v2/health/ready", routes.ready, documents.READY),
        Road(Access.HEALTH, "GET", "/livez", routes.live, documents.LIVE),
        Road(Access.HEALTH, "GET", "/healthz", routes.live, documents.LIVE),
        Road(Access.HEALTH, "GET", "/readyz", routes.ready, documents.READY),
        Road(Access.HEALTH, "GET", "/health", routes.ready, documents.READY),
        Road(Access.HEALTH, "GET", "/startupz", routes.started, hosted_documents.STARTED),
        Road(Access.METRICS, "GET", "/metrics", routes.metrics, documents.METRICS),
        Road(Access.HEALTH, "GET", "/", routes.root, documents.ROOT),
    )
    return tuple(replace(road, probe=True) for road in roads)


def _both(
    access: Access,
    method: str | None,
    prefix: str,
    suffix: str,
    endpoint: Callable[..., Any],
    document: Mapping[str, Any] | None,
) -> tuple[Road, Road]:
    """Return the road with and without a version in its path."""
    return (
        Road(access, method, f"{prefix}{_NAME}{suffix}", endpoint, document),
        Road(access, method, f"{prefix}{_VERSION}{suffix}", endpoint, document),
    )


def _every(
    access: Access,
    method: str | None,
    suffix: str,
    endpoint: Callable[..., Any],
    document: Mapping[str, Any] | None,
) -> tuple[Road, ...]:
    """Return a road of V1, which may also name a version by its label."""
    prefix = "/v1/models"
    return (
        *_both(access, method, prefix, suffix, endpoint, document),
        Road(access, method, f"{prefix}{_LABEL}{suffix}", endpoint, document),
    )


def make_pages(document: Mapping[str, Any], parts: WebParts) -> tuple[Road, ...]:
    """Return the roads of the documentation, which the documentation leaves out."""
    pages = Pages(document, parts.models)
    return (
        Road(Access.DOCS, "GET", "/openapi.json", pages.openapi),
        Road(Access.DOCS, "GET", "/docs", pages.docs),
    )


def routes_of(roads: Sequence[Road], gate: Gate) -> list[RoadRoute]:
    """Return the table as Starlette's routes."""
    return [RoadRoute(road, gate) for road in roads]


def public_paths(roads: Sequence[Road], gate: Gate) -> Callable[[str, str], bool]:
    """Return what says of method and path whether they need no key, before a road is looked for."""
    exact: set[tuple[str, str]] = set()
    templates: list[tuple[str, re.Pattern[str]]] = []
    for road in roads:
        if road.method is None or not gate.is_public(road.access):
            continue
        for method in (road.method, "HEAD") if road.method == "GET" else (road.method,):
            if "{" in road.path:
                templates.append((method, compile_path(road.path)[0]))
            else:
                exact.add((method, road.path))

    def is_public(method: str, path: str) -> bool:
        return (method, path) in exact or any(
            method == one and pattern.match(path) for one, pattern in templates
        )

    return is_public


def openapi_of(
    roads: Sequence[Road], gate: Gate, *, version: str, root_path: str
) -> dict[str, Any]:
    """Return the OpenAPI document of the table."""
    paths: dict[str, dict[str, Any]] = {}
    for road in roads:
        if road.document is not None and road.method is not None:
            operation = documents.operation(road.document, road.method, road.path)
            if gate.closed:
                scope = None if gate.is_public(road.access) else SCOPE[road.access] or "any"
                operation = security_documents.secured(operation, scope)
            paths.setdefault(road.path, {})[road.method.lower()] = operation
    document = {**documents.HEAD, "paths": paths, "components": {**documents.COMPONENTS}}
    if gate.closed:
        document["components"]["securitySchemes"] = security_documents.SCHEMES
    document["info"] = {**documents.HEAD["info"], "version": version}
    if root_path:
        document["servers"] = [{"url": root_path}]
    return document
