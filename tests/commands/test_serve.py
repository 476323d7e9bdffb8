"""The verb `serve` as a process: its sockets, its signals, its service manager, its end."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from postfix_mtasts.adapters import listeners
from postfix_mtasts.core.endpoints import Listen
from tests.adapters.dns_server import NO_SUCH_NAME, Reply, record
from tests.adapters.https_server import Authority, Conversation, HttpsServer
from tests.hostile.daemon_process import (
    LOOPS,
    SOURCES,
    DaemonProcess,
    DnsThread,
    configuration,
    free_port,
    running,
    until,
)

NOTHING = b"NOTFOUND "
LEAVES_WITHIN = 5.0  # seconds


@pytest.fixture(name="dns", scope="module")
def make_dns() -> Iterator[DnsThread]:
    with DnsThread() as dns:
        dns.says("stuck.example", "MX", Reply(delay=3600))
        yield dns


@pytest.fixture(name="loop", params=LOOPS)
def each_loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(name="daemon", scope="module", params=LOOPS)
def one_for_many(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, dns: DnsThread
) -> Iterator[DaemonProcess]:
    with running(tmp_path_factory.mktemp("daemon"), resolver=dns, loop=request.param) as daemon:
        yield daemon


# --- answering ------------------------------------------------------------------------------


def test_both_sockets_answer_and_the_unix_socket_is_open_to_everyone(
    daemon: DaemonProcess,
) -> None:
    assert daemon.ask(b"policy example.com") == NOTHING
    assert daemon.ask(b"policy example.com", tcp=True) == NOTHING
    assert stat.S_IMODE(daemon.path.stat().st_mode) == 0o666


def test_a_system_that_trusts_nobody_is_warned_of_at_the_start(
    tmp_path: Path, dns: DnsThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    with running(tmp_path, resolver=dns) as daemon:
        assert "no certificate authority is trusted" in daemon.log


def test_the_log_says_where_it_listens(daemon: DaemonProcess) -> None:
    assert f"ready on inet:127.0.0.1:{daemon.port}, unix:{daemon.path}" in daemon.log


def test_explain_answers_with_a_document(daemon: DaemonProcess) -> None:
    word, _, document = daemon.ask(b"explain example.com").partition(b" ")
    assert word == b"OK"
    assert json.loads(document)["domain"] == "example.com"


def test_control_is_for_the_unix_socket_alone(daemon: DaemonProcess) -> None:
    assert daemon.ask(b"control purge none.example") == b'OK {"purged": 0}'
    assert daemon.ask(b"control purge none.example", tcp=True).startswith(b"PERM control: ")


def test_bad_framing_is_refused_and_hung_up_on(daemon: DaemonProcess) -> None:
    with daemon.client() as client:
        client.sock.sendall(b"EHLO example.com\r\n")
        assert client.reply() == b"PERM netstring without a length"
        assert client.is_closed()


def test_the_service_manager_hears_the_watchdog_and_the_status(daemon: DaemonProcess) -> None:
    for _ in range(2):
        daemon.hears("WATCHDOG=1")
    daemon.signal(signal.SIGHUP)
    assert "MONOTONIC_USEC=" in daemon.hears("RELOADING=1")
    status = daemon.hears("READY=1").partition("STATUS=")[2]
    assert "answers in memory" in status


# --- SIGHUP ---------------------------------------------------------------------------------


def test_a_good_configuration_is_answered_by_at_once_and_a_bad_one_not_at_all(
    daemon: DaemonProcess,
) -> None:
    before = yaml.safe_load(daemon.config.read_text())

    def reload(**sections: Any) -> None:
        daemon.write_config({**before, **sections})
        daemon.signal(signal.SIGHUP)
        daemon.hears("READY=1")

    with daemon.client() as client:
        assert client.ask(b"policy partner.example") == NOTHING
        reload(policies=[{"domain": "partner.example", "level": "encrypt"}])
        assert client.ask(b"policy partner.example") == b"OK encrypt"
        reload(policies=[{"domain": "partner.example", "level": "encrypted"}])
        assert client.ask(b"policy partner.example") == b"OK encrypt"
        assert "the new configuration is refused, the old one stays" in daemon.log
        reload(mta_sts={"ca_file": "/nonexistent.pem"})
        assert client.ask(b"policy partner.example") == b"OK encrypt"
        assert "mta_sts.ca_file /nonexistent.pem: No such file or directory" in daemon.log
        reload()
        assert client.ask(b"policy partner.example") == NOTHING


def test_changes_that_wait_for_a_restart_are_named(daemon: DaemonProcess) -> None:
    before = yaml.safe_load(daemon.config.read_text())
    daemon.write_config({**before, "limits": {"connections": 5}})
    daemon.signal(signal.SIGHUP)
    daemon.hears("READY=1")
    assert "wait for a restart" in daemon.log
    daemon.write_config(before)
    daemon.signal(signal.SIGHUP)
    daemon.hears("READY=1")


def test_a_look_up_on_its_way_is_finished_by_what_it_began_with(
    tmp_path: Path, dns: DnsThread, loop: str
) -> None:
    """Its HTTPS fetch begins after the reload: on a fetcher that must not be closed by then."""
    authority = Authority(tmp_path)
    policy = b"version: STSv1\nmode: enforce\nmx: mx.reload.example\nmax_age: 86400\n"

    def script(talk: Conversation) -> None:
        talk.handshake()
        talk.read_request()
        length = f"Content-Length: {len(policy)}\r\n\r\n".encode()
        talk.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" + length + policy)
        talk.close_tls()

    name = f"{loop}.reload.example"
    txt = record(f"_mta-sts.{name}", "TXT", '"v=STSv1; id=1;"')
    dns.says(f"_mta-sts.{name}", "TXT", Reply(answers=(txt,), delay=0.7))
    dns.says(f"mta-sts.{name}", "A", record(f"mta-sts.{name}", "A", "127.0.0.1"))
    with (
        HttpsServer(authority.good(f"mta-sts.{name}"), script) as https,
        running(
            tmp_path,
            resolver=dns,
            loop=loop,
            https_port=https.port,
            mta_sts={"ca_file": str(authority.ca_file)},
        ) as daemon,
        daemon.client() as client,
    ):
        client.send(f"policy {name}".encode())
        until(lambda: dns.asked(name) > 0)
        daemon.signal(signal.SIGHUP)
        daemon.hears("READY=1")
        answer = b"OK secure match=mx.reload.example servername=hostname"
        assert client.reply() == answer


# --- the end --------------------------------------------------------------------------------


def test_sigterm_ends_it_well_and_soon_even_with_a_look_up_that_is_stuck(
    tmp_path: Path, dns: DnsThread, loop: str
) -> None:
    with (
        running(tmp_path, resolver=dns, loop=loop, dns={"timeout": "60s"}) as daemon,
        daemon.client() as idle,
        daemon.client() as waiting,
    ):
        assert idle.ask(b"policy example.com") == NOTHING
        waiting.send(b"policy stuck.example")
        until(lambda: dns.asked("stuck.example") > 0)
        started = time.monotonic()
        daemon.signal(signal.SIGTERM)
        daemon.hears("STOPPING=1")
        assert idle.is_closed()
        assert time.monotonic() - started < LEAVES_WITHIN / 2
        assert daemon.wait() == 0
        assert time.monotonic() - started < LEAVES_WITHIN


def test_sigint_ends_it_too_and_what_is_being_answered_is_finished_before(
    tmp_path: Path, dns: DnsThread, loop: str
) -> None:
    dns.says("late.example", "MX", replace(NO_SUCH_NAME, delay=0.5))
    with running(tmp_path, resolver=dns, loop=loop) as daemon, daemon.client() as client:
        asked = dns.asked("late.example")
        client.send(b"policy late.example", b"policy example.com")
        until(lambda: dns.asked("late.example") > asked)
        daemon.signal(signal.SIGINT)
        assert client.reply() == NOTHING
        assert client.is_closed()
        assert daemon.wait() == 0


def test_after_a_kill_the_socket_is_replaced_and_what_was_told_is_remembered(
    tmp_path: Path, dns: DnsThread
) -> None:
    with running(tmp_path, resolver=dns) as daemon:
        assert daemon.ask(b"policy killed.example") == NOTHING
        asked = dns.asked("killed.example")
        daemon.signal(signal.SIGKILL)
        assert daemon.wait() == -signal.SIGKILL
        assert daemon.path.exists()
    (tmp_path / "notify").unlink()
    with running(tmp_path, resolver=dns) as daemon:
        assert daemon.ask(b"policy killed.example") == NOTHING
        assert dns.asked("killed.example") == asked


# --- what it does not start with ------------------------------------------------------------


def refused(config: Path, **environment: str) -> str:
    """Return the last line on stderr of a daemon that ends with the status of bad usage."""
    done = subprocess.run(
        [sys.executable, "-m", "postfix_mtasts", "serve", "--config", str(config)],
        cwd=SOURCES,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
    return done.stderr.splitlines()[-1]


def written(folder: Path, **sections: Any) -> Path:
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(configuration(free_port(), None, **sections)))
    return config


def test_without_its_configuration_it_does_not_start(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    assert refused(missing) == f"postfix-mtasts: {missing}: No such file or directory"


def test_with_a_faulty_configuration_it_does_not_start(tmp_path: Path) -> None:
    config = written(tmp_path, server={"listne": []})
    assert "listne" in refused(config)
    assert not (tmp_path / "policy.sock").exists()


@pytest.mark.parametrize(
    ("text", "why"), [(None, "No such file or directory"), ("no certificate", "no certificate")]
)
def test_without_certificates_of_authorities_it_does_not_start(
    tmp_path: Path, text: str | None, why: str
) -> None:
    ca_file = tmp_path / "ca.pem"
    if text is not None:
        ca_file.write_text(text)
    line = refused(written(tmp_path, mta_sts={"ca_file": str(ca_file)}))
    assert line.startswith(f"postfix-mtasts: mta_sts.ca_file {ca_file}: ")
    assert why in line


def test_where_another_listens_it_does_not_start(tmp_path: Path) -> None:
    path = tmp_path / "policy.sock"
    with listeners.bind(Listen(kind="unix", path=str(path))):
        why = f"postfix-mtasts: cannot listen on unix:{path}: another process listens there"
        assert refused(written(tmp_path)) == why
    with listeners.bind(Listen(kind="inet", host="127.0.0.1", port=0)) as other:
        here = f"inet:127.0.0.1:{other.getsockname()[1]}"
        why = f"postfix-mtasts: cannot listen on {here}: another process listens there"
        assert refused(written(tmp_path, server={"listen": [here]})) == why


def test_in_place_of_a_file_it_does_not_listen(tmp_path: Path) -> None:
    path = tmp_path / "policy.sock"
    path.write_text("precious")
    line = refused(written(tmp_path))
    assert line.endswith(f"cannot listen on unix:{path}: there is a file that is no socket")
    assert path.read_text() == "precious"


# --- socket activation ----------------------------------------------------------------------


@contextmanager
def activated(
    tmp_path: Path, dns: DnsThread, loop: str
) -> Iterator[tuple[DaemonProcess, socket.socket, socket.socket]]:
    """Run the daemon with a socket of each kind, handed over as systemd does it."""
    path = tmp_path / "policy.sock"
    with (
        listeners.bind(Listen(kind="unix", path=str(path))) as unix,
        listeners.bind(Listen(kind="inet", host="127.0.0.1", port=0)) as inet,
    ):
        high = 50
        moves = f"{high}<&{unix.fileno()} {high + 1}<&{inet.fileno()}"
        script = (
            f"exec {moves}; exec 3<&{high} 4<&{high + 1}; exec {high}<&- {high + 1}<&-; "
            'LISTEN_PID=$$ LISTEN_FDS=2 exec "$@"'
        )
        before = ["bash", "-c", script, "sh"]
        fds = (unix.fileno(), inet.fileno())
        taken = {"listen": ["inet:192.0.2.1:1"]}  # cannot be listened on: it must not be tried
        with running(
            tmp_path,
            resolver=dns,
            loop=loop,
            before=before,
            descriptors=fds,
            server=taken,
        ) as daemon:
            daemon.port = inet.getsockname()[1]
            yield daemon, unix, inet


def test_on_sockets_of_systemd_it_answers_and_leaves_them_as_they_were(
    tmp_path: Path, dns: DnsThread, loop: str
) -> None:
    with activated(tmp_path, dns, loop) as (daemon, unix, _):
        assert daemon.ask(b"policy example.com") == NOTHING
        assert daemon.ask(b"policy example.com", tcp=True) == NOTHING
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
        with daemon.client():  # waits for the next daemon, in the socket's queue
            unix.accept()[0].close()


# --- the default ----------------------------------------------------------------------------


def test_on_built_in_defaults_one_of_the_sockets_is_enough(tmp_path: Path) -> None:
    """Shown by the module itself: the default port may be taken where tests run."""
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    program = (
        "from pathlib import Path; from argparse import Namespace\n"
        "from postfix_mtasts.commands import configuration, serve\n"
        "from postfix_mtasts.config import Config, Server\n"
        "from postfix_mtasts.core.endpoints import Listen\n"
        "good = Listen(kind='unix', path='policy.sock')\n"
        "bad = Listen(kind='inet', host='192.0.2.1', port=1)\n"
        "source = configuration.Source(path=None, state=Path())\n"
        "bound = serve._bind(Config(server=Server(listen=(bad, good))), source)\n"
        "print([each.getsockname() for each in bound])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout == "['policy.sock']\n"


# --- metrics --------------------------------------------------------------------------------


def scraped(port: int) -> dict[str, float]:
    """Return the samples of ``/metrics``, as they are spelt there."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as response:
        lines = response.read().decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def test_what_it_does_is_told_to_prometheus_and_to_systemd(
    tmp_path: Path, dns: DnsThread, loop: str
) -> None:
    port = free_port()
    metrics = {"listen": f"inet:127.0.0.1:{port}"}
    with running(tmp_path, resolver=dns, loop=loop, metrics=metrics) as daemon:
        assert f"metrics on http://127.0.0.1:{port}/metrics" in daemon.log
        with daemon.client() as client:
            client.send(*[b"policy example.com"] * 3)
            assert {client.reply() for _ in range(3)} == {NOTHING}
            assert client.ask(b"policy example.com") == NOTHING
            told = scraped(port)
        lookups = 'postfix_mtasts_lookups_total{level="notfound",map="policy",source="none"}'
        assert told[lookups] == 4
        assert told["postfix_mtasts_cache_hits_total"] == 3
        assert told["postfix_mtasts_decision_duration_seconds_count"] == 1
        assert told['postfix_mtasts_dns_queries_total{result="answered"}'] >= 2
        assert told['postfix_mtasts_connections{state="idle"}'] == 1
        assert told["postfix_mtasts_cached_answers"] == 1
        assert told["postfix_mtasts_store_usable"] == 1
        assert told["postfix_mtasts_state_database_readable"] == 1
        assert told['postfix_mtasts_policies{mode="enforce"}'] == 0
        assert told["process_open_fds"] > 0
        daemon.signal(signal.SIGHUP)
        status = daemon.hears("READY=1").partition("STATUS=")[2]
        assert re.match(r"[0-9]\.[0-9] look-ups/s; 0 answers in memory; DNSSEC", status)


def test_metrics_without_their_library_are_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "prometheus_client.py").write_text("raise ImportError('left out by the test')\n")
    config = written(tmp_path, metrics={"listen": f"inet:127.0.0.1:{free_port()}"})
    line = refused(config, PYTHONPATH=str(tmp_path))
    assert "metrics.listen" in line
    assert "install python3-prometheus-client" in line


def test_metrics_where_another_listens_are_refused(tmp_path: Path) -> None:
    with listeners.bind(Listen(kind="inet", host="127.0.0.1", port=0)) as other:
        here = f"inet:127.0.0.1:{other.getsockname()[1]}"
        line = refused(written(tmp_path, metrics={"listen": here}))
        assert line == f"postfix-mtasts: cannot listen on {here}: another process listens there"
