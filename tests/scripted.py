"""Servers that say what they are told to, and a look at what a client leaves behind."""

from __future__ import annotations

import asyncio
import os
import socket as sockets
import ssl
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from wslowlevel import Frame, FrameDecoder, Request, read_request
from wslowlevel.handshake import accept_key

from .servers import until

Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The server's end of one connection: any bytes go out.

    Attributes:
        reader, writer: the connection.
        request: the client's opening handshake.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.request = Request("", "")
        self._decoder = FrameDecoder(role="server")
        self._frames: list[Frame] = []

    def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))

    def switch(self, *lines: str, accept: str | None = None) -> bytes:
        """A 101 answer, good unless another Accept is given, with further header lines."""
        accept = accept_key(self.request.headers["Sec-WebSocket-Key"]) if accept is None else accept
        head = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        return "\r\n".join([*head, f"Sec-WebSocket-Accept: {accept}", *lines, "", ""]).encode("latin-1")

    async def read_frame(self) -> Frame:
        """The next frame, which must be masked."""
        while not self._frames:
            data = await self.reader.read(64 * 1024)
            assert data, "the client is gone"
            self._frames = self._decoder.feed(data)
        return self._frames.pop(0)

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Scripted:
    """A server that runs a script for each connection, then waits until the client is gone, and goes too.

    Attributes:
        port: where it listens, on 127.0.0.1.
        requests: what it was asked, in order.
        waiting: set once a script has come to its end.
    """

    def __init__(self, script: Script, reads_request: bool) -> None:
        self._script = script
        self._reads_request = reads_request
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[Exception] = []
        self.port = 0
        self.requests: list[Request] = []
        self.waiting = asyncio.Event()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"

    async def run_script(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._converse(Peer(reader, writer))
        except OSError:
            """The client is gone."""
        except Exception as error:  # noqa: BLE001 - told at the end of the block
            self._failures.append(error)
        finally:
            writer.transport.abort()

    async def _converse(self, peer: Peer) -> None:
        if self._reads_request:
            peer.request = await read_request(peer.reader)
            self.requests.append(peer.request)
        await self._script(peer)
        self.waiting.set()
        while await peer.reader.read(64 * 1024):
            pass

    async def all_gone(self) -> None:
        """Wait until the client has ended every connection."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._failures:
            raise self._failures[0]


@asynccontextmanager
async def scripted(
    script: Script, *, reads_request: bool = True, ssl: ssl.SSLContext | None = None
) -> AsyncIterator[Scripted]:
    """A scripted server; the block is not over before the client has ended every connection."""
    served = Scripted(script, reads_request)
    server = await asyncio.start_server(served.run_script, "127.0.0.1", 0, ssl=ssl)
    served.port = server.sockets[0].getsockname()[1]
    try:
        yield served
        await served.all_gone()
    finally:
        server.close()


def answering(answer: Callable[[Peer], bytes] | bytes) -> Script:
    """Answer a request with these bytes, and wait for the client's next move."""

    async def script(peer: Peer) -> None:
        peer.send(answer(peer) if callable(answer) else answer)

    return script


async def silent(peer: Peer) -> None:
    """Say nothing."""


async def accept(peer: Peer) -> None:
    """Open the connection."""
    peer.send(peer.switch())


def refusal(status: int, *lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} No", *lines, "", ""]).encode("latin-1") + body


def redirecting(locations: dict[str, str], status: int = 302) -> Script:
    """Redirect these targets, and open a connection for any other."""

    def answer(peer: Peer) -> bytes:
        location = locations.get(peer.request.target)
        return peer.switch() if location is None else refusal(status, f"Location: {location}", "Content-Length: 0")

    return answering(answer)


# -- What a client leaves behind ---------------------------------------------------------------------------------------


def open_sockets() -> int:
    """How many sockets this process has open."""
    number = 0
    for fd in os.listdir("/dev/fd"):
        with suppress(OSError):  # what listed them was among them
            number += stat.S_ISSOCK(os.fstat(int(fd)).st_mode)
    return number


def timers() -> list[asyncio.TimerHandle]:
    """Timers that are due; uvloop does not tell."""
    scheduled: list[asyncio.TimerHandle] = getattr(asyncio.get_running_loop(), "_scheduled", [])
    return [timer for timer in scheduled if not timer.cancelled()]


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """At the end of the block there are as many open sockets, tasks and timers as there were at its beginning."""
    number, tasks, timed = open_sockets(), asyncio.all_tasks(), timers()
    yield
    await until(lambda: open_sockets() == number and asyncio.all_tasks() == tasks)
    assert timers() == timed
