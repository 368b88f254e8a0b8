"""Both codec backends, whatever WSLOWLEVEL_BACKEND says: one run of the suite tests the two of them."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings

from . import servers

# How long an example takes says more of the machine than of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

BACKENDS = {"py": "wslowlevel._codec_py", "cy": "wslowlevel._codec"}
STREAMS = {"py": "wslowlevel.aio._stream_py", "cy": "wslowlevel.aio._stream"}


class Both(NamedTuple):
    py: ModuleType
    cy: ModuleType


# A backend that cannot be imported fails every test that asks for it: a broken extension must not pass unseen.


@pytest.fixture(scope="session", params=BACKENDS)
def codec(request: pytest.FixtureRequest) -> ModuleType:
    """One backend after the other."""
    return importlib.import_module(BACKENDS[request.param])


@pytest.fixture(scope="session")
def both() -> Both:
    """The two backends side by side, for tests that compare them."""
    return Both(*map(importlib.import_module, BACKENDS.values()))


@pytest.fixture(scope="session", params=STREAMS)
def stream(request: pytest.FixtureRequest) -> ModuleType:
    """What is done once a message: one implementation after the other."""
    return importlib.import_module(STREAMS[request.param])


@pytest.fixture
def kernels(codec: ModuleType) -> Iterator[Iterator[str]]:
    """Each kernel of the backend, in use while it is the one at hand; the one that was in use afterwards."""
    used = codec.kernel()
    if used == "python":
        yield iter([used])
    else:
        yield (name for name in codec._kernels() if codec._use_kernel(name) is None)
        codec._use_kernel(used)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-cython", action="store_true", help="leave out every test that needs the compiled codec")
    parser.addoption(
        "--no-codec", action="store_true", help="leave out the tests that run both backends whatever is chosen"
    )
    parser.addoption("--eager-tasks", action="store_true", help="start every task eagerly, as eager_task_factory does")
    parser.addoption("--slow", action="store_true", help="run the tests too that take too long for every run")


def pytest_configure(config: pytest.Config) -> None:
    servers.eager_tasks = config.getoption("--eager-tasks")


COMPARES_BOTH = {"fuzz", "test_foreign.py"}
"""What cannot be imported without the compiled codec."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if config.getoption("--no-cython") and collection_path.name in COMPARES_BOTH else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for is_asked_for, leaves_out in (
        (config.getoption("--no-cython"), _needs_cython),
        (config.getoption("--no-codec"), _tests_both_backends),
        (not config.getoption("--slow"), _is_slow),
    ):
        if is_asked_for:
            config.hook.pytest_deselected(items=[item for item in items if leaves_out(item)])
            items[:] = [item for item in items if not leaves_out(item)]


def _is_slow(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None


def pytest_collection_finish() -> None:
    """What was imported and collected stays: each collection of garbage need not go through it again."""
    gc.collect()
    if hasattr(gc, "freeze"):
        gc.freeze()


def _tests_both_backends(item: pytest.Item) -> bool:
    if not isinstance(item, pytest.Function):
        return False
    names = {"codec", "both", "stream", "backend"}
    return not names.isdisjoint(item.fixturenames) or item.get_closest_marker("any_backend") is not None


def _needs_cython(item: pytest.Item) -> bool:
    if not isinstance(item, pytest.Function):
        return False
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return (
        "cy" in (params.get("codec"), params.get("stream"))
        or any(value == "cython" for value in params.values() if isinstance(value, str))
        or "both" in item.fixturenames
    )
