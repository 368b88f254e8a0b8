"""TLS for servers with a connection limit: each connection counts from the moment at which it is accepted.

The TLS servers of asyncio and uvloop pass a transport to its protocol when the TLS handshake is complete. Until then a
connection cannot be closed by the program, so peers that never complete it could hold any number of descriptors. A
server with `max_connections` therefore listens for TCP connections and starts TLS itself:

    accept -> TlsArrival.connection_made(TCP transport) -> HttpProtocol.admit() -> start_tls()
                                                        -> HttpProtocol.begin(TLS transport)
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ssl import SSLContext

    from .server import HttpProtocol


class TlsArrival(asyncio.Protocol):
    """A TCP connection until its TLS handshake is complete; `http` continues from there."""

    def __init__(self, http: HttpProtocol, context: SSLContext, options: Mapping[str, Any]) -> None:
        self._http = http
        self._context = context
        self._options = options
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._received = bytearray()  # bytes of TLS until start_tls() has begun, decrypted bytes after that
        self._has_passed_on = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._http.admit(self._transport):
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._start_tls(self._transport))
            self._task.add_done_callback(self._end_if_cancelled)
            # It runs behind the first step of the task, in which start_tls() replaces this protocol, and before the
            # loop reads again.
            loop.call_soon(self._forward)

    def data_received(self, data: bytes) -> None:
        if self._has_passed_on:
            self._http.data_received(data)
        else:
            self._received += data

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task is None or self._has_passed_on:
            self._http.connection_lost(exc)

    def _end_if_cancelled(self, task: asyncio.Task[None]) -> None:
        """End a connection whose task was cancelled, which closes nothing itself before its first step."""
        if task.cancelled():
            assert self._transport is not None
            self._transport.abort()
            self._http.connection_lost(None)

    def _forward(self) -> None:
        """Pass on what was received before start_tls(): uvloop reads even if connection_made() pauses reading."""
        assert self._transport is not None
        protocol: Any = self._transport.get_protocol()
        if protocol is self:
            return  # the connection was lost before
        data, self._received = self._received, bytearray()
        while data:
            buffer = protocol.get_buffer(len(data))
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            protocol.buffer_updated(size)
            del data[:size]

    async def _start_tls(self, transport: asyncio.Transport) -> None:
        tls = None
        try:
            if not transport.is_closing():
                tls = await asyncio.get_running_loop().start_tls(
                    transport, self, self._context, server_side=True, **self._options
                )
        except OSError:
            pass  # the handshake failed: asyncio's own TLS servers are silent too
        finally:
            # asyncio returns None for a connection that was lost (CPython 3.11).
            is_lost = tls is None or tls.is_closing() or transport.is_closing()
            if is_lost:
                transport.abort()
                self._http.connection_lost(None)
        if tls is not None and not is_lost:
            self._pass_on(tls)

    def _pass_on(self, tls: asyncio.Transport) -> None:
        self._has_passed_on = True
        tls.set_protocol(self._http)
        self._http.begin(tls)
        if self._received:
            self._http.data_received(bytes(self._received))
