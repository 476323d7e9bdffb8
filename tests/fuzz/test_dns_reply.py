"""Whatever a server sends is read or refused with the one documented exception."""

import contextlib
import struct
from itertools import chain

from dns.rdatatype import RdataType
from hypothesis import example, given, settings
from hypothesis import strategies as st

from postfix_mtasts.adapters import dns_rdata
from postfix_mtasts.adapters.dns_alias import Chain, follow
from postfix_mtasts.adapters.dns_name import parse_dns_name
from postfix_mtasts.adapters.dns_reply import MAX_TTL, Reply, read_reply
from postfix_mtasts.adapters.dns_transport import HEADER_SIZE, build_question
from postfix_mtasts.core.errors import ParseError
from tests.adapters.dns_server import record, soa

QUESTION = build_question(parse_dns_name("x.example"), RdataType.MX)
READERS = (
    *(dns_rdata.read_mx, dns_rdata.read_a, dns_rdata.read_aaaa, dns_rdata.read_cname),
    *(dns_rdata.read_tlsa, dns_rdata.read_txt),
)

PARTS = st.sampled_from(
    [
        record("x.example", "MX", "10 mx.x.example."),
        record("x.example", "CNAME", "y.example."),
        record("y.example", "CNAME", "x.example."),
        record("y.example", "TXT", '"a" "b"'),
        b"\xc0\x0c" + struct.pack("!HHIH", RdataType.MX, 1, 60, 4) + b"\0\12\xc0\x0c",
        b"\xc0\x0c" + struct.pack("!HHIH", RdataType.TLSA, 1, 60, 2) + b"\3\1",
        soa("example"),
    ]
)
BODIES = st.lists(PARTS | st.binary(max_size=40), max_size=6).map(b"".join)


def read_everything(reply: Reply) -> None:
    for record_ in (*chain.from_iterable(reply.answers.values()), *reply.authority):
        assert 0 <= record_.ttl <= MAX_TTL
        for reader in READERS:
            reply.read(record_, reader)
    assert reply.negative_ttl(QUESTION.name) in (None, *range(MAX_TTL + 1))
    follow(Chain(names=(QUESTION.name,)), reply, RdataType.MX)


@given(st.integers(0, 0xFFFF), st.tuples(*[st.integers(0, 4)] * 3), BODIES)
@example(0x8180, (1, 0, 0), b"\xc0\x0c" * 30)
@settings(derandomize=True, deadline=None, max_examples=500)
def test_a_reply_is_read_or_refused(flags: int, counts: tuple[int, ...], body: bytes) -> None:
    message = struct.pack("!6H", 7, flags, 1, *counts) + QUESTION.wire + body
    with contextlib.suppress(ParseError):
        read_everything(read_reply(message, QUESTION))


@given(st.binary(max_size=200))
@settings(derandomize=True, deadline=None, max_examples=300)
def test_bytes_of_no_kind_are_read_or_refused(message: bytes) -> None:
    with contextlib.suppress(ParseError):
        read_everything(read_reply(message, QUESTION))


@given(st.binary(max_size=60), st.sampled_from(READERS))
@settings(derandomize=True, deadline=None, max_examples=500)
def test_the_data_of_a_record_is_read_or_malformed(data: bytes, reader: object) -> None:
    frame = b"\xc0\x0c" + struct.pack("!HHIH", RdataType.MX, 1, 60, len(data))
    message = struct.pack("!6H", 7, 0x8180, 1, 1, 0, 0) + QUESTION.wire + frame + data
    reply = read_reply(message, QUESTION)
    first = reply.at(QUESTION.name, RdataType.MX)[0]
    assert first.start == HEADER_SIZE + len(QUESTION.wire) + len(frame)
    reply.read(first, reader)  # type: ignore[arg-type]  # of several types in one list
