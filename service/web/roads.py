"""The one table of every road: path, methods, where it leads, and how it is documented."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from service.metrics import Metrics
from service.web import documents, repository_documents
from service.web.admin import Admin
from service.web.exchange import ROAD, WebParts
from service.web.infer import Infer
from service.web.pages import Pages
from service.web.routes import Routes
from service.web.v1 import ModelRoads, OtherVerb, Predict

_NAME = "/{name}"
_VERSION = "/{name}/versions/{version}"


@dataclass(frozen=True, slots=True)
class Road:
    """One path with one method; a GET also answers HEAD.

    ``document`` is the OpenAPI operation; roads without one do not appear in the documentation.
    """

    method: str | None
    path: str
    endpoint: Callable[..., Any]
    document: Mapping[str, Any] | None = None


class RoadRoute(Route):
    """A route that tells the guard its template, which is what metrics may be labelled with."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a wrong method with a stable list of the right ones, or pass on."""
        scope[ROAD] = self.path_format
        if self.methods and scope["method"] not in self.methods:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(self.methods))})
        await self.app(scope, receive, send)


def make_roads(parts: WebParts, metrics: Metrics) -> tuple[Road, ...]:
    """Return every road, the busiest first: routes are tried in order."""
    infer, predict = Infer(parts), Predict(parts)
    routes, models, other = Routes(parts, metrics), ModelRoads(parts), OtherVerb()
    admin, about = Admin(parts), repository_documents
    return (
        *_both("POST", "/v2/models", "/infer", infer, documents.INFER),
        *_both("POST", "/v1/models", ":predict", predict, documents.PREDICT),
        Road("GET", "/v2/health/live", routes.live, documents.LIVE),
        Road("GET", "/v2/health/ready", routes.ready, documents.READY),
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
        *_both("GET", "/v1/models", "/info", models.info, documents.INFO),
        *_both(None, "/v1/models", ":{verb}", other, None),
        *_both("GET", "/v1/models", "", models.status, documents.STATUS),
        Road("GET", "/metrics", routes.metrics, documents.METRICS),
        Road("GET", "/", routes.root, documents.ROOT),
    )


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


def make_pages(document: Mapping[str, Any]) -> tuple[Road, ...]:
    """Return the roads of the documentation, which the documentation leaves out."""
    pages = Pages(document)
    return (Road("GET", "/openapi.json", pages.openapi), Road("GET", "/docs", pages.docs))


def routes_of(roads: Sequence[Road]) -> list[RoadRoute]:
    """Return the table as Starlette's routes."""
    return [
        RoadRoute(road.path, road.endpoint, methods=[road.method] if road.method else None)
        for road in roads
    ]


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
