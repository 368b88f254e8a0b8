"""An extension of one's own: "x-zlib" compresses single messages with zlib, and marks those with the bit RSV2.

Everything is echoed; to a client that negotiated x-zlib, compressed where that is shorter. What a client sends with
RSV2 set without having negotiated it is refused with 1002 by the decoder.

Try it:  python examples/extension_rsv.py, and a client that sends "Sec-WebSocket-Extensions: x-zlib"
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import zlib

from wslowlevel import (
    CloseCode,
    Message,
    Opcode,
    Request,
    Rsv,
    Socket,
    get_messages_factory,
    parse_extensions,
    prepare_close_frame_payload,
    prepare_websocket_frame,
    send_factory,
    send_handshake,
    serve,
)

EXTENSIONS = "Sec-WebSocket-Extensions"
LIMIT = 1024 * 1024


def unpacked(message: Message) -> bytes:
    """The payload as it was before the extension. ValueError: it is not what the extension makes of a message."""
    payload = message.payload
    if message.rsv2:
        stream = zlib.decompressobj()
        try:
            payload = stream.decompress(payload, LIMIT)
        except zlib.error as error:
            raise ValueError(f"not a zlib stream: {error}") from None
        if not stream.eof:
            raise ValueError(f"not a zlib stream of at most {LIMIT} bytes")
    if message.opcode == Opcode.TEXT:
        payload.decode()  # the decoder cannot judge the UTF-8 of a payload that an extension has changed
    return payload


def packed(payload: bytes, opcode: int, compress: bool) -> bytes:
    """The frame that carries a message, compressed where that is allowed and shorter."""
    short = zlib.compress(payload) if compress else payload
    if len(short) < len(payload):
        return prepare_websocket_frame(short, opcode=opcode, rsv2=1)
    return prepare_websocket_frame(payload, opcode=opcode)


async def on_upgrade(request: Request, socket: Socket, _head: bytes) -> None:
    # An offer with parameters is not the x-zlib that this server knows, so it is declined.
    agreed = ("x-zlib", []) in parse_extensions(request.headers.get_all(EXTENSIONS))
    get_messages = get_messages_factory(socket, allow_rsv=Rsv.RSV2 if agreed else 0, auto_pong=True)
    send = send_factory(socket)
    send_handshake(request, socket, [(EXTENSIONS, "x-zlib")] if agreed else [])
    async for message in get_messages():
        if message.opcode in (Opcode.TEXT, Opcode.BINARY):
            try:
                await send(packed(unpacked(message), message.opcode, agreed))
            except ValueError as error:
                reason = prepare_close_frame_payload(CloseCode.INVALID_PAYLOAD, str(error))
                await send(prepare_websocket_frame(reason, opcode=Opcode.CLOSE))
                return


async def main(port: int) -> None:
    async with serve(on_upgrade, "127.0.0.1", port, stop_signals=[signal.SIGINT]) as server:
        print(f"listening on ws://127.0.0.1:{server.port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8765, help="0: any free one")
    asyncio.run(main(parser.parse_args().port))
