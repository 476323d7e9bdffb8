"""The one line: which tables are ours, and what it should be."""

import pytest

from postfix_mtasts.core.endpoints import Listen
from postfix_mtasts.core.map_line import (
    Probe,
    Reach,
    as_it_is,
    asked_tables,
    is_peer,
    preferred,
    wanted_maps,
)
from postfix_mtasts.core.policy_tables import parse_table
from postfix_mtasts.core.postfix_setup import Setup
from tests.core.doctor_samples import (
    INET,
    LINE,
    LINE_TLSRPT,
    LISTENS,
    QUEUE,
    UNIX,
    client,
    setup,
)

PEER = "socketmap:inet:127.0.0.1:8642:QUERY"
TCP = "socketmap:inet:127.0.0.1:8461:policy"


def maps(value: str, version: str = "3.7.11") -> Setup:
    return setup(version, smtp_tls_policy_maps=value)


def nobody(table: str) -> tuple[Probe, ...]:
    return (Probe(table=table, chroot=True, reach=Reach.NOBODY, why="No such file or directory"),)


@pytest.mark.parametrize(
    "table",
    [
        LINE,
        TCP,
        "socketmap:inet:localhost:8461:policy",
        f"socketmap:unix:{QUEUE}/postfix-mtasts/policy.sock:policy",
        "socketmap:unix:/postfix-mtasts/policy.sock:policy",
        f"proxy:socketmap:unix:{QUEUE}/postfix-mtasts/policy.sock:policy",
    ],
)
def test_every_spelling_of_our_sockets_is_ours(table: str) -> None:
    assert [each.text for each in asked_tables(maps(table), LISTENS)] == [table]


@pytest.mark.parametrize("table", [PEER, "hash:/etc/postfix/tls_policy", "socketmap:unix:x:policy"])
def test_others_are_not_ours(table: str) -> None:
    assert asked_tables(maps(table), LISTENS) == ()


@pytest.mark.parametrize(
    ("table", "peer"),
    [
        (PEER, True),
        ("socketmap:inet:127.0.0.1:8461:postfix", True),
        ("socketmap:unix:/run/x:own", False),
        ("hash:/etc/postfix/policy", False),
    ],
)
def test_a_peer_is_known_by_what_it_is_asked_for(table: str, *, peer: bool) -> None:
    assert is_peer(parse_table(table)) is peer


@pytest.mark.parametrize(
    ("value", "version", "wanted"),
    [
        ("", "3.7.11", LINE),
        ("", "3.10.1", LINE_TLSRPT),
        (LINE, "3.7.11", LINE),
        (TCP, "3.7.11", TCP),
        (LINE, "3.10.1", LINE_TLSRPT),
        (LINE_TLSRPT, "3.9.4", LINE),
        (LINE_TLSRPT, "3.10.1", LINE_TLSRPT),
        (
            "socketmap:inet:127.0.0.1:8461:requiretls",
            "3.10.1",
            "socketmap:inet:127.0.0.1:8461:requiretls",
        ),
        (PEER, "3.7.11", LINE),
        (f"hash:/a, {PEER}, hash:/b", "3.7.11", f"hash:/a, hash:/b, {LINE}"),
        (f"hash:/a {LINE} hash:/b", "3.7.11", f"hash:/a, {LINE}, hash:/b"),
        (f"{LINE}, {TCP}, {PEER}", "3.7.11", LINE),
        ("socketmap:unix:/run/x:own", "3.7.11", f"socketmap:unix:/run/x:own, {LINE}"),
    ],
)
def test_what_is_right_stays_and_what_is_not_makes_room(
    value: str, version: str, wanted: str
) -> None:
    assert wanted_maps(maps(value, version), LISTENS, ()) == wanted


def test_a_line_of_ours_that_cannot_be_reached_is_replaced() -> None:
    absolute = f"socketmap:unix:{UNIX.path}:policy"
    assert wanted_maps(maps(absolute), LISTENS, ()) == absolute
    assert wanted_maps(maps(absolute), LISTENS, nobody(absolute)) == LINE


def test_names_of_settings_stay_as_main_cf_has_them() -> None:
    host = setup(
        smtp_tls_policy_maps=f"hash:/etc/postfix/x, {LINE_TLSRPT}",
        written={"smtp_tls_policy_maps": f"hash:$config_directory/x, {LINE_TLSRPT}"},
    )
    assert wanted_maps(host, LISTENS, ()) == f"hash:$config_directory/x, {LINE}"
    assert as_it_is(host) == f"hash:$config_directory/x, {LINE_TLSRPT}"


def test_a_name_that_stands_for_several_tables_is_written_out() -> None:
    host = setup(
        smtp_tls_policy_maps="hash:/a, hash:/b", written={"smtp_tls_policy_maps": "$all_of_them"}
    )
    assert wanted_maps(host, LISTENS, ()) == f"hash:/a, hash:/b, {LINE}"


def test_names_of_which_one_is_two_tables_and_one_is_none_lose_no_table() -> None:
    host = setup(
        smtp_tls_policy_maps=f"{PEER}, hash:/b",
        written={"smtp_tls_policy_maps": "$two_of_them, $none"},
    )
    assert wanted_maps(host, LISTENS, ()) == f"hash:/b, {LINE}"


@pytest.mark.parametrize(
    ("listens", "chroot", "line"),
    [
        ((INET, UNIX), True, LINE),
        ((INET,), True, TCP),
        ((Listen(kind="unix", path="/run/s"), INET), True, TCP),
        ((Listen(kind="unix", path="/run/s"),), True, "proxy:socketmap:unix:/run/s:policy"),
        ((Listen(kind="unix", path="/run/s"),), False, "socketmap:unix:/run/s:policy"),
    ],
)
def test_the_best_way_is_the_one_that_is_right_in_a_chroot_too(
    listens: tuple[Listen, ...], *, chroot: bool, line: str
) -> None:
    assert preferred(setup(clients=(client(chroot=chroot),)), listens) == line
