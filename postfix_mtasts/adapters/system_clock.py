"""Whether the kernel counts its clock as synchronised (adjtimex(2))."""

import ctypes
import time
from pathlib import Path

import postfix_mtasts
from postfix_mtasts.core.host_diagnosis import Time

_TIME_ERROR = 5  # <sys/timex.h>: not synchronised
_ROOM = 1024  # octets, more than struct timex has anywhere; its modes are 0: change nothing


def read_time() -> Time:
    """Return what can be told of the clock without asking anybody."""
    return Time(
        now=time.time(),
        installed=Path(postfix_mtasts.__file__).stat().st_mtime,
        synchronised=_synchronised(),
    )


def _synchronised() -> bool | None:
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_ROOM))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else bool(state != _TIME_ERROR)
