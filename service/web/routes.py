"""The GET roads of V2 and of the server itself: health, metadata, config, stats, metrics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from starlette.requests import Request
from starlette.responses import Response

from service import __version__
from service.access import ANYBODY, Scope
from service.errors import ModelNotReady
from service.metrics import CONTENT_TYPE
from service.registry import ModelView, State
from service.tensors import TensorSpec
from service.web.exchange import CALLER, WebParts, json_response, model_of
from service.web.modelconfig import PLATFORM, config_of

SERVER_NAME = "onnxport"
# In Triton's words; no extension is claimed that is not built.
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
)
_ENDED = frozenset({State.READY, State.FAILED, State.DRAINING, State.UNLOADED})


class Routes:
    """Handlers of a few lines each: ask the registry, write JSON."""

    def __init__(self, parts: WebParts) -> None:
        """Keep what the roads ask."""
        self._models = parts.models
        self._figures = parts.figures

    async def root(self, request: Request) -> Response:
        """Say that the server is alive, as KServe's V1 does."""
        del request
        return json_response({"status": "alive"})

    async def server(self, request: Request) -> Response:
        """Tell the server's name, its version and what it can do beyond the protocol's core."""
        del request
        return json_response(
            {"name": SERVER_NAME, "version": __version__, "extensions": EXTENSIONS}
        )

    async def live(self, request: Request) -> Response:
        """Say that the process answers."""
        del request
        return json_response({"live": True})

    async def ready(self, request: Request) -> Response:
        """Say whether the server should be sent traffic, and if not which models hold it up."""
        if self._models.ready():
            return json_response({"ready": True})
        waiting = [not_ready(v) for v in self._models.views() if v.state is not State.READY]
        text = _for_caller(request, "; ".join(waiting) or "a required model is missing")
        return json_response({"ready": False, "error": text}, 503, {"Retry-After": "1"})

    async def started(self, request: Request) -> Response:
        """Say whether every model's first attempt has ended, well or not."""
        loading = [not_ready(v) for v in self._models.views() if v.state not in _ENDED]
        if not loading:
            return json_response({"started": True})
        content = {"started": False, "error": _for_caller(request, "; ".join(loading))}
        return json_response(content, 503, {"Retry-After": "1"})

    async def models(self, request: Request) -> Response:
        """List the models' names."""
        del request
        return json_response({"models": list(dict.fromkeys(v.name for v in self._models.views()))})

    async def metadata(self, request: Request) -> Response:
        """Tell a model's inputs and outputs; 503 until they are known."""
        name, version = model_of(request.scope)
        view = self._ready_view(name, version)
        return json_response(
            {
                "name": name,
                "versions": [str(number) for number in self._ready_versions(name, version)],
                "platform": PLATFORM,
                "inputs": _tensors(view.inputs),
                "outputs": _tensors(view.outputs),
            }
        )

    def _ready_versions(self, name: str, version: int | None) -> list[int]:
        return [
            view.version
            for view in self._models.views()
            if view.name == name and view.state is State.READY and version in (None, view.version)
        ]

    async def config(self, request: Request) -> Response:
        """Tell how a model is run, in Triton's words; 503 until it is known."""
        return json_response(config_of(self._ready_view(*model_of(request.scope))))

    async def statistics(self, request: Request) -> Response:
        """Tell what a model's ready versions have done; 503 if none is ready."""
        name, version = model_of(request.scope)
        self._ready_view(name, version)
        return await self._statistics((name, one) for one in self._ready_versions(name, version))

    async def all_statistics(self, request: Request) -> Response:
        """Tell what every ready version has done."""
        del request
        views = self._models.views()
        return await self._statistics((v.name, v.version) for v in views if v.state is State.READY)

    async def _statistics(self, versions: Iterable[tuple[str, int]]) -> Response:
        history = await self._figures.history()
        stats = [
            {"name": name, "version": str(version), **history.of(name, version).as_json()}
            for name, version in versions
        ]
        return json_response({"model_stats": stats})

    def _ready_view(self, name: str, version: int | None) -> ModelView:
        view = self._models.view(name, version)
        if view.state is not State.READY:
            raise ModelNotReady(not_ready(view))
        return view

    async def model_ready(self, request: Request) -> Response:
        """Say whether a model answers; 503 with the reason if not."""
        view = self._models.view(*model_of(request.scope))
        if view.state is State.READY:
            return json_response({"name": view.name, "ready": True})
        content = {"name": view.name, "ready": False, "error": not_ready(view)}
        return json_response(content, 503, {"Retry-After": "1"})

    async def metrics(self, request: Request) -> Response:
        """Return all instruments in Prometheus' text format, whatever the caller accepts."""
        del request
        return Response(await self._figures.page(), headers={"content-type": CONTENT_TYPE})


def _for_caller(request: Request, reasons: str) -> str:
    """Return the reasons, which name models, only to callers who may know them."""
    caller = request.scope.get(CALLER, ANYBODY)
    return reasons if Scope.READ in caller.scopes else "not every model is ready"


def not_ready(view: ModelView) -> str:
    """Say in which state a version is instead of ready, and why."""
    reason = f": {view.reason}" if view.reason else ""
    return f"model '{view.name}' version {view.version} is {view.state}{reason}"


def _tensors(specs: Sequence[TensorSpec]) -> list[dict[str, object]]:
    """Describe what infer takes and answers; sequences and maps are not among it."""
    return [
        {"name": s.name, "datatype": s.datatype, "shape": s.wire_shape}
        for s in specs
        if s.is_tensor
    ]
