"""The log of the client, `wslowlevel.client`: connections that open, that fail, and that close, at level INFO.

It contains paths without their queries, and no headers: no credentials. If the level is off, it costs nothing.
"""

from __future__ import annotations

import asyncio
import logging

from ..errors import InvalidHandshake, ProxyRefused
from ..http1 import reason_phrase
from ..uri import WebSocketURI
from ..wire import CloseCode
from .socket import Socket

logger = logging.getLogger("wslowlevel.client")


def log_open(uri: WebSocketURI, socket: Socket) -> None:
    """Log that a connection is open, and later that it has closed."""
    if not logger.isEnabledFor(logging.INFO):
        return
    peer, path = _peer_and_path(uri)
    logger.info("open: %s, path %s", peer, path)
    loop = asyncio.get_running_loop()
    opened = loop.time()

    def log_close(_: asyncio.Future[None]) -> None:
        code = CloseCode.ABNORMAL_CLOSURE if socket.received is None else socket.received[0]
        logger.info("closed: %s, path %s, code %d after %.3f seconds", peer, path, code, loop.time() - opened)

    socket._closed.add_done_callback(log_close)


def log_failure(uri: WebSocketURI, error: Exception) -> None:
    """Log that the server refused, or that no connection was made."""
    if not logger.isEnabledFor(logging.INFO):
        return
    peer, path = _peer_and_path(uri)
    if isinstance(error, InvalidHandshake) and not isinstance(error, ProxyRefused):
        status = f"{error.status} {reason_phrase(error.status)}".rstrip()
        logger.info("refused: %s, path %s, status %s: %s", peer, path, status, error)
    else:
        logger.info("cannot connect: %s, path %s: %s: %s", peer, path, type(error).__name__, error)


def _peer_and_path(uri: WebSocketURI) -> tuple[str, str]:
    host = f"[{uri.host}]" if ":" in uri.host else uri.host
    return f"{host}:{uri.port}", uri.resource_name.partition("?")[0]
