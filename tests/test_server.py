"""The server before and around a connection: requests good and bad, handlers that fail, and the end (RFC 6455 §4.2)."""

from __future__ import annotations

import asyncio
import http.client
import logging
import os
import signal
import socket as sockets
import sys
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path

import aiohttp
import h11
import pytest

from wslowlevel import (
    ConnectionLost,
    InvalidHandshake,
    Opcode,
    Request,
    Response,
    Socket,
    get_messages_factory,
    prepare_websocket_frame,
    send_factory,
    send_handshake,
    serve,
)
from wslowlevel.handshake import upgrade_required
from wslowlevel.http1 import HeadersLike, encode_response, http_date, response_to

from .scripted import timers
from .servers import (
    RawClient,
    both_loops,
    close_of,
    connecting,
    handshake,
    masked,
    masked_close,
    run,
    serving,
    until,
    upgraded,
)


async def echo(request: Request, socket: Socket, head: bytes) -> None:
    get_messages = get_messages_factory(socket)
    send = send_factory(socket)
    send_handshake(request, socket)
    async for message in get_messages():
        if message.opcode in (Opcode.TEXT, Opcode.BINARY):
            await send(prepare_websocket_frame(message.payload, opcode=message.opcode))


async def refused(request: Request, socket: Socket, head: bytes) -> None:
    raise AssertionError("the handler must not see this request")


def run_client(
    loop_kind: str,
    client: Callable[[RawClient], Awaitable[None]],
    handler: Callable[[Request, Socket, bytes], Awaitable[None]] = echo,
    **options: object,
) -> None:
    """Run a client that has sent nothing yet against a server."""

    async def main() -> None:
        async with serving(handler, **options) as server, connecting(server.port) as raw:
            await client(raw)

    run(loop_kind, main())


async def answer_of(client: RawClient, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Everything that the server says to a request, until it ends the connection: status, headers, body."""
    await client.send(request)
    head, _, body = (await client.read_until_eof()).partition(b"\r\n\r\n")
    status_line, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert headers["connection"] == ("close, upgrade" if "upgrade" in headers else "close")
    return int(status_line.split(" ")[1]), headers, body


# -- Requests ---------------------------------------------------------------------------------------------------------

KEY_LINE = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

BAD_REQUESTS = {
    "no key": (handshake().replace(KEY_LINE, b""), 400),
    "two keys": (handshake().replace(KEY_LINE, 2 * KEY_LINE), 400),
    "short key": (handshake().replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZQ=="), 400),
    "version 8": (handshake().replace(b"Version: 13", b"Version: 8"), 426),
    "no Connection token": (handshake().replace(b"keep-alive, Upgrade", b"keep-alive"), 400),
    "POST": (handshake().replace(b"GET", b"POST"), 405),
    "HTTP/1.0": (handshake().replace(b"HTTP/1.1", b"HTTP/1.0"), 426),
    "no Host": (handshake().replace(b"Host: 127.0.0.1\r\n", b""), 400),
    "two Hosts": (handshake("Host: other"), 400),
    "a body": (handshake("Content-Length: 5") + b"hello", 400),
    "a chunked body": (handshake("Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "both lengths": (handshake("Content-Length: 5", "Transfer-Encoding: chunked"), 400),
    "two lengths": (handshake("Content-Length: 5", "Content-Length: 6"), 400),
    "obs-fold": (handshake("X-A: b", " c", "Upgrade : x"), 400),
    "a space in a name": (handshake("X A: b"), 400),
    "a control byte": (handshake("X-A: b\x00c"), 400),
    "not HTTP": (b"\x16\x05\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "an unknown upgrade": (handshake().replace(b"Upgrade: websocket", b"Upgrade: h2c"), 426),
    "129 headers": (handshake(*[f"X-{i}: y" for i in range(124)]), 431),
    "100,000 headers": (handshake(*["X: y"] * 100_000), 431),
    "a header over 32 KiB": (handshake("X-Long: " + "a" * 33000), 431),
    "a target over 32 KiB": (handshake(target="/" + "a" * 33000), 431),
    "headers without an end": (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000, 431),
    "a line without an end": (b"GET /" + b"a" * 100_000, 431),
}


@both_loops
@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_answered_with_its_status(loop_kind: str, name: str) -> None:
    request, status = BAD_REQUESTS[name]

    async def client(raw: RawClient) -> None:
        got, headers, body = await answer_of(raw, request)
        assert (got, body.endswith(b"\n"), len(body)) == (status, True, int(headers["content-length"]))
        if status == 426:
            assert (headers["upgrade"], headers["sec-websocket-version"]) == ("websocket", "13")

    run_client(loop_kind, client, refused)


@both_loops
def test_nothing_behind_a_refused_request_is_read(loop_kind: str) -> None:
    """A proxy that took the refusal for an upgrade must not get a second answer out of us."""
    smuggled = b"GET /secret HTTP/1.1\r\nHost: h\r\n\r\n"

    async def page(request: Request) -> Response:
        raise AssertionError(f"{request.target} must not be served")

    async def client(raw: RawClient) -> None:
        request, _ = BAD_REQUESTS["version 8"]
        await raw.send(request + smuggled)
        assert (await raw.read_until_eof()).count(b"HTTP/1.1 ") == 1

    run_client(loop_kind, client, refused, on_request=page)


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", handshake() + b"\x83\x80"], ids=["refused", "violating"])
def test_nothing_waits_for_a_peer_that_is_gone(sent: bytes) -> None:
    """What lingers for a peer that may still be sending is let go with it."""

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        await send_handshake(request, socket)
        async for _ in get_messages_factory(socket)():
            pass

    async def main() -> None:
        before = timers()
        async with serving(handler) as server:
            async with connecting(server.port) as raw:
                await raw.send(sent)
                await raw.read_until_eof()
            await asyncio.sleep(0.05)
            assert timers() == before

    run("asyncio", main())


@both_loops
def test_a_handshake_that_arrives_byte_by_byte(loop_kind: str) -> None:
    async def client(raw: RawClient) -> None:
        for byte in handshake():
            await raw.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await raw.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")

    run_client(loop_kind, client)


@both_loops
def test_who_does_not_finish_the_request_is_dropped(loop_kind: str) -> None:
    async def client(raw: RawClient) -> None:
        await raw.send(handshake()[:-1])
        assert await raw.read_until_eof() == b""

    run_client(loop_kind, client, refused, open_timeout=0.1)


@both_loops
def test_bytes_right_behind_the_handshake_are_shown_and_delivered(loop_kind: str) -> None:
    heads = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        heads.append(head)
        await echo(request, socket, head)

    async def client(raw: RawClient) -> None:
        await raw.upgrade(behind=masked(Opcode.TEXT, b"early") + masked(Opcode.TEXT, b"late")[:7])
        assert (await raw.read_frame()).payload == b"early"
        await raw.send(masked(Opcode.TEXT, b"late")[7:])
        assert (await raw.read_frame()).payload == b"late"
        assert heads == [masked(Opcode.TEXT, b"early") + masked(Opcode.TEXT, b"late")[:7]]

    run_client(loop_kind, client, handler)


# -- Plain HTTP -------------------------------------------------------------------------------------------------------


async def pages(request: Request) -> Response | None:
    match request.target:
        case "/page":
            return Response(200, [("Content-Type", "text/html")], b"<p>hello</p>")
        case "/empty":
            return Response(204)
        case "/error":
            raise RuntimeError("broken page")
        case "/wrong":
            raise InvalidHandshake("not an error", 304)
        case "/large":
            return Response(200, (), b"x" * 20_000_000)
        case "/teapot":
            raise InvalidHandshake("short and stout", 418)
    return None


def plain(target: str, method: str = "GET", *headers: str) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: h", *headers, "", ""]).encode()


@both_loops
@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (plain("/page"), 200, b"<p>hello</p>"),
        (plain("/page", "HEAD"), 200, b""),
        (plain("/other"), 404, b"not found\n"),
        (plain("/teapot"), 418, b"short and stout\n"),
        (plain("/page", "POST", "Content-Length: 3") + b"abc", 400, b"a request with a body is not accepted\n"),
    ],
)
def test_plain_requests(loop_kind: str, request_: bytes, status: int, body: bytes) -> None:
    async def client(raw: RawClient) -> None:
        got, headers, got_body = await answer_of(raw, request_)
        assert (got, got_body) == (status, body)
        assert headers["content-length"] == ("12" if status == 200 else str(len(body)))

    run_client(loop_kind, client, refused, on_request=pages)


@both_loops
def test_a_response_without_a_body_has_no_length(loop_kind: str) -> None:
    async def client(raw: RawClient) -> None:
        status, headers, body = await answer_of(raw, plain("/empty"))
        assert (status, body, "content-length" in headers) == (204, b"", False)

    run_client(loop_kind, client, refused, on_request=pages)


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (Response(101), "from 200 to 599, not 101"),
        (Response(600), "from 200 to 599, not 600"),
        (Response(204, (), b"x"), "has no body, not 1 bytes"),
        (Response(200, [("X", "a\r\nb")]), "header value"),
    ],
)
def test_a_response_that_cannot_be_written(response: Response, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        encode_response(response)


@pytest.mark.parametrize("seconds", [0, 951782400, 1582934399.9, 1709164800, 2**31, 4102444799])
def test_date_of_a_response_is_an_imf_fixdate(seconds: float) -> None:
    assert http_date(seconds) == formatdate(int(seconds), usegmt=True)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (handshake("Origin: https://evil.example"), 403),
        (plain("/other"), 404),
        (plain("/page"), 200),
        (handshake().replace(b"Version: 13", b"Version: 8"), 426),
        (handshake("X: " + "y" * 40_000), 431),
        (plain("/error"), 500),
    ],
)
def test_every_response_but_the_101_has_a_date_and_says_close(request_: bytes, status: int) -> None:
    async def client(raw: RawClient) -> None:
        before = time.time() - 1
        got, headers, _ = await answer_of(raw, request_)
        assert got == status
        assert before <= parsedate_to_datetime(headers["date"]).timestamp() <= time.time()

    run_client("asyncio", client, refused, on_request=pages, origins=["https://example.org"])


def test_an_opening_handshake_is_answered_without_a_date() -> None:
    async def client(raw: RawClient) -> None:
        await raw.upgrade()
        assert b"\r\ndate:" not in raw.head.lower()

    run_client("asyncio", client)


@pytest.mark.parametrize("headers", [[("Date", "x")], ["date: x"], {"DATE": "x"}])
def test_date_of_the_caller_is_kept(headers: HeadersLike) -> None:
    assert encode_response(Response(200, headers)).lower().count(b"\r\ndate: ") == 1
    assert b": x\r\n" in encode_response(Response(200, headers))


def test_response_with_an_upgrade_field_is_understood_by_other_clients() -> None:
    answer = encode_response(response_to(upgrade_required("WebSocket only")))
    assert b"\r\nConnection: close, upgrade\r\n" in answer
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    client.send(h11.EndOfMessage())
    client.receive_data(answer)
    response = client.next_event()
    assert isinstance(response, h11.Response)
    assert (response.status_code, client.next_event()) == (426, h11.Data(data=b"WebSocket only\n"))
    assert isinstance(client.next_event(), h11.EndOfMessage)
    assert client.their_state is h11.MUST_CLOSE

    async def main() -> None:
        async with serving(refused) as server:
            url = f"http://127.0.0.1:{server.port}/"
            async with aiohttp.ClientSession() as session, session.get(url) as got:
                assert (got.status, await got.text()) == (426, "this resource speaks WebSocket only\n")
            status, body, will_close = await asyncio.to_thread(fetch, server.port)
            assert (status, body, will_close) == (426, b"this resource speaks WebSocket only\n", True)

    def fetch(port: int) -> tuple[int, bytes, bool]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/")
        answer = connection.getresponse()
        closes = answer.will_close
        return answer.status, answer.read(), closes

    run("asyncio", main())


@both_loops
def test_without_pages_a_plain_request_is_told_what_is_spoken_here(loop_kind: str) -> None:
    async def client(raw: RawClient) -> None:
        status, headers, _ = await answer_of(raw, plain("/"))
        assert (status, headers["upgrade"]) == (426, "websocket")

    run_client(loop_kind, client, refused)


@both_loops
def test_who_asks_and_half_closes_is_answered(loop_kind: str) -> None:
    async def client(raw: RawClient) -> None:
        raw.writer.write(plain("/page"))
        raw.writer.write_eof()
        assert (await raw.read_until_eof()).endswith(b"<p>hello</p>")

    run_client(loop_kind, client, refused, on_request=pages)


@both_loops
@pytest.mark.parametrize("target", ["/error", "/wrong"])
def test_a_page_that_fails_is_answered_and_logged_once(
    loop_kind: str, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def client(raw: RawClient) -> None:
        status, _, body = await answer_of(raw, plain(target))
        assert (status, body) == (500, b"internal server error\n")

    run_client(loop_kind, client, refused, on_request=pages)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, f"on_request failed for {target}")
    ]


@both_loops
def test_who_does_not_read_the_answer_is_dropped(loop_kind: str) -> None:
    async def main() -> None:
        async with serving(refused, on_request=pages, close_timeout=0.2) as server, connecting(server.port) as raw:
            await raw.send(b"G")
            await until(lambda: bool(server.requests))
            await raw.send(plain("/large")[1:])
            raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await until(lambda: not server.requests)

    run(loop_kind, main())


# -- Handlers ---------------------------------------------------------------------------------------------------------


@both_loops
def test_a_handler_that_returns_closes_with_1000(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_handshake(request, socket)
        send_factory(socket)(prepare_websocket_frame(b"last words"))

    async def client(raw: RawClient) -> None:
        await raw.upgrade()
        assert (await raw.read_frame()).payload == b"last words"
        await raw.send(masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_client(loop_kind, client, handler)


@both_loops
@pytest.mark.parametrize("reads", [True, False])
def test_a_handler_that_fails_closes_with_1011_and_is_logged_once(
    loop_kind: str, reads: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        if reads:
            get_messages_factory(socket)
        await send_handshake(request, socket)
        raise RuntimeError("broken handler")

    async def client(raw: RawClient) -> None:
        await raw.upgrade()
        await raw.send(masked(Opcode.TEXT, b"unread"), masked_close(1000))
        assert await raw.read_close() == (1011, "")

    async def main() -> None:
        async with serve(handler, "127.0.0.1", 0) as server, connecting(server.port) as raw:
            await client(raw)

    run(loop_kind, main())
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "on_upgrade failed for /")
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "broken handler"


@both_loops
def test_a_handler_that_awaits_what_was_cancelled_fails_too(loop_kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody cancelled the handler itself; CPython 3.10 does not tell the two apart, and drops the connection."""
    told = sys.version_info >= (3, 11)

    async def cancelled() -> Response:
        waiting = asyncio.create_task(asyncio.sleep(3600))
        asyncio.get_running_loop().call_soon(waiting.cancel)
        await waiting
        raise AssertionError

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        await send_handshake(request, socket)
        await cancelled()

    async def main() -> None:
        async with serve(handler, "127.0.0.1", 0, on_request=lambda _: cancelled(), close_timeout=0.2) as server:
            async with connecting(server.port) as raw:
                await raw.upgrade()
                assert [close_of(frame) for frame in await raw.read_frames()] == [(1011, "")] * told
            async with connecting(server.port) as raw:
                await raw.send(plain("/"))
                assert (await raw.read_until_eof()).startswith(b"HTTP/1.1 500 " if told else b"")

    run(loop_kind, main())
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "on_upgrade failed for /",
        "on_request failed for /",
    ] * told


@both_loops
def test_a_violation_that_leaves_the_handler_is_told_even_without_auto_close(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket, auto_close=False)
        send_handshake(request, socket)
        async for _ in get_messages():
            pass

    async def client(raw: RawClient) -> None:
        await raw.upgrade()
        await raw.send(masked(Opcode.TEXT, b"\xff"))
        assert await raw.read_close() == (1007, "")

    run_client(loop_kind, client, handler)


@both_loops
def test_a_handler_may_refuse(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        raise InvalidHandshake("no such room", 404, [("X-Room", "none")], b"{}")

    async def client(raw: RawClient) -> None:
        status, headers, body = await answer_of(raw, handshake())
        assert (status, headers["x-room"], body) == (404, "none", b"{}")

    run_client(loop_kind, client, handler)


@both_loops
def test_a_handler_that_does_not_accept_refuses(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages_factory(socket)
        with pytest.raises(RuntimeError, match="before the opening handshake"):
            send_factory(socket)(prepare_websocket_frame(b"too early"))

    async def client(raw: RawClient) -> None:
        status, _, body = await answer_of(raw, handshake() + masked(Opcode.TEXT, b"early"))
        assert (status, body) == (403, b"the upgrade was not accepted\n")

    run_client(loop_kind, client, handler)


async def answers_with_a_bad_header(request: Request, socket: Socket, head: bytes) -> None:
    send_handshake(request, socket, ["X-Bad: a\r\nb"])


async def refuses_with_a_bad_status(request: Request, socket: Socket, head: bytes) -> None:
    raise InvalidHandshake("not an error", 304)


@both_loops
@pytest.mark.parametrize("handler", [answers_with_a_bad_header, refuses_with_a_bad_status])
def test_a_handler_that_fails_before_the_handshake_answers_500(
    loop_kind: str,
    handler: Callable[[Request, Socket, bytes], Awaitable[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with serve(handler, "127.0.0.1", 0) as server, connecting(server.port) as raw:
            status, _, body = await answer_of(raw, handshake())
            assert (status, body) == (500, b"internal server error\n")

    run(loop_kind, main())
    assert len(caplog.records) == 1


@both_loops
def test_the_end_of_another_connection_is_no_excuse(loop_kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A broadcast that does not catch ConnectionLost fails for reasons that are not its own peer's."""
    others: list[Socket] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_handshake(request, socket)
        get_messages = get_messages_factory(socket)
        others.append(socket)
        async for _ in get_messages():
            for other in others:
                send_factory(other)(prepare_websocket_frame(b"to all"))

    async def main() -> None:
        async with serve(handler, "127.0.0.1", 0) as server, upgraded(server.port) as innocent:
            async with upgraded(server.port) as gone:
                gone.reset()
            await until(lambda: not others[-1].is_open)
            others.reverse()
            await innocent.send(masked(Opcode.TEXT, b"hello"), masked_close(1000))
            assert await innocent.read_close() == (1011, "")

    run(loop_kind, main())
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "on_upgrade failed for /"
    ]


@both_loops
def test_one_connection_does_not_notice_another(loop_kind: str) -> None:
    async def main() -> None:
        async with serving(echo) as server, upgraded(server.port) as good:
            for harm in (b"\xff\xff", handshake(), masked(Opcode.TEXT, b"\xff"), b""):
                async with upgraded(server.port) as bad:
                    await bad.send(harm)
                    bad.reset()
                await good.send(masked(Opcode.BINARY, harm))
                assert (await good.read_frame()).payload == harm

    run(loop_kind, main())


# -- The end ----------------------------------------------------------------------------------------------------------


@both_loops
def test_the_end_of_the_server_is_told_to_everybody(loop_kind: str) -> None:
    async def main() -> None:
        async with (
            serving(echo) as server,
            upgraded(server.port) as one,
            upgraded(server.port) as other,
            connecting(server.port) as silent,
        ):
            port = server.port
            assert server.connections == 2
            closing = asyncio.create_task(server.close())
            for raw in (one, other):
                frame = await raw.reader.read(100)
                assert frame == prepare_websocket_frame((1001).to_bytes(2, "big"), opcode=Opcode.CLOSE)
                await raw.send(masked_close(1001))
                assert await raw.read_until_eof() == b""
            assert await silent.read_until_eof() == b""
            await closing
            assert server.connections == 0
            with pytest.raises(ConnectionError):
                await asyncio.open_connection("127.0.0.1", port)

    run(loop_kind, main())


@both_loops
@pytest.mark.parametrize("timeout", [0.1, 0])
def test_who_does_not_answer_the_close_is_dropped_at_the_deadline(loop_kind: str, timeout: float) -> None:
    cancelled = asyncio.Event()

    async def stubborn(request: Request, socket: Socket, head: bytes) -> None:
        send_handshake(request, socket)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def main() -> None:
        async with serving(stubborn) as server, upgraded(server.port) as raw:
            await server.close(4000, "maintenance", close_timeout=timeout)
            assert cancelled.is_set()
            data = await raw.reader.read(2)
            assert data == b"\x88\x0d"

    run(loop_kind, main())


@both_loops
def test_a_server_that_was_awaited_may_stand_in_a_with_block(loop_kind: str) -> None:
    async def main() -> None:
        server = await serve(echo, "127.0.0.1", 0)
        port = server.port
        async with server:
            assert server.port == port
            with pytest.raises(ValueError, match="not 1005"):
                await server.close(1005)
            with pytest.raises(ValueError, match="close_timeout must be more than 0 seconds, not -1"):
                await server.close(close_timeout=-1)
            with pytest.raises(TypeError, match="close_timeout must be a number of seconds or None, not str"):
                await server.close(close_timeout="1")  # type: ignore[arg-type]
            async with upgraded(port) as raw:
                await raw.send(masked_close(1000))
                assert await raw.read_close() == (1000, "")
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", port)

    run(loop_kind, main())


@both_loops
def test_serve_forever_ends_when_it_is_cancelled_or_the_server_is_closed(loop_kind: str) -> None:
    async def main() -> None:
        server = await serve(echo, "127.0.0.1", 0)
        waiting = asyncio.create_task(server.serve_forever())
        cancelled = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0)
        cancelled.cancel()
        async with upgraded(server.port) as raw:
            await raw.send(masked_close(1000))
            assert await raw.read_close() == (1000, "")
        await server.close()
        await waiting
        with pytest.raises(asyncio.CancelledError):
            await cancelled

    run(loop_kind, main())


@both_loops
def test_a_signal_ends_the_wait_and_leaves_no_handler_behind(loop_kind: str) -> None:
    before = signal.getsignal(signal.SIGTERM)

    async def main() -> None:
        async with (
            serving(echo, stop_signals=[signal.SIGTERM]) as server,
            upgraded(server.port) as raw,
        ):
            os.kill(os.getpid(), signal.SIGTERM)
            await server.serve_forever()
            await raw.send(masked_close(1000))
            assert await raw.read_close() == (1000, "")
        assert signal.getsignal(signal.SIGTERM) == before

    run(loop_kind, main())


@both_loops
def test_other_addresses(loop_kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with serve(echo, path=str(tmp_path / "socket")):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "socket"))
            await says(RawClient(reader, writer), b"unix")
            writer.transport.abort()
        async with serve(echo, sock=sockets.create_server(("127.0.0.1", 0))) as server, connecting(server.port) as raw:
            await says(raw, b"given")

    async def says(raw: RawClient, payload: bytes) -> None:
        await raw.upgrade()
        await raw.send(masked(Opcode.TEXT, payload), masked_close(1000))
        frames = await raw.read_frames()
        assert [frame.payload for frame in frames[:-1]] == [payload]
        assert close_of(frames[-1]) == (1000, "")

    run(loop_kind, main())


@both_loops
def test_send_handshake_after_the_client_has_gone(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        with pytest.raises(RuntimeError, match="before the opening handshake"):
            await anext(get_messages())
        await gone.wait()
        send_handshake(request, socket)
        with pytest.raises(ConnectionLost) as caught:
            await anext(get_messages())
        assert caught.value.code == 1006
        with pytest.raises(RuntimeError, match="already answered"):
            send_handshake(request, socket)
        seen.set()

    gone, seen = asyncio.Event(), asyncio.Event()

    async def client(raw: RawClient) -> None:
        await raw.send(handshake())
        raw.reset()
        gone.set()
        await seen.wait()

    run_client(loop_kind, client, handler)
