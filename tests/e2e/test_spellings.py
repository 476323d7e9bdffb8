"""A domain is the same however a sender spells it: no policy is lost by spelling.

Postfix asks for what the sender wrote, neither folded nor converted.
"""

import pytest

from tests.e2e.lab import Lab


@pytest.mark.parametrize(
    ("published", "written"),
    [
        pytest.param("upper.plain.test", "UPPER.Plain.TEST", id="in-upper-case"),
        pytest.param("xn--bcher-kva.plain.test", "bücher.plain.test", id="as-u-labels"),
        pytest.param("xn--bcher-2-n2a.plain.test", "BÜCHER-2.plain.test", id="as-upper-u-labels"),
    ],
)
def test_the_policy_binds_a_domain_written(lab: Lab, published: str, written: str) -> None:
    mx = lab.receiver(f"mx.{published}")
    lab.mail_domain(published, mx)
    lab.policy(published, mode="enforce", mx=(mx,))

    attempt = lab.postfix.send(f"user@{written}")

    assert attempt.status == "sent"
    assert attempt.handshakes == (("Verified", mx.host),)
    assert [message.recipient for message in mx.messages] == [f"user@{written}"]
