"""The lab, started once a session, and what to see when a test of it fails.

Where the lab cannot run its tests are skipped, and the last lines of the run
say why, with or without ``-rs``.
"""

from collections.abc import Generator, Iterator

import pytest

from tests.e2e.lab import Lab, missing_requirements

TAIL = 60  # lines of each log that a failure shows

_lab = pytest.StashKey[Lab]()
_not_run = pytest.StashKey[str]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(__file__.rpartition("/")[0]):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def started_lab(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    if missing := missing_requirements():
        request.config.stash[_not_run] = "; ".join(missing)
        pytest.skip(f"the end-to-end lab cannot run: {'; '.join(missing)}")
    lab = Lab(tmp_path_factory.mktemp("e2e"))
    request.config.stash[_lab] = lab
    yield lab
    lab.close()


@pytest.fixture
def lab(started_lab: Lab) -> Iterator[Lab]:
    """Return the lab with a running daemon and an empty queue."""
    if not started_lab.daemon.running:
        started_lab.daemon.start()
    yield started_lab
    started_lab.postfix.empty_queue()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and _lab in item.config.stash:
        for path in item.config.stash[_lab].logs():
            lines = path.read_text(errors="replace").splitlines() if path.exists() else []
            report.sections.append((f"end of {path.name}", "\n".join(lines[-TAIL:])))
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if _not_run in config.stash:
        terminalreporter.write_line(f"NOT RUN: tests/e2e: {config.stash[_not_run]}", yellow=True)
