"""Memory that stands in for the file while that cannot be used.

It begins as a copy of what the file lets be read.  A list of the domains that
have changed since then tells what must be written to the file afterwards.

BUGS: the copy is as large as the file, which is bounded by the number of
domains that the store may hold.
"""

import sqlite3

from postfix_mtasts.adapters import store_file, store_room, store_tables

# Not OR IGNORE: an upsert's own conflict clause takes its place (lang_createtrigger.html).
_NOTE_CHANGES = (
    "CREATE TEMP TABLE changed (domain TEXT PRIMARY KEY) WITHOUT ROWID",
    *(
        f"""CREATE TEMP TRIGGER {table}_{event} AFTER {event} ON main.{table}
        BEGIN INSERT INTO changed SELECT {row}.domain
        WHERE {row}.domain NOT IN (SELECT domain FROM changed); END"""  # noqa: S608 - constants
        for table in ("domains", "nexthops")
        for event, row in (("INSERT", "new"), ("UPDATE", "new"), ("DELETE", "old"))
    ),
)


def open_shelter(source: sqlite3.Connection | None) -> sqlite3.Connection:
    """Return memory that holds what *source* lets be read, and notes what changes."""
    shelter = _copied(source) if source is not None else None
    if shelter is None:
        shelter = store_file.open_memory()
    for statement in _NOTE_CHANGES:
        shelter.execute(statement)
    return shelter


def write_back(shelter: sqlite3.Connection, file: sqlite3.Connection, now: float) -> None:
    """Bring to *file* what has changed in *shelter*, all of it to a new file.

    To be called in a transaction.
    A policy in *file* that *shelter* never saw, because it could not be read,
    stays where `store_tables.put_domain` says so.
    """
    is_new = store_room.count(file) == 0
    query = "SELECT domain FROM domains" if is_new else "SELECT domain FROM changed"
    for (domain,) in shelter.execute(query):
        store_tables.copy_domain(shelter, file, domain, now)


def _copied(source: sqlite3.Connection) -> sqlite3.Connection | None:
    """Return a copy of *source* in memory, `None` where no sound one can be had."""
    copy = store_file.open_memory()
    try:
        source.execute("BEGIN")  # with the read, a lock: without it `backup` may wait for ever
        store_file.check_tables(source)
        source.backup(copy)
        store_file.check_pages(copy)
    except sqlite3.DatabaseError:
        copy.close()
        return None
    return copy
