"""One process of many on the same port: its clients are in rooms, which Redis joins across all processes.

It is started by serve.py. A client connects to /room/NAME, is told which process it came to, and then gets every text
that anybody sends to that room, its own included, in the order in which Redis has them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal

from redis.asyncio import Redis

from wslowlevel import (
    InvalidHandshake,
    Opcode,
    Request,
    Socket,
    broadcast,
    get_messages_factory,
    prepare_websocket_frame,
    send_handshake,
    send_message_factory,
    serve,
)

MAX_BYTES = 4096  # of a message: more is answered with 1009
MAX_CONNECTIONS = 10_000  # of a process: more are answered with 503, and may try another one


class Worker:
    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.rooms: dict[str, set[Socket]] = {}

    async def on_upgrade(self, request: Request, socket: Socket, _head: bytes) -> None:
        name = request.target
        if not re.fullmatch("/room/[a-z0-9-]{1,32}", name):
            raise InvalidHandshake("a room is /room/ and 1 to 32 of a-z, 0-9 and -", 404)
        get_messages = get_messages_factory(socket, max_in_memory_store_size=MAX_BYTES)
        send_message = send_message_factory(socket)
        await send_handshake(request, socket)
        self.rooms.setdefault(name, set()).add(socket)
        try:
            await send_message(json.dumps({"worker": os.getpid()}))
            async for message in get_messages():
                if message.opcode == Opcode.TEXT:
                    # Awaited, so that whoever sends faster than Redis takes it is not read meanwhile.
                    await self.redis.publish(name, message.payload)
        finally:
            self.rooms[name].discard(socket)
            if not self.rooms[name]:
                del self.rooms[name]

    async def relay(self, listening: asyncio.Event) -> None:
        """Send what comes from Redis to those who are in its room here; who reads too slowly is closed with 1013.

        One subscription to all rooms is simplest. With many more rooms than a process has members, subscribe to those.
        """
        async with self.redis.pubsub() as subscription:
            await subscription.psubscribe("/room/*")
            async for message in subscription.listen():
                if message["type"] == "psubscribe":
                    listening.set()
                elif message["type"] == "pmessage":
                    members = self.rooms.get(message["channel"].decode(), ())
                    await broadcast(prepare_websocket_frame(message["data"], is_utf8=True), members, slow="close")


async def main(host: str, port: int, url: str) -> None:
    async with Redis.from_url(url) as redis:
        worker, listening = Worker(redis), asyncio.Event()
        relaying = asyncio.create_task(worker.relay(listening))
        ready = asyncio.create_task(listening.wait())
        await asyncio.wait({relaying, ready}, return_when=asyncio.FIRST_COMPLETED)
        if relaying.done():
            relaying.result()  # Redis is not there: the process ends with the reason, and is started again
        async with serve(
            worker.on_upgrade,
            host,
            port,
            reuse_port=True,  # the kernel deals connections out to all who listen
            max_connections=MAX_CONNECTIONS,
            ping_interval=20,
            stop_signals=[signal.SIGTERM],
        ) as server:
            serving = asyncio.create_task(server.serve_forever())
            await asyncio.wait({relaying, serving}, return_when=asyncio.FIRST_COMPLETED)
            serving.cancel()
        # Without Redis there are no rooms: the clients were told 1001, and come back when there is.
        if relaying.done():
            relaying.result()
        relaying.cancel()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group, and serve.py stops each in order
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--redis", default="redis://127.0.0.1:6379")
    options = parser.parse_args()
    asyncio.run(main(options.host, options.port, options.redis))
