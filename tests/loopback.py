"""A server on a loopback port, for stand-ins of services."""

from http.server import ThreadingHTTPServer
from typing import Any


class QuietServer(ThreadingHTTPServer):
    """Says nothing of clients that hang up, and does not wait for them."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing."""
