"""Sessions from logs that are cut, interleaved, littered and damaged."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postfix_mtasts.core.log_line import Calendar, LineParser, LogLine
from postfix_mtasts.core.postfix_log import parse_message
from postfix_mtasts.core.session_state import build_state, parse_state
from postfix_mtasts.core.sessions import SessionTracker
from postfix_mtasts.core.tls_event import MAX_REASON, TlsEvent
from tests.core.log_scenarios import RECORDED, SCENARIOS, events_of, parse_lines, read_lines

FUZZ = settings(derandomize=True, deadline=None, max_examples=300)

DIRECT = [
    name
    for name in SCENARIOS
    if not any(word in name for word in ("reuse", "tlsproxy", "resume", "loglevel3"))
]
"""Scenarios whose processes have nothing to do with each other's."""

RAW = [line for name in SCENARIOS if "loglevel3" not in name for line in read_lines(name)]
PROGRAMS = st.sampled_from(("smtp", "lmtp", "tlsproxy", "qmgr", "master"))


@pytest.mark.parametrize("name", [name for name in SCENARIOS if "loglevel3" not in name])
def test_a_log_cut_and_restarted_at_every_line_gives_the_same_sessions(name: str) -> None:
    lines = parse_lines(read_lines(name))
    events: list[TlsEvent] = []
    state: object = build_state(SessionTracker().state)
    for line in lines:
        tracker = SessionTracker(state=parse_state(json.loads(json.dumps(state))))
        events += tracker.feed(line)
        state = build_state(tracker.state)
    assert events == events_of(lines)


def of_host(name: str, host: str) -> list[LogLine]:
    """Return the lines of a scenario as another host would have logged them."""
    return [
        line._replace(when=0.0, origin=line.origin._replace(host=host))
        for line in parse_lines(read_lines(name))
    ]


def by_process(name: str) -> list[list[LogLine]]:
    lines = of_host(name, "mta")
    return [[line for line in lines if line.origin == o] for o in {x.origin: 0 for x in lines}]


@FUZZ
@given(st.lists(st.sampled_from(DIRECT), min_size=2, max_size=4), st.data())
def test_any_interleaving_of_independent_processes_gives_the_same_sessions(
    names: list[str], data: st.DataObject
) -> None:
    queues = [
        [line._replace(origin=line.origin._replace(host=str(number))) for line in lines]
        for number, name in enumerate(names)
        for lines in by_process(name)
    ]
    wanted: Counter[TlsEvent] = Counter(event for queue in queues for event in events_of(queue))
    turns = [number for number, queue in enumerate(queues) for _ in queue]
    iterators = [iter(queue) for queue in queues]
    order = data.draw(st.permutations(turns))
    assert Counter(events_of(next(iterators[turn]) for turn in order)) == wanted


LITTER = st.one_of(
    st.binary(max_size=80),
    st.sampled_from(
        (
            b"-- Boot 1 --",
            b"Nov 21 17:00:00 mta1 postfix/smtpd[9]: ABC123: client=x[192.0.2.1]",
            b"Nov 21 17:00:00 mta1 dovecot: status=sent (250 2.0.0 Ok) postfix/smtp[1]: x",
            b"2026-11-21T17:00:00+00:00 mta1 postfix/smtp[424242]: nothing of note",
            b"2026-11-21T17:00:00+00:00 mta1 postfix/cleanup[7]: ABC123: message-id=<x>",
        )
    ),
)


@FUZZ
@given(st.sampled_from(SCENARIOS), st.lists(st.tuples(st.integers(0, 99), LITTER), max_size=9))
def test_litter_between_the_lines_changes_nothing(
    name: str, litter: list[tuple[int, bytes]]
) -> None:
    lines = read_lines(name)
    littered = list(lines)
    for place, rubbish in litter:
        littered.insert(place % (len(littered) + 1), rubbish)
    assert events_of(parse_lines(littered)) == events_of(parse_lines(lines))


@st.composite
def damaged_lines(draw: st.DrawFn) -> list[bytes]:
    """Return real lines of which some are cut, spliced or have bytes changed."""
    lines = []
    for line in draw(st.lists(st.sampled_from(RAW), min_size=1, max_size=12)):
        start, end = sorted(draw(st.tuples(st.integers(0, len(line)), st.integers(0, len(line)))))
        middle = draw(st.one_of(st.just(line[start:end]), st.binary(max_size=20)))
        rest = draw(st.one_of(st.just(line[end:]), st.sampled_from(RAW), st.just(b"")))
        lines.append(line[:start] + middle + rest)
    return lines


def is_harmless(event: TlsEvent) -> bool:
    """Return whether each text is of the form that its field has."""
    reason = event.fault.reason if event.fault else ""
    names = all(
        set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.")
        for name in (event.domain, event.mx)
    )
    address = set(event.ip) <= set("0123456789abcdef:.%")
    return names and address and reason.isascii() and len(reason) <= MAX_REASON


@FUZZ
@given(damaged_lines())
def test_damaged_lines_never_raise_nor_put_a_text_where_it_does_not_belong(
    lines: list[bytes],
) -> None:
    tracker, parser = (
        SessionTracker(own_senders=["a@lab.example"]),
        LineParser(Calendar(latest=RECORDED)),
    )
    for raw in lines:
        line = parser.parse(raw)
        if line is not None:
            assert all(is_harmless(event) for event in tracker.feed(line))
    assert parse_state(json.loads(json.dumps(build_state(tracker.state)))) == tracker.state


@FUZZ
@given(PROGRAMS, st.binary(max_size=300))
def test_any_text_means_something_or_nothing(program: str, text: bytes) -> None:
    parse_message(program, text)


WORDS = st.sampled_from(
    (
        *(b"ABC123: ", b"to=<", b">, ", b"relay=", b"mx.example[192.0.2.1]:25", b"none", b", "),
        *(
            b"delay=1, delays=0/0/0/0, ",
            b"dsn=2.0.0, ",
            b"status=sent ",
            b"(250 ok)",
            b'"',
            b"@d.example",
        ),
        *(
            b"conn_use=2, ",
            b"tls=may:none, ",
            b"warning: ",
            b"Trusted TLS connection established to ",
        ),
        *(
            b": ",
            b"TLSRPT: status=failure, domain=",
            b"Server certificate not verified",
            b"\\",
            b")",
        ),
    )
)


@FUZZ
@given(st.lists(st.lists(WORDS, max_size=14).map(b"".join), max_size=8))
def test_texts_made_of_postfixs_own_words_never_raise(texts: list[bytes]) -> None:
    tracker, parser = SessionTracker(), LineParser(Calendar(latest=RECORDED))
    for text in texts:
        line = parser.parse(b"Nov 21 17:00:00 mta1 postfix/smtp[7]: " + text)
        assert line is not None
        assert all(is_harmless(event) for event in tracker.feed(line))
