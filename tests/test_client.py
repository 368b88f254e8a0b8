"""`connect`: what it sends, whom it believes, what it makes of hostile answers, and what it leaves behind."""

from __future__ import annotations

import asyncio
import socket as sockets
import ssl
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from wslowlevel import (
    ConnectionLost,
    InvalidHandshake,
    Message,
    Opcode,
    PerMessageDeflate,
    ProtocolError,
    Request,
    Socket,
    encode_frame,
    get_messages_factory,
    prepare_close_frame_payload,
    prepare_websocket_frame,
    send_factory,
    send_handshake,
    serve,
)
from wslowlevel.aio.client import connect
from wslowlevel.deflate import Deflate
from wslowlevel.extensions import Parameters

from .scripted import (
    Peer,
    Script,
    accept,
    answering,
    nothing_left,
    open_sockets,
    redirecting,
    refusal,
    scripted,
    silent,
)
from .servers import both_loops, close_of, run, serving, until
from .tls import client_tls, server_tls


async def echo(request: Request, socket: Socket, head: bytes) -> None:
    """A handler of our own server: every data message comes back."""
    await send_handshake(request, socket)
    send = send_factory(socket)
    async for message in get_messages_factory(socket, auto_pong=True)():
        if message.opcode in (Opcode.TEXT, Opcode.BINARY):
            await send(prepare_websocket_frame(message.payload, opcode=message.opcode))


async def closed(socket: Socket) -> None:
    """Close a connection, and wait until it is gone."""
    await asyncio.wait_for(socket.finish(), 10)


async def messages_of(socket: Socket, **options: Any) -> list[Message]:
    return [message async for message in get_messages_factory(socket, **options)()]


# -- What is sent -----------------------------------------------------------------------------------------------------


@both_loops
def test_a_conversation_with_our_own_server(loop_kind: str) -> None:
    async def main() -> None:
        async with serving(echo) as server:
            response, socket = await connect(f"ws://127.0.0.1:{server.port}/")
            assert (response.status, response.subprotocol) == (101, None)
            assert response.headers["upgrade"] == "websocket"
            assert (socket.role, socket.is_open, socket.extensions) == ("client", True, ())
            assert socket.get_extra_info("peername") == ("127.0.0.1", server.port)
            send = send_factory(socket)
            messages = get_messages_factory(socket)()
            for opcode, payload in [(Opcode.TEXT, "ü".encode()), (Opcode.BINARY, bytes(100_000)), (Opcode.TEXT, b"")]:
                await send(prepare_websocket_frame(payload, opcode=opcode, mask_key=True))
                message = await anext(messages)
                assert (message.opcode, message.payload, message.mask) == (opcode, payload, 0)
            await send(prepare_websocket_frame(b"p", opcode=Opcode.PING, mask_key=True))
            message = await anext(messages)
            assert (message.opcode, message.payload) == (Opcode.PONG, b"p")
            socket.close(4000, "done")
            assert [message.opcode async for message in messages] == [Opcode.CLOSE]
            await socket.wait_closed()
            assert (socket.sent, socket.received) == ((4000, "done"), (4000, "done"))

    run(loop_kind, main())


@both_loops
@pytest.mark.parametrize("where", ["inside", "at its end"])
def test_a_block_that_is_cancelled_drops_the_connection(loop_kind: str, where: str) -> None:
    """Not after a closing handshake that this server does not take part in."""

    async def main() -> None:
        async def block() -> None:
            async with socket:
                await asyncio.sleep(3600 if where == "inside" else 0)

        async with nothing_left(), scripted(accept) as server:
            _, socket = await connect(server.url, close_timeout=3600)
            task = asyncio.create_task(block())
            await asyncio.sleep(0) if where == "inside" else await until(lambda: socket.sent is not None)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await socket.wait_closed()

    run(loop_kind, main())


@both_loops
def test_what_the_server_is_asked(loop_kind: str) -> None:
    async def main() -> None:
        async with scripted(answering(lambda peer: peer.switch("Sec-WebSocket-Protocol: b"))) as server:
            response, socket = await connect(
                f"ws://us%65r:pass@127.0.0.1:{server.port}/a%20b?c=d",
                headers=["X-Name: 1", ("x-name", "2"), "Cookie: a=b"],
                subprotocols=["a", "b"],
                origin="https://example.com",
            )
            assert response.subprotocol == "b"
            (request,) = server.requests
            assert (request.method, request.target, request.http_version) == ("GET", "/a%20b?c=d", "1.1")
            assert request.headers["Host"] == f"127.0.0.1:{server.port}"
            assert request.headers["Origin"] == "https://example.com"
            assert request.headers["Authorization"] == "Basic dXNlcjpwYXNz"
            assert request.headers["Sec-WebSocket-Protocol"] == "a, b"
            assert request.headers.get_all("X-Name") == ["1", "2"]
            assert "Sec-WebSocket-Extensions" not in request.headers
            socket.abort()

    run(loop_kind, main())


def test_headers_in_place_of_what_the_uri_says() -> None:
    async def main() -> None:
        async with scripted(accept) as server:
            _, socket = await connect(
                f"ws://user:pass@127.0.0.1:{server.port}", headers=["host: other", "AUTHORIZATION: Bearer x"]
            )
            (request,) = server.requests
            assert request.headers.get_all("Host") == ["other"]
            assert request.headers.get_all("Authorization") == ["Bearer x"]
            assert request.target == "/"
            socket.abort()

    run("asyncio", main())


CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.mark.parametrize(
    ("uri", "options", "kind", "text"),
    [
        ("http://127.0.0.1:1/", {}, ValueError, "schemes ws, wss"),
        ("ws://127.0.0.1:1/#f", {}, ValueError, "fragment"),
        ("ws://127.0.0.1:1/a\r\nX: y", {}, ValueError, "control character"),
        ("ws://127.0.0.1\n:1/", {}, ValueError, "control character"),
        (b"ws://127.0.0.1:1/", {}, TypeError, "uri must be str"),
        ("ws://127.0.0.1:1/", {"headers": ["X: a\r\nY: b"]}, ValueError, "header value"),
        ("ws://127.0.0.1:1/", {"headers": ["Upgrade: h2c"]}, ValueError, "header upgrade is not the caller's"),
        ("ws://127.0.0.1:1/", {"headers": ["Sec-WebSocket-Key: x"]}, ValueError, "not the caller's"),
        ("ws://127.0.0.1:1/", {"headers": [("X", 5)]}, TypeError, "pair of strings"),
        ("ws://127.0.0.1:1/", {"origin": "a\x00b"}, ValueError, "header value"),
        ("ws://127.0.0.1:1/", {"origin": "a", "headers": ["Origin: b"]}, ValueError, "Origin may stand once"),
        ("ws://127.0.0.1:1/", {"subprotocols": ["a\nb"]}, ValueError, "distinct tokens"),
        ("ws://127.0.0.1:1/", {"subprotocols": "chat"}, TypeError, "not the string 'chat'"),
        ("ws://127.0.0.1:1/", {"ssl": CONTEXT}, ValueError, "wss:// only"),
        ("wss://127.0.0.1:1/", {"ssl": False}, TypeError, "ssl must be an SSLContext or None, not bool"),
        ("wss://127.0.0.1:1/", {"ssl": True}, TypeError, "ssl must be an SSLContext or None, not bool"),
        ("ws://127.0.0.1:1/", {"path": "/x", "proxy": "http://h:1"}, ValueError, "mutually exclusive"),
        ("ws://127.0.0.1:1/", {"path": "/x", "local_addr": ("127.0.0.1", 0)}, ValueError, "local_addr is for"),
        (
            "ws://127.0.0.1:1/",
            {"open_timeout": "1"},
            TypeError,
            "open_timeout must be a number of seconds or None, not",
        ),
        ("ws://127.0.0.1:1/", {"open_timeout": 0}, ValueError, "open_timeout must be more than 0 seconds, not 0"),
        ("ws://127.0.0.1:1/", {"close_timeout": "1"}, TypeError, "close_timeout must be a number of seconds, not str"),
        (
            "ws://127.0.0.1:1/",
            {"close_timeout": None},
            TypeError,
            "close_timeout must be a number of seconds, not None",
        ),
        ("ws://127.0.0.1:1/", {"proxy": "ftp://h:1"}, ValueError, "proxy must have one of the schemes"),
        ("ws://127.0.0.1:1/", {"max_redirects": -1}, ValueError, "max_redirects must be from 0 to 5, not -1"),
        ("ws://127.0.0.1:1/", {"max_redirects": 6}, ValueError, "max_redirects must be from 0 to 5, not 6"),
        ("ws://127.0.0.1:1/", {"ping_interval": 0}, ValueError, "ping_interval must be more than 0"),
        ("ws://127.0.0.1:1/", {"idle_timeout": "1"}, TypeError, "idle_timeout must be a number"),
    ],
)
def test_arguments_that_cannot_be(uri: Any, options: dict[str, Any], kind: type[Exception], text: str) -> None:
    """Nothing was tried: port 1 would have been an OSError."""

    async def main() -> None:
        async with nothing_left():
            with pytest.raises(kind, match=text):
                await connect(uri, **options)

    run("asyncio", main())


def test_a_socket_of_the_callers_is_not_redirected() -> None:
    async def main() -> None:
        with sockets.socket() as sock, pytest.raises(ValueError, match="max_redirects must be from 0 to 0, not 1"):
            await connect("ws://127.0.0.1:1/", sock=sock, max_redirects=1)

    run("asyncio", main())


# -- Ways to get there ------------------------------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_tls(loop_kind: str, host: str) -> None:
    async def main() -> None:
        async with nothing_left(), serving(echo, ssl=server_tls()) as server:
            _, socket = await connect(f"wss://{host}:{server.port}/", ssl=client_tls(), family=sockets.AF_INET)
            await send_factory(socket)(prepare_websocket_frame(bytes(100_000), mask_key=True))
            messages = get_messages_factory(socket)()
            assert (await anext(messages)).payload == bytes(100_000)
            await closed(socket)
            assert socket.received == (1000, "")

    run(loop_kind, main())


@both_loops
def test_a_certificate_that_nobody_vouches_for(loop_kind: str) -> None:
    """The default context, which knows the authorities of this system only."""

    async def main() -> None:
        async with serving(echo, ssl=server_tls()) as server, nothing_left():
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(f"wss://127.0.0.1:{server.port}/")

    run(loop_kind, main())


@both_loops
def test_a_certificate_for_another_host(loop_kind: str) -> None:
    async def main() -> None:
        async with serving(echo, ssl=server_tls()) as server, nothing_left():
            with pytest.raises(ssl.SSLCertVerificationError, match=r"other\.example"):
                await connect(f"wss://127.0.0.1:{server.port}/", ssl=client_tls(), server_hostname="other.example")

    run(loop_kind, main())


@both_loops
def test_a_unix_socket(loop_kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "ws")
        targets = []

        async def remember(request: Request, socket: Socket, head: bytes) -> None:
            targets.append((request.headers["Host"], request.target))
            await echo(request, socket, head)

        async with nothing_left(), serve(remember, path=path):
            _, socket = await connect("ws://name.example/a?b", path=path)
            await closed(socket)
            assert targets == [("name.example", "/a?b")]

    run(loop_kind, main())


@both_loops
def test_a_socket_of_the_callers(loop_kind: str) -> None:
    async def main() -> None:
        async with nothing_left(), serving(echo) as server:
            sock = sockets.create_connection(("127.0.0.1", server.port))
            _, socket = await connect("ws://name.example/", sock=sock)
            assert socket.get_extra_info("sockname") == sock.getsockname()
            await closed(socket)

    run(loop_kind, main())


@both_loops
def test_a_socket_of_the_callers_is_closed_when_connecting_fails(loop_kind: str) -> None:
    async def main() -> None:
        async with nothing_left(), scripted(answering(refusal(403, "Content-Length: 0"))) as server:
            sock = sockets.create_connection(("127.0.0.1", server.port))
            with pytest.raises(InvalidHandshake):
                await connect("ws://name.example/", sock=sock)
            assert sock.fileno() == -1

    run(loop_kind, main())


@both_loops
def test_a_socket_of_the_callers_is_closed_when_an_option_is_wrong(loop_kind: str) -> None:
    async def main() -> None:
        async with nothing_left(), scripted(silent, reads_request=False) as server:
            sock = sockets.create_connection(("127.0.0.1", server.port))
            with pytest.raises(ValueError, match="server_hostname"):
                await connect("ws://name.example/", sock=sock, server_hostname="name.example")
            assert sock.fileno() == -1

    run(loop_kind, main())


@both_loops
def test_a_local_address(loop_kind: str) -> None:
    async def main() -> None:
        async with serving(echo) as server:
            _, socket = await connect(f"ws://127.0.0.1:{server.port}/", local_addr=("127.0.0.2", 0))
            assert socket.get_extra_info("sockname")[0] == "127.0.0.2"
            await closed(socket)

    run(loop_kind, main())


@both_loops
def test_nobody_listens(loop_kind: str) -> None:
    async def main() -> None:
        with sockets.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            async with nothing_left():
                with pytest.raises(ConnectionRefusedError):
                    await connect(f"ws://127.0.0.1:{sock.getsockname()[1]}/")
                with pytest.raises(FileNotFoundError):
                    await connect("ws://localhost/", path="/nowhere/at/all")

    run(loop_kind, main())


# -- Between the answer and the first reader --------------------------------------------------------------------------

FRAMES = encode_frame(Opcode.TEXT, b"a") + encode_frame(Opcode.BINARY, bytes(70_000)) + encode_frame(Opcode.PING, b"p")
CLOSE = encode_frame(Opcode.CLOSE, prepare_close_frame_payload(4001, "bye"))
SENT = [(Opcode.TEXT, b"a"), (Opcode.BINARY, bytes(70_000)), (Opcode.PING, b"p"), (Opcode.CLOSE, b"\x0f\xa1bye")]


@both_loops
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("pieces", ["one", "two", "late", "bytes"])
def test_what_comes_right_behind_the_answer(loop_kind: str, secure: bool, pieces: str) -> None:
    """Nothing is lost, whether it comes with the answer or behind it, nor by the end of the stream after it."""

    async def script(peer: Peer) -> None:
        answer = peer.switch()
        if pieces == "one":
            peer.send(answer, FRAMES, CLOSE)
        elif pieces == "two":
            peer.send(answer)
            peer.send(FRAMES, CLOSE)
        elif pieces == "late":
            peer.send(answer)
            await asyncio.sleep(0.01)
            peer.send(FRAMES, CLOSE)
        else:
            for byte in answer + FRAMES[:10]:
                peer.send(bytes([byte]))
                await asyncio.sleep(0)
            peer.send(FRAMES[10:], CLOSE)
        peer.writer.close() if secure else peer.writer.write_eof()

    async def main() -> None:
        async with scripted(script, ssl=server_tls() if secure else None) as server:
            uri = f"wss://127.0.0.1:{server.port}" if secure else server.url
            _, socket = await connect(uri, ssl=client_tls() if secure else None)
            await server.waiting.wait()
            await asyncio.sleep(0.02)  # in which it arrives, and nobody reads
            messages = await messages_of(socket)
            assert [(message.opcode, message.payload) for message in messages] == SENT
            assert socket.received == (4001, "bye")

    run(loop_kind, main())


@both_loops
def test_a_connection_that_ends_right_behind_the_answer(loop_kind: str) -> None:
    async def script(peer: Peer) -> None:
        peer.send(peer.switch(), encode_frame(Opcode.TEXT, b"last"))
        peer.writer.write_eof()

    async def main() -> None:
        async with scripted(script) as server:
            _, socket = await connect(server.url)
            await server.waiting.wait()
            seen = []
            with pytest.raises(ConnectionLost):
                async for message in get_messages_factory(socket)():
                    seen.append(message.payload)
            assert seen == [b"last"]

    run(loop_kind, main())


@both_loops
def test_a_masked_frame_from_the_server(loop_kind: str) -> None:
    closes = []

    async def script(peer: Peer) -> None:
        peer.send(
            peer.switch(), encode_frame(Opcode.TEXT, b"good"), encode_frame(Opcode.TEXT, b"bad", mask_key=b"1234")
        )
        closes.append(close_of(await peer.read_frame()))

    async def main() -> None:
        async with scripted(script) as server:
            _, socket = await connect(server.url)
            messages = get_messages_factory(socket)()
            assert (await anext(messages)).text == "good"
            with pytest.raises(ProtocolError, match="frame from a server is masked"):
                await anext(messages)
        assert closes[0][0] == 1002

    run(loop_kind, main())


@both_loops
def test_the_server_ends_the_connection_first(loop_kind: str) -> None:
    """ "a client SHOULD wait for the server to close the connection" (RFC 6455 §7.1.1)."""
    let_go = asyncio.Event()

    async def script(peer: Peer) -> None:
        peer.send(peer.switch())
        assert close_of(await peer.read_frame()) == (1000, "")
        peer.send(encode_frame(Opcode.CLOSE, prepare_close_frame_payload(1000)))
        await let_go.wait()
        assert not peer.reader.at_eof()
        peer.writer.close()

    async def main() -> None:
        async with scripted(script) as server:
            _, socket = await connect(server.url)
            socket.close()
            assert [message.opcode for message in await messages_of(socket)] == [Opcode.CLOSE]
            await asyncio.sleep(0.02)  # in which nothing may happen
            let_go.set()
            await socket.wait_closed()

    run(loop_kind, main())


@both_loops
def test_a_server_that_never_ends_the_connection(loop_kind: str) -> None:
    async def main() -> None:
        async with scripted(accept) as server, nothing_left():
            _, socket = await connect(server.url, close_timeout=0.05)
            await socket.finish(1001)
            assert (socket.sent, socket.received) == ((1001, ""), None)

    run(loop_kind, main())


@both_loops
def test_keepalive(loop_kind: str) -> None:
    async def script(peer: Peer) -> None:
        peer.send(peer.switch())
        for _ in range(2):
            frame = await peer.read_frame()
            assert frame.opcode == Opcode.PING
            peer.send(encode_frame(Opcode.PONG, frame.payload))

    async def main() -> None:
        async with scripted(script) as server:
            _, socket = await connect(server.url, ping_interval=0.01, ping_timeout=0.5)
            with pytest.raises(ConnectionLost):  # for the third one is not answered
                await messages_of(socket)

    run(loop_kind, main())


@both_loops
def test_an_idle_connection(loop_kind: str) -> None:
    closes = []

    async def script(peer: Peer) -> None:
        peer.send(peer.switch())
        closes.append(close_of(await peer.read_frame()))
        peer.send(encode_frame(Opcode.CLOSE, prepare_close_frame_payload(1001)))
        peer.writer.close()

    async def main() -> None:
        async with scripted(script) as server:
            _, socket = await connect(server.url, idle_timeout=0.05)
            await messages_of(socket)
        assert closes[0][0] == 1001

    run(loop_kind, main())


# -- Answers that open nothing ----------------------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize(
    ("answer", "status", "text", "body"),
    [
        (lambda peer: peer.switch(accept="wrong"), 101, "does not answer the key", b""),
        (lambda peer: peer.switch("Sec-WebSocket-Accept: x"), 101, "does not answer the key", b""),
        (lambda peer: peer.switch().replace(b"Upgrade: websocket\r\n", b""), 101, "Upgrade must be websocket", b""),
        (lambda peer: peer.switch().replace(b"Connection: Upgrade\r\n", b""), 101, "token Upgrade", b""),
        (lambda peer: peer.switch().replace(b"Sec-WebSocket-Accept", b"X"), 101, "does not answer the key", b""),
        (lambda peer: peer.switch("Sec-WebSocket-Protocol: b"), 101, "chose subprotocol", b""),
        (lambda peer: peer.switch("Sec-WebSocket-Extensions: x"), 101, "chose extension x", b""),
        (lambda peer: peer.switch("Content-Length: 0").replace(b" 101 ", b" 200 "), 200, "server answered 200", b""),
        (refusal(200, "Content-Length: 5", body=b"hello"), 200, "server answered 200", b"hello"),
        (refusal(401, "WWW-Authenticate: Basic", "Content-Length: 2", body=b"no"), 401, "answered 401", b"no"),
        (refusal(503, "Content-Length: 5000", body=b"x" * 5000), 503, "answered 503", b"x" * 1024),
        (refusal(404, "Transfer-Encoding: chunked", body=b"2\r\nno\r\n0\r\n\r\n"), 404, "answered 404", b"no"),
        (refusal(302, "Location: /elsewhere", "Content-Length: 0"), 302, "answered 302", b""),
        (refusal(426, "Content-Length: 0"), 426, "answered 426", b""),
        (b"SSH-2.0-OpenSSH\r\n\r\n", 502, "malformed answer", b""),
        (refusal(101, "X: " + "y" * 33000), 502, "a line of over 32768 bytes", b""),
        (refusal(101, *["X: y"] * 129), 502, "over 128 header lines", b""),
        (b"HTTP/1.1 101 \r\n" + b"X: y\r\n" * 100_000, 502, "over 128 header lines", b""),
        (refusal(101, *["X: " + "y" * 8000] * 9), 502, "a head of over 65536 bytes", b""),
    ],
)
def test_an_answer_that_opens_nothing(
    loop_kind: str, answer: Callable[[Peer], bytes] | bytes, status: int, text: str, body: bytes
) -> None:
    async def main() -> None:
        async with nothing_left(), scripted(answering(answer)) as server:
            with pytest.raises(InvalidHandshake, match=text) as caught:
                await connect(server.url, open_timeout=None)
            assert (caught.value.status, caught.value.body) == (status, body)
            if status == 401:
                assert caught.value.headers == (("WWW-Authenticate", "Basic"), ("Content-Length", "2"))

    run(loop_kind, main())


@both_loops
@pytest.mark.parametrize("end", ["eof", "reset", "timeout"])
def test_a_body_that_is_not_complete(loop_kind: str, end: str) -> None:
    """What came of it is shown."""

    async def script(peer: Peer) -> None:
        peer.send(refusal(403, body=b"because"))
        await peer.writer.drain()
        if end == "eof":
            peer.writer.write_eof()
        elif end == "reset":
            await asyncio.sleep(0.02)
            peer.reset()

    async def main() -> None:
        async with nothing_left(), scripted(script) as server:
            with pytest.raises(InvalidHandshake) as caught:
                await connect(server.url, open_timeout=0.5 if end == "timeout" else None)
            assert (caught.value.status, caught.value.body) == (403, b"because")

    run(loop_kind, main())


@both_loops
@pytest.mark.parametrize("end", ["eof", "reset"])
@pytest.mark.parametrize("sent", [None, b"", b"HTTP/1.1 101 Switching", b"HTTP/1.1 100 \r\n\r\n", b"HTTP/1.1 200 \r\n"])
def test_a_connection_that_ends_before_the_answer(loop_kind: str, sent: bytes | None, end: str) -> None:
    """None: before the request was read."""

    async def script(peer: Peer) -> None:
        peer.send(sent or b"")
        await peer.writer.drain()
        peer.reset() if end == "reset" else peer.writer.write_eof()

    async def main() -> None:
        async with nothing_left(), scripted(script, reads_request=sent is not None) as server:
            with pytest.raises((ConnectionLost, ConnectionResetError)) as caught:
                await connect(server.url)
            if sent is not None:
                assert isinstance(caught.value, ConnectionLost)
                assert f"127.0.0.1:{server.port} ended the connection" in str(caught.value)
                assert (caught.value.code, caught.value.received, caught.value.sent) == (1006, None, None)
            if end == "reset" and isinstance(caught.value, ConnectionLost):
                assert isinstance(caught.value.__cause__, ConnectionResetError)

    run(loop_kind, main())


class Failing(PerMessageDeflate):
    """An extension with an error in it."""

    def confirm(self, answered: Parameters) -> Deflate:
        raise LookupError("not found")


@both_loops
def test_an_extension_that_fails(loop_kind: str) -> None:
    async def main() -> None:
        agree = answering(lambda peer: peer.switch("Sec-WebSocket-Extensions: permessage-deflate"))
        async with nothing_left(), scripted(agree) as server:
            with pytest.raises(LookupError, match="not found"):
                await connect(server.url, extensions=[Failing()])

    run(loop_kind, main())


# -- Time -------------------------------------------------------------------------------------------------------------


@contextmanager
def full_backlog() -> Iterator[int]:
    """The port of a listener that takes no more connections: whoever connects waits."""
    with sockets.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        try:
            while True:
                waiting.append(sockets.create_connection(listener.getsockname(), timeout=0.1))
        except TimeoutError:
            yield listener.getsockname()[1]
        finally:
            for each in waiting:
                each.close()


STAGES: dict[str, Script] = {
    "request": silent,
    "head": answering(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: web"),
    "before the head": answering(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": answering(refusal(500, body=b"half")),
    "redirect": answering(lambda peer: refusal(302, "Location: /b") if peer.request.target == "/" else b""),
}
"""How far a server comes that then says nothing more."""


@both_loops
@pytest.mark.parametrize("stage", STAGES)
def test_a_server_that_takes_too_long(loop_kind: str, stage: str) -> None:
    async def main() -> None:
        async with nothing_left(), scripted(STAGES[stage]) as server:
            if stage == "body":
                with pytest.raises(InvalidHandshake, match="server answered 500"):
                    await connect(server.url, open_timeout=0.5)
            else:
                with pytest.raises(TimeoutError, match=r"ws://127\.0\.0\.1:\d+ did not open .* within 0\.1 seconds"):
                    await connect(server.url, open_timeout=0.1, max_redirects=1)

    run(loop_kind, main())


@both_loops
@pytest.mark.parametrize("way", ["connect", "tls"])
def test_a_way_that_takes_too_long(loop_kind: str, way: str) -> None:
    async def main() -> None:
        async with nothing_left(), scripted(silent, reads_request=False) as server:
            with full_backlog() as port, pytest.raises(TimeoutError, match="did not open a connection within"):
                await connect(
                    f"ws://127.0.0.1:{port}/" if way == "connect" else f"wss://127.0.0.1:{server.port}/",
                    open_timeout=0.1,
                )

    run(loop_kind, main())


def test_time_is_counted_over_all_redirects() -> None:
    """Each hop is quick enough, all of them are not."""

    async def script(peer: Peer) -> None:
        await asyncio.sleep(0.15)
        peer.send(refusal(302, "Location: /"))

    async def main() -> None:
        async with scripted(script) as server:
            with pytest.raises(TimeoutError):
                await connect(server.url, open_timeout=0.4, max_redirects=5)

    run("asyncio", main())


@both_loops
@pytest.mark.parametrize("stage", STAGES)
def test_cancelled_while_the_server_says_nothing(loop_kind: str, stage: str) -> None:
    async def main() -> None:
        async with nothing_left(), scripted(STAGES[stage]) as server:
            task = asyncio.create_task(connect(server.url, max_redirects=1))
            await server.waiting.wait()
            if stage == "redirect":
                await until(lambda: len(server.requests) == 2)
            await asyncio.sleep(0.01)  # in which what it said arrives
            assert "Client._open" in str(asyncio.all_tasks())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert "Client._open" not in str(asyncio.all_tasks())

    run(loop_kind, main())


@both_loops
@pytest.mark.parametrize("way", ["look-up", "connect", "tls"])
def test_cancelled_on_the_way(loop_kind: str, way: str) -> None:
    async def main() -> None:
        async with nothing_left(), scripted(silent, reads_request=False) as server:
            with full_backlog() as port:
                number = open_sockets()
                if way == "tls":
                    task = asyncio.create_task(connect(f"wss://127.0.0.1:{server.port}/"))
                    await server.waiting.wait()
                elif way == "connect":
                    task = asyncio.create_task(connect(f"ws://127.0.0.1:{port}/"))
                    await until(lambda: open_sockets() > number)
                else:
                    task = asyncio.create_task(connect(f"ws://localhost:{port}/"))
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

    run(loop_kind, main())


@both_loops
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_cancelled_at_every_turn_of_the_loop(loop_kind: str, secure: bool) -> None:
    """After so many turns, until it comes to its end before it is cancelled."""

    async def main() -> None:
        async with serving(echo, ssl=server_tls() if secure else None) as server:
            uri = f"ws{'s' if secure else ''}://127.0.0.1:{server.port}/"
            turns, finished = 0, 0
            while finished < 10:
                async with nothing_left():
                    finished += await cancelled_after(turns, connect(uri, ssl=client_tls() if secure else None))
                    await until(lambda: server.connections == 0)
                turns += 1

    run(loop_kind, main())


async def cancelled_after(turns: int, opening: Coroutine[Any, Any, tuple[object, Socket]]) -> bool:
    """Cancel after so many turns of the loop; tell whether it was open before, and close it then."""
    task = asyncio.create_task(opening)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    try:
        _, socket = await task
    except asyncio.CancelledError:
        return False
    await closed(socket)
    return True


def test_cancelled_twice() -> None:
    """The second time while it clears up."""

    async def main() -> None:
        async with nothing_left(), scripted(silent) as server:
            task = asyncio.create_task(connect(server.url))
            await server.waiting.wait()
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run("asyncio", main())


def test_within_a_timeout_of_the_callers() -> None:
    async def main() -> None:
        async with nothing_left(), scripted(silent) as server:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(connect(server.url), 0.05)

    run("asyncio", main())


# -- Redirects --------------------------------------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_when_asked_to(loop_kind: str, status: int) -> None:
    async def main() -> None:
        hops = {"/": "/a/b?c", "/a/b?c": "../d#fragment", "/d": "?e"}
        async with nothing_left(), scripted(redirecting(hops, status)) as server:
            _, socket = await connect(
                f"ws://user:pass@127.0.0.1:{server.port}/", headers=["Cookie: a=b", "X: y", "Host: h"], max_redirects=3
            )
            assert [request.target for request in server.requests] == ["/", "/a/b?c", "/d", "/d?e"]
            assert len({request.headers["Sec-WebSocket-Key"] for request in server.requests}) == 4
            for request in server.requests:
                assert request.headers["Authorization"] == "Basic dXNlcjpwYXNz"
                assert (request.headers["Cookie"], request.headers["X"]) == ("a=b", "y")
                assert request.headers["Host"] == "h"
            socket.abort()

    run(loop_kind, main())


@pytest.mark.parametrize("given", ["uri", "header"])
def test_what_another_origin_is_not_told(given: str) -> None:
    """Nor the first one again, once it was left."""

    async def main() -> None:
        there: dict[str, str] = {}
        here: dict[str, str] = {}
        async with scripted(redirecting(there)) as other, scripted(redirecting(here)) as server:
            here["/"] = f"http://127.0.0.1:{other.port}/a"
            there["/a"] = f"http://127.0.0.1:{server.port}/b"
            private = ["Cookie: a=b", "proxy-authorization: x", "Host: h"]
            user, more = ("user:pass@", []) if given == "uri" else ("", ["authorization: Bearer x"])
            _, socket = await connect(
                f"ws://{user}127.0.0.1:{server.port}/", headers=[*private, *more, "X: y"], origin="o", max_redirects=2
            )
            first, last = server.requests
            (between,) = other.requests
            for request, port in [(between, other.port), (last, server.port)]:
                assert not {"Authorization", "Cookie", "Proxy-Authorization"} & set(map(str.title, request.headers))
                assert request.headers["Host"] == f"127.0.0.1:{port}"
                assert (request.headers["X"], request.headers["Origin"]) == ("y", "o")
            assert {"Authorization", "Cookie", "Proxy-Authorization"} <= set(map(str.title, first.headers))
            socket.abort()

    run("asyncio", main())


@pytest.mark.parametrize(
    ("locations", "redirects", "text", "requests"),
    [
        ({"/": "/"}, 5, "server answered 302", 6),
        ({"/": "/a", "/a": "/"}, 2, "server answered 302", 3),
        ({"/": "/a"}, 0, "server answered 302", 1),
        ({"/": "ftp://127.0.0.1/"}, 5, "redirect is not followed: uri must have one of the schemes", 1),
        ({"/": "http://127.0.0.1:99999/"}, 5, "redirect is not followed: uri must have a port", 1),
        ({"/": "http://user:pass@127.0.0.1/"}, 5, "redirect is not followed: Location has a user name", 1),
        ({"/": "/a b"}, 5, "redirect is not followed: Location has a space", 1),
    ],
)
def test_redirects_that_lead_nowhere(locations: dict[str, str], redirects: int, text: str, requests: int) -> None:
    async def main() -> None:
        async with nothing_left(), scripted(redirecting(locations)) as server:
            with pytest.raises(InvalidHandshake, match=text) as caught:
                await connect(server.url, max_redirects=redirects)
            assert caught.value.status == 302
            assert caught.value.headers[0] == ("Location", locations[server.requests[-1].target])
            assert len(server.requests) == requests

    run("asyncio", main())


def test_a_redirect_without_a_location() -> None:
    async def main() -> None:
        async with scripted(answering(refusal(302, "Content-Length: 2", body=b"eh"))) as server:
            with pytest.raises(InvalidHandshake, match="server answered 302") as caught:
                await connect(server.url, max_redirects=1)
            assert caught.value.body == b"eh"

    run("asyncio", main())


@both_loops
def test_redirects_never_leave_tls(loop_kind: str) -> None:
    async def main() -> None:
        hops: dict[str, str] = {}
        async with scripted(accept) as plain, scripted(redirecting(hops), ssl=server_tls()) as server:
            hops.update({"/": "/a", "/a": plain.url})
            with pytest.raises(InvalidHandshake, match=f"{plain.url[:-1]} is not secure, as wss://127.0.0.1"):
                await connect(f"wss://127.0.0.1:{server.port}/", ssl=client_tls(), max_redirects=5)
            assert (len(server.requests), plain.requests) == (2, [])

    run(loop_kind, main())


def test_a_redirect_to_tls() -> None:
    """With the default context, for there can be no other; here it finds that nobody vouches for the server."""

    async def main() -> None:
        hops: dict[str, str] = {}
        async with serving(echo, ssl=server_tls()) as secure, scripted(redirecting(hops)) as server:
            hops["/"] = f"https://127.0.0.1:{secure.port}/"
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(server.url, max_redirects=1)

    run("asyncio", main())


@both_loops
def test_redirects_behind_a_unix_socket(loop_kind: str, tmp_path: Path) -> None:
    """They stay behind it, for there is no other host to be found there."""
    locations = {"/": "/a", "/b": "ws://other.example/c"}
    asked = []

    async def redirect(request: Request, socket: Socket, head: bytes) -> None:
        asked.append(request.target)
        if request.target in locations:
            raise InvalidHandshake("elsewhere", 302, [("Location", locations[request.target])])
        await echo(request, socket, head)

    async def main() -> None:
        path = str(tmp_path / "ws")
        async with serve(redirect, path=path):
            _, socket = await connect("ws://name.example/", path=path, max_redirects=5)
            await closed(socket)
            with pytest.raises(InvalidHandshake, match=r"ws://other\.example is not behind path"):
                await connect("ws://name.example/b", path=path, max_redirects=5)
            assert asked == ["/", "/a", "/b"]

    run(loop_kind, main())


# -- A handler that is a client ---------------------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (refusal(401, "WWW-Authenticate: Basic", "Content-Length: 2", body=b"no"), 401),
        (refusal(403, "Transfer-Encoding: chunked", body=b"2\r\nno\r\n0\r\n\r\n"), 403),
        (refusal(503, "Content-Length: 5000", "Connection: keep-alive", body=b"x" * 5000), 503),
        (b"SSH-2.0-OpenSSH\r\n\r\n", 502),
        (refusal(101), 500),
    ],
)
def test_a_handler_that_lets_a_refusal_out(
    loop_kind: str, answer: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Its own client gets the answer that the other server gave, if it can be passed on."""

    async def main() -> None:
        async with scripted(answering(answer)) as behind:

            async def forward(request: Request, socket: Socket, head: bytes) -> None:
                await connect(behind.url)

            async with serving(forward) as server:
                with pytest.raises(InvalidHandshake) as caught:
                    await connect(f"ws://127.0.0.1:{server.port}/")
                assert caught.value.status == status
                assert (("WWW-Authenticate", "Basic") in caught.value.headers) == (status == 401)

    run(loop_kind, main())
    assert len(caplog.records) == (status == 500)
