"""A real server on loopback, a client that sends and reads raw bytes, and the event loops to run both on."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import sys
import sysconfig
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from typing import Any, TypeVar, cast

import pytest

from wslowlevel import Frame, FrameDecoder, Opcode, Request, Socket, WebSocketError, encode_frame, serve
from wslowlevel.aio.server import OnUpgrade, Server
from wslowlevel.wire import MAX_CONTROL_LENGTH

from .vectors import KEY

T = TypeVar("T")

TIMEOUT = 30.0
"""Seconds after which a test is stuck. Nothing waits for their passing."""

HEAD_END = b"\r\n\r\n"

MAX_CLOSE_FRAME = 2 + MAX_CONTROL_LENGTH

REQUEST_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The sample key of RFC 6455 §1.3, and its answer."""


# -- Event loops ------------------------------------------------------------------------------------------------------

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
TRANSPORTS = dict(LOOPS)
"""The loops, and one with transports that are not its own."""
if sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED"):  # else there is none
    import aiofastnet
    import uvloop

    LOOPS["uvloop"] = TRANSPORTS["uvloop"] = uvloop.new_event_loop
    TRANSPORTS["aiofastnet"] = lambda: aiofastnet.patch_loop(asyncio.new_event_loop())

eager_tasks = False
"""Whether every loop of `run` starts its tasks eagerly; set by ``pytest --eager-tasks``."""

both_loops = pytest.mark.parametrize("loop_kind", LOOPS)
"""Runs a test on each loop: it takes `loop_kind`, and hands it to `run`."""

every_transport = pytest.mark.parametrize("loop_kind", TRANSPORTS)
"""Runs a test with each kind of transport: for what a socket asks of its own."""


def run(loop_kind: str, coroutine: Coroutine[Any, Any, T], *, eager: bool = False) -> T:
    """Run a coroutine on a fresh loop; a task left behind, or an error that only the loop saw, fails the test.

    With `eager` its tasks start eagerly, as they do in every test with ``--eager-tasks``.
    """
    unseen: list[dict[str, Any]] = []
    loop = TRANSPORTS[loop_kind]()
    loop.set_exception_handler(lambda _, context: unseen.append(context))
    if eager or eager_tasks:
        loop.set_task_factory(cast(Any, eager_task_factory))
    try:
        result = loop.run_until_complete(asyncio.wait_for(coroutine, TIMEOUT))
        left = asyncio.all_tasks(loop)
    finally:
        loop.run_until_complete(_cancel_others())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    gc.collect()  # what nobody awaited or closed says so now
    assert not left, f"tasks left behind: {left}"
    assert not unseen, f"errors in the loop: {unseen}"
    return result


def eager_task_factory(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], **options: Any
) -> asyncio.Task[T]:
    """Run the first step of a task when it is made: asyncio's own factory, or the same for CPython 3.10 and 3.11."""
    options.pop("eager_start", None)  # uvloop passes None, which asyncio's factory does not take before 3.14
    factory = getattr(asyncio, "eager_task_factory", _start_eagerly)
    task: asyncio.Task[T] = factory(loop, coroutine, **options)
    return task


def _start_eagerly(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], **options: Any
) -> asyncio.Task[T]:
    if not loop.is_running():
        return asyncio.Task(coroutine, loop=loop, **options)
    outer = asyncio.current_task(loop)
    steps: list[Callable[[], None]] = []

    class FirstStep:
        """Takes the place of the loop while the task schedules its first step."""

        def __getattr__(self, name: str) -> Any:
            return getattr(loop, name)

        def call_soon(self, step: Callable[[], None], *, context: Context) -> None:
            steps.append(lambda: context.run(step))

    task = asyncio.tasks._PyTask(coroutine, loop=FirstStep(), **options)  # type: ignore[attr-defined]
    task._loop = loop
    if outer is not None:
        asyncio.tasks._leave_task(loop, outer)
    try:
        steps[0]()
    finally:
        if outer is not None:
            asyncio.tasks._enter_task(loop, outer)
    return cast("asyncio.Task[T]", task)


async def _cancel_others() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop turns until something is so; `run` ends a test where it never is."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def free_port() -> int:
    """For a program that is told which to listen on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


async def until_it_listens(port: int) -> None:
    """The server says nothing, so that its port is tried until it is there; `run` ends a test where it never is."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
        else:
            writer.transport.abort()
            return


# -- The server -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(on_upgrade: OnUpgrade, **options: Any) -> AsyncIterator[Server]:
    """A server on a free port of 127.0.0.1; what its handler did not expect is raised at the end of the block.

    Errors of the library pass: they are the peer's doing, and the server's own handling of them is under test.
    """
    failures: list[BaseException] = []

    async def watched(request: Request, socket: Socket, head: bytes) -> None:
        try:
            await on_upgrade(request, socket, head)
        except WebSocketError:
            raise
        except Exception as error:
            failures.append(error)
            raise

    try:
        async with serve(watched, "127.0.0.1", 0, **options) as server:
            yield server
    finally:
        if failures:
            raise failures[0]


# -- The client -------------------------------------------------------------------------------------------------------


def handshake(*headers: str, target: str = "/") -> bytes:
    """A valid opening handshake, and further header lines."""
    lines = [
        f"GET {target} HTTP/1.1",
        "Host: 127.0.0.1",
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {REQUEST_KEY}",
        *headers,
    ]
    return "\r\n".join(lines).encode("latin-1") + HEAD_END


def masked(opcode: int, payload: bytes = b"", **bits: int) -> bytes:
    """A frame as a client sends it."""
    return encode_frame(opcode, payload, mask_key=KEY, **bits)


def masked_close(code: int, reason: bytes = b"") -> bytes:
    return masked(Opcode.CLOSE, code.to_bytes(2, "big") + reason)


def close_of(frame: Frame) -> tuple[int, str]:
    """(code, reason) of a Close frame, whatever they are."""
    assert frame.opcode == Opcode.CLOSE
    return int.from_bytes(frame.payload[:2], "big"), frame.payload[2:].decode()


class RawClient:
    """A TCP connection to a server: any bytes go out, and what comes in is judged as a client judges it.

    Attributes:
        writer: to send through: `client.writer.write(...)`.
        head: the head of the server's answer to `upgrade`.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.head = b""
        self._decoder = FrameDecoder(role="client", allow_rsv=7)
        self._frames: list[Frame] = []
        self._tail = b""

    async def upgrade(self, *headers: str, target: str = "/", behind: bytes = b"") -> None:
        """Send a valid opening handshake, and more right behind it; the answer must be a 101."""
        self.writer.write(handshake(*headers, target=target) + behind)
        self.head = await self.reader.readuntil(HEAD_END)
        assert self.head.startswith(b"HTTP/1.1 101 "), self.head

    async def send(self, *data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(b"".join(data))
        await self.writer.drain()

    async def read_frame(self) -> Frame:
        """The next frame. EOFError: the server ended the connection, at a border between frames."""
        while not self._frames:
            data = await self.reader.read(64 * 1024)
            if not data:
                assert not self._decoder.buffered, "the connection ended inside a frame"
                raise EOFError
            self._take(data)
        return self._frames.pop(0)

    def _take(self, data: bytes) -> None:
        assert not self._decoder.closed, f"bytes behind the Close frame: {data!r}"
        self._frames = self._decoder.feed(data)
        self._tail = (self._tail + data)[-MAX_CLOSE_FRAME:]
        if self._decoder.closed:
            assert self._tail.endswith(encode_frame(Opcode.CLOSE, self._frames[-1].payload)), "bytes behind the Close"

    async def read_frames(self) -> list[Frame]:
        """Every frame until the server ends the connection."""
        frames = []
        try:
            while True:
                frames.append(await self.read_frame())
        except EOFError:
            return frames

    async def read_close(self) -> tuple[int, str]:
        """(code, reason) of the Close frame, which must come next."""
        return close_of(await self.read_frame())

    async def read_until_eof(self) -> bytes:
        """Every byte until the server ends the connection."""
        return await self.reader.read()

    def reset(self) -> None:
        """End the connection with a TCP reset: the server's next read or write fails."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@asynccontextmanager
async def connecting(port: int) -> AsyncIterator[RawClient]:
    """A raw client that has sent nothing yet."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def upgraded(port: int, *headers: str, target: str = "/") -> AsyncIterator[RawClient]:
    """A raw client behind its opening handshake."""
    async with connecting(port) as client:
        await client.upgrade(*headers, target=target)
        yield client
