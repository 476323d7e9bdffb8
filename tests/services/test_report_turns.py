"""Whose turn it is, among places that fail, hang and crowd."""

import asyncio

from postfix_mtasts.ports import Handover, ReportState
from postfix_mtasts.services.report_turns import MAX_FAILURES, Turns
from tests.world import story


def handover(to: str, domain: str = "example.com") -> Handover:
    return Handover(day=1, domain=domain, to=to, report_id="", state=ReportState.DUE)


@story
async def test_what_waits_for_its_place_is_given_out_once_that_is_free() -> None:
    turns = Turns(by_owner=False)
    first, second = handover("mailto:a@b.example", "one"), handover("mailto:a@b.example", "two")
    turns.add(first)
    turns.add(second)
    assert turns.names() == ("mailto:a@b.example",) * 2
    assert await turns.take() == first
    waiting = asyncio.create_task(turns.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    turns.done(first, failed=False)
    assert await waiting == second
    turns.done(second, failed=None)
    assert await turns.take() is None


@story
async def test_an_owner_gets_one_at_a_time_and_is_left_alone_after_failures() -> None:
    turns = Turns(by_owner=True)
    for number in range(10):
        turns.add(handover(f"https://h{number}.example/"))
    turns.add(handover("https://h0.example/", "other"))
    taken = 0
    while (one := await turns.take()) is not None:
        if one.domain == "other":
            turns.done(one, failed=False)
            continue
        taken += 1
        turns.done(one, failed=True)
    assert taken == MAX_FAILURES


@story
async def test_one_success_ends_the_row_of_failures() -> None:
    turns = Turns(by_owner=False)
    for _ in range(2 * MAX_FAILURES):
        turns.add(handover("mailto:a@b.example"))
    outcomes = [True] * (MAX_FAILURES - 1) + [False] + [True] * MAX_FAILURES
    for failed in outcomes:
        one = await turns.take()
        assert one is not None
        turns.done(one, failed=failed)
    assert await turns.take() is None
