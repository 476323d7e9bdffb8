"""What a terminal gets and a pipe does not."""

import io

import pytest

from postfix_mtasts.commands.terminal import Colour, paint_for, table, with_progress

ITEMS = [f"{n}.example" for n in range(10)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("environment", [{}, {"TERM": "xterm"}, {"NO_COLOR": ""}])
def test_a_terminal_gets_colours(environment: dict[str, str]) -> None:
    assert paint_for(Terminal(), environment)(Colour.RED, "x") == "\033[1;31mx\033[0m"


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_that_wants_none_gets_none(environment: dict[str, str]) -> None:
    assert paint_for(Terminal(), environment)(Colour.RED, "x") == "x"


def test_a_pipe_gets_no_colours() -> None:
    assert paint_for(io.StringIO(), {})(Colour.RED, "x") == "x"


def test_columns_are_aligned_and_lines_end_with_their_last_word() -> None:
    rows = [("a", "b", "c"), ("aaa", "", ""), ("", "bb", "c")]
    assert list(table(rows)) == ["a    b   c", "aaa", "     bb  c"]
    assert list(table([])) == []


def test_much_to_do_shows_its_progress_on_a_terminal_and_cleans_up() -> None:
    stream = Terminal()
    assert list(with_progress(ITEMS, stream)) == ITEMS
    shown = stream.getvalue()
    assert f"[{'#' * 15}{'.' * 15}] 5/10" in shown
    assert shown.endswith("\r\033[K")


def test_progress_cleans_up_when_it_is_broken_off() -> None:
    stream = Terminal()
    for _ in (progress := with_progress(ITEMS, stream)):
        break
    progress.close()  # type: ignore[attr-defined]
    assert stream.getvalue().endswith("\r\033[K")


@pytest.mark.parametrize(
    ("items", "stream"), [(ITEMS[:5], Terminal()), (ITEMS, io.StringIO())], ids=["few", "pipe"]
)
def test_little_to_do_and_pipes_get_no_bar(items: list[str], stream: io.StringIO) -> None:
    assert list(with_progress(items, stream)) == items
    assert stream.getvalue() == ""
