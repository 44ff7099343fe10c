"""A worker's loads: the supervisor has a version proved, the worker opens what was admitted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial

from service.admit import order_of
from service.errors import BundleError
from service.handover import Handover
from service.link import Link
from service.loader import Loaded, LoadOptions, OnStep, Report, load_model, open_proved
from service.refusals import Refusal
from service.repository import Found
from service.sealed import Sealed

# Gets ready what is needed, and returns what then loads in this process.
Prepare = Callable[[Found, LoadOptions, str, OnStep], Callable[[], Loaded]]


def here(
    found: Found, options: LoadOptions, fingerprint: str, on_step: OnStep
) -> Callable[[], Loaded]:
    """Return a load that proves the version in this very process."""
    del fingerprint
    return partial(load_model, found, options, on_step)


class Admitted:
    """Loads of versions that another process has proved; called by the threads that load."""

    def __init__(self, link: Link, handover: Handover) -> None:
        """Keep the ways to the supervisor."""
        self._link = link
        self._handover = handover

    def prepare(
        self, found: Found, options: LoadOptions, fingerprint: str, on_step: OnStep
    ) -> Callable[[], Loaded]:
        """Have a version proved, and return what opens it.

        Raises Reported with the code and the reason of a refusal.
        """
        if found.problem:
            raise BundleError(found.problem, Refusal.REPOSITORY)
        on_step("VERIFYING")
        order = order_of(found, options)
        asked = self._link.admit(found.name, found.version, claim_of(order, fingerprint), order)
        answer = self._link.wait_for(asked)
        descriptor = self._handover.collect(answer.id)
        on_step("WARMING")
        report = Report.from_json(answer.content)
        return partial(_opened, found, options, report, Sealed(report.files, descriptor))


def _opened(found: Found, options: LoadOptions, report: Report, sealed: Sealed) -> Loaded:
    try:
        return open_proved(found, options, report, sealed)
    finally:
        sealed.close()


def claim_of(order: dict[str, object], fingerprint: str) -> str:
    """Return a text that is the same for the same files under the same options."""
    text = json.dumps([order, fingerprint], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
