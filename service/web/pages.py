"""The documentation: the OpenAPI document and a page that shows it, nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from service.registry import ModelView
from service.web.exchange import Models
from service.web.model_documents import answering, with_models
from service.web.snippets import BASE

# What a Host header may hold: a name or an address, and a port.
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_PAGE_HEADERS = {
    # The page needs its own text and this server, and shows what models answer.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; img-src data: blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'",
}


class Pages:
    """The two roads of the documentation; the document is written anew when the models change."""

    def __init__(self, document: Mapping[str, Any], models: Models) -> None:
        """Keep the general document and read the page, which lies in the package."""
        self._document = dict(document)
        self._models = models
        self._page = resources.files("service.web").joinpath("static/docs.html").read_bytes()
        # The models that `_written` describes; changed only by `_current`, on the event loop.
        self._described: tuple[ModelView, ...] = ()
        self._written = orjson.dumps(with_models(self._document, ()))

    async def openapi(self, request: Request) -> Response:
        """Return the OpenAPI document, its command lines with the address that was asked."""
        # Within a JSON text, so without the quotation marks around it.
        address = orjson.dumps(self._base_of(request))[1:-1]
        body = self._current().replace(BASE.encode(), address)
        return Response(body, headers={"Vary": "Host"}, media_type="application/json")

    async def docs(self, request: Request) -> Response:
        """Return the page."""
        del request
        return HTMLResponse(self._page, headers=_PAGE_HEADERS)

    def _base_of(self, request: Request) -> str:
        """Return the address of the server as the caller knows it; Host is the caller's word."""
        host = request.headers.get("host", "")
        # What is no address must not end up in a line that people paste into a shell.
        known = host if _HOST.fullmatch(host) else "127.0.0.1:8080"
        prefix = "".join(server["url"] for server in self._document.get("servers", ()))
        return f"{request.scope['scheme']}://{known}{prefix}"

    def _current(self) -> bytes:
        views = answering(self._models.views())
        if not _same(views, self._described):
            self._written = orjson.dumps(with_models(self._document, views))
            self._described = views
        return self._written


def _same(left: tuple[ModelView, ...], right: tuple[ModelView, ...]) -> bool:
    """Whether these are the same loads of the same models; each load makes its own example."""
    return len(left) == len(right) and all(
        one.name == other.name and one.showcase is other.showcase
        for one, other in zip(left, right, strict=True)
    )
