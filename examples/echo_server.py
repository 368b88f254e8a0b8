"""An echo server that meets every kind of message, and closes on an unmasked client with words of its own.

Try it:  python examples/echo_server.py
         python -m wslowlevel connect ws://127.0.0.1:8765
"""

from __future__ import annotations

import argparse
import asyncio
import signal

from wslowlevel import (
    Opcode,
    Request,
    Socket,
    get_messages_factory,
    prepare_close_frame_payload,
    prepare_websocket_frame,
    send_factory,
    send_handshake,
    serve,
)


async def on_upgrade(request: Request, socket: Socket, _head: bytes) -> None:
    send = send_factory(socket)
    # By default pings are answered, and an unmasked frame is answered with 1002 and the library's reason. Here both are
    # answered by hand.
    get_messages = get_messages_factory(
        socket, max_in_memory_store_size=64 * 1024 * 1024, require_mask=False, auto_pong=False
    )

    send_handshake(request, socket, ["X-Served-By: echo_server.py"])
    send(prepare_websocket_frame(b"are you there?", opcode=Opcode.PING))
    send(prepare_websocket_frame(b"hello from the server", is_utf8=True))

    async for message in get_messages():
        payload = message.payload
        if message.opcode == Opcode.CLOSE:
            print(f"close: {socket.received}")  # answered already, with its own code and reason
        elif not message.mask:
            reason = prepare_close_frame_payload(1002, "a client has to mask what it sends")
            await send(prepare_websocket_frame(reason, opcode=Opcode.CLOSE))
            return
        elif message.opcode == Opcode.TEXT:
            print(f"text: {message.text[:80]!r}")
            await send(prepare_websocket_frame(payload, is_utf8=True))
        elif message.opcode == Opcode.BINARY:
            print(f"binary: {len(payload)} bytes")
            await send(prepare_websocket_frame(payload))
        elif message.opcode == Opcode.PING:
            print(f"ping: {payload!r}")
            await send(prepare_websocket_frame(payload, opcode=Opcode.PONG))
        elif message.opcode == Opcode.PONG:
            print(f"pong: {payload!r}")


async def main(port: int) -> None:
    async with serve(on_upgrade, "127.0.0.1", port, stop_signals=[signal.SIGINT]) as server:
        print(f"listening on ws://127.0.0.1:{server.port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8765, help="0: any free one")
    asyncio.run(main(parser.parse_args().port))
