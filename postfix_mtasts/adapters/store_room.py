"""How many domains the store may hold, and which go first.

First those without a policy in force, then those whose policy asks for nothing,
last those with an enforced one; among equals, what was least recently asked for.
They go in batches of a hundredth, so that a full store is no slower.

BUGS: an owner of a domain who has mail sent to a hundred thousand of its
subdomains, each with an enforced policy, crowds out those of others.
"""

import sqlite3

from postfix_mtasts.adapters import store_tables

_BATCHES = 100  # that the store is thought of as divided into

_LEAST_VALUABLE = (
    """SELECT domain FROM (
        SELECT * FROM (SELECT domain, asked FROM domains
            WHERE mode IS NULL ORDER BY asked LIMIT :surplus)
        UNION ALL
        SELECT * FROM (SELECT domain, asked FROM domains
            WHERE expires < :now ORDER BY asked LIMIT :surplus)
    ) ORDER BY asked LIMIT :surplus""",
    "SELECT domain FROM domains WHERE mode = 'none' ORDER BY asked LIMIT :surplus",
    "SELECT domain FROM domains WHERE mode = 'testing' ORDER BY asked LIMIT :surplus",
    "SELECT domain FROM domains WHERE mode = 'enforce' ORDER BY asked LIMIT :surplus",
)


class Room:
    """Keeps the number of domains at or below *limit*.

    The count kept here is never too low unless another process adds domains,
    which the next start sees.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counted: sqlite3.Connection | None = None
        self._count = 0

    def added(self, connection: sqlite3.Connection, now: float) -> None:
        """Note that a domain was added, within its transaction; make room if need be."""
        if connection is not self._counted:
            self._counted, self._count = connection, count(connection)
        else:
            self._count += 1
        if self._count > self._limit:
            self._count = count(connection)  # some may have gone in other ways
        if self._count > self._limit:
            surplus = self._count - self._limit + self._limit // _BATCHES
            self._count -= remove_least_valuable(connection, surplus, now)


def count(connection: sqlite3.Connection) -> int:
    """Return the number of domains."""
    [number] = connection.execute("SELECT count(*) FROM domains").fetchone()
    return int(number)


def remove_least_valuable(connection: sqlite3.Connection, surplus: int, now: float) -> int:
    """Remove the *surplus* least valuable domains; return how many were there."""
    left = surplus
    for query in _LEAST_VALUABLE:
        if left > 0:
            found = connection.execute(query, {"surplus": left, "now": now}).fetchall()
            left -= store_tables.remove(connection, [domain for (domain,) in found])
    return surplus - left
