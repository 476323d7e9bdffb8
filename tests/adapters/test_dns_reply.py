"""Replies that are made to cost much: read in little time, or refused."""

import struct
import timeit

import pytest
from dns.rdatatype import RdataType

from postfix_mtasts.adapters.dns_alias import Chain, follow
from postfix_mtasts.adapters.dns_name import ROOT, parse_dns_name
from postfix_mtasts.adapters.dns_reply import MAX_RECORDS, read_reply
from postfix_mtasts.adapters.dns_transport import HEADER_SIZE, build_question
from postfix_mtasts.core.errors import ParseError
from tests.adapters.dns_server import record

QUESTION = build_question(parse_dns_name("x.example"), RdataType.A)
ASKED = struct.pack("!H", 0xC000 | HEADER_SIZE)
ADDRESS = bytes((192, 0, 2, 1))
ENOUGH = 0.1  # seconds; 1 to 3 milliseconds as measured, and room for a slow machine


def message(*records: bytes, sections: tuple[int, int, int] | None = None) -> bytes:
    counts = sections or (len(records), 0, 0)
    return struct.pack("!6H", 7, 0x8180, 1, *counts) + QUESTION.wire + b"".join(records)


def frame(owner: bytes, rdtype: RdataType, data: bytes) -> bytes:
    return owner + struct.pack("!HHIH", rdtype, 1, 60, len(data)) + data


def aliases_to_long_names(links: int) -> bytes:
    """Return a chain of *links* to names of 118 labels, with as many records as are read."""
    records: list[bytes] = []
    owner = ASKED
    suffix = b""
    for link in range(links):
        place = HEADER_SIZE + len(QUESTION.wire) + sum(map(len, records)) + len(owner) + 10
        label = b"\2c%d" % link
        records.append(frame(owner, RdataType.CNAME, label + (suffix or b"\1a" * 117 + ROOT)))
        suffix = suffix or struct.pack("!H", 0xC000 | place + len(label))
        owner = struct.pack("!H", 0xC000 | place)
    while len(records) < MAX_RECORDS:
        records.append(frame(owner, RdataType.A, ADDRESS))
    return message(*records)


def test_a_chain_to_many_records_at_a_long_name_is_followed_at_once() -> None:
    whole = aliases_to_long_names(8)

    def look() -> int:
        reply = read_reply(whole, QUESTION)
        chain = follow(Chain(names=(QUESTION.name,)), reply, RdataType.A)
        assert reply.negative_ttl(chain.end) is None
        return len(reply.at(chain.end, RdataType.A))

    assert look() == MAX_RECORDS - 8
    assert min(timeit.repeat(look, number=1, repeat=5)) < ENOUGH


def test_names_of_too_many_labels_in_all_are_refused_at_once() -> None:
    records = [frame(b"\1a" * 118 + ROOT, RdataType.A, ADDRESS)] * 240

    def refuse() -> None:
        with pytest.raises(ParseError, match="labels"):
            read_reply(message(*records), QUESTION)

    assert min(timeit.repeat(refuse, number=1, repeat=5)) < ENOUGH


@pytest.mark.parametrize("section", [0, 1, 2])
def test_all_sections_count_towards_the_limit(section: int) -> None:
    one = frame(ASKED, RdataType.A, ADDRESS)
    counts = [(MAX_RECORDS + 1, 0, 0), (MAX_RECORDS, 1, 0), (MAX_RECORDS, 0, 1)][section]
    with pytest.raises(ParseError, match="500 records"):
        read_reply(message(*[one] * (MAX_RECORDS + 1), sections=counts), QUESTION)


def test_the_name_that_was_asked_for_is_found_in_any_case() -> None:
    reply = read_reply(message(record("X.Example", "A", "192.0.2.1")), QUESTION)
    assert len(reply.at(QUESTION.name, RdataType.A)) == 1
    assert not reply.at(QUESTION.name, RdataType.AAAA)
    assert not reply.at(parse_dns_name("y.example"), RdataType.A)
