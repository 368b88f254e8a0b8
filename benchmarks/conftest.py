"""What every benchmark shares: who takes part, and what a figure is about."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from .peers import Case
from .reports import versions


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--peers", action="store_true", help="ask the peers too, not our backends alone")
    parser.addoption("--core", type=int, help="run on this core alone")


def pytest_configure(config: pytest.Config) -> None:
    # The loops and sockets that some contenders need live as long as the process.
    config.addinivalue_line("filterwarnings", "ignore::ResourceWarning")
    config.addinivalue_line("filterwarnings", "ignore::pytest.PytestUnraisableExceptionWarning")
    if (core := config.getoption("--core")) is not None:
        os.sched_setaffinity(0, {core})


def pytest_report_header() -> list[str]:
    found = versions()
    missing = [name for name, version in found.items() if version == "missing"]
    return [
        f"Python {platform.python_version()}; "
        + ", ".join(f"{name} {version}" for name, version in found.items() if version != "missing"),
        f"not installed, so not asked: {', '.join(missing) or 'none'}",
    ]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--peers"):
        items[:] = [item for item in items if not is_peer(item)]


def is_peer(item: pytest.Item) -> bool:
    asked = getattr(item, "callspec", None)
    return asked is not None and not asked.params["contender"].is_ours


@pytest.fixture
def about(contender: Case, benchmark: BenchmarkFixture) -> Callable[..., None]:
    """Says what a benchmark is about: the question, its sizes, and what one call of it handles."""

    def say(question: str, what: str, *, messages: int = 1, size: int, **more: object) -> None:
        benchmark.group = f"{question}: {what}"
        benchmark.extra_info.update(
            question=question, contender=contender.name, what=what, messages=messages, size=size, **more
        )

    return say
