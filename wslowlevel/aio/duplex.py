"""what is decoded -> batches of messages; frames -> coalesced writes

What the two kinds of socket share. A subclass brings the bytes in: it hands what its connection decoded to `_received`,
calls `_lose` when no more will come and `_gone` when the transport is, and knows how to wait for either direction.
"""

from __future__ import annotations

import asyncio
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Generator, Sequence
from typing import Any

from ..codec import Message
from ..connection import Connection
from ..errors import InvalidHandshake
from ..http1 import encode_response, response_to
from ..wire import CloseCode, Opcode

READ_LIMIT = 64 * 1024
"""Bytes, as they came over the wire, of messages that may wait for the iterator before reading pauses."""

WRITE_LIMIT = 64 * 1024
"""Bytes of frames that may be queued before they are written ahead of the end of the loop's turn."""

JOIN_LIMIT = 16 * 1024
"""Frames shorter than this are joined for a write; longer ones are handed on as they are, without a copy."""

CLOSE_TIMEOUT = 20.0
"""Seconds that the closing handshake may take, the sending of what still waits included."""

WRITELINES = (3, 12, 9) <= sys.version_info < (3, 13) or sys.version_info >= (3, 13, 2)
"""Whether asyncio's writelines is one system call that also tells of a slow peer: before 3.12 it joins the chunks, and
the first releases of 3.12 and 3.13 never pause the writer."""

LINGER = 2.0
"""Seconds to go on reading, and discarding, what a peer sends after it was told that the connection ends. Closing at
once would make the kernel answer those bytes with a reset, which may overtake the Close frame."""


class Sent(Awaitable[None]):
    """What `send` returns. The frame is queued already; awaiting waits while the peer is slow."""

    __slots__ = ("_duplex",)

    def __init__(self, duplex: Duplex) -> None:
        self._duplex = duplex

    def __await__(self) -> Generator[Any, None, None]:
        if self._duplex.must_wait:
            yield from self._duplex.wait_sent().__await__()


class Duplex(ABC):
    """A stream of messages that comes in and a stream of frames that goes out."""

    def __init__(self, role: str, *, close_timeout: float = CLOSE_TIMEOUT) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = Connection(role=role)
        self._transport: asyncio.Transport | None = None
        self._opened = False
        self._answered = False
        self._may_send = False
        self._ended = False
        self._lost = False
        self._over = False
        self.role = role

        self._batches: deque[tuple[list[Message], int]] = deque()
        self._undelivered = 0
        self._receiving = False

        self._queue: list[bytes] = []
        self._queued = 0
        self._flush_is_due = False

        self._close_timeout = close_timeout
        self._close_timer: asyncio.TimerHandle | None = None

    @property
    def received(self) -> tuple[int, str] | None:
        """(code, reason) of the peer's Close frame, None if none came."""
        return self._connection.received

    @property
    def sent(self) -> tuple[int, str] | None:
        """(code, reason) of our own Close frame, None if none was sent."""
        return self._connection.sent

    @property
    def buffered(self) -> int:
        """Bytes that wait to be sent: the queue, and what the transport has not got rid of."""
        return self._queued + (self._transport.get_write_buffer_size() if self._transport else 0)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the transport knows: "peername", "sockname", "socket", "ssl_object" (see asyncio's transports)."""
        return self._transport.get_extra_info(name, default) if self._transport else default

    # -- In -----------------------------------------------------------------------------------------------------------

    def open(self, connection: Connection) -> None:
        """Decode what arrives with this connection from now on.

        Raises:
            RuntimeError: that was done before.
        """
        if self._opened:
            raise RuntimeError("get_messages_factory() was already called for this socket")
        connection.sent = self._connection.sent
        self._connection = connection
        self._opened = True

    async def receive(self) -> list[Message]:
        """Take the next batch of messages, which may be empty; before it waits, it writes what is queued.

        Cancelling it loses nothing.

        Raises:
            StopAsyncIteration: the connection is closed.
            ProtocolError, PayloadTooBig: the peer broke a rule or a limit.
            ConnectionLost: it ended without a Close frame.
            RuntimeError: another task waits here already.
        """
        while not self._batches:
            self._raise_if_ended()
            if self._receiving:
                raise RuntimeError("another task already waits for the messages of this socket")
            self.flush()
            self._receiving = True
            try:
                await self._wait_readable()
            finally:
                self._receiving = False
        batch, size = self._batches.popleft()
        self._undelivered -= size
        self._delivered()
        if batch and batch[-1].opcode == Opcode.CLOSE:
            self._answer_end()
        return batch

    def _received(self, messages: list[Message], size: int) -> None:
        """Take in what `size` bytes were decoded to.

        A Close message stands in a batch of its own: it is answered when it is taken, after all that came before.
        """
        connection = self._connection
        if connection.replies:
            for reply in connection.replies:
                self._enqueue(reply)
            connection.replies.clear()
        if messages and messages[-1].opcode == Opcode.CLOSE:
            self._batches.append((messages[:-1], 0))
            messages = messages[-1:]
        if messages:
            self._batches.append((messages, size))
            self._undelivered += size
        if connection.ended and connection.sent is not None:
            self._end()  # ours was sent before: there is nothing to answer, and nothing to wait for

    def _answer_end(self) -> None:
        """Everything that came before a Close frame, or a violation, was taken: answer it, and end the transport."""
        answer = self._connection.answer_end()
        if answer is not None and not self._lost:
            self._enqueue(answer)
        if self.sent is not None and self._connection.ended:
            self._end()

    def _raise_if_ended(self) -> None:
        connection = self._connection
        if connection.error is not None:
            self._answer_end()
            raise connection.error.with_traceback(None)
        if connection.received is not None or (self._lost and connection.sent is not None):
            raise StopAsyncIteration
        if self._lost:
            raise connection.lost()

    # -- Out ----------------------------------------------------------------------------------------------------------

    def send(self, frame: bytes | bytearray | memoryview) -> Sent:
        """Queue a frame, see :func:`wslowlevel.send_factory`."""
        if type(frame) is not bytes:
            frame = _owned(frame)
        if not frame:
            raise ValueError("frame is empty")
        if self._lost:
            raise self._connection.lost()
        if not self._may_send:
            raise RuntimeError("send() before send_handshake(): the connection is not open")
        self._connection.note_send(frame)
        self._enqueue(frame)
        if self._connection.sent is not None:
            self._end() if self._connection.ended else self._start_close_timer()
        return Sent(self)

    def send_head(self, head: bytes) -> Sent:
        """Queue the 101 answer, after which frames may follow."""
        if self._answered:
            raise RuntimeError("the opening handshake was already answered")
        if self._lost:
            raise self._connection.lost()
        self._answered = self._may_send = True
        self._enqueue(head)
        return Sent(self)

    def refuse(self, error: InvalidHandshake) -> None:
        """Answer the opening handshake with an HTTP error, unless it was answered before, and end the connection.

        Raises:
            ValueError: the error carries a status or a header that cannot be sent; nothing was.
        """
        if not self._answered and not self._ended:
            answer = encode_response(response_to(error))
            self._answered = True
            self._enqueue(answer)
            self._end()

    def close(self, code: int | None = None, reason: str = "") -> None:
        """Begin the closing handshake, or end it: send a Close frame unless one was sent.

        Args:
            code: see :func:`wslowlevel.prepare_close_frame_payload`; by default the code that the peer sent, or 1000.
            reason: why, for people.

        Raises:
            TypeError, ValueError: a code or a reason that may not be sent.
        """
        if code is None:
            code = self.received[0] if self.received else CloseCode.NORMAL_CLOSURE
            code = CloseCode.NORMAL_CLOSURE if code == CloseCode.NO_STATUS_RECEIVED else code
        frame = self._connection.close_frame(code, reason)
        if self._may_send and self.sent is None and not self._lost:
            self.send(frame)

    def abort(self) -> None:
        """Drop the connection at once, and with it what waits to be sent."""
        self._queue.clear()
        self._queued = 0
        if self._transport is not None:
            self._transport.abort()

    def flush(self) -> None:
        """Write what is queued, in one write."""
        if self._queue and not self._write_is_paused:
            self._write_queue()

    def _enqueue(self, frame: bytes) -> None:
        self._queue.append(frame)
        self._queued += len(frame)
        if self._queued >= WRITE_LIMIT:
            self._queue_is_full()
        elif not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush_at_end_of_turn)

    def _flush_at_end_of_turn(self) -> None:
        self._flush_is_due = False
        self.flush()

    def _write_queue(self) -> None:
        if self._queue and not self._lost and self._transport is not None:
            chunks = coalesce(self._queue)
            self._queue.clear()
            self._queued = 0
            write_chunks(self._transport, chunks)

    # -- The end ------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """Nothing is left to be said: write what is queued, whether the peer reads or not, and end the transport."""
        if self._ended or self._transport is None or self._transport.is_closing():
            return
        self._ended = True
        self._write_queue()
        self._start_close_timer()
        if self.received is None or self._connection.error is not None:
            # The peer does not expect the end, and may be sending.
            linger(self._transport)
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
        self._lost = True
        self._start_close_timer()

    def _gone(self) -> None:
        """The transport is gone."""
        self._lost = self._over = True
        self._queue.clear()
        self._queued = 0
        if self._close_timer is not None:
            self._close_timer.cancel()

    # -- What a subclass knows ----------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def must_wait(self) -> bool:
        """Whether awaiting `send` has to wait."""

    @abstractmethod
    async def wait_sent(self) -> None:
        """Wait while the peer is slow; ConnectionLost if it goes before it was sent everything."""

    @abstractmethod
    async def _wait_readable(self) -> None:
        """Wait until there is a batch, or the end."""

    @property
    @abstractmethod
    def _write_is_paused(self) -> bool:
        """Whether the peer is so slow that frames stay queued here."""

    @abstractmethod
    def _queue_is_full(self) -> None:
        """The queue holds WRITE_LIMIT bytes or more."""

    @abstractmethod
    def _delivered(self) -> None:
        """A batch was taken out: there may be room to read on."""

    @abstractmethod
    def _discard(self) -> None:
        """Go on reading, and drop what comes."""


def coalesce(frames: Sequence[bytes]) -> list[bytes]:
    """Join runs of short frames; leave long ones alone, for the copy would cost more than the chunk saves."""
    if len(frames) == 1:
        return [frames[0]]
    chunks: list[bytes] = []
    run: list[bytes] = []
    for frame in frames:
        if len(frame) < JOIN_LIMIT:
            run.append(frame)
            continue
        if run:
            chunks.append(b"".join(run))
            run = []
        chunks.append(frame)
    if run:
        chunks.append(b"".join(run))
    return chunks


def _owned(frame: object) -> bytes:
    """What is sent later must not change until then."""
    if not isinstance(frame, (bytes, bytearray, memoryview)):
        raise TypeError(f"frame must be bytes-like, not {type(frame).__name__}")
    return bytes(frame)


def linger(transport: asyncio.Transport) -> None:
    """End our direction now, and the other one a little later (see LINGER)."""
    if transport.can_write_eof():
        transport.write_eof()
    asyncio.get_running_loop().call_later(LINGER, transport.close)


def write_chunks(transport: asyncio.WriteTransport, chunks: Sequence[bytes]) -> None:
    """Write chunks with one system call where the transport can."""
    if len(chunks) == 1:
        transport.write(chunks[0])
    elif WRITELINES:
        transport.writelines(chunks)
    else:
        for chunk in chunks:
            transport.write(chunk)
