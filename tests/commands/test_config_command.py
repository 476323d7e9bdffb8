"""The verb `config`."""

import json
from pathlib import Path

import pytest

from postfix_mtasts.cli import main
from postfix_mtasts.commands import config_command, configuration
from postfix_mtasts.config import load_config, parse_config
from tests.commands.conftest import Command


def test_a_sound_config_is_ok(command: Command) -> None:
    ran = command("config", "check")
    assert (ran.status, ran.out, ran.err) == (0, "ok\n", "")


def test_each_fault_of_a_config_is_told(command: Command, config: Path) -> None:
    config.write_text("sever: {}\nlogging: {level: loud}\n")
    ran = command("config", "check")
    assert (ran.status, ran.out) == (2, "")
    faults = ran.err.splitlines()
    assert len(faults) == 2
    assert all(fault.startswith(f"postfix-mtasts: {config}:") for fault in faults)


def test_a_config_that_is_not_there_is_a_fault(command: Command, config: Path) -> None:
    config.unlink()
    ran = command("config", "check")
    assert (ran.status, ran.out) == (2, "")
    assert "No such file or directory" in ran.err


def test_what_is_shown_is_a_config_that_says_the_same(command: Command, config: Path) -> None:
    shown = command("config", "show")
    assert shown.status == 0
    assert parse_config(shown.out, base="/") == load_config(config)


def test_the_same_is_shown_as_json(command: Command, config: Path) -> None:
    shown = json.loads(command("config", "show", "--json").out)
    assert shown["server"] == {
        "listen": [f"unix:{config.parent}/sock"],
        "default_level": "encrypt",
    }


@pytest.mark.parametrize("action", ["check", "show"])
def test_without_a_file_the_defaults_are_in_force(
    action: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    missing = tmp_path / "none.yaml"
    for module in (configuration, config_command):
        monkeypatch.setattr(module, "SYSTEM_CONFIG", missing)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert main(["config", action]) == 0
    output = capsys.readouterr()
    assert output.err == f"there is no {missing}: the built-in defaults hold\n"
    expected = {"check": "ok\n", "show": f"sqlite:///{tmp_path}/postfix-mtasts/state.db"}
    assert expected[action] in output.out
