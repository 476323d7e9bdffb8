"""How much is told apart of one domain and day: the less, the more differs.

What is counted together is a kind, and a stranger's server can make every session
a kind of its own: by its greeting, its names and addresses, what it answers, its
policies.  So the first kinds of a domain and day are kept with all details, later
ones with fewer and fewer, and the last with none that is not drawn from a fixed
list.  Counts stay right; only details go, in the order in which they are missed least:

1. what the host calls itself
2. names and addresses of hosts
3. reasons and further information
4. the text of policies, and the hosts whose TLSA records they are

LIMITS: `Bounds`, of each of the first four levels, in kinds and in octets.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from postfix_mtasts.core.finding import Failure, Finding, build_finding, build_policy

COARSEST: Final = 4
"""The level at which nothing of a stranger's choice is left."""

OVERHEAD: Final = 1000
"""Octets of memory of a kind whose texts are empty, roughly."""

_WIDEST: Final = 4  # octets of memory, or of UTF-8, of a character beyond ASCII


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much of one domain and day may be kept at each level but the last."""

    kinds: int
    octets: int


@dataclass(slots=True, kw_only=True)
class Room:
    """What is kept of one domain and day within *bounds*."""

    bounds: Bounds
    kinds: int = field(default=0)
    octets: int = field(default=0)

    def level(self, octets: int) -> int:
        """Return how much is to be left out of one more kind of *octets*, 0 for nothing."""
        if self.kinds < self.bounds.kinds and self.octets + octets < self.bounds.octets:
            return 0
        by_octets = (self.octets + octets) // self.bounds.octets
        return min(COARSEST, max(self.kinds // self.bounds.kinds, by_octets))

    def take(self, octets: int) -> None:
        """Note that one more kind, of *octets*, is kept."""
        self.kinds += 1
        self.octets += octets


def simplified(finding: Finding, level: int) -> Finding:
    """Return *finding* without the details of the levels up to *level*."""
    if level <= 0:
        return finding
    less = _LESS[level - 1]
    policy = finding.policy
    if level >= COARSEST:
        policy = build_policy(policy.type, finding.domain)
    return build_finding(finding.domain, policy, map(less, finding.failures), failed=finding.failed)


def octets_of(finding: Finding) -> int:
    """Return how many octets of memory *finding* takes, roughly."""
    policy, texts = finding.policy, [finding.domain]
    texts += policy.strings
    texts += policy.mx_hosts
    for failure in finding.failures:
        texts += failure.columns
    joined = "".join(texts)
    return OVERHEAD + (len(joined) if joined.isascii() else _WIDEST * len(joined))


def _without_greeting(failure: Failure) -> Failure:
    return replace(failure, helo="")


def _without_hosts(failure: Failure) -> Failure:
    return replace(failure, helo="", sending_ip="", mx_host="", receiving_ip="")


def _bare(failure: Failure) -> Failure:
    return Failure(result_type=failure.result_type)


_LESS: Final[tuple[Callable[[Failure], Failure], ...]] = (
    *(_without_greeting, _without_hosts, _bare, _bare),
)
