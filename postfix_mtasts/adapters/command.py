"""Other programs, run to their end: their time and what is read of their output is bounded.

Only programs in the system's own folders are run, whatever the caller's PATH says,
and they speak English.  Octets that are no UTF-8 come out of one and go into the next
as they are (os.fsdecode).
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from postfix_mtasts.core.errors import MtastsError

SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"
SECONDS = 10.0
MAX_OUTPUT = 1_000_000  # octets read of each output


class CommandFailedError(MtastsError):
    """A program that is not there, took too long, or complained; the text says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a program ended, and what it said."""

    status: int
    out: str
    err: str


def run(words: Sequence[str], *, seconds: float = SECONDS) -> Done:
    """Run the program that *words* begin with; raises `CommandFailedError` where it cannot be."""
    program = shutil.which(words[0], path=SEARCH_PATH)
    if program is None:
        raise CommandFailedError(f"there is no program {words[0]}")
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            done = subprocess.run(  # noqa: S603 - a program of the system, and no shell
                [program, *words[1:]],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=seconds,
                env=os.environ | {"PATH": SEARCH_PATH, "LC_ALL": "C"},
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CommandFailedError(f"{words[0]} did not end within {seconds:.0f} s") from None
        except OSError as error:
            raise CommandFailedError(f"{words[0]}: {error.strerror}") from None
        return Done(status=done.returncode, out=_said(out), err=_said(err))


def run_well(words: Sequence[str], *, seconds: float = SECONDS) -> str:
    """Return what the program printed; raises `CommandFailedError` also where it complains."""
    done = run(words, seconds=seconds)
    if done.status:
        last = (done.err.strip().splitlines() or [f"status {done.status}"])[-1]
        raise CommandFailedError(f"{words[0]}: {last[:300]}")
    return done.out


def _said(file: BinaryIO) -> str:
    file.seek(0)
    return file.read(MAX_OUTPUT).decode("utf-8", "surrogateescape")
