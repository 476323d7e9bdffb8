"""One attempt at TLS as a value, in the words of RFC 8460 section 4.3.

A `TlsEvent` is one session, however many lines, recipients or sources tell of
it: a connection on which STARTTLS was negotiated or had to be, or an MX host
that policy forbade to connect to.  It says what happened and not what it
counts for: that depends on the policy of the day, which the log does not have.

* `Outcome.SUCCESS` with a `fault`: Postfix saw a fault and let the mail pass,
  as it does below the levels that need a matching certificate.  Where an
  MTA-STS policy is in testing mode this is a failure to report (RFC 8461
  section 5).
* `Outcome.PLAINTEXT` and `Outcome.UNSEEN`: nothing to report, unless a policy
  asked for TLS; then starttls-not-supported.

Which of the log's events count where Postfix's datagrams are counted as well is the
business of `core/merging.py`.

A busy log has tens of thousands of sessions a second, so that an event is a plain
tuple, which takes a third of a frozen data class's time to make and to hash.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

MAX_REASON = 200  # characters; the longest of Postfix's own are about 80


class _Word(Enum):
    """Members are one object each, and hash as such: `Enum`'s own hash takes ten times as long."""

    __hash__ = object.__hash__


class ResultType(_Word):
    """The result types of the IANA registry "STARTTLS Validation Result Types"."""

    STARTTLS_NOT_SUPPORTED = "starttls-not-supported"
    CERTIFICATE_HOST_MISMATCH = "certificate-host-mismatch"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_NOT_TRUSTED = "certificate-not-trusted"
    VALIDATION_FAILURE = "validation-failure"
    TLSA_INVALID = "tlsa-invalid"
    DNSSEC_INVALID = "dnssec-invalid"
    DANE_REQUIRED = "dane-required"
    STS_POLICY_FETCH_ERROR = "sts-policy-fetch-error"
    STS_POLICY_INVALID = "sts-policy-invalid"
    STS_WEBPKI_INVALID = "sts-webpki-invalid"


class Outcome(_Word):
    """How a session ended."""

    SUCCESS = "success"  # TLS stood and Postfix was content with it
    FAILURE = "failure"
    PLAINTEXT = "plaintext"  # the mail went in the clear, Postfix says so
    UNSEEN = "unseen"  # no line on TLS: in the clear, or smtp_tls_loglevel is 0


class Source(_Word):
    """Who told of it."""

    LOG = "log"
    DATAGRAM = "datagram"


class DatagramFate(_Word):
    """What became of Postfix's own report of a session (Postfix >= 3.10)."""

    NONE = "none"  # Postfix made none
    SENT = "sent"
    LOST = "lost"  # Postfix says that it could not send it


class Attribution(_Word):
    """By what the policy domain is known, the surest first."""

    TLSRPT = "tlsrpt"  # Postfix names it in its own report
    POLICY_LOOKUP = "policy-lookup"  # Postfix names it where a policy stopped it
    SESSION_CACHE = "session-cache"  # Postfix names it in a TLS session cache key
    QUERY = "query"  # the same process asked the policy daemon for it
    REQUEST = "request"  # guessed: Postfix names it for another session of the message
    RECIPIENT = "recipient"  # guessed: wrong where mail is routed by transport or relayhost


_GUESSES = (Attribution.REQUEST, Attribution.RECIPIENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What was wrong; *reason* is printable ASCII, at most `MAX_REASON` characters, or ""."""

    kind: ResultType
    reason: str = ""


class TlsEvent(NamedTuple):
    """One session; made with keywords only.

    *when*: seconds since the epoch, of the first that was heard of it.
    *domain*: the policy domain.  *mx*: the host; "" where it is not known.
    *ip*: its address; "" where it is not known, and where none was tried.
    Names are A-labels, lower case, without trailing dot.
    *fault*: always there with `Outcome.FAILURE`.
    *connected*: false where policy forbade to connect at all.
    *queue_id*: the message, "" where it is not known; short ids are used again.
    *ours*: the message is one of our own reports, whose sessions are not
    counted, lest reports be answered with reports for ever.
    *service*: the syslog tag of the process, such as "postfix/relay/smtp".
    *beside*: where nobody named the host, one that was tried for the same message.
    """

    when: float
    domain: str
    outcome: Outcome
    fault: Fault | None = None
    mx: str = ""
    ip: str = ""
    connected: bool = True
    queue_id: str = ""
    ours: bool = False
    service: str = ""
    source: Source = Source.LOG
    datagram: DatagramFate = DatagramFate.NONE
    attribution: Attribution = Attribution.RECIPIENT
    beside: str = ""

    def is_with(self, hosts: Collection[str] | None) -> bool:
        """Return whether it was a session with the domain, whose MX *hosts* these are.

        A domain that Postfix did not name for this session is a guess.  Mail that went
        through a smarthost, a content filter or a fallback relay did not go to one of
        its hosts, nor did what a service said that is called "relay"; what no host is
        named for went to an address.  `None` for *hosts* that are not known: then the
        guess has to do.
        """
        if self.attribution not in _GUESSES:
            return True
        if "relay" in self.service.split("/")[1:-1]:
            return False
        return hosts is None or (self.mx or self.beside) in hosts


def printable(text: bytes) -> str:
    """Return what others wrote as printable ASCII, "?" for the rest, cut to `MAX_REASON`."""
    shown = text[:MAX_REASON].decode("latin-1")
    return "".join(c if " " <= c <= "~" else "?" for c in shown)
