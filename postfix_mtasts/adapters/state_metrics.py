"""What the databases tell of policies, of the collector and of reports, for ``/metrics``.

`metrics.listen` is one address and there are two processes beside Postfix, and a third
that comes and goes.  So the daemon tells of all: of policies from its own ``state.db``,
and from ``tlsrpt.db`` what the collector has read and what became of reports, which is
there whoever wrote it, also over restarts.

Files are opened for each look, to read only, and within `BUSY_SECONDS` and
`WORK_SECONDS`; neither the daemon's store nor the collector waits for that.  Where a
file is missing, locked or damaged its metrics are absent, and ``…_readable`` is 0.

Labels are words that this program knows; whatever else a file holds is "other".

BUGS: of a collector that is fed by datagrams alone nothing tells that it is alive.
Reports are told of only once they are to be handed over.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Final

from postfix_mtasts.adapters.store_file import check_tables, interrupt_at, open_existing
from postfix_mtasts.adapters.tlsrpt_store import READ_TO, check_version
from postfix_mtasts.core.meters import OTHER, Metric, gauge
from postfix_mtasts.core.utc import DAY
from postfix_mtasts.ports import ReportState

BUSY_SECONDS: Final = 0.5
WORK_SECONDS: Final = 2.0
MODES: Final = ("enforce", "testing", "none")
ODD: Final = (
    *("datagram-version", "datagram-policy", "datagram-size", "datagram-json", "datagram-domain"),
    *("log-line", "log-long", "log-file", "journal-long", "journal-entry", "journal-ended"),
    "daemon-findings-left-out",
)

_PREFIX: Final = "postfix_mtasts_"
_POLICIES: Final = """SELECT mode, count(*), min(expires),
    count(failed_at), count(CASE WHEN expires < :soon THEN failed_at END)
    FROM domains WHERE expires > :now GROUP BY mode"""
_NOTES: Final = "SELECT name, count FROM notes LIMIT 1000"
_SEEN: Final = "SELECT name, count FROM seen"
_REPORTS: Final = "SELECT state, count(*) FROM reports GROUP BY state"
_SENT: Final = "SELECT max(sent) FROM reports"
_FAILING: Final = "SELECT count(*) FROM destinations WHERE failing_since IS NOT NULL"
_TABLE: Final = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?"


def policy_metrics(path: Path, now: float) -> list[Metric]:
    """Return how many policies the daemon's database at *path* has in force, and until when."""
    return _look(path, "state", check_tables, lambda file: _policies(file, now))


def reporting_metrics(path: Path) -> list[Metric]:
    """Return what the collector's database at *path* tells of it, and of reports."""
    return _look(path, "tlsrpt", check_version, _reporting)


def policies_in_force(metrics: Iterable[Metric]) -> int | None:
    """Return how many policies *metrics*, of `policy_metrics`, tell of; `None` for unknown."""
    found = [each for each in metrics if each.name == f"{_PREFIX}policies"]
    return int(sum(value for each in found for _, value in each.samples)) if found else None


def _look(
    path: Path,
    name: str,
    check: Callable[[sqlite3.Connection], None],
    reading: Callable[[sqlite3.Connection], list[Metric]],
) -> list[Metric]:
    try:
        with closing(_open(path)) as file:
            check(file)
            found = reading(file)
    except (sqlite3.Error, ValueError, TypeError):  # the latter two: a damaged value
        found = None
    readable = gauge(
        f"{_PREFIX}{name}_database_readable",
        f"Whether {path.name} can be read, of which metrics are absent where it cannot.",
        float(found is not None),
    )
    return [readable, *(found or [])]


def _open(path: Path) -> sqlite3.Connection:
    file = open_existing(path, timeout=BUSY_SECONDS, mode="ro")
    interrupt_at(file, time.monotonic() + WORK_SECONDS)
    return file


def _policies(file: sqlite3.Connection, now: float) -> list[Metric]:
    rows = file.execute(_POLICIES, {"now": now, "soon": now + DAY}).fetchall()
    known = [row for row in rows if row[0] in MODES]
    counts = dict.fromkeys(MODES, 0.0) | {row[0]: float(row[1]) for row in known}
    metrics = [
        Metric(
            name=f"{_PREFIX}policies",
            kind="gauge",
            help="MTA-STS policies in force, by mode.",
            labels=("mode",),
            samples=[((mode,), count) for mode, count in counts.items()],
        ),
        gauge(
            f"{_PREFIX}policies_failing",
            "Policies in force whose last fetch failed.",
            float(sum(row[3] for row in known)),
        ),
        gauge(
            f"{_PREFIX}policies_expiring",
            "Policies in force that end within a day and whose last fetch failed.",
            float(sum(row[4] for row in known)),
        ),
    ]
    if known:
        text = "When the first of the policies in force ends, unless it is fetched again."
        soonest = min(float(row[2]) for row in known)
        metrics.append(gauge(f"{_PREFIX}policy_soonest_expiry_timestamp_seconds", text, soonest))
    return metrics


def _reporting(file: sqlite3.Connection) -> list[Metric]:
    metrics = [_odd(file)]
    [read_to] = file.execute(READ_TO).fetchone()
    if read_to is not None:
        text = "Up to when all logs that are followed have been read by the collector."
        metrics.append(gauge(f"{_PREFIX}collector_read_to_timestamp_seconds", text, float(read_to)))
    if _has(file, "seen"):
        metrics.append(_seen(file))
    if _has(file, "reports"):
        metrics += _reports(file)
    return metrics


def _has(file: sqlite3.Connection, table: str) -> bool:
    return bool(file.execute(_TABLE, (table,)).fetchone()[0])


def _odd(file: sqlite3.Connection) -> Metric:
    counts = dict.fromkeys((*ODD, OTHER), 0.0)
    for name, count in file.execute(_NOTES):
        counts[name if name in ODD else OTHER] += float(count)
    return Metric(
        name=f"{_PREFIX}collector_odd",
        kind="counter",
        help="Datagrams, log lines and the like that were passed over, by what is wrong.",
        labels=("kind",),
        samples=[((kind,), count) for kind, count in counts.items()],
    )


def _seen(file: sqlite3.Connection) -> Metric:
    counts = dict.fromkeys(("datagrams", "lines"), 0.0)
    counts |= {name: float(count) for name, count in file.execute(_SEEN) if name in counts}
    return Metric(
        name=f"{_PREFIX}collector_read",
        kind="counter",
        help="Lines of Postfix's log and TLSRPT datagrams that were read and stored.",
        labels=("kind",),
        samples=[((kind,), count) for kind, count in counts.items()],
    )


def _reports(file: sqlite3.Connection) -> list[Metric]:
    states = dict.fromkeys([state.value for state in ReportState], 0.0)
    states |= {state: float(count) for state, count in file.execute(_REPORTS) if state in states}
    metrics = [
        Metric(
            name=f"{_PREFIX}reports",
            kind="gauge",
            help="TLS reports of the days that are kept, by how far they have come.",
            labels=("state",),
            samples=[((state,), count) for state, count in states.items()],
        ),
        gauge(
            f"{_PREFIX}report_destinations_failing",
            "Destinations of reports, and their domains, that fail at present.",
            float(file.execute(_FAILING).fetchone()[0]),
        ),
    ]
    [sent] = file.execute(_SENT).fetchone()
    if sent is not None:
        text = "When a report was last handed over."
        metrics.append(gauge(f"{_PREFIX}report_last_sent_timestamp_seconds", text, float(sent)))
    return metrics
