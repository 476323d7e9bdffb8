"""Stored facts: everything comes back as written, and rubbish is a `ParseError` or well-formed."""

from hypothesis import given, settings
from hypothesis import strategies as st

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
from postfix_mtasts.core.facts_record import build_dns_facts, parse_dns_facts

FUZZ = settings(derandomize=True, deadline=None, max_examples=300)

TTL = st.integers(0, (1 << 32) - 1)
PREFERENCE = st.integers(0, 65535)
NAME = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=255)
ADDRESS = st.ip_addresses().map(str)
OCTET = st.integers(0, 255)
ID = st.text("abcXYZ0189", min_size=1, max_size=32)
TLSA = st.builds(
    tlsa.Record, usage=OCTET, selector=OCTET, matching_type=OCTET, data=st.binary(max_size=70)
)


def lookups(record: st.SearchStrategy[object]) -> st.SearchStrategy[Lookup[object]]:
    present = st.builds(
        Present,
        records=st.lists(record, min_size=1, max_size=3).map(tuple),
        secure=st.booleans(),
        ttl=TTL,
        owner=NAME,
    )
    absent = st.builds(
        Absent, secure=st.booleans(), ttl=TTL, nxdomain=st.booleans(), why=st.text(max_size=50)
    )
    return st.one_of(present, absent, st.builds(Unavailable, why=st.text(max_size=50)))


HOSTS = st.builds(
    HostFacts,
    name=NAME,
    preference=PREFERENCE,
    addresses=lookups(ADDRESS),
    tlsa=st.none() | lookups(TLSA),
)
FACTS = st.builds(
    DnsFacts,
    gathered=st.floats(0, 1e12),
    mx=st.none() | lookups(st.builds(Mx, preference=PREFERENCE, host=NAME)),
    hosts=st.lists(HOSTS, max_size=3).map(tuple),
    omitted=PREFERENCE,
    sts_record=st.none() | lookups(st.builds(mta_sts.Record, id=ID)),
)


def built(facts: DnsFacts) -> bytes:
    data = build_dns_facts(facts)
    assert data is not None
    return data


@FUZZ
@given(FACTS)
def test_whatever_was_learnt_comes_back(facts: DnsFacts) -> None:
    assert parse_dns_facts(built(facts)) == facts


@FUZZ
@given(FACTS, st.data())
def test_a_damaged_line_is_refused_or_reads_as_facts_that_can_be_written(
    facts: DnsFacts, data: st.DataObject
) -> None:
    damaged = bytearray(built(facts))
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=4)):
        damaged[place] = data.draw(OCTET)
    read_or_refused(bytes(damaged))


@FUZZ
@given(st.binary(max_size=300) | st.text('[]{}",:.0123456789truefalsn-eE', max_size=80))
def test_rubbish_is_refused_or_reads_as_facts_that_can_be_written(rubbish: bytes | str) -> None:
    read_or_refused(rubbish if isinstance(rubbish, bytes) else rubbish.encode())


def read_or_refused(data: bytes) -> None:
    try:
        facts = parse_dns_facts(data)
    except ParseError:
        return
    assert parse_dns_facts(built(facts)) == facts
