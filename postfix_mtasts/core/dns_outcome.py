"""What can come of a question to a DNS server, in a word for who watches.

An rcode without a word of its own is `OTHER`: what a server sends is its own
choice, and must not be a label (see `meters`).
"""

from enum import Enum


class DnsOutcome(Enum):
    """The kinds."""

    ANSWERED = "answered"  # records, or that there are none
    SERVFAIL = "servfail"  # so also what is bogus (RFC 4035 section 5.5)
    REFUSED = "refused"
    OTHER = "other"  # another rcode (RFC 1035 section 4.1.1)
    REFERRAL = "referral"  # the server does not recurse
    MALFORMED = "malformed"
    SILENT = "timeout"
    UNREACHABLE = "unreachable"
    NOT_ASKED = "overload"  # too many questions were under way


_RCODES = {"SERVFAIL": DnsOutcome.SERVFAIL, "REFUSED": DnsOutcome.REFUSED}


def of_rcode(name: str) -> DnsOutcome:
    """Return what the rcode called *name*, such as "SERVFAIL", is counted as."""
    return _RCODES.get(name, DnsOutcome.OTHER)
