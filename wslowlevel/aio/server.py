"""a listening address -> requests -> the caller's handlers"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable, Generator, Iterable
from ssl import SSLContext
from types import TracebackType
from typing import Any, cast

import h11

from ..errors import ConnectionLost, InvalidHandshake
from ..frames import prepare_close_frame_payload
from ..handshake import check_no_body, check_request, is_websocket_upgrade, upgrade_required
from ..http1 import MAX_HEADERS_SIZE, Request, Response, encode_response, request_from_h11, response_to
from ..wire import CloseCode
from .duplex import CLOSE_TIMEOUT, linger
from .socket import Socket

logger = logging.getLogger("wslowlevel")

OPEN_TIMEOUT = 10.0
"""Seconds from the connection to the end of its request."""

OnUpgrade = Callable[[Request, Socket, bytes], Awaitable[None]]
OnRequest = Callable[[Request], Awaitable[Response | None]]


class Server:
    """A listening server, see :func:`serve`."""

    def __init__(
        self,
        on_upgrade: OnUpgrade,
        on_request: OnRequest | None,
        open_timeout: float,
        close_timeout: float,
        stop_signals: Iterable[signal.Signals],
        listen: Callable[[Callable[[], asyncio.Protocol]], Awaitable[asyncio.Server]],
    ) -> None:
        self.on_upgrade = on_upgrade
        self.on_request = on_request
        self.open_timeout = open_timeout
        self.close_timeout = close_timeout
        self._stop_signals = tuple(stop_signals)
        self._taken_signals: list[signal.Signals] = []
        self._listen = listen
        self._listener: asyncio.Server | None = None
        self.closing = False
        self._released = asyncio.Event()
        self.requests: set[HttpProtocol] = set()
        self._connections: dict[asyncio.Task[None], Socket] = {}

    @property
    def sockets(self) -> tuple[Any, ...]:
        """The listening sockets."""
        return tuple(self._listener.sockets) if self._listener else ()

    @property
    def port(self) -> int:
        """The port that is listened on, the one that the system chose if 0 was asked for."""
        return cast(int, self.sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        """How many upgraded connections there are."""
        return len(self._connections)

    async def serve_forever(self) -> None:
        """Wait until the server is closed, or one of its `stop_signals` comes.

        It closes nothing itself, cancelled or not: `close`, or the end of the ``async with`` block, does.
        """
        # asyncio's own serve_forever would wait, when cancelled, for clients that nobody has told (CPython 3.12+).
        await self._released.wait()

    async def close(
        self, code: int = CloseCode.GOING_AWAY, reason: str = "", *, close_timeout: float | None = None
    ) -> None:
        """Stop to listen, close every connection, and wait until they are gone.

        Args:
            code, reason: what the Close frames say; 1001 by default.
            close_timeout: seconds after which a connection that did not answer is dropped and its handler cancelled; by
                default the `close_timeout` of :func:`serve`.
        """
        prepare_close_frame_payload(code, reason)  # which tells of a wrong one before anything is closed
        if self._listener is not None:
            self._listener.close()
        self.closing = True
        self._released.set()
        self._let_go_of_signals()
        tasks = [request.task for request in self.requests if request.task is not None]
        for request in list(self.requests):
            request.drop()
        for socket in self._connections.values():
            socket.close(code, reason)
        tasks += self._connections
        if not tasks:
            return
        _, pending = await asyncio.wait(tasks, timeout=self.close_timeout if close_timeout is None else close_timeout)
        for task in pending:
            if task in self._connections:
                self._connections[task].abort()
            task.cancel()
        if pending:
            await asyncio.wait(pending)

    async def _start(self) -> Server:
        if self._listener is None:
            try:
                self._take_signals()
                self._listener = await self._listen(lambda: HttpProtocol(self))
            except BaseException:
                self._let_go_of_signals()
                raise
        return self

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
        socket = Socket("server", early=head, close_timeout=self.close_timeout)
        transport.set_protocol(socket)
        socket.connection_made(transport)
        task = asyncio.create_task(self._run(request, socket, head))
        self._connections[task] = socket
        task.add_done_callback(self._connections.pop)

    async def _run(self, request: Request, socket: Socket, head: bytes) -> None:
        code: int | None = None
        try:
            await self.on_upgrade(request, socket, head)
            socket.refuse(InvalidHandshake("the upgrade was not accepted", 403))
        except asyncio.CancelledError:
            socket.abort()
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the peer is told and the operator reads it
            code = self._answer_failure(request, socket, error)
        await socket.finish(CloseCode.GOING_AWAY if self.closing and code is None else code)

    def _answer_failure(self, request: Request, socket: Socket, error: Exception) -> int | None:
        """What left the handler -> the code to close with; what is nobody's intention is logged, once."""
        if error is socket.error or (isinstance(error, ConnectionLost) and not socket.is_open):
            # The doing of this connection's peer, which was told: nothing for the operator to mend.
            logger.info("connection from %s: %s", socket.get_extra_info("peername"), error)
            return getattr(error, "close_code", None)
        if isinstance(error, InvalidHandshake) and not socket.handshake_sent:
            try:
                socket.refuse(error)
            except ValueError as wrong:
                error = wrong
            else:
                return None
        logger.error("on_upgrade failed for %s", request.target, exc_info=error)
        socket.refuse(InvalidHandshake("internal server error", 500))
        return CloseCode.INTERNAL_ERROR


class HttpProtocol(asyncio.Protocol):
    """One connection until its request is complete: read by h11, then answered or handed over."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADERS_SIZE)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None
        self._method = "GET"
        self._answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._server.closing:
            self.drop()
            return
        self._server.requests.add(self)
        self._timer = asyncio.get_running_loop().call_later(self._server.open_timeout, self.drop)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        if self.task is not None:
            self.task.cancel()

    def eof_received(self) -> bool:
        return self.task is not None and not self._answered  # who asks and half-closes is still answered

    def data_received(self, data: bytes) -> None:
        if self.task is not None or self._answered:
            return  # one request a connection: what follows it is not read
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._method = event.method.decode()
                self._dispatch(request_from_h11(event))
        except h11.RemoteProtocolError as error:
            self._answer(response_to(InvalidHandshake(f"malformed request: {error}", error.error_status_hint)))
        except InvalidHandshake as error:
            self._answer(response_to(error))

    def drop(self) -> None:
        """End the connection, answered or not."""
        if self._transport is not None:
            self._transport.abort()

    def _leave(self) -> None:
        self._server.requests.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def _dispatch(self, request: Request) -> None:
        assert self._transport is not None
        assert self._timer is not None
        self._timer.cancel()
        if is_websocket_upgrade(request):
            check_request(request)
            self._http.next_event()  # EndOfMessage: what h11 holds from here on is no HTTP
            self._leave()
            self._server.upgrade(request, self._transport, self._http.trailing_data[0])
        else:
            check_no_body(request)
            self.task = asyncio.create_task(self._respond(request))

    async def _respond(self, request: Request) -> None:
        try:
            self._answer(await self._response(request))
        except Exception:
            logger.exception("on_request failed for %s", request.target)
            self._answer(response_to(InvalidHandshake("internal server error", 500)))

    async def _response(self, request: Request) -> Response:
        if self._server.on_request is None:
            return response_to(upgrade_required("this resource speaks WebSocket only"))
        try:
            response = await self._server.on_request(request)
        except InvalidHandshake as error:
            return response_to(error)
        return response_to(InvalidHandshake("not found", 404)) if response is None else response

    def _answer(self, response: Response) -> None:
        """Write the response and end the connection, in the order that lets the peer read it."""
        transport = self._transport
        assert transport is not None
        if transport.is_closing():
            return
        transport.write(encode_response(response, method=self._method))
        self._answered = True
        linger(transport)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._server.close_timeout, self.drop)


def serve(
    on_upgrade: OnUpgrade,
    host: str | None = None,
    port: int | None = None,
    *,
    on_request: OnRequest | None = None,
    ssl: SSLContext | None = None,
    path: str | None = None,
    open_timeout: float = OPEN_TIMEOUT,
    close_timeout: float = CLOSE_TIMEOUT,
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
        open_timeout: seconds from the connection to the end of its request.
        close_timeout: seconds that a closing handshake may take.
        stop_signals: signals that end `serve_forever`, SIGINT (Ctrl-C) and SIGTERM for instance, until the server is
            closed. In the main thread only; without effect on Windows, where Ctrl-C cancels the task (Python 3.11+).
        options: more for asyncio's `create_server` or `create_unix_server`: sock, backlog, reuse_port, ...
    """

    def listen(protocol: Callable[[], asyncio.Protocol]) -> Awaitable[asyncio.Server]:
        loop = asyncio.get_running_loop()
        if path is not None:
            return loop.create_unix_server(protocol, path, ssl=ssl, **options)
        return loop.create_server(protocol, host, port, ssl=ssl, **options)

    return Server(on_upgrade, on_request, open_timeout, close_timeout, stop_signals, listen)
