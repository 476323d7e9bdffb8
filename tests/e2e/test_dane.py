"""DANE seen from both ends of a delivery (RFC 7672)."""

import pytest

from tests.e2e.dns_zone import BOGUS_TLSA_HOSTS
from tests.e2e.lab import Lab

MATCHES_NOTHING = f"3 1 1 {'00' * 32}"


def test_a_host_that_matches_its_tlsa_record_needs_no_authority(lab: Lab) -> None:
    domain = "match.signed.test"
    certificate = lab.stranger.issue(f"mx.{domain}")
    mx = lab.receiver(f"mx.{domain}", certificate=certificate, tlsa="own")
    lab.mail_domain(domain, mx)

    attempt = lab.postfix.send(f"user@{domain}")

    assert attempt.status == "sent"
    assert attempt.handshakes == (("Verified", mx.host),)
    assert [(m.tls, m.sni) for m in mx.messages] == [("TLSv1.3", mx.host)]


def test_a_host_that_does_not_match_gets_no_mail_though_mta_sts_would_be_content(
    lab: Lab,
) -> None:
    domain = "mismatch.signed.test"
    mx = lab.receiver(f"mx.{domain}", tlsa=MATCHES_NOTHING)
    lab.mail_domain(domain, mx)
    lab.policy(domain, mode="enforce", mx=(mx,))

    attempt = lab.postfix.send(f"user@{domain}")

    assert (attempt.status, attempt.dsn) == ("deferred", "4.7.5")
    assert attempt.reason == "Server certificate not verified"
    assert [session.tls for session in mx.sessions] == ["TLSv1.3"]
    assert mx.messages == []


@pytest.mark.parametrize(
    ("host", "has_policy"),
    [(BOGUS_TLSA_HOSTS[0], False), (BOGUS_TLSA_HOSTS[1], True)],
    ids=["without-a-policy", "though-mta-sts-would-be-content"],
)
def test_a_host_whose_tlsa_record_is_bogus_is_not_spoken_to(
    lab: Lab, host: str, *, has_policy: bool
) -> None:
    domain = host.partition(".")[2]
    mx = lab.receiver(host)
    lab.dns.publish_bogus_tlsa(host, mx.certificate.tlsa())
    lab.mail_domain(domain, mx)
    if has_policy:
        lab.policy(domain, mode="enforce", mx=(mx,))

    attempt = lab.postfix.send(f"user@{domain}")

    assert (attempt.status, attempt.dsn) == ("deferred", "4.7.5")
    assert any(f"_25._tcp.{host}" in line for line in attempt.lines)  # so a postmaster is told
    assert mx.sessions == ()


def test_where_starttls_is_stripped_from_a_host_with_tlsa_mail_waits(lab: Lab) -> None:
    domain = "stripped.signed.test"
    mx = lab.receiver(f"mx.{domain}", tlsa="own")
    mx.starttls = False
    lab.mail_domain(domain, mx)

    attempt = lab.postfix.send(f"user@{domain}")

    assert (attempt.status, attempt.dsn) == ("deferred", "4.7.4")
    assert [session.recipients for session in mx.sessions] == [[]]


def test_a_mismatch_at_one_host_leaves_the_host_without_tlsa_open(lab: Lab) -> None:
    domain = "mixed.signed.test"
    first = lab.receiver(f"mx1.{domain}", tlsa=MATCHES_NOTHING)
    second = lab.receiver(f"mx2.{domain}")
    lab.mail_domain(domain, first, second)

    attempt = lab.postfix.send(f"user@{domain}")

    assert (attempt.status, attempt.relay) == ("sent", second.host)
    assert attempt.handshakes == (("Untrusted", first.host), ("Trusted", second.host))
    assert first.messages == []
    assert [message.tls for message in second.messages] == ["TLSv1.3"]


def test_of_mixed_hosts_the_one_with_tlsa_is_authenticated(lab: Lab) -> None:
    domain = "mixed-match.signed.test"
    certificate = lab.stranger.issue(f"mx1.{domain}")
    first = lab.receiver(f"mx1.{domain}", certificate=certificate, tlsa="own")
    second = lab.receiver(f"mx2.{domain}")
    lab.mail_domain(domain, first, second)

    attempt = lab.postfix.send(f"user@{domain}")

    assert attempt.status == "sent"
    assert attempt.handshakes == (("Verified", first.host),)
    assert len(first.messages) == 1
    assert second.sessions == ()


def test_tlsa_records_below_an_unsigned_zone_mean_nothing(lab: Lab) -> None:
    domain = "tlsa.plain.test"
    mx = lab.receiver(f"mx.{domain}", tlsa=MATCHES_NOTHING)
    lab.mail_domain(domain, mx)

    attempt = lab.postfix.send(f"user@{domain}")

    assert attempt.status == "sent"
    assert attempt.handshakes == (("Trusted", mx.host),)
    assert len(mx.messages) == 1
