"""A verb of this checkout that runs until it is told to end, as its service manager runs it."""

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


class Service:
    """The program with *verb* and the configuration *config*; its files outlive its processes."""

    def __init__(self, namespace: Namespace, folder: Path, *, verb: str, config: str) -> None:
        folder.mkdir()
        self.folder = folder
        self._namespace = namespace
        self._verb = verb
        self._process: subprocess.Popen[bytes] | None = None
        self._config = folder / "config.yaml"
        self._config.write_text(config)

    def start(self) -> None:
        """Start and return once the service says READY=1 (sd_notify(3)).

        Raises `RuntimeError` where it ends instead, `TimeoutError` where it says
        nothing.
        """
        path = self.folder / "notify.sock"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
            notifications.bind(os.fspath(path))
            notifications.settimeout(0)
            self._process = self._namespace.start(
                self._command(self._verb),
                log=self.folder / f"{self._verb}.log",
                cwd=CHECKOUT,
                extra_env={"NOTIFY_SOCKET": os.fspath(path)},
            )
            wait_until(lambda: self._said_ready(notifications), "READY=1", START_DEADLINE)

    def _command(self, *words: str) -> list[str]:
        config = os.fspath(self._config)
        return [sys.executable, "-m", "postfix_mtasts", *words, "--config", config]

    def _said_ready(self, notifications: socket.socket) -> bool:
        if not self.running:
            raise RuntimeError(f"{self._verb} ended while starting, see its log")
        try:
            return b"READY=1" in notifications.recv(4096)
        except BlockingIOError:
            return False

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End the service with SIGKILL, as the kernel does when memory runs out."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the service with SIGTERM, as systemd does, which expects status 0."""
        status = self._end(signal.SIGTERM)
        assert status == 0, f"{self._verb} ended with status {status}"

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(timeout=10)
