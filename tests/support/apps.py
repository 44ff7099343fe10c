"""The HTTP side over stand-ins instead of a runtime."""

from __future__ import annotations

from dataclasses import replace

from fastapi import FastAPI

from service.app import set_up
from service.figures import OwnFigures
from service.metrics import Metrics
from service.statistics import Statistics
from service.web.auditor import Auditor
from service.web.exchange import Answers, Models, Repository, WebOptions, WebParts
from service.web.limits import EdgeLimits
from service.web.security import Gate
from tests.support.fakes import EchoAnswers, FakeModels, FakeRepository


def make_app(
    *,
    models: Models | None = None,
    answers: Answers | None = None,
    options: WebOptions | None = None,
    repository: Repository | None = None,
    gate: Gate | None = None,
    auditor: Auditor | None = None,
    limits: EdgeLimits | None = None,
) -> FastAPI:
    """Return an application whose roads lead to the given stand-ins."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    metrics = Metrics("0")
    parts = make_parts(
        models=models, answers=answers, options=options, repository=repository, metrics=metrics
    )
    set_up(app, replace(parts, auditor=auditor or Auditor()), metrics, gate=gate, limits=limits)
    return app


def make_parts(
    *,
    models: Models | None = None,
    answers: Answers | None = None,
    options: WebOptions | None = None,
    repository: Repository | None = None,
    metrics: Metrics | None = None,
) -> WebParts:
    """Return what roads lead to: the given stand-ins, and others for the rest."""
    return WebParts(
        models or FakeModels(),
        answers or EchoAnswers(),
        options or WebOptions(),
        repository=repository or FakeRepository(),
        figures=OwnFigures(metrics or Metrics("0"), Statistics()),
    )
