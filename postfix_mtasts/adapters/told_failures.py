"""Failures of report mail of which others tell, summed up in SQL.

``own_mail`` is the collector's table: what became of our report mails, by recipient,
as the log tells.  A mail server takes what will bounce days later, so its word alone
is no success.  The temporary table ``told`` has, by destination and by domain, since
when all has failed, and when it last did.

A domain is in it where `schedule.SET_ASIDE_DESTINATIONS` of its destinations are
known and all fail: one whose addresses are new every day would otherwise never have
failed for long.
"""

import sqlite3
from collections.abc import Callable

from postfix_mtasts.core.report_uri import build_logged, domain_of
from postfix_mtasts.core.schedule import SET_ASIDE_DESTINATIONS

_HAS_BOUNCES = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'own_mail'"
_NO_BOUNCES = "CREATE TEMP TABLE own_mail (recipient, failing_since REAL, last REAL)"
_TOLD = """CREATE TEMP TABLE told (
    name TEXT PRIMARY KEY, -- a destination or a domain
    since REAL,
    last REAL
) WITHOUT ROWID"""
_TELL_OF_MAIL = """INSERT OR IGNORE INTO told
    SELECT logged(recipient), failing_since, last FROM own_mail
    WHERE failing_since IS NOT NULL"""
# Of a mail that was handed over only the log tells whether it arrived.
_TELL_OF_DOMAINS = """INSERT OR IGNORE INTO told
    SELECT domain, min(since), max(last) FROM (
        SELECT domain(logged(recipient)) AS domain, failing_since AS since, last FROM own_mail
        UNION ALL SELECT domain(destination), failing_since, last FROM destinations
        WHERE destination LIKE 'https:%'
            OR destination LIKE 'mailto:%' AND failing_since IS NOT NULL)
    GROUP BY domain HAVING count(*) >= ? AND count(*) = count(since)"""


def sum_up(connection: sqlite3.Connection) -> None:
    """Make the table ``told`` for *connection*, which has the table ``destinations``."""
    for name, function in (("logged", build_logged), ("domain", domain_of)):
        connection.create_function(name, 1, _of_any(function))
    if not connection.execute(_HAS_BOUNCES).fetchone():
        connection.execute(_NO_BOUNCES)
    connection.execute(_TOLD)
    connection.execute(_TELL_OF_MAIL)
    connection.execute(_TELL_OF_DOMAINS, (SET_ASIDE_DESTINATIONS,))


def _of_any(function: Callable[[str], str]) -> Callable[[object], str]:
    """Return *function* for SQL, where a value may be of any type."""
    return lambda value: function(str(value))
