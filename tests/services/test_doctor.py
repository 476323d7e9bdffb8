"""What doctor asks of DNS, in a scripted world."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from postfix_mtasts.core.facts import Absent, Lookup, Mx, Present, Unavailable
from postfix_mtasts.core.host_diagnosis import Bogus
from postfix_mtasts.ports import Resolver
from postfix_mtasts.services.doctor import BOGUS_NAME, try_bogus, try_mailbox
from tests.world import story

ABSENT = Absent(secure=False, ttl=60)
BROKEN = Unavailable(why="no answer")


@dataclass
class Script:
    """A resolver that answers each kind of question by a script, and else that there is nothing."""

    answers: Mapping[str, Lookup[Any]] = field(default_factory=dict)

    async def mx(self, name: str) -> Lookup[Any]:
        assert name == "example.com"
        return self.answers.get("mx", ABSENT)

    async def a(self, name: str) -> Lookup[Any]:
        assert name in {"example.com", BOGUS_NAME}
        return self.answers.get("a", ABSENT)

    async def aaaa(self, name: str) -> Lookup[Any]:
        assert name == "example.com"
        return self.answers.get("aaaa", ABSENT)


def resolver(**answers: Lookup[Any]) -> Resolver:
    return cast("Resolver", Script(answers))


def present(*records: object) -> Present[Any]:
    return Present(records=records, secure=False, ttl=60, owner="example.com")


@pytest.mark.parametrize(
    ("answer", "bogus"),
    [
        (present("192.0.2.1"), Bogus.ANSWERED),
        (Unavailable(why="SERVFAIL"), Bogus.REFUSED),
        (Unavailable(why="too busy", ours=True), Bogus.UNKNOWN),
        (ABSENT, Bogus.UNKNOWN),
    ],
)
@story
async def test_a_bogus_name_must_not_be_answered(answer: Lookup[str], bogus: Bogus) -> None:
    assert await try_bogus(resolver(a=answer)) is bogus


@pytest.mark.parametrize(
    ("answers", "refused", "untold"),
    [
        ({"mx": present(Mx(preference=10, host="mx.example.com"))}, "", ""),
        ({"mx": present(Mx(preference=0, host=""))}, "null MX", ""),
        ({"a": present("192.0.2.1")}, "", ""),
        ({"aaaa": present("2001:db8::1")}, "", ""),
        ({"a": BROKEN, "aaaa": present("2001:db8::1")}, "", ""),
        ({}, "neither MX nor address", ""),
        ({"mx": BROKEN}, "", "no answer"),
        ({"aaaa": BROKEN}, "", "no answer"),
    ],
)
@story
async def test_mail_goes_to_mx_hosts_or_to_the_domain_itself(
    answers: dict[str, Lookup[Any]], refused: str, untold: str
) -> None:
    box = await try_mailbox(resolver(**answers), "contact", "tls@example.com")
    assert (box.key, box.address) == ("contact", "tls@example.com")
    assert refused in box.refused
    assert bool(box.refused) is bool(refused)
    assert box.untold == untold
