"""`ulimit -v`: how many addresses a process may have, and those that it starts. They map far more than they use."""

from __future__ import annotations

import os
import resource

GIB = 2**30
SHARE_OF_OBJECTS, MOST_OF_OBJECTS = 0.3, 200 * 10**9
"""Of the machine's memory, and bytes at most: what Ray maps for its objects into every process."""
LIBRARIES = 8 * GIB
"""PyTorch's, vLLM's and Ray's, with the stacks of their threads."""


def too_few_addresses() -> str:
    """Says so if there are fewer than a process of a run maps; empty otherwise."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    wanted = min(SHARE_OF_OBJECTS * memory, MOST_OF_OBJECTS) + LIBRARIES
    if limit == resource.RLIM_INFINITY or limit >= wanted:
        return ""
    return (
        f"`ulimit -v` leaves a process {limit / GIB:.1f} GiB of addresses, and each one of a run maps "
        f"{wanted / GIB:.0f} GiB on this machine; allowed is that or more"
    )
