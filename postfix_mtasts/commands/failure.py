"""How a command ends: its exit status, and the error that carries one."""

from enum import IntEnum

from postfix_mtasts.core.errors import MtastsError


class ExitStatus(IntEnum):
    """What the shell is told."""

    WELL = 0
    WRONG = 1  # something found wrong, or nothing found
    USAGE = 2  # the command line or the configuration cannot be used
    LATER = 75  # try again later: EX_TEMPFAIL of sysexits.h


class CommandError(MtastsError):
    """A command that ends here; its text is for stderr."""

    def __init__(self, status: ExitStatus, why: str) -> None:
        super().__init__(why)
        self.status = status
