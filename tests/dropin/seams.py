"""With and without the drop-in: what a library does, told in a form that can be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from wslowlevel import dropin


@contextmanager
def installed(library: str) -> Iterator[None]:
    """Inside the block the names of the library lead to ours, unless it is better left as it is."""
    dropin.install(library)
    try:
        yield
    finally:
        dropin.uninstall(library)


def told(call: Callable[[], object]) -> object:
    """What a call gives, and of which type; or which kind of error it raises."""
    try:
        result = call()
    except Exception as error:  # noqa: BLE001 - whatever it is, it must be the same
        return type(error)
    return type(result), result


def same(library: str, story: Callable[[], object]) -> None:
    """The library tells the same story with ours in place as without."""
    without = story()
    with installed(library):
        assert story() == without
