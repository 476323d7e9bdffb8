"""Where the wings are joined: adapters built from the configuration, handed to services."""

import asyncio
import random
import time

from postfix_mtasts.adapters.fetcher import HttpsFetcher
from postfix_mtasts.adapters.resolver import DnsResolver, DnsSettings
from postfix_mtasts.config import Config
from postfix_mtasts.core.decision import Settings
from postfix_mtasts.core.endpoints import build_dns_server
from postfix_mtasts.core.errors import ConfigError
from postfix_mtasts.ports import Findings, Store
from postfix_mtasts.services.activity import Activity
from postfix_mtasts.services.answers import Plan
from postfix_mtasts.services.lookups import Lookups
from postfix_mtasts.services.policies import Policies


def build_settings(config: Config) -> Settings:
    """Return what the operator has to say of decisions."""
    return Settings(
        default_level=config.server.default_level,
        overrides=config.policies,
        dane=config.dane.enabled,
    )


def build_resolver(config: Config, activity: Activity | None = None) -> DnsResolver:
    """Return the resolver that *config* describes; *activity* counts its questions."""
    return DnsResolver(
        DnsSettings(
            servers=tuple(map(build_dns_server, config.dns.servers)),
            trust_ad=config.dns.trust_ad,
            timeout=config.dns.timeout,
            max_concurrent=config.limits.queries,
        ),
        meters=None if activity is None else activity.dns,
    )


def build_fetcher(config: Config) -> HttpsFetcher:
    """Return the fetcher that *config* describes.

    Raises ConfigError where the certificates of the authorities cannot be read.
    """
    ca_file = config.mta_sts.ca_file
    try:
        return HttpsFetcher(ca_file, config.mta_sts.timeout, config.limits.fetches)
    except OSError as error:
        raise ConfigError(f"mta_sts.ca_file {ca_file}: {error.strerror or error}") from None


def build_plan(
    config: Config,
    *,
    resolver: DnsResolver,
    fetcher: HttpsFetcher,
    store: Store,
    group: asyncio.TaskGroup,
    findings: Findings | None = None,
    activity: Activity | None = None,
) -> Plan:
    """Return all that answers by *config*; its tasks live in *group*.

    *findings*: where to leave what is wrong, if *config* wants reports.
    """
    policies = Policies(
        resolver=resolver, fetcher=fetcher, clock=time.time, group=group, activity=activity
    )
    lookups = Lookups(
        resolver=resolver,
        policies=policies,
        store=store,
        clock=time.time,
        chance=random.SystemRandom().random,
        group=group,
        refresh_interval=config.mta_sts.refresh,
        dane=config.dane.enabled,
        concurrent=config.limits.lookups,
    )
    return Plan(
        settings=build_settings(config),
        lookups=lookups,
        resolver=resolver,
        findings=findings if config.tlsrpt.enabled else None,
    )
