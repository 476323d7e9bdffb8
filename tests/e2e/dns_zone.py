"""The lab's DNS: Knot DNS with the zones, Unbound that validates them.

::

    .             signed; Unbound's trust anchor
    signed.test   signed, a secure delegation
    plain.test    unsigned, an insecure delegation

Every TTL is one second, negative answers too.  Records change by dynamic
update (RFC 2136); Knot signs them at once, and Unbound is made to forget what
it knew, so that a change is seen when the call returns.
"""

from pathlib import Path

import dns.dnssec
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.update

from tests.e2e.deadline import wait_until
from tests.e2e.namespace import Namespace

AUTHORITY = "198.51.100.53"
RESOLVER = "127.0.0.1"
TTL = 1  # seconds
SIGNED_ZONES = (".", "signed.test.")
# A zone at the very name of a TLSA record: only so can that record alone be bogus.
BOGUS_TLSA_HOSTS = ("mx.bogus.signed.test", "mx.bogus-beside-policy.signed.test")
ZONES = (*SIGNED_ZONES, "plain.test.", *(f"_25._tcp.{host}." for host in BOGUS_TLSA_HOSTS))

_KNOT_CONF = """\
server:
    listen: {authority}@53
    rundir: /run
database:
    storage: {folder}
log:
  - target: stderr
    any: warning
acl:
  - id: lab
    address: [127.0.0.0/8, 198.51.100.0/24]
    action: update
policy:
  - id: lab
    algorithm: ecdsap256sha256
    single-type-signing: on
    cds-cdnskey-publish: none
template:
  - id: default
    storage: {folder}
    file: zone%s
    zonefile-sync: -1
    acl: lab
zone:
"""
_KNOT_ZONE = '  - domain: "{zone}"\n    file: "{file}"\n'
_KNOT_SIGNING = "    dnssec-signing: on\n    dnssec-policy: lab\n"

_ZONE_FILE = f"""\
{{zone}} {TTL} SOA ns.test. hostmaster.test. 1 3600 600 86400 {TTL}
{{zone}} {TTL} NS ns.test.
"""
_ROOT_FILE = f"""\
ns.test. {TTL} A {AUTHORITY}
signed.test. {TTL} NS ns.test.
plain.test. {TTL} NS ns.test.
"""
_ROOT_HINTS = f". 3600000 NS ns.test.\nns.test. 3600000 A {AUTHORITY}\n"

_UNBOUND_CONF = f"""\
server:
    interface: {RESOLVER}
    access-control: 127.0.0.0/8 allow
    do-ip6: no
    local-zone: "test." nodefault
    root-hints: /etc/unbound/root.hints
    trust-anchor-file: /etc/unbound/root.key
    username: ""
    chroot: ""
    pidfile: ""
    use-syslog: no
    logfile: ""
    verbosity: 0
remote-control:
    control-enable: yes
    control-interface: /run/unbound.ctl
    control-use-cert: no
"""


class Dns:
    """The name server and the resolver; *folder* takes their files."""

    def __init__(self, namespace: Namespace, folder: Path) -> None:
        self._namespace = namespace
        self._folder = folder
        self._log = folder / "dns.log"
        self._resolving = False  # whether Unbound runs

    def start(self) -> None:
        """Start both and return once a name of each kind of zone resolves as it must."""
        self._start_knot()
        self._delegate_securely()
        self._start_unbound()

    def publish(self, owner: str, kind: str, *values: str) -> None:
        """Let *values* be all records of *kind* at *owner*; none removes them.

        *owner* is spelt in A-labels without the trailing dot, *values* as in a
        zone file.
        """
        update = dns.update.UpdateMessage(zone_of(owner))
        if values:
            update.replace(_absolute(owner), TTL, kind, *values)
        else:
            update.delete(_absolute(owner), kind)
        self._update(update)

    def publish_bogus_tlsa(self, host: str, tlsa: str) -> None:
        """Publish *tlsa* for one of `BOGUS_TLSA_HOSTS` in a way that cannot validate.

        The parent promises a key that the zone below does not have.
        """
        zone = f"_25._tcp.{host}."
        self.publish(zone, "TLSA", tlsa)
        parent = dns.update.UpdateMessage("signed.test.")
        parent.replace(zone, TTL, "NS", "ns.test.")
        parent.replace(zone, TTL, "DS", f"4711 13 2 {'00' * 32}")
        self._update(parent)

    def resolve(self, owner: str, kind: str) -> dns.message.Message:
        """Return Unbound's answer, validated, as Postfix and the daemon see it."""
        query = dns.message.make_query(owner, kind, want_dnssec=True)
        return self._namespace.call(dns.query.tcp, query, RESOLVER, timeout=10)

    def _update(self, update: dns.update.UpdateMessage) -> None:
        reply = self._namespace.call(dns.query.tcp, update, AUTHORITY, timeout=10)
        assert reply.rcode() == dns.rcode.NOERROR, f"refused:\n{update}"
        if self._resolving:
            self._namespace.run("unbound-control", "flush_zone", ".")

    def _start_knot(self) -> None:
        folder = self._folder / "knot"
        folder.mkdir()
        config = _KNOT_CONF.format(folder=folder, authority=AUTHORITY)
        for number, zone in enumerate(ZONES):
            file = folder / f"{number}.zone"
            root = _ROOT_FILE if zone == "." else ""
            file.write_text(_ZONE_FILE.format(zone=zone) + root)
            config += _KNOT_ZONE.format(zone=zone, file=file)
            config += _KNOT_SIGNING if zone in SIGNED_ZONES else ""
        (folder / "knot.conf").write_text(config)
        self._namespace.start(["knotd", "-c", str(folder / "knot.conf")], log=self._log)

    def _delegate_securely(self) -> None:
        key = self._key_of("signed.test.")[0]
        ds = dns.dnssec.make_ds(dns.name.from_text("signed.test."), key, "SHA256")
        self.publish("signed.test", "DS", str(ds))

    def _key_of(self, zone: str) -> dns.rrset.RRset:
        """Return the zone's key as soon as Knot has made it and signed with it."""
        query = dns.message.make_query(zone, "DNSKEY")

        def ask() -> dns.rrset.RRset | None:
            try:
                reply = self._namespace.call(dns.query.tcp, query, AUTHORITY, timeout=10)
            except OSError:
                return None
            return reply.answer[0] if reply.answer else None

        return wait_until(ask, f"signed zone {zone}")

    def _start_unbound(self) -> None:
        folder = self._folder / "unbound"
        folder.mkdir()
        (folder / "unbound.conf").write_text(_UNBOUND_CONF)
        (folder / "root.hints").write_text(_ROOT_HINTS)
        (folder / "root.key").write_text(f"{self._key_of('.').to_text()}\n")
        self._namespace.bind(folder, "/etc/unbound")
        self._namespace.start(["unbound", "-d"], log=self._log)
        wait_until(lambda: self._is_validated("signed.test"), "validated answer from Unbound")
        assert not self._is_validated("plain.test")
        self._resolving = True

    def _is_validated(self, zone: str) -> bool:
        try:
            reply = self.resolve(zone, "SOA")
        except OSError:
            return False
        return reply.rcode() == dns.rcode.NOERROR and bool(reply.flags & dns.flags.AD)


def zone_of(owner: str) -> str:
    """Return the zone in which *owner* is written: the longest that encloses it."""
    name = dns.name.from_text(owner)
    is_cut = dns.name.from_text("signed.test.") == name  # its DS stands in the parent
    zones = [zone for zone in ZONES if name.is_subdomain(dns.name.from_text(zone))]
    return "." if is_cut else max(zones, key=len)


def _absolute(owner: str) -> str:
    return owner.rstrip(".") + "."
