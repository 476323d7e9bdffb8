"""MTA-STS: the TXT record, the policy, and which hosts it permits (RFC 8461).

A domain announces by a TXT record at ``_mta-sts.DOMAIN`` that it has a policy,
and by the record's id that it has changed (section 3.1).  The policy stands at
``https://mta-sts.DOMAIN/.well-known/mta-sts.txt``: lines of ``key: value`` that
list the MX hosts to which mail may go, with a certificate that is valid for
them, and for how many seconds this may be remembered (section 3.2).

Where the grammar is broken but the meaning is clear, blank lines, a byte order
mark and a trailing dot are forgiven, and an "mx" that is no host name is left
out while those beside it bind: without a policy, mail is not protected at all.
Everything else that breaks the grammar makes the policy invalid.  Names in "mx"
must be A-labels (section 3.2).

BUGS: A "max_age" above the maximum counts as the maximum, although its ten
digits could be called an error.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.names import parse_domain
from postfix_mtasts.core.taglist import find_field, shown

MAX_POLICY_BYTES = 65536  # section 3.3: "suggested 64 kilobytes"
MAX_MAX_AGE = 31557600  # seconds, about a year (section 3.2)

_RECORD_SECTION = "RFC 8461 section 3.1"
_POLICY_SECTION = "RFC 8461 section 3.2"
_FETCH_SECTION = "RFC 8461 section 3.3"

_HTTP_OK = 200
_ID = re.compile(rb"[A-Za-z0-9]{1,32}")
_KEY = re.compile(rb"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_MAX_AGE = re.compile(rb"[0-9]{1,10}")
_MODES: dict[bytes, Literal["enforce", "testing", "none"]] = {
    b"enforce": "enforce",
    b"testing": "testing",
    b"none": "none",
}
_BOM = b"\xef\xbb\xbf"
_WSP = b" \t"


Mode: TypeAlias = Literal["enforce", "testing", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The TXT record of a domain that has a policy; only `parse_record` makes one."""

    id: str  # 1 to 32 ASCII letters and digits; another id means another policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy as published; only `parse_policy` makes one, so all are valid."""

    mode: Mode
    mx: tuple[str, ...]  # host names, or "*." and one: A-labels, lower case, as ordered there
    max_age: int  # seconds, at most MAX_MAX_AGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What the policy host answered."""

    status: int
    content_type: str | None  # the header as it came, `None` where there was none
    body: bytes


def parse_record(rrset: Sequence[bytes]) -> Record | None:
    """Return the MTA-STS record among the TXT records of ``_mta-sts.DOMAIN``.

    Each element of *rrset* has its character-strings concatenated.  `None`: there
    is no MTA-STS record among them.

    Raises ParseError where there are several or the one is malformed; a sender
    then assumes that there is no policy (section 3.1).
    """
    record_id = find_field(rrset, version=b"STSv1", name=b"id", section=_RECORD_SECTION)
    if record_id is None:
        return None
    if not _ID.fullmatch(record_id):
        what = f"the id {shown(record_id)} is not 1 to 32 letters and digits"
        raise ParseError(what, _RECORD_SECTION)
    return Record(id=record_id.decode("ascii"))


def parse_response(response: Response) -> Policy:
    """Return the policy that *response* carries (section 3.3).

    Raises ParseError unless its status is 200, its media type text/plain, its
    body no longer than MAX_POLICY_BYTES and a valid policy.
    """
    if response.status != _HTTP_OK:
        raise ParseError(f"the policy host answered {response.status}, not 200", _FETCH_SECTION)
    media_type = (response.content_type or "").partition(";")[0].strip(" \t").lower()
    if media_type != "text/plain":
        what = f"the policy's media type is {media_type[:60]!a}, not 'text/plain'"
        raise ParseError(what, _POLICY_SECTION)
    return parse_policy(response.body)


def parse_policy(body: bytes) -> Policy:
    """Return the policy of which *body* is the text (section 3.2).

    Raises ParseError where *body* is longer than MAX_POLICY_BYTES, breaks the
    grammar, or lacks a field; says which.
    """
    if len(body) > MAX_POLICY_BYTES:
        raise ParseError(f"the policy is longer than {MAX_POLICY_BYTES} octets", _FETCH_SECTION)
    fields, mx = _parse_fields(body)
    if fields.get(b"version") != b"STSv1":
        raise _bad_field(b"version", fields.get(b"version"), "'STSv1'")
    mode = _MODES.get(fields.get(b"mode", b""))
    if mode is None:
        raise _bad_field(b"mode", fields.get(b"mode"), "'enforce', 'testing' or 'none'")
    max_age = fields.get(b"max_age", b"")
    if not _MAX_AGE.fullmatch(max_age):
        raise _bad_field(b"max_age", fields.get(b"max_age"), "a number of one to ten digits")
    if not mx and mode != "none":
        raise ParseError("the policy lists no mx that is a host name", _POLICY_SECTION)
    return Policy(mode=mode, mx=mx, max_age=min(int(max_age), MAX_MAX_AGE))


def policy_lines(body: bytes) -> tuple[str, ...]:
    """Return the lines of *body* for the eyes of others (RFC 8460 section 4.4).

    As published, without blank lines and the white space at their ends; octets
    that are no UTF-8 and characters that cannot be printed are shown as "?".
    *body* need not be a valid policy.
    """
    return tuple(_printable(line) for line in _lines(body))


def permits(policy: Policy, mx_host: str) -> bool:
    """Return whether *policy* lists *mx_host* (section 4.1).

    A leading "*." stands for exactly one label: "*.example.com" permits
    "mx.example.com", but neither "example.com" nor "a.mx.example.com".
    *mx_host* must be spelled as `names.parse_domain` spells it; "", the host of
    a null MX, is never permitted.
    """
    return bool(permitted(policy, (mx_host,)))


def permitted(policy: Policy, mx_hosts: Iterable[str]) -> tuple[str, ...]:
    """Return those of *mx_hosts* that *policy* `permits`, in their order.

    A stranger may list thousands on both sides, so that this is the way to ask
    for many: in time for their sum, not for their product.
    """
    patterns = frozenset(policy.mx)
    return tuple(
        host for host in mx_hosts if host in patterns or "*." + host.partition(".")[2] in patterns
    )


def _parse_fields(body: bytes) -> tuple[dict[bytes, bytes], tuple[str, ...]]:
    """Return the first value of each field, and all "mx" that are host names."""
    fields: dict[bytes, bytes] = {}
    mx: dict[str, None] = {}  # a dict keeps each once, in order
    for line in _lines(body):
        key, colon, rest = line.partition(b":")
        value = rest.lstrip(_WSP)
        if not colon or not _KEY.fullmatch(key):
            raise ParseError(f"the policy has a malformed line {shown(line)}", _POLICY_SECTION)
        if key == b"mx":
            mx |= dict.fromkeys(_parse_mx(value))
        elif key not in fields:
            fields[key] = _parse_value(value)
    return fields, tuple(mx)


def _lines(body: bytes) -> list[bytes]:
    """Return the lines that are not blank, without white space at their ends.

    Split at LF or CR LF only: bytes, because `str.splitlines` splits elsewhere too.
    """
    lines = body.removeprefix(_BOM).split(b"\n")
    stripped = (line.removesuffix(b"\r").rstrip(_WSP) for line in lines)
    return [line for line in stripped if line]


def _parse_mx(value: bytes) -> tuple[str, ...]:
    """Return *value* as a host name or "*." and one, nothing where it is neither."""
    star = b"*." if value.startswith(b"*.") else b""
    try:
        return (star.decode() + parse_domain(value.removeprefix(star).decode("ascii")),)
    except (ParseError, UnicodeDecodeError):
        return ()


def _parse_value(value: bytes) -> bytes:
    """Return *value* if it is one or more printable characters in UTF-8."""
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        raise ParseError("the policy is not in UTF-8", _POLICY_SECTION) from None
    if not value or _CONTROL.search(value):
        raise ParseError(f"the policy has a malformed value {shown(value)}", _POLICY_SECTION)
    return value


def _bad_field(key: bytes, value: bytes | None, expected: str) -> ParseError:
    found = "missing" if value is None else shown(value)
    return ParseError(f"the policy's {key.decode()} is {found}, not {expected}", _POLICY_SECTION)


def _printable(line: bytes) -> str:
    text = line.decode("utf-8", "replace").replace("\N{REPLACEMENT CHARACTER}", "?")
    return "".join(c if c.isprintable() else "?" for c in text)
