"""A Postfix that is as it should be, to be spoilt by tests."""

from collections.abc import Mapping
from typing import Any

from postfix_mtasts.core.endpoints import Listen
from postfix_mtasts.core.postfix_setup import Client, Setup

ETC = "/etc/postfix"
QUEUE = "/var/spool/postfix"
INET = Listen(kind="inet", host="127.0.0.1", port=8461)
UNIX = Listen(kind="unix", path=f"{QUEUE}/postfix-mtasts/policy.sock")
LISTENS = (INET, UNIX)
LINE = "socketmap:unix:postfix-mtasts/policy.sock:policy"
LINE_TLSRPT = f"{LINE}-tlsrpt"

GOOD = {
    "queue_directory": QUEUE,
    "smtp_tls_policy_maps": LINE,
    "smtp_tls_security_level": "may",
    "smtp_tls_loglevel": "1",
    "smtp_tls_CAfile": "/etc/ssl/certs/ca-certificates.crt",
    "smtp_dns_support_level": "dnssec",
    "smtp_host_lookup": "dns",
}


def client(name: str = "smtp", *, chroot: bool = True, **overrides: str) -> Client:
    return Client(name=name, chroot=chroot, overrides=overrides)


def setup(
    version: str = "3.7.11",
    *,
    clients: tuple[Client, ...] = (client(),),
    written: Mapping[str, str] | None = None,
    has_tlsrpt: bool | None = None,
    **settings: Any,
) -> Setup:
    """Return a good Postfix, but for *settings*; *written* where main.cf spells them otherwise."""
    effective = GOOD | settings
    return Setup(
        folder=ETC,
        version=version,
        settings=effective,
        written=effective | dict(written or {}),
        clients=clients,
        has_tlsrpt=has_tlsrpt,
    )
