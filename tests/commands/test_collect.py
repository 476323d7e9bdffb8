"""The verb `collect`: once, from a file, from standard input, and as a service."""

import gzip
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.core.log_scenarios import LOGS

SOON = 30.0  # seconds
LOG = LOGS / "3.10" / "encrypt-ok.log"
TRADITIONAL = LOGS / "3.10" / "encrypt-ok.rfc3164.log"
DATAGRAM = b'{"d":"example.com","policies":[{"policy-type":9,"policy-domain":"example.com","f":0}]}'
COMMAND = [sys.executable, "-m", "postfix_mtasts", "--config", "config.yaml", "collect"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mail.log").write_bytes(LOG.read_bytes())
    (tmp_path / "config.yaml").write_text(
        'store: {url: "sqlite:///state.db"}\n'
        'tlsrpt: {sources: ["file:mail.log", "datagram:tlsrpt.sock"]}\n'
    )
    return tmp_path


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


def test_a_store_that_cannot_be_written_is_to_be_tried_again(folder: Path) -> None:
    (folder / "tlsrpt.db").mkdir()
    done = collect(folder, "--once")
    assert done.returncode == 75
    assert b"tlsrpt.db" in done.stderr


@contextmanager
def service(folder: Path, **more: str) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(COMMAND, cwd=folder, env=environment(**more)) as process:
        try:
            yield process
        finally:
            process.kill()


def test_as_a_service_it_follows_receives_and_writes_at_its_end(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(SOON)
        with service(folder, NOTIFY_SOCKET=str(folder / "notify")) as process:
            assert b"READY=1" in manager.recv(4096)
            assert b"WATCHDOG=1" in manager.recv(4096)
            deadline = time.monotonic() + SOON
            while not counts(folder) and time.monotonic() < deadline:
                manager.recv(4096)  # a second later
            before = counts(folder)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as postfix:
                for _ in range(3):
                    postfix.sendto(DATAGRAM, str(folder / "tlsrpt.sock"))
            process.send_signal(signal.SIGTERM)
            assert process.wait(SOON) == 0
    assert before
    assert sum(row[-1] for row in counts(folder)) == sum(row[-1] for row in before) + 3
