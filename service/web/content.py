"""What a V1 body holds: a JSON object or a picture, perhaps as an event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.web import cloudevents, wire
from service.web.exchange import media_type_of
from service.web.skim import Skimmer


@dataclass(frozen=True, slots=True)
class Received:
    """A body that has been read: the JSON object in it or the bytes of a picture, and its event."""

    event: cloudevents.Event | None
    media_type: str
    content: bytes | dict[str, Any]


def received(
    headers: Mapping[bytes, bytes], body: bytes, *, max_depth: int, skimmer: Skimmer
) -> Received:
    """Read a body; in its JSON, numbers may be arrays where they may be nested lists."""

    def load(text: bytes) -> dict[str, Any]:
        request = skimmer.skim_instances(text, max_depth=max_depth)
        return wire.load_object(text, max_depth=max_depth) if request is None else request

    event = cloudevents.event_of(headers, body, load)
    media_type = event.media_type if event else media_type_of(headers)
    payload = event.payload if event else body
    if isinstance(payload, bytes) and not media_type.startswith("image/"):
        payload = load(payload)
    return Received(event, media_type, payload)
