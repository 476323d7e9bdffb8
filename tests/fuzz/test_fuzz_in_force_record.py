"""What was in force: everything comes back as written; rubbish is refused or can be written."""

from hypothesis import given, settings
from hypothesis import strategies as st

from postfix_mtasts.core import tlsa
from postfix_mtasts.core.applied import InForce
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.in_force_record import build_in_force, parse_in_force
from postfix_mtasts.core.mta_sts import parse_policy

FUZZ = settings(derandomize=True, deadline=None, max_examples=300)

NAME = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
OCTET = st.integers(0, 255)
TLSA = st.builds(
    tlsa.Record, usage=OCTET, selector=OCTET, matching_type=OCTET, data=st.binary(max_size=70)
)
TEXT = st.binary(max_size=60).map(
    lambda tail: b"version: STSv1\nmode: none\nmax_age: 1\nx: " + tail.replace(b"\n", b"")
)


@st.composite
def in_force(draw: st.DrawFn) -> InForce:
    text = draw(st.none() | TEXT)
    try:
        policy = None if text is None else parse_policy(text)
    except ParseError:
        policy = None
    return InForce(
        sts=policy,
        text=b"" if policy is None or text is None else text,
        tlsa=draw(st.dictionaries(NAME, st.lists(TLSA, max_size=3).map(tuple), max_size=3)),
        hosts=draw(st.none() | st.frozensets(NAME, max_size=3)),
    )


@FUZZ
@given(in_force())
def test_whatever_was_in_force_comes_back(known: InForce) -> None:
    line = build_in_force(known)
    assert line is not None
    assert parse_in_force(line) == known


@FUZZ
@given(in_force(), st.data())
def test_a_damaged_line_is_refused_or_reads_as_what_can_be_written(
    known: InForce, data: st.DataObject
) -> None:
    damaged = bytearray(build_in_force(known) or b"")
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=4)):
        damaged[place] = data.draw(OCTET)
    try:
        read = parse_in_force(bytes(damaged))
    except ParseError:
        return
    line = build_in_force(read)
    assert line is not None
    assert parse_in_force(line) == read
