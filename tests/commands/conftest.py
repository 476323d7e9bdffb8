"""What all commands are tested with: a config, a daemon by script, and the command itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from postfix_mtasts.cli import main
from tests.adapters.socketmap_server import Script, SocketmapServer, unix


@dataclass(frozen=True, kw_only=True)
class Ran:
    status: int
    out: str
    err: str


Command = Callable[..., Ran]
Daemon = Callable[[Mapping[str, str] | Script], SocketmapServer]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text('server: {listen: ["unix:sock"], default_level: encrypt}\n')
    return path


@pytest.fixture
def command(config: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs the command with its words."""

    def run(*words: str) -> Ran:
        status = main([*words, "--config", str(config)])
        output = capsys.readouterr()
        return Ran(status=status, out=output.out, err=output.err)

    return run


@pytest.fixture
def daemon(config: Path) -> Daemon:
    """Return a function that makes the daemon that `config` leads to, with its script."""
    return lambda script: SocketmapServer(unix(config.parent / "sock"), script)
