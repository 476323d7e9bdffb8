"""Postfix's settings, by way of postconf(1): read, and changed as only postconf does.

Each instance (postmulti(1)) is a configuration folder.  The first is the default
one, or that of the environment's MAIL_CONFIG; those of multi_instance_directories
follow, if they are enabled.

Postfix 3.10 and later, asked within two seconds of an edit, forgets MAIL_CONFIG and
"-c" when it tells of config_directory, and all versions wait until they have passed.

LIMITS: `command.MAX_OUTPUT` of each output; `MAX_INSTANCES`.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from postfix_mtasts.adapters.command import CommandFailedError, run, run_well
from postfix_mtasts.core.diagnosis import Change
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.postfix_setup import Setup, parse_clients, parse_settings, parse_version

MAX_INSTANCES = 100
CHECK_SECONDS = 60.0  # "postfix check" looks at each folder of the queue

SETTINGS = (
    *("mail_version", "queue_directory", "mail_owner", "compatibility_level", "meta_directory"),
    *("smtp_tls_policy_maps", "smtp_tls_security_level", "smtp_tls_loglevel"),
    *("smtp_tls_CAfile", "smtp_tls_CApath", "tls_append_default_CA"),
    *("smtp_dns_support_level", "smtp_host_lookup", "smtp_use_tls", "smtp_enforce_tls"),
    *("smtp_tls_per_site", "relayhost", "transport_maps", "sender_dependent_relayhost_maps"),
    *("sender_dependent_default_transport_maps", "maillog_file"),
    *("smtp_tlsrpt_enable", "smtp_tlsrpt_socket_name"),
    *("mydomain", "requiretls_enable", "smtp_requiretls_policy"),
)
_MAX_MAKEDEFS = 200_000  # octets of makedefs.out


def find_folders() -> tuple[str, ...]:
    """Return the configuration folder of each instance; raises `CommandFailedError`."""
    default = os.environ.get("MAIL_CONFIG") or _default_folder()
    others = _value(default, "multi_instance_directories").replace(",", " ").split()
    enabled = [each for each in others if _value(each, "multi_instance_enable") == "yes"]
    return tuple(dict.fromkeys([default, *enabled]))[:MAX_INSTANCES]


def read_setup(folder: str) -> Setup:
    """Return what there is to know of the instance of *folder*; raises `CommandFailedError`."""
    settings = parse_settings(_asked(folder, "-x", *SETTINGS))
    compatibility = settings.get("compatibility_level", "")
    fields = _asked(folder, "-F", "*/unix/chroot", "*/unix/command")
    setup = Setup(
        folder=folder,
        version=settings.get("mail_version", ""),
        settings=settings,
        written=parse_settings(_asked(folder, "-n")),
        clients=parse_clients(fields, _asked(folder, "-P", "-x"), compatibility),
        has_tlsrpt=_has_tlsrpt(settings.get("meta_directory", "")),
    )
    try:
        parse_version(setup.version)
    except ParseError as error:
        raise CommandFailedError(f"postconf: {error}") from None
    return setup


def edit(folder: str, changes: Sequence[Change]) -> None:
    """Make *changes* in main.cf; raises `CommandFailedError`."""
    settings = [f"{each.name} = {each.value}" for each in changes if each.value is not None]
    removed = [each.name for each in changes if each.value is None]
    if settings:
        _asked(folder, "-e", *settings)
    if removed:
        _asked(folder, "-X", *removed)


def check(folder: str) -> None:
    """Let Postfix look its configuration over; raises `CommandFailedError` where it is bad."""
    run_well(["postfix", "-c", folder, "check"], seconds=CHECK_SECONDS)


def reload(folder: str) -> bool:
    """Let Postfix read its configuration anew; return whether it runs at all.

    Raises `CommandFailedError`.
    """
    if run(["postfix", "-c", folder, "status"]).status:
        return False
    run_well(["postfix", "-c", folder, "reload"])
    return True


def _default_folder() -> str:
    return run_well(["postconf", "-h", "config_directory"]).strip()


def _asked(folder: str, *words: str) -> str:
    return run_well(["postconf", "-c", folder, *words])


def _value(folder: str, name: str) -> str:
    return _asked(folder, "-x", "-h", name).strip()


def _has_tlsrpt(meta_directory: str) -> bool | None:
    """Return whether this Postfix was built with TLSRPT, `None` where that is not written down."""
    try:
        with Path(meta_directory, "makedefs.out").open("rb") as file:
            return b"-DUSE_TLSRPT" in file.read(_MAX_MAKEDEFS)
    except OSError:
        return None
