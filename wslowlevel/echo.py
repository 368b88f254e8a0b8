"""request -> an echo, the page, or reports of frames: the application behind `python -m wslowlevel echo`

The page opens two connections: ws://host/echo?watch=ID, which echoes, and ws://host/frames?watch=ID, over which the
server reports, as JSON, each frame of the first as it stood on the wire. Everybody else is echoed, on any path.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import time
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from .aio.factories import get_messages_factory, send_factory, send_handshake
from .aio.socket import Socket
from .codec import Header, Message, apply_mask, parse_header
from .connection import Connection
from .errors import ConnectionLost, InvalidHandshake, ProtocolError
from .frames import prepare_websocket_frame
from .http1 import Request, Response
from .wire import CLOSE_CODE_LENGTH, CONTROL, MAX_CONTROL_LENGTH, Opcode

if TYPE_CHECKING:
    from typing_extensions import Buffer

MONITOR_LIMIT = 256 * 1024
"""Bytes of reports that may wait for a monitor; a report over the limit is counted and dropped."""

PREVIEW = MAX_CONTROL_LENGTH
BINARY_PREVIEW = 32
"""Bytes of payload that a report shows at most, as text (control frames whole) and in hexadecimal."""

PAGE_HEADERS = (
    ("Content-Type", "text/html; charset=utf-8"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)


class Watch(Connection):
    """The server's side of a connection, which reports every frame to a monitor."""

    def __init__(self, socket: Socket) -> None:
        super().__init__(role="server")
        self.socket = socket
        self.monitor: Socket | None = None
        self._lent = memoryview(b"")
        self._arrived = bytearray()
        self._message: int = Opcode.BINARY
        self._echoes = self._dropped = 0

    def feed(self, data: Buffer) -> list[Message]:
        self._see_arrived(memoryview(data))
        return self._see_replies(super().feed(data))

    def get_buffer(self, hint: int = -1) -> memoryview:
        self._lent = super().get_buffer(hint)
        return self._lent

    def buffer_updated(self, nbytes: int) -> list[Message]:
        self._see_arrived(self._lent[:nbytes])  # before the decoder unmasks it in place
        return self._see_replies(super().buffer_updated(nbytes))

    def note_send(self, frame: bytes) -> None:
        super().note_send(frame)
        self._see("out", frame)

    def _see_replies(self, messages: list[Message]) -> list[Message]:
        for reply in self.replies:
            self._see("out", reply)
        return messages

    def _see_arrived(self, data: memoryview) -> None:
        self._arrived += data
        while length := self._see("in", self._arrived):
            del self._arrived[:length]

    def _see(self, direction: str, data: bytes | bytearray) -> int:
        """Report the frame at the beginning of data; return its length, 0 if it is not complete."""
        with contextlib.suppress(ProtocolError):  # the Close frame that answers a violation tells of it
            header = parse_header(data)
            if header is not None and len(data) >= header.length + header.payload_length:
                self._report(direction, header, bytes(data[: header.length + min(header.payload_length, PREVIEW)]))
                return header.length + header.payload_length
        return 0

    def _report(self, direction: str, header: Header, start: bytes) -> None:
        is_echo = direction == "out" and not header.opcode & CONTROL
        self._echoes += is_echo
        if header.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._message = header.opcode
        if self.monitor is None or self.monitor.buffered > MONITOR_LIMIT:
            self._dropped += 1
            return
        report = {
            "direction": direction,
            "time": time.time(),
            "opcode": header.opcode,
            "bits": {bit: getattr(header, bit) for bit in ("fin", "rsv1", "rsv2", "rsv3", "mask")},
            "header": start[: header.length].hex(" "),
            "length": header.payload_length,
            "preview": preview(header.opcode or self._message, header.mask_key, start[header.length :]),
            "echo": self._echoes if is_echo else None,
            "dropped": self._dropped,
        }
        with contextlib.suppress(ConnectionLost):
            self.monitor.send(json_frame(report))


class Application:
    """The handlers of the server. `about` tells the page what runs here."""

    def __init__(self, about: dict[str, str]) -> None:
        self._about = about
        self._watched: dict[str, Watch] = {}

    async def on_request(self, request: Request) -> Response | None:
        return page(request.headers.get("Host", "")) if request.target.partition("?")[0] == "/" else None

    async def on_upgrade(self, request: Request, socket: Socket, _head: bytes) -> None:
        path, _, query = request.target.partition("?")
        name = parse_qs(query).get("watch", [""])[0]
        if path == "/frames":
            await self._monitor(request, socket, name)
        elif name:
            await self._watched_echo(request, socket, name)
        else:
            await echo(request, socket)

    async def _watched_echo(self, request: Request, socket: Socket, name: str) -> None:
        if name in self._watched or not re.fullmatch("[0-9a-f]{32}", name):
            raise InvalidHandshake("watch must be 32 hexadecimal digits that nobody else has chosen")
        watch = self._watched[name] = Watch(socket)
        try:
            socket.use(watch)
            await echo(request, socket)
        finally:
            del self._watched[name]
            if watch.monitor is not None:
                watch.monitor.close()

    async def _monitor(self, request: Request, socket: Socket, name: str) -> None:
        """Report until either connection ends; the text "ping" asks for a ping over the one that is watched."""
        watch = self._watched.get(name)
        if watch is None or watch.monitor is not None:
            raise InvalidHandshake("no such connection, or it has its monitor", 404)
        send_handshake(request, socket)
        send_factory(socket)(json_frame({"server": self._about}))
        watch.monitor = socket
        try:
            async for message in get_messages_factory(socket, max_in_memory_store_size=PREVIEW)():
                if message.payload == b"ping":
                    await watch.socket.send(prepare_websocket_frame(b"wslowlevel", opcode=Opcode.PING))
        finally:
            watch.monitor = None


async def echo(request: Request, socket: Socket) -> None:
    """Send every message back as it came; the connection itself answers pings and Close."""
    send_handshake(request, socket)
    get_messages = get_messages_factory(socket)
    send = send_factory(socket)
    async for message in get_messages():
        if not message.opcode & CONTROL:
            await send(prepare_websocket_frame(message.payload, opcode=message.opcode))


def preview(opcode: int, mask_key: bytes | None, payload: bytes) -> str:
    """The beginning of a payload as a person would read it."""
    payload = apply_mask(payload, mask_key) if mask_key else payload
    if opcode == Opcode.BINARY:
        return payload[:BINARY_PREVIEW].hex(" ")
    if opcode == Opcode.CLOSE and payload:
        code, reason = int.from_bytes(payload[:CLOSE_CODE_LENGTH], "big"), payload[CLOSE_CODE_LENGTH:]
        return f"{code} {reason.decode(errors='replace')}".rstrip()
    return payload.decode(errors="ignore")  # it may begin or end inside a character


def json_frame(value: object) -> bytes:
    return prepare_websocket_frame(json.dumps(value).encode(), is_utf8=True)


@cache
def page_text() -> str:
    """Return echo.html, read when it is first needed: most importers of this module do not need it."""
    return resources.files(__package__).joinpath("echo.html").read_text("utf-8")


def page(host: str) -> Response:
    """The page, which may run what it holds and connect to where it came from, and nothing else."""
    host = re.sub(r"[^\w.:\[\]-]", "", host, flags=re.ASCII)  # 'self' does not cover ws: in every browser
    policy = (
        f"default-src 'none'; script-src {hash_of('script')}; style-src {hash_of('style')}; img-src data:; "
        f"connect-src ws://{host} wss://{host}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Response(200, [*PAGE_HEADERS, ("Content-Security-Policy", policy)], page_text().encode())


def hash_of(tag: str) -> str:
    content = re.split(f"</?{tag}>", page_text())[1]
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
