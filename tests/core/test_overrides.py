from postfix_mtasts.core.overrides import Override, applies, first_match
from postfix_mtasts.core.postfix_policy import Level


def override(domain: str, *, subtree: bool = False) -> Override:
    return Override(
        domain=domain,
        subtree=subtree,
        level=Level.ENCRYPT,
        minimum=None,
        match=(),
        servername=None,
        protocols=None,
        ciphers=None,
    )


def test_an_override_of_one_domain_applies_to_that_domain_only() -> None:
    assert applies(override("bank.example"), "bank.example")
    assert not applies(override("bank.example"), "www.bank.example")
    assert not applies(override("bank.example"), "example")


def test_an_override_of_a_subtree_applies_at_any_depth_below_and_not_to_its_top() -> None:
    below = override("bank.example", subtree=True)
    assert applies(below, "www.bank.example")
    assert applies(below, "a.b.bank.example")
    assert not applies(below, "bank.example")


def test_a_subtree_begins_at_a_dot() -> None:
    assert not applies(override("bank.example", subtree=True), "evilbank.example")


def test_the_first_override_that_applies_wins() -> None:
    other = override("other.example")
    wide = override("example", subtree=True)
    narrow = override("bank.example")
    assert first_match([other, wide, narrow], "bank.example") is wide
    assert first_match([other, narrow, wide], "bank.example") is narrow


def test_no_override_is_found_where_none_applies() -> None:
    assert first_match([override("other.example")], "bank.example") is None
