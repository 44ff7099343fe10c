"""What can go wrong with a call, as the caller sees it."""

from __future__ import annotations

from service.errors import ServiceError


class ClientError(ServiceError):
    """Base of everything that the clients raise.

    ``status`` is the HTTP status, None where no answer came; ``request_id`` is the id under which
    the server's log has the request, "" where no server gave one.
    """

    code = "client"

    def __init__(self, text: str, *, status: int | None = None, request_id: str = "") -> None:
        """Keep where the text comes from beside it."""
        super().__init__(text)
        self.status = status
        self.request_id = request_id

    def __str__(self) -> str:
        """Show the text, the status and the request id, as a log wants them."""
        text = super().__str__()
        if self.status is None:
            return text
        shown = f", request id {self.request_id}" if self.request_id else ""
        return f"{text} (HTTP {self.status}{shown})"


class InvalidInput(ClientError):
    """What was to be sent has no form on the wire; nothing was sent."""

    code = "invalid_input"


class ConnectionFailed(ClientError):
    """No connection was made, so the server has seen nothing of the request."""

    code = "connection_failed"


class ConnectionLost(ClientError):
    """The connection broke after sending began; the request may have been run."""

    code = "connection_lost"


class DeadlineExceeded(ClientError):
    """The answer was not there in time; the request may have been run."""

    code = "deadline_exceeded"


class BadAnswer(ClientError):
    """The server answered something that the protocol does not allow."""

    code = "bad_answer"


class Refused(ClientError):
    """The server finds the request wrong (4xx); sending it again unchanged cannot help."""

    code = "refused"


class NotAllowed(Refused):
    """The API key is missing, wrong, or not enough for this (401, 403)."""

    code = "not_allowed"


class NotFound(Refused):
    """There is no such model, version or path (404)."""

    code = "not_found"


class Unavailable(ClientError):
    """The server did not run the request: overloaded, loading, or over a quota (429, 503).

    ``retry_after`` is the wait in seconds that the server advises, None where it advises none.
    """

    code = "unavailable"

    def __init__(
        self,
        text: str,
        *,
        status: int | None = None,
        request_id: str = "",
        retry_after: float | None = None,
    ) -> None:
        """Keep the advised wait beside the text."""
        super().__init__(text, status=status, request_id=request_id)
        self.retry_after = retry_after


class ServerFailed(ClientError):
    """The server failed on the request (500), cannot do it (501), or a proxy in front did."""

    code = "server_failed"


NO_ANSWER = (ConnectionFailed, ConnectionLost, DeadlineExceeded)
