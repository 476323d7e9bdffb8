"""Whether main.cf gives the policy daemon's answers what they rest on.

::

    smtp_tls_CAfile            without authorities every "secure" answer defers the mail
    smtp_dns_support_level     without "dnssec" Postfix takes "dane" for "may"
    smtp_tls_security_level    for destinations of which nothing is known; the daemon must
                               know of it, so as never to answer more weakly
    smtp_tls_loglevel          the log is where the reports come from

Postfix loads the file of smtp_tls_CAfile before it enters the chroot, and looks into
the folder of smtp_tls_CApath from within.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from postfix_mtasts.core.diagnosis import Change, Diagnosis, mended_by, note, ok, warning, wrong
from postfix_mtasts.core.map_line import SETTING as MAPS
from postfix_mtasts.core.postfix_policy import Level
from postfix_mtasts.core.postfix_setup import Setup

OLDEST = (3, 4)
CA_FILE = "/etc/ssl/certs/ca-certificates.crt"

REQUIRETLS_POLICY = (  # the default without $mydomain
    "inline:{ { localhost = opportunistic } },"
    " cidr:{ { 0.0.0.0/0 opportunistic }, { ::/0 opportunistic } }, enforce"
)

_PRIVATE = ("localdomain", "local", "internal")  # nobody's top-level domains
_OLD_SETTINGS = ("smtp_use_tls", "smtp_enforce_tls", "smtp_tls_per_site")
_ROUTES = (
    *("relayhost", "transport_maps", "sender_dependent_relayhost_maps"),
    "sender_dependent_default_transport_maps",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorities:
    """What Postfix's authorities come to.

    *in_file*: certificates in smtp_tls_CAfile, `None` where it cannot be read, for
    the reason *why*.  *in_folder*: of smtp_tls_CApath, as seen from where Postfix
    looks into it.
    """

    in_file: int | None = 0
    in_folder: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What the settings are held against.

    *default_level*: what the daemon takes for smtp_tls_security_level; *mend_level*:
    a line for a shell that tells it of another, with "{level}" in it.
    """

    default_level: Level
    mend_level: str
    authorities: Authorities


def diagnose_main_cf(setup: Setup, advice: Advice) -> tuple[Diagnosis, ...]:
    """Return what is to be said of the settings of *setup*."""
    found = (
        _version(setup),
        _level(setup, advice),
        _authorities(setup, advice.authorities),
        _dnssec(setup),
        _log_level(setup),
        *_old_settings(setup),
        *_own_levels(setup),
        *_requiretls(setup),
        *_routes(setup),
    )
    return tuple(replace(each, instance=setup.folder) for each in found)


def level_of(setup: Setup) -> str:
    """Return the level for destinations of which nothing is known."""
    if level := setup.setting("smtp_tls_security_level"):
        return level
    if setup.setting("smtp_enforce_tls") == "yes":
        return Level.ENCRYPT.value
    return Level.MAY.value if setup.setting("smtp_use_tls") == "yes" else Level.NONE.value


def _version(setup: Setup) -> Diagnosis:
    if setup.release < OLDEST:
        text = f"{setup.version} is too old: 3.4 is the first that asks as it must"
        return wrong("Postfix", text, "# upgrade the system")
    return ok("Postfix", f"{setup.version}, {setup.folder}")


def _level(setup: Setup, advice: Advice) -> Diagnosis:
    name, told = "smtp_tls_security_level", advice.default_level
    level = level_of(setup)
    wanted = Level.MAY if told is Level.NONE else told
    if level == Level.NONE.value:
        text = f"{name} is not set: no TLS where no policy asks for it"
        change = Change(name=name, value=wanted.value)
        return mended_by(wrong("TLS level", text, ""), setup.folder, change)
    if level not in {known.value for known in Level}:
        change = Change(name=name, value=wanted.value)
        text = f"{name} = {level} is no level: mail is deferred"
        return mended_by(wrong("TLS level", text, ""), setup.folder, change)
    if level != told.value:
        text = f"{level} in main.cf, but the daemon was told {told.value} (server.default_level)"
        return warning("TLS level", text, advice.mend_level.replace("{level}", level))
    return ok("TLS level", f"{level} where no policy asks for more")


def _authorities(setup: Setup, authorities: Authorities) -> Diagnosis:
    path, folder = setup.setting("smtp_tls_CAfile"), setup.setting("smtp_tls_CApath")
    if path and authorities.in_file:
        return ok("authorities", f"{authorities.in_file} in {path}")
    if path:
        text = f"smtp_tls_CAfile = {path}: {authorities.why or 'no certificate in it'}"
    elif folder and authorities.in_folder:
        return ok("authorities", f"{authorities.in_folder} in {folder}, as Postfix sees it")
    elif setup.setting("tls_append_default_CA") == "yes":
        return ok("authorities", "those of OpenSSL (tls_append_default_CA)")
    elif folder:
        text = f"smtp_tls_CApath = {folder}: no certificate in it where Postfix looks"
    else:
        text = "smtp_tls_CAfile is not set: mail to every domain with MTA-STS is deferred"
    change = Change(name="smtp_tls_CAfile", value=CA_FILE)
    if path == CA_FILE:
        return wrong("authorities", text, "apt-get install --reinstall ca-certificates")
    return mended_by(wrong("authorities", text, ""), setup.folder, change)


def _dnssec(setup: Setup) -> Diagnosis:
    name, lookup = "smtp_dns_support_level", setup.setting("smtp_host_lookup")
    changes = []
    if setup.setting(name) != "dnssec":
        changes.append(Change(name=name, value="dnssec"))
    if "dns" not in lookup.replace(",", " ").split():
        changes.append(Change(name="smtp_host_lookup", value="dns"))
    if changes:
        asked = " and ".join(f"{change.name} = {change.value}" for change in changes)
        text = f"DANE does not work without {asked}"
        return mended_by(wrong("DANE", text, ""), setup.folder, *changes)
    return ok("DANE", f"{name} = dnssec")


def _log_level(setup: Setup) -> Diagnosis:
    name = "smtp_tls_loglevel"
    words = setup.setting(name).replace(",", " ").split()
    if set(words) <= {"0", "none"}:
        text = f"{name} = 0: the log does not tell how mail was protected, nor do reports"
        change = Change(name=name, value="1")
        return mended_by(warning("TLS log", text, ""), setup.folder, change)
    return ok("TLS log", f"{name} = {' '.join(words)}")


def _old_settings(setup: Setup) -> Sequence[Diagnosis]:
    there = [name for name in _OLD_SETTINGS if setup.written.get(name)]
    if not there:
        return ()
    level = setup.setting("smtp_tls_security_level")
    passed_over = ", and passed over" if level else ""
    text = f"of an older Postfix{passed_over}: {', '.join(there)}"
    kept = () if level else (Change(name="smtp_tls_security_level", value=level_of(setup)),)
    if kept and kept[0].value == Level.NONE.value:
        kept = ()  # of which more is said elsewhere
    removed = (Change(name=name, value=None) for name in there)
    return (mended_by(warning("old settings", text, ""), setup.folder, *kept, *removed),)


def _own_levels(setup: Setup) -> Sequence[Diagnosis]:
    name = "smtp_tls_security_level"
    return [
        note("TLS level", f"master.cf: {client.name} has {client.overrides[name] or 'none'}")
        for client in setup.clients
        if name in client.overrides
    ]


def _requiretls(setup: Setup) -> Sequence[Diagnosis]:
    """Return whether a whole top-level domain need not heed REQUIRETLS (Postfix 3.11)."""
    name, domain = "smtp_requiretls_policy", setup.setting("mydomain")
    exempt = f"{{.{domain}=opportunistic}}" in setup.setting(name).replace(" ", "")
    enabled = setup.setting("requiretls_enable") == "yes"
    if not (enabled and exempt) or "." in domain or domain in _PRIVATE:
        return ()
    text = f"not heeded for mail to .{domain}, which is $mydomain and as such excepted ({name})"
    change = Change(name=name, value=REQUIRETLS_POLICY)
    return (mended_by(warning("REQUIRETLS", text, ""), setup.folder, change),)


def _routes(setup: Setup) -> Sequence[Diagnosis]:
    """Return which settings lead mail to hosts that no policy is known of."""
    there = [f"{name} = {setup.setting(name)}" for name in _ROUTES if setup.setting(name)]
    if not there:
        return ()
    text = f"{MAPS} are asked for the next-hop, not the recipient's domain: {'; '.join(there)}"
    return (note("routes", text),)
