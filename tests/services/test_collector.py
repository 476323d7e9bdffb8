"""Counters and the collector, with sources, a store and a policy daemon in memory."""

from collections import Counter
from collections.abc import Sequence

import pytest

from postfix_mtasts.core.applied import InForce
from postfix_mtasts.core.finding import PolicyType
from postfix_mtasts.core.log_line import LogLine
from postfix_mtasts.core.mta_sts import parse_policy
from postfix_mtasts.core.tally import Row
from postfix_mtasts.ports import Counted, LogRead, Place, Received, Written
from postfix_mtasts.services import datagram_counter, log_counter
from postfix_mtasts.services.collector import Collector
from postfix_mtasts.services.datagram_counter import DatagramCounter
from postfix_mtasts.services.log_counter import LogCounter
from tests.core.log_scenarios import parse_lines, read_lines

LINES = parse_lines(read_lines("3.10/encrypt-ok"))
TEXT = b"version: STSv1\r\nmode: enforce\r\nmx: mx.example.com\r\nmax_age: 86400\r\n"
DATAGRAM = b'{"d":"example.com","policies":[{"policy-type":9,"policy-domain":"example.com","f":0}]}'


class Policies:
    def __init__(self) -> None:
        self.in_force = InForce()
        self.number = 0

    def of(self, domain: str) -> InForce:
        assert domain
        return self.in_force

    def edition(self) -> int:
        return self.number


class Store:
    """Keeps what it is given; *answers* come before it does."""

    def __init__(self, *answers: Written) -> None:
        self.problem = ""
        self.answers = list(answers)
        self.places: dict[str, Place] = {}
        self.counts: Counter[Row] = Counter()
        self.notes: Counter[str] = Counter()
        self.ready = True
        self.closed = False

    def place(self, source: str) -> Place | None:
        return self.places.get(source, Place()) if self.ready else None

    def add(self, counted: Counted) -> Written:
        if self.answers:
            return self.answers.pop(0)
        if counted.place is not None:
            if self.places.get(counted.source, Place()).position != counted.before:
                return Written.BEATEN
            self.places[counted.source] = counted.place
        self.counts.update(dict(counted.counts))
        self.notes.update(dict(counted.notes))
        return Written.DONE

    def close(self) -> None:
        self.closed = True


class Log:
    """A log of *lines*, read a few at a time; its positions are numbers."""

    name = "file:/mail.log"

    def __init__(self, lines: Sequence[LogLine], step: int = 7) -> None:
        self.lines = lines
        self.step = step
        self.at = 0
        self.bad: tuple[tuple[str, int], ...] = ()
        self.closed = False

    def resume(self, position: str) -> None:
        self.at = int(position or 0)

    def read(self) -> LogRead:
        lines = self.lines[self.at : self.at + self.step]
        self.at += len(lines)
        over = self.at == len(self.lines)
        return LogRead(position=str(self.at), lines=lines, bad=self.bad, more=not over, ended=over)

    def close(self) -> None:
        self.closed = True


class Socket:
    name = "datagram:/tlsrpt.sock"

    def __init__(self) -> None:
        self.came: list[Received] = []
        self.closed = False

    def gets(self, data: bytes, count: int = 1, when: float = 0.0) -> None:
        self.came.append(Received(when=when, data=data, count=count))

    def take(self) -> list[Received]:
        came, self.came = self.came, []
        return came

    def close(self) -> None:
        self.closed = True


def counter_of(log: Log, store: Store) -> LogCounter:
    return LogCounter(log, store=store, policies=Policies())


def read_whole(counter: LogCounter) -> None:
    while not counter.ended:
        counter.read()
        counter.write()


@pytest.fixture
def expected() -> Counter[Row]:
    store = Store()
    read_whole(counter_of(Log(LINES, 10_000), store))
    assert store.counts
    return store.counts


def test_it_does_not_matter_where_a_log_is_cut_nor_who_goes_on(expected: Counter[Row]) -> None:
    for cut in range(len(LINES)):
        store = Store()
        first = counter_of(Log(LINES, max(cut, 1)), store)
        first.read()
        first.write()
        read_whole(counter_of(Log(LINES), store))
        assert store.counts == expected


def test_what_cannot_be_stored_is_kept_while_reading_goes_on(expected: Counter[Row]) -> None:
    store = Store(*[Written.LATER] * 5)
    counter = counter_of(Log(LINES), store)
    while not counter.ended:
        counter.read()
        counter.write()
    while not counter.write():
        pass
    assert store.counts == expected
    assert not counter.pending


def test_a_log_that_another_collector_reads_is_counted_once(expected: Counter[Row]) -> None:
    store = Store()
    slow, fast = counter_of(Log(LINES), store), counter_of(Log(LINES, 20), store)
    slow.read()
    fast.read()
    assert fast.write()
    assert slow.write()  # beaten: it lets go of what it counted
    read_whole(slow)
    assert store.counts == expected


def test_a_store_that_is_not_there_yet_delays_reading(expected: Counter[Row]) -> None:
    store = Store()
    store.ready = False
    counter = counter_of(Log(LINES), store)
    assert not counter.read()
    assert counter.lines == 0
    store.ready = True
    read_whole(counter)
    assert store.counts == expected


def test_too_many_rows_that_wait_stop_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_counter, "MAX_ROWS", 1)
    store = Store(Written.LATER)
    log = Log(LINES * 2)
    counter = counter_of(log, store)
    for _ in range(100):
        counter.read()
    stopped = log.at
    assert stopped < len(log.lines)
    assert not counter.write()
    counter.read()
    assert log.at == stopped
    assert counter.write()
    counter.read()
    assert log.at > stopped


@pytest.mark.parametrize("memory", ["{", "[1]", '[{"version":1},null]', "[{},7]"])
def test_a_damaged_memory_is_begun_anew(memory: str, expected: Counter[Row]) -> None:
    store = Store()
    store.places[Log.name] = Place(position="0", memory=memory)
    counter = counter_of(Log(LINES), store)
    read_whole(counter)
    assert store.counts == expected


def test_datagrams_are_counted_under_their_day(monkeypatch: pytest.MonkeyPatch) -> None:
    socket, store = Socket(), Store()
    counter = DatagramCounter(socket, store=store, policies=Policies())
    socket.gets(DATAGRAM, 3)
    socket.gets(DATAGRAM, 2, when=86400.0)
    assert not counter.read()
    assert counter.write()
    assert {(row.day, count) for row, count in store.counts.items()} == {(0, 3), (1, 2)}
    assert counter.received == 5
    assert not counter.pending
    monkeypatch.setattr(datagram_counter, "MAX_OCTETS", 0)
    socket.gets(DATAGRAM)
    counter.read()
    assert socket.came


def test_what_is_in_force_is_asked_again_when_it_may_have_changed() -> None:
    socket, store, policies = Socket(), Store(), Policies()
    counter = DatagramCounter(socket, store=store, policies=policies)
    for edition in (0, 0, 1):
        policies.number = edition
        socket.gets(DATAGRAM)
        counter.read()
        policies.in_force = InForce(sts=parse_policy(TEXT), text=TEXT)
    counter.write()
    kinds = {row.finding.policy.type: count for row, count in store.counts.items()}
    assert kinds == {PolicyType.NO_POLICY_FOUND: 2, PolicyType.STS: 1}


def test_bad_datagrams_are_counted_by_kind_and_end_nothing() -> None:
    socket, store = Socket(), Store(Written.LATER)
    counter = DatagramCounter(socket, store=store, policies=Policies())
    socket.gets(b"\xff", 2)
    socket.gets(b'{"dpv":"9"}')
    socket.gets(DATAGRAM)
    counter.read()
    assert counter.news() == {"datagram-json": 2, "datagram-version": 1}
    assert counter.news() == {}
    assert not counter.write()
    assert counter.write()
    assert store.notes == {"datagram-json": 2, "datagram-version": 1}
    assert store.counts.total() == 1


def test_the_collector_writes_every_second_and_at_its_end(
    expected: Counter[Row], caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    log, socket, store = Log(LINES), Socket(), Store()
    log.bad = (("log-line", 1),)
    logs = counter_of(log, store)
    datagrams = DatagramCounter(socket, store=store, policies=Policies())
    collector = Collector([datagrams, logs], store=store, ticks=lambda: now[0])
    while collector.turn():
        assert not store.counts
    now[0] += 1
    collector.turn()
    assert store.counts == expected
    socket.gets(DATAGRAM)
    assert collector.close()
    assert store.counts.total() == expected.total() + 1
    assert (log.closed, socket.closed, store.closed) == (True, True, True)
    assert len([each for each in caplog.records if "log-line" in each.message]) == 1
    assert "log-line" in collector.status()


def test_the_status_says_why_nothing_can_be_stored() -> None:
    store = Store()
    collector = Collector([], store=store, ticks=lambda: 0.0)
    assert collector.status() == "0 sources"
    store.problem = "the disk is full"
    assert collector.status() == "0 sources; cannot store: the disk is full"
