"""The socket that a handler gets: what goes out and when, what comes in, slow peers, cancelled tasks, and ends."""

from __future__ import annotations

import asyncio
import gc
import socket as blocking_socket
import struct
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from wslowlevel import (
    ConnectionLost,
    Message,
    Opcode,
    PayloadTooBig,
    ProtocolError,
    Reason,
    Request,
    Socket,
    get_messages_factory,
    handle_messages_factory,
    prepare_close_frame_payload,
    prepare_websocket_frame,
    send_factory,
    send_handshake,
)
from wslowlevel.aio.socket import FULL_READS
from wslowlevel.wire import READ_SIZE

from .servers import (
    RawClient,
    close_of,
    connecting,
    every_transport,
    handshake,
    masked,
    masked_close,
    run,
    serving,
    until,
    upgraded,
)

Handler = Callable[[Request, Socket, bytes], Awaitable[None]]

MIB = 1024 * 1024


def run_pair(
    loop_kind: str, handler: Handler, client: Callable[[RawClient], Awaitable[None]], **options: object
) -> None:
    """Run a handler against a client behind its opening handshake."""

    async def main() -> None:
        async with serving(handler, **options) as server, upgraded(server.port) as raw:
            await client(raw)

    run(loop_kind, main())


async def settled(measure: Callable[[], int]) -> int:
    """What a measure comes to rest at: the same for 100 turns in a row, a millisecond each."""
    last, same = measure(), 0
    while same < 100:
        await asyncio.sleep(0.001)
        same = same + 1 if measure() == last else 0
        last = measure()
    return last


async def send_without_end(raw: RawClient, chunk: bytes, sent: list[int]) -> None:
    while True:
        await raw.send(chunk)
        sent.append(len(chunk))


# -- Out --------------------------------------------------------------------------------------------------------------


@every_transport
def test_what_is_sent_need_not_be_awaited(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send = send_factory(socket)
        send_handshake(request, socket)
        for i in range(100):
            send(prepare_websocket_frame(b"%d" % i))

    async def client(raw: RawClient) -> None:
        await raw.send(masked_close(1000))
        frames = await raw.read_frames()
        assert [frame.payload for frame in frames[:-1]] == [b"%d" % i for i in range(100)]

    run_pair(loop_kind, handler, client)


@every_transport
def test_frames_of_one_turn_leave_in_one_write(loop_kind: str) -> None:
    """The answer to the handshake too: a client that reads once has all of it."""

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_handshake(request, socket)
        for send in (send_factory(socket), send_factory(socket)):
            send(prepare_websocket_frame(b"x"))
        get_messages = get_messages_factory(socket)
        async for _ in get_messages():
            pass

    async def main() -> None:
        async with serving(handler) as server, connecting(server.port) as raw:
            await raw.send(handshake())
            data = await raw.reader.read(65536)
            assert data.endswith(b"\r\n\r\n" + 2 * prepare_websocket_frame(b"x"))
            await raw.send(masked_close(1000))
            await raw.read_until_eof()

    run(loop_kind, main())


@every_transport
def test_a_buffer_may_change_once_it_was_sent(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_handshake(request, socket)
        send = send_factory(socket)
        frame = bytearray(prepare_websocket_frame(b"first"))
        send(frame)
        send(memoryview(frame))
        frame[-5:] = b"later"

    async def client(raw: RawClient) -> None:
        await raw.send(masked_close(1000))
        assert [frame.payload for frame in (await raw.read_frames())[:-1]] == [b"first", b"first"]

    run_pair(loop_kind, handler, client)


@every_transport
@pytest.mark.parametrize(
    ("frame", "kind", "text"),
    [
        ("text", TypeError, "frame must be bytes-like, not str"),
        (5, TypeError, "frame must be bytes-like, not int"),
        (None, TypeError, "frame must be bytes-like, not NoneType"),
        (b"", ValueError, "frame must have 2 bytes or more"),
    ],
)
def test_what_is_no_frame_is_refused(loop_kind: str, frame: object, kind: type[Exception], text: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_handshake(request, socket)
        with pytest.raises(kind, match=text):
            send_factory(socket)(frame)  # type: ignore[arg-type]

    async def client(raw: RawClient) -> None:
        await raw.send(masked_close(1000))
        assert [close_of(frame) for frame in await raw.read_frames()] == [(1000, "")]

    run_pair(loop_kind, handler, client)


@every_transport
def test_nothing_follows_a_close_frame(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_handshake(request, socket)
        send = send_factory(socket)
        await send(prepare_websocket_frame(prepare_close_frame_payload(4001, "enough"), opcode=Opcode.CLOSE))
        assert socket.sent == (4001, "enough")
        with pytest.raises(ConnectionLost, match="sent 4001 'enough'") as caught:
            send(prepare_websocket_frame(b"more"))
        assert caught.value.sent == (4001, "enough")
        socket.close()
        get_messages = get_messages_factory(socket)
        seen = [(message.opcode, message.payload) async for message in get_messages()]
        assert seen == [(Opcode.TEXT, b"crossing"), (Opcode.CLOSE, (4001).to_bytes(2, "big"))]
        assert socket.received == (4001, "")

    async def client(raw: RawClient) -> None:
        data = await raw.reader.readexactly(10)
        await raw.send(masked(Opcode.TEXT, b"crossing"), masked_close(4001))
        assert data + await raw.read_until_eof() == b"\x88\x08\x0f\xa1enough"

    run_pair(loop_kind, handler, client)


# -- Slow peers -------------------------------------------------------------------------------------------------------


@every_transport
def test_await_send_waits_for_a_slow_peer(loop_kind: str) -> None:
    sent = 0
    held = 0

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        nonlocal sent, held
        await send_handshake(request, socket)
        send = send_factory(socket)
        frame = prepare_websocket_frame(b"x" * 10_000)
        for _ in range(4000):
            await send(frame)
            sent += 1
            held = max(held, socket.buffered)

    async def client(raw: RawClient) -> None:
        blocked_at = await settled(lambda: sent)
        assert 0 < blocked_at < 4000
        assert held < 2 * 64 * 1024 + 2 * 10_000
        for _ in range(4000):
            assert len((await raw.read_frame()).payload) == 10_000
        await raw.send(masked_close(1000))
        assert await raw.read_close() == (1000, "")
        assert sent == 4000

    run_pair(loop_kind, handler, client)


@every_transport
def test_cancelling_one_sender_leaves_the_others_and_the_frames_alone(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        await send_handshake(request, socket)
        send = send_factory(socket)
        await asyncio.sleep(0)
        filler = send(prepare_websocket_frame(b"f" * 15 * MIB))
        await asyncio.sleep(0)

        async def wait(i: int) -> None:
            await send(prepare_websocket_frame(b"%d" % i))

        tasks = [asyncio.create_task(wait(i)) for i in range(10)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        go_on.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(result, asyncio.CancelledError) for result in results] == [True, False] * 5
        await filler

    go_on = asyncio.Event()

    async def client(raw: RawClient) -> None:
        await go_on.wait()
        assert len((await raw.read_frame()).payload) == 15 * MIB
        for i in range(10):
            assert (await raw.read_frame()).payload == b"%d" % i
        await raw.send(masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)


@every_transport
def test_who_sends_without_being_read_is_held_up(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        send_handshake(request, socket)
        await may_read.wait()
        received.extend([len(message.payload) async for message in get_messages()])

    may_read = asyncio.Event()
    received: list[int] = []

    async def client(raw: RawClient) -> None:
        frame = masked(Opcode.BINARY, b"x" * 60_000)
        for _ in range(400):
            raw.writer.write(frame)
        left = await settled(raw.writer.transport.get_write_buffer_size)
        assert left > 24 * MIB // 2
        may_read.set()
        await raw.send(masked_close(1000))
        assert await raw.read_close() == (1000, "")
        assert received == [60_000] * 400 + [2]

    run_pair(loop_kind, handler, client)


@every_transport
@pytest.mark.parametrize(("opcode", "size"), [(Opcode.BINARY, 125), (Opcode.BINARY, 20_000), (Opcode.PING, 125)])
def test_who_causes_answers_without_reading_them_is_held_up(loop_kind: str, opcode: Opcode, size: int) -> None:
    """An echo that awaits nothing, and pongs by the million: what waits stays bounded (both answers are automatic)."""
    held = 0

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        nonlocal held
        get_messages = get_messages_factory(socket, auto_pong=True)
        send = send_factory(socket)
        send_handshake(request, socket)
        with suppress(ConnectionLost):
            async for message in get_messages():
                if message.opcode == Opcode.BINARY:
                    send(prepare_websocket_frame(message.payload))
                held = max(held, socket.buffered)

    async def client(raw: RawClient) -> None:
        raw.writer.transport.set_write_buffer_limits(high=0)
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        sent: list[int] = []
        flood = asyncio.create_task(send_without_end(raw, masked(opcode, b"x" * size) * (60_000 // size), sent))
        assert await settled(lambda: sum(sent)) < 60 * MIB
        assert held < MIB
        flood.cancel()
        raw.reset()

    run_pair(loop_kind, handler, client)


@every_transport
def test_everything_that_was_sent_arrives_before_the_end(loop_kind: str) -> None:
    """8 MiB are queued, the handler returns, and the client begins to read only then."""
    returned = asyncio.Event()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_handshake(request, socket)
        send = send_factory(socket)
        for i in range(8):
            send(prepare_websocket_frame(bytes([i]) * MIB))
        returned.set()

    async def client(raw: RawClient) -> None:
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await returned.wait()
        raw.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await raw.send(masked_close(1000))
        frames = await raw.read_frames()
        assert [frame.payload for frame in frames[:-1]] == [bytes([i]) * MIB for i in range(8)]
        assert close_of(frames[-1]) == (1000, "")

    run_pair(loop_kind, handler, client)


@every_transport
def test_a_fast_sender_does_not_hold_up_another_connection(loop_kind: str) -> None:
    """Sending without end to a peer that keeps up yields to the loop; each echo comes through meanwhile."""

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send = send_factory(socket)
        send_handshake(request, socket)
        if request.target == "/flood":
            with suppress(ConnectionLost):
                while True:
                    await send(prepare_websocket_frame(b"x" * 1000))
        get_messages = get_messages_factory(socket)
        async for message in get_messages():
            if message.opcode == Opcode.TEXT:
                send(prepare_websocket_frame(message.payload))

    async def main() -> None:
        async with (
            serving(handler) as server,
            upgraded(server.port) as echo,
            upgraded(server.port, target="/flood") as flood,
        ):
            reading = asyncio.create_task(drain(flood))
            for i in range(50):
                await echo.send(masked(Opcode.TEXT, b"%d" % i))
                assert (await echo.read_frame()).payload == b"%d" % i
            reading.cancel()
            flood.reset()

    async def drain(raw: RawClient) -> None:
        while await raw.reader.read(MIB):
            pass

    run(loop_kind, main())


@every_transport
def test_a_flood_of_tiny_messages_is_read_in_many_turns(loop_kind: str) -> None:
    """uvloop would read up to 32 times in one turn, were it not told to stop."""
    frame, count = masked(Opcode.BINARY), 400_000
    in_turn: list[int] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        handle_messages = handle_messages_factory(socket)
        send_handshake(request, socket)
        await asyncio.sleep(0.1)  # so that there is much to read
        ticking = asyncio.create_task(tick())
        await handle_messages(handled.append)
        ticking.cancel()

    async def tick() -> None:
        while True:
            before = len(handled)
            await asyncio.sleep(0)
            in_turn.append(len(handled) - before)

    async def client(raw: RawClient) -> None:
        await raw.send(frame * count, masked_close(1000))
        assert await raw.read_close() == (1000, "")

    handled: list[Message] = []
    run_pair(loop_kind, handler, client)
    assert len(handled) == count + 1
    assert max(in_turn) <= FULL_READS * READ_SIZE // len(frame) + FULL_READS


# -- In ---------------------------------------------------------------------------------------------------------------


def collector(collected: list[Message], errors: list[BaseException], **options: object) -> Handler:
    """A handler that collects every message, and then the error at their end twice."""

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket, **options)  # type: ignore[arg-type]
        send_handshake(request, socket)
        for _ in range(2):
            try:
                async for message in get_messages():
                    collected.append(message)
            except (ProtocolError, PayloadTooBig, ConnectionLost) as error:
                errors.append(error)

    return handler


@every_transport
def test_everything_that_arrives_is_handed_out(loop_kind: str) -> None:
    collected: list[Message] = []
    errors: list[BaseException] = []

    async def client(raw: RawClient) -> None:
        await raw.send(
            masked(Opcode.TEXT, b"a", fin=0),
            masked(Opcode.PING, b"p"),
            masked(Opcode.PONG, b"q"),
            masked(Opcode.CONTINUATION, b"b"),
            masked(Opcode.BINARY, b""),
            masked_close(1001, b"bye"),
            masked(Opcode.TEXT, b"after the end"),
        )
        pong = await raw.read_frame()
        assert (pong.opcode, pong.payload) == (Opcode.PONG, b"p")
        assert await raw.read_close() == (1001, "bye")

    run_pair(loop_kind, collector(collected, errors), client)
    assert [(message.opcode, message.payload) for message in collected] == [
        (Opcode.PING, b"p"),
        (Opcode.PONG, b"q"),
        (Opcode.TEXT, b"ab"),
        (Opcode.BINARY, b""),
        (Opcode.CLOSE, b"\x03\xe9bye"),
    ]
    assert errors == []


@every_transport
@pytest.mark.parametrize(
    ("bad", "kind", "reason", "code"),
    [
        (b"\x83", ProtocolError, Reason.RESERVED_OPCODE, 1002),
        (b"\x81\x05", ProtocolError, Reason.NOT_MASKED, 1002),
        (masked(Opcode.TEXT, b"\xff"), ProtocolError, Reason.INVALID_UTF8, 1007),
        (masked_close(1005), ProtocolError, Reason.CLOSE_CODE, 1002),
        (b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff", ProtocolError, Reason.LENGTH_TOO_BIG, 1002),
        (b"\x82\xff\x00\x00\x00\x00\x01\x00\x00\x01key.", PayloadTooBig, Reason.MESSAGE_TOO_BIG, 1009),
    ],
)
def test_a_violation_is_answered_and_raised_after_what_came_before(
    loop_kind: str, bad: bytes, kind: type[ProtocolError | PayloadTooBig], reason: Reason, code: int
) -> None:
    collected: list[Message] = []
    errors: list[BaseException] = []

    async def client(raw: RawClient) -> None:
        await raw.send(masked(Opcode.TEXT, b"good"), bad + bytes(14 - min(len(bad), 14)))
        got, text = await raw.read_close()
        assert got == code
        assert text == str(errors[0])

    run_pair(loop_kind, collector(collected, errors), client)
    assert [message.payload for message in collected] == [b"good"]
    assert len(errors) == 2
    assert errors[0] is errors[1]
    assert isinstance(errors[0], kind)
    assert errors[0].reason is reason


@every_transport
def test_the_close_frame_reaches_a_peer_that_is_still_sending(loop_kind: str) -> None:
    """Unread bytes at the end of a connection make the kernel reset it; the reason for the end must arrive first."""

    async def client(raw: RawClient) -> None:
        raw.writer.write(masked(Opcode.TEXT, b"\xff") + masked(Opcode.BINARY, b"x" * 8 * MIB))
        assert (await raw.read_close())[0] == 1007

    run_pair(loop_kind, collector([], []), client)


@every_transport
@pytest.mark.parametrize("ending", ["eof", "reset"])
def test_an_end_without_close_is_an_error(loop_kind: str, ending: str) -> None:
    collected: list[Message] = []
    errors: list[BaseException] = []

    async def client(raw: RawClient) -> None:
        await raw.send(masked(Opcode.TEXT, b"a"), masked(Opcode.TEXT, b"b")[:5])
        await until(lambda: bool(collected))
        if ending == "eof":
            raw.writer.write_eof()
            assert await raw.read_until_eof() == b""
        else:
            raw.reset()
        await until(lambda: len(errors) == 2)

    run_pair(loop_kind, collector(collected, errors), client)
    for error in errors:
        assert isinstance(error, ConnectionLost)
        assert (error.code, error.received, error.sent) == (1006, None, None)
        assert str(error) == "connection is closed: no Close frame was received or sent"


@every_transport
def test_the_limit_may_be_another(loop_kind: str) -> None:
    collected: list[Message] = []
    errors: list[BaseException] = []

    async def client(raw: RawClient) -> None:
        await raw.send(masked(Opcode.BINARY, b"12345"), masked(Opcode.BINARY, b"123", fin=0))
        await raw.send(masked(Opcode.CONTINUATION, b"456"))
        assert await raw.read_close() == (1009, "message of at least 6 bytes: 5 are allowed")

    run_pair(loop_kind, collector(collected, errors, max_in_memory_store_size=5), client)
    assert [message.payload for message in collected] == [b"12345"]


@every_transport
def test_large_messages_are_received_into_their_own_memory(loop_kind: str) -> None:
    payload = bytes(range(251)) * 20_000
    collected: list[Message] = []

    async def client(raw: RawClient) -> None:
        frame = masked(Opcode.BINARY, payload)
        raw.writer.write(frame + masked(Opcode.BINARY, payload, fin=0) + masked(Opcode.CONTINUATION, payload))
        await raw.send(masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, collector(collected, []), client)
    assert [message.payload for message in collected[:-1]] == [payload, payload + payload]


@every_transport
def test_a_cancelled_step_loses_nothing(loop_kind: str) -> None:
    """Every step is cancelled before it is allowed to finish, at whatever point the loop happens to be."""
    collected: list[bytes] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        send_handshake(request, socket)
        turns = 0
        while True:
            step = asyncio.ensure_future(anext(get_messages()))
            for _ in range(turns % 3):
                await asyncio.sleep(0)
            turns += 1
            step.cancel()
            try:
                collected.append((await step).payload)
            except asyncio.CancelledError:
                continue
            except StopAsyncIteration:
                return

    async def client(raw: RawClient) -> None:
        for i in range(300):
            await raw.send(masked(Opcode.TEXT, b"%d" % i))
            if i % 7 == 0:
                await asyncio.sleep(0)
        await raw.send(masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)
    assert collected == [b"%d" % i for i in range(300)] + [b"\x03\xe8"]


@every_transport
def test_leaving_the_loop_and_coming_back_loses_nothing(loop_kind: str) -> None:
    collected: list[bytes] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        send_handshake(request, socket)
        while b"\x03\xe8" not in collected:
            async for message in get_messages():
                collected.append(message.payload)
                break

    async def client(raw: RawClient) -> None:
        await raw.send(*(masked(Opcode.TEXT, b"%d" % i) for i in range(50)), masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)
    assert collected == [b"%d" % i for i in range(50)] + [b"\x03\xe8"]


@every_transport
def test_what_may_be_done_once(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        with pytest.raises(RuntimeError, match="already called"):
            get_messages_factory(socket)
        send_handshake(request, socket)
        with pytest.raises(RuntimeError, match="already answered"):
            send_handshake(request, socket)
        waiting = asyncio.ensure_future(anext(get_messages()))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(get_messages())
        assert (await waiting).payload == b"one"

    async def client(raw: RawClient) -> None:
        await raw.send(masked(Opcode.TEXT, b"one"), masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)


def test_what_is_no_socket_is_refused() -> None:
    for value in (None, 5, "socket", (1, 2, 3)):
        with pytest.raises(TypeError, match="socket must be a wslowlevel socket or a"):
            send_factory(value)  # type: ignore[arg-type]


# -- Switches, and ends -----------------------------------------------------------------------------------------------


@every_transport
def test_without_auto_close_both_are_left_to_the_caller(loop_kind: str) -> None:
    errors: list[BaseException] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket, auto_close=False)
        send = send_factory(socket)
        send_handshake(request, socket)
        try:
            async for message in get_messages():
                assert message.opcode == Opcode.CLOSE
                assert socket.sent is None
        except ProtocolError as error:
            errors.append(error)
        payload = prepare_close_frame_payload(4000, "in my own words")
        send(prepare_websocket_frame(payload, opcode=Opcode.CLOSE))

    async def closes(raw: RawClient) -> None:
        await raw.send(masked_close(1000))
        assert await raw.read_close() == (4000, "in my own words")

    async def violates(raw: RawClient) -> None:
        await raw.send(b"\xff\xff")
        assert await raw.read_close() == (4000, "in my own words")

    run_pair(loop_kind, handler, closes)
    assert errors == []
    run_pair(loop_kind, handler, violates)
    assert len(errors) == 1


@every_transport
def test_pings_are_answered_when_asked_for(loop_kind: str) -> None:
    async def client(raw: RawClient) -> None:
        await raw.send(masked(Opcode.PING, b"1"), masked(Opcode.PING, b""), masked_close(1000))
        frames = [(frame.opcode, frame.payload) for frame in await raw.read_frames()]
        assert frames == [(Opcode.PONG, b"1"), (Opcode.PONG, b""), (Opcode.CLOSE, b"\x03\xe8")]

    run_pair(loop_kind, collector([], [], auto_pong=True), client)


@every_transport
def test_an_empty_close_is_answered_by_an_empty_close(loop_kind: str) -> None:
    async def client(raw: RawClient) -> None:
        await raw.send(masked(Opcode.CLOSE))
        assert (await raw.read_frame()).payload == b""

    run_pair(loop_kind, collector([], []), client)


@every_transport
@pytest.mark.parametrize("reads", [True, False])
def test_who_does_not_answer_the_close_is_dropped(loop_kind: str, reads: bool) -> None:
    """Also when it reads nothing, so that the Close frame itself waits behind what was sent before."""
    finished = asyncio.Event()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_handshake(request, socket)
        if not reads:
            send_factory(socket)(prepare_websocket_frame(b"x" * 15 * MIB))
        socket.close(4000)
        await socket.wait_closed()
        finished.set()

    async def client(raw: RawClient) -> None:
        await finished.wait()

    run_pair(loop_kind, handler, client, close_timeout=0.2)


@every_transport
def test_when_both_have_said_close_nothing_is_waited_for(loop_kind: str) -> None:
    """Nobody takes the messages here, and the peer's answer is the last of them."""

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages_factory(socket)
        send_handshake(request, socket)
        socket.close(4000)
        await socket.wait_closed()

    async def client(raw: RawClient) -> None:
        assert await raw.reader.readexactly(4) == b"\x88\x02\x0f\xa0"
        await raw.send(masked_close(4000))
        assert await raw.read_until_eof() == b""

    run_pair(loop_kind, handler, client, close_timeout=3600)


END_OF_PEER: dict[str, list[bytes]] = {
    "Close": [masked_close(4000)],
    "EOF": [],
    "violation": [b"\xff\xff"],
    "Close after much": [masked(Opcode.BINARY, bytes(MIB)), masked(Opcode.TEXT, b"x" * 999) * 999, masked_close(4000)],
}


@every_transport
@pytest.mark.parametrize("end", END_OF_PEER)
def test_who_only_sends_notices_the_end_too(loop_kind: str, end: str) -> None:
    """Nobody called a factory of messages."""
    ended = asyncio.Event()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        await send_handshake(request, socket)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(socket.wait_closed(), 0.01)
        assert await socket.ping(b"ours") > 0
        assert socket.is_open
        await asyncio.gather(socket.wait_closed(), socket.wait_closed())
        ended.set()

    async def client(raw: RawClient) -> None:
        ping = await raw.read_frame()
        await raw.send(masked(Opcode.PING, b"theirs"), masked(Opcode.PONG, ping.payload))
        pong = await raw.read_frame()
        assert (ping.opcode, pong.opcode, pong.payload) == (Opcode.PING, Opcode.PONG, b"theirs")
        await raw.send(*END_OF_PEER[end])
        raw.writer.write_eof()
        closes = {"EOF": [], "violation": [1002]}.get(end, [4000])
        assert [close_of(frame)[0] for frame in await raw.read_frames()] == closes
        await ended.wait()

    run_pair(loop_kind, handler, client, close_timeout=3600)


@every_transport
def test_who_closes_and_never_took_messages_hears_the_answer(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_handshake(request, socket)
        socket.close(4000)
        await socket.wait_closed()
        assert socket.received == (4000, "")

    async def client(raw: RawClient) -> None:
        assert await raw.read_close() == (4000, "")
        await raw.send(masked(Opcode.TEXT, b"late"), masked_close(4000))
        assert await raw.read_frames() == []

    run_pair(loop_kind, handler, client, close_timeout=3600)


@every_transport
@pytest.mark.parametrize("half_closed", [False, True])
def test_what_came_before_a_close_frame_is_answered_however_slowly(loop_kind: str, half_closed: bool) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages, send = get_messages_factory(socket), send_factory(socket)
        send_handshake(request, socket)
        async for message in get_messages():
            if message.opcode == Opcode.TEXT:
                await asyncio.sleep(0.02)
                await send(prepare_websocket_frame(message.payload))

    async def client(raw: RawClient) -> None:
        await raw.send(*(masked(Opcode.TEXT, b"%d" % i) for i in range(10)), masked_close(1000))
        if half_closed:
            raw.writer.write_eof()
        frames = await raw.read_frames()
        assert [frame.payload for frame in frames] == [*(b"%d" % i for i in range(10)), b"\x03\xe8"]

    # Half-closed, the timeout is all that bounds the wait for the handler.
    run_pair(loop_kind, handler, client, close_timeout=3600 if half_closed else 0.05)


@every_transport
def test_a_socket_is_freed_when_its_connection_is_gone(loop_kind: str) -> None:
    """At once, not when the garbage collector comes by: a half-received message may be large."""
    sockets: list[weakref.ref[Socket]] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        sockets.append(weakref.ref(socket))
        get_messages, send = get_messages_factory(socket), send_factory(socket)
        send_handshake(request, socket)
        async for message in get_messages():
            await send(prepare_websocket_frame(message.payload))

    async def client(raw: RawClient) -> None:
        await raw.send(masked(Opcode.TEXT, b"x"), masked(Opcode.BINARY, b"y" * MIB)[:-1])
        assert (await raw.read_frame()).payload == b"x"
        raw.reset()
        await until(lambda: sockets[0]() is None)

    gc.disable()
    try:
        run_pair(loop_kind, handler, client)
    finally:
        gc.enable()


@every_transport
def test_a_reset_at_the_moment_when_writing_goes_on(loop_kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transport is then still within the write that made room; it must not meet the error there."""
    ended: list[Exception | None] = []
    resets: list[Callable[[], None]] = []
    resume_writing = Socket.resume_writing

    def reset_and_resume(socket: Socket) -> None:
        resets.pop()()
        resume_writing(socket)

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages, send = get_messages_factory(socket), send_factory(socket)
        await send_handshake(request, socket)
        sending = asyncio.gather(*(send(prepare_websocket_frame(bytes(READ_SIZE))) for _ in range(100)))
        try:
            async for _ in get_messages():
                pass
        except ConnectionLost as error:
            ended.append(error.__cause__ if isinstance(error.__cause__, Exception) else None)
        await asyncio.gather(sending, return_exceptions=True)

    async def main() -> None:
        async with serving(handler) as server:
            peer = blocking_socket.create_connection(("127.0.0.1", server.port))
            peer.setsockopt(blocking_socket.SOL_SOCKET, blocking_socket.SO_LINGER, struct.pack("ii", 1, 0))
            resets.append(peer.close)
            peer.setblocking(False)
            peer.sendall(handshake())
            await asyncio.sleep(0.1)  # all is written that the system takes
            while resets:
                with suppress(BlockingIOError):
                    peer.recv(READ_SIZE)
                await asyncio.sleep(0)
            await until(lambda: bool(ended))

    monkeypatch.setattr(Socket, "resume_writing", reset_and_resume)
    run(loop_kind, main())


@every_transport
def test_what_the_transport_knows_may_be_asked_when_it_is_gone(loop_kind: str) -> None:
    peers = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        await send_handshake(request, socket)
        with suppress(ConnectionLost):
            async for _ in get_messages_factory(socket)():
                pass
        await asyncio.sleep(0.01)
        peers.append(socket.get_extra_info("peername", "gone"))

    async def client(raw: RawClient) -> None:
        name = raw.writer.get_extra_info("sockname")
        raw.reset()
        await until(lambda: bool(peers))
        assert peers == [name] or (loop_kind == "uvloop" and peers == ["gone"])

    run_pair(loop_kind, handler, client)


@every_transport
def test_a_connection_that_is_gone_may_be_aborted(loop_kind: str) -> None:
    """asyncio's transport, closed while bytes still waited in it, does not bear it."""
    aborted = asyncio.Event()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages, send = get_messages_factory(socket), send_factory(socket)
        await send_handshake(request, socket)
        for _ in range(100):
            send(prepare_websocket_frame(bytes(READ_SIZE)))
        assert [message.opcode async for message in get_messages()] == [Opcode.CLOSE]
        assert socket.buffered > 0
        await socket.wait_closed()
        socket.abort()
        aborted.set()

    async def client(raw: RawClient) -> None:
        await raw.send(masked_close(1000))
        await asyncio.sleep(0.1)
        assert close_of((await raw.read_frames())[-1]) == (1000, "")
        raw.writer.close()
        await aborted.wait()

    run_pair(loop_kind, handler, client)


@every_transport
def test_abort_drops_the_connection(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        await send_handshake(request, socket)
        await anext(get_messages())
        socket.abort()
        await socket.wait_closed()
        assert socket.buffered == 0
        with pytest.raises(ConnectionLost):
            send_factory(socket)(prepare_websocket_frame(b"too late"))

    async def client(raw: RawClient) -> None:
        await raw.send(masked(Opcode.TEXT, b"go"))
        with suppress(ConnectionError):
            assert await raw.read_until_eof() == b""

    run_pair(loop_kind, handler, client)


@every_transport
def test_close_takes_what_may_be_sent(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_handshake(request, socket)
        with pytest.raises(ValueError, match="not 1006"):
            socket.close(1006)
        with pytest.raises(ValueError, match="123 are allowed"):
            socket.close(1000, "é" * 62)
        with pytest.raises(TypeError, match="reason must be str"):
            socket.close(1000, b"bytes")  # type: ignore[arg-type]
        assert socket.sent is None
        socket.close(1000, "done")
        assert socket.get_extra_info("sockname")[0] == "127.0.0.1"

    async def client(raw: RawClient) -> None:
        await raw.send(masked_close(1000))
        assert await raw.read_close() == (1000, "done")

    run_pair(loop_kind, handler, client)
