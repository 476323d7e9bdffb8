"""The limit of open files, in a process of its own, whose limit nothing else needs."""

import subprocess
import sys

PROGRAM = """
import resource
from postfix_mtasts.adapters.process import raise_descriptor_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 200))
print(raise_descriptor_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_the_soft_limit_of_open_files_becomes_the_hard_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout.split() == ["200", "200", "200"]
