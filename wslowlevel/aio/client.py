"""a URI -> a transport -> an open socket: the client's side of a connection's beginning  (RFC 6455 §4.1)"""

from __future__ import annotations

import asyncio
import socket as sockets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from ..errors import ConnectionLost, InvalidHandshake, out_of_range
from ..extensions import Extension, ExtensionFactory
from ..handshake import check_response, encode_request, generate_key
from ..http1 import HandshakeResponse, HeadersLike, ResponseReader, parse_header_line, parse_headers
from ..keepalive import PING_TIMEOUT, Timeouts, check_seconds
from ..uri import ProxyURI, WebSocketURI, parse_proxy, parse_uri
from .duplex import CLOSE_TIMEOUT
from .proxies import connect_proxy
from .socket import Socket
from .tls import check_context, context_that_trusts

if TYPE_CHECKING:
    from ssl import SSLContext

OPEN_TIMEOUT = 10.0
"""Seconds from the look-up of the host to the server's answer."""

MAX_REDIRECTS = 5
"""The highest `max_redirects`: what goes on for longer is most likely a loop."""

PRIVATE = frozenset(("authorization", "cookie", "host", "proxy-authorization"))
"""Headers that were meant for one server, and are not told to another that it redirects to."""

Opened = tuple[HandshakeResponse, Socket]


async def connect(
    uri: str,
    *,
    headers: HeadersLike = (),
    subprotocols: Sequence[str] = (),
    extensions: Iterable[ExtensionFactory] = (),
    origin: str | None = None,
    ssl: SSLContext | None = None,
    open_timeout: float | None = OPEN_TIMEOUT,
    close_timeout: float = CLOSE_TIMEOUT,
    local_addr: tuple[str, int] | None = None,
    sock: sockets.socket | None = None,
    path: str | None = None,
    proxy: str | None = None,
    max_redirects: int = 0,
    ping_interval: float | None = None,
    ping_timeout: float | None = PING_TIMEOUT,
    idle_timeout: float | None = None,
    **options: Any,
) -> Opened:
    """Connect to a WebSocket server (RFC 6455 §4.1).

    Cancelled or failed, it leaves nothing behind: no connection, no task, no timer. No environment variable is read.

    Args:
        uri: ``ws://`` or ``wss://``, host, port, path and query (RFC 6455 §3). A user name and password in it are sent
            as Basic credentials (RFC 7617).
        headers: further headers, "Name: value" strings or (name, value) pairs. Host and Authorization stand in place
            of what the URI would say; those of the handshake itself (Upgrade, Connection, ``Sec-WebSocket-*``) are
            refused.
        subprotocols: offered, in order of preference.
        extensions: offered, in order of preference; see :class:`wslowlevel.extensions.ExtensionFactory`.
        origin: the Origin header, which servers ask of browsers (RFC 6455 §4.1); None for none.
        ssl: a client-side context, for wss:// only; by default `ssl.create_default_context()`. Making one takes
            milliseconds: whoever connects often makes one and hands it in.
        open_timeout: seconds from the look-up of the host to the server's answer, proxies and redirects included; None
            for no limit.
        close_timeout: seconds that the closing handshake may take.
        local_addr: (host, port) to connect from.
        sock: a connected socket to use. It belongs to the connection from here on, and is closed with it.
        path: of a Unix socket to connect to; the URI gives the Host header and the resource all the same.
        proxy: ``http://host:port`` (CONNECT), ``socks5://host:port``, or ``socks5h://host:port``, which leaves it to
            the proxy to look up the host; a user name and password may stand in it. SOCKS needs the package
            python-socks: ``pip install wslowlevel[proxy]``.
        max_redirects: how many redirects to follow, 0 to 5. They never lead from wss to ws; to another scheme, host or
            port they take no Authorization, Cookie or Host header along, nor the user name and password of the URI.
            With `path` they stay with the same host; with `sock` there can be none.
        ping_interval, ping_timeout, idle_timeout: seconds, see :meth:`wslowlevel.Socket.keep_alive`; by default there
            are no pings, and a connection may be idle for ever.
        options: more for asyncio's `create_connection` or `create_unix_connection`: server_hostname, family,
            happy_eyeballs_delay, ...

    Returns:
        (response, socket): a response with `status`, `headers` and `subprotocol`, and a socket for
        :func:`get_messages_factory` and :func:`send_factory`, whose frames must be masked (``mask_key=True``). Nothing
        is read from it before the first of them is called, and nothing of what arrives until then is lost.

    Raises:
        TypeError, ValueError: an argument that cannot be; nothing was sent.
        OSError: no connection, in the words of the system, of TLS or of the proxy.
        TimeoutError: `open_timeout` passed before the server's answer was complete.
        ConnectionLost: the connection ended before it.
        InvalidHandshake: an answer that opens no WebSocket connection, with its `status` and `headers`, and up to 1 KiB
            of its `body`, as far as it came in time. A status of 101 has headers that do not fit the request. 502 (Bad
            Gateway), without headers, stands for what is no answer: not HTTP/1.1, a line over 32 KiB, over 128 headers,
            or over 64 KiB together.
        ImportError: a SOCKS `proxy` without python-socks.
    """
    check_seconds("open_timeout", open_timeout, optional=True)
    check_seconds("close_timeout", close_timeout)
    parsed = parse_headers(headers)
    if origin is not None:
        parsed.append(parse_header_line(("Origin", origin)))
    offer = Offer(parse_uri(uri), parsed, subprotocols, tuple(extensions))
    route = Route(ssl, local_addr, sock, path, None if proxy is None else parse_proxy(proxy), options)
    route.check(offer.uri)
    if not 0 <= max_redirects <= MAX_REDIRECTS or (max_redirects and sock is not None):
        raise out_of_range("max_redirects", max_redirects, 0, MAX_REDIRECTS if sock is None else 0)
    make_socket = partial(
        Socket, "client", close_timeout=close_timeout, timeouts=Timeouts(ping_interval, ping_timeout, idle_timeout)
    )
    try:
        return await Client(offer, route, max_redirects, make_socket).open_within(open_timeout)
    except BaseException:
        if sock is not None:
            sock.close()
        raise


# -- What is asked for ------------------------------------------------------------------------------------------------


@dataclass
class Offer:
    """One opening handshake, and what an answer to it may say. A redirect makes another one of it.

    Attributes:
        request: its bytes.
    """

    uri: WebSocketURI
    headers: Sequence[tuple[str, str]]
    subprotocols: Sequence[str]
    extensions: Sequence[ExtensionFactory]
    key: str = field(default_factory=generate_key)
    request: bytes = field(init=False)

    def __post_init__(self) -> None:
        headers = list(self.headers)
        if self.uri.authorization is not None and not any(name.lower() == "authorization" for name, _ in headers):
            headers.append(("Authorization", self.uri.authorization))
        self.request = encode_request(
            self.uri.authority,
            self.uri.resource_name,
            key=self.key,
            subprotocols=self.subprotocols,
            extensions=self.extensions,
            headers=headers,
        )

    def check(self, response: HandshakeResponse, body: bytes) -> tuple[HandshakeResponse, list[Extension]]:
        """See :func:`wslowlevel.handshake.check_response`."""
        return check_response(response, self.key, subprotocols=self.subprotocols, extensions=self.extensions, body=body)

    def redirected(self, response: HandshakeResponse) -> Offer:
        """What to ask for where a response leads; InvalidHandshake if that is nowhere to go."""
        try:
            uri = self.uri.redirected(response.headers["Location"])
            if self.uri.secure and not uri.secure:
                raise ValueError(f"{uri.origin} is not secure, as {self.uri.origin} was")
        except ValueError as error:
            raise refused_redirect(response, str(error)) from None
        headers = self.headers
        if uri.origin != self.uri.origin:
            headers = [(name, value) for name, value in headers if name.lower() not in PRIVATE]
        return Offer(uri, headers, self.subprotocols, self.extensions)


def refused_redirect(response: HandshakeResponse, reason: str) -> InvalidHandshake:
    return InvalidHandshake(f"redirect is not followed: {reason}", response.status, response.headers.raw(), body=b"")


# -- How to get there -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Route:
    """How to reach the host of a URI."""

    ssl: SSLContext | None
    local_addr: tuple[str, int] | None
    sock: sockets.socket | None
    path: str | None
    proxy: ProxyURI | None
    options: dict[str, Any]

    def check(self, uri: WebSocketURI) -> None:
        """Raise TypeError or ValueError unless the arguments fit together."""
        check_context(self.ssl)
        if self.ssl is not None and not uri.secure:
            raise ValueError("ssl is for wss:// only, uri has ws://")
        ways = {"sock": self.sock, "path": self.path, "proxy": self.proxy}
        given = [name for name, way in ways.items() if way is not None]
        if len(given) > 1:
            raise ValueError(f"sock, path and proxy exclude each other, not {' and '.join(given)}")
        if self.local_addr is not None and given in (["sock"], ["path"]):
            raise ValueError(f"local_addr is for a connection over TCP, not for {given[0]}")

    async def connect(self, uri: WebSocketURI, protocol: Opening) -> None:
        """Make a transport for a protocol."""
        loop = asyncio.get_running_loop()
        options = self.options
        if uri.secure:
            context = context_that_trusts() if self.ssl is None else self.ssl
            options = {"server_hostname": uri.host, **options, "ssl": context}
        if self.path is not None:
            await loop.create_unix_connection(lambda: protocol, self.path, **options)
        elif self.sock is not None:
            await loop.create_connection(lambda: protocol, sock=self.sock, **options)
        elif self.proxy is not None:
            sock = await connect_proxy(self.proxy, uri, self.local_addr)
            try:
                await loop.create_connection(lambda: protocol, sock=sock, **options)
            except BaseException:
                sock.close()
                raise
        else:
            options = {"local_addr": self.local_addr, **options}
            await loop.create_connection(lambda: protocol, uri.host, uri.port, **options)


# -- The connection until it is open ----------------------------------------------------------------------------------


class Client:
    """The way from an offer, over as many redirects as may be, to an open socket."""

    def __init__(self, offer: Offer, route: Route, redirects: int, make_socket: Callable[..., Socket]) -> None:
        self._offer = offer
        self._route = route
        self._redirects = redirects
        self._make_socket = make_socket
        self._opening: Opening | None = None

    async def open_within(self, timeout: float | None) -> Opened:
        """Open a socket; TimeoutError after so many seconds, unless it is known by then that the server refuses."""
        # A task of its own, for wait_for() may lose a result when it is cancelled (CPython 3.10 and 3.11).
        task = asyncio.create_task(self._open())
        try:
            await asyncio.wait({task}, timeout=timeout)
        except BaseException:
            await _stop(task)
            raise
        if task.done():
            return task.result()
        refusal = self._opening and self._opening.refusal()
        await _stop(task)
        raise refusal or TimeoutError(f"{self._offer.uri.origin} did not open a connection within {timeout} seconds")

    async def _open(self) -> Opened:
        while True:
            self._opening = opening = Opening(self._offer, self._redirects > 0, self._make_socket)
            await self._route.connect(self._offer.uri, opening)  # which, cancelled or failed, clears up after itself
            try:
                response = await opening.ask()
            except BaseException:
                await opening.drop()
                raise
            if opening.socket is not None:
                return response, opening.socket
            await opening.drop()
            self._follow(response)

    def _follow(self, response: HandshakeResponse) -> None:
        offer = self._offer.redirected(response)
        if self._route.path is not None and offer.uri.origin != self._offer.uri.origin:
            raise refused_redirect(response, f"{offer.uri.origin} is not behind path")
        self._offer = offer
        self._redirects -= 1


async def _stop(task: asyncio.Task[Opened]) -> None:
    """Cancel a task and wait for its end; the socket that it may have come to all the same is dropped."""
    task.add_done_callback(_drop_result)
    task.cancel()
    await asyncio.wait({task})


def _drop_result(task: asyncio.Task[Opened]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result()[1].abort()


class Opening(asyncio.Protocol):
    """One connection until its answer is complete; a good one makes it a Socket.

    Attributes:
        socket: what the connection became, None unless the answer was good.
    """

    def __init__(self, offer: Offer, follows: bool, make_socket: Callable[..., Socket]) -> None:
        loop = asyncio.get_running_loop()
        self.socket: Socket | None = None
        self._offer = offer
        self._follows = follows
        self._make_socket = make_socket
        self._reader = ResponseReader()
        self._outcome: HandshakeResponse | Exception | None = None
        self._known: asyncio.Future[None] = loop.create_future()
        self._closed: asyncio.Future[None] = loop.create_future()

    async def ask(self) -> HandshakeResponse:
        """Send the request, and wait for the response that opens the connection, or the redirect to follow.

        Raises:
            InvalidHandshake: any other response.
            ConnectionLost: none.
        """
        if self._outcome is None:
            self._transport.write(self._offer.request)
            await self._known
        if isinstance(self._outcome, HandshakeResponse):
            return self._outcome
        assert self._outcome is not None
        raise self._outcome

    def refusal(self) -> InvalidHandshake | None:
        """What is known of an answer that opens nothing, while its body is on its way."""
        try:
            if self._reader.response is not None:
                self._offer.check(self._reader.response, self._reader.body)
        except InvalidHandshake as error:
            return error
        return None

    async def drop(self) -> None:
        """End the connection at once, and wait until it is gone."""
        if self.socket is not None:
            self.socket.abort()
            await self.socket.wait_closed()
        else:
            self._transport.abort()
            await self._closed

    # -- Called by the transport --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._outcome is not None:
            return
        try:
            self._reader.feed(data)
            self._take_answer()
        except Exception as error:  # noqa: BLE001 - of the server, or of an extension: connect() raises it
            self._settle(error)

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)
        if not self._closed.done():
            self._closed.set_result(None)

    def _take_answer(self) -> None:
        response = self._reader.response
        if response is not None and self._follows and response.redirects:
            self._settle(response)
        elif response is not None and self._reader.complete:
            response, extensions = self._offer.check(response, self._reader.body)
            self._hand_over(extensions)
            self._settle(response)

    def _hand_over(self, extensions: Sequence[Extension]) -> None:
        self.socket = self._make_socket(early=self._reader.early)
        self._transport.set_protocol(self.socket)
        self.socket.connection_made(self._transport)
        self.socket.opened(extensions)

    def _end(self, cause: Exception | None) -> None:
        if self._outcome is not None:
            return
        lost = ConnectionLost(f"{self._offer.uri.origin} ended the connection before it answered the opening handshake")
        lost.__cause__ = cause
        self._settle(self.refusal() or lost)

    def _settle(self, outcome: HandshakeResponse | Exception) -> None:
        self._outcome = outcome
        if not self._known.done():  # by a cancelled task
            self._known.set_result(None)
