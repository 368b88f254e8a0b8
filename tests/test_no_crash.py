"""No Python program can crash the interpreter through the compiled modules, however it misuses their objects.

Each object is made as it is meant to be, and by `__new__` alone; each of its attributes is read, set and deleted, and
each of its methods called, with arguments of every kind, while others are at it.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

from .conftest import Both

MISUSE = r"""
import asyncio, gc, itertools, random, sys, warnings

warnings.simplefilter("ignore")  # a coroutine that nobody awaits is part of it
from wslowlevel import _codec
from wslowlevel.aio import _stream
from wslowlevel.connection import Connection

MADE = {
    "Header": lambda: _codec.Header(1, 5),
    "Frame": lambda: _codec.Frame(1, b"payload"),
    "Message": lambda: _codec.Message(1, b"payload"),
    "Chunk": lambda: _codec.Chunk(1, b"payload"),
    "Utf8Validator": _codec.Utf8Validator,
    "FrameDecoder": lambda: _codec.FrameDecoder(role="client"),
    "MessageDecoder": lambda: _codec.MessageDecoder(role="client"),
    "ChunkDecoder": lambda: _codec.ChunkDecoder(role="client"),
    "Endpoint": lambda: Connection(role="client"),
    "Stream": lambda: _stream.Stream(Connection(role="server"), limit=10),
    "Sent": lambda: _stream.Sent(_stream.Stream(Connection(role="server"), limit=10)),
    "Items": lambda: _stream.Items(_stream.Stream(Connection(role="server"), limit=10)),
    "Step": lambda: _stream.Items(_stream.Stream(Connection(role="server"), limit=10)).__anext__(),
    "Wakeup": lambda: _stream.Wakeup(asyncio.get_running_loop()),
}
TYPES = [kind for module in (_codec, _stream) for kind in vars(module).values()
         if isinstance(kind, type) and kind.__module__ == module.__name__]
KEPT = []
SKIPPED = {"__class__", "__init_subclass__", "__subclasshook__", "__dir__", "__sizeof__"}


class Liar(Connection):
    def passes(self, frame):
        return True


def values():
    connection = Connection(role="server")
    return [
        None, True, 0, -1, 5, 10**30, 1.5, "text", b"", b"\x81\x05Hello", b"\x82\x7f" + bytes(8), b"\xff" * 40,
        bytearray(b"\x02\x03abc"), memoryview(bytearray(70_000)), memoryview(b"abcdef")[::2], [], [1, b"x"], (), {},
        object(), len, type, connection, Liar(role="server"), _codec.Message(1, b"x"),
        _codec.MessageDecoder(role="client"),
        _stream.Wakeup(asyncio.get_running_loop()), asyncio.get_running_loop(), iter([1]), slice(0, 5), Exception("x"),
    ]


def attempt(call, *arguments, **named):
    try:
        result = call(*arguments, **named)
    except (Exception, asyncio.CancelledError):
        return
    KEPT.append(result)
    if len(KEPT) > 5000:
        del KEPT[:2500]


def misuse(make, chance):
    target = make()
    names = [name for name in dir(target) if name not in SKIPPED]
    for _ in range(60):
        name, arguments = chance.choice(names), chance.choices(values(), k=chance.choice((0, 1, 1, 1, 2, 3)))
        what = chance.random()
        if what < 0.15:
            attempt(setattr, target, name, (arguments or [None])[0])
        elif what < 0.2:
            attempt(delattr, target, name)
        else:
            try:
                attribute = getattr(target, name)
            except Exception:
                continue
            KEPT.append(attribute)
            if callable(attribute):
                attempt(attribute, *arguments)
        if what > 0.98:
            gc.collect(0)


async def main():
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    chance = random.Random(int(sys.argv[1]))
    for kind in TYPES:
        makes = [lambda: kind.__new__(kind)]
        if kind.__name__ in MADE:
            makes += 2 * [MADE[kind.__name__]]
        for make in makes:
            try:
                make()
            except TypeError:
                continue
            for _ in range(25):
                misuse(make, chance)
    functions = [f for m in (_codec, _stream) for f in vars(m).values() if callable(f) and not isinstance(f, type)]
    functions = [f for f in functions if getattr(f, "__module__", "").startswith("wslowlevel._codec")]
    for function in functions:
        for count in (0, 1, 2, 3):
            for _ in range(60):
                attempt(function, *chance.choices(values(), k=count))
    for kept in KEPT:
        if isinstance(kept, memoryview):
            attempt(kept.tobytes)
    await asyncio.sleep(0)

loop = asyncio.new_event_loop()
loop.run_until_complete(main())
KEPT.clear()
gc.collect()
print("alive", len(TYPES))
import os
os._exit(0)  # what misused objects left in the loop is nobody's business
"""


@pytest.mark.parametrize("seed", range(4))
def test_misuse(both: Both, seed: int) -> None:
    """P2, P3: whatever is called on whatever, with whatever, the interpreter lives."""
    command = [sys.executable, "-X", "faulthandler", "-c", MISUSE, str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.split()[:1]) == (0, ["alive"]), done.stderr[-3000:]


STARVED = r"""
import sys
import _testcapi
from wslowlevel import _codec as codec

KEY = b"abcd"
SMALL = codec.encode_frame(2, b"x" * 200, mask_key=KEY)
LARGE = codec.encode_frame(1, b"y" * 300_000, mask_key=KEY)
FRAGMENTS = codec.encode_frame(2, b"z" * 5000, fin=0, mask_key=KEY) + codec.encode_frame(0, b"z" * 9000, mask_key=KEY)
BAD = b"\x83\x80" + KEY


def feed(name, stream, way):
    decoder = getattr(codec, name)(role="server", max_fragments=None)
    for start in range(0, len(stream), 40_000):
        piece = stream[start : start + 40_000]
        if way:
            decoder.feed(piece)
        else:
            lent = decoder.get_buffer()
            lent[: len(piece)] = piece
            decoder.buffer_updated(len(piece))


CALLS = [
    lambda name=name, stream=stream, way=way: feed(name, stream, way)
    for name in ("FrameDecoder", "MessageDecoder", "ChunkDecoder")
    for stream in (SMALL * 20, LARGE, FRAGMENTS, SMALL + BAD)
    for way in (0, 1)
] + [
    lambda: codec.encode_frame(2, b"x" * 500, mask_key=KEY),
    lambda: codec.prepare_websocket_frame(b"x" * 500, mask_key=True),
    lambda: codec.apply_mask(b"x" * 500, KEY),
    lambda: codec.parse_header(SMALL),
    lambda: codec.Utf8Validator().feed(b"\xff"),
]
failed = 0
for call in CALLS:
    for allocation in range(120):
        _testcapi.set_nomemory(allocation, allocation + 1)
        try:
            call()
        except MemoryError:
            failed += 1
        except codec.errors.WebSocketError:
            pass
        finally:
            _testcapi.remove_mem_hooks()
print("alive", failed)
"""


@pytest.mark.skipif(find_spec("_testcapi") is None, reason="this Python cannot be starved of memory")
def test_allocations_that_fail(both: Both) -> None:
    """P5: whichever allocation fails, it is a MemoryError, or nobody notices."""
    done = subprocess.run([sys.executable, "-c", STARVED], capture_output=True, text=True, timeout=120, check=False)
    said, failed = done.stdout.split() or ["", "0"]
    assert (done.returncode, said) == (0, "alive"), done.stderr[-3000:]
    assert int(failed) > 100
