"""What a server allows, and how it begins and ends: origins, limits, timeouts, TLS, processes, cancellation."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket as sockets
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets

from wslowlevel import (
    CloseCode,
    ConnectionLost,
    InvalidHandshake,
    Message,
    Opcode,
    Request,
    Response,
    Socket,
    connect,
    get_messages_factory,
    prepare_websocket_frame,
    send_factory,
    send_handshake,
    serve,
)
from wslowlevel.aio.server import Server
from wslowlevel.handshake import check_allowed_origin

from .servers import (
    HEAD_END,
    TIMEOUT,
    RawClient,
    both_loops,
    connecting,
    every_transport,
    handshake,
    masked,
    masked_close,
    run,
    serving,
    until,
    upgraded,
)
from .test_server import answer_of, echo, plain, refused
from .tls import client_tls, server_tls

# -- Helpers ----------------------------------------------------------------------------------------------------------


class Recorder:
    """A handler that reads to the end and keeps what it saw."""

    def __init__(self) -> None:
        self.sockets: list[Socket] = []
        self.messages: list[Message] = []
        self.errors: list[BaseException] = []

    async def __call__(self, request: Request, socket: Socket, head: bytes) -> None:
        self.sockets.append(socket)
        get_messages = get_messages_factory(socket)
        send_handshake(request, socket)
        try:
            async for message in get_messages():
                self.messages.append(message)
        except BaseException as error:
            self.errors.append(error)
            raise


def uri_of(server: Server, scheme: str = "ws") -> str:
    return f"{scheme}://127.0.0.1:{server.port}/"


def errors_logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]


async def says_close(client: RawClient, code: int, reason: str = "") -> None:
    """The server says Close, gets its answer, and ends the connection."""
    assert await client.read_close() == (code, reason)
    await client.send(masked_close(code))
    assert await client.read_until_eof() == b""


async def dropped(client: RawClient) -> bytes:
    """What comes until the server drops the connection, with a reset perhaps."""
    received = b""
    try:
        while data := await client.reader.read(64 * 1024):
            received += data
    except ConnectionError:
        pass
    return received


# -- Origins (RFC 6455 §10.2, RFC 6454 §6.2) --------------------------------------------------------------------------

AS_BROWSERS_SEND_THEM = [
    None,
    "null",
    "file://",
    "http://localhost",
    "http://localhost:8080",
    "https://example.org",
    "https://example.org.",
    "https://example.org:80",
    "http://example.org:443",
    "https://a.b-c.example.org:8443",
    "https://xn--bcher-kva.example",
    "http://192.0.2.1",
    "http://192.0.2.1:8000",
    "http://[::1]",
    "https://[2001:db8::1]:8443",
    "http://under_score.example",
    "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
    "moz-extension://0f2d7c7e-8f6b-4c8f-9f0a-1d2e3f4a5b6c",
    "capacitor://localhost",
]

AS_NO_BROWSER_DOES = [
    "",
    "*",
    "NULL",
    "example.org",
    "//example.org",
    "https:example.org",
    "https://",
    "https:///",
    "://example.org",
    "https://example.org/",
    "https://example.org/path",
    "https://example.org?query",
    "https://example.org#fragment",
    "HTTPS://example.org",
    "https://Example.org",
    "https://EXAMPLE.ORG",
    "https://example.org:443",
    "http://example.org:80",
    "https://example.org:",
    "https://example.org:0",
    "https://example.org:0443",
    "https://example.org:65536",
    "https://example.org:123456",
    "https://example.org:port",
    "https://user@example.org",
    "https://user:password@example.org",
    "https://bücher.example",
    "https://example.org ",
    " https://example.org",
    "https://exa mple.org",
    "https://example.org\n",
    "https://example.org\x00",
    "https://example.org, https://example.com",
    "https://*.example.org",
    "https://[::1",
    "https://::1",
    "https://[::1]x",
    "https://[FE80::1]",
    "https://[fe80::1%25eth0]",
    "ws://example.org",
    "wss://example.org",
    "wss://example.org:8443",
    "1http://example.org",
]


@pytest.mark.parametrize("origin", AS_BROWSERS_SEND_THEM)
def test_an_origin_that_can_be_allowed(origin: str | None) -> None:
    assert check_allowed_origin(origin) == origin


@pytest.mark.parametrize("origin", AS_NO_BROWSER_DOES)
def test_an_origin_that_would_allow_nobody(origin: str) -> None:
    with pytest.raises(ValueError, match="as a browser sends it, not "):
        check_allowed_origin(origin)


@pytest.mark.parametrize("origin", [b"https://example.org", 443, ("https", "example.org"), True, object()])
def test_an_origin_of_another_type(origin: Any) -> None:
    with pytest.raises(TypeError, match=f"origin must be str or None, not {type(origin).__name__}"):
        check_allowed_origin(origin)


PAGE = "https://example.org"

REQUESTS: dict[str, tuple[list[str | None], list[str], bool]] = {
    "the one": ([PAGE], [f"Origin: {PAGE}"], True),
    "one of two": (["https://example.com", PAGE], [f"Origin: {PAGE}"], True),
    "spaces around": ([PAGE], [f"Origin: \t{PAGE} "], True),
    "a name in other case": ([PAGE], [f"oRIGIN: {PAGE}"], True),
    "null": (["null"], ["Origin: null"], True),
    "none, allowed": ([None], [], True),
    "none, allowed beside others": ([PAGE, None], [], True),
    "a port": ([f"{PAGE}:8443"], [f"Origin: {PAGE}:8443"], True),
    "an address": (["http://[::1]:8000"], ["Origin: http://[::1]:8000"], True),
    "another": ([PAGE], ["Origin: https://example.com"], False),
    "none": ([PAGE], [], False),
    "null, not allowed": ([PAGE, None], ["Origin: null"], False),
    "the word None": ([None], ["Origin: None"], False),
    "empty": ([PAGE, None], ["Origin:"], False),
    "another scheme": ([PAGE], ["Origin: http://example.org"], False),
    "another port": ([PAGE], [f"Origin: {PAGE}:8443"], False),
    "a default port": ([PAGE], [f"Origin: {PAGE}:443"], False),
    "upper case": ([PAGE], ["Origin: HTTPS://EXAMPLE.ORG"], False),
    "a dot behind": ([PAGE], [f"Origin: {PAGE}."], False),
    "a host before": ([PAGE], ["Origin: https://evil.example.org"], False),
    "a host behind": ([PAGE], [f"Origin: {PAGE}.evil.example"], False),
    "a path": ([PAGE], [f"Origin: {PAGE}/"], False),
    "a user": ([PAGE], ["Origin: https://user@example.org"], False),
    "as a user": ([PAGE], [f"Origin: {PAGE}@evil.example"], False),
    "two in one": ([PAGE], [f"Origin: {PAGE} {PAGE}"], False),
    "a list": ([PAGE], [f"Origin: {PAGE}, {PAGE}"], False),
    "twice": ([PAGE], [f"Origin: {PAGE}", f"Origin: {PAGE}"], False),
    "two": ([PAGE], [f"Origin: {PAGE}", "Origin: https://evil.example"], False),
    "not ASCII": ([PAGE], ["Origin: https://b\xfccher.example"], False),
    "not UTF-8": ([PAGE], ["Origin: \xff\xfe\x80"], False),
    "a broken address": ([PAGE], ["Origin: http://[::1"], False),
    "a broken port": ([PAGE], [f"Origin: {PAGE}:port"], False),
    "no address at all": ([PAGE], ["Origin: %&/()="], False),
    "long": ([PAGE], [f"Origin: {PAGE}" + "x" * 8000], False),
    "nobody's": ([], [f"Origin: {PAGE}"], False),
    "nobody": ([], [], False),
}


def test_the_origin_is_judged_before_the_handler_runs(caplog: pytest.LogCaptureFixture) -> None:
    ran = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        ran.append(request.target)
        await echo(request, socket, head)

    async def main() -> None:
        for number, (origins, headers, allowed) in enumerate(REQUESTS.values()):
            async with serving(handler, origins=origins) as server, connecting(server.port) as client:
                if allowed:
                    await client.upgrade(*headers, target=f"/{number}")
                else:
                    status, _, body = await answer_of(client, handshake(*headers, target=f"/{number}"))
                    assert (status, body[:7]) == (403, b"origin "), headers

    run("asyncio", main())
    expected = [f"/{number}" for number, (_, _, allowed) in enumerate(REQUESTS.values()) if allowed]
    assert ran == expected
    assert errors_logged(caplog) == []


@both_loops
def test_clients_that_name_their_origin(loop_kind: str) -> None:
    async def main() -> None:
        async with serving(Recorder(), origins=[PAGE]) as server:
            _, socket = await connect(uri_of(server), origin=PAGE)
            await socket.finish()
            with pytest.raises(InvalidHandshake) as caught:
                await connect(uri_of(server), origin="https://example.com")
            assert (caught.value.status, caught.value.body) == (403, b"origin 'https://example.com' is not allowed\n")
            async with websockets.connect(uri_of(server), origin=websockets.Origin(PAGE), proxy=None):
                pass
            with pytest.raises(websockets.InvalidStatus):
                await websockets.connect(uri_of(server), proxy=None)

    run(loop_kind, main())


@both_loops
def test_pages_have_no_origin(loop_kind: str) -> None:
    async def page(request: Request) -> Response:
        return Response(200, (), b"page")

    async def main() -> None:
        async with serving(refused, origins=[PAGE], on_request=page) as server, connecting(server.port) as client:
            assert (await answer_of(client, plain("/", "GET", "Origin: https://evil.example")))[2] == b"page"

    run(loop_kind, main())


# -- Refusals ---------------------------------------------------------------------------------------------------------

REFUSALS = [
    InvalidHandshake("log in first", 401, [("WWW-Authenticate", 'Basic realm="chat"')]),
    InvalidHandshake("no such room", 404, [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], b"<p>no</p>"),
    InvalidHandshake("not so fast", 429, [("Retry-After", "60")], b""),
    InvalidHandshake("closed", 503, [("X-Empty", "")], bytes(range(256))),
    InvalidHandshake("elsewhere", 307, [("Location", "wss://example.org/")]),
    InvalidHandshake("an unregistered status", 599),
    InvalidHandshake("a page", 403, [("Content-Type", "text/html")], b"<p>no</p>"),
    InvalidHandshake("its own length", 400, [("Content-Length", "1"), ("Connection", "keep-alive")], b"four"),
]


@both_loops
@pytest.mark.parametrize("error", REFUSALS, ids=str)
@pytest.mark.parametrize("upgrade", [True, False], ids=["upgrade", "page"])
def test_a_refusal_is_sent_as_it_is(loop_kind: str, error: InvalidHandshake, upgrade: bool) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        raise error

    async def page(request: Request) -> Response:
        return Response(error.status, error.headers, error.body)

    async def main() -> None:
        async with serving(handler, on_request=page) as server, connecting(server.port) as client:
            await client.send(handshake() if upgrade else plain("/"))
            head, _, body = (await client.read_until_eof()).partition(HEAD_END)
            assert body == error.body
            status, *lines = head.decode().split("\r\n")
            assert status.startswith(f"HTTP/1.1 {error.status} ")
            names = [line.partition(":")[0].lower() for line in lines]
            assert names.count("content-length") == names.count("connection") == 1
            assert names.count("content-type") <= 1
            for name, value in error.headers:
                if name not in ("Content-Length", "Connection"):
                    assert f"{name}: {value}".rstrip() in [line.rstrip() for line in lines]

    run(loop_kind, main())


@both_loops
def test_our_client_sees_the_refusal(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        raise InvalidHandshake("not so fast", 429, [("Retry-After", "60")], b"{}")

    async def main() -> None:
        async with serving(handler) as server:
            with pytest.raises(InvalidHandshake) as caught:
                await connect(uri_of(server))
            assert (caught.value.status, caught.value.body) == (429, b"{}")
            assert ("Retry-After", "60") in caught.value.headers

    run(loop_kind, main())


# -- Handlers that fail -----------------------------------------------------------------------------------------------


@both_loops
def test_a_handler_that_fails_touches_no_other(loop_kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        send_handshake(request, socket)
        async for message in get_messages():
            if message.payload == b"fail":
                raise ZeroDivisionError(request.target)
            if message.opcode == Opcode.TEXT:
                await send_factory(socket)(prepare_websocket_frame(message.payload))

    async def main() -> None:
        async with serve(handler, "127.0.0.1", 0) as server, AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(upgraded(server.port, target=f"/{i}")) for i in range(6)]
            for failing in clients[::2]:
                await failing.send(masked(Opcode.TEXT, b"fail"))
            for failing in clients[::2]:
                await says_close(failing, 1011)
            for other in clients[1::2]:
                await other.send(masked(Opcode.TEXT, b"still here"))
                assert (await other.read_frame()).payload == b"still here"
            assert server.connections == 3

    run(loop_kind, main())
    assert sorted(errors_logged(caplog)) == [f"on_upgrade failed for /{i}" for i in (0, 2, 4)]
    assert {record.exc_info[0] for record in caplog.records if record.exc_info} == {ZeroDivisionError}


class Group(Exception):
    """As a TaskGroup raises it, from Python 3.11 on."""

    def __init__(self, *exceptions: Exception) -> None:
        super().__init__(f"{len(exceptions)} errors")
        self.exceptions = exceptions


@both_loops
@pytest.mark.parametrize("more", [[], [RuntimeError("a mistake")]], ids=["the peer's", "a mistake too"])
def test_a_group_of_errors(loop_kind: str, more: list[Exception], caplog: pytest.LogCaptureFixture) -> None:
    """That the peer has gone is no failure of the handler, wherever in a group of tasks it was noticed."""

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        send_handshake(request, socket)
        try:
            async for _ in get_messages():
                pass
        except ConnectionLost as error:
            raise Group(error, Group(error), *more) from None

    async def main() -> None:
        async with serve(handler, "127.0.0.1", 0) as server:
            async with upgraded(server.port) as client:
                client.reset()
            await until(lambda: not server.connections)

    run(loop_kind, main())
    assert errors_logged(caplog) == ["on_upgrade failed for /"] * len(more)


async def cancel_this_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


@both_loops
def test_cancelled_handler_closes_its_own_connection_only_with_1001(
    loop_kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        if request.target == "/cancel":
            get_messages = get_messages_factory(socket)
            send_handshake(request, socket)
            await anext(get_messages())
            await cancel_this_task()
        await echo(request, socket, head)

    async def main() -> None:
        async with serving(handler) as server, upgraded(server.port) as other:
            async with upgraded(server.port, target="/cancel") as client:
                await client.send(masked(Opcode.TEXT, b"go"))
                assert await dropped(client) == prepare_websocket_frame(b"\x03\xe9", opcode=Opcode.CLOSE)
            await other.send(masked(Opcode.TEXT, b"still here"))
            assert (await other.read_frame()).payload == b"still here"
            assert server.connections == 1

    run(loop_kind, main())
    assert errors_logged(caplog) == []


@both_loops
def test_a_page_that_is_cancelled_leaves_nothing_behind(loop_kind: str) -> None:
    async def page(request: Request) -> Response:
        await cancel_this_task()
        raise AssertionError

    async def main() -> None:
        async with serving(refused, on_request=page) as server, connecting(server.port) as client:
            await client.send(plain("/"))
            assert await dropped(client) == b""
            await until(lambda: not server.requests)

    run(loop_kind, main())


# -- A cap on connections ---------------------------------------------------------------------------------------------


async def expect_full(server: Server, **options: Any) -> None:
    with pytest.raises(InvalidHandshake) as caught:
        await connect(uri_of(server, "wss" if options else "ws"), **options)
    assert (caught.value.status, caught.value.body) == (503, b"too many connections\n")
    assert ("Retry-After", "1") in caught.value.headers


async def expect_room(server: Server, **options: Any) -> None:
    await until(lambda: not server.is_full)
    _, socket = await connect(uri_of(server, "wss" if options else "ws"), **options)
    await socket.finish()


async def page_of(request: Request) -> Response:
    await asyncio.Event().wait()
    return Response(200)


@both_loops
@pytest.mark.parametrize(
    "request_",
    [b"", b"GET / HT", handshake(), plain("/")],
    ids=["silent", "half a request", "upgraded", "a page that takes long"],
)
def test_over_the_cap_comes_503_until_one_goes(loop_kind: str, request_: bytes) -> None:
    async def main() -> None:
        async with serving(Recorder(), max_connections=2, on_request=page_of) as server, upgraded(server.port):
            assert not server.is_full
            async with connecting(server.port) as client:
                await client.send(request_)
                await until(lambda: server.is_full)
                for _ in range(3):
                    await expect_full(server)
                client.reset()
            await expect_room(server)

    run(loop_kind, main())


@both_loops
def test_a_connection_counts_until_it_has_closed(loop_kind: str) -> None:
    async def main() -> None:
        async with serving(Recorder(), max_connections=1) as server, upgraded(server.port) as client:
            await client.send(masked_close(1000))
            assert await client.read_close() == (1000, "")
            assert await client.read_until_eof() == b""
            await expect_room(server)
            async with connecting(server.port) as other:
                assert (await answer_of(other, plain("/")))[0] == 426
                await other.read_until_eof()
            await expect_room(server)

    run(loop_kind, main())


@both_loops
@pytest.mark.parametrize("hello", [b"", b"\x16\x03\x01"], ids=["silent", "the beginning of a handshake"])
def test_tls_handshakes_count(loop_kind: str, hello: bytes) -> None:
    async def main() -> None:
        async with serving(Recorder(), max_connections=1, ssl=server_tls(), open_timeout=600.0) as server:
            async with connecting(server.port) as client:
                await client.send(hello)
                await until(lambda: server.is_full)
                await expect_full(server, ssl=client_tls())
            await expect_room(server, ssl=client_tls())
            async with connecting(server.port) as client:
                await client.send(b"GET / HTTP/1.1\r\n\r\n")
                await dropped(client)
            await expect_room(server, ssl=client_tls())

    run(loop_kind, main())


@both_loops
@pytest.mark.parametrize("limit", [0, 1, 2])
def test_tls_handshakes_over_max_refusals_are_dropped_at_once(loop_kind: str, limit: int) -> None:
    async def main() -> None:
        async with (
            serving(Recorder(), max_connections=1, max_refusals=limit, ssl=server_tls(), open_timeout=600.0) as server,
            connecting(server.port),
            AsyncExitStack() as stack,
        ):
            await until(lambda: server.is_full)
            for count in range(limit):
                await stack.enter_async_context(connecting(server.port))
                await until(lambda count=count: len(server.refused) == count + 1)  # type: ignore[misc]
            for _ in range(3):
                async with connecting(server.port) as client:
                    assert await dropped(client) == b""
            assert len(server.refused) == limit
            assert len(server.requests) == 1

    run(loop_kind, main())


@both_loops
@pytest.mark.parametrize("options", [{}, {"backlog": 37}])
def test_a_limit_on_connections_leaves_the_length_of_the_queue(
    loop_kind: str, options: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []

    class Recording(sockets.socket):
        def listen(self, backlog: int = 0, /) -> None:
            lengths.append(backlog)
            super().listen(backlog)

    monkeypatch.setattr(sockets, "socket", Recording)

    async def main() -> None:
        async with serving(echo, max_connections=1, **options) as server, upgraded(server.port):
            pass

    run(loop_kind, main())
    assert lengths[-1] == options.get("backlog", 100)


@both_loops
def test_a_closing_server_drops_unfinished_tls_handshakes(loop_kind: str) -> None:
    async def main() -> None:
        server = await serve(refused, "127.0.0.1", 0, max_connections=1, ssl=server_tls(), open_timeout=600.0)
        async with connecting(server.port) as client, connecting(server.port) as other:
            await until(lambda: len(server.requests) == len(server.refused) == 1)
            await server.close()
            assert await dropped(client) == await dropped(other) == b""
            assert not server.requests
            assert not server.refused

    run(loop_kind, main())


@every_transport
def test_a_tls_server_with_a_limit_serves_many_clients(loop_kind: str) -> None:
    """Each sends its request, its first message and the end right behind its part of the TLS handshake."""

    async def talk(server: Server) -> None:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=client_tls(), server_hostname="localhost"
        )
        client = RawClient(reader, writer)
        await client.upgrade(behind=masked(2, b"x" * 100_000) + masked_close(1000))
        assert [len(frame.payload) for frame in await client.read_frames()] == [100_000, 2]
        writer.close()

    async def main() -> None:
        async with serving(echo, max_connections=30, ssl=server_tls()) as server:
            for _ in range(3):
                await asyncio.gather(*(talk(server) for _ in range(30)))
                await until(lambda: not (server.connections or server.requests or server.arriving))

    run(loop_kind, main())


@both_loops
def test_a_tls_handshake_that_is_never_complete_ends_at_open_timeout(loop_kind: str) -> None:
    async def main() -> None:
        async with (
            serving(refused, max_connections=1, ssl=server_tls(), open_timeout=0.2) as server,
            connecting(server.port) as client,
            connecting(server.port) as other,
        ):
            assert await dropped(client) == await dropped(other) == b""
            assert not server.is_full
            assert not server.refused

    run(loop_kind, main())


@both_loops
@pytest.mark.parametrize("limit", [0, 1, 2])
def test_connections_over_max_refusals_are_dropped_without_an_answer(loop_kind: str, limit: int) -> None:
    async def main() -> None:
        async with (
            serving(Recorder(), max_connections=1, max_refusals=limit) as server,
            upgraded(server.port),
            AsyncExitStack() as stack,
        ):
            for count in range(limit):
                await stack.enter_async_context(connecting(server.port))
                await until(lambda count=count: len(server.refused) == count + 1)  # type: ignore[misc]
            async with connecting(server.port) as client:
                assert await dropped(client) == b""
            assert len(server.refused) == limit

    run(loop_kind, main())


# -- Timeouts ---------------------------------------------------------------------------------------------------------


@both_loops
def test_a_request_that_comes_byte_by_byte_has_no_longer(loop_kind: str) -> None:
    async def main() -> None:
        async with serving(refused, open_timeout=0.2) as server, connecting(server.port) as client:
            reading = asyncio.create_task(dropped(client))
            for byte in handshake("X-Slow: " + "x" * 1000):
                client.writer.write(bytes([byte]))
                await asyncio.wait({reading}, timeout=0.005)
                if reading.done():
                    break
            else:
                pytest.fail("the request went through")
            assert await reading == b""

    run(loop_kind, main())


@both_loops
@pytest.mark.parametrize("shakes_hands", [True, False])
def test_tls_does_not_prolong_the_time_to_open(loop_kind: str, shakes_hands: bool) -> None:
    async def main() -> None:
        tls = client_tls() if shakes_hands else None
        async with serving(refused, open_timeout=0.3, ssl=server_tls()) as server:
            reader, writer = await asyncio.open_connection("localhost", server.port, ssl=tls, family=sockets.AF_INET)
            assert await dropped(RawClient(reader, writer)) == b""
            writer.transport.abort()

    run(loop_kind, main())


@both_loops
def test_a_page_may_take_longer(loop_kind: str) -> None:
    async def page(request: Request) -> Response:
        await asyncio.sleep(0.3)
        return Response(200, (), b"here it is")

    async def main() -> None:
        async with serving(refused, on_request=page, open_timeout=0.1) as server, connecting(server.port) as client:
            assert (await answer_of(client, plain("/")))[2] == b"here it is"

    run(loop_kind, main())


@both_loops
def test_an_idle_connection_is_closed(loop_kind: str) -> None:
    async def main() -> None:
        async with serving(Recorder(), idle_timeout=0.2) as server, upgraded(server.port) as client:
            await says_close(client, 1001, "idle for 0.2 s")

    run(loop_kind, main())


@both_loops
@pytest.mark.parametrize("answers", [True, False])
def test_the_servers_pings(loop_kind: str, answers: bool, caplog: pytest.LogCaptureFixture) -> None:
    handler = Recorder()

    async def main() -> None:
        async with (
            serving(handler, ping_interval=0.05, ping_timeout=0.2) as server,
            upgraded(server.port) as client,
        ):
            if answers:
                for _ in range(8):
                    ping = await client.read_frame()
                    assert ping.opcode == Opcode.PING
                    await client.send(masked(Opcode.PONG, ping.payload))
                await client.send(masked_close(1000))
                assert (await client.read_frames())[-1].opcode == Opcode.CLOSE
            else:
                await until(lambda: not server.connections)

    run(loop_kind, main())
    assert [type(error) for error in handler.errors] == ([] if answers else [ConnectionLost])
    assert errors_logged(caplog) == []


@both_loops
@pytest.mark.parametrize("floods", [True, False])
def test_who_does_not_answer_close_is_dropped(loop_kind: str, floods: bool) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        send_handshake(request, socket)
        await anext(get_messages())

    async def main() -> None:
        async with serving(handler, close_timeout=0.2) as server, upgraded(server.port) as client:
            await client.send(masked(Opcode.TEXT, b"go"))
            assert await client.read_close() == (1000, "")
            reading = asyncio.create_task(dropped(client))
            while floods and not client.writer.is_closing():
                client.writer.write(masked(Opcode.TEXT, b"more"))
                await asyncio.sleep(0)
            assert await asyncio.wait_for(reading, TIMEOUT / 2) == b""  # before the default of close_timeout is over
            await until(lambda: not server.connections)

    run(loop_kind, main())


# -- TLS --------------------------------------------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("amid", [b"", masked(Opcode.TEXT, b"cut short")[:-3]], ids=["between frames", "in a frame"])
@pytest.mark.parametrize("truncates", [True, False], ids=["FIN", "close_notify"])
def test_the_end_of_tls_is_no_close(loop_kind: str, amid: bytes, truncates: bool) -> None:
    """Without a Close frame it is 1006, whether TLS was ended in order or cut off."""
    handler = Recorder()

    async def main() -> None:
        async with serving(handler, ssl=server_tls()) as server:
            await asyncio.to_thread(leave, server.port, amid, truncates)
            await until(lambda: not server.connections)

    run(loop_kind, main())
    (error,) = handler.errors
    assert isinstance(error, ConnectionLost)
    assert (error.code, error.received) == (CloseCode.ABNORMAL_CLOSURE, None)


@both_loops
def test_a_close_before_the_end_of_tls(loop_kind: str) -> None:
    handler = Recorder()

    async def main() -> None:
        async with serving(handler, ssl=server_tls()) as server:
            await asyncio.to_thread(leave, server.port, masked_close(1000), True)
            await until(lambda: not server.connections)

    run(loop_kind, main())
    assert handler.errors == []
    assert [message.opcode for message in handler.messages] == [Opcode.CLOSE]


def leave(port: int, last_words: bytes, truncates: bool) -> None:
    """Connect with TLS, say something, and go: with close_notify, or as one does who was cut off."""
    with (
        sockets.create_connection(("127.0.0.1", port), timeout=20) as connection,
        client_tls().wrap_socket(connection, server_hostname="localhost", suppress_ragged_eofs=True) as tls,
    ):
        tls.sendall(handshake())
        head = b""
        while not head.endswith(HEAD_END):
            head += tls.recv(1)
        tls.sendall(last_words)
        if truncates:
            tls.shutdown(sockets.SHUT_WR)  # of TCP: TLS says nothing
            while tls.recv(1024):
                pass
        else:
            tls.settimeout(20)
            end_of_tls(tls)


def end_of_tls(tls: ssl.SSLSocket) -> None:
    try:
        tls.unwrap()
    except (ssl.SSLError, OSError):
        """The server need not say the same."""


@both_loops
@pytest.mark.parametrize(
    "nonsense", [b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(100), b"\xff"]
)
def test_what_is_no_tls(loop_kind: str, nonsense: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with serving(Recorder(), ssl=server_tls(), open_timeout=0.5) as server:
            async with connecting(server.port) as client:
                await client.send(nonsense)
                assert b"HTTP/" not in await dropped(client)
            _, socket = await connect(uri_of(server, "wss"), ssl=client_tls())
            await socket.finish()

    run(loop_kind, main())
    assert errors_logged(caplog) == []


@both_loops
def test_a_unix_socket_with_tls(loop_kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "socket")
        async with serve(echo, path=path, ssl=server_tls()) as server:
            with pytest.raises(RuntimeError, match="the server listens on no port"):
                _ = server.port
            _, socket = await connect("wss://localhost/", path=path, ssl=client_tls())
            messages = get_messages_factory(socket)()
            await send_factory(socket)(prepare_websocket_frame(b"hello", mask_key=True))
            assert (await anext(messages)).payload == b"hello"
            await socket.finish()

    run(loop_kind, main())


# -- The beginning ----------------------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no function": ({"on_upgrade": "127.0.0.1"}, TypeError, "on_upgrade must be an async function, not str"),
    "no page": ({"on_request": Response(200)}, TypeError, "on_request must be an async function or None, not Response"),
    "one origin": ({"origins": PAGE}, TypeError, "origins must be several strings, not the string 'https://example"),
    "a wrong origin": ({"origins": [PAGE, "example.org"]}, ValueError, "not 'example.org'"),
    "any origin": ({"origins": ["*"]}, ValueError, "as a browser sends it, not '\\*'"),
    "bytes": ({"origins": [b"null"]}, TypeError, "origin must be str or None, not bytes"),
    "no origins": ({"origins": 1}, TypeError, "int"),
    "a cap of 0": (
        {"max_connections": 0},
        ValueError,
        "max_connections must be 1 or more, or None for no limit, not 0",
    ),
    "a cap below 0": ({"max_connections": -1}, ValueError, "not -1"),
    "half a connection": ({"max_connections": 0.5}, TypeError, "max_connections must be an integer, not float"),
    "a cap in words": ({"max_connections": "10"}, TypeError, "max_connections must be an integer, not str"),
    "a yes": ({"max_connections": True}, TypeError, "max_connections must be an integer, not bool"),
    "refusals below 0": ({"max_refusals": -1}, ValueError, "max_refusals must be 0 or more, got -1"),
    "half a refusal": ({"max_refusals": 0.5}, TypeError, "max_refusals must be an integer, not float"),
    "refusals without a limit": ({"max_refusals": None}, TypeError, "max_refusals must be an integer, not NoneType"),
    "a yes to refusals": ({"max_refusals": True}, TypeError, "max_refusals must be an integer, not bool"),
    "no time to open": ({"open_timeout": 0}, ValueError, "open_timeout must be more than 0 seconds, not 0"),
    "less than none": ({"open_timeout": -1.5}, ValueError, "open_timeout must be more than 0 seconds, not -1.5"),
    "not a number": ({"close_timeout": float("nan")}, ValueError, "close_timeout must be more than 0 seconds, not nan"),
    "time in words": ({"close_timeout": "20"}, TypeError, "close_timeout must be a number of seconds, not str"),
    "for ever": ({"close_timeout": None}, TypeError, "close_timeout must be a number of seconds, not NoneType"),
    "pings all the time": ({"ping_interval": 0}, ValueError, "ping_interval must be more than 0 seconds, not 0"),
    "idle in words": ({"idle_timeout": "1"}, TypeError, "idle_timeout must be a number of seconds or None, not str"),
    "TLS, please": ({"ssl": True}, TypeError, "ssl must be an SSLContext or None, not bool"),
    "a port too high": ({"port": 70_000}, ValueError, "port must be from 0 to 65535, not 70000"),
    "a port below 0": ({"port": -1}, ValueError, "port must be from 0 to 65535, not -1"),
    "a port in words": ({"port": "http"}, TypeError, "port must be an integer, not str"),
    "path and host": ({"path": "/tmp/x"}, ValueError, "path stands in place of host, port and sock"),
    "one signal": ({"stop_signals": signal.SIGTERM}, TypeError, "not iterable"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told_at_once(name: str) -> None:
    options, kind, text = MISTAKES[name]
    with pytest.raises(kind, match=text):
        serve(**{"on_upgrade": echo, "host": "127.0.0.1", "port": 0, **options})


@both_loops
@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"backlog": "many"}, TypeError),
        ({"host": "256.256.256.256"}, OSError),
        ({"ssl_handshake_timeout": 1.0}, ValueError),
        ({"stop_signals": [signal.SIGKILL]}, RuntimeError),
    ],
)
def test_what_asyncio_finds_out_is_told_at_the_start(
    loop_kind: str, options: dict[str, Any], kind: type[Exception]
) -> None:
    async def main() -> None:
        server = serve(**{"on_upgrade": echo, "host": "127.0.0.1", "port": 0, **options})
        for _ in range(2):
            with pytest.raises(kind):
                await server
        assert server.sockets == ()

    run(loop_kind, main())


@both_loops
def test_a_port_that_is_taken(loop_kind: str) -> None:
    async def main() -> None:
        taken = sockets.create_server(("127.0.0.1", 0))
        server = serve(echo, "127.0.0.1", taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            await server
        taken.close()
        async with server:
            _, socket = await connect(uri_of(server))
            await socket.finish()

    run(loop_kind, main())


@both_loops
def test_before_the_start_and_after_the_end(loop_kind: str) -> None:
    async def main() -> None:
        server = serve(echo, "127.0.0.1", 0)
        with pytest.raises(RuntimeError, match="does not listen yet"):
            await server.serve_forever()
        with pytest.raises(RuntimeError, match="listens on no port"):
            _ = server.port
        assert server.sockets == ()
        one, other = await asyncio.gather(server_of(server), server_of(server))
        assert one is other is server
        assert len(server.sockets) == 1
        await server.close()
        assert tuple(server.sockets) == ()
        await server.serve_forever()
        await server.close()
        with pytest.raises(RuntimeError, match="the server was closed"):
            await server
        never = serve(echo, "127.0.0.1", 0)
        await never.close()
        with pytest.raises(RuntimeError, match="the server was closed"):
            await never

    run(loop_kind, main())


async def server_of(server: Server) -> Server:
    return await server


def free_port() -> int:
    with sockets.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


async def expect_nobody(port: int) -> None:
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", port)


@both_loops
@pytest.mark.parametrize("ends", ["cancelled", "closed"])
def test_a_start_that_is_interrupted_leaves_nothing(loop_kind: str, ends: str) -> None:
    async def main() -> None:
        started = 0
        for turns in range(12):
            port = free_port()
            server = serve(echo, "localhost", port, family=sockets.AF_INET, stop_signals=[signal.SIGTERM])
            starting = asyncio.create_task(server_of(server))
            for _ in range(turns):
                await asyncio.sleep(0)
            if ends == "closed":
                await server.close()
            else:
                starting.cancel()
            await asyncio.wait({starting})
            if not starting.cancelled() and starting.exception() is None:
                started += 1
                await server.close()
            await expect_nobody(port)
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert ends == "closed" or started < 12

    run(loop_kind, main())


# -- The end ----------------------------------------------------------------------------------------------------------


@both_loops
def test_everybody_is_told_and_may_finish(loop_kind: str) -> None:
    finished = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        await echo(request, socket, head)
        await asyncio.sleep(0.05)
        finished.append(request.target)

    async def main() -> None:
        async with serving(handler) as server, AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(upgraded(server.port, target=f"/{i}")) for i in range(20)]
            closing = asyncio.create_task(server.close(4000, "see you"))
            await asyncio.gather(*(says_close(client, 4000, "see you") for client in clients))
            assert not closing.done()
            await closing
            assert len(finished) == 20
            assert server.connections == 0

    run(loop_kind, main())


@both_loops
def test_who_opens_while_the_server_closes_is_told_then(loop_kind: str, caplog: pytest.LogCaptureFixture) -> None:
    asked, accepted = asyncio.Event(), asyncio.Event()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        asked.set()
        await accepted.wait()
        await echo(request, socket, head)

    async def main() -> None:
        async with serving(handler) as server, connecting(server.port) as client:
            await client.send(handshake())
            await asked.wait()
            closing = asyncio.create_task(server.close(1012, "update"))
            await asyncio.sleep(0)
            assert not closing.done()
            accepted.set()
            await client.reader.readuntil(HEAD_END)
            await says_close(client, 1012, "update")
            await closing

    run(loop_kind, main())
    assert errors_logged(caplog) == []


@both_loops
def test_at_the_deadline_who_was_not_answered_is_refused(loop_kind: str, caplog: pytest.LogCaptureFixture) -> None:
    asked = asyncio.Event()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        asked.set()
        await asyncio.Event().wait()

    async def main() -> None:
        async with serving(handler) as server, connecting(server.port) as client:
            await client.send(handshake())
            await asked.wait()
            closing = asyncio.create_task(server.close(close_timeout=0.05))
            assert (await dropped(client)).startswith(b"HTTP/1.1 503 ")
            await closing

    run(loop_kind, main())
    assert errors_logged(caplog) == []


@both_loops
def test_a_page_on_its_way_may_finish(loop_kind: str) -> None:
    asked, ready = asyncio.Event(), asyncio.Event()

    async def page(request: Request) -> Response:
        asked.set()
        await ready.wait()
        return Response(200, (), b"just in time")

    async def main() -> None:
        async with (
            serving(refused, on_request=page, open_timeout=3600, close_timeout=3600) as server,
            connecting(server.port) as client,
            connecting(server.port) as silent,
        ):
            await client.send(plain("/"))
            await asked.wait()
            closing = asyncio.create_task(server.close())
            assert await dropped(silent) == b""
            assert not closing.done()
            ready.set()
            assert (await client.read_until_eof()).endswith(b"just in time")
            client.writer.close()
            await closing

    run(loop_kind, main())


@both_loops
def test_at_the_deadline_a_page_is_cancelled(loop_kind: str) -> None:
    cancelled, asked = asyncio.Event(), asyncio.Event()

    async def page(request: Request) -> Response:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return Response(200)

    async def main() -> None:
        async with serving(refused, on_request=page) as server, connecting(server.port) as client:
            await client.send(plain("/"))
            await asked.wait()
            await server.close(close_timeout=0.05)
            assert cancelled.is_set()
            assert await dropped(client) == b""

    run(loop_kind, main())


@both_loops
def test_a_handler_may_close_the_server(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        send_handshake(request, socket)
        async for message in get_messages():
            if message.payload == b"shut down":
                await servers[0].close(close_timeout=20)
                seen.append(socket.is_open)

    servers: list[Server] = []
    seen: list[bool] = []

    async def main() -> None:
        async with serving(handler) as server, upgraded(server.port) as admin, upgraded(server.port) as other:
            servers.append(server)
            await admin.send(masked(Opcode.TEXT, b"shut down"))
            await says_close(other, 1001)
            await server.serve_forever()
            await says_close(admin, 1001)
        assert seen == [False]

    run(loop_kind, main())


@both_loops
def test_a_page_may_close_the_server(loop_kind: str) -> None:
    async def page(request: Request) -> Response:
        await servers[0].close()
        return Response(200, (), b"closed")

    servers: list[Server] = []

    async def main() -> None:
        async with serving(Recorder(), on_request=page) as server, upgraded(server.port) as other:
            servers.append(server)
            async with connecting(server.port) as client:
                await client.send(plain("/shutdown"))
                await says_close(other, 1001)
                assert (await client.read_until_eof()).endswith(b"closed")

    run(loop_kind, main())


@both_loops
def test_close_twice(loop_kind: str) -> None:
    async def main() -> None:
        async with serving(Recorder()) as server, upgraded(server.port) as client:
            closing = [asyncio.create_task(server.close(code)) for code in (4000, 4001)]
            await says_close(client, 4000)
            await asyncio.gather(*closing)

    run(loop_kind, main())


@both_loops
@pytest.mark.parametrize("what", ["close", "block"])
def test_whoever_cancels_the_close_drops_what_is_left(loop_kind: str, what: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_handshake(request, socket)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(request.target)

    ended: list[str] = []

    async def main() -> None:
        server = await serve(handler, "127.0.0.1", 0)
        async with upgraded(server.port) as client, connecting(server.port) as other:
            await other.send(handshake(target="/other"))
            await until(lambda: server.connections == 2)
            closing = asyncio.create_task(server.close() if what == "close" else leave_block(server))
            assert await client.read_close() == (1001, "")
            assert not closing.done()
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            assert await dropped(client) == b""
            await until(lambda: not server.connections)
            assert sorted(ended) == ["/", "/other"]

    async def leave_block(server: Server) -> None:
        async with server:
            pass

    run(loop_kind, main())


@both_loops
def test_cancelled_at_any_turn_the_close_leaves_nothing(loop_kind: str) -> None:
    async def main() -> None:
        for turns in range(1, 10):
            server = await serve(Recorder(), "127.0.0.1", 0)
            port = server.port
            async with upgraded(port) as client, connecting(port):
                closing = asyncio.create_task(server.close())
                for _ in range(turns):
                    await asyncio.sleep(0)
                closing.cancel()
                await asyncio.wait({closing})
                await dropped(client)
                await until(lambda server=server: not server.connections and not server.requests)  # type: ignore[misc]
                await expect_nobody(port)
            await server.close()

    run(loop_kind, main())


@both_loops
def test_a_handler_that_is_cancelled_while_its_connection_closes(loop_kind: str) -> None:
    """The deadline may pass while the handler has returned and the peer has not answered the Close frame yet."""

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        await send_handshake(request, socket)

    async def main() -> None:
        async with serving(handler) as server, upgraded(server.port) as client:
            assert await client.read_close() == (1000, "")
            await server.close(close_timeout=0.05)
            assert await dropped(client) == b""
            assert server.connections == 0

    run(loop_kind, main())


# -- Processes --------------------------------------------------------------------------------------------------------

PROGRAM = """
import asyncio, os, signal, sys
from wslowlevel import *

async def on_upgrade(request, socket, head):
    get_messages, send = get_messages_factory(socket), send_factory(socket)
    send_handshake(request, socket)
    send(prepare_websocket_frame(str(os.getpid()).encode()))
    async for _ in get_messages():
        pass

async def main(port):
    stop_signals = [signal.SIGTERM, signal.SIGINT]
    async with serve(on_upgrade, "127.0.0.1", port, reuse_port=True, stop_signals=stop_signals) as server:
        print(server.port, flush=True)
        await server.serve_forever()
    print("closed", flush=True)

if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main(int(sys.argv[2])))
else:
    asyncio.run(main(int(sys.argv[2])))
"""


@contextmanager
def process(loop_kind: str, port: int) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server in a process of its own, and its port; it must have said nothing on stderr at the end."""
    running = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, loop_kind, str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stdout is not None
        yield running, int(running.stdout.readline())
    finally:
        running.terminate()
        output, errors = running.communicate()
    assert (output, errors, running.returncode) == ("closed\n", "", 0)


@both_loops
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_program_in_order(loop_kind: str, number: signal.Signals) -> None:
    async def main(running: subprocess.Popen[str], port: int) -> None:
        async with upgraded(port) as client:
            assert (await client.read_frame()).payload == str(running.pid).encode()
            os.kill(running.pid, number)
            await says_close(client, 1001)
            await asyncio.to_thread(running.wait)

    with process(loop_kind, 0) as (running, port):
        run(loop_kind, main(running, port))


if hasattr(sockets, "SO_REUSEPORT"):

    @both_loops
    def test_two_processes_on_one_port(loop_kind: str) -> None:
        async def main(port: int, expected: set[bytes]) -> None:
            seen: set[bytes] = set()
            while seen != expected:
                async with upgraded(port) as client:
                    seen.add((await client.read_frame()).payload)
                    assert seen <= expected

        with process(loop_kind, 0) as (one, port), process(loop_kind, port) as (other, same):
            assert port == same
            run(loop_kind, main(port, {str(each.pid).encode() for each in (one, other)}))

else:

    @both_loops
    def test_two_processes_on_one_port(loop_kind: str) -> None:
        async def main() -> None:
            with pytest.raises(ValueError, match="reuse_port not supported"):
                await serve(echo, "127.0.0.1", 0, reuse_port=True)

        run(loop_kind, main())
