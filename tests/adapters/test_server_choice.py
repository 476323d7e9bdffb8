"""Whom to ask first, whom not at all, and whose AD bit counts."""

import pytest

from postfix_mtasts.adapters.name_server import Server, parse_server
from postfix_mtasts.adapters.server_choice import REST, ServerChoice, TrustAd

LOCAL = parse_server("127.0.0.1")
LOCAL_TOO = parse_server("::1")
FAR = parse_server("192.0.2.1")
FAR_TOO = parse_server("2001:db8::1")


class World:
    """A list of servers and a clock, both to be changed."""

    def __init__(self, *servers: Server) -> None:
        self.servers = servers
        self.now = 1000.0

    def choice(self, trust_ad: TrustAd = "auto") -> ServerChoice:
        return ServerChoice(lambda: self.servers, trust_ad, lambda: self.now)


@pytest.mark.parametrize(
    ("trust_ad", "listed", "asked", "trusted"),
    [
        ("auto", (LOCAL, LOCAL_TOO), (LOCAL, LOCAL_TOO), {LOCAL, LOCAL_TOO}),
        ("auto", (FAR, LOCAL), (LOCAL,), {LOCAL}),
        ("auto", (FAR, FAR_TOO), (FAR, FAR_TOO), set()),
        ("always", (FAR, LOCAL), (FAR, LOCAL), {FAR, LOCAL}),
        ("never", (FAR, LOCAL), (FAR, LOCAL), set()),
        ("auto", (FAR, FAR), (FAR,), set()),
    ],
)
def test_where_some_are_trusted_the_others_are_not_asked(
    trust_ad: TrustAd,
    listed: tuple[Server, ...],
    asked: tuple[Server, ...],
    trusted: set[Server],
) -> None:
    choice = World(*listed).choice(trust_ad)
    assert choice.in_order() == asked
    assert choice.trusted == trusted


def test_a_server_that_failed_comes_last_for_a_while() -> None:
    world = World(LOCAL, LOCAL_TOO)
    choice = world.choice()
    assert choice.in_order() == (LOCAL, LOCAL_TOO)
    choice.note_failure(LOCAL)
    world.now += REST - 1
    assert choice.in_order() == (LOCAL_TOO, LOCAL)
    world.now += 1
    assert choice.in_order() == (LOCAL, LOCAL_TOO)


def test_a_server_that_answers_again_is_forgiven() -> None:
    choice = World(LOCAL, LOCAL_TOO).choice()
    choice.in_order()
    choice.note_failure(LOCAL)
    choice.note_answer(LOCAL)
    assert choice.in_order() == (LOCAL, LOCAL_TOO)


def test_where_all_failed_the_listed_order_holds() -> None:
    choice = World(LOCAL, LOCAL_TOO).choice()
    choice.in_order()
    choice.note_failure(LOCAL_TOO)
    choice.note_failure(LOCAL)
    assert choice.in_order() == (LOCAL, LOCAL_TOO)


def test_a_new_list_is_taken_up_and_brings_its_own_trust() -> None:
    world = World(FAR)
    choice = world.choice()
    choice.in_order()
    choice.note_failure(FAR)
    world.servers = (LOCAL,)
    assert choice.in_order() == (LOCAL,)
    assert choice.trusted == {LOCAL}
