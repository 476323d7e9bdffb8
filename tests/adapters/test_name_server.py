"""The address of a DNS server."""

import socket

import pytest

from postfix_mtasts.adapters.name_server import Server, parse_server
from postfix_mtasts.core.errors import ParseError


@pytest.mark.parametrize(
    ("text", "server", "spelt"),
    [
        ("127.0.0.1", Server(host="127.0.0.1"), "127.0.0.1"),
        ("127.0.0.1:53", Server(host="127.0.0.1"), "127.0.0.1"),
        ("192.0.2.1:5353", Server(host="192.0.2.1", port=5353), "192.0.2.1:5353"),
        ("2001:DB8:0::1", Server(host="2001:db8::1"), "2001:db8::1"),
        ("[::1]:5353", Server(host="::1", port=5353), "[::1]:5353"),
        ("fe80::1%lo", Server(host="fe80::1", scope="lo"), "fe80::1%lo"),
        ("[fe80::1%2]:54", Server(host="fe80::1", scope="2", port=54), "[fe80::1%2]:54"),
    ],
)
def test_an_address_with_or_without_a_port_is_read(text: str, server: Server, spelt: str) -> None:
    assert parse_server(text) == server
    assert str(server) == spelt
    assert parse_server(spelt) == server


@pytest.mark.parametrize(
    "text", ["", "dns.example.com", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:x", "[::1", "1"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse_server(text)


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("127.0.0.1", True),
        ("127.0.0.53", True),
        ("::1", True),
        ("192.0.2.1", False),
        ("0.0.0.0", False),
        ("::ffff:192.0.2.1", False),
        ("fe80::1%lo", False),
    ],
)
def test_only_loopback_is_this_machine(text: str, local: bool) -> None:  # noqa: FBT001  parameters of the table
    assert parse_server(text).is_on_this_machine is local


def test_the_socket_of_a_link_local_address_knows_its_interface() -> None:
    number = socket.if_nametoindex("lo")
    assert parse_server("fe80::1%lo").socket_address() == ("fe80::1", 53, 0, number)
    assert parse_server("fe80::1%7").socket_address() == ("fe80::1", 53, 0, 7)
    assert parse_server("[::1]:54").socket_address() == ("::1", 54)
    assert parse_server("::1").family == socket.AF_INET6
    assert parse_server("127.0.0.1").family == socket.AF_INET


def test_an_interface_that_is_gone_is_an_os_error() -> None:
    with pytest.raises(OSError, match="interface"):
        parse_server("fe80::1%nosuch0").socket_address()
