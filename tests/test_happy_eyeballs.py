"""Connections to hosts with several addresses, some of which do not answer (RFC 8305)."""

from __future__ import annotations

import asyncio
import errno
import re
import socket as sockets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from wslowlevel import connect
from wslowlevel.aio.happy_eyeballs import AddressInfo, Dialing, connect_tcp, interleaved

from .proxies import proxying
from .scripted import accept, nothing_left, open_sockets, scripted, silent
from .servers import both_loops, every_transport, free_port, run, until
from .test_client import full_backlog

Address = tuple[str, int]


def info(address: Address, family: int = sockets.AF_INET) -> AddressInfo:
    return family, sockets.SOCK_STREAM, sockets.IPPROTO_TCP, "", address


@contextmanager
def resolving(**hosts: list[AddressInfo]) -> Iterator[list[dict[str, Any]]]:
    """Resolve names of hosts in the running loop -> the keyword arguments of each look-up."""
    loop: Any = asyncio.get_running_loop()
    original = loop.getaddrinfo
    asked: list[dict[str, Any]] = []

    async def getaddrinfo(host: str, port: int, **options: Any) -> list[AddressInfo]:
        if host not in hosts:
            return list(await original(host, port, **options))
        asked.append(options)
        return hosts[host]

    loop.getaddrinfo = getaddrinfo
    try:
        yield asked
    finally:
        del loop.getaddrinfo


@every_transport
@pytest.mark.parametrize("delay", [0.25, 0.05])
def test_the_next_address_is_used_when_the_first_does_not_answer(loop_kind: str, delay: float) -> None:
    async def main() -> None:
        async with scripted(accept) as server:
            with (
                full_backlog() as port,
                resolving(host=[info(("127.0.0.1", port)), info(("127.0.0.1", server.port))]),
            ):
                async with nothing_left():
                    _, socket = await connect("ws://host/", happy_eyeballs_delay=delay, open_timeout=5)
                    assert socket.get_extra_info("peername") == ("127.0.0.1", server.port)
                    connection = socket.get_extra_info("socket")
                    assert connection.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY)
                    socket.abort()
                    await socket.wait_closed()

    run(loop_kind, main())


@both_loops
def test_the_next_address_is_tried_at_once_when_the_first_refuses(loop_kind: str) -> None:
    async def main() -> None:
        async with scripted(accept) as server:
            with resolving(host=[info(("127.0.0.1", free_port())), info(("127.0.0.1", server.port))]):
                _, socket = await connect("ws://host/", happy_eyeballs_delay=3600, open_timeout=5)
                socket.abort()

    run(loop_kind, main())


@both_loops
def test_without_a_delay_the_next_address_waits_until_the_first_has_failed(loop_kind: str) -> None:
    async def main() -> None:
        async with scripted(accept) as server:
            with (
                full_backlog() as port,
                resolving(
                    silent=[info(("127.0.0.1", port)), info(("127.0.0.1", server.port))],
                    refused=[info(("127.0.0.1", free_port())), info(("127.0.0.1", server.port))],
                ),
            ):
                async with nothing_left():
                    with pytest.raises(TimeoutError):
                        await connect("ws://silent/", happy_eyeballs_delay=None, open_timeout=0.5)
                    _, socket = await connect("ws://refused/", happy_eyeballs_delay=None)
                    socket.abort()
                    await socket.wait_closed()
            assert len(server.requests) == 1

    run(loop_kind, main())


@both_loops
def test_an_earlier_address_that_answers_late_still_wins(loop_kind: str) -> None:
    """The second attempt does not end the first."""

    async def main() -> None:
        async with scripted(accept) as server:
            with full_backlog() as port, resolving(host=[info(("127.0.0.1", server.port)), info(("127.0.0.1", port))]):
                loop: Any = asyncio.get_running_loop()
                original = loop.sock_connect

                async def late(sock: sockets.socket, address: Address) -> None:
                    if address[1] == server.port:
                        await asyncio.sleep(0.1)
                    await original(sock, address)

                loop.sock_connect = late
                async with nothing_left():
                    _, socket = await connect("ws://host/", happy_eyeballs_delay=0.01)
                    socket.abort()
                    await socket.wait_closed()

    run(loop_kind, main())


@both_loops
@pytest.mark.parametrize("number", [2, 5])
def test_cancelling_leaves_no_socket_and_no_task(loop_kind: str, number: int) -> None:
    async def main() -> None:
        with full_backlog() as port, resolving(host=[info((f"127.0.0.{n}", port)) for n in range(1, number + 1)]):
            async with nothing_left():
                before = open_sockets()
                # Only 127.0.0.1 is silent; connections to the others are refused.
                task = asyncio.create_task(connect("ws://host/", happy_eyeballs_delay=0.01))
                await until(lambda: open_sockets() > before)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert open_sockets() == before

    run(loop_kind, main())


@both_loops
def test_cancelling_at_any_turn_leaves_no_socket_and_no_task(loop_kind: str) -> None:
    async def main() -> None:
        async with scripted(silent, reads_request=False) as server:
            addresses = [info(("127.0.0.1", free_port())), info(("127.0.0.1", server.port))]
            with full_backlog() as port, resolving(host=[info(("127.0.0.1", port)), *addresses]):
                for turns in range(40):
                    async with nothing_left():
                        await cancelled_after(turns)

    run(loop_kind, main())


async def cancelled_after(turns: int) -> None:
    """Connect, cancel after so many turns of the loop, and close the socket if there is one by then."""
    task = asyncio.create_task(connect_tcp("host", 80, Dialing(delay=0.0005)))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        (await task).close()


@both_loops
def test_when_every_address_fails_the_error_lists_each_with_its_reason(loop_kind: str) -> None:
    async def main() -> None:
        ports = [free_port(), free_port()]
        family = info(("127.0.0.1", 1), family=sockets.AF_UNIX)
        with resolving(
            same=[info(("127.0.0.1", ports[0])), info(("127.0.0.2", ports[1]))],
            different=[info(("127.0.0.1", ports[0])), family],
        ):
            async with nothing_left():
                reasons = rf"127.0.0.1:{ports[0]}: Connection refused; 127.0.0.2:{ports[1]}: Connection refused"
                with pytest.raises(ConnectionRefusedError, match=f"cannot connect to same:80: {reasons}") as caught:
                    await connect("ws://same/")
                assert caught.value.errno == errno.ECONNREFUSED
                with pytest.raises(OSError, match=r"cannot connect to different:80: 127.* refused; 127") as other:
                    await connect("ws://different/")
                assert other.value.errno is None

    run(loop_kind, main())


@both_loops
def test_an_error_of_one_address_names_it_once(loop_kind: str) -> None:
    async def main() -> None:
        port = free_port()
        with pytest.raises(ConnectionRefusedError) as caught:
            await connect(f"ws://127.0.0.1:{port}/")
        assert caught.value.strerror == f"cannot connect to 127.0.0.1:{port}: Connection refused"

    run(loop_kind, main())


@both_loops
@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_proxy_is_reached_when_its_first_address_does_not_answer(loop_kind: str, scheme: str) -> None:
    async def main() -> None:
        async with scripted(accept) as server, proxying(scheme) as proxy:
            with full_backlog() as port, resolving(host=[info(("127.0.0.1", port)), info(("127.0.0.1", proxy.port))]):
                async with nothing_left():
                    _, socket = await connect(server.url, proxy=f"{scheme}://host:80", open_timeout=5)
                    socket.abort()
                    await socket.wait_closed()

    run(loop_kind, main())


# -- Options ----------------------------------------------------------------------------------------------------------


@both_loops
def test_options_of_the_look_up_reach_the_resolver(loop_kind: str) -> None:
    async def main() -> None:
        async with scripted(accept) as server:
            with resolving(host=[info(("127.0.0.1", server.port))]) as asked:
                _, socket = await connect(
                    "ws://host/", family=sockets.AF_INET, proto=sockets.IPPROTO_TCP, flags=sockets.AI_ADDRCONFIG
                )
                socket.abort()
            (options,) = asked
            assert (options["family"], options["proto"]) == (sockets.AF_INET, sockets.IPPROTO_TCP)
            assert (options["type"], options["flags"]) == (sockets.SOCK_STREAM, sockets.AI_ADDRCONFIG)

    run(loop_kind, main())


@both_loops
def test_addresses_of_another_family_than_local_addr_are_skipped(loop_kind: str) -> None:
    async def main() -> None:
        async with scripted(accept) as server:
            ipv6 = (sockets.AF_INET6, sockets.SOCK_STREAM, sockets.IPPROTO_TCP, "", ("::1", server.port, 0, 0))
            with resolving(host=[ipv6, info(("127.0.0.1", server.port))], only6=[ipv6]):
                _, socket = await connect("ws://host/", local_addr=("127.0.0.2", 0))
                assert socket.get_extra_info("sockname")[0] == "127.0.0.2"
                socket.abort()
                text = re.escape(f"[::1]:{server.port}: local_addr has no address of the family AF_INET6")
                with pytest.raises(OSError, match=text):
                    await connect("ws://only6/", local_addr=("127.0.0.2", 0))

    run(loop_kind, main())


@both_loops
def test_a_local_addr_that_is_in_use_is_named_in_the_error(loop_kind: str) -> None:
    async def main() -> None:
        async with scripted(accept) as server:
            text = f"127.0.0.1:{server.port}: cannot bind to local_addr 127.0.0.1:{server.port}: "
            with pytest.raises(OSError, match=text) as caught:
                await connect(server.url, local_addr=("127.0.0.1", server.port))
            assert caught.value.errno == errno.EADDRINUSE

    run(loop_kind, main())


@pytest.mark.parametrize(
    ("families", "first", "order"),
    [
        ("666444", 1, "646464"),
        ("666444", 2, "664644"),
        ("444", 1, "444"),
        ("64", 0, "64"),
        ("6644", 0, "6644"),
        ("4466", 1, "4646"),
        ("644", 3, "644"),
    ],
)
def test_families_alternate(families: str, first: int, order: str) -> None:
    numbers = {"4": sockets.AF_INET, "6": sockets.AF_INET6}
    addresses = [info((str(index), 1), numbers[family]) for index, family in enumerate(families)]
    ordered = interleaved(addresses + addresses, first)
    assert [each[0] for each in ordered] == [numbers[family] for family in order]
    for family in numbers.values():
        assert [each for each in ordered if each[0] == family] == [each for each in addresses if each[0] == family]
