"""How long does it take to send one message to 10,000 connections, beside websockets' `broadcast`?

Each contender has a process for its server and one for its clients, on loopback; they take turns, so that whatever else
the machine does falls on all of them. Every client checks what it got. Medians, in milliseconds:

    call         until the call that sends to all has returned
    cpu          of the server's process in that time; the fairest figure on a machine that does other things too
    last client  until the last client has the message
    pause        the longest time in which another task of the server had to wait for its turn

Run it:  python -m benchmarks.bench_broadcast [--connections 10000] [--rounds 15] [--uvloop]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import platform
import resource
import selectors
import socket as sockets
import statistics
import time
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import uvloop
import websockets
from websockets.asyncio.connection import broadcast as websockets_broadcast
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as websockets_serve

import wslowlevel
from wslowlevel import (
    FrameDecoder,
    PerMessageDeflate,
    PreparedMessage,
    Request,
    Socket,
    broadcast,
    get_messages_factory,
    prepare_websocket_frame,
    send_handshake,
    serve,
)

PAYLOAD = (
    b'{"type": "price", "symbol": "ACME", "bid": 101.25, "ask": 101.5, '
    b'"time": "2026-01-02T03:04:05.678Z", "volume": 1234567890123}'
)
assert len(PAYLOAD) == 125, len(PAYLOAD)

SPARE_FILES = 100
"""Descriptors that a process needs besides those of its connections."""

CONNECTING = 64
"""Connections that are made at a time, so that they fit the backlog."""

REQUEST = (
    "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"

SendToAll = Callable[[], Awaitable[object]]

# -- The servers ------------------------------------------------------------------------------------------------------


async def serve_wslowlevel(compressed: bool) -> tuple[int, SendToAll]:
    server, connected = await _serve_ours(compressed)
    if compressed:
        return server.port, lambda: broadcast(PreparedMessage(PAYLOAD), connected)
    return server.port, lambda: broadcast(prepare_websocket_frame(PAYLOAD), connected)


async def serve_system_calls(compressed: bool) -> tuple[int, SendToAll]:
    """What no library can do without: one system call for each connection."""
    server, connected = await _serve_ours(compressed)
    frame = prepare_websocket_frame(PAYLOAD)

    async def send_to_all() -> None:
        for socket in connected:
            os.write(socket.get_extra_info("socket").fileno(), frame)

    return server.port, send_to_all


async def _serve_ours(compressed: bool) -> tuple[Any, set[Socket]]:
    connected = set()

    async def on_upgrade(request: Request, socket: Socket, _head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        send_handshake(request, socket, extensions=[PerMessageDeflate()] if compressed else [])
        connected.add(socket)
        async for _ in get_messages():
            pass

    return await serve(on_upgrade, "127.0.0.1", 0), connected


async def serve_websockets(compressed: bool) -> tuple[int, SendToAll]:
    connected = set()

    async def handler(connection: ServerConnection) -> None:
        connected.add(connection)
        async for _ in connection:
            pass

    async def send_to_all() -> None:
        websockets_broadcast(connected, PAYLOAD)

    compression = "deflate" if compressed else None
    server = await websockets_serve(handler, "127.0.0.1", 0, compression=compression, ping_interval=None)
    return next(iter(server.sockets)).getsockname()[1], send_to_all


SERVERS: dict[str, Callable[[bool], Awaitable[tuple[int, SendToAll]]]] = {
    "wslowlevel": serve_wslowlevel,
    "websockets": serve_websockets,
    "os.write": serve_system_calls,
}


def run_server(name: str, compressed: bool, on_uvloop: bool, control: Connection) -> None:
    loop = uvloop.new_event_loop() if on_uvloop else asyncio.new_event_loop()
    loop.run_until_complete(_run_server(name, compressed, control))


async def _run_server(name: str, compressed: bool, control: Connection) -> None:
    loop = asyncio.get_running_loop()
    port, send_to_all = await SERVERS[name](compressed)
    control.send(port)
    while await loop.run_in_executor(None, control.recv):
        pauses: list[float] = []
        watch = asyncio.create_task(_watch(pauses))
        await asyncio.sleep(0)
        start, cpu = time.monotonic(), time.process_time()
        await send_to_all()
        end, cpu = time.monotonic(), time.process_time() - cpu
        await asyncio.sleep(0)
        watch.cancel()
        control.send((start, end, cpu, max(pauses)))


async def _watch(pauses: list[float]) -> None:
    before = time.monotonic()
    while True:
        await asyncio.sleep(0)
        now = time.monotonic()
        pauses.append(now - before)
        before = now


# -- The clients ------------------------------------------------------------------------------------------------------


def run_clients(port: int, connections: int, compressed: bool, control: Connection) -> None:
    selector = selectors.DefaultSelector()
    request = (REQUEST + (OFFER if compressed else "") + "\r\n").encode()
    for start in range(0, connections, CONNECTING):
        batch = [_ask(port, request) for _ in range(min(CONNECTING, connections - start))]
        for connection in batch:
            _read_answer(connection, compressed)
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ, _reader(compressed))
    control.send("connected")
    while control.recv():
        waiting = set(selector.get_map())
        while waiting:
            for key, _ in selector.select():
                if key.data(key.fileobj.recv(64 * 1024)):  # type: ignore[union-attr]
                    waiting.remove(key.fd)
        control.send(time.monotonic())


def _ask(port: int, request: bytes) -> sockets.socket:
    connection = sockets.create_connection(("127.0.0.1", port))
    connection.sendall(request)
    return connection


def _read_answer(connection: sockets.socket, compressed: bool) -> None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    assert head.startswith(b"HTTP/1.1 101 "), head
    assert (b"permessage-deflate" in head) == compressed, head


def _reader(compressed: bool) -> Callable[[bytes], bool]:
    """What takes in the bytes of one connection, and tells whether the message, the right one, is complete."""
    plain = prepare_websocket_frame(PAYLOAD)
    received = bytearray()
    inflater = zlib.decompressobj(-12) if compressed else None

    def feed(data: bytes) -> bool:
        assert data, "the server ended the connection"
        received.extend(data)
        if inflater is None:
            assert plain.startswith(received), received
            complete = received == plain
        else:
            frames = FrameDecoder(role="client", allow_rsv=4).feed(received)
            complete = bool(frames)
            if complete:
                assert frames[0].rsv1, "the message is not compressed"
                assert inflater.decompress(frames[0].payload + b"\x00\x00\xff\xff") == PAYLOAD
        if complete:
            received.clear()
        return complete

    return feed


# -- The match --------------------------------------------------------------------------------------------------------


@dataclass
class Round:
    """Seconds."""

    call: float
    cpu: float
    last_client: float
    pause: float


COLUMNS = tuple(column.name for column in fields(Round))


class Contender:
    """A server and its clients, each in a process of its own."""

    def __init__(self, name: str, connections: int, compressed: bool, on_uvloop: bool) -> None:
        self.rounds: list[Round] = []
        self._server, self._server_process = _spawn(run_server, name, compressed, on_uvloop)
        port = self._server.recv()
        self._clients, self._clients_process = _spawn(run_clients, port, connections, compressed)
        assert self._clients.recv() == "connected"

    def stop(self) -> None:
        for process in (self._server_process, self._clients_process):
            process.kill()
            process.join()

    def play(self) -> Round:
        self._clients.send(True)
        self._server.send(True)
        start, end, cpu, pause = self._server.recv()
        return Round(end - start, cpu, self._clients.recv() - start, pause)


def _spawn(target: Callable[..., None], *arguments: object) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(*arguments, theirs), daemon=True)
    process.start()
    return ours, process


def compare(connections: int, rounds: int, compressed: bool, on_uvloop: bool) -> None:
    names = [name for name in SERVERS if name != "os.write" or not compressed]
    contenders = {name: Contender(name, connections, compressed, on_uvloop) for name in names}
    for contender in contenders.values():
        contender.play()  # in which every memory is touched for the first time
    for _ in range(rounds):
        for contender in contenders.values():
            contender.rounds.append(contender.play())
    for contender in contenders.values():
        contender.stop()
    medians = {name: _medians(contender.rounds) for name, contender in contenders.items()}
    print(f"\n{len(PAYLOAD)} bytes, {'permessage-deflate' if compressed else 'no compression'}")
    print(f"{'':14}" + "".join(f"{column.replace('_', ' '):>14}" for column in COLUMNS))
    for name, values in medians.items():
        print(f"{name:14}" + "".join(f"{value * 1e3:14.1f}" for value in values))
    ratios = [ours / theirs for ours, theirs in zip(medians["wslowlevel"], medians["websockets"], strict=True)]
    print(f"{'ours / theirs':14}" + "".join(f"{ratio:14.2f}" for ratio in ratios))


def _medians(rounds: list[Round]) -> list[float]:
    return [statistics.median(getattr(each, column) for each in rounds) for column in COLUMNS]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--uvloop", action="store_true")
    arguments = parser.parse_args()
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    connections = min(arguments.connections, most_files - SPARE_FILES)
    loop = f"uvloop {uvloop.__version__}" if arguments.uvloop else "asyncio"
    versions = f"wslowlevel {wslowlevel.__version__} ({wslowlevel.BACKEND}), websockets {websockets.__version__}"
    print(
        f"{connections} connections, {arguments.rounds} rounds, Python {platform.python_version()}, {loop}, {versions}"
    )
    for compressed in (False, True):
        compare(connections, arguments.rounds, compressed, arguments.uvloop)


if __name__ == "__main__":
    main()
