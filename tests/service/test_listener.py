"""The listening socket."""

from __future__ import annotations

import socket

import pytest

from service.errors import ConfigurationError
from service.listener import address_of, listen


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
