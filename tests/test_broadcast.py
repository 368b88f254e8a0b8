"""One message to many sockets: whoever is slow, compressed, closing or amid another message, the others get it."""

from __future__ import annotations

import asyncio
import itertools
import socket as sockets
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

import pytest
from websockets.asyncio.client import connect as connect_websockets

from wslowlevel import (
    ConnectionLost,
    Frame,
    FrameDecoder,
    Opcode,
    PerMessageDeflate,
    PreparedMessage,
    Request,
    Socket,
    broadcast,
    connect,
    encode_frame,
    get_messages_factory,
    prepare_close_frame_payload,
    prepare_websocket_frame,
    send_chunks_factory,
    send_factory,
    send_handshake,
    send_message_factory,
)
from wslowlevel.aio.broadcast import Slow
from wslowlevel.aio.server import Server

from .memory import counted, counts_memory
from .servers import (
    HEAD_END,
    RawClient,
    both_loops,
    close_of,
    connecting,
    handshake,
    masked,
    masked_close,
    run,
    serving,
    until,
    upgraded,
)
from .vectors import KEY

KIB = 1024

# -- A server and its clients -----------------------------------------------------------------------------------------


class Hall:
    """A server whose sockets stand in the order in which they came. Each of them is read."""

    def __init__(self) -> None:
        self.server: Server
        self.sockets: list[Socket] = []

    async def handler(self, request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        send_handshake(request, socket, extensions=[PerMessageDeflate()])
        self.sockets.append(socket)
        async for _ in get_messages():
            pass

    async def newest(self, known: int) -> Socket:
        """Whose client has just come."""
        await until(lambda: len(self.sockets) > known)
        return self.sockets[known]


class Guests:
    """The clients of a hall."""

    def __init__(self, hall: Hall, stack: AsyncExitStack) -> None:
        self.hall = hall
        self.stack = stack

    async def raw(self) -> tuple[RawClient, Socket]:
        """A client that reads when it is told to, and the server's end of it."""
        known = len(self.hall.sockets)
        client = await self.stack.enter_async_context(upgraded(self.hall.server.port))
        return client, await self.hall.newest(known)

    async def sluggish(self) -> tuple[Sluggard, Socket]:
        """A client for which the kernel keeps next to nothing: what it does not read waits in the server."""
        known = len(self.hall.sockets)
        client = Sluggard()
        self.stack.callback(client.connection.close)
        await client.upgrade(self.hall.server.port)
        socket = await self.hall.newest(known)
        socket.get_extra_info("socket").setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, Sluggard.KEPT)
        return client, socket


class Sluggard:
    """A client that does not even take from the kernel what it does not read."""

    KEPT = 4 * KIB

    def __init__(self) -> None:
        self.connection = sockets.socket()
        self.connection.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, self.KEPT)
        self.connection.setblocking(False)
        self._decoder = FrameDecoder(role="client")
        self._frames: list[Frame] = []

    async def upgrade(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self.connection, ("127.0.0.1", port))
        await loop.sock_sendall(self.connection, handshake())
        head = b""
        while not head.endswith(HEAD_END):
            head += await loop.sock_recv(self.connection, 1)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.connection, data)

    async def read_frame(self) -> Frame:
        while not self._frames:
            data = await asyncio.get_running_loop().sock_recv(self.connection, 256 * KIB)
            if not data:
                raise EOFError
            self._frames = self._decoder.feed(data)
        return self._frames.pop(0)

    async def read_to_close(self) -> list[Frame]:
        """Every frame up to the Close frame, which is answered; the server must end the connection then."""
        frames = [await self.read_frame()]
        while frames[-1].opcode != Opcode.CLOSE:
            frames.append(await self.read_frame())
        await self.send(masked(Opcode.CLOSE, frames[-1].payload[:2]))
        with pytest.raises(EOFError):
            await self.read_frame()
        return frames


@asynccontextmanager
async def gathering(**options: Any) -> AsyncIterator[tuple[Hall, Guests]]:
    """A hall and its guests, who have gone at the end of the block."""
    hall = Hall()
    async with serving(hall.handler, **options) as hall.server, AsyncExitStack() as stack:
        yield hall, Guests(hall, stack)


def frame(text: str) -> bytes:
    return prepare_websocket_frame(text.encode(), is_utf8=True)


def large(number: int, size: int = 64 * KIB) -> bytes:
    """A frame of that size, which begins with a number."""
    return prepare_websocket_frame(number.to_bytes(4, "big") + bytes(size - 4))


def number_of(frame: Frame) -> int:
    return int.from_bytes(frame.payload[:4], "big")


async def texts(client: RawClient | Sluggard, count: int) -> list[str]:
    """The next messages, which are in one frame each."""
    return [(await client.read_frame()).payload.decode() for _ in range(count)]


# -- To all -----------------------------------------------------------------------------------------------------------


@both_loops
def test_everyone_gets_it_and_nobody_is_left_out(loop_kind: str) -> None:
    async def main() -> None:
        async with gathering() as (hall, guests):
            clients = [(await guests.raw())[0] for _ in range(5)]
            assert await broadcast(frame("to all"), hall.sockets) == []
            assert [await texts(client, 1) for client in clients] == [["to all"]] * 5
            for socket in hall.sockets:
                assert (socket.counters.messages_sent, socket.counters.bytes_sent) == (1, len(frame("to all")))

    run(loop_kind, main())


@both_loops
@pytest.mark.parametrize(
    "kind", [bytearray, memoryview, lambda data: array("B", data)], ids=["bytearray", "view", "array"]
)
def test_what_changes_later_was_copied(loop_kind: str, kind: Callable[[bytearray], Any]) -> None:
    async def main() -> None:
        async with gathering() as (hall, guests):
            client, _ = await guests.sluggish()
            data = bytearray(large(1, 8 * 1024 * KIB))  # more than the kernel takes at once
            message = kind(data)
            await broadcast(message, hall.sockets)
            memoryview(message)[:] = bytes(len(data))
            assert number_of(await client.read_frame()) == 1

    run(loop_kind, main())


@both_loops
def test_control_frames(loop_kind: str) -> None:
    async def main() -> None:
        async with gathering() as (hall, guests):
            clients = [(await guests.raw())[0] for _ in range(3)]
            assert await broadcast(prepare_websocket_frame(b"?", opcode=Opcode.PING), hall.sockets) == []
            goodbye = prepare_websocket_frame(prepare_close_frame_payload(4001, "closing time"), opcode=Opcode.CLOSE)
            assert await broadcast(goodbye, hall.sockets) == []
            assert not any(socket.is_open for socket in hall.sockets)
            assert await broadcast(frame("too late"), hall.sockets) == []
            for client in clients:
                ping, close = await client.read_frame(), await client.read_frame()
                assert (ping.opcode, ping.payload) == (Opcode.PING, b"?")
                assert close_of(close) == (4001, "closing time")
                await client.send(masked_close(4001))
                assert await client.read_until_eof() == b""

    run(loop_kind, main())


@both_loops
def test_a_close_frame_to_all_has_to_be_answered(loop_kind: str) -> None:
    async def main() -> None:
        async with gathering(close_timeout=0.1) as (hall, guests):
            client, socket = await guests.raw()
            await broadcast(prepare_websocket_frame(b"", opcode=Opcode.CLOSE), hall.sockets)
            assert (await client.read_frame()).opcode == Opcode.CLOSE
            await socket.wait_closed()

    run(loop_kind, main())


@both_loops
def test_it_keeps_its_place_among_what_is_sent(loop_kind: str) -> None:
    async def main() -> None:
        async with gathering() as (hall, guests):
            client, socket = await guests.raw()
            send = send_factory(socket)
            send(frame("first"))
            await broadcast(frame("second"), hall.sockets)
            await broadcast(frame("third"), hall.sockets)
            send(frame("fourth"))
            assert await texts(client, 4) == ["first", "second", "third", "fourth"]

    run(loop_kind, main())


@both_loops
def test_nobody_there(loop_kind: str) -> None:
    async def main() -> None:
        assert await broadcast(frame("hello?"), []) == []
        assert await broadcast(PreparedMessage(b"hello?"), iter(())) == []

    run(loop_kind, main())


@both_loops
def test_who_is_not_open_yet_or_any_more_is_passed_over(loop_kind: str) -> None:
    hall = Hall()
    accepted = asyncio.Event()
    waiting: list[Socket] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        waiting.append(socket)
        await accepted.wait()
        await hall.handler(request, socket, head)

    async def main() -> None:
        async with serving(handler) as server, connecting(server.port) as client:
            await client.send(handshake())
            await until(lambda: bool(waiting))
            assert await broadcast(frame("early"), waiting) == []
            accepted.set()
            await client.reader.readuntil(HEAD_END)
            assert await broadcast(frame("now"), waiting) == []
            assert await texts(client, 1) == ["now"]
            waiting[0].close(4000)
            assert await broadcast(frame("late"), waiting) == []
            assert await client.read_close() == (4000, "")
            client.reset()
            await waiting[0].wait_closed()
            assert await broadcast(frame("later"), waiting) == []

    run(loop_kind, main())


# -- Compression ------------------------------------------------------------------------------------------------------

Receive = Callable[[], Awaitable[bytes]]


async def ours(stack: AsyncExitStack, port: int, compress: bool) -> Receive:
    _, socket = await connect(f"ws://127.0.0.1:{port}/", extensions=[PerMessageDeflate()] if compress else [])
    stack.push_async_callback(socket.finish)
    messages = get_messages_factory(socket)()

    async def receive() -> bytes:
        return (await anext(messages)).payload

    return receive


async def websockets(stack: AsyncExitStack, port: int, compress: bool) -> Receive:
    compression = "deflate" if compress else None
    connection = await stack.enter_async_context(
        connect_websockets(f"ws://127.0.0.1:{port}/", compression=compression, proxy=None)
    )

    async def receive() -> bytes:
        message = await connection.recv(decode=False)
        assert isinstance(message, bytes)
        return message

    return receive


JSON = b'{"symbol": "ACME", "bid": 101.25, "ask": 101.5, "symbols": ["ACME", "ACME", "ACME", "ACME", "ACME"]}' * 3


@both_loops
def test_with_and_without_compression_in_one_call(loop_kind: str) -> None:
    """What a connection compresses refers to what it sent before; a prepared frame in between must not matter."""

    async def main() -> None:
        async with gathering() as (hall, guests):
            receivers: list[Receive] = []
            for join, compress in itertools.product((ours, websockets), (True, False)):
                receivers.append(await join(guests.stack, hall.server.port, compress))
                await hall.newest(len(receivers) - 1)
            assert [len(socket.extensions) for socket in hall.sockets] == [1, 0, 1, 0]
            own = [send_message_factory(socket) for socket in hall.sockets]
            prepared = PreparedMessage(JSON, is_utf8=True)
            for i in range(4):
                for send_message in own:
                    send_message(JSON + b"own, %d" % i)
                assert await broadcast(prepared, hall.sockets) == []
                assert await broadcast(prepare_websocket_frame(JSON), hall.sockets) == []
                for send_message in own:
                    send_message(JSON[::-1], compress=True)
                for receive in receivers:
                    got = [await receive() for _ in range(4)]
                    assert got == [JSON + b"own, %d" % i, JSON, JSON, JSON[::-1]]

    run(loop_kind, main())


@both_loops
def test_a_prepared_message_is_compressed_for_whom_it_may_be(loop_kind: str) -> None:
    async def main() -> None:
        async with gathering() as (hall, guests), upgraded(hall.server.port, offer) as agreed:
            await hall.newest(0)
            plain, _ = await guests.raw()
            assert await broadcast(PreparedMessage(JSON), hall.sockets) == []
            frames = await agreed.read_frame(), await plain.read_frame()
            assert [each.rsv1 for each in frames] == [1, 0]
            assert len(frames[0].payload) < len(JSON) / 2
            assert frames[1].payload == JSON

    offer = "Sec-WebSocket-Extensions: permessage-deflate"
    run(loop_kind, main())


# -- Slow sockets -----------------------------------------------------------------------------------------------------

LIMIT = 256 * KIB

SLACK = 256 * KIB
"""Bytes for whatever else is in memory at the time: what the other client has not read yet, and this test's own."""


async def send_many(hall: Hall, fast: RawClient, slow: Slow, **options: Any) -> list[int]:
    """200 messages of 64 KiB, each of which one client reads at once; those for which somebody was left out."""
    left_out = []
    for i in range(200):
        if await broadcast(large(i), hall.sockets, slow=slow, buffer_limit=LIMIT, **options):
            left_out.append(i)
        assert number_of(await fast.read_frame()) == i
    return left_out


@counts_memory
@both_loops
@pytest.mark.parametrize(("options", "code"), [({}, 1013), ({"close_code": 1008}, 1008)])
def test_a_slow_socket_is_closed(loop_kind: str, options: dict[str, Any], code: int) -> None:
    async def main() -> None:
        async with gathering() as (hall, guests):
            (client, socket), (fast, _) = await guests.sluggish(), await guests.raw()
            with counted() as memory:
                left_out = await send_many(hall, fast, "close", **options)
            assert memory.now < LIMIT + 64 * KIB + SLACK
            assert len(left_out) == 1
            assert not socket.is_open
            assert LIMIT <= socket.buffered <= LIMIT + 65 * KIB
            *messages, close = await client.read_to_close()
            assert [number_of(message) for message in messages] == list(range(left_out[0]))
            assert close_of(close) == (code, f"over {LIMIT} bytes wait to be read")
            await until(lambda: hall.server.connections == 1)

    run(loop_kind, main())


@counts_memory
@both_loops
def test_a_slow_socket_is_left_out(loop_kind: str) -> None:
    async def main() -> None:
        async with gathering() as (hall, guests):
            (client, socket), (fast, _) = await guests.sluggish(), await guests.raw()
            with counted() as memory:
                left_out = await send_many(hall, fast, "drop")
            assert memory.now < LIMIT + 64 * KIB + SLACK
            assert left_out == list(range(left_out[0], 200))
            assert LIMIT <= socket.buffered <= LIMIT + 65 * KIB
            assert [number_of(await client.read_frame()) for _ in range(left_out[0])] == list(range(left_out[0]))
            await until(lambda: socket.buffered == 0)
            assert await broadcast(frame("back again"), hall.sockets, slow="drop") == []
            assert await texts(client, 1) == ["back again"]

    run(loop_kind, main())


@both_loops
def test_a_slow_socket_is_waited_for_when_the_others_have_it(loop_kind: str) -> None:
    async def main() -> None:
        async with gathering() as (hall, guests):
            (client, socket), (fast, _) = await guests.sluggish(), await guests.raw()
            await broadcast(large(0, 8 * 1024 * KIB), [socket])
            sending = asyncio.create_task(broadcast(frame("all"), hall.sockets, slow="wait"))
            assert await texts(fast, 1) == ["all"]
            assert not sending.done()
            assert number_of(await client.read_frame()) == 0
            assert await sending == []
            assert await texts(client, 1) == ["all"]

    run(loop_kind, main())


@both_loops
def test_who_waits_for_the_slow_ones_goes_no_faster_than_they(loop_kind: str) -> None:
    async def main() -> None:
        async with gathering() as (hall, guests):
            client, socket = await guests.sluggish()
            sending = asyncio.create_task(send_all(hall))
            await until(lambda: socket.buffered >= LIMIT)
            for i in range(200):
                assert number_of(await client.read_frame()) == i
                assert socket.buffered <= LIMIT + 65 * KIB
            await sending

    async def send_all(hall: Hall) -> None:
        for i in range(200):
            assert await broadcast(large(i), hall.sockets, slow="wait", buffer_limit=LIMIT) == []

    run(loop_kind, main())


@both_loops
def test_a_slow_socket_that_goes_is_not_waited_for_any_longer(loop_kind: str) -> None:
    async def main() -> None:
        async with gathering() as (hall, guests):
            (client, socket), (fast, _) = await guests.sluggish(), await guests.raw()
            await broadcast(large(0, 8 * 1024 * KIB), [socket])
            sending = asyncio.create_task(broadcast(frame("all"), hall.sockets, slow="wait"))
            assert await texts(fast, 1) == ["all"]
            assert not sending.done()
            client.connection.close()
            assert await sending == []
            assert not socket.is_open

    run(loop_kind, main())


@both_loops
def test_cancelled_while_it_waits_it_has_sent_to_all(loop_kind: str) -> None:
    async def main() -> None:
        async with gathering() as (hall, guests):
            (client, socket), (fast, _) = await guests.sluggish(), await guests.raw()
            await broadcast(large(0, 8 * 1024 * KIB), [socket])
            sending = asyncio.create_task(broadcast(frame("all"), hall.sockets, slow="wait"))
            assert await texts(fast, 1) == ["all"]
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            assert number_of(await client.read_frame()) == 0
            assert await texts(client, 1) == ["all"]

    run(loop_kind, main())


# -- Among other messages ---------------------------------------------------------------------------------------------


Chunks: TypeAlias = "asyncio.Queue[str | None]"


async def fed(chunks: Chunks) -> AsyncIterator[str]:
    while (chunk := await chunks.get()) is not None:
        yield chunk


@asynccontextmanager
async def amid_chunks() -> AsyncIterator[tuple[Hall, RawClient, RawClient, Chunks, asyncio.Future[None]]]:
    """Two clients, the first of which has got the first chunk of a message; where the others come from; its end."""
    async with gathering() as (hall, guests):
        (busy, socket), (idle, _) = await guests.raw(), await guests.raw()
        chunks: Chunks = asyncio.Queue()
        sending = asyncio.ensure_future(send_chunks_factory(socket)(fed(chunks)))
        chunks.put_nowait("one")
        assert (await busy.read_frame()).payload == b"one"
        yield hall, busy, idle, chunks, sending


@both_loops
def test_it_waits_behind_a_message_in_chunks(loop_kind: str) -> None:
    async def main() -> None:
        async with amid_chunks() as (hall, busy, idle, chunks, sending):
            assert await broadcast(frame("to all"), hall.sockets) == []
            assert await texts(idle, 1) == ["to all"]
            assert hall.sockets[0].buffered == len(frame("to all"))
            await broadcast(prepare_websocket_frame(b"?", opcode=Opcode.PING), hall.sockets)
            for chunk in ("two", None):
                chunks.put_nowait(chunk)
            got = [await busy.read_frame() for _ in range(4)]
            assert [(each.opcode, each.fin, each.payload) for each in got] == [
                (Opcode.PING, 1, b"?"),
                (Opcode.CONTINUATION, 0, b"two"),
                (Opcode.CONTINUATION, 1, b""),
                (Opcode.TEXT, 1, b"to all"),
            ]
            await sending
            assert hall.sockets[0].buffered == 0

    run(loop_kind, main())


@both_loops
def test_what_waits_behind_chunks_is_bounded_too(loop_kind: str) -> None:
    async def main() -> None:
        async with amid_chunks() as (hall, busy, idle, chunks, sending):
            left_out = []
            for i in range(20):
                left_out += await broadcast(large(i, KIB), hall.sockets, slow="drop", buffer_limit=10 * KIB)
                assert number_of(await idle.read_frame()) == i
            assert left_out == [hall.sockets[0]] * 10
            chunks.put_nowait(None)
            await sending
            assert (await busy.read_frame()).fin
            assert [number_of(await busy.read_frame()) for _ in range(10)] == list(range(10))

    run(loop_kind, main())


@both_loops
def test_who_waits_waits_for_the_chunks_too(loop_kind: str) -> None:
    """Nothing waits in the transport: it is the source of the chunks that is slow."""

    async def main() -> None:
        async with amid_chunks() as (hall, busy, idle, chunks, sending):
            await broadcast(frame("first"), hall.sockets, slow="wait", buffer_limit=1)
            waiting = asyncio.create_task(broadcast(frame("second"), hall.sockets, slow="wait", buffer_limit=1))
            assert await texts(idle, 2) == ["first", "second"]
            assert not waiting.done()
            chunks.put_nowait(None)
            assert await waiting == []
            await sending
            assert await texts(busy, 3) == ["", "first", "second"]

    run(loop_kind, main())


@both_loops
def test_a_close_passes_between_chunks(loop_kind: str) -> None:
    async def main() -> None:
        async with amid_chunks() as (hall, busy, idle, chunks, sending):
            for _ in range(2):
                left_out = await broadcast(frame("news"), hall.sockets, slow="close", buffer_limit=1)
            assert left_out == [hall.sockets[0]]
            assert await texts(idle, 2) == ["news", "news"]
            assert (await busy.read_close())[0] == 1013
            chunks.put_nowait("two")
            with pytest.raises(ConnectionLost):
                await sending

    run(loop_kind, main())


@both_loops
def test_a_message_sent_frame_by_frame_is_not_broken_into(loop_kind: str) -> None:
    async def main() -> None:
        async with gathering() as (hall, guests):
            (busy, socket), (idle, _) = await guests.raw(), await guests.raw()
            send_factory(socket)(prepare_websocket_frame(b"one", fin=0))
            assert await broadcast(frame("news"), hall.sockets) == [socket]
            assert await broadcast(PreparedMessage(b"news"), hall.sockets) == [socket]
            assert await broadcast(prepare_websocket_frame(b"?", opcode=Opcode.PING), hall.sockets) == []
            send_factory(socket)(prepare_websocket_frame(b"two", opcode=Opcode.CONTINUATION))
            assert await broadcast(frame("more"), hall.sockets) == []
            assert await texts(idle, 4) == ["news", "news", "?", "more"]
            assert await texts(busy, 4) == ["one", "?", "two", "more"]

    run(loop_kind, main())


# -- Turns ------------------------------------------------------------------------------------------------------------


@both_loops
def test_other_tasks_have_their_turn(loop_kind: str) -> None:
    async def count() -> None:
        while True:
            turns.append(None)
            await asyncio.sleep(0)

    turns: list[None] = []

    async def main() -> None:
        async with gathering() as (_, guests):
            client, socket = await guests.raw()
            counting = asyncio.create_task(count())
            await asyncio.sleep(0)
            seen = []
            for message, copies in ((frame("x"), 200), (frame("x"), 2000), (large(0, 1024 * KIB), 4)):
                turns.clear()
                await broadcast(message, [socket] * copies, buffer_limit=2**40)
                seen.append(len(turns))
                for _ in range(copies):
                    await client.read_frame()
            counting.cancel()
            assert seen[0] == 0, "a broadcast to few is sent in one go"
            assert 6 <= seen[1] <= 9
            assert seen[2] == 3, "large messages are work too"

    run(loop_kind, main())


MANY = 600
"""Sockets that a broadcast does not get through in one turn."""


@both_loops
def test_cancelled_it_has_sent_to_the_first_ones_and_harmed_none(loop_kind: str) -> None:
    async def main() -> None:
        async with gathering() as (_, guests):
            (first, one), (last, other) = await guests.raw(), await guests.raw()
            sending = asyncio.create_task(broadcast(frame("cut short"), [one] * MANY + [other]))
            await asyncio.sleep(0)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            assert await broadcast(frame("whole"), [one, other]) == []
            got = await texts(first, 1)
            while got[-1] == "cut short":
                got += await texts(first, 1)
            assert got == ["cut short"] * (len(got) - 1) + ["whole"]
            assert 1 < len(got) < MANY
            assert await texts(last, 1) == ["whole"]

    run(loop_kind, main())


async def closes(other: Socket, client: RawClient, all_sockets: list[Socket]) -> None:
    other.close(4000)


async def aborts(other: Socket, client: RawClient, all_sockets: list[Socket]) -> None:
    other.abort()


async def is_reset(other: Socket, client: RawClient, all_sockets: list[Socket]) -> None:
    client.reset()


async def leaves(other: Socket, client: RawClient, all_sockets: list[Socket]) -> None:
    all_sockets.remove(other)


@both_loops
@pytest.mark.parametrize("event", [closes, aborts, is_reset, leaves])
def test_what_happens_meanwhile(loop_kind: str, event: Callable[[Socket, RawClient, list[Socket]], Any]) -> None:
    async def main() -> None:
        async with gathering() as (_, guests):
            (first, one), (client, other), (last, third) = [await guests.raw() for _ in range(3)]
            everybody = [one] * MANY + [other, third]
            sending = asyncio.create_task(broadcast(frame("news"), everybody))
            await asyncio.sleep(0)
            await event(other, client, everybody)
            assert await sending == []
            assert await texts(last, 1) == ["news"]
            assert await texts(first, MANY) == ["news"] * MANY
            if event is leaves:
                assert await texts(client, 1) == ["news"]
            if event is closes:
                assert await client.read_close() == (4000, "")

    run(loop_kind, main())


@both_loops
def test_two_at_a_time(loop_kind: str) -> None:
    async def main() -> None:
        async with gathering() as (_, guests):
            (first, one), (last, other) = await guests.raw(), await guests.raw()
            everybody = [one] * MANY + [other]
            await asyncio.gather(broadcast(frame("one"), everybody), broadcast(frame("two"), everybody))
            got = await texts(first, 2 * MANY)
            assert (got.count("one"), got.count("two")) == (MANY, MANY)
            assert sorted(await texts(last, 2)) == ["one", "two"]

    run(loop_kind, main())


# -- Arguments --------------------------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "text": ("hello", {}, TypeError, "message must be bytes-like, not str: encode it first"),
    "nothing": (None, {}, TypeError, "message must be bytes-like, not NoneType"),
    "a payload": (b"hello world", {}, ValueError, "one whole unmasked frame, as of prepare_websocket_frame"),
    "no bytes": (b"", {}, ValueError, "one whole unmasked frame"),
    "half a frame": (frame("hello")[:-1], {}, ValueError, "one whole unmasked frame"),
    "two frames": (frame("hello") * 2, {}, ValueError, "one whole unmasked frame"),
    "a fragment": (encode_frame(1, b"hello", fin=0), {}, ValueError, "it is a fragment"),
    "a continuation": (encode_frame(0, b"hello"), {}, ValueError, "it is a fragment"),
    "a masked frame": (encode_frame(1, b"hello", mask_key=KEY), {}, ValueError, "it is masked"),
    "a long length": (b"\x82\x7e\x00\x05hello", {}, ValueError, "one whole unmasked frame"),
    "another policy": (frame("x"), {"slow": "ignore"}, ValueError, "\"close\", not 'ignore'"),
    "no policy": (frame("x"), {"slow": None}, ValueError, '"close", not None'),
    "a limit of 0": (frame("x"), {"buffer_limit": 0}, ValueError, "1 byte or more, not 0"),
    "a limit in words": (frame("x"), {"buffer_limit": "1M"}, TypeError, "buffer_limit must be an integer, not str"),
    "no limit": (frame("x"), {"buffer_limit": None}, TypeError, "buffer_limit must be an integer, not NoneType"),
    "a yes": (frame("x"), {"buffer_limit": True}, TypeError, "buffer_limit must be an integer, not bool"),
    "a reserved code": (frame("x"), {"close_code": 1006}, ValueError, "1006"),
    "a code in words": (frame("x"), {"close_code": "1013"}, TypeError, "str"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told_before_anything_is_sent(name: str) -> None:
    message, options, kind, text = MISTAKES[name]

    async def main() -> None:
        async with gathering() as (hall, guests):
            client, _ = await guests.raw()
            with pytest.raises(kind) as caught:
                await broadcast(message, hall.sockets, **options)
            assert text in str(caught.value)
            await broadcast(frame("right"), hall.sockets)
            assert await texts(client, 1) == ["right"]

    run("asyncio", main())


def test_sockets_of_another_kind() -> None:
    async def main() -> None:
        async with gathering() as (hall, guests):
            client, socket = await guests.raw()
            _, other_side = await connect(f"ws://127.0.0.1:{hall.server.port}/")
            for wrong, kind, text in (
                ([socket, other_side], ValueError, "sockets must be those of a server"),
                ([socket, None], TypeError, "sockets must be those of serve, not NoneType"),
                ([socket, client], TypeError, "sockets must be those of serve, not RawClient"),
                (socket, TypeError, "not iterable"),
            ):
                with pytest.raises(kind, match=text):
                    await broadcast(frame("wrong"), wrong)  # type: ignore[arg-type]
            await broadcast(frame("right"), hall.sockets)
            assert await texts(client, 1) == ["right"]
            await other_side.finish()

    run("asyncio", main())
