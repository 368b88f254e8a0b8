"""A plugin for the pytest of another project: what SUITE_DROPIN names is installed, and SUITE_PROTOCOL is tested.

It stands by itself, for it is imported where another project's `tests` are.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import pytest

from wslowlevel import dropin

LIBRARIES = os.environ.get("SUITE_DROPIN", "").split()
PROTOCOL = os.environ.get("SUITE_PROTOCOL")
"""What uvicorn's fixture `ws_protocol_cls` gives, in place of its own classes."""


def pytest_configure() -> None:
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)  # as tornado's own runner does
    if LIBRARIES:
        rows = dropin.install(*LIBRARIES)
        assert all(row.state == "installed" for row in rows), rows


@pytest.hookimpl(tryfirst=True)
def pytest_plugin_registered(plugin: object) -> None:
    fixture = getattr(plugin, "ws_protocol_cls", None)
    if PROTOCOL and fixture is not None:
        object.__setattr__(fixture._fixture_function_marker, "params", (pytest.param(PROTOCOL, id="ours"),))


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """uvicorn's stand-in for a transport lacks some of what asyncio's have."""
    for module in {item.module for item in items if hasattr(item, "module")}:
        transport = getattr(module, "MockWriteTransport", None)
        if PROTOCOL and transport is not None:
            transport.get_write_buffer_size = lambda _: 0
            transport.can_write_eof = lambda _: False
            transport.abort = transport.close
