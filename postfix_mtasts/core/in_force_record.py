"""What was in force for a domain as one line of JSON, for a database, and back.

::

    [version, policy text or null, {host: [TLSA record, ...], ...}, [MX host, ...] or null]

The policy's text is one character a byte, a TLSA record its wire format in
hexadecimal digits.  Hosts are in order of name: the same knowledge gives the same
line, so that lines can be compared and kept once.

BUGS: as `facts_record`: there is no checksum.
"""

import json
import re
from typing import Final

from postfix_mtasts.core import mta_sts, tlsa
from postfix_mtasts.core.applied import InForce
from postfix_mtasts.core.errors import ParseError

VERSION: Final = 1
"""Goes up with every change of the format."""

MAX_BYTES: Final = 16384
"""No longer line is written or read (a security limit): honest owners' have some hundred."""

_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)
_NAME = re.compile(r"[!-~]{1,255}")  # of bytes (RFC 1035 section 3.1), escaped or not


def build_in_force(in_force: InForce) -> bytes | None:
    """Return *in_force* as one line of ASCII, which `parse_in_force` reads; `None` if too long."""
    text = None if in_force.sts is None else in_force.text.decode("latin-1")
    records = {host: [*map(_hex, of)] for host, of in sorted(in_force.tlsa.items())}
    hosts = None if in_force.hosts is None else sorted(in_force.hosts)
    line = _ENCODER.encode((VERSION, text, records, hosts)).encode("ascii")
    return line if len(line) <= MAX_BYTES else None


def parse_in_force(line: bytes) -> InForce:
    """Return what is in *line*, which `build_in_force` of this version wrote.

    Raises ParseError for anything else.
    """
    if len(line) > MAX_BYTES:
        raise ParseError(f"stored policies: {len(line)} bytes")
    try:
        version, text, records, hosts = json.loads(line.decode("ascii"))
        if version != VERSION:
            raise ParseError(f"stored policies: version {version!r:.40}, not {VERSION}")
        document = b"" if text is None else text.encode("latin-1")
        return InForce(
            sts=None if text is None else mta_sts.parse_policy(document),
            text=document,
            tlsa={_name(host): tuple(map(_record, of)) for host, of in records.items()},
            hosts=None if hosts is None else frozenset(map(_name, hosts)),
        )
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ParseError(f"stored policies: {error}") from None


def _hex(record: tlsa.Record) -> str:
    return bytes((record.usage, record.selector, record.matching_type)).hex() + record.data.hex()


def _record(text: str) -> tlsa.Record:
    return tlsa.parse_record(bytes.fromhex(text))


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ParseError(f"stored policies: {value!r:.40} instead of a name")
    return value
