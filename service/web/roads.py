"""The one table of every road: path, methods, where it leads, and how it is documented."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from service.web import documents, hosted_documents, repository_documents
from service.web.admin import Admin
from service.web.exchange import PROBE, ROAD, WebParts
from service.web.infer import Infer
from service.web.infer_document import INFER
from service.web.pages import Pages
from service.web.platforms import Invocations
from service.web.routes import Routes
from service.web.v1 import ModelRoads, OtherVerb, Predict

_NAME = "/{name}"
_VERSION = "/{name}/versions/{version}"
_LABEL = "/{name}/labels/{label}"


@dataclass(frozen=True, slots=True)
class Road:
    """One path with one method; a GET also answers HEAD.

    ``document`` is the OpenAPI operation; roads without one do not appear in the documentation.
    A ``probe`` comes every second or so; its lines in the access log would hide all others.
    """

    method: str | None
    path: str
    endpoint: Callable[..., Any]
    document: Mapping[str, Any] | None = None
    probe: bool = False


class RoadRoute(Route):
    """A route that tells the guard its template, which is what metrics may be labelled with."""

    probe = False

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a wrong method with a stable list of the right ones, or pass on."""
        scope[ROAD] = self.path_format
        scope[PROBE] = self.probe
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
        *_both("POST", "/v2/models", "/infer", infer, INFER),
        *_every("POST", ":predict", predict, documents.PREDICT),
        *_health(routes),
        *_both("GET", "/v2/models", "/ready", routes.model_ready, documents.MODEL_READY),
        *_both("GET", "/v2/models", "/config", routes.config, about.CONFIG),
        *_both("GET", "/v2/models", "/stats", routes.statistics, about.STATISTICS),
        Road("GET", "/v2/models/stats", routes.all_statistics, about.STATISTICS),
        *_both("GET", "/v2/models", "", routes.metadata, documents.METADATA),
        Road("GET", "/v2/models", routes.models, documents.INDEX),
        Road("POST", "/v2/repository/index", admin.index, about.INDEX),
        Road("POST", f"/v2/repository/models{_NAME}/load", admin.load, about.LOAD),
        Road("POST", f"/v2/repository/models{_NAME}/unload", admin.unload, about.UNLOAD),
        Road("GET", "/v2", routes.server, documents.SERVER),
        Road("GET", "/v2/", routes.server),
        Road("GET", "/v1/models", models.index, documents.INDEX),
        *_every("GET", "/info", models.info, documents.INFO),
        *_every("GET", "/verification", models.verification, documents.VERIFICATION),
        *_every("GET", "/metadata", models.metadata, hosted_documents.METADATA),
        *_every("POST", ":explain", models.explain, hosted_documents.EXPLAIN),
        *_every(None, ":{verb}", OtherVerb(), None),
        *_every("GET", "", models.status, documents.STATUS),
    )


def _hosted(parts: WebParts, routes: Routes, invocations: Invocations) -> tuple[Road, ...]:
    """Return the roads of the hosting platforms; those that the operator has named come first."""
    health, predict = parts.options.health_route, parts.options.predict_route
    named = [Road("GET", health, routes.ready, hosted_documents.PING, probe=True)] if health else []
    if predict:
        named.append(Road("POST", predict, invocations, hosted_documents.INVOCATIONS))
    known = (
        Road("GET", "/ping", routes.ready, hosted_documents.PING, probe=True),
        Road("POST", "/invocations", invocations, hosted_documents.INVOCATIONS),
    )
    return (*named, *known)


def _health(routes: Routes) -> tuple[Road, ...]:
    """Return what probes and scrapers ask, under all the names that they use for it."""
    roads = (
        Road("GET", "/v2/health/live", routes.live, documents.LIVE),
        Road("GET", "/v2/health/ready", routes.ready, documents.READY),
        Road("GET", "/livez", routes.live, documents.LIVE),
        Road("GET", "/healthz", routes.live, documents.LIVE),
        Road("GET", "/readyz", routes.ready, documents.READY),
        Road("GET", "/health", routes.ready, documents.READY),
        Road("GET", "/startupz", routes.started, hosted_documents.STARTED),
        Road("GET", "/metrics", routes.metrics, documents.METRICS),
        Road("GET", "/", routes.root, documents.ROOT),
    )
    return tuple(replace(road, probe=True) for road in roads)


def _both(
    method: str | None,
    prefix: str,
    suffix: str,
    endpoint: Callable[..., Any],
    document: Mapping[str, Any] | None,
) -> tuple[Road, Road]:
    """Return the road with and without a version in its path."""
    return (
        Road(method, f"{prefix}{_NAME}{suffix}", endpoint, document),
        Road(method, f"{prefix}{_VERSION}{suffix}", endpoint, document),
    )


def _every(
    method: str | None,
    suffix: str,
    endpoint: Callable[..., Any],
    document: Mapping[str, Any] | None,
) -> tuple[Road, ...]:
    """Return a road of V1, which may also name a version by its label."""
    prefix = "/v1/models"
    return (
        *_both(method, prefix, suffix, endpoint, document),
        Road(method, f"{prefix}{_LABEL}{suffix}", endpoint, document),
    )


def make_pages(document: Mapping[str, Any], parts: WebParts) -> tuple[Road, ...]:
    """Return the roads of the documentation, which the documentation leaves out."""
    pages = Pages(document, parts.models)
    return (Road("GET", "/openapi.json", pages.openapi), Road("GET", "/docs", pages.docs))


def routes_of(roads: Sequence[Road]) -> list[RoadRoute]:
    """Return the table as Starlette's routes."""
    routes = []
    for road in roads:
        methods = [road.method] if road.method else None
        route = RoadRoute(road.path, road.endpoint, methods=methods)
        route.probe = road.probe
        routes.append(route)
    return routes


def openapi_of(roads: Sequence[Road], *, version: str, root_path: str) -> dict[str, Any]:
    """Return the OpenAPI document of the table."""
    paths: dict[str, dict[str, Any]] = {}
    for road in roads:
        if road.document is not None and road.method is not None:
            operation = documents.operation(road.document, road.method, road.path)
            paths.setdefault(road.path, {})[road.method.lower()] = operation
    document = {**documents.HEAD, "paths": paths, "components": documents.COMPONENTS}
    document["info"] = {**documents.HEAD["info"], "version": version}
    if root_path:
        document["servers"] = [{"url": root_path}]
    return document
