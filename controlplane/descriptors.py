"""How many descriptors this process may have open, and how many of them connections may take."""

import resource
from typing import Final

DESCRIPTORS_MAX: Final = 65_536
# What is kept free of connections for Redis, the database, files and threads.
RESERVE_SHARE: Final = 4
RESERVE_MAX: Final = 1_024


def raise_descriptor_limit() -> int:
    """Raise this process's limit of open descriptors as far as it may, and return it.

    The usual limit of 1,024 is for programs that use select(), which nothing here does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return descriptor_limit()


def descriptor_limit() -> int:
    """Return how many descriptors this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return DESCRIPTORS_MAX if soft == resource.RLIM_INFINITY else soft


def room() -> int:
    """Return how many descriptors connections may take, all kinds of them together."""
    limit = descriptor_limit()
    return limit - min(limit // RESERVE_SHARE, RESERVE_MAX)
