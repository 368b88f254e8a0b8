"""what is decoded -> batches of messages; frames -> coalesced writes

What the two kinds of socket share. A subclass brings the bytes in: it hands what its connection decoded to `_received`,
calls `_lose` when no more will come and `_gone` when the transport is, and knows how to wait for either direction.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import suppress
from threading import get_ident
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..connection import Connection, Counters, State
from ..errors import ConnectionLost, InvalidHandshake, wrong_thread
from ..extensions import Extension
from ..frames import prepare_close_frame_payload, prepare_websocket_frame
from ..http1 import Response, encode_response, response_to
from ..pipeline import Outgoing
from ..wire import CONTROL, JOIN_LIMIT, CloseCode, Opcode
from .sending import Held, Lane
from .stream import Sent, Stream

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")

READ_LIMIT = 64 * 1024
"""Bytes, as they came over the wire, of messages that may wait for the iterator before reading pauses."""

WRITE_LIMIT = 64 * 1024
"""Bytes of frames that may be queued before they are written ahead of the end of the loop's turn."""

TURN_LIMIT = 256 * 1024
"""Bytes that are written for a task that does not wait for anything, before others have their turn."""

CLOSE_TIMEOUT = 20.0
"""Seconds that the closing handshake may take, the sending of what still waits included."""

NOTHING: Iterator[Any] = iter(())

LINGER = 2.0
"""Seconds to go on reading, and discarding, what a peer sends after it was told that the connection ends. Closing at
once would make the kernel answer those bytes with a reset, which may overtake the Close frame."""


class Duplex(Stream, ABC):
    """A stream of messages that comes in and a stream of frames that goes out."""

    def __init__(self, role: str, *, close_timeout: float = CLOSE_TIMEOUT) -> None:
        super().__init__(Connection(role=role), limit=WRITE_LIMIT)
        self._configured = False
        self._answered = False
        self._ended = False
        self._over = False
        self._taken = NOTHING
        self._peername: Any = None  # kept because transports may forget it when the connection is lost
        self.role = role

        self._lane: Lane | None = None
        self._pings: dict[bytes, asyncio.Future[float]] = {}

        self._close_timeout = close_timeout
        self._close_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None

    @property
    def state(self) -> State:
        """How far the connection has come: CONNECTING, OPEN, CLOSING or CLOSED."""
        return self._connection.state

    @property
    def extensions(self) -> tuple[Extension, ...]:
        """What the opening handshake agreed on."""
        return self._connection.extensions

    @property
    def received(self) -> tuple[int, str] | None:
        """(code, reason) of the peer's Close frame, None if none came."""
        return self._connection.received

    @property
    def sent(self) -> tuple[int, str] | None:
        """(code, reason) of our own Close frame, None if none was sent."""
        return self._connection.sent

    @property
    def closed_first(self) -> Literal["received", "sent"] | None:
        """Which of the two Close frames was the first, None while there is none."""
        return self._connection.closed_first

    @property
    def latency(self) -> float | None:
        """Seconds that the last ping of `ping`, or of the keepalive, took to be answered; None until one was."""
        return self._connection.latency

    @property
    def counters(self) -> Counters:
        """Frames, messages and bytes that passed so far, see :class:`wslowlevel.Counters`."""
        return self._connection.counters

    @property
    def buffered(self) -> int:
        """Bytes that wait to be sent: the queue, and what the transport has not got rid of."""
        held = self._lane.size if self._lane else 0
        return held + self.queued + (self._transport.get_write_buffer_size() if self._transport else 0)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return information about the transport: "peername", "sockname", "socket", "ssl_object" (see asyncio).

        It never raises. After the connection is lost, "peername" is still known and everything else is `default`.
        """
        value = default
        if self._transport is not None:
            # uvloop raises OSError and ValueError for a closed descriptor, asyncio AttributeError after TLS has ended.
            with suppress(Exception):
                value = self._transport.get_extra_info(name, default)
        return self._peername if value is default and name == "peername" and self._peername is not None else value

    # -- In -----------------------------------------------------------------------------------------------------------

    def use(self, connection: Connection) -> None:
        """Drive this connection, of the same role, in place of the one that stands here: one of your own class perhaps.

        Raises:
            RuntimeError: the opening handshake was answered already.
        """
        self._check_thread("use")
        if self._answered or self._configured:
            raise RuntimeError("a socket takes another connection before its opening handshake only")
        self._connection = connection

    def configure(self, **options: Any) -> None:
        """Begin to receive, in the way of :meth:`wslowlevel.Connection.configure`, once the connection is open.

        Raises:
            RuntimeError: that was done before.
        """
        self._check_thread("get_messages_factory")
        if self._configured:
            raise RuntimeError("the factory of messages, or of chunks, was already called for this socket")
        self._connection.configure(**options)
        self._configured = True
        self._begin_if_ready()

    def opened(self, extensions: Sequence[Extension] = ()) -> None:
        """The opening handshake succeeded, with these extensions: frames may follow."""
        self._answered = True
        self._connection.open(extensions)
        self._begin_if_ready()

    def _begin_if_ready(self) -> None:
        if self._configured and self._connection.state is not State.CONNECTING:
            self._begin()

    async def handle(self, on_message: Callable[[Any], object]) -> None:
        """Call `on_message` for everything that arrives, see :func:`wslowlevel.handle_messages_factory`."""
        while True:
            for message in self._taken:
                on_message(message)
            try:
                batch = self.take_batch()
            except StopAsyncIteration:
                return
            if batch is None:
                await self._hand_out_to(on_message)
            else:
                self._taken = batch

    async def _hand_out_to(self, on_message: Callable[[Any], object]) -> None:
        readable = self.wait_readable()
        self._on_message = on_message
        try:
            await readable
        finally:
            self._on_message = None
            if self._failure is not None:
                raise self._take_failure()

    def _take_failure(self) -> BaseException:
        """What `on_message` raised: kept by no frame of its own traceback."""
        failure, self._failure = self._failure, None
        assert failure is not None
        return failure

    def _opened_batch(self, batch: list[Any]) -> Iterator[Any]:
        if batch and batch[-1].opcode == Opcode.CLOSE:
            self._answer_end()
        return self._unpacked(batch) if self._connection.extensions else iter(batch)

    def _unpacked(self, batch: list[Any]) -> Iterator[Any]:
        try:
            yield from self._connection.unpack(batch)
        except Exception:
            self._batches.clear()
            self._undelivered = 0
            self._answer_end()
            raise

    def _received(self, messages: list[Any]) -> None:
        """A Close message stands in a batch of its own: it is answered when it is taken, after all that came before."""
        connection = self._connection
        if connection.answered_pings:
            self._tell_pings()
        for reply in connection.replies:
            self.enqueue(reply)
        connection.replies.clear()
        if connection.ended:
            self._fail_pings()
            if messages and messages[-1].opcode == Opcode.CLOSE:
                self._batches.append((messages[:-1], 0))
                messages = messages[-1:]
        if messages:
            self._put_batch(messages)
        if connection.ended and connection.sent is not None:
            self._end()  # ours was sent before: there is nothing to answer, and nothing to wait for

    def _answer_end(self) -> None:
        """Everything that came before a Close frame, or a violation, was taken: answer it, and end the transport."""
        self._fail_pings()
        answer = self._connection.answer_end()
        if answer is not None:
            self.enqueue(answer)
        if self.sent is not None and self._connection.ended:
            self._end()

    def _raise_if_ended(self) -> None:
        connection = self._connection
        if connection.error is not None:
            self._answer_end()
            raise connection.error.with_traceback(None)
        if connection.state is State.CONNECTING:
            raise RuntimeError("no message comes before the opening handshake is answered")
        lost = connection.state is State.CLOSED
        if connection.received is not None or (lost and connection.sent is not None and connection.why is None):
            raise StopAsyncIteration
        if lost:
            raise connection.lost()

    # -- Out ----------------------------------------------------------------------------------------------------------

    def _send_other(self, frame: object) -> Sent:
        """Queue a frame that the connection has to look at, or that has to wait for its lane."""
        data = frame if type(frame) is bytes else _owned(frame)
        if self._lane is not None and self._connection.may_send and data and not data[0] & CONTROL:
            return self._hold(lambda: self._send(data), len(data))
        self._send(data)
        return Sent(self)

    def _send(self, frame: bytes) -> None:
        self._connection.note_send(frame)
        self._enqueue_noted(frame)

    def _enqueue_noted(self, frame: bytes) -> None:
        """Queue a frame that the connection has noted as sent; after a Close frame, wait for the peer's, or end."""
        self.enqueue(frame)
        if not self._connection.may_send:
            self._end() if self._connection.ended else self._start_close_timer()

    def send_message(
        self, payload: str | Buffer, *, is_utf8: bool = False, compress: bool | None = None
    ) -> Awaitable[None]:
        """Queue a message, see :func:`wslowlevel.send_message_factory`."""
        opcode, data = _text_or_binary(payload, is_utf8)
        connection = self._connection
        if connection.passing and not (self.held or connection.extensions or is_utf8) and len(data) < JOIN_LIMIT:
            return self.send(prepare_websocket_frame(data, opcode=opcode, mask_key=connection.mask_key))
        self._check_thread("send_message")
        if self._lane is not None and self._connection.may_send:
            return self._hold(lambda: self._send_message(data, opcode, compress), len(data))
        self._send_message(data, opcode, compress)
        return Sent(self)

    def _send_message(self, payload: bytes, opcode: Opcode, compress: bool | None) -> None:
        for piece in self._connection.message_pieces(payload, opcode, compress):
            self.enqueue(piece)

    def _hold(self, send: Callable[[], object], size: int) -> Held:
        assert self._lane is not None
        return self._lane.hold(Held(self, send, size))

    async def send_chunks(
        self,
        chunks: Iterable[str | Buffer] | AsyncIterable[str | Buffer],
        *,
        is_utf8: bool = False,
        compress: bool | None = None,
    ) -> None:
        """Send a message in chunks, see :func:`wslowlevel.send_chunks_factory`."""
        self._check_thread("send_chunks")
        self._connection.check_may_send()
        lane = Lane(self._lane)
        self._take_lane(lane)
        try:
            await lane.turn()
            self._connection.check_may_send()
            await self._send_chunks(chunks, is_utf8, compress)
        finally:
            before = lane.end()
            if self._lane is lane:
                self._take_lane(before)

    def _take_lane(self, lane: Lane | None) -> None:
        self._lane = lane
        self.held = lane is not None

    async def _send_chunks(
        self, chunks: Iterable[str | Buffer] | AsyncIterable[str | Buffer], is_utf8: bool, compress: bool | None
    ) -> None:
        message: Outgoing | None = None
        opcode = Opcode.TEXT if is_utf8 else Opcode.BINARY
        try:
            async for chunk in _asynchronous(chunks):
                chunk_opcode, data = _text_or_binary(chunk, is_utf8)
                if message is None:
                    opcode = chunk_opcode
                    message = self._connection.message_in_chunks(opcode, compress=compress)
                elif chunk_opcode != opcode:
                    raise TypeError("the chunks of a message must all be str, or all bytes-like")
                if data:
                    await self._send_chunk(message, data, False)
            message = message or self._connection.message_in_chunks(opcode, compress=compress)
            await self._send_chunk(message, b"", True)
        except BaseException:
            if message is not None and message.is_unfinished:
                # The peer has half a message, and would take whatever follows for the rest of it.
                with suppress(ConnectionLost):
                    self.close(CloseCode.INTERNAL_ERROR, "a message could not be finished")
            raise

    async def _send_chunk(self, message: Outgoing, data: bytes, final: bool) -> None:
        frame = self._connection.chunk_frame(message, data, final)
        if frame is not None:
            self.enqueue(frame)
            await Sent(self)

    def ping(self, payload: bytes | None = None) -> asyncio.Future[float]:
        """Send a ping, and learn when it is answered (RFC 6455 §5.5.2).

        The pong is taken note of even while no messages are taken, and handed out as a message all the same.

        Args:
            payload: up to 125 bytes; by default one that no other ping has.

        Returns:
            To be awaited, or not: the seconds until the answer came. ConnectionLost if it never will.

        Raises:
            ConnectionLost, RuntimeError: as `send`.
            TypeError, ValueError: a payload that is not bytes, is too long, or still waits for its answer.
        """
        self._check_thread("ping")
        self._enqueue_noted(self._connection.ping(payload))
        sent = next(reversed(self._connection.pings))
        answer = self._pings[sent] = self._loop.create_future()
        return answer

    def _tell_pings(self) -> None:
        for payload, latency in self._connection.answered_pings:
            answer = self._pings.pop(payload, None)
            if answer is not None and not answer.done():
                answer.set_result(latency)
        self._connection.answered_pings.clear()

    def _fail_pings(self) -> None:
        """No pong will come any more."""
        for answer in self._pings.values():
            if not answer.done():
                answer.set_exception(self._connection.lost())
                answer.exception()  # for those that nobody awaits
        self._pings.clear()

    def send_head(self, head: bytes) -> Sent:
        """Queue the answer to the opening handshake, which `opened` is to follow."""
        self._check_thread("send_handshake")
        if self._answered:
            raise RuntimeError("the opening handshake was already answered")
        if self._connection.state is State.CLOSED:
            raise self._connection.lost()
        self._answered = True
        self.enqueue(head)
        return Sent(self)

    def refuse(self, error: InvalidHandshake) -> None:
        """Answer the opening handshake with an HTTP error, unless it was answered before, and end the connection.

        Raises:
            ValueError: the error carries a status or a header that cannot be sent; nothing was.
        """
        self.respond(response_to(error))

    def respond(self, response: Response) -> None:
        """Answer the opening handshake with an HTTP response, unless it was answered before, and end the connection.

        Raises:
            ValueError: a status or a header that cannot be sent; nothing was.
        """
        self._check_thread("refuse")
        if not self._answered and not self._ended:
            answer = encode_response(response)
            self._answered = True
            self.enqueue(answer)
            self._end()

    def close(self, code: int | None = None, reason: str = "") -> None:
        """Begin the closing handshake, or end it: send a Close frame unless one was sent (RFC 6455 §7.1.2).

        Args:
            code: see :func:`wslowlevel.prepare_close_frame_payload`; by default the code and the reason that the peer
                sent, or 1000.
            reason: why, for people.

        Raises:
            TypeError, ValueError: a code or a reason that may not be sent.
        """
        self._check_thread("close")
        if code is None:
            code, reason = self._default_close(reason)
        if self._connection.may_send:
            self._enqueue_noted(self._connection.close_frame(code, reason))
        else:
            prepare_close_frame_payload(code, reason)  # a caller's mistake is reported all the same

    def _default_close(self, reason: str) -> tuple[int, str]:
        """Return the code and the reason of the peer's Close frame, 1000 if it has none."""
        received = self.received
        if received is None or received[0] == CloseCode.NO_STATUS_RECEIVED:
            return CloseCode.NORMAL_CLOSURE, reason
        return received[0], reason or received[1]

    def abort(self) -> None:
        """Drop the connection at once, and with it what waits to be sent (RFC 6455 §7.1.7)."""
        self._check_thread("abort")
        self._drop_frames()
        if self._transport is not None and not self._over:
            self._transport.abort()

    def _queue_grew(self) -> None:
        if self.queued >= WRITE_LIMIT:
            self._queue_is_full()
        else:
            self._flush_is_due = True
            self._loop.call_soon(self._flush_at_end_of_turn)

    def _flush_at_end_of_turn(self) -> None:
        self._flush_is_due = False
        self.flush()

    # -- The end ------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """Nothing is left to be said: write what is queued, whether the peer reads or not, and end the transport."""
        if self._ended or self._transport is None or self._transport.is_closing():
            return
        self._ended = True
        self._is_plain = False
        self._write_queue()
        self._start_close_timer()
        if self.received is None or self._connection.error is not None:
            # The peer does not expect the end, and may be sending.
            self._linger_timer = linger(self._transport)
            self._discard()
        elif self.role == "server":
            # Both have said Close: the server closes first, so that TIME_WAIT is its own (§7.1.1).
            self._transport.close()

    def _start_close_timer(self) -> None:
        if self._close_timer is None and self._transport is not None and not self._over:
            # Not self.abort: a timer must not keep what nobody else holds.
            self._close_timer = self._loop.call_later(self._close_timeout, self._transport.abort)

    def _lose(self) -> None:
        """The peer is gone: nothing more comes in or goes out."""
        self._write_queue()
        self._connection.end()
        self._start_close_timer()

    def _gone(self) -> None:
        """The transport is gone."""
        self._over = True
        self._connection.end()
        self._drop_frames()
        self._sent = None
        self._fail_pings()
        if self._lane is not None:
            self._lane.end_all()
        for timer in (self._close_timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
        self._transport = None  # asyncio's TLS transports raise AttributeError for nearly any use after the loss

    def _check_thread(self, method: str) -> None:
        """Raise RuntimeError if the event loop runs in another thread than the caller's; store the thread otherwise.

        A loop may run in one thread after the other, and a call is harmless while it does not run at all.
        """
        if asyncio._get_running_loop() is not self._loop and self._loop.is_running():
            raise wrong_thread(method)
        self._thread = get_ident()

    # -- What a subclass knows ----------------------------------------------------------------------------------------

    @abstractmethod
    def _begin(self) -> None:
        """The connection is open, and how to receive is known: messages may be read."""

    @abstractmethod
    def _queue_is_full(self) -> None:
        """The queue holds WRITE_LIMIT bytes or more."""

    @abstractmethod
    def _discard(self) -> None:
        """Go on reading, and drop what comes."""


def _text_or_binary(payload: object, is_utf8: bool) -> tuple[Opcode, bytes]:
    """A str is text; bytes are what the caller says they are."""
    if isinstance(payload, str):
        return Opcode.TEXT, payload.encode()
    try:
        data = payload if type(payload) is bytes else memoryview(payload).tobytes()  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"payload must be str or bytes-like, not {type(payload).__name__}") from None
    return Opcode.TEXT if is_utf8 else Opcode.BINARY, data


def _asynchronous(chunks: Iterable[T] | AsyncIterable[T]) -> AsyncIterable[T]:
    return chunks if isinstance(chunks, AsyncIterable) else _Steps(chunks)


class _Steps(AsyncIterator[T]):
    """An iterable, to be used as an async one. No generator: there is nothing to close."""

    def __init__(self, chunks: Iterable[T]) -> None:
        self._chunks = iter(chunks)

    async def __anext__(self) -> T:
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration


def _owned(frame: object) -> bytes:
    """What is sent later must not change until then."""
    if not isinstance(frame, (bytes, bytearray, memoryview)):
        raise TypeError(f"frame must be bytes-like, not {type(frame).__name__}")
    return bytes(frame)


def linger(transport: asyncio.Transport) -> asyncio.TimerHandle:
    """End our direction now, and the other one a little later (see LINGER).

    Returns:
        What ends it, and holds the transport until then: to be cancelled when the peer is gone before.
    """
    with suppress(OSError):  # asyncio lets it out where the peer has reset the connection meanwhile
        if transport.can_write_eof():
            transport.write_eof()
    return asyncio.get_running_loop().call_later(LINGER, transport.close)
