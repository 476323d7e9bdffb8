"""What was in force for each domain and from when on: tables beside the counts of sessions.

::

    policies_known  what was in force, each once, in the format of `core.in_force_record`
    policies_held   from which moment it was so for a domain, and the last day that was asked
    days_asked      the days on which Postfix asked, and whether something was missed

A row of ``policies_held`` is written where something has changed.  One that cannot
be told, being too long, has no policy.  Of one domain and day `MOST_A_DAY` rows are
kept, the last in the place of the one before it (a security limit).

The functions take a connection to the file of `tlsrpt_store`; those that write are
to be called within a transaction.  What they raise is `sqlite3.DatabaseError`.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from postfix_mtasts.core.applied import InForce
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.in_force_record import parse_in_force
from postfix_mtasts.core.utc import day_of, day_start

SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS policies_known (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest BLOB NOT NULL UNIQUE,
    line BLOB NOT NULL
)""",
    """CREATE TABLE IF NOT EXISTS policies_held (
    domain TEXT,
    since REAL,
    until INTEGER NOT NULL,
    policy INTEGER,
    PRIMARY KEY (domain, since)
) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS days_asked (
    day INTEGER PRIMARY KEY,
    missed INTEGER NOT NULL
)""",
)

MOST_A_DAY: Final = 8

_DIGEST: Final = 16  # octets: two lines in the world do not share one
# Of the tables the last that is made.
_IS_THERE = "SELECT 1 FROM sqlite_schema WHERE name = 'days_asked'"
_MARK = """INSERT INTO days_asked (day, missed) VALUES (?, ?)
    ON CONFLICT DO UPDATE SET missed = max(missed, excluded.missed)"""
_LAST = """SELECT since, until, policy FROM policies_held
    WHERE domain = ? AND since <= ? ORDER BY since DESC LIMIT 1"""
_HELD = """SELECT since, line FROM policies_held
    LEFT JOIN policies_known ON id = policy
    WHERE domain = ? AND since < ? ORDER BY since DESC LIMIT ?"""
_PUT = "INSERT OR REPLACE INTO policies_held (domain, since, until, policy) VALUES (?, ?, ?, ?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What was in force for *domain* at *when*; *line*: `None` where that cannot be told."""

    domain: str
    when: float  # seconds since the epoch
    line: bytes | None


def make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables where they are not there."""
    for statement in SCHEMA:
        connection.execute(statement)


def has_tables(connection: sqlite3.Connection) -> bool:
    """Return whether the tables are there."""
    return connection.execute(_IS_THERE).fetchone() is not None


def hold(connection: sqlite3.Connection, held: Held) -> None:
    """Note *held*, unless it is what held before; then that it still does."""
    policy = None if held.line is None else _policy(connection, held.line)
    day = day_of(held.when)
    last = connection.execute(_LAST, (held.domain, held.when)).fetchone()
    if last is not None and last[2] == policy:
        if last[1] < day:
            connection.execute(_PUT, (held.domain, last[0], day, policy))
        return
    # What comes later was noted while the clock was wrong.
    later = "DELETE FROM policies_held WHERE domain = ? AND since > ?"
    connection.execute(later, (held.domain, held.when))
    if last is not None and _is_full(connection, held.domain, day):
        connection.execute(
            "DELETE FROM policies_held WHERE domain = ? AND since = ?", (held.domain, last[0])
        )
    connection.execute(_PUT, (held.domain, held.when, day, policy))


def mark_days(connection: sqlite3.Connection, days: Mapping[int, bool]) -> None:
    """Note that Postfix asked on *days*; true: not all of what it asked for was noted."""
    connection.executemany(_MARK, [(day, int(missed)) for day, missed in days.items()])


def held_on(connection: sqlite3.Connection, domain: str, day: int) -> tuple[InForce | None, ...]:
    """Return all that was in force for *domain* on *day*, in turn.

    First comes what held when the day began.  `None` is what cannot be told; so is
    what went before the last of more than are kept.
    """
    rows = connection.execute(_HELD, (domain, day_start(day + 1), MOST_A_DAY + 1)).fetchall()
    begun = [row[0] >= day_start(day) for row in rows]
    kept = rows[: sum(begun) + 1]
    told = [_parsed(line) for _, line in reversed(kept)]
    return (None, *told) if sum(begun) >= MOST_A_DAY else tuple(told)


def is_asked(connection: sqlite3.Connection, day: int) -> bool:
    """Return whether whoever Postfix asked for on *day* was noted.

    On a quiet day it may ask for nobody anew: the day before will do.
    """
    query = "SELECT count(*), total(missed) FROM days_asked WHERE day BETWEEN ? AND ?"
    count, missed = connection.execute(query, (day - 1, day)).fetchone()
    return bool(count and not missed)


def forget_before(connection: sqlite3.Connection, day: int) -> int:
    """Remove what was last asked for before *day*; return how many rows there were."""
    removed = connection.execute("DELETE FROM policies_held WHERE until < ?", (day,)).rowcount
    connection.execute("DELETE FROM days_asked WHERE day < ?", (day,))
    if removed:
        used = "SELECT policy FROM policies_held WHERE policy IS NOT NULL"
        connection.execute(f"DELETE FROM policies_known WHERE id NOT IN ({used})")  # noqa: S608 - constant
    return removed


def build_digest(line: bytes) -> bytes:
    """Return what stands for *line* where lines are compared."""
    return blake2b(line, digest_size=_DIGEST).digest()


def _policy(connection: sqlite3.Connection, line: bytes) -> int:
    digest = build_digest(line)
    query = "SELECT id FROM policies_known WHERE digest = ?"
    found = connection.execute(query, (digest,)).fetchone()
    if found is not None:
        return int(found[0])
    put = "INSERT INTO policies_known (digest, line) VALUES (?, ?) RETURNING id"
    return int(connection.execute(put, (digest, line)).fetchone()[0])


def _is_full(connection: sqlite3.Connection, domain: str, day: int) -> bool:
    query = "SELECT count(*) FROM policies_held WHERE domain = ? AND since >= ? AND since < ?"
    bounds = (domain, day_start(day), day_start(day + 1))
    [count] = connection.execute(query, bounds).fetchone()
    return bool(count >= MOST_A_DAY)


def _parsed(line: object) -> InForce | None:
    try:
        return parse_in_force(line) if isinstance(line, bytes) else None
    except ParseError:
        return None
