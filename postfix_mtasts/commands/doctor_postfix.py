"""What `doctor` looks at for one instance of Postfix, with the eyes of Postfix's own user."""

import asyncio
import os
import pwd
import re
import shlex
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from postfix_mtasts.adapters.other_eyes import Eyes, NoEyesError, Orders, Sight, look
from postfix_mtasts.commands.configuration import SYSTEM_CONFIG
from postfix_mtasts.config import Config
from postfix_mtasts.core.diagnosis import Diagnosis
from postfix_mtasts.core.main_cf_diagnosis import Advice, Authorities, diagnose_main_cf
from postfix_mtasts.core.map_diagnosis import diagnose_map
from postfix_mtasts.core.map_line import SETTING, Probe, Reach, asked_tables
from postfix_mtasts.core.policy_tables import Table
from postfix_mtasts.core.postfix_setup import Setup
from postfix_mtasts.core.tlsrpt_diagnosis import Datagrams, diagnose_tlsrpt

QUEUE_LENGTH = Path("/proc/sys/net/unix/max_dgram_qlen")
_DEFAULT_LEVEL = re.compile(r"^ *#?default_level:", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """What Postfix's user sees: *sight* is `None` where it was not looked, for the reason *why*."""

    chroot: bool
    tables: Sequence[Table]
    sight: Sight | None = None
    why: str = ""


async def look_at_postfix(setup: Setup, config: Config, path: Path | None) -> Sequence[Diagnosis]:
    """Return what is to be said of *setup*; *path*: of the configuration, if it is a file."""
    views = await asyncio.to_thread(_views, setup, config)
    probes = [probe for view in views for probe in _probes(view)]
    advice = Advice(
        default_level=config.server.default_level,
        mend_level=_mend_level(path),
        authorities=_authorities(setup, views),
    )
    main_cf = diagnose_main_cf(setup, advice)
    maps = diagnose_map(setup, config.server.listen, probes)
    tlsrpt = diagnose_tlsrpt(setup, _datagrams(views)) if config.tlsrpt.enabled else ()
    return (main_cf[0], *maps, *main_cf[1:], *tlsrpt)


def _views(setup: Setup, config: Config) -> list[_View]:
    tables = asked_tables(setup, config.server.listen)
    chroots = {client.chroot for client in setup.clients if SETTING not in client.overrides}
    views = []
    for chroot in sorted(chroots or {False}, reverse=True):
        # Behind "proxy:" it is proxymap(8) that asks, which has no chroot.
        asked = [table for table in tables if not (chroot and table.proxied)]
        views.append(_view(setup, asked, chroot=chroot))
    if chroots == {True} and (proxied := [table for table in tables if table.proxied]):
        views.append(_view(setup, proxied, chroot=False))
    return views


def _view(setup: Setup, tables: Sequence[Table], *, chroot: bool) -> _View:
    if os.geteuid() != 0:
        return _View(chroot=chroot, tables=tables, why="that needs root")
    socket = setup.setting("smtp_tlsrpt_socket_name")
    folder = setup.setting("smtp_tls_CApath")
    orders = Orders(
        ask=tuple(table.listen for table in tables if table.listen is not None),
        write=(socket,) if socket else (),
        authorities=(folder,) if folder else (),
    )
    try:
        sight = look(_eyes(setup, chroot=chroot), orders)
    except (KeyError, NoEyesError) as error:
        return _View(chroot=chroot, tables=tables, why=str(error))
    return _View(chroot=chroot, tables=tables, sight=sight)


def _eyes(setup: Setup, *, chroot: bool) -> Eyes:
    owner = pwd.getpwnam(setup.setting("mail_owner"))
    return Eyes(
        uid=owner.pw_uid,
        gid=owner.pw_gid,
        groups=(owner.pw_gid,),
        root=setup.queue_directory if chroot else "/",
        folder="/" if chroot else setup.queue_directory,
    )


def _probes(view: _View) -> Iterator[Probe]:
    if view.sight is None:
        for table in view.tables:
            yield Probe(table=table.text, chroot=view.chroot, reach=Reach.UNTRIED, why=view.why)
        return
    for table, (reach, why) in zip(view.tables, view.sight.asked, strict=True):
        yield Probe(table=table.text, chroot=view.chroot, reach=reach, why=why)


def _authorities(setup: Setup, views: Sequence[_View]) -> Authorities:
    in_folder = [sight.authorities for view in views if (sight := view.sight) is not None]
    seen = min((sum(each) for each in in_folder), default=0)
    path = setup.setting("smtp_tls_CAfile")
    if not path:
        return Authorities(in_folder=seen)
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(path)
    except OSError as error:  # ssl.SSLError is one: no certificate in it
        return Authorities(in_file=None, in_folder=seen, why=error.strerror or str(error))
    return Authorities(in_file=context.cert_store_stats()["x509"], in_folder=seen)


def _datagrams(views: Sequence[_View]) -> Datagrams:
    try:
        queue = int(QUEUE_LENGTH.read_text(encoding="ascii"))
    except (OSError, ValueError):
        queue = None
    refusals = [why for view in views if view.sight is not None for why in view.sight.written]
    refused = next(filter(None, refusals), "" if refusals else None)
    return Datagrams(refused=refused, queue=queue)


def _mend_level(path: Path | None) -> str:
    """Return the line for a shell that tells the daemon of the level "{level}"."""
    try:
        has_line = path is not None and _DEFAULT_LEVEL.search(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        has_line = False
    if not has_line:
        return f"# in {path or SYSTEM_CONFIG}, under server: default_level: {{level}}"
    edit = r"s/^( *)#?default_level:.*/\1default_level: {level}/"
    words = shlex.join(["sed", "-i", "-E", edit, str(path)])
    return f"{words} && systemctl reload postfix-mtasts"
