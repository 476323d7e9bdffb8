"""The daemon as a process leaves what it finds wrong for the reports, and `report` shows it."""

import json
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from postfix_mtasts.adapters.count_reader import SqliteCountReader
from postfix_mtasts.adapters.tlsrpt_store import open_counts
from postfix_mtasts.cli import main
from postfix_mtasts.core.tally import Origin, Row
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.core.utc import build_date, day_of
from postfix_mtasts.ports import StoreUnusableError
from tests.adapters.dns_server import record
from tests.hostile.daemon_process import DnsThread, running, until

TODAY = day_of(time.time())
NOTHING = b"NOTFOUND "
DOMAIN = "broken.example"
ASK = f"policy {DOMAIN}".encode()
WHO = {
    "organization": "Sender Inc",
    "contact": "tls@sender.example",
    "sender": "reports@sender.example",
}
LEAVES_WITHIN = 5.0  # seconds


@pytest.fixture(autouse=True)
def midnight_is_not_near() -> None:
    if day_of(time.time() + 120) != TODAY:
        pytest.skip("the day is about to end, and with it what these tests take for today")


@pytest.fixture(name="dns", scope="module")
def make_dns() -> Iterator[DnsThread]:
    """DNS of a domain with a record, and with a policy host at which nobody listens."""
    with DnsThread() as dns:
        txt, host = f"_mta-sts.{DOMAIN}", f"mta-sts.{DOMAIN}"
        dns.says(txt, "TXT", record(txt, "TXT", '"v=STSv1; id=1;"'))
        dns.says(host, "A", record(host, "A", "127.0.0.1"))
        yield dns


def counted(path: Path) -> dict[Row, int]:
    try:
        with closing(SqliteCountReader(path)) as store:
            return dict(store.counts_of(TODAY, DOMAIN))
    except StoreUnusableError:  # not made yet, or without its tables
        return {}


def printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the report that ``report --print`` shows of today."""
    words = ["report", "--print", "--day", build_date(TODAY), "--domain", DOMAIN]
    assert main([*words, "--config", str(folder / "config.yaml")]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def test_a_failed_fetch_is_in_the_file_within_seconds(tmp_path: Path, dns: DnsThread) -> None:
    path = tmp_path / "tlsrpt.db"
    with running(tmp_path, resolver=dns) as daemon:
        for _ in range(3):
            assert daemon.ask(ASK) == NOTHING
        until(lambda: bool(counted(path)))
        [(row, count)] = counted(path).items()
    assert (row.origin, count) == (Origin.DAEMON, 1)
    [failure] = row.finding.failures
    assert failure.result_type is ResultType.STS_POLICY_FETCH_ERROR


def test_what_was_found_last_is_written_at_the_end_and_reported(
    tmp_path: Path, dns: DnsThread, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(tmp_path, resolver=dns, tlsrpt=WHO) as daemon:
        assert daemon.ask(ASK) == NOTHING
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
    [told] = printed(tmp_path, capsys)["policies"]
    assert told["policy"]["policy-type"] == "sts"
    assert told["policy"]["policy-domain"] == DOMAIN
    assert told["summary"]["total-failure-session-count"] == 1
    [detail] = told["failure-details"]
    assert detail["result-type"] == "sts-policy-fetch-error"
    assert re.search(r"mta-sts\.broken\.example.*refused", detail["failure-reason-code"])


def test_without_reports_no_file_is_made(tmp_path: Path, dns: DnsThread) -> None:
    with running(tmp_path, resolver=dns, tlsrpt={"enabled": False}) as daemon:
        assert daemon.ask(ASK) == NOTHING
    assert not (tmp_path / "tlsrpt.db").exists()


def test_a_reload_switches_reports_off(tmp_path: Path, dns: DnsThread) -> None:
    with running(tmp_path, resolver=dns) as daemon:
        document = daemon.config.read_text()
        daemon.config.write_text(f"{document}tlsrpt: {{enabled: false}}\n")
        daemon.signal(signal.SIGHUP)
        daemon.hears("READY=1")
        assert daemon.ask(ASK) == NOTHING
    assert not (tmp_path / "tlsrpt.db").exists()


def test_a_file_that_is_locked_holds_up_neither_answers_nor_the_end(
    tmp_path: Path, dns: DnsThread
) -> None:
    path = tmp_path / "tlsrpt.db"
    open_counts(path).close()
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as blocker,
        running(tmp_path, resolver=dns) as daemon,
    ):
        blocker.execute("BEGIN IMMEDIATE")
        assert daemon.ask(ASK) == NOTHING
        until(lambda: "waits in memory" in daemon.log)
        assert daemon.is_prompt()
        started = time.monotonic()
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
        assert time.monotonic() - started < LEAVES_WITHIN
        assert daemon.log.count("waits in memory") == 1
        blocker.execute("ROLLBACK")
    assert counted(path) == {}
