"""DNSSEC, the chroot's DNS, authorities and the clock."""

import pytest

from postfix_mtasts.core.diagnosis import Grade
from postfix_mtasts.core.host_diagnosis import (
    Bogus,
    ChrootDns,
    Resolving,
    Time,
    diagnose_authorities,
    diagnose_chroot_dns,
    diagnose_resolver,
    diagnose_time,
)

WHY = "127.0.0.1 validates"


@pytest.mark.parametrize(
    ("resolving", "grade", "words"),
    [
        (Resolving(validates=True, why=WHY, bogus=Bogus.REFUSED), Grade.OK, "and refuses"),
        (Resolving(validates=True, why=WHY), Grade.OK, "could not be tried"),
        (Resolving(validates=True, why=WHY, bogus=Bogus.ANSWERED), Grade.WRONG, "but answers"),
        (Resolving(validates=False, why="no AD bit"), Grade.WARNING, "DANE protects nothing"),
        (Resolving(validates=True, why=WHY, local=False), Grade.WARNING, "not on this machine"),
    ],
)
def test_a_resolver_validates_refuses_and_is_near(
    resolving: Resolving, grade: Grade, words: str
) -> None:
    said = diagnose_resolver(resolving)
    assert (said.grade, words in said.text) == (grade, True)
    assert bool(said.mend) is (grade is not Grade.OK)


def chroot(servers: tuple[str, ...] | None, system: tuple[str, ...]) -> ChrootDns:
    path = "/q/etc/resolv.conf"
    return ChrootDns(instance="/etc/postfix", path=path, servers=servers, system=system)


@pytest.mark.parametrize(
    ("servers", "system"),
    [
        (("127.0.0.1",), ("127.0.0.1",)),
        (("::1", "127.0.0.1"), ("127.0.0.1", "::1")),
        (None, ("127.0.0.1",)),
    ],
)
def test_a_chroot_that_asks_the_same_servers_is_well(
    servers: tuple[str, ...] | None, system: tuple[str, ...]
) -> None:
    assert diagnose_chroot_dns([chroot(servers, system)]) == ()


@pytest.mark.parametrize(
    ("servers", "words"),
    [(("192.0.2.1",), "names 192.0.2.1, not what"), (None, "there is no /q/etc/resolv.conf")],
)
def test_a_chroot_that_asks_others_gets_a_copy(servers: tuple[str, ...] | None, words: str) -> None:
    (said,) = diagnose_chroot_dns([chroot(servers, ("192.0.2.53",))])
    assert (said.grade, said.instance) == (Grade.WARNING, "/etc/postfix")
    assert words in said.text
    assert said.mend == (
        "install -D -m 644 /etc/resolv.conf /q/etc/resolv.conf && postfix -c /etc/postfix reload"
    )


def test_without_authorities_no_policy_can_be_fetched() -> None:
    assert diagnose_authorities("").grade is Grade.OK
    said = diagnose_authorities("no certificate authority is trusted")
    assert (said.grade, "no MTA-STS policy" in said.text) == (Grade.WRONG, True)


@pytest.mark.parametrize(
    ("now", "synchronised", "grade"),
    [
        (200.0, True, Grade.OK),
        (200.0, None, Grade.OK),
        (200.0, False, Grade.NOTE),
        (99.0, True, Grade.WRONG),
    ],
)
def test_the_clock_is_not_behind_the_program(
    *, now: float, synchronised: bool | None, grade: Grade
) -> None:
    said = diagnose_time(Time(now=now, installed=100.0, synchronised=synchronised))
    assert said.grade is grade
