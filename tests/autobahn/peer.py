"""An echo server and an echo client over the public API: what the Autobahn test suite examines.

python -m tests.autobahn.peer server             says its port, and serves until SIGTERM
python -m tests.autobahn.peer client URI AGENT   goes through all the cases of a fuzzing server
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import suppress
from typing import Any

from wslowlevel import (
    Opcode,
    PerMessageDeflate,
    Request,
    Socket,
    WebSocketError,
    connect,
    get_messages_factory,
    send_handshake,
    send_message_factory,
    serve,
)

LARGEST_MESSAGE = 16 * 1024 * 1024
MOST_FRAGMENTS = 64 * 1024 + 1
"""What cases 9.* send: 16 MiB in one message, and 4 MiB in fragments of 64 bytes with an empty one at the end."""

PATIENCE = 60.0
"""Seconds that wstest may take to open or to close a connection: it is busy for a while after the largest messages."""

COMPRESSION = PerMessageDeflate(threshold=0)
"""Every message of a connection that agreed on it is compressed, the smallest too."""


async def echo(socket: Socket) -> None:
    get_messages = get_messages_factory(
        socket, max_in_memory_store_size=LARGEST_MESSAGE, max_fragments=MOST_FRAGMENTS, auto_pong=True
    )
    send_message = send_message_factory(socket)
    async for message in get_messages():
        if message.opcode in (Opcode.TEXT, Opcode.BINARY):
            await send_message(message.payload, is_utf8=message.opcode == Opcode.TEXT)


# -- The server -------------------------------------------------------------------------------------------------------


async def on_upgrade(request: Request, socket: Socket, head: bytes) -> None:
    send_handshake(request, socket, extensions=[COMPRESSION])
    await echo(socket)


async def run_server() -> None:
    listening = serve(
        on_upgrade, "127.0.0.1", 0, open_timeout=PATIENCE, close_timeout=PATIENCE, stop_signals=[signal.SIGTERM]
    )
    async with listening as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


# -- The client -------------------------------------------------------------------------------------------------------


async def run_client(uri: str, agent: str) -> None:
    for case in range(1, await ask(f"{uri}/getCaseCount") + 1):
        async with await opened(f"{uri}/runCase?case={case}&agent={agent}") as socket:
            with suppress(WebSocketError):  # most cases break a rule
                await echo(socket)
    await ask(f"{uri}/updateReports?agent={agent}")


async def ask(uri: str) -> Any:
    """What the fuzzing server says, if anything, until it closes the connection."""
    answer = None
    async with await opened(uri) as socket:
        async for message in get_messages_factory(socket)():
            if message.opcode == Opcode.TEXT:
                answer = json.loads(message.text)
    return answer


async def opened(uri: str) -> Socket:
    _, socket = await connect(uri, extensions=[COMPRESSION], open_timeout=PATIENCE, close_timeout=PATIENCE)
    return socket


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["server"]:
            asyncio.run(run_server())
        case ["client", uri, agent]:
            asyncio.run(run_client(uri, agent))
        case _:
            sys.exit(__doc__)
