"""The `name=value;` grammar that the TXT records of MTA-STS and TLSRPT share.

Both RFCs (8461 section 3.1, 8460 section 3) let a record begin with its
version, then list fields, of which each knows exactly one, and both count the
records before they look into them.  `find_field` does all of it and leaves the
value of the known field to the caller.

Other TXT records may stand beside the wanted one and are passed over.  A record
is wanted if it begins with the version and a semicolon; where none does, spaces
before the semicolon are forgiven, because the grammar allows them though the
rule for counting does not (erratum 6285).  White space at the very end is
forgiven as well.  Where a field is given twice the first one counts.
"""

import re
from collections.abc import Sequence

from postfix_mtasts.core.errors import ParseError

_SHOWN = 60  # octets
_WSP = b" \t"
_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_VALUE = re.compile(rb"[\x21-\x3a\x3c\x3e-\x7e]+")


def find_field(
    rrset: Sequence[bytes], *, version: bytes, name: bytes, section: str
) -> bytes | None:
    """Return the value of field *name* of the one record of *version* in *rrset*.

    *rrset*: TXT records, each with its character-strings concatenated.  *version*
    is such as ``b"STSv1"``; *section* is quoted in errors.  The value is not
    checked, and may be empty.  `None`: no such record is there.

    Raises ParseError where there are several, or where the one is malformed.
    """
    begin = b"v=" + version
    wanted = [r for r in rrset if r.startswith(begin + b";")] or [
        r for r in rrset if r.startswith(begin) and r[len(begin) :].lstrip(_WSP).startswith(b";")
    ]
    if not wanted:
        return None
    if len(wanted) > 1:
        raise ParseError(
            f"{len(wanted)} {version.decode()} records, of which there may be one", section
        )
    return _parse(wanted[0], name, section)


def shown(value: bytes) -> str:
    """Return octets from outside as short printable ASCII in quotes, for a message."""
    return repr(value[:_SHOWN])[1:]


def _parse(record: bytes, known: bytes, section: str) -> bytes:
    found = None
    for field in _split(record):
        name, equals, value = field.partition(b"=")
        if name == known and equals:
            found = value if found is None else found
        elif not (equals and _NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            raise ParseError(f"the record has a malformed field {shown(field)}", section)
    if found is None:
        raise ParseError(f"the record has no field {known.decode()!r}", section)
    return found


def _split(record: bytes) -> list[bytes]:
    """Return the fields behind the version, without the white space around them."""
    fields = [field.strip(_WSP) for field in record.split(b";")[1:]]
    return fields[:-1] if fields[-1] == b"" else fields
