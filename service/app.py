"""The application: every part is built once, in order; the lifespan opens and closes them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from service import __version__, nvml
from service.access_settings import is_loopback
from service.batcher import BatchPolicy
from service.cpu import usable_cores
from service.doors import auditor_of, gate_of
from service.engine import EngineOptions
from service.engine import version as ort_version
from service.errors import ConfigurationError, ServiceError
from service.figures import OwnFigures, SharedFigures
from service.folders import UploadFolders
from service.lifecycle import State
from service.loader import LoadOptions, load_model
from service.member import Member, SharedModels, SharedRepository
from service.memory import keep_for_good, let_go
from service.metrics import Metrics
from service.observer import Observers
from service.planning import Asked, Control, at_start
from service.platforms import TITLES
from service.poller import Poller, Task
from service.pool import Pool
from service.predictor import Predictor
from service.registry import Readiness, Registry
from service.reloader import Reloader
from service.repository import Found, named, scan, scan_one
from service.settings import Settings
from service.statistics import Statistics
from service.telemetry import Telemetry, telemetry_of
from service.tracing import Traces
from service.tuning import TuningOptions
from service.web.auditor import Auditor
from service.web.direct import DirectRoad
from service.web.edge import Edge
from service.web.errors import ErrorAnswers
from service.web.exchange import WebOptions, WebParts
from service.web.guard import Guard
from service.web.limits import EdgeLimits
from service.web.roads import make_pages, make_roads, openapi_of, public_paths, routes_of
from service.web.security import Access, Gate
from service.web.visit import Visits
from service.wheels import check_wheels

_log = logging.getLogger("onnxport.app")


@dataclass(frozen=True, slots=True)
class Core:
    """What answers requests, without HTTP; the command line uses the same parts."""

    found: tuple[Found, ...]
    registry: Registry
    reloader: Reloader
    predictor: Predictor
    executors: tuple[Executor, ...]
    metrics: Metrics
    statistics: Statistics
    member: Member | None = None
    telemetry: Telemetry | None = None

    async def aclose(self) -> None:
        """Answer what runs, close the models, end the threads, send the last spans."""
        await self.reloader.aclose()
        await self.registry.aclose()
        for executor in self.executors:
            executor.shutdown()
        if self.telemetry is not None:
            await asyncio.to_thread(self.telemetry.close)


def make_core(settings: Settings, found: Sequence[Found], member: Member | None = None) -> Core:
    """Build the runtime for these models; nothing is loaded yet.

    A ``member`` is one of several workers.  Raises ConfigurationError if a model that is to be
    loaded at the start, or that answers where none is named, is not among those that were found.
    """
    threads = _threads(settings, member)
    # Each kind of work has threads of its own: a queue of pictures, or models that are loaded
    # while others answer, must not hold up a run.
    runs = Pool(threads, "engine")
    inputs = ThreadPoolExecutor(threads, thread_name_prefix="inputs")
    # Where one load takes long, others go on beside it.
    loads = ThreadPoolExecutor(max(2, threads, usable_cores()), thread_name_prefix="loads")
    metrics = Metrics(__version__, nvml.devices, onnxruntime=ort_version())
    statistics = Statistics()
    telemetry = telemetry_of(settings)
    others = [one for one in (member, telemetry) if one is not None]
    observer = Observers(metrics, statistics, *others)
    control = control_of(settings)
    registry = Registry(
        first_models(found, control, member),
        options=proof_options(settings),
        policy=BatchPolicy(
            max_rows=settings.max_batch_rows,
            queue_rows=settings.queue_rows,
            concurrency=threads,
            max_wait=settings.max_wait_ms / 1e3,
            queue_bytes=settings.queue_bytes,
        ),
        readiness=readiness_of(settings, found),
        executor=runs,
        loads=loads,
        observer=observer,
        load=member.quarantine.load if member else load_model,
    )
    for known in member.start.known if member else ():
        if known.state == State.FAILED:
            registry.expect_failure(known.model, known.version, known.reason)
    folders = UploadFolders(Path(member.start.uploads) if member else None)
    for one in member.start.uploaded if member else ():
        folders.keep(one.model, Path(one.folder))
    reloader = Reloader(
        registry, settings.repository, control, model_name=settings.model_name, folders=folders
    )
    predictor = Predictor(registry, inputs, observer, max_instances=settings.queue_rows)
    executors = (runs, inputs, loads)
    if member is not None:
        member.join(registry, reloader, metrics, statistics)
    parts = (registry, reloader, predictor, executors, metrics, statistics, member, telemetry)
    return Core(tuple(found), *parts)


def _threads(settings: Settings, member: Member | None) -> int:
    if member is not None:
        return member.start.threads
    return usable_cores() if settings.threads == "auto" else settings.threads


def first_models(
    found: Sequence[Found], control: Control, member: Member | None = None
) -> list[Found]:
    """Return what is loaded at the start, with what has been asked for since the server began."""
    if member is None:
        return at_start(found, control)
    start = member.start
    for one in start.uploaded:
        own = scan_one(Path(one.folder), one.model)
        found = [*(other for other in found if other.name != one.model), *own]
    serving = {(one.model, one.version) for one in start.known if one.state == State.READY}
    return at_start(found, control, Asked(start.loaded, start.unloaded, serving))


def readiness_of(settings: Settings, found: Sequence[Found]) -> Readiness:
    """Return when the server is ready; the default model must be there, or may still come.

    Raises ConfigurationError if it is not on disk and nothing is loaded after the start.
    """
    requires, default = settings.ready_requires, settings.default_model
    there = sorted({one.name for one in found})
    if default and default not in there:
        text = (
            f"default_model: '{default}' is not in the repository; "
            f"it holds {', '.join(there) or 'no model'}"
        )
        if settings.model_control == "none":
            raise ConfigurationError(text)
        _log.warning("%s; the server is not ready before it is loaded", text)
    if default and settings.model_control != "none":
        requires = (*requires, default)
    return Readiness(settings.readiness == "strict", requires)


def control_of(settings: Settings) -> Control:
    """Return who decides what is live."""
    return Control(settings.model_control, settings.load_model)


def load_options(settings: Settings) -> LoadOptions:
    """Return how models are opened and what they must prove."""
    providers = ("auto",) if settings.providers == "auto" else tuple(settings.providers)
    return LoadOptions(
        EngineOptions(providers, strict_placement=settings.strict_placement),
        verify=settings.verify,
        max_rows=settings.max_batch_rows,
        profile=settings.profile,
        cores=usable_cores(),
    )


def proof_options(settings: Settings) -> LoadOptions:
    """Return the same for models that are to serve, so that they are calibrated, too."""
    tuning = TuningOptions(calibrate=True, cache=settings.cache_folder)
    return replace(load_options(settings), tuning=tuning)


def create_app(
    settings: Settings, found: Sequence[Found] | None = None, member: Member | None = None
) -> FastAPI:
    """Build the application; raises ConfigurationError if there is nothing to serve.

    ``found`` saves a second look at the disk where the caller has already scanned it.  With a
    ``member`` it speaks for all workers, else for itself.
    """
    check_wheels(settings.providers)
    if found is None:
        found = named(scan(settings.repository), settings.model_name)
    auditor = auditor_of(settings)
    gate = gate_of(settings, auditor, member.ledger if member else None)
    core = make_core(settings, found, member)
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
    limits = EdgeLimits(
        head_bytes=settings.max_head_bytes,
        headers=settings.max_headers,
        head_seconds=settings.head_timeout,
        body_bytes=settings.max_body_bytes,
        body_seconds=settings.body_timeout,
        body_rate=settings.min_body_rate,
        idle_seconds=settings.keep_alive,
        read_seconds=settings.read_timeout,
        connections=settings.max_connections,
        bytes_in_flight=settings.max_bytes_in_flight,
    )
    app.state.health = core.registry.health
    parts = make_parts(core, options, auditor)
    visits = Visits(
        core.metrics,
        access_log=settings.access_log,
        auditor=auditor,
        traces=Traces(recording=core.telemetry is not None, ratio=settings.trace_ratio),
        recorder=core.telemetry,
    )
    set_up(app, parts, core.metrics, gate=gate, limits=limits, visits=visits)
    return app


def make_parts(core: Core, options: WebOptions, auditor: Auditor) -> WebParts:
    """Return what the roads lead to."""
    member = core.member
    if member is None:
        figures = OwnFigures(core.metrics, core.statistics)
        return WebParts(
            core.registry, core.predictor, options, core.reloader, figures, auditor=auditor
        )
    models = SharedModels(core.registry, member)
    repository = SharedRepository(core.reloader, models, member)
    shared = SharedFigures(member.link, core.metrics)
    return WebParts(models, core.predictor, options, repository, shared, auditor=auditor)


def set_up(
    app: FastAPI,
    parts: WebParts,
    metrics: Metrics,
    *,
    gate: Gate | None = None,
    limits: EdgeLimits | None = None,
    visits: Visits | None = None,
) -> None:
    """Give an application its roads, its error answers and its outermost layer.

    ``app.state.edge`` is what stands in front of it, between the sockets and the roads.  Without a
    ``gate`` everybody may do everything.
    """
    gate = gate or Gate()
    answers = ErrorAnswers(metrics)
    visits = visits or Visits(metrics, auditor=parts.auditor)
    roads = make_roads(parts)
    access = {road.path: road.access for road in roads if road.method == "POST"}
    direct = DirectRoad(parts, answers, visits, gate=gate, access=access)
    app.state.edge = Edge(direct, limits=limits or EdgeLimits(), metrics=metrics, visits=visits)
    app.add_exception_handler(ServiceError, answers.service_error)
    app.add_exception_handler(HTTPException, answers.http_error)
    app.add_exception_handler(RequestValidationError, answers.validation_error)
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


def open_warning(settings: Settings) -> str:
    """Say that the server is open to others, if it is; "" otherwise."""
    if settings.has_keys or settings.tls_client_ca is not None:
        return ""
    hosts = [] if settings.uds else [settings.host]
    hosts += [] if settings.admin_port is None else [settings.admin_host]
    others = [host for host in hosts if not is_loopback(host)]
    if not others:
        return ""
    title = TITLES.get(settings.platform)
    return (
        f"listening on {' and '.join(others)} without access control"
        f"{f', as {title} asks' if title else ''}: everybody who reaches it may use it"
    )


def _lifespan(
    core: Core, settings: Settings, auditor: Auditor
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        warning = open_warning(settings)
        # For several workers the supervisor says it once.
        if warning and core.member is None:
            _log.warning(warning)
        auditor.open(__version__)
        await core.registry.open()
        settling = asyncio.create_task(_settle(core.registry))
        polling = asyncio.create_task(_poll(core, settings))
        try:
            yield
        finally:
            settling.cancel()
            polling.cancel()
            if core.member is not None:
                core.member.emptied()
            await core.aclose()
            let_go()
            auditor.close()

    return lifespan


async def _poll(core: Core, settings: Settings) -> None:
    """Follow the disk where no supervisor does it for all workers."""
    if settings.model_control != "poll" or core.member is not None:
        return

    async def sync(name: str, task: Task) -> bool:
        try:
            await core.reloader.sync(name, settling=task.settling, retry=task.retry)
        except ServiceError as error:
            _log.debug("model %s is not as the disk has it: %s", name, error)
            return False
        return True

    await core.registry.until_tried()
    whole = bool(settings.model_name)
    await Poller(settings.repository, sync, interval=settings.poll_interval, whole=whole).run()


async def _settle(registry: Registry) -> None:
    """Spare the loop full collections once what was imported and first loaded is in memory.

    Not before: a load leaves much behind that the collector should still find.
    """
    await registry.until_tried()
    keep_for_good()
