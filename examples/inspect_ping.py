"""Pings are messages like any other: this server looks into them, and answers them by hand.

A ping that carries the time of its departure is answered with a pong, as every ping, and with a text that says how long
it was under way.

Try it:  python examples/inspect_ping.py, and

    with websockets.sync.client.connect("ws://127.0.0.1:8765") as client:
        client.ping(str(time.time()))
        print(client.recv())
"""

from __future__ import annotations

import argparse
import asyncio
import math
import signal
import time

from wslowlevel import (
    Opcode,
    Request,
    Socket,
    get_messages_factory,
    prepare_websocket_frame,
    send_factory,
    send_handshake,
    serve,
)


def inspect(payload: bytes) -> str:
    """Say what a ping tells: Unix time in seconds, as text, or anything else."""
    try:
        age = time.time() - float(payload)
    except ValueError:
        age = math.nan
    if not math.isfinite(age):
        return f"your ping of {len(payload)} bytes carries no time"
    return f"your ping was {age * 1000:.3f} ms under way"


async def on_upgrade(request: Request, socket: Socket, _head: bytes) -> None:
    get_messages = get_messages_factory(socket, auto_pong=False)
    send = send_factory(socket)
    send_handshake(request, socket)
    async for message in get_messages():
        if message.opcode == Opcode.PING:
            # "A Pong frame [...] must have identical 'Application data' as found in the message body of the Ping frame"
            # (RFC 6455 §5.5.3)
            send(prepare_websocket_frame(message.payload, opcode=Opcode.PONG))
            await send(prepare_websocket_frame(inspect(message.payload).encode(), is_utf8=True))


async def main(port: int) -> None:
    async with serve(on_upgrade, "127.0.0.1", port, stop_signals=[signal.SIGINT]) as server:
        print(f"listening on ws://127.0.0.1:{server.port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8765, help="0: any free one")
    asyncio.run(main(parser.parse_args().port))
