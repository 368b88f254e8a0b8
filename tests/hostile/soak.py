"""Good and bad peers, one after the other, for a long time: does a server grow?

python -m tests.hostile.soak --minutes 30

A victim on each event loop is sent conversations, violations, resets, bombs and silence. Each is asked now and then,
when all is quiet, for its memory, its descriptors and its tasks. Exit code 0: descriptors and tasks are those of the
beginning, and what is in use in its allocators does not grow with the peers of the second half; 1: it does.

What is resident says less: it steps up where long-lived things come to lie between short-lived ones, and stays there.
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
from typing import Any, NamedTuple

from wslowlevel import BACKEND, Opcode

from ..servers import LOOPS, connecting, masked, masked_close, upgraded
from .siege import Siege
from .test_compression import OFFER, bomb, deflated, whole
from .test_endings import CONVERSATION
from .test_violations import VIOLATIONS

ROUND = 200
"""Peers between two looks at the memory."""

AT_ONCE = 20

LEAK_BLOCKS = 0.01
"""Blocks of Python's allocator that a peer leaves behind: the rarest kind, one of 28, would leave less than one."""

LEAK_BYTES = 16
"""Bytes of malloc that a peer leaves behind: less than the smallest block that malloc gives."""

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


class Look(NamedTuple):
    """What a victim holds when all is quiet."""

    minutes: float
    peers: int
    resident: int
    """Bytes that the system counts, holes between what is in use among them."""
    blocks: int
    """Of Python's allocator, in use."""
    allocated: int
    """Bytes of malloc, in use."""


class Verdict(NamedTuple):
    """What each peer of the second half left behind."""

    blocks: float
    allocated: float
    resident: float
    grows: bool


def soak(loop: str, seconds: float) -> list[Look]:
    siege, chance = Siege(loop, serve={"close_timeout": 1.0}, deflate=True), random.Random(seconds)
    begun = time.monotonic()
    looks: list[Look] = []
    while time.monotonic() - begun < seconds:
        asyncio.run(play(siege, chance))
        siege.settle()
        said = siege.about()
        if said["allocated"] is None:
            raise SystemExit("the soak needs glibc 2.33 or newer, which tells what of malloc is in use")
        minutes, peers = (time.monotonic() - begun) / 60, (len(looks) + 1) * ROUND
        looks.append(Look(minutes, peers, siege.resident(), said["blocks"], said["allocated"]))
        sys.stdout.write(
            f"{loop}: {minutes:.1f} minutes, {peers:,} peers, {looks[-1].resident / 1024:,.0f} KiB resident, "
            f"{looks[-1].allocated / 1024:,.0f} KiB and {looks[-1].blocks:,} blocks in use\n"
        )
        sys.stdout.flush()
    siege.stop()
    return looks


def judge(looks: Sequence[Look]) -> Verdict:
    half = looks[len(looks) // 2 :]
    blocks, allocated, resident = (
        linear_regression([look.peers for look in half], [getattr(look, name) for look in half]).slope
        for name in ("blocks", "allocated", "resident")
    )
    return Verdict(blocks, allocated, resident, blocks > LEAK_BLOCKS or allocated > LEAK_BYTES)


def main(arguments: Sequence[str] | None = None) -> int:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.hostile.soak", description=__doc__, formatter_class=form)
    parser.add_argument("--minutes", type=float, default=30.0, help="in all (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    options = parser.parse_args(arguments)
    results: dict[str, dict[str, Any]] = {}
    for loop in LOOPS:
        looks = soak(loop, options.minutes * 60 / len(LOOPS))
        results[loop] = {"looks": [look._asdict() for look in looks], **judge(looks)._asdict()}
    for loop, result in results.items():
        verdict = "GROWS" if result["grows"] else "does not grow"
        left = f"{result['blocks']:+.4f} blocks and {result['allocated']:+.1f} bytes of malloc a peer"
        sys.stdout.write(f"{BACKEND} on {loop}: {result['looks'][-1]['peers']:,} peers, {left}, {verdict}\n")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return int(any(result["grows"] for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
