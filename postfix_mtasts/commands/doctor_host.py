"""What `doctor` looks at beside Postfix: DNS, authorities, the clock, the daemon, its state."""

import asyncio
import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path

from postfix_mtasts import __version__
from postfix_mtasts.adapters import socketmap_client, trust
from postfix_mtasts.adapters.resolv_conf import MAX_BYTES, parse_resolv_conf
from postfix_mtasts.adapters.resolver import RESOLV_CONF
from postfix_mtasts.adapters.state_files import examine
from postfix_mtasts.adapters.system_clock import read_time
from postfix_mtasts.adapters.systemd_units import find_unit
from postfix_mtasts.adapters.tlsrpt_store import FILE_NAME
from postfix_mtasts.commands.assembly import build_resolver
from postfix_mtasts.config import Config
from postfix_mtasts.core.daemon_diagnosis import (
    UNIT,
    Daemon,
    diagnose_daemon,
    diagnose_databases,
)
from postfix_mtasts.core.diagnosis import Diagnosis
from postfix_mtasts.core.endpoints import Listen
from postfix_mtasts.core.host_diagnosis import (
    ChrootDns,
    Resolving,
    diagnose_authorities,
    diagnose_chroot_dns,
    diagnose_resolver,
    diagnose_time,
)
from postfix_mtasts.core.postfix_setup import Setup
from postfix_mtasts.core.socketmap import Reply, Status
from postfix_mtasts.services.doctor import try_bogus

_ASK_SECONDS = 5.0
_ONLY_ROOT = "only for root"  # of what `services.control` tells everybody else


async def look_at_host(config: Config, setups: Sequence[Setup]) -> Sequence[Diagnosis]:
    """Return what is to be said of DNS, the authorities and the clock."""
    resolver = build_resolver(config)
    test, bogus = await asyncio.gather(resolver.validates(), try_bogus(resolver))
    system = _servers(RESOLV_CONF) or ()
    asked = [server.address for server in config.dns.servers] or system
    local = all(ipaddress.ip_address(each.partition("%")[0]).is_loopback for each in asked)
    resolving = Resolving(validates=test.ok, why=test.why, bogus=bogus, local=local)
    return (
        diagnose_resolver(resolving),
        *diagnose_chroot_dns([_chroot(setup, system) for setup in setups if setup.has_chroots]),
        diagnose_authorities(_trust_problem(config.mta_sts.ca_file)),
        diagnose_time(read_time()),
    )


async def look_at_state(config: Config) -> Sequence[Diagnosis]:
    """Return what is to be said of the daemon and of what it has stored."""
    state = Path(config.store.url.path)
    daemon, *found = await asyncio.gather(
        asyncio.to_thread(_daemon, config.server.listen),
        asyncio.to_thread(examine, state),
        asyncio.to_thread(examine, state.with_name(FILE_NAME)),
    )
    databases = [database for database in found if database is not None]
    return (diagnose_daemon(daemon, __version__), *diagnose_databases(databases))


def _chroot(setup: Setup, system: tuple[str, ...]) -> ChrootDns:
    path = Path(setup.queue_directory, "etc/resolv.conf")
    return ChrootDns(instance=setup.folder, path=str(path), servers=_servers(path), system=system)


def _servers(path: Path) -> tuple[str, ...] | None:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES).decode("ascii", "replace")
    except OSError:
        return None
    return tuple(server.host for server in parse_resolv_conf(text))


def _trust_problem(ca_file: str | None) -> str:
    try:
        context = trust.client_context(ca_file)
    except OSError as error:
        return f"mta_sts.ca_file {ca_file}: {error.strerror or error}"
    nobody = trust.trusts_nobody(context, ca_file)
    return "no certificate authority is trusted" if nobody else ""


def _daemon(listens: Sequence[Listen]) -> Daemon:
    """Return how the daemon answers; only over a Unix socket does it tell of itself."""
    ordered = sorted(listens, key=lambda listen: listen.kind != "unix")
    try:
        reply = socketmap_client.ask(ordered, "control", b"version", _ASK_SECONDS)
    except socketmap_client.DaemonError as error:
        return Daemon(failure=f"it does not answer ({error.why})")
    unit = find_unit(f"{UNIT}.service")
    status = "" if unit is None else unit.status
    if reply.status is Status.PERM and _ONLY_ROOT in reply.text:
        return Daemon(withheld=True, status=status)
    return Daemon(version=_version(reply), status=status)


def _version(reply: Reply) -> str:
    try:
        version = json.loads(reply.text)["version"] if reply.status is Status.OK else ""
    except (ValueError, KeyError, TypeError, RecursionError):  # the last for "[[[…"
        return ""
    return version[:40] if isinstance(version, str) else ""
