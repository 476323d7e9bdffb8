"""What is wrong, noted by an event loop and written by a thread, whatever the disk does."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from postfix_mtasts.adapters import findings_writer
from postfix_mtasts.adapters.count_reader import SqliteCountReader
from postfix_mtasts.adapters.findings_writer import LEFT_OUT, MAX_WAITING, FindingsWriter
from postfix_mtasts.adapters.history_writer import HistoryWriter
from postfix_mtasts.adapters.tlsrpt_store import SqliteTlsrptStore
from postfix_mtasts.core import mta_sts
from postfix_mtasts.core.daemon_findings import rows_of_facts
from postfix_mtasts.core.facts import DnsFacts, Facts, FailedFetch, Present, StsFacts
from postfix_mtasts.core.names import NextHop, parse_nexthop
from postfix_mtasts.core.tally import Row
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.core.utc import day_of
from postfix_mtasts.ports import Counted, Place, Written

NOW = 1_800_000_000.0
STUCK_SECONDS = 20.0
FOREVER = 3600.0


def facts(domain: str = "example.com", *, failed: bool = True, why: str = "no answer") -> Facts:
    kind = ResultType.STS_POLICY_FETCH_ERROR
    failure = FailedFetch(record_id="1", at=NOW, retry_at=NOW + 300, kind=kind, why=why)
    record = Present(records=(mta_sts.Record(id="1"),), secure=False, ttl=300, owner=domain)
    return Facts(
        nexthop=parse_nexthop(domain.encode()),
        dns=DnsFacts(gathered=NOW, mx=None, hosts=(), sts_record=record),
        sts=StsFacts(failure=failure if failed else None),
    )


@dataclass(kw_only=True)
class FakeStore:
    """A store whose answers are scripted; it is done with all else."""

    script: list[Written | Exception] = field(default_factory=list)
    added: list[Counted] = field(default_factory=list)
    tries: int = 0
    closed: bool = False
    problem: str = ""
    called: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    may_go_on: threading.Event = field(default_factory=threading.Event)
    stuck: bool = False

    def follow(self, sources: Sequence[str]) -> None:
        raise AssertionError(sources)

    def place(self, source: str) -> Place | None:
        raise AssertionError(source)

    def add(self, counted: Counted) -> Written:
        self.tries += 1
        self.called.release()
        if self.stuck:
            assert self.may_go_on.wait(STUCK_SECONDS)
        result = self.script.pop(0) if self.script else Written.DONE
        if isinstance(result, Exception):
            raise result
        if result is Written.DONE:
            self.added.append(counted)
        return result

    def close(self) -> None:
        self.closed = True

    def counts(self) -> dict[Row, int]:
        told: dict[Row, int] = {}
        for counted in self.added:
            for row, count in counted.counts:
                told[row] = told.get(row, 0) + count
        return told

    def left_out(self) -> int:
        return sum(count for each in self.added for name, count in each.notes if name == LEFT_OUT)


class FakeHistory(HistoryWriter):
    """Remembers what it is told; *bugs*: to be raised by the next writes."""

    def __init__(self) -> None:
        super().__init__(Path("/nonexistent"))
        self.noted: list[Facts] = []
        self.asked_for: list[NextHop | None] = []
        self.misses = 0
        self.writes = 0
        self.gave_up = threading.Event()
        self.closed = False
        self.bugs: list[Exception] = []

    def note(self, facts: Facts, when: float) -> None:
        assert when == NOW
        self.noted.append(facts)

    def asked(self, nexthop: NextHop | None, when: float) -> None:
        assert when == NOW
        self.asked_for.append(nexthop)

    def missed(self, when: float) -> None:
        assert when == NOW
        self.misses += 1

    def write(self) -> None:
        if self.bugs:
            raise self.bugs.pop()
        self.writes += 1

    def give_up(self) -> None:
        self.gave_up.set()

    def close(self) -> None:
        self.closed = True


@pytest.fixture(name="history")
def make_history() -> FakeHistory:
    return FakeHistory()


@pytest.fixture(name="store")
def make_store() -> FakeStore:
    return FakeStore()


@pytest.fixture(name="writer")
def make_writer(
    store: FakeStore, history: FakeHistory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FindingsWriter]:
    """A writer that writes when it must and when it is closed."""
    monkeypatch.setattr(findings_writer, "WRITE_SECONDS", FOREVER)
    monkeypatch.setattr(findings_writer, "CLOSE_SECONDS", STUCK_SECONDS)
    made = FindingsWriter(store, history=history, clock=lambda: NOW)
    yield made
    store.may_go_on.set()
    made.close()


def row(domain: str = "example.com", why: str = "no answer") -> Row:
    [only] = rows_of_facts(facts(domain, why=why), NOW)
    return only


def test_where_nothing_is_wrong_nothing_is_counted_and_what_is_in_force_is_noted(
    writer: FindingsWriter, store: FakeStore, history: FakeHistory
) -> None:
    assert threading.active_count() == 1
    writer.note(facts(failed=False))
    writer.close()
    assert store.tries == 0
    assert history.noted == [facts(failed=False)]
    assert history.writes
    assert history.closed


def test_what_is_renewed_unasked_is_noted_and_not_counted(
    writer: FindingsWriter, store: FakeStore, history: FakeHistory
) -> None:
    writer.renewed(facts())
    writer.close()
    assert store.tries == 0
    assert history.noted == [facts()]


def test_what_is_no_domain_is_noted_as_asked_for_once_a_day(
    writer: FindingsWriter, history: FakeHistory
) -> None:
    domain = parse_nexthop(b"example.com")
    for nexthop in (None, domain, None, domain):
        writer.asked(nexthop)
    writer.close()
    assert history.asked_for == [None, domain, domain]


def test_the_history_is_told_of_what_was_missed(
    writer: FindingsWriter, store: FakeStore, history: FakeHistory
) -> None:
    store.stuck = True
    for _ in range(MAX_WAITING // 2):
        writer.note(facts())
    assert store.called.acquire(timeout=STUCK_SECONDS)
    assert history.misses == 0
    for _ in range(MAX_WAITING + 1):
        writer.asked(parse_nexthop(b"example.com"))
    store.may_go_on.set()
    writer.close()
    assert history.misses == 1


def test_a_bug_of_the_history_holds_up_nothing(
    writer: FindingsWriter, store: FakeStore, history: FakeHistory, caplog: pytest.LogCaptureFixture
) -> None:
    history.bugs = [ValueError("a bug")]
    for _ in range(MAX_WAITING // 2):
        writer.note(facts())
    assert history.gave_up.wait(STUCK_SECONDS)
    writer.note(facts("b.example"))
    writer.close()
    assert store.counts() == {row(): MAX_WAITING // 2, row("b.example"): 1}
    assert "a bug" in caplog.text


def test_equal_findings_are_counted_and_written_together_at_the_end(
    writer: FindingsWriter, store: FakeStore
) -> None:
    for _ in range(3):
        writer.note(facts())
    writer.note(facts("b.example"))
    writer.close()
    [counted] = store.added
    assert dict(counted.counts) == {row(): 3, row("b.example"): 1}
    assert counted.place is None
    assert store.closed


def test_they_are_written_while_it_runs_too(
    writer: FindingsWriter, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings_writer, "WRITE_SECONDS", 0.01)
    writer.note(facts())
    assert store.called.acquire(timeout=STUCK_SECONDS)


def test_many_are_written_before_their_time(writer: FindingsWriter, store: FakeStore) -> None:
    for _ in range(MAX_WAITING // 2):
        writer.note(facts())
    assert store.called.acquire(timeout=STUCK_SECONDS)


def test_what_cannot_be_stored_waits_and_is_stored_once(
    writer: FindingsWriter, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings_writer, "WRITE_SECONDS", 0.01)
    store.script = [Written.LATER] * 3
    writer.note(facts())
    for _ in range(3):
        assert store.called.acquire(timeout=STUCK_SECONDS)
    writer.note(facts("b.example"))
    writer.close()
    assert store.counts() == {row(): 1, row("b.example"): 1}


def test_at_the_end_what_waited_and_what_came_last_are_both_written(
    writer: FindingsWriter, store: FakeStore
) -> None:
    store.script = [Written.LATER]
    for _ in range(MAX_WAITING // 2):
        writer.note(facts())
    assert store.called.acquire(timeout=STUCK_SECONDS)
    writer.note(facts("b.example"))
    writer.close()
    assert store.counts() == {row(): MAX_WAITING // 2, row("b.example"): 1}


def test_a_disk_that_hangs_neither_holds_up_who_notes_nor_fills_the_memory(
    writer: FindingsWriter, store: FakeStore
) -> None:
    store.stuck = True
    for _ in range(MAX_WAITING // 2):
        writer.note(facts())
    assert store.called.acquire(timeout=STUCK_SECONDS)
    for _ in range(MAX_WAITING + 7):
        writer.note(facts())
    store.may_go_on.set()
    writer.close()
    assert store.counts() == {row(): MAX_WAITING // 2 + MAX_WAITING}
    assert store.left_out() == 7


def test_a_disk_that_hangs_does_not_hold_up_the_end(
    writer: FindingsWriter, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings_writer, "CLOSE_SECONDS", 0.01)
    store.stuck = True
    writer.note(facts())
    writer.close()
    assert not store.closed


def test_what_is_held_loses_its_details_first_and_is_then_left_out(
    writer: FindingsWriter, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings_writer, "MAX_DETAILED", 1)
    monkeypatch.setattr(findings_writer, "MAX_ROWS", 2)
    for domain in ("a.example", "b.example", "c.example", "d.example"):
        writer.note(facts(domain))
    writer.close()
    assert store.counts() == {row("a.example"): 1, row("b.example", why=""): 1}
    assert store.left_out() == 2


def test_a_bug_loses_a_batch_and_not_the_thread(
    writer: FindingsWriter, store: FakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.script = [ValueError("a bug")]
    for _ in range(MAX_WAITING // 2):
        writer.note(facts())
    assert store.called.acquire(timeout=STUCK_SECONDS)
    writer.note(facts("b.example"))
    writer.close()
    assert store.counts() == {row("b.example"): 1}
    assert "a bug" in caplog.text


def test_where_no_thread_can_be_begun_the_next_finding_tries_again(
    writer: FindingsWriter, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        writer.note(facts())
        writer.close()
    writer.note(facts())
    writer.close()
    assert store.counts() == {row(): 2}


def test_trouble_with_the_file_is_logged_once_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(findings_writer, "WRITE_SECONDS", 0.01)
    path = tmp_path / "file" / "tlsrpt.db"
    path.parent.touch()
    store = SqliteTlsrptStore(path)
    tried = threading.Semaphore(0)
    add = store.add

    def counted_add(counted: Counted) -> Written:
        result = add(counted)
        tried.release()
        return result

    monkeypatch.setattr(store, "add", counted_add)
    writer = FindingsWriter(store, history=FakeHistory(), clock=lambda: NOW)
    writer.note(facts())
    for _ in range(5):
        assert tried.acquire(timeout=STUCK_SECONDS)
    path.parent.unlink()
    writer.close()
    reader = SqliteCountReader(path)
    assert reader.counts_of(day_of(NOW), "example.com") == ((row(), 1),)
    reader.close()
    assert caplog.text.count("waits in memory") == 1
    assert "can be used again" in caplog.text
