"""The recorded mail logs: what each scenario is, and what reading it gives."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from postfix_mtasts.core.log_line import Calendar, LineParser, LogLine
from postfix_mtasts.core.sessions import SessionTracker
from postfix_mtasts.core.tls_event import Outcome, TlsEvent

LOGS = Path(__file__).parents[1] / "data" / "postfix-logs"
RECORDED = 1795300000.0  # 21 November 2026, after the last line
SCENARIOS = sorted(str(path.relative_to(LOGS))[:-5] for path in LOGS.glob("3.*/*.json"))


def read_lines(name: str, form: str = ".log") -> list[bytes]:
    return (LOGS / (name + form)).read_bytes().splitlines(keepends=True)


def parse_lines(lines: Iterable[bytes]) -> list[LogLine]:
    parser = LineParser(Calendar(latest=RECORDED))
    return [line for raw in lines if (line := parser.parse(raw)) is not None]


def events_of(lines: Iterable[LogLine]) -> list[TlsEvent]:
    tracker = SessionTracker()
    return [event for line in lines for event in tracker.feed(line)]


def totals(events: Iterable[TlsEvent]) -> Counter[TlsEvent]:
    return Counter(events)


def document(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((LOGS / f"{name}.json").read_text())
    return found


def expected_domains(name: str) -> list[dict[str, Any]]:
    """Return what was expected of each policy domain, [] where no one said."""
    expected = document(name)["expected"]
    found: list[dict[str, Any]] = expected.get("domains", [expected])
    return [domain for domain in found if "sessions" in domain]


def counted(events: Iterable[TlsEvent], domain: str) -> list[tuple[str, str, str, str | None]]:
    """Return host, address, outcome and result type of the sessions that count for *domain*."""
    outcomes = {Outcome.SUCCESS, Outcome.FAILURE}
    return [
        (event.mx, event.ip, event.outcome.value, failure_of(event))
        for event in events
        if event.domain == domain and event.outcome in outcomes
    ]


def failure_of(event: TlsEvent) -> str | None:
    failed = event.outcome is Outcome.FAILURE and event.fault is not None
    return event.fault.kind.value if failed and event.fault else None
