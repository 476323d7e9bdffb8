"""Trees of other Debians' files, made by mmdebstrap(1), once a machine.

They come from the mirror that this machine's apt uses, and lie in a cache folder
outside the checkout.  Tests only look at them: what they write to lies over a tree
in a namespace of their own.

``python -m tests.e2e.debian_tree`` makes all that are missing.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from tests.e2e.namespace import SEARCH_PATH

_POSTFIX = ("postfix", "ca-certificates")
_WHOLE = (  # all that the package wants, and what a mail server has anyway
    *_POSTFIX,
    "cron",
    "init-system-helpers",
    "python3-dkim",
    "python3-dnspython",
    "python3-idna",
    "python3-prometheus-client",
    "python3-requests",
    "python3-sdnotify",
    "python3-uvloop",
    "python3-yaml",
    "systemd",
    "systemd-sysv",
)
PACKAGES = {"bookworm": _WHOLE, "trixie": _WHOLE, "sid": _POSTFIX}
"""By suite, what is in its tree beside the essential; Postfix 3.7, 3.10 and 3.11 or later."""

BUILD_SECONDS = 900.0  # half a minute on a good line

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "/var/cache") / "postfix-mtasts-tests"
_MIRROR = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
_STALE = '--aptopt=Acquire::Check-Valid-Until "false"'  # a mirror may lag: this is no system to run
_DEBIAN = ["Origin: Debian", "Label: Debian"]  # and not its security updates


class NoTreeError(Exception):
    """There is no such tree, and none can be made; says why."""


def debian_tree(suite: str) -> Path:
    """Return the root of the tree of *suite*, one of `PACKAGES`, made now if there is none yet.

    Raises `NoTreeError`.
    """
    edition = sha256(" ".join(PACKAGES[suite]).encode()).hexdigest()[:8]
    tree = _CACHE / f"{suite}-{edition}"
    try:
        _CACHE.mkdir(parents=True, exist_ok=True)
        with (_CACHE / f"{suite}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not tree.exists():
                _build(tree, suite)
    except OSError as error:
        raise NoTreeError(f"{tree}: {error.strerror}") from error
    return tree


def _build(tree: Path, suite: str) -> None:
    program = shutil.which("mmdebstrap", path=SEARCH_PATH)
    if program is None:
        raise NoTreeError("mmdebstrap is not installed (Debian package mmdebstrap)")
    unfinished = tree.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    options = ["--variant=minbase", _STALE, f"--include={','.join(PACKAGES[suite])}"]
    _run([program, *options, suite, str(unfinished), _mirror()])
    unfinished.rename(tree)


def _mirror() -> str:
    if shutil.which("apt-get", path=SEARCH_PATH) is None:
        raise NoTreeError("there is no apt-get that could name a mirror of Debian")
    found = _run([*_MIRROR, *_DEBIAN]).split()
    if not found:
        raise NoTreeError("apt-get knows no mirror of Debian")
    return found[0]


def _run(command: list[str]) -> str:
    """Return what *command* printed; raises `NoTreeError` with its last line."""
    try:
        ended = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BUILD_SECONDS,
            env=os.environ | {"PATH": SEARCH_PATH},
        )
    except subprocess.TimeoutExpired:
        raise NoTreeError(f"{command[0]} did not end within {BUILD_SECONDS:g} s") from None
    if ended.returncode != 0:
        last = (ended.stdout.splitlines() or [""])[-1]
        raise NoTreeError(f"{command[0]} ended with status {ended.returncode}: {last}")
    return ended.stdout


def main() -> int:
    """Make the trees that are missing; say why where one cannot be made."""
    status = 0
    for suite in PACKAGES:
        try:
            debian_tree(suite)
        except NoTreeError as error:
            sys.stderr.write(f"{suite}: {error}\n")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
