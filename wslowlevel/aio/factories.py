"""socket -> get_messages, send, send_handshake: the factory API

A socket is what `serve` hands to its handler, or the (StreamReader, StreamWriter) pair of an asyncio stream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from ..codec import Message
from ..connection import Connection
from ..errors import InvalidHandshake
from ..handshake import accept_request
from ..http1 import Request
from ..wire import DEFAULT_MAX_FRAGMENTS, DEFAULT_MAX_SIZE
from .duplex import Duplex
from .socket import Socket
from .streams import StreamPair, StreamSocket

AnySocket = Socket | StreamPair
Send = Callable[[bytes | bytearray | memoryview], Awaitable[None]]


class Messages(AsyncIterator[Message]):
    """The messages of a socket, in order. A step that is cancelled loses nothing: the next one goes on from there."""

    __slots__ = ("_batch", "_duplex")

    def __init__(self, duplex: Duplex) -> None:
        self._duplex = duplex
        self._batch = iter(list[Message]())

    async def __anext__(self) -> Message:
        while True:
            for message in self._batch:
                return message
            self._batch = iter(await self._duplex.receive())


def get_messages_factory(
    socket: AnySocket,
    *,
    max_in_memory_store_size: int | None = DEFAULT_MAX_SIZE,
    max_frame_size: int | None = None,
    max_fragments: int | None = DEFAULT_MAX_FRAGMENTS,
    strict: bool = True,
    require_mask: bool = True,
    allow_rsv: int = 0,
    auto_close: bool = True,
    auto_pong: bool = False,
) -> Callable[[], Messages]:
    """Begin to read messages from a socket; once for each socket.

    Args:
        socket: from `serve`, or a (StreamReader, StreamWriter) pair.
        max_in_memory_store_size: bytes that one message may have, None for no limit; 16 MiB by default.
        max_frame_size, max_fragments, strict, require_mask, allow_rsv: see
            :class:`wslowlevel.codec.MessageDecoder`.
        auto_close: whether to answer a Close frame with its own code, and a violation with the code that names it.
            False leaves both to the caller.
        auto_pong: whether to answer pings, before they are handed out.

    Returns:
        `get_messages`. ``async for message in get_messages()`` hands out everything that arrives, pings, pongs and
        Close included, and ends after the Close message. It raises ProtocolError or PayloadTooBig when the peer broke
        a rule or a limit, after everything that came before, and ConnectionLost when the connection ended without a
        Close frame. Breaking out of the loop loses nothing: the next ``get_messages()`` goes on from there.

    Raises:
        RuntimeError: called a second time for the same socket.
        TypeError, ValueError: an argument of the wrong kind.
    """
    duplex = _duplex(socket)
    connection = Connection(
        role=duplex.role,
        auto_close=auto_close,
        auto_pong=auto_pong,
        max_message_size=max_in_memory_store_size,
        max_frame_size=max_frame_size,
        max_fragments=max_fragments,
        strict=strict,
        require_mask=require_mask,
        allow_rsv=allow_rsv,
    )
    duplex.open(connection)
    messages = Messages(duplex)
    return lambda: messages


def send_factory(socket: AnySocket) -> Send:
    """Make a `send` for a socket; any number of times for the same one.

    Returns:
        `send(frame)`, which queues the bytes of one frame (bytes are not copied, other buffers are) when it is called;
        what is queued in one turn of the event loop leaves in one write at the end of it. ``await send(frame)`` waits
        while over 64 KiB wait for a slow peer. The result need not be awaited, but nothing else bounds what waits:
        ``socket.buffered`` tells how much. `send` raises ConnectionLost once
        the connection is gone or a Close frame was sent, RuntimeError before the opening handshake was answered, and
        TypeError or ValueError for what is no frame.
    """
    return _duplex(socket).send


def send_handshake(
    request: Request, socket: AnySocket, headers: Iterable[str | tuple[str, str]] = ()
) -> Awaitable[None]:
    """Answer the opening handshake with 101 (RFC 6455 §4.2.2).

    The answer is queued when this is called; awaiting the result is like awaiting `send`.

    Args:
        request: what `serve` hands to its handler, or `read_request` reads.
        socket: from `serve`, or a (StreamReader, StreamWriter) pair.
        headers: further headers, "Name: value" strings or (name, value) pairs.

    Raises:
        InvalidHandshake: the request is no valid opening handshake; it was answered with the HTTP status that says so.
        TypeError, ValueError: one of the headers may not stand there; nothing was sent.
        ConnectionLost: the connection is gone.
        RuntimeError: the handshake was answered before.
    """
    duplex = _duplex(socket)
    try:
        head = accept_request(request, headers)
    except InvalidHandshake as error:
        duplex.refuse(error)
        raise
    return duplex.send_head(head)


def _duplex(socket: object) -> Duplex:
    if isinstance(socket, Duplex):
        return socket
    if isinstance(socket, tuple) and len(socket) == 2:
        return StreamSocket.of(socket)
    raise TypeError(f"socket must be a wslowlevel socket or a (reader, writer) pair, not {type(socket).__name__}")
