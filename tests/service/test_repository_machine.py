"""The repository and the registry under random changes; `tests/faults` does it for longer."""

from __future__ import annotations

from hypothesis import settings

from tests.support.repository_machine import RepositoryMachine

TestRepository = RepositoryMachine.TestCase
TestRepository.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
