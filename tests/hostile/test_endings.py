"""How a connection ends when its peer does not mean well: cut anywhere, never read, never closed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from wslowlevel import Frame, Opcode
from wslowlevel.wire import CloseCode

from ..servers import connecting, handshake, masked, masked_close, run, upgraded
from .siege import MIB, SETTLING, Siege

CLOSE_TIMEOUT = 1.0
"""Seconds, of the victims here."""

SLACK = 2.0
"""Seconds more than promised that a loaded machine may take."""

CONVERSATION = b"".join(
    [
        handshake(target="/echo"),
        masked(Opcode.TEXT, b"x" * 130),
        masked(Opcode.BINARY, b"in ", fin=0) + masked(Opcode.PING, b"!") + masked(Opcode.CONTINUATION, b"two"),
        masked_close(CloseCode.NORMAL_CLOSURE, b"done"),
    ]
)


@pytest.mark.parametrize("resets", [False, True], ids=["FIN", "RST"])
def test_an_end_at_every_byte(siege: Siege, resets: bool) -> None:
    """CVE-2017-2670: the peer goes at each byte of a conversation, in a request, header, length, key or payload."""

    async def attack() -> None:
        async with siege.others_answered():
            for length in range(len(CONVERSATION) + 1):
                async with connecting(siege.port) as client:
                    await client.send(CONVERSATION[:length])
                    if resets:
                        client.reset()
                    else:
                        client.writer.write_eof()
                        await client.read_until_eof()

    run("asyncio", attack())
    siege.settle()
    with siege.running(at_most=0.1):
        time.sleep(0.2)


def test_a_half_closed_connection(siege: Siege) -> None:
    """Who has said FIN, but no Close, is not answered any more, and is no clean end (1006, RFC 6455 §7.1.5)."""

    async def attack() -> None:
        async with upgraded(siege.port, target="/echo") as client:
            client.writer.write(masked(Opcode.TEXT, b"last words"))
            client.writer.write_eof()
            assert len(await client.read_frames()) <= 1

    run("asyncio", attack())
    assert siege.outcomes() == {"ConnectionLost": 1}


def test_who_never_reads(siege: Siege) -> None:
    """CVE-2026-79677: 8 MiB queued, the server closes, and the peer reads nothing: freed at the close timeout."""

    async def attack() -> None:
        async with connecting(siege.port) as client:
            client.reader._transport.pause_reading()  # type: ignore[attr-defined]
            client.writer.write(handshake(target="/pour"))
            begun = time.monotonic()
            await asyncio.to_thread(siege.settle)
            assert time.monotonic() - begun <= CLOSE_TIMEOUT + SLACK

    with siege.memory(at_most=16 * MIB):
        run("asyncio", attack())


def test_who_reads_late_gets_everything(siege_of: Callable[..., Siege]) -> None:
    """uvicorn 0.52.1: 8 MiB and the Close frame wait for a peer that pauses for some seconds."""
    siege = siege_of(serve={"close_timeout": SETTLING})

    async def attack() -> None:
        async with connecting(siege.port) as client:
            client.writer.write(handshake(target="/pour"))
            client.head = await client.reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(2.0)
            payloads = [(await client.read_frame()).payload for _ in range(128)]
            assert payloads == [number.to_bytes(4, "big") * (16 * 1024) for number in range(128)]
            assert await client.read_close() == (1000, "")
            await client.send(masked_close(1000))

    run("asyncio", attack())


@pytest.mark.parametrize("target", ["/nap", "/pour"])
def test_who_never_answers_the_close(siege: Siege, target: str) -> None:
    """A peer that reads and goes on sending, but neither answers the Close frame nor ends: dropped at the timeout."""

    async def attack() -> None:
        async with upgraded(siege.port, target=target) as client:
            begun = time.monotonic()
            with_close = await client.read_frames()
            assert with_close[-1].opcode == Opcode.CLOSE
            assert time.monotonic() - begun <= CLOSE_TIMEOUT + 0.3 + SLACK

    run("asyncio", attack())


def test_a_peer_that_goes_while_nobody_reads(siege: Siege) -> None:
    """CVE-2024-23672: the handler does not read, and the peer closes, or goes without a word."""

    async def attack() -> None:
        for last in (masked_close(1000), b""):
            async with upgraded(siege.port, target="/nap") as client:
                await client.send(masked(Opcode.BINARY, bytes(MIB)) + last)

    begun = time.monotonic()
    run("asyncio", attack())
    siege.settle()
    assert time.monotonic() - begun <= CLOSE_TIMEOUT + 0.3 + SLACK


@pytest.mark.parametrize("rounds", [100, pytest.param(10_000, marks=pytest.mark.slow)])
def test_sending_and_closing_at_once(siege: Siege, rounds: int) -> None:
    """CVE-2022-25762: two tasks send while a third one closes: each frame is whole and before the Close, or raises."""

    async def attack() -> None:
        for _ in range(rounds):
            async with upgraded(siege.port, target="/race") as client:
                frames: list[Frame] = []
                while not frames or frames[-1].opcode != Opcode.CLOSE:
                    frames.append(await client.read_frame())
                sent = [(each.payload[0], int.from_bytes(each.payload[1:], "big")) for each in frames[:-1]]
                for sender in (0, 1):
                    numbers = [number for its, number in sent if its == sender]
                    assert numbers == list(range(len(numbers)))
                assert frames[-1].payload == b"\x0f\xa0raced"
                await client.send(masked(Opcode.CLOSE, frames[-1].payload))
                assert not await client.read_until_eof()

    asyncio.run(attack())
    assert siege.outcomes() == {"race ConnectionLost": 2 * rounds, "race NoneType": rounds, "ended": rounds}


def test_a_handler_that_raises(siege: Siege) -> None:
    """Rule 12: an exception of the handler is 1011 for its peer, one line of the log, and nothing for others."""
    siege.expected_log = ["on_upgrade failed for /fail"]

    async def attack() -> None:
        async with siege.others_answered(), upgraded(siege.port, target="/fail") as client:
            await client.send(masked(Opcode.TEXT, b"raise"))
            assert await client.read_close() == (CloseCode.INTERNAL_ERROR, "")
            await client.send(masked_close(CloseCode.INTERNAL_ERROR))

    run("asyncio", attack())
    siege.settle()
    assert len(siege.logged()) == 1
    assert siege.outcomes() == {"LookupError": 1}


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_many_connections_come_and_go(siege: Siege, count: int) -> None:
    """Connections that are opened and dropped, in every way, leave memory and descriptors where they were."""

    async def come_and_go(times: int) -> None:
        for number in range(times):
            async with connecting(siege.port) as client:
                await client.send(CONVERSATION[: number * 7919 % len(CONVERSATION)])
                if number % 2:
                    client.reset()

    asyncio.run(come_and_go(300))
    siege.settle()
    before = siege.resident()
    asyncio.run(come_and_go(count))
    siege.settle()
    assert siege.resident() <= before * 1.1
