"""an asyncio (StreamReader, StreamWriter) pair <-> messages and frames

For programs that were written around asyncio.start_server: the pair stays theirs, and the factories work on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, cast
from weakref import WeakValueDictionary

from ..errors import already_waited
from ..http1 import MAX_HEADER_LINE, MAX_HEADERS, MAX_HEADERS_SIZE, HeadLimits, Request, RequestReader
from ..wire import READ_SIZE
from .duplex import Duplex

if TYPE_CHECKING:
    from typing_extensions import Buffer

StreamPair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class StreamSocket(Duplex):
    """What the factories make of a pair; one for each pair, so that all of them share its state."""

    def __init__(self, pair: StreamPair, role: str) -> None:
        super().__init__(role)
        self.must_wait = True
        self._receiving = False
        self._reader, self._writer = pair
        self._transport = cast(asyncio.Transport, self._writer.transport)
        self._peername = self._writer.get_extra_info("peername")
        # Whoever brings a pair may have sent the 101 answer without us.
        self._connection.open()

    @staticmethod
    def of(pair: StreamPair, role: str = "server") -> StreamSocket:
        """The socket of a pair, made when first asked for; it lives as long as anybody holds it."""
        found = _sockets.get(id(pair[1]))
        if found is None:
            found = _sockets[id(pair[1])] = StreamSocket(pair, role)
        return found

    def _begin(self) -> None:
        """Reading happens on demand only."""

    async def wait_readable(self) -> None:
        if self._receiving:
            raise already_waited()
        self._receiving = True
        try:
            data = await self._reader.read(READ_SIZE)
        except OSError:
            data = b""
        finally:
            self._receiving = False
        if data:
            self._arrived = len(data)
            self._received(self._connection.feed(data))
        elif self._writer.is_closing():
            self._gone()
        else:
            self._lose()

    def send(self, frame: object) -> Awaitable[None]:
        self._notice_end()
        return super().send(frame)

    def send_message(
        self, payload: str | Buffer, *, is_utf8: bool = False, compress: bool | None = None
    ) -> Awaitable[None]:
        self._notice_end()
        return super().send_message(payload, is_utf8=is_utf8, compress=compress)

    def ping(self, payload: bytes | None = None) -> asyncio.Future[float]:
        self._notice_end()
        return super().ping(payload)

    def close(self, code: int | None = None, reason: str = "") -> None:
        self._notice_end()
        super().close(code, reason)

    def _notice_end(self) -> None:
        """Whom the pair belongs to may have closed it."""
        if self._writer.is_closing():
            self._gone()

    async def wait_sent(self) -> None:
        self.flush()
        try:
            await self._writer.drain()
        except OSError:
            self._gone()
            raise self._connection.lost() from None

    def _queue_is_full(self) -> None:
        self.flush()

    def _early_buffer(self) -> memoryview:
        """Nothing comes that way."""
        return memoryview(b"")

    def _buffer_updated(self, nbytes: int) -> None:
        """Nothing comes that way."""

    def _note_full_read(self) -> None:
        """Nothing comes that way."""

    def _update_reading(self) -> None:
        """Reading happens on demand only."""

    def _discard(self) -> None:
        """The reader of the pair bounds by itself what it takes in."""


_sockets: WeakValueDictionary[int, StreamSocket] = WeakValueDictionary()
"""By the id of the writer: whoever stands here keeps that writer alive, so that the id stays its own."""


async def read_request(
    reader: asyncio.StreamReader,
    *,
    max_header_line: int = MAX_HEADER_LINE,
    max_headers: int = MAX_HEADERS,
    max_head_size: int = MAX_HEADERS_SIZE,
) -> Request:
    """Read the head of an HTTP request from a stream, and nothing behind it.

    The head is judged line by line. The `limit` of the reader does not bound it.

    Args:
        reader: the reader that asyncio.start_server passes to its callback.
        max_header_line, max_headers, max_head_size: see :class:`wslowlevel.http1.HeadLimits`.

    Raises:
        InvalidHandshake: the head is not well-formed HTTP/1.1 (400), or exceeds a limit (431).
        ConnectionError: the stream ended before the head did.
        TypeError, ValueError: a limit that is not a positive integer.
    """
    head = RequestReader(HeadLimits(max_header_line, max_headers, max_head_size))
    data = await reader.read(2)  # no head is that short: it shows whether the peer speaks TLS or another protocol
    while data:
        request = head.feed(data)
        if request is not None:
            return request
        data = await _read_line(reader)
    raise ConnectionError("the stream ended inside the request head")


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    """Read up to the next line end, or what the reader holds if its limit comes first; b"" at the end."""
    try:
        return await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError as error:
        return await reader.readexactly(error.consumed)
    except asyncio.IncompleteReadError as error:
        return error.partial
