"""CloudEvents around V1, as KServe takes them: an event comes in, an event goes out."""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from service.arrays import kind_of
from service.errors import InvalidRequest
from service.web.exchange import media_type_of

STRUCTURED = "application/cloudevents+json"
_REQUIRED = ("specversion", "id", "source", "type")
_VERSIONS = ("1.0", "0.3")
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Event:
    """What an event carries: a parsed JSON object, or bytes of a media type."""

    binary: bool
    media_type: str
    payload: bytes | dict[str, Any]


def event_of(
    headers: Mapping[bytes, bytes], body: bytes, load: Callable[[bytes], dict[str, Any]]
) -> Event | None:
    """Return the event of a request, None if it is none.

    In binary mode the attributes are ``ce-*`` headers and the body is the data; in structured mode
    the body is the event, which ``load`` parses.  Raises InvalidRequest that names what is wrong.
    """
    media_type = media_type_of(headers)
    if media_type.startswith(STRUCTURED):
        return _structured(load(body))
    if not all(b"ce-" + name.encode() in headers for name in _REQUIRED):
        return None
    _check_version(headers[b"ce-specversion"].decode("latin-1"), "ce-specversion")
    return Event(binary=True, media_type=media_type, payload=body)


def request_of(content: dict[str, Any]) -> dict[str, Any]:
    """Return the request in a body that is an event without saying so in its media type."""
    data = content.get("data")
    if isinstance(data, dict) and all(name in content for name in _REQUIRED):
        return data
    return content


def _structured(event: dict[str, Any]) -> Event:
    for name in _REQUIRED:
        if not isinstance(event.get(name), str):
            raise InvalidRequest(f"{name}: expected a string, got {kind_of(event.get(name))}")
    _check_version(event["specversion"], "specversion")
    data = event.get("data")
    if isinstance(data, dict):
        return Event(binary=False, media_type=_JSON, payload=data)
    if "data_base64" not in event:
        raise InvalidRequest(f"data: expected an object, got {kind_of(data)}")
    media_type = event.get("datacontenttype", _JSON)
    if not isinstance(media_type, str):
        raise InvalidRequest(f"datacontenttype: expected a string, got {kind_of(media_type)}")
    raw = _decoded(event["data_base64"])
    return Event(binary=False, media_type=media_type.lower(), payload=raw)


def _decoded(text: object) -> bytes:
    if not isinstance(text, str):
        raise InvalidRequest(f"data_base64: expected a string, got {kind_of(text)}")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"data_base64: not base64: {error}") from error


def _check_version(seen: str, where: str) -> None:
    if seen not in _VERSIONS:
        raise InvalidRequest(f"{where}: expected {' or '.join(_VERSIONS)}, got '{seen[:40]}'")


def attributes_of(model: str) -> dict[str, str]:
    """Return the attributes of an answer, in KServe's words."""
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": f"io.kserve.inference.{model}",
        "type": "io.kserve.inference.response",
        "time": datetime.now(UTC).isoformat(),
    }


def headers_for(attributes: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return the attributes as the headers of an answer in binary mode."""
    return [(f"ce-{name}".encode(), value.encode("latin-1")) for name, value in attributes.items()]


def body_for(attributes: Mapping[str, str], data: Mapping[str, object]) -> bytes:
    """Return an answer in structured mode."""
    event = {**attributes, "datacontenttype": _JSON, "data": data}
    return orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY)
