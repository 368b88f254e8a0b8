"""One test for each known fault of the Node library whose API this is; none may be carried over.

Each runs against the real server, over loopback.
"""

from __future__ import annotations

import asyncio
import logging

import pytest

from wslowlevel import (
    CloseCode,
    ConnectionLost,
    Message,
    Opcode,
    PayloadTooBig,
    ProtocolError,
    Reason,
    Request,
    Socket,
    encode_frame,
    encode_header,
    get_messages_factory,
    prepare_close_frame_payload,
    prepare_websocket_frame,
    send_factory,
    send_handshake,
)

from .servers import (
    ACCEPT,
    HEAD_END,
    REQUEST_KEY,
    both_loops,
    connecting,
    handshake,
    masked,
    masked_close,
    run,
    serving,
    upgraded,
)
from .vectors import KEY

GREETING = prepare_websocket_frame(b"first", is_utf8=True)


class Recorder:
    """A handler that notes what the iterator hands out, and how it ends.

    Attributes:
        messages: what it handed out, over all connections.
        ended: one result for each connection: None for an ordinary end, or the error.
    """

    def __init__(self, max_size: int = 1024) -> None:
        self.max_size = max_size
        self.messages: list[Message] = []
        self.ended: asyncio.Queue[Exception | None] = asyncio.Queue()

    async def __call__(self, request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket, max_in_memory_store_size=self.max_size)
        send_handshake(request, socket)
        error: Exception | None = None
        try:
            async for message in get_messages():
                self.messages.append(message)
        except (ConnectionLost, PayloadTooBig, ProtocolError) as caught:
            error = caught
        self.ended.put_nowait(error)

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.messages]


# -- "With no extra headers it writes one CRLF too many after the 101 answer" -----------------------------------------


@both_loops
@pytest.mark.parametrize("headers", [(), ("X-One: 1",), ("X-One: 1", ("X-Two", "2"))], ids=["none", "one", "two"])
def test_no_crlf_between_the_101_answer_and_the_first_frame(
    loop_kind: str, headers: tuple[str | tuple[str, str], ...]
) -> None:
    async def on_upgrade(request: Request, socket: Socket, head: bytes) -> None:
        send = send_factory(socket)
        send_handshake(request, socket, headers)
        send(GREETING)

    async def scenario() -> bytes:
        async with serving(on_upgrade) as server, connecting(server.port) as client:
            await client.send(handshake(), masked_close(1000))
            return await client.read_until_eof()

    head, _, frames = run(loop_kind, scenario()).partition(HEAD_END)
    assert head.decode().split("\r\n") == [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {ACCEPT}",
        *["X-One: 1", "X-Two: 2"][: len(headers)],
    ]
    assert frames == GREETING + encode_frame(Opcode.CLOSE, prepare_close_frame_payload(1000))


# -- "The second fragmented message starts with the bytes of the first" -----------------------------------------------


@both_loops
def test_the_second_fragmented_message_starts_empty(loop_kind: str) -> None:
    async def scenario() -> list[Message]:
        recorder = Recorder()
        async with serving(recorder) as server, upgraded(server.port) as client:
            for opcode, fragments in ((Opcode.TEXT, (b"Hel", b"lo")), (Opcode.BINARY, (b"wor", b"", b"ld"))):
                first, *middle, last = fragments
                await client.send(
                    masked(opcode, first, fin=0),
                    *(masked(Opcode.CONTINUATION, fragment, fin=0) for fragment in middle),
                    masked(Opcode.CONTINUATION, last),
                )
            await client.send(masked(Opcode.TEXT, b"whole"), masked_close(1000))
            await client.read_frames()
            assert await recorder.ended.get() is None
        return recorder.messages

    first, second, whole, _ = run(loop_kind, scenario())
    assert (first.opcode, first.payload) == (Opcode.TEXT, b"Hello")
    assert (second.opcode, second.payload) == (Opcode.BINARY, b"world")
    assert (whole.opcode, whole.payload) == (Opcode.TEXT, b"whole")


# -- "The size limit is never applied" --------------------------------------------------------------------------------

LIMIT = 1024

TOO_BIG = {
    "one byte too many": (masked(Opcode.BINARY, bytes(LIMIT + 1)), LIMIT + 1),
    "fragments that sum up": (
        masked(Opcode.BINARY, bytes(LIMIT), fin=0) + masked(Opcode.CONTINUATION, b"1"),
        LIMIT + 1,
    ),
    "announced, not sent": (encode_header(Opcode.BINARY, 2**40, mask_key=KEY), 2**40),
}


@both_loops
@pytest.mark.parametrize(("data", "size"), TOO_BIG.values(), ids=TOO_BIG)
def test_the_size_limit_is_applied(loop_kind: str, data: bytes, size: int) -> None:
    async def scenario() -> None:
        recorder = Recorder(LIMIT)
        async with serving(recorder) as server, upgraded(server.port) as client:
            just_fits = masked(Opcode.BINARY, bytes(LIMIT))
            await client.send(just_fits, data)
            code, reason = await client.read_close()
            error = await recorder.ended.get()
        assert recorder.payloads == [bytes(LIMIT)]
        assert isinstance(error, PayloadTooBig)
        assert (error.reason, error.size, error.limit) == (Reason.MESSAGE_TOO_BIG, size, LIMIT)
        assert code == CloseCode.MESSAGE_TOO_BIG
        assert str(size) in reason
        assert str(LIMIT) in reason

    run(loop_kind, scenario())


# -- "The iterator never ends when the socket does" -------------------------------------------------------------------

HELLO = masked(Opcode.TEXT, b"hello")


@both_loops
def test_the_iterator_ends_after_the_close_message(loop_kind: str) -> None:
    async def scenario() -> None:
        recorder = Recorder()
        async with serving(recorder) as server, upgraded(server.port) as client:
            await client.send(HELLO, masked_close(1000), HELLO)
            assert await recorder.ended.get() is None
        assert recorder.payloads == [b"hello", prepare_close_frame_payload(1000)]

    run(loop_kind, scenario())


@both_loops
@pytest.mark.parametrize(
    "rest", [b"", HELLO[:1], HELLO[:8]], ids=["after a frame", "inside a header", "inside a payload"]
)
def test_the_iterator_ends_when_the_peer_goes_without_a_word(loop_kind: str, rest: bytes) -> None:
    async def scenario() -> None:
        recorder = Recorder()
        async with serving(recorder) as server, upgraded(server.port) as client:
            await client.send(HELLO, rest)
            client.writer.write_eof()
            error = await recorder.ended.get()
        assert recorder.payloads == [b"hello"]
        assert isinstance(error, ConnectionLost)
        assert (error.code, error.received, error.sent) == (CloseCode.ABNORMAL_CLOSURE, None, None)

    run(loop_kind, scenario())


@both_loops
def test_the_iterator_ends_when_the_server_drops_the_connection(loop_kind: str) -> None:
    async def scenario() -> None:
        recorder = Recorder()
        sockets: asyncio.Queue[Socket] = asyncio.Queue()

        async def on_upgrade(request: Request, socket: Socket, head: bytes) -> None:
            sockets.put_nowait(socket)
            await recorder(request, socket, head)

        async with serving(on_upgrade) as server, upgraded(server.port):
            (await sockets.get()).abort()
            assert isinstance(await recorder.ended.get(), ConnectionLost)

    run(loop_kind, scenario())


# -- "A whole frame inside a fragmented message is delivered as if it were fine" --------------------------------------


@both_loops
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
@pytest.mark.parametrize("fin", [0, 1])
def test_a_new_message_inside_a_fragmented_one_is_refused(loop_kind: str, opcode: int, fin: int) -> None:
    async def scenario() -> None:
        recorder = Recorder()
        async with serving(recorder) as server, upgraded(server.port) as client:
            # A ping may stand there, and is handed out before the violation is raised.
            await client.send(
                masked(Opcode.TEXT, b"Hel", fin=0),
                masked(Opcode.PING, b"ping"),
                masked(opcode, b"intruder", fin=fin),
                masked(Opcode.CONTINUATION, b"lo"),
            )
            assert (await client.read_frame()).opcode == Opcode.PONG
            code, _ = await client.read_close()
            error = await recorder.ended.get()
        assert recorder.payloads == [b"ping"]
        assert isinstance(error, ProtocolError)
        assert error.reason == Reason.EXPECTED_CONTINUATION
        assert code == CloseCode.PROTOCOL_ERROR

    run(loop_kind, scenario())


# -- "A reset connection ends the process" ----------------------------------------------------------------------------


async def flood(request: Request, socket: Socket, head: bytes) -> None:
    """Send without end, so that the reset comes in the middle of it."""
    send = send_factory(socket)
    send_handshake(request, socket)
    frame = prepare_websocket_frame(bytes(16 * 1024))
    while True:
        await send(frame)


async def echo(request: Request, socket: Socket, head: bytes) -> None:
    get_messages = get_messages_factory(socket)
    send = send_factory(socket)
    send_handshake(request, socket)
    async for message in get_messages():
        if message.opcode == Opcode.TEXT:
            await send(prepare_websocket_frame(message.payload, is_utf8=True))


RESETS = {
    "before the request": b"",
    "inside the request": handshake()[:40],
    "behind the handshake": handshake(target="/echo"),
    "inside a frame": handshake(target="/echo") + HELLO[:8],
    "while it is sent to": handshake(target="/flood"),
}


@both_loops
@pytest.mark.parametrize("before", RESETS.values(), ids=RESETS)
def test_a_reset_ends_one_connection_and_no_more(
    loop_kind: str, before: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        lost: asyncio.Queue[ConnectionLost] = asyncio.Queue()

        async def on_upgrade(request: Request, socket: Socket, head: bytes) -> None:
            try:
                await {"/echo": echo, "/flood": flood}[request.target](request, socket, head)
            except ConnectionLost as error:
                lost.put_nowait(error)

        async with serving(on_upgrade) as server, upgraded(server.port, target="/echo") as neighbour:
            async with connecting(server.port) as client:
                await client.send(before)
                if HEAD_END in before:
                    await client.reader.readuntil(HEAD_END)
                client.reset()
                if HEAD_END in before:
                    assert (await lost.get()).received is None
            # Who was there goes on, and who comes is served.
            async with upgraded(server.port, target="/echo") as newcomer:
                for other in (neighbour, newcomer):
                    await other.send(HELLO)
                    assert (await other.read_frame()).payload == b"hello"

    run(loop_kind, scenario())
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# -- "Close reasons over 123 bytes and reserved close codes are accepted" ---------------------------------------------

RESERVED_CODES = (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)

BAD_CLOSES = {
    **{f"code {code}": masked_close(code) for code in RESERVED_CODES},
    "reason of 124 bytes": masked_close(1000, b"x" * 124),
    "code of 1 byte": masked(Opcode.CLOSE, b"\x03"),
}


@both_loops
@pytest.mark.parametrize("close", BAD_CLOSES.values(), ids=BAD_CLOSES)
def test_a_bad_close_frame_is_refused(loop_kind: str, close: bytes) -> None:
    async def scenario() -> None:
        recorder = Recorder()
        async with serving(recorder) as server, upgraded(server.port) as client:
            await client.send(close)
            code, _ = await client.read_close()
            assert isinstance(await recorder.ended.get(), ProtocolError)
        assert recorder.payloads == []
        assert code == CloseCode.PROTOCOL_ERROR

    run(loop_kind, scenario())


@both_loops
@pytest.mark.parametrize(
    ("code", "reason", "named"),
    [*((code, "", "code") for code in RESERVED_CODES), (1000, "x" * 124, "reason"), (1000, "ü" * 62, "reason")],
    ids=[*map(str, RESERVED_CODES), "124 bytes", "62 characters of 2 bytes"],
)
def test_a_bad_close_frame_is_not_sent(loop_kind: str, code: int, reason: str, named: str) -> None:
    async def on_upgrade(request: Request, socket: Socket, head: bytes) -> None:
        send_handshake(request, socket)
        with pytest.raises(ValueError, match=named):
            prepare_close_frame_payload(code, reason)
        with pytest.raises(ValueError, match=named):
            socket.close(code, reason)
        with pytest.raises(ValueError, match=f"{named}|payload"):
            prepare_websocket_frame(code.to_bytes(2, "big") + reason.encode(), opcode=Opcode.CLOSE)
        socket.close(1000, "x" * 123)

    async def scenario() -> None:
        async with serving(on_upgrade) as server, upgraded(server.port) as client:
            assert await client.read_close() == (1000, "x" * 123)
            await client.send(masked_close(1000))
            assert await client.read_frames() == []

    run(loop_kind, scenario())


# -- "Nothing of the upgrade request is checked" ----------------------------------------------------------------------

HOST = "Host: 127.0.0.1"
KEY_LINE = f"Sec-WebSocket-Key: {REQUEST_KEY}"
VERSION_LINE = "Sec-WebSocket-Version: 13"

BAD_REQUESTS = {
    "method": ("GET /", "POST /", 405),
    "HTTP/1.0": ("HTTP/1.1", "HTTP/1.0", 426),
    "no HTTP": ("GET / HTTP/1.1", "hello", 400),
    "no Host": (HOST, "X-Host: 127.0.0.1", 400),
    "two Hosts": (HOST, f"{HOST}\r\n{HOST}", 400),
    "no Upgrade": ("Upgrade: websocket", "X-Upgrade: websocket", 426),
    "another Upgrade": ("Upgrade: websocket", "Upgrade: websockets", 426),
    "Connection without Upgrade": ("keep-alive, Upgrade", "keep-alive", 400),
    "no version": (VERSION_LINE, "X-Version: 13", 426),
    "another version": (VERSION_LINE, "Sec-WebSocket-Version: 8", 426),
    "no key": (KEY_LINE, "X-Key: -", 400),
    "two keys": (KEY_LINE, f"{KEY_LINE}\r\n{KEY_LINE}", 400),
    "key of 15 bytes": (REQUEST_KEY, "dGhlIHNhbXBsZSBub25j", 400),
    "key of 17 bytes": (REQUEST_KEY, "dGhlIHNhbXBsZSBub25jZSE=", 400),
    "key not base64": (REQUEST_KEY, "dGhlIHNhbXBsZSBub25jZ!==", 400),
    "body": (HOST, f"{HOST}\r\nContent-Length: 5", 400),
    "chunked body": (HOST, f"{HOST}\r\nTransfer-Encoding: chunked", 400),
}


@both_loops
@pytest.mark.parametrize(("good", "bad", "status"), BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_a_bad_upgrade_request_is_refused(loop_kind: str, good: str, bad: str, status: int) -> None:
    handled: list[Request] = []

    async def on_upgrade(request: Request, socket: Socket, head: bytes) -> None:
        handled.append(request)

    async def scenario() -> bytes:
        async with serving(on_upgrade) as server, connecting(server.port) as client:
            request = handshake()
            assert good.encode() in request
            await client.send(request.replace(good.encode(), bad.encode(), 1))
            return await client.read_until_eof()

    answer = run(loop_kind, scenario())
    head, end, body = answer.partition(HEAD_END)
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert end
    assert body
    assert (b"Sec-WebSocket-Version: 13" in head) == (status == 426)
    assert (b"Allow: GET" in head) == (status == 405)
    assert handled == []


@both_loops
@pytest.mark.parametrize(
    "header", ["X-Bad: 1\r\nX-Injected: 1", ("X-Bad", "1\nX-Injected: 1"), "X Bad: 1", "no colon", ("X-Bad", "\0")]
)
def test_no_header_of_the_caller_adds_another_line(loop_kind: str, header: str | tuple[str, str]) -> None:
    async def on_upgrade(request: Request, socket: Socket, head: bytes) -> None:
        with pytest.raises(ValueError, match="header"):
            send_handshake(request, socket, [header])
        send_handshake(request, socket)  # nothing was sent yet

    async def scenario() -> bytes:
        async with serving(on_upgrade) as server, upgraded(server.port) as client:
            return client.head

    assert b"X-" not in run(loop_kind, scenario())
