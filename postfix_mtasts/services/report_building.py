"""A report built of what is stored, which may still grow while its day lasts."""

from postfix_mtasts.core.merging import merge
from postfix_mtasts.core.tlsrpt_report import Heading, build_report
from postfix_mtasts.ports import CountStore


def build_stored_report(counts: CountStore, heading: Heading) -> bytes | None:
    """Return the report under *heading* as JSON, `None` where there were no sessions."""
    return build_report(heading, merge(counts.counts_of(heading.day, heading.domain)))
