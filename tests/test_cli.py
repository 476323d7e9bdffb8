"""The command line as a whole."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from postfix_mtasts import __version__, cli
from postfix_mtasts.commands.failure import CommandError, ExitStatus
from postfix_mtasts.core.errors import ConfigError

COMMAND = (sys.executable, "-m", "postfix_mtasts")
ROOT = Path(__file__).parent.parent
HEAVY = ("yaml", "asyncio", "dns", "requests", "ssl", "sqlite3", "idna")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stand in for the module of whatever verb is run; `args` is what it was given."""
    module = SimpleNamespace(args=None, name="", status=0, error=None)

    def run(args: object) -> int:
        module.args = args
        if module.error is not None:
            raise module.error
        return int(module.status)

    def load(name: str) -> SimpleNamespace:
        module.name = name.rpartition(".")[2]
        return SimpleNamespace(run=run)

    monkeypatch.setattr(importlib, "import_module", load)
    return module


@pytest.mark.parametrize(
    ("line", "module"),
    [
        ("serve", "serve"),
        ("query example.com", "query"),
        ("cache list", "cache"),
        ("config check", "config_command"),
    ],
)
def test_a_verb_runs_its_module(ran: SimpleNamespace, line: str, module: str) -> None:
    assert cli.main(line.split()) == 0
    assert ran.name == module
    assert ran.args.config is None


@pytest.mark.parametrize(
    "line",
    [
        "--config a.yaml query example.com",
        "query --config a.yaml example.com",
        "query example.com --config=a.yaml",
        "--config b.yaml query example.com --config a.yaml",
        "--config a.yaml cache list",
        "cache --config a.yaml list",
        "cache list --config a.yaml",
        "config --config a.yaml check",
        "config check --config a.yaml",
        "serve --config a.yaml",
    ],
)
def test_the_config_may_be_named_anywhere(ran: SimpleNamespace, line: str) -> None:
    assert cli.main(line.split()) == 0
    assert ran.args.config == "a.yaml"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "fly",
        "cache",
        "cache show",
        "config",
        "query",
        "query a b",
        "query example.com --jso",
        "--config",
        "config check --json",
        "cache list --all",
    ],
)
def test_a_wrong_command_line_is_a_usage_error(
    ran: SimpleNamespace, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(line.split()) == ExitStatus.USAGE
    assert ran.args is None
    output = capsys.readouterr()
    assert output.out == ""
    assert "usage: postfix-mtasts" in output.err


def test_the_version_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"postfix-mtasts {__version__}\n"


def test_the_status_of_a_verb_is_that_of_the_command(ran: SimpleNamespace) -> None:
    ran.status = ExitStatus.WRONG
    assert cli.main(["serve"]) == 1


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ConfigError("a.yaml:1: no\na.yaml:2: no"), 2, ["a.yaml:1: no", "a.yaml:2: no"]),
        (CommandError(ExitStatus.LATER, "not now"), 75, ["not now"]),
        (KeyboardInterrupt(), 130, []),
    ],
)
def test_what_ends_a_verb_becomes_a_status_and_words(
    ran: SimpleNamespace,
    error: BaseException,
    status: int,
    said: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran.error = error
    assert cli.main(["serve"]) == status
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines() == [f"postfix-mtasts: {line}" for line in said]


def test_a_bug_crashes_loudly(ran: SimpleNamespace) -> None:
    ran.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        cli.main(["serve"])


def test_python_m_is_the_command() -> None:
    done = subprocess.run([*COMMAND, "--version"], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == f"postfix-mtasts {__version__}\n".encode()


def test_nobody_reading_on_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [*COMMAND, "config", "show"],
            cwd=ROOT,
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writer)
    assert done.returncode == 0
    assert b"Broken" not in done.stderr
    assert b"Traceback" not in done.stderr


def test_help_loads_nothing_that_it_does_not_need() -> None:
    code = (
        "import sys; from postfix_mtasts.cli import main; main(['query', '--help']);"
        f"print(*(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert b"usage: postfix-mtasts query" in done.stdout
    assert done.stderr.split() == []


def test_a_query_loads_nothing_that_only_direct_needs() -> None:
    code = (
        "import sys; import postfix_mtasts.commands.query;"
        "print(*({'asyncio', 'dns', 'requests', 'sqlite3', 'ssl'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.split() == []
