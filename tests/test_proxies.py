"""Connections through proxies: real ones, of both kinds."""

from __future__ import annotations

import asyncio
import ssl
import sys

import pytest

from wslowlevel import (
    InvalidHandshake,
    Opcode,
    get_messages_factory,
    prepare_websocket_frame,
    read_request,
    send_factory,
)
from wslowlevel.aio.client import connect

from .proxies import proxying
from .scripted import Peer, accept, answering, nothing_left, redirecting, refusal, scripted, silent
from .servers import both_loops, run, serving
from .test_client import closed, echo
from .tls import client_tls, server_tls

every_scheme = pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])


def kind_of(scheme: str) -> str:
    return scheme.removesuffix("h")


@both_loops
@every_scheme
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("credentials", [None, ("user", "p@ss:w")], ids=["open", "password"])
def test_through_a_proxy(loop_kind: str, scheme: str, secure: bool, credentials: tuple[str, str] | None) -> None:
    async def main() -> None:
        async with (
            nothing_left(),
            serving(echo, ssl=server_tls() if secure else None) as server,
            proxying(kind_of(scheme), credentials=credentials) as proxy,
        ):
            _, socket = await connect(
                f"ws{'s' if secure else ''}://localhost:{server.port}/",
                ssl=client_tls() if secure else None,
                proxy=f"{scheme}://{'user:p%40ss%3Aw@' if credentials else ''}127.0.0.1:{proxy.port}",
                local_addr=("127.0.0.2", 0),
            )
            await send_factory(socket)(prepare_websocket_frame(b"hello", is_utf8=True, mask_key=True))
            message = await anext(get_messages_factory(socket)())
            assert (message.opcode, message.payload) == (Opcode.TEXT, b"hello")
            await closed(socket)
            assert socket.received == (1000, "")
            ((host, port),) = proxy.asked
            assert (host in ("127.0.0.1", "::1"), port) == (scheme == "socks5", server.port)
            assert proxy.peers == ["127.0.0.2"]

    run(loop_kind, main())


def test_the_request_names_the_target() -> None:
    async def main() -> None:
        async with scripted(accept) as server, proxying("http") as proxy:
            uri = f"ws://target.example:{server.port}/a?b"
            _, socket = await connect(uri, proxy=f"http://user:pass@127.0.0.1:{proxy.port}")
            (request,) = server.requests
            assert (request.target, request.headers["Host"]) == ("/a?b", f"target.example:{server.port}")
            assert not {"authorization", "proxy-authorization"} & set(request.headers)
            socket.abort()

    run("asyncio", main())


@both_loops
@every_scheme
def test_redirects_go_through_the_proxy(loop_kind: str, scheme: str) -> None:
    async def main() -> None:
        hops: dict[str, str] = {}
        async with scripted(redirecting(hops)) as server, proxying(kind_of(scheme)) as proxy:
            hops["/"] = f"http://localhost:{server.port}/a"
            _, socket = await connect(server.url, proxy=f"{scheme}://127.0.0.1:{proxy.port}", max_redirects=1)
            assert len(proxy.asked) == 2
            socket.abort()

    run(loop_kind, main())


@both_loops
@every_scheme
@pytest.mark.parametrize("reason", ["not allowed", "wrong password", "no password"])
def test_a_proxy_that_refuses(loop_kind: str, scheme: str, reason: str) -> None:
    async def main() -> None:
        allows, user = reason != "not allowed", "user:wrong@" if reason == "wrong password" else ""
        credentials = ("user", "pass") if allows else None
        async with nothing_left(), proxying(kind_of(scheme), credentials=credentials, allows=allows) as proxy:
            with pytest.raises(ConnectionError, match=f"proxy 127.0.0.1:{proxy.port} does not connect to 127.0.0.1: "):
                await connect("ws://127.0.0.1:1/", proxy=f"{scheme}://{user}127.0.0.1:{proxy.port}")

    run(loop_kind, main())


@both_loops
@every_scheme
def test_a_proxy_that_cannot_connect(loop_kind: str, scheme: str) -> None:
    """This one ends the connection without a word."""

    async def main() -> None:
        async with nothing_left(), proxying(kind_of(scheme)) as proxy:
            with pytest.raises(ConnectionError):
                await connect("ws://127.0.0.1:1/", proxy=f"{scheme}://127.0.0.1:{proxy.port}")
            assert proxy.asked == [("127.0.0.1", 1)]

    run(loop_kind, main())


@both_loops
@every_scheme
def test_a_proxy_that_is_not_there(loop_kind: str, scheme: str) -> None:
    async def main() -> None:
        async with nothing_left():
            with pytest.raises(OSError, match=r"127\.0\.0\.1:1"):
                await connect("ws://127.0.0.1/", proxy=f"{scheme}://127.0.0.1:1")

    run(loop_kind, main())


@both_loops
@every_scheme
@pytest.mark.parametrize("end", ["timeout", "cancel"])
def test_a_proxy_that_says_nothing(loop_kind: str, scheme: str, end: str) -> None:
    async def main() -> None:
        async with nothing_left(), scripted(silent, reads_request=False) as proxy:
            opening = connect(
                "ws://127.0.0.1/",
                proxy=f"{scheme}://127.0.0.1:{proxy.port}",
                open_timeout=0.1 if end == "timeout" else None,
            )
            if end == "timeout":
                with pytest.raises(TimeoutError, match=r"within 0\.1 seconds"):
                    await opening
                return
            task = asyncio.create_task(opening)
            await proxy.waiting.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(loop_kind, main())


@both_loops
@every_scheme
@pytest.mark.parametrize("answer", [b"nonsense\r\n\r\n", b"", b"\x05", b"\x00" * 100, b"\xff" * 100_000])
def test_a_proxy_that_talks_nonsense(loop_kind: str, scheme: str, answer: bytes) -> None:
    async def main() -> None:
        async def script(peer: Peer) -> None:
            peer.send(answer)
            peer.writer.write_eof()

        async with nothing_left(), scripted(script, reads_request=False) as proxy:
            with pytest.raises(ConnectionError):
                await connect("ws://127.0.0.1/", proxy=f"{scheme}://127.0.0.1:{proxy.port}")

    run(loop_kind, main())


ANSWERS = {
    "plain": b"HTTP/1.1 200 Connection established\r\n\r\n",
    "old": b"HTTP/1.0 200 Connection established\r\nProxy-Agent: old\r\n\r\n",
    "after another": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 Fine\r\n\r\n",
    # "A client MUST ignore any Content-Length or Transfer-Encoding header fields" there (RFC 9110 §9.3.6)
    "with a length": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
    "with an encoding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
}


@both_loops
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_to_connect_may_come_in_any_pieces(loop_kind: str, answer: bytes) -> None:
    async def main() -> None:
        async def script(peer: Peer) -> None:
            assert peer.request.method == "CONNECT"
            for i in range(len(answer)):
                peer.send(answer[i : i + 1])
                await asyncio.sleep(0)
            peer.request = await read_request(peer.reader)
            peer.send(peer.switch())

        async with nothing_left(), scripted(script) as proxy:
            _, socket = await connect("ws://[::1]:8080/", proxy=f"http://user:@127.0.0.1:{proxy.port}")
            (request,) = proxy.requests
            assert (request.target, request.headers["Host"]) == ("[::1]:8080", "[::1]:8080")
            assert request.headers["Proxy-Authorization"] == "Basic dXNlcjo="
            socket.abort()

    run(loop_kind, main())


WRONG_ANSWERS = {
    "another status": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "malformed answer"),
    "the wrong password": (b"HTTP/1.1 407 No\r\n\r\n", "it answered 407 Proxy Authentication Required"),
    "half an answer": (b"HTTP/1.1 200 OK\r\n", "it ended the connection before it answered"),
    "more than an answer": (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 ", "more than its answer came"),
    "no end of it": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000, "over 128 header lines"),
}


@both_loops
@pytest.mark.parametrize(("answer", "why"), WRONG_ANSWERS.values(), ids=WRONG_ANSWERS)
def test_a_wrong_answer_to_connect(loop_kind: str, answer: bytes, why: str) -> None:
    async def main() -> None:
        async def script(peer: Peer) -> None:
            peer.send(answer)
            peer.writer.write_eof()

        async with nothing_left(), scripted(script) as proxy:
            with pytest.raises(ConnectionError, match=f"does not connect to 127.0.0.1: .*{why}"):
                await connect("ws://127.0.0.1/", proxy=f"http://127.0.0.1:{proxy.port}")

    run(loop_kind, main())


@both_loops
@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_tls_is_between_us_and_the_target(loop_kind: str, scheme: str) -> None:
    """A certificate is checked against the target's name; the proxy's is of no account."""

    async def main() -> None:
        async with nothing_left(), serving(echo, ssl=server_tls()) as server, proxying(kind_of(scheme)) as proxy:
            with pytest.raises(ssl.SSLCertVerificationError, match=r"other\.example"):
                await connect(
                    f"wss://other.example:{server.port}/",
                    ssl=client_tls(),
                    proxy=f"{scheme}://127.0.0.1:{proxy.port}",
                )

    run(loop_kind, main())


@both_loops
@every_scheme
def test_an_option_that_is_wrong(loop_kind: str, scheme: str) -> None:
    """The connection to the proxy is ended."""

    async def main() -> None:
        async with nothing_left(), scripted(silent, reads_request=False) as server, proxying(kind_of(scheme)) as proxy:
            with pytest.raises(ValueError, match="server_hostname"):
                await connect(server.url, proxy=f"{scheme}://127.0.0.1:{proxy.port}", server_hostname="name.example")

    run(loop_kind, main())


@both_loops
@every_scheme
def test_a_refusal_behind_a_proxy(loop_kind: str, scheme: str) -> None:
    async def main() -> None:
        answer = answering(refusal(403, "Content-Length: 2", body=b"no"))
        async with nothing_left(), scripted(answer) as server, proxying(kind_of(scheme)) as proxy:
            with pytest.raises(InvalidHandshake) as caught:
                await connect(server.url, proxy=f"{scheme}://127.0.0.1:{proxy.port}")
            assert (caught.value.status, caught.value.body) == (403, b"no")

    run(loop_kind, main())


def test_no_environment_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "ws_proxy", "all_proxy", "socks_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:1")

    async def main() -> None:
        async with serving(echo) as server:
            _, socket = await connect(f"ws://127.0.0.1:{server.port}/")
            await closed(socket)

    run("asyncio", main())


def test_the_optional_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_socks", None)

    async def main() -> None:
        async with nothing_left():
            with pytest.raises(ImportError, match=r"pip install wslowlevel\[proxy\]") as caught:
                await connect("ws://127.0.0.1:1/", proxy="socks5://127.0.0.1:1")
            assert caught.value.name == "python_socks"

    run("asyncio", main())
