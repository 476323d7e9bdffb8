"""Whether Postfix asks us: each thing that can be wrong with it, and what mends it."""

from typing import Any

import pytest

from postfix_mtasts.core.diagnosis import Change, Diagnosis, Grade
from postfix_mtasts.core.map_diagnosis import diagnose_map
from postfix_mtasts.core.map_line import Probe, Reach
from postfix_mtasts.core.postfix_setup import Setup
from tests.core.doctor_samples import ETC, LINE, LINE_TLSRPT, LISTENS, UNIX, client, setup

PEER = "socketmap:inet:127.0.0.1:8642:QUERY"


def maps(value: str, version: str = "3.7.11", **settings: Any) -> Setup:
    return setup(version, smtp_tls_policy_maps=value, **settings)


def probe(
    table: str = LINE, reach: Reach = Reach.OURS, why: str = "", *, chroot: bool = True
) -> Probe:
    return Probe(table=table, chroot=chroot, reach=reach, why=why)


def first(host: Setup, *probes: Probe) -> Diagnosis:
    return diagnose_map(host, LISTENS, probes)[0]


@pytest.mark.parametrize(
    ("chroot", "where"), [(True, "in its chroot"), (False, "without a chroot")]
)
def test_all_is_well_where_we_answer(*, chroot: bool, where: str) -> None:
    (found,) = diagnose_map(maps(LINE), LISTENS, (probe(chroot=chroot),))
    assert (found.grade, found.instance) == (Grade.OK, ETC)
    assert found.text == f"{LINE} answers Postfix's user {where}"


@pytest.mark.parametrize(
    ("value", "words"),
    [("", "asks no policy server"), (PEER, f"asks another policy server: {PEER}")],
)
def test_a_postfix_that_does_not_ask_us_is_told_the_line(value: str, words: str) -> None:
    found = first(maps(value))
    assert found.grade is Grade.WRONG
    assert words in found.text
    assert found.changes == (Change(name="smtp_tls_policy_maps", value=LINE),)


@pytest.mark.parametrize(
    ("line", "version", "enabled", "grade", "wanted"),
    [
        (LINE_TLSRPT, "3.9.4", "", Grade.WRONG, LINE),
        (LINE, "3.10.0", "yes", Grade.WARNING, LINE_TLSRPT),
        (LINE, "3.10.0", "no", Grade.NOTE, LINE_TLSRPT),
        (f"{LINE}-explained", "3.7.11", "", Grade.WRONG, LINE),
    ],
)
def test_a_map_must_suit_the_version(
    line: str, version: str, enabled: str, grade: Grade, wanted: str
) -> None:
    found = first(maps(line, version, smtp_tlsrpt_enable=enabled), probe(line))
    assert found.grade is grade
    assert found.changes[0].value == wanted


def test_the_map_for_tlsrpt_is_well_from_3_10_on() -> None:
    assert first(maps(LINE_TLSRPT, "3.10.0"), probe(LINE_TLSRPT)).grade is Grade.OK


def test_an_absolute_path_that_the_chroot_hides_is_made_relative() -> None:
    line = f"socketmap:unix:{UNIX.path}:policy"
    found = first(maps(line), probe(line, Reach.NOBODY, "No such file or directory"))
    assert found.grade is Grade.WRONG
    assert "in its chroot: No such file or directory; mail is deferred" in found.text
    assert found.changes[0].value == LINE


@pytest.mark.parametrize(
    ("line", "why", "mend"),
    [
        (
            LINE,
            "Connection refused",
            "systemctl start postfix-mtasts.socket postfix-mtasts.service",
        ),
        (
            LINE,
            "Permission denied",
            "systemctl restart postfix-mtasts.socket postfix-mtasts.service",
        ),
    ],
)
def test_where_the_line_is_right_the_socket_is_mended(line: str, why: str, mend: str) -> None:
    found = first(maps(line), probe(line, Reach.NOBODY, why, chroot=False))
    assert (found.mend, found.changes) == (mend, ())
    assert "in its chroot" not in found.text


def test_a_program_of_others_at_our_socket_is_no_good() -> None:
    found = first(maps(LINE), probe(reach=Reach.FOREIGN))
    assert (found.grade, "another program answers there" in found.text) == (Grade.WRONG, True)
    assert found.mend.startswith("ss ")


def test_what_could_not_be_tried_is_a_note() -> None:
    found = first(maps(LINE), probe(reach=Reach.UNTRIED, why="that needs root"))
    assert (found.grade, "that needs root" in found.text) == (Grade.NOTE, True)


def test_a_peer_beside_us_is_to_go() -> None:
    _, found = diagnose_map(maps(f"{LINE}, {PEER}"), LISTENS, (probe(),))
    assert (found.grade, found.changes[0].value) == (Grade.WARNING, LINE)


def test_an_operators_table_is_no_fault_and_behind_ours_a_note() -> None:
    (before,) = diagnose_map(maps(f"hash:/a, {LINE}"), LISTENS, (probe(),))
    assert before.grade is Grade.OK
    _, after = diagnose_map(maps(f"{LINE}, hash:/a"), LISTENS, (probe(),))
    assert (after.grade, after.text) == (Grade.NOTE, "asked only where we say nothing: hash:/a")


@pytest.mark.parametrize(
    ("name", "value", "grade"),
    [
        ("smtp", "static:may", Grade.WRONG),
        ("smtp", "", Grade.WRONG),
        ("smtp", LINE, Grade.NOTE),
        ("plain", "static:may", Grade.NOTE),
    ],
)
def test_a_service_with_maps_of_its_own_is_told(name: str, value: str, grade: Grade) -> None:
    host = setup(clients=(client(), client(name, smtp_tls_policy_maps=value)))
    _, found = diagnose_map(host, LISTENS, (probe(),))
    assert found.grade is grade
    assert f"master.cf: {name} has" in found.text
    if grade is Grade.WRONG:
        assert found.mend == (
            "postconf -c /etc/postfix -PX smtp/unix/smtp_tls_policy_maps"
            " && postfix -c /etc/postfix reload"
        )
