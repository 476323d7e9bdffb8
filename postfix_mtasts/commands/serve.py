"""The verb `serve`: the policy daemon, in the foreground.

SIGHUP reads the configuration again; one that is bad is refused and logged, and
the old one stays in force.  Where to listen, for Prometheus too, the store and the
limits are those of the start.  SIGTERM finishes what is being answered and leaves
within five seconds.
"""

import argparse
import asyncio
import gc
import importlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from postfix_mtasts.adapters import listeners, process
from postfix_mtasts.adapters.fetcher import HttpsFetcher
from postfix_mtasts.adapters.findings_writer import FindingsWriter
from postfix_mtasts.adapters.history_writer import HistoryWriter
from postfix_mtasts.adapters.journal_log import log_handler
from postfix_mtasts.adapters.metrics_server import MetricsServer
from postfix_mtasts.adapters.store_sqlite import SqliteStore
from postfix_mtasts.adapters.systemd import Notifier
from postfix_mtasts.adapters.tlsrpt_store import FILE_NAME, SqliteTlsrptStore
from postfix_mtasts.commands.assembly import build_fetcher, build_plan, build_resolver
from postfix_mtasts.commands.configuration import Source
from postfix_mtasts.commands.health import Health
from postfix_mtasts.commands.watching import Watch, build_page, daemon_metrics, open_watch
from postfix_mtasts.config import Config
from postfix_mtasts.core.errors import ConfigError
from postfix_mtasts.services.activity import Activity
from postfix_mtasts.services.answer_cache import AnswerCache
from postfix_mtasts.services.answers import Answers, Plan
from postfix_mtasts.services.control import Control
from postfix_mtasts.services.lookups import Lookups
from postfix_mtasts.services.server import Server
from postfix_mtasts.services.upkeep import Upkeep

log = logging.getLogger("postfix_mtasts")

PATIENCE = 3.0
"""Seconds for requests under way when the daemon is told to leave."""

REFRESH_SECONDS = 60
DNSSEC_SECONDS = 60
STATUS_SECONDS = 10
RETIRE_SECONDS = 1
SPARE_DESCRIPTORS = 64  # the store, the log, the listening sockets and what Python opens


class _Leave(Exception):  # noqa: N818 - not an error: it ends the task group
    """The daemon was told to stop."""


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""
    source = Source.from_arguments(args)
    config = source.load()
    _start_log(config)
    watch = open_watch(config)
    daemon = _Daemon(config, source, watch)
    sockets = listeners.inherited(os.environ) or _bind(config, source)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(daemon.serve(sockets))
    return 0


def _start_log(config: Config) -> None:
    logging.basicConfig(handlers=[log_handler()], level=config.logging.level.upper(), force=True)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's event loop where it is installed, which doubles the speed."""
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        log.info("uvloop is not installed: answering at half the speed")
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _bind(config: Config, source: Source) -> list[socket.socket]:
    """Bind what the configuration names.

    On built-in defaults, as from a checkout, one of the sockets is enough: the
    folder in Postfix's queue directory is made by the package.
    """
    bound = []
    for listen in config.server.listen:
        try:
            bound.append(listeners.bind(listen))
        except ConfigError as error:
            if source.path is not None:
                raise
            log.warning("%s", error)
    if not bound:
        raise ConfigError("none of the default sockets can be listened on")
    return bound


class _Daemon:
    """Everything that lives as long as the process does.

    Raises ConfigError where *config* names what cannot be used.
    """

    def __init__(self, config: Config, source: Source, watch: Watch | None) -> None:
        self._config = config
        self._source = source
        self._watch = watch
        self._activity = Activity()
        self._notifier = Notifier()
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        state = Path(config.store.url.path)
        self._store = SqliteStore(state, clock=time.time, max_domains=config.limits.cached_domains)
        counts = state.with_name(FILE_NAME)
        self._findings = FindingsWriter(SqliteTlsrptStore(counts), history=HistoryWriter(counts))
        self._fetcher = build_fetcher(config)
        self._resolver = build_resolver(config, self._activity)
        self._health: Health
        self._answers: Answers

    async def serve(self, sockets: Sequence[socket.socket]) -> None:
        """Answer until told to stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        try:
            async with asyncio.TaskGroup() as group:
                await self._serve(sockets, group)
        except* _Leave:
            pass
        finally:
            await self._fetcher.close()
            await self._store.close()
            await asyncio.to_thread(self._findings.close)
        log.info("stopped")

    async def _serve(self, sockets: Sequence[socket.socket], group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        ticks = loop.time
        cache = AnswerCache(limit=self._config.limits.cached_domains)
        plan = self._plan(self._config, group)
        self._answers = Answers(
            plan=plan, cache=cache, clock=time.time, ticks=ticks, activity=self._activity
        )
        state = Path(self._config.store.url.path)
        self._health = Health(answers=self._answers, store=self._store, state=state, ticks=ticks)
        control = Control(store=self._store, answers=self._answers, own_uid=os.getuid())
        server = Server(
            answers=self._answers,
            control=control,
            group=group,
            limit=self._connection_limit(),
            peer_uid=listeners.peer_uid,
        )
        upkeep = Upkeep(answers=self._answers, store=self._store, clock=time.time, ticks=ticks)
        accepting = [
            group.create_task(listeners.accept(listener, server.connection)) for listener in sockets
        ]
        metrics = self._tell_metrics(server, group, accepting)
        group.create_task(self._keep_dnssec())
        group.create_task(self._keep_time(upkeep, group))
        group.create_task(self._keep_policies(upkeep))
        group.create_task(self._keep_config(group))
        gc.collect()
        gc.freeze()  # what is there now stays: the collector need not look at it again
        self._warn_without_authorities()
        log.info("ready on %s", ", ".join(_name(listener) for listener in sockets))
        self._notifier.ready(self._health.status())
        await self._stop.wait()
        self._notifier.stopping()
        for task in accepting:
            task.cancel()
        if metrics is not None:
            metrics.close()
        await server.close(PATIENCE)
        raise _Leave

    def _tell_metrics(
        self, server: Server, group: asyncio.TaskGroup, accepting: list[asyncio.Task[NoReturn]]
    ) -> MetricsServer | None:
        if self._watch is None:
            return None
        page = build_page(
            self._watch,
            self._config,
            counted=lambda: daemon_metrics(
                self._answers, server, self._health, trusts_nobody=self._fetcher.trusts_nobody
            ),
        )
        metrics = MetricsServer(page, content_type=page.content_type, group=group)
        listener = self._watch.listener
        accepting.append(group.create_task(listeners.accept(listener, metrics.connection)))
        log.info("metrics on http://%s/metrics", _name(listener).partition(":")[2])
        return metrics

    def _connection_limit(self) -> int:
        limits = self._config.limits
        files = process.raise_descriptor_limit()
        room = files - limits.queries - 2 * limits.fetches - SPARE_DESCRIPTORS
        if room < limits.connections:
            log.warning("limits.connections is %d for lack of file descriptors", max(room, 1))
        return max(1, min(limits.connections, room))

    def _plan(self, config: Config, group: asyncio.TaskGroup) -> Plan:
        return build_plan(
            config,
            resolver=self._resolver,
            fetcher=self._fetcher,
            store=self._store,
            group=group,
            findings=self._findings,
            activity=self._activity,
        )

    def _adopt(self, config: Config, group: asyncio.TaskGroup) -> None:
        """Answer by *config* from now on; raises ConfigError and changes nothing if it is bad."""
        fetcher, resolver = build_fetcher(config), build_resolver(config, self._activity)
        group.create_task(_retire(self._answers.plan.lookups, self._fetcher))
        self._fetcher, self._resolver, self._config = fetcher, resolver, config
        self._health.dnssec = None
        self._answers.reload(self._plan(config, group))
        self._warn_without_authorities()

    def _warn_without_authorities(self) -> None:
        if self._fetcher.trusts_nobody:
            log.warning("no certificate authority is trusted: no MTA-STS policy can be fetched")

    async def _keep_dnssec(self) -> None:
        while True:
            await self._test_dnssec()
            await asyncio.sleep(DNSSEC_SECONDS)

    async def _test_dnssec(self) -> None:
        resolver = self._resolver
        result = await resolver.validates()
        if resolver is self._resolver:  # or else reloaded: the new one is tested by itself
            self._health.tested(result)
            self._notifier.status(self._health.status())

    async def _keep_time(self, upkeep: Upkeep, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            upkeep.tick(group)
            self._notifier.alive()
            if int(loop.time()) % STATUS_SECONDS == 0:
                self._notifier.status(self._health.status())
            await asyncio.sleep(1 - loop.time() % 1)

    async def _keep_policies(self, upkeep: Upkeep) -> None:
        while True:
            await self._health.count_policies()
            await asyncio.sleep(REFRESH_SECONDS)
            await upkeep.refresh_due()

    async def _keep_config(self, group: asyncio.TaskGroup) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            self._notifier.reloading()
            await self._read_again(group)
            self._notifier.ready(self._health.status())

    async def _read_again(self, group: asyncio.TaskGroup) -> None:
        try:
            # A file of thousands of policies takes seconds to parse.
            config = await asyncio.to_thread(self._source.load)
            self._adopt(self._with_fixed_parts(config), group)
        except ConfigError as error:
            log.error("the new configuration is refused, the old one stays: %s", error)  # noqa: TRY400 - the operator's mistake, no traceback
            return
        logging.getLogger().setLevel(config.logging.level.upper())
        group.create_task(self._test_dnssec())
        log.info("configuration read again")

    def _with_fixed_parts(self, config: Config) -> Config:
        """Return *config* with those parts of the old one that only a start can change."""
        old = self._config
        server = replace(config.server, listen=old.server.listen)
        fixed = replace(
            config, server=server, store=old.store, limits=old.limits, metrics=old.metrics
        )
        if fixed != config:
            log.warning("changes of server.listen, metrics, store and limits wait for a restart")
        return fixed


async def _retire(lookups: Lookups, fetcher: HttpsFetcher) -> None:
    """Close *fetcher* once the last of *lookups*, begun before a reload, is over."""
    while lookups.under_way():  # noqa: ASYNC110 - rare, and nobody waits for it
        await asyncio.sleep(RETIRE_SECONDS)
    await fetcher.close()


def _name(listener: socket.socket) -> str:
    address = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{address}"
    return f"inet:{address[0]}:{address[1]}"
