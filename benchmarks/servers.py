"""Echo servers, each in a process of its own: python -m benchmarks.servers NAME [--loop asyncio|uvloop]

Each sends every message back, without permessage-deflate and without keepalive, in the way that its library does best.
A server says on its standard output where it listens and what runs there, as one line of JSON; it ends with its
standard input. Each imports its own library alone, so that its memory can be measured.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

HOST = "127.0.0.1"
MAX_SIZE = 1 << 30
"""Bytes of a message that every server takes."""

# -- Ours -------------------------------------------------------------------------------------------------------------


async def serve_wslowlevel() -> int:
    from wslowlevel import Opcode, get_messages_factory, prepare_websocket_frame, send_factory, send_handshake, serve

    data = (Opcode.TEXT, Opcode.BINARY)

    async def on_upgrade(request: Any, socket: Any, _head: bytes) -> None:
        get_messages = get_messages_factory(socket, max_in_memory_store_size=MAX_SIZE)
        send = send_factory(socket)
        send_handshake(request, socket)
        async for message in get_messages():
            if message.opcode in data:
                await send(prepare_websocket_frame(message.payload, opcode=message.opcode))

    return (await keep(serve(on_upgrade, HOST, 0))).port


async def serve_wslowlevel_handle() -> int:
    """With a function in place of the iterator."""
    from wslowlevel import (
        Message,
        Opcode,
        handle_messages_factory,
        prepare_websocket_frame,
        send_factory,
        send_handshake,
        serve,
    )

    data = (Opcode.TEXT, Opcode.BINARY)

    async def on_upgrade(request: Any, socket: Any, _head: bytes) -> None:
        handle_messages = handle_messages_factory(socket, max_in_memory_store_size=MAX_SIZE)
        send = send_factory(socket)
        send_handshake(request, socket)

        def on_message(message: Message) -> None:
            if message.opcode in data:
                send(prepare_websocket_frame(message.payload, opcode=message.opcode))

        await handle_messages(on_message)

    return (await keep(serve(on_upgrade, HOST, 0))).port


async def serve_wslowlevel_at_once() -> int:
    """With a write for each frame, in place of one for all that a turn of the loop brings."""
    from wslowlevel import Opcode, get_messages_factory, prepare_websocket_frame, send_factory, send_handshake, serve

    data = (Opcode.TEXT, Opcode.BINARY)

    async def on_upgrade(request: Any, socket: Any, _head: bytes) -> None:
        get_messages = get_messages_factory(socket, max_in_memory_store_size=MAX_SIZE)
        send = send_factory(socket)
        send_handshake(request, socket)
        async for message in get_messages():
            if message.opcode in data:
                sent = send(prepare_websocket_frame(message.payload, opcode=message.opcode))
                socket.flush()
                await sent

    return (await keep(serve(on_upgrade, HOST, 0))).port


def on_fastnet(serve: Callable[[], Awaitable[int]]) -> Callable[[], Awaitable[int]]:
    """The same, with the transports of aiofastnet in place of the loop's own."""

    async def served() -> int:
        import aiofastnet

        aiofastnet.patch_loop()
        return await serve()

    return served


# -- The limit: the same bytes back, and no WebSocket -----------------------------------------------------------------


class RawEcho(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.write = transport.write  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.write(data)


async def serve_raw() -> int:
    return port_of(await keep(asyncio.get_running_loop().create_server(RawEcho, HOST, 0)))


# -- Peers ------------------------------------------------------------------------------------------------------------


async def serve_picows(**options: Any) -> int:
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

    data, close = (WSMsgType.TEXT, WSMsgType.BINARY), WSMsgType.CLOSE

    class Echo(WSListener):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type in data:
                transport.send(frame.msg_type, frame.get_payload_as_memoryview())  # a view of the parser's own buffer
            elif frame.msg_type is close:
                transport.send_close(frame.get_close_code())
                transport.disconnect()

    server = ws_create_server(lambda _request: Echo(), HOST, 0, max_frame_size=MAX_SIZE, **options)
    return port_of(await keep(server))


async def serve_picows_loop() -> int:
    return await serve_picows(use_aiofastnet=False)


async def serve_picows_websockets() -> int:
    from picows.websockets import serve

    async def handler(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    return port_of(await keep(serve(handler, HOST, 0, compression=None, ping_interval=None, max_size=MAX_SIZE)))


async def serve_websockets() -> int:
    from websockets.asyncio.server import serve

    async def handler(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    return port_of(await keep(serve(handler, HOST, 0, compression=None, ping_interval=None, max_size=MAX_SIZE)))


async def serve_aiohttp() -> int:
    from aiohttp import WSMsgType, web

    text, binary = WSMsgType.TEXT, WSMsgType.BINARY

    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False, max_msg_size=MAX_SIZE)
        await socket.prepare(request)
        async for message in socket:
            if message.type is binary:
                await socket.send_bytes(message.data)
            elif message.type is text:
                await socket.send_str(message.data)
        return socket

    application = web.Application()
    application.router.add_get("/", handler)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    KEPT.append(site)
    return int(runner.addresses[0][1])


async def serve_tornado() -> int:
    from tornado.httpserver import HTTPServer
    from tornado.netutil import bind_sockets
    from tornado.web import Application
    from tornado.websocket import WebSocketHandler

    class Echo(WebSocketHandler):
        def on_message(self, message: str | bytes) -> None:
            self.write_message(message, binary=isinstance(message, bytes))

    sockets = bind_sockets(0, HOST)
    server = HTTPServer(Application([("/", Echo)], websocket_max_message_size=MAX_SIZE))
    server.add_sockets(sockets)
    KEPT.append(server)
    return int(sockets[0].getsockname()[1])


# -- uvicorn, with an application of Starlette, and each of the protocols that it can be given ------------------------


async def serve_uvicorn(protocol: str) -> int:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocket

    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        while (message := await socket.receive())["type"] == "websocket.receive":
            if message.get("text") is not None:
                await socket.send_text(message["text"])
            else:
                await socket.send_bytes(message["bytes"])

    options: dict[str, Any] = {"ws_max_size": MAX_SIZE, "ws_per_message_deflate": False, "ws_ping_interval": None}
    config = uvicorn.Config(
        Starlette(routes=[WebSocketRoute("/", echo)]),
        host=HOST,
        port=0,
        ws=protocol,
        http="httptools",
        lifespan="off",
        log_level="error",
        **options,
    )
    server = uvicorn.Server(config)
    KEPT.append(asyncio.create_task(server.serve()))
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return int(server.servers[0].sockets[0].getsockname()[1])


# -- What stands for the C extensions of each: without them it would not be at its best -------------------------------

SERVERS = {
    "wslowlevel": serve_wslowlevel,
    "wslowlevel-handle": serve_wslowlevel_handle,
    "wslowlevel-python": serve_wslowlevel,
    "raw": serve_raw,
    "picows": serve_picows,
    "picows-loop": serve_picows_loop,
    "picows.websockets": serve_picows_websockets,
    "websockets": serve_websockets,
    "aiohttp": serve_aiohttp,
    "tornado": serve_tornado,
}
ON_FASTNET = {
    "wslowlevel-fastnet": on_fastnet(serve_wslowlevel),
    "wslowlevel-handle-fastnet": on_fastnet(serve_wslowlevel_handle),
}
"""Run for speed alone: what these transports hold is not ours, and not the loop's."""

OTHERS = {
    "wslowlevel-at-once": serve_wslowlevel_at_once,
    "uvicorn-wslowlevel": partial(serve_uvicorn, "wslowlevel.uvicorn:WebSocketProtocol"),
    "uvicorn-websockets": partial(serve_uvicorn, "websockets"),
    "uvicorn-websockets-sansio": partial(serve_uvicorn, "websockets-sansio"),
    "uvicorn-wsproto": partial(serve_uvicorn, "wsproto"),
}
"""Run only where they are asked for."""

NODE = "ws"
"""The package of Node by this name, which has a program of its own."""

COMPILED = {
    "picows": "picows.picows",
    "websockets": "websockets.speedups",
    "aiohttp": "aiohttp._websocket.reader_c",
    "tornado": "tornado.speedups",
}

KEPT: list[Any] = []
"""Servers, so that none is collected."""


async def keep(server: Any) -> Any:
    KEPT.append(await server)
    return KEPT[-1]


def port_of(server: Any) -> int:
    return int(server.sockets[0].getsockname()[1])


def package_of(name: str) -> str:
    """The distribution that a server needs; none for the raw echo."""
    return "" if name == "raw" else name.partition("-")[0].partition(".")[0]


def installed(package: str) -> bool:
    if package == NODE:
        return shutil.which("node") is not None and shutil.which("npm") is not None
    return not package or importlib.util.find_spec(package) is not None


def describe(name: str) -> str:
    """What runs: the library, its version, and where ours came from."""
    package = package_of(name)
    if package in COMPILED:
        importlib.import_module(COMPILED[package])  # or fail
        if package == "tornado":
            from tornado import util

            assert util._websocket_mask.__module__ != "tornado.util", "tornado runs without its C extension"
    if package == "wslowlevel":
        import wslowlevel
        from wslowlevel.codec import kernel

        folder = str(wslowlevel.__file__).rpartition("/")[0]
        fastnet = f" with aiofastnet {version('aiofastnet')}" if name.endswith("fastnet") else ""
        return f"wslowlevel {wslowlevel.__version__} ({wslowlevel.BACKEND}, {kernel()}){fastnet} of {folder}"
    if name == "picows":
        return f"picows {version('picows')} with aiofastnet {version('aiofastnet')}"
    return f"{package} {version(package)}" if package else "the bytes of each read, written back"


async def run(name: str) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), lambda: sys.stdin.buffer.read1(1) or ended.set())
    port = await (SERVERS | ON_FASTNET | OTHERS)[name]()
    of_loop = f"uvloop {version('uvloop')}" if "uvloop" in type(loop).__module__ else "asyncio"
    about = {"port": port, "server": describe(name), "loop": of_loop, "python": platform.python_version()}
    print(json.dumps(about), flush=True)
    await ended.wait()


def become_node() -> NoReturn:
    """Run the program of `ws` in this process, which is pinned to its core and watched."""
    from tests.peers.node_peer import node_modules, program

    script = Path(__file__).with_name("ws_server.cjs")
    command = [program("node"), str(script), HOST, str(MAX_SIZE)]
    os.execve(command[0], command, {**os.environ, "NODE_PATH": str(node_modules())})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", choices=[*SERVERS, *ON_FASTNET, *OTHERS, NODE])
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    arguments = parser.parse_args()
    if arguments.name == NODE:
        become_node()
    if arguments.loop == "uvloop":
        import uvloop

        uvloop.run(run(arguments.name))
    else:
        asyncio.run(run(arguments.name))


if __name__ == "__main__":
    main()
