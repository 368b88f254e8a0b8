"""The log of the client, `wslowlevel.client`, and that no secret is in it, in an error or in a repr."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from wslowlevel import (
    InvalidHandshake,
    Opcode,
    ProxyRefused,
    WebSocketError,
    connect,
    encode_frame,
    get_messages_factory,
    prepare_close_frame_payload,
)
from wslowlevel.aio.happy_eyeballs import Dialing
from wslowlevel.aio.opening import Offer, Opening
from wslowlevel.aio.proxies import Proxy
from wslowlevel.aio.routes import Route
from wslowlevel.uri import parse_proxy, parse_uri

from .proxies import proxying
from .scripted import Peer, Script, accept, answering, nothing_left, redirecting, refusal, scripted, silent
from .servers import both_loops, free_port, run, serving
from .test_client import closed, echo
from .test_uri import SECRET, shown_by

LOGGER = "wslowlevel.client"


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == LOGGER]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, LOGGER):
        yield caplog


@both_loops
def test_open_and_close_are_logged_with_path_code_and_duration(loop_kind: str, log: pytest.LogCaptureFixture) -> None:
    async def main() -> int:
        async with serving(echo) as server:
            _, socket = await connect(f"ws://user:pass@127.0.0.1:{server.port}/a/b?token=x")
            await closed(socket)
            await asyncio.sleep(0)
            return server.port

    port = run(loop_kind, main())
    opened, ended = lines_of(log)
    assert opened == f"open: 127.0.0.1:{port}, path /a/b"
    assert re.fullmatch(rf"closed: 127\.0\.0\.1:{port}, path /a/b, code 1000 after \d+\.\d{{3}} seconds", ended)
    assert {record.levelno for record in log.records if record.name == LOGGER} == {logging.INFO}


@both_loops
@pytest.mark.parametrize(("sends_close", "code"), [(True, 4001), (False, 1006)])
def test_the_close_code_of_the_log_is_that_of_the_peer(
    loop_kind: str, sends_close: bool, code: int, log: pytest.LogCaptureFixture
) -> None:
    async def script(peer: Peer) -> None:
        close = encode_frame(Opcode.CLOSE, prepare_close_frame_payload(4001, "bye")) if sends_close else b""
        peer.send(peer.switch(), close)
        peer.writer.write_eof()

    async def main() -> None:
        async with scripted(script) as server:
            _, socket = await connect(server.url)
            try:
                async for _ in get_messages_factory(socket)():
                    pass
            except WebSocketError:
                pass
            await socket.wait_closed()
            await asyncio.sleep(0)

    run(loop_kind, main())
    assert f"code {code} after" in lines_of(log)[-1]


@both_loops
def test_a_refusal_is_logged_with_its_status(loop_kind: str, log: pytest.LogCaptureFixture) -> None:
    async def main() -> int:
        async with scripted(answering(refusal(403, "Content-Length: 0"))) as server:
            with pytest.raises(InvalidHandshake):
                await connect(f"{server.url}a?token=x")
            return server.port

    port = run(loop_kind, main())
    (line,) = lines_of(log)
    assert line.startswith(f"refused: 127.0.0.1:{port}, path /a, status 403 Forbidden: ")


@both_loops
@pytest.mark.parametrize("failure", ["refused", "timeout", "proxy"])
def test_a_failed_attempt_is_logged_with_its_reason(
    loop_kind: str, failure: str, log: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with scripted(silent, reads_request=False) as server, proxying("http", allows=False) as proxy:
            port = free_port()
            uri = {"refused": f"ws://127.0.0.1:{port}/a?b", "timeout": f"{server.url}a?b", "proxy": "ws://[::1]:1/a?b"}
            options: dict[str, Any] = {"proxy": f"http://u:p@127.0.0.1:{proxy.port}"} if failure == "proxy" else {}
            with pytest.raises(OSError, match=r".") as caught:
                await connect(uri[failure], open_timeout=0.2, **options)
            assert isinstance(
                caught.value, {"refused": OSError, "timeout": TimeoutError, "proxy": ProxyRefused}[failure]
            )

    run(loop_kind, main())
    (line,) = lines_of(log)
    assert re.match(r"cannot connect: (127\.0\.0\.1:\d+|\[::1\]:1), path /a: \w+: .+", line)


def test_nothing_is_logged_when_the_level_is_off(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with serving(echo) as server:
            _, socket = await connect(f"ws://127.0.0.1:{server.port}/")
            callbacks = socket._closed._callbacks
            assert not callbacks
            await closed(socket)

    with caplog.at_level(logging.WARNING, LOGGER):
        run("asyncio", main())
    assert lines_of(caplog) == []


# -- Secrets ----------------------------------------------------------------------------------------------------------

HIDDEN: list[str | tuple[str, str]] = ["authorization: Bearer s3cr3t", ("Cookie", "id=s3cr3t")]
FAILING: dict[str, Script] = {
    "refusal": answering(refusal(401, "Content-Length: 0")),
    "wrong accept": answering(lambda peer: peer.switch(accept="x")),
    "nonsense": answering(b"SSH-2.0-OpenSSH\r\n\r\n"),
    "silence": silent,
    "redirect": redirecting({"/": f"http://user:{SECRET}@h/"}),
    "redirect with a slash": redirecting({"/": f"http://user:{SECRET}/x@h/"}),
    "redirect with brackets": redirecting({"/": f"http://user:[{SECRET}]@h/"}),
    "redirect with a fragment": redirecting({"/": f"http://user:{SECRET}#x@h/"}),
}


@both_loops
@pytest.mark.parametrize("case", FAILING)
def test_no_secret_is_in_an_error_or_log_line_of_a_failed_handshake(
    loop_kind: str, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with nothing_left(), scripted(FAILING[case]) as server:
            uri = f"ws://{SECRET}:{SECRET}@127.0.0.1:{server.port}/"
            headers = HIDDEN[1:] if case == "refusal" else HIDDEN
            with pytest.raises((WebSocketError, OSError)) as caught:
                await connect(uri, headers=headers, open_timeout=0.3, max_redirects=1)
            # The headers of an InvalidHandshake are the server's own, and attributes.
            assert SECRET not in shown_by(caught.value)

    asyncio_log = logging.getLogger("asyncio")
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, asyncio_log.name):
        run(loop_kind, main())
    assert lines_of(caplog)
    assert SECRET not in caplog.text


@both_loops
@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h"])
@pytest.mark.parametrize("failure", ["wrong password", "unreachable", "silent", "nonsense", "look-up"])
def test_no_secret_is_in_an_error_or_log_line_of_a_failed_proxy(
    loop_kind: str, scheme: str, failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        script = answering(b"\x05\x09nonsense\r\n\r\n") if failure == "nonsense" else silent
        async with (
            nothing_left(),
            scripted(script, reads_request=False) as server,
            proxying(scheme.removesuffix("h"), credentials=("user", "other")) as proxy,
        ):
            port = {"wrong password": proxy.port, "unreachable": free_port()}.get(failure, server.port)
            host = "nowhere.invalid" if failure == "look-up" else "127.0.0.1"
            with pytest.raises((WebSocketError, OSError)) as caught:
                await connect(
                    "ws://127.0.0.1:1/", proxy=f"{scheme}://{SECRET}:{SECRET}@{host}:{port}", open_timeout=0.5
                )
            assert SECRET not in shown_by(caught.value)

    with caplog.at_level(logging.DEBUG):
        run(loop_kind, main())
    assert lines_of(caplog)
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        {"uri": f"ws://user:{SECRET}/x@127.0.0.1:1/"},
        {"uri": f"http://user:{SECRET}@127.0.0.1:1/"},
        {"uri": f"ws://user:{SECRET}@127.0.0.1:1/#x"},
        {"uri": f"user:{SECRET}@127.0.0.1:1"},
        {"proxy": f"http://user:{SECRET}#x@127.0.0.1:1"},
        {"proxy": f"socks4://user:{SECRET}@127.0.0.1:1"},
        {"proxy": f"socks5://user:{SECRET}%C3%A4@127.0.0.1:1"},
        {"proxy": f"socks5://user:{SECRET * 50}@127.0.0.1:1"},
        {"proxy": f"http://user:{SECRET}@127.0.0.1:1", "path": "/x"},
        {"proxy": f"http://user:{SECRET}@127.0.0.1:1", "local_addr": 5},
        {"headers": [f"Cookie: {SECRET}\n"]},
        {"headers": {"Authorization": SECRET.encode()}},
        {"headers": [f"Authorization: {SECRET}", f"authorization: {SECRET}"]},
        {"headers": [f"Cookie {SECRET}"]},
        {"proxy": "http://127.0.0.1:1", "proxy_headers": [("Proxy-Authorization", f"{SECRET}\r\n")]},
        {"proxy_headers": [("Proxy-Authorization", SECRET)]},
        {"additional_headers": {"Authorization": SECRET}},
        {"cookie": SECRET},
    ],
)
def test_no_secret_is_in_the_error_of_a_wrong_argument(options: dict[str, Any]) -> None:
    async def main() -> None:
        with pytest.raises((TypeError, ValueError)) as caught:
            await connect(**{"uri": f"ws://user:{SECRET}@127.0.0.1:1/", **options})
        assert SECRET not in shown_by(caught.value)

    run("asyncio", main())


def test_no_repr_shows_a_secret() -> None:
    async def main() -> None:
        uri = parse_uri(f"ws://user:{SECRET}@h/")
        offer = Offer(uri, [("Cookie", SECRET)], (), ())
        proxy = Proxy(parse_proxy(f"http://{SECRET}:{SECRET}@h:1"), headers=[("X", SECRET)])
        route = Route(None, Dialing(), None, None, proxy, {"server_hostname": "h"})
        for each in (offer, proxy, route, Opening(offer, False, print)):  # type: ignore[arg-type]
            assert SECRET not in repr(each)
            assert "Basic" not in repr(each)

    run("asyncio", main())


@both_loops
def test_no_task_shows_the_arguments_of_connect(loop_kind: str) -> None:
    async def main() -> None:
        async with nothing_left(), scripted(silent) as server:
            task = asyncio.create_task(connect(f"ws://user:{SECRET}@127.0.0.1:{server.port}/", headers=[HIDDEN[1]]))
            await server.waiting.wait()
            assert SECRET not in str(asyncio.all_tasks())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(loop_kind, main())


@both_loops
def test_a_task_of_an_open_connection_shows_no_secret(loop_kind: str) -> None:
    async def main() -> None:
        async with scripted(accept) as server:
            task = asyncio.create_task(connect(f"ws://user:{SECRET}@127.0.0.1:{server.port}/", headers=[HIDDEN[1]]))
            _, socket = await task
            assert SECRET not in repr(task)
            socket.abort()

    run(loop_kind, main())
