"""The server's log: refusals, connections that open and close, failures, and no credentials."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

from wslowlevel import (
    InvalidHandshake,
    Request,
    Response,
    Socket,
    get_messages_factory,
    send_handshake,
    serve,
)
from wslowlevel.aio import server_log
from wslowlevel.aio.server_log import path_of

from .servers import (
    RawClient,
    both_loops,
    connecting,
    handshake,
    masked_close,
    run,
    serving,
    until,
    upgraded,
)
from .test_server import plain

SECRET = "s3cr3t"
PEER = r"127\.0\.0\.1:\d+"
LOGGER = "wslowlevel.server"


async def echo_nothing(request: Request, socket: Socket, head: bytes) -> None:
    get_messages = get_messages_factory(socket)
    send_handshake(request, socket)
    async for _ in get_messages():
        pass


async def choose(request: Request, socket: Socket, head: bytes) -> None:
    """Refuse, fail or leave, as the path says."""
    path = request.target.partition("?")[0]
    if path == "/raise":
        raise InvalidHandshake("no such room", 404)
    if path == "/refuse":
        socket.refuse(InvalidHandshake("not today", 403))
    if path == "/respond":
        socket.respond(Response(401))
    if path == "/fail":
        raise LookupError("a fault of the program")


def lines_of(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    """Messages of the server's logger at a level; any other logger and any secret fails the test."""
    assert {record.name for record in caplog.records} <= {LOGGER, "asyncio"}
    assert SECRET not in caplog.text
    return [record.getMessage() for record in caplog.records if record.levelno == level and record.name == LOGGER]


async def read_everything(client: RawClient) -> bytes:
    received = b""
    try:
        while data := await client.reader.read(64 * 1024):
            received += data
    except ConnectionError:
        pass
    return received


SECRETS = (f"Cookie: session={SECRET}", f"Authorization: Bearer {SECRET}", f"X-Own: {SECRET}")
TARGET = f"/chat?token={SECRET}"
VALID = handshake(*SECRETS, target=TARGET)


def without(name: str) -> bytes:
    return b"".join(line for line in VALID.splitlines(keepends=True) if not line.startswith(name.encode()))


@both_loops
@pytest.mark.parametrize(
    ("request_", "line"),
    [
        (f"GET /chat?{SECRET} NONSENSE\r\n\r\n".encode(), "path /chat, status 400 Bad Request: malformed request"),
        (
            f"GET /chat HTTP/1.1\r\nCookie {SECRET}\r\n\r\n".encode(),
            "path /chat, status 400 Bad Request: malformed request",
        ),
        (
            f"GET /chat HTTP/1.1\r\nHost: a\r\nCookie: \0{SECRET}\r\n\r\n".encode(),
            "path /chat, status 400 Bad Request: malformed request",
        ),
        (handshake("X-Long: " + SECRET * 10_000, target=TARGET), "status 431 Request Header Fields Too Large: "),
        (handshake(*["X-Many: 1"] * 200, target=TARGET), "path /chat, status 431 Request Header Fields Too Large: "),
        (without("Sec-WebSocket-Version"), "path /chat, status 426 Upgrade Required: Sec-WebSocket-Version must be 13"),
        (without("Sec-WebSocket-Key"), "path /chat, status 400 Bad Request: exactly one Sec-WebSocket-Key"),
        (VALID, "path /chat, status 403 Forbidden: origin None is not allowed"),
        (VALID.replace(b"GET", b"PUT"), "path /chat, status 405 Method Not Allowed: method must be GET"),
        (plain(TARGET), "path /chat, status 426 Upgrade Required: this resource speaks WebSocket only"),
    ],
    ids=["line", "header", "value", "long", "many", "version", "key", "origin", "method", "plain"],
)
def test_a_refusal_is_logged_once_without_credentials(
    loop_kind: str, request_: bytes, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving(choose, origins=["https://example.org"]) as server, connecting(server.port) as client:
            await client.send(request_)
            assert (await read_everything(client)).startswith(b"HTTP/1.1 4")

    with caplog.at_level(logging.DEBUG, LOGGER):
        run(loop_kind, main())
    (logged,) = lines_of(caplog)
    assert re.match(rf"refused: {PEER}, path /chat, status ", logged)
    assert line in logged


@both_loops
@pytest.mark.parametrize(
    ("path", "outcome"),
    [
        ("/raise", "404 Not Found: no such room"),
        ("/refuse", "403 Forbidden: not today"),
        ("/respond", "401 Unauthorized: the handler responded"),
        ("/leave", "403 Forbidden: the upgrade was not accepted"),
        ("/fail", "500 Internal Server Error: internal server error"),
    ],
)
def test_a_refusal_of_the_handler_is_logged_once(
    loop_kind: str, path: str, outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serve(choose, "127.0.0.1", 0) as server, connecting(server.port) as client:
            await client.send(handshake(*SECRETS, target=f"{path}?token={SECRET}"))
            await read_everything(client)

    with caplog.at_level(logging.INFO, LOGGER):
        run(loop_kind, main())
    (logged,) = lines_of(caplog)
    assert re.fullmatch(rf"refused: {PEER}, path {path}, status {outcome}", logged)
    assert lines_of(caplog, logging.ERROR) == (["on_upgrade failed for /fail"] if path == "/fail" else [])


@both_loops
def test_connections_over_a_limit_are_logged(loop_kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with (
            serving(echo_nothing, max_connections=1, max_refusals=1) as server,
            upgraded(server.port),
            connecting(server.port) as client,
            connecting(server.port) as other,
        ):
            assert b"503" in await client.reader.read(1000)
            assert await read_everything(other) == b""

    with caplog.at_level(logging.INFO, LOGGER):
        run(loop_kind, main())
    refused, dropped = (line for line in lines_of(caplog) if line.startswith("refused"))
    assert re.fullmatch(rf"refused: {PEER}, path -, status 503 Service Unavailable: too many connections", refused)
    assert re.fullmatch(rf"refused: {PEER}, path -, no answer: too many connections, max_refusals reached", dropped)


@both_loops
@pytest.mark.parametrize(
    ("request_", "path"), [(b"", "-"), (b"GET /chat HTTP/1.1\r\n", "/chat"), (VALID[:-2], "/chat")]
)
def test_a_request_that_is_never_complete_is_logged(
    loop_kind: str, request_: bytes, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving(choose, open_timeout=0.1) as server, connecting(server.port) as client:
            await client.send(request_)
            assert await read_everything(client) == b""

    with caplog.at_level(logging.INFO, LOGGER):
        run(loop_kind, main())
    (logged,) = lines_of(caplog)
    assert re.fullmatch(rf"refused: {PEER}, path {path}, no answer: open_timeout passed before .*", logged)


@both_loops
@pytest.mark.parametrize(("request_", "outcome"), [(b"", "path -, no answer"), (VALID, "path /chat, status 503 ")])
def test_requests_that_a_closing_server_drops_are_logged(
    loop_kind: str, request_: bytes, outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def wait(request: Request, socket: Socket, head: bytes) -> None:
        called.append(request)
        await asyncio.Event().wait()

    called: list[Request] = []

    async def main() -> None:
        server = await serve(wait, "127.0.0.1", 0)
        async with connecting(server.port) as client:
            await client.send(request_)
            await until(lambda: bool(called if request_ else server.requests))
            await server.close(close_timeout=0.05)

    with caplog.at_level(logging.INFO, LOGGER):
        run(loop_kind, main())
    (logged,) = lines_of(caplog)
    assert re.match(rf"refused: {PEER}, {outcome}.*the server is shutting down", logged)


@both_loops
@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda client: client.writer.write(masked_close(1000)), "code 1000"),
        (lambda client: client.writer.write(masked_close(4001)), "code 4001"),
        (lambda client: client.writer.write(b"\x80"), r"code 1006 \(sent 1002\)"),
        (lambda client: client.reset(), "code 1006"),
    ],
    ids=["normal", "own code", "not masked", "reset"],
)
def test_an_open_connection_is_logged_with_its_code_and_its_duration(
    loop_kind: str, end: Callable[[RawClient], Any], code: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving(echo_nothing) as server, upgraded(server.port, *SECRETS, target=TARGET) as client:
            await asyncio.sleep(0.05)
            end(client)
            await until(lambda: not server.connections)

    with caplog.at_level(logging.INFO, LOGGER):
        run(loop_kind, main())
    lines = lines_of(caplog)
    peer = lines[0].partition(", ")[0].partition(": ")[2]
    assert lines[0] == f"open: {peer}, path /chat"
    closed = re.fullmatch(rf"closed: {peer}, path /chat, {code} after (\d+\.\d{{3}}) seconds", lines[-1])
    assert closed
    assert 0.05 <= float(closed[1]) < 10
    assert len([line for line in lines if line.startswith(("open", "closed"))]) == 2


@both_loops
@pytest.mark.parametrize(("target", "status"), [("/page", 200), ("/none", 404)])
def test_a_plain_answer_is_logged_at_debug_only(
    loop_kind: str, target: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def page(request: Request) -> Response | None:
        return Response(200) if request.target.startswith("/page") else None

    async def main() -> None:
        async with serving(choose, on_request=page) as server, connecting(server.port) as client:
            await client.send(plain(f"{target}?{SECRET}"))
            await client.read_until_eof()

    with caplog.at_level(logging.DEBUG, LOGGER):
        run(loop_kind, main())
    assert lines_of(caplog) == []
    (logged,) = lines_of(caplog, logging.DEBUG)
    assert re.fullmatch(rf"answered: {PEER}, path {target}, status {status}", logged)


@both_loops
def test_logging_costs_nothing_when_its_level_is_off(
    loop_kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> str:
        raise AssertionError("a log line is prepared although its level is off")

    for name in ("_peer", "path_of", "one_line", "_end_of", "reason_phrase"):
        monkeypatch.setattr(server_log, name, fail)

    async def main() -> None:
        async with serving(echo_nothing, open_timeout=0.1) as server:
            async with upgraded(server.port) as client:
                await client.send(masked_close(1000))
                await client.read_frames()
            for data in (b"nonsense\r\n\r\n", plain("/"), b""):
                async with connecting(server.port) as client:
                    await client.send(data)
                    await read_everything(client)

    with caplog.at_level(logging.WARNING, LOGGER):
        run(loop_kind, main())
    assert not caplog.records


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (None, "-"),
        ("/", "/"),
        ("*", "*"),
        (f"/a/b?{SECRET}", "/a/b"),
        (f"/a#{SECRET}", "/a"),
        (f"http://user:{SECRET}@host/a?{SECRET}", "/a"),
        (f"http://{SECRET}@host", "/"),
        ("/a\nb", r"/a\nb"),
        ("/a?x=http://b/c", "/a"),
        ("/" + "x" * 300, "/" + "x" * 199 + "..."),
    ],
)
def test_a_logged_path_has_no_query_and_no_password(target: str | None, path: str) -> None:
    assert path_of(target) == path
