"""An extension of one's own: "x-zlib" compresses single messages with zlib, and marks those with the bit RSV2.

It comes in through the door that permessage-deflate takes: a factory that speaks for it in the opening handshake, on
either side, and an extension that is made for each connection. The server echoes; what a client sends with RSV2 set
without having negotiated x-zlib is refused with 1002 by the decoder.

Try it:  python examples/extension_rsv.py, and in another terminal python examples/extension_rsv.py --connect
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import zlib
from collections.abc import Iterator

from wslowlevel import (
    CloseCode,
    Extension,
    ExtensionFactory,
    InvalidHandshake,
    Opcode,
    Parameters,
    ProtocolError,
    Reason,
    Request,
    Rsv,
    Socket,
    Transform,
    connect,
    get_messages_factory,
    send_handshake,
    send_message_factory,
    serve,
)

BLOCK = 64 * 1024
WORTHWHILE = 64
"""Bytes from which a message is compressed."""


class XZlib(Extension):
    """x-zlib on one connection. It remembers nothing from one message to the next."""

    rsv = Rsv.RSV2

    def decoder(self, opcode: int, rsv: int) -> Transform | None:
        if not rsv:
            return None
        stream = zlib.decompressobj()

        def decode(piece: bytes, last: bool) -> Iterator[bytes]:
            # A block at a time: who receives stops at its limit, whatever a piece would inflate to.
            try:
                while piece and not stream.eof:
                    yield stream.decompress(piece, BLOCK)
                    piece = stream.unconsumed_tail
            except zlib.error as error:
                raise refused(str(error)) from None
            if piece or stream.unused_data or (last and not stream.eof):
                raise refused("it ends too early, or too late")

        return decode

    def encoder(self, opcode: int, size: int | None, wanted: bool | None) -> Transform | None:
        if not (size is None or size >= WORTHWHILE if wanted is None else wanted):
            return None
        stream = zlib.compressobj()
        return lambda piece, last: [stream.compress(piece) + (stream.flush() if last else b"")]


def refused(why: str) -> ProtocolError:
    return ProtocolError(f"not a zlib stream: {why}", Reason.EXTENSION_DATA, CloseCode.INVALID_PAYLOAD)


class XZlibFactory(ExtensionFactory):
    """x-zlib has no parameters: an offer or an answer with any is not the one that is spoken here."""

    name = "x-zlib"

    def offer(self) -> Parameters:
        return []

    def accept(self, offered: Parameters) -> tuple[Parameters, Extension] | None:
        return None if offered else ([], XZlib())

    def confirm(self, answered: Parameters) -> Extension:
        if answered:
            raise InvalidHandshake(f"x-zlib has no parameters, not {answered}")
        return XZlib()


async def on_upgrade(request: Request, socket: Socket, _head: bytes) -> None:
    get_messages = get_messages_factory(socket, max_in_memory_store_size=1024 * 1024)
    send_message = send_message_factory(socket)
    send_handshake(request, socket, extensions=[XZlibFactory()])
    async for message in get_messages():
        if message.opcode in (Opcode.TEXT, Opcode.BINARY):
            await send_message(message.payload, is_utf8=message.opcode == Opcode.TEXT)


async def listen(port: int) -> None:
    async with serve(on_upgrade, "127.0.0.1", port, stop_signals=[signal.SIGINT]) as server:
        print(f"listening on ws://127.0.0.1:{server.port}", flush=True)
        await server.serve_forever()


async def ask(port: int) -> None:
    response, socket = await connect(f"ws://127.0.0.1:{port}/", extensions=[XZlibFactory()])
    print("agreed on:", response.headers.get("Sec-WebSocket-Extensions", "nothing"))
    async with socket:
        get_messages = get_messages_factory(socket)
        for text in ("short", "again and " * 1000):
            await socket.send_message(text)
            echo = await anext(get_messages())
            received = socket.counters.bytes_received
            print(f"{len(text)} bytes came back: {echo.text == text}; {received} over the wire so far")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8765, help="0: any free one")
    parser.add_argument("--connect", action="store_true", help="be the client")
    arguments = parser.parse_args()
    asyncio.run((ask if arguments.connect else listen)(arguments.port))
