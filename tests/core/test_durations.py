import pytest

from postfix_mtasts.core.durations import build_duration, parse_duration
from postfix_mtasts.core.errors import ParseError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("0", 0), ("5", 5), ("5s", 5), ("0.25s", 0.25), ("1.5m", 90)),
        *(("24h", 86400), ("7d", 604800), ("007", 7), ("999999999d", 86399999913600)),
    ],
)
def test_a_duration_is_a_number_of_seconds_or_has_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert isinstance(parse_duration(text), float)


@pytest.mark.parametrize(
    "text",
    [
        *("", "s", "5 s", " 5s", "-5s", "+5", "1e3", "5w", "1:30", "1_0", ".5", "5.", "5S", "5ss"),
        *("\u0665s", "inf", "nan", "0x5", "1234567890", "5s\n", "1h30m"),
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ParseError) as raised:
        parse_duration(text)
    assert str(raised.value) == (f'"{text}" is no duration, such as "5s", "10m", "24h" or "30d"')


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((5.0, "5s"), (90.0, "90s"), (120.0, "2m"), (0.25, "0.25s"), (0.001, "0.001s")),
        *((86400.0, "1d"), (5400.0, "90m"), (0.1 + 0.2, "0.30000000000000004s")),
    ],
)
def test_a_duration_is_built_in_the_largest_unit_that_holds_it_whole(
    seconds: float, text: str
) -> None:
    assert build_duration(seconds) == text
    assert parse_duration(text) == seconds
