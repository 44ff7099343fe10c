"""The documentation: the OpenAPI document and a page that shows it, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response


class Pages:
    """The two roads of the documentation; both are written once and kept."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Write the document and read the page, which lies in the package."""
        self._document = orjson.dumps(document)
        self._page = resources.files("service.web").joinpath("static/docs.html").read_bytes()

    async def openapi(self, request: Request) -> Response:
        """Return the OpenAPI document."""
        del request
        return Response(self._document, media_type="application/json")

    async def docs(self, request: Request) -> Response:
        """Return the page."""
        del request
        return HTMLResponse(self._page)
