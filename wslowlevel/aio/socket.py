"""an asyncio transport <-> messages and frames: the socket that `serve` hands to its handler

An asyncio.BufferedProtocol: the transport receives into the decoder's own memory, and for a large payload straight into
the bytes object that will be delivered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import cast

from ..connection import State
from ..errors import WebSocketError
from ..extensions import Extension
from ..keepalive import NEVER, PING_TIMEOUT, Keepalive, Timeouts, Verdict
from ..wire import CONTROL, READ_SIZE, CloseCode
from .duplex import CLOSE_TIMEOUT, READ_LIMIT, TURN_LIMIT, WRITE_LIMIT, Duplex
from .stream import Sent
from .transports import descriptor_of

FULL_READS = 2
"""How often in one turn of the event loop many messages are read at once, before others have their turn: uvloop goes on
reading while a read fills its buffer, up to 32 times."""

NO_TIMEOUTS = Timeouts()


class Socket(Duplex, asyncio.BufferedProtocol):
    """One connection, before and after its opening handshake (RFC 6455 §1.2).

    `get_messages_factory` and `send_factory` are the way in and out; what stands here is for everything else.

    Attributes:
        role: who we are, "server" or "client".
        handshake_sent: whether the opening handshake was answered with 101.
    """

    def __init__(
        self,
        role: str,
        *,
        early: bytes = b"",
        close_timeout: float = CLOSE_TIMEOUT,
        timeouts: Timeouts = NO_TIMEOUTS,
    ) -> None:
        super().__init__(role, close_timeout=close_timeout)
        self._early = early
        self._lent: bytearray | None = None
        self._resumed = 0
        self._discarding = False
        self._drops_messages = False
        self._turn_is_due = False
        self._full_reads = 0
        self._senders: dict[asyncio.Future[None], None] = {}  # an empty set would take 150 bytes more
        self._closed = self._loop.create_future()
        self._timeouts = timeouts
        self._keepalive_timer: asyncio.TimerHandle | None = None

    @property
    def handshake_sent(self) -> bool:
        return self._connection.state is not State.CONNECTING

    def opened(self, extensions: Sequence[Extension] = ()) -> None:
        super().opened(extensions)
        self._watch_from_now()

    def _begin(self) -> None:
        self._has_begun = True
        self._is_plain = not (self._discarding or self._ended or self._lent is not None)
        early, self._early = self._early, b""
        if early:
            self._arrived = len(early)
            self._received(self._connection.feed(early))
        self._update_reading()

    @property
    def is_open(self) -> bool:
        """Whether frames can be sent: after the handshake, until a Close frame was sent or the connection is lost."""
        return self._connection.may_send

    @property
    def error(self) -> Exception | None:
        """What ended what can be received: the peer's violation, or crossed limit, or whatever an extension raised.

        None while there is none.
        """
        return self._connection.error

    async def __aenter__(self) -> Socket:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close with 1000, or with 1011 after an exception, and wait until the connection is gone.

        After a cancellation, send a Close frame with 1001, best effort, and wait for nothing.
        """
        if isinstance(error, asyncio.CancelledError):
            self._close_without_waiting()
            return
        try:
            await self.finish(None if error is None or not self.is_open else CloseCode.INTERNAL_ERROR)
        except asyncio.CancelledError:
            self.abort()
            raise

    def _close_without_waiting(self) -> None:
        """Send a Close frame with 1001 if one can still be sent, best effort, and drop the connection.

        The frame is written at once; a peer that reads too slowly to take it sees 1006.
        """
        self.close(CloseCode.GOING_AWAY)
        self.flush()
        self.abort()

    async def wait_closed(self) -> None:
        """Wait until the connection is gone.

        Of an open socket for which neither `get_messages_factory` nor `get_chunks_factory` was called, this takes their
        place, for whoever only sends: messages of any size are received, and dropped, while this is awaited; pings and
        the peer's Close frame are answered.
        """
        self._check_thread("wait_closed")
        if not self._configured and self.state in (State.OPEN, State.CLOSING):
            self.configure(chunks=True)
            self._drops_messages = True
        if self._drops_messages and not self._readable.is_awaited:
            with suppress(StopAsyncIteration, WebSocketError):
                while True:
                    if self.take_batch() is None:
                        await self.wait_readable()
        await asyncio.shield(self._closed)

    async def finish(self, code: int | None = None, reason: str = "") -> None:
        """Close, drop what still arrives, and wait until the connection is gone, for `close_timeout` at most.

        Cancelled, it leaves the closing handshake to go on by itself, with the same limit.

        Args:
            code, reason: as for `close`.

        Raises:
            TypeError, ValueError: a code or a reason that may not be sent.
        """
        self._check_thread("finish")
        self.wind_down(code, reason)
        await self.wait_closed()

    def wind_down(self, code: int | None = None, reason: str = "") -> None:
        """Close, and drop what still arrives: the connection is gone within `close_timeout`, as after `finish`."""
        if not self._configured:
            self.configure()
        if self.handshake_sent:
            self.close(code, reason)
        else:
            self._end()
        self._start_close_timer()
        self._discard()
        self._answer_end()

    # -- Called by the transport --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._peername = transport.get_extra_info("peername")
        self._descriptor = descriptor_of(self._transport)
        self._transport_waits = True  # what was written before
        self._sent = Sent(self)
        self._update_reading()

    def _early_buffer(self) -> memoryview:
        self._lent = bytearray(READ_SIZE)
        return memoryview(self._lent)

    def _buffer_updated(self, nbytes: int) -> None:
        if self._lent is not None:
            self._keep_early(nbytes)
        elif not self._ended:
            messages = self._connection.buffer_updated(nbytes)
            if messages or self._connection.ended:
                self._answer_end()
                self._wake()
                self._update_reading()

    def _keep_early(self, nbytes: int) -> None:
        """Although reading is paused: TLS delivers what it has (CPython 3.10), and what is discarded comes too."""
        lent, self._lent = self._lent, None
        if lent is not None and not self._discarding:
            self._early += lent[:nbytes]
            if self._has_begun:
                self._begin()
            else:
                self._update_reading()

    def eof_received(self) -> bool:
        if self._connection.received is not None and not self._ended and self.get_extra_info("ssl_object") is None:
            # A Close frame came before the end, and what came before that may still be answered.
            self._start_close_timer()
            return True
        self._lose()
        self._wake()
        return False  # the transport closes itself, once it has written what it was given

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._transport.close()  # it is, but with TLS asyncio would complain of it (CPython 3.10)
        self._pause_writing(False)
        self._gone()
        self._stop_watching()
        self._wake()
        self._wake_senders()
        if not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        self._pause_writing(True)

    def resume_writing(self) -> None:
        self._pause_writing(False)
        # Not within this call: asyncio's transport would end twice if what is written now met an error.
        self._loop.call_soon(self._go_on_writing)

    def _go_on_writing(self) -> None:
        self.flush()
        self._update_reading()
        if not self._writing_paused:
            self._wake_senders()

    # -- In -----------------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._readable.wake_soon()

    def _discard(self) -> None:
        self._discarding = True
        self._is_plain = False
        self._batches.clear()
        self._undelivered = 0
        self._update_reading()

    def _note_full_read(self) -> None:
        if not self._full_reads:
            self._loop.call_soon(self._begin_turn)
        self._full_reads += 1
        self._update_reading()

    def _begin_turn(self) -> None:
        self._full_reads = 0
        self._update_reading()

    def _update_reading(self) -> None:
        if self._transport is None or self._connection.state is State.CLOSED:
            return
        wanted = self._wants_to_read()
        if wanted and not self._is_reading:
            self._transport.resume_reading()
            self._resumed += 1
        elif not wanted and self._is_reading:
            self._transport.pause_reading()
        self._is_reading = wanted

    def _wants_to_read(self) -> bool:
        """While there is room for messages, and for the answers that the peer makes us queue without reading."""
        room = self._undelivered <= READ_LIMIT and self.queued < WRITE_LIMIT and self._connection.error is None
        room = room and self._full_reads < FULL_READS
        return self._discarding or (self._configured and self.handshake_sent and room)

    # -- Out ----------------------------------------------------------------------------------------------------------

    def offer(self, frame: bytes, limit: int) -> bool:
        """Send a frame, as `send` does, unless `limit` bytes or more wait already; tells whether it did.

        What is queued is written before this returns: whoever sends to many sockets in one turn of the event loop
        spares each of them the flush at its end.
        """
        if self.queued or self._writing_paused or self._lane or self._transport is None or frame[0] & CONTROL:
            if self.buffered >= limit:
                return False
            self.send(frame)
            self.flush()
            return True
        waiting = self._transport.get_write_buffer_size() if self._transport_waits else 0
        if waiting >= limit:
            return False
        self._connection.note_send(frame)
        self._connection.note_waiting(waiting + len(frame))
        self._write([frame], waiting)
        return True

    async def wait_sent(self) -> None:
        if self._turn_is_due:
            # So much was written without a pause that the other connections are due.
            self._turn_is_due = False
            self._written_in_turn = 0
            self.must_wait = self._writing_paused
            await asyncio.sleep(0)
        while self._writing_paused:
            sender = self._loop.create_future()
            self._senders[sender] = None
            try:
                await sender
            finally:
                self._senders.pop(sender, None)
            if self._connection.state is State.CLOSED:
                raise self._connection.lost()

    def _pause_writing(self, paused: bool) -> None:
        self._writing_paused = paused
        self.must_wait = paused or self._turn_is_due

    def _wake_senders(self) -> None:
        for sender in self._senders:
            if not sender.done():
                sender.set_result(None)

    def _queue_is_full(self) -> None:
        if self._writing_paused:
            self._update_reading()
        else:
            self._written_in_turn += self.queued
            self.flush()
            if self._written_in_turn >= TURN_LIMIT:
                self._turn_is_due = self.must_wait = True

    # -- The keepalive ------------------------------------------------------------------------------------------------

    def keep_alive(
        self,
        *,
        ping_interval: float | None = None,
        ping_timeout: float | None = PING_TIMEOUT,
        idle_timeout: float | None = None,
    ) -> None:
        """Watch the peer from now on, in place of any earlier watch (RFC 6455 §5.5.2).

        Args:
            ping_interval: seconds from one ping to the next, None for no pings.
            ping_timeout: seconds after a ping, None for ever, in which the peer must give a sign of life: any byte that
                it sends, or takes of what waits for it. Otherwise the connection is dropped, and whoever waits for
                messages gets ConnectionLost. Time in which this side does not read, for nobody takes the messages, does
                not count unless over 64 KiB wait for the peer.
            idle_timeout: seconds without a data message in either direction, None for ever, after which the connection
                is closed with 1001; found out within a tenth of it.

        Raises:
            TypeError, ValueError: a value that is no positive number.
        """
        self._check_thread("keep_alive")
        self._timeouts = Timeouts(ping_interval, ping_timeout, idle_timeout)
        self._watch_from_now()

    def _watch_from_now(self) -> None:
        self._stop_watching()
        if self.is_open:
            self._watch_again(Keepalive(self._connection, self._timeouts, self._loop.time()))

    def _watch_again(self, keepalive: Keepalive) -> None:
        if keepalive.due < NEVER:
            self._keepalive_timer = self._loop.call_at(keepalive.due, self._watch, keepalive)

    def _stop_watching(self) -> None:
        if self._keepalive_timer is not None:
            self._keepalive_timer.cancel()

    def _watch(self, keepalive: Keepalive) -> None:
        if self.state is not State.OPEN:
            return  # whoever said Close answers no pings
        # Who is not read can still take of what waits for it; reading may be paused just because it does not.
        verdict = keepalive.check(self._loop.time(), self._progress(), self._is_reading or self._writing_paused)
        if verdict is Verdict.IDLE:
            self.close(CloseCode.GOING_AWAY, f"idle for {self._timeouts.idle_timeout:g} s")
        elif verdict is Verdict.DEAD:
            self._give_up(f"no sign of life for {self._timeouts.ping_timeout:g} s after a ping")
        else:
            if verdict is Verdict.PING:
                self.enqueue(keepalive.ping())
            self._watch_again(keepalive)

    def _progress(self) -> tuple[int, int, int]:
        """How often reading was taken up again, the bytes that came, and those that left while others wait behind."""
        counters = self._connection.counters
        waiting = self._transport.get_write_buffer_size() if self._transport else 0
        left = counters.bytes_sent - self.queued - waiting if waiting else 0
        return self._resumed, counters.bytes_received, left

    def _give_up(self, why: str) -> None:
        self.close(CloseCode.INTERNAL_ERROR, why)  # which may still reach a peer that reads and does not answer
        self.flush()
        self._connection.end(why)
        self._wake()
        self.abort()
