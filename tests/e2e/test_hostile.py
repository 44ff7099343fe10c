"""What no client should send, to a real server: refused, quickly, and nothing else happens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.faults.bodies import bodies
from tests.faults.corpus import Case, cases
from tests.faults.hostile import Outcome, repository, send_bodies, send_case
from tests.faults.rig import address_of, serving
from tests.support.servers import RealServer

BODIES = 5000


@pytest.fixture(scope="module")
def target() -> Iterator[RealServer]:
    """Return a server that waits for half requests no longer than it must."""
    with serving(repository, "--workers", 1, "--head-timeout", 1, "--body-timeout", 1) as server:
        yield server


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_the_corpus(target: RealServer, case: Case) -> None:
    """An answer below 500 or the end of the connection, in time."""
    outcome = Outcome()
    asyncio.run(send_case(address_of(target), case, outcome))
    assert outcome.faults == []


def test_generated_bodies(target: RealServer) -> None:
    """Each is answered, none with a 5xx, and the server lives."""
    outcome = asyncio.run(send_bodies(address_of(target), bodies(20261125, BODIES)))
    assert outcome.faults == []
    assert sum(outcome.statuses.values()) == BODIES
    # Damage that leaves a call right must not be refused, and most is no such.
    assert 0 < outcome.statuses[200] < BODIES / 2
    assert target.process.poll() is None
