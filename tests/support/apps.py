"""The HTTP side over stand-ins instead of a runtime."""

from __future__ import annotations

from fastapi import FastAPI

from service.app import set_up
from service.metrics import Metrics
from service.web.exchange import Answers, Models, WebOptions, WebParts
from tests.support.fakes import EchoAnswers, FakeModels


def make_app(
    *,
    models: Models | None = None,
    answers: Answers | None = None,
    options: WebOptions | None = None,
) -> FastAPI:
    """Return an application whose roads lead to the given stand-ins."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    parts = WebParts(models or FakeModels(), answers or EchoAnswers(), options or WebOptions())
    set_up(app, parts, Metrics("0"))
    return app
