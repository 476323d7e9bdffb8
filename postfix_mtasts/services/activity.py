"""What the daemon does, counted for who watches it.

One `Activity` lives as long as the process, over reloads of the configuration, and
is handed to all that count.  A cached answer holds the meter of its kind, so that
to send it costs one addition here; everything else is counted where a look-up, a
question or a fetch takes a thousand times as long.

Every label is a word of this program (see `core.meters`).
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final

from postfix_mtasts.core.decision import Source, Verdict
from postfix_mtasts.core.dns_outcome import DnsOutcome
from postfix_mtasts.core.meters import Durations, Histogram, Meter, Meters, Metric
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.core.verdict_reply import level_name

PREFIX: Final = "postfix_mtasts_"

FETCHED: Final = "fetched"
NOT_TRIED: Final = "not-tried"
FETCH_RESULTS: Final = (
    FETCHED,
    ResultType.STS_POLICY_FETCH_ERROR.value,
    ResultType.STS_POLICY_INVALID.value,
    ResultType.STS_WEBPKI_INVALID.value,
    NOT_TRIED,
)

_LOOKUP_LABELS: Final = ("map", "level", "source")
_UNKNOWN: Final = ("unknown", "perm", Source.ERROR.value)


class Trouble(Enum):
    """Why there is no answer now, and Postfix is told to try again."""

    DNS = "dns"  # what the answer hangs on could not be looked up
    DEADLINE = "deadline"  # nothing was known in time
    OVERLOAD = "overload"  # too much was under way
    INTERNAL = "internal"  # a bug, which the log tells of


class Activity:
    """All that is counted."""

    def __init__(self) -> None:
        self.dns = Meters(
            f"{PREFIX}dns_queries",
            "Questions to DNS servers, by what came of them.",
            ("result",),
            known=[(outcome.value,) for outcome in DnsOutcome],
        )
        self._fetches = Meters(
            f"{PREFIX}policy_fetches",
            "Fetches of MTA-STS policies over HTTPS, by what came of them.",
            ("result",),
            known=[(result,) for result in FETCH_RESULTS],
        )
        self._temporary = Meters(
            f"{PREFIX}temporary_errors",
            "Look-ups answered with a temporary error, by why.",
            ("reason",),
            known=[(trouble.value,) for trouble in Trouble],
        )
        self._fresh = Meters("", "", _LOOKUP_LABELS)
        self._cached = Meters("", "", _LOOKUP_LABELS)
        self._durations = Durations(
            f"{PREFIX}decision_duration_seconds",
            "How long look-ups took whose answer was not in memory.",
        )

    def cached(self, map_name: str, verdict: Verdict) -> Meter:
        """Return what counts the answers of *map_name* with *verdict* that come from memory."""
        return self._cached.of(map_name, level_name(verdict), verdict.source.value)

    def answered(self, map_name: str, verdict: Verdict, trouble: Trouble | None = None) -> None:
        """Count an answer that did not come from memory; *trouble*: why it is an error."""
        self._fresh.of(map_name, level_name(verdict), verdict.source.value).count += 1
        if trouble is not None:
            self._temporary.of(trouble.value).count += 1

    def decided(self, seconds: float) -> None:
        """Count how long an answer took that did not come from memory."""
        self._durations.add(seconds)

    def not_looked_up(self, map_name: str) -> None:
        """Count a look-up of what is never looked up, such as an address."""
        self._fresh.of(map_name, "notfound", Source.NONE.value).count += 1

    def refused(self) -> None:
        """Count a request that is none, or for a map that does not exist."""
        self._fresh.of(*_UNKNOWN).count += 1

    def broke(self) -> None:
        """Count a request that met a bug."""
        self._temporary.of(Trouble.INTERNAL.value).count += 1

    def fetched(self, result: str) -> None:
        """Count a fetch with *result*, one of `FETCH_RESULTS`."""
        self._fetches.of(result).count += 1

    def lookups(self) -> int:
        """Return how many look-ups have been answered."""
        return self._fresh.total() + self._cached.total()

    def temporary_errors(self) -> int:
        """Return how many look-ups were answered with a temporary error."""
        return self._temporary.total()

    def metrics(self) -> Sequence[Metric | Histogram]:
        """Return all that was counted."""
        return (
            self._all_lookups(),
            Metric(
                name=f"{PREFIX}cache_hits",
                kind="counter",
                help="Look-ups answered from memory.",
                samples=(((), float(self._cached.total())),),
            ),
            self._durations.histogram(),
            self._temporary.metric(),
            self.dns.metric(),
            self._fetches.metric(),
        )

    def _all_lookups(self) -> Metric:
        counts: dict[tuple[str, ...], float] = {}
        for meters in (self._fresh, self._cached):
            for values, count in meters.metric().samples:
                counts[values] = counts.get(values, 0.0) + count
        return Metric(
            name=f"{PREFIX}lookups",
            kind="counter",
            help="Look-ups answered, from memory or not.",
            labels=_LOOKUP_LABELS,
            samples=tuple(counts.items()),
        )
