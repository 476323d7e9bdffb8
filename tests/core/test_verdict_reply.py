"""Verdicts as replies."""

import pytest

from postfix_mtasts.core.decision import Source, Verdict
from postfix_mtasts.core.postfix_policy import Level, TlsPolicy
from postfix_mtasts.core.verdict_reply import build_verdict_reply, level_name

UNSAYABLE = "x" * 99_000


def verdict(policy: TlsPolicy | None = None, failed: str = "") -> Verdict:
    return Verdict(policy=policy, failed=failed, reason="", source=Source.NONE, lifetime=1)


def described(level: Level, domain: str, match: tuple[str, ...] = ()) -> TlsPolicy:
    return TlsPolicy(level=level, match=match, policy_type="sts", policy_domain=domain)


@pytest.mark.parametrize(
    ("given", "name", "reply"),
    [
        (verdict(), "notfound", b"NOTFOUND "),
        (verdict(failed="DNS: SERVFAIL"), "temp", b"TEMP DNS: SERVFAIL"),
        (verdict(TlsPolicy(level=Level.DANE_ONLY)), "dane-only", b"OK dane-only"),
        (
            verdict(described(Level.MAY, "example.com")),
            "may",
            b"OK may policy_type=sts policy_domain=example.com",
        ),
    ],
    ids=["nothing", "failed", "level", "attributes"],
)
def test_a_verdict_has_its_word_and_its_reply(given: Verdict, name: str, reply: bytes) -> None:
    assert level_name(given) == name
    assert build_verdict_reply(given) == reply


def test_what_tlsrpt_cannot_be_told_is_left_out() -> None:
    given = verdict(described(Level.SECURE, UNSAYABLE, match=("mx.example.com",)))
    assert build_verdict_reply(given) == b"OK secure match=mx.example.com"


def test_a_policy_in_testing_that_cannot_be_told_is_no_answer() -> None:
    assert build_verdict_reply(verdict(described(Level.MAY, UNSAYABLE))) == b"NOTFOUND "
