"""Frames out, batches in: what is joined, what goes straight to the descriptor, and what leaves in which turn."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import socket as sockets
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest

from wslowlevel import (
    ConnectionLost,
    Message,
    Opcode,
    Request,
    Socket,
    connect,
    get_messages_factory,
    prepare_websocket_frame,
    send_chunks_factory,
    send_factory,
    send_handshake,
    send_message_factory,
    serve,
)
from wslowlevel.aio.transports import NO_DESCRIPTOR, descriptor_of
from wslowlevel.connection import Connection
from wslowlevel.wire import JOIN_LIMIT

from .servers import (
    TIMEOUT,
    TRANSPORTS,
    RawClient,
    _cancel_others,
    both_loops,
    every_transport,
    masked,
    masked_close,
    run,
    serving,
    until,
    upgraded,
)
from .test_endpoint import Seeing
from .test_socket import MIB, Handler, run_pair, settled
from .tls import client_tls, server_tls

TWINS = {"wslowlevel.aio._stream_py": "wslowlevel._codec_py", "wslowlevel.aio._stream": "wslowlevel._codec"}


def bare(stream: ModuleType) -> Any:
    """A stream whose frames wait until they are taken or flushed."""
    codec = __import__(TWINS[stream.__name__], fromlist=["Endpoint"])
    made = stream.Stream(codec.Endpoint(role="server"), limit=2**40)
    made._flush_is_due = True
    return made


def patterned(size: int, seed: int = 0) -> bytes:
    """Bytes that are not those of any other place, or order."""
    return random.Random(seed).randbytes(size)


# -- What is queued ---------------------------------------------------------------------------------------------------

SHORT, LONG = JOIN_LIMIT - 1, JOIN_LIMIT


@every_transport
@pytest.mark.parametrize(
    ("sizes", "chunks"),
    [
        ([], []),
        ([5], [[5]]),
        ([LONG], [[LONG]]),
        ([5, 0, SHORT, 7], [[5, 0, SHORT, 7]]),
        ([5, LONG], [[5], [LONG]]),
        ([LONG, LONG, 5, 6], [[LONG], [LONG], [5, 6]]),
        ([5, 6, LONG, 7, SHORT, LONG * 3, 8], [[5, 6], [LONG], [7, SHORT], [LONG * 3], [8]]),
    ],
)
def test_short_frames_are_joined_and_long_ones_are_not_copied(
    stream: ModuleType, loop_kind: str, sizes: list[int], chunks: list[list[int]]
) -> None:
    async def main() -> None:
        queue = bare(stream)
        frames = [patterned(size, seed) for seed, size in enumerate(sizes)]
        for frame in frames:
            queue.enqueue(frame)
        assert queue.queued == sum(sizes)
        taken = queue._take_frames()
        assert [len(chunk) for chunk in taken] == [sum(run) for run in chunks]
        assert b"".join(taken) == b"".join(frames)
        identities = {id(chunk) for chunk in taken}
        assert all(id(frame) in identities for frame in frames if len(frame) >= LONG)
        assert (queue.queued, queue._take_frames()) == (0, [])

    run(loop_kind, main())


@every_transport
def test_what_is_dropped_is_not_written(stream: ModuleType, loop_kind: str) -> None:
    async def main() -> None:
        queue = bare(stream)
        queue.enqueue(b"frame")
        queue._drop_frames()
        assert (queue.queued, queue._take_frames()) == (0, [])

    run(loop_kind, main())


# -- Straight to the descriptor ---------------------------------------------------------------------------------------


linux = pytest.mark.skipif(sys.platform != "linux", reason="only of Linux's pipes is it known how much they hold")


class Pipe:
    """A pipe that holds a page, with a real transport at its one end.

    Attributes:
        transport: what writes into it.
        room: how much it holds.
    """

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe2(os.O_NONBLOCK)
        self.room = self._shrink()

    def _shrink(self) -> int:
        return fcntl.fcntl(self._writing, fcntl.F_SETPIPE_SZ, 4096)

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(self._writing, "wb", 0))

    def attach(self, queue: Any) -> None:
        """Have a stream write into it."""
        queue._transport, queue._descriptor = self.transport, self._writing

    async def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            with suppress(BlockingIOError):
                data += os.read(self._reading, 65536)
            await asyncio.sleep(0)
        with pytest.raises(BlockingIOError):
            os.read(self._reading, 1)
        return data

    def close(self) -> None:
        self.transport.abort()
        os.close(self._reading)


PAGE = 4096

BORDERS = [
    [1],
    [PAGE],
    [PAGE + 1],
    [PAGE - 1, 1],
    [PAGE - 1, 2],
    [PAGE, 1],
    [PAGE, PAGE],
    [1, PAGE - 1, 1],
    [1, PAGE, 1],
    [1, 1, PAGE - 2, 5, 5],
    [1000, 1000, 5000, 1000, 20_000, 3],
    [20_000],
    [0, PAGE, 0, 1, 0],
    [4] * 1024,
    [4] * 1025,
    [4] * 3000,
    [1] * 1023 + [PAGE],
    [1] * 1024 + [PAGE],
    [1] * 1025 + [PAGE],
]


@linux
@every_transport
@pytest.mark.parametrize("sizes", BORDERS, ids=lambda sizes: f"{len(sizes)} of {sum(sizes)}")
def test_what_does_not_fit_is_for_the_transport(stream: ModuleType, loop_kind: str, sizes: list[int]) -> None:
    """Writes that are cut at every kind of border; over 1,024 chunks are more than one call takes."""
    chunks = [patterned(size, seed) for seed, size in enumerate(sizes)]
    taken = min(PAGE, sum(sizes[:1024]))

    async def main() -> None:
        pipe, queue = Pipe(), bare(stream)
        await pipe.open()
        pipe.attach(queue)
        assert pipe.room == PAGE
        queue._write(list(chunks), 0)
        left = sum(sizes) - taken
        if len(sizes) <= 1024:
            assert pipe.transport.get_write_buffer_size() == left
        assert queue._transport_waits == bool(left)
        assert await pipe.read(sum(sizes)) == b"".join(chunks)
        queue._write([b"behind"], pipe.transport.get_write_buffer_size())
        assert await pipe.read(6) == b"behind"
        assert not queue._transport_waits
        pipe.close()
        await asyncio.sleep(0)

    run(loop_kind, main())


@linux
@every_transport
def test_nothing_overtakes_what_the_transport_holds(stream: ModuleType, loop_kind: str) -> None:
    async def main() -> None:
        pipe, queue = Pipe(), bare(stream)
        await pipe.open()
        pipe.attach(queue)
        sizes = random.Random(1)
        expected = received = b""
        for seed in range(400):
            chunks = [
                patterned(sizes.choice([1, 3, 100, 4095, 9000]), seed * 10 + i) for i in range(sizes.randint(1, 3))
            ]
            expected += b"".join(chunks)
            queue._write(chunks, pipe.transport.get_write_buffer_size())
            for _ in range(sizes.randint(0, 3)):
                with suppress(BlockingIOError):
                    received += os.read(pipe._reading, sizes.choice([1, 1000, 65536]))
                await asyncio.sleep(0)
        received += await pipe.read(len(expected) - len(received))
        assert received == expected
        pipe.close()
        await asyncio.sleep(0)

    run(loop_kind, main())


def read_slowly(reader: sockets.socket, size: int, into: list[bytes]) -> None:
    """Read so many bytes, in odd pieces: for a thread, while the loop does other things."""
    pieces = random.Random(2)
    while size > 0:
        data = reader.recv(pieces.choice([1, 77, 4096, 100_000]))
        assert data
        into.append(data)
        size -= len(data)


@every_transport
@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_a_small_send_buffer(stream: ModuleType, loop_kind: str, family: str) -> None:
    """8 MiB in odd sizes, through a socket that takes little at a time, to a reader at odds with them."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        here, there = socket_pair(family)
        here.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, 4096)
        make = loop.create_connection if family == "tcp" else loop.create_unix_connection
        transport, _ = await make(asyncio.Protocol, sock=here)
        queue = bare(stream)
        queue._transport, queue._descriptor = transport, descriptor_of(transport)
        assert queue._descriptor == here.fileno() if loop_kind == "asyncio" else queue._descriptor >= 0
        sizes = random.Random(3)
        chunks: list[bytes] = []
        while sum(map(len, chunks)) < 8 * MIB:
            chunks.append(patterned(sizes.choice([1, 10, 1000, 16384, 65537, 300_000]), len(chunks)))
        received: list[bytes] = []
        reading = threading.Thread(target=read_slowly, args=(there, sum(map(len, chunks)), received))
        reading.start()
        position = 0
        while position < len(chunks):
            number = sizes.randint(1, 4)
            queue._write(chunks[position : position + number], transport.get_write_buffer_size())
            position += number
            await asyncio.sleep(0)
        await until(lambda: not reading.is_alive())
        assert b"".join(received) == b"".join(chunks)
        there.close()
        transport.abort()
        await asyncio.sleep(0)

    run(loop_kind, main())


def socket_pair(family: str) -> tuple[sockets.socket, sockets.socket]:
    if family == "unix":
        here, there = sockets.socketpair()
    else:
        with sockets.create_server(("127.0.0.1", 0)) as listener:
            here = sockets.create_connection(listener.getsockname())
            there, _ = listener.accept()
    here.setblocking(False)
    return here, there


@every_transport
@pytest.mark.parametrize("writes", [([b"one"], [b"two", b"three"]), ([b"%d" % number for number in range(20)],)])
def test_an_error_is_met_by_the_transport(
    stream: ModuleType, loop_kind: str, writes: Sequence[list[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    """Which ends the connection in its own way; no write raises, before or after, nor is anything logged."""

    class Ended(asyncio.Protocol):
        lost = False

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost = True

    async def main() -> None:
        here, there = socket_pair("unix")
        transport, protocol = await asyncio.get_running_loop().create_unix_connection(Ended, sock=here)
        queue = bare(stream)
        queue._transport, queue._descriptor = transport, descriptor_of(transport)
        there.close()
        for chunks in writes:
            queue._write(chunks, transport.get_write_buffer_size())
        await until(lambda: protocol.lost)
        assert transport.is_closing()

    run(loop_kind, main())
    assert not caplog.records


# -- Whose descriptor may be written to -------------------------------------------------------------------------------


@every_transport
@pytest.mark.parametrize("kind", ["tcp", "unix", "tls"])
def test_only_the_transports_of_plain_sockets_are_passed_by(loop_kind: str, kind: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = str(tmp_path / "socket")
    options: dict[str, dict[str, Any]] = {"unix": {"path": path}, "tls": {"ssl": server_tls()}}

    def look(socket: Socket) -> None:
        seen.append((socket._descriptor, socket.get_extra_info("socket").fileno()))

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_handshake(request, socket)
        look(socket)
        async for message in get_messages_factory(socket)():
            if message.opcode == Opcode.TEXT:
                send_factory(socket)(prepare_websocket_frame(message.payload))

    async def main() -> None:
        if kind == "unix":
            async with serve_unix(handler, path):
                _, socket = await connect("ws://localhost/", path=path)
                await talk(socket)
            return
        async with serving(handler, **options.get(kind, {})) as server:
            scheme, tls = ("wss", client_tls()) if kind == "tls" else ("ws", None)
            _, socket = await connect(f"{scheme}://127.0.0.1:{server.port}/", ssl=tls)
            await talk(socket)

    async def talk(socket: Socket) -> None:
        look(socket)
        send = send_factory(socket)
        send(prepare_websocket_frame(b"hello", opcode=Opcode.TEXT, mask_key=True))
        assert (await anext(get_messages_factory(socket)())).payload == b"hello"
        await socket.finish()

    run(loop_kind, main())
    assert len(seen) == 2
    for descriptor, own in seen:
        assert descriptor == (NO_DESCRIPTOR if kind == "tls" else own)


def serve_unix(handler: Handler, path: str) -> Any:
    return serve(handler, path=path)


@linux
@every_transport
def test_a_transport_of_another_kind_is_not_passed_by(loop_kind: str) -> None:
    class Other(asyncio.Transport):
        pass

    async def main() -> None:
        pipe = Pipe()
        await pipe.open()
        for transport in (Other(), pipe.transport):
            assert descriptor_of(transport) == NO_DESCRIPTOR  # type: ignore[arg-type]
        pipe.close()
        await asyncio.sleep(0)

    run(loop_kind, main())


# -- On a connection --------------------------------------------------------------------------------------------------


ODD = [1, 5, 125, 126, 1000, 16383, 16384, 16385, 65536, 300_001]


@both_loops
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("awaits", [False, True])
def test_every_byte_in_its_order_to_a_reader_that_pauses(loop_kind: str, tls: bool, awaits: bool) -> None:
    """8 MiB: part of it is written directly, part of it waits in the transport; with TLS, nothing is direct."""
    sizes = random.Random(4)
    payloads: list[bytes] = []
    while sum(map(len, payloads)) < 8 * MIB:
        payloads.append(patterned(sizes.choice(ODD), len(payloads)))

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages, send, send_message = (
            get_messages_factory(socket),
            send_factory(socket),
            send_message_factory(socket),
        )
        send_handshake(request, socket)
        assert (socket._descriptor == NO_DESCRIPTOR) == tls
        for i, payload in enumerate(payloads):
            frame = prepare_websocket_frame(payload, opcode=Opcode.BINARY)
            sent = send(frame) if i % 2 else send_message(payload)
            if awaits:
                await sent
            elif i % 5 == 0:
                await asyncio.sleep(0)
        async for _ in get_messages():
            pass

    async def main() -> None:
        async with serving(handler, **({"ssl": server_tls()} if tls else {})) as server:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", server.port, ssl=client_tls() if tls else None, limit=65536
            )
            raw = RawClient(reader, writer)
            await raw.upgrade()
            for i, payload in enumerate(payloads):
                assert (await raw.read_frame()).payload == payload
                if i % 20 == 0:
                    await asyncio.sleep(0.001)
            await raw.send(masked_close(1000))
            assert await raw.read_close() == (1000, "")
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    run(loop_kind, main())


@both_loops
def test_a_peer_that_resets_in_the_middle(loop_kind: str) -> None:
    ended: list[BaseException] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages, send = get_messages_factory(socket), send_factory(socket)
        send_handshake(request, socket)
        try:
            while True:
                for size in (10, 20_000, 100_000):
                    await send(prepare_websocket_frame(bytes(size)))
                await asyncio.sleep(0)
        except ConnectionLost as error:
            ended.append(error)
        with pytest.raises(ConnectionLost):
            await anext(get_messages())
        with pytest.raises(ConnectionLost):
            send(prepare_websocket_frame(b"late"))

    async def client(raw: RawClient) -> None:
        for _ in range(10):
            await raw.read_frame()
        raw.reset()
        await until(lambda: bool(ended))

    run_pair(loop_kind, handler, client)


# -- In which turn ----------------------------------------------------------------------------------------------------


@both_loops
def test_what_a_task_sends_before_it_waits_for_something_else_leaves_at_once(loop_kind: str) -> None:
    """In the turn in which the message came: what stands in the queue of the loop comes later."""
    waiting: list[int] = []
    answered = asyncio.Event()
    served: list[Socket] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        served.append(socket)
        get_messages, send = get_messages_factory(socket), send_factory(socket)
        await send_handshake(request, socket)
        loop = asyncio.get_running_loop()
        async for message in get_messages():
            if message.opcode == Opcode.TEXT:
                loop.call_soon(lambda: waiting.append(socket.queued))
                send(prepare_websocket_frame(message.payload))
                send(prepare_websocket_frame(b"and more"))
                await answered.wait()
                answered.clear()

    async def client(raw: RawClient) -> None:
        for i in range(10):
            await until(lambda: served[0]._readable.is_awaited)
            await raw.send(masked(Opcode.TEXT, b"%d" % i))
            expected = prepare_websocket_frame(b"%d" % i) + prepare_websocket_frame(b"and more")
            assert await raw.reader.read(65536) == expected
            answered.set()
        await raw.send(masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)
    assert waiting == [0] * 10


@both_loops
def test_what_another_task_sends_leaves_at_the_end_of_the_turn(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages, send = get_messages_factory(socket), send_factory(socket)
        await send_handshake(request, socket)
        reading = asyncio.ensure_future(anext(get_messages()))
        await asyncio.sleep(0)
        for _ in range(10):
            for size in (1, 2, 3):
                send(prepare_websocket_frame(b"x" * size))
            assert socket.queued == 12
            await asyncio.sleep(0)
            assert socket.queued == 0
        assert (await reading).payload == b"done"

    async def client(raw: RawClient) -> None:
        expected = b"".join(prepare_websocket_frame(b"x" * size) for size in (1, 2, 3))
        assert await raw.reader.readexactly(len(expected) * 10) == expected * 10
        await raw.send(masked(Opcode.TEXT, b"done"), masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)


@both_loops
def test_must_wait_follows_the_transport(loop_kind: str) -> None:
    states: list[bool] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages, send = get_messages_factory(socket), send_factory(socket)
        await send_handshake(request, socket)
        await asyncio.sleep(0)
        for _ in range(3):
            assert not socket.must_wait
            while not socket.must_wait or not socket._writing_paused:
                send(prepare_websocket_frame(bytes(100_000)))
                await asyncio.sleep(0)
            states.append(socket.must_wait)
            await send(prepare_websocket_frame(b"last"))
            assert not socket._writing_paused
            await until(lambda: not socket.buffered)
            await send(prepare_websocket_frame(b""))
        async for _ in get_messages():
            pass

    async def client(raw: RawClient) -> None:
        for i in range(3):
            await until(lambda i=i: len(states) > i)  # type: ignore[misc]
            while (await raw.read_frame()).payload != b"last":
                pass
        await raw.send(masked_close(1000))
        while (await raw.read_frame()).opcode != Opcode.CLOSE:
            pass

    run_pair(loop_kind, handler, client)
    assert states == [True] * 3


# -- What goes nowhere ------------------------------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("how", ["abort", "close", "peer's EOF", "peer's reset"])
def test_what_is_sent_too_late_goes_nowhere(loop_kind: str, how: str) -> None:
    """And hurts nobody: not the sender beyond ConnectionLost, not the loop, not whoever has the descriptor next."""
    done = asyncio.Event()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages, send, send_message = (
            get_messages_factory(socket),
            send_factory(socket),
            send_message_factory(socket),
        )
        await send_handshake(request, socket)
        await anext(get_messages())
        if how == "abort":
            socket.abort()
        elif how == "close":
            socket.close(4000)
        else:
            with pytest.raises(ConnectionLost):
                await anext(get_messages())
        for _ in range(2):
            for size in (1, 20_000, 200_000):
                with suppress(ConnectionLost):
                    send(prepare_websocket_frame(bytes(size)))
                with suppress(ConnectionLost):
                    send_message(bytes(size))
            socket.flush()
            await asyncio.sleep(0)
            socket.abort()
            await socket.wait_closed()
        assert socket.buffered == 0
        done.set()

    async def client(raw: RawClient) -> None:
        await raw.send(masked(Opcode.TEXT, b"go"))
        if how == "peer's EOF":
            raw.writer.write_eof()
        elif how == "peer's reset":
            raw.reset()
        await done.wait()

    run_pair(loop_kind, handler, client)


# -- Cancelling -------------------------------------------------------------------------------------------------------


def receive(socket: Socket, *frames: bytes) -> None:
    """What the transport does when it has received something."""
    data = b"".join(frames)
    socket.get_buffer(-1)[: len(data)] = data
    socket.buffer_updated(len(data))


def texts(*payloads: bytes) -> bytes:
    return b"".join(masked(Opcode.TEXT, payload) for payload in payloads)


@both_loops
@pytest.mark.parametrize("order", ["message, cancel", "cancel, message", "message, cancel, message", "cancel"])
@pytest.mark.parametrize("in_task", [False, True])
def test_a_message_in_the_turn_of_its_cancellation(loop_kind: str, order: str, in_task: bool) -> None:
    """Whichever comes first, and whether another task runs then or none: it is handed out once."""
    number = 0

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        nonlocal number
        get_messages = get_messages_factory(socket)
        await send_handshake(request, socket)
        seen: list[bytes] = []
        for _ in range(50):
            step = asyncio.ensure_future(anext(get_messages()))
            await asyncio.sleep(0)

            def act(step: asyncio.Future[Message] = step) -> None:
                nonlocal number
                for action in order.split(", "):
                    if action == "cancel":
                        step.cancel()
                    else:
                        receive(socket, texts(b"%d" % number))
                        number += 1

            if in_task:
                act()
            else:
                asyncio.get_running_loop().call_soon(act)
                await asyncio.sleep(0)
            with suppress(asyncio.CancelledError):
                seen.append((await step).payload)
        go_on.set()
        async for message in get_messages():
            seen.append(message.payload)
        assert seen == [*(b"%d" % i for i in range(number)), b"last", b"\x03\xe8"]

    go_on = asyncio.Event()

    async def client(raw: RawClient) -> None:
        await go_on.wait()
        await raw.send(texts(b"last"), masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)
    assert number == 50 * order.count("message")


@both_loops
@pytest.mark.parametrize("cancelled", [False, True])
def test_two_tasks_may_not_wait(loop_kind: str, cancelled: bool) -> None:
    """Nor may the second one while the first one is to learn yet that it was cancelled."""

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        await send_handshake(request, socket)
        step = asyncio.ensure_future(anext(get_messages()))
        await asyncio.sleep(0)
        if cancelled:
            step.cancel()
        with pytest.raises(RuntimeError, match="another task"):
            await anext(get_messages())
        if cancelled:
            with pytest.raises(asyncio.CancelledError):
                await step
            step = asyncio.ensure_future(anext(get_messages()))
        ready.set()
        assert (await step).payload == b"one"

    ready = asyncio.Event()

    async def client(raw: RawClient) -> None:
        await ready.wait()
        await raw.send(texts(b"one"), masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)


@both_loops
def test_cancelling_whoever_waits_for_a_slow_peer(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages, send = get_messages_factory(socket), send_factory(socket)
        await send_handshake(request, socket)
        filler = bytes(10 * MIB)
        send(prepare_websocket_frame(filler))
        for i in range(10):
            sending = asyncio.ensure_future(send_and_wait(send, b"%d" % i))
            for _ in range(i % 3 + 1):
                await asyncio.sleep(0)
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending
        go_on.set()
        async for _ in get_messages():
            pass

    async def send_and_wait(send: Callable[[bytes], Awaitable[None]], payload: bytes) -> None:
        await send(prepare_websocket_frame(payload))

    go_on = asyncio.Event()

    async def client(raw: RawClient) -> None:
        await go_on.wait()
        assert len((await raw.read_frame()).payload) == 10 * MIB
        assert [(await raw.read_frame()).payload for _ in range(10)] == [b"%d" % i for i in range(10)]
        await raw.send(masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)


# -- The end from inside ----------------------------------------------------------------------------------------------


async def close(socket: Socket) -> None:
    socket.close(4000, "enough")


async def abort(socket: Socket) -> None:
    socket.abort()


async def finish(socket: Socket) -> None:
    await socket.finish(4000, "enough")


async def raise_something(socket: Socket) -> None:
    raise ZeroDivisionError


@both_loops
@pytest.mark.parametrize("end", [close, abort, finish, raise_something])
@pytest.mark.parametrize("ping", [False, True])
def test_a_handler_that_ends_the_connection_in_the_turn_of_its_messages(
    loop_kind: str, end: Callable[[Socket], Awaitable[None]], ping: bool
) -> None:
    seen: list[bytes] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages, send = get_messages_factory(socket, auto_pong=True), send_factory(socket)
        await send_handshake(request, socket)
        with suppress(ConnectionLost, ZeroDivisionError):
            async for message in get_messages():
                seen.append(message.payload)
                if message.payload == b"2":
                    send(prepare_websocket_frame(b"answer"))
                    await end(socket)
        if end is raise_something:
            socket.close(4000, "enough")

    async def client(raw: RawClient) -> None:
        await raw.send(texts(b"1"), masked(Opcode.PING, b"p") if ping else b"", texts(b"2", b"3"))
        if end is abort:
            with suppress(ConnectionError):
                await raw.read_until_eof()
            return
        pongs = [await raw.read_frame()] if ping else []
        assert [frame.payload for frame in pongs] == [b"p"] * ping
        assert (await raw.read_frame()).payload == b"answer"
        assert await raw.read_close() == (4000, "enough")
        await raw.send(texts(b"crossing"), masked_close(4000))
        assert await raw.read_frames() == []

    run_pair(loop_kind, handler, client)
    assert seen[: 2 + ping] == [b"1", *([b"p"] if ping else []), b"2"]


@every_transport
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_the_end_of_the_program_from_inside_a_handler(loop_kind: str, kind: type[BaseException]) -> None:
    """Raised in the turn in which a message came, as from any other task: the loop stops with it."""
    loop = TRANSPORTS[loop_kind]()
    loop.set_exception_handler(lambda *_: None)

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        await send_handshake(request, socket)
        async for _ in get_messages():
            raise kind

    async def main() -> None:
        async with serving(handler) as server, upgraded(server.port) as raw:
            await raw.send(texts(b"go"))
            await asyncio.sleep(TIMEOUT)

    try:
        with pytest.raises(kind):
            loop.run_until_complete(main())
    finally:
        loop.run_until_complete(_cancel_others())
        loop.close()


# -- Whole messages ---------------------------------------------------------------------------------------------------


@both_loops
def test_a_long_message_reaches_the_write_uncopied(loop_kind: str) -> None:
    payload = patterned(100_000)

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages, send_message = get_messages_factory(socket), send_message_factory(socket)
        await send_handshake(request, socket)
        await asyncio.sleep(0)
        socket._flush_is_due = True  # nothing leaves before it is looked at
        socket._writing_paused = True
        send_message(b"short")
        send_message(payload)
        frames = socket._take_frames()
        assert [len(frame) for frame in frames] == [2 + 5 + 10, 100_000]
        assert frames[1] is payload
        for frame in frames:
            socket.enqueue(frame)
        socket._flush_is_due = False
        socket.resume_writing()
        async for _ in get_messages():
            pass

    async def client(raw: RawClient) -> None:
        assert [(await raw.read_frame()).payload for _ in range(2)] == [b"short", payload]
        await raw.send(masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)


MESSAGES: list[str | bytes] = [
    "text",
    b"data",
    "x" * 20_000,
    patterned(100_000),
    "é" * 40_000,
    b"",
    "",
    patterned(16384),
]


async def send_all(socket: Socket) -> None:
    """Messages, frames between them, and a message in chunks that others have to wait for."""
    send, send_message, send_chunks = send_factory(socket), send_message_factory(socket), send_chunks_factory(socket)
    mask: Literal[True] | None = True if socket.role == "client" else None
    for message in MESSAGES:
        send_message(message)
        send(prepare_websocket_frame(b"between", mask_key=mask))

    async def chunks() -> Any:
        for message in MESSAGES:
            if isinstance(message, bytes) and message:
                yield message
                await asyncio.sleep(0)

    sending = asyncio.ensure_future(send_chunks(chunks()))
    await asyncio.sleep(0)
    for message in MESSAGES:
        send_message(message)
    send(prepare_websocket_frame(b"between", opcode=Opcode.PING, mask_key=mask))
    await sending


def expected_messages() -> Iterable[tuple[int, bytes]]:
    for message in MESSAGES:
        yield encoded(message)
        yield Opcode.BINARY, b"between"
    yield Opcode.BINARY, b"".join(message for message in MESSAGES if isinstance(message, bytes))
    for message in MESSAGES:
        yield encoded(message)


def encoded(message: str | bytes) -> tuple[int, bytes]:
    return (Opcode.TEXT, message.encode()) if isinstance(message, str) else (Opcode.BINARY, message)


@both_loops
@pytest.mark.parametrize("sender", ["server", "client"])
def test_messages_keep_their_order_among_frames_and_chunks(loop_kind: str, sender: str) -> None:
    """Of a server, and of a client, who masks them: the peer insists on either."""
    received: list[tuple[int, bytes]] = []

    async def collect(socket: Socket) -> None:
        async for message in get_messages_factory(socket)():
            if message.opcode not in (Opcode.PING, Opcode.PONG):
                received.append((message.opcode, message.payload))

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_handshake(request, socket)
        if sender == "server":
            await send_all(socket)
            socket.close()
        await collect(socket)

    async def main() -> None:
        async with serving(handler) as server:
            _, socket = await connect(f"ws://127.0.0.1:{server.port}/")
            if sender == "client":
                await send_all(socket)
                socket.close()
            await collect(socket)
            await socket.wait_closed()

    run(loop_kind, main())
    assert [each for each in received if each[0] != Opcode.CLOSE] == list(expected_messages())


@both_loops
@pytest.mark.parametrize("size", [0, 20_000])
def test_the_text_of_a_message_is_checked(loop_kind: str, size: int) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_message = send_message_factory(socket)
        send_handshake(request, socket)
        with pytest.raises(ValueError, match="UTF-8"):
            send_message(b"x" * size + b"\xff", is_utf8=True)
        with pytest.raises(ValueError, match="surrogates"):
            send_message("x" * size + "\ud800")
        send_message(b"x" * size + "é".encode(), is_utf8=True)
        assert socket.counters.messages_sent == 1

    async def client(raw: RawClient) -> None:
        frame = await raw.read_frame()
        assert (frame.opcode, frame.payload) == (Opcode.TEXT, b"x" * size + "é".encode())
        await raw.send(masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)


@both_loops
@pytest.mark.parametrize("make", [Connection, Seeing])
def test_a_connection_of_ones_own_sees_every_frame(loop_kind: str, make: type[Connection]) -> None:
    connection = make(role="server")

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        socket.use(connection)
        get_messages, send = get_messages_factory(socket), send_factory(socket)
        send_handshake(request, socket)
        async for message in get_messages():
            if message.opcode == Opcode.TEXT:
                send(prepare_websocket_frame(message.payload))

    async def client(raw: RawClient) -> None:
        await raw.send(texts(b"a", b"b"), masked_close(1000))
        assert [frame.payload for frame in await raw.read_frames()] == [b"a", b"b", b"\x03\xe8"]

    run_pair(loop_kind, handler, client)
    assert (connection.counters.messages_sent, connection.counters.frames_sent) == (2, 3)
    if isinstance(connection, Seeing):
        assert connection.seen == [*map(prepare_websocket_frame, (b"a", b"b")), b"\x88\x02\x03\xe8"]


@both_loops
def test_what_send_returns_is_awaitable_in_every_way(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send = send_factory(socket)
        sent = send_handshake(request, socket)
        await sent
        await sent  # again: there is nothing to wait for
        frame = prepare_websocket_frame(b"x")
        results: list[object] = [*await asyncio.gather(send(frame), asyncio.wait_for(send(frame), 60))]
        results.append(await asyncio.gather(asyncio.ensure_future(send(frame))))
        assert results == [None, None, [None]]

    async def client(raw: RawClient) -> None:
        await raw.send(masked_close(1000))
        assert [frame.payload for frame in await raw.read_frames()] == [b"x", b"x", b"x", b"\x03\xe8"]

    run_pair(loop_kind, handler, client)


@both_loops
def test_what_waits_for_the_reader_is_bounded(loop_kind: str) -> None:
    """The messages that nobody takes, by the size of what came over the wire."""
    sockets_seen: list[Socket] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        sockets_seen.append(socket)
        get_messages = get_messages_factory(socket)
        send_handshake(request, socket)
        assert (await anext(get_messages())).payload == b""
        await go_on.wait()
        number = 0
        async for message in get_messages():
            number += message.opcode == Opcode.BINARY
        assert number == 3999

    go_on = asyncio.Event()

    async def client(raw: RawClient) -> None:
        raw.writer.write(masked(Opcode.BINARY, b"") + masked(Opcode.BINARY, b"x" * 1000) * 3999)
        await until(lambda: bool(sockets_seen))
        held = await settled(lambda: sockets_seen[0]._undelivered)
        assert 64 * 1024 < held < 64 * 1024 + 300 * 1024
        go_on.set()
        await raw.send(masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)
