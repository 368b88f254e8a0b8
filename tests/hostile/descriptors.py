"""A server whose process has no more descriptors than the documentation requires.

Run it:  python -m tests.hostile.descriptors '{"loop": "uvloop", "tls": false, "max_connections": 8, "max_refusals": 4}'

It prints its port. For each message it opens a file, and sends back the number of descriptors in use.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from typing import Any

from wslowlevel import Request, Socket, get_messages_factory, send_handshake, send_message_factory, serve
from wslowlevel.aio.server import ACCEPTED_AT_ONCE

from ..servers import LOOPS
from ..tls import server_tls

IN_FLIGHT = 4 * ACCEPTED_AT_ONCE
"""Connections that the event loop has accepted and the server has not yet dropped."""


async def on_upgrade(request: Request, socket: Socket, head: bytes) -> None:
    get_messages = get_messages_factory(socket)
    send_message = send_message_factory(socket)
    await send_handshake(request, socket)
    async for _ in get_messages():
        with open(os.devnull):  # noqa: ASYNC230
            await send_message(str(len(os.listdir("/dev/fd"))))


async def main(arguments: dict[str, Any]) -> None:
    tls = server_tls() if arguments["tls"] else None
    limits = {name: arguments[name] for name in ("max_connections", "max_refusals")}
    async with serve(on_upgrade, "127.0.0.1", 0, ssl=tls, **limits) as server:
        used = len(os.listdir("/dev/fd")) + 2  # the file that the handler opens, and its list of descriptors
        needed = used + sum(limits.values()) + IN_FLIGHT
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, needed))
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    loop = LOOPS[given["loop"]]()
    try:
        loop.run_until_complete(main(given))
    finally:
        loop.close()
