"""Events of any kind are counted, stored and read back, whatever their text."""

from hypothesis import given, settings
from hypothesis import strategies as st

from postfix_mtasts.core.applied import InForce
from postfix_mtasts.core.merging import merge
from postfix_mtasts.core.mta_sts import parse_policy
from postfix_mtasts.core.tally import (
    Row,
    Tally,
    alike,
    build_columns,
    coarse,
    parse_columns,
    rows_of_event,
)
from postfix_mtasts.core.tls_event import DatagramFate, Fault, Outcome, ResultType, TlsEvent
from postfix_mtasts.core.tlsa import Record

FUZZ = settings(derandomize=True, deadline=None, max_examples=400)

TEXT = b"version: STSv1\nmode: %b\nmx: mx.example.com\nmax_age: 86400\nx: \xff\x00\n"
POLICIES = [
    InForce(sts=sts, text=TEXT % mode, tlsa=tlsa)
    for mode in (b"enforce", b"testing", b"none")
    for sts in (None, parse_policy((TEXT % mode).replace(b"x: \xff\x00\n", b"")))
    for tlsa in (
        {},
        {"mx.example.com": (Record(usage=3, selector=1, matching_type=1, data=b"x"),)},
    )
]
TEXTS = st.sampled_from(
    ["", "mx.example.com", "mx.evil.example", "a\r\nb", "\ud800", "192.0.2.1", "::1"]
) | st.text(max_size=10)
EVENTS = st.builds(
    TlsEvent,
    when=st.floats(0, 4e9),
    domain=st.just("example.com") | TEXTS,
    outcome=st.sampled_from(Outcome),
    fault=st.none() | st.builds(Fault, kind=st.sampled_from(ResultType), reason=TEXTS),
    mx=TEXTS,
    ip=TEXTS,
    connected=st.booleans(),
    ours=st.booleans(),
    queue_id=TEXTS,
    datagram=st.sampled_from(DatagramFate),
)


@FUZZ
@given(EVENTS, st.sampled_from(POLICIES), st.booleans())
def test_an_event_becomes_rows_that_a_database_gives_back(
    event: TlsEvent,
    in_force: InForce,
    tls_logged: bool,  # noqa: FBT001 - hypothesis passes what it drew
) -> None:
    rows = rows_of_event(event, in_force, tls_logged=tls_logged)
    assert rows_of_event(alike(event), in_force, tls_logged=tls_logged) == rows
    assert not (event.ours and event.datagram is not DatagramFate.SENT and rows)
    for row in rows:
        assert row.day == int(event.when // 86400)
        columns = build_columns(row)
        assert "\n" not in "".join(map(str, columns))
        assert parse_columns(columns) == row
        assert coarse(coarse(row)) == coarse(row)


@FUZZ
@given(st.lists(st.tuples(EVENTS, st.integers(1, 5)), max_size=8), st.permutations(range(8)))
def test_in_any_order_the_same_sessions_give_the_same_counts(
    events: list[tuple[TlsEvent, int]], order: list[int]
) -> None:
    def totals(sessions: list[tuple[TlsEvent, int]]) -> frozenset[tuple[Row, int]]:
        tally = Tally()
        for event, count in sessions:
            for row in rows_of_event(event, POLICIES[3], tls_logged=True):
                tally.add(row, count)
        return frozenset(tally.take())

    shuffled = [events[n] for n in order if n < len(events)]
    one, two = totals(events), totals(shuffled)
    assert one == two
    assert set(merge(sorted(one, key=str))) == set(merge(sorted(two, key=str)))
