"""What systemd says of a unit: whether it is active, its STATUS line, its groups.

Asked is systemctl(1), where a systemd runs.
"""

from dataclasses import dataclass
from pathlib import Path

from postfix_mtasts.adapters.command import CommandFailedError, run_well

BOOTED = Path("/run/systemd/system")  # sd_booted(3)
SECONDS = 5.0
_PROPERTIES = "LoadState,ActiveState,StatusText,User,SupplementaryGroups"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A unit that systemd has loaded; *user* "" where none is named."""

    active: bool
    status: str
    user: str
    groups: tuple[str, ...]


def find_unit(name: str, booted: Path = BOOTED) -> Unit | None:
    """Return the unit *name*; `None` where there is no systemd, or no such unit."""
    if not booted.exists():
        return None
    try:
        said = run_well(["systemctl", "show", "-p", _PROPERTIES, name], seconds=SECONDS)
    except CommandFailedError:
        return None
    found = dict(line.partition("=")[::2] for line in said.splitlines())
    if found.get("LoadState") != "loaded":
        return None
    return Unit(
        active=found.get("ActiveState") in {"active", "reloading"},
        status=found.get("StatusText", ""),
        user=found.get("User", ""),
        groups=tuple(found.get("SupplementaryGroups", "").split()),
    )
