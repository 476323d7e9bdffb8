"""What a server's rcode is counted as."""

import pytest

from postfix_mtasts.core.dns_outcome import DnsOutcome, of_rcode


@pytest.mark.parametrize(
    ("rcode", "outcome"),
    [
        ("SERVFAIL", DnsOutcome.SERVFAIL),
        ("REFUSED", DnsOutcome.REFUSED),
        ("FORMERR", DnsOutcome.OTHER),
        ("3841", DnsOutcome.OTHER),
    ],
)
def test_an_rcode_is_one_of_few_words_whatever_a_server_sends(
    rcode: str, outcome: DnsOutcome
) -> None:
    assert of_rcode(rcode) is outcome


def test_no_two_outcomes_share_a_word() -> None:
    assert len({outcome.value for outcome in DnsOutcome}) == len(DnsOutcome)
