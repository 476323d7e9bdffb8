"""The package itself: how it is built, and what Debian's checker says of it."""

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.package.conftest import CHECKOUT, begin_build, built

NOBODY = pwd.getpwnam("nobody").pw_uid


def exported(folder: Path) -> Path:
    """Return a copy of the checkout as an archive has it, without git, others' own."""
    listed = ["git", "-C", str(CHECKOUT), "ls-files", "-z", "--cached", "--others"]
    names = subprocess.run([*listed, "--exclude-standard"], check=True, capture_output=True).stdout
    for name in filter(None, names.decode().split("\0")):
        if (CHECKOUT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    """Return a folder that every user may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="session")  # or it would not be begun before `package`
def other_build(open_folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Begin to build a copy as nobody, in odd surroundings, beside `package`."""
    copy = exported(open_folder / "another-name")
    output = open_folder / "output"
    output.mkdir()
    os.chown(output, NOBODY, -1)
    with begin_build(
        copy,
        output,
        *("setpriv", f"--reuid={NOBODY}", "--clear-groups"),
        *("env", "TZ=Asia/Tokyo", "LC_ALL=POSIX", f"TMPDIR={output}", "HOME=/nonexistent"),
        *("sh", "-c", 'umask 077 && exec "$@"', "sh"),
    ) as building:
        yield building


def test_every_build_has_the_same_bytes_whoever_builds_where_and_from_what(
    other_build: subprocess.Popen[str], package: Path
) -> None:
    other = built(other_build)

    assert other.name == package.name
    assert other.read_bytes() == package.read_bytes()
    assert [it.name for it in other.parent.iterdir()] == [package.name]


def test_lintian_finds_neither_errors_nor_warnings(package: Path) -> None:
    done = subprocess.run(
        ["lintian", "--allow-root", package],
        check=False,
        capture_output=True,
        text=True,
    )

    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


def test_each_override_of_lintian_has_its_reason_above_it() -> None:
    overrides = CHECKOUT / "packaging" / "debian" / "postfix-mtasts.lintian-overrides"
    lines = overrides.read_text().splitlines()

    for before, line in zip(["", *lines], lines, strict=False):
        assert line.startswith("#") or before.startswith("#"), line


def test_it_is_for_all_architectures_and_wants_what_the_program_says(package: Path) -> None:
    fields = subprocess.run(
        ["dpkg-deb", "--field", package], check=True, capture_output=True, text=True
    ).stdout
    depends = re.search(r"^Depends: (.*)$", fields, re.MULTILINE)
    assert depends is not None

    assert "Architecture: all\n" in fields
    for name in ("dnspython", "idna", "requests", "sdnotify", "yaml"):
        assert f"python3-{name}" in depends[1].split(", ")
