"""The policy daemon of this checkout, run as its service manager would run it."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.e2e.deadline import wait_until
from tests.e2e.namespace import Namespace

CHECKOUT = Path(__file__).parents[2]
START_DEADLINE = 20.0  # seconds until READY=1

_CONFIG = """\
server:
  listen:
    - "inet:127.0.0.1:8461"
    - "unix:/var/spool/postfix/postfix-mtasts/policy.sock"
dns:
  servers: ["127.0.0.1"]
mta_sts:
  ca_file: {authority}
  timeout: 5s
store:
  url: sqlite:///{folder}/state.db
tlsrpt:
  enabled: false
logging:
  level: debug
"""


class Daemon:
    """The daemon; its store outlives each of its processes."""

    def __init__(self, namespace: Namespace, folder: Path, *, authority: Path) -> None:
        folder.mkdir()
        self._namespace = namespace
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "daemon.log"
        (folder / "config.yaml").write_text(_CONFIG.format(folder=folder, authority=authority))

    def start(self) -> None:
        """Start and return once the daemon says READY=1 (sd_notify(3)).

        Raises `RuntimeError` where it ends instead, `TimeoutError` where it says
        nothing.
        """
        path = self._folder / "notify.sock"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
            notifications.bind(os.fspath(path))
            notifications.settimeout(0)
            config = os.fspath(self._folder / "config.yaml")
            self._process = self._namespace.start(
                [sys.executable, "-m", "postfix_mtasts", "serve", "--config", config],
                log=self._log,
                cwd=CHECKOUT,
                extra_env={"NOTIFY_SOCKET": os.fspath(path)},
            )
            wait_until(lambda: self._said_ready(notifications), "READY=1", START_DEADLINE)

    def _said_ready(self, notifications: socket.socket) -> bool:
        if not self.running:
            raise RuntimeError("the daemon ended while starting, see its log")
        try:
            return b"READY=1" in notifications.recv(4096)
        except BlockingIOError:
            return False

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End the daemon with SIGKILL, as the kernel does when memory runs out."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the daemon with SIGTERM, as systemd does, which expects status 0."""
        status = self._end(signal.SIGTERM)
        assert status == 0, f"the daemon ended with status {status}"

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(timeout=10)
