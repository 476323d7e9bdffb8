"""Look-ups as values, and what is made of several of them."""

import pytest

from postfix_mtasts.core.facts import (
    Absent,
    DnsFacts,
    HostFacts,
    Lookup,
    Mx,
    Present,
    Unavailable,
    merge_addresses,
    mx_hosts,
    overload,
)
from postfix_mtasts.core.names import Form, NextHop

DOMAIN = NextHop(form=Form.DOMAIN, name="example.com")
V4 = Present(records=("192.0.2.1",), secure=True, ttl=60, owner="mx.example.com")
V6 = Present(records=("2001:db8::1",), secure=False, ttl=30, owner="mx.example.com")
NONE = Absent(secure=True, ttl=20)
FAILED = Unavailable(why="SERVFAIL")


@pytest.mark.parametrize(
    ("answers", "merged"),
    [
        pytest.param(
            (V4, V6),
            Present(
                records=("192.0.2.1", "2001:db8::1"), secure=False, ttl=30, owner="mx.example.com"
            ),
            id="both kinds: secure only if both are, for the shorter time",
        ),
        pytest.param(
            (V4, NONE),
            Present(records=("192.0.2.1",), secure=True, ttl=20, owner="mx.example.com"),
            id="one kind: also as long as the denial of the other",
        ),
        pytest.param((V4, FAILED), V4, id="a failure beside an address is none"),
        pytest.param((NONE, FAILED), FAILED, id="a failure beside a denial is one"),
        pytest.param(
            (NONE, Absent(secure=False, ttl=10, nxdomain=True)),
            Absent(secure=False, ttl=10, nxdomain=True),
            id="two denials make one",
        ),
    ],
)
def test_one_kind_of_address_is_enough(
    answers: tuple[Lookup[str], ...], merged: Lookup[str]
) -> None:
    assert merge_addresses(answers) == merged


def mx(*records: tuple[int, str]) -> Present[Mx]:
    return Present(
        records=tuple(Mx(preference=preference, host=host) for preference, host in records),
        secure=True,
        ttl=60,
        owner="example.com",
    )


@pytest.mark.parametrize(
    ("answer", "hosts"),
    [
        pytest.param(
            mx((20, "a"), (10, "b"), (10, "a")), ("a", "b"), id="each once, at its best preference"
        ),
        pytest.param(mx((0, "")), (), id="a null MX is no host"),
        pytest.param(Absent(secure=True, ttl=1), ("example.com",), id="no MX: the domain itself"),
        pytest.param(Absent(secure=True, ttl=1, nxdomain=True), (), id="no such domain: no host"),
        pytest.param(FAILED, (), id="not known: no host"),
    ],
)
def test_hosts_come_in_the_order_of_trying(answer: Lookup[Mx], hosts: tuple[str, ...]) -> None:
    assert tuple(record.host for record in mx_hosts(answer, DOMAIN)) == hosts


def test_a_host_in_brackets_is_its_own_mail_host() -> None:
    nexthop = NextHop(form=Form.HOST, name="relay.example.net")
    assert [record.host for record in mx_hosts(None, nexthop)] == ["relay.example.net"]


@pytest.mark.parametrize(
    ("ours", "why"),
    [
        pytest.param(True, "too busy", id="we were too busy to ask"),
        pytest.param(False, "", id="the name itself could not be looked up"),
    ],
)
def test_an_overload_of_ours_is_told_from_trouble_of_theirs(*, ours: bool, why: str) -> None:
    failed = Unavailable(why="too busy", ours=ours)
    host = HostFacts(name="mx.example.com", preference=10, addresses=V4, tlsa=failed)
    dns = DnsFacts(gathered=0, mx=NONE, hosts=(host,), sts_record=None)
    assert overload(dns) == why
