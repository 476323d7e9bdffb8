"""A private world for the lab: one thread of this process lives in namespaces of its own.

Network, mounts and process ids are private to that thread, to the processes
that it starts and to the sockets that it opens; the rest of the test process
stays where it is and yet uses those sockets.  So real servers have ports 25,
53 and 443, and `/etc/postfix`, `/var/spool/postfix` and `/etc/resolv.conf` of
their own, while the tests look into the Python servers as into any object.

Process 1 of the private world is a `cat` that reads from us.  However this
process ends, even by `kill -9`, `cat` reads the end of its input and ends too,
and with it the kernel ends every process of the namespace: nothing is left.

Linux only; needs root (CAP_SYS_ADMIN).  Python has `os.unshare` since 3.12
only, hence ctypes.
"""

import ctypes
import os
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x20000000, 0x40000000  # <linux/sched.h>

# Servers live where an ordinary user's PATH does not look.
SEARCH_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin"


class Namespace:
    """The private world; raises `OSError` where the kernel refuses one."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._inside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="e2e-namespace")
        try:
            self.call(_unshare, CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET)
        except OSError:
            self._inside.shutdown()
            raise
        self._init = self.call(subprocess.Popen, ["/bin/cat"], stdin=subprocess.PIPE)
        self.run("mount", "--make-rprivate", "/")
        self.run("mount", "-t", "proc", "proc", "/proc")
        self.run("ip", "link", "set", "lo", "up")

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return `function(*args, **kwargs)`, called inside."""
        return self._inside.submit(function, *args, **kwargs).result()

    def run(self, *command: str) -> str:
        """Run *command* inside to its end and return what it printed.

        Raises `CalledProcessError`, with the output as its note, on failure.
        """
        try:
            return self.call(_run, command)
        except subprocess.CalledProcessError as error:
            error.add_note(f"{error.stdout}{error.stderr}")
            raise

    def start(
        self,
        command: Sequence[str],
        *,
        log: Path,
        cwd: Path | None = None,
        extra_env: dict[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start *command* inside, its output appended to *log*."""
        with log.open("ab") as output:
            process = self.call(
                subprocess.Popen,
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=_environment() | (extra_env or {}),
            )
        self._processes.append(process)
        return process

    def own_subnet(self, subnet: str) -> None:
        """Make every address of *subnet* one that servers inside may listen on."""
        self.run("ip", "route", "add", "local", subnet, "dev", "lo")

    def bind(self, source: Path, target: str) -> None:
        """Let *target* be *source* for everything inside."""
        self.run("mount", "--bind", str(source), target)

    def hide(self, target: str) -> None:
        """Let *target* be an empty folder for everything inside."""
        self.run("mount", "-t", "tmpfs", "tmpfs", target)

    def close(self) -> None:
        """End every process inside, and the private world with them."""
        assert self._init.stdin is not None
        self._init.stdin.close()
        for process in (*self._processes, self._init):  # process 1 goes when all others are reaped
            process.wait()
        self._inside.shutdown()


def refusal() -> str:
    """Return why this process may make no namespaces, "" where it may."""
    attempt = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "true"],
        check=False,
        capture_output=True,
        text=True,
        env=_environment(),
    )
    return attempt.stderr.strip() if attempt.returncode else ""


def _run(command: Sequence[str]) -> str:
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=_environment()
    ).stdout


def _environment() -> dict[str, str]:
    return os.environ | {"PATH": SEARCH_PATH}


def _unshare(flags: int) -> None:
    """Give the calling thread namespaces of its own (unshare(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"unshare: {os.strerror(code)}")
