"""The configuration: its keys, their defaults, and the YAML that says them.

Every key is one field of one dataclass below, with its form and its default;
there is no other list of them.  `contrib/postfix/config.yaml` explains each to
the operator and is held to this module by a test.

All times are seconds.  All paths are as absolute as the folder of the file
that named them.

BUGS: a path is neither opened nor looked for here, so one that does not exist
is found out by the part that uses it, and by `doctor`.
"""

# The defaults of fields are made by `key`, which knows only immutable values.
# ruff: noqa: RUF009

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import yaml

from postfix_mtasts.core.config_grammar import (
    BOOLEAN,
    Form,
    choice,
    duration,
    integer,
    key,
    listing,
    one_of,
    optional,
    required,
    section,
    text,
    text_at,
)
from postfix_mtasts.core.config_nodes import MAX_CHARACTERS, parse_yaml
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
from postfix_mtasts.core.errors import ConfigError, ParseError
from postfix_mtasts.core.names import parse_domain
from postfix_mtasts.core.override_config import OVERRIDE
from postfix_mtasts.core.overrides import Override
from postfix_mtasts.core.postfix_policy import Level

_MINUTE = 60
_HOUR = 3600
_DAY = 86400

TrustAd: TypeAlias = Literal["auto", "always", "never"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]

_SELECTOR = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63}){0,9}")
_MAX_ORGANIZATION = 200  # characters: it goes into a header and a JSON string of each report


def _parse_selector(word: str) -> str:
    if not _SELECTOR.fullmatch(word):
        raise ParseError(f'"{word}" is no selector', "RFC 6376 section 3.1")
    return word


def _parse_organization(words: str) -> str:
    if not words.strip() or len(words) > _MAX_ORGANIZATION:
        raise ParseError(f"must have from 1 to {_MAX_ORGANIZATION} characters")
    return words


def _parse_suppressed(word: str) -> str:
    """Return a domain, or the rua of a TLSRPT record (RFC 8460 section 3)."""
    if word.startswith("mailto:"):
        return f"mailto:{parse_mailbox(word)}"
    if word.startswith("https://") and " " not in word:
        return word
    return parse_domain(word)


_PATH: Form[str] = text_at(parse_path)
_LISTEN = text_at(parse_listen, build_listen)
_MAILBOX = text(parse_mailbox)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The policy daemon."""

    listen: tuple[Listen, ...] = key(
        listing(_LISTEN, example='["inet:127.0.0.1:8461"]'),
        (
            Listen(kind="inet", host="127.0.0.1", port=8461),
            Listen(kind="unix", path="/var/spool/postfix/postfix-mtasts/policy.sock"),
        ),
    )
    default_level: Level = key(one_of(Level), Level.MAY)  # main.cf's smtp_tls_security_level


@dataclass(frozen=True, slots=True, kw_only=True)
class Dns:
    """Whom to ask for DNS, and whose word on DNSSEC to take."""

    servers: tuple[DnsServer, ...] = key(  # none: those of resolv.conf
        listing(text(parse_dns_server, build_dns_server), example='["127.0.0.1"]'), ()
    )
    trust_ad: TrustAd = key(choice({word: word for word in get_args(TrustAd)}), "auto")
    timeout: float = key(duration(at_least=0.1, at_most=_MINUTE), 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MtaSts:
    """Fetching of policies (RFC 8461 section 3.3)."""

    ca_file: str | None = key(optional(_PATH), None)  # `None`: the system's store
    timeout: float = key(duration(at_least=0.1, at_most=5 * _MINUTE), 60.0)
    refresh: float = key(duration(at_least=1, at_most=30 * _DAY), 24.0 * _HOUR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dane:
    """DANE (RFC 7672)."""

    enabled: bool = key(BOOLEAN, default=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Memory that outlives the process."""

    url: SqliteUrl = key(
        text_at(parse_store_url, build_store_url),
        SqliteUrl(path="/var/lib/postfix-mtasts/state.db"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Ways by which reports leave (RFC 8460 section 5)."""

    mail: MailRoute = key(text(parse_mail_route, build_mail_route), MailRoute(kind="sendmail"))
    https: bool = key(BOOLEAN, default=True)
    private_addresses: bool = key(BOOLEAN, default=False)  # of HTTPS hosts


@dataclass(frozen=True, slots=True, kw_only=True)
class Dkim:
    """The key that signs report mail (RFC 8460 section 3)."""

    domain: str = required(text(parse_domain))
    selector: str = required(text(_parse_selector))
    key_file: str = required(_PATH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tlsrpt:
    """TLS reports (RFC 8460)."""

    enabled: bool = key(BOOLEAN, default=True)
    organization: str | None = key(optional(text(_parse_organization)), None)
    contact: str | None = key(optional(_MAILBOX), None)  # its domain is the submitter
    sender: str | None = key(optional(_MAILBOX), None)  # From and envelope sender
    sources: tuple[EventSource, ...] = key(
        listing(text_at(parse_event_source, build_event_source), example='["auto"]'),
        (EventSource(kind="auto"),),
    )
    delivery: Delivery = key(section(Delivery), Delivery())
    dkim: Dkim | None = key(optional(section(Dkim)), None)  # `None`: the local MTA signs
    only_failures: bool = key(BOOLEAN, default=False)
    suppress: tuple[str, ...] = key(listing(text(_parse_suppressed), example='["example.com"]'), ())
    retention: float = key(duration(at_least=_DAY, at_most=3650 * _DAY), 30.0 * _DAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Numbers for Prometheus."""

    listen: Listen | None = key(optional(text(parse_inet, build_listen)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logging:
    """The log."""

    level: LogLevel = key(choice({word: word for word in get_args(LogLevel)}), "info")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what strangers can make us hold at one time."""

    cached_domains: int = key(integer(at_most=100_000_000), 100_000)
    connections: int = key(integer(at_most=1_000_000), 10_000)
    lookups: int = key(integer(at_most=1_000_000), 1000)  # fresh ones, at one time
    queries: int = key(integer(at_most=1_000_000), 2000)  # DNS, at one time
    fetches: int = key(integer(at_most=10_000), 32)  # HTTPS, at one time


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All that the operator can say; `Config()` is what holds where nothing is said."""

    server: Server = key(section(Server), Server())
    dns: Dns = key(section(Dns), Dns())
    mta_sts: MtaSts = key(section(MtaSts), MtaSts())
    dane: Dane = key(section(Dane), Dane())
    policies: tuple[Override, ...] = key(  # the first that applies wins
        listing(OVERRIDE, example='[{domain: "example.com", minimum: encrypt}]'), ()
    )
    store: Store = key(section(Store), Store())
    tlsrpt: Tlsrpt = key(section(Tlsrpt), Tlsrpt())
    metrics: Metrics = key(section(Metrics), Metrics())
    logging: Logging = key(section(Logging), Logging())
    limits: Limits = key(section(Limits), Limits())


CONFIG: Form[Config] = section(Config)


def default_config(state_folder: Path | str) -> Config:
    """Return what holds without a file, the state kept in *state_folder*."""
    url = SqliteUrl(path=os.path.join(state_folder, "state.db"))  # noqa: PTH118 - paths here are str
    return Config(store=Store(url=url))


def parse_config(source: str, *, base: Path | str, name: str = "config.yaml") -> Config:
    """Return what the YAML *source* says; nothing at all is all defaults.

    *base*: the folder that relative paths start from, the config file's own;
    *name*: what the errors call the file.  Raises `ConfigError`, each fault in a
    line of its own.
    """
    root = parse_yaml(source, name=name, base=os.fspath(base))
    return Config() if root is None else CONFIG.read(root)


def load_config(path: Path | str) -> Config:
    """Return what the file at *path* says.

    Raises `ConfigError`, also where the file cannot be read or is no UTF-8.
    """
    file = Path(path).absolute()
    try:
        with file.open("rb") as stream:
            octets = stream.read(4 * MAX_CHARACTERS)  # no character of UTF-8 is longer
        return parse_config(octets.decode(), base=file.parent, name=os.fspath(path))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8") from error


def build_config(config: Config) -> str:
    """Return the YAML of all that is in force, which `parse_config` reads back as *config*."""
    return yaml.safe_dump(CONFIG.build(config), sort_keys=False, allow_unicode=True)
