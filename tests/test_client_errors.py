"""Mistakes of the caller of `connect`: the error names the remedy, and nothing is sent."""

from __future__ import annotations

import re
import socket as sockets
import ssl
from typing import Any

import pytest

from wslowlevel import ConnectionLost, InvalidHandshake, PerMessageDeflate, connect
from wslowlevel._version import USER_AGENT, __version__

from .scripted import accept, answering, nothing_left, refusal, scripted, silent
from .servers import both_loops, run, serving
from .test_client import echo
from .tls import client_tls, server_tls


def test_the_user_agent_names_the_versions_of_the_package_and_of_python() -> None:
    assert re.fullmatch(rf"wslowlevel/{re.escape(__version__)} Python/3\.\d+", USER_AGENT)


# -- Keywords ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("additional_headers", ": did you mean headers?"),
        ("extra_headers", ": did you mean headers?"),
        ("header", ": did you mean headers?"),
        ("compression", ": did you mean extensions=[PerMessageDeflate()]?"),
        ("max_size", ": did you mean get_messages_factory(max_in_memory_store_size=...)?"),
        ("timeout", ": did you mean open_timeout?"),
        ("ssl_context", ": did you mean ssl?"),
        ("subprotocol", ": did you mean subprotocols?"),
        ("ping_intervall", ": did you mean ping_interval?"),
        ("server_host_name", ": did you mean server_hostname?"),
        ("something_else_entirely", ""),
        ("options", ""),
    ],
)
def test_an_unknown_keyword_is_a_type_error_that_names_connect_and_a_known_one(name: str, remedy: str) -> None:
    async def main() -> None:
        options: dict[str, Any] = {name: None}
        with pytest.raises(TypeError) as caught:
            await connect("ws://127.0.0.1:1/", **options)
        assert str(caught.value) == f"connect() got an unexpected keyword argument '{name}'{remedy}"

    run("asyncio", main())


@both_loops
def test_options_of_create_connection_are_accepted(loop_kind: str) -> None:
    async def main() -> None:
        async with scripted(accept, ssl=server_tls()) as server:
            _, socket = await connect(
                f"wss://127.0.0.1:{server.port}/",
                ssl=client_tls(),
                server_hostname="localhost",
                ssl_handshake_timeout=10,
                family=sockets.AF_INET,
                proto=0,
                flags=0,
                interleave=1,
                happy_eyeballs_delay=0.1,
                all_errors=True,
            )
            socket.abort()

    run(loop_kind, main())


def test_options_of_tcp_do_not_fit_a_unix_socket() -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="family is for a connection over TCP, not for path"):
            await connect("ws://h/", path="/x", family=sockets.AF_INET)

    run("asyncio", main())


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"extensions": [PerMessageDeflate]}, TypeError, r"extensions .* pass PerMessageDeflate\(\)"),
        ({"extensions": PerMessageDeflate()}, TypeError, "extensions must be an iterable"),
        ({"max_header_line": 0}, ValueError, "max_header_line must be 1 or more, got 0"),
        ({"max_headers": None}, TypeError, "max_headers must be an integer"),
        ({"max_head_size": "1"}, TypeError, "max_head_size must be an integer"),
        ({"happy_eyeballs_delay": 0}, ValueError, "happy_eyeballs_delay must be more than 0"),
        ({"happy_eyeballs_delay": "1"}, TypeError, "happy_eyeballs_delay must be a number of seconds or None"),
        ({"server_hostname": "h"}, ValueError, "server_hostname is for wss:// only, uri has ws://"),
        ({"local_addr": "127.0.0.1"}, TypeError, r"local_addr must be \(host, port\), got str"),
    ],
)
def test_an_argument_of_a_wrong_type_or_value_is_named(
    options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    async def main() -> None:
        async with nothing_left():
            with pytest.raises(kind, match=text):
                await connect("ws://127.0.0.1:1/", **options)

    run("asyncio", main())


@pytest.mark.parametrize(
    ("uri", "kind", "text"),
    [
        ("http://127.0.0.1:1/", ValueError, "use ws://"),
        ("https://127.0.0.1:1/", ValueError, "use wss://"),
        ("localhost:8765", ValueError, "start it with ws://"),
        ("localhost", ValueError, "start it with ws://"),
        (b"ws://127.0.0.1:1/", TypeError, "decode it first"),
        (None, TypeError, "pass text, like"),
    ],
)
def test_a_uri_that_is_none_names_the_remedy(uri: Any, kind: type[Exception], text: str) -> None:
    async def main() -> None:
        with pytest.raises(kind, match=f"uri .*{text}"):
            await connect(uri)

    run("asyncio", main())


# -- TLS on the wrong port --------------------------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH\r\n", b"\x05\xff", b""])
def test_wss_to_a_server_without_tls_says_to_use_ws(loop_kind: str, answer: bytes) -> None:
    async def main() -> None:
        async def script(peer: Any) -> None:
            await peer.reader.read(100)
            peer.send(answer)
            peer.writer.close()

        async with nothing_left(), scripted(script, reads_request=False) as server:
            with pytest.raises(OSError, match=f"127.0.0.1:{server.port} .*use ws://") as caught:
                await connect(f"wss://127.0.0.1:{server.port}/")
            assert isinstance(caught.value, ssl.SSLError if len(answer) > 5 else (ssl.SSLError, ConnectionError))

    run(loop_kind, main())


@both_loops
def test_ws_to_our_own_server_with_tls_says_to_use_wss(loop_kind: str) -> None:
    async def main() -> None:
        async with serving(echo, ssl=server_tls()) as server, nothing_left():
            with pytest.raises((ConnectionLost, InvalidHandshake), match="use wss://"):
                await connect(f"ws://127.0.0.1:{server.port}/")

    run(loop_kind, main())


@both_loops
def test_wss_to_our_own_server_without_tls_says_to_use_ws(loop_kind: str) -> None:
    async def main() -> None:
        async with serving(echo) as server, nothing_left():
            with pytest.raises(ssl.SSLError, match="does not speak TLS: use ws://"):
                await connect(f"wss://127.0.0.1:{server.port}/")

    run(loop_kind, main())


@both_loops
@pytest.mark.parametrize("record", [b"\x15\x03\x01\x00\x02\x02\x46", b"\x16\x03\x03\x00\x7a\x02"])
def test_an_answer_in_tls_says_to_use_wss(loop_kind: str, record: bytes) -> None:
    async def main() -> None:
        async with nothing_left(), scripted(answering(record)) as server:
            with pytest.raises(InvalidHandshake, match="it is TLS and not HTTP: use wss://"):
                await connect(server.url)

    run(loop_kind, main())


# -- Limits on the answer's head --------------------------------------------------------------------------------------


OVER: dict[str, tuple[int, list[str], list[str]]] = {
    "max_header_line": (100_000, ["X: " + "y" * 99_997], ["X: " + "y" * 99_998]),
    "max_headers": (200, ["X: y"] * 197, ["X: y"] * 201),
    "max_head_size": (200_000, ["X: " + "y" * 1000] * 190, ["X: " + "y" * 1000] * 200),
}
"""The lines of a good answer within a limit, to which it adds three, and those of a refusal beyond it."""


@both_loops
@pytest.mark.parametrize("name", OVER)
def test_an_answer_within_a_raised_limit_opens_and_beyond_it_names_the_limit(loop_kind: str, name: str) -> None:
    limit, within, beyond = OVER[name]

    async def main() -> None:
        limits: dict[str, Any] = {**dict.fromkeys(OVER, 1_000_000), name: limit}
        async with scripted(answering(lambda peer: peer.switch(*within))) as server:
            _, socket = await connect(server.url, **limits)
            socket.abort()
        async with nothing_left(), scripted(answering(refusal(400, *beyond))) as server:
            with pytest.raises(InvalidHandshake, match=f"over {limit} .*{name} allows no more") as caught:
                await connect(server.url, **limits)
            assert caught.value.status == 502

    run(loop_kind, main())


def test_a_silent_server_is_not_said_to_expect_tls() -> None:
    async def main() -> None:
        async with nothing_left(), scripted(silent) as server:
            with pytest.raises(TimeoutError) as caught:
                await connect(server.url, open_timeout=0.05)
            assert "wss" not in str(caught.value)

    run("asyncio", main())
