"""The package, built once a session, and what its tests run in."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from tests.e2e.debian_tree import NoTreeError, debian_tree
from tests.e2e.lab import World, missing_requirements
from tests.package import machine
from tests.package.machine import Machine

CHECKOUT = Path(__file__).parents[2]
TOOLS = ("dpkg-buildpackage", "dh", "pybuild", "lintian")

SUITES = ("bookworm", "trixie")
OLDER = "0.0.1~lab"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the package as this checkout builds it."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"the package cannot be built: {', '.join(missing)} not installed")
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which is that of all workers: one builds, the others wait
    folder /= "package"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = list(folder.glob("*.deb"))
        return found[0] if found else built(begin_build(CHECKOUT, folder))


def begin_build(checkout: Path, output: Path, *before: str) -> subprocess.Popen[str]:
    """Start *checkout*'s packaging/build-deb, after the words *before*."""
    command = [*before, str(checkout / "packaging" / "build-deb"), str(output)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def built(building: subprocess.Popen[str]) -> Path:
    """Return the package that *building* makes."""
    stdout, stderr = building.communicate()
    assert building.returncode == 0, stderr
    return Path(stdout.strip())


@pytest.fixture(scope="session")
def older_package(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the package with the number of an older build."""
    folder = tmp_path_factory.mktemp("older")
    content = folder / "content"
    subprocess.run(["dpkg-deb", "--raw-extract", package, content], check=True)
    control = content / "DEBIAN" / "control"
    lines = control.read_text().splitlines(keepends=True)
    control.write_text(
        "".join(f"Version: {OLDER}\n" if it.startswith("Version:") else it for it in lines)
    )
    older = folder / f"postfix-mtasts_{OLDER}_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", content, older], check=True)
    return older


@pytest.fixture(scope="session")
def boot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Machine]]:
    """Return a function that boots a machine of a suite, once; skips where it cannot.

    `test_install` leaves its machines as it found them, without the package.
    """
    if missing := [*missing_requirements(), *filter(None, [machine.refusal()])]:
        pytest.skip(f"no Debian can be booted here: {'; '.join(missing)}")
    with ExitStack() as stack:

        @cache
        def boot_machine(suite: str) -> Machine:
            try:
                tree = debian_tree(suite)
            except NoTreeError as error:
                pytest.skip(f"there is no {suite}: {error}")
            world = World(tmp_path_factory.mktemp(suite) / "world")
            stack.callback(world.close)
            # One each: Debian 12 leaves mail to the journal, on 13 Postfix writes its own file.
            booted = Machine(world, tree, to_file=suite == "trixie")
            stack.callback(booted.close)
            return booted

        yield boot_machine
