"""The server that is attacked, in a process of its own: each target is a handler, each argument an option of `serve`.

Run it:  python -W error -m tests.hostile.victim '{"loop": "uvloop", "serve": {"close_timeout": 1.0}}'

It prints its port, and answers a GET of /about with what became of its connections, as JSON.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import logging
import os
import random
import sys
from collections import Counter
from typing import Any

from wslowlevel import (
    BACKEND,
    Opcode,
    PayloadTooBig,
    PerMessageDeflate,
    ProtocolError,
    Request,
    Response,
    Socket,
    WebSocketError,
    get_messages_factory,
    prepare_websocket_frame,
    send_factory,
    send_handshake,
    send_message_factory,
    serve,
)

from ..servers import LOOPS

outcomes: Counter[str] = Counter()
"""How often a handler came to which end: "ended", or the class, the reason and the close code of what it raised."""

logged: list[str] = []
"""What was logged as a warning or worse, and what the event loop alone saw."""

DATA = (Opcode.TEXT, Opcode.BINARY)


# -- The handlers -----------------------------------------------------------------------------------------------------


async def echo(socket: Socket, options: dict[str, Any]) -> None:
    """Send every message back."""
    send_message = send_message_factory(socket)
    async for message in get_messages_factory(socket, auto_pong=True, **options)():
        if message.opcode in DATA:
            await send_message(message.payload, is_utf8=message.opcode == Opcode.TEXT)


async def drop(socket: Socket, options: dict[str, Any]) -> None:
    """Read every message, and count what came at the end of the connection."""
    counted = 0
    try:
        async for message in get_messages_factory(socket, **options)():
            counted += message.opcode in DATA
    finally:
        outcomes[f"messages {counted}"] += 1


async def linger(socket: Socket, options: dict[str, Any]) -> None:
    """Never read, until the peer has been held up for long enough."""
    get_messages_factory(socket, **options)
    await asyncio.sleep(2.0)


async def fail(socket: Socket, options: dict[str, Any]) -> None:
    """Raise at the first message."""
    async for message in get_messages_factory(socket, **options)():
        raise LookupError(f"a handler failed at {message.payload[:20]!r}")


async def pour(socket: Socket, options: dict[str, Any]) -> None:
    """Send 8 MiB in pieces without waiting for them, then return."""
    get_messages_factory(socket, **options)
    send = send_factory(socket)
    for number in range(128):
        send(prepare_websocket_frame(number.to_bytes(4, "big") * (16 * 1024)))


async def nap(socket: Socket, options: dict[str, Any]) -> None:
    """Leave what comes unread for a while, then return."""
    get_messages_factory(socket, **options)
    await asyncio.sleep(0.3)


async def race(socket: Socket, options: dict[str, Any]) -> None:
    """Let two tasks send and a third one close, in the same turns of the loop."""
    send = send_factory(socket)

    async def send_numbers(sender: int) -> None:
        for number in range(1000):
            await send(prepare_websocket_frame(bytes([sender]) + number.to_bytes(2, "big")))
            await asyncio.sleep(0)

    async def close_soon() -> None:
        for _ in range(random.randrange(50)):
            await asyncio.sleep(0)
        socket.close(4000, "raced")

    results = await asyncio.gather(send_numbers(0), send_numbers(1), close_soon(), return_exceptions=True)
    outcomes.update(f"race {type(result).__name__}" for result in results)
    async for _ in get_messages_factory(socket, **options)():
        pass


HANDLERS = {f"/{handler.__name__}": handler for handler in (echo, drop, linger, fail, pour, nap, race)}
BYSTANDER = "/bystander"
"""Is echoed, and not counted among the outcomes."""


# -- The server -------------------------------------------------------------------------------------------------------


class Victim:
    def __init__(self, arguments: dict[str, Any]) -> None:
        self.messages: dict[str, Any] = arguments.get("messages", {})
        self.extensions = [PerMessageDeflate()] if arguments.get("deflate") else []

    async def on_upgrade(self, request: Request, socket: Socket, head: bytes) -> None:
        if request.target == BYSTANDER:
            await send_handshake(request, socket)
            return await echo(socket, {})
        handler = HANDLERS[request.target]
        try:
            await send_handshake(request, socket, extensions=self.extensions)
            await handler(socket, self.messages)
        except WebSocketError as error:
            outcomes[in_words(error)] += 1
            raise
        except BaseException as error:
            outcomes[type(error).__name__] += 1
            raise
        else:
            outcomes["ended"] += 1

    async def on_request(self, request: Request) -> Response | None:
        if request.target != "/about":
            return None
        return Response(200, [("Content-Type", "application/json")], json.dumps(about()).encode())


def in_words(error: WebSocketError) -> str:
    """Such as "ProtocolError LENGTH_TOO_BIG 1002"."""
    if isinstance(error, (ProtocolError, PayloadTooBig)):
        return f"{type(error).__name__} {error.reason.name} {error.close_code:d}"
    return type(error).__name__


def about() -> dict[str, Any]:
    gc.collect()
    return {
        "backend": BACKEND,
        "tasks": len(asyncio.all_tasks()),
        "descriptors": len(os.listdir("/dev/fd")),
        "blocks": sys.getallocatedblocks(),
        "allocated": allocated(),
        "outcomes": outcomes,
        "logged": logged,
    }


FIELDS = ["arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"]


class Mallinfo2(ctypes.Structure):
    """What glibc says of its allocator (mallinfo(3)), in bytes those that are used here."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in FIELDS)


def allocated() -> int | None:
    """Bytes that malloc has given out and not got back: unlike what is resident, no matter of where they lie.

    None: the C library does not say.
    """
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        return None
    mallinfo2.restype = Mallinfo2
    about = mallinfo2()
    return int(about.uordblks + about.hblkhd)


class Kept(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        logged.append(record.getMessage())


async def main(arguments: dict[str, Any]) -> None:
    logging.getLogger().addHandler(Kept(logging.WARNING))
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(f"in the loop: {context}"))
    victim = Victim(arguments)
    async with serve(
        victim.on_upgrade, "127.0.0.1", 0, on_request=victim.on_request, **arguments.get("serve", {})
    ) as server:
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until whoever started it is gone


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    loop = LOOPS[given["loop"]]()
    try:
        loop.run_until_complete(main(given))
    finally:
        loop.close()
