"""A rate limiter: each connection may send 5 messages a second, 10 at once; who sends more is closed with 1008.

Try it:  python examples/rate_limiter.py
         python -m wslowlevel connect ws://127.0.0.1:8765, and keep Enter pressed
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import time

from wslowlevel import (
    CloseCode,
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

RATE = 5.0
BURST = 10.0


class TokenBucket:
    """A bucket that holds `burst` tokens, refilled with `rate` tokens a second."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst = rate, burst
        self.tokens = burst
        self.filled = time.monotonic()

    def take(self) -> bool:
        """Take a token, if there is one."""
        now = time.monotonic()
        self.tokens = min(self.burst, self.tokens + (now - self.filled) * self.rate)
        self.filled = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


async def on_upgrade(request: Request, socket: Socket, _head: bytes) -> None:
    get_messages = get_messages_factory(socket)
    send = send_factory(socket)
    bucket = TokenBucket(RATE, BURST)
    send_handshake(request, socket)
    async for message in get_messages():
        if message.opcode == Opcode.CLOSE:
            return
        if not bucket.take():  # a ping costs a token, as everything does
            reason = prepare_close_frame_payload(CloseCode.POLICY_VIOLATION, f"over {RATE:g} messages a second")
            await send(prepare_websocket_frame(reason, opcode=Opcode.CLOSE))
            return
        if message.opcode in (Opcode.TEXT, Opcode.BINARY):
            await send(prepare_websocket_frame(message.payload, opcode=message.opcode))


async def main(port: int) -> None:
    async with serve(on_upgrade, "127.0.0.1", port, stop_signals=[signal.SIGINT]) as server:
        print(f"listening on ws://127.0.0.1:{server.port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8765, help="0: any free one")
    asyncio.run(main(parser.parse_args().port))
