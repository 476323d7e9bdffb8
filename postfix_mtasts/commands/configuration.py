"""Which configuration a command goes by."""

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from postfix_mtasts.config import Config, default_config, load_config

SYSTEM_CONFIG = Path("/etc/postfix-mtasts/config.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the configuration comes from; *path* `None` for the built-in defaults."""

    path: Path | None
    state: Path  # the folder for the state where there is no file

    @classmethod
    def from_arguments(
        cls, args: argparse.Namespace, environment: Mapping[str, str] = os.environ
    ) -> "Source":
        """Return the file that ``--config`` names, else the system's, else the defaults."""
        path: Path | None = None if args.config is None else Path(args.config)
        if path is None and SYSTEM_CONFIG.exists():
            path = SYSTEM_CONFIG
        home = Path(environment.get("XDG_STATE_HOME", ""))
        if not home.is_absolute():  # the XDG Base Directory Specification says to ignore it
            home = Path.home() / ".local" / "state"
        return cls(path=path, state=home / "postfix-mtasts")

    def load(self) -> Config:
        """Return the configuration; raises ConfigError where it is bad."""
        return default_config(self.state) if self.path is None else load_config(self.path)
