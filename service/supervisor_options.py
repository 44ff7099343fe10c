"""What the supervisor itself needs of the settings, as values that cross to another interpreter."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from service import logs
from service.admission import Limits


@dataclass(frozen=True, slots=True)
class Poll:
    """That what is served follows the disk; ``whole`` is as `service.fingerprints.look` has it."""

    repository: str
    interval: float
    whole: bool


@dataclass(frozen=True, slots=True)
class Following:
    """A repository somewhere else that is kept in a folder, looked at every so many seconds."""

    url: str
    folder: str
    interval: float


@dataclass(frozen=True, slots=True)
class Options:
    """What the supervisor itself needs of the settings; ``settings`` is passed on to workers.

    ``admissions`` are the proofs that may run side by side, each within ``admission``, and
    ``prestarted`` the processes for them that are started with the workers.
    """

    workers: int
    threads: int
    drain_delay: float
    grace: float
    quarantine_deaths: int
    hang_timeout: float
    log_level: str
    log_format: logs.Style
    settings: dict[str, Any]
    secure: bool = False
    poll: Poll | None = None
    admission: Limits = field(default_factory=Limits)
    admissions: int = 1
    prestarted: int = 0
    mirror: Following | None = None
    notices: tuple[str, ...] = ()

    def as_json(self) -> bytes:
        """Return the options as another process can read them."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Options:
        """Return what `as_json` has written."""
        members = json.loads(text)
        poll, mirror = members["poll"], members["mirror"]
        members["admission"] = Limits(**members["admission"])
        members["notices"] = tuple(members["notices"])
        members["poll"] = Poll(**poll) if poll else None
        members["mirror"] = Following(**mirror) if mirror else None
        return cls(**members)
