"""Proxies for the tests: HTTP CONNECT (RFC 9110 §9.3.6) and SOCKS 5 (RFC 1928, RFC 1929) as programs of few lines."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from wslowlevel import Headers, read_request

from .tls import server_tls

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter

SOCKS = 5
NO_AUTHENTICATION, PASSWORD, NONE_ACCEPTED = 0, 2, 0xFF
IPV4, NAME, IPV6 = 1, 3, 4
SUCCEEDED, NOT_ALLOWED = 0, 2
UNUSED_ADDRESS = bytes([0, IPV4, 0, 0, 0, 0, 0, 0])


class Refused(Exception):
    """The client was told no."""


class Proxy:
    """A proxy that connects to 127.0.0.1, whatever host it is asked for.

    Attributes:
        port: where it listens, on 127.0.0.1.
        asked: (host, port) of each request.
        headers: of each CONNECT request.
        peers: where the requests came from.
    """

    def __init__(self, kind: str, credentials: tuple[str, str] | None, allows: bool) -> None:
        self._greet: Callable[[Reader, Writer], Awaitable[tuple[str, int]]]
        speaks_http = kind in ("http", "https")
        self._greet = self._greet_http if speaks_http else self._greet_socks
        self._welcome = b"HTTP/1.1 200 OK\r\n\r\n" if speaks_http else bytes([SOCKS, SUCCEEDED]) + UNUSED_ADDRESS
        self._credentials = credentials
        self._allows = allows
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.asked: list[tuple[str, int]] = []
        self.headers: list[Headers] = []
        self.peers: list[str] = []

    async def serve(self, reader: Reader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.peers.append(writer.get_extra_info("peername")[0])
        try:
            self.asked.append(await self._greet(reader, writer))
            onwards, there = await asyncio.open_connection("127.0.0.1", self.asked[-1][1])
            writer.write(self._welcome)
            await asyncio.gather(pump(reader, there), pump(onwards, writer))
        except Refused:
            await writer.drain()
        except (OSError, EOFError):
            """One of the two is gone."""
        finally:
            writer.close()

    async def all_gone(self) -> None:
        """Wait until every connection has ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _greet_http(self, reader: Reader, writer: Writer) -> tuple[str, int]:
        request = await read_request(reader)
        assert request.method == "CONNECT"
        self.headers.append(request.headers)
        if self._credentials is not None:
            expected = "Basic " + base64.b64encode(":".join(self._credentials).encode()).decode()
            if request.headers.get("Proxy-Authorization") != expected:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                raise Refused
        if not self._allows:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            raise Refused
        host, _, port = request.target.rpartition(":")
        return host, int(port)

    async def _greet_socks(self, reader: Reader, writer: Writer) -> tuple[str, int]:
        version, count = await reader.readexactly(2)
        assert version == SOCKS
        methods = await reader.readexactly(count)
        method = NO_AUTHENTICATION if self._credentials is None else PASSWORD
        if method not in methods:
            writer.write(bytes([SOCKS, NONE_ACCEPTED]))
            raise Refused
        writer.write(bytes([SOCKS, method]))
        if method == PASSWORD:
            await self._check_password(reader, writer)
        version, _, _, kind = await reader.readexactly(4)
        host = await read_address(reader, kind)
        port = int.from_bytes(await reader.readexactly(2), "big")
        if not self._allows:
            writer.write(bytes([SOCKS, NOT_ALLOWED]) + UNUSED_ADDRESS)
            raise Refused
        return host, port

    async def _check_password(self, reader: Reader, writer: Writer) -> None:
        await reader.readexactly(1)
        given = []
        for _ in range(2):
            (length,) = await reader.readexactly(1)
            given.append((await reader.readexactly(length)).decode())
        wrong = tuple(given) != self._credentials
        writer.write(bytes([1, wrong]))
        if wrong:
            raise Refused


async def read_address(reader: Reader, kind: int) -> str:
    if kind == NAME:
        (length,) = await reader.readexactly(1)
        return (await reader.readexactly(length)).decode()
    return str(ipaddress.ip_address(await reader.readexactly({IPV4: 4, IPV6: 16}[kind])))


async def pump(reader: Reader, writer: Writer) -> None:
    """Everything that comes in goes out, the end too."""
    try:
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@asynccontextmanager
async def proxying(
    kind: str, *, credentials: tuple[str, str] | None = None, allows: bool = True
) -> AsyncIterator[Proxy]:
    """A proxy, "http", "https" or "socks5"; the block is not over before every connection through it has ended."""
    proxy = Proxy(kind, credentials, allows)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=server_tls() if kind == "https" else None)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
        await proxy.all_gone()
    finally:
        server.close()
