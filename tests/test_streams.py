"""The factories on the (StreamReader, StreamWriter) pair of a program built around asyncio.start_server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from wslowlevel import (
    ConnectionLost,
    InvalidHandshake,
    Opcode,
    ProtocolError,
    get_messages_factory,
    prepare_websocket_frame,
    read_request,
    send_factory,
    send_handshake,
    send_message_factory,
)
from wslowlevel.wire import JOIN_LIMIT

from .servers import RawClient, both_loops, connecting, handshake, masked, masked_close, run, upgraded

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

MIB = 1024 * 1024


@asynccontextmanager
async def streaming(handler: Handler) -> AsyncIterator[int]:
    """asyncio.start_server on a free port, which it gives; what the handler did not expect is raised at the end."""
    tasks: list[asyncio.Task[None]] = []

    async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.ensure_future(handled(reader, writer)))

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await asyncio.gather(*tasks)


def run_pair(loop_kind: str, handler: Handler, client: Callable[[RawClient], Awaitable[None]]) -> None:
    async def main() -> None:
        async with streaming(handler) as port, upgraded(port) as raw:
            await client(raw)

    run(loop_kind, main())


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    request = await read_request(reader)
    pair = (reader, writer)
    get_messages = get_messages_factory(pair, auto_pong=True)
    await send_handshake(request, pair, ["X-Served-By: streams"])
    send = send_factory(pair)
    async for message in get_messages():
        if message.opcode in (Opcode.TEXT, Opcode.BINARY):
            await send(prepare_websocket_frame(message.payload, opcode=message.opcode))


@both_loops
def test_an_echo_server(loop_kind: str) -> None:
    large = bytes(range(251)) * 5000

    async def client(raw: RawClient) -> None:
        assert raw.head.endswith(b"X-Served-By: streams\r\n\r\n")
        raw.writer.write(masked(Opcode.TEXT, b"a", fin=0) + masked(Opcode.PING, b"p"))
        raw.writer.write(masked(Opcode.CONTINUATION, b"b") + masked(Opcode.BINARY, large) + masked_close(1001))
        frames = [(frame.opcode, frame.payload) for frame in await raw.read_frames()]
        assert frames == [
            (Opcode.PONG, b"p"),
            (Opcode.TEXT, b"ab"),
            (Opcode.BINARY, large),
            (Opcode.CLOSE, b"\x03\xe9"),
        ]

    run_pair(loop_kind, echo, client)


@both_loops
def test_everything_made_for_a_pair_shares_its_state(loop_kind: str) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        one, other = send_factory((reader, writer)), send_factory((reader, writer))
        await send_handshake(request, (reader, writer))
        one(prepare_websocket_frame(b"one"))
        other(prepare_websocket_frame(b"other"))
        await one(prepare_websocket_frame(b"", opcode=Opcode.CLOSE))
        with pytest.raises(ConnectionLost):
            other(prepare_websocket_frame(b"late"))
        get_messages = get_messages_factory((reader, writer))
        with pytest.raises(RuntimeError, match="already called"):
            get_messages_factory((reader, writer))
        assert [message.opcode async for message in get_messages()] == [Opcode.CLOSE]

    async def client(raw: RawClient) -> None:
        await raw.send(masked(Opcode.CLOSE))
        assert [frame.payload for frame in await raw.read_frames()] == [b"one", b"other", b""]

    run_pair(loop_kind, handler, client)


@both_loops
def test_a_violation_is_answered_and_raised(loop_kind: str) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with pytest.raises(ProtocolError, match="not masked"):
            await echo(reader, writer)

    async def client(raw: RawClient) -> None:
        await raw.send(masked(Opcode.TEXT, b"before"), b"\x81\x05")
        assert (await raw.read_frame()).payload == b"before"
        assert await raw.read_close() == (1002, "frame from a client is not masked (RFC 6455 §5.1)")

    run_pair(loop_kind, handler, client)


@both_loops
@pytest.mark.parametrize("ending", ["eof", "reset"])
def test_an_end_without_close_is_an_error(loop_kind: str, ending: str) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with pytest.raises(ConnectionLost) as caught:
            await echo(reader, writer)
        assert caught.value.code == 1006

    async def client(raw: RawClient) -> None:
        await raw.send(masked(Opcode.TEXT, b"a"), b"\x81")
        assert (await raw.read_frame()).payload == b"a"
        if ending == "eof":
            raw.writer.write_eof()
            await raw.read_until_eof()
        else:
            raw.reset()

    run_pair(loop_kind, handler, client)


@both_loops
def test_whose_writer_was_closed_cannot_send(loop_kind: str) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        send = send_factory((reader, writer))
        await send_handshake(request, (reader, writer))
        writer.close()
        with pytest.raises(ConnectionLost):
            send(prepare_websocket_frame(b"late"))

    async def client(raw: RawClient) -> None:
        assert await raw.read_until_eof() == b""

    run_pair(loop_kind, handler, client)


@both_loops
@pytest.mark.parametrize("size", [4, JOIN_LIMIT])
def test_nor_can_a_message_of_any_size(loop_kind: str, size: int) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        send_message = send_message_factory((reader, writer))
        await send_handshake(request, (reader, writer))
        writer.close()
        with pytest.raises(ConnectionLost):
            send_message(bytes(size))

    async def client(raw: RawClient) -> None:
        assert await raw.read_until_eof() == b""

    run_pair(loop_kind, handler, client)


@both_loops
def test_await_send_waits_for_a_slow_peer(loop_kind: str) -> None:
    sent: list[int] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        send = send_factory((reader, writer))
        await send_handshake(request, (reader, writer))
        for i in range(40):
            await send(prepare_websocket_frame(bytes([i]) * MIB))
            sent.append(i)

    async def client(raw: RawClient) -> None:
        for _ in range(100):
            await asyncio.sleep(0.001)
        assert len(sent) < 40
        for i in range(40):
            assert (await raw.read_frame()).payload == bytes([i]) * MIB
        assert await raw.read_until_eof() == b""

    run_pair(loop_kind, handler, client)


@both_loops
def test_a_cancelled_step_loses_nothing(loop_kind: str) -> None:
    collected: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        get_messages = get_messages_factory((reader, writer))
        await send_handshake(request, (reader, writer))
        while b"\x03\xe8" not in collected:
            step = asyncio.ensure_future(anext(get_messages()))
            await asyncio.sleep(0)
            step.cancel()
            with suppress(asyncio.CancelledError):
                collected.append((await step).payload)

    async def client(raw: RawClient) -> None:
        for i in range(100):
            await raw.send(masked(Opcode.TEXT, b"%d" % i))
        await raw.send(masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)
    assert collected == [b"%d" % i for i in range(100)] + [b"\x03\xe8"]


@both_loops
@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (handshake().replace(b"Version: 13", b"Version: 12"), 426),
        (handshake().replace(b"Upgrade: websocket\r\n", b""), 426),
        (handshake().replace(b"127.0.0.1", b"a\r\nHost: b"), 400),
    ],
)
def test_an_invalid_request_is_answered_with_its_status(loop_kind: str, request_: bytes, status: int) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await read_request(reader)
            send_handshake(request, (reader, writer))
        except InvalidHandshake as error:
            assert error.status == status
            if status == 400:  # found while reading, before there was a request to answer
                writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        else:
            raise AssertionError("accepted")

    async def main() -> None:
        async with streaming(handler) as port, connecting(port) as raw:
            await raw.send(request_)
            assert (await raw.read_until_eof()).startswith(b"HTTP/1.1 %d " % status)

    run(loop_kind, main())


@both_loops
def test_a_request_that_does_not_end(loop_kind: str) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with pytest.raises(InvalidHandshake) as caught:
            await read_request(reader)
        assert caught.value.status == 431

    async def short(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with pytest.raises(ConnectionError, match="inside the request head"):
            await read_request(reader)

    async def main() -> None:
        async with streaming(endless) as port, connecting(port) as raw:
            with suppress(ConnectionError):
                await raw.send(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000)
                await raw.read_until_eof()
        async with streaming(short) as port, connecting(port) as raw:
            await raw.send(handshake()[:-1])
            raw.writer.write_eof()
            await raw.read_until_eof()

    run(loop_kind, main())
