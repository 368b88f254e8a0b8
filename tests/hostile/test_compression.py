"""What is small on the wire and large behind it, or not whole: permessage-deflate (RFC 7692)."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Callable

import pytest

from wslowlevel import (
    Opcode,
    PerMessageDeflate,
    Request,
    Socket,
    connect,
    get_messages_factory,
    send_handshake,
    send_message_factory,
)
from wslowlevel.wire import DEFAULT_MAX_SIZE, CloseCode

from ..servers import RawClient, both_loops, masked, masked_close, run, serving, upgraded
from .siege import MIB, Siege

OFFER = "Sec-WebSocket-Extensions: permessage-deflate"
LIMIT = MIB
SMALL_LIMIT = {"deflate": True, "messages": {"max_in_memory_store_size": LIMIT}, "serve": {"close_timeout": 1.0}}
TAIL = b"\x00\x00\xff\xff"


def deflated(payload: bytes) -> bytes:
    """As it stands in a compressed message (RFC 7692 §7.2.1)."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def bomb(size: int) -> bytes:
    """So many zeros."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    pieces = [compressor.compress(bytes(MIB)) for _ in range(size // MIB)]
    pieces += [compressor.compress(bytes(size % MIB)), compressor.flush(zlib.Z_SYNC_FLUSH)]
    return b"".join(pieces).removesuffix(TAIL)


def in_fragments(payload: bytes, size: int) -> bytes:
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    last = len(pieces) - 1
    return b"".join(
        masked(0 if i else Opcode.BINARY, piece, fin=int(i == last), rsv1=int(not i)) for i, piece in enumerate(pieces)
    )


def whole(payload: bytes) -> bytes:
    return masked(Opcode.BINARY, payload, rsv1=1)


async def expect_close(client: RawClient, code: int) -> None:
    assert (await client.read_close())[0] == code
    assert not await client.read_until_eof()


@pytest.mark.parametrize("fragment", [50_000, 10**9], ids=["in fragments", "whole"])
def test_a_bomb(siege: Siege, fragment: int) -> None:
    """CVE-2018-1000518, CVE-2026-1526, CVE-2026-5680: 200 MB of zeros in 200 KB, with the default limit."""
    data = in_fragments(bomb(200_000_000), fragment)

    async def attack() -> None:
        async with siege.others_answered(), upgraded(siege.port, OFFER, target="/drop") as client:
            await client.send(data)
            await expect_close(client, CloseCode.MESSAGE_TOO_BIG)

    with siege.memory(at_most=2 * DEFAULT_MAX_SIZE), siege.running(at_most=5.0):
        run("asyncio", attack())
    assert siege.outcomes() == {"PayloadTooBig MESSAGE_TOO_BIG 1009": 1, "messages 0": 1}


@pytest.mark.parametrize("fragment", [7, 10**9], ids=["in fragments", "whole"])
def test_the_limit_counts_what_is_inflated(siege_of: Callable[..., Siege], fragment: int) -> None:
    """CVE-2021-21419, GHSA-qrvq-68c2-7grw: what inflates to the limit is delivered, and a byte more is refused."""
    siege = siege_of(**SMALL_LIMIT)

    async def attack() -> None:
        async with upgraded(siege.port, OFFER, target="/drop") as client:
            await client.send(in_fragments(bomb(LIMIT), fragment) + masked_close(1000))
            assert await client.read_close() == (1000, "")
        async with upgraded(siege.port, OFFER, target="/drop") as client:
            await client.send(in_fragments(bomb(LIMIT + 1), fragment))
            await expect_close(client, CloseCode.MESSAGE_TOO_BIG)

    run("asyncio", attack())
    assert siege.outcomes() == {
        "messages 1": 1,
        "ended": 1,
        "messages 0": 1,
        "PayloadTooBig MESSAGE_TOO_BIG 1009": 1,
    }


def _final(payload: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(payload) + compressor.flush()


BROKEN = {
    "cut short": deflated(b"a message of some sixty bytes, cut in the middle of it all")[:30],
    "bytes behind the final block": _final(b"good") + b"hidden",
    "no DEFLATE": b"\xff" * 40,
    "a distance before the beginning": bytes.fromhex("020200"),
    "text that is none": deflated(b"\xff\xfe"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("follows", [b"", whole(deflated(b"a good one"))], ids=["alone", "followed by another"])
def test_what_is_not_whole_is_not_delivered(siege: Siege, name: str, follows: bytes) -> None:
    """A compressed message that is cut short, goes on behind its end, or is none: 1007, and nothing of it."""

    async def attack() -> None:
        async with upgraded(siege.port, OFFER, target="/drop") as client:
            await client.send(masked(Opcode.TEXT, BROKEN[name], rsv1=1) + follows)
            await expect_close(client, CloseCode.INVALID_PAYLOAD)

    run("asyncio", attack())
    assert siege.outcomes().pop("messages 0") == 1


@pytest.mark.parametrize("rounds", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_connections_that_compressed_leave_nothing(siege: Siege, rounds: int) -> None:
    """node #8871, ws #1202: the memory after many connections that compressed is that after some of them."""

    async def converse(times: int) -> None:
        for _ in range(times):
            async with upgraded(siege.port, OFFER, target="/echo") as client:
                await client.send(whole(deflated(b"compressed " * 1000)) + masked_close(1000))
                await client.read_frames()

    run("asyncio", converse(100))
    siege.about()
    before = siege.resident()
    run("asyncio", converse(rounds))
    siege.about()
    assert siege.resident() <= before * 1.1


@both_loops
def test_sends_that_are_cancelled(loop_kind: str) -> None:
    """aiohttp #11725: 1,000 compressed sends, some of them cancelled: every message that arrives inflates right."""
    sent: list[bytes] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        chance = random.Random(1)
        await send_handshake(request, socket, extensions=[PerMessageDeflate()])
        send_message = send_message_factory(socket)
        for number in range(1000):
            payload = b"%d " % number * chance.randrange(200)
            sent.append(payload)
            task = asyncio.ensure_future(send_message(payload))
            if chance.random() < 0.5:
                await asyncio.sleep(0)
            if chance.random() < 0.5:
                task.cancel()
        await asyncio.wait([task])

    async def main() -> None:
        async with serving(handler) as server:
            uri = f"ws://127.0.0.1:{server.port}/"
            _, socket = await connect(uri, extensions=[PerMessageDeflate()])
            async with socket:
                messages = [message async for message in get_messages_factory(socket)()]
        assert [message.payload for message in messages[:-1]] == sent

    run(loop_kind, main())
