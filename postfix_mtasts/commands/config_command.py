"""The verb `config`: is the configuration sound, and what is in force."""

import argparse

from postfix_mtasts.commands.configuration import SYSTEM_CONFIG, Source
from postfix_mtasts.commands.failure import ExitStatus
from postfix_mtasts.commands.terminal import result, result_json, talk
from postfix_mtasts.config import CONFIG, build_config


def run(args: argparse.Namespace) -> int:
    """Check or show the configuration; raises ConfigError where it is bad."""
    source = Source.from_arguments(args)
    config = source.load()
    if source.path is None:
        talk(f"there is no {SYSTEM_CONFIG}: the built-in defaults hold")
    if args.action == "check":
        result("ok")
    elif args.json:
        result_json(CONFIG.build(config))
    else:
        result(build_config(config).rstrip())
    return ExitStatus.WELL
