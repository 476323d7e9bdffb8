"""`report --cron`: says what is new, for cron mails every word to the postmaster.

What needs a person is said once a day, be it about the configuration or about
reports that were given up; `--list` tells of all.  What may pass by itself, such as
a locked database, is said once it has lasted a day, and then once a day.  When that
was is noted in files beside the database; where it cannot be, it is said.
"""

import time
from collections.abc import Callable
from pathlib import Path

from postfix_mtasts.adapters.stamp import Stamp
from postfix_mtasts.commands.failure import CommandError, ExitStatus
from postfix_mtasts.core.errors import ConfigError
from postfix_mtasts.core.utc import DAY

_A_DAY = DAY - 1800  # cron is not on the second


def run_quietly(database: Path, work: Callable[[], int]) -> int:
    """Return what *work* returns; its errors go on only where they are to be said."""
    try:
        status = work()
    except ConfigError:
        if _is_news(_stamp(database, "settings")):
            raise
        return ExitStatus.USAGE
    except CommandError as error:
        lasting = error.status is ExitStatus.LATER
        stamp = _stamp(database, "trouble" if lasting else "wrong")
        if _has_lasted(stamp) if lasting else _is_news(stamp):
            raise
        return error.status
    _stamp(database, "trouble").clear()
    return status


def _stamp(database: Path, what: str) -> Stamp:
    return Stamp(database.with_name(f"{database.name}-cron-{what}"))


def _is_news(said: Stamp) -> bool:
    """Return whether what was last said when *said* tells is to be said now; note that it is."""
    now = time.time()
    age = said.age(now)
    if age is not None and age < _A_DAY:
        return False
    said.put(now)
    return True


def _has_lasted(since: Stamp) -> bool:
    """Return whether what began when *since* tells is to be said now; begin anew if so."""
    now = time.time()
    age = since.age(now)
    if age is not None and age < _A_DAY:
        return False
    return not since.put(now) or age is not None
