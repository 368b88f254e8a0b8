"""A step of the iterator, on both backends: a coroutine, in whatever way it is driven."""

from __future__ import annotations

import asyncio
import gc
import importlib
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest

from .test_stream import TWINS


class Thing:
    pass


def items(stream: Any, batches: list[list[Any]]) -> Any:
    codec = importlib.import_module(TWINS[stream.__name__])
    made = stream.Stream(codec.Endpoint(role="server"), limit=10)
    for batch in batches:
        made._batches.append((batch, 0))
    return stream.Items(made)


both = pytest.mark.parametrize("stream", [importlib.import_module(name) for name in TWINS], ids=["py", "cy"])


@both
def test_a_step_is_a_coroutine_of_one_item(stream: Any) -> None:
    async def main() -> None:
        found = items(stream, [[1, 2], [], [3, 4, 5]])
        step = anext(found)
        assert isinstance(step, Coroutine)
        assert await step == 1
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await step
        assert await asyncio.create_task(anext(found)) == 2
        assert await asyncio.wait_for(anext(found), 5) == 3
        with pytest.raises(StopIteration) as end:
            anext(found).send(None)
        assert end.value.value == 4
        kept = end.value
        assert await anext(found) == 5
        assert kept.value == 4

    asyncio.run(main())


@both
def test_a_step_that_is_thrown_into_takes_nothing(stream: Any) -> None:
    async def main() -> None:
        found = items(stream, [[1]])
        step = anext(found)
        with pytest.raises(KeyError, match="thrown"):
            step.throw(KeyError("thrown"))
        step.close()
        unused = anext(found)
        unused.close()
        assert await anext(found) == 1

    asyncio.run(main())


@both
def test_what_was_handed_out_is_not_kept(stream: Any) -> None:
    async def main() -> None:
        things = [Thing(), Thing(), Thing()]
        kept = [weakref.ref(thing) for thing in things]
        found = items(stream, [things])
        for _ in range(2):
            await anext(found)
        last = await anext(found)
        things.clear()
        gc.collect()
        assert [each() for each in kept] == [None, None, last]

    asyncio.run(main())


@both
def test_a_stream_without_its_connection_sends_nothing(stream: Any) -> None:
    async def main() -> None:
        codec = importlib.import_module(TWINS[stream.__name__])
        made = stream.Stream(codec.Endpoint(role="server"), limit=10)
        del made._connection
        with pytest.raises(AttributeError):
            made.send(b"\x82\x00")

    asyncio.run(main())
