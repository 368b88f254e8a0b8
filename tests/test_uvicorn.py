"""ASGI applications on our connection: real uvicorn servers, on both event loops and with both of its HTTP parsers."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import uvicorn
import websockets
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import WebSocketRoute
from uvicorn.protocols.utils import ClientDisconnected
from websockets.asyncio.client import connect

from wslowlevel import Opcode
from wslowlevel.uvicorn import WebSocketProtocol

from .servers import both_loops, close_of, connecting, handshake, masked, masked_close, run, until, upgraded
from .tls import certificate, client_tls, with_a_peer_over_tls

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[[Event, Receive, Send], Awaitable[Any]]

MIB = 1024 * 1024
ACCEPT = {"type": "websocket.accept"}

both_parsers = pytest.mark.parametrize("http", ["h11", "httptools"])


@asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[uvicorn.Server]:
    """uvicorn with our protocol, on a free port of 127.0.0.1."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        ws="wslowlevel.uvicorn:WebSocketProtocol",
        lifespan="off",
        log_config=None,
        **options,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    try:
        yield server
    finally:
        server.should_exit = True
        await task
        assert not server.server_state.connections
        assert not server.server_state.tasks


def port_of(server: uvicorn.Server) -> int:
    return int(server.servers[0].sockets[0].getsockname()[1])


def url_of(server: uvicorn.Server, target: str = "/") -> str:
    return f"ws://127.0.0.1:{port_of(server)}{target}"


def protocol_of(server: uvicorn.Server) -> WebSocketProtocol:
    """That of the only connection."""
    (protocol,) = server.server_state.connections
    assert isinstance(protocol, WebSocketProtocol)
    return protocol


async def echo(_scope: Event, receive: Receive, send: Send) -> None:
    while (event := await receive())["type"] != "websocket.disconnect":
        if event["type"] == "websocket.connect":
            await send(ACCEPT)
        else:
            await send({**event, "type": "websocket.send"})


class Kept:
    """An application that keeps what it receives; it accepts, and then does what it is told.

    Attributes:
        events: what it received after the first event.
        scope: that of the last connection.
    """

    def __init__(self, then: Callable[[Receive, Send], Awaitable[Any]] | None = None, *, accepts: bool = True) -> None:
        self.events: list[Event] = []
        self.scope: Event = {}
        self._then = then
        self._accepts = accepts

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> Any:
        self.scope = scope
        assert await receive() == {"type": "websocket.connect"}
        if self._accepts:
            await send(ACCEPT)
        if self._then is not None:
            return await self._then(receive, send)
        while not self.events or self.events[-1]["type"] != "websocket.disconnect":
            self.events.append(await receive())
        return None


# -- Messages ---------------------------------------------------------------------------------------------------------


@both_parsers
@both_loops
def test_echo(loop_kind: str, http: str) -> None:
    """Of every kind and size, whole and in fragments, with compression and without."""

    async def talk() -> None:
        async with serving(echo, http=http) as server:
            for compression in ("deflate", None):
                async with connect(url_of(server), compression=compression, max_size=None) as client:
                    assert bool(client.protocol.extensions) is bool(compression)
                    for message in ("", "häh", b"", b"x" * 125, "y" * 70_000, b"z" * MIB):
                        await client.send(message)
                        assert await client.recv() == message
                    await client.send(["in ", "fragments"])
                    assert await client.recv() == "in fragments"

    run(loop_kind, talk())


@both_parsers
@both_loops
def test_eager_task_factory_does_not_change_a_conversation(loop_kind: str, http: str) -> None:
    """The application runs before its connection is handed over; the request must not be decoded as frames."""

    async def talk() -> None:
        async with serving(echo, http=http) as server, upgraded(port_of(server)) as client:
            await client.send(masked(Opcode.TEXT, b"hello"))
            assert (await client.read_frame()).payload == b"hello"
            await client.send(masked_close(1000))
            assert await client.read_close() == (1000, "")

    run(loop_kind, talk(), eager=True)


@both_loops
def test_eager_application_waits_for_a_slow_peer(loop_kind: str) -> None:
    """Events that the application sends before its first await wait for the peer too."""
    sent = 0

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        nonlocal sent
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(64):
            await send({"type": "websocket.send", "bytes": bytes(2**20)})
            sent += 1

    async def talk() -> None:
        async with serving(app) as server, upgraded(port_of(server)) as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(0.3)
            assert sent < 64
            client.writer.transport.abort()

    run(loop_kind, talk(), eager=True)


@both_loops
def test_many_messages_of_one_read(loop_kind: str) -> None:
    async def talk() -> None:
        async with serving(echo) as server, upgraded(port_of(server)) as client:
            await client.send(b"".join(masked(Opcode.BINARY, b"%d" % number) for number in range(5000)))
            for number in range(5000):
                assert (await client.read_frame()).payload == b"%d" % number

    run(loop_kind, talk())


@both_loops
def test_control_frames(loop_kind: str) -> None:
    """Pings are answered, and neither they nor pongs reach the application."""

    async def talk() -> None:
        app = Kept()
        async with serving(app) as server, upgraded(port_of(server)) as client:
            await client.send(masked(Opcode.PING, b"?"), masked(Opcode.PONG, b"!"), masked(Opcode.TEXT, b"t"))
            answer = await client.read_frame()
            assert (answer.opcode, answer.payload) == (Opcode.PONG, b"?")
            await client.send(masked_close(4000, b"bye"))
            assert await client.read_close() == (4000, "bye")
        assert app.events == [
            {"type": "websocket.receive", "text": "t"},
            {"type": "websocket.disconnect", "code": 4000, "reason": "bye"},
        ]

    run(loop_kind, talk())


@with_a_peer_over_tls
@both_loops
def test_tls(loop_kind: str) -> None:
    schemes: list[str] = []

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        schemes.append(scope["scheme"])
        await echo(scope, receive, send)

    async def talk() -> None:
        chain, key = map(str, certificate())
        async with (
            serving(app, ssl_certfile=chain, ssl_keyfile=key) as server,
            connect(f"wss://127.0.0.1:{port_of(server)}/", ssl=client_tls()) as client,
        ):
            for message in ("häh", bytes(300_000)):
                await client.send(message)
                assert await client.recv() == message

    run(loop_kind, talk())
    assert schemes == ["wss"]


# -- The opening handshake --------------------------------------------------------------------------------------------


@both_parsers
@both_loops
def test_scope(loop_kind: str, http: str) -> None:
    app = Kept()

    async def talk() -> None:
        async with serving(app, http=http, root_path="/base") as server:
            headers = ["X-Name: v\xe4lue", "X-Name: 2", "Sec-WebSocket-Protocol: a, b", "Sec-WebSocket-Protocol: c"]
            async with upgraded(port_of(server), *headers, target="/some%20path?a=b%20c") as client:
                peer = client.writer.get_extra_info("sockname")
                server_address = client.writer.get_extra_info("peername")
            await until(lambda: not server.server_state.tasks)
        assert (app.scope["client"], app.scope["server"]) == (peer, server_address)

    run(loop_kind, talk())
    scope = {name: value for name, value in app.scope.items() if name not in ("client", "server", "headers")}
    assert scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "root_path": "/base",
        "path": "/base/some path",
        "raw_path": b"/base/some%20path",
        "query_string": b"a=b%20c",
        "subprotocols": ["a", "b", "c"],
        "state": {},
        "extensions": {"websocket.http.response": {}},
    }
    assert [value for name, value in app.scope["headers"] if name == b"x-name"] == [b"v\xe4lue", b"2"]
    assert all(name == name.lower() for name, _ in app.scope["headers"])


@both_loops
def test_accept(loop_kind: str) -> None:
    """With a subprotocol and headers of the application, and those that the server adds to every answer."""

    async def app(_scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send({**ACCEPT, "subprotocol": "b", "headers": [(b"X-Own", b"1"), (b"x-own", b"2")]})

    async def talk() -> None:
        async with (
            serving(app, headers=[("X-Default", "3")]) as server,
            upgraded(port_of(server), "Sec-WebSocket-Protocol: a, b") as client,
        ):
            lines = client.head.decode().split("\r\n")
            assert [line for line in lines if line.lower().startswith("x-")] == ["x-default: 3", "X-Own: 1", "x-own: 2"]
            assert "Sec-WebSocket-Protocol: b" in lines
            assert sum(line.lower().startswith(("date:", "server:")) for line in lines) == 2
            assert await client.read_close() == (1000, "")

    run(loop_kind, talk())


@both_loops
def test_an_answer_that_may_not_be_sent(loop_kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A subprotocol that was not offered, or a header that would end the line: 500, and the application learns why."""

    async def talk() -> None:
        for more in ({"subprotocol": "c"}, {"headers": [(b"X-Own", b"1\r\nSet-Cookie: a=b")]}):

            async def then(receive: Receive, send: Send, more: Event = more) -> None:
                await send({**ACCEPT, **more})

            async with serving(Kept(then, accepts=False)) as server:
                assert await refused(server, "Sec-WebSocket-Protocol: a, b") == (500, b"Internal Server Error")

    run(loop_kind, talk())
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ValueError, ValueError]


async def refused(server: uvicorn.Server, *headers: str, target: str = "/") -> tuple[int, bytes]:
    """(status, body) of the answer to an opening handshake."""
    head, body = await answered(server, handshake(*headers, target=target))
    return int(head.split()[1]), body


async def answered(server: uvicorn.Server, request: bytes) -> tuple[bytes, bytes]:
    async with connecting(port_of(server)) as client:
        await client.send(request)
        answer = await client.read_until_eof()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        (("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"), b"426"),
        (("Sec-WebSocket-Key: ", "Sec-WebSocket-Key: x"), b"400"),
        (("GET", "POST"), b"405"),
    ],
)
@both_loops
def test_requests_that_are_no_opening_handshake(loop_kind: str, wrong: tuple[str, str], status: bytes) -> None:
    """Refused before there is an application to ask."""

    async def talk() -> None:
        app = Kept()
        async with serving(app) as server:
            head, _ = await answered(server, handshake().replace(wrong[0].encode(), wrong[1].encode()))
        assert head.split()[1] == status
        assert not app.scope

    run(loop_kind, talk())


@both_loops
def test_denial(loop_kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A close before accepting is 403; the extension sends any response, in pieces too, with its length."""
    caplog.set_level(logging.INFO)

    async def close(_receive: Receive, send: Send) -> None:
        await send({"type": "websocket.close"})

    async def respond(_receive: Receive, send: Send) -> None:
        await send({"type": "websocket.http.response.start", "status": 418, "headers": [(b"X-Own", b"1")]})
        await send({"type": "websocket.http.response.body", "body": b"a ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"teapot"})

    async def talk() -> None:
        async with serving(Kept(close, accepts=False)) as server:
            assert await refused(server, target="/path?a=b") == (403, b"")
        async with serving(Kept(respond, accepts=False)) as server:
            head, body = await answered(server, handshake())
            assert (head.split(b"\r\n")[0], body) == (b"HTTP/1.1 418 I'm a Teapot", b"a teapot")
            assert {b"X-Own: 1", b"Content-Length: 8", b"Connection: close"} <= set(head.split(b"\r\n"))

    run(loop_kind, talk())
    lines = [record.getMessage() for record in caplog.records if '"WebSocket' in record.getMessage()]
    assert [line.partition(" - ")[2] for line in lines] == ['"WebSocket /path?a=b" 403', '"WebSocket /" 418']


@both_loops
def test_an_application_that_leaves_before_it_accepts(loop_kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_receive: Receive, _send: Send) -> None:
        raise LookupError("a fault of the application")

    async def leave(_receive: Receive, _send: Send) -> None:
        return

    async def talk() -> None:
        for then in (fail, leave):
            async with serving(Kept(then, accepts=False)) as server:
                assert await refused(server) == (500, b"Internal Server Error")

    run(loop_kind, talk())
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in errors] == [
        "Exception in ASGI application\n",
        "ASGI callable returned without completing handshake.",
    ]
    assert errors[0].exc_info


@both_loops
def test_the_peer_goes_before_it_is_accepted(loop_kind: str) -> None:
    seen: list[object] = []

    async def wait(receive: Receive, send: Send) -> None:
        seen.append(await receive())
        try:
            await send(ACCEPT)
        except ClientDisconnected as error:
            seen.append(type(error))

    async def talk() -> None:
        async with serving(Kept(wait, accepts=False)) as server, connecting(port_of(server)) as client:
            await client.send(handshake())
            await until(lambda: bool(server.server_state.tasks))
            client.reset()
            await until(lambda: len(seen) == 2)

    run(loop_kind, talk())
    assert seen == [{"type": "websocket.disconnect", "code": 1006}, ClientDisconnected]


# -- The end ----------------------------------------------------------------------------------------------------------


@both_loops
def test_an_application_that_fails_or_returns(loop_kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """After it has accepted, the peer is told by a Close frame, behind what was sent before."""

    async def fail(_receive: Receive, send: Send) -> None:
        await send({"type": "websocket.send", "text": "before"})
        raise LookupError("a fault of the application")

    async def give(_receive: Receive, send: Send) -> int:
        await send({"type": "websocket.send", "text": "before"})
        return 123

    async def talk() -> None:
        for then, code in ((fail, 1011), (give, 1000)):
            async with serving(Kept(then)) as server, upgraded(port_of(server)) as client:
                assert (await client.read_frame()).payload == b"before"
                assert await client.read_close() == (code, "")

    run(loop_kind, talk())
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors == ["Exception in ASGI application\n", "ASGI callable should return None, but returned '123'."]


@both_loops
def test_the_application_closes(loop_kind: str) -> None:
    """The transport stays until the peer has answered; what is sent after that is an error of the application."""
    errors: list[str] = []
    after: list[Event] = []

    async def close(receive: Receive, send: Send) -> None:
        await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
        after.extend([await receive(), await receive()])
        for kind in ("websocket.send", "websocket.close"):
            try:
                await send({"type": kind, "text": "late"})
            except RuntimeError as error:
                errors.append(str(error))

    async def talk() -> None:
        async with serving(Kept(close)) as server, upgraded(port_of(server)) as client:
            assert await client.read_close() == (4001, "enough")
            await client.send(masked(Opcode.TEXT, b"on its way") + masked_close(4001))
            assert not await client.read_until_eof()

    run(loop_kind, talk())
    assert after == [{"type": "websocket.disconnect", "code": 4001, "reason": "enough"}] * 2
    assert errors == [
        f"Unexpected ASGI message '{kind}', after sending 'websocket.close'."
        for kind in ("websocket.send", "websocket.close")
    ]


@both_loops
def test_a_peer_that_does_not_answer_a_close_frame_is_dropped(loop_kind: str) -> None:
    async def close(receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.close"})

    async def talk() -> None:
        async with serving(Kept(close)) as server, upgraded(port_of(server)) as client:
            protocol_of(server).close_timeout = 0.05
            await client.send(masked(Opcode.TEXT, b"now"))
            assert await client.read_close() == (1000, "")
            assert not await client.read_until_eof()

    run(loop_kind, talk())


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (masked(Opcode.TEXT, b"\xff"), 1007),
        (masked(3), 1002),
        (b"\x82\x01a", 1002),
        (masked(Opcode.BINARY, bytes(1001)), 1009),
        (masked_close(1001), 1001),
        (masked(Opcode.CLOSE), 1005),
        (b"", 1005),  # gone, without a word
    ],
)
@both_loops
def test_how_it_ended(loop_kind: str, sent: bytes, code: int) -> None:
    """The application gets what came before, and the code; the peer gets the code, where there may be one."""

    async def talk() -> None:
        app = Kept()
        async with serving(app, ws_max_size=1000) as server, upgraded(port_of(server)) as client:
            await client.send(masked(Opcode.TEXT, b"before") + sent)
            if sent:
                answer = await client.read_frame()
                assert answer.payload[:2] == (b"" if code == 1005 else struct.pack("!H", code))
            else:
                client.writer.write_eof()
            await client.read_until_eof()
            await until(lambda: not server.server_state.tasks)
        assert app.events[0] == {"type": "websocket.receive", "text": "before"}
        assert (app.events[-1]["type"], app.events[-1]["code"], len(app.events)) == ("websocket.disconnect", code, 2)

    run(loop_kind, talk())


@both_loops
def test_a_compressed_message_that_is_too_big(loop_kind: str) -> None:
    async def talk() -> None:
        app = Kept()
        async with serving(app, ws_max_size=1000) as server, connect(url_of(server)) as client:
            await client.send(bytes(1000))
            await client.send(bytes(1001))
            await client.wait_closed()
            assert client.close_code == 1009
        assert [event.get("code", len(event.get("bytes", b""))) for event in app.events] == [1000, 1009]

    run(loop_kind, talk())


@both_loops
def test_sending_to_who_has_closed(loop_kind: str) -> None:
    """An application that only sends learns of it, whether it ever receives or not."""
    outcome: list[type[BaseException]] = []

    async def pour(_receive: Receive, send: Send) -> None:
        try:
            while True:
                await send({"type": "websocket.send", "bytes": b"x" * 1000})
                await asyncio.sleep(0)
        except OSError as error:
            outcome.append(type(error))
            raise

    async def talk() -> None:
        async with serving(Kept(pour)) as server:
            async with connect(url_of(server)) as client:
                await client.recv()
            async with upgraded(port_of(server)) as raw:
                raw.reset()
            await until(lambda: len(outcome) == 2)

    run(loop_kind, talk())
    assert outcome == [ClientDisconnected] * 2


@both_loops
def test_keepalive(loop_kind: str) -> None:
    """Pings are sent, and who answers none of them is dropped, with the reason."""

    async def talk() -> None:
        app = Kept()
        async with (
            serving(app, ws_ping_interval=0.05, ws_ping_timeout=0.1) as server,
            upgraded(port_of(server)) as client,
        ):
            frames = await client.read_frames()
            assert [frame.opcode for frame in frames] == [Opcode.PING, Opcode.CLOSE]
            assert close_of(frames[-1]) == (1011, "keepalive ping timeout")
            await until(lambda: not server.server_state.tasks)
        assert app.events == [{"type": "websocket.disconnect", "code": 1005}]

    run(loop_kind, talk())


@both_loops
def test_the_server_stops(loop_kind: str) -> None:
    """1012 for who is connected, and for the application; 500 for who was not accepted yet."""

    async def talk() -> None:
        app = Kept()
        pending = asyncio.Event()

        async def applications(scope: Event, receive: Receive, send: Send) -> None:
            if scope["path"] == "/pending":
                assert (await receive(), await receive())[1] == {"type": "websocket.disconnect", "code": 1006}
                pending.set()
            else:
                await app(scope, receive, send)

        async with (
            serving(applications) as server,
            upgraded(port_of(server)) as open_one,
            connecting(port_of(server)) as pending_one,
        ):
            await pending_one.send(handshake(target="/pending"))
            await until(lambda: len(server.server_state.tasks) == 2)
            server.should_exit = True
            assert await open_one.read_close() == (1012, "")
            assert (await pending_one.read_until_eof()).startswith(b"HTTP/1.1 500 ")
            await pending.wait()
        assert app.events == [{"type": "websocket.disconnect", "code": 1012}]

    run(loop_kind, talk())


# -- Flow control -----------------------------------------------------------------------------------------------------


@both_loops
def test_a_slow_application_holds_up_its_peer(loop_kind: str) -> None:
    """What it does not take stays in the buffers of the system, but for 64 KiB and one read."""

    async def talk() -> None:
        go_on = asyncio.Event()

        async def wait(receive: Receive, _send: Send) -> None:
            await go_on.wait()
            for number in range(256):
                assert (await receive())["bytes"][0] == number

        async with serving(Kept(wait)) as server, upgraded(port_of(server)) as client:
            protocol = protocol_of(server)
            writing = asyncio.create_task(client.send(*(masked(Opcode.BINARY, bytes([n]) * 32768) for n in range(256))))
            await until(lambda: not protocol._is_reading)
            assert protocol.counters.bytes_received < 1024 * 1024
            go_on.set()
            await writing
            assert await client.read_close() == (1000, "")

    run(loop_kind, talk())


@both_loops
def test_a_slow_peer_holds_up_the_application(loop_kind: str) -> None:
    async def talk() -> None:
        sent = 0

        async def pour(_receive: Receive, send: Send) -> None:
            nonlocal sent
            for _ in range(512):
                await send({"type": "websocket.send", "bytes": bytes(65536)})
                sent += 1

        async with serving(Kept(pour)) as server, upgraded(port_of(server)) as client:
            protocol = protocol_of(server)
            transport = cast(asyncio.Transport, client.writer.transport)
            transport.pause_reading()
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.05)
            assert sent < 512
            assert protocol.buffered < MIB
            transport.resume_reading()
            assert [len((await client.read_frame()).payload) for _ in range(512)] == [65536] * 512
            assert await client.read_close() == (1000, "")
            await client.send(masked_close(1000))

    run(loop_kind, talk())


@both_loops
def test_a_receive_that_is_cancelled_loses_nothing(loop_kind: str) -> None:
    async def talk() -> None:
        async def impatient(receive: Receive, send: Send) -> None:
            for _ in range(3):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(receive(), 0.01)
            await send({"type": "websocket.send", "text": "now"})
            for number in range(100):
                while True:
                    try:
                        event = await asyncio.wait_for(receive(), 0.0005)
                    except asyncio.TimeoutError:
                        continue
                    break
                assert event["text"] == str(number)

        async with serving(Kept(impatient)) as server, upgraded(port_of(server)) as client:
            assert (await client.read_frame()).payload == b"now"
            for number in range(100):
                await client.send(masked(Opcode.TEXT, b"%d" % number))
                await asyncio.sleep(0.0005)
            assert await client.read_close() == (1000, "")

    run(loop_kind, talk())


# -- Applications that others write -----------------------------------------------------------------------------------


@both_loops
def test_starlette(loop_kind: str) -> None:
    async def greet(socket: Any) -> None:
        await socket.accept(subprotocol="json")
        await socket.send_json({"name": socket.path_params["name"], "echo": await socket.receive_json()})
        await socket.close(4000, "done")

    async def deny(socket: Any) -> None:
        await socket.send_denial_response(JSONResponse({"why": "closed"}, status_code=503))

    async def talk() -> None:
        app = Starlette(routes=[WebSocketRoute("/greet/{name}", greet), WebSocketRoute("/deny", deny)])
        async with serving(app) as server:
            async with connect(url_of(server, "/greet/you"), subprotocols=[websockets.Subprotocol("json")]) as client:
                await client.send("[1, 2]")
                assert await client.recv() == '{"name":"you","echo":[1,2]}'
                await client.wait_closed()
                assert (client.close_code, client.close_reason) == (4000, "done")
            assert await refused(server, target="/deny") == (503, b'{"why":"closed"}')
            assert await refused(server, target="/unknown") == (403, b"")

    run(loop_kind, talk())


@both_loops
def test_fastapi(loop_kind: str) -> None:
    app = FastAPI()
    ended: list[int] = []

    @app.websocket("/rooms/{room}")
    async def room(socket: WebSocket, room: int) -> None:
        await socket.accept()
        try:
            async for text in socket.iter_text():
                await socket.send_text(f"{room}: {text}")
            await socket.receive_text()
        except (WebSocketDisconnect, RuntimeError):
            ended.append(room)

    async def talk() -> None:
        async with serving(app) as server:
            async with connect(url_of(server, "/rooms/7")) as client:
                await client.send("häh")
                assert await client.recv() == "7: häh"
            await until(lambda: ended == [7])
            assert (await refused(server, target="/rooms/none"))[0] == 403

    run(loop_kind, talk())


def test_the_names_of_the_command_line() -> None:
    """`--ws wslowlevel.uvicorn:WebSocketProtocol` leads here."""
    config = uvicorn.Config(echo, ws="wslowlevel.uvicorn:WebSocketProtocol")
    config.load()
    assert cast(object, config.ws_protocol_class) is WebSocketProtocol


# -- The request head -------------------------------------------------------------------------------------------------


@both_parsers
@both_loops
def test_key_with_pad_bits_is_accepted(loop_kind: str, http: str) -> None:
    async def talk() -> None:
        async with serving(Kept(), http=http) as server:
            request = handshake().replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"AQIDBAUGBwgJCgsMDQ4PEC==")
            async with connecting(port_of(server)) as client:
                await client.send(request)
                assert (await client.reader.readline()).startswith(b"HTTP/1.1 101 ")

    run(loop_kind, talk())


@pytest.mark.parametrize(
    ("http", "change", "status"),
    [
        ("h11", (b"\r\n", b"\n"), b"101"),
        ("h11", (b"Host: ", b"Host:\r\n "), b"101"),
        ("h11", (b"Host: ", b"Host : "), b"400"),
        ("h11", (b"Host: ", b"X: a\0b\r\nHost: "), b"400"),
        ("httptools", (b"\r\n", b"\n"), b"400"),
        ("httptools", (b"Host: ", b"Host:\r\n "), b"400"),
        ("httptools", (b"Host: ", b"Host : "), b"400"),
        ("httptools", (b"Host: ", b"X: a\0b\r\nHost: "), b"400"),
    ],
)
def test_syntax_of_a_request_is_judged_by_the_parser_of_uvicorn(
    http: str, change: tuple[bytes, bytes], status: bytes
) -> None:
    """The head that uvicorn passes on is written by uvicorn, so bare line feeds and folds cannot be seen in it."""

    async def talk() -> None:
        async with serving(Kept(), http=http) as server, connecting(port_of(server)) as client:
            await client.send(handshake().replace(*change))
            assert (await client.reader.readline()).split()[1] == status

    run("asyncio", talk())


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("limit", [None, 8 * 1024, 128 * 1024])
@both_parsers
def test_header_line_limit_follows_the_setting_of_uvicorn(http: str, limit: int | None, extra: int) -> None:
    line = 32 * 1024 if limit is None else limit - 1024
    options = {} if limit is None else {"h11_max_incomplete_event_size": limit}
    filler = "y" * (line - len("cookie: ") + extra)

    async def talk() -> bytes:
        async with serving(Kept(), http=http, **options) as server, connecting(port_of(server)) as client:
            await client.send(handshake(f"Cookie: {filler}"))
            head = await client.reader.readuntil(b"\r\n\r\n")
            return head if head.startswith(b"HTTP/1.1 101 ") else head + await client.read_until_eof()

    answer = run("asyncio", talk())
    if limit is None and extra:
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"header line of over 32768 bytes: 32768 are allowed, raise h11_max_incomplete_event_size" in answer
    else:
        assert answer.startswith(b"HTTP/1.1 101 ")


def test_head_over_the_setting_of_uvicorn_is_refused() -> None:
    async def talk() -> None:
        async with serving(Kept(), http="httptools", h11_max_incomplete_event_size=1000) as server:
            head, body = await answered(server, handshake("Cookie: " + "y" * 1000))
            assert head.split()[1] == b"431"
            assert b"1000 are allowed, raise h11_max_incomplete_event_size of uvicorn" in body

    run("asyncio", talk())


def test_header_count_limit_is_set_by_a_subclass(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk() -> None:
        async with serving(Kept()) as server:
            head, body = await answered(server, handshake(*["X: y"] * 200))
            assert head.split()[1] == b"431"
            assert b"128 are allowed, raise max_headers of the protocol class" in body
            monkeypatch.setattr(WebSocketProtocol, "max_headers", 300)
            async with connecting(port_of(server)) as client:
                await client.send(handshake(*["X: y"] * 200))
                assert (await client.reader.readline()).startswith(b"HTTP/1.1 101 ")

    run("asyncio", talk())


# -- The log ----------------------------------------------------------------------------------------------------------


@both_parsers
@both_loops
@pytest.mark.parametrize(
    ("name", "value", "outcome"),
    [
        ("Sec-WebSocket-Version", "99", "426: Sec-WebSocket-Version must be 13"),
        ("Sec-WebSocket-Key", "short", "400: Sec-WebSocket-Key must be 16 bytes"),
        ("Cookie", "s3cr3t" * 7_000, "431: header line of over 32768 bytes"),
    ],
)
def test_a_refused_upgrade_is_logged_with_its_reason(
    loop_kind: str, http: str, name: str, value: str, outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lines = [
        line for line in handshake(target="/chat?token=s3cr3t").split(b"\r\n") if not line.startswith(name.encode())
    ]
    request = b"\r\n".join([lines[0], f"{name}: {value}".encode(), *lines[1:]])

    async def talk() -> None:
        async with serving(echo, http=http) as server:
            head, _ = await answered(server, request)
            assert head.startswith(f"HTTP/1.1 {outcome[:3]} ".encode())

    run(loop_kind, talk())
    (line,) = [record.getMessage() for record in caplog.records if '"WebSocket' in record.getMessage()]
    assert f'"WebSocket /chat" {outcome}' in line
    assert line.startswith("127.0.0.1:")
    assert "s3cr3t" not in caplog.text


@both_loops
def test_a_connection_is_logged_when_it_opens_and_closes(loop_kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def talk() -> None:
        async with serving(echo) as server, upgraded(port_of(server)) as client:
            await client.send(masked_close(1000))
            await client.read_frames()

    run(loop_kind, talk())
    lines = [record.getMessage() for record in caplog.records]
    lines = [line for line in lines if "connection" in line or '"WebSocket' in line]
    assert [line.partition(" - ")[2] or line for line in lines] == [
        '"WebSocket /" [accepted]',
        "connection open",
        "connection closed",
    ]
