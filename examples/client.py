"""A client for the terminal: sends each line of stdin as a message, and prints what comes.

Try it:  python examples/echo_server.py
         python examples/client.py
         and type; Ctrl-D, the end of stdin, closes the connection
         python examples/client.py wss://localhost:8443 --ca cert.pem
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import ssl
import sys
import threading
import unicodedata
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import suppress

from wslowlevel import (
    CloseCode,
    ConnectionLost,
    InvalidHandshake,
    Message,
    Opcode,
    PerMessageDeflate,
    Socket,
    WebSocketError,
    connect,
    get_messages_factory,
    send_message_factory,
)


async def read_stdin() -> bytes:
    """Wait for some of stdin; b"" is its end.

    A thread that still waits for input keeps neither the connection nor the program from ending.
    """
    data: Future[bytes] = Future()
    data.set_running_or_notify_cancel()

    def read() -> None:
        try:
            data.set_result(os.read(0, 65536))
        except OSError as error:
            data.set_exception(error)

    threading.Thread(target=read, daemon=True).start()
    return await asyncio.wrap_future(data)


async def lines_of_stdin() -> AsyncIterator[str]:
    pending = b""
    while data := await read_stdin():
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
    if pending:
        yield pending.decode(errors="replace")


async def send_lines(socket: Socket) -> None:
    send_message = send_message_factory(socket)
    code = CloseCode.NORMAL_CLOSURE
    # Whoever receives learns of the connection's end too, and tells it.
    try:
        async for line in lines_of_stdin():
            await send_message(line)
    except ConnectionLost:
        pass
    except asyncio.CancelledError:  # by Ctrl-C, unless the connection is closed already
        code = CloseCode.GOING_AWAY
        raise
    finally:
        socket.close(code)
        socket.flush()


def harmless(text: str) -> str:
    """Text as a terminal may get it from a stranger: without control characters, which would be orders to it."""
    return "".join(
        character if character in "\t\n" or unicodedata.category(character) != "Cc" else "\ufffd" for character in text
    )


def show(message: Message) -> None:
    if message.opcode == Opcode.TEXT:
        print(harmless(message.text), flush=True)
    elif message.opcode == Opcode.BINARY:
        print(f"binary, {len(message.payload)} bytes: {message.payload[:40]!r}", flush=True)


async def talk(uri: str, trusted: ssl.SSLContext | None) -> None:
    task = asyncio.current_task()
    assert task is not None
    with suppress(NotImplementedError):  # on Windows
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
    response, socket = await connect(uri, ssl=trusted, extensions=[PerMessageDeflate()])
    agreed = response.headers.get("Sec-WebSocket-Extensions", "no extensions")
    print(f"connected to {uri}, {agreed}", file=sys.stderr)
    async with socket:
        get_messages = get_messages_factory(socket)
        sender = asyncio.create_task(send_lines(socket))
        try:
            async for message in get_messages():
                show(message)
        finally:
            sender.cancel()
            with suppress(asyncio.CancelledError):
                await sender
    code, reason = socket.received or (CloseCode.ABNORMAL_CLOSURE, "our Close frame was not answered")
    print(f"closed: {code:d} {harmless(reason)}".rstrip(), file=sys.stderr)


def refusal(error: InvalidHandshake) -> str:
    """One line: what happened, and the first line of what the server has to say of it."""
    said = harmless(error.body.decode(errors="replace")).strip().partition("\n")[0]
    return f"refused with status {error.status}: {error}" + (f": {said}" if said else "")


def main() -> str | int:
    """Return the exit status, or one line about what went wrong, with which Python exits with status 1."""
    parser = argparse.ArgumentParser()
    parser.add_argument("uri", nargs="?", default="ws://127.0.0.1:8765")
    parser.add_argument("--ca", metavar="FILE", help="the certificates to trust for wss://, in PEM, and no others")
    arguments = parser.parse_args()
    try:
        trusted = ssl.create_default_context(cafile=arguments.ca) if arguments.ca else None
        asyncio.run(talk(arguments.uri, trusted))
    except InvalidHandshake as error:
        return refusal(error)
    except (WebSocketError, OSError, ValueError, asyncio.TimeoutError) as error:
        return f"{type(error).__name__}: {error}"
    except (KeyboardInterrupt, asyncio.CancelledError):  # Ctrl-C
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
