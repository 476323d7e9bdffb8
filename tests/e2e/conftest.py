"""The lab, started once a session, and what to see when a test of it fails.

Where the lab cannot run its tests are skipped, and the last lines of the run
say why, with or without ``-rs``.
"""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.e2e.lab import Lab, missing_requirements

TAIL = 60  # lines of each log that a failure shows

_folder = pytest.StashKey[Path]()
_not_run = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_not_run] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def skip(request: pytest.FixtureRequest) -> Callable[[str], NoReturn]:
    """Return a function that skips a test for a reason which the run's last lines name."""

    def skip_for(reason: str) -> NoReturn:
        reasons = request.config.stash[_not_run]
        if reason not in reasons:
            reasons.append(reason)
        pytest.skip(reason)

    return skip_for


@pytest.fixture(scope="session")
def labs(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    skip: Callable[[str], NoReturn],
) -> Path:
    """Return the folder in which each lab has one; skips where none can run."""
    if missing := missing_requirements():
        skip(f"the end-to-end lab cannot run: {'; '.join(missing)}")
    folder = request.config.stash[_folder] = tmp_path_factory.mktemp("e2e")
    return folder


@pytest.fixture(scope="session")
def started_lab(labs: Path) -> Iterator[Lab]:
    lab = Lab(labs / "lab")
    yield lab
    lab.close()


@pytest.fixture
def lab(started_lab: Lab) -> Iterator[Lab]:
    """Return the lab with a running daemon and an empty queue."""
    if not started_lab.daemon.running:
        started_lab.daemon.start()
    yield started_lab
    started_lab.postfix.empty_queue()


@pytest.hookimpl(hookwrapper=True)  # "wrapper" is newer than Debian 12's pytest
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    report: pytest.TestReport = (yield).get_result()
    if report.failed and _folder in item.config.stash:
        for log in sorted(item.config.stash[_folder].rglob("*.log")):
            lines = log.read_text(errors="replace").splitlines()
            if lines:
                report.sections.append((f"end of {log.name}", "\n".join(lines[-TAIL:])))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for reason in config.stash[_not_run]:
        terminalreporter.write_line(f"NOT RUN: tests/e2e: {reason}", yellow=True)
