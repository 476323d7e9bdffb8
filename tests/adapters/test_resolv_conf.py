"""resolv.conf: its lines, and its changes."""

import os
from pathlib import Path

import pytest

from postfix_mtasts.adapters.name_server import Server, parse_server
from postfix_mtasts.adapters.resolv_conf import (
    MAX_BYTES,
    STAT_INTERVAL,
    ResolvConf,
    parse_resolv_conf,
)

DEFAULT = ["127.0.0.1"]


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("nameserver 192.0.2.1\n", ["192.0.2.1"]),
        ("nameserver\t192.0.2.1   # ours\r\n", ["192.0.2.1"]),
        ("nameserver 192.0.2.1\nnameserver ::1", ["192.0.2.1", "::1"]),
        ("nameserver fe80::1%eth0\n", ["fe80::1%eth0"]),
        ("search example.com\noptions timeout:1\nnameserver 192.0.2.1\n", ["192.0.2.1"]),
        ("nameserver dns.example\nnameserver 192.0.2.1\n", ["192.0.2.1"]),
        (
            "".join(f"nameserver 192.0.2.{i}\n" for i in (1, 2, 3, 4)),
            ["192.0.2.1", "192.0.2.2", "192.0.2.3"],
        ),
        ("", DEFAULT),
        ("# nameserver 192.0.2.1\n;nameserver 192.0.2.1\n", DEFAULT),
        (" nameserver 192.0.2.1\n", DEFAULT),
        ("nameserver\nnameservers 192.0.2.1\nNAMESERVER 192.0.2.1\n", DEFAULT),
        ("nameserver \ufffd\x00\n", DEFAULT),
    ],
)
def test_the_nameserver_lines_count(text: str, servers: list[str]) -> None:
    assert [str(server) for server in parse_resolv_conf(text)] == servers


class Watched:
    """A resolv.conf and the clock by which it is watched."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 1000.0
        self.watcher = ResolvConf(path, lambda: self.now)
        self.writes = 0

    def write(self, text: str) -> None:
        self.path.write_text(text)
        self.writes += 1
        os.utime(self.path, (self.writes, self.writes))

    def later(self) -> tuple[Server, ...]:
        self.now += STAT_INTERVAL
        return self.watcher.servers()


def servers(*addresses: str) -> tuple[Server, ...]:
    return tuple(parse_server(address) for address in addresses)


def test_a_change_is_seen_at_the_next_look_and_not_before(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "resolv.conf")
    watched.write("nameserver 192.0.2.1\n")
    assert watched.watcher.servers() == servers("192.0.2.1")
    watched.write("nameserver 192.0.2.2\n")
    watched.now += STAT_INTERVAL / 2
    assert watched.watcher.servers() == servers("192.0.2.1")
    assert watched.later() == servers("192.0.2.2")


def test_without_a_change_the_same_object_is_returned(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "resolv.conf")
    watched.write("nameserver 192.0.2.1\n")
    assert watched.watcher.servers() is watched.later()


def test_without_the_file_the_server_is_this_machine(tmp_path: Path) -> None:
    assert Watched(tmp_path / "none").watcher.servers() == servers("127.0.0.1")


def test_a_file_that_goes_away_and_comes_back_is_no_change(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "resolv.conf")
    watched.write("nameserver 192.0.2.1\n")
    watched.later()
    watched.path.unlink()
    assert watched.later() == servers("192.0.2.1")
    watched.write("nameserver 192.0.2.2\n")
    assert watched.later() == servers("192.0.2.2")


def test_a_file_replaced_by_another_of_the_same_size_and_time_is_seen(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "resolv.conf")
    watched.write("nameserver 192.0.2.1\n")
    watched.later()
    new = tmp_path / "new"
    new.write_text("nameserver 192.0.2.2\n")
    os.utime(new, (1, 1))
    new.rename(watched.path)
    assert watched.later() == servers("192.0.2.2")


def test_bytes_that_are_no_ascii_and_a_huge_file_do_no_harm(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "resolv.conf")
    watched.path.write_bytes(b"nameserver \xff\xfe\nnameserver 192.0.2.1\n" + b"#" * MAX_BYTES)
    assert watched.watcher.servers() == servers("192.0.2.1")


def test_a_directory_in_its_place_does_no_harm(tmp_path: Path) -> None:
    assert Watched(tmp_path).watcher.servers() == servers("127.0.0.1")
