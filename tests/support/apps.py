"""The HTTP side over stand-ins instead of a runtime."""

from __future__ import annotations

from fastapi import FastAPI

from service.app import set_up
from service.metrics import Metrics
from service.statistics import Statistics
from service.web.exchange import Answers, Models, Repository, WebOptions, WebParts
from tests.support.fakes import EchoAnswers, FakeModels, FakeRepository


def make_app(
    *,
    models: Models | None = None,
    answers: Answers | None = None,
    repository: Repository | None = None,
) -> FastAPI:
    """Return an application whose roads lead to the given stand-ins."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    parts = WebParts(
        models or FakeModels(),
        answers or EchoAnswers(),
        WebOptions(),
        repository=repository or FakeRepository(),
        history=Statistics(),
    )
    set_up(app, parts, Metrics("0"))
    return app
