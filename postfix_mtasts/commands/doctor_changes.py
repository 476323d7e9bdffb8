"""``doctor --apply`` and ``--undo``: main.cf changed by postconf, and put back.

Nothing is changed before it was shown and agreed to.  What Postfix's own check then
refuses is put back at once.
"""

import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from postfix_mtasts.adapters import main_cf, postconf
from postfix_mtasts.adapters.command import CommandFailedError
from postfix_mtasts.commands.failure import CommandError, ExitStatus
from postfix_mtasts.commands.terminal import result, talk
from postfix_mtasts.commands.words import printable
from postfix_mtasts.core.diagnosis import Change, Diagnosis
from postfix_mtasts.core.postfix_setup import Setup


def apply(diagnoses: Sequence[Diagnosis], setups: Sequence[Setup], *, ask: bool) -> bool:
    """Make all changes that *diagnoses* ask for; return whether there were any, and leave to.

    *ask*: whether to ask before.  Raises CommandError.
    """
    wanted = [(s, changes) for s in setups if (changes := _changes(diagnoses, s))]
    if not wanted:
        result("There is nothing to change in main.cf.\n")
        return False
    for line in _shown(wanted):
        result(printable(line))
    if ask and not _agreed():
        talk("Nothing was changed.")
        return False
    for setup, changes in wanted:
        _change(setup.folder, changes)
    result("")
    return True


def undo() -> ExitStatus:
    """Put main.cf of each instance back, where nobody has edited it since."""
    try:
        folders = tuple(map(Path, postconf.find_folders()))
    except CommandFailedError as error:
        raise CommandError(ExitStatus.WRONG, str(error)) from None
    backups = [backup for folder in folders if (backup := main_cf.last_backup(folder))]
    if not backups:
        raise CommandError(ExitStatus.WRONG, "there is nothing to undo")
    refused = [backup for backup in backups if not _undone(backup)]
    return ExitStatus.WRONG if refused else ExitStatus.WELL


def _changes(diagnoses: Iterable[Diagnosis], setup: Setup) -> tuple[Change, ...]:
    """Return what is to be changed in *setup*, each setting once."""
    found: dict[str, Change] = {}
    for each in diagnoses:
        if each.instance == setup.folder:
            for change in each.changes:
                found.setdefault(change.name, change)
    return tuple(found.values())


def _shown(wanted: Sequence[tuple[Setup, Sequence[Change]]]) -> Iterator[str]:
    for setup, changes in wanted:
        yield f"{setup.folder}/main.cf:"
        for change in changes:
            if change.name in setup.written:
                yield f"- {change.name} = {setup.written[change.name]}"
            if change.value is not None:
                yield f"+ {change.name} = {change.value}"


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise CommandError(ExitStatus.USAGE, "to change main.cf without being asked, say --yes")
    sys.stderr.write("Make these changes? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _change(folder: str, changes: Sequence[Change]) -> None:
    def edit_and_check() -> None:
        postconf.edit(folder, changes)
        postconf.check(folder)

    try:
        backup = main_cf.change_with_backup(Path(folder), edit_and_check)
        result(f"changed; as it was: {backup.path}")
        _reload(folder)
    except (CommandFailedError, main_cf.BackupError) as error:
        raise CommandError(ExitStatus.WRONG, f"{folder}/main.cf: {error}") from None


def _undone(backup: main_cf.Backup) -> bool:
    """Put *backup* back and say so; return whether that was right to do."""
    target = backup.folder / "main.cf"
    try:
        if main_cf.edited_since(backup):
            talk(f"{target} was edited since, and is left as it is; what would go and come:")
            for line in main_cf.difference(backup):
                talk(printable(line))
            talk(
                f"to put it back all the same: {shlex.join(['cp', str(backup.path), str(target)])}"
            )
            return False
        main_cf.restore(backup)
        result(f"{target} is as it was before")
        _reload(str(backup.folder))
    except (CommandFailedError, main_cf.BackupError, OSError) as error:
        raise CommandError(ExitStatus.WRONG, f"{target}: {error}") from None
    return True


def _reload(folder: str) -> None:
    if postconf.reload(folder):
        result(f"Postfix of {folder} has read it")
    else:
        result(f"Postfix of {folder} does not run")
