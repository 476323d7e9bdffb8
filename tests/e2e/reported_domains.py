"""The domains of which reports tell: what is wrong with each, and what it is to be told."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Literal

from tests.e2e.daemon import OVERRIDDEN
from tests.e2e.lab import Lab
from tests.e2e.smtp_receiver import Receiver
from tests.e2e.test_dane import MATCHES_NOTHING

MAILBOX = "tls@reports.plain.test"
ENDPOINT = "https://reports-https.plain.test/v1"
STRICT = "strict.plain.test"
BOGUS = "bogus"  # for TLSA records that cannot be validated

Told = dict[str, tuple[int, int, dict[str, int]]]
"""By policy type: sessions that met the policy, that did not, and failures by result type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """A domain, what is wrong with it, and what it is to be told.

    *flaw*: what is wrong with its policy, which the policy daemon alone finds out.
    *told_3_10*: where that differs with Postfix 3.10, whose datagrams tell of the
    first session to each domain, and its log of those while the sidecar was dead.
    """

    name: str
    mode: Literal["enforce", "testing"] | None = None
    certificate: Literal["good", "untrusted", "expired", "of-another"] = "good"
    tlsa: str | None = None
    starttls: bool = True
    handshakes: bool = True
    listed: bool = True
    flaw: Literal["", "sts-webpki-invalid", "sts-policy-fetch-error"] = ""
    asks: bool = True
    told: Told
    told_3_10: Told | None = None

    def set_up(self, lab: Lab, elsewhere: Receiver) -> None:
        """Publish all of it; a policy that does not list the domain's host lists *elsewhere*."""
        host = f"mx.{self.name}"
        authority = lab.stranger if self.certificate == "untrusted" else lab.authority
        shown = "another.plain.test" if self.certificate == "of-another" else host
        certificate = authority.issue(shown, expired=self.certificate == "expired")
        tlsa = None if self.tlsa == BOGUS else self.tlsa
        mx = lab.receiver(host, certificate=certificate, tlsa=tlsa)
        mx.starttls, mx.handshakes = self.starttls, self.handshakes
        if self.tlsa == BOGUS:
            lab.dns.publish_bogus_tlsa(host, certificate.tlsa())
        lab.mail_domain(self.name, mx)
        if self.mode is not None:
            self._set_policy_up(lab, mx if self.listed else elsewhere)
        if self.asks:
            lab.asks_for_reports(self.name, f"mailto:{MAILBOX}", ENDPOINT)

    def _set_policy_up(self, lab: Lab, mx: Receiver) -> None:
        assert self.mode is not None
        host = f"mta-sts.{self.name}"
        authority = lab.stranger if self.flaw == "sts-webpki-invalid" else lab.authority
        lab.policy(self.name, mode=self.mode, mx=(mx,), certificate=authority.issue(host))
        if self.flaw == "sts-policy-fetch-error":
            page = lab.policy_host.pages[host]
            lab.policy_host.pages[host] = replace(page, status=500)


# Mail that is taken is sent three times, mail that waits is tried twice.
DOMAINS = (
    Domain(name="good.plain.test", mode="enforce", told={"sts": (3, 0, {})}),
    Domain(
        name="stripped.plain.test",
        mode="enforce",
        starttls=False,
        told={"sts": (0, 2, {"starttls-not-supported": 2})},
    ),
    Domain(
        name="cut.plain.test",
        mode="enforce",
        handshakes=False,
        told={"sts": (0, 2, {"validation-failure": 2})},
    ),
    Domain(
        name="untrusted.plain.test",
        mode="enforce",
        certificate="untrusted",
        told={"sts": (0, 2, {"certificate-not-trusted": 2})},
        told_3_10={"sts": (0, 2, {"validation-failure": 1, "certificate-not-trusted": 1})},
    ),
    Domain(
        name="expired.plain.test",
        mode="enforce",
        certificate="expired",
        told={"sts": (0, 2, {"certificate-expired": 2})},
    ),
    Domain(
        name="of-another.plain.test",
        mode="enforce",
        certificate="of-another",
        told={"sts": (0, 2, {"certificate-host-mismatch": 2})},
    ),
    Domain(
        name="outside.plain.test",
        mode="enforce",
        listed=False,
        told={"sts": (0, 2, {"certificate-host-mismatch": 2, "validation-failure": 2})},
        told_3_10={"sts": (0, 2, {"validation-failure": 2})},
    ),
    Domain(
        name="testing-untrusted.plain.test",
        mode="testing",
        certificate="untrusted",
        told={"sts": (0, 3, {"certificate-not-trusted": 3})},
        told_3_10={"sts": (0, 3, {"validation-failure": 1, "certificate-not-trusted": 2})},
    ),
    Domain(
        name="testing-stripped.plain.test",
        mode="testing",
        starttls=False,
        told={"sts": (0, 3, {"starttls-not-supported": 3})},
    ),
    Domain(
        name="testing-outside.plain.test",
        mode="testing",
        listed=False,
        told={"sts": (0, 3, {"validation-failure": 3})},
        # The datagram has called its session a success, which the log cannot take back.
        told_3_10={"sts": (1, 2, {"validation-failure": 3})},
    ),
    Domain(name="none.plain.test", told={"no-policy-found": (3, 0, {})}),
    # Without a policy nobody asked for a certificate that can be verified.
    Domain(
        name="none-untrusted.plain.test",
        certificate="untrusted",
        told={"no-policy-found": (3, 0, {})},
    ),
    # Mail for this one leaves by the transport "requiretls", which nothing satisfies here.
    Domain(name=STRICT, told={"no-policy-found": (2, 0, {})}),
    # Of this one the daemon notes a moment late that it was asked for.
    Domain(name=OVERRIDDEN, told={"no-policy-found": (3, 0, {})}),
    Domain(
        name="web-untrusted.plain.test",
        mode="enforce",
        flaw="sts-webpki-invalid",
        told={"no-policy-found": (3, 0, {})},
    ),
    Domain(
        name="web-broken.plain.test",
        mode="enforce",
        flaw="sts-policy-fetch-error",
        told={"no-policy-found": (3, 0, {})},
    ),
    Domain(
        name="match.signed.test",
        tlsa="own",
        certificate="untrusted",
        told={"tlsa": (3, 0, {})},
    ),
    Domain(
        name="mismatch.signed.test",
        tlsa=MATCHES_NOTHING,
        told={"tlsa": (0, 2, {"certificate-not-trusted": 2})},
    ),
    Domain(
        name="bogus.signed.test",
        tlsa=BOGUS,
        told={"tlsa": (0, 2, {"dnssec-invalid": 2})},
    ),
    Domain(
        name="both.signed.test",
        mode="enforce",
        tlsa="own",
        told={"sts": (3, 0, {}), "tlsa": (3, 0, {})},
    ),
    Domain(name="silent.plain.test", mode="enforce", asks=False, told={"sts": (3, 0, {})}),
)
ASKING = tuple(domain for domain in DOMAINS if domain.asks)

# Mail for one domain is routed to a host of another, which wants to be told of that.
ROUTED, GATEWAY = "routed.plain.test", "mx.gateway.plain.test"

# A domain that asks for reports to where nobody takes them.
REFUSED, REFUSING = "refused.plain.test", "tls@refusing.plain.test"


def told_in(report: dict[str, Any]) -> Told:
    """Return what *report* tells, without the details."""
    told: Told = {}
    for each in report["policies"]:
        summary, failures = each["summary"], Counter[str]()
        for detail in each["failure-details"]:
            failures[detail["result-type"]] += detail["failed-session-count"]
        told[each["policy"]["policy-type"]] = (
            summary["total-successful-session-count"],
            summary["total-failure-session-count"],
            dict(failures),
        )
    return told
