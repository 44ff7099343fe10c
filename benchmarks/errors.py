"""What can go wrong with a measurement."""

from __future__ import annotations

from service.errors import ServiceError


class BenchmarkError(ServiceError):
    """The measurement cannot be made as it was asked for."""

    code = "benchmark"


class ServerUnusable(BenchmarkError):
    """A server could not be installed, started, or gave a wrong answer; the others go on."""

    code = "server_unusable"
