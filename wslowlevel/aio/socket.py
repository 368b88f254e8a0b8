"""an asyncio transport <-> messages and frames: the socket that `serve` hands to its handler

An asyncio.BufferedProtocol: the transport receives into the decoder's own memory, and for a large payload straight into
the bytes object that will be delivered.
"""

from __future__ import annotations

import asyncio
from typing import cast

from ..connection import Connection
from ..errors import WebSocketError
from .duplex import CLOSE_TIMEOUT, READ_LIMIT, WRITE_LIMIT, Duplex


class Socket(Duplex, asyncio.BufferedProtocol):
    """One connection, before and after its opening handshake.

    `get_messages_factory` and `send_factory` are the way in and out; what stands here is for everything else.

    Attributes:
        role: who we are, "server" or "client".
        received, sent: (code, reason) of the peer's Close frame and of ours, None while there is none.
        buffered: bytes that wait to be sent.
        handshake_sent: whether the opening handshake was answered with 101.
    """

    def __init__(self, role: str, *, early: bytes = b"", close_timeout: float = CLOSE_TIMEOUT) -> None:
        super().__init__(role, close_timeout=close_timeout)
        self._early = early
        self._arrived = 0
        self._reading = True
        self._discarding = False
        self._readable: asyncio.Future[None] | None = None
        self._writing_paused = False
        self._turn_is_due = False
        self._senders: set[asyncio.Future[None]] = set()
        self._closed = self._loop.create_future()

    @property
    def handshake_sent(self) -> bool:
        return self._may_send

    def open(self, connection: Connection) -> None:
        super().open(connection)
        early, self._early = self._early, b""
        if early:
            self._received(connection.feed(early), len(early))
        self._update_reading()

    @property
    def is_open(self) -> bool:
        """Whether frames can be sent: after the handshake, until a Close frame was sent or the connection is lost."""
        return self._may_send and not self._lost and self.sent is None

    @property
    def error(self) -> WebSocketError | MemoryError | None:
        """The peer's violation, or crossed limit, that ended what can be received; None while there is none."""
        return self._connection.error

    async def wait_closed(self) -> None:
        """Wait until the transport is gone."""
        await asyncio.shield(self._closed)

    async def finish(self, code: int | None = None, reason: str = "") -> None:
        """Close, drop what still arrives, and wait until the connection is gone."""
        if not self._opened:
            self.open(self._connection)
        if self._may_send:
            self.close(code, reason)
        else:
            self._end()
        self._start_close_timer()
        self._discard()
        self._answer_end()
        await self.wait_closed()

    # -- Called by the transport --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._update_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._connection.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        if self._ended:
            return
        self._arrived += nbytes
        messages = self._connection.buffer_updated(nbytes)
        if messages or self._connection.ended:
            size, self._arrived = self._arrived, 0
            if self._discarding:
                self._answer_end()
            else:
                self._received(messages, size)
            self._update_reading()
            self._wake()

    def eof_received(self) -> bool:
        if self._connection.received is not None and not self._ended and self.get_extra_info("ssl_object") is None:
            # A Close frame came before the end, and what came before that may still be answered.
            self._start_close_timer()
            return True
        self._lose()
        self._wake()
        return False  # the transport closes itself, once it has written what it was given

    def connection_lost(self, exc: Exception | None) -> None:
        self._writing_paused = False
        self._gone()
        self._wake()
        self._wake_senders()
        if not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self.flush()
        self._update_reading()
        if not self._writing_paused:
            self._wake_senders()

    # -- In -----------------------------------------------------------------------------------------------------------

    async def _wait_readable(self) -> None:
        self._readable = self._loop.create_future()
        try:
            await self._readable
        finally:
            self._readable = None

    def _wake(self) -> None:
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)

    def _delivered(self) -> None:
        if not self._reading:
            self._update_reading()

    def _discard(self) -> None:
        self._discarding = True
        self._batches.clear()
        self._undelivered = 0
        self._update_reading()

    def _update_reading(self) -> None:
        """Read while there is room for messages, and for the answers that the peer makes us queue without reading."""
        if self._transport is None or self._lost:
            return
        room = self._undelivered <= READ_LIMIT and self._queued < WRITE_LIMIT and self._connection.error is None
        wanted = self._discarding or (self._opened and room)
        if wanted and not self._reading:
            self._transport.resume_reading()
        elif not wanted and self._reading:
            self._transport.pause_reading()
        self._reading = wanted

    # -- Out ----------------------------------------------------------------------------------------------------------

    @property
    def must_wait(self) -> bool:
        return self._writing_paused or self._turn_is_due

    async def wait_sent(self) -> None:
        if self._turn_is_due:
            # So much was written without a pause that the other connections are due.
            self._turn_is_due = False
            await asyncio.sleep(0)
        while self._writing_paused:
            sender = self._loop.create_future()
            self._senders.add(sender)
            try:
                await sender
            finally:
                self._senders.discard(sender)
            if self._lost:
                raise self._connection.lost()

    def _wake_senders(self) -> None:
        for sender in self._senders:
            if not sender.done():
                sender.set_result(None)

    def _queue_is_full(self) -> None:
        if self._writing_paused:
            self._update_reading()
        else:
            self.flush()
            self._turn_is_due = True

    @property
    def _write_is_paused(self) -> bool:
        return self._writing_paused
