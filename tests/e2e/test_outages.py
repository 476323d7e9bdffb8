"""The daemon is killed or away: no mail is lost, none goes out unprotected."""

from tests.e2e.lab import Lab
from tests.e2e.smtp_receiver import Receiver

NO_DAEMON = "client TLS configuration problem"  # what Postfix makes of a map without a server


def enforcing_domain(lab: Lab, domain: str) -> Receiver:
    mx = lab.receiver(f"mx.{domain}")
    lab.mail_domain(domain, mx)
    lab.policy(domain, mode="enforce", mx=(mx,))
    return mx


def test_without_the_daemon_mail_waits_and_nobody_is_connected_to(lab: Lab) -> None:
    mx = enforcing_domain(lab, "down.plain.test")
    lab.daemon.stop()

    attempt = lab.postfix.send("user@down.plain.test")

    assert (attempt.status, attempt.dsn) == ("deferred", "4.7.5")
    assert attempt.reason == NO_DAEMON
    assert mx.sessions == ()


def test_after_kill_9_mail_in_the_queue_is_delivered_under_the_policy_known_before(
    lab: Lab,
) -> None:
    mx = enforcing_domain(lab, "killed.plain.test")
    recipients = [f"user{n}@killed.plain.test" for n in range(4)]
    known = lab.postfix.send(recipients[0])
    lab.daemon.kill()
    lab.policy_host_goes_down("killed.plain.test")
    waiting = [lab.postfix.send(recipient) for recipient in recipients[1:]]
    lab.daemon.start()

    delivered = lab.postfix.retry(*waiting)

    assert known.status == "sent"
    assert {attempt.reason for attempt in waiting} <= {
        NO_DAEMON,
        f"delivery temporarily suspended: {NO_DAEMON}",
    }
    assert {(attempt.status, attempt.handshakes) for attempt in delivered} == {
        ("sent", (("Verified", mx.host),))
    }
    assert sorted(message.recipient for message in mx.messages) == recipients


def test_kill_9_amid_deliveries_loses_and_doubles_nothing(lab: Lab) -> None:
    mx = enforcing_domain(lab, "amid.plain.test")
    recipients = [f"user{n}@amid.plain.test" for n in range(8)]
    queue_ids = [lab.postfix.submit(recipient) for recipient in recipients]
    lab.daemon.kill()
    lab.daemon.start()

    first = [lab.postfix.attempt(queue_id) for queue_id in queue_ids]
    second = lab.postfix.retry(*(a for a in first if a.status == "deferred"))

    sent = [attempt for attempt in (*first, *second) if attempt.status == "sent"]
    assert len(sent) == len(recipients)
    assert {attempt.handshakes for attempt in sent} == {(("Verified", mx.host),)}
    assert sorted(message.recipient for message in mx.messages) == recipients
