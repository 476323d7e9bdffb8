"""A server of the lab, served by a thread of its own."""

import socketserver
import threading


class Serving:
    """Has *server* serve from now on, until it is closed."""

    def __init__(self, server: socketserver.BaseServer) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        """Stop; connections are refused from now on."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
