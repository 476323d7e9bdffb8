"""Errors: what they say to operators."""

import pytest

from postfix_mtasts.core.errors import ConfigError, MtastsError, ParseError


def test_a_parse_error_names_the_rule_that_was_broken() -> None:
    error = ParseError("no id", "RFC 8461 section 3.1")
    assert str(error) == "no id (RFC 8461 section 3.1)"
    assert (error.what, error.section) == ("no id", "RFC 8461 section 3.1")


def test_a_parse_error_without_a_rule_says_what_is_wrong() -> None:
    assert str(ParseError("no id")) == "no id"


@pytest.mark.parametrize("kind", [ParseError, ConfigError])
def test_every_error_raised_on_purpose_is_of_one_family(kind: type[Exception]) -> None:
    assert issubclass(kind, MtastsError)
