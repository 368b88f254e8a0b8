"""a proxy and where to go -> a connected socket: HTTP CONNECT and SOCKS 5  (RFC 9110 §9.3.6, RFC 1928)"""

from __future__ import annotations

import asyncio
import socket as sockets
from typing import Any

from ..errors import InvalidHandshake
from ..http1 import ResponseReader, reason_phrase
from ..uri import ProxyURI, WebSocketURI

LocalAddress = tuple[str, int]

READ_SIZE = 4096
"""Bytes of the answer of a proxy that are read at a time."""

FOREVER = 1e9
"""Seconds that python-socks may take. The time that a connection may take to open is bounded elsewhere."""


async def connect_proxy(proxy: ProxyURI, uri: WebSocketURI, local_addr: LocalAddress | None) -> sockets.socket:
    """Make a proxy connect to the host of a URI -> a socket that leads there. Cancelled or failed, it closes it.

    Raises:
        OSError: the proxy cannot be reached, or does not connect.
        ImportError: a SOCKS proxy without python-socks.
    """
    connect = _connect_http if proxy.scheme == "http" else _connect_socks
    return await connect(proxy, uri, local_addr)


# -- HTTP (RFC 9110 §9.3.6) -------------------------------------------------------------------------------------------


async def _connect_http(proxy: ProxyURI, uri: WebSocketURI, local_addr: LocalAddress | None) -> sockets.socket:
    sock = await _connect_tcp(proxy, local_addr)
    try:
        await _ask(sock, _connect_request(proxy, uri))
    except InvalidHandshake as error:
        sock.close()
        raise _refused(proxy, uri, error) from error
    except BaseException:
        sock.close()
        raise
    return sock


def _connect_request(proxy: ProxyURI, uri: WebSocketURI) -> bytes:
    host = f"[{uri.host}]" if ":" in uri.host else uri.host
    lines = [f"CONNECT {host}:{uri.port} HTTP/1.1", f"Host: {host}:{uri.port}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


async def _ask(sock: sockets.socket, request: bytes) -> None:
    """Send a CONNECT request; InvalidHandshake for anything but a good answer."""
    loop = asyncio.get_running_loop()
    reader = ResponseReader(connects=True)
    await loop.sock_sendall(sock, request)
    while reader.response is None:
        data = await loop.sock_recv(sock, READ_SIZE)
        if not data:
            raise InvalidHandshake("it ended the connection before it answered", 502)
        reader.feed(data)
    status = reader.response.status
    if not 200 <= status <= 299:
        raise InvalidHandshake(f"it answered {status} {reason_phrase(status)}".rstrip(), 502)
    # Whoever is behind it, with or without TLS, waits for the client's first word.
    if reader.early:
        raise InvalidHandshake("more than its answer came", 502)


async def _connect_tcp(proxy: ProxyURI, local_addr: LocalAddress | None) -> sockets.socket:
    """Connect to the first address of a proxy that can be reached."""
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for family, _, _, _, address in await loop.getaddrinfo(proxy.host, proxy.port, type=sockets.SOCK_STREAM):
        try:
            return await _connect_address(family, address, local_addr)
        except OSError as error:
            failure = error
    raise ConnectionError(f"proxy {proxy.host}:{proxy.port} cannot be reached: {failure}") from failure


async def _connect_address(family: int, address: Any, local_addr: LocalAddress | None) -> sockets.socket:
    sock = sockets.socket(family, sockets.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if local_addr is not None:
            sock.bind(local_addr)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


# -- SOCKS 5 (RFC 1928) -----------------------------------------------------------------------------------------------


async def _connect_socks(proxy: ProxyURI, uri: WebSocketURI, local_addr: LocalAddress | None) -> sockets.socket:
    try:
        from python_socks import ProxyError, ProxyType  # noqa: PLC0415 - an optional dependency
        from python_socks.async_.asyncio import Proxy  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            "a SOCKS proxy needs the package python-socks: pip install wslowlevel[proxy]", name="python_socks"
        ) from error
    resolves_there = proxy.scheme == "socks5h"
    way = Proxy(ProxyType.SOCKS5, proxy.host, proxy.port, proxy.username, proxy.password, rdns=resolves_there)
    try:
        return await way.connect(uri.host, uri.port, timeout=FOREVER, local_addr=local_addr)
    except ProxyError as error:
        raise _refused(proxy, uri, error) from error


def _refused(proxy: ProxyURI, uri: WebSocketURI, error: Exception) -> ConnectionError:
    return ConnectionError(f"proxy {proxy.host}:{proxy.port} does not connect to {uri.host}: {error}")
