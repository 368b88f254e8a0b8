"""What a task awaits for messages: it goes on inside the callback that wakes it, and is cancelled as any other."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from types import ModuleType
from typing import Any

import pytest

from .servers import LOOPS, TIMEOUT, both_loops, run, until


class Waiter:
    """A task that waits again and again, and what became of it.

    Attributes:
        wakeup: what it waits for.
        seen: what happened, in order.
        task: the task.
    """

    def __init__(self, stream: ModuleType, times: int = 1) -> None:
        self.wakeup = stream.Wakeup(asyncio.get_running_loop())
        self.seen: list[object] = []
        self.task = asyncio.ensure_future(self._wait(times))

    async def _wait(self, times: int) -> None:
        for _ in range(times):
            try:
                assert await self.wakeup is None
                self.seen.append("awake")
            except asyncio.CancelledError as error:
                self.seen.append(error.args)


async def in_a_callback(*calls: Callable[[], object]) -> None:
    """Make calls where no task runs, in one turn of the loop."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    failures: list[BaseException] = []

    def callback() -> None:
        try:
            for call in calls:
                call()
        except BaseException as error:  # noqa: BLE001 - it is the test's
            failures.append(error)
        done.set_result(None)

    loop.call_soon(callback)
    await done
    if failures:
        raise failures[0]


Test = Callable[[ModuleType], Coroutine[Any, Any, None]]


def each(test: Test) -> Callable[[ModuleType, str], None]:
    """Run a test for both implementations, on both loops."""

    @both_loops
    def on_a_loop(stream: ModuleType, loop_kind: str) -> None:
        run(loop_kind, test(stream))

    on_a_loop.__name__, on_a_loop.__doc__ = test.__name__, test.__doc__
    return on_a_loop


# -- Waking -----------------------------------------------------------------------------------------------------------


@each
async def test_the_task_goes_on_before_wake_returns(stream: ModuleType) -> None:
    waiter = Waiter(stream, times=3)
    assert not waiter.wakeup.is_awaited
    await asyncio.sleep(0)
    assert waiter.wakeup.is_awaited
    for i in range(3):
        await in_a_callback(waiter.wakeup.wake, lambda i=i: waiter.seen.append(i))  # type: ignore[misc]
        assert waiter.wakeup.is_awaited == (i < 2)
    assert waiter.seen == ["awake", 0, "awake", 1, "awake", 2]
    await waiter.task


@each
async def test_it_can_be_woken_again_and_again_in_one_turn(stream: ModuleType) -> None:
    waiter = Waiter(stream, times=1000)
    await asyncio.sleep(0)
    await in_a_callback(*[waiter.wakeup.wake] * 999)
    assert waiter.seen == ["awake"] * 999
    await in_a_callback(waiter.wakeup.wake)
    await waiter.task


@each
async def test_from_inside_another_task_it_goes_on_in_the_next_turn(stream: ModuleType) -> None:
    waiter = Waiter(stream, times=2)
    await asyncio.sleep(0)
    for wake in (waiter.wakeup.wake, waiter.wakeup.wake_soon):
        waiter.seen.clear()
        wake()
        assert waiter.seen == []
        await asyncio.sleep(0)
        assert waiter.seen == ["awake"]
    await waiter.task


@each
async def test_wake_soon_is_the_next_turn_in_a_callback_too(stream: ModuleType) -> None:
    waiter = Waiter(stream)
    await asyncio.sleep(0)
    await in_a_callback(waiter.wakeup.wake_soon, lambda: waiter.seen.append("first"))
    await waiter.task
    assert waiter.seen == ["first", "awake"]


@each
async def test_to_wake_nobody_is_nothing(stream: ModuleType) -> None:
    """It is not kept for whoever waits next, and a second one is not one more."""
    wakeup = stream.Wakeup(asyncio.get_running_loop())
    wakeup.wake()
    wakeup.wake_soon()
    await in_a_callback(wakeup.wake, wakeup.wake_soon)
    assert wakeup.cancel() is False
    waiter = Waiter(stream, times=2)
    await asyncio.sleep(0)
    await in_a_callback(waiter.wakeup.wake_soon, waiter.wakeup.wake_soon, waiter.wakeup.wake)
    await asyncio.sleep(0)
    assert waiter.seen == ["awake"]
    await in_a_callback(waiter.wakeup.wake)
    await waiter.task
    await in_a_callback(waiter.wakeup.wake)


@each
async def test_whoever_is_to_go_on_still_waits_until_it_does(stream: ModuleType) -> None:
    """Another task must not take its place meanwhile: it would never learn that it was cancelled."""
    waiter = Waiter(stream, times=2)
    await asyncio.sleep(0)
    for act in (waiter.wakeup.wake_soon, waiter.task.cancel):
        act()
        assert waiter.wakeup.is_awaited
        await asyncio.sleep(0)
    assert waiter.seen == ["awake", ()]
    assert not waiter.wakeup.is_awaited
    await waiter.task


@each
async def test_what_the_task_raises_is_its_own(stream: ModuleType) -> None:
    wakeup = stream.Wakeup(asyncio.get_running_loop())

    async def fail() -> None:
        await wakeup
        raise ValueError("mine")

    task = asyncio.ensure_future(fail())
    await asyncio.sleep(0)
    await in_a_callback(wakeup.wake)
    with pytest.raises(ValueError, match="mine"):
        task.result()


@pytest.mark.parametrize("loop_kind", LOOPS)
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_the_end_of_the_program_stops_the_loop(stream: ModuleType, loop_kind: str, kind: type[BaseException]) -> None:
    """As it does where any other callback of the loop goes on with a task; whoever called `wake` is spared."""
    loop = LOOPS[loop_kind]()
    seen: list[str] = []

    async def fail(wakeup: Awaitable[None]) -> None:
        await wakeup
        raise kind

    async def main() -> None:
        wakeup = stream.Wakeup(loop)
        task = asyncio.ensure_future(fail(wakeup))
        await asyncio.sleep(0)
        await in_a_callback(wakeup.wake, lambda: seen.append("spared"))
        assert isinstance(task.exception(), kind)
        await asyncio.sleep(TIMEOUT)

    task = loop.create_task(main())
    with pytest.raises(kind):
        loop.run_forever()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    assert seen == ["spared"]


@each
async def test_the_task_keeps_its_context(stream: ModuleType) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nobody's")
    wakeup = stream.Wakeup(asyncio.get_running_loop())
    seen = []

    async def wait() -> None:
        for i in range(4):
            variable.set(f"mine {i}")
            await wakeup
            seen.append(variable.get())

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    variable.set("another's")
    for wake in (wakeup.wake, wakeup.wake_soon):
        await in_a_callback(wake, lambda: seen.append(variable.get()))
        await asyncio.sleep(0)
    wakeup.wake()
    await asyncio.sleep(0)
    assert seen == ["mine 0", "another's", "another's", "mine 1", "mine 2"]
    assert variable.get() == "another's"
    task.cancel()
    await asyncio.wait([task])


@each
async def test_the_task_is_the_current_one(stream: ModuleType) -> None:
    waiter = Waiter(stream)
    told = []

    async def tell() -> None:
        await waiter.wakeup
        told.append(asyncio.current_task())
        await asyncio.sleep(0)
        told.append(asyncio.current_task())

    waiter.task.cancel()
    task = asyncio.ensure_future(tell())
    await asyncio.sleep(0)
    await in_a_callback(waiter.wakeup.wake, lambda: told.append(asyncio.current_task()))
    await task
    assert told == [task, None, task]


# -- Cancelling -------------------------------------------------------------------------------------------------------


@each
async def test_cancelling_is_told_in_the_next_turn(stream: ModuleType) -> None:
    waiter = Waiter(stream, times=3)
    await asyncio.sleep(0)
    assert waiter.task.cancel()
    assert waiter.seen == []
    await asyncio.sleep(0)
    assert waiter.seen == [()]
    waiter.task.cancel("the reason")
    await asyncio.sleep(0)
    assert waiter.seen == [(), ("the reason",)]
    await in_a_callback(waiter.wakeup.wake)
    assert waiter.seen == [(), ("the reason",), "awake"]
    await waiter.task


@each
async def test_cancelled_and_woken_in_one_turn_it_is_cancelled_once(stream: ModuleType) -> None:
    for calls in ("cancel, wake", "cancel, wake_soon", "wake_soon, cancel", "cancel, cancel"):
        waiter = Waiter(stream, times=2)
        await asyncio.sleep(0)
        actions = {"cancel": waiter.task.cancel, "wake": waiter.wakeup.wake, "wake_soon": waiter.wakeup.wake_soon}
        await in_a_callback(*(actions[name] for name in calls.split(", ")))
        await asyncio.sleep(0)
        assert waiter.seen == [()], calls
        assert waiter.wakeup.is_awaited
        await in_a_callback(waiter.wakeup.wake)
        await waiter.task
        assert waiter.seen == [(), "awake"], calls


@each
async def test_woken_and_then_cancelled_it_learns_of_both(stream: ModuleType) -> None:
    waiter = Waiter(stream, times=2)
    await asyncio.sleep(0)
    await in_a_callback(waiter.wakeup.wake, waiter.task.cancel)
    await waiter.task
    assert waiter.seen == ["awake", ()]


@each
async def test_a_task_cancelled_before_it_waits(stream: ModuleType) -> None:
    waiter = Waiter(stream)
    waiter.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter.task
    assert not waiter.wakeup.is_awaited


@each
async def test_wait_for(stream: ModuleType) -> None:
    wakeup = stream.Wakeup(asyncio.get_running_loop())

    async def wait() -> str:
        await wakeup
        return "awake"

    for _ in range(2):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(wait(), 0.001)
        assert not wakeup.is_awaited
        waiting = asyncio.ensure_future(asyncio.wait_for(wait(), 60))
        await until(lambda: wakeup.is_awaited)
        await in_a_callback(wakeup.wake)
        assert await waiting == "awake"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout is of Python 3.11")
@each
async def test_timeout(stream: ModuleType) -> None:
    wakeup = stream.Wakeup(asyncio.get_running_loop())
    for _ in range(2):
        with pytest.raises(asyncio.TimeoutError):
            async with asyncio.timeout(0.001):
                await wakeup
        assert not wakeup.is_awaited
        asyncio.get_running_loop().call_soon(wakeup.wake)
        async with asyncio.timeout(60):
            await wakeup


@each
async def test_a_cancelled_wait_keeps_nothing(stream: ModuleType) -> None:
    """What the frames of the cancelled task held is freed at once, not when the garbage collector comes by."""

    class Held:
        pass

    async def wait(held: Held) -> None:
        await wakeup

    wakeup = stream.Wakeup(asyncio.get_running_loop())
    held = Held()
    reference = weakref.ref(held)
    task = asyncio.ensure_future(wait(held))
    del held
    await asyncio.sleep(0)
    gc.disable()
    try:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        del task
        await asyncio.sleep(0)
        assert reference() is None
    finally:
        gc.enable()


# -- The loop ---------------------------------------------------------------------------------------------------------


@each
async def test_the_debug_mode_of_the_loop(stream: ModuleType) -> None:
    asyncio.get_running_loop().set_debug(True)
    waiter = Waiter(stream, times=3)
    await asyncio.sleep(0)
    await in_a_callback(waiter.wakeup.wake)
    waiter.wakeup.wake()
    await asyncio.sleep(0)
    waiter.task.cancel("why")
    await waiter.task
    assert waiter.seen == ["awake", "awake", ("why",)]


if sys.version_info >= (3, 12):

    def test_eager_tasks(stream: ModuleType) -> None:
        """On the loop of asyncio: the other one hands its task factory no arguments that this one takes."""
        run("asyncio", eager_tasks(stream))

    async def eager_tasks(stream: ModuleType) -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        waiter = Waiter(stream, times=3)
        assert waiter.wakeup.is_awaited
        await in_a_callback(waiter.wakeup.wake)
        assert waiter.seen == ["awake"]

        async def wake() -> None:
            waiter.wakeup.wake()
            assert waiter.seen == ["awake"]

        await asyncio.ensure_future(wake())
        await asyncio.sleep(0)
        waiter.task.cancel()
        await waiter.task
        assert waiter.seen == ["awake", "awake", ()]


@pytest.mark.parametrize("loop_kind", LOOPS)
def test_it_belongs_to_one_loop(stream: ModuleType, loop_kind: str) -> None:
    other = LOOPS[loop_kind]()
    wakeup = stream.Wakeup(other)
    assert wakeup.get_loop() is other

    async def wait() -> None:
        with pytest.raises(RuntimeError, match="attached to a different loop"):
            await wakeup

    run(loop_kind, wait())
    other.close()
