"""A worker whose device is lost when a line comes in: what `service.worker` does, and no more."""

from __future__ import annotations

import socket
import sys
import threading

from service.app import create_app
from service.blackbox import BlackBox
from service.guarded import Quarantine
from service.link import Link
from service.member import Member
from service.settings import Settings
from service.worker import serve_app


def main() -> None:
    """Serve; the arguments are the descriptors that a worker gets."""
    control, connections, memory = map(int, sys.argv[1:])
    link = Link(socket.socket(fileno=control))
    start = link.start()
    settings = Settings(**start.settings)
    member = Member(start, link, Quarantine(BlackBox(memory)))
    app = create_app(settings, None, member)

    def lose() -> None:
        sys.stdin.readline()
        app.state.health.lose("the device is lost")

    threading.Thread(target=lose, daemon=True).start()
    serve_app(app, settings, member, socket.socket(fileno=connections))


if __name__ == "__main__":
    main()
