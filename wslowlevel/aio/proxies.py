"""Connect through a proxy: HTTP CONNECT, over TLS if wanted, and SOCKS 5 (RFC 9110 §9.3.6, RFC 1928)."""

from __future__ import annotations

import asyncio
import socket as sockets
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from ..errors import InvalidHandshake, ProxyRefused
from ..http1 import DEFAULT_HEAD_LIMITS, HeadLimits, ResponseReader, reason_phrase
from ..uri import ProxyURI, WebSocketURI
from .happy_eyeballs import Dialing, connect_tcp
from .tls import context_that_trusts, explaining_tls

if TYPE_CHECKING:
    from ssl import SSLContext

READ_SIZE = 4096
"""Bytes of the answer of a proxy that are read at a time."""

FOREVER = 1e9
"""Seconds that python-socks may take. `open_timeout` of `connect` is the limit."""


@dataclass(frozen=True)
class Proxy:
    """A proxy and what it is sent.

    Attributes:
        uri: where it is, with the credentials for it.
        ssl: the context for an ``https://`` proxy, None for the default one.
        headers: of the CONNECT request.
        limits: on the head of the answer to it.
    """

    uri: ProxyURI
    ssl: SSLContext | None = None
    headers: Sequence[tuple[str, str]] = field(default=(), repr=False)
    limits: HeadLimits = DEFAULT_HEAD_LIMITS

    @property
    def name(self) -> str:
        """Host and port, for errors."""
        return f"proxy {self.uri.host}:{self.uri.port}"

    def refused(self, uri: WebSocketURI, error: Exception) -> ProxyRefused:
        """Return the error for a proxy that does not connect to the host of a URI."""
        text = f"{self.name} does not connect to {uri.host}: {error}"
        if isinstance(error, InvalidHandshake):
            return ProxyRefused(text, error.status, error.headers, error.body)
        return ProxyRefused(text)

    def connect_request(self, uri: WebSocketURI) -> bytes:
        """Return the CONNECT request for the host of a URI; `headers` replace the default ones."""
        host = f"[{uri.host}]" if ":" in uri.host else uri.host
        ours = [("Host", f"{host}:{uri.port}")]
        if self.uri.authorization is not None:
            ours.append(("Proxy-Authorization", self.uri.authorization))
        given = {name.lower() for name, _ in self.headers}
        fields = [(name, value) for name, value in ours if name.lower() not in given] + list(self.headers)
        lines = [f"CONNECT {host}:{uri.port} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def connect_proxy(proxy: Proxy, uri: WebSocketURI, dialing: Dialing) -> sockets.socket:
    """Return a socket that leads to the host of a URI through an ``http``, ``socks5`` or ``socks5h`` proxy.

    Raises:
        ProxyRefused: the proxy does not connect to the host.
        OSError: the proxy cannot be reached.
        ImportError: a SOCKS proxy without python-socks.
    """
    if proxy.uri.scheme != "http":
        return await _connect_socks(proxy, uri, dialing)
    sock = await dial(proxy, dialing)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendall(sock, proxy.connect_request(uri))
        await read_answer(proxy, uri, lambda: loop.sock_recv(sock, READ_SIZE))
    except BaseException:
        sock.close()
        raise
    return sock


async def dial(proxy: Proxy, dialing: Dialing) -> sockets.socket:
    """Return a socket that is connected to a proxy."""
    try:
        return await connect_tcp(proxy.uri.host, proxy.uri.port, dialing)
    except OSError as error:
        raise ConnectionError(f"{proxy.name} cannot be reached: {error}") from error


# -- The answer to CONNECT (RFC 9110 §9.3.6) --------------------------------------------------------------------------


async def read_answer(proxy: Proxy, uri: WebSocketURI, receive: Callable[[], Awaitable[bytes]]) -> None:
    """Read the answer to a CONNECT request.

    Raises:
        ProxyRefused: not a good answer. If the task is cancelled while the body of a refusal is still on its way, this
            is raised, too: the status is known, and the timeout of `connect` does not hide it.
    """
    reader = ResponseReader(connects=True, limits=proxy.limits)
    try:
        while not reader.complete and (data := await receive()):
            reader.feed(data)
        _check_answer(reader)
    except InvalidHandshake as error:
        raise proxy.refused(uri, error) from error
    except (asyncio.CancelledError, OSError):
        if reader.response is None:
            raise
        raise proxy.refused(uri, _refusal(reader)) from None


def _check_answer(reader: ResponseReader) -> None:
    """Raise InvalidHandshake unless the proxy has connected, and has sent nothing else."""
    if reader.response is None:
        raise InvalidHandshake("it ended the connection before it answered", 502, body=b"")
    if not 200 <= reader.response.status <= 299:
        raise _refusal(reader)
    # The server waits for the client's first byte, with or without TLS.
    if reader.early:
        raise InvalidHandshake("more than its answer came", 502, body=b"")


def _refusal(reader: ResponseReader) -> InvalidHandshake:
    assert reader.response is not None
    status = reader.response.status
    text = f"it answered {status} {reason_phrase(status)}".rstrip()
    return InvalidHandshake(text, status, reader.response.headers.raw(), reader.body)


# -- Over TLS ---------------------------------------------------------------------------------------------------------


async def connect_through_tls(
    proxy: Proxy, uri: WebSocketURI, dialing: Dialing, protocol: asyncio.Protocol, options: dict[str, Any]
) -> None:
    """Make a transport for a protocol that leads to the host of a URI through an ``https`` proxy.

    Args:
        options: of `start_tls`, with the context as `ssl`, for the TLS connection to the host inside that to the proxy.

    Raises:
        ProxyRefused: the proxy does not connect to the host.
        OSError: the proxy cannot be reached, or TLS fails.
        NotImplementedError: the event loop cannot use TLS over TLS.
    """
    loop = asyncio.get_running_loop()
    context = context_that_trusts() if proxy.ssl is None else proxy.ssl
    tunnel = Tunnel()
    sock = await dial(proxy, dialing)
    try:
        with explaining_tls(proxy.name, "use http://"):
            await loop.create_connection(lambda: tunnel, sock=sock, ssl=context, server_hostname=proxy.uri.host)
        tunnel.transport.write(proxy.connect_request(uri))
        await read_answer(proxy, uri, tunnel.receive)
        if uri.secure:
            await _start_tls(proxy, tunnel, uri, options)
    except BaseException:
        tunnel.abort()  # first: a transport must not be left with a closed socket in the selector
        sock.close()
        await asyncio.sleep(0)  # in this turn the timers of TLS stop
        raise
    tunnel.hand_over(protocol)


async def _start_tls(proxy: Proxy, tunnel: Tunnel, uri: WebSocketURI, options: dict[str, Any]) -> None:
    _repair(tunnel.transport)
    inner = {name: option for name, option in options.items() if name != "ssl"}
    try:
        with explaining_tls(f"{uri.host}:{uri.port}", "use ws://"):
            transport = await asyncio.get_running_loop().start_tls(tunnel.transport, tunnel, options["ssl"], **inner)
    except TypeError as error:
        if "start_tls" not in str(error):
            raise
        raise NotImplementedError(
            f"wss:// through an https:// {proxy.name} is TLS over TLS, which this event loop does not have: "
            "use CPython 3.11 or later, uvloop, or an http:// proxy"
        ) from error
    assert transport is not None
    tunnel.transport = transport


def _repair(transport: asyncio.Transport) -> None:
    """Replace a method of asyncio's TLS transports that raises TypeError when TLS over TLS fails or is aborted.

    CPython 3.11.8 and 3.12.2 have the correction (gh-113214).
    """
    if sys.version_info < (3, 12, 2) and type(transport).__module__ == "asyncio.sslproto":
        transport._force_close = lambda _exc: transport.abort()  # type: ignore[attr-defined]


class Tunnel(asyncio.Protocol):
    """The protocol of a connection to a proxy until it leads to the host.

    Attributes:
        transport: to the proxy, then to the host.
    """

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._data = b""
        self._ended = False
        self._arrived = asyncio.Event()

    async def receive(self) -> bytes:
        """Return what arrived, at least one byte; b"" at the end of the connection."""
        await self._arrived.wait()
        data, self._data = self._data, b""
        if not self._ended:
            self._arrived.clear()
        return data

    def hand_over(self, protocol: asyncio.Protocol) -> None:
        """Replace this protocol; the new one gets what arrived early."""
        if self._ended:
            self.abort()
            raise ConnectionResetError("the proxy ended the connection")
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        if self._data:
            protocol.data_received(self._data)

    def abort(self) -> None:
        """End the connection at once."""
        if hasattr(self, "transport"):
            self.transport.abort()

    # -- Called by the transport --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        self._arrived.set()

    def eof_received(self) -> None:
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._arrived.set()


# -- SOCKS 5 (RFC 1928) -----------------------------------------------------------------------------------------------


async def _connect_socks(proxy: Proxy, uri: WebSocketURI, dialing: Dialing) -> sockets.socket:
    try:
        from python_socks import ProxyError, ProxyType  # noqa: PLC0415 - an optional dependency
        from python_socks.async_.asyncio import Proxy as SocksProxy  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            "a SOCKS proxy needs the package python-socks: pip install wslowlevel[proxy]", name="python_socks"
        ) from error
    way = SocksProxy(
        ProxyType.SOCKS5,
        proxy.uri.host,
        proxy.uri.port,
        proxy.uri.username,
        proxy.uri.password,
        rdns=proxy.uri.scheme == "socks5h",
        forward=cast(SocksProxy, _Dialer(proxy, dialing)),
    )
    try:
        return await way.connect(uri.host, uri.port, timeout=FOREVER)
    except ProxyError as error:
        raise proxy.refused(uri, error) from error


class _Dialer:
    """Connects to a proxy for python-socks, which knows it as a proxy in front of that one.

    By itself, python-socks tries only the first address of a host.
    """

    def __init__(self, proxy: Proxy, dialing: Dialing) -> None:
        self._proxy = proxy
        self._dialing = dialing

    async def connect(self, dest_host: str, dest_port: int, timeout: float | None = None) -> sockets.socket:
        return await dial(self._proxy, self._dialing)
