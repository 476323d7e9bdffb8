"""Programs of the system, under limits."""

import time

import pytest

from postfix_mtasts.adapters import command
from postfix_mtasts.adapters.command import CommandFailedError, run, run_well


def test_what_a_program_prints_and_how_it_ends_is_told() -> None:
    done = run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (done.status, done.out, done.err) == (3, "out\n", "err\n")


def test_a_complaint_is_an_error_with_the_programs_last_words() -> None:
    with pytest.raises(CommandFailedError, match=r"^sh: at last$"):
        run_well(["sh", "-c", "echo first >&2; echo at last >&2; exit 1"])
    with pytest.raises(CommandFailedError, match=r"^false: status 1$"):
        run_well(["false"])


def test_a_program_that_is_not_there_is_an_error() -> None:
    with pytest.raises(CommandFailedError, match="there is no program no-such-program"):
        run(["no-such-program"])


def test_a_program_that_does_not_end_is_ended() -> None:
    started = time.monotonic()
    with pytest.raises(CommandFailedError, match="did not end within"):
        run(["sleep", "60"], seconds=0.05)
    assert time.monotonic() - started < 20


def test_only_so_much_of_the_output_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "MAX_OUTPUT", 10)
    assert run(["printf", "%050d", "1"]).out == "0" * 10


def test_the_callers_path_does_not_choose_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert run_well(["sh", "-c", "echo $PATH:$LC_ALL"]) == f"{command.SEARCH_PATH}:C\n"
