"""What is counted together, in the tables ``kinds`` and ``policies`` of `tlsrpt_store`.

A row of `core.tally` is a day and a kind.  Kinds are found by a digest of their
columns, and so are policies, of which thousands of kinds share one.  Of one domain and
day only so much is told apart, in kinds and in octets that they add to the file: see
`core.detail`.  What has been stored of the day is looked up when it is first asked
for and then kept up in memory, so two processes that write may exceed the bounds by
as much as they hold unawares: a second's.

Everything here is part of the caller's transaction; where that is undone, so are
ids, and a new `KindIds` is needed.
"""

import sqlite3
from hashlib import blake2b
from typing import Final

from postfix_mtasts.core.detail import Bounds, Room
from postfix_mtasts.core.tally import Columns, Row, build_columns, with_less

BOUNDS: Final = Bounds(kinds=200, octets=96 << 10)
"""So much of one domain and day is stored at each level of detail: 500 KB on disk in all.

The octets hold the longest policy that there is (RFC 8461 section 3.3).
"""

_MAX_KNOWN: Final = 12 << 20  # octets, by the estimate, of rows whose kinds' ids are remembered
_MAX_ROOMS: Final = 20_000
_DIGEST: Final = 16  # octets: two kinds in the world do not share one
_OVERHEAD: Final = 150  # octets of a kind in the file beside its texts, indexes included

_POLICY: Final = "SELECT id FROM policies WHERE digest = ?"
_ADD_POLICY: Final = "INSERT INTO policies (digest, policy) VALUES (?, ?) RETURNING id"
_KIND: Final = "SELECT id FROM kinds WHERE digest = ?"
_ADD_KIND: Final = """INSERT INTO kinds (digest, domain, origin, policy, result)
    VALUES (?, ?, ?, ?, ?) RETURNING id"""
_IS_COUNTED: Final = "SELECT 1 FROM tally WHERE day = ? AND kind = ?"
# A number of its own at once, so that the kind is seen to be of that day.
_COUNT_NONE: Final = "INSERT INTO tally (day, kind, count) VALUES (?, ?, 0)"
# CROSS JOIN: SQLite knows nothing of how many there are, and would go through the whole day.
_STORED: Final = """SELECT count(*), total(length(CAST(result AS BLOB))) FROM kinds
    CROSS JOIN tally ON kind = id WHERE domain = ? AND day = ?"""
_STORED_POLICIES: Final = """SELECT total(length(CAST(policy AS BLOB))) FROM policies WHERE id IN (
    SELECT kinds.policy FROM kinds CROSS JOIN tally ON kind = kinds.id WHERE domain = ? AND day = ?)
    """


class KindIds:
    """The ids of kinds, by row; *bounds*: of one domain and day."""

    def __init__(self, bounds: Bounds = BOUNDS) -> None:
        self._bounds = bounds
        self._ids: dict[Row, int] = {}  # of kinds that are counted on the row's day
        self._octets = 0  # of these rows
        self._rooms: dict[tuple[int, str], Room] = {}

    def of(self, connection: sqlite3.Connection, row: Row) -> int:
        """Return the id of the kind of *row*, stored, or of one with less detail."""
        kind = self._ids.get(row)
        if kind is None:
            kind = self._look_up(connection, row)
            self._remember(row, kind)
        return kind

    def _remember(self, row: Row, kind: int) -> None:
        if self._octets + row.octets > _MAX_KNOWN:
            self._ids.clear()
            self._octets = 0
        self._ids[row] = kind
        self._octets += row.octets

    def _look_up(self, connection: sqlite3.Connection, row: Row) -> int:
        columns = build_columns(row)
        digest = _digest(*columns[1:])
        found = connection.execute(_KIND, (digest,)).fetchone()
        if found is not None and connection.execute(_IS_COUNTED, (row.day, *found)).fetchone():
            return int(found[0])
        room = self._room(connection, row)
        policy = connection.execute(_POLICY, (_digest(columns[3]),)).fetchone()
        octets = _octets(columns, with_policy=policy is None)
        plainer = with_less(row, room.level(octets))
        if plainer != row:
            return self.of(connection, plainer)
        room.take(octets)
        kind = found or _put(connection, columns, digest, policy)
        connection.execute(_COUNT_NONE, (row.day, *kind))
        return int(kind[0])

    def _room(self, connection: sqlite3.Connection, row: Row) -> Room:
        key = (row.day, row.finding.domain)
        room = self._rooms.get(key)
        if room is None:
            if len(self._rooms) >= _MAX_ROOMS:
                self._rooms.clear()
            room = self._rooms[key] = _stored(connection, self._bounds, *key)
        return room


def _stored(connection: sqlite3.Connection, bounds: Bounds, day: int, domain: str) -> Room:
    """Return what is stored of *domain* and *day*."""
    [kinds, octets] = connection.execute(_STORED, (domain, day)).fetchone()
    [policies] = connection.execute(_STORED_POLICIES, (domain, day)).fetchone()
    each = _OVERHEAD + 2 * len(domain)
    return Room(bounds=bounds, kinds=kinds, octets=int(octets + policies) + kinds * each)


def _octets(columns: Columns, *, with_policy: bool) -> int:
    """Return by how much a new kind makes the file longer, roughly."""
    _, domain, _, policy, result = columns
    texts = len(result.encode()) + (len(policy.encode()) if with_policy else 0)
    return _OVERHEAD + 2 * len(domain) + texts


def _put(
    connection: sqlite3.Connection, columns: Columns, digest: bytes, policy: tuple[int] | None
) -> tuple[int]:
    """Store a kind, and its policy where *policy*, its id, is not known; return the kind's id."""
    _, domain, origin, text, result = columns
    if policy is None:
        policy = connection.execute(_ADD_POLICY, (_digest(text), text)).fetchone()
    values = (digest, domain, origin, *policy, result)
    added: tuple[int] = connection.execute(_ADD_KIND, values).fetchone()
    return added


def _digest(*texts: str) -> bytes:
    return blake2b("\0".join(texts).encode(), digest_size=_DIGEST).digest()
