"""The log as the journal gets it, read from a real socket in its place."""

import contextlib
import logging
import os
import socket
import struct
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from postfix_mtasts.adapters import journal_log
from postfix_mtasts.adapters.journal_log import JournalHandler, build_entry, log_handler


@pytest.fixture(name="journal")
def make_journal(tmp_path: Path) -> Iterator[socket.socket]:
    """Yield the journal's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "journal"))
        journal.settimeout(5)
        yield journal


@pytest.fixture(name="stderr")
def make_stderr() -> StringIO:
    return StringIO()


@pytest.fixture(name="handler")
def make_handler(tmp_path: Path, stderr: StringIO) -> Iterator[JournalHandler]:
    handler = JournalHandler(tmp_path / "journal", logging.StreamHandler(stderr))
    yield handler
    handler.close()


def record(text: str, level: int = logging.INFO, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("postfix_mtasts", level, __file__, 1, text, None, None)
    made.__dict__.update(extra)
    return made


def parse_entry(data: bytes) -> dict[str, str]:
    """Return the fields of an entry, as the journal's documentation has them read."""
    fields = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack_from("<Q", rest)
            value, rest = rest[8 : 8 + length], rest[8 + length :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        fields[name.decode()] = value.decode()
        data = rest
    return fields


def heard(journal: socket.socket) -> dict[str, str]:
    return parse_entry(journal.recv(1 << 20))


def test_a_decision_carries_its_fields(journal: socket.socket, handler: JournalHandler) -> None:
    fields = {"domain": "example.com", "map": "policy", "level": "secure", "source": "mta-sts"}
    handler.handle(record("answer domain=example.com", fields=fields))
    assert heard(journal) == {
        "MESSAGE": "answer domain=example.com",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "postfix-mtasts",
        "POSTFIX_MTASTS_DOMAIN": "example.com",
        "POSTFIX_MTASTS_MAP": "policy",
        "POSTFIX_MTASTS_LEVEL": "secure",
        "POSTFIX_MTASTS_SOURCE": "mta-sts",
    }


def test_an_entry_begins_with_what_it_says(
    journal: socket.socket, handler: JournalHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "root", logging.RootLogger(logging.INFO))
    logging.basicConfig(handlers=[handler], level="INFO", force=True)  # as the commands do
    logging.root.info("answer domain=example.com")
    assert heard(journal)["MESSAGE"] == "answer domain=example.com"


def test_another_line_carries_its_priority_and_no_fields_of_ours(
    journal: socket.socket, handler: JournalHandler
) -> None:
    handler.handle(record("broken", logging.ERROR, fields={"UNIT": "evil.service"}))
    assert heard(journal) == {
        "MESSAGE": "broken",
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "postfix-mtasts",
    }


@pytest.mark.parametrize("value", ["two\nPRIORITY=0\n", "\n", "", "a=b", "é\udcff", "x" * 60_000])
def test_no_value_becomes_another_field(
    journal: socket.socket, handler: JournalHandler, value: str
) -> None:
    handler.handle(record(value, fields={"domain": value}))
    entry = heard(journal)
    plain = value.encode("utf-8", "backslashreplace").decode()
    assert (entry["MESSAGE"], entry["POSTFIX_MTASTS_DOMAIN"]) == (plain, plain)
    assert entry["PRIORITY"] == "6"
    assert len(entry) == 4


def test_a_traceback_is_one_entry(journal: socket.socket, handler: JournalHandler) -> None:
    try:
        divmod(1, 0)
    except ZeroDivisionError as error:
        told = record("internal error", logging.ERROR)
        told.exc_info = (type(error), error, error.__traceback__)
    handler.handle(told)
    text = heard(journal)["MESSAGE"]
    assert text.startswith("internal error\nTraceback ")
    assert text.endswith("ZeroDivisionError: integer division or modulo by zero")


def test_what_is_too_long_for_a_datagram_becomes_a_plain_line(
    journal: socket.socket, handler: JournalHandler, stderr: StringIO
) -> None:
    text = "x" * (16 << 20)
    handler.handle(record(text))
    assert stderr.getvalue() == f"{text}\n"
    handler.handle(record("short"))
    assert heard(journal)["MESSAGE"] == "short"


def test_a_journal_that_does_not_read_stops_nobody(
    journal: socket.socket, handler: JournalHandler, stderr: StringIO
) -> None:
    for number in range(10_000):  # no queue of datagrams is as long
        handler.handle(record(f"line {number}"))
    assert heard(journal)["MESSAGE"] == "line 0"
    assert stderr.getvalue().endswith("line 9999\n")


def test_a_journal_that_hangs_stops_nobody_and_hears_later_how_much_it_missed(
    tmp_path: Path, journal: socket.socket, capsys: pytest.CaptureFixture[str]
) -> None:
    hung, full = socket.socketpair()
    full.settimeout(0)  # what would wait for ever fails instead, and is told of
    with hung, os.fdopen(full.detach(), "w") as stderr:
        handler = JournalHandler(tmp_path / "journal", logging.StreamHandler(stderr))
        for number in range(10_000):
            handler.handle(record(f"{number} {'x' * 200}"))
    assert capsys.readouterr().err == ""
    entries = 0
    journal.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while True:
            journal.recv(1 << 20)
            entries += 1
    handler.handle(record("again"))
    lost = heard(journal)
    assert 0 < int(lost["MESSAGE"].split()[0]) < 10_000 - entries
    assert "lines of the log are lost" in lost["MESSAGE"]
    assert lost["PRIORITY"] == "4"
    assert heard(journal)["MESSAGE"] == "again"
    handler.close()


def test_without_a_journal_lines_are_plain_and_with_it_again_they_are_not(
    tmp_path: Path, stderr: StringIO
) -> None:
    path = tmp_path / "journal"
    handler = JournalHandler(path, logging.StreamHandler(stderr))
    handler.handle(record("lost"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(path))
        handler.handle(record("found"))
        assert heard(journal)["MESSAGE"] == "found"
    handler.close()
    assert stderr.getvalue() == "lost\n"


def test_a_record_that_cannot_be_formatted_is_told_of_as_everywhere(
    handler: JournalHandler, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = logging.LogRecord("x", logging.INFO, __file__, 1, "%d", ("word",), None)
    handler.handle(broken)
    assert "--- Logging error ---" in capsys.readouterr().err


def test_the_journal_is_spoken_to_only_where_stderr_is_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "stderr").open("w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        status = os.fstat(stderr.fileno())
        stream = f"{status.st_dev}:{status.st_ino}"
        handler = log_handler({"JOURNAL_STREAM": stream})
        assert isinstance(handler, JournalHandler)
        handler.close()
        for other in ({}, {"JOURNAL_STREAM": "8:1"}, {"JOURNAL_STREAM": ""}):
            assert type(log_handler(other)) is logging.StreamHandler


def test_a_stderr_that_is_no_file_is_no_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", StringIO())
    assert type(log_handler({"JOURNAL_STREAM": "8:1"})) is logging.StreamHandler


def test_the_socket_is_where_systemd_has_it() -> None:
    assert str(journal_log.SOCKET) == "/run/systemd/journal/socket"


def test_a_value_with_line_ends_is_told_with_its_length() -> None:
    expected = b"A=b\nC\n" + struct.pack("<Q", 3) + b"d\ne\n"
    assert build_entry({"A": "b", "C": "d\ne"}) == expected
