"""The loopback interface: a port, and a server for stand-ins of services."""

import socket
from http.server import ThreadingHTTPServer
from typing import Any


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class QuietServer(ThreadingHTTPServer):
    """Says nothing of clients that hang up, and does not wait for them."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing."""
