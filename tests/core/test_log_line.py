"""Containers: stamps, hosts, tags, and what is refused without a word."""

import json
from typing import Any

import pytest

from postfix_mtasts.core.log_line import (
    MAX_TEXT,
    Calendar,
    LineParser,
    LogLine,
    Origin,
    build_filter,
    build_journal_filter,
    is_damaged,
    parse_journal,
)
from tests.core.log_scenarios import LOGS, RECORDED

NOVEMBER = 1795280448.0  # 2026-11-21T17:00:48Z
SMTP = Origin("mta1", "postfix/smtp", "smtp", 25000)


def parse(line: bytes, **calendar: Any) -> LogLine | None:
    return LineParser(Calendar(**{"latest": RECORDED, **calendar})).parse(line)


@pytest.mark.parametrize(
    ("stamp", "when"),
    [
        (b"2026-11-21T17:00:48.302919+00:00", NOVEMBER + 0.302919),
        (b"2026-11-21T17:00:48Z", NOVEMBER),
        (b"2026-11-21T18:30:48+01:30", NOVEMBER),
        (b"2026-11-21T13:30:48-0330", NOVEMBER),
        (b"2026-11-21T17:00:48", NOVEMBER),
        (b"Nov 21 17:00:48", NOVEMBER),
        (b"<22>Nov 21 17:00:48", NOVEMBER),
        (b"Nov  1 17:00:48", NOVEMBER - 20 * 86400),
        (b"Sat 2026-11-21 17:00:48 UTC", NOVEMBER),
        (b"1795280448.5", NOVEMBER + 0.5),
        (b"1795280448", NOVEMBER),
    ],
)
def test_every_kind_of_stamp_is_read(stamp: bytes, when: float) -> None:
    line = parse(stamp + b" mta1 postfix/smtp[25000]: hello\r\n")
    assert line is not None
    assert line.when == pytest.approx(when, abs=1e-6)
    assert line[1:] == (SMTP, b"hello")


@pytest.mark.parametrize(
    "stamp",
    [b"Nov 21 18:00:48", b"2026-11-21T18:00:48", b"Sat 2026-11-21 18:00:48 CET"],
)
def test_stamps_without_a_known_zone_are_local(stamp: bytes) -> None:
    line = parse(stamp + b" mta1 postfix/smtp[25000]: x", local=lambda shown: shown - 3600)
    assert line is not None
    assert line.when == NOVEMBER


@pytest.mark.parametrize(
    ("stamp", "latest", "when"),
    [
        (b"Dec 31 23:59:59", 1798761600.0, 1798761599.0),  # read at New Year 2027
        (b"Jan  1 00:00:01", 1798761600.0, 1798761601.0),  # a clock a little ahead
        (b"Jan  3 00:00:00", 1798761600.0, 1767398400.0),  # too far ahead: a year ago
        (b"Feb 29 00:00:00", 1798761600.0, 1709164800.0),  # 2024
        (b"Feb 29 00:00:00", 4107542400.0, 3981312000.0),  # 2096: 2100 is no leap year
    ],
)
def test_a_stamp_without_a_year_is_in_the_latest_that_may_be(
    stamp: bytes, latest: float, when: float
) -> None:
    line = parse(stamp + b" mta1 postfix/smtp[1]: x", latest=latest)
    assert line is not None
    assert line.when == when


def test_the_year_may_be_given() -> None:
    line = parse(b"Nov 21 17:00:48 mta1 postfix/smtp[1]: x", year=2027)
    assert line is not None
    assert line.when == NOVEMBER + 365 * 86400
    assert parse(b"Feb 29 17:00:48 mta1 postfix/smtp[1]: x", year=2027) is None


@pytest.mark.parametrize(
    ("stamp", "when"),
    [
        (b"2026-11-21T17:00:49.5+00:00", NOVEMBER + 1.5),
        (b"2026-11-21T17:00:60+00:00", NOVEMBER + 12),
        (b"2026-11-21T17:01:48+00:00", NOVEMBER + 60),
        (b"2026-11-21T17:00:48+01:00", NOVEMBER - 3600),
        (b"2026-11-21T17:00:48", NOVEMBER - 60),
        (b"2026-11-31T17:00:48+00:00", None),
    ],
)
def test_what_is_remembered_of_a_line_does_not_change_the_next(
    stamp: bytes, when: float | None
) -> None:
    parser = LineParser(Calendar(latest=RECORDED, local=lambda shown: shown - 60))
    for pid in (b"25000", b"7"):
        assert parser.parse(b"2026-11-21T17:00:48+00:00 mta1 postfix/smtp[%b]: x" % pid)
        for _ in range(2):
            line = parser.parse(stamp + b" mta1 postfix/smtp[%b]: hello\n" % pid)
            assert (line and line.when) == when
            assert line is None or (line.origin.pid, line.text) == (int(pid), b"hello")


def test_a_new_calendar_is_used_from_the_next_minute_on() -> None:
    parser = LineParser(Calendar(latest=RECORDED))
    parser.calendar = Calendar(latest=RECORDED + 365 * 86400)
    line = parser.parse(b"Nov 21 17:00:48 mta1 postfix/smtp[1]: x")
    assert line is not None
    assert line.when == NOVEMBER + 365 * 86400


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"-- Boot db76b592613e45fea84d1f54a62d5659 --",
        b"Nov 21 17:00:48 mta1 last message repeated 3 times",
        b"Nov 21 17:00:48 mta1 postfix/smtpd[1]: x",
        b"Nov 21 17:00:48 mta1 postfix/smtp: x",
        b"Nov 21 17:00:48 mta1 smtp[1]: x",
        b"Nov 21 17:00:48 mta1 dovecot: to=<a postfix/smtp[1]: x>",
        b"Nov 31 17:00:48 mta1 postfix/smtp[1]: x",
        b"Nov 00 17:00:48 mta1 postfix/smtp[1]: x",
        b"Foo 21 17:00:48 mta1 postfix/smtp[1]: x",
        b"Nov 21 24:00:48 mta1 postfix/smtp[1]: x",
        b"Nov 21 17:60:48 mta1 postfix/smtp[1]: x",
        b"Nov 21 17:00:61 mta1 postfix/smtp[1]: x",
        b"2026-13-21T17:00:48Z mta1 postfix/smtp[1]: x",
        b"2026-02-29T17:00:48Z mta1 postfix/smtp[1]: x",
        b"0000-00-00T17:00:48Z mta1 postfix/smtp[1]: x",
    ],
)
def test_what_is_no_line_of_ours_is_none(line: bytes) -> None:
    assert parse(line) is None


@pytest.mark.parametrize(
    ("tag", "origin"),
    [
        (b"postfix/relay/smtp[2]", Origin("h", "postfix/relay/smtp", "smtp", 2)),
        (b"postfix-out/lmtp[3]", Origin("h", "postfix-out/lmtp", "lmtp", 3)),
        (b"postfix/tlsproxy[4]", Origin("h", "postfix/tlsproxy", "tlsproxy", 4)),
        (b"\xffmx/qmgr[5]", Origin("h", "\N{REPLACEMENT CHARACTER}mx/qmgr", "qmgr", 5)),
        (b"postfix/master[6]", Origin("h", "postfix/master", "master", 6)),
    ],
)
def test_the_program_is_the_last_element_of_the_tag(tag: bytes, origin: Origin) -> None:
    line = parse(b"Nov 21 17:00:48 h " + tag + b": x")
    assert line is not None
    assert line.origin == origin


def test_a_text_is_cut_at_its_bound() -> None:
    line = parse(b"Nov 21 17:00:48 h postfix/smtp[1]: " + b"x" * 9000)
    assert line is not None
    assert line.text == b"x" * MAX_TEXT


def test_processes_that_come_and_go_are_not_remembered_for_ever() -> None:
    parser = LineParser(Calendar(latest=RECORDED))
    for pid in range(5000):
        line = parser.parse(b"Nov 21 17:00:48 h postfix/smtp[%d]: x" % pid)
        assert line is not None
        assert line.origin.pid == pid
    assert len(parser._origins) < 5000  # noqa: SLF001 (the bound is inside)


@pytest.mark.parametrize(
    ("line", "matters"),
    [
        (b"Nov 21 17:00:48 h postfix/smtp[1]: x", True),
        (b"Nov 21 17:00:48 h postfix/relay/lmtp[1]: x", True),
        (b"Nov 21 17:00:48 h postfix/tlsproxy[1]: x", True),
        (b"Nov 21 17:00:48 h postfix/master[1]: daemon started", True),
        (b"Nov 21 17:00:48 h postfix/smtpd[1]: x", False),
        (b"Nov 21 17:00:48 h postfix/qmgr[1]: ABC123: from=<A+b@me.example>, size=1", True),
        (b"Nov 21 17:00:48 h postfix/qmgr[1]: ABC123: from=<aab@me.example>, size=1", False),
        (b"Nov 21 17:00:48 h postfix/qmgr[1]: ABC123: removed", True),
        (b"Nov 21 17:00:48 h postfix/qmgr[1]: ABC123: removed by hand", False),
    ],
)
def test_the_filter_lets_pass_what_matters(line: bytes, *, matters: bool) -> None:
    assert bool(build_filter(["a+b@me.example"])(line)) is matters
    assert bool(build_filter()(line)) is (matters and b"qmgr" not in line)


@pytest.mark.parametrize(
    "line",
    [
        b"Nov 21 17:00:48 h dovecot: imap(u): postfix/smtp[1]: x",
        b"2026-11-21T17:00:48Z h dovecot: to=<a postfix/smtp[1]: x>",
        b"Nov 21 17:00:48 dovecot: x/smtp[1]: x",
        b"2026-11-21T17:00:48Z h postfix/smtpd[1]: ABC123: client=x/smtp[1]: x",
        b"2026-11-21T17:00:48Z h postfix/cleanup[1]: ABC123: message-id=</qmgr[1]: A: removed",
        b"2026-11-21T17:00:48Z h kernel: /smtp[x]: y",
        b"2026-11-21T17:00:48Z h postfix/smtp[25",
    ],
)
def test_what_only_looks_like_a_tag_makes_no_line_of_ours_nor_a_damaged_one(line: bytes) -> None:
    assert parse(line) is None
    assert not (build_filter(["a@me.example"])(line) and is_damaged(line))


def test_a_line_of_ours_that_cannot_be_read_is_damaged() -> None:
    line = b"21.11.2026 h postfix/smtp[1]: x: y"
    assert build_filter()(line)
    assert parse(line) is None
    assert is_damaged(line)


def test_the_journal_filter_knows_programs_by_their_identifier() -> None:
    entry = b'{"SYSLOG_IDENTIFIER":"postfix/%s","MESSAGE":"x"}'
    assert build_journal_filter()(entry % b"smtp")
    assert not build_journal_filter()(entry % b"smtpd")
    assert not build_journal_filter()(entry % b"qmgr")
    assert build_journal_filter(["a@me.example"])(entry % b"qmgr")


ENTRY = {
    "SYSLOG_IDENTIFIER": "postfix/smtp",
    "MESSAGE": "hello",
    "SYSLOG_PID": "25000",
    "_PID": "1",
    "_HOSTNAME": "mta1",
    "__REALTIME_TIMESTAMP": "1795280448000000",
}


def test_a_journal_entry_is_the_same_line() -> None:
    assert parse_journal(ENTRY) == LogLine(NOVEMBER, SMTP, b"hello")
    without = {key: value for key, value in ENTRY.items() if key != "SYSLOG_PID"}
    line = parse_journal({**without, "_HOSTNAME": None, "MESSAGE": [104, 255]})
    assert line == LogLine(NOVEMBER, Origin("", "postfix/smtp", "smtp", 1), b"h\xff")


@pytest.mark.parametrize(
    "change",
    [
        {"SYSLOG_IDENTIFIER": "postfix/smtpd"},
        {"SYSLOG_IDENTIFIER": ["postfix/smtp"]},
        {"MESSAGE": None},
        {"MESSAGE": [256]},
        {"MESSAGE": ["a"]},
        {"SYSLOG_PID": "x", "_PID": "-1"},
        {"__REALTIME_TIMESTAMP": 1795280448000000},
    ],
)
def test_a_journal_entry_that_is_none_of_ours_is_none(change: dict[str, Any]) -> None:
    assert parse_journal({**ENTRY, **change}) is None


def test_the_recorded_journal_gives_the_same_lines_in_all_forms() -> None:
    folder = LOGS / "containers"
    entries = [json.loads(raw) for raw in (folder / "journald-json.log").read_bytes().splitlines()]
    wanted = [(x.origin, x.text) for entry in entries if (x := parse_journal(entry)) is not None]
    assert wanted
    for form in ("short", "short-iso", "short-iso-precise", "short-unix", "short-full"):
        raw = (folder / f"journald-{form}.log").read_bytes().splitlines()
        lines = [line for text in raw if (line := parse(text)) is not None]
        assert [(line.origin, line.text) for line in lines] == wanted, form
