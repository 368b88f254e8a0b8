"""Connect to a WebSocket server: from a URI to an open socket (RFC 6455 §4.1)."""

from __future__ import annotations

import asyncio
import socket as sockets
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from .._version import USER_AGENT
from ..errors import InvalidHandshake, out_of_range
from ..extensions import ExtensionFactory, check_factories
from ..http1 import (
    MAX_HEADER_LINE,
    MAX_HEADERS,
    MAX_HEADERS_SIZE,
    HandshakeResponse,
    HeadersLike,
    HeadLimits,
    parse_header_line,
    parse_headers,
)
from ..keepalive import PING_TIMEOUT, Timeouts, check_seconds
from ..uri import parse_proxy, parse_uri
from .client_log import log_failure, log_open
from .duplex import CLOSE_TIMEOUT
from .happy_eyeballs import HAPPY_EYEBALLS_DELAY, Dialing
from .opening import Offer, Opening, refused_redirect
from .options import TCP_OPTIONS, TLS_OPTIONS, check_options
from .proxies import Proxy
from .routes import Route
from .socket import Socket
from .tls import check_context

if TYPE_CHECKING:
    from ssl import SSLContext

OPEN_TIMEOUT = 10.0
"""Seconds from the look-up of the host to the server's answer."""

MAX_REDIRECTS = 5
"""The highest `max_redirects`: a longer chain is most likely a loop."""

Opened = tuple[HandshakeResponse, Socket]


async def connect(
    uri: str,
    *,
    headers: HeadersLike = (),
    subprotocols: Sequence[str] = (),
    extensions: Iterable[ExtensionFactory] = (),
    origin: str | None = None,
    user_agent: str | None = USER_AGENT,
    ssl: SSLContext | None = None,
    open_timeout: float | None = OPEN_TIMEOUT,
    close_timeout: float = CLOSE_TIMEOUT,
    local_addr: tuple[str, int] | None = None,
    happy_eyeballs_delay: float | None = HAPPY_EYEBALLS_DELAY,
    sock: sockets.socket | None = None,
    path: str | None = None,
    proxy: str | None = None,
    proxy_headers: HeadersLike = (),
    proxy_ssl: SSLContext | None = None,
    max_redirects: int = 0,
    max_header_line: int = MAX_HEADER_LINE,
    max_headers: int = MAX_HEADERS,
    max_head_size: int = MAX_HEADERS_SIZE,
    ping_interval: float | None = None,
    ping_timeout: float | None = PING_TIMEOUT,
    idle_timeout: float | None = None,
    **options: Any,
) -> Opened:
    """Connect to a WebSocket server (RFC 6455 §4.1).

    If it fails or is cancelled, no connection, task or timer is left behind. No environment variable is read. What
    happens is logged to ``wslowlevel.client`` at level INFO, without credentials.

    Args:
        uri: ``ws://`` or ``wss://``, host, port, path and query (RFC 6455 §3). A user name and a password in it are
            sent as Basic credentials (RFC 7617).
        headers: further headers, a mapping, or "Name: value" strings or (name, value) pairs. Host, Authorization and
            User-Agent replace the default ones; those of the handshake itself (Upgrade, Connection,
            ``Sec-WebSocket-*``) are refused.
        subprotocols: offered, in order of preference.
        extensions: offered, in order of preference; see :class:`wslowlevel.extensions.ExtensionFactory`.
        origin: the Origin header, which servers require of browsers (RFC 6455 §4.1); None for none.
        user_agent: the User-Agent header, also for a proxy; by default the versions of wslowlevel and of Python. None
            for none.
        ssl: a client-side context, for wss:// only; by default `ssl.create_default_context()`. Creating one takes
            milliseconds: programs that connect often should create one and pass it.
        open_timeout: seconds from the look-up of the host to the server's answer, proxies and redirects included; None
            for no limit.
        close_timeout: seconds that the closing handshake may take.
        local_addr: (host, port) to connect from.
        happy_eyeballs_delay: seconds until the next address of the host is tried, too, while the connection to one is
            not made (RFC 8305); None: an address is tried only when the one before it has failed.
        sock: a connected socket to use. The connection owns it from here on, and closes it.
        path: of a Unix socket to connect to; the URI still gives the Host header and the resource.
        proxy: ``http://host:port`` or ``https://host:port`` (CONNECT), ``socks5://host:port``, or
            ``socks5h://host:port``, which leaves the look-up of the host to the proxy; a user name and a password may
            be part of it. SOCKS needs the package python-socks: ``pip install wslowlevel[proxy]``.
        proxy_headers: further headers of the CONNECT request, like `headers`; not for SOCKS.
        proxy_ssl: a client-side context for an ``https://`` proxy; by default `ssl.create_default_context()`.
        max_redirects: how many redirects to follow, 0 to 5. Redirects from wss to ws are refused. To another scheme,
            host or port, neither Authorization, Cookie or Host headers nor the URI's user name and password are sent.
            With `path`, a redirect must stay with the same host; `sock` allows none.
        max_header_line: bytes of one header line of the answer, without its line end.
        max_headers: number of header lines of the answer.
        max_head_size: bytes of the whole head of the answer. These three hold for the answer of a proxy, too.
        ping_interval, ping_timeout, idle_timeout: seconds, see :meth:`wslowlevel.Socket.keep_alive`; by default there
            are no pings, and a connection may be idle for ever.
        options: more options of asyncio's `create_connection`: server_hostname, ssl_handshake_timeout,
            ssl_shutdown_timeout, family, proto, flags, interleave.

    Returns:
        (response, socket): a response with `status`, `headers` and `subprotocol`, and a socket for
        :func:`get_messages_factory` and :func:`send_factory`, whose frames must be masked (``mask_key=True``). Nothing
        is read from it before the first of them is called; data that arrives earlier is kept.

    Raises:
        TypeError, ValueError: a wrong argument; nothing was sent.
        OSError: no connection: an error of the system or of TLS. If the host has several addresses, the text lists the
            error of each.
        ProxyRefused: the proxy does not connect to the server. It is an OSError and an InvalidHandshake.
        TimeoutError: `open_timeout` passed before the server's answer was complete.
        ConnectionLost: the connection ended before it.
        InvalidHandshake: the answer does not open a WebSocket connection. `status`, `headers` and up to 1 KiB of the
            `body` are those of the answer, as far as it arrived in time. With status 101, the headers do not fit the
            request. 502 (Bad Gateway) without headers: the answer is not HTTP/1.1, or over one of the limits.
        ImportError: a SOCKS `proxy` without python-socks.
        NotImplementedError: ``wss://`` through an ``https://`` proxy on asyncio of CPython 3.10.
    """
    check_options(connect, options)
    check_seconds("open_timeout", open_timeout, optional=True)
    check_seconds("close_timeout", close_timeout)
    check_seconds("happy_eyeballs_delay", happy_eyeballs_delay, optional=True)
    limits = HeadLimits(max_header_line, max_headers, max_head_size)
    agent = parse_user_agent(user_agent)
    parsed = with_default(agent, parse_headers(headers))
    if origin is not None:
        parsed.append(parse_header_line(("Origin", origin)))
    offer = Offer(parse_uri(uri), parsed, subprotocols, check_factories(extensions))
    way = None if proxy is None else parse_proxy(proxy)
    check_proxy_arguments(None if way is None else way.scheme, proxy_headers, proxy_ssl)
    through = None if way is None else Proxy(way, proxy_ssl, with_default(agent, parse_headers(proxy_headers)), limits)
    dialing = Dialing(local_addr, happy_eyeballs_delay, **tcp_options(options, path))
    route = Route(ssl, dialing, sock, path, through, {name: options[name] for name in TLS_OPTIONS & options.keys()})
    route.check(offer.uri)
    if not 0 <= max_redirects <= MAX_REDIRECTS or (max_redirects and sock is not None):
        raise out_of_range("max_redirects", max_redirects, 0, MAX_REDIRECTS if sock is None else 0)
    make_socket = partial(
        Socket, "client", close_timeout=close_timeout, timeouts=Timeouts(ping_interval, ping_timeout, idle_timeout)
    )
    try:
        return await Client(offer, route, max_redirects, make_socket, limits).open(open_timeout)
    except BaseException:
        if sock is not None:
            sock.close()
        raise


# -- Arguments --------------------------------------------------------------------------------------------------------


def parse_user_agent(value: str | None) -> list[tuple[str, str]]:
    """Return the User-Agent header, an empty list for None."""
    if value is None:
        return []
    if not isinstance(value, str):
        raise TypeError(f"user_agent must be str or None, got {type(value).__name__}")
    if not value.strip():
        raise ValueError("user_agent must not be empty: pass None to send no User-Agent")
    return [parse_header_line(("User-Agent", value))]


def with_default(default: list[tuple[str, str]], headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return headers of the caller, preceded by the default ones that they do not replace."""
    given = {name.lower() for name, _ in headers}
    return [(name, value) for name, value in default if name.lower() not in given] + headers


def check_proxy_arguments(scheme: str | None, headers: HeadersLike, context: object) -> None:
    """Raise TypeError or ValueError unless the arguments fit the scheme of the proxy, None for no proxy."""
    check_context(context, "proxy_ssl")
    if context is not None and scheme != "https":
        raise ValueError(f"proxy_ssl is for an https:// proxy, got {'no proxy' if scheme is None else f'{scheme}://'}")
    if scheme in ("http", "https"):
        names = {name.lower() for name, _ in parse_headers(headers)}
        for name in sorted(names & {"content-length", "transfer-encoding"}):
            raise ValueError(f"proxy_headers must not contain {name}: a CONNECT request has no body")
    elif parse_headers(headers):
        raise ValueError(f"proxy_headers are for an http:// or https:// proxy, got {scheme or 'no proxy'}")


def tcp_options(options: Mapping[str, Any], path: str | None) -> dict[str, Any]:
    """Return the options of `create_connection` that `Dialing` has."""
    given = {name: options[name] for name in TCP_OPTIONS & options.keys() if options[name] is not None}
    if given and path is not None:
        raise ValueError(f"{' and '.join(sorted(given))} is for a connection over TCP, not for path")
    return {name: value for name, value in given.items() if name != "all_errors"}


# -- From an offer to an open socket ----------------------------------------------------------------------------------


class Client:
    """Opens a socket, and follows redirects on the way to it."""

    def __init__(
        self, offer: Offer, route: Route, redirects: int, make_socket: Callable[..., Socket], limits: HeadLimits
    ) -> None:
        self._offer = offer
        self._route = route
        self._redirects = redirects
        self._make_socket = make_socket
        self._limits = limits
        self._opening: Opening | None = None

    async def open(self, timeout: float | None) -> Opened:
        """Open a socket, and log that it is open or why it is not."""
        try:
            response, socket = await self._open_within(timeout)
        except Exception as error:
            log_failure(self._offer.uri, error)
            raise
        log_open(self._offer.uri, socket)
        return response, socket

    async def _open_within(self, timeout: float | None) -> Opened:
        """Open a socket; TimeoutError after so many seconds, unless a refusal is known by then."""
        # A separate task, because wait_for() may lose a result when it is cancelled (CPython 3.10 and 3.11).
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
        error = None if task.cancelled() else task.exception()
        if isinstance(error, InvalidHandshake):  # of a proxy whose answer was not complete
            raise error
        raise refusal or TimeoutError(f"{self._offer.uri.origin} did not open a connection within {timeout} seconds")

    async def _open(self) -> Opened:
        while True:
            self._opening = opening = Opening(self._offer, self._redirects > 0, self._make_socket, self._limits)
            await self._route.connect(self._offer.uri, opening)
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
