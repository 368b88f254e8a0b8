"""P3: everything that can be called on a socket, from inside its callback, behind its end and behind a violation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from wslowlevel import (
    ConnectionLost,
    Message,
    Opcode,
    PreparedMessage,
    Request,
    Socket,
    WebSocketError,
    broadcast,
    get_messages_factory,
    handle_messages_factory,
    prepare_websocket_frame,
    send_chunks_factory,
    send_factory,
    send_handshake,
    send_message_factory,
)

from ..servers import RawClient, both_loops, masked, masked_close, run, serving, upgraded

CALLS: dict[str, Callable[[Socket], object]] = {
    "send": lambda socket: send_factory(socket)(prepare_websocket_frame(b"x")),
    "send a close": lambda socket: send_factory(socket)(b"\x88\x02\x03\xe8"),
    "send_message": lambda socket: send_message_factory(socket)("x"),
    "send_chunks": lambda socket: send_chunks_factory(socket)([b"x", b"y"]),
    "broadcast": lambda socket: broadcast(PreparedMessage(b"x"), [socket], slow="wait"),
    "ping": lambda socket: socket.ping(),
    "close": lambda socket: socket.close(),
    "abort": lambda socket: socket.abort(),
    "flush": lambda socket: socket.flush(),
    "wait_closed": lambda socket: asyncio.wait_for(socket.wait_closed(), 0.01),
    "keep_alive": lambda socket: socket.keep_alive(ping_interval=1.0),
    "get_messages": get_messages_factory,
    "handle_messages": handle_messages_factory,
    "what it knows": lambda socket: (
        *(socket.state, socket.counters, socket.received, socket.sent, socket.closed_first, socket.error),
        *(socket.is_open, socket.latency, socket.buffered, socket.get_extra_info("peername")),
    ),
}
REFUSED = (WebSocketError, RuntimeError, ValueError, asyncio.TimeoutError, TimeoutError)
"""What a call that comes too late, or at the wrong time, may raise."""


async def call(name: str, socket: Socket) -> None:
    with suppress(*REFUSED):
        result = CALLS[name](socket)
        if isinstance(result, Awaitable):
            await result


def run_with(loop_kind: str, handler: Callable[..., Any], sends: bytes) -> None:
    """A handler against a client that sends this and leaves when it is told to."""

    async def main() -> None:
        async with serving(handler, close_timeout=0.2) as server, upgraded(server.port) as client:
            await client.send(sends)
            await until_the_end(client)

    run(loop_kind, main())


async def until_the_end(client: RawClient) -> None:
    with suppress(EOFError, OSError):
        while (await client.read_frame()).opcode != Opcode.CLOSE:
            pass
        await client.send(masked_close(1000))
        await client.read_until_eof()


@both_loops
@pytest.mark.parametrize("name", CALLS)
def test_inside_a_callback(loop_kind: str, name: str) -> None:
    """socketify #197: the function that is handed a message calls back into its socket, and ends the connection."""
    ended_with: list[bytes] = []
    tasks: set[asyncio.Task[None]] = set()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        handle_messages = handle_messages_factory(socket)
        await send_handshake(request, socket)

        def on_message(message: Message) -> None:
            ended_with.append(message.payload)
            with suppress(*REFUSED):
                result = CALLS[name](socket)
                if isinstance(result, Awaitable):
                    tasks.add(asyncio.ensure_future(_settled(result)))

        with suppress(ConnectionLost):
            await handle_messages(on_message)
        await asyncio.gather(*tasks)

    run_with(loop_kind, handler, masked(1, b"one") + masked(1, b"two") + masked_close(1000))
    expected = [b"one", b"two", b"\x03\xe8"]
    assert ended_with == expected[: len(ended_with)]
    assert ended_with


async def _settled(result: Awaitable[object]) -> None:
    with suppress(*REFUSED):
        await result


@both_loops
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("last", [masked_close(1000), b"\x83\x80", b""], ids=["a close", "a violation", "a reset"])
def test_behind_the_end(loop_kind: str, name: str, last: bytes) -> None:
    """libwebsockets #3412, #1461, #2620: calls on a socket that has ended do no harm, and nothing is delivered."""
    later: list[Message] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        await send_handshake(request, socket)
        with suppress(WebSocketError):
            async for message in get_messages():
                if not last and message.payload == b"one":
                    socket.abort()
        await call(name, socket)
        with suppress(WebSocketError):
            later.extend([message async for message in get_messages()])

    run_with(loop_kind, handler, masked(1, b"one") + last)
    assert later == []
