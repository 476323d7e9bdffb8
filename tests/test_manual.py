"""The manual pages say what there is, and nothing else; and manuals can be made of them.

They are read as what they are, mdoc(7): ``.It Fl -log Ar FILE`` explains an option.
"""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from postfix_mtasts.commands.failure import ExitStatus
from postfix_mtasts.services.answers import EXPLAIN, MAPS
from tests.option_list import (
    COMMANDS,
    VERBS,
    Words,
    metavar,
    names,
    options,
    options_below,
    parses,
)

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "packaging" / "man"
PAGES = sorted(FOLDER.iterdir())
SECTIONS = ("NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "SEE ALSO", "BUGS")
OF_COMMANDS = ("OPTIONS", "EXIT STATUS")
ALL_OPTIONS = options_below(())

_MACRO = re.compile(r"[A-Z][a-z]")
_PUNCTUATION = {",", ":", ".", "|", ";", "..."}


def page(words: Words) -> str:
    """Return the page on the program, or on the verb that *words* begin with."""
    return FOLDER.joinpath("-".join(("postfix-mtasts", *words[:1])) + ".1").read_text()


def section(text: str, title: str) -> str:
    found = re.search(rf"^\.S[hs] {title}\n(.*?)(?=^\.S[hs] |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def marked(text: str, macro: str) -> list[str]:
    """Return the words that *macro* stands before."""
    found = []
    for line in text.splitlines():
        words = line.removeprefix(".").split() if line.startswith(".") else []
        inside = False
        for word in words:
            if _MACRO.fullmatch(word):
                inside = word == macro
            elif inside and word not in _PUNCTUATION:
                found.append(word)
    return found


def flags(text: str) -> list[str]:
    """Return the options that *text* marks as such."""
    return [f"-{word}" for word in marked(text, "Fl")]


def heads(text: str) -> list[str]:
    """Return what the lists in *text* explain."""
    return re.findall(r"^\.It (.*)$", text, re.MULTILINE)


def synopses(text: str) -> Iterator[tuple[Words, set[str]]]:
    """Yield each command of the SYNOPSIS with its options."""
    for part in section(text, "SYNOPSIS").split(".Nm")[1:]:
        yield tuple(marked(f".{part}", "Cm")), set(flags(part))


def shown(text: str) -> Iterator[str]:
    """Yield the lines that a page shows as they are typed."""
    yield from re.findall(r"^\.(?:Dl|Ql) (.*?)(?: [.,:;])?$", text, re.MULTILINE)
    for display in re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", text, re.MULTILINE | re.DOTALL):
        yield from display.splitlines()


def typed(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield the arguments of each command of ours in *lines* for a shell."""
    for line in lines:
        lexer = shlex.shlex(line.lstrip("#$ "), posix=True, punctuation_chars="|&")
        lexer.whitespace_split = True
        for command in _commands(lexer):
            if Path(command[0]).name == "postfix-mtasts" and len(command) > 1:
                yield command[1:]


def _commands(words: Iterator[str]) -> Iterator[list[str]]:
    command: list[str] = []
    for word in (*words, "|"):
        if word not in {"|", "&&"}:
            command.append(word)
        elif command:
            yield command[4:] if command[:2] == ["runuser", "-u"] else command
            command = []


def test_there_is_a_page_for_the_program_each_verb_and_the_configuration() -> None:
    verbs = [f"postfix-mtasts-{verb}.1" for verb in VERBS]
    wanted = ["postfix-mtasts.1", "postfix-mtasts.5", *verbs]
    assert [path.name for path in PAGES] == sorted(wanted)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_has_the_usual_sections(path: Path) -> None:
    text = path.read_text()
    for title in SECTIONS + (OF_COMMANDS if path.suffix == ".1" else ()):
        assert section(text, title).strip(), title


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_is_called_by_its_name(path: Path) -> None:
    text = path.read_text()
    assert f"\n.Dt {path.stem.upper()} {path.suffix[1:]}\n" in text
    assert section(text, "NAME").startswith(f".Nm {path.stem}\n.Nd ")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_refers_to_pages_that_there_are(path: Path) -> None:
    ours = {(each.stem, each.suffix[1:]) for each in PAGES}
    named = re.findall(r"Xr (postfix-mtasts\S*) (\d)", path.read_text())
    assert named
    assert set(named) <= ours - {(path.stem, path.suffix[1:])}


def test_the_program_s_page_lists_the_verbs_that_there_are() -> None:
    text = section(page(()), "DESCRIPTION")
    assert heads(text) == [f"Cm {verb}" for verb in VERBS]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if names((verb,))])
def test_a_verb_s_page_lists_the_actions_that_there_are(verb: str) -> None:
    text = section(page((verb,)), "DESCRIPTION")
    assert {head.removeprefix("Cm ") for head in heads(text)} == names((verb,))


def test_the_program_s_page_lists_the_maps_that_there_are() -> None:
    listed = marked("\n".join(f".{head}" for head in heads(section(page(()), "Maps"))), "Cm")
    assert sorted(listed) == sorted([*MAPS, EXPLAIN])


@pytest.mark.parametrize("words", [(), *((verb,) for verb in VERBS)], ids=" ".join)
def test_a_page_explains_the_options_that_there_are_and_no_others(words: Words) -> None:
    explained = flags("\n".join(f".{head}" for head in heads(section(page(words), "OPTIONS"))))
    there = options_below(words) if words else options(words)
    assert sorted(explained) == sorted(there)
    assert set(flags(page(words))) <= there


@pytest.mark.parametrize("words", [(), *((verb,) for verb in VERBS)], ids=" ".join)
def test_a_page_names_the_values_as_the_help_does(words: Words) -> None:
    for head in heads(section(page(words), "OPTIONS")):
        for option in flags(f".{head}"):
            assert marked(f".{head}", "Ar") == [name for name in [metavar(option)] if name], option


@pytest.mark.parametrize("words", [(), *((verb,) for verb in VERBS)], ids=" ".join)
def test_a_synopsis_has_each_command_with_its_options(words: Words) -> None:
    found: dict[Words, set[str]] = {}
    for command, there in synopses(page(words)):
        found[command] = found.get(command, set()) | there
    for command, there in found.items():
        assert there <= options(command), command
        assert there, command
    spelled = set().union(*found.values()) | {"--help"}
    assert spelled == (options_below(words) if words else options(words))
    leaves = {each for each in COMMANDS if each[:1] == words and not names(each)}
    assert leaves <= set(found)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_command_that_a_page_shows_can_be_typed(path: Path) -> None:
    for words in typed(shown(path.read_text())):
        assert parses(words), words


def test_the_pages_show_every_verb_and_action_at_work() -> None:
    at_work = [words for path in PAGES for words in typed(shown(path.read_text()))]
    for command in COMMANDS:
        if not names(command):
            assert any(tuple(words[: len(command)]) == command for words in at_work), command


def test_every_command_that_the_readme_shows_can_be_typed() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    at_work = list(typed(line for block in blocks for line in block.splitlines()))
    assert at_work
    for words in at_work:
        assert parses(words), words


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_word_of_a_page_looks_like_an_option_that_there_is_not(path: Path) -> None:
    ours = re.sub(r"journalctl .*", "", path.read_text())
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", ours)) <= ALL_OPTIONS


@pytest.mark.parametrize("words", [(), *((verb,) for verb in VERBS)], ids=" ".join)
def test_a_page_says_exit_statuses_that_there_are(words: Words) -> None:
    said = [int(head) for head in heads(section(page(words), "EXIT STATUS"))]
    known = [int(status) for status in ExitStatus]
    assert said == [status for status in known if status in said]
    assert words or said == known


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_mandoc_finds_nothing_to_warn_of() -> None:
    lint = ["mandoc", "-T", "lint", "-W", "warning", *map(str, PAGES)]
    done = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_man_shows_it_without_a_warning(path: Path) -> None:
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", path],  # as lintian does
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"},
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    assert b"tNAME\n" in done.stdout
