"""The verb `collect`: once, from a file, from standard input, and as a service."""

import gzip
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from postfix_mtasts.adapters.datagram_socket import queue_length
from tests.core.log_scenarios import LOGS

SOON = 30.0  # seconds
LOG = LOGS / "3.10" / "encrypt-ok.log"
TRADITIONAL = LOGS / "3.10" / "encrypt-ok.rfc3164.log"
DATAGRAM = b'{"d":"example.com","policies":[{"policy-type":9,"policy-domain":"example.com","f":0}]}'
COMMAND = [sys.executable, "-m", "postfix_mtasts", "--config", "config.yaml", "collect"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mail.log").write_bytes(LOG.read_bytes())
    configure(tmp_path, '["file:mail.log", "datagram:tlsrpt.sock"]')
    return tmp_path


def configure(folder: Path, sources: str, more: str = "") -> None:
    (folder / "config.yaml").write_text(
        f'store: {{url: "sqlite:///state.db"}}\ntlsrpt: {{sources: {sources}}}\n{more}'
    )


def collect(folder: Path, *words: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [*COMMAND, *words],
        cwd=folder,
        input=stdin,
        capture_output=True,
        env=environment(),
        timeout=SOON,
        check=False,
    )


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **more}


def counts(folder: Path) -> list[tuple[int, str, int]]:
    if not (folder / "tlsrpt.db").exists():
        return []
    connection = sqlite3.connect(folder / "tlsrpt.db")
    try:
        query = "SELECT day, domain, count FROM counts ORDER BY 1, 2, 3"
        return connection.execute(query).fetchall()
    except sqlite3.OperationalError:  # made this moment
        return []
    finally:
        connection.close()


def test_once_reads_what_there_is_and_the_next_time_nothing(folder: Path) -> None:
    first = collect(folder, "--once")
    assert first.returncode == 0, first.stderr
    assert b"0 datagrams read" in first.stdout
    counted = counts(folder)
    assert counted
    second = collect(folder, "--once")
    assert second.stdout.startswith(b"0 lines")
    assert counts(folder) == counted


@pytest.mark.parametrize("packed", [False, True])
def test_a_log_that_is_named_is_read_instead(folder: Path, *, packed: bool) -> None:
    expected = _counted_by(folder)
    other = folder / ("old.log.gz" if packed else "old.log")
    other.write_bytes(gzip.compress(LOG.read_bytes()) if packed else LOG.read_bytes())
    done = collect(folder, "--once", "--log", other.name)
    assert done.returncode == 0, done.stderr
    assert counts(folder) == expected


def test_what_a_fifo_gives_is_a_log(folder: Path) -> None:
    expected = _counted_by(folder)
    os.mkfifo(folder / "fifo")
    writer = threading.Thread(target=(folder / "fifo").write_bytes, args=(LOG.read_bytes(),))
    writer.start()
    done = collect(folder, "--once", "--log", "fifo")
    writer.join()
    assert done.returncode == 0, done.stderr
    assert counts(folder) == expected


def test_standard_input_is_a_log(folder: Path) -> None:
    expected = _counted_by(folder)
    done = collect(folder, "--once", "--log", "-", stdin=LOG.read_bytes())
    assert done.returncode == 0, done.stderr
    assert counts(folder) == expected


def test_a_year_may_be_told(folder: Path) -> None:
    text = TRADITIONAL.read_bytes()
    collect(folder, "--once", "--log", "-", "--year", "2024", stdin=text)
    days = {day for day, _, _ in counts(folder)}
    assert days == {20048}  # 21 November 2024


def _counted_by(folder: Path) -> list[tuple[int, str, int]]:
    """Return what the log of *folder* counts for, and forget it."""
    collect(folder, "--once")
    counted = counts(folder)
    for path in folder.glob("tlsrpt.db*"):
        path.unlink()
    return counted


def test_what_cannot_be_used_is_said(folder: Path) -> None:
    missing = collect(folder, "--once", "--log", "nothing.log")
    assert (missing.returncode, missing.stdout) == (2, b"")
    assert b"nothing.log: No such file or directory" in missing.stderr
    assert collect(folder, "--year", "24").returncode == 2
    (folder / "config.yaml").write_text("tlsrpt: {enabled: false}\n")
    off = collect(folder, "--once")
    assert off.returncode == 2
    assert b"tlsrpt.enabled" in off.stderr


@pytest.mark.parametrize("name", ["folder", "old.log.zst"])
def test_what_cannot_be_read_as_a_log_is_refused(folder: Path, name: str) -> None:
    (folder / "folder").mkdir()
    (folder / "old.log.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    done = collect(folder, "--once", "--log", name)
    assert done.returncode == 2 or sys.version_info >= (3, 14)


def test_sources_that_would_count_twice_are_refused(folder: Path) -> None:
    configure(folder, '["journal", "file:mail.log"]')
    done = collect(folder, "--once")
    assert done.returncode == 2
    assert b"the journal has the lines of log files as well" in done.stderr


def test_a_store_that_cannot_be_written_is_to_be_tried_again(folder: Path) -> None:
    (folder / "tlsrpt.db").mkdir()
    done = collect(folder, "--once")
    assert done.returncode == 75
    assert b"tlsrpt.db" in done.stderr


class Service:
    """The sidecar as systemd runs it, with what it notifies."""

    def __init__(
        self, folder: Path, process: "subprocess.Popen[bytes]", manager: socket.socket
    ) -> None:
        self.folder = folder
        self.process = process
        self._manager = manager

    def await_word(self, word: bytes) -> bytes:
        """Return the next notification with *word*; they come every second."""
        while word not in (said := self._manager.recv(4096)):
            pass
        return said

    def await_count(self, total: int) -> None:
        """Wait until *total* sessions have been counted."""
        self.await_true(lambda: sum(row[-1] for row in counts(self.folder)) >= total)

    def await_true(self, came: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SOON
        while not came() and time.monotonic() < deadline:
            self._manager.recv(4096)  # a second later

    def reload(self) -> bytes:
        """Have the configuration read again; return what was notified afterwards."""
        self.process.send_signal(signal.SIGHUP)
        self.await_word(b"RELOADING=1")
        return self.await_word(b"READY=1")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(SOON) == 0


def handed(descriptor: int) -> list[str]:
    """Return the command that gets *descriptor* as systemd hands one over."""
    script = f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&{descriptor}'
    return ["bash", "-c", script, "bash", *COMMAND]  # dash knows ten descriptors


@contextmanager
def service(folder: Path, socket_of_systemd: int | None = None) -> Iterator[Service]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        (folder / "notify").unlink(missing_ok=True)
        manager.bind(str(folder / "notify"))
        manager.settimeout(SOON)
        told = environment(NOTIFY_SOCKET=str(folder / "notify"))
        with (
            (folder / "said").open("ab") as said,
            subprocess.Popen(
                COMMAND if socket_of_systemd is None else handed(socket_of_systemd),
                cwd=folder,
                env=told,
                stderr=said,
                pass_fds=() if socket_of_systemd is None else (socket_of_systemd,),
            ) as process,
        ):
            try:
                running = Service(folder, process, manager)
                running.await_word(b"READY=1")
                yield running
            finally:
                process.kill()


def send(folder: Path, count: int) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as postfix:
        postfix.settimeout(SOON)
        for _ in range(count):
            postfix.sendto(DATAGRAM, str(folder / "tlsrpt.sock"))


def total(folder: Path) -> int:
    return sum(row[-1] for row in counts(folder))


def test_as_a_service_it_follows_receives_and_writes_at_its_end(folder: Path) -> None:
    with service(folder) as running:
        running.await_word(b"WATCHDOG=1")
        running.await_count(1)
        before = total(folder)
        send(folder, 3)
        running.stop()
    assert before
    assert total(folder) == before + 3


def test_a_reload_goes_on_with_other_sources_where_it_was(folder: Path) -> None:
    expected = sum(row[-1] for row in _counted_by(folder))
    text = LOG.read_bytes()
    (folder / "other.log").write_bytes(text)
    with service(folder) as running:
        running.await_count(expected)
        running.await_true(lambda: is_read(folder, "mail.log"))
        send(folder, 3)
        configure(folder, '["file:other.log", "datagram:tlsrpt.sock"]')
        assert b"other.log" in running.reload()
        send(folder, 3)
        running.await_count(expected + 6)
        configure(folder, '["file:other.log", "journal"]')
        assert b"other.log" in running.reload()
        configure(folder, '["file:mail.log"]')
        assert b"tlsrpt.sock" not in running.reload()
        running.stop()
    assert total(folder) == expected + 6
    said = (folder / "said").read_text()
    assert (
        "the new configuration is refused, the old one stays: tlsrpt.sources: the journal" in said
    )


def test_where_no_reports_are_wanted_it_stays_up_counts_nothing_and_can_be_woken(
    folder: Path,
) -> None:
    sources = '{sources: ["file:mail.log"], enabled: %s}'
    config = folder / "config.yaml"
    config.write_text(f"tlsrpt: {sources % 'false'}\nstore: {{url: 'sqlite:///state.db'}}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(folder / "tlsrpt.sock"))
        with service(folder, bound.fileno()) as running:
            send(folder, 2 * (queue_length() or 512))  # more than fit where nobody takes them
            assert b"enabled is false" in running.reload()
            assert not (folder / "tlsrpt.db").exists()

            config.write_text(config.read_text().replace("false", "true"))
            assert b"mail.log" in running.reload()
            running.await_count(1)
            before = total(folder)
            send(folder, 3)
            running.await_count(before + 3)
            running.stop()
    assert total(folder) == before + 3


def is_read(folder: Path, name: str) -> bool:
    connection = sqlite3.connect(folder / "tlsrpt.db")
    try:
        query = "SELECT 1 FROM sources WHERE name LIKE ? AND position != ''"
        return connection.execute(query, (f"%/{name}",)).fetchone() is not None
    finally:
        connection.close()
