"""The tables of smtp_tls_policy_maps: how they are parted, and where a socketmap asks."""

import pytest

from postfix_mtasts.core.endpoints import Listen
from postfix_mtasts.core.policy_tables import Table, as_seen, parse_table, parse_tables

QUEUE = "/var/spool/postfix"
INET = Listen(kind="inet", host="127.0.0.1", port=8461)


def unix(path: str) -> Listen:
    return Listen(kind="unix", path=path)


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("", []),
        (" , \t\n", []),
        ("hash:/a", ["hash:/a"]),
        ("hash:/a,hash:/b hash:/c\thash:/d", ["hash:/a", "hash:/b", "hash:/c", "hash:/d"]),
        ("inline:{ {a=b c}, d=e }, hash:/a", ["inline:{ {a=b c}, d=e }", "hash:/a"]),
        ("odd}, hash:/a", ["odd}", "hash:/a"]),
        ("odd{ hash:/a", ["odd{ hash:/a"]),
    ],
)
def test_tables_are_parted_by_commas_and_spaces_outside_braces(
    value: str, texts: list[str]
) -> None:
    assert [table.text for table in parse_tables(value)] == texts


@pytest.mark.parametrize(
    ("text", "proxied", "listen", "name"),
    [
        (
            "socketmap:unix:postfix-mtasts/p.sock:policy",
            False,
            unix("postfix-mtasts/p.sock"),
            "policy",
        ),
        ("socketmap:unix:/run/p.sock:policy", False, unix("/run/p.sock"), "policy"),
        ("proxy:socketmap:unix:/run/p.sock:x", True, unix("/run/p.sock"), "x"),
        ("socketmap:inet:127.0.0.1:8461:QUERY", False, INET, "QUERY"),
        ("socketmap:inet:[::1]:1:a", False, Listen(kind="inet", host="::1", port=1), "a"),
        ("socketmap:inet:127.0.0.1:smtp:a", False, None, ""),
        ("socketmap:policy", False, None, ""),
        ("proxy:hash:/etc/x", True, None, ""),
        ("static:may", False, None, ""),
    ],
)
def test_a_table_says_where_it_asks_and_for_what(
    text: str, *, proxied: bool, listen: Listen | None, name: str
) -> None:
    assert parse_table(text) == Table(text=text, proxied=proxied, listen=listen, map=name)


@pytest.mark.parametrize(
    ("listen", "root", "seen"),
    [
        (INET, QUEUE, INET),
        (unix("a/b"), "/", unix(f"{QUEUE}/a/b")),
        (unix("a/b"), QUEUE, unix(f"{QUEUE}/a/b")),
        (unix("/a/b"), "/", unix("/a/b")),
        (unix("/a/b"), QUEUE, unix(f"{QUEUE}/a/b")),
        (unix("a/../b"), "/", unix(f"{QUEUE}/b")),
    ],
)
def test_a_relative_path_starts_from_the_queue_an_absolute_one_from_the_root(
    listen: Listen, root: str, seen: Listen
) -> None:
    assert as_seen(listen, QUEUE, root) == seen
