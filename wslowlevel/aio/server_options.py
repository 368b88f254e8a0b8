"""Check the handlers of `serve`, and its further keyword arguments, which are those of asyncio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from difflib import get_close_matches
from functools import partial
from inspect import isasyncgenfunction, isawaitable, signature
from typing import TypeVar

T = TypeVar("T")

COMMON_OPTIONS = frozenset(("sock", "backlog", "start_serving", "ssl_handshake_timeout", "ssl_shutdown_timeout"))
TCP_OPTIONS = COMMON_OPTIONS | {"family", "flags", "reuse_address", "reuse_port", "keep_alive"}
"""Options of `create_server`; `keep_alive` and others need a recent Python."""

UNIX_OPTIONS = COMMON_OPTIONS | {"cleanup_socket"}
"""Options of `create_unix_server`."""


def check_options(function: Callable[..., object], options: Iterable[str], *, unix: bool) -> None:
    """Raise TypeError unless every option is one of asyncio's `create_server`, or `create_unix_server`.

    Args:
        function: takes the options, beside its own parameters.
        options: names of the options that a caller passed.
        unix: True if the server listens on a Unix socket.
    """
    known = UNIX_OPTIONS if unix else TCP_OPTIONS
    for name in options:
        if name in known:
            continue
        if name in TCP_OPTIONS | UNIX_OPTIONS:
            hint = ": it cannot be combined with path" if unix else ": it is for servers on a path"
        else:
            names = {*signature(function).parameters, *known} - {"options"}
            close = get_close_matches(name, sorted(names), 1)
            hint = f": did you mean {close[0]}?" if close else ""
        raise TypeError(f"{function.__name__}() got an unexpected keyword argument {name!r}{hint}")


def check_handler(name: str, handler: object, *, optional: bool = False) -> None:
    """Raise TypeError unless a handler may be an async function.

    A plain function passes, because a lambda or a partial may return a coroutine: see `call_handler`.
    """
    if handler is None and optional:
        return
    expected = "an async function or None" if optional else "an async function"
    if not callable(handler):
        raise TypeError(f"{name} must be {expected}, not {type(handler).__name__}")
    function = _unwrapped(handler)
    call = getattr(type(function), "__call__", None)  # noqa: B004 - of an object whose class defines it
    if isasyncgenfunction(function) or isasyncgenfunction(call):
        raise TypeError(
            f"{name} must be {expected}, not an async generator function: remove `yield` from {_name_of(handler)}"
        )


async def call_handler(name: str, handler: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """Call a handler and await its result.

    Raises:
        TypeError: the result is not awaitable.
    """
    result = handler(*arguments)
    if not isawaitable(result):
        raise TypeError(f"{name} must be an async function: {_name_of(handler)} returned {type(result).__name__}")
    return await result


def _unwrapped(handler: object) -> object:
    while isinstance(handler, partial):
        handler = handler.func
    return handler


def _name_of(handler: object) -> str:
    function = _unwrapped(handler)
    return str(getattr(function, "__name__", type(function).__name__))
