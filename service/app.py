"""The application: every part is built once, in order; the lifespan opens and closes them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from service import __version__
from service.access_settings import is_loopback
from service.batcher import BatchPolicy
from service.cpu import usable_cores
from service.doors import auditor_of, gate_of
from service.engine import EngineOptions, check_wheels
from service.errors import ServiceError
from service.loader import LoadOptions
from service.metrics import Metrics
from service.observer import Observers
from service.platforms import TITLES
from service.predictor import Predictor
from service.registry import Readiness, Registry
from service.reloader import Control, Reloader, at_start
from service.repository import Found, named, scan
from service.settings import Settings
from service.statistics import Statistics
from service.web.auditor import Auditor
from service.web.direct import DirectRoad
from service.web.errors import ErrorAnswers
from service.web.exchange import WebOptions, WebParts
from service.web.guard import Guard
from service.web.roads import make_pages, make_roads, openapi_of, public_paths, routes_of
from service.web.security import Access, Gate
from service.web.visit import Visits

_log = logging.getLogger("onnxport.app")


@dataclass(frozen=True, slots=True)
class Core:
    """What answers requests, without HTTP; the command line uses the same parts."""

    found: tuple[Found, ...]
    registry: Registry
    reloader: Reloader
    predictor: Predictor
    executors: tuple[ThreadPoolExecutor, ...]
    metrics: Metrics
    statistics: Statistics

    async def aclose(self) -> None:
        """Answer what runs, close the models, end the threads."""
        await self.reloader.aclose()
        await self.registry.aclose()
        for executor in self.executors:
            executor.shutdown()


def make_core(settings: Settings, found: Sequence[Found]) -> Core:
    """Build the runtime for these models; nothing is loaded yet.

    Raises ConfigurationError if one that is to be loaded at the start is not among them.
    """
    threads = usable_cores() if settings.threads == "auto" else settings.threads
    # Each kind of work has threads of its own: a queue of pictures, or models that are loaded
    # while others answer, must not hold up a run.
    runs = ThreadPoolExecutor(threads, thread_name_prefix="engine")
    inputs = ThreadPoolExecutor(threads, thread_name_prefix="inputs")
    loads = ThreadPoolExecutor(threads, thread_name_prefix="loads")
    metrics, statistics = Metrics(__version__), Statistics()
    observer = Observers(metrics, statistics)
    control = control_of(settings)
    registry = Registry(
        at_start(found, control),
        options=load_options(settings),
        policy=BatchPolicy(
            max_rows=settings.max_batch_rows,
            queue_rows=settings.queue_rows,
            concurrency=threads,
        ),
        readiness=Readiness(settings.readiness == "strict", settings.ready_requires),
        executor=runs,
        loads=loads,
        observer=observer,
    )
    reloader = Reloader(registry, settings.repository, control, model_name=settings.model_name)
    predictor = Predictor(registry, inputs, observer, max_instances=settings.queue_rows)
    executors = (runs, inputs, loads)
    return Core(tuple(found), registry, reloader, predictor, executors, metrics, statistics)


def control_of(settings: Settings) -> Control:
    """Return who decides what is live."""
    return Control(settings.model_control, settings.load_model)


def load_options(settings: Settings) -> LoadOptions:
    """Return how models are opened and what they must prove."""
    providers = ("auto",) if settings.providers == "auto" else tuple(settings.providers)
    return LoadOptions(
        EngineOptions(providers), verify=settings.verify, max_rows=settings.max_batch_rows
    )


def create_app(settings: Settings, found: Sequence[Found] | None = None) -> FastAPI:
    """Build the application; raises ConfigurationError if there is nothing to serve.

    ``found`` saves a second look at the disk where the caller has already scanned it.
    """
    check_wheels()
    if found is None:
        found = named(scan(settings.repository), settings.model_name)
    auditor = auditor_of(settings)
    gate = gate_of(settings, auditor)
    core = make_core(settings, found)
    app = FastAPI(
        title="onnxport",
        version=__version__,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=_lifespan(core, settings, auditor),
        # Else FastAPI exports traces where OTEL_* variables are set; this server never calls out.
        telemetry={"auto_configure": False, "tracing": False, "metrics": False, "logs": False},
    )
    options = WebOptions(
        max_body_bytes=settings.max_body_bytes,
        max_decompressed_bytes=settings.max_decompressed_bytes,
        max_json_depth=settings.max_json_depth,
        deadline=settings.deadline,
        root_path=settings.root_path,
        default_model=settings.default_model,
        health_route=settings.health_route,
        predict_route=settings.predict_route,
    )
    parts = WebParts(
        core.registry,
        core.predictor,
        options,
        repository=core.reloader,
        history=core.statistics,
        auditor=auditor,
    )
    set_up(app, parts, core.metrics, gate=gate, access_log=settings.access_log)
    return app


def set_up(
    app: FastAPI,
    parts: WebParts,
    metrics: Metrics,
    *,
    gate: Gate | None = None,
    access_log: bool = True,
) -> None:
    """Give an application its roads, its error answers and its outermost layer.

    ``app.state.direct`` is the road in front of it, for a protocol class that can take it.  Without
    a ``gate`` everybody may do everything.
    """
    gate = gate or Gate()
    answers = ErrorAnswers(metrics)
    visits = Visits(metrics, access_log=access_log, auditor=parts.auditor)
    app.add_exception_handler(ServiceError, answers.service_error)
    app.add_exception_handler(HTTPException, answers.http_error)
    app.add_exception_handler(RequestValidationError, answers.validation_error)
    roads = make_roads(parts, metrics)
    access = {road.path: road.access for road in roads if road.method == "POST"}
    app.state.direct = DirectRoad(parts, answers, visits, gate=gate, access=access)
    document = openapi_of(roads, gate, version=__version__, root_path=parts.options.root_path)
    app.openapi = lambda: document  # type: ignore[method-assign] # FastAPI's own way to replace it
    parts.auditor.watch([road.path for road in roads if road.access is Access.PREDICT])
    roads = (*roads, *make_pages(document, parts))
    app.router.routes[:0] = routes_of(roads, gate)
    app.add_middleware(
        Guard,
        gate=gate,
        public=public_paths(roads, gate),
        errors=answers,
        visits=visits,
        max_body_bytes=parts.options.max_body_bytes,
    )


def _lifespan(
    core: Core, settings: Settings, auditor: Auditor
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        _warn_if_open(settings)
        auditor.open(__version__)
        await core.registry.open()
        try:
            yield
        finally:
            await core.aclose()
            auditor.close()

    return lifespan


def _warn_if_open(settings: Settings) -> None:
    hosts = [settings.host] + ([] if settings.admin_port is None else [settings.admin_host])
    for host in hosts:
        if not is_loopback(host) and not settings.has_keys and settings.tls_client_ca is None:
            _log.warning(
                "listening on %s without access control%s: everybody who reaches it may use it",
                host,
                f", as {TITLES[settings.platform]} asks" if settings.platform in TITLES else "",
            )
