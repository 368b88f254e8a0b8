"""socket -> get_messages, send, send_handshake: the factory API

A socket is what `serve` hands to its handler, or the (StreamReader, StreamWriter) pair of an asyncio stream.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Generic, NoReturn, Protocol, TypeVar

from ..codec import Chunk, Message
from ..errors import InvalidHandshake
from ..extensions import ExtensionFactory, accept_extensions, check_factories
from ..handshake import accept_request
from ..http1 import HeadersLike, Request, parse_headers
from ..wire import DEFAULT_MAX_FRAGMENTS, DEFAULT_MAX_SIZE
from .duplex import Duplex
from .socket import Socket
from .stream import Items
from .streams import StreamPair, StreamSocket

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")

AnySocket = Socket | StreamPair
Send = Callable[[bytes | bytearray | memoryview], Awaitable[None]]


class SendMessage(Protocol):
    def __call__(
        self, payload: str | Buffer, *, is_utf8: bool = False, compress: bool | None = None
    ) -> Awaitable[None]: ...


class SendChunks(Protocol):
    def __call__(
        self,
        chunks: Iterable[str | Buffer] | AsyncIterable[str | Buffer],
        *,
        is_utf8: bool = False,
        compress: bool | None = None,
    ) -> Awaitable[None]: ...


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
    auto_pong: bool = True,
) -> Callable[[], AsyncIterator[Message]]:
    """Begin to read messages from a socket (RFC 6455 §6.2); once for each socket.

    Args:
        socket: from `serve`, or a (StreamReader, StreamWriter) pair.
        max_in_memory_store_size: bytes that one message may have, None for no limit; 16 MiB by default.
        max_frame_size, max_fragments, strict, require_mask, allow_rsv: see
            :class:`wslowlevel.codec.MessageDecoder`.
        auto_close: whether to answer a Close frame with its own code and reason, and a violation with the code that
            names it. False leaves both to the caller.
        auto_pong: whether to answer pings, True by default; they are handed out all the same.

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
    duplex.configure(
        auto_close=auto_close,
        auto_pong=auto_pong,
        max_message_size=max_in_memory_store_size,
        max_frame_size=max_frame_size,
        max_fragments=max_fragments,
        strict=strict,
        require_mask=require_mask,
        allow_rsv=allow_rsv,
    )
    return _Getter("get_messages_factory", Items(duplex))


def handle_messages_factory(
    socket: AnySocket,
    *,
    max_in_memory_store_size: int | None = DEFAULT_MAX_SIZE,
    max_frame_size: int | None = None,
    max_fragments: int | None = DEFAULT_MAX_FRAGMENTS,
    strict: bool = True,
    require_mask: bool = True,
    allow_rsv: int = 0,
    auto_close: bool = True,
    auto_pong: bool = True,
) -> Callable[[Callable[[Message], object]], Awaitable[None]]:
    """Begin to read messages from a socket, to be handed to a function; once for each socket.

    It is `get_messages_factory` without the switch to a task and back that an iterator costs: an eighth of the
    processor's time that the echo of a short message takes, and a sixth where many come together.

    Args:
        socket: as for `get_messages_factory`, in whose place this one is called, and so the others.

    Returns:
        ``await handle_messages(on_message)``: calls ``on_message(message)`` for everything that arrives, as it arrives,
        and returns after the Close message. What it sends leaves in one write for each read. `on_message` cannot wait
        for a slow peer, but no more is read while over 64 KiB wait to be sent; what it raises comes out here. Errors
        are those of `get_messages`. Cancelling it loses nothing: the next call goes on from there.

    Raises:
        RuntimeError: called a second time for the same socket, or after another factory of messages.
        TypeError, ValueError: an argument of the wrong kind.
    """
    duplex = _duplex(socket)
    duplex.configure(
        auto_close=auto_close,
        auto_pong=auto_pong,
        max_message_size=max_in_memory_store_size,
        max_frame_size=max_frame_size,
        max_fragments=max_fragments,
        strict=strict,
        require_mask=require_mask,
        allow_rsv=allow_rsv,
    )
    return duplex.handle


def get_chunks_factory(
    socket: AnySocket,
    *,
    max_message_size: int | None = None,
    max_frame_size: int | None = None,
    max_fragments: int | None = None,
    strict: bool = True,
    require_mask: bool = True,
    allow_rsv: int = 0,
    auto_close: bool = True,
    auto_pong: bool = True,
) -> Callable[[], AsyncIterator[Chunk]]:
    """Begin to read messages from a socket in chunks, as they arrive, never whole in memory (RFC 6455 §5.4); once for
    each socket.

    Args:
        max_message_size: bytes that the chunks of one message may have together; None, the default, for no limit, for
            nothing is held but the chunks that wait to be taken.
        max_frame_size, max_fragments: None by default, for no limit, for the same reason.
        socket, strict, require_mask, allow_rsv, auto_close, auto_pong: as for `get_messages_factory`, in whose place
            this one is called.

    Returns:
        `get_chunks`. ``async for chunk in get_chunks()`` hands out a :class:`wslowlevel.Chunk` for each piece that
        arrives: it tells apart where a message starts and ends and where a frame does. Control frames come whole, also
        from between the chunks of a message. Text is checked as it arrives, and a chunk of it may end inside a
        character (`codecs.getincrementaldecoder` joins them). Errors are those of `get_messages`.

    Raises:
        RuntimeError: called a second time for the same socket, or after `get_messages_factory`.
        TypeError, ValueError: an argument of the wrong kind.
    """
    duplex = _duplex(socket)
    duplex.configure(
        chunks=True,
        auto_close=auto_close,
        auto_pong=auto_pong,
        max_message_size=max_message_size,
        max_frame_size=max_frame_size,
        max_fragments=max_fragments,
        strict=strict,
        require_mask=require_mask,
        allow_rsv=allow_rsv,
    )
    return _Getter("get_chunks_factory", Items(duplex))


def send_factory(socket: AnySocket) -> Send:
    """Make a `send` for a socket (RFC 6455 §6.1); any number of times for the same one.

    Returns:
        `send(frame)`, which queues the bytes of one frame (bytes are not copied, other buffers are) when it is called;
        what is queued in one turn of the event loop leaves in one write at the end of it. ``await send(frame)`` waits
        while over 64 KiB wait for a slow peer. The result need not be awaited, but nothing else bounds what waits:
        ``socket.buffered`` tells how much. `send` raises ConnectionLost once
        the connection is gone or a Close frame was sent, RuntimeError before the opening handshake was answered, and
        TypeError or ValueError for what is no frame.
    """
    return _duplex(socket).send


def send_message_factory(socket: AnySocket) -> SendMessage:
    """Make a `send_message` for a socket (RFC 6455 §6.1); any number of times for the same one.

    It does what `prepare_websocket_frame` and `send` do together, masks if this side is the client, and is the way
    through the extensions that the opening handshake agreed on: what is compressed depends on what was sent before, so
    that it is done at the moment of sending.

    Returns:
        `send_message(payload, *, is_utf8=False, compress=None)`: queues a message when it is called, and is awaited as
        `send` is. `payload` is a `str`, for a text message, or any C-contiguous buffer, for a binary one, or with
        `is_utf8` for one of text. `compress` is a word to the extensions: True and False for this message, None for
        their own settings. While another message goes out in chunks, this one waits behind it, and so does whoever
        awaits it. Errors are those of `send`, and ValueError for text that is not UTF-8.
    """
    return _duplex(socket).send_message


def send_chunks_factory(socket: AnySocket) -> SendChunks:
    """Make a `send_chunks` for a socket (RFC 6455 §5.4); any number of times for the same one.

    Returns:
        ``await send_chunks(chunks, *, is_utf8=False, compress=None)``: sends one message whose chunks come from an
        iterable, or an async iterable, of `str` or of buffers; arguments are those of `send_message`. Each chunk leaves
        as one fragment when it comes, an empty one ends the message, and no more of them are asked for while the peer
        is slow. Pings, pongs and Close may pass between them; other messages wait until this one is finished, so that
        the iterable must not await one of those. If it raises, or this is cancelled, half-way through a message, the
        connection is closed with 1011: nothing else can follow half a message (RFC 6455 §5.4).
    """
    return _duplex(socket).send_chunks


def send_handshake(
    request: Request,
    socket: AnySocket,
    headers: HeadersLike = (),
    *,
    extensions: Sequence[ExtensionFactory] = (),
) -> Awaitable[None]:
    """Answer the opening handshake with 101 (RFC 6455 §4.2.2).

    The answer is queued when this is called; awaiting the result is like awaiting `send`.

    Args:
        request: what `serve` hands to its handler, or `read_request` reads.
        socket: from `serve`, or a (StreamReader, StreamWriter) pair.
        headers: further headers, "Name: value" strings or (name, value) pairs.
        extensions: what to agree on if the client offers it, :class:`wslowlevel.PerMessageDeflate` for one;
            ``socket.extensions`` tells what was.

    Raises:
        InvalidHandshake: the request is no valid opening handshake; it was answered with the HTTP status that says so.
        TypeError, ValueError: a header is not allowed, or an extension is not an ExtensionFactory; nothing was sent.
        ConnectionLost: the connection is gone.
        RuntimeError: the handshake was answered before.
    """
    duplex = _duplex(socket)
    factories = check_factories(extensions)
    try:
        answer, agreed = accept_extensions(request.headers.get_all("Sec-WebSocket-Extensions"), factories)
        ours = [("Sec-WebSocket-Extensions", answer)] if answer else []
        head = accept_request(request, [*parse_headers(headers), *ours])
    except InvalidHandshake as error:
        duplex.refuse(error)
        raise
    sent = duplex.send_head(head)
    duplex.opened(agreed)
    return sent


class _Getter(Generic[T]):
    """The function that a factory returns: every call returns the same iterator."""

    def __init__(self, factory: str, items: AsyncIterator[T]) -> None:
        self._factory = factory
        self._items = items

    def __call__(self) -> AsyncIterator[T]:
        return self._items

    def __aiter__(self) -> NoReturn:
        raise TypeError(
            f"{self._factory}() returns a function: call it, `async for item in {self._factory}(socket)():`"
        )


def _duplex(socket: object) -> Duplex:
    if isinstance(socket, Duplex):
        return socket
    if isinstance(socket, tuple) and len(socket) == 2:
        return StreamSocket.of(socket)
    raise TypeError(f"socket must be a wslowlevel socket or a (reader, writer) pair, not {type(socket).__name__}")
