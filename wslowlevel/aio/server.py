"""a listening address -> requests -> the caller's handlers"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket as sockets
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

from ..errors import (
    ConnectionLost,
    InvalidHandshake,
    WebSocketError,
    not_an_integer,
    out_of_range,
    shown,
    wrong_thread,
)
from ..extensions import Extension
from ..frames import prepare_close_frame_payload
from ..handshake import (
    MAX_PORT,
    check_allowed_origin,
    check_no_body,
    check_origin,
    check_request,
    is_websocket_upgrade,
    upgrade_required,
)
from ..http1 import (
    MAX_HEADER_LINE,
    MAX_HEADERS,
    MAX_HEADERS_SIZE,
    HeadLimits,
    Request,
    RequestReader,
    Response,
    encode_response,
    response_to,
)
from ..keepalive import PING_TIMEOUT, Timeouts, check_seconds
from ..wire import CloseCode
from .duplex import CLOSE_TIMEOUT, linger
from .server_log import log_answer, log_drop, log_failure, log_open, log_peer_error, log_refusal
from .server_options import call_handler, check_handler, check_options
from .socket import Socket
from .tls import check_context
from .tls_arrival import TlsArrival

if TYPE_CHECKING:
    from ssl import SSLContext

OPEN_TIMEOUT = 10.0
"""Seconds from the connection to the end of its request."""

TOO_MANY = InvalidHandshake("too many connections", 503, [("Retry-After", "1")])

SHUTTING_DOWN = InvalidHandshake("the server is shutting down", 503, [("Retry-After", "1")])

MAX_REFUSALS = 16
"""Connections over the limit that are answered with 503 at a time; further ones are dropped without an answer."""

BACKLOG = 100
"""Connections that wait in the system's queue until they are accepted; asyncio's default."""

ACCEPTED_AT_ONCE = 8
"""Connections that asyncio accepts in one turn of the loop, for a server with `max_connections`.

asyncio needs up to four turns from accepting a connection to closing it: in a flood, four times as many descriptors are
in use for connections that are dropped at once. 24 were measured; uvloop accepts one at a time, and uses about two."""

OnUpgrade = Callable[[Request, Socket, bytes], Awaitable[None]]
OnRequest = Callable[[Request], Awaitable[Response | None]]


@dataclass(frozen=True)
class Policy:
    """What a server allows its clients; see :func:`serve`."""

    origins: Collection[str | None] | None
    max_connections: int | None
    head_limits: HeadLimits
    max_refusals: int
    open_timeout: float
    close_timeout: float
    timeouts: Timeouts

    def __post_init__(self) -> None:
        check_seconds("open_timeout", self.open_timeout)
        check_seconds("close_timeout", self.close_timeout)
        if not isinstance(self.max_refusals, int) or isinstance(self.max_refusals, bool):
            raise not_an_integer("max_refusals", self.max_refusals)
        if self.max_refusals < 0:
            raise ValueError(f"max_refusals must be 0 or more, got {self.max_refusals}")
        limit = self.max_connections
        if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool)):
            raise not_an_integer("max_connections", limit)
        if limit is not None and limit < 1:
            raise ValueError(f"max_connections must be 1 or more, or None for no limit, not {limit}")


class Server:
    """A listening server, see :func:`serve`."""

    def __init__(
        self,
        on_upgrade: OnUpgrade,
        on_request: OnRequest | None,
        policy: Policy,
        stop_signals: Iterable[signal.Signals],
        listen: Callable[[Server], Awaitable[asyncio.Server]],
        backlog: int | None = None,
    ) -> None:
        self.on_upgrade = on_upgrade
        self.on_request = on_request
        self.policy = policy
        self._stop_signals = tuple(stop_signals)
        self._taken_signals: list[signal.Signals] = []
        self._listen = listen
        self._backlog = backlog
        self._listener: asyncio.Server | None = None
        self._starting = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._released = asyncio.Event()
        self.farewell: tuple[int, str] | None = None
        self.arriving: WeakSet[HttpProtocol] = WeakSet()
        self.requests: set[HttpProtocol] = set()
        self.refused: set[HttpProtocol] = set()
        self._connections: dict[ServerSocket, None] = {}  # closed in the order of arrival

    def protocol(self) -> HttpProtocol:
        """Create the protocol of a connection that was accepted."""
        return HttpProtocol(self)

    @property
    def sockets(self) -> tuple[Any, ...]:
        """The listening sockets."""
        return tuple(self._listener.sockets) if self._listener else ()

    @property
    def port(self) -> int:
        """The port that is listened on, the one that the system chose if 0 was asked for.

        Raises:
            RuntimeError: the server does not listen, or on a Unix socket.
        """
        for listening in self.sockets:
            name = listening.getsockname()
            if isinstance(name, tuple):
                return cast(int, name[1])
        raise RuntimeError("the server listens on no port")

    @property
    def connections(self) -> int:
        """How many upgraded connections there are."""
        return len(self._connections)

    @property
    def is_full(self) -> bool:
        """True if there are as many connections as `max_connections` allows, whatever state they are in."""
        limit = self.policy.max_connections
        if limit is None:
            return False
        return len(self._connections) + len(self.requests) + len(self.arriving) >= limit

    async def serve_forever(self) -> None:
        """Wait until the server is closed, or one of its `stop_signals` comes.

        It closes nothing itself, cancelled or not: `close`, or the end of the ``async with`` block, does.

        Raises:
            RuntimeError: the server does not listen yet.
        """
        self._check_thread("Server.serve_forever")
        if self._listener is None and self.farewell is None:
            raise RuntimeError("the server does not listen yet: await it, or enter its async with block")
        # asyncio's own serve_forever would wait, when cancelled, for clients that nobody has told (CPython 3.12+).
        await self._released.wait()

    async def close(
        self, code: int = CloseCode.GOING_AWAY, reason: str = "", *, close_timeout: float | None = None
    ) -> None:
        """Stop to listen, close every connection, and wait until they are gone.

        Plain requests that are being answered may finish. A connection whose handler has not answered the opening
        handshake yet is closed when it does, or refused with 503 at the deadline. Whoever cancels this brings the
        deadline forward. A handler may call it: its own connection is closed, and not waited for.

        Args:
            code, reason: what the Close frames say; 1001 by default.
            close_timeout: seconds, 0 for none, after which a connection that did not answer is dropped and its handler
                cancelled; by default the `close_timeout` of :func:`serve`.

        Raises:
            TypeError, ValueError: a code or a reason that may not be sent, or a time that is none; nothing was closed.
        """
        self._check_thread("Server.close")
        prepare_close_frame_payload(code, reason)
        if close_timeout != 0:
            check_seconds("close_timeout", close_timeout, optional=True)
        self.farewell = (code, reason)
        if self._listener is not None:
            self._listener.close()
        self._released.set()
        self._let_go_of_signals()
        for request in self._http():
            request.drop_unless_complete()
        for socket in self._connections:
            socket.close(code, reason)
        timeout = self.policy.close_timeout if close_timeout is None else close_timeout
        await self._see_off(self._others(), timeout)

    def _check_thread(self, method: str) -> None:
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise wrong_thread(method)

    async def _see_off(self, leaving: set[asyncio.Future[None]], timeout: float) -> None:
        if not leaving:
            return
        try:
            await asyncio.wait(leaving, timeout=timeout)
        finally:
            leaving = {each for each in leaving if not each.done()}
            self._drop(leaving)
        if leaving:
            await asyncio.wait(leaving)

    def _http(self) -> list[HttpProtocol]:
        return [*self.requests, *self.refused]

    def _others(self) -> set[asyncio.Future[None]]:
        """The ends of all connections but the one whose handler asks."""
        asking = asyncio.current_task()
        gone = {request.gone for request in self._http() if request.task is not asking}
        return gone.union(socket.handler for socket in self._connections if socket.handler not in (asking, None))

    def _drop(self, leaving: Collection[asyncio.Future[None]]) -> None:
        for request in self._http():
            if request.gone in leaving:
                request.drop()
        for socket in self._connections:
            handler = socket.handler
            if handler is not None and handler in leaving:
                socket.refuse(SHUTTING_DOWN)
                socket.abort()
                handler.cancel()

    async def _start(self) -> Server:
        self._loop = asyncio.get_running_loop()
        async with self._starting:
            if self._listener is None and self.farewell is None:
                await self._start_listening()
        if self.farewell is not None:
            raise RuntimeError("the server was closed: serve() makes another one")
        return self

    async def _start_listening(self) -> None:
        try:
            self._take_signals()
            # In two steps, for a cancelled create_server() may leave a socket behind that goes on listening.
            listener = await self._listen(self)
            if self.farewell is None:
                self._listener = listener
                await listener.start_serving()
                self._lengthen_queues()
            else:
                listener.close()
        except BaseException:
            self._let_go_of_signals()
            if self._listener is not None:
                self._listener.close()
                self._listener = None
            raise

    def _lengthen_queues(self) -> None:
        """Set the length of the system's queues: asyncio has set it to ACCEPTED_AT_ONCE."""
        if self._backlog is not None:
            for listening in self.sockets:
                borrowed = sockets.socket(fileno=listening.fileno())
                try:
                    borrowed.listen(self._backlog)
                finally:
                    borrowed.detach()

    def _take_signals(self) -> None:
        for number in self._stop_signals:
            with contextlib.suppress(NotImplementedError):  # the event loops of Windows
                asyncio.get_running_loop().add_signal_handler(number, self._released.set)
                self._taken_signals.append(number)

    def _let_go_of_signals(self) -> None:
        while self._taken_signals:
            asyncio.get_running_loop().remove_signal_handler(self._taken_signals.pop())

    def __await__(self) -> Generator[Any, None, Server]:
        return self._start().__await__()

    async def __aenter__(self) -> Server:
        return await self._start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # -- One connection -----------------------------------------------------------------------------------------------

    def upgrade(self, request: Request, transport: asyncio.Transport, head: bytes) -> None:
        """Hand a connection over from HTTP to the caller's handler."""
        socket = ServerSocket(self, request.target, head)
        transport.set_protocol(socket)
        socket.connection_made(transport)
        self._connections[socket] = None  # before the task is made: an eager one runs the handler at once
        task = asyncio.create_task(self._run(request, socket, head))
        socket.handler = task
        task.add_done_callback(lambda _: self._forget(socket))

    def _forget(self, socket: ServerSocket) -> None:
        self._connections.pop(socket, None)
        socket.abort()  # a task that is cancelled before its first step closes nothing

    async def _run(self, request: Request, socket: ServerSocket, head: bytes) -> None:
        socket.handler = asyncio.current_task()
        try:
            await socket.finish(await self._handle(request, socket, head))
        except asyncio.CancelledError:
            socket._close_without_waiting()
            raise

    async def _handle(self, request: Request, socket: Socket, head: bytes) -> int | None:
        """Run the handler -> the code to close with, None for the usual one."""
        try:
            await call_handler("on_upgrade", self.on_upgrade, request, socket, head)
        except (Exception, asyncio.CancelledError) as error:  # whatever it is, the peer is told, the operator reads it
            if _cancels_this_task(error):
                raise
            return _answer_failure(request, socket, error)
        socket.refuse(InvalidHandshake("the upgrade was not accepted", 403))
        return None


class ServerSocket(Socket):
    """A connection of a server, which is closed with the server even if its opening handshake is answered later.

    Attributes:
        handler: the task that runs the caller's handler.
    """

    def __init__(self, server: Server, target: str, head: bytes) -> None:
        self.handler: asyncio.Task[None] | None = None
        self._target = target
        policy = server.policy
        super().__init__("server", early=head, close_timeout=policy.close_timeout, timeouts=policy.timeouts)
        self._server = server

    def opened(self, extensions: Sequence[Extension] = ()) -> None:
        super().opened(extensions)
        log_open(self, self._target)
        if self._server.farewell is not None:
            self.close(*self._server.farewell)

    def refuse(self, error: InvalidHandshake) -> None:
        self._respond(response_to(error), str(error))

    def respond(self, response: Response) -> None:
        self._respond(response, "the handler responded")

    def _respond(self, response: Response, reason: str) -> None:
        was_answered = self._answered
        super().respond(response)
        if self._answered and not was_answered:
            log_refusal(self, self._target, response.status, reason)


def _cancels_this_task(error: BaseException) -> bool:
    """Whether somebody cancelled this task, and not only what it waits for, which CPython 3.10 cannot tell apart."""
    return isinstance(error, asyncio.CancelledError) and getattr(asyncio.current_task(), "cancelling", lambda: 1)() > 0


def _answer_failure(request: Request, socket: Socket, error: BaseException) -> int | None:
    """What left the handler -> the code to close with; what is nobody's intention is logged, once."""
    if _is_of_the_peer(socket, error):
        # The peer was told: nothing for the operator to mend.
        log_peer_error(socket, request.target, error)
        return getattr(socket.error, "close_code", None)
    if isinstance(error, InvalidHandshake) and not socket.handshake_sent:
        try:
            socket.refuse(error)
        except ValueError as wrong:
            error = wrong
        else:
            return None
    log_failure("on_upgrade", request.target, error)
    socket.refuse(InvalidHandshake("internal server error", 500))
    return CloseCode.INTERNAL_ERROR


def _is_of_the_peer(socket: Socket, error: BaseException) -> bool:
    """Whether an error is the doing of this connection's peer; of a group of them, which TaskGroup makes, each one."""
    group = getattr(error, "exceptions", None)
    if isinstance(group, tuple):
        return all(_is_of_the_peer(socket, each) for each in group)
    violated = isinstance(error, WebSocketError) and error is socket.error  # not an extension that fails
    return violated or (isinstance(error, ConnectionLost) and not socket.is_open)


class HttpProtocol(asyncio.Protocol):
    """One connection until its request is complete, and has been answered or handed over.

    It is created when the connection is accepted. With TLS, `connection_made` is called after the TLS handshake; a
    server with `max_connections` calls `admit` before it and `begin` after it instead, see `tls_arrival`.

    Attributes:
        deadline: when the request must be complete.
        task: what answers a plain request, None until one is complete.
        gone: done when the connection has ended, or been handed over.
    """

    def __init__(self, server: Server) -> None:
        loop = asyncio.get_running_loop()
        self._server = server
        self._reader = RequestReader(server.policy.head_limits)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._method = "GET"
        self._target: str | None = None
        self._answered = False
        self._is_over_limit = server.is_full
        self.deadline = loop.time() + server.policy.open_timeout
        self.task: asyncio.Task[None] | None = None
        self.gone: asyncio.Future[None] = loop.create_future()
        if server.policy.max_connections is not None and not self._is_over_limit:
            server.arriving.add(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = cast(asyncio.Transport, transport)
        if self.admit(made):
            self.begin(made)

    def admit(self, transport: asyncio.Transport) -> bool:
        """Count the connection, or drop it.

        Returns:
            False if it was dropped because too many refusals are in progress, or because the server is closing.
        """
        server = self._server
        self._transport = transport
        server.arriving.discard(self)
        if server.farewell is not None:
            self._drop_unanswered("the server is shutting down")
            return False
        if self._is_over_limit and len(server.refused) >= server.policy.max_refusals:
            self._drop_unanswered("too many connections, max_refusals reached")
            return False
        (server.refused if self._is_over_limit else server.requests).add(self)
        self._timer = asyncio.get_running_loop().call_at(self.deadline, self._time_out)
        return True

    def begin(self, transport: asyncio.Transport) -> None:
        """Read the request, or refuse the connection if it is over the limit.

        Args:
            transport: carries HTTP: with TLS not the one of `admit`, but the one that decrypts.
        """
        self._transport = transport
        if self._is_over_limit:
            self._refuse(TOO_MANY)

    def connection_lost(self, exc: Exception | None) -> None:
        assert self._transport is not None
        self._transport.close()  # it is, but with TLS asyncio would complain of it (CPython 3.10)
        self._leave()
        if self.task is not None:
            self.task.cancel()

    def eof_received(self) -> bool:
        return self.task is not None and not self._answered  # who asks and half-closes is still answered

    def data_received(self, data: bytes) -> None:
        if self.task is not None or self._answered:
            return  # one request a connection: what follows it is not read
        try:
            request = self._reader.feed(data)
            if request is not None:
                self._method, self._target = request.method, request.target
                self._dispatch(request)
        except InvalidHandshake as error:
            self._refuse(error)

    def drop(self) -> None:
        """End the connection, answered or not."""
        if self._transport is not None:
            self._transport.abort()

    def drop_unless_complete(self) -> None:
        """End the connection if it still waits for its request."""
        if self.task is None and not self._answered:
            self._drop_unanswered("the server is shutting down")

    def _time_out(self) -> None:
        self._drop_unanswered("open_timeout passed before the request was complete")

    def _drop_unanswered(self, reason: str) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            log_drop(self._transport, self._target or self._reader.target, reason)
        self.drop()

    def _leave(self) -> None:
        self._server.requests.discard(self)
        self._server.refused.discard(self)
        for timer in (self._timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
        if not self.gone.done():
            self.gone.set_result(None)

    def _dispatch(self, request: Request) -> None:
        assert self._transport is not None
        assert self._timer is not None
        self._timer.cancel()
        if is_websocket_upgrade(request):
            check_request(request)
            check_origin(request, self._server.policy.origins)
            self._leave()
            self._server.upgrade(request, self._transport, self._reader.rest)
        else:
            check_no_body(request)
            self.task = asyncio.create_task(self._respond(request))

    async def _respond(self, request: Request) -> None:
        self.task = asyncio.current_task()  # an eager task runs before create_task() returns it
        try:
            if self._server.on_request is None:
                self._refuse(upgrade_required("this resource speaks WebSocket only"))
            else:
                self._answer_page(await self._response(request, self._server.on_request))
        except (Exception, asyncio.CancelledError) as error:
            if _cancels_this_task(error):
                self.drop()
                raise
            log_failure("on_request", request.target, error)
            self._answer_page(response_to(InvalidHandshake("internal server error", 500)))

    async def _response(self, request: Request, on_request: OnRequest) -> Response:
        try:
            response = await call_handler("on_request", on_request, request)
        except InvalidHandshake as error:
            return response_to(error)
        if response is not None and not isinstance(response, Response):
            raise TypeError(f"on_request must return a Response or None, not {type(response).__name__}")
        return response_to(InvalidHandshake("not found", 404)) if response is None else response

    def _refuse(self, error: InvalidHandshake) -> None:
        """Answer a handshake, or the beginning of a request, with an HTTP error."""
        transport = self._transport
        assert transport is not None
        if self._answer(response_to(error)):
            log_refusal(transport, self._target or self._reader.target, error.status, str(error))

    def _answer_page(self, response: Response) -> None:
        """Answer a plain request."""
        transport = self._transport
        assert transport is not None
        if self._answer(response):
            log_answer(transport, self._target, response.status)

    def _answer(self, response: Response) -> bool:
        """Write the response and end the connection, in the order that lets the peer read it.

        Returns:
            False if the connection was closing already.
        """
        transport = self._transport
        assert transport is not None
        if transport.is_closing():
            return False
        transport.write(encode_response(response, method=self._method))
        self._answered = True
        self._linger_timer = linger(transport)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._server.policy.close_timeout, self.drop)
        return True


def serve(
    on_upgrade: OnUpgrade,
    host: str | None = None,
    port: int | None = None,
    *,
    on_request: OnRequest | None = None,
    ssl: SSLContext | None = None,
    path: str | None = None,
    origins: Iterable[str | None] | None = None,
    max_connections: int | None = None,
    max_header_line: int = MAX_HEADER_LINE,
    max_headers: int = MAX_HEADERS,
    max_head_size: int = MAX_HEADERS_SIZE,
    max_refusals: int = MAX_REFUSALS,
    open_timeout: float = OPEN_TIMEOUT,
    close_timeout: float = CLOSE_TIMEOUT,
    ping_interval: float | None = None,
    ping_timeout: float | None = PING_TIMEOUT,
    idle_timeout: float | None = None,
    stop_signals: Iterable[signal.Signals] = (),
    **options: Any,
) -> Server:
    """Listen for WebSocket connections.

    ``async with serve(...) as server:`` listens inside the block and closes every connection with 1001 at its end;
    ``server = await serve(...)`` leaves that to ``await server.close()``. Either way
    ``await server.serve_forever()`` keeps the program there.

    Args:
        on_upgrade: ``async def on_upgrade(request, socket, head)``, called for each valid opening handshake. It calls
            :func:`send_handshake`, and the connection lives as long as it runs: when it returns, the connection is
            closed with 1000; when it raises, with 1011. Before the handshake it may raise InvalidHandshake to refuse.
            `head` is what the client sent right behind its request; the socket delivers it all the same.
        host, port: where to listen; every interface for None, a free port for 0.
        on_request: ``async def on_request(request)``, called for each plain HTTP request; returns a
            :class:`Response`, or None for 404. Without it they are answered with 426.
        ssl: a server-side context, for wss://.
        path: of a Unix socket, instead of host and port.
        origins: the web pages whose scripts may connect: the values of the Origin header to accept, such as
            "https://example.org", None among them for a client that sends none, as those outside of browsers do. Others
            are answered with 403. By default every page of the web may connect, with the cookies that the browser has
            for this server, so a server that knows its users by cookies must name its origins (RFC 6455 §10.2).
        max_connections: number of simultaneous connections, including those whose request or TLS handshake is not
            complete. A further one is answered with 503. None, the default, for no limit. The process needs
            `max_connections` + `max_refusals` descriptors, one for each listening socket, 32 for connections that the
            event loop has accepted and not yet dropped, and those that the program itself uses.
        max_refusals: number of connections over `max_connections` that may be answered at the same time. Further ones
            are dropped without an answer; 0 drops all of them.
        max_header_line: bytes of one header line without its line end, and of the request target; 32 KiB by default. A
            request over one of these three limits is answered with 431.
        max_headers: number of header lines of a request; 128 by default.
        max_head_size: bytes of a whole request head, up to and including its empty line; 64 KiB by default.
        open_timeout: seconds from the connection to the end of its request, the TLS handshake included.
        close_timeout: seconds that a closing handshake may take.
        ping_interval, ping_timeout, idle_timeout: the keepalive of each connection, see
            :meth:`wslowlevel.Socket.keep_alive`; by default no pings are sent and no connection is idle.
        stop_signals: signals that end `serve_forever`, SIGINT (Ctrl-C) and SIGTERM for instance, until the server is
            closed. For one server of a process at a time, in the main thread; without effect on Windows, where Ctrl-C
            cancels the task (Python 3.11+).
        options: more for asyncio's `create_server` or `create_unix_server`: sock, backlog, reuse_port,
            ssl_handshake_timeout, ...

    Raises:
        TypeError, ValueError: an origin that no browser would send, an unknown option, or another argument of the wrong
            kind. asyncio checks the values of `options` when the server is started.
    """
    _check_arguments(on_upgrade, on_request, ssl, port)
    check_options(serve, options, unix=path is not None)
    if path is not None and (host is not None or port is not None or "sock" in options):
        raise ValueError("path stands in place of host, port and sock")
    policy = Policy(
        origins=None if origins is None else _allowed_origins(origins),
        max_connections=max_connections,
        head_limits=HeadLimits(max_header_line, max_headers, max_head_size),
        max_refusals=max_refusals,
        open_timeout=open_timeout,
        close_timeout=close_timeout,
        timeouts=Timeouts(ping_interval, ping_timeout, idle_timeout),
    )

    options = {**options, "ssl": ssl, "start_serving": False}
    if ssl is not None:
        options.setdefault("ssl_handshake_timeout", open_timeout)

    def listen(protocol: Callable[[], asyncio.Protocol], changed: Mapping[str, Any]) -> Awaitable[asyncio.Server]:
        loop = asyncio.get_running_loop()
        if path is not None:
            return loop.create_unix_server(protocol, path, **changed)
        return loop.create_server(protocol, host, port, **changed)

    if max_connections is None:
        return Server(on_upgrade, on_request, policy, stop_signals, lambda server: listen(server.protocol, options))
    backlog = options.get("backlog", BACKLOG)
    return Server(on_upgrade, on_request, policy, stop_signals, _with_limit(listen, options), backlog)


def _with_limit(
    listen: Callable[[Callable[[], asyncio.Protocol], Mapping[str, Any]], Awaitable[asyncio.Server]],
    options: Mapping[str, Any],
) -> Callable[[Server], Awaitable[asyncio.Server]]:
    """Return a function that listens so that each connection counts, and can be dropped, when it is accepted."""
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
    context = options["ssl"]
    # asyncio uses `backlog` twice: for the system's queue, and for the connections that it accepts in one turn.
    changed = {name: value for name, value in options.items() if name not in tls}
    changed.update(ssl=None, backlog=ACCEPTED_AT_ONCE)

    def limited(server: Server) -> Awaitable[asyncio.Server]:
        if context is None:
            return listen(server.protocol, changed)
        return listen(lambda: TlsArrival(server.protocol(), context, tls), changed)

    return limited


def _check_arguments(on_upgrade: object, on_request: object, ssl: object, port: object) -> None:
    check_handler("on_upgrade", on_upgrade)
    check_handler("on_request", on_request, optional=True)
    check_context(ssl)
    if port is not None and (not isinstance(port, int) or isinstance(port, bool)):
        raise not_an_integer("port", port)
    if port is not None and not 0 <= port <= MAX_PORT:
        raise out_of_range("port", port, 0, MAX_PORT)


def _allowed_origins(origins: Iterable[str | None]) -> frozenset[str | None]:
    if isinstance(origins, str):
        raise TypeError(f"origins must be several strings, not the string {shown(origins)}")
    return frozenset(map(check_allowed_origin, origins))
