"""Where things are reached, each in one text: sockets, servers, files, people.

Each kind is a value with its pair of `parse_` and `build_`, where building gives
what parsing takes.  Texts that hold a path are parsed with the folder that a
relative path starts from, so the paths in the values are as absolute as that
folder is.  Every parser raises `ParseError`.

LIMITS: a Unix socket's path has at most 107 bytes (sockaddr_un of Linux).

BUGS: names of servers are not looked up here, so one that does not exist is
found out only when it is used.
"""

import ipaddress
import posixpath
import re
from dataclasses import dataclass
from typing import Literal

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.names import parse_domain

DNS_PORT = 53
SMTP_PORT = 25
MAX_SOCKET_PATH = 107  # bytes: 108 in sockaddr_un, the last of them NUL

_HOST_PORT = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*):([0-9]{1,5})")
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_MAX_LOCAL_PART = 64  # octets (RFC 5321 section 4.5.3.1.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """A socket to listen on; *host* and *port* belong to "inet", *path* to "unix"."""

    kind: Literal["inet", "unix"]
    host: str = ""  # an address, or a name to look up
    port: int = 0
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsServer:
    """A DNS server."""

    address: str  # IPv4 or IPv6, no brackets
    port: int = DNS_PORT


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSource:
    """Where TLS events come from; *path* belongs to "file" and "datagram"."""

    kind: Literal["auto", "journal", "file", "datagram"]
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailRoute:
    """How mail leaves; *host* and *port* belong to "smtp"."""

    kind: Literal["sendmail", "smtp"]
    host: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteUrl:
    """A SQLite database file."""

    path: str


def parse_listen(text: str, base: str) -> Listen:
    """Return the socket "inet:HOST:PORT", "inet:[IPv6]:PORT" or "unix:PATH"."""
    kind, _, rest = text.partition(":")
    if kind == "inet":
        host, port = _host_port(rest)
        return Listen(kind="inet", host=host, port=port)
    if kind == "unix":
        return Listen(kind="unix", path=_socket_path(rest, base))
    raise ParseError(f'"{text}" is neither "inet:HOST:PORT" nor "unix:PATH"')


def parse_inet(text: str) -> Listen:
    """Return the socket "inet:HOST:PORT" or "inet:[IPv6]:PORT"."""
    if not text.startswith("inet:"):
        raise ParseError(f'"{text}" is not "inet:HOST:PORT"')
    return parse_listen(text, "")


def build_listen(listen: Listen) -> str:
    """Return what `parse_listen` takes."""
    if listen.kind == "unix":
        return f"unix:{listen.path}"
    return f"inet:{_bracketed(listen.host)}:{listen.port}"


def parse_dns_server(text: str) -> DnsServer:
    """Return the server "ADDRESS", "IPv4:PORT" or "[IPv6]:PORT"."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if _is_address(bare):
        return DnsServer(address=bare)
    address, port = _host_port(text)
    if not _is_address(address):
        raise ParseError(f'"{address}" is no IP address')
    return DnsServer(address=address, port=port)


def build_dns_server(server: DnsServer) -> str:
    """Return what `parse_dns_server` takes."""
    if server.port == DNS_PORT:
        return server.address
    return f"{_bracketed(server.address)}:{server.port}"


def parse_event_source(text: str, base: str) -> EventSource:
    """Return the source "auto", "journal", "file:PATH" or "datagram:PATH"."""
    match text.partition(":"):
        case ("auto" | "journal" as kind, "", _):
            return EventSource(kind=kind)
        case ("file", ":", rest):
            return EventSource(kind="file", path=parse_path(rest, base))
        case ("datagram", ":", rest):
            return EventSource(kind="datagram", path=_socket_path(rest, base))
    raise ParseError(f'"{text}" is none of "auto", "journal", "file:PATH", "datagram:PATH"')


def build_event_source(source: EventSource) -> str:
    """Return what `parse_event_source` takes."""
    return f"{source.kind}:{source.path}" if source.path else source.kind


def parse_mail_route(text: str) -> MailRoute:
    """Return the route "sendmail", "smtp://HOST" or "smtp://HOST:PORT"."""
    if text == "sendmail":
        return MailRoute(kind="sendmail")
    scheme, _, rest = text.partition("://")
    if scheme != "smtp":
        raise ParseError(f'"{text}" is neither "sendmail" nor "smtp://HOST:PORT"')
    has_port = _HOST_PORT.fullmatch(rest)
    host, port = _host_port(rest if has_port else f"{rest}:{SMTP_PORT}")
    return MailRoute(kind="smtp", host=host, port=port)


def build_mail_route(route: MailRoute) -> str:
    """Return what `parse_mail_route` takes."""
    if route.kind == "sendmail":
        return "sendmail"
    return f"smtp://{_bracketed(route.host)}:{route.port}"


def parse_store_url(text: str, base: str) -> SqliteUrl:
    """Return the database "sqlite:///relative/path" or "sqlite:////absolute/path".

    The path is taken as it stands: nothing is percent-decoded, no options.
    """
    if text.startswith(("postgresql:", "postgres:")):
        raise ParseError("postgresql stores are not supported yet")
    path = text.removeprefix("sqlite:///")
    if path == text:
        raise ParseError(f'"{text}" is no store, such as "sqlite:////var/lib/x/state.db"')
    if path == ":memory:":
        raise ParseError("a store in memory would forget all policies at every restart")
    if "?" in path:
        raise ParseError("options behind the store's path are not supported")
    return SqliteUrl(path=parse_path(path, base))


def build_store_url(url: SqliteUrl) -> str:
    """Return what `parse_store_url` takes."""
    return f"sqlite:///{url.path}"


def parse_mailbox(text: str) -> str:
    """Return the mail address *text*, its domain as A-labels; a "mailto:" before it is let go.

    Quoted local parts and display names are refused.
    """
    local, at, domain = text.removeprefix("mailto:").rpartition("@")
    if not at:
        raise ParseError(f'"{text}" is no mail address', "RFC 5321 section 4.1.2")
    if not _LOCAL_PART.fullmatch(local) or len(local) > _MAX_LOCAL_PART:
        raise ParseError(f'"{text}" has an unfit local part', "RFC 5321 section 4.1.2")
    return f"{local}@{parse_domain(domain)}"


def parse_path(text: str, base: str) -> str:
    """Return the path *text*, which starts from the folder *base* unless it is absolute."""
    if not text or text.endswith("/"):
        raise ParseError(f'"{text}" names no file')
    return posixpath.join(base, text)


def _socket_path(text: str, base: str) -> str:
    path = parse_path(text, base)
    if len(path.encode()) > MAX_SOCKET_PATH:
        raise ParseError(f'"{path}" is longer than the {MAX_SOCKET_PATH} bytes of a socket\'s path')
    return path


def _host_port(text: str) -> tuple[str, int]:
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        raise ParseError(f'"{text}" is not HOST:PORT, an IPv6 address in brackets')
    port = int(match[2])
    if not 0 < port < 1 << 16:
        raise ParseError(f"port {port} is not from 1 to 65535")
    host = match[1]
    if host.startswith("["):
        host = host[1:-1]
        if ":" not in host or not _is_address(host):
            raise ParseError(f'"[{host}]" is no IPv6 address')
        return host, port
    return (host if _is_address(host) else parse_domain(host)), port


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
