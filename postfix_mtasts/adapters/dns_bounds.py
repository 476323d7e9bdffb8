"""How much of one answer is read: a stranger writes it, and each record costs time and room.

* Addresses: the first ones.  That there are some is what a decision needs, and
  a connection tries a few.
* MX records: those of best preference.  More hosts than that are never examined,
  and no answer takes hosts that were not examined for protected.
* TXT records: all, or none.  The one that matters may be any of them, and an
  answer without it would be weaker; a failed look-up is never weaker than that.
* TLSA records: all, for `tlsa.bounded` to choose from.

These are security limits, far above what honest owners publish.
"""

from collections.abc import Sequence

from dns.rdatatype import RdataType

from postfix_mtasts.adapters.dns_rdata import read_preference
from postfix_mtasts.adapters.dns_reply import MAX_RECORDS, Reply, ResourceRecord
from postfix_mtasts.core.errors import ParseError

MAX_ADDRESSES = 16
MAX_MX = 128
MAX_TEXTS = 64
MAX_TEXT_SIZE = 4096  # octets of one record, the lengths of its strings included

_MOST = {
    RdataType.A: MAX_ADDRESSES,
    RdataType.AAAA: MAX_ADDRESSES,
    RdataType.CNAME: 1,  # a name has one (RFC 2181 section 10.1)
    RdataType.MX: MAX_MX,
    RdataType.TLSA: MAX_RECORDS,
    RdataType.TXT: MAX_TEXTS,
}


def bounded(reply: Reply, records: Sequence[ResourceRecord]) -> Sequence[ResourceRecord]:
    """Return those of *records*, a set of one type in *reply*, that are to be read.

    Raises `ParseError` for too many or too long TXT records.
    """
    rdtype = RdataType(records[0].rdtype)
    most = _MOST[rdtype]
    if rdtype == RdataType.TXT and max(record.size for record in records) > MAX_TEXT_SIZE:
        raise ParseError(f"a TXT record of more than {MAX_TEXT_SIZE} octets")
    if len(records) <= most:
        return records
    if rdtype == RdataType.TXT:
        raise ParseError(f"more than {MAX_TEXTS} TXT records")
    if rdtype == RdataType.MX:
        records = sorted(records, key=lambda record: _preference(reply, record))
    return records[:most]


def _preference(reply: Reply, record: ResourceRecord) -> int:
    """Return the preference of an MX record; malformed ones come last."""
    preference = reply.read(record, read_preference)
    return 1 << 16 if preference is None else preference
