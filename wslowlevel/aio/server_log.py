"""The log of the server, `wslowlevel.server`: refused handshakes, and connections that open and close, at level INFO.

Answers to plain HTTP requests are logged at DEBUG, unexpected exceptions at ERROR, and frames never. A line contains
the path without its query, and no headers: both may contain credentials. If a level is off, its lines cost nothing.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from ..http1 import reason_phrase
from ..wire import CloseCode

if TYPE_CHECKING:
    from .socket import Socket

logger = logging.getLogger("wslowlevel.server")

MAX_PATH = 200
"""Characters of a path in a log line."""


class HasPeer(Protocol):
    """A transport or a socket."""

    def get_extra_info(self, name: str, default: Any = None) -> Any: ...


def log_refusal(source: HasPeer, target: str | None, status: int, reason: str) -> None:
    """Log that a handshake is answered with an HTTP error.

    Args:
        source: knows the peer.
        target: of the request, None if it is unknown.
        status: of the answer.
        reason: why, without header values.
    """
    if logger.isEnabledFor(logging.INFO):
        text = f"{status} {reason_phrase(status)}".rstrip()
        logger.info("refused: %s, path %s, status %s: %s", _peer(source), path_of(target), text, one_line(reason))


def log_drop(source: HasPeer, target: str | None, reason: str) -> None:
    """Log that a connection is dropped before its handshake, without an answer."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("refused: %s, path %s, no answer: %s", _peer(source), path_of(target), reason)


def log_answer(source: HasPeer, target: str | None, status: int) -> None:
    """Log the answer to a plain HTTP request."""
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("answered: %s, path %s, status %d", _peer(source), path_of(target), status)


def log_open(socket: Socket, target: str) -> None:
    """Log that a connection is open, and later that it has closed."""
    if not logger.isEnabledFor(logging.INFO):
        return
    peer, path = _peer(socket), path_of(target)
    logger.info("open: %s, path %s", peer, path)
    loop = asyncio.get_running_loop()
    opened = loop.time()

    def log_close(_: asyncio.Future[None]) -> None:
        logger.info("closed: %s, path %s, %s after %.3f seconds", peer, path, _end_of(socket), loop.time() - opened)

    socket._closed.add_done_callback(log_close)


def log_peer_error(source: HasPeer, target: str, error: BaseException) -> None:
    """Log that the peer broke a rule, or left, and that the handler did not catch the error."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("connection from %s, path %s: %s", _peer(source), path_of(target), one_line(str(error)))


def log_failure(function: str, target: str, error: BaseException) -> None:
    """Log an unexpected exception of one of the caller's functions."""
    logger.error("%s failed for %s", function, path_of(target), exc_info=error)


def path_of(target: str | None) -> str:
    """Return the path of a request target: no query, and of an absolute URI no user name and password either."""
    if target is None:
        return "-"
    path = target.partition("?")[0].partition("#")[0]
    if "://" in path and not path.startswith("/"):  # absolute-form (RFC 9112 §3.2.2)
        path = "/" + path.partition("://")[2].partition("/")[2]
    return one_line(path if len(path) <= MAX_PATH else f"{path[:MAX_PATH]}...")


def _peer(source: HasPeer) -> str:
    name = None
    with suppress(Exception):  # a transport whose descriptor is closed raises errors of several kinds
        name = source.get_extra_info("peername")
    if isinstance(name, tuple) and len(name) >= 2:
        host = f"[{name[0]}]" if ":" in str(name[0]) else name[0]
        return f"{host}:{name[1]}"
    return "a Unix socket" if isinstance(name, (str, bytes)) else "unknown peer"


def _end_of(socket: Socket) -> str:
    """Return the code with which a connection ended (RFC 6455 §7.1.5), and the code sent if the peer sent none."""
    if socket.received is not None:
        return f"code {socket.received[0]:d}"
    code = f"code {CloseCode.ABNORMAL_CLOSURE:d}"
    return code if socket.sent is None else f"{code} (sent {socket.sent[0]:d})"


def one_line(text: str) -> str:
    """Escape line breaks and control characters: a peer must not be able to add lines to the log."""
    return text if text.isprintable() else repr(text)[1:-1]
