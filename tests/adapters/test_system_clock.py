"""The clock, as the kernel tells of it."""

import time

from postfix_mtasts.adapters.system_clock import read_time


def test_the_time_is_the_systems_and_after_this_programs_files() -> None:
    read = read_time()
    assert abs(read.now - time.time()) < 60
    assert 0 < read.installed <= read.now
    assert read.synchronised in {True, False, None}
