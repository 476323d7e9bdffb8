"""Which sources a collector reads, and which it refuses."""

from pathlib import Path

import pytest

from postfix_mtasts.adapters import datagram_socket
from postfix_mtasts.commands import event_sources
from postfix_mtasts.commands.event_sources import DATAGRAMS, Chosen, Reading, choose
from postfix_mtasts.core.endpoints import EventSource, parse_event_source
from postfix_mtasts.core.errors import ConfigError

JOURNAL = EventSource(kind="journal")
FOUND = EventSource(kind="file", path="/var/log/mail.log")


def chosen(*texts: str, handed: tuple[str, ...] = (), found: EventSource | None = FOUND) -> Chosen:
    configured = [parse_event_source(text, "/etc") for text in texts]
    return choose(configured, handed=handed, find=lambda: found)


def test_auto_is_what_is_found_and_the_usual_place() -> None:
    assert chosen("auto") == Chosen(logs=(FOUND,), sockets=(DATAGRAMS,))
    assert chosen("auto", found=None) == Chosen(logs=(), sockets=(DATAGRAMS,))


def test_auto_looks_for_no_log_where_one_is_named() -> None:
    assert chosen("auto", "journal") == Chosen(logs=(JOURNAL,), sockets=(DATAGRAMS,))


def test_auto_receives_where_systemd_bound_and_nowhere_else() -> None:
    assert chosen("auto", handed=("/run/x",)).sockets == ("/run/x",)


def test_a_socket_is_received_from_once_however_often_it_is_named() -> None:
    assert chosen("datagram:/run/x", handed=("/run/x",)) == Chosen(logs=(), sockets=("/run/x",))


def test_several_instances_may_write_a_file_each() -> None:
    assert len(chosen("file:/var/log/a.log", "file:/var/log/b.log").logs) == 2


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (("journal", "file:/var/log/mail.log"), "journal has the lines of log files"),
        (("journal", "journal"), "journal and journal are the same"),
        (("file:/x", "file:/./x"), "file:/x and file:/./x are the same"),
    ],
    ids=["journal and file", "journal twice", "file twice"],
)
def test_what_would_count_twice_is_refused(texts: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        chosen(*texts)


def test_a_file_and_a_link_to_it_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("mail.log")
    with pytest.raises(ConfigError, match="are the same"):
        chosen(f"file:{tmp_path}/mail.log", f"file:{tmp_path}/link")


def test_where_one_socket_cannot_be_bound_none_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    paths = (str(tmp_path / "good"), str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="no socket"):
        event_sources.bind_sockets(Chosen(logs=(), sockets=paths), ())
    datagram_socket.bind(paths[0]).close()  # nobody receives there


def test_what_is_bound_is_not_bound_again(tmp_path: Path) -> None:
    path = str(tmp_path / "tlsrpt.sock")
    assert event_sources.bind_sockets(Chosen(logs=(), sockets=(path,)), (path,)) == []


def test_one_can_do_without_the_usual_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usual = tmp_path / "folder" / "tlsrpt.sock"
    monkeypatch.setattr(event_sources, "DATAGRAMS", str(usual))
    only = Chosen(logs=(), sockets=(str(usual),))
    assert event_sources.bind_sockets(only, ()) == []
    assert not caplog.records
    usual.parent.mkdir()
    usual.touch()
    assert event_sources.bind_sockets(only, ()) == []
    assert "no socket" in caplog.text


def test_a_host_without_journalctl_has_no_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="no journalctl"):
        event_sources.open_log(JOURNAL, Reading(follow=True, own_senders=(), year=None))


@pytest.mark.parametrize(("length", "warned"), [("10", 1), ("512", 0), ("", 0)])
def test_a_short_queue_is_warned_of_with_its_mend(
    length: str,
    warned: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "max_dgram_qlen").write_text(length)
    monkeypatch.setattr(datagram_socket, "_QUEUE", tmp_path / "max_dgram_qlen")
    event_sources.warn_of_short_queue()
    told = [each.message for each in caplog.records]
    assert len(told) == warned
    assert all("sysctl -w net.unix.max_dgram_qlen=512" in each for each in told)
