"""What the operator says of some domains: the one thing that stands above all rules.

An override either names the answer for a domain (`Override.level`, with what
belongs to it), or asks for no less than some level and lets DANE and MTA-STS
give more (`Override.minimum`).  The first that applies to a domain wins, so
their order counts.

BUGS: an override is found by the domain alone.  It cannot tell "[mx.example]"
from "mx.example", nor one port from another.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from postfix_mtasts.core.postfix_policy import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """One entry of the configuration's `policies`; exactly one of *level* and *minimum* is set.

    *subtree*: applies to the names below *domain*, at any depth, not to itself.
    """

    domain: str  # A-labels, lower case, no trailing dot
    subtree: bool
    level: Level | None
    minimum: Level | None
    match: tuple[str, ...]
    servername: str | None
    protocols: str | None
    ciphers: str | None


def applies(override: Override, domain: str) -> bool:
    """Return whether *override* is about *domain*, spelled as `Override.domain` is."""
    if override.subtree:
        return domain.endswith("." + override.domain)
    return domain == override.domain


def first_match(overrides: Iterable[Override], domain: str) -> Override | None:
    """Return the first of *overrides* that applies to *domain*."""
    return next((override for override in overrides if applies(override, domain)), None)
