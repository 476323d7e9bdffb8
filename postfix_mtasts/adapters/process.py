"""What the process has of the machine: file descriptors."""

import resource


def raise_descriptor_limit() -> int:
    """Raise the limit of open files to the most that is allowed; return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
