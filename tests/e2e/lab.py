"""The end-to-end lab: every server that a delivery meets, in a private world (`namespace`).

::

    192.0.2.0/24     the MX hosts, one address each, port 25
    198.51.100.53    the name server of all zones (`dns_zone`)
    198.51.100.80    the policy host of all domains, port 443
    198.51.100.81    the endpoint of TLS reports, port 443
    198.51.100.99    a host that is down
    127.0.0.1        the validating resolver, Postfix, the policy daemon

To look into a running lab: ``pytest --pdb``, then, from another terminal,
``nsenter --net --mount --pid --target PID`` with the pid of the ``cat`` below
pytest.

BUGS: knows where Debian's packages keep their files, and no other system's.
"""

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from tests.e2e.certificates import Authority, Certificate
from tests.e2e.daemon import Daemon
from tests.e2e.dns_zone import RESOLVER, Dns
from tests.e2e.namespace import SEARCH_PATH, Namespace, refusal
from tests.e2e.policy_host import Page, PolicyHost
from tests.e2e.postfix import Postfix
from tests.e2e.report_endpoint import ReportEndpoint
from tests.e2e.smtp_receiver import Receiver

POLICY_HOST = "198.51.100.80"
REPORT_ENDPOINT = "198.51.100.81"
DOWN = "198.51.100.99"
PROGRAMS = {"postfix": "postfix", "knotd": "knot", "unbound": "unbound", "ip": "iproute2"}


def missing_requirements() -> list[str]:
    """Return, in words, what keeps the lab from running on this machine."""
    missing = [
        f"{program} is not installed (Debian package {package})"
        for program, package in PROGRAMS.items()
        if shutil.which(program, path=SEARCH_PATH) is None
    ]
    if why := refusal():
        missing.append(f"needs root with private namespaces ({why})")
    return missing


class World:
    """The servers that a mail server meets; `close` leaves nothing behind but files.

    *resolved*: roots of the trees of files that are to ask its resolver.
    """

    def __init__(self, folder: Path, *, resolved: tuple[Path, ...] = (Path("/"),)) -> None:
        """Start them, their files and logs (`*.log`) below *folder*."""
        folder.mkdir()
        self.folder = folder
        self._stack = ExitStack()
        self._hosts = 0
        try:
            self._start_world(folder, resolved)
        except BaseException:
            self._stack.close()
            raise

    def _start_world(self, folder: Path, resolved: tuple[Path, ...]) -> None:
        namespace = Namespace()
        self._stack.callback(namespace.close)
        namespace.hide("/run")
        namespace.own_subnet("192.0.2.0/24")
        namespace.own_subnet("198.51.100.0/24")
        resolv_conf = folder / "resolv.conf"
        resolv_conf.write_text(f"nameserver {RESOLVER}\n")
        for tree in resolved:
            namespace.bind(resolv_conf, str(tree / "etc/resolv.conf"))
        self.namespace = namespace
        self.authority = Authority(folder, "trusted")
        self.stranger = Authority(folder, "untrusted")
        self.dns = Dns(namespace, folder)
        self.dns.start()
        self.policy_host = PolicyHost(namespace, POLICY_HOST)
        self._stack.callback(self.policy_host.close)

    def close(self) -> None:
        """Stop everything."""
        self._stack.close()

    def receiver(
        self, host: str, *, certificate: Certificate | None = None, tlsa: str | None = None
    ) -> Receiver:
        """Start the MX host *host*; its certificate is right unless another is given.

        *tlsa* is published for port 25; "own" stands for the record that
        matches the host's certificate.
        """
        self._hosts += 1
        receiver = Receiver(
            self.namespace,
            host=host,
            address=f"192.0.2.{self._hosts}",
            certificate=certificate or self.authority.issue(host),
        )
        self._stack.callback(receiver.close)
        self.dns.publish(host, "A", receiver.address)
        if tlsa:
            record = receiver.certificate.tlsa() if tlsa == "own" else tlsa
            self.dns.publish(f"_25._tcp.{host}", "TLSA", record)
        return receiver

    def report_endpoint(self, host: str) -> ReportEndpoint:
        """Start the HTTPS server *host*, which takes TLS reports."""
        endpoint = ReportEndpoint(self.namespace, REPORT_ENDPOINT, self.authority.issue(host))
        self._stack.callback(endpoint.close)
        self.dns.publish(host, "A", endpoint.address)
        return endpoint

    def asks_for_reports(self, domain: str, *rua: str) -> None:
        """Let *domain* ask for TLS reports to all of *rua*."""
        self.dns.publish(f"_smtp._tls.{domain}", "TXT", f'"v=TLSRPTv1; rua={",".join(rua)}"')

    def mail_domain(self, domain: str, *receivers: Receiver) -> None:
        """Let *receivers* be the MX hosts of *domain*, the most preferred first."""
        records = [f"{10 * n} {receiver.host}." for n, receiver in enumerate(receivers, start=1)]
        self.dns.publish(domain, "MX", *records)

    def policy(
        self,
        domain: str,
        *,
        mode: Literal["enforce", "testing", "none"],
        mx: tuple[Receiver, ...] = (),
        record_id: str = "1",
        certificate: Certificate | None = None,
    ) -> None:
        """Publish an MTA-STS policy of *domain*: record, host and document."""
        host = f"mta-sts.{domain}"
        lines = ["version: STSv1", f"mode: {mode}", *(f"mx: {r.host}" for r in mx)]
        self.policy_host.pages[host] = Page(
            body="".join(f"{line}\r\n" for line in (*lines, "max_age: 86400")),
            certificate=certificate or self.authority.issue(host),
        )
        self.dns.publish(host, "A", self.policy_host.address)
        self.dns.publish(f"_mta-sts.{domain}", "TXT", f'"v=STSv1; id={record_id};"')

    def policy_host_goes_down(self, domain: str) -> None:
        """Let nobody listen where the policy of *domain* was."""
        self.dns.publish(f"mta-sts.{domain}", "A", DOWN)


class Lab(World):
    """The world with a Postfix and the policy daemon in it.

    *root*, *main_cf*, *master_cf*: see `Postfix`.
    """

    def __init__(
        self, folder: Path, *, root: Path = Path("/"), main_cf: str = "", master_cf: str = ""
    ) -> None:
        """Start all servers, their files and logs (`*.log`) below *folder*."""
        super().__init__(folder, resolved=tuple(dict.fromkeys((Path("/"), root))))
        try:
            self._start(folder, root=root, main_cf=main_cf, master_cf=master_cf)
        except BaseException:
            self._stack.close()
            raise

    def _start(self, folder: Path, *, root: Path, main_cf: str, master_cf: str) -> None:
        self.postfix = Postfix(
            self.namespace, folder / "postfix", root=root, main_cf=main_cf, master_cf=master_cf
        )
        self.postfix.start(self.authority.pem)
        self.daemon = Daemon(self.namespace, folder / "daemon", authority=self.authority.pem)
        self.daemon.start()
