"""Numbers, times and texts in words."""

import pytest

from postfix_mtasts.commands.words import counted, listed, moment, printable, span


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (1.9, "1 second"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (7199, "119 minutes"),
        (129600, "36 hours"),
        (604800, "7 days"),
    ],
)
def test_a_span_is_told_in_the_largest_unit_that_says_enough(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_a_moment_is_told_in_utc() -> None:
    assert moment(1_700_000_000.9) == "2023-11-14T22:13:20Z"
    assert moment(None) == "-"


def test_of_a_long_list_the_rest_is_counted() -> None:
    assert listed(["a", "b"], 2) == "a, b"
    assert listed(["a", "b", "c"], 1) == "a and 2 more"
    assert listed([], 1) == ""


def test_what_a_terminal_might_obey_is_shown_as_a_question_mark() -> None:
    assert printable("a\x1b[2J\u202e\n\x9bä ") == "a?[2J???ä "


def test_one_thing_has_no_plural() -> None:
    assert [counted(n, "host") for n in (0, 1, 2)] == ["0 hosts", "1 host", "2 hosts"]
