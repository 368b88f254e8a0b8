"""The echo server to look at: `wslowlevel echo`"""

from __future__ import annotations

import signal
import sys
from contextlib import AsyncExitStack

from ..aio.server import Server, serve
from ..codec import BACKEND, kernel
from ..echo import Application
from .info import about

CLOSE_TIMEOUT = 3.0
"""Seconds that clients have to answer a Close frame: who waits for the prompt does not wait longer."""


class NotListening(Exception):
    """The address cannot be listened on; the cause is the error that says why."""


async def listen(host: str, port: int) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Raises:
        NotListening: the address is in use, or this machine does not have it.
        OSError: the address cannot be printed.
    """
    application = Application(about())
    listening = serve(
        application.on_upgrade,
        host,
        port,
        on_request=application.on_request,
        close_timeout=CLOSE_TIMEOUT,
        stop_signals=[signal.SIGINT, signal.SIGTERM],
    )
    async with AsyncExitStack() as stack:
        try:
            server = await stack.enter_async_context(listening)
        except (OSError, UnicodeError) as error:  # the latter for a host that cannot be looked up
            raise NotListening from error
        sys.stdout.write(f"{greeting(server)}\n")
        sys.stdout.flush()
        await server.serve_forever()


def greeting(server: Server) -> str:
    address = authority(*server.sockets[0].getsockname()[:2])
    return f"Echo server on http://{address}/ (backend {BACKEND}, kernel {kernel()}), Ctrl-C to stop"


def authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
