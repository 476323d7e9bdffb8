"""Which DNS server to ask first, and whose AD bit counts.

A server that failed to answer goes to the end of the queue for a while, so that
a dead one costs its time-out once and not at every look-up.  A server that says
SERVFAIL is well: it is the name that is ill.

The AD bit says that the server has validated; anyone on the way could have set
it.  It counts from a server on this machine, or where the operator says so
(policy "auto", "always", "never").  Where some servers are trusted, the others
are not asked at all: when a validating resolver refuses a forged answer, asking
a server that does not validate would fetch that very forgery.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

from postfix_mtasts.adapters.name_server import Server

REST = 30.0
"""Seconds that a server which did not answer comes last."""

TrustAd: TypeAlias = Literal["auto", "always", "never"]


class ServerChoice:
    """The servers that *source* gives, in the order in which to ask them.

    *source* is called at each use and returns the same object until the list
    changes.  *monotonic* gives seconds.
    """

    def __init__(
        self,
        source: Callable[[], tuple[Server, ...]],
        trust_ad: TrustAd,
        monotonic: Callable[[], float],
    ) -> None:
        self._source = source
        self._trust_ad = trust_ad
        self._monotonic = monotonic
        self._listed: tuple[Server, ...] = ()
        self._eligible: tuple[Server, ...] = ()
        self._resting: dict[Server, float] = {}
        self.trusted: frozenset[Server] = frozenset()
        """The servers whose AD bit counts."""

    def in_order(self) -> tuple[Server, ...]:
        """Return the servers to ask, the likeliest to answer first."""
        listed = self._source()
        if listed is not self._listed:
            self._take(listed)
        if not self._resting:
            return self._eligible
        now = self._monotonic()
        self._resting = {s: until for s, until in self._resting.items() if until > now}
        return tuple(sorted(self._eligible, key=self._resting.__contains__))

    def _take(self, listed: tuple[Server, ...]) -> None:
        self._listed = listed
        self._resting = {s: until for s, until in self._resting.items() if s in listed}
        trusted = tuple(server for server in listed if self._is_trusted(server))
        self.trusted = frozenset(trusted)
        self._eligible = tuple(dict.fromkeys(trusted or listed))

    def _is_trusted(self, server: Server) -> bool:
        if self._trust_ad == "auto":
            return server.is_on_this_machine
        return self._trust_ad == "always"

    def note_failure(self, server: Server) -> None:
        """Remember that *server* did not answer."""
        self._resting[server] = self._monotonic() + REST

    def note_answer(self, server: Server) -> None:
        """Remember that *server* answers."""
        if self._resting:
            self._resting.pop(server, None)
