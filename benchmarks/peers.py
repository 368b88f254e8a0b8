"""Who is asked each question in the process of the benchmark, in one way for all: a case a contender.

A case is built once (that part is not timed) and gives what is timed: a call of the contender's own function, with no
function of ours around it where the contender has one that fits. Each runs in its best configuration: C extensions on,
which is asserted, and permessage-deflate off. Not asked: tornado for decoding and picows for encoding, for there they
can only be had together with a stream or a system call; bench_echo.py asks those.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import importlib
import importlib.util
import os
import re
import socket as sockets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

import wslowlevel
from wslowlevel import _codec, _codec_py, prepare_websocket_frame

KEY = b"\x37\xfa\x21\x3d"
BACKENDS = {"cython": _codec, "python": _codec_py}

Call = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function and its arguments."""


@dataclass(frozen=True)
class Case:
    name: str
    package: str
    build: Callable[..., Any]

    @property
    def is_ours(self) -> bool:
        return self.package == "wslowlevel"

    @property
    def is_missing(self) -> bool:
        return bool(self.package) and importlib.util.find_spec(self.package) is None


CASES: dict[str, list[Case]] = {}
"""By question, ours first."""


def case(question: str, name: str, package: str | None = None, **build: Any) -> Callable[[Any], Any]:
    """Enter a function as what builds a case; `package` has to be installed, the name's first word by default."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        needed = re.split("[ ,]", name)[0] if package is None else package
        made = (lambda *arguments: function(*arguments, **build)) if build else function
        CASES.setdefault(question, []).append(Case(name, needed, made))
        return function

    return enter


def ours(question: str, words: str = "") -> Callable[[Any], Any]:
    """Enter a function as a case of each backend, which is its keyword `codec`."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        for backend, codec in BACKENDS.items():
            case(question, f"wslowlevel {backend}{words}", codec=codec)(function)
        return function

    return enter


def cases(question: str) -> list[Any]:
    """The contenders of a question, as parameters of a test; who is not installed is skipped by name."""
    missing = [pytest.mark.skip(f"{each.package} is not installed") for each in CASES[question] if each.is_missing]
    marks = iter(missing)
    return [pytest.param(each, id=each.name, marks=next(marks) if each.is_missing else ()) for each in CASES[question]]


def compiled(module: str) -> Any:
    """A C extension of a peer."""
    extension = importlib.import_module(module)
    assert str(extension.__file__).endswith((".so", ".pyd")), f"{module} is not compiled"
    return extension


# -- mask: a buffer -> the call that unmasks it, in place or into new bytes -------------------------------------------


@ours("mask", ", in place")
def mask_in_place(buffer: bytearray, codec: Any) -> Call:
    return codec.apply_mask_inplace, (buffer, KEY)


@ours("mask", ", a copy")
def mask_copy(buffer: bytearray, codec: Any) -> Call:
    return codec.apply_mask, (bytes(buffer), KEY)


@case("mask", "aiohttp, in place")
def mask_aiohttp(buffer: bytearray) -> Call:
    return compiled("aiohttp._websocket.mask")._websocket_mask_cython, (KEY, buffer)


@case("mask", "websockets, a copy")
def mask_websockets(buffer: bytearray) -> Call:
    return compiled("websockets.speedups").apply_mask, (bytes(buffer), KEY)


@case("mask", "tornado, a copy")
def mask_tornado(buffer: bytearray) -> Call:
    return compiled("tornado.speedups").websocket_mask, (KEY, bytes(buffer))


@case("mask", "wsaccel, a copy")
def mask_wsaccel(buffer: bytearray) -> Call:
    masker = compiled("wsaccel.xormask").createXorMasker(KEY)  # keeps its place in the key: whole keys only
    return masker.process, (bytes(buffer),)


@case("mask", "wsproto, in place")
def mask_wsproto(buffer: bytearray) -> Call:
    from wsproto.frame_protocol import XorMaskerSimple

    return XorMaskerSimple(KEY).process, (bytearray(buffer),)


@case("mask", "numpy, in place")
def mask_numpy(buffer: bytearray) -> Call:
    import numpy as np

    whole = len(buffer) & ~7
    words = np.frombuffer(buffer, np.uint64, whole // 8)
    rest = np.frombuffer(buffer, np.uint8, offset=whole)
    key = np.frombuffer(KEY * 2, np.uint64)[0]
    key_rest = np.frombuffer(KEY * 2, np.uint8)[: len(rest)]

    def unmask() -> None:
        np.bitwise_xor(words, key, out=words)
        if len(rest):
            np.bitwise_xor(rest, key_rest, out=rest)

    return unmask, ()


@case("mask", "(memory copy)", package="")
def mask_memory_copy(buffer: bytearray) -> Call:
    """The limit: the same bytes, moved."""
    source = bytes(buffer)
    return memoryview(bytearray(buffer)).__setitem__, (slice(None), source)


# -- decode: -> the call that takes a chunk and returns its messages, and what tells a message's payload --------------

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
Decoder = tuple[Callable[[bytes], Any], Callable[[Any], bytes]]


@ours("decode")
def decode_ours(_chunk: int, codec: Any) -> Decoder:
    return codec.MessageDecoder(role="server", max_message_size=None).feed, lambda message: message.payload


@ours("decode", ", received in place")
def decode_ours_in_place(_chunk: int, codec: Any) -> Decoder:
    decoder = codec.MessageDecoder(role="server", max_message_size=None)

    def feed(chunk: bytes) -> list[Any]:
        """What a BufferedProtocol does; the copy stands for the kernel's."""
        messages: list[Any] = []
        data = memoryview(chunk)
        while data:
            buffer = decoder.get_buffer(len(data))
            count = min(len(buffer), len(data))
            buffer[:count] = data[:count]
            messages += decoder.buffer_updated(count)
            data = data[count:]
        return messages

    return feed, lambda message: message.payload


@case("decode", "picows, views")
def decode_picows(chunk_size: int) -> Decoder:
    return _picows_decoder(chunk_size, "get_payload_as_memoryview")


@case("decode", "picows, bytes")
def decode_picows_bytes(chunk_size: int) -> Decoder:
    return _picows_decoder(chunk_size, "get_payload_as_bytes")


def _picows_decoder(chunk_size: int, getter: str) -> Decoder:
    """Its protocol without the event loop; the copy into its buffer stands for the kernel's."""
    from picows import WSListener
    from picows.picows import WSAutoPingStrategy, WSFrame, WSProtocol, WSTransport  # type: ignore[attr-defined]

    received: list[Any] = []
    append, get = received.append, getattr(WSFrame, getter)

    class Listener(WSListener):
        def on_ws_frame(self, _transport: WSTransport, frame: WSFrame) -> None:
            append(get(frame))

    async def make() -> Any:
        ping = (False, 0, 0, WSAutoPingStrategy.PING_WHEN_IDLE)
        log = __import__("logging").getLogger("picows")
        return WSProtocol(
            None, None, False, lambda _request: Listener(), log, True, None, *ping, True, 1 << 30, None, chunk_size * 2
        )

    protocol = asyncio.new_event_loop().run_until_complete(make())
    protocol.connection_made(NoTransport())

    def feed(chunk: bytes) -> list[Any]:
        received.clear()
        data = memoryview(chunk)
        while data:
            buffer = memoryview(protocol.get_buffer(len(data)))
            count = min(len(buffer), len(data))
            buffer[:count] = data[:count]
            protocol.buffer_updated(count)
            data = data[count:]
        return received

    feed(UPGRADE)
    return feed, bytes


class NoTransport(asyncio.Transport):
    """Goes nowhere."""

    def __init__(self) -> None:
        self._socket, self._other = sockets.socketpair()
        super().__init__({"socket": _TcpSocket(self._socket)})

    def write(self, data: Any) -> None: ...

    def writelines(self, data: Any) -> None: ...

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def get_protocol(self) -> Any:
        return self


class _TcpSocket:
    """A socket that takes the options of TCP."""

    def __init__(self, socket: sockets.socket) -> None:
        self._socket = socket
        self.fileno = socket.fileno
        self.family, self.type = socket.family, socket.type

    def setsockopt(self, *_arguments: Any) -> None: ...

    def getsockopt(self, *_arguments: Any) -> int:
        return 1


@case("decode", "aiohttp")
def decode_aiohttp(_chunk: int) -> Decoder:
    reader_c = compiled("aiohttp._websocket.reader_c")
    from aiohttp.base_protocol import BaseProtocol

    loop = asyncio.new_event_loop()
    queue = reader_c.WebSocketDataQueue(BaseProtocol(loop), 1 << 30, loop=loop)
    reader = reader_c.WebSocketReader(queue, 1 << 30, False, True)
    waiting = queue._buffer

    async def read_all(messages: list[Any]) -> None:
        while waiting:
            messages.append(await queue.read())

    def feed(chunk: bytes) -> list[Any]:
        messages: list[Any] = []
        reader.feed_data(chunk)
        with contextlib.suppress(StopIteration):
            read_all(messages).send(None)  # never waits, for all of them are there
        return messages

    return feed, lambda message: as_bytes(message.data)


@case("decode", "websockets")
def decode_websockets(_chunk: int) -> Decoder:
    compiled("websockets.speedups")
    from websockets.server import ServerProtocol

    protocol = ServerProtocol(max_size=None)
    protocol.receive_data(UPGRADE)
    (request,) = protocol.events_received()
    protocol.send_response(protocol.accept(request))
    receive, events = protocol.receive_data, protocol.events_received

    def feed(chunk: bytes) -> list[Any]:
        receive(chunk)
        return events()

    return feed, lambda frame: bytes(frame.data)


@case("decode", "wsproto")
def decode_wsproto(_chunk: int) -> Decoder:
    from wsproto import ConnectionType, WSConnection
    from wsproto.events import AcceptConnection

    connection = WSConnection(ConnectionType.SERVER)
    connection.receive_data(UPGRADE)
    list(connection.events())
    connection.send(AcceptConnection())
    receive, events = connection.receive_data, connection.events

    def feed(chunk: bytes) -> list[Any]:
        receive(chunk)
        return list(events())

    return feed, lambda event: as_bytes(event.data)


def as_bytes(data: Any) -> bytes:
    return data.encode() if isinstance(data, str) else bytes(data)


# -- encode: a payload, whether to mask -> the call that gives a binary frame; a fresh key each time where one is used -

Writer = Callable[[Any], bytes]


@ours("encode", ", given key")
def encode_ours(payload: bytes, masked: bool, codec: Any) -> Call:
    return _encode_with(codec.encode_frame, KEY if masked else None), (2, payload)


def _encode_with(encode_frame: Any, key: bytes | None) -> Callable[..., bytes]:
    if key is None:
        return encode_frame  # type: ignore[no-any-return]
    return lambda opcode, payload: encode_frame(opcode, payload, mask_key=key)


@case("encode", f"wslowlevel {wslowlevel.BACKEND}, prepare_websocket_frame")
def encode_prepared(payload: bytes, masked: bool) -> Call:
    if masked:
        return lambda data: prepare_websocket_frame(data, mask_key=True), (payload,)
    return prepare_websocket_frame, (payload,)


@case("encode", "websockets")
def encode_websockets(payload: bytes, masked: bool) -> Call:
    compiled("websockets.speedups")
    from websockets.frames import Frame, Opcode

    binary = Opcode.BINARY
    return lambda data: Frame(binary, data).serialize(mask=masked), (payload,)


@case("encode", "wsproto")
def encode_wsproto(payload: bytes, masked: bool) -> Call:
    from wsproto.connection import Connection, ConnectionType
    from wsproto.events import BytesMessage

    connection = Connection(ConnectionType.CLIENT if masked else ConnectionType.SERVER)
    return lambda data: connection.send(BytesMessage(data)), (payload,)


@case("encode", "aiohttp")
def encode_aiohttp(payload: bytes, masked: bool) -> Call:
    compiled("aiohttp._websocket.mask")
    from aiohttp._websocket.writer import WebSocketWriter
    from aiohttp.base_protocol import BaseProtocol

    loop = asyncio.new_event_loop()
    transport = Written()
    asyncio.set_event_loop(loop)
    protocol = BaseProtocol(loop)
    protocol.transport = transport
    writer = WebSocketWriter(protocol, transport, use_mask=masked)
    write = writer._write_websocket_frame
    return lambda data: write(data, 2, 0) or transport.take(), (payload,)


@case("encode", "tornado")
def encode_tornado(payload: bytes, masked: bool) -> Call:
    compiled("tornado.speedups")
    from tornado.websocket import WebSocketProtocol13, _WebSocketParams

    protocol = WebSocketProtocol13.__new__(WebSocketProtocol13)
    protocol.mask_outgoing, protocol._wire_bytes_out, protocol.params = masked, 0, _WebSocketParams()
    protocol.stream = stream = Written()
    write = protocol._write_frame
    return lambda data: write(True, 2, data) or stream.take(), (payload,)


class Written(NoTransport):
    """Keeps what was written, in parts as it came."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[Any] = []
        self.write = self._parts.append  # type: ignore[method-assign]
        self.writelines = self._parts.extend  # type: ignore[method-assign]

    def take(self) -> list[Any]:
        parts = self._parts.copy()
        self._parts.clear()
        return parts


# -- header: a whole frame without payload -> the call that reads it, or that writes it -------------------------------


@ours("read header")
def read_header_ours(frame: bytes, codec: Any) -> Call:
    return codec.parse_header, (frame,)


@case("read header", "websockets")
def read_header_websockets(frame: bytes) -> Call:
    from websockets.frames import Frame
    from websockets.streams import StreamReader

    def read() -> Any:
        reader = StreamReader()
        reader.feed_data(frame)
        try:
            next(Frame.parse(reader.read_exact, mask=bool(frame[1] & 0x80), max_size=None))
        except StopIteration as stop:
            return stop.value
        raise AssertionError

    return read, ()


@case("read header", "wsproto")
def read_header_wsproto(frame: bytes) -> Call:
    from wsproto.frame_protocol import FrameDecoder

    def read() -> Any:
        decoder = FrameDecoder(client=not frame[1] & 0x80)
        decoder.receive_bytes(frame)
        assert decoder.parse_header()
        return decoder

    return read, ()


@ours("write header")
def write_header_ours(length: int, key: bytes | None, codec: Any) -> Call:
    if key is None:
        return codec.encode_header, (2, length)
    return lambda: codec.encode_header(2, length, mask_key=key), ()


# -- utf8: -> the call that validates one text ------------------------------------------------------------------------


@ours("utf8")
def utf8_ours(codec: Any) -> Callable[[bytes], Any]:
    return codec.Utf8Validator().feed  # type: ignore[no-any-return]


@case("utf8", "wsaccel")
def utf8_wsaccel() -> Callable[[bytes], Any]:
    return compiled("wsaccel.utf8validator").Utf8Validator().validate  # type: ignore[no-any-return]


@case("utf8", "CPython decode (websockets)", package="")
def utf8_cpython() -> Callable[[bytes], Any]:
    return bytes.decode


@case("utf8", "CPython incremental (wsproto)", package="")
def utf8_cpython_incremental() -> Callable[[bytes], Any]:
    return codecs.getincrementaldecoder("utf-8")().decode


# -- iterate: what counts messages -> the port of a server whose handler reads them, one by one ------------------------


class Counter:
    """Tells when so many messages have been handed out, and keeps their last payload."""

    def __init__(self) -> None:
        self.missing = 0
        self.last: Any = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def expect(self, messages: int) -> asyncio.Future[None]:
        self.missing = messages
        self.done = asyncio.get_running_loop().create_future()
        return self.done

    def count(self, payload: Any) -> None:
        self.missing -= 1
        if not self.missing:
            self.last = payload
            self.done.set_result(None)


@case("iterate", f"wslowlevel {wslowlevel.BACKEND}")
async def iterate_ours(counter: Counter) -> Any:
    async def on_upgrade(request: Any, socket: Any, _head: bytes) -> None:
        get_messages = wslowlevel.get_messages_factory(socket)
        wslowlevel.send_handshake(request, socket)
        async for message in get_messages():
            counter.count(message.payload)

    return await wslowlevel.serve(on_upgrade, "127.0.0.1", 0)


@case("iterate", "picows, callbacks")
async def iterate_picows(counter: Counter) -> Any:
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

    class Listener(WSListener):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type is WSMsgType.CLOSE:
                transport.disconnect()
            else:
                counter.count(frame.get_payload_as_bytes())

    return await ws_create_server(lambda _request: Listener(), "127.0.0.1", 0)


@case("iterate", "picows.websockets", package="picows")
async def iterate_picows_websockets(counter: Counter) -> Any:
    return await _iterate_websockets(importlib.import_module("picows.websockets"), counter)


@case("iterate", "websockets")
async def iterate_websockets(counter: Counter) -> Any:
    return await _iterate_websockets(importlib.import_module("websockets.asyncio.server"), counter)


async def _iterate_websockets(module: ModuleType, counter: Counter) -> Any:
    async def handler(connection: Any) -> None:
        async for message in connection:
            counter.count(message)

    return await module.serve(handler, "127.0.0.1", 0, compression=None, ping_interval=None)


@case("iterate", "aiohttp")
async def iterate_aiohttp(counter: Counter) -> Any:
    from aiohttp import web

    async def handler(request: web.BaseRequest) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        async for message in socket:
            counter.count(message.data)
        return socket

    server = web.Server(handler)  # type: ignore[arg-type]
    return await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)


@case("iterate", "tornado, callbacks")
async def iterate_tornado(counter: Counter) -> Any:
    from tornado.httpserver import HTTPServer
    from tornado.netutil import bind_sockets
    from tornado.web import Application
    from tornado.websocket import WebSocketHandler

    class Handler(WebSocketHandler):
        def on_message(self, message: str | bytes) -> None:
            counter.count(message)

    server = HTTPServer(Application([("/", Handler)]))
    server.sockets = bind_sockets(0, "127.0.0.1")  # type: ignore[attr-defined]
    server.add_sockets(server.sockets)  # type: ignore[attr-defined]
    return server


def messages_of(size: int, chunk: int) -> Iterator[bytes]:
    """Payloads that differ, until their masked frames fill a chunk."""
    for _ in range(max(chunk // (size + (6 if size < 126 else 8 if size < 1 << 16 else 14)), 1)):
        yield os.urandom(size)
