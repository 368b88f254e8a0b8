"""A chat: whoever connects to /room/NAME says a name first; each text after it goes to everybody in that room.

Try it:  python examples/chat.py
         and http://127.0.0.1:8765/ in two windows of a browser
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import re
import signal
import socket as sockets
from pathlib import Path

from wslowlevel import (
    CloseCode,
    InvalidHandshake,
    Message,
    Opcode,
    PerMessageDeflate,
    PreparedMessage,
    Request,
    Response,
    Socket,
    broadcast,
    get_messages_factory,
    send_handshake,
    serve,
)

MAX_NAME, MAX_TEXT, MAX_BYTES = 24, 1000, 4096  # characters, and bytes of a message: more is answered with 1009

PAGE = Path(__file__).with_name("chat.html").read_text("utf-8")

Room = dict[str, Socket]  # by the names of those who are there
rooms: dict[str, Room] = {}


async def tell(room: Room, news: dict[str, object]) -> None:
    """Send to all in a room, compressed once; who reads too slowly is closed with 1013, and may come back."""
    await broadcast(PreparedMessage(json.dumps(news).encode(), is_utf8=True), room.values(), slow="close")


def problem(message: Message, name: str, taken: Room) -> str:
    """What is wrong with a message, for the reason of a Close frame; nothing, mostly."""
    if message.opcode != Opcode.TEXT:
        return "text only"
    text = message.text
    if name:
        return "" if text.strip() and len(text) <= MAX_TEXT else f"a text has 1 to {MAX_TEXT} characters"
    if not text.isprintable() or text != text.strip() or not 1 <= len(text) <= MAX_NAME:
        return f"a name has 1 to {MAX_NAME} printable characters"
    return "somebody here has that name" if text in taken else ""


async def on_upgrade(request: Request, socket: Socket, _head: bytes) -> None:
    target = request.target
    if not re.fullmatch("/room/[a-z0-9-]{1,32}", target):
        raise InvalidHandshake("a room is /room/ and 1 to 32 of a-z, 0-9 and -", 404)
    get_messages = get_messages_factory(socket, max_in_memory_store_size=MAX_BYTES)
    send_handshake(request, socket, extensions=[PerMessageDeflate()])
    name = ""
    room: Room = {}
    try:
        async for message in get_messages():
            if message.opcode not in (Opcode.TEXT, Opcode.BINARY):
                continue
            if wrong := problem(message, name, rooms.get(target, {})):
                socket.close(CloseCode.POLICY_VIOLATION, wrong)
                return
            if name:
                await tell(room, {"name": name, "text": message.text})
            else:
                name, room = message.text, rooms.setdefault(target, {})
                room[name] = socket
                await tell(room, {"here": sorted(room)})
    finally:
        room.pop(name, None)
        if room:
            await tell(room, {"here": sorted(room)})
        elif name:
            del rooms[target]


async def on_request(request: Request) -> Response | None:
    """The page, which may run what it holds and connect to where it came from, and nothing else."""
    if request.target != "/":
        return None
    host = re.sub(r"[^\w.:\[\]-]", "", request.headers.get("Host", ""), flags=re.ASCII)
    policy = (
        f"default-src 'none'; script-src {hash_of('script')}; style-src {hash_of('style')}; img-src data:; "
        f"connect-src ws://{host}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = [("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", policy)]
    return Response(200, headers, PAGE.encode())


def hash_of(tag: str) -> str:
    content = re.split(f"</?{tag}>", PAGE)[1]
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


async def main(port: int) -> None:
    listening = sockets.create_server(("127.0.0.1", port))  # first, for the origin of its page names the port
    here = [f"http://{host}:{listening.getsockname()[1]}".removesuffix(":80") for host in ("127.0.0.1", "localhost")]
    async with serve(
        on_upgrade,
        sock=listening,
        on_request=on_request,
        origins=[*here, None],  # no other pages; None: programs, which send no Origin
        max_connections=250,
        ping_interval=20,  # who is gone without a word leaves the room within a minute
        stop_signals=[signal.SIGINT],
    ) as server:
        print(f"listening on http://127.0.0.1:{server.port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8765, help="0: any free one")
    asyncio.run(main(parser.parse_args().port))
