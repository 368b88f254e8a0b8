"""what is allocated meanwhile, in bytes"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec

import pytest

counts_memory = pytest.mark.skipif(
    find_spec("_tracemalloc") is None, reason="nothing counts what this interpreter allocates"
)


class Held:
    """Beyond what was held before.

    Attributes:
        now: at the end of the block.
        peak: at most.
    """

    now = 0
    peak = 0


@contextmanager
def counted() -> Iterator[Held]:
    """Count in a block, for a test that is marked with `counts_memory`; the result is there when it has ended."""
    tracemalloc = import_module("tracemalloc")  # which not each interpreter has
    held = Held()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield held
        now, peak = tracemalloc.get_traced_memory()
        held.now, held.peak = now - before, peak - before
    finally:
        tracemalloc.stop()


def peak_of(call: Callable[[], object]) -> int:
    with counted() as held:
        call()
    return held.peak
