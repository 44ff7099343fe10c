"""What the server says when it starts: where it listens, what it serves, what to try next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import orjson
import typer

from service import __version__
from service.bundle import read_bundle
from service.contract import ImagePipeline, SequencePipeline, TextPipeline
from service.errors import BundleError
from service.logs import printable
from service.repository import Found
from service.settings import Settings

_SHOWN = 4
_A_TEXT = "Lunch at noon? Bring the slides."


def announcement(settings: Settings, found: Sequence[Found], address: str) -> dict[str, object]:
    """Return what machines should know at the start; ``found`` is what will be loaded."""
    return {
        "address": address,
        **({"uds": settings.uds} if settings.uds else {}),
        "repository": str(settings.repository),
        "platform": settings.platform,
        "models": _names(found),
        "try": _calls(settings, found, address),
    }


def announcement_text(
    settings: Settings, found: Sequence[Found], address: str, *, colours: bool
) -> str:
    """Return the same for a person."""
    bold = typer.style(address, bold=True) if colours else address
    lines = [f"onnxport {__version__} on {bold}, models from {settings.repository}"]
    if not found:
        return "\n".join([*lines, _how_to_fill(settings, address), ""])
    lines += [f"Models: {printable(', '.join(_names(found)))}", "", "Try next:"]
    calls = _calls(settings, found, address)
    lines += [f"  {_green(printable(call), colours=colours)}" for call in calls]
    return "\n".join([*lines, f"  {address}/docs", "", "Ctrl-C ends it.", "", ""])


def _green(text: str, *, colours: bool) -> str:
    return typer.style(text, fg="green") if colours else text


def _names(found: Sequence[Found]) -> list[str]:
    return list(dict.fromkeys(one.name for one in found))


def _calls(settings: Settings, found: Sequence[Found], address: str) -> list[str]:
    # Bundles first: their contracts say what a call looks like.
    newest = {one.name: one for one in found}.values()
    first = sorted(newest, key=lambda one: not one.is_bundle)[:_SHOWN]
    calls = [example_call(one, address) for one in first]
    calls += [f"curl {address}/v1/models/{one.name}/info" for one in first[:1]]
    calls = [_with_key(call, settings) for call in calls]
    if not settings.uds:
        return calls
    over = f"curl --unix-socket {shlex.quote(settings.uds)} "
    return [over + call.removeprefix("curl ") for call in calls]


def _how_to_fill(settings: Settings, address: str) -> str:
    if settings.model_control == "explicit":
        load = _with_key(f"curl -X POST {address}/v2/repository/models/NAME/load", settings)
        return f"No model is loaded yet; load one with: {load}"
    return "It holds no model yet; train one with: onnxport-train cnn"


def _with_key(call: str, settings: Settings) -> str:
    """Return a curl line with a place for the key, where one is needed."""
    if not settings.has_keys:
        return call
    return call.replace("curl ", 'curl -H "X-API-Key: $KEY" ', 1)


def example_call(found: Found, address: str) -> str:
    """Return a curl line that works as it stands for one model, as far as its contract tells."""
    predict = f"{address}/v1/models/{found.name}:predict"
    metadata = f"curl {address}/v2/models/{found.name}"
    if found.problem or not found.is_bundle:
        return metadata
    try:
        pipeline = read_bundle(found.path).manifest.pipeline
    except BundleError:
        return metadata
    if isinstance(pipeline, ImagePipeline):
        file = _example_picture()
        return f"curl -H 'Content-Type: image/png' --data-binary @{file} {predict}"
    if isinstance(pipeline, TextPipeline):
        return f"curl -d {_instances(_A_TEXT)} {predict}"
    if isinstance(pipeline, SequencePipeline):
        step = [float(f"{mean:.3g}") for mean in pipeline.mean]
        return f"curl -d {_instances([step, step])} {predict}"
    return metadata


def _instances(instance: object) -> str:
    return shlex.quote(orjson.dumps({"instances": [instance]}).decode())


def _example_picture() -> str:
    """Return one of the pictures beside a checkout's README, or a name to replace."""
    pictures = sorted(Path("examples").glob("*.png"))
    return shlex.quote(str(pictures[0])) if pictures else "your-picture.png"
