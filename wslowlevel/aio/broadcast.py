"""one frame -> many sockets"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, get_args

from ..codec import parse_header
from ..deflate import PreparedMessage
from ..errors import ConnectionLost, ProtocolError, not_an_integer, not_bytes_like, shown, wrong_thread
from ..frames import prepare_close_frame_payload
from ..wire import FIN, CloseCode, Opcode
from .socket import Socket

if TYPE_CHECKING:
    from typing_extensions import Buffer

WRITE_COST = 4 * 1024
"""A write to a socket takes about as long as it takes to copy so many bytes more."""

TURN = 256 * WRITE_COST
"""How much is written, by that measure, before other tasks get their turn of the event loop."""

BUFFER_LIMIT = 1024 * 1024
"""Bytes that may wait for a socket before it counts as slow."""

Slow = Literal["wait", "drop", "close"]


async def broadcast(
    message: Buffer | PreparedMessage,
    sockets: Iterable[Socket],
    *,
    slow: Slow = "close",
    buffer_limit: int = BUFFER_LIMIT,
    close_code: int = CloseCode.TRY_AGAIN_LATER,
) -> list[Socket]:
    """Send one message to many sockets; it is made once, and no slow peer holds the others up.

    Sockets whose opening handshake was not answered yet, that were closed or are gone are passed over; errors of one
    do not concern the others. Up to about 250 sockets are written to before this lets other tasks have their turn, so
    that of two broadcasts at a time to more than those, either may come first at a socket. Whoever cancels it has sent
    to the sockets before that point.

    Args:
        message: a frame of `prepare_websocket_frame`, which must be a whole message, or a control frame; or a
            :class:`wslowlevel.PreparedMessage`, which is compressed once for all that agreed on it.
        sockets: whom to send to, sockets of a server; copied first, so that they may come and go meanwhile. A message
            that a socket sends in chunks is finished first, and this one counts as waiting until then.
        slow: what to do with a socket for which `buffer_limit` bytes or more wait already: "wait" queues the message
            all the same and returns when each of these has taken most of what waits, or is gone, so that it waits for
            as long as the slowest; "drop" leaves the socket out; "close" closes it with `close_code`.
        buffer_limit: bytes, 1 MiB by default. No more than this and one message waits for any socket, with "wait" one
            for each broadcast that is under way.
        close_code: 1013 (try again later) by default, 1008 (policy violation) for instance.

    Returns:
        The open sockets that did not get it, in their order: those that "drop" left out or "close" closed, and those
        half-way through a message that their user sends frame by frame (RFC 6455 §5.4).

    Raises:
        RuntimeError: a socket belongs to another event loop than the running one; nothing was sent.
        TypeError, ValueError: what is no frame, or none that can be sent to all; a socket of a client, whose frames
            are masked with a key of their own each; another word for `slow`, a limit below 1, or a code that a Close
            frame may not carry. Nothing was sent.
    """
    prepared = message if isinstance(message, PreparedMessage) else _whole_frame(message)
    receivers = list(sockets)
    _check(receivers, slow, buffer_limit, close_code)
    loop = asyncio.get_running_loop()
    if any(socket._loop is not loop for socket in receivers):
        raise wrong_thread("broadcast")
    left_out: list[Socket] = []
    waiting: list[Awaitable[None]] = []
    work = 0
    for socket in receivers:
        if work >= TURN:
            work = 0
            await asyncio.sleep(0)
        if not socket.is_open:
            continue
        frame = prepared if isinstance(prepared, bytes) else prepared.frame_for(socket.extensions)
        work += WRITE_COST + len(frame)
        try:
            if not socket.offer(frame, buffer_limit):
                if slow == "wait":
                    waiting.append(socket.send(frame))
                    continue
                if slow == "close":
                    socket.close(close_code, f"over {buffer_limit} bytes wait to be read")
                left_out.append(socket)
        except ValueError:  # of all that may be wrong with a frame, what only the state of the socket decides
            left_out.append(socket)
    if waiting:
        await asyncio.gather(*map(_sent, waiting))
    return left_out


def _whole_frame(message: Buffer) -> bytes:
    """Whatever is wrong with a frame would be wrong at every socket: it is told once, before the first."""
    try:
        frame = bytes(memoryview(message))
    except TypeError:
        raise not_bytes_like("message", message) from None
    try:
        header = parse_header(frame)
    except ProtocolError as error:
        raise _not_whole(frame, str(error)) from None
    if header is None or header.length + header.payload_length != len(frame):
        raise _not_whole(frame, "the length it names is not its own")
    if not frame[0] & FIN or header.opcode == Opcode.CONTINUATION:
        raise _not_whole(frame, "it is a fragment")
    if header.mask:
        raise _not_whole(frame, "it is masked")
    return frame


def _not_whole(frame: bytes, why: str) -> ValueError:
    return ValueError(f"message must be one whole unmasked frame, as of prepare_websocket_frame: {why}: {shown(frame)}")


def _check(sockets: Sequence[object], slow: object, buffer_limit: object, close_code: int) -> None:
    for socket in sockets:
        if not isinstance(socket, Socket):
            raise TypeError(f"sockets must be those of serve, not {type(socket).__name__}")
        if socket.role != "server":
            raise ValueError("sockets must be those of a server: a client masks each frame with a key of its own")
    if slow not in get_args(Slow):
        raise ValueError(f'slow must be "wait", "drop" or "close", not {shown(slow)}')
    if not isinstance(buffer_limit, int) or isinstance(buffer_limit, bool):
        raise not_an_integer("buffer_limit", buffer_limit)
    if buffer_limit < 1:
        raise ValueError(f"buffer_limit must be 1 byte or more, not {buffer_limit}")
    prepare_close_frame_payload(close_code)


async def _sent(waiting: Awaitable[None]) -> None:
    with suppress(ConnectionLost):
        await waiting
