"""Answers of `serve` to requests that open no connection, and its errors for wrong arguments and handlers."""

from __future__ import annotations

import asyncio
import functools
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import Any

import h11
import pytest

from wslowlevel import (
    Headers,
    InvalidHandshake,
    PerMessageDeflate,
    Request,
    Response,
    Socket,
    read_request,
    send_handshake,
    serve,
)
from wslowlevel.handshake import upgrade_required
from wslowlevel.http1 import encode_response, format_date, parse_request, response_to

from .servers import RawClient, both_loops, connecting, handshake, run, serving
from .test_server import answer_of, echo, plain, refused, run_client


def connection_of(answer: bytes) -> list[bytes]:
    return re.findall(rb"(?im)^connection: (.*)\r$", answer)


# -- Date, Connection and Upgrade -------------------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize(
    "request_",
    [plain("/page"), plain("/other"), plain("/fails"), handshake("Sec-WebSocket-Key: x"), handshake(), b"nonsense\n"],
    ids=["page", "not found", "failing page", "bad handshake", "refused by the handler", "malformed"],
)
def test_every_response_but_the_101_has_a_date(loop_kind: str, request_: bytes) -> None:
    async def page(request: Request) -> Response | None:
        if request.target == "/fails":
            raise RuntimeError("broken page")
        return Response(200, (), b"page") if request.target == "/page" else None

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        raise InvalidHandshake("no", 403)

    async def client(raw: RawClient) -> None:
        _, headers, _ = await answer_of(raw, request_)
        assert abs(parsedate_to_datetime(headers["date"]).timestamp() - time.time()) < 60

    run_client(loop_kind, client, handler, on_request=page)


@both_loops
def test_101_has_no_date(loop_kind: str) -> None:
    async def client(raw: RawClient) -> None:
        await raw.upgrade()
        assert b"date:" not in raw.head.lower()

    run_client(loop_kind, client)


@pytest.mark.parametrize("name", ["Date", "date"])
def test_date_of_the_caller_is_kept(name: str) -> None:
    answer = encode_response(Response(200, {name: "Sun, 06 Nov 1994 08:49:37 GMT"}))
    assert re.findall(rb"(?im)^date: (.*)\r$", answer) == [b"Sun, 06 Nov 1994 08:49:37 GMT"]


def test_date_is_that_of_the_standard_library() -> None:
    assert format_date(784111777) == "Sun, 06 Nov 1994 08:49:37 GMT"
    moments = range(0, 2**33, 2**33 // 500)
    assert [format_date(each) for each in moments] == [formatdate(each, usegmt=True) for each in moments]


def test_426_lists_its_upgrade_in_connection_and_h11_accepts_it() -> None:
    answer = encode_response(response_to(upgrade_required("WebSocket only")))
    assert connection_of(answer) == [b"close, upgrade"]
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    client.send(h11.EndOfMessage())
    client.receive_data(answer)
    response, body, end = client.next_event(), client.next_event(), client.next_event()
    assert isinstance(response, h11.Response)
    assert (response.status_code, body.data) == (426, b"WebSocket only\n")  # type: ignore[union-attr]
    assert isinstance(end, h11.EndOfMessage)
    assert client.their_state is h11.MUST_CLOSE


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("response", [Response(200, ["Connection: keep-alive"]), Response(204), Response(304)])
def test_response_without_an_upgrade_closes_the_connection(response: Response, method: str) -> None:
    assert connection_of(encode_response(response, method=method)) == [b"close"]


# -- TLS on a plain port ----------------------------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("step", [1, 1000])
def test_tls_on_a_plain_port_is_answered_with_400_and_none_of_its_bytes(loop_kind: str, step: int) -> None:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03secret"

    async def client(raw: RawClient) -> None:
        for start in range(0, len(hello), step):
            await raw.send(hello[start : start + step])
            await asyncio.sleep(0.001)
        answer = await raw.read_until_eof()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.endswith(b"the client must use ws://, or the server needs an SSLContext\n")
        assert b"secret" not in answer

    run_client(loop_kind, client, refused)


@both_loops
def test_tls_client_on_a_plain_port_fails_at_once(loop_kind: str) -> None:
    async def main() -> None:
        async with serving(refused) as server:
            with pytest.raises(ssl.SSLError, match=r"(?i)wrong.version.number|record.layer.failure|http"):
                await asyncio.open_connection("127.0.0.1", server.port, ssl=ssl.create_default_context())

    run(loop_kind, main())


def test_tls_in_a_stream_is_reported_with_the_remedy() -> None:
    async def read() -> Request:
        reader = asyncio.StreamReader()
        reader.feed_data(b"\x16\x03\x01")
        return await read_request(reader)

    with pytest.raises(InvalidHandshake, match="TLS handshake on a port without TLS: the client must use ws://"):
        asyncio.run(read())


# -- No bytes of a malformed request in the answer --------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"GET /SECRET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nSECRET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: SECRET\0\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: SECRET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nHost: SECRET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: SECRET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\nX: SECRET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: SECRET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: SECRET\r\n\r\n",
        b"SECRET",
    ],
)
def test_error_of_a_malformed_head_contains_nothing_of_it(head: bytes) -> None:
    with pytest.raises(InvalidHandshake, match=r"^malformed request: ") as caught:
        parse_request(head)
    assert caught.value.status in (400, 501)
    assert b"SECRET" not in caught.value.body


# -- Headers of InvalidHandshake --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers", [{"X-A": "b"}, Headers([("X-A", "b")]), [("X-A", "b")], ["X-A: b"], iter([("X-A", "b")])]
)
def test_invalid_handshake_takes_headers_in_every_form(headers: Any) -> None:
    error = InvalidHandshake("no", 403, headers)
    assert error.headers == (("X-A", "b"),)
    assert b"\r\nX-A: b\r\n" in encode_response(response_to(error))


def test_invalid_handshake_keeps_repeated_headers_apart() -> None:
    pairs = (("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"))
    assert InvalidHandshake("no", 403, Headers(pairs)).headers == pairs


@pytest.mark.parametrize(
    ("headers", "kind"),
    [("X-A: b", TypeError), (b"X", TypeError), (1, TypeError), ([1], TypeError), (["X-A secret"], ValueError)],
)
def test_invalid_handshake_rejects_headers_that_are_none(headers: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"^headers? must ") as caught:
        InvalidHandshake("no", 403, headers)
    assert "secret" not in str(caught.value)


@both_loops
def test_handler_may_refuse_with_a_mapping_of_headers(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        raise InvalidHandshake("no", 403, headers={"X-A": "b"})

    async def client(raw: RawClient) -> None:
        status, headers, _ = await answer_of(raw, handshake())
        assert (status, headers["x-a"]) == (403, "b")

    run_client(loop_kind, client, handler)


# -- Arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_conections": 5}, "'max_conections': did you mean max_connections?"),
        ({"open_timeuot": 5}, "'open_timeuot': did you mean open_timeout?"),
        ({"reuseport": True}, "'reuseport': did you mean reuse_port?"),
        ({"max_header_lines": 5}, "'max_header_lines': did you mean max_header_line?"),
        ({"zzz": 1}, "'zzz'"),
        ({"options": {}}, "'options'"),
        ({"path": "/x", "reuse_port": True}, "'reuse_port': it cannot be combined with path"),
        ({"cleanup_socket": True}, "'cleanup_socket': it is for servers on a path"),
    ],
)
def test_unknown_argument_of_serve_is_rejected_by_name(options: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError) as caught:
        serve(echo, **options)
    assert str(caught.value) == f"serve() got an unexpected keyword argument {text}"


@both_loops
def test_options_of_asyncio_are_passed_on(loop_kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with serve(echo, "127.0.0.1", 0, backlog=5, reuse_address=True):
            pass
        async with serve(echo, path=str(tmp_path / "s"), backlog=5):
            pass

    run(loop_kind, main())


@both_loops
@pytest.mark.parametrize("extensions", [[PerMessageDeflate], PerMessageDeflate])
def test_class_instead_of_an_extension_is_rejected_with_the_remedy(loop_kind: str, extensions: Any) -> None:
    errors: list[str] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        try:
            send_handshake(request, socket, extensions=extensions)
        except TypeError as error:
            errors.append(str(error))
        send_handshake(request, socket, extensions=[PerMessageDeflate()])

    async def client(raw: RawClient) -> None:
        await raw.upgrade("Sec-WebSocket-Extensions: permessage-deflate")

    run_client(loop_kind, client, handler)
    assert errors[0].startswith("extensions must ")
    assert "PerMessageDeflate()" in errors[0]


# -- Handlers that are not async functions ----------------------------------------------------------------------------


async def yielding(*arguments: object) -> AsyncIterator[None]:
    yield


class Yielding:
    async def __call__(self, *arguments: object) -> AsyncIterator[None]:
        yield


@pytest.mark.parametrize("name", ["on_upgrade", "on_request"])
@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (yielding, "async generator function: remove `yield` from yielding"),
        (functools.partial(yielding, 1), "async generator function: remove `yield` from yielding"),
        (Yielding(), "async generator function: remove `yield` from Yielding"),
        (5, "not int"),
        ("echo", "not str"),
    ],
)
def test_handler_that_can_never_work_is_rejected_by_serve(name: str, handler: Any, text: str) -> None:
    arguments: dict[str, Any] = {"on_upgrade": echo, name: handler}
    with pytest.raises(TypeError, match=f"{name} must be an async function.*{text}"):
        serve(**arguments)


def returns_nothing(*arguments: object) -> None: ...


@both_loops
@pytest.mark.parametrize("name", ["on_upgrade", "on_request"])
@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (returns_nothing, "returns_nothing returned NoneType"),
        (lambda *_: 5, "<lambda> returned int"),
        (functools.partial(returns_nothing, 1), "returns_nothing returned NoneType"),
        (lambda *_: yielding(), "<lambda> returned async_generator"),
    ],
)
def test_handler_whose_result_is_not_awaitable_is_named_in_the_log(
    loop_kind: str, name: str, handler: Any, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    arguments: dict[str, Any] = {"on_upgrade": echo, name: handler}

    async def main() -> None:
        async with serve(host="127.0.0.1", port=0, **arguments) as server, connecting(server.port) as raw:
            request = handshake() if name == "on_upgrade" else plain("/")
            status, _, body = await answer_of(raw, request)
            assert (status, body) == (500, b"internal server error\n")

    run(loop_kind, main())
    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == f"{name} must be an async function: {text}"


class Handler:
    async def __call__(self, request: Request, socket: Socket, head: bytes) -> None:
        await echo(request, socket, head)


@both_loops
@pytest.mark.parametrize(
    "handler",
    [
        lambda *arguments: echo(*arguments),  # noqa: PLW0108 - it is under test
        functools.partial(echo),
        Handler(),
        Handler().__call__,
        lambda request, socket, head: asyncio.ensure_future(echo(request, socket, head)),
    ],
    ids=["lambda", "partial", "object", "method", "task"],
)
def test_callable_that_returns_an_awaitable_is_a_handler(
    loop_kind: str, handler: Callable[[Request, Socket, bytes], Awaitable[None]]
) -> None:
    async def client(raw: RawClient) -> None:
        await raw.upgrade()

    run_client(loop_kind, client, handler)


@both_loops
def test_page_that_is_no_response_is_logged_by_its_type(loop_kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async def page(request: Request) -> Any:
        return "page"

    async def client(raw: RawClient) -> None:
        assert (await answer_of(raw, plain("/")))[0] == 500

    run_client(loop_kind, client, refused, on_request=page)
    assert "on_request must return a Response or None, not str" in caplog.text
