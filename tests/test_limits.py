"""docs/limits.md says what the code says."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

import wslowlevel

LIMITS = (Path(__file__).parent.parent / "docs" / "limits.md").read_text("utf-8")
ROWS: list[tuple[str, str, str]] = re.findall(r"^\| `([a-z0-9_.]+)\.([A-Z_]+)` \| ([^|]+?) \|", LIMITS, re.MULTILINE)
UNITS = {"": 1, "s": 1, "KiB": 1024, "MiB": 1024 * 1024}
READERS = (wslowlevel.serve, wslowlevel.read_request, wslowlevel.http1.parse_request)
PARAMETERS = [
    (wslowlevel.serve, "open_timeout", "aio.server.OPEN_TIMEOUT"),
    *((function, "max_header_line", "http1.MAX_HEADER_LINE") for function in READERS),
    *((function, "max_headers", "http1.MAX_HEADERS") for function in READERS),
    *((function, "max_head_size", "http1.MAX_HEADERS_SIZE") for function in READERS),
    (wslowlevel.connect, "open_timeout", "aio.client.OPEN_TIMEOUT"),
    (wslowlevel.connect, "happy_eyeballs_delay", "aio.happy_eyeballs.HAPPY_EYEBALLS_DELAY"),
    (wslowlevel.connect, "max_header_line", "http1.MAX_HEADER_LINE"),
    (wslowlevel.connect, "max_headers", "http1.MAX_HEADERS"),
    (wslowlevel.connect, "max_head_size", "http1.MAX_HEADERS_SIZE"),
    (wslowlevel.serve, "max_refusals", "aio.server.MAX_REFUSALS"),
    (wslowlevel.serve, "close_timeout", "aio.duplex.CLOSE_TIMEOUT"),
    (wslowlevel.connect, "close_timeout", "aio.duplex.CLOSE_TIMEOUT"),
    (wslowlevel.serve, "ping_timeout", "keepalive.PING_TIMEOUT"),
    (wslowlevel.broadcast, "buffer_limit", "aio.broadcast.BUFFER_LIMIT"),
    (wslowlevel.get_messages_factory, "max_in_memory_store_size", "wire.DEFAULT_MAX_SIZE"),
    (wslowlevel.get_messages_factory, "max_fragments", "wire.DEFAULT_MAX_FRAGMENTS"),
    *((wslowlevel.serve, name, None) for name in ("ping_interval", "idle_timeout", "max_connections", "origins")),
]


def constant(path: str) -> object:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(f"wslowlevel.{module}"), name)


@pytest.mark.parametrize(("module", "name", "shown"), ROWS)
def test_a_documented_value_is_that_of_the_code(module: str, name: str, shown: str) -> None:
    number, _, unit = shown.partition(" ")
    assert float(number.replace(",", "")) * UNITS[unit] == constant(f"{module}.{name}")


def test_every_limit_of_the_wire_is_documented() -> None:
    limits = {name for name in vars(wslowlevel.wire) if name.startswith("DEFAULT_MAX_")}
    assert limits <= {name for module, name, _ in ROWS if module == "wire"}


@pytest.mark.parametrize(("function", "parameter", "path"), PARAMETERS)
def test_a_default_is_the_documented_constant(function: object, parameter: str, path: str | None) -> None:
    assert callable(function)
    expected = None if path is None else constant(path)
    assert inspect.signature(function).parameters[parameter].default == expected
    assert f"`{parameter}`" in LIMITS or parameter == "origins"
