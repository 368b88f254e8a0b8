"""whose turn it is to send"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, cast

from .stream import Sent, Stream


class Held(Sent):
    """What `send` returns of a data frame that has to wait until a message in chunks is finished.

    Attributes:
        size: bytes that it keeps waiting.
        lane: what it waits for, None once it was sent.
    """

    __slots__ = ("_error", "_send", "lane", "size")

    def __init__(self, stream: Stream, send: Callable[[], object], size: int) -> None:
        super().__init__(stream)
        self.size = size
        self.lane: Lane | None = None
        self._send = send
        self._error: Exception | None = None

    def release(self) -> None:
        self.lane = None
        try:
            self._send()
        except Exception as error:  # noqa: BLE001 - it is for whoever awaits this
            self._error = error

    def __await__(self) -> Generator[Any, None, None]:
        while self.lane is not None:
            yield from self.lane.wait().__await__()
        if self._error is not None:
            raise self._error
        yield from super().__await__()


class Lane:
    """The turn of a message in chunks: no frame of another message may go out until it is over (RFC 6455 §5.4).

    Args:
        before: whose turn comes first, None for nobody's.
    """

    def __init__(self, before: Lane | None) -> None:
        self._before = before
        self._held: deque[Held] = deque()
        self._held_size = 0
        self._over = asyncio.get_running_loop().create_future()

    @property
    def size(self) -> int:
        """Bytes that are kept back, here and before."""
        size, lane = 0, cast("Lane | None", self)
        while lane is not None:
            size, lane = size + lane._held_size, lane._before
        return size

    def hold(self, held: Held) -> Held:
        """Keep a frame back."""
        held.lane = self
        self._held.append(held)
        self._held_size += held.size
        return held

    async def turn(self) -> None:
        """Wait for it."""
        while (before := self._waits_for()) is not None:
            await before.wait()

    async def wait(self) -> None:
        """Wait until it is over."""
        await asyncio.shield(self._over)

    def end(self) -> Lane | None:
        """Send what was kept back, in its order.

        Returns:
            Whose turn it still is, if this one did not come: what was kept back waits for that.
        """
        if self._over.done():
            return None
        before = self._waits_for()
        held, self._held, self._held_size = self._held, deque(), 0
        for each in held:
            if before is None:
                each.release()
            else:
                before.hold(each)
        self._over.set_result(None)
        return before

    def end_all(self) -> None:
        """The connection is gone: this turn is over, and so are those before."""
        lanes = [self]
        while (before := lanes[-1]._waits_for()) is not None:
            lanes.append(before)
        for lane in reversed(lanes):
            lane.end()

    def _waits_for(self) -> Lane | None:
        while self._before is not None and self._before._over.done():
            self._before = self._before._before  # there is one if that turn was given up before it came
        return self._before
