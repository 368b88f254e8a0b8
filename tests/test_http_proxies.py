"""HTTP proxies: headers for CONNECT, TLS to the proxy, and what a refusal says."""

from __future__ import annotations

import asyncio
import base64
import pickle
import ssl
import sys
from typing import Any

import pytest

from wslowlevel import (
    InvalidHandshake,
    ProxyRefused,
    WebSocketError,
    connect,
    get_messages_factory,
    send_message_factory,
)
from wslowlevel._version import USER_AGENT

from .proxies import proxying
from .scripted import Peer, accept, answering, nothing_left, scripted, silent
from .servers import both_loops, every_transport, run, serving
from .test_client import closed, echo
from .tls import client_tls, server_tls

http_and_https = pytest.mark.parametrize("scheme", ["http", "https"])


def through(scheme: str, port: int, userinfo: str = "") -> dict[str, Any]:
    """Return the arguments of `connect` for a proxy on this machine."""
    options: dict[str, Any] = {"proxy": f"{scheme}://{userinfo}localhost:{port}"}
    return options | {"proxy_ssl": client_tls()} if scheme == "https" else options


def skip_without_tls_over_tls(loop_kind: str) -> None:
    if loop_kind == "asyncio" and sys.version_info < (3, 11):
        pytest.skip("asyncio has TLS over TLS from CPython 3.11 on")


# -- TLS to the proxy -------------------------------------------------------------------------------------------------


@every_transport
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("credentials", [None, ("user", "p@ss")], ids=["open", "password"])
def test_messages_pass_through_a_proxy_over_tls(
    loop_kind: str, secure: bool, credentials: tuple[str, str] | None
) -> None:
    if secure:
        skip_without_tls_over_tls(loop_kind)

    async def main() -> None:
        async with (
            nothing_left(),
            serving(echo, ssl=server_tls() if secure else None) as server,
            proxying("https", credentials=credentials) as proxy,
        ):
            _, socket = await connect(
                f"ws{'s' if secure else ''}://localhost:{server.port}/",
                ssl=client_tls() if secure else None,
                local_addr=("127.0.0.2", 0),
                **through("https", proxy.port, "user:p%40ss@" if credentials else ""),
            )
            messages = get_messages_factory(socket)()
            for size in (5, 300_000):
                await send_message_factory(socket)(bytes(size))
                assert (await anext(messages)).payload == bytes(size)
            await closed(socket)
            assert socket.received == (1000, "")
            assert proxy.asked == [("localhost", server.port)]
            assert proxy.peers == ["127.0.0.2"]

    run(loop_kind, main())


@both_loops
def test_a_proxy_whose_certificate_is_not_trusted_gets_no_request(loop_kind: str) -> None:
    async def main() -> None:
        async with proxying("https") as proxy, nothing_left():
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect("ws://127.0.0.1:1/", proxy=f"https://user:pass@localhost:{proxy.port}")
            assert proxy.headers == []

    run(loop_kind, main())


@both_loops
def test_a_connection_through_tls_over_tls_can_be_aborted(loop_kind: str) -> None:
    skip_without_tls_over_tls(loop_kind)

    async def main() -> None:
        async with nothing_left(), serving(echo, ssl=server_tls()) as server, proxying("https") as proxy:
            _, socket = await connect(
                f"wss://localhost:{server.port}/", ssl=client_tls(), **through("https", proxy.port)
            )
            socket.abort()
            await socket.wait_closed()

    run(loop_kind, main())


@both_loops
def test_a_server_behind_a_proxy_over_tls_needs_a_trusted_certificate(loop_kind: str) -> None:
    skip_without_tls_over_tls(loop_kind)

    async def main() -> None:
        async with nothing_left(), serving(echo, ssl=server_tls()) as server, proxying("https") as proxy:
            with pytest.raises(ssl.SSLCertVerificationError, match=r"other\.example"):
                await connect(f"wss://other.example:{server.port}/", ssl=client_tls(), **through("https", proxy.port))

    run(loop_kind, main())


@both_loops
def test_a_proxy_that_does_not_speak_tls_says_to_use_http(loop_kind: str) -> None:
    async def main() -> None:
        async with nothing_left(), scripted(silent, reads_request=False) as server:
            server_answers = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            async with scripted(server_answers, reads_request=False) as proxy:
                with pytest.raises(ssl.SSLError, match=f"proxy localhost:{proxy.port} does not speak TLS: use http://"):
                    await connect(server.url, **through("https", proxy.port))

    run(loop_kind, main())


@both_loops
@pytest.mark.parametrize("end", ["timeout", "cancel"])
@pytest.mark.parametrize("stage", ["handshake", "answer", "inner handshake"])
def test_a_silent_proxy_over_tls_leaves_nothing_behind(loop_kind: str, stage: str, end: str) -> None:
    if stage == "inner handshake":
        skip_without_tls_over_tls(loop_kind)

    async def main() -> None:
        script = answering(b"HTTP/1.1 200 OK\r\n\r\n") if stage == "inner handshake" else silent
        tls = None if stage == "handshake" else server_tls()
        async with nothing_left(), scripted(script, reads_request=stage != "handshake", ssl=tls) as proxy:
            opening = connect(
                "wss://localhost/", open_timeout=0.2 if end == "timeout" else None, **through("https", proxy.port)
            )
            if end == "timeout":
                with pytest.raises(TimeoutError, match=r"within 0\.2 seconds"):
                    await opening
                return
            task = asyncio.create_task(opening)
            await proxy.waiting.wait()
            await asyncio.sleep(0.02)  # in which the answer arrives
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(loop_kind, main())


def test_tls_over_tls_that_the_loop_does_not_have_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with asyncio of CPython 3.10."""
    transport = "asyncio.sslproto._SSLProtocolTransport._start_tls_compatible"
    monkeypatch.setattr(transport, False, raising=False)

    async def main() -> None:
        async with nothing_left(), serving(echo, ssl=server_tls()) as server, proxying("https") as proxy:
            with pytest.raises(NotImplementedError, match=r"TLS over TLS.*use CPython 3\.11 or later, uvloop"):
                await connect(f"wss://localhost:{server.port}/", ssl=client_tls(), **through("https", proxy.port))

    run("asyncio", main())


# -- Headers ----------------------------------------------------------------------------------------------------------


@both_loops
@http_and_https
def test_headers_for_the_proxy_reach_the_proxy_only(loop_kind: str, scheme: str) -> None:
    async def main() -> None:
        async with scripted(accept) as server, proxying(scheme) as proxy:
            _, socket = await connect(
                server.url,
                headers={"X-Server": "1"},
                proxy_headers={"X-Proxy": "2", "proxy-authorization": "Bearer x"},
                **through(scheme, proxy.port, "user:pass@"),
            )
            (sent,) = proxy.headers
            assert (sent["X-Proxy"], sent.get_all("Proxy-Authorization")) == ("2", ["Bearer x"])
            assert sent["User-Agent"] == USER_AGENT
            assert "X-Server" not in sent
            (request,) = server.requests
            assert request.headers["X-Server"] == "1"
            assert not {"x-proxy", "proxy-authorization"} & set(request.headers)
            socket.abort()

    run(loop_kind, main())


@pytest.mark.parametrize(
    ("options", "to_proxy", "to_server"),
    [
        ({}, USER_AGENT, USER_AGENT),
        ({"user_agent": "mine/1"}, "mine/1", "mine/1"),
        ({"user_agent": None}, None, None),
        ({"headers": ["user-agent: mine/1"]}, USER_AGENT, "mine/1"),
        ({"proxy_headers": ["user-agent: mine/1"]}, "mine/1", USER_AGENT),
        ({"user_agent": None, "headers": {"User-Agent": "mine/1"}}, None, "mine/1"),
    ],
)
def test_the_user_agent_may_be_replaced_and_removed(
    options: dict[str, Any], to_proxy: str | None, to_server: str | None
) -> None:
    async def main() -> None:
        async with scripted(accept) as server, proxying("http") as proxy:
            _, socket = await connect(server.url, **through("http", proxy.port), **options)
            assert proxy.headers[0].get("User-Agent") == to_proxy
            assert server.requests[0].headers.get("User-Agent") == to_server
            socket.abort()

    run("asyncio", main())


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        (
            {"proxy": "socks5://h:1", "proxy_headers": ["X: y"]},
            ValueError,
            "proxy_headers are for an http.* got socks5",
        ),
        ({"proxy_headers": ["X: y"]}, ValueError, "proxy_headers are for an http.* got no proxy"),
        ({"proxy": "http://h:1", "proxy_headers": ["X: a\r\n"]}, ValueError, "header value of X"),
        ({"proxy": "http://h:1", "proxy_headers": "X: y"}, TypeError, "headers must be a mapping"),
        (
            {"proxy": "http://h:1", "proxy_headers": ["Content-Length: 1"]},
            ValueError,
            "must not contain content-length",
        ),
        ({"proxy": "http://h:1", "proxy_ssl": client_tls}, TypeError, "proxy_ssl must be an SSLContext or None"),
        ({"proxy_ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}, ValueError, "proxy_ssl is for an https:// proxy"),
        (
            {"proxy": "http://h:1", "proxy_ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)},
            ValueError,
            "proxy_ssl is for an https:// proxy, got http://",
        ),
        ({"user_agent": b"x"}, TypeError, "user_agent must be str or None, got bytes"),
        ({"user_agent": ""}, ValueError, "user_agent must not be empty: pass None"),
        ({"user_agent": "x\n"}, ValueError, "header value of User-Agent"),
    ],
)
def test_arguments_for_a_proxy_that_do_not_fit_are_refused(
    options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    async def main() -> None:
        async with nothing_left():
            with pytest.raises(kind, match=text):
                await connect("ws://127.0.0.1:1/", **options)

    run("asyncio", main())


# -- Refusals ---------------------------------------------------------------------------------------------------------

REFUSAL = b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nVia: x\r\nContent-Length: %d\r\n\r\n"


@both_loops
@http_and_https
@pytest.mark.parametrize("length", [0, 5, 5000])
def test_a_refusal_of_the_proxy_has_status_headers_and_the_start_of_the_body(
    loop_kind: str, scheme: str, length: int
) -> None:
    async def main() -> None:
        answer = answering(REFUSAL % length + b"x" * length)
        tls = server_tls() if scheme == "https" else None
        async with nothing_left(), scripted(answer, ssl=tls) as proxy:
            with pytest.raises(
                ProxyRefused, match=r"does not connect to target\.example: it answered 407 Proxy"
            ) as caught:
                await connect("ws://target.example/", **through(scheme, proxy.port))
        error = caught.value
        assert isinstance(error, ConnectionError)
        assert isinstance(error, InvalidHandshake)
        assert isinstance(error, WebSocketError)
        assert (error.status, error.body) == (407, b"x" * min(length, 1024))
        assert error.headers[:2] == (("Proxy-Authenticate", "Basic"), ("Via", "x"))
        copy = pickle.loads(pickle.dumps(error))
        assert (str(copy), copy.status, copy.headers, copy.body) == (
            str(error),
            error.status,
            error.headers,
            error.body,
        )

    run(loop_kind, main())


@both_loops
@http_and_https
@pytest.mark.parametrize("end", ["timeout", "eof", "reset"])
def test_a_refusal_with_half_a_body_is_still_a_refusal(loop_kind: str, scheme: str, end: str) -> None:
    async def script(peer: Peer) -> None:
        peer.send(REFUSAL % 100 + b"half")
        await peer.writer.drain()
        await asyncio.sleep(0.05)
        if end == "eof":
            peer.writer.close()
        elif end == "reset":
            peer.reset()

    async def main() -> None:
        tls = server_tls() if scheme == "https" else None
        async with nothing_left(), scripted(script, ssl=tls) as proxy:
            with pytest.raises(ProxyRefused) as caught:
                await connect("ws://target.example/", open_timeout=0.5, **through(scheme, proxy.port))
            assert (caught.value.status, caught.value.body) == (407, b"half")

    run(loop_kind, main())


@both_loops
def test_a_refusal_of_a_socks_proxy_is_the_same_error_with_status_502(loop_kind: str) -> None:
    async def main() -> None:
        async with proxying("socks5", allows=False) as proxy:
            with pytest.raises(ProxyRefused, match="not allowed") as caught:
                await connect("ws://127.0.0.1:1/", proxy=f"socks5://127.0.0.1:{proxy.port}")
            assert (caught.value.status, caught.value.headers, caught.value.body) == (502, (), b"")

    run(loop_kind, main())


@both_loops
@http_and_https
def test_limits_on_the_head_hold_for_the_answer_of_a_proxy(loop_kind: str, scheme: str) -> None:
    async def main() -> None:
        tls = server_tls() if scheme == "https" else None
        answer = answering(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 97 + b"\r\n\r\n")
        async with nothing_left(), scripted(answer, ssl=tls) as proxy:
            with pytest.raises(ProxyRefused, match="a line of over 99 bytes: max_header_line"):
                await connect("ws://target.example/", max_header_line=99, **through(scheme, proxy.port))

    run(loop_kind, main())


def test_a_proxy_that_expects_tls_says_to_use_https() -> None:
    async def main() -> None:
        async with scripted(answering(b"\x15\x03\x01\x00\x02\x02\x46")) as proxy:
            with pytest.raises(ProxyRefused, match="use https:// for the proxy"):
                await connect("ws://target.example/", **through("http", proxy.port))

    run("asyncio", main())


def test_credentials_reach_a_proxy_over_tls() -> None:
    async def main() -> None:
        async with scripted(accept) as server, proxying("https", credentials=("user", "pass")) as proxy:
            _, socket = await connect(server.url, **through("https", proxy.port, "user:pass@"))
            expected = base64.b64encode(b"user:pass").decode()
            assert proxy.headers[0]["Proxy-Authorization"] == f"Basic {expected}"
            socket.abort()

    run("asyncio", main())
