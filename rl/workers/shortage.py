"""Memory that ran out, of a GPU or of a machine: how it is known, and told in one form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

GIB = 2**30
SAYS_SO = re.compile(
    r"out of memory|MemoryError|(can't|cannot|unable to) allocate|ALLOC_FAILED|low on memory|Free memory on device",
    re.I,
)
"""As PyTorch, CUDA, cuBLAS, NumPy, Ray and, at its start, vLLM say it."""
ASKED = re.compile(r"(?:tried|unable) to allocate ([\d.]+) ?(\w+)", re.I)
THERE = re.compile(r"total capacity of ([\d.]+ \w+) of which ([\d.]+ \w+) is free")
BY_RAY = re.compile(r"([\d.]+) ?GB used / ([\d.]+) ?GB limit")
"""Which ends workers before a machine is out of memory, whosever it is; a page of text follows."""


def shortage(text: str) -> str | None:
    """What an error says of memory: what was asked for, and what was there, as far as it tells; None if it is another.

    >>> shortage("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.25 GiB of which "
    ...          "1.50 GiB is free.")
    'asked for 2.00 GiB, and 1.50 GiB of 79.25 GiB were free'
    >>> shortage("OutOfMemoryError: 1 worker(s) were killed due to the node running low on memory. Memory on the "
    ...          "node (IP: 127.0.0.1, ID: 4375) was 22.46GB used / 23.54GB limit (0.95) OOM kill reason: ...")
    "22.46 of the machine's 23.54 GiB were in use, by this run and others; Ray ended the worker"
    >>> shortage("KeyError: 'memory'") is None
    True
    """
    if not SAYS_SO.search(text):
        return None
    if by_ray := BY_RAY.search(text):
        return f"{by_ray[1]} of the machine's {by_ray[2]} GiB were in use, by this run and others; Ray ended the worker"
    asked, there = ASKED.search(text), THERE.search(text)
    if not asked:
        return text
    number, unit = asked.groups()
    wanted = f"{int(number) / GIB:.2f} GiB" if unit == "bytes" else f"{number} {unit}"
    return f"asked for {wanted}, and {there[2]} of {there[1]} were free" if there else f"asked for {wanted}"


@contextmanager
def telling_what_is_free() -> Iterator[None]:
    """While inside, an error that the machine's memory ran out says how much of it is free, as those of a GPU do.

    Raises:
        MemoryError: In the place of such an error.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        memory = psutil.virtual_memory()
        free = f"a total capacity of {memory.total / GIB:.2f} GiB of which {memory.available / GIB:.2f} GiB is free"
        raise MemoryError(f"{error} The machine has {free}.") from error
