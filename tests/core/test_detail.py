"""Details go where a stranger makes too much differ, and what is counted stays."""

import pytest

from postfix_mtasts.core.detail import (
    COARSEST,
    OVERHEAD,
    Bounds,
    Room,
    octets_of,
    simplified,
)
from postfix_mtasts.core.finding import (
    Failure,
    Finding,
    PolicyType,
    build_failure,
    build_finding,
    build_policy,
)
from postfix_mtasts.core.tls_event import ResultType

EXPIRED = build_failure(
    ResultType.CERTIFICATE_EXPIRED,
    sending_ip="192.0.2.1",
    mx_host="mx.example.com",
    helo="helo",
    receiving_ip="192.0.2.2",
    information="https://example.com/",
    reason="late",
)
TLSA = build_policy(PolicyType.TLSA, "mx.example.com", ["3 1 1 AB"])


def finding(*failures: Failure) -> Finding:
    return build_finding("example.com", TLSA, failures, failed=True)


def details(level: int) -> tuple[str, ...]:
    [failure] = simplified(finding(EXPIRED), level).failures
    return failure.columns[1:]


def test_details_go_in_the_order_in_which_they_are_missed_least() -> None:
    full = ("192.0.2.1", "mx.example.com", "helo", "192.0.2.2", "https://example.com/", "late")
    assert details(0) == full
    assert details(1) == (*full[:2], "", *full[3:])
    assert details(2) == ("", "", "", "", *full[4:])
    assert details(3) == details(4) == ("",) * 6
    assert [simplified(finding(), level).policy for level in range(4)] == [TLSA] * 4
    assert simplified(finding(), 4).policy == build_policy(PolicyType.TLSA, "example.com")


@pytest.mark.parametrize("level", range(COARSEST + 1))
def test_what_happened_and_to_whom_stays(level: int) -> None:
    for failed in (True, False, None):
        told = build_finding("example.com", TLSA, [EXPIRED], failed=failed)
        less = simplified(told, level)
        assert (less.domain, less.failed, less.policy.type) == ("example.com", failed, TLSA.type)
        assert [failure.result_type for failure in less.failures] == [EXPIRED.result_type]
        assert simplified(less, level) == less


def test_failures_that_differed_by_details_alone_become_one() -> None:
    other = build_failure(ResultType.CERTIFICATE_EXPIRED, helo="other")
    assert len(simplified(finding(EXPIRED, other), 3).failures) == 1


def test_the_more_kinds_there_are_the_fewer_details_there_is_room_for() -> None:
    room = Room(bounds=Bounds(kinds=2, octets=10**9))
    levels = []
    for _ in range(12):
        levels.append(room.level(1))
        room.take(1)
    assert levels == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4]


def test_the_more_octets_there_are_the_fewer_details_there_is_room_for() -> None:
    room = Room(bounds=Bounds(kinds=10**9, octets=100))
    assert [room.level(octets) for octets in (99, 100, 399, 10**9)] == [0, 1, 3, 4]
    room.take(99)
    assert [room.level(octets) for octets in (0, 1, 101)] == [0, 1, 2]


def test_octets_are_those_of_all_texts() -> None:
    bare = octets_of(build_finding("a.example", build_policy(TLSA.type, "a.example"), failed=True))
    assert bare == OVERHEAD + len("a.example")
    policy = build_policy(PolicyType.STS, "a.example", ["mode: x", "a"], ["mx.a.example"])
    assert octets_of(build_finding("a.example", policy, failed=True)) == bare + 7 + 1 + 12
    wide = build_policy(PolicyType.STS, "a.example", ["\u00e9"])
    finding_of_it = build_finding("a.example", wide, failed=True)
    assert octets_of(finding_of_it) == OVERHEAD + 4 * len("a.example\u00e9")
    assert octets_of(finding(EXPIRED)) - octets_of(finding()) == len("".join(EXPIRED.columns))
