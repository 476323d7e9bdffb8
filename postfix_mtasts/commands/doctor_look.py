"""All that `doctor` looks at, at the same time where it waits for others.

Each look has its own limit of time below `SECONDS`, which is that of them all.
"""

import asyncio
import os
import shlex
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from postfix_mtasts.adapters import postconf
from postfix_mtasts.adapters.command import CommandFailedError
from postfix_mtasts.commands.doctor_host import look_at_host, look_at_state
from postfix_mtasts.commands.doctor_postfix import look_at_postfix
from postfix_mtasts.commands.doctor_reports import look_at_reports
from postfix_mtasts.config import Config
from postfix_mtasts.core.diagnosis import Diagnosis, note, wrong
from postfix_mtasts.core.postfix_setup import Setup

SECONDS = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What was found, in the order to tell it, and of which instances of Postfix."""

    diagnoses: tuple[Diagnosis, ...]
    setups: tuple[Setup, ...]


async def look(config: Config, path: Path | None) -> Looked:
    """Return how this host is; *path*: of the configuration, `None` for the defaults."""
    setups, failure = await asyncio.to_thread(_setups)
    looks = (
        *(("Postfix", look_at_postfix(setup, config, path)) for setup in setups),
        ("host", look_at_host(config, setups)),
        ("state", look_at_state(config)),
        ("reports", look_at_reports(config, path)),
    )
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_within(subject, what)) for subject, what in looks]
    found = [each for task in tasks for each in task.result()]
    return Looked(diagnoses=(*failure, *found, *_rights()), setups=setups)


def _setups() -> tuple[tuple[Setup, ...], tuple[Diagnosis, ...]]:
    try:
        folders = postconf.find_folders()
    except CommandFailedError as error:
        return (), (wrong("Postfix", str(error), "apt-get install postfix"),)
    setups, faults = [], []
    for folder in folders:
        try:
            setups.append(postconf.read_setup(folder))
        except CommandFailedError as error:
            check = shlex.join(["postfix", "-c", folder, "check"])
            fault = wrong("Postfix", str(error), check)
            faults.append(replace(fault, instance=folder))
    return tuple(setups), tuple(faults)


async def _within(subject: str, looking: Awaitable[Sequence[Diagnosis]]) -> Sequence[Diagnosis]:
    try:
        async with asyncio.timeout(SECONDS):
            return await looking
    except TimeoutError:
        return (note(subject, f"was not looked at: no end within {SECONDS:.0f} s"),)


def _rights() -> tuple[Diagnosis, ...]:
    if os.geteuid() == 0:
        return ()
    return (
        note("rights", "some things can be looked at by root only: sudo postfix-mtasts doctor"),
    )
