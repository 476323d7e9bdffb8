"""What the databases tell, those that cannot be read included."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from postfix_mtasts.adapters import state_metrics, store_file
from postfix_mtasts.adapters.report_store import SqliteReportStore
from postfix_mtasts.adapters.state_metrics import (
    policies_in_force,
    policy_metrics,
    reporting_metrics,
)
from postfix_mtasts.adapters.store_sqlite import SqliteStore
from postfix_mtasts.adapters.tlsrpt_store import SqliteTlsrptStore
from postfix_mtasts.core import mta_sts
from postfix_mtasts.core.facts import CachedPolicy, FailedFetch, StsFacts
from postfix_mtasts.core.meters import Metric
from postfix_mtasts.core.names import Form, NextHop
from postfix_mtasts.core.schedule import Destination
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.ports import Counted, Handover, Place, ReportState, Stored

NOW = 1_800_000_000.0
DAY = 86400


def told(metrics: list[Metric]) -> dict[str, float]:
    """Return what *metrics* tell, a label's value behind its name."""
    return {
        ":".join((metric.name.removeprefix("postfix_mtasts_"), *labels)): value
        for metric in metrics
        for labels, value in metric.samples
    }


def policy(mode: mta_sts.Mode, *, max_age: int, fetched: float, failed: bool = False) -> StsFacts:
    mx = () if mode == "none" else ("mx.example",)
    lines = ("version: STSv1", f"mode: {mode}", *(f"mx: {m}" for m in mx), f"max_age: {max_age}\n")
    cached = CachedPolicy(
        record_id="1",
        policy=mta_sts.Policy(mode=mode, mx=mx, max_age=max_age),
        text="\n".join(lines).encode(),
        fetched=fetched,
        checked=fetched,
    )
    kind = ResultType.STS_POLICY_FETCH_ERROR
    failure = FailedFetch(record_id="2", at=NOW, retry_at=NOW + 300, kind=kind, why="refused")
    return StsFacts(cached=cached, failure=failure if failed else None)


def store(path: Path, *known: StsFacts) -> None:
    async def save() -> None:
        kept = SqliteStore(path, clock=lambda: NOW)
        for number, sts in enumerate(known):
            nexthop = NextHop(form=Form.DOMAIN, name=f"d{number}.example")
            await kept.save(nexthop, Stored(dns=None, sts=sts), asked=NOW, refresh=NOW)
        await kept.close()

    asyncio.run(save())


def test_policies_in_force_are_told_by_mode_with_those_that_fail(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store(
        path,
        policy("enforce", max_age=10 * DAY, fetched=NOW),
        policy("enforce", max_age=10 * DAY, fetched=NOW, failed=True),
        policy("enforce", max_age=2 * DAY, fetched=NOW - 1.5 * DAY, failed=True),
        policy("testing", max_age=DAY, fetched=NOW - 0.75 * DAY),
        policy("enforce", max_age=DAY, fetched=NOW - 2 * DAY, failed=True),  # has run out
        StsFacts(),
    )
    metrics = policy_metrics(path, NOW)
    assert told(metrics) == {
        "state_database_readable": 1,
        "policies:enforce": 3,
        "policies:testing": 1,
        "policies:none": 0,
        "policies_failing": 2,
        "policies_expiring": 1,
        "policy_soonest_expiry_timestamp_seconds": NOW + 0.25 * DAY,
    }
    assert policies_in_force(metrics) == 4


def test_without_policies_there_is_no_moment_at_which_the_first_ends(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store(path)
    metrics = policy_metrics(path, NOW)
    assert "policy_soonest_expiry_timestamp_seconds" not in told(metrics)
    assert policies_in_force(metrics) == 0


def missing(_path: Path) -> None:
    pass


def damaged(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0 and then nothing" * 100)


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize("make", [missing, damaged, foreign])
def test_of_a_file_that_cannot_be_read_it_is_told_that_it_cannot(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "x.db"
    make(path)
    assert told(policy_metrics(path, NOW)) == {"state_database_readable": 0}
    assert told(reporting_metrics(path)) == {"tlsrpt_database_readable": 0}
    assert policies_in_force(policy_metrics(path, NOW)) is None


def test_a_look_makes_no_file(tmp_path: Path) -> None:
    reporting_metrics(tmp_path / "tlsrpt.db")
    assert not list(tmp_path.iterdir())


def test_a_locked_file_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_metrics, "BUSY_SECONDS", 0.01)
    path = tmp_path / "state.db"
    store(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        assert told(policy_metrics(path, NOW)) == {"state_database_readable": 0}


def test_a_look_that_takes_too_long_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_metrics, "WORK_SECONDS", -1.0)
    monkeypatch.setattr(store_file, "_STEPS", 1)
    path = tmp_path / "state.db"
    store(path, policy("enforce", max_age=DAY, fetched=NOW))
    assert told(policy_metrics(path, NOW)) == {"state_database_readable": 0}


def collected(path: Path) -> None:
    kept = SqliteTlsrptStore(path, clock=lambda: NOW)
    kept.follow(["log"])
    kept.add(
        Counted(
            source="log",
            place=Place(position="p", read_to=NOW + 5),
            notes=(("datagram-json", 3), ("log-line", 2), ("<script>", 1), ("strange", 1)),
            seen=(("lines", 9), ("<script>", 1)),
        )
    )
    kept.close()


def test_the_collector_is_told_of_by_its_file_and_notes_of_no_known_name_together(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tlsrpt.db"
    collected(path)
    numbers = told(reporting_metrics(path))
    assert numbers["tlsrpt_database_readable"] == 1
    assert numbers["collector_read_to_timestamp_seconds"] == NOW + 5
    read = {n: v for n, v in numbers.items() if n.startswith("collector_read:")}
    assert read == {"collector_read:lines": 9, "collector_read:datagrams": 0}
    odd = {name: value for name, value in numbers.items() if name.startswith("collector_odd:")}
    assert {name: value for name, value in odd.items() if value} == {
        "collector_odd:datagram-json": 3,
        "collector_odd:log-line": 2,
        "collector_odd:other": 2,
    }
    assert len(odd) == len(state_metrics.ODD) + 1


def test_reports_are_told_by_state_once_there_are_any(tmp_path: Path) -> None:
    path = tmp_path / "tlsrpt.db"
    collected(path)
    assert not [name for name in told(reporting_metrics(path)) if name.startswith("report")]
    reports = SqliteReportStore(path)
    states = (ReportState.SENT, ReportState.SENT, ReportState.DUE, ReportState.GIVEN_UP)
    handovers = [
        Handover(
            day=1,
            domain="example.com",
            to=f"mailto:{number}@example.com",
            report_id="x",
            state=state,
            sent=NOW + number if state is ReportState.SENT else None,
        )
        for number, state in enumerate(states)
    ]
    reports.address(1, "example.com", handovers)
    reports.settle(
        handovers[2],
        {"example.com": Destination(failing_since=NOW, last=NOW), "b.example": Destination()},
    )
    reports.close()
    numbers = told(reporting_metrics(path))
    assert {name: value for name, value in numbers.items() if name.startswith("report")} == {
        "reports:due": 1,
        "reports:trying": 0,
        "reports:sent": 2,
        "reports:waiting": 0,
        "reports:given-up": 1,
        "reports:left-out": 0,
        "report_destinations_failing": 1,
        "report_last_sent_timestamp_seconds": NOW + 1,
    }
