"""How many lines and datagrams were read is stored with what they came to, each once."""

from collections import Counter

import pytest

from postfix_mtasts.ports import Counted, Written
from postfix_mtasts.services.datagram_counter import DatagramCounter
from tests.services.test_collector import (
    DATAGRAM,
    LINES,
    Log,
    Policies,
    Socket,
    Store,
    counter_of,
    read_whole,
)


class Watched(Store):
    def __init__(self, *answers: Written) -> None:
        super().__init__(*answers)
        self.seen: Counter[str] = Counter()

    def add(self, counted: Counted) -> Written:
        written = super().add(counted)
        if written is Written.DONE:
            self.seen.update(dict(counted.seen))
        return written


@pytest.mark.parametrize("answers", [(), (Written.LATER,), (Written.LATER, Written.LATER)])
def test_lines_are_told_once_however_often_it_takes_to_store_them(
    answers: tuple[Written, ...],
) -> None:
    store = Watched(*answers)
    counter = counter_of(Log(LINES, step=2), store)
    read_whole(counter)
    assert counter.write()
    assert store.seen == {"lines": len(LINES)}


def test_lines_that_another_collector_has_read_are_told_by_that_one_alone() -> None:
    store = Watched()
    late = counter_of(Log(LINES), store)
    late.read()
    read_whole(counter_of(Log(LINES), store))
    read_whole(late)
    assert store.seen == {"lines": len(LINES)}


def test_a_reader_that_goes_on_tells_only_what_it_read_itself() -> None:
    store = Watched()
    first = counter_of(Log(LINES, step=2), store)
    first.read()
    first.write()
    read_whole(counter_of(Log(LINES), store))
    assert store.seen == {"lines": len(LINES)}


def test_datagrams_are_told_bad_ones_and_all_once() -> None:
    store, source = Watched(Written.LATER), Socket()
    counter = DatagramCounter(source, store=store, policies=Policies())
    for data, count in ((DATAGRAM, 3), (b"{}", 2)):
        source.gets(data, count)
        counter.read()
        counter.write()
    counter.write()
    source.gets(DATAGRAM)
    counter.read()
    counter.write()
    assert store.seen == {"datagrams": 6}
