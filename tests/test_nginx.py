"""docs/howto/nginx.md as it stands there: a real nginx between a client and a server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from wslowlevel import (
    ConnectionLost,
    InvalidHandshake,
    PerMessageDeflate,
    Request,
    Socket,
    connect,
    get_messages_factory,
    send_handshake,
    send_message_factory,
    serve,
)

from .nginx import nginx
from .servers import free_port, run
from .tls import certificate, client_tls

PAGE = Path(__file__).parent.parent / "docs" / "howto" / "nginx.md"
ORIGIN = "https://chat.example.org"


def configuration(port: int, behind: int, timeout: str) -> str:
    """The page's, with a certificate, other ports, and a shorter time."""
    found = re.search(r"^```nginx\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found
    tls = f"ssl_certificate {certificate().chain};\n    ssl_certificate_key {certificate().key};"
    text: str = found[1]
    for written, ours in {
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;\n    {tls}",
        "127.0.0.1:8765": f"127.0.0.1:{behind}",
        "proxy_read_timeout 90s;": f"proxy_read_timeout {timeout};",
    }.items():
        assert text.count(written) == 1
        text = text.replace(written, ours)
    return text


async def echo(request: Request, socket: Socket, head: bytes) -> None:
    await send_handshake(request, socket, extensions=[PerMessageDeflate()])
    send_message = send_message_factory(socket)
    async for message in get_messages_factory(socket)():
        await send_message(message.payload, is_utf8=True)


@contextmanager
def in_front(directory: Path, timeout: str) -> Iterator[tuple[str, int]]:
    """Run nginx -> its URI, and the port to serve on."""
    port, behind = free_port(), free_port()
    with nginx(configuration(port, behind, timeout), port, directory):
        yield f"wss://localhost:{port}/", behind


async def converse(uri: str, behind: int) -> None:
    async with serve(echo, "127.0.0.1", behind, origins=[ORIGIN]):
        with pytest.raises(InvalidHandshake) as caught:
            await connect(uri, ssl=client_tls(), origin="https://elsewhere.example")
        assert caught.value.status == 403
        response, socket = await connect(uri, ssl=client_tls(), origin=ORIGIN, extensions=[PerMessageDeflate()])
        assert response.headers.get("Sec-WebSocket-Extensions")
        async with socket:
            messages = get_messages_factory(socket)()
            for text in ("", "Grüße", "long " * 100_000):
                await send_message_factory(socket)(text)
                assert (await messages.__anext__()).text == text


def test_a_conversation(tmp_path: Path) -> None:
    with in_front(tmp_path, "90s") as (uri, behind):
        run("asyncio", converse(uri, behind))


async def stay_quiet(uri: str, behind: int, ping_interval: float | None) -> bool:
    """Whether the connection is open after two seconds in which nothing but pings is sent."""
    async with serve(echo, "127.0.0.1", behind, ping_interval=ping_interval):
        _, socket = await connect(uri, ssl=client_tls())
        async with socket:
            with suppress(asyncio.TimeoutError, ConnectionLost):
                await asyncio.wait_for(get_messages_factory(socket, auto_pong=True)().__anext__(), 2)
            return socket.is_open


@pytest.mark.parametrize("ping_interval", [0.2, None])
def test_a_quiet_connection_lives_by_pings(ping_interval: float | None, tmp_path: Path) -> None:
    with in_front(tmp_path, "1s") as (uri, behind):
        lived = run("asyncio", stay_quiet(uri, behind, ping_interval))
    assert lived == (ping_interval is not None)
