"""A tree of Debian 13's files with its Postfix, made by debootstrap(8), once a machine.

It comes from the mirror that this machine's apt uses, and lies in a cache folder
outside the checkout.  The lab only looks at it: what Postfix writes to is bound
over it in the lab's own namespace.
"""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from tests.e2e.namespace import SEARCH_PATH

SUITE = "trixie"
BUILD_SECONDS = 900.0  # one minute on a good line

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "/var/cache") / "postfix-mtasts-tests"
_MIRROR = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
_DEBIAN = ["Origin: Debian", "Label: Debian"]  # and not its security updates


class NoTreeError(Exception):
    """There is no such tree, and none can be made; says why."""


def debian_tree() -> Path:
    """Return the root of the tree, made now if there is none yet.

    Raises `NoTreeError`.
    """
    tree = _CACHE / SUITE
    try:
        _CACHE.mkdir(parents=True, exist_ok=True)
        with (_CACHE / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not tree.exists():
                _build(tree)
    except OSError as error:
        raise NoTreeError(f"{tree}: {error.strerror}") from error
    return tree


def _build(tree: Path) -> None:
    program = shutil.which("debootstrap", path=SEARCH_PATH)
    if program is None:
        raise NoTreeError("debootstrap is not installed (Debian package debootstrap)")
    unfinished = tree.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    options = ["--variant=minbase", "--include=postfix"]
    _run([program, *options, SUITE, str(unfinished), _mirror()])
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
