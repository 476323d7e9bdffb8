from collections.abc import Callable
from typing import Any

import pytest

from postfix_mtasts.core.endpoints import (
    DnsServer,
    EventSource,
    Listen,
    MailRoute,
    SqliteUrl,
    build_dns_server,
    build_event_source,
    build_listen,
    build_mail_route,
    build_store_url,
    parse_dns_server,
    parse_event_source,
    parse_inet,
    parse_listen,
    parse_mail_route,
    parse_mailbox,
    parse_path,
    parse_store_url,
)
from postfix_mtasts.core.errors import ParseError

BASE = "/etc/x"


def listen(text: str) -> Listen:
    return parse_listen(text, BASE)


def event_source(text: str) -> EventSource:
    return parse_event_source(text, BASE)


def store_url(text: str) -> SqliteUrl:
    return parse_store_url(text, BASE)


GOOD: list[tuple[Callable[[str], Any], Callable[[Any], str], str, Any]] = [
    (listen, build_listen, "inet:127.0.0.1:8461", ("inet", "127.0.0.1", 8461, "")),
    (listen, build_listen, "inet:[::1]:8461", ("inet", "::1", 8461, "")),
    (listen, build_listen, "inet:localhost:1", ("inet", "localhost", 1, "")),
    (listen, build_listen, "unix:/run/p.sock", ("unix", "", 0, "/run/p.sock")),
    (parse_inet, build_listen, "inet:127.0.0.1:9461", ("inet", "127.0.0.1", 9461, "")),
    (parse_dns_server, build_dns_server, "192.0.2.1", ("192.0.2.1", 53)),
    (parse_dns_server, build_dns_server, "192.0.2.1:5353", ("192.0.2.1", 5353)),
    (parse_dns_server, build_dns_server, "2001:db8::1", ("2001:db8::1", 53)),
    (parse_dns_server, build_dns_server, "[2001:db8::1]:5353", ("2001:db8::1", 5353)),
    (event_source, build_event_source, "auto", ("auto", "")),
    (event_source, build_event_source, "journal", ("journal", "")),
    (event_source, build_event_source, "file:/var/log/mail.log", ("file", "/var/log/mail.log")),
    (event_source, build_event_source, "datagram:/run/d", ("datagram", "/run/d")),
    (parse_mail_route, build_mail_route, "sendmail", ("sendmail", "", 0)),
    (parse_mail_route, build_mail_route, "smtp://mx.example:587", ("smtp", "mx.example", 587)),
    (parse_mail_route, build_mail_route, "smtp://[::1]:25", ("smtp", "::1", 25)),
    (store_url, build_store_url, "sqlite:////var/lib/x.db", ("/var/lib/x.db",)),
]


@pytest.mark.parametrize(("parse", "build", "text", "fields"), GOOD, ids=[g[2] for g in GOOD])
def test_a_text_is_parsed_and_built_again(
    parse: Callable[[str], Any], build: Callable[[Any], str], text: str, fields: tuple[Any, ...]
) -> None:
    value = parse(text)
    assert tuple(getattr(value, name) for name in value.__dataclass_fields__) == fields
    assert build(value) == text


@pytest.mark.parametrize("text", ["[::1]", "::1", "[::1]:53"])
def test_a_dns_server_on_port_53_may_be_written_in_several_ways(text: str) -> None:
    assert parse_dns_server(text) == DnsServer(address="::1")


@pytest.mark.parametrize("host", ["mx.example", "[::1]", "192.0.2.1"])
def test_mail_leaves_by_port_25_unless_told_otherwise(host: str) -> None:
    route = MailRoute(kind="smtp", host=host.strip("[]"), port=25)
    assert parse_mail_route(f"smtp://{host}") == route


def test_relative_paths_start_from_the_given_folder() -> None:
    assert listen("unix:p.sock").path == "/etc/x/p.sock"
    assert event_source("file:mail.log").path == "/etc/x/mail.log"
    assert event_source("datagram:d").path == "/etc/x/d"
    assert store_url("sqlite:///state.db").path == "/etc/x/state.db"
    assert parse_path("a/b", "") == "a/b"


def test_a_mailbox_may_be_an_uri_and_has_its_domain_as_alabels() -> None:
    assert parse_mailbox("mailto:a.b+c@BÜCHER.example") == "a.b+c@xn--bcher-kva.example"


BAD: list[tuple[Callable[[str], Any], str, str]] = [
    (listen, "tcp:1.2.3.4:5", '"tcp:1.2.3.4:5" is neither "inet:HOST:PORT" nor "unix:PATH"'),
    (listen, "inet:8461", '"8461" is not HOST:PORT, an IPv6 address in brackets'),
    (listen, "inet:::1:8461", '"::1:8461" is not HOST:PORT, an IPv6 address in brackets'),
    (listen, "inet:[::1:8461", '"[::1:8461" is not HOST:PORT, an IPv6 address in brackets'),
    (listen, "inet:127.0.0.1:0", "port 0 is not from 1 to 65535"),
    (listen, "inet:127.0.0.1:65536", "port 65536 is not from 1 to 65535"),
    (
        listen,
        "inet:127.0.0.1:\uff18",
        '"127.0.0.1:\uff18" is not HOST:PORT, an IPv6 address in brackets',
    ),
    (listen, "inet::8461", "'' is no host name: with an empty label"),
    (listen, "inet:127.0.0.256:1", "'127.0.0.256' is no host name: ending in a number"),
    (listen, "inet:[127.0.0.1]:1", '"[127.0.0.1]" is no IPv6 address'),
    (listen, "inet:[:x:]:1", '"[:x:]" is no IPv6 address'),
    (listen, "unix:", '"" names no file'),
    (listen, "unix:/run/", '"/run/" names no file'),
    (
        listen,
        "unix:/" + 107 * "p",
        f'"/{107 * "p"}" is longer than the 107 bytes of a socket\'s path',
    ),
    (parse_inet, "unix:/p", '"unix:/p" is not "inet:HOST:PORT"'),
    (parse_dns_server, "dns.example:53", '"dns.example" is no IP address'),
    (
        parse_dns_server,
        "dns.example",
        '"dns.example" is not HOST:PORT, an IPv6 address in brackets',
    ),
    (
        event_source,
        "auto:/x",
        '"auto:/x" is none of "auto", "journal", "file:PATH", "datagram:PATH"',
    ),
    (event_source, "syslog", '"syslog" is none of "auto", "journal", "file:PATH", "datagram:PATH"'),
    (event_source, "file:", '"" names no file'),
    (parse_mail_route, "lmtp://h", '"lmtp://h" is neither "sendmail" nor "smtp://HOST:PORT"'),
    (parse_mail_route, "smtp://", "'' is no host name: with an empty label"),
    (store_url, "postgresql://h/db", "postgresql stores are not supported yet"),
    (store_url, "postgres://h/db", "postgresql stores are not supported yet"),
    (
        store_url,
        "mysql://h/db",
        '"mysql://h/db" is no store, such as "sqlite:////var/lib/x/state.db"',
    ),
    (store_url, "sqlite://x", '"sqlite://x" is no store, such as "sqlite:////var/lib/x/state.db"'),
    (store_url, "sqlite:///", '"" names no file'),
    (
        store_url,
        "sqlite:///:memory:",
        "a store in memory would forget all policies at every restart",
    ),
    (store_url, "sqlite:///x?mode=ro", "options behind the store's path are not supported"),
    (parse_mailbox, "tls", '"tls" is no mail address (RFC 5321 section 4.1.2)'),
    (parse_mailbox, "@a.example", '"@a.example" has an unfit local part (RFC 5321 section 4.1.2)'),
    (parse_mailbox, "a b@c", '"a b@c" has an unfit local part (RFC 5321 section 4.1.2)'),
    (
        parse_mailbox,
        65 * "a" + "@c",
        f'"{65 * "a"}@c" has an unfit local part (RFC 5321 section 4.1.2)',
    ),
    (parse_mailbox, "a@[192.0.2.1]", "'[192.0.2.1]' is no host name"),
]


@pytest.mark.parametrize(("parse", "text", "why"), BAD, ids=[b[1][:40] for b in BAD])
def test_what_cannot_be_reached_is_refused(
    parse: Callable[[str], Any], text: str, why: str
) -> None:
    with pytest.raises(ParseError) as raised:
        parse(text)
    assert str(raised.value).startswith(why)


def test_a_local_part_of_64_octets_fits() -> None:
    assert parse_mailbox(64 * "a" + "@c") == 64 * "a" + "@c"


def test_a_socket_path_of_107_bytes_fits() -> None:
    assert listen("unix:/" + 106 * "p").path == "/" + 106 * "p"
