"""Good and bad peers, one after the other, for a long time: does a server grow?

python -m tests.hostile.soak --minutes 30

A victim on each event loop is sent conversations, violations, resets, bombs and silence. Each is asked now and then,
when all is quiet, for its memory, its descriptors and its tasks. Exit code 0: descriptors and tasks are those of the
beginning, and memory grows by less than the noise over the second half of the time; 1: something grows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import linear_regression
from typing import Any

from wslowlevel import BACKEND, Opcode

from ..servers import LOOPS, connecting, masked, masked_close, upgraded
from .siege import Siege
from .test_compression import OFFER, bomb, deflated, whole
from .test_endings import CONVERSATION
from .test_violations import VIOLATIONS

ROUND = 200
"""Peers between two looks at the memory."""

AT_ONCE = 20

GROWTH = 0.02
"""Of its memory that a victim may grow by in the second half, for the allocator is not at rest before."""

Peer = Callable[[int, random.Random], Awaitable[None]]


async def talks(port: int, chance: random.Random) -> None:
    compresses = chance.random() < 0.5
    async with upgraded(port, *([OFFER] if compresses else []), target="/echo") as client:
        for _ in range(chance.randrange(20)):
            payload = chance.randbytes(chance.choice((0, 10, 125, 1000, 70_000)))
            await client.send(whole(deflated(payload)) if compresses else masked(Opcode.BINARY, payload))
            await client.read_frame()
        await client.send(masked_close(1000))
        await client.read_frames()


async def violates(port: int, chance: random.Random) -> None:
    async with upgraded(port, target="/echo") as client:
        await client.send(chance.choice(VIOLATIONS).data)
        await client.read_until_eof()


async def resets(port: int, chance: random.Random) -> None:
    async with connecting(port) as client:
        await client.send(CONVERSATION[: chance.randrange(len(CONVERSATION))])
        client.reset()


async def bombs(port: int, chance: random.Random) -> None:
    async with upgraded(port, OFFER, target="/drop") as client:
        await client.send(whole(bomb(20_000_000)))
        await client.read_until_eof()


async def is_silent(port: int, chance: random.Random) -> None:
    async with upgraded(port, target=chance.choice(("/pour", "/nap"))):
        await asyncio.sleep(chance.random() * 0.2)


PEERS: tuple[Peer, ...] = (*[talks] * 10, *[violates] * 5, *[resets] * 10, bombs, *[is_silent] * 2)


async def play(siege: Siege, chance: random.Random) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def one(peer: Peer) -> None:
        async with places:
            await peer(siege.port, chance)

    await asyncio.gather(*(one(chance.choice(PEERS)) for _ in range(ROUND)))


def soak(loop: str, seconds: float) -> dict[str, Any]:
    """Minutes from the beginning, and bytes of memory, at each look; how many peers there were."""
    siege, chance = Siege(loop, serve={"close_timeout": 1.0}, deflate=True), random.Random(seconds)
    begun, looks, peers = time.monotonic(), [], 0
    while time.monotonic() - begun < seconds:
        asyncio.run(play(siege, chance))
        siege.settle()
        peers += ROUND
        looks.append(((time.monotonic() - begun) / 60, siege.resident()))
        sys.stdout.write(f"{loop}: {looks[-1][0]:.1f} minutes, {peers:,} peers, {looks[-1][1] / 1024:,.0f} KiB\n")
        sys.stdout.flush()
    siege.stop()
    return {"peers": peers, "looks": looks, **judge(looks)}


def judge(looks: Sequence[tuple[float, int]]) -> dict[str, Any]:
    """The slope of the second half, and whether what grew in it is more than noise."""
    half = looks[len(looks) // 2 :]
    minutes, sizes = zip(*half, strict=True)
    slope = linear_regression(minutes, sizes).slope if len(half) > 2 else 0.0
    grown = slope * (minutes[-1] - minutes[0])
    return {"bytes per minute": slope, "grows": grown > GROWTH * sizes[0]}


def main(arguments: Sequence[str] | None = None) -> int:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.hostile.soak", description=__doc__, formatter_class=form)
    parser.add_argument("--minutes", type=float, default=30.0, help="in all (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    options = parser.parse_args(arguments)
    results = {loop: soak(loop, options.minutes * 60 / len(LOOPS)) for loop in LOOPS}
    for loop, result in results.items():
        verdict = "GROWS" if result["grows"] else "does not grow"
        slope = result["bytes per minute"] / 1024
        sys.stdout.write(f"{BACKEND} on {loop}: {result['peers']:,} peers, {slope:+,.1f} KiB a minute, {verdict}\n")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return int(any(result["grows"] for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
