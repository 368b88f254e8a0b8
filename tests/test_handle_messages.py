"""Messages handed to a function: everything, in order, to the end, and nothing lost on the way."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from wslowlevel import (
    ConnectionLost,
    Message,
    Opcode,
    PayloadTooBig,
    PerMessageDeflate,
    ProtocolError,
    Reason,
    Request,
    Socket,
    connect,
    get_messages_factory,
    handle_messages_factory,
    prepare_close_frame_payload,
    prepare_websocket_frame,
    read_request,
    send_factory,
    send_handshake,
    send_message_factory,
)

from .servers import RawClient, every_transport, masked, masked_close, run, serving, until
from .test_socket import MIB, Handler, run_pair, send_without_end, settled
from .test_streams import run_pair as run_stream_pair

Seen = tuple[int, bytes]

EVERYTHING = [
    masked(Opcode.TEXT, b"a", fin=0),
    masked(Opcode.PING, b"p"),
    masked(Opcode.CONTINUATION, b"b"),
    masked(Opcode.BINARY, b""),
    masked(Opcode.PONG, b"q"),
    masked(Opcode.BINARY, b"x" * 100_000),
    masked(Opcode.TEXT, b"last"),
    masked_close(1001, b"bye"),
]
SEEN: list[Seen] = [
    (Opcode.PING, b"p"),
    (Opcode.TEXT, b"ab"),
    (Opcode.BINARY, b""),
    (Opcode.PONG, b"q"),
    (Opcode.BINARY, b"x" * 100_000),
    (Opcode.TEXT, b"last"),
    (Opcode.CLOSE, b"\x03\xe9bye"),
]

WAYS: dict[str, Callable[[bytes], list[bytes]]] = {
    "at once": lambda data: [data],
    "in pieces": lambda data: [data[i : i + 13] for i in range(0, len(data), 13)] if len(data) < 1000 else [data],
}
every_way = pytest.mark.parametrize("way", WAYS)


def texts(*payloads: bytes) -> bytes:
    """Text messages, one behind the other."""
    return b"".join(masked(Opcode.TEXT, payload) for payload in payloads)


def seen_by(message: Message) -> Seen:
    return message.opcode, message.payload


async def send_apart(raw: RawClient, pieces: list[bytes]) -> None:
    """Send pieces such that each is likely to be read by itself."""
    for piece in pieces:
        await raw.send(piece)
        await asyncio.sleep(0)


def collector(seen: list[Seen], errors: list[BaseException], **options: object) -> Handler:
    """A handler that collects everything, and what comes out at the end, twice."""

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        handle_messages = handle_messages_factory(socket, **options)  # type: ignore[arg-type]
        send_handshake(request, socket)
        for _ in range(2):
            try:
                await handle_messages(lambda message: seen.append(seen_by(message)))
            except (ProtocolError, PayloadTooBig, ConnectionLost) as error:
                errors.append(error)

    return handler


# -- What arrives -----------------------------------------------------------------------------------------------------


@every_transport
@pytest.mark.parametrize("apart", [False, True])
def test_everything_arrives_in_order_and_it_ends_after_close(loop_kind: str, apart: bool) -> None:
    seen: list[Seen] = []
    errors: list[BaseException] = []

    async def client(raw: RawClient) -> None:
        await send_apart(raw, EVERYTHING if apart else [b"".join(EVERYTHING) + masked(Opcode.TEXT, b"too late")])
        assert await raw.read_close() == (1001, "bye")

    run_pair(loop_kind, collector(seen, errors, auto_pong=False), client)
    assert seen == SEEN
    assert errors == []


@every_transport
def test_byte_by_byte(loop_kind: str) -> None:
    seen: list[Seen] = []
    data = texts(b"a", b"bc") + masked(Opcode.PING, b"p") + texts(b"d") + masked_close(1000)

    async def client(raw: RawClient) -> None:
        await send_apart(raw, [data[i : i + 1] for i in range(len(data))])
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, collector(seen, [], auto_pong=False), client)
    assert [payload for _, payload in seen] == [b"a", b"bc", b"p", b"d", b"\x03\xe8"]


@every_transport
def test_what_comes_right_behind_the_handshake(loop_kind: str) -> None:
    seen: list[Seen] = []

    async def main() -> None:
        async with serving(collector(seen, [], auto_pong=False)) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            raw = RawClient(reader, writer)
            await raw.upgrade(behind=b"".join(EVERYTHING))
            assert await raw.read_close() == (1001, "bye")
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    run(loop_kind, main())
    assert seen == SEEN


@every_transport
@pytest.mark.parametrize(
    ("bad", "kind", "reason", "code"),
    [
        (b"\x83\x80", ProtocolError, Reason.RESERVED_OPCODE, 1002),
        (masked(Opcode.TEXT, b"\xff"), ProtocolError, Reason.INVALID_UTF8, 1007),
        (masked(Opcode.BINARY, b"x" * 101), PayloadTooBig, Reason.MESSAGE_TOO_BIG, 1009),
    ],
)
def test_a_violation_comes_out_after_what_came_before(
    loop_kind: str, bad: bytes, kind: type[ProtocolError | PayloadTooBig], reason: Reason, code: int
) -> None:
    seen: list[Seen] = []
    errors: list[BaseException] = []

    async def client(raw: RawClient) -> None:
        await raw.send(texts(b"one", b"two") + bad)
        assert (await raw.read_close())[0] == code

    run_pair(loop_kind, collector(seen, errors, max_in_memory_store_size=100), client)
    assert [payload for _, payload in seen] == [b"one", b"two"]
    assert len(errors) == 2
    assert errors[0] is errors[1]
    assert isinstance(errors[0], kind)
    assert errors[0].reason is reason


@every_transport
@pytest.mark.parametrize("ending", ["eof", "reset"])
def test_an_end_without_close_comes_out_after_what_came_before(loop_kind: str, ending: str) -> None:
    seen: list[Seen] = []
    errors: list[BaseException] = []

    async def client(raw: RawClient) -> None:
        await raw.send(texts(b"one", b"two") + b"\x81")
        await until(lambda: len(seen) == 2)
        if ending == "eof":
            raw.writer.write_eof()
        else:
            raw.reset()
        await until(lambda: len(errors) == 2)

    run_pair(loop_kind, collector(seen, errors), client)
    assert [payload for _, payload in seen] == [b"one", b"two"]
    assert [type(error) for error in errors] == [ConnectionLost] * 2


@every_transport
@pytest.mark.parametrize("auto_pong", [False, True])
def test_pings_are_answered_when_asked_for(loop_kind: str, auto_pong: bool) -> None:
    seen: list[Seen] = []

    async def client(raw: RawClient) -> None:
        await raw.send(texts(b"a") + masked(Opcode.PING, b"1") + masked(Opcode.PING, b"2") + masked_close(1000))
        pongs = [frame.payload for frame in (await raw.read_frames())[:-1]]
        assert pongs == ([b"1", b"2"] if auto_pong else [])

    run_pair(loop_kind, collector(seen, [], auto_pong=auto_pong), client)
    assert [payload for _, payload in seen] == [b"a", b"1", b"2", b"\x03\xe8"]


@every_transport
def test_messages_that_were_compressed(loop_kind: str) -> None:
    seen: list[bytes] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        handle_messages, send_message = handle_messages_factory(socket, auto_pong=False), send_message_factory(socket)
        send_handshake(request, socket, extensions=[PerMessageDeflate()])
        assert socket.extensions

        def on_message(message: Message) -> None:
            if message.opcode != Opcode.CLOSE:
                seen.append(message.payload)
                send_message(message.payload)
                if len(seen) % 7 == 0:
                    raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await handle_messages(on_message)
        while seen[-1] != sent[-1]:
            with suppress(ZeroDivisionError):
                await handle_messages(on_message)
        await handle_messages(on_message)

    sent = [b"%d" % i * 100 for i in range(40)]

    async def main() -> None:
        async with serving(handler) as server:
            url = f"ws://127.0.0.1:{server.port}/"
            _, socket = await connect(url, extensions=[PerMessageDeflate()])
            async with socket:
                get_messages, send_message = get_messages_factory(socket), send_message_factory(socket)
                for payload in sent:
                    send_message(payload)
                echoed = []
                async for message in get_messages():
                    echoed.append(message.payload)
                    if len(echoed) == len(sent):
                        socket.close()
                assert echoed[: len(sent)] == sent

    run(loop_kind, main())
    assert seen == sent


@every_transport
def test_over_a_pair_of_streams(loop_kind: str) -> None:
    seen: list[Seen] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        pair = (reader, writer)
        handle_messages, send = handle_messages_factory(pair), send_factory(pair)
        await send_handshake(request, pair)

        def on_message(message: Message) -> None:
            seen.append(seen_by(message))
            if message.opcode == Opcode.TEXT:
                send(prepare_websocket_frame(message.payload))
            if message.payload == b"two":
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await handle_messages(on_message)
        waiting = asyncio.ensure_future(handle_messages(on_message))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await handle_messages(on_message)
        await waiting

    async def client(raw: RawClient) -> None:
        await raw.send(texts(b"one", b"two", b"three"))
        for payload in (b"one", b"two", b"three"):
            assert (await raw.read_frame()).payload == payload
        await raw.send(b"".join(EVERYTHING))
        frames = [frame.payload for frame in await raw.read_frames()]
        assert frames == [b"p", b"ab", b"last", b"\x03\xe9bye"]

    run_stream_pair(loop_kind, handler, client)
    assert seen == [*((int(Opcode.TEXT), payload) for payload in (b"one", b"two", b"three")), *SEEN]


# -- What goes wrong --------------------------------------------------------------------------------------------------


class Failing:
    """Collects messages, and raises at those that say so."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.seen: list[bytes] = []

    def __call__(self, message: Message) -> None:
        self.seen.append(message.payload)
        if message.payload == b"fail":
            raise self.error


PINGED = {"plain": b"", "with a ping": masked(Opcode.PING, b"ping")}
pinged = pytest.mark.parametrize("ping", PINGED)
"""Messages of data alone go another way than those with control frames among them."""


@every_transport
@pinged
def test_what_the_function_raises_comes_out_and_the_connection_ends(loop_kind: str, ping: str) -> None:
    failing = Failing(ZeroDivisionError("mine"))
    raised: list[BaseException] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        handle_messages = handle_messages_factory(socket, auto_pong=False)
        send_handshake(request, socket)
        try:
            await handle_messages(failing)
        except ZeroDivisionError as error:
            raised.append(error)
            raise InternalError from None

    async def main() -> None:
        with pytest.raises(InternalError):
            async with serving(handler) as server:
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                raw = RawClient(reader, writer)
                await raw.upgrade()
                await raw.send(texts(b"one") + PINGED[ping] + texts(b"fail", b"three"))
                assert (await raw.read_close())[0] == 1011
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

    run(loop_kind, main())
    assert raised == [failing.error]
    assert failing.seen == [b"one", *([b"ping"] if PINGED[ping] else []), b"fail"]


class InternalError(Exception):
    """What a handler does not expect."""


@every_transport
@pinged
@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), StopAsyncIteration(), asyncio.CancelledError(), SystemExit(), KeyboardInterrupt()]
)
def test_what_follows_a_message_that_failed_is_for_the_next_call(
    loop_kind: str, ping: str, error: BaseException
) -> None:
    failing = Failing(error)
    raised: list[BaseException] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        handle_messages = handle_messages_factory(socket, auto_pong=False)
        send_handshake(request, socket)
        for _ in range(4):
            with pytest.raises(type(error)) as caught:
                await handle_messages(failing)
            raised.append(caught.value)
            await asyncio.sleep(0)
        await handle_messages(failing)

    async def client(raw: RawClient) -> None:
        await raw.send(texts(b"1", b"fail", b"2") + PINGED[ping] + texts(b"fail", b"fail", b"3"))
        await until(lambda: failing.seen[-1:] == [b"3"])
        await raw.send(texts(b"fail") + masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)
    expected = [b"1", b"fail", b"2", *([b"ping"] if PINGED[ping] else []), b"fail", b"fail", b"3", b"fail", b"\x03\xe8"]
    assert failing.seen == expected
    assert raised == [error] * 4


@every_transport
@pinged
def test_a_failure_keeps_nothing(loop_kind: str, ping: str) -> None:
    """The socket is freed at once, not when the garbage collector comes by."""
    sockets: list[weakref.ref[Socket]] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        sockets.append(weakref.ref(socket))
        handle_messages = handle_messages_factory(socket, auto_pong=False)
        send_handshake(request, socket)

        def fail(message: Message) -> None:
            raise ZeroDivisionError

        with suppress(ZeroDivisionError):
            await handle_messages(fail)

    async def client(raw: RawClient) -> None:
        await raw.send(PINGED[ping] + texts(b"x"))
        await raw.read_close()
        raw.reset()
        await until(lambda: sockets[0]() is None)

    gc.disable()
    try:
        run_pair(loop_kind, handler, client)
    finally:
        gc.enable()


@every_transport
def test_cancelled_it_goes_on_from_there(loop_kind: str) -> None:
    """Cancelled at whatever point the loop happens to be, again and again."""
    seen: list[bytes] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        handle_messages = handle_messages_factory(socket, auto_pong=False)
        send_handshake(request, socket)
        turns = 0
        while socket.received is None or socket.sent is None:
            task = asyncio.ensure_future(handle_messages(lambda message: seen.append(message.payload)))
            for _ in range(turns % 3):
                await asyncio.sleep(0)
            turns += 1
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def client(raw: RawClient) -> None:
        for i in range(300):
            await raw.send(texts(b"%d" % i) + (masked(Opcode.PING, b"%d" % -i) if i % 5 == 1 else b""))
            if i % 7 == 0:
                await asyncio.sleep(0)
        await raw.send(masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)
    assert seen == [b"%d" % each for i in range(300) for each in ([i, -i] if i % 5 == 1 else [i])] + [b"\x03\xe8"]


@every_transport
@pinged
def test_cancelled_in_the_turn_of_a_message(loop_kind: str, ping: str) -> None:
    """By the function itself: what follows in the same chunk is handed out, now or by the next call."""
    seen: list[bytes] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        handle_messages = handle_messages_factory(socket, auto_pong=False)
        send_handshake(request, socket)

        def on_message(message: Message) -> None:
            seen.append(message.payload)
            if message.payload == b"cancel":
                task.cancel()

        for _ in range(2):
            task = asyncio.ensure_future(handle_messages(on_message))
            with pytest.raises(asyncio.CancelledError):
                await task
        await handle_messages(on_message)

    async def client(raw: RawClient) -> None:
        await raw.send(texts(b"1", b"cancel", b"2", b"3") + PINGED[ping])
        await until(lambda: b"3" in seen)
        await raw.send(texts(b"4"))
        await raw.send(texts(b"cancel"))
        await until(lambda: seen[-1] == b"cancel")
        await raw.send(texts(b"5") + masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)
    pings = [b"ping"] if PINGED[ping] else []
    assert seen == [b"1", b"cancel", b"2", b"3", *pings, b"4", b"cancel", b"5", b"\x03\xe8"]


@every_transport
def test_what_may_be_done_once(loop_kind: str) -> None:
    seen: list[bytes] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        handle_messages = handle_messages_factory(socket, auto_pong=False)
        for factory in (handle_messages_factory, get_messages_factory):
            with pytest.raises(RuntimeError, match="already called"):
                factory(socket)
        with pytest.raises(RuntimeError, match="before the opening handshake"):
            await handle_messages(print)
        send_handshake(request, socket)
        waiting = asyncio.ensure_future(handle_messages(lambda message: seen.append(message.payload)))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await handle_messages(print)
        await waiting

    async def client(raw: RawClient) -> None:
        await raw.send(texts(b"one") + masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)
    assert seen == [b"one", b"\x03\xe8"]


@every_transport
@pinged
def test_the_function_sees_the_context_of_the_task(loop_kind: str, ping: str) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nobody's")
    seen: list[str] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        handle_messages = handle_messages_factory(socket, auto_pong=False)
        send_handshake(request, socket)
        variable.set("the handler's")

        def on_message(message: Message) -> None:
            seen.append(variable.get())
            variable.set(message.payload.decode(errors="ignore"))

        await handle_messages(on_message)
        assert variable.get() == prepare_close_frame_payload(1000).decode(errors="ignore")

    async def client(raw: RawClient) -> None:
        await raw.send(PINGED[ping] + texts(b"one", b"two"))
        await until(lambda: len(seen) == 2 + bool(PINGED[ping]))
        await raw.send(masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)
    assert seen == ["the handler's", *(["ping"] if PINGED[ping] else []), "one", "two"]


# -- What it sends ----------------------------------------------------------------------------------------------------


def echo(**options: object) -> Handler:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        options.setdefault("auto_pong", False)
        handle_messages, send = handle_messages_factory(socket, **options), send_factory(socket)  # type: ignore[arg-type]
        send_handshake(request, socket)

        def on_message(message: Message) -> None:
            if not message.opcode & 8:
                send(prepare_websocket_frame(message.payload, opcode=message.opcode))

        with suppress(ConnectionLost):
            await handle_messages(on_message)

    return handler


@every_transport
@pinged
def test_replies_to_one_read_leave_in_one_write(loop_kind: str, ping: str) -> None:
    """A client that reads once has all of them."""

    async def client(raw: RawClient) -> None:
        for i in range(20):
            payloads = [b"%d" % (100 * i + j) for j in range(16)]
            await raw.send(texts(*payloads) + PINGED[ping])
            expected = b"".join(prepare_websocket_frame(each, opcode=Opcode.TEXT) for each in payloads)
            assert await raw.reader.read(65536) == expected
        await raw.send(masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, echo(), client)


@every_transport
@pytest.mark.parametrize("size", [1000, 20_000])
def test_who_does_not_read_the_echoes_is_held_up(loop_kind: str, size: int) -> None:
    """What waits stays bounded, and everything arrives once the peer reads."""
    sockets: list[Socket] = []
    held = 0
    plain = echo()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        sockets.append(socket)
        await plain(request, socket, head)

    async def client(raw: RawClient) -> None:
        nonlocal held
        raw.writer.transport.set_write_buffer_limits(high=0)
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        sent: list[int] = []
        frame = masked(Opcode.BINARY, b"x" * size)
        flood = asyncio.create_task(send_without_end(raw, frame * (60_000 // len(frame)), sent))
        assert await settled(lambda: sum(sent)) < 60 * MIB
        held = sockets[0].buffered
        assert held < MIB
        flood.cancel()
        with suppress(asyncio.CancelledError):
            await flood
        raw.writer.write(masked_close(1000))
        raw.writer.transport.resume_reading()  # type: ignore[attr-defined]
        frames = await raw.read_frames()
        number = sockets[0].counters.messages_received
        assert number >= len(sent) * (60_000 // len(frame))
        assert [each.payload for each in frames[:-1]] == [b"x" * size] * number

    run_pair(loop_kind, handler, client)


ENDINGS: dict[str, list[Callable[[Socket], None]]] = {
    "close": [lambda socket: socket.close(4000, "enough")],
    "abort": [Socket.abort],
    "close, abort": [lambda socket: socket.close(4000), Socket.abort],
    "close, close": [lambda socket: socket.close(4000, "enough"), lambda socket: socket.close(4001)],
}


@every_transport
@pinged
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_function_that_ends_the_connection(loop_kind: str, ping: str, ending: str) -> None:
    seen: list[bytes] = []
    ended: list[BaseException | None] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        handle_messages, send = handle_messages_factory(socket, auto_pong=False), send_factory(socket)
        send_handshake(request, socket)

        def on_message(message: Message) -> None:
            seen.append(message.payload)
            if message.opcode == Opcode.TEXT and socket.is_open:
                send(prepare_websocket_frame(message.payload))
            if message.payload == b"end":
                for end in ENDINGS[ending]:
                    end(socket)

        try:
            await handle_messages(on_message)
        except ConnectionLost as error:
            ended.append(error)
        else:
            ended.append(None)
        await socket.wait_closed()
        assert socket.buffered == 0

    async def client(raw: RawClient) -> None:
        await raw.send(texts(b"one") + PINGED[ping] + texts(b"end", b"three"))
        if "abort" in ending:
            with suppress(ConnectionError):
                await raw.read_until_eof()
        else:
            assert [frame.payload for frame in [await raw.read_frame(), await raw.read_frame()]] == [b"one", b"end"]
            assert await raw.read_close() == (4000, "enough")
            await raw.send(texts(b"crossing") + masked_close(4000))
            assert await raw.read_frames() == []

    run_pair(loop_kind, handler, client)
    crossing = [] if "abort" in ending else [b"crossing", b"\x0f\xa0"]
    assert seen == [b"one", *([b"ping"] if PINGED[ping] else []), b"end", b"three", *crossing]
    assert [type(each) for each in ended] == [ConnectionLost if ending == "abort" else type(None)]


@every_transport
def test_a_task_made_by_the_function_may_wait(loop_kind: str) -> None:
    """What it sends later leaves all the same."""
    tasks: list[Awaitable[None]] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        handle_messages, send = handle_messages_factory(socket, auto_pong=False), send_factory(socket)
        send_handshake(request, socket)

        async def reply(payload: bytes) -> None:
            await asyncio.sleep(0.001)
            await send(prepare_websocket_frame(payload))

        def on_message(message: Message) -> None:
            if message.opcode == Opcode.TEXT:
                tasks.append(asyncio.ensure_future(reply(message.payload)))

        await handle_messages(on_message)
        await asyncio.gather(*tasks)

    async def client(raw: RawClient) -> None:
        for i in range(20):
            await raw.send(texts(b"%d" % i))
            assert (await raw.read_frame()).payload == b"%d" % i
        await raw.send(masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)
