"""The completions offer what there is, and nothing else."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from postfix_mtasts.services.answers import EXPLAIN, MAPS
from tests.option_list import COMMANDS, VERBS, Words, metavar, names, options

FOLDER = Path(__file__).parents[1] / "packaging" / "completions"
BASH = FOLDER / "postfix-mtasts.bash"
ZSH = FOLDER / "_postfix-mtasts"

WITH_VALUE = sorted({o for words in COMMANDS for o in options(words) if metavar(o) is not None})
FILES = ("--config", "--log")

# What bash itself does on TAB: find the function, set the words, call it.
_PRESS_TAB = r"""
set -u
source "$1"
shift
specification=$(complete -p postfix-mtasts)
[[ $specification =~ -F\ ([^ ]+) ]]
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
"${BASH_REMATCH[1]}" "$1" "${@: -1}" "${@: -2:1}"
for word in ${COMPREPLY[@]+"${COMPREPLY[@]}"}; do printf '%s\n' "$word"; done
"""


def offered(*words: str, cwd: Path | None = None) -> set[str]:
    """Return what bash offers for the last of *words*, all of which stand behind the command."""
    done = subprocess.run(
        ["bash", "--norc", "--noprofile", "-c", _PRESS_TAB, "bash", BASH, "postfix-mtasts", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    found = done.stdout.splitlines()
    assert len(found) == len(set(found))
    return set(found)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_bash_offers_the_options_of_each_command_and_no_others(words: Words) -> None:
    assert offered(*words, "-") == options(words)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_bash_offers_verbs_and_actions_and_options_where_there_are_none(words: Words) -> None:
    assert offered(*words, "") == (names(words) or options(words))


def test_bash_offers_what_begins_as_the_word_does() -> None:
    assert offered("c") == {"collect", "cache", "config"}
    assert offered("cache", "p") == {"purge"}
    assert offered("report", "--re") == {"--resend"}


@pytest.mark.parametrize("option", FILES)
def test_bash_offers_files_with_spaces_in_their_names_too(option: str, tmp_path: Path) -> None:
    (tmp_path / "mail log").touch()
    (tmp_path / "mails").mkdir()
    assert offered("serve", option, "mail", cwd=tmp_path) == {"mail log", "mails"}
    assert offered(option, "=", "mail", cwd=tmp_path) == {"mail log", "mails"}
    assert offered(option, "=", cwd=tmp_path) == {"mail log", "mails"}


def test_bash_offers_folders_to_write_reports_to(tmp_path: Path) -> None:
    (tmp_path / "mail log").touch()
    (tmp_path / "mails").mkdir()
    assert offered("report", "--output", "", cwd=tmp_path) == {"mails"}


def test_bash_offers_the_maps_that_there_are() -> None:
    assert offered("query", "--map", "") == {*MAPS, EXPLAIN}
    assert offered("query", "--map", "=", "policy-") == {"policy-tlsrpt"}


@pytest.mark.parametrize("option", [o for o in WITH_VALUE if o not in FILES])
def test_bash_takes_no_option_for_the_value_of_another(option: str) -> None:
    assert offered("query", option, "-") == set()


@pytest.mark.parametrize("option", WITH_VALUE)
@pytest.mark.parametrize("sign", [(), ("=",)])
def test_bash_takes_no_value_of_an_option_for_a_verb(option: str, sign: Words) -> None:
    assert offered(option, *sign, "cache", "") == set(VERBS)


def test_bash_finds_the_action_behind_options() -> None:
    assert offered("--config", "a", "cache", "--config", "=", "b", "purge", "x", "--a") == {"--all"}


@pytest.mark.parametrize("words", [("fly",), ("cache", "fly"), ("config", "fly")])
def test_bash_offers_nothing_for_what_is_no_command(words: Words) -> None:
    assert offered(*words, "") == set()
    assert offered(*words, "-") == set()


# --- zsh, read without it ------------------------------------------------------------------------

# One arm of a case over commands; the other cases are over states.
_ARM = re.compile(
    r'^ +\((?!verb|action\)|arguments)(?P<labels>[a-z "|]+)\)(?P<body>.*?);;$',
    re.MULTILINE | re.DOTALL,
)
_EXCLUDED = re.compile(r"\(([^)]*)\)")  # "(--apply --undo)": not beside one of these
_OPTION = re.compile(r"--?[a-z]+(?=[=\[,}])")
_NAME = re.compile(r"^ +'([a-z]+):", re.MULTILINE)


def function(name: str) -> str:
    """Return the body of the function *name* of the zsh completion."""
    found = re.search(rf"^{name}\(\) {{\n(.*?)^}}$", ZSH.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def arms(text: str) -> dict[Words, str]:
    """Return what stands behind each label of the cases in *text*."""
    found: dict[Words, str] = {}
    for arm in _ARM.finditer(text):
        for label in arm["labels"].split(" | "):
            found[tuple(label.strip('"').split())] = arm["body"]
    return found


def zsh_commands() -> dict[Words, str]:
    """Return what is said of each command."""
    return {
        (): function("_postfix-mtasts"),
        **arms(function("_postfix-mtasts-arguments")),
        **arms(function("_postfix-mtasts-action")),
    }


def test_zsh_knows_the_commands_that_there_are() -> None:
    assert set(zsh_commands()) == set(COMMANDS)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_zsh_offers_the_options_of_each_command_and_no_others(words: Words) -> None:
    text = zsh_commands()[words]
    own = set(_OPTION.findall(_EXCLUDED.sub("", text)))
    if words:
        common = options(("serve",))
        assert "_arguments $common" in text or "_postfix-mtasts-action" in text
        assert not own & common
        own |= common
    assert own == options(words)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_zsh_keeps_apart_only_options_that_there_are(words: Words) -> None:
    text = zsh_commands()[words]
    said = re.findall(r"--[a-z]+", " ".join(_EXCLUDED.findall(text)))
    said += re.findall(r"--[a-z]+", " ".join(re.findall("instead='(.*)'", text)))
    assert set(said) <= options(words)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_zsh_offers_the_verbs_and_actions_of_each_command(words: Words) -> None:
    assert set(_NAME.findall(zsh_commands()[words])) == names(words)


def test_zsh_asks_for_values_of_the_options_that_take_one() -> None:
    taking = set(re.findall(r"(--[a-z]+)=\[", ZSH.read_text()))
    assert taking == set(WITH_VALUE)


def test_zsh_offers_the_maps_that_there_are() -> None:
    found = re.search(r":map:\((.*?)\)", ZSH.read_text())
    assert found
    assert set(found[1].split()) == {*MAPS, EXPLAIN}


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_can_read_it() -> None:
    done = subprocess.run(["zsh", "-f", "-n", ZSH], capture_output=True, check=True)
    assert done.stderr == b""
