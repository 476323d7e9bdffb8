"""How the daemon is, in the one line that ``systemctl status`` shows.

Such as "4.2 look-ups/s; 512 answers in memory, 20 policies in force; DNSSEC: 127.0.0.1
validates".  What is wrong stands at its end, and stays away where nothing is.
"""

from collections import deque
from typing import Final

from postfix_mtasts.services.activity import Activity

MINUTE: Final = 60.0


class Pace:
    """How much was done in the last minute, as far as it is asked at least that often."""

    def __init__(self, activity: Activity, now: float) -> None:
        self._activity = activity
        self._marks = deque([(now, activity.lookups(), activity.temporary_errors())])

    def text(self, now: float) -> str:
        """Return look-ups a second, and temporary errors, of the last minute.

        *now*: seconds of a clock that never jumps.
        """
        while len(self._marks) > 1 and now - self._marks[1][0] >= MINUTE:
            self._marks.popleft()
        then, lookups, errors = self._marks[0]
        mark = (now, self._activity.lookups(), self._activity.temporary_errors())
        if mark[0] > self._marks[-1][0]:
            self._marks.append(mark)
        rate = (mark[1] - lookups) / max(now - then, 1.0)
        text = f"{rate:.1f} look-ups/s" if rate < 100 else f"{rate:.0f} look-ups/s"  # noqa: PLR2004 - digits that mean something
        errors = mark[2] - errors
        return f"{text}, {errors} TEMP in the last minute" if errors else text


def build_status(
    *, pace: str, answers: int, policies: int | None, dnssec: str, problem: str | None
) -> str:
    """Return the line; *policies* in force, `None` for unknown; *problem*: with the store."""
    kept = f"{answers} answers in memory"
    if policies is not None:
        kept = f"{kept}, {policies} policies in force"
    return "; ".join(filter(None, (pace, kept, dnssec, problem)))
