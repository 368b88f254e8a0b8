"""Routes: /echo and /greet are endpoints, / is a plain page for browsers, and everything else is refused with 404.

Try it:  python examples/routes.py
         python -m wslowlevel connect "ws://127.0.0.1:8765/greet?name=Ada"
         and http://127.0.0.1:8765/ in a browser
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from urllib.parse import parse_qs

from wslowlevel import (
    InvalidHandshake,
    Opcode,
    Request,
    Response,
    Socket,
    get_messages_factory,
    prepare_websocket_frame,
    send_factory,
    send_handshake,
    serve,
)

PAGE = b"""<!doctype html>
<title>Routes</title>
<p>There are two endpoints here: <code>/echo</code> and <code>/greet?name=...</code>
"""


async def echo(request: Request, socket: Socket) -> None:
    """Send back what comes, until the client closes."""
    get_messages = get_messages_factory(socket)
    send = send_factory(socket)
    send_handshake(request, socket)
    async for message in get_messages():
        if message.opcode in (Opcode.TEXT, Opcode.BINARY):
            await send(prepare_websocket_frame(message.payload, opcode=message.opcode))


async def greet(request: Request, socket: Socket) -> None:
    """Send one greeting; returning then closes the connection with 1000."""
    name = parse_qs(request.target.partition("?")[2]).get("name", ["stranger"])[0]
    send = send_factory(socket)
    send_handshake(request, socket)
    await send(prepare_websocket_frame(f"Hello, {name}!".encode(), is_utf8=True))


ENDPOINTS = {"/echo": echo, "/greet": greet}


async def on_upgrade(request: Request, socket: Socket, _head: bytes) -> None:
    path = request.target.partition("?")[0]
    if path not in ENDPOINTS:
        raise InvalidHandshake(f"no endpoint at {path}", 404)
    await ENDPOINTS[path](request, socket)


async def on_request(request: Request) -> Response | None:
    """Answer plain HTTP; None means 404."""
    if request.target != "/":
        return None
    return Response(200, [("Content-Type", "text/html; charset=utf-8")], PAGE)


async def main(port: int) -> None:
    async with serve(on_upgrade, "127.0.0.1", port, on_request=on_request, stop_signals=[signal.SIGINT]) as server:
        print(f"listening on ws://127.0.0.1:{server.port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8765, help="0: any free one")
    asyncio.run(main(parser.parse_args().port))
