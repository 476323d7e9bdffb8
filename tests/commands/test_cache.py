"""The verb `cache`: what is asked over map "control", and what is told of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.socketmap_server import SocketmapServer, unix
from tests.commands.conftest import Command, Daemon

NOW = 1_700_000_000.0
ENTRY = {
    "domain": "example.com",
    "mode": "enforce",
    "id": "2024",
    "expires": NOW + 604800,
    "asked": NOW,
}
UNNAMED = {"domain": "b.example", "mode": "", "id": "", "expires": None, "asked": NOW}
POLICY = {
    "domain": "example.com",
    "mode": "enforce",
    "id": "2024",
    "max_age": 604800,
    "mx": ["mx.example.com"],
    "fetched": NOW,
    "checked": NOW + 60,
    "expires": NOW + 604860,
    "text": "version: STSv1\r\nmode: enforce\r\nevil: \x1b[2J\r\n",
    "failure": None,
}


def ok(document: object) -> str:
    return f"OK {json.dumps(document)}"


def page(*entries: object, following: str | None = None) -> str:
    return ok({"entries": entries, "next": following})


def refreshed(domain: str, mode: str | None = "enforce", error: str | None = None) -> str:
    return ok({"refreshed": [{"domain": domain, "mode": mode, "error": error}]})


def test_list_is_a_table(command: Command, daemon: Daemon) -> None:
    with daemon({"control list ": page(UNNAMED, ENTRY)}):
        ran = command("cache", "list")
    assert ran.status == 0
    assert ran.out.splitlines() == [
        "DOMAIN       MODE     ID    EXPIRES               LAST ASKED",
        "b.example    -        -     -                     2023-11-14T22:13:20Z",
        "example.com  enforce  2024  2023-11-21T22:13:20Z  2023-11-14T22:13:20Z",
    ]


def test_list_goes_on_to_the_last_page(command: Command, daemon: Daemon) -> None:
    pages = {
        "control list ": page(UNNAMED, following="b.example"),
        "control list b.example": page(ENTRY),
    }
    with daemon(pages) as server:
        ran = command("cache", "list", "--json")
    assert json.loads(ran.out) == {"entries": [UNNAMED, ENTRY]}
    assert server.requests == list(pages)


def test_a_list_that_turns_in_circles_ends(command: Command, daemon: Daemon) -> None:
    circle = page(ENTRY, following="example.com")
    with daemon({"control list ": circle, "control list example.com": circle}) as server:
        assert command("cache", "list").status == 0
    assert len(server.requests) == 2


def test_list_may_be_of_some_domains_in_any_spelling(command: Command, daemon: Daemon) -> None:
    with daemon({"control list ": page(UNNAMED, ENTRY)}):
        ran = command("cache", "list", "Example.COM.", "--json")
    assert json.loads(ran.out) == {"entries": [ENTRY]}


@pytest.mark.parametrize(
    ("words", "said"), [((), "nothing is known yet"), (("c.example",), "no such domain is known")]
)
def test_an_empty_list_is_nothing_found(
    command: Command, daemon: Daemon, words: tuple[str, ...], said: str
) -> None:
    with daemon({"control list ": page()}):
        ran = command("cache", "list", *words)
    assert (ran.status, ran.out, ran.err) == (1, "", f"{said}\n")


def test_show_tells_of_each_policy(command: Command, daemon: Daemon) -> None:
    failed = {"domain": "b.example", "mode": None, "failure": "certificate has expired"}
    with daemon({"control show example.com": ok(POLICY), "control show b.example": ok(failed)}):
        ran = command("cache", "show", "example.com", "b.example")
    assert ran.status == 0
    assert ran.out.splitlines() == [
        "example.com: policy 2024 in mode enforce",
        "  in force until 2023-11-21T22:14:20Z (for 7 days)",
        "  fetched 2023-11-14T22:13:20Z, last seen valid 2023-11-14T22:14:20Z",
        "  | version: STSv1",
        "  | mode: enforce",
        "  | evil: ?[2J",
        "",
        "b.example: no policy",
        "  last fetch failed: certificate has expired",
    ]


def test_show_of_an_unknown_domain_is_nothing_found(command: Command, daemon: Daemon) -> None:
    with daemon({"control show example.com": ok(POLICY)}):
        ran = command("cache", "show", "c.example", "example.com", "--json")
    assert ran.status == 1
    assert json.loads(ran.out) == {"policies": [POLICY]}
    assert ran.err == "c.example: no policy is known\n"


def test_refresh_fetches_what_is_named(command: Command, daemon: Daemon) -> None:
    with daemon({"control refresh xn--strae-oqa.example": refreshed("xn--strae-oqa.example")}):
        ran = command("cache", "refresh", "straße.example")
    assert ran.status == 0
    assert ran.out == "xn--strae-oqa.example  enforce\n"


def test_refresh_fetches_all_policies_where_none_is_named(command: Command, daemon: Daemon) -> None:
    replies = {
        "control list ": page(UNNAMED, ENTRY),
        "control refresh example.com": refreshed("example.com"),
    }
    with daemon(replies) as server:
        ran = command("cache", "refresh", "--json")
    assert ran.status == 0
    assert server.requests == list(replies)
    assert json.loads(ran.out)["refreshed"][0]["domain"] == "example.com"


@pytest.mark.parametrize(
    ("mode", "line"),
    [
        (None, "a.example  no policy; failed: HTTP 404\n"),
        ("enforce", "a.example  enforce; failed: HTTP 404\n"),
    ],
)
def test_a_refresh_that_fails_is_something_wrong(
    command: Command, daemon: Daemon, mode: str | None, line: str
) -> None:
    with daemon({"control refresh a.example": refreshed("a.example", mode, "HTTP 404")}):
        ran = command("cache", "refresh", "a.example")
    assert (ran.status, ran.out) == (1, line)


def test_a_refresh_of_nothing_is_nothing_found(command: Command, daemon: Daemon) -> None:
    with daemon({"control list ": page(UNNAMED)}):
        ran = command("cache", "refresh")
    assert (ran.status, ran.out, ran.err) == (1, "", "no policy is known yet\n")


def test_purge_forgets_what_is_named(command: Command, daemon: Daemon) -> None:
    with daemon({"control purge a.example b.example": ok({"purged": 2})}):
        ran = command("cache", "purge", "a.example", "b.example")
    assert (ran.status, ran.out) == (0, "2 domains forgotten\n")


def test_purge_of_very_many_fits_into_requests(command: Command, daemon: Daemon) -> None:
    domains = [f"{n:03}.{'.'.join(['a' * 61] * 4)}"[:253] for n in range(100)]

    def purge(connection: Any, request: bytes) -> None:
        count = len(request.split()) - 2
        reply = f'OK {{"purged": {count}}}'.encode()
        connection.sendall(b"%d:%b," % (len(reply), reply))

    with daemon(purge) as server:
        ran = command("cache", "purge", "--json", *domains)
    assert json.loads(ran.out) == {"purged": 100}
    assert max(map(len, server.requests)) <= 10_000


def test_purge_of_all_has_to_be_asked_for(command: Command, daemon: Daemon) -> None:
    with daemon({"control purge *": ok({"purged": 0})}) as server:
        ran = command("cache", "purge")
        assert ran.status == 2
        assert "--all" in ran.err
        assert command("cache", "purge", "--all", "a.example").status == 2
        assert server.requests == []
        assert command("cache", "purge", "--all").status == 0


def test_purge_of_what_is_unknown_is_nothing_found(command: Command, daemon: Daemon) -> None:
    with daemon({"control purge a.example": ok({"purged": 0})}):
        assert command("cache", "purge", "a.example").status == 1


def test_what_is_no_domain_is_a_usage_error(command: Command, daemon: Daemon) -> None:
    with daemon({}) as server:
        ran = command("cache", "show", "a.example", "no such")
    assert ran.status == 2
    assert "'no such' is no host name" in ran.err
    assert server.requests == []


def test_who_may_not_is_told_so(command: Command, daemon: Daemon) -> None:
    with daemon({"control list ": "PERM control: only for root"}):
        ran = command("cache", "list")
    assert (ran.status, ran.err) == (2, "postfix-mtasts: the daemon says: control: only for root\n")


def test_only_unix_sockets_are_asked(command: Command, config: Path, tmp_path: Path) -> None:
    config.write_text('server: {listen: ["inet:127.0.0.1:9", "unix:other"]}\n')
    with SocketmapServer(unix(tmp_path / "other"), {"control list ": page(ENTRY)}):
        assert command("cache", "list").status == 0


def test_without_a_unix_socket_it_says_what_is_missing(command: Command, config: Path) -> None:
    config.write_text('server: {listen: ["inet:127.0.0.1:9"]}\n')
    ran = command("cache", "list")
    assert ran.status == 2
    assert "server.listen" in ran.err
