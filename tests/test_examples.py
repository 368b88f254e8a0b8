"""Each example as its reader runs it: a process of its own, a client that talks to it, and Ctrl-C at the end."""

from __future__ import annotations

import asyncio
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close

from wslowlevel import (
    CloseCode,
    Connection,
    Opcode,
    ProtocolError,
    Request,
    Socket,
    encode_frame,
    get_messages_factory,
    send_handshake,
    send_message_factory,
)
from wslowlevel.aio.server import OnUpgrade

from .servers import HEAD_END, TIMEOUT, RawClient, connecting, handshake, masked, masked_close, run, serving, upgraded

EXAMPLES = Path(__file__).parent.parent / "examples"

ECHO_SERVERS = ("echo_server", "asyncio_streams", "sans_io")
"""Examples that send back every text and binary message."""

WITHOUT_SERVE = ("asyncio_streams", "sans_io")
"""Examples whose own loop it is to tell the clients that they end; they do not."""

SERVERS = {
    "echo_server": "/",
    "custom_close": "/",
    "rate_limiter": "/",
    "routes": "/echo",
    "extension_rsv": "/",
    "inspect_ping": "/",
    "asyncio_streams": "/",
    "sans_io": "/",
}
"""Every example, and where it takes connections."""


class Example:
    """A running example.

    Attributes:
        port: where it listens.
        output: what it printed behind its first line; known once it has ended.
    """

    def __init__(self, name: str, backend: str) -> None:
        self.output = ""
        self._interrupted = False
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), "--port", "0"],
            env={**os.environ, "WSLOWLEVEL_BACKEND": backend, "PYTHONIOENCODING": "utf-8"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )
        self._watchdog = threading.Timer(2 * TIMEOUT, self._process.kill)
        self._watchdog.start()

    def wait_until_ready(self) -> None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        ready = re.fullmatch(r"listening on ws://127\.0\.0\.1:(\d+)\n", line)
        assert ready, line
        self.port = int(ready[1])

    def url(self, target: str = "/") -> str:
        return f"ws://127.0.0.1:{self.port}{target}"

    def interrupt(self) -> None:
        """Press Ctrl-C, once: a second time would be for a process that is ending already."""
        if not self._interrupted:
            self._interrupted = True
            self._process.send_signal(signal.SIGINT)

    def end(self) -> None:
        """Press Ctrl-C and expect a clean end."""
        self.interrupt()
        self.output, errors = self._process.communicate()
        assert errors == ""
        assert self._process.returncode == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._watchdog.cancel()
        self._watchdog.join()


@contextmanager
def hearing_ctrl_c() -> Iterator[None]:
    """Whatever started this process may have made it deaf to Ctrl-C; a child that starts here is not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def running(name: str, backend: str) -> Iterator[Example]:
    with hearing_ctrl_c():
        example = Example(name, backend)
    try:
        example.wait_until_ready()
        yield example
        example.end()
    finally:
        example.kill()


@pytest.fixture(params=["python", "cython"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def client(example: Example, target: str = "/") -> AsyncIterator[ClientConnection]:
    async with connect(example.url(target), compression=None) as connection:
        yield connection


async def close_from_server(connection: ClientConnection) -> tuple[int, str]:
    """(code, reason) of the server's Close frame, which must come next."""
    with pytest.raises(ConnectionClosed) as caught:
        await connection.recv()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


# -- What all of them do ----------------------------------------------------------------------------------------------


ELSEWHERE = {"chat", "big_file", "client", "tls_server"}
"""Examples with a file of tests of their own: tests/test_chat.py, tests/test_client_examples.py."""


def test_no_example_is_forgotten() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SERVERS) | ELSEWHERE


@pytest.mark.parametrize(("name", "target"), SERVERS.items(), ids=SERVERS)
def test_ctrl_c_ends_an_example_that_has_a_client(name: str, target: str, backend: str) -> None:
    async def scenario(example: Example) -> None:
        async with client(example, target) as connection:
            await connection.ping()
            example.interrupt()
            with pytest.raises(ConnectionClosed) as caught:
                while True:
                    await connection.recv()
            assert caught.value.rcvd == (None if name == "sans_io" else Close(CloseCode.GOING_AWAY, ""))

    with running(name, backend) as example:
        run("asyncio", scenario(example))


@pytest.mark.parametrize(("name", "target"), SERVERS.items(), ids=SERVERS)
def test_a_violation_ends_one_connection_of_an_example(name: str, target: str, backend: str) -> None:
    async def scenario(example: Example) -> None:
        async with upgraded(example.port, target=target) as broken:
            await broken.send(masked(Opcode.TEXT, b"\xff"))
            frames = await broken.read_frames()
            assert frames[-1].opcode == Opcode.CLOSE
            assert frames[-1].payload[:2] == CloseCode.INVALID_PAYLOAD.to_bytes(2, "big")
        async with upgraded(example.port, target=target) as gone:
            gone.reset()
        async with client(example, target) as connection:
            await (await connection.ping())

    with running(name, backend) as example:
        run("asyncio", scenario(example))


# -- Echo servers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ECHO_SERVERS)
def test_an_echo_server_echoes(name: str, backend: str) -> None:
    async def scenario(example: Example) -> None:
        async with client(example) as connection:
            if name == "echo_server":
                assert await connection.recv() == "hello from the server"
            for message in ("", "text ü", "x" * 70_000, b"", b"\x00\xff", bytes(200_000)):
                await connection.send(message)
                assert await connection.recv() == message
            await (await connection.ping(b"by hand"))
            await connection.close(1001, "enough")
            assert connection.close_code == 1001

    with running(name, backend) as example:
        run("asyncio", scenario(example))


@pytest.mark.parametrize("name", ECHO_SERVERS)
def test_an_echo_server_answers_what_came_right_before_the_close(name: str, backend: str) -> None:
    async def scenario(example: Example) -> None:
        async with connecting(example.port) as connection:
            texts = [masked(Opcode.TEXT, b"one"), masked(Opcode.TEXT, b"two")]
            await connection.upgrade(behind=b"".join(texts) + masked_close(4000, b"reason"))
            frames = await connection.read_frames()
            assert [(frame.opcode, frame.payload) for frame in frames[-3:]] == [
                (Opcode.TEXT, b"one"),
                (Opcode.TEXT, b"two"),
                (Opcode.CLOSE, b"\x0f\xa0reason"),
            ]

    with running(name, backend) as example:
        run("asyncio", scenario(example))


@pytest.mark.parametrize("name", [name for name in SERVERS if name != "asyncio_streams"])
def test_a_request_that_is_no_upgrade_is_answered_with_426(name: str, backend: str) -> None:
    async def scenario(example: Example) -> None:
        async with connecting(example.port) as connection:
            await connection.send(b"GET /page HTTP/1.1\r\nHost: -\r\n\r\n")
            answer = await connection.read_until_eof()
            assert answer.startswith(b"HTTP/1.1 404 " if name == "routes" else b"HTTP/1.1 426 ")

    with running(name, backend) as example:
        run("asyncio", scenario(example))


def test_the_echo_server_greets_and_logs_every_kind_of_message(backend: str) -> None:
    async def scenario(example: Example) -> None:
        async with upgraded(example.port) as connection:
            assert b"\r\nX-Served-By: echo_server.py\r\n" in connection.head
            greeting = [await connection.read_frame() for _ in range(2)]
            assert [(frame.opcode, frame.payload) for frame in greeting] == [
                (Opcode.PING, b"are you there?"),
                (Opcode.TEXT, b"hello from the server"),
            ]
            await connection.send(masked(Opcode.PONG, b"are you there?"), masked(Opcode.TEXT, "ü".encode()))
            await connection.send(
                masked(Opcode.BINARY, bytes(3)), masked(Opcode.PING, b"p"), masked_close(1000, b"bye")
            )
            frames = await connection.read_frames()
            assert [(frame.opcode, frame.payload) for frame in frames] == [
                (Opcode.TEXT, "ü".encode()),
                (Opcode.BINARY, bytes(3)),
                (Opcode.PONG, b"p"),
                (Opcode.CLOSE, b"\x03\xe8bye"),
            ]

    with running("echo_server", backend) as example:
        run("asyncio", scenario(example))
    assert example.output.splitlines() == [
        "pong: b'are you there?'",
        "text: 'ü'",
        "binary: 3 bytes",
        "ping: b'p'",
        "close: (1000, 'bye')",
    ]


@pytest.mark.parametrize("payload", [b"", b"unmasked"])
def test_the_echo_server_has_words_of_its_own_for_an_unmasked_client(payload: bytes, backend: str) -> None:
    async def scenario(example: Example) -> None:
        async with upgraded(example.port) as connection:
            await connection.send(masked(Opcode.TEXT, b"masked"), encode_frame(Opcode.TEXT, payload))
            frames = [await connection.read_frame() for _ in range(4)]
            assert [(frame.opcode, frame.payload) for frame in frames[2:]] == [
                (Opcode.TEXT, b"masked"),
                (Opcode.CLOSE, b"\x03\xeaa client has to mask what it sends"),
            ]
            await connection.send(masked_close(1002))
            assert await connection.read_frames() == []

    with running("echo_server", backend) as example:
        run("asyncio", scenario(example))


@pytest.mark.parametrize("name", WITHOUT_SERVE)
def test_a_bad_upgrade_is_refused_without_serve_too(name: str, backend: str) -> None:
    async def scenario(example: Example) -> None:
        async with connecting(example.port) as connection:
            await connection.send(handshake().replace(b"Version: 13", b"Version: 8"))
            head, _, body = (await connection.read_until_eof()).partition(HEAD_END)
            assert head.startswith(b"HTTP/1.1 426 ")
            assert b"Sec-WebSocket-Version: 13" in head
            assert b"not '8'" in body
        async with connecting(example.port) as connection:
            await connection.send(b"GET / HTTP/1.1\r\n")
            connection.writer.write_eof()
            assert await connection.read_until_eof() == b""

    with running(name, backend) as example:
        run("asyncio", scenario(example))


# -- Closing ----------------------------------------------------------------------------------------------------------


def test_custom_close_answers_a_close_with_its_own(backend: str) -> None:
    async def scenario(example: Example) -> None:
        async with upgraded(example.port) as connection:
            await connection.send(masked_close(1001, b"leaving"))
            assert await connection.read_close() == (4000, "you closed with 1001, so long")
            assert await connection.read_frames() == []
        async with client(example) as connection:
            await connection.send("bye")
            assert await close_from_server(connection) == (4001, "bye yourself")
        async with upgraded(example.port) as connection:
            await connection.send(masked(3, b"reserved opcode"))
            assert await connection.read_close() == (1002, "that was against the rules: reserved opcode")
            await connection.send(masked_close(1002))
            assert await connection.read_frames() == []

    with running("custom_close", backend) as example:
        run("asyncio", scenario(example))


# -- Rates ------------------------------------------------------------------------------------------------------------


def test_the_rate_limiter_closes_who_sends_too_much(backend: str) -> None:
    burst, flood = 10, 1000

    async def scenario(example: Example) -> None:
        async with upgraded(example.port) as flooding, client(example) as patient:
            await flooding.send(masked(Opcode.TEXT, b"flood") * flood)
            echoed = []
            while (frame := await flooding.read_frame()).opcode != Opcode.CLOSE:
                echoed.append(frame)
            # One more is due every 0.2 seconds, however slow this machine is.
            assert burst <= len(echoed) < flood
            assert {frame.payload for frame in echoed} == {b"flood"}
            assert frame.payload == b"\x03\xf0over 5 messages a second"
            for i in range(burst + 2):
                # Behind the burst, whoever waits for 0.2 seconds has a token to spend, whoever waits longer too.
                await asyncio.sleep(0.25 if i >= burst else 0)
                await patient.send(str(i))
                assert await patient.recv() == str(i)

    with running("rate_limiter", backend) as example:
        run("asyncio", scenario(example))


# -- Routes -----------------------------------------------------------------------------------------------------------


def test_routes_lead_to_endpoints(backend: str) -> None:
    async def scenario(example: Example) -> None:
        async with client(example, "/echo?any=query") as connection:
            for message in ("text", b"binary"):
                await connection.send(message)
                assert await connection.recv() == message
        for target, greeting in (("/greet?name=Ad%C3%A4", "Hello, Adä!"), ("/greet", "Hello, stranger!")):
            async with client(example, target) as connection:
                assert await connection.recv() == greeting
                assert await close_from_server(connection) == (1000, "")

    with running("routes", backend) as example:
        run("asyncio", scenario(example))


def test_an_unknown_route_is_refused(backend: str) -> None:
    async def scenario(example: Example) -> None:
        with pytest.raises(InvalidStatus) as caught:
            async with client(example, "/nowhere?x=1"):
                pass
        assert caught.value.response.status_code == 404
        assert caught.value.response.body == b"no endpoint at /nowhere\n"

    with running("routes", backend) as example:
        run("asyncio", scenario(example))


def test_routes_serve_a_plain_page(backend: str) -> None:
    async def scenario(example: Example) -> None:
        async with connecting(example.port) as connection:
            await connection.send(b"GET / HTTP/1.1\r\nHost: -\r\n\r\n")
            head, _, body = (await connection.read_until_eof()).partition(HEAD_END)
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"Content-Type: text/html; charset=utf-8" in head
            assert b"<title>Routes</title>" in body

    with running("routes", backend) as example:
        run("asyncio", scenario(example))


# -- Extensions -------------------------------------------------------------------------------------------------------

OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-zlib"
TEXT = b"again and " * 1000


async def echo_of(connection: RawClient, data: bytes) -> tuple[int, int, bytes]:
    """(opcode, rsv2, payload) of what comes back."""
    await connection.send(data)
    frame = await connection.read_frame()
    assert (frame.rsv1, frame.rsv3) == (0, 0)
    return frame.opcode, frame.rsv2, frame.payload


def test_the_extension_compresses_when_it_was_negotiated(backend: str) -> None:
    async def scenario(example: Example) -> None:
        async with upgraded(example.port, OFFER) as connection:
            assert b"\r\nSec-WebSocket-Extensions: x-zlib\r\n" in connection.head
            for sent in (masked(Opcode.TEXT, zlib.compress(TEXT), rsv2=1), masked(Opcode.TEXT, TEXT)):
                opcode, rsv2, payload = await echo_of(connection, sent)
                assert (opcode, rsv2, zlib.decompress(payload)) == (Opcode.TEXT, 1, TEXT)
                assert len(payload) < len(TEXT)
            assert await echo_of(connection, masked(Opcode.BINARY, b"short")) == (Opcode.BINARY, 0, b"short")

    with running("extension_rsv", backend) as example:
        run("asyncio", scenario(example))


@pytest.mark.parametrize(
    "headers", [(), ("Sec-WebSocket-Extensions: x-zlib; level=9",)], ids=["no offer", "unknown offer"]
)
def test_the_extension_is_off_unless_it_was_negotiated(headers: tuple[str, ...], backend: str) -> None:
    async def scenario(example: Example) -> None:
        async with upgraded(example.port, *headers) as connection:
            assert b"Extensions" not in connection.head
            assert await echo_of(connection, masked(Opcode.TEXT, TEXT)) == (Opcode.TEXT, 0, TEXT)
            await connection.send(masked(Opcode.TEXT, zlib.compress(TEXT), rsv2=1))
            code, reason = await connection.read_close()
            assert code == CloseCode.PROTOCOL_ERROR
            assert "reserved bits 010" in reason

    with running("extension_rsv", backend) as example:
        run("asyncio", scenario(example))


BAD_STREAMS = {
    "no zlib": (b"not compressed", CloseCode.INVALID_PAYLOAD),
    "cut": (zlib.compress(TEXT)[:-6], CloseCode.INVALID_PAYLOAD),
    "more behind it": (zlib.compress(TEXT) + b"more", CloseCode.INVALID_PAYLOAD),
    "bomb": (zlib.compress(bytes(1024 * 1024 + 1)), CloseCode.MESSAGE_TOO_BIG),
    "text that is no UTF-8": (zlib.compress(b"\xff"), CloseCode.INVALID_PAYLOAD),
}


@pytest.mark.parametrize(("payload", "expected"), BAD_STREAMS.values(), ids=BAD_STREAMS)
def test_the_extension_refuses_what_it_cannot_read(payload: bytes, expected: int, backend: str) -> None:
    async def scenario(example: Example) -> None:
        async with upgraded(example.port, OFFER) as connection:
            await connection.send(masked(Opcode.TEXT, payload, rsv2=1))
            code, _ = await connection.read_close()
            assert code == expected
            await connection.send(masked_close(code))
            assert await connection.read_frames() == []

    with running("extension_rsv", backend) as example:
        run("asyncio", scenario(example))


def test_the_extension_has_a_client_of_its_own(backend: str) -> None:
    with running("extension_rsv", backend) as example:
        command = [sys.executable, str(EXAMPLES / "extension_rsv.py"), "--connect", "--port", str(example.port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    assert done.stderr == ""
    agreed, short, long = done.stdout.splitlines()
    assert agreed == "agreed on: x-zlib"
    assert short.startswith("5 bytes came back: True")
    assert long.startswith("10000 bytes came back: True")
    assert int(long.split()[5]) < 200


def test_the_extension_refuses_what_follows_the_end_of_its_stream() -> None:
    extension = runpy.run_path(str(EXAMPLES / "extension_rsv.py"))["XZlib"]()
    connection = Connection(role="client", chunks=True)
    connection.open([extension])
    stream = encode_frame(Opcode.BINARY, zlib.compress(TEXT), fin=0, rsv2=1)
    chunks = connection.feed(stream + encode_frame(Opcode.CONTINUATION, b"more", fin=0))
    unpacked = connection.unpack(chunks)
    assert next(unpacked).payload == TEXT
    with pytest.raises(ProtocolError, match="not a zlib stream"):
        next(unpacked)


# -- A connection without asyncio -------------------------------------------------------------------------------------


def test_the_connection_without_asyncio_compresses(backend: str) -> None:
    async def scenario(example: Example) -> None:
        async with upgraded(example.port, "Sec-WebSocket-Extensions: permessage-deflate") as connection:
            assert b"\r\nSec-WebSocket-Extensions: permessage-deflate" in connection.head
            deflate = zlib.compressobj(wbits=-15)
            deflated = (deflate.compress(TEXT) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
            await connection.send(masked(Opcode.TEXT, deflated, rsv1=1))
            echo = await connection.read_frame()
            assert (echo.opcode, echo.rsv1) == (Opcode.TEXT, 1)
            assert zlib.decompressobj(-15).decompress(echo.payload + b"\x00\x00\xff\xff") == TEXT
            await connection.send(masked(Opcode.TEXT, b"not deflated", rsv1=1))
            code, _ = await connection.read_close()
            assert code == CloseCode.INVALID_PAYLOAD

    with running("sans_io", backend) as example:
        run("asyncio", scenario(example))
    assert "DEFLATE" in example.output


# -- The client -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def client_at(on_upgrade: OnUpgrade, backend: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The client example, at a server with this handler; its stdin stays open until the test ends it."""
    async with serving(on_upgrade) as server:
        with hearing_ctrl_c():
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "error", str(EXAMPLES / "client.py"), f"ws://127.0.0.1:{server.port}"),
                env={**os.environ, "WSLOWLEVEL_BACKEND": backend, "PYTHONIOENCODING": "utf-8"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


def test_the_client_tells_of_a_close_that_nobody_answered(backend: str) -> None:
    async def on_upgrade(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket, auto_close=False)
        send_handshake(request, socket)
        assert [message.opcode async for message in get_messages()] == [Opcode.CLOSE]
        socket.abort()

    async def scenario() -> None:
        async with client_at(on_upgrade, backend) as client:
            output, errors = await client.communicate(b"")
            assert (client.returncode, output) == (0, b"")
            assert errors.splitlines()[1:] == [b"closed: 1006 our Close frame was not answered"]

    run("asyncio", scenario())


def test_the_client_gives_the_terminal_no_orders(backend: str) -> None:
    async def on_upgrade(request: Request, socket: Socket, head: bytes) -> None:
        send_handshake(request, socket)
        await send_message_factory(socket)("one\ttwo\nthree \x1b[31mred\x07\x9b")
        socket.close(4000, "\x1b[2J")

    async def scenario() -> None:
        async with client_at(on_upgrade, backend) as client:
            assert client.stderr is not None
            errors = await client.stderr.read()
            assert client.stdout is not None
            assert (await client.stdout.read()).decode() == "one\ttwo\nthree \ufffd[31mred\ufffd\ufffd\n"
            assert errors.decode().splitlines()[1] == "closed: 4000 \ufffd[2J"

    run("asyncio", scenario())


def test_the_client_says_goodbye_on_ctrl_c(backend: str) -> None:
    goodbye: list[tuple[int, str] | None] = []

    async def on_upgrade(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        send_handshake(request, socket)
        await send_message_factory(socket)("hello")
        assert [message.opcode async for message in get_messages()] == [Opcode.CLOSE]
        goodbye.append(socket.received)

    async def scenario() -> None:
        async with client_at(on_upgrade, backend) as client:
            assert client.stdout is not None
            assert await client.stdout.readline() == b"hello\n"
            client.send_signal(signal.SIGINT)
            assert await client.wait() == 130
        assert goodbye == [(CloseCode.GOING_AWAY, "")]

    run("asyncio", scenario())


def test_the_client_shows_what_a_refusal_says(backend: str) -> None:
    with running("routes", backend) as server:
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / "client.py"), server.url("/nowhere")],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"refused with status 404: .+: no endpoint at /nowhere\n", done.stderr), done.stderr


# -- Pings ------------------------------------------------------------------------------------------------------------


def test_a_ping_is_inspected_and_answered(backend: str) -> None:
    async def scenario(example: Example) -> None:
        async with client(example) as connection:
            departure = time.time()
            await (await connection.ping(f"{departure:.6f}"))
            said = re.fullmatch(r"your ping was (-?[\d.]+) ms under way", str(await connection.recv()))
            assert said
            assert -1 < float(said[1]) <= (time.time() - departure) * 1000 + 1
            for other in (b"", b"\xff\x00", b"nan", b"inf"):
                await (await connection.ping(other))
                assert await connection.recv() == f"your ping of {len(other)} bytes carries no time"

    with running("inspect_ping", backend) as example:
        run("asyncio", scenario(example))
