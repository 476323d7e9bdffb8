"""What DNS said of a next-hop as one line of JSON, for a database, and back.

The line is an array, so that it stays short, and begins with the version of
this format.  Whoever reads a line of another version, or a damaged one, gets
`ParseError` and asks DNS again: nothing is ever converted.

::

    [version, gathered, mx, [[host, preference, addresses, tlsa], ...], omitted, sts record]

    Present      [[record, ...], secure, ttl, owner]
    Absent       [secure, ttl, nxdomain, why]
    Unavailable  [why]
    not asked    null

An MX record is ``[preference, host]``, an address and an MTA-STS record's id a
string, a TLSA record its wire format in hexadecimal digits.

Not all facts are worth a line.  Those of which a look-up failed for our own
overload say nothing of the domain, and those that fill more than
`MAX_RECORD_BYTES` are those of a stranger who would fill the disk: DNS is asked
again, and the domain's policy is stored elsewhere.

BUGS: there is no checksum.  A flipped bit that leaves the line well-formed goes
unseen until the TTLs have run out.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

from postfix_mtasts.core import mta_sts, tlsa
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.facts import (
    Absent,
    DnsFacts,
    HostFacts,
    Lookup,
    Mx,
    Present,
    Unavailable,
)

VERSION = 1
"""Goes up with every change of the format."""

MAX_RECORD_BYTES = 65536
"""No longer line is written or read (a security limit): 32 hosts of honest owners have 10,000."""

_MAX_TIME = 1 << 40  # seconds since the epoch, far beyond any clock
_MAX_TTL = (1 << 32) - 1  # what fits the field (RFC 1035 section 3.2.1)
_MAX_COUNT = (1 << 16) - 1  # of a preference, and of hosts in one message
_NAME = re.compile(r"[!-~]{0,255}")  # of bytes (RFC 1035 section 3.1), escaped or not
_ID = re.compile(r"[A-Za-z0-9]{1,32}")  # RFC 8461 section 3.1

T = TypeVar("T")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def build_dns_facts(facts: DnsFacts) -> bytes | None:
    """Return *facts* as one line of ASCII, which `parse_dns_facts` reads.

    `None` where they are not worth keeping: too large, or blank by our own doing.
    """
    if any(isinstance(lookup, Unavailable) and lookup.ours for lookup in _lookups(facts)):
        return None
    hosts = [
        (
            host.name,
            host.preference,
            _build_lookup(host.addresses, _as_is),
            _build_lookup(host.tlsa, _build_tlsa),
        )
        for host in facts.hosts
    ]
    mx = _build_lookup(facts.mx, _build_mx)
    sts_record = _build_lookup(facts.sts_record, _build_sts_record)
    line = (VERSION, facts.gathered, mx, hosts, facts.omitted, sts_record)
    data = _ENCODER.encode(line).encode("ascii")
    return data if len(data) <= MAX_RECORD_BYTES else None


def parse_dns_facts(data: bytes) -> DnsFacts:
    """Return the facts in *data*, a line that `build_dns_facts` of this version wrote.

    Raises `ParseError` for anything else.
    """
    if len(data) > MAX_RECORD_BYTES:
        raise ParseError(f"stored facts: {len(data)} bytes")
    try:
        line = _DECODER.decode(data.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise ParseError(f"stored facts: {error}") from None
    version, gathered, mx, hosts, omitted, sts_record = _array(line, 6)
    if type(version) is not int or version != VERSION:
        raise ParseError(f"stored facts: version {version!r}, not {VERSION}")
    return DnsFacts(
        gathered=_time(gathered),
        mx=None if mx is None else _lookup(mx, _mx),
        hosts=tuple([_host(host) for host in _list(hosts)]),
        omitted=_integer(omitted, _MAX_COUNT),
        sts_record=None if sts_record is None else _lookup(sts_record, _sts_record),
    )


def _lookups(facts: DnsFacts) -> Iterator[Lookup[object] | None]:
    yield facts.mx
    yield facts.sts_record
    for host in facts.hosts:
        yield host.addresses
        yield host.tlsa


def _build_lookup(lookup: Lookup[T] | None, build: Callable[[T], object]) -> object:
    if lookup is None:
        return None
    if isinstance(lookup, Present):
        records = [build(record) for record in lookup.records]
        return (records, lookup.secure, lookup.ttl, lookup.owner)
    if isinstance(lookup, Absent):
        return (lookup.secure, lookup.ttl, lookup.nxdomain, lookup.why)
    return (lookup.why,)


def _as_is(text: str) -> str:
    return text


def _build_mx(mx: Mx) -> object:
    return (mx.preference, mx.host)


def _build_tlsa(record: tlsa.Record) -> str:
    return bytes((record.usage, record.selector, record.matching_type)).hex() + record.data.hex()


def _build_sts_record(record: mta_sts.Record) -> str:
    return record.id


def _lookup(value: object, parse: Callable[[object], T]) -> Lookup[T]:
    if isinstance(value, list) and len(value) == 1:
        return Unavailable(why=_text(value[0]))
    first, second, third, fourth = _array(value, 4)
    if isinstance(first, list) and first:
        return Present(
            records=tuple([parse(record) for record in first]),
            secure=_boolean(second),
            ttl=_integer(third, _MAX_TTL),
            owner=_name(fourth),
        )
    return Absent(
        secure=_boolean(first),
        ttl=_integer(second, _MAX_TTL),
        nxdomain=_boolean(third),
        why=_text(fourth),
    )


def _host(value: object) -> HostFacts:
    name, preference, addresses, answer = _array(value, 4)
    return HostFacts(
        name=_name(name),
        preference=_integer(preference, _MAX_COUNT),
        addresses=_lookup(addresses, _name),
        tlsa=None if answer is None else _lookup(answer, _tlsa),
    )


def _mx(value: object) -> Mx:
    preference, host = _array(value, 2)
    return Mx(preference=_integer(preference, _MAX_COUNT), host=_name(host))


def _tlsa(value: object) -> tlsa.Record:
    try:
        return tlsa.parse_record(bytes.fromhex(_text(value)))
    except ValueError:
        raise ParseError("stored facts: TLSA data is not hexadecimal") from None


def _sts_record(value: object) -> mta_sts.Record:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ParseError(f"stored facts: {value!r:.40} instead of an id")
    return mta_sts.Record(id=value)


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ParseError(f"stored facts: {value!r:.40} instead of a list")
    return value


def _array(value: object, size: int) -> list[object]:
    if not isinstance(value, list) or len(value) != size:
        raise ParseError(f"stored facts: {value!r:.40} instead of a list of {size}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ParseError(f"stored facts: {value!r:.40} instead of text")
    return value


def _name(value: object) -> str:
    """Return a host name or an address, neither of which needs more than this."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ParseError(f"stored facts: {value!r:.40} instead of a name")
    return value


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ParseError(f"stored facts: {value!r:.40} instead of true or false")
    return value


def _integer(value: object, highest: int) -> int:
    if type(value) is not int or not 0 <= value <= highest:
        raise ParseError(f"stored facts: {value!r:.40} instead of a number up to {highest}")
    return value


def _time(value: object) -> float:
    if not (isinstance(value, float) or type(value) is int) or not 0 <= value <= _MAX_TIME:
        raise ParseError(f"stored facts: {value!r:.40} instead of a time")
    return float(value)
