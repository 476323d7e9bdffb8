"""What doctor looks at for the reports."""

import asyncio
import os
import pwd
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from postfix_mtasts.adapters import systemd_units
from postfix_mtasts.commands import doctor_reports
from postfix_mtasts.commands.doctor_reports import _collector, _log, look_at_reports
from postfix_mtasts.config import parse_config
from postfix_mtasts.core.daemon_diagnosis import Collector
from postfix_mtasts.core.diagnosis import Diagnosis, Grade
from postfix_mtasts.core.endpoints import EventSource


@pytest.fixture(autouse=True)
def _no_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine have neither systemd nor our user, whatever it has."""
    monkeypatch.setattr(systemd_units.find_unit, "__defaults__", (tmp_path / "not-booted",))
    monkeypatch.setattr(doctor_reports, "UNIT", "no-such-user")


def reports(folder: Path, tlsrpt: str) -> list[Diagnosis]:
    text = (
        'dns: {servers: ["127.0.0.1:9"], timeout: 0.1s}\n'  # discard: nobody is there
        f"store: {{url: 'sqlite:///state.db'}}\ntlsrpt: {tlsrpt}\n"
    )
    config = parse_config(text, base=folder)
    return list(asyncio.run(look_at_reports(config, folder / "config.yaml")))


def said(diagnoses: list[Diagnosis], subject: str) -> list[tuple[Grade, str]]:
    return [(each.grade, each.text) for each in diagnoses if each.subject == subject]


def test_reports_that_are_turned_off_are_one_note(tmp_path: Path) -> None:
    (only,) = reports(tmp_path, "{enabled: false}")
    assert (only.subject, only.grade) == ("reports", Grade.NOTE)


def test_each_part_of_a_report_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "mail.log").touch()
    found = reports(
        tmp_path,
        "{organization: Us, contact: a@example.com, sources: ['file:mail.log', 'datagram:d'],"
        " dkim: {domain: example.com, selector: s1, key_file: none.pem}}",
    )
    log = f"{tmp_path}/mail.log, which {pwd.getpwuid(os.geteuid()).pw_name} can read"
    assert said(found, "log") == [(Grade.OK, log)]
    assert said(found, "collector")[0][0] is Grade.WARNING
    (missing, unknown) = said(found, "reports")
    assert missing == (Grade.WARNING, "none is sent: tlsrpt.sender not set")
    assert unknown[0] is Grade.NOTE
    assert "whether a@example.com takes mail is not known" in unknown[1]
    ((grade, why),) = said(found, "DKIM")
    assert grade is Grade.WARNING
    assert "dkim" in why


def test_a_log_that_is_not_there_is_told(tmp_path: Path) -> None:
    log = _log(EventSource(kind="file", path=str(tmp_path / "none")))
    assert log.refused == "No such file or directory"


def test_a_log_is_told_with_its_group(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    log = _log(EventSource(kind="file", path=str(tmp_path / "log")))
    assert log.group == (tmp_path / "log").group()


def test_the_journal_is_read_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_reports, "JOURNALS", (tmp_path,))
    assert _log(EventSource(kind="journal")).refused == "there is none"
    (tmp_path / "machine").mkdir()
    (tmp_path / "machine" / "system.journal").touch()
    log = _log(EventSource(kind="journal"))
    assert (log.name, log.refused) == ("the journal", "")


def test_how_far_the_sidecar_is_behind_is_told_by_its_counts(tmp_path: Path) -> None:
    path = tmp_path / "tlsrpt.db"
    assert _collector(path) == Collector()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE sources (read_to REAL, followed)")
        connection.execute("INSERT INTO sources VALUES (?, 1)", (time.time() - 100,))
    behind = _collector(path).behind
    assert behind is not None
    assert 100 <= behind < 1000
