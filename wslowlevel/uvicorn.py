"""uvicorn <-> our connection: any ASGI application on it

    uvicorn app:app --ws wslowlevel.uvicorn:WebSocketProtocol

uvicorn reads the request and hands it over with its transport; from there on the bytes go through the socket of
`wslowlevel.aio`, and its messages become ASGI events (ASGI 3, WebSocket specification 2.4).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from typing import Any, cast
from urllib.parse import unquote

from uvicorn.config import Config
from uvicorn.logging import TRACE_LOG_LEVEL
from uvicorn.protocols.utils import (
    ClientDisconnected,
    get_client_addr,
    get_local_addr,
    get_path_with_query_string,
    get_remote_addr,
    is_ssl,
)
from uvicorn.server import ServerState

from .aio.server_log import one_line, path_of
from .aio.socket import Socket
from .codec import Message
from .connection import State
from .deflate import PerMessageDeflate
from .errors import ConnectionLost, InvalidHandshake, PayloadTooBig, ProtocolError
from .extensions import accept_extensions
from .handshake import accept_request, check_request
from .http1 import MAX_HEADERS, Request, Response, parse_request, parse_tokens
from .keepalive import Timeouts
from .wire import READ_SIZE, CloseCode, Opcode

CLOSE_TIMEOUT = 10.0
"""Seconds that a closing handshake may take."""

logger = logging.getLogger("uvicorn.error")

Event = dict[str, Any]
"""An ASGI event."""


class WebSocketProtocol(Socket):
    """What uvicorn's `ws` names: one connection, from its request on.

    Of uvicorn's settings it takes ws_max_size (bytes), ws_ping_interval and ws_ping_timeout (seconds),
    ws_per_message_deflate, and h11_max_incomplete_event_size (bytes). The last one, if set, is the limit on the request
    head and on each of its lines, also when uvicorn reads the request with httptools; by default the limits are those
    of :func:`wslowlevel.serve`.

    uvicorn's HTTP parser reads the request and passes on a head that it writes itself, so the parser decides which
    syntax is accepted: httptools rejects bare line feeds and obs-fold, h11 accepts both.

    Where an application raises after it has accepted, the peer gets a Close frame with 1011 (RFC 6455 §7.4.1), and with
    1000 where it returns without having closed.

    Attributes:
        max_headers: number of header lines of a request; 128 by default. A subclass may set another number.
    """

    max_headers: int = MAX_HEADERS

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        timeouts = Timeouts(config.ws_ping_interval or None, config.ws_ping_timeout or None)
        super().__init__("server", close_timeout=CLOSE_TIMEOUT, timeouts=timeouts)
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self._session: Session | None = None
        self._client: tuple[str, int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport = cast(asyncio.Transport, transport)  # as uvicorn's own classes have it
        self._client = get_remote_addr(self.transport)
        self._server_state.connections.add(self)  # type: ignore[arg-type] # uvicorn names its own classes
        self._trace("WebSocket connection made")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._server_state.connections.discard(self)
        self._trace("WebSocket connection lost")
        if self._session is not None:
            self._session.lost()

    @property
    def close_timeout(self) -> float:
        """Seconds that a closing handshake may take; 10 by default."""
        return self._close_timeout

    @close_timeout.setter
    def close_timeout(self, seconds: float) -> None:
        self._close_timeout = seconds

    @property
    def close_timer(self) -> asyncio.TimerHandle | None:
        """What ends a closing handshake in which the peer does not answer, None while none goes on."""
        timer = self._close_timer
        is_over = self._connection.ended or self.transport.is_closing()
        return None if timer is None or timer.cancelled() or is_over else timer

    def data_received(self, data: bytes) -> None:
        """Take the whole request, which comes before this object is the transport's protocol; after that, frames."""
        if self._session is None:
            self._request_received(data)
            return
        while self._has_begun and data:
            lent = self.get_buffer(len(data))
            size = min(len(lent), len(data))
            lent[:size] = data[:size]
            self.buffer_updated(size)
            data = data[size:]

    def _request_received(self, data: bytes) -> None:
        try:
            request = self._parse(data)
            check_request(request)
        except InvalidHandshake as error:
            self._log_refusal(data, error)
            self.refuse(error)
            return
        headers = self._server_state.default_headers
        self._session = Session(self, request, self._scope(request), self._config, headers)
        if self._loop.get_task_factory() is None:
            self._start_application()
        else:
            # An eager task factory would run the application at once, but until uvicorn has made this object the
            # transport's protocol, pause_writing() would go to the HTTP protocol.
            self._loop.call_soon(self._start_application)

    def _log_refusal(self, head: bytes, error: InvalidHandshake) -> None:
        """Log an invalid request as uvicorn logs a refusal, but without the query, which may contain credentials."""
        if logger.isEnabledFor(logging.INFO):
            client = f"{self._client[0]}:{self._client[1]}" if self._client else ""
            target = b"".join(head.partition(b"\n")[0].split(b" ")[1:2]).decode("latin-1")
            reason = one_line(str(error))
            logger.info('%s - "WebSocket %s" %d: %s', client, path_of(target), error.status, reason)

    def _start_application(self) -> None:
        assert self._session is not None
        task = self._loop.create_task(self._session.run())
        if not task.done():
            self._server_state.tasks.add(task)
            task.add_done_callback(self._server_state.tasks.discard)

    def _parse(self, head: bytes) -> Request:
        size = self._config.h11_max_incomplete_event_size
        limits = {} if size is None else {"max_header_line": size, "max_head_size": size}
        try:
            return parse_request(head, max_headers=self.max_headers, **limits)
        except InvalidHandshake as error:
            if error.status != 431:
                raise
            name = "h11_max_incomplete_event_size of uvicorn"
            text = str(error).replace("max_header_line", name).replace("max_head_size", name)
            raise InvalidHandshake(text.replace("max_headers", "max_headers of the protocol class"), 431) from None

    def _received(self, messages: list[Any]) -> None:
        """A Close frame is answered when it comes, for an application may only send; messages before it stay."""
        super()._received(messages)
        if self.received is not None:
            self._answer_end()

    def _wants_to_read(self) -> bool:
        """Before it is accepted too: a peer that goes is noticed, and what it sends by then is kept."""
        return super()._wants_to_read() or (self.state is State.CONNECTING and len(self._early) < READ_SIZE)

    def _give_up(self, why: str) -> None:
        super()._give_up("keepalive ping timeout")

    def shutdown(self) -> None:
        """The server stops: 1012 for the peer and for the application, or 500 if it was not accepted yet."""
        session = self._session
        if session is None or self.sent is not None:
            self.flush()
            self.transport.close()
        elif self.state is State.CONNECTING:
            session.refuse(500, b"Internal Server Error")
        else:
            session.shut_down(CloseCode.SERVICE_RESTART)

    def end(self) -> None:
        """Write what is queued, and end the connection without waiting for the peer's Close frame."""
        self._end()
        self._wake()

    def _scope(self, request: Request) -> Event:
        path, _, query = request.target.partition("?")
        root_path = self._config.root_path
        return {
            "type": "websocket",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if is_ssl(self.transport) else "ws",
            "server": get_local_addr(self.transport),
            "client": self._client,
            "root_path": root_path,
            "path": root_path + unquote(path),
            "raw_path": (root_path + path).encode("latin-1"),
            "query_string": query.encode("latin-1"),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in request.headers.raw()],
            "subprotocols": parse_tokens(request.headers.get_all("Sec-WebSocket-Protocol")),
            "state": self._app_state.copy(),
            "extensions": {"websocket.http.response": {}},
        }

    def _trace(self, text: str) -> None:
        if logger.isEnabledFor(TRACE_LOG_LEVEL):
            logger.log(TRACE_LOG_LEVEL, "%s%s", f"{self._client[0]}:{self._client[1]} - " if self._client else "", text)


class Session:
    """One run of the application: ASGI events <-> the messages of a socket.

    Attributes:
        ended: set when the connection is gone, or the application is to believe so.
    """

    def __init__(
        self,
        socket: WebSocketProtocol,
        request: Request,
        scope: Event,
        config: Config,
        default_headers: list[tuple[bytes, bytes]],
    ) -> None:
        self._socket = socket
        self._request = request
        self._config = config
        self._default_headers = default_headers
        self._scope = scope
        self._messages: Iterator[Message] = iter(())
        self._connected = False
        self._accepted = False
        self._response: Response | None = None
        self._refused = False
        self._closed = False
        self._disconnect: Event | None = None
        self.ended = asyncio.Event()

    def lost(self) -> None:
        """Handle the loss of the connection."""
        if self._accepted:
            logger.info("connection closed")
        self.ended.set()

    async def run(self) -> None:
        """Call the application; whatever becomes of it, the peer is told."""
        code: int = CloseCode.NORMAL_CLOSURE
        try:
            result = await self._config.loaded_app(self._scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except (Exception, asyncio.CancelledError):  # what cancels it is a server that is about to stop
            logger.exception("Exception in ASGI application\n")
            code = CloseCode.INTERNAL_ERROR
        else:
            if not self._accepted and not self._refused:
                logger.error("ASGI callable returned without completing handshake.")
            elif result is not None:
                logger.error("ASGI callable should return None, but returned '%s'.", result)
        if self._accepted:
            self._socket.wind_down(code if self._socket.is_open else None)
        elif self._response is not None:
            self._refuse(self._response)
        elif not self._refused:
            self.refuse(500, b"Internal Server Error")

    # -- In -----------------------------------------------------------------------------------------------------------

    async def receive(self) -> Event:
        """The next event for the application (ASGI's `receive`); cancelling it loses nothing."""
        try:
            while True:
                for message in self._messages:  # which extensions may refuse as they are taken
                    if message.opcode == Opcode.TEXT:
                        return {"type": "websocket.receive", "text": message.text}
                    if message.opcode == Opcode.BINARY:
                        return {"type": "websocket.receive", "bytes": message.payload}
                event = await self._next_batch()
                if event is not None:
                    return event
        except (ProtocolError, PayloadTooBig) as error:
            return self._disconnected(error.close_code, str(error))
        except ConnectionLost:
            return self._disconnected(CloseCode.NO_STATUS_RECEIVED)

    async def _next_batch(self) -> Event | None:
        """Take what has arrived, or tell what there is instead."""
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        if not self._accepted and self._disconnect is None:
            await self.ended.wait()
            self._disconnected(CloseCode.ABNORMAL_CLOSURE)
        return self._disconnect or await self._take_batch()

    async def _take_batch(self) -> Event | None:
        try:
            batch = self._socket.take_batch()
        except StopAsyncIteration:
            code, reason = self._socket.received or self._socket.sent or (CloseCode.NO_STATUS_RECEIVED, "")
            return self._disconnected(code, reason)
        if batch is not None:
            self._messages = batch
        else:
            await self._socket.wait_readable()
        return None

    def _disconnected(self, code: int, reason: str | None = None) -> Event:
        """It stays so: whoever asks again is told the same."""
        self._disconnect = {"type": "websocket.disconnect", "code": int(code)}
        if reason is not None:
            self._disconnect["reason"] = reason
        return self._disconnect

    # -- Out ----------------------------------------------------------------------------------------------------------

    async def send(self, event: Event) -> None:
        """Do what the application says (ASGI's `send`), and wait while the peer is slow.

        Raises:
            ClientDisconnected: the peer is gone.
            RuntimeError: an event that may not come now.
        """
        try:
            if self._accepted and event["type"] == "websocket.send" and self._disconnect is None:
                data = event.get("bytes")
                await self._socket.send_message(event["text"] if data is None else data)
            elif self._accepted:
                self._send_close(event)
            elif self._response is not None:
                self._send_body(event, self._response)
            elif self._refused:
                raise after_close(event)
            else:
                self._answer(event)
        except ConnectionLost as error:
            raise ClientDisconnected from error

    def _answer(self, event: Event) -> None:
        if self.ended.is_set():
            raise ClientDisconnected
        if event["type"] == "websocket.accept":
            self._accept(event)
        elif event["type"] == "websocket.close":
            self.refuse(403)
        elif event["type"] == "websocket.http.response.start":
            status = event["status"]
            if not 100 <= status < 600:
                raise RuntimeError(f"Invalid HTTP status code '{status}' in response.")
            self._log(str(status))
            self._response = Response(status, decoded(event.get("headers", ())))
        else:
            allowed = "'websocket.accept', 'websocket.close' or 'websocket.http.response.start'"
            raise RuntimeError(f"Expected ASGI message {allowed} but got '{event['type']}'.")

    def _accept(self, event: Event) -> None:
        offered = self._request.headers.get_all("Sec-WebSocket-Extensions")
        answer, agreed = accept_extensions(
            offered, [PerMessageDeflate()] if self._config.ws_per_message_deflate else []
        )
        headers = decoded([*self._default_headers, *event.get("headers", ())])
        if event.get("subprotocol"):
            headers.append(("Sec-WebSocket-Protocol", event["subprotocol"]))
        if answer:
            headers.append(("Sec-WebSocket-Extensions", answer))
        head = accept_request(self._request, headers)
        self._log("[accepted]")
        self._socket.send_head(head)
        self._socket.opened(agreed)
        self._socket.configure(max_message_size=self._config.ws_max_size)
        self._accepted = True
        logger.info("connection open")

    def _send_body(self, event: Event, response: Response) -> None:
        """What answers in place of a connection leaves when it is whole, with its length."""
        if event["type"] != "websocket.http.response.body":
            raise RuntimeError(f"Expected ASGI message 'websocket.http.response.body' but got '{event['type']}'.")
        self._response = Response(response.status, response.headers, response.body + event.get("body", b""))
        if not event.get("more_body", False):
            self._refuse(self._response)
            self._response = None

    def _send_close(self, event: Event) -> None:
        if self._closed:
            raise after_close(event)
        if event["type"] not in ("websocket.send", "websocket.close"):
            raise RuntimeError(
                f"Expected ASGI message 'websocket.send' or 'websocket.close', but got '{event['type']}'."
            )
        if event["type"] == "websocket.send" or not self._socket.is_open:
            raise ClientDisconnected
        code, reason = event.get("code", CloseCode.NORMAL_CLOSURE), event.get("reason") or ""
        self._socket.close(code, reason)
        self._closed = True
        self._disconnected(code, reason)

    def refuse(self, status: int, body: bytes = b"") -> None:
        """Answer with an HTTP error instead of accepting."""
        self._log(str(status))
        self._refuse(Response(status, [("Content-Type", "text/plain; charset=utf-8")], body))

    def _refuse(self, response: Response) -> None:
        self._refused = True
        self._socket.respond(response)
        self.ended.set()

    def shut_down(self, code: int) -> None:
        """Close, and let the application know."""
        self._messages = iter(())
        self._disconnected(code)
        self._socket.close(code)
        self._socket.end()

    def _log(self, outcome: str) -> None:
        if logger.isEnabledFor(logging.INFO):
            path = get_path_with_query_string(cast(Any, self._scope))
            logger.info('%s - "WebSocket %s" %s', get_client_addr(cast(Any, self._scope)), path, outcome)


def decoded(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def after_close(event: Event) -> RuntimeError:
    return RuntimeError(f"Unexpected ASGI message '{event['type']}', after sending 'websocket.close'.")
