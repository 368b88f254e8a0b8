"""Requests that mean something else to somebody else, never end, or are far too large (RFC 6455 §4.2, RFC 9112)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from ..servers import HEAD_END, RawClient, connecting, handshake, masked, run
from .siege import MIB, Siege

GOOD = handshake(target="/echo")
SECRET = b"GET /about HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def with_lines(*lines: bytes) -> bytes:
    """The good request with more header lines, as they are."""
    return GOOD.removesuffix(HEAD_END) + b"".join(b"\r\n" + line for line in lines) + HEAD_END


def replaced(old: bytes, new: bytes) -> bytes:
    assert old in GOOD
    return GOOD.replace(old, new)


REQUESTS: dict[str, tuple[int, bytes]] = {
    # Smuggling: what others may take for a body, or for another request
    "CVE-2018-12541, CVE-2026-69243: a body": (400, with_lines(b"Content-Length: 5") + b"hello"),
    "a chunked body": (400, with_lines(b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n"),
    "a body said twice": (400, with_lines(b"Content-Length: 0", b"Content-Length: 5") + b"hello"),
    "a body of a negative length": (400, with_lines(b"Content-Length: -1")),
    "both lengths": (400, with_lines(b"Content-Length: 0", b"Transfer-Encoding: chunked")),
    "a space before a colon": (400, with_lines(b"X-Spaced : a")),
    "a header without a colon": (400, with_lines(b"nonsense")),
    "a folded header": (400, with_lines(b"X-Folded: a", b"  b")),
    "bare line feeds": (400, GOOD.replace(b"\r\n", b"\n")),
    "a NUL in a header": (400, with_lines(b"X-Null: a\0b")),
    "a bare CR in a header": (400, with_lines(b"X-Bare: a\rb")),
    "two Host headers": (400, with_lines(b"Host: other.example")),
    "two keys": (400, with_lines(b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")),
    "two versions": (426, with_lines(b"Sec-WebSocket-Version: 13")),
    "no Host": (400, replaced(b"Host: 127.0.0.1\r\n", b"")),
    "a target with a space": (400, replaced(b"GET /echo", b"GET /ec ho")),
    "another method": (405, replaced(b"GET", b"POST")),
    "a request that is none": (400, b"\x17\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 4 + HEAD_END),
    # Tokens and versions
    "GHSA-4mp9-239f-g9hg: version 8": (426, replaced(b"Version: 13", b"Version: 8")),
    "version 013": (426, replaced(b"Version: 13", b"Version: 013")),
    "CVE-2020-7693: an upgrade to nothing of ours": (404, replaced(b"Upgrade: websocket", b"Upgrade: notwebsocket")),
    "a Connection that does not upgrade": (400, replaced(b"keep-alive, Upgrade", b"keep-alive, notUpgrade")),
    "no key": (400, replaced(b"Sec-WebSocket-Key", b"X-Key")),
    "a key that is too short": (400, replaced(b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZQ==")),
    # Size
    "CVE-2024-37890: 1,000 headers": (431, with_lines(*[b"X-%d: 1" % i for i in range(1000)])),
    "100,000 headers": (431, with_lines(*[b"X-%d: 1" % i for i in range(100_000)])),
    "a header line of 1 MiB": (431, with_lines(b"X-Long: " + b"x" * MIB)),
    "a target of 1 MiB": (431, replaced(b"/echo", b"/" + b"x" * MIB)),
    "CVE-2023-43669: a header of 20 MiB": (431, with_lines(b"X-Long: " + b"x" * (20 * MIB))),
}  # fmt: skip


async def answer_of(client: RawClient, request: bytes) -> bytes:
    """Everything that comes until the connection ends, whatever part of the request was taken."""
    sending = asyncio.create_task(client.send(request))
    try:
        return await client.read_until_eof()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_that_is_refused(siege: Siege, name: str) -> None:
    """A request that is refused has one answer, with its status, and nothing behind it is read."""
    status, request = REQUESTS[name]

    async def attack() -> None:
        async with connecting(siege.port) as client:
            answer = await answer_of(client, request + SECRET + masked(1, b"behind it"))
            assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
            assert answer.count(b"HTTP/1.1 ") == 1
            head = answer.partition(HEAD_END)[0].lower()
            assert b"\r\nconnection: close" in head
            assert (b"\r\nsec-websocket-version: 13" in head) == (status == 426)

    with siege.memory(at_most=2 * MIB), siege.running(at_most=1.0):
        run("asyncio", attack())
    assert siege.outcomes() == {}


def test_a_body_of_no_length_is_none(siege: Siege) -> None:
    """`Content-Length: 0` says that there is no body, and is allowed."""

    async def attack() -> None:
        async with connecting(siege.port) as client:
            await client.send(with_lines(b"Content-Length: 0") + masked(1, b"a frame"))
            client.head = await client.reader.readuntil(HEAD_END)
            assert (await client.read_frame()).payload == b"a frame"

    run("asyncio", attack())


@pytest.mark.parametrize("size", [64 * 1024, pytest.param(MIB, marks=pytest.mark.slow)])
def test_a_header_in_small_segments(siege: Siege, size: int) -> None:
    """CVE-2023-43669: a head without end in segments of 128 bytes is refused at the limit, for little work."""
    request = GOOD.removesuffix(HEAD_END) + b"\r\nX: y" * (size // 6)

    async def attack() -> None:
        async with siege.others_answered(), connecting(siege.port) as client:
            for start in range(0, len(request), 128):
                client.writer.write(request[start : start + 128])
                await asyncio.sleep(0)
            assert (await client.read_until_eof()).startswith(b"HTTP/1.1 431 ")

    with siege.memory(at_most=2 * MIB), siege.running(at_most=1.0):
        run("asyncio", attack())


def test_headers_without_end(siege: Siege) -> None:
    """CVE-2026-54465, CVE-2026-22815: header lines without end are refused at the limit, and no further one is kept."""

    async def attack() -> None:
        async with connecting(siege.port) as client:
            answer = await answer_of(client, GOOD.removesuffix(HEAD_END) + b"\r\nX-Another: header" * 1_000_000)
            assert answer.startswith(b"HTTP/1.1 431 ")

    with siege.memory(at_most=2 * MIB), siege.running(at_most=1.0):
        run("asyncio", attack())


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_slow_handshakes(siege_of: Callable[..., Siege], count: int) -> None:
    """Requests that come byte by byte, very many at once: each is dropped at its time, and others are served."""
    siege = siege_of(serve={"open_timeout": 1.0, "backlog": 1024})

    async def dribble(client: RawClient) -> None:
        with pytest.raises(OSError):  # noqa: PT011 - reset or closed, as it comes
            for byte in GOOD * 100:
                await client.send(bytes([byte]))
                await asyncio.sleep(0.1)

    async def attack() -> None:
        begun = time.monotonic()
        async with siege.others_answered():
            opened = [asyncio.open_connection("127.0.0.1", siege.port) for _ in range(count)]
            clients = [RawClient(*pair) for pair in await asyncio.gather(*opened)]
            await asyncio.gather(*map(dribble, clients))
        assert time.monotonic() - begun < 10.0
        for client in clients:
            client.writer.transport.abort()

    with siege.memory(at_most=count * 32 * 1024):
        run("asyncio", attack())


@pytest.mark.parametrize("count", [1000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_many_requests_without_a_key(siege: Siege, count: int) -> None:
    """GHSA-mqv9-5hh9-4cgg: a request that is refused leaves nothing behind."""
    _, request = REQUESTS["no key"]

    async def ask(times: int) -> None:
        for _ in range(times):
            async with connecting(siege.port) as client:
                await client.send(request)
                assert (await client.read_until_eof()).startswith(b"HTTP/1.1 400 ")

    asyncio.run(ask(200))
    siege.settle()
    before = siege.resident()
    asyncio.run(ask(count))
    siege.settle()
    assert siege.resident() <= before * 1.1


@pytest.mark.parametrize("name", ["Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Connection", "Upgrade"])
@pytest.mark.parametrize(
    "value",
    [b"b" + b" " * 4000 + b"x", b'a; b="' + b"\\c" * 4000, b"a," * 4000, b"constructor", b";" * 8000, b"a;" * 4000],
    ids=["spaces", "an open quote", "commas", "a name", "semicolons", "parameters"],
)
def test_values_that_are_hard_to_parse(siege: Siege, name: str, value: bytes) -> None:
    """CVE-2021-32640, CVE-2020-7662, CVE-2020-7663: long values of the headers that are parsed, for little work."""

    async def attack() -> None:
        async with connecting(siege.port) as client:
            await client.send(with_lines(name.encode() + b": " + value) + masked(8))
            answer = await client.read_until_eof()
            assert answer.startswith((b"HTTP/1.1 101 ", b"HTTP/1.1 400 ", b"HTTP/1.1 431 ", b"HTTP/1.1 426 ")), answer[
                :80
            ]

    with siege.running(at_most=0.2):
        run("asyncio", attack())
