"""MTA-STS seen from both ends of a delivery (RFC 8461).

Postfix's own level is "may": "Verified" in its log, or mail that waits, is
the daemon's doing; without it mail would go to these receivers as it can.
"""

import dataclasses
from typing import Literal

import pytest

from tests.e2e.certificates import Certificate
from tests.e2e.deadline import holds_for, wait_until
from tests.e2e.dns_zone import TTL
from tests.e2e.lab import Lab
from tests.e2e.postfix import EXPLAIN_MAP


def test_enforce_delivers_to_a_listed_host_with_a_good_certificate(lab: Lab) -> None:
    mx = lab.receiver("mx.good.plain.test")
    lab.mail_domain("good.plain.test", mx)
    lab.policy("good.plain.test", mode="enforce", mx=(mx,))

    attempt = lab.postfix.send("user@good.plain.test")

    assert attempt.status == "sent"
    assert attempt.handshakes == (("Verified", mx.host),)
    (message,) = mx.messages
    assert message.recipient == "user@good.plain.test"
    assert (message.tls, message.sni) == ("TLSv1.3", mx.host)


def wrong_certificate(lab: Lab, fault: str, host: str) -> Certificate:
    match fault:
        case "untrusted":
            return lab.stranger.issue(host)
        case "expired":
            return lab.authority.issue(host, expired=True)
        case _:
            return lab.authority.issue("another-host.plain.test")


@pytest.mark.parametrize("fault", ["untrusted", "expired", "wrong-name"])
def test_enforce_defers_where_the_certificate_of_the_host_is(lab: Lab, fault: str) -> None:
    domain = f"{fault}.plain.test"
    mx = lab.receiver(f"mx.{domain}", certificate=wrong_certificate(lab, fault, f"mx.{domain}"))
    lab.mail_domain(domain, mx)
    lab.policy(domain, mode="enforce", mx=(mx,))

    attempt = lab.postfix.send(f"user@{domain}")

    assert (attempt.status, attempt.dsn) == ("deferred", "4.7.5")
    assert attempt.reason == "Server certificate not verified"
    assert attempt.handshakes == (("Untrusted", mx.host),)
    assert [session.tls for session in mx.sessions] == ["TLSv1.3"]
    assert mx.messages == []


def test_enforce_defers_where_starttls_is_stripped(lab: Lab) -> None:
    mx = lab.receiver("mx.stripped.plain.test")
    mx.starttls = False
    lab.mail_domain("stripped.plain.test", mx)
    lab.policy("stripped.plain.test", mode="enforce", mx=(mx,))

    attempt = lab.postfix.send("user@stripped.plain.test")

    assert (attempt.status, attempt.dsn) == ("deferred", "4.7.4")
    assert attempt.reason.startswith("TLS is required, but was not offered by host mx.stripped.")
    (session,) = mx.sessions
    assert (session.tls, session.recipients) == (None, [])


def test_enforce_defers_where_forged_mx_records_name_a_host_with_a_certificate_of_its_own(
    lab: Lab,
) -> None:
    mx = lab.receiver("mx.forged.plain.test")
    thief = lab.receiver("mx.thief.plain.test")
    lab.mail_domain("forged.plain.test", mx)
    lab.policy("forged.plain.test", mode="enforce", mx=(mx,))
    before = lab.postfix.send("user@forged.plain.test")
    lab.mail_domain("forged.plain.test", thief)

    while_unknown = lab.postfix.send("user@forged.plain.test")
    wait_until(
        lambda: thief.host in lab.postfix.ask("forged.plain.test", EXPLAIN_MAP),
        "sight of the forged record in the daemon",
    )
    (while_known,) = lab.postfix.retry(while_unknown)

    assert (before.status, before.relay) == ("sent", mx.host)
    for attempt in (while_unknown, while_known):
        assert (attempt.status, attempt.relay) == ("deferred", thief.host)
        assert attempt.reason == "Server certificate not verified"
    assert len(thief.sessions) == 2
    assert thief.messages == []


def test_enforce_delivers_to_the_second_host_where_the_first_is_not_authentic(lab: Lab) -> None:
    domain = "second.plain.test"
    first = lab.receiver(f"mx1.{domain}", certificate=lab.stranger.issue(f"mx1.{domain}"))
    second = lab.receiver(f"mx2.{domain}")
    lab.mail_domain(domain, first, second)
    lab.policy(domain, mode="enforce", mx=(first, second))

    attempt = lab.postfix.send(f"user@{domain}")

    assert (attempt.status, attempt.relay) == ("sent", second.host)
    assert attempt.handshakes == (("Untrusted", first.host), ("Verified", second.host))
    assert first.messages == []
    assert len(second.messages) == 1


@pytest.mark.parametrize("mode", ["testing", "none"])
def test_a_policy_that_does_not_enforce_lets_mail_pass_in_mode(
    lab: Lab, mode: Literal["testing", "none"]
) -> None:
    domain = f"{mode}.plain.test"
    mx = lab.receiver(f"mx.{domain}")
    mx.starttls = False
    lab.mail_domain(domain, mx)
    lab.policy(domain, mode=mode, mx=(mx,))

    attempt = lab.postfix.send(f"user@{domain}")

    assert (attempt.status, attempt.handshakes) == ("sent", ())
    assert [message.tls for message in mx.messages] == [None]
    assert lab.policy_host.asked.count(f"mta-sts.{domain}") == 1


def break_policy_host(lab: Lab, fault: str, domain: str) -> None:
    pages, host = lab.policy_host.pages, f"mta-sts.{domain}"
    match fault:
        case "down":
            lab.policy_host_goes_down(domain)
        case "not-found":
            pages[host] = dataclasses.replace(pages[host], status=404)
        case "untrusted":
            pages[host] = dataclasses.replace(pages[host], certificate=lab.stranger.issue(host))
        case _:
            expired = lab.authority.issue(host, expired=True)
            pages[host] = dataclasses.replace(pages[host], certificate=expired)


@pytest.mark.parametrize("fault", ["down", "not-found", "untrusted", "expired"])
def test_a_policy_never_seen_binds_nobody_while_its_host_is(lab: Lab, fault: str) -> None:
    domain = f"policy-{fault}.plain.test"
    mx = lab.receiver(f"mx.{domain}")
    mx.starttls = False
    lab.mail_domain(domain, mx)
    lab.policy(domain, mode="enforce", mx=(mx,))
    break_policy_host(lab, fault, domain)

    attempt = lab.postfix.send(f"user@{domain}")

    assert (attempt.status, attempt.handshakes) == ("sent", ())
    assert [message.tls for message in mx.messages] == [None]


def test_a_cached_policy_is_enforced_when_its_record_and_its_host_are_gone(lab: Lab) -> None:
    domain = "gone.plain.test"
    mx = lab.receiver(f"mx.{domain}")
    lab.mail_domain(domain, mx)
    lab.policy(domain, mode="enforce", mx=(mx,))
    before = lab.postfix.send(f"user@{domain}")
    lab.dns.publish(f"_mta-sts.{domain}", "TXT")
    lab.policy_host_goes_down(domain)
    mx.starttls = False

    holds_for(lambda: is_enforced(lab, domain), "enforced", seconds=3 * TTL)
    after = lab.postfix.send(f"user@{domain}")

    assert before.handshakes == (("Verified", mx.host),)
    assert (after.status, after.dsn) == ("deferred", "4.7.4")
    assert len(mx.messages) == 1


def test_mode_none_under_a_new_id_ends_enforcement_once_the_record_is_seen(lab: Lab) -> None:
    domain = "released.plain.test"
    mx = lab.receiver(f"mx.{domain}")
    lab.mail_domain(domain, mx)
    lab.policy(domain, mode="enforce", mx=(mx,))
    mx.starttls = False
    before = lab.postfix.send(f"user@{domain}")
    lab.policy(domain, mode="none", record_id="2")

    wait_until(lambda: not is_enforced(lab, domain), "release", seconds=TTL + 5)
    (after,) = lab.postfix.retry(before)

    assert before.status == "deferred"
    assert (after.status, after.handshakes) == ("sent", ())
    assert [message.tls for message in mx.messages] == [None]


def is_enforced(lab: Lab, domain: str) -> bool:
    return lab.postfix.ask(domain).startswith("secure ")
