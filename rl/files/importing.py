"""Importing large libraries without looking through all of them again and again."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Inside, the garbage collector waits, and it passes over what is imported there from then on.

    PyTorch, Transformers and vLLM come as a million objects that stay: looking through them takes a quarter of the time
    in which they are imported, and most of a second whenever vLLM has all of them collected as it starts.
    """
    collects, there = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > there:  # else all that would be set aside is the caller's, which may not stay
            gc.freeze()
        if collects:
            gc.enable()
