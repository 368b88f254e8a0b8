"""Check the further keyword arguments of `connect`, which are those of asyncio's `create_connection`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from inspect import signature

TCP_OPTIONS = frozenset(("family", "proto", "flags", "interleave", "all_errors"))
"""Options for connections over TCP. `all_errors` is accepted without effect: the error lists every attempt anyway."""

TLS_OPTIONS = frozenset(("server_hostname", "ssl_handshake_timeout", "ssl_shutdown_timeout"))

ELSEWHERE = {
    "additional_headers": "headers",
    "extra_headers": "headers",
    "header": "headers",
    "http_headers": "headers",
    "user_agent_header": "user_agent",
    "cookie": "headers=[('Cookie', ...)]",
    "cookies": "headers=[('Cookie', ...)]",
    "auth": "headers=[('Authorization', ...)]",
    "timeout": "open_timeout",
    "ssl_context": "ssl",
    "sslopt": "ssl",
    "sslcontext": "ssl",
    "protocols": "subprotocols",
    "unix_socket": "path",
    "http_proxy": "proxy",
    "http_proxy_host": "proxy",
    "proxy_auth": "a user name and a password in proxy",
    "heartbeat": "ping_interval",
    "autoping": "get_messages_factory(auto_pong=...)",
    "compression": "extensions=[PerMessageDeflate()]",
    "compress": "extensions=[PerMessageDeflate()]",
    "enable_compression": "extensions=[PerMessageDeflate()]",
    "max_size": "get_messages_factory(max_in_memory_store_size=...)",
    "max_msg_size": "get_messages_factory(max_in_memory_store_size=...)",
    "max_message_size": "get_messages_factory(max_in_memory_store_size=...)",
    "max_in_memory_store_size": "get_messages_factory(max_in_memory_store_size=...)",
    "auto_pong": "get_messages_factory(auto_pong=...)",
    "host": "a host in uri, or sock",
    "port": "a port in uri, or sock",
    "url": "uri",
}
"""The names that other libraries use, and ours for the same."""


def check_options(function: Callable[..., object], options: Iterable[str]) -> None:
    """Raise TypeError unless every option is one of asyncio's `create_connection`.

    Args:
        function: takes the options, beside its own parameters.
        options: names of the options that a caller passed.
    """
    for name in options:
        if name not in TCP_OPTIONS | TLS_OPTIONS:
            known = {*signature(function).parameters, *TCP_OPTIONS, *TLS_OPTIONS} - {"options"}
            close = [ELSEWHERE[name]] if name in ELSEWHERE else get_close_matches(name, sorted(known), 1)
            hint = f": did you mean {close[0]}?" if close else ""
            raise TypeError(f"{function.__name__}() got an unexpected keyword argument {name!r}{hint}")
