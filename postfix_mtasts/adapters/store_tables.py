"""The tables of the store, and what is done to them within one transaction.

``domains`` has a row for every domain that was asked for: what is known of its
policy, when it is to be refreshed, when Postfix last asked.  ``nexthops`` has
what DNS said of each next-hop of a domain, in the format of `core.facts_record`:
few have more than one.

An older snapshot never replaces a newer policy.  A policy in force gives way
only to one that was known to be current at least as late as itself, never to
"none", or to an explicit `purge`.  A policy whose check lies in the future was
written while the clock was wrong: its time proves nothing, so that any other
policy replaces it, lest it hold out for years.  Everything else in a row is
replaced as given.

BUGS: a domain whose every subdomain publishes an enforced policy, and is asked
for, can crowd out the policies that were least recently asked for.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from postfix_mtasts.adapters.store_rows import (
    POLICY_COLUMNS,
    STS_COLUMNS,
    Row,
    build_sts,
    parse_policy,
)
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.facts import StsFacts
from postfix_mtasts.core.freshness import in_force
from postfix_mtasts.ports import Entry

VERSION = 1
"""Goes up with every change of the tables, or of what their columns mean."""

SCHEMA = (
    """CREATE TABLE domains (
    domain TEXT PRIMARY KEY,
    asked REAL NOT NULL,
    refresh REAL,
    record_id TEXT,
    text BLOB,
    fetched REAL,
    checked REAL,
    mode TEXT,
    expires REAL,
    failed_id TEXT,
    failed_at REAL,
    failed_retry REAL,
    failed_kind TEXT,
    failed_why TEXT
) WITHOUT ROWID""",
    """CREATE TABLE nexthops (
    domain TEXT,
    nexthop TEXT,
    facts BLOB NOT NULL,
    PRIMARY KEY (domain, nexthop)
) WITHOUT ROWID""",
    "CREATE INDEX domains_by_worth ON domains (mode, asked)",
    "CREATE INDEX domains_by_refresh ON domains (refresh) WHERE refresh IS NOT NULL",
    "CREATE INDEX domains_by_expiry ON domains (expires) WHERE expires IS NOT NULL",
)

ASKED_STEP = 3600
"""Seconds by which `asked` must differ for a row to be written for it alone."""

MAX_NEXTHOPS = 16
"""Next-hops of one domain that are remembered (a security limit)."""

_CHANGING = ("refresh", *STS_COLUMNS)
_ALL = ("domain", "asked", *_CHANGING)
_POLICY_SIZE = len(POLICY_COLUMNS)
_CHECKED = POLICY_COLUMNS.index("checked")


def _listed(columns: Iterable[str], form: str = "{}") -> str:
    return ", ".join(form.format(column) for column in columns)


# The names in these statements are constants of this program.
_LOAD = f"""SELECT facts, {_listed(STS_COLUMNS)} FROM domains
    LEFT JOIN nexthops ON nexthops.domain = domains.domain AND nexthop = ?
    WHERE domains.domain = ?"""  # noqa: S608 - constants
_READ = f"SELECT asked, {_listed(_CHANGING)} FROM domains WHERE domain = ?"  # noqa: S608 - constants
_INSERT = f"""INSERT OR REPLACE INTO domains ({_listed(_ALL)})
    VALUES ({_listed("?" for _ in _ALL)})"""  # noqa: S608 - constants
_UPDATE = f"""UPDATE domains SET asked = ?, {_listed(_CHANGING, "{} = ?")}
    WHERE domain = ?"""  # noqa: S608 - constants
_PUT_FACTS = """INSERT INTO nexthops (domain, nexthop, facts) VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET facts = excluded.facts WHERE facts IS NOT excluded.facts"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainRow:
    """A row of ``domains`` but for its key; *sts* are the values of `STS_COLUMNS`."""

    asked: float
    refresh: float | None
    sts: Row


def read_domain(connection: sqlite3.Connection, domain: str) -> DomainRow | None:
    """Return the row of *domain*; `None` where there is none, or a damaged one."""
    row = connection.execute(_READ, (domain,)).fetchone()
    if row is None or not isinstance(row[0], float):
        return None
    return DomainRow(asked=row[0], refresh=row[1], sts=row[2:])


def load(connection: sqlite3.Connection, domain: str, nexthop: str) -> tuple[object, Row]:
    """Return what DNS said of *nexthop* and the values of `STS_COLUMNS` of *domain*."""
    row = connection.execute(_LOAD, (nexthop, domain)).fetchone()
    return (None, build_sts(StsFacts())) if row is None else (row[0], row[1:])


def put_domain(
    connection: sqlite3.Connection,
    domain: str,
    *,
    asked: float | None,
    refresh: float | None,
    sts: Row,
    now: float,
) -> bool:
    """Write the row of *domain*; return whether it is a new one.

    A policy that is newer than that of *sts* stays.  Where nothing else has
    changed, *asked* is written only if it differs by `ASKED_STEP`.
    """
    known = read_domain(connection, domain)
    if known is None:
        connection.execute(_INSERT, (domain, asked or 0.0, refresh, *sts))
        return True
    if _is_older(sts, known.sts, now):
        sts = known.sts[:_POLICY_SIZE] + sts[_POLICY_SIZE:]
    if asked is None:
        asked = known.asked
    changed = (refresh, sts) != (known.refresh, known.sts)
    if changed or abs(asked - known.asked) >= ASKED_STEP:
        connection.execute(_UPDATE, (asked, refresh, *sts, domain))
    return False


def _is_older(given: Row, known: Row, now: float) -> bool:
    """Return whether the policy of *known* must outlive that of *given*."""
    checked, known_checked = given[_CHECKED], known[_CHECKED]
    if not isinstance(known_checked, float):
        return False  # there is none
    if isinstance(checked, float | int) and checked >= known_checked:
        return False
    try:
        policy = in_force(parse_policy(known), now)
    except ParseError:
        return False
    return policy is not None and (checked is None or policy.checked <= now)


def put_facts(
    connection: sqlite3.Connection, domain: str, nexthop: str, facts: bytes | None
) -> None:
    """Write what DNS said of *nexthop*, `None` for nothing."""
    if facts is None:
        connection.execute(
            "DELETE FROM nexthops WHERE domain = ? AND nexthop = ?", (domain, nexthop)
        )
        return
    connection.execute(_PUT_FACTS, (domain, nexthop, facts))
    if nexthop != domain:  # with a port or in brackets, of which there may be many
        _limit_nexthops(connection, domain, nexthop)


def _limit_nexthops(connection: sqlite3.Connection, domain: str, keep: str) -> None:
    [count] = connection.execute(
        "SELECT count(*) FROM nexthops WHERE domain = ?", (domain,)
    ).fetchone()
    if count > MAX_NEXTHOPS:
        connection.execute("DELETE FROM nexthops WHERE domain = ? AND nexthop != ?", (domain, keep))


def copy_domain(
    source: sqlite3.Connection, target: sqlite3.Connection, domain: str, now: float
) -> None:
    """Bring *target* to what *source* has of *domain*, but for a newer policy."""
    row = read_domain(source, domain)
    if row is None:
        remove(target, (domain,))
        return
    put_domain(target, domain, asked=row.asked, refresh=row.refresh, sts=row.sts, now=now)
    target.execute("DELETE FROM nexthops WHERE domain = ?", (domain,))
    rows = source.execute("SELECT domain, nexthop, facts FROM nexthops WHERE domain = ?", (domain,))
    target.executemany(_PUT_FACTS, rows)


def due(connection: sqlite3.Connection, now: float, limit: int) -> tuple[str, ...]:
    """Return up to *limit* domains to be refreshed, longest overdue first."""
    query = "SELECT domain FROM domains WHERE refresh <= ? ORDER BY refresh LIMIT ?"
    return _column(connection, query, (now, limit))


def entries(connection: sqlite3.Connection, after: str, limit: int) -> tuple[Entry, ...]:
    """Return up to *limit* entries of domains that come after *after*, in order of name."""
    query = """SELECT domain, mode, record_id, expires, asked FROM domains
        WHERE domain > ? ORDER BY domain LIMIT ?"""
    return tuple(map(_entry, connection.execute(query, (after, limit))))


def _entry(row: tuple[object, ...]) -> Entry:
    """Return an entry, damaged values left out: a list must not end at them."""
    domain, mode, record_id, expires, asked = row
    return Entry(
        domain=str(domain),
        mode=mode if isinstance(mode, str) else "",
        record_id=record_id if isinstance(record_id, str) else "",
        expires=expires if isinstance(expires, float) else None,
        asked=asked if isinstance(asked, float) else 0.0,
    )


def forget(connection: sqlite3.Connection, asked_before: float, limit: int) -> int:
    """Remove up to *limit* domains that were last asked for before *asked_before*."""
    query = "SELECT domain FROM domains WHERE asked < ? LIMIT ?"
    return remove(connection, _column(connection, query, (asked_before, limit)))


def remove(connection: sqlite3.Connection, domains: Iterable[str]) -> int:
    """Remove all that is stored of *domains*; return how many were there."""
    keys = [(domain,) for domain in domains]
    connection.executemany("DELETE FROM nexthops WHERE domain = ?", keys)
    return max(0, connection.executemany("DELETE FROM domains WHERE domain = ?", keys).rowcount)


def _column(
    connection: sqlite3.Connection, query: str, parameters: tuple[float | str, ...]
) -> tuple[str, ...]:
    return tuple([domain for (domain,) in connection.execute(query, parameters)])
