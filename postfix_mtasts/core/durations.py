"""Times as operators write them: "90", "90s", "1.5m", "24h", "30d".

A number without a unit is seconds.

LIMITS: nine digits before the point and twenty behind it.

BUGS: there are no weeks, months or years, whose length is a matter of taste.
"""

import re

from postfix_mtasts.core.errors import ParseError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,20})?)([smhd]?)")


def parse_duration(text: str) -> float:
    """Return the seconds that *text* says; raises `ParseError` where it says none."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ParseError(f'"{text}" is no duration, such as "5s", "10m", "24h" or "30d"')
    return float(match[1]) * _SECONDS[match[2] or "s"]


def build_duration(seconds: float) -> str:
    """Return *seconds*, 0.001 or more, in the largest unit that holds them whole."""
    for unit, size in reversed(_SECONDS.items()):
        if seconds % size == 0:
            return f"{seconds // size:.0f}{unit}"
    return f"{seconds!r}s"
