"""Messages in chunks, both ways: what goes over the wire, whose turn it is, and every way in which it may end."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from wslowlevel import (
    Chunk,
    ConnectionLost,
    Frame,
    Opcode,
    PayloadTooBig,
    PerMessageDeflate,
    ProtocolError,
    Reason,
    Request,
    Socket,
    connect,
    encode_header,
    get_chunks_factory,
    get_messages_factory,
    prepare_websocket_frame,
    read_request,
    send_chunks_factory,
    send_factory,
    send_handshake,
    send_message_factory,
)

from .memory import counted, counts_memory
from .servers import (
    RawClient,
    close_of,
    connecting,
    every_transport,
    masked,
    masked_close,
    run,
    serving,
    until,
    upgraded,
)
from .test_pipeline import joined
from .test_socket import run_pair, settled

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Piece = Any
"""What a user may give for a chunk, right or wrong."""

KIB = 1024
MIB = 1024 * 1024

UNFINISHED = (1011, "a message could not be finished")
"""The Close frame that follows half a message."""


async def one_by_one(pieces: Iterable[Piece]) -> AsyncIterator[Piece]:
    """An async iterable that suspends before each piece."""
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


class Gate:
    """An async iterable whose pieces come when a test says so.

    Attributes:
        asked: how many pieces were asked for.
        closed: whether it was told that nobody asks for more.
    """

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[Piece] = asyncio.Queue()
        self.asked = 0
        self.closed = False

    def put(self, *pieces: Piece) -> None:
        """Let these come; None is the end, an exception is raised."""
        for piece in pieces:
            self._pieces.put_nowait(piece)

    async def __aiter__(self) -> AsyncIterator[Piece]:
        try:
            while True:
                self.asked += 1
                piece = await self._pieces.get()
                if piece is None:
                    return
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            self.closed = True


def seen(frames: Iterable[Frame]) -> list[tuple[int, bytes, int]]:
    return [(frame.opcode, frame.payload, frame.fin) for frame in frames]


async def read_until_close(raw: RawClient) -> list[Frame]:
    """Every frame up to the Close frame, which is answered."""
    frames = [await raw.read_frame()]
    while frames[-1].opcode != Opcode.CLOSE:
        frames.append(await raw.read_frame())
    await raw.send(masked(Opcode.CLOSE, frames[-1].payload))
    return frames


# -- What goes over the wire ------------------------------------------------------------------------------------------

TEXT, BINARY, MORE = Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION

STREAMS: dict[str, tuple[list[Piece], bool, list[tuple[int, bytes, int]]]] = {
    # The chunks, whether bytes are text, and the frames.
    "nothing": ([], False, [(BINARY, b"", 1)]),
    "no text": ([], True, [(TEXT, b"", 1)]),
    "one": ([b"a"], False, [(BINARY, b"a", 0), (MORE, b"", 1)]),
    "several": ([b"a", b"bc", b"d"], False, [(BINARY, b"a", 0), (MORE, b"bc", 0), (MORE, b"d", 0), (MORE, b"", 1)]),
    "str": (["a", "ü"], False, [(TEXT, b"a", 0), (MORE, "ü".encode(), 0), (MORE, b"", 1)]),
    "str that is said to be text": (["a"], True, [(TEXT, b"a", 0), (MORE, b"", 1)]),
    "text cut inside a character": (
        [b"a\xe2", b"\x82", b"\xac"],
        True,
        [(TEXT, b"a\xe2", 0), (MORE, b"\x82", 0), (MORE, b"\xac", 0), (MORE, b"", 1)],
    ),
    "empty chunks": ([b"", b"a", b"", b"b", b""], False, [(BINARY, b"a", 0), (MORE, b"b", 0), (MORE, b"", 1)]),
    "empty str": (["", ""], False, [(TEXT, b"", 1)]),
    "empty bytes": ([b""], False, [(BINARY, b"", 1)]),
    "buffers": (
        [bytearray(b"a"), memoryview(b"bcd")[::2], array("H", [0x6161])],
        False,
        [(BINARY, b"a", 0), (MORE, b"bd", 0), (MORE, b"aa", 0), (MORE, b"", 1)],
    ),
    "str and bytes that are text": (["a", b"b"], True, [(TEXT, b"a", 0), (MORE, b"b", 0), (MORE, b"", 1)]),
}

ITERABLES: dict[str, Callable[[list[Piece]], Any]] = {
    "list": list,
    "iterator": iter,
    "async generator": one_by_one,
}
each_iterable = pytest.mark.parametrize("iterable", ITERABLES.values(), ids=ITERABLES)


@every_transport
@each_iterable
@pytest.mark.parametrize(("pieces", "is_utf8", "frames"), STREAMS.values(), ids=STREAMS)
def test_each_chunk_is_a_fragment(
    loop_kind: str,
    iterable: Callable[[list[Piece]], Any],
    pieces: list[Piece],
    is_utf8: bool,
    frames: list[tuple[int, bytes, int]],
) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_chunks = send_chunks_factory(socket)
        send_handshake(request, socket)
        await send_chunks(iterable(pieces), is_utf8=is_utf8)
        assert socket.counters.messages_sent == 1
        assert socket.counters.frames_sent == len(frames)

    async def client(raw: RawClient) -> None:
        assert seen((await read_until_close(raw))[:-1]) == frames

    run_pair(loop_kind, handler, client)


@every_transport
def test_a_client_masks_each_fragment_and_receives_chunks(loop_kind: str) -> None:
    sent = [b"%d" % i * 1000 for i in range(100)]

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_chunks, send_chunks = get_chunks_factory(socket), send_chunks_factory(socket)
        send_handshake(request, socket)
        got: list[Chunk] = []
        async for chunk in get_chunks():
            got.append(chunk)
            if chunk.message_finished:
                break
        assert joined(got) == [(BINARY, b"".join(sent))]
        assert sum(chunk.frame_started for chunk in got) == 101
        await send_chunks(["und ", "zurück"])

    async def main() -> None:
        async with serving(handler) as server:
            _, socket = await connect(f"ws://127.0.0.1:{server.port}")
            async with socket:
                await send_chunks_factory(socket)(sent)
                get_messages = get_messages_factory(socket)
                assert (await anext(get_messages())).text == "und zurück"

    run(loop_kind, main())


@every_transport
@pytest.mark.parametrize("extensions", [[], [PerMessageDeflate()]], ids=["plain", "deflate"])
def test_chunks_leave_when_they_come(loop_kind: str, extensions: list[PerMessageDeflate]) -> None:
    """And can be read when they are there, compressed ones too."""
    gate = Gate()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_chunks = send_chunks_factory(socket)
        send_handshake(request, socket, extensions=extensions)
        await send_chunks(gate)

    async def main() -> None:
        async with serving(handler) as server:
            _, socket = await connect(f"ws://127.0.0.1:{server.port}", extensions=extensions)
            async with socket:
                get_chunks = get_chunks_factory(socket)
                for started in (1, 0, 0):
                    gate.put("piece")
                    chunk = await anext(get_chunks())
                    assert (chunk.opcode, chunk.payload, chunk.message_started) == (TEXT, b"piece", started)
                gate.put(None)
                assert (await anext(get_chunks())).message_finished

    run(loop_kind, main())


# -- Mistakes ---------------------------------------------------------------------------------------------------------


class Mine(Exception):
    """What only the test raises."""

    def __init__(self) -> None:
        super().__init__("mine")


def raising(*pieces: Piece) -> Iterator[Piece]:
    yield from pieces
    raise Mine


MISTAKES: dict[str, tuple[Callable[[], Any], bool, type[Exception], str]] = {
    "no iterable": (lambda: 5, False, TypeError, "'int' object is not iterable"),
    "a number": (lambda: [1], False, TypeError, "payload must be str or bytes-like, not int"),
    "None": (lambda: [None], False, TypeError, "payload must be str or bytes-like, not NoneType"),
    "bytes, of which the elements are numbers": (lambda: b"ab", False, TypeError, "not int"),
    "invalid UTF-8": (lambda: [b"", b"a\xff"], True, ValueError, "text message: invalid UTF-8 at byte 1"),
    "half a surrogate pair": (lambda: ["\ud800"], False, ValueError, "surrogates not allowed"),
    "its own": (raising, False, Mine, "mine"),
    "its own, after nothing": (lambda: raising("", ""), False, Mine, "mine"),
}

LATE_MISTAKES: dict[str, tuple[Callable[[], Any], bool, type[Exception], str]] = {
    "a number": (lambda: [b"first", 1], False, TypeError, "payload must be str or bytes-like, not int"),
    "bytes after str": (lambda: ["first", b"x"], False, TypeError, "must all be str, or all bytes-like"),
    "str after bytes": (lambda: [b"first", "x"], False, TypeError, "must all be str, or all bytes-like"),
    "invalid UTF-8": (lambda: [b"first", b"\xe2x"], True, ValueError, "text message: invalid UTF-8 at byte 6"),
    "its own": (lambda: raising(b"first"), False, Mine, "mine"),
}


@every_transport
@pytest.mark.parametrize(("chunks", "is_utf8", "kind", "text"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_before_the_first_fragment_changes_nothing(
    loop_kind: str, chunks: Callable[[], Any], is_utf8: bool, kind: type[Exception], text: str
) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_chunks, send_message = send_chunks_factory(socket), send_message_factory(socket)
        send_handshake(request, socket)
        sending = asyncio.ensure_future(send_chunks(chunks(), is_utf8=is_utf8))
        await asyncio.sleep(0)
        behind = send_message("behind")
        with pytest.raises(kind, match=text):
            await sending
        await behind
        await send_chunks(["usable"])

    async def client(raw: RawClient) -> None:
        frames = await read_until_close(raw)
        assert [frame.payload for frame in frames] == [b"behind", b"usable", b"", b"\x03\xe8"]

    run_pair(loop_kind, handler, client)


@every_transport
@pytest.mark.parametrize(("chunks", "is_utf8", "kind", "text"), LATE_MISTAKES.values(), ids=LATE_MISTAKES)
def test_a_mistake_amid_a_message_closes_the_connection(
    loop_kind: str, chunks: Callable[[], Any], is_utf8: bool, kind: type[Exception], text: str
) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_chunks, send_message = send_chunks_factory(socket), send_message_factory(socket)
        send_handshake(request, socket)
        with pytest.raises(kind, match=text):
            await send_chunks(chunks(), is_utf8=is_utf8)
        assert socket.sent == UNFINISHED
        with pytest.raises(ConnectionLost, match="sent 1011"):
            send_message("too late")
        with pytest.raises(ConnectionLost, match="sent 1011"):
            await send_chunks(["too late"])

    async def client(raw: RawClient) -> None:
        first, close = await read_until_close(raw)
        assert (first.payload, first.fin, close_of(close)) == (b"first", 0, UNFINISHED)

    run_pair(loop_kind, handler, client)


@every_transport
def test_text_that_ends_inside_a_character_closes_the_connection(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_chunks = send_chunks_factory(socket)
        send_handshake(request, socket)
        with pytest.raises(ValueError, match="text ends at byte 3 inside a UTF-8 character"):
            await send_chunks([b"a\xe2", b"\x82"], is_utf8=True)

    async def client(raw: RawClient) -> None:
        *frames, close = await read_until_close(raw)
        assert seen(frames) == [(TEXT, b"a\xe2", 0), (MORE, b"\x82", 0)]
        assert close_of(close) == UNFINISHED

    run_pair(loop_kind, handler, client)


@every_transport
def test_a_message_begun_by_hand_is_not_closed_by_a_refused_one(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send, send_chunks = send_factory(socket), send_chunks_factory(socket)
        send_handshake(request, socket)
        send(prepare_websocket_frame(b"by", fin=0))
        with pytest.raises(ValueError, match="is not finished"):
            await send_chunks([b"inside"])
        with pytest.raises(Mine):
            await send_chunks(raising())
        send(prepare_websocket_frame(b" hand", opcode=MORE))
        await send_chunks([b"now"])

    async def client(raw: RawClient) -> None:
        frames = await read_until_close(raw)
        assert [frame.payload for frame in frames] == [b"by", b" hand", b"now", b"", b"\x03\xe8"]

    run_pair(loop_kind, handler, client)


@every_transport
def test_nothing_is_sent_before_the_opening_handshake(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_chunks = send_chunks_factory(socket)
        with pytest.raises(RuntimeError, match="before the opening handshake"):
            await send_chunks([b"early"])
        send_handshake(request, socket)
        await send_chunks([b"in time"])

    async def client(raw: RawClient) -> None:
        assert [frame.payload for frame in await read_until_close(raw)] == [b"in time", b"", b"\x03\xe8"]

    run_pair(loop_kind, handler, client)


# -- Whose turn it is (RFC 6455 §5.4) ---------------------------------------------------------------------------------


@every_transport
def test_control_frames_pass_and_other_messages_wait_their_turn(loop_kind: str) -> None:
    gate = Gate()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send, send_message = send_factory(socket), send_message_factory(socket)
        send_chunks = send_chunks_factory(socket)
        send_handshake(request, socket)
        first = asyncio.ensure_future(send_chunks(gate))
        await until(lambda: gate.asked == 2)
        send(prepare_websocket_frame(b"1", is_utf8=True))
        await send(prepare_websocket_frame(b"pong", opcode=Opcode.PONG))
        send_message("2")
        third = asyncio.ensure_future(send_chunks(["3"]))
        await asyncio.sleep(0)
        socket.ping(b"ping")
        send(bytearray(prepare_websocket_frame(b"4", is_utf8=True)))
        fifth = asyncio.ensure_future(send_chunks(one_by_one(["5"])))
        await asyncio.sleep(0)
        last = send_message("6")
        assert socket.buffered > 0
        gate.put(b"chunk", None)
        await last
        assert first.done()
        assert third.done()
        assert fifth.done()
        await asyncio.gather(first, third, fifth)

    async def client(raw: RawClient) -> None:
        assert seen([await raw.read_frame()]) == [(BINARY, b"chunk", 0)]
        assert seen([await raw.read_frame() for _ in range(2)]) == [(10, b"pong", 1), (9, b"ping", 1)]
        frames = seen((await read_until_close(raw))[:-1])
        assert frames[:2] == [(MORE, b"chunk", 0), (MORE, b"", 1)]
        assert [payload for _, payload, _ in frames[2:] if payload] == [b"1", b"2", b"3", b"4", b"5", b"6"]

    gate.put(b"chunk")
    run_pair(loop_kind, handler, client)


@every_transport
def test_one_stream_after_the_other_lets_others_in_between(loop_kind: str) -> None:
    """Whoever streams without end does not keep its turn."""

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_chunks = send_chunks_factory(socket)
        send_handshake(request, socket)
        streams = 0

        async def on_and_on() -> None:
            nonlocal streams
            while True:
                await send_chunks([b"on", b"and on"])
                streams += 1

        async def once() -> None:
            before = streams
            await send_chunks([b"modest"])
            assert streams <= before + 2

        greedy = asyncio.create_task(on_and_on())
        await until(lambda: streams > 10)
        await asyncio.gather(*(once() for _ in range(3)))
        greedy.cancel()
        with suppress(asyncio.CancelledError):
            await greedy

    async def client(raw: RawClient) -> None:
        payloads = [frame.payload for frame in await read_until_close(raw)]
        assert payloads.count(b"modest") == 3

    run_pair(loop_kind, handler, client)


@every_transport
def test_awaiting_what_is_held_returns_after_the_stream(loop_kind: str) -> None:
    gate = Gate()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_message, send_chunks = send_message_factory(socket), send_chunks_factory(socket)
        send_handshake(request, socket)
        stream = asyncio.ensure_future(send_chunks(gate))
        await until(lambda: gate.asked == 2)

        async def wait(sent: Awaitable[None]) -> int:
            await sent
            return socket.counters.messages_sent

        held = [asyncio.create_task(wait(send_message(b"held" * i))) for i in range(3)]
        cancelled = asyncio.create_task(wait(send_message(b"nobody waits")))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not any(task.done() for task in held)
        cancelled.cancel()
        gate.put(b"2", None)
        assert await asyncio.gather(*held) == [5, 5, 5]
        assert stream.done()
        await stream

    async def client(raw: RawClient) -> None:
        payloads = [frame.payload for frame in await read_until_close(raw)]
        assert payloads == [b"1", b"2", b"", b"", b"held", b"heldheld", b"nobody waits", b"\x03\xe8"]

    gate.put(b"1")
    run_pair(loop_kind, handler, client)


@every_transport
def test_what_is_held_counts_as_buffered(loop_kind: str) -> None:
    gate = Gate()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_message, send_chunks = send_message_factory(socket), send_chunks_factory(socket)
        await send_handshake(request, socket)
        stream = asyncio.ensure_future(send_chunks(gate))
        await until(lambda: gate.asked == 1)
        before = socket.buffered
        for i in range(10):
            send_message(bytes(MIB))
            assert socket.buffered >= before + (i + 1) * MIB
        gate.put(None)
        await stream
        assert socket.buffered < 2 * MIB + 10 * MIB

    async def client(raw: RawClient) -> None:
        await read_until_close(raw)

    run_pair(loop_kind, handler, client)


ENDS: dict[str, Callable[[RawClient], object]] = {
    "reset": RawClient.reset,
    "eof": lambda raw: raw.writer.write_eof(),
}


@every_transport
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_what_is_held_fails_with_the_connection(loop_kind: str, end: Callable[[RawClient], object]) -> None:
    """Whoever awaits it is told; the others are not heard of (`run` would). The stream before it may go on waiting."""
    gates = [Gate() for _ in range(4)]
    set_up, told = asyncio.Event(), asyncio.Event()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages_factory(socket)
        send_message, send_chunks = send_message_factory(socket), send_chunks_factory(socket)
        send_handshake(request, socket)
        stream = asyncio.ensure_future(send_chunks(gates[0]))
        await until(lambda: gates[0].asked == 2)
        send_message("nobody awaits this")
        waiting = [send_message("somebody this"), send_chunks(gates[1]), send_message("this"), send_chunks(gates[2])]
        tasks = [asyncio.ensure_future(each) for each in waiting]
        await asyncio.sleep(0)
        set_up.set()
        for task in tasks:
            with pytest.raises(ConnectionLost, match="no Close frame was received or sent"):
                await task
        with pytest.raises(ConnectionLost):
            send_message("too late")
        with pytest.raises(ConnectionLost):
            socket.send(prepare_websocket_frame(b"too late"))
        with pytest.raises(ConnectionLost):
            await send_chunks(gates[3])
        assert not stream.done()
        gates[0].put(b"2")
        with pytest.raises(ConnectionLost):
            await stream
        assert [gate.asked for gate in gates] == [2, 0, 0, 0]
        told.set()

    async def client(raw: RawClient) -> None:
        assert (await raw.read_frame()).payload == b"1"
        await set_up.wait()
        end(raw)
        await told.wait()

    gates[0].put(b"1")
    run_pair(loop_kind, handler, client)


@every_transport
@pytest.mark.parametrize("seed", range(8))
def test_whatever_waits_and_is_cancelled_the_order_is_that_of_the_calls(loop_kind: str, seed: int) -> None:
    """Messages and streams at random, of which some are cancelled before their turn comes."""
    random = Random(seed)
    expected: list[bytes] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send, send_message = send_factory(socket), send_message_factory(socket)
        send_chunks = send_chunks_factory(socket)
        send_handshake(request, socket)
        gate = Gate()
        first = asyncio.ensure_future(send_chunks(gate))
        await until(lambda: gate.asked == 1)
        waiting: dict[bytes, asyncio.Future[None]] = {}
        streams: list[bytes] = []
        calls: list[Callable[[bytes], Awaitable[None]]] = [
            lambda name: send(prepare_websocket_frame(name)),
            send_message,
            lambda name: send_chunks(one_by_one([name[:1], name[1:]])),
        ]
        for i in range(60):
            name = b"%d" % i
            call = random.choice(calls)
            waiting[name] = asyncio.ensure_future(call(name))
            if call is calls[-1]:
                streams.append(name)
                await asyncio.sleep(0)
            if streams and random.random() < 0.3:
                waiting.pop(streams.pop(random.randrange(len(streams)))).cancel()
                for _ in range(random.randrange(3)):
                    await asyncio.sleep(0)
        expected.extend(waiting)
        assert not any(future.done() for future in waiting.values())
        gate.put(None)
        await asyncio.gather(first, *waiting.values())
        assert socket.counters.messages_sent == len(expected) + 1

    async def client(raw: RawClient) -> None:
        messages: list[bytes] = [b""]
        for frame in (await read_until_close(raw))[:-1]:
            messages[-1] += frame.payload
            if frame.fin:
                messages.append(b"")
        assert messages == [b"", *expected, b""]

    run_pair(loop_kind, handler, client)


@every_transport
def test_what_is_held_may_change_once_it_was_sent(loop_kind: str) -> None:
    gate = Gate()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send, send_message = send_factory(socket), send_message_factory(socket)
        send_handshake(request, socket)
        stream = asyncio.ensure_future(send_chunks_factory(socket)(gate))
        await until(lambda: gate.asked == 1)
        frame, payload, chunk = bytearray(prepare_websocket_frame(b"first")), bytearray(b"first"), bytearray(b"first")
        send(frame)
        send_message(payload)
        gate.put(chunk)
        await until(lambda: gate.asked == 2)
        frame[-5:] = payload[:] = chunk[:] = b"later"
        gate.put(None)
        await stream

    async def client(raw: RawClient) -> None:
        frames = await read_until_close(raw)
        assert [frame.payload for frame in frames[:-1]] == [b"first", b"", b"first", b"first"]

    run_pair(loop_kind, handler, client)


# -- Ends amid a message ----------------------------------------------------------------------------------------------


@every_transport
def test_a_stream_that_is_cancelled_before_its_first_fragment_leaves_no_trace(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_message, send_chunks = send_message_factory(socket), send_chunks_factory(socket)
        send_handshake(request, socket)
        gates = [Gate() for _ in range(3)]
        streams = [asyncio.ensure_future(send_chunks(gate)) for gate in gates]
        await until(lambda: gates[0].asked == 1)
        between = send_message("held")
        for stream in (streams[1], streams[0]):  # one waits for its turn, the other for its first chunk
            stream.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stream
        gates[2].put(b"third", None)
        await asyncio.gather(between, streams[2])
        assert socket.is_open
        assert [gate.asked for gate in gates] == [1, 0, 2]

    async def client(raw: RawClient) -> None:
        payloads = [frame.payload for frame in await read_until_close(raw)]
        assert sorted(payloads) == sorted([b"held", b"third", b"", b"\x03\xe8"])

    run_pair(loop_kind, handler, client)


@every_transport
def test_a_stream_that_is_cancelled_amid_its_message_closes_the_connection(loop_kind: str) -> None:
    gate = Gate()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_message, send_chunks = send_message_factory(socket), send_chunks_factory(socket)
        send_handshake(request, socket)
        stream = asyncio.ensure_future(send_chunks(gate))
        await until(lambda: gate.asked == 2)
        held, second = send_message("held"), asyncio.ensure_future(send_chunks(["second"]))
        stream.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stream
        for waiting in (held, second):
            with pytest.raises(ConnectionLost, match="sent 1011 'a message could not be finished'"):
                await waiting
        assert gate.closed

    async def client(raw: RawClient) -> None:
        first, close = await read_until_close(raw)
        assert (first.payload, close_of(close)) == (b"first", UNFINISHED)

    gate.put(b"first")
    run_pair(loop_kind, handler, client)


@every_transport
def test_a_stream_that_is_cancelled_while_the_peer_is_slow_closes_the_connection(loop_kind: str) -> None:
    """The Close frame waits behind what was sent, and reaches a peer that reads on."""
    blocked = asyncio.Event()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_chunks = send_chunks_factory(socket)
        await send_handshake(request, socket)
        asked = 0

        def endless() -> Iterator[bytes]:
            nonlocal asked
            while True:
                asked += 1
                yield bytes(MIB)

        stream = asyncio.ensure_future(send_chunks(endless()))
        await settled(lambda: asked)
        stream.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stream
        blocked.set()
        assert socket.sent == UNFINISHED

    async def client(raw: RawClient) -> None:
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await blocked.wait()
        raw.writer.transport.resume_reading()  # type: ignore[attr-defined]
        *frames, close = await read_until_close(raw)
        assert {(len(frame.payload), frame.fin) for frame in frames} == {(MIB, 0)}
        assert close_of(close) == UNFINISHED

    run_pair(loop_kind, handler, client)


@every_transport
@pytest.mark.parametrize("turns", range(12))
def test_cancelled_at_every_turn_of_the_loop_the_wire_stays_whole(loop_kind: str, turns: int) -> None:
    """Whatever has happened by then: the peer sees whole messages, and 1011 behind half a one."""

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_message, send_chunks = send_message_factory(socket), send_chunks_factory(socket)
        send_handshake(request, socket)
        stream = asyncio.ensure_future(send_chunks(one_by_one([b"1", b"2", b"3"])))
        for _ in range(turns):
            await asyncio.sleep(0)
        stream.cancel()
        with suppress(asyncio.CancelledError):
            await stream
        if socket.is_open:
            await send_message(b"after")
        else:
            assert socket.sent == UNFINISHED

    async def client(raw: RawClient) -> None:
        *frames, close = await read_until_close(raw)
        payloads = [frame.payload for frame in frames]
        if close_of(close) == UNFINISHED:
            assert payloads in ([b"1"], [b"1", b"2"], [b"1", b"2", b"3"])
        else:
            assert payloads in ([b"after"], [b"1", b"2", b"3", b"", b"after"])

    run_pair(loop_kind, handler, client)


@every_transport
def test_closing_ends_a_stream(loop_kind: str) -> None:
    gate = Gate()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_message, send_chunks = send_message_factory(socket), send_chunks_factory(socket)
        send_handshake(request, socket)
        stream = asyncio.ensure_future(send_chunks(gate))
        await until(lambda: gate.asked == 2)
        held = send_message("held")
        socket.close(4000, "enough")
        with pytest.raises(ConnectionLost, match="sent 4000 'enough'"):
            send_message("too late")
        gate.put(b"2")
        for waiting in (stream, held):
            with pytest.raises(ConnectionLost, match="sent 4000 'enough'"):
                await waiting
        assert gate.asked == 2

    async def client(raw: RawClient) -> None:
        first, close = await read_until_close(raw)
        assert (first.payload, close_of(close)) == (b"1", (4000, "enough"))

    gate.put(b"1")
    run_pair(loop_kind, handler, client)


@every_transport
def test_a_close_of_the_peer_ends_a_stream_when_it_is_answered(loop_kind: str) -> None:
    gate = Gate()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages, send_chunks = get_messages_factory(socket), send_chunks_factory(socket)
        send_handshake(request, socket)
        stream = asyncio.ensure_future(send_chunks(gate))
        await until(lambda: socket.received is not None)
        gate.put(b"2")
        await until(lambda: gate.asked == 3)
        assert [message.opcode async for message in get_messages()] == [Opcode.CLOSE]
        gate.put(b"3")
        with pytest.raises(ConnectionLost, match="received 4000 '', then sent 4000 ''"):
            await stream

    async def client(raw: RawClient) -> None:
        assert (await raw.read_frame()).payload == b"1"
        await raw.send(masked_close(4000))
        assert [frame.payload for frame in await raw.read_frames()] == [b"2", b"\x0f\xa0"]

    gate.put(b"1")
    run_pair(loop_kind, handler, client)


@every_transport
def test_a_stream_that_waits_for_a_slow_peer_is_told_when_it_goes(loop_kind: str) -> None:
    told = asyncio.Event()
    asked = 0

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_chunks = send_chunks_factory(socket)
        await send_handshake(request, socket)

        def endless() -> Iterator[bytes]:
            nonlocal asked
            while True:
                asked += 1
                yield bytes(64 * KIB)

        with pytest.raises(ConnectionLost):
            await send_chunks(endless())
        told.set()

    async def client(raw: RawClient) -> None:
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await settled(lambda: asked)
        raw.reset()
        await told.wait()

    run_pair(loop_kind, handler, client)


@every_transport
def test_no_chunk_is_asked_for_while_the_peer_does_not_read(loop_kind: str) -> None:
    size, count = 64 * KIB, 1000
    asked = held = 0

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        nonlocal asked, held
        send_chunks = send_chunks_factory(socket)
        await send_handshake(request, socket)

        async def many() -> AsyncIterator[bytes]:
            nonlocal asked, held
            for _ in range(count):
                asked += 1
                held = max(held, socket.buffered)
                yield bytes(size)

        await send_chunks(many())

    async def client(raw: RawClient) -> None:
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        stopped_at = await settled(lambda: asked)
        assert 0 < stopped_at < count // 2
        assert held < 4 * size
        raw.writer.transport.resume_reading()  # type: ignore[attr-defined]
        frames = await read_until_close(raw)
        assert [len(frame.payload) for frame in frames] == [*[size] * count, 0, 2]
        assert held < 4 * size

    run_pair(loop_kind, handler, client)


@every_transport
def test_streaming_without_end_does_not_hold_up_the_loop(loop_kind: str) -> None:
    """Neither large chunks nor short ones, nor such that are empty, and from an iterable that never waits."""

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_chunks = send_chunks_factory(socket)
        await send_handshake(request, socket)
        size = int(request.target[1:])

        def endless() -> Iterator[bytes]:
            while True:
                yield bytes(size)

        with suppress(ConnectionLost):
            await send_chunks(endless())

    async def main() -> None:
        for size in (1, 1000, 100_000):
            async with serving(handler) as server, upgraded(server.port, target=f"/{size}") as raw:
                for _ in range(100):
                    await raw.read_frame()
                await raw.send(masked_close(1000))
                raw.reset()

    run(loop_kind, main())


@every_transport
@pytest.mark.parametrize("end", ["exhausted", "raises", "cancelled", "closed"])
def test_what_becomes_of_the_iterable(loop_kind: str, end: str) -> None:
    """As behind any `async for`: one that ended, raised or was cancelled is finished, any other stands where it stood.

    No task is left to close anything.
    """

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_chunks = send_chunks_factory(socket)
        send_handshake(request, socket)
        gate = Gate()
        gate.put(b"1")
        iterator = aiter(gate)
        stream = asyncio.ensure_future(send_chunks(iterator))
        await until(lambda: gate.asked == 2)
        before = len(asyncio.all_tasks())
        if end == "cancelled":
            stream.cancel()
        elif end == "closed":
            socket.close(4000)
        gate.put({"exhausted": None, "raises": Mine()}.get(end, b"2"), b"3")
        with suppress(Mine, asyncio.CancelledError, ConnectionLost):
            await stream
        assert len(asyncio.all_tasks()) == before - 1
        assert gate.closed == (end != "closed")
        if end == "closed":
            assert await anext(iterator) == b"3"
            await iterator.aclose()  # type: ignore[attr-defined]

    async def client(raw: RawClient) -> None:
        await read_until_close(raw)

    run_pair(loop_kind, handler, client)


async def serving_pairs(
    serve_pair: Callable[[Pair], Awaitable[None]], client: Callable[[int], Awaitable[None]]
) -> None:
    """Run a handler of (StreamReader, StreamWriter) against a client, which gets the port."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve_pair((reader, writer))
            done.set_result(None)
        except BaseException as error:  # noqa: BLE001 - told by the test
            done.set_exception(error)
        finally:
            writer.close()

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
    async with server:
        await client(server.sockets[0].getsockname()[1])
        await done


@every_transport
@pytest.mark.parametrize(("last", "kind"), [(asyncio.CancelledError(), asyncio.CancelledError), (Mine(), Mine)])
def test_the_exception_that_ended_a_stream_is_the_one_that_is_told(
    loop_kind: str, last: BaseException, kind: type[BaseException]
) -> None:
    """Also where the connection has gone meanwhile, so that nobody can be told of half a message."""

    async def serve_pair(pair: Pair) -> None:
        gate = Gate()
        send_handshake(await read_request(pair[0]), pair)
        stream = asyncio.ensure_future(send_chunks_factory(pair)(gate))
        gate.put(b"first")
        await until(lambda: gate.asked == 2)
        pair[1].close()
        gate.put(last)
        with pytest.raises(kind):
            await stream

    async def client(port: int) -> None:
        async with upgraded(port) as raw:
            assert (await raw.read_frame()).payload == b"first"
            assert await raw.read_frames() == []

    run(loop_kind, serving_pairs(serve_pair, client))


# -- What is received in chunks ---------------------------------------------------------------------------------------


@every_transport
def test_chunks_are_handed_out_as_they_arrive(loop_kind: str) -> None:
    chunks: asyncio.Queue[Chunk] = asyncio.Queue()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_chunks = get_chunks_factory(socket, auto_pong=True)
        send_handshake(request, socket)
        async for chunk in get_chunks():
            chunks.put_nowait(chunk)

    async def client(raw: RawClient) -> None:
        message = masked(TEXT, b"Hello", fin=0) + masked(Opcode.PING, b"p") + masked(MORE, b" you")
        steps: list[tuple[bytes, list[Chunk]]] = [
            (message[:6], []),
            (message[6:8], [Chunk(TEXT, b"He", 1, 1, 0, 0, mask=1)]),
            (message[8:11], [Chunk(TEXT, b"llo", 0, 0, 1, 0, mask=1)]),
            (message[11:18], [Chunk(Opcode.PING, b"p", mask=1)]),
            (message[18:25], [Chunk(TEXT, b" ", 0, 1, 0, 0, mask=1)]),
            (message[25:], [Chunk(TEXT, b"you", 0, 0, 1, 1, mask=1)]),
            (masked(BINARY), [Chunk(BINARY, b"", mask=1)]),
            (masked_close(1000), [Chunk(Opcode.CLOSE, b"\x03\xe8", mask=1)]),
        ]
        for data, expected in steps:
            await raw.send(data)
            assert [await chunks.get() for _ in expected] == expected
            assert chunks.empty()
        assert seen(await raw.read_frames()) == [(Opcode.PONG, b"p", 1), (Opcode.CLOSE, b"\x03\xe8", 1)]

    run_pair(loop_kind, handler, client)


async def pour(raw: RawClient, size: int, fragment: int) -> None:
    """Send a message of zeros in fragments of so many bytes, a little at a time."""
    block = bytes(min(fragment, 256 * KIB))
    for start in range(0, size, fragment):
        opcode = BINARY if start == 0 else MORE
        header = encode_header(opcode, fragment, fin=int(start + fragment == size), mask_key=bytes(4))
        raw.writer.write(header)
        for _ in range(0, fragment, len(block)):
            raw.writer.write(block)
            await raw.writer.drain()


@counts_memory
@every_transport
@pytest.mark.parametrize("fragment", [64 * MIB, 16 * KIB], ids=["one frame", "4096 frames"])
def test_a_large_message_is_never_whole_in_memory(loop_kind: str, fragment: int) -> None:
    size = 64 * MIB
    peaks: list[int] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_chunks = get_chunks_factory(socket)
        send_handshake(request, socket)
        received = finished = 0
        with counted() as memory:
            async for chunk in get_chunks():
                received += len(chunk.payload)
                finished += chunk.frame_finished
        peaks.append(memory.peak)
        assert (received, finished) == (size + 2, size // fragment + 1)

    async def client(raw: RawClient) -> None:
        await pour(raw, size, fragment)
        await raw.send(masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)
    assert peaks[0] < 3 * MIB  # the sender is in this process too


@every_transport
def test_who_does_not_take_chunks_holds_the_sender_up(loop_kind: str) -> None:
    may_read = asyncio.Event()
    received: list[int] = []
    sockets: list[Socket] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        sockets.append(socket)
        get_chunks = get_chunks_factory(socket)
        send_handshake(request, socket)
        await may_read.wait()
        async for chunk in get_chunks():
            received.append(len(chunk.payload))

    async def client(raw: RawClient) -> None:
        pouring = asyncio.create_task(pour(raw, 32 * MIB, 32 * MIB))
        await settled(lambda: sockets[0].counters.bytes_received if sockets else 0)
        assert sockets[0].counters.bytes_received < MIB
        assert not pouring.done()
        may_read.set()
        await pouring
        await raw.send(masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)
    assert sum(received) == 32 * MIB + 2


FAULTS: dict[str, tuple[bytes, dict[str, Any], type[Exception], Reason | None, int | None]] = {
    # What comes after the first bytes of a text message, the options, the error, its reason, and the close code.
    "bad UTF-8": (masked(MORE, b"ok\xff"), {}, ProtocolError, Reason.INVALID_UTF8, 1007),
    "ends inside a character": (masked(MORE, b"\xe2"), {}, ProtocolError, Reason.INVALID_UTF8, 1007),
    "too big": (masked(MORE, b"12345"), {"max_message_size": 9}, PayloadTooBig, Reason.MESSAGE_TOO_BIG, 1009),
    "frame too big": (masked(MORE, b"123456"), {"max_frame_size": 5}, PayloadTooBig, Reason.FRAME_TOO_BIG, 1009),
    "too many": (masked(MORE, fin=0) * 2, {"max_fragments": 2}, PayloadTooBig, Reason.TOO_MANY_FRAGMENTS, 1009),
    "another message": (masked(TEXT, b"x"), {}, ProtocolError, Reason.EXPECTED_CONTINUATION, 1002),
    "eof": (b"", {}, ConnectionLost, None, None),
}


@every_transport
@pytest.mark.parametrize(("data", "options", "kind", "reason", "code"), FAULTS.values(), ids=FAULTS)
def test_errors_come_after_the_chunks_before_them(
    loop_kind: str,
    data: bytes,
    options: dict[str, Any],
    kind: type[Exception],
    reason: Reason | None,
    code: int | None,
) -> None:
    received: list[bytes] = []
    errors: list[Exception] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_chunks = get_chunks_factory(socket, **options)
        send_handshake(request, socket)
        for _ in range(2):
            try:
                async for chunk in get_chunks():
                    assert not chunk.message_finished
                    received.append(chunk.payload)
            except (ProtocolError, PayloadTooBig, ConnectionLost) as error:
                errors.append(error)

    async def client(raw: RawClient) -> None:
        await raw.send(masked(TEXT, b"first", fin=0))
        await until(lambda: bool(received))
        await raw.send(data)
        if code is None:
            raw.writer.write_eof()
            assert await raw.read_frames() == []
        else:
            assert (await raw.read_close())[0] == code

    run_pair(loop_kind, handler, client)
    assert received[0] == b"first"
    assert [type(error) for error in errors] == [kind, kind]
    assert getattr(errors[0], "reason", None) is reason


@every_transport
def test_a_close_amid_a_message_ends_the_chunks(loop_kind: str) -> None:
    received: list[tuple[int, bytes, int]] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_chunks = get_chunks_factory(socket)
        send_handshake(request, socket)
        async for chunk in get_chunks():
            received.append((chunk.opcode, chunk.payload, chunk.message_finished))

    async def client(raw: RawClient) -> None:
        await raw.send(masked(TEXT, b"half", fin=0), masked_close(1001))
        assert await raw.read_close() == (1001, "")

    run_pair(loop_kind, handler, client)
    assert received == [(TEXT, b"half", 0), (Opcode.CLOSE, b"\x03\xe9", 1)]


@every_transport
def test_leaving_the_loop_amid_a_message_and_coming_back_loses_nothing(loop_kind: str) -> None:
    chunks: list[Chunk] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_chunks = get_chunks_factory(socket)
        send_handshake(request, socket)
        while not chunks or chunks[-1].opcode != Opcode.CLOSE:
            async for chunk in get_chunks():
                chunks.append(chunk)
                break

    async def client(raw: RawClient) -> None:
        for i in range(50):
            await raw.send(masked(MORE if i else BINARY, b"%d," % i, fin=int(i == 49)))
            if i % 7 == 0:
                await asyncio.sleep(0)
        await raw.send(masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)
    assert joined(chunks[:-1]) == [(BINARY, b"".join(b"%d," % i for i in range(50)))]


@every_transport
@pytest.mark.parametrize("compressed", [False, True])
def test_a_cancelled_step_loses_nothing(loop_kind: str, compressed: bool) -> None:
    chunks: list[Chunk] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_chunks = get_chunks_factory(socket)
        send_handshake(request, socket, extensions=[PerMessageDeflate()])
        turns = 0
        while True:
            step = asyncio.ensure_future(anext(get_chunks()))
            for _ in range(turns % 3):
                await asyncio.sleep(0)
            turns += 1
            step.cancel()
            try:
                chunks.append(await step)
            except asyncio.CancelledError:
                continue
            except StopAsyncIteration:
                return

    async def client(raw: RawClient) -> None:
        payload = b"".join(b"%d," % i for i in range(10_000))
        data = masked(BINARY, payload)
        if compressed:
            encode = PerMessageDeflate().confirm([]).encoder(BINARY, None, True)
            assert encode is not None
            data = masked(BINARY, b"".join(encode(payload, True)), rsv1=1)
        for start in range(0, len(data), 999):
            await raw.send(data[start : start + 999])
            await asyncio.sleep(0)
        await raw.send(masked_close(1000))
        assert await raw.read_close() == (1000, "")
        assert joined(chunks[:-1]) == [(BINARY, payload)]

    async def main() -> None:
        headers = ["Sec-WebSocket-Extensions: permessage-deflate"] * compressed
        async with serving(handler) as server, upgraded(server.port, *headers) as raw:
            await client(raw)

    run(loop_kind, main())


@every_transport
def test_compressed_streams_come_through_both_ways(loop_kind: str) -> None:
    lines = [f"line {i} of a text that shrinks\n" for i in range(5000)]

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_chunks, send_chunks = get_chunks_factory(socket), send_chunks_factory(socket)
        send_handshake(request, socket, extensions=[PerMessageDeflate()])

        async def payloads() -> AsyncIterator[bytes]:
            async for chunk in get_chunks():
                yield chunk.payload
                if chunk.message_finished:
                    return

        for _ in range(2):
            await send_chunks(payloads(), is_utf8=True)

    async def main() -> None:
        async with serving(handler) as server:
            _, socket = await connect(f"ws://127.0.0.1:{server.port}", extensions=[PerMessageDeflate()])
            async with socket:
                get_messages, send_chunks = get_messages_factory(socket), send_chunks_factory(socket)
                for _ in range(2):
                    sending = asyncio.ensure_future(send_chunks(lines))
                    assert (await anext(get_messages())).text == "".join(lines)
                    await sending
                assert socket.counters.bytes_sent < 2 * len("".join(lines))  # fewer than the text has, headers and all

    run(loop_kind, main())


@every_transport
@pytest.mark.parametrize("extensions", [[], [PerMessageDeflate()]], ids=["plain", "deflate"])
def test_a_pair_of_streams_takes_and_gives_chunks_too(loop_kind: str, extensions: list[PerMessageDeflate]) -> None:
    async def serve_pair(pair: Pair) -> None:
        get_chunks, send_chunks = get_chunks_factory(pair), send_chunks_factory(pair)
        send_handshake(await read_request(pair[0]), pair, extensions=extensions)

        async def payloads() -> AsyncIterator[bytes]:
            async for chunk in get_chunks():
                yield chunk.payload
                if chunk.message_finished:
                    return

        await asyncio.gather(send_chunks(payloads()), send_chunks(["behind", " it"]))
        assert [chunk.opcode async for chunk in get_chunks()] == [Opcode.CLOSE]

    async def client(port: int) -> None:
        _, socket = await connect(f"ws://127.0.0.1:{port}", extensions=[PerMessageDeflate()])
        async with socket:
            assert len(socket.extensions) == len(extensions)
            get_messages = get_messages_factory(socket)
            payload = bytes(range(256)) * 4096
            await send_chunks_factory(socket)(payload[i : i + 10_000] for i in range(0, len(payload), 10_000))
            assert (await anext(get_messages())).payload == payload
            assert (await anext(get_messages())).text == "behind it"

    run(loop_kind, serving_pairs(serve_pair, client))


# -- What is counted --------------------------------------------------------------------------------------------------


@every_transport
def test_the_counters_are_those_of_the_wire(loop_kind: str) -> None:
    sockets: list[Socket] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        sockets.append(socket)
        get_chunks = get_chunks_factory(socket, auto_pong=True)
        send_message, send_chunks = send_message_factory(socket), send_chunks_factory(socket)
        await send_handshake(request, socket)
        assert (socket.counters.bytes_sent, socket.counters.frames_sent) == (0, 0)
        await send_chunks([b"a" * 1000, b"b" * 70_000])
        send_message("text")
        async for _ in get_chunks():
            pass

    async def client(raw: RawClient) -> None:
        sent = [
            *(masked(Opcode.PING, b"ping"), masked(Opcode.PONG), masked(BINARY, bytes(70_000))),
            *(masked(TEXT, b"1", fin=0), masked(Opcode.PING), masked(MORE), masked_close(1000)),
        ]
        await raw.send(*sent)
        received = await raw.read_until_eof()
        counters = sockets[0].counters
        assert counters.bytes_sent == len(received)
        assert counters.bytes_received == len(b"".join(sent))
        assert (counters.frames_sent, counters.messages_sent, counters.pings_sent) == (3 + 1 + 2 + 1, 2, 0)
        assert (counters.frames_received, counters.messages_received) == (7, 2)
        assert (counters.pings_received, counters.pongs_received) == (2, 1)
        assert 70_000 < counters.high_water <= counters.bytes_sent + len(raw.head)

    run_pair(loop_kind, handler, client)


# -- The beginning ----------------------------------------------------------------------------------------------------


@every_transport
@pytest.mark.parametrize("factory", [get_messages_factory, get_chunks_factory])
def test_messages_cannot_be_awaited_before_the_handshake(
    loop_kind: str, factory: Callable[[Socket], Callable[[], AsyncIterator[Any]]]
) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_items = factory(socket)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="before the opening handshake"):
                await anext(get_items())
        send_handshake(request, socket)
        assert (await anext(get_items())).payload == b"together"

    async def main() -> None:
        async with serving(handler) as server, connecting(server.port) as raw:
            await raw.upgrade(behind=masked(TEXT, b"together") + masked_close(1000))
            assert await raw.read_close() == (1000, "")

    run(loop_kind, main())


@every_transport
@pytest.mark.parametrize("factory", [get_messages_factory, get_chunks_factory])
@pytest.mark.parametrize("factory_first", [True, False])
@pytest.mark.parametrize("pause", [True, False])
def test_what_came_with_the_request_comes_through(
    loop_kind: str,
    factory: Callable[[Socket], Callable[[], AsyncIterator[Any]]],
    factory_first: bool,
    pause: bool,
) -> None:
    behind = masked(TEXT, b"together") + masked(BINARY, b"half", fin=0) + masked(MORE, b"half")[:-2]
    rest = masked(MORE, b"half")[-2:] + masked_close(1000)

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        assert head == behind
        get_items = factory(socket) if factory_first else None
        if pause:
            await asyncio.sleep(0.01)
        send_handshake(request, socket)
        if pause:
            await asyncio.sleep(0.01)
        get_items = get_items or factory(socket)
        payloads = [item.payload async for item in get_items()]
        assert payloads[0] == b"together"
        assert b"".join(payloads[1:]) == b"halfhalf\x03\xe8"

    async def main() -> None:
        async with serving(handler) as server, connecting(server.port) as raw:
            await raw.upgrade(behind=behind)
            await raw.send(rest)
            assert await raw.read_close() == (1000, "")

    run(loop_kind, main())


@every_transport
def test_there_is_one_way_to_receive(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_chunks_factory(socket)
        for factory in (get_messages_factory, get_chunks_factory):
            with pytest.raises(RuntimeError, match="was already called"):
                factory(socket)
        send_handshake(request, socket)

    async def client(raw: RawClient) -> None:
        await read_until_close(raw)

    run_pair(loop_kind, handler, client)
