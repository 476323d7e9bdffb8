"""Counters and the collector, with sources, a store and a policy daemon in memory."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from postfix_mtasts.core.applied import InForce
from postfix_mtasts.core.finding import PolicyType
from postfix_mtasts.core.in_force import NEVER_ASKED
from postfix_mtasts.core.log_line import LogLine, Origin
from postfix_mtasts.core.mta_sts import parse_policy
from postfix_mtasts.core.tally import Row
from postfix_mtasts.ports import Counted, LogRead, OwnMail, Place, Received, Written
from postfix_mtasts.services import datagram_counter, log_counter
from postfix_mtasts.services.collector import Collector
from postfix_mtasts.services.datagram_counter import DatagramCounter
from postfix_mtasts.services.log_counter import SETTLE, LogCounter
from tests.core.log_scenarios import parse_lines, read_lines

LINES = parse_lines(read_lines("3.10/encrypt-ok"))
NOW = LINES[-1].when + SETTLE
TEXT = b"version: STSv1\r\nmode: enforce\r\nmx: mx.example.com\r\nmax_age: 86400\r\n"
DATAGRAM = b'{"d":"example.com","policies":[{"policy-type":9,"policy-domain":"example.com","f":0}]}'


class Policies:
    def __init__(self) -> None:
        self.in_force = InForce()
        self.number = 0
        self.anew: list[float] = []  # since when what is known had to be

    def of(self, domain: str, _when: float, *, since: float = 0.0) -> InForce:
        assert domain
        self.anew += [since] if since else []
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
        self.own_mail: list[OwnMail] = []
        self.ready = True
        self.closed = False

    def follow(self, sources: Sequence[str]) -> None:
        self.followed = tuple(sources)

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
        self.own_mail += counted.own_mail
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

    def resume(self, position: str, since: float = 0.0) -> None:
        self.since = since
        self.at = int(position or 0)

    def read(self) -> LogRead:
        lines = self.lines[self.at : self.at + self.step]
        self.at += len(lines)
        over = self.at == len(self.lines)
        return LogRead(position=str(self.at), lines=lines, bad=self.bad, more=not over, ended=over)

    def close(self) -> None:
        self.closed = True


class Pipe(Log):
    """A log that cannot be read again."""

    name = "stdin"

    def read(self) -> LogRead:
        return replace(super().read(), position="")


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
    return LogCounter(log, store=store, policies=Policies(), clock=lambda: NOW)


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


class Forgetful(Store):
    """Stores what it is given the first time, and says that it could not."""

    def add(self, counted: Counted) -> Written:
        first = not self.places
        done = super().add(counted)
        return Written.LATER if first else done


def test_nobody_else_is_suspected_where_a_write_came_through_unnoticed(
    expected: Counter[Row], caplog: pytest.LogCaptureFixture
) -> None:
    store = Forgetful()
    read_whole(counter_of(Log(LINES), store))
    assert store.counts == expected
    assert not caplog.records


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (Place(position="1"), "another collector reads it as well"),
        (Place(), "how far it was read is stored no more: begun anew"),
    ],
    ids=["moved on", "gone"],
)
def test_why_the_place_is_another_is_said(
    place: Place, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store()
    counter = counter_of(Log(LINES, 2), store)
    counter.read()
    counter.write()
    store.places[Log.name] = place
    counter.read()
    counter.write()
    assert [each.message for each in caplog.records] == [f"{Log.name}: {words}"]


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
    collector = collector_of(store, now)
    collector.adopt([datagrams, logs])
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


def collector_of(store: Store, now: list[float]) -> Collector:
    return Collector(store=store, ticks=lambda: now[0], clock=lambda: LINES[-1].when + 5)


def test_the_status_tells_of_each_source_and_why_nothing_can_be_stored() -> None:
    store, socket, log = Store(), Socket(), Log(LINES)
    collector = collector_of(store, [0.0])
    assert not collector.status()
    counter = counter_of(log, store)
    collector.adopt([DatagramCounter(socket, store=store, policies=Policies()), counter])
    assert collector.status() == f"{socket.name}: 0 datagrams; {log.name}: not read yet"
    socket.gets(DATAGRAM, 3)
    log.step = len(LINES) - 1
    collector.turn()
    behind = LINES[-1].when + 5 - LINES[-2].when
    assert collector.status() == (
        f"{socket.name}: 3 datagrams; {log.name}: {counter.lines} lines, {behind:.0f} s behind"
    )
    collector.turn()
    store.problem = "the disk is full"
    assert collector.status().endswith("lines; cannot store: the disk is full")


def test_a_socket_that_is_let_go_of_is_emptied_and_stored_later_if_need_be() -> None:
    store, socket = Store(Written.LATER), Socket()
    collector = collector_of(store, [0.0])
    collector.adopt([DatagramCounter(socket, store=store, policies=Policies())])
    socket.gets(DATAGRAM, 3)
    collector.adopt([])
    assert socket.closed
    assert not collector.write()
    assert collector.write()
    assert store.counts.total() == 3


def test_a_log_goes_on_in_another_counter_where_it_was_stored_to_be(
    expected: Counter[Row],
) -> None:
    store = Store()
    collector = collector_of(store, [0.0])
    first, second = counter_of(Log(LINES), store), counter_of(Log(LINES), store)
    collector.adopt([first])
    collector.turn()
    collector.adopt([second])
    while collector.turn():
        pass
    assert collector.close()
    assert store.counts == expected


def test_a_log_that_another_was_read_instead_of_begins_at_its_moment() -> None:
    store, log = Store(), Log(LINES)
    store.places[Log.name] = Place(read_to=9.0, since=7.0)
    counter_of(log, store).read()
    assert log.since == 7.0


def relayed(text: bytes, pid: int = 7, tag: str = "postfix/smtp") -> LogLine:
    return LogLine(100.0, Origin("mta", tag, tag.rpartition("/")[2], pid), text)


UP = b"Trusted TLS connection established to relay.example[192.0.2.9]:25: TLSv1.3 with cipher X"
SENT = (
    b"ABC123: to=<u@example.com>, relay=relay.example[192.0.2.9]:25, delay=1,"
    b" delays=0/0/0/0, dsn=2.0.0, status=sent (250 ok)"
)


@pytest.mark.parametrize(
    ("tag", "hosts", "count"),
    [
        ("postfix/smtp", None, 1),
        ("postfix/smtp", frozenset({"relay.example"}), 1),
        ("postfix/smtp", frozenset({"mx.example.com"}), 0),
        ("postfix/smtp", frozenset(), 0),
        ("postfix/relay/smtp", None, 0),
    ],
)
def test_mail_through_a_smarthost_is_no_session_with_the_recipients_domain(
    tag: str, hosts: frozenset[str] | None, count: int
) -> None:
    store, policies = Store(), Policies()
    policies.in_force = InForce(hosts=hosts)
    lines = [relayed(UP, tag=tag), relayed(SENT, tag=tag)]
    counter = LogCounter(Log(lines), store=store, policies=policies, clock=lambda: 200.0)
    read_whole(counter)
    assert store.counts.total() == count


def following(log: Log, store: Store, policies: Policies, now: list[float]) -> LogCounter:
    """Return a counter that has begun to follow *log*, and stored where."""
    store.places[Log.name] = Place(position="0")
    return LogCounter(log, store=store, policies=policies, clock=lambda: now[0])


def test_a_host_that_is_not_known_yet_is_waited_for() -> None:
    store, policies, now = Store(), Policies(), [100.5]
    policies.in_force = NEVER_ASKED
    log = Log([relayed(UP), relayed(SENT), *[relayed(b"nothing")] * 3], step=4)
    counter = following(log, store, policies, now)
    counter.read()
    now[0] += SETTLE - 1
    assert not counter.write()
    assert not counter.read()
    assert (log.at, store.places[Log.name].position, policies.anew) == (4, "0", [])
    policies.in_force = InForce(hosts=frozenset({"relay.example"}))
    now[0] += 1
    assert counter.write()
    assert (policies.anew, store.counts.total()) == ([100.0 + SETTLE], 1)
    read_whole(counter)
    assert store.counts.total() == 1


def test_while_no_hosts_are_known_a_smarthost_may_become_known() -> None:
    store, policies, now = Store(), Policies(), [100.0]
    counter = following(Log([relayed(UP), relayed(SENT)]), store, policies, now)
    counter.read()
    assert not counter.write()
    policies.in_force = NEVER_ASKED
    now[0] += SETTLE
    assert counter.write()
    assert not store.counts


def test_what_can_be_with_no_domain_is_not_waited_for() -> None:
    store, tag = Store(), "postfix/relay/smtp"
    log = Log([relayed(UP, tag=tag), relayed(SENT, tag=tag)])
    counter = following(log, store, Policies(), [100.0])
    counter.read()
    assert counter.write()


def test_nothing_is_waited_for_before_a_place_is_stored() -> None:
    store, policies = Store(), Policies()
    log = Log([relayed(UP), relayed(SENT)])
    counter = LogCounter(log, store=store, policies=policies, clock=lambda: 100.0)
    counter.read()
    assert counter.write()
    assert (policies.anew, store.counts.total()) == ([100.0], 1)


def test_a_log_has_not_ended_while_a_session_is_in_doubt() -> None:
    now = [100.0]
    counter = following(Log([relayed(UP), relayed(SENT)]), Store(), Policies(), now)
    counter.read()
    assert not counter.ended
    now[0] += SETTLE
    counter.read()
    assert counter.ended


def test_a_log_of_tomorrow_is_not_waited_for_until_tomorrow() -> None:
    now = [100.0 - 86400.0]
    counter = following(Log([relayed(UP), relayed(SENT)]), Store(), Policies(), now)
    counter.read()
    assert not counter.write()
    now[0] += SETTLE
    assert counter.write()


def test_a_clock_that_is_put_back_leaves_nothing_in_doubt() -> None:
    now = [100.0]
    counter = following(Log([relayed(UP), relayed(SENT)]), Store(), Policies(), now)
    counter.read()
    now[0] -= 86400.0
    assert counter.write()


def test_what_is_in_doubt_when_the_log_is_let_go_of_is_read_again() -> None:
    store, policies, now = Store(), Policies(), [100.0]
    policies.in_force = NEVER_ASKED
    first = following(Log([relayed(UP), relayed(SENT)]), store, policies, now)
    first.read()
    first.close()
    assert first.write()
    assert store.places[Log.name].position == "0"
    policies.in_force = InForce(hosts=frozenset({"relay.example"}))
    second = LogCounter(
        Log([relayed(UP), relayed(SENT)]), store=store, policies=policies, clock=lambda: now[0]
    )
    read_whole(second)
    assert store.counts.total() == 1


def test_what_is_in_doubt_and_cannot_be_read_again_is_settled_at_the_end() -> None:
    store, policies = Store(), Policies()
    policies.in_force = NEVER_ASKED
    pipe = Pipe([relayed(UP), relayed(SENT)])
    counter = LogCounter(pipe, store=store, policies=policies, clock=lambda: 100.0)
    counter.read()
    policies.in_force = InForce(hosts=frozenset({"relay.example"}))
    counter.close()
    assert counter.write()
    assert store.counts.total() == 1


class Endless(Log):
    """Has another session each time that it is read."""

    def __init__(self, now: list[float]) -> None:
        super().__init__(())
        self.now = now

    def read(self) -> LogRead:
        self.at += 1
        lines = [line._replace(when=self.now[0]) for line in (relayed(UP), relayed(SENT))]
        return LogRead(position=str(self.at), lines=lines)


@pytest.mark.parametrize(
    ("hosts", "counted"),
    [(None, 3), (frozenset({"mx.example.com"}), 0)],
    ids=["nobody knows", "mail goes elsewhere"],
)
def test_a_log_with_doubts_without_end_is_stored_all_the_same(
    hosts: frozenset[str] | None, counted: int
) -> None:
    store, policies, now = Store(), Policies(), [100.0]
    policies.in_force = InForce(hosts=hosts)
    log = Endless(now)
    counter = following(log, store, policies, now)
    collector = Collector(store=store, ticks=lambda: now[0], clock=lambda: now[0])
    collector.adopt([counter])
    for _ in range(4 * 4 * int(SETTLE)):
        collector.turn()
        now[0] += 0.25
    assert (store.places[Log.name].position, store.counts.total()) == ("3", counted)


def own_lines(count: int) -> list[LogLine]:
    """Return the lines of *count* reports of which the second one bounces."""
    lines = []
    for number in range(count):
        queue_id = f"ABC{number:03}".encode()
        active = queue_id + b": from=<Reports@me.EXAMPLE>, size=1, nrcpt=1 (queue active)"
        sent = SENT.replace(b"ABC123", queue_id).replace(b"<u@", b"<%d@" % number)
        if number == 1:
            sent = sent.replace(b"status=sent", b"status=bounced")
        lines += [relayed(active, tag="postfix/qmgr"), relayed(UP), relayed(sent)]
    return lines


def test_what_became_of_our_reports_is_stored_in_the_order_of_the_log() -> None:
    store = Store(Written.LATER)
    counter = LogCounter(
        Log(own_lines(3), step=100),
        store=store,
        policies=Policies(),
        clock=lambda: 200.0,
        own_senders=["reports@me.example"],
    )
    counter.read()
    assert not counter.write()
    assert counter.write()
    told = [(fate.recipient, fate.when, fate.delivered) for fate in store.own_mail]
    assert told == [
        ("0@example.com", 100.0, True),
        ("1@example.com", 100.0, False),
        ("2@example.com", 100.0, True),
    ]
    assert not counter.pending
    assert not store.counts


def test_fates_of_our_reports_are_bounded_and_those_of_a_beaten_reader_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_counter, "MAX_OWN_MAIL", 2)
    store = Store(Written.BEATEN)
    counter = LogCounter(
        Log(own_lines(3), step=100),
        store=store,
        policies=Policies(),
        clock=lambda: 200.0,
        own_senders=["reports@me.example"],
    )
    counter.read()
    assert counter.write()
    assert not store.own_mail
    read_whole(counter)
    told = [fate.recipient for fate in store.own_mail]
    assert told == ["1@example.com", "2@example.com"]


def test_up_to_when_a_log_was_read_is_told_and_never_goes_back() -> None:
    now = [5000.0]
    lines = [relayed(UP)._replace(when=when) for when in (1000.0, 2000.0, 1500.0, 9000.0)]
    store = Store()
    counter = LogCounter(Log(lines, step=1), store=store, policies=Policies(), clock=lambda: now[0])
    told = []
    for _ in lines:
        counter.read()
        counter.write()
        told.append(store.places[Log.name].read_to)
    assert told == [1000.0, 2000.0, 2000.0, 5000.0]
    again = LogCounter(Log(lines[:2], step=1), store=store, policies=Policies(), clock=lambda: 7.0)
    again.read()
    again.write()
    assert store.places[Log.name].read_to == 5000.0


class Silent(Log):
    """A log that is followed."""

    def read(self) -> LogRead:
        return replace(super().read(), ended=False)


def test_a_silent_log_is_said_to_be_read_once_a_minute() -> None:
    now, store = [1000.0], Store()
    counter = LogCounter(Silent(()), store=store, policies=Policies(), clock=lambda: now[0])
    stored = []
    for _ in range(150):
        counter.read()
        stored.append(counter.pending)
        counter.write()
        now[0] += 1.0
    assert [at for at, pending in enumerate(stored) if pending] == [0, 60, 120]
    assert store.places[Log.name].read_to == 1120.0
