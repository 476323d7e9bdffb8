"""What another user sees: a child process takes on a user, groups and a chroot, and looks.

Postfix's SMTP client runs as its mail_owner, without supplementary groups, its root
often the queue directory.  Whether it reaches a socket is asked from just there.

The child reads its orders from stdin and writes what it saw to stdout, both JSON.
All that it needs is loaded before it leaves this root.  It looks, and changes
nothing: a datagram socket is connected to, and nothing is sent.

LIMITS: `SECONDS` for all that one child looks at.
"""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import postfix_mtasts
from postfix_mtasts.adapters import socketmap_client
from postfix_mtasts.core.endpoints import Listen
from postfix_mtasts.core.errors import MtastsError
from postfix_mtasts.core.map_line import Reach
from postfix_mtasts.core.socketmap import Reply, Status

SECONDS = 20.0
_ASK_SECONDS = 5.0
_KEY = b".doctor"  # answered at once, for nothing is to be looked up
_HASH_NAME = re.compile(r"[0-9a-f]{8}\.[0-9]+")  # openssl-rehash(1)
_CHILD = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    " from postfix_mtasts.adapters.other_eyes import main; main()"
)


class NoEyesError(MtastsError):
    """The child could not look; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Eyes:
    """Whose: numbers of the user and the groups, the root, and the folder to start from."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    root: str
    folder: str  # as seen from *root*


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What to look at, paths as *eyes* see them."""

    ask: tuple[Listen, ...] = ()
    write: tuple[str, ...] = ()  # datagram sockets
    read: tuple[str, ...] = ()
    authorities: tuple[str, ...] = ()  # folders


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What was seen, in the order of the orders.

    *asked*: who answered, and why nobody did.  *written*, *read*: why not, "" for
    "can be".  *authorities*: how many certificates.
    """

    asked: tuple[tuple[Reach, str], ...] = ()
    written: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    authorities: tuple[int, ...] = ()


def look(eyes: Eyes, orders: Orders) -> Sight:
    """Return what *eyes* see; raises `NoEyesError`, as for want of the right to be another."""
    package = Path(postfix_mtasts.__file__).resolve().parent.parent
    try:
        done = subprocess.run(  # noqa: S603 - this program itself
            [sys.executable, "-I", "-c", _CHILD, str(package)],
            input=json.dumps({"eyes": asdict(eyes), "orders": asdict(orders)}).encode(),
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NoEyesError(f"no end within {SECONDS:.0f} s") from None
    except OSError as error:
        raise NoEyesError(str(error)) from None
    if done.returncode:
        last = (done.stderr.decode("utf-8", "replace").splitlines() or ["it ended"])[-1]
        raise NoEyesError(last[:300])
    seen = json.loads(done.stdout)
    return Sight(
        asked=tuple((Reach(who), why) for who, why in seen["asked"]),
        written=tuple(seen["written"]),
        read=tuple(seen["read"]),
        authorities=tuple(seen["authorities"]),
    )


def main() -> None:
    """Be the child."""
    brief = json.load(sys.stdin)
    eyes, orders = brief["eyes"], brief["orders"]
    "localhost".encode("idna")  # loads what names of hosts need, which the chroot does not have
    try:
        _become(Eyes(**eyes))
    except OSError as error:
        sys.exit(f"{error.strerror}")
    json.dump(_seen(orders), sys.stdout)


def _become(eyes: Eyes) -> None:
    if eyes.root != "/":
        os.chroot(eyes.root)
    os.chdir(eyes.folder)
    own = (os.geteuid(), os.getegid())
    if own != (eyes.uid, eyes.gid) or own[0] == 0:
        os.setgroups(eyes.groups)
        os.setgid(eyes.gid)
        os.setuid(eyes.uid)


def _seen(orders: dict[str, Any]) -> dict[str, Sequence[object]]:
    return {
        "asked": [_ask(Listen(**listen)) for listen in orders["ask"]],
        "written": [_refusal(_connect, path) for path in orders["write"]],
        "read": [_refusal(_open, path) for path in orders["read"]],
        "authorities": [_count(folder) for folder in orders["authorities"]],
    }


def _ask(listen: Listen) -> tuple[str, str]:
    """Ask what only we know how to answer."""
    try:
        reply = socketmap_client.ask([listen], "explain", _KEY, _ASK_SECONDS)
    except socketmap_client.DaemonError as error:
        return Reach.NOBODY.value, error.why
    return (Reach.OURS if _explains(reply) else Reach.FOREIGN).value, ""


def _explains(reply: Reply) -> bool:
    if reply.status is not Status.OK:
        return False
    try:
        document = json.loads(reply.text)
    except (ValueError, RecursionError):  # the latter for "[[[…"
        return False
    return isinstance(document, dict) and "verdict" in document


def _refusal(act: Callable[[str], None], path: str) -> str:
    try:
        act(path)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.connect(path)


def _open(path: str) -> None:
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))


def _count(folder: str) -> int:
    try:
        return sum(bool(_HASH_NAME.fullmatch(path.name)) for path in Path(folder).iterdir())
    except OSError:
        return 0
