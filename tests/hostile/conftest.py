"""The victim of a test, which must be as before when the test is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from ..servers import LOOPS
from .siege import Record, Siege


@pytest.fixture(autouse=True)
def _scenario(request: pytest.FixtureRequest, record_property: Record) -> None:
    """Under which name the figures of a test are kept: what its docstring begins with."""
    assert request.function.__doc__, "a scenario says what it is about"
    record_property("scenario", request.function.__doc__.partition("\n")[0])


@pytest.fixture(scope="session", params=LOOPS)
def _victim(request: pytest.FixtureRequest) -> Iterator[Siege]:
    siege = Siege(request.param, serve={"close_timeout": 1.0}, deflate=True)
    yield siege
    siege.stop()


@pytest.fixture
def siege(_victim: Siege, record_property: Record) -> Iterator[Siege]:
    """A server on each event loop, with permessage-deflate, a close timeout of a second, and the default limits.

    At the end of the test it must have no task and no descriptor more than before, and have logged nothing unexpected.
    """
    _victim.begin(record_property)
    yield _victim
    _victim.settle()


@pytest.fixture(params=LOOPS)
def siege_of(request: pytest.FixtureRequest, record_property: Record) -> Iterator[Callable[..., Siege]]:
    """Starts a server of its own for a test, with arguments as `victim.py` takes them, on each event loop."""
    with ExitStack() as stack:

        def start(**arguments: Any) -> Siege:
            siege = Siege(request.param, **arguments)
            stack.callback(siege.stop)
            stack.callback(siege.settle)
            siege.begin(record_property)
            return siege

        yield start
