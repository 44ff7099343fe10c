"""The listening socket."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from service.errors import ConfigurationError
from service.listener import address_of, close_listener, listen, listen_unix


def test_the_address_is_the_one_that_was_given_out() -> None:
    """Port 0 takes a free port, and the address names it; IPv6 goes into brackets."""
    with listen("127.0.0.1", 0) as listener:
        assert address_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"
    with listen("::1", 0) as listener:
        assert address_of(listener).startswith("http://[::1]:")


def test_an_address_that_cannot_be_had() -> None:
    """The text names the address and the flags."""
    with pytest.raises(ConfigurationError, match=r"192\.0\.2\.1:80.*--host"):
        listen("192.0.2.1", 80)


def test_small_answers_do_not_wait() -> None:
    """What is accepted sends every packet at once."""
    with listen("127.0.0.1", 0) as listener:
        listener.settimeout(60)
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_unix_socket_is_left_by_nobody(tmp_path: Path) -> None:
    """What a dead server left is taken over; what is used or no socket is not touched."""
    path = tmp_path / "server.sock"
    with listen_unix(str(path)) as first:
        assert address_of(first) == "http://localhost"
        with pytest.raises(ConfigurationError, match=r"server\.sock: .*--uds"):
            listen_unix(str(path))
    assert path.exists()
    second = listen_unix(str(path))
    close_listener(second)
    assert not path.exists()
    path.write_text("notes")
    with pytest.raises(ConfigurationError, match=r"server\.sock"):
        listen_unix(str(path))
    assert path.read_text() == "notes"
