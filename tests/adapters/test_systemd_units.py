"""What systemctl says of a unit, by a systemctl of the test's own."""

from pathlib import Path

import pytest

from postfix_mtasts.adapters import command
from postfix_mtasts.adapters.systemd_units import Unit, find_unit

UNIT = "postfix-mtasts-collector.service"


def systemctl(folder: Path, monkeypatch: pytest.MonkeyPatch, said: str, status: int = 0) -> None:
    program = folder / "systemctl"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setattr(command, "SEARCH_PATH", f"{folder}:{command.SEARCH_PATH}")


def test_a_loaded_unit_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        "User=us\nLoadState=loaded\nActiveState=active\nStatusText=a=b\nSupplementaryGroups=adm x"
    )
    systemctl(tmp_path, monkeypatch, said)
    unit = Unit(active=True, status="a=b", user="us", groups=("adm", "x"))
    assert find_unit(UNIT, tmp_path) == unit


@pytest.mark.parametrize(
    ("state", "active"), [("reloading", True), ("failed", False), ("inactive", False)]
)
def test_a_unit_may_not_be_active(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, *, active: bool
) -> None:
    systemctl(tmp_path, monkeypatch, f"LoadState=loaded\nActiveState={state}")
    unit = find_unit(UNIT, tmp_path)
    assert unit is not None
    assert unit.active is active


@pytest.mark.parametrize(("said", "status"), [("LoadState=not-found", 0), ("", 1)])
def test_a_unit_that_systemd_does_not_know_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, status: int
) -> None:
    systemctl(tmp_path, monkeypatch, said, status)
    assert find_unit(UNIT, tmp_path) is None


def test_without_systemd_there_are_no_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemctl(tmp_path, monkeypatch, "LoadState=loaded\nActiveState=active")
    assert find_unit(UNIT, tmp_path / "not-booted") is None
