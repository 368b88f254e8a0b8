"""what is decoded -> the task that waits for it; frames -> one write: all that is done once a message, or once a read

`_stream.pyx` is the compiled twin; this is the one to read. What happens seldom is left to the subclasses.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Sequence
from contextvars import Context, copy_context
from threading import get_ident
from typing import Any, cast, final

from .. import errors
from ..connection import Connection, State
from ..wire import JOIN_LIMIT, MANY_MESSAGES, READ_SIZE

_IOV_MAX = 1024
"""Chunks that one writev takes, of Linux, the BSDs and macOS."""

_NOTHING: Iterator[Any] = iter(())

_get_running_loop = asyncio._get_running_loop


class Stream:
    """Messages that come in and frames that go out, over one transport.

    Args:
        connection: whose bytes they are.
        limit: bytes of frames that may be queued before `_queue_grew` is called for each further one.

    Attributes:
        held: whether the frames that its connection lets pass have to go through `_send_other` all the same.
        queued: bytes of frames that wait here.
        must_wait: whether awaiting what `send` returns has to wait.
    """

    # A dictionary of so many attributes would be a third of what an idle connection holds.
    __slots__ = (
        *("_loop", "_connection", "_transport", "_has_begun", "_is_plain", "_is_reading", "_arrived", "_batches"),
        *("_undelivered", "_readable", "_on_message", "_failure", "held", "must_wait", "_limit", "_frames", "queued"),
        *("_longest", "_flush_is_due", "_writing_paused", "_descriptor", "_transport_waits"),
        *("_written_in_turn", "_sent", "_thread"),
    )

    def __init__(self, connection: Connection, *, limit: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()  # the thread in which the loop was seen running
        self._connection = connection
        self._transport: asyncio.Transport | None = None

        self._has_begun = False
        self._is_plain = False
        self._is_reading = True
        self._arrived = 0
        self._batches: list[tuple[list[Any], int]] = []
        self._undelivered = 0
        self._readable = Wakeup(self._loop)
        self._on_message: Callable[[Any], object] | None = None
        self._failure: BaseException | None = None

        self.held = False
        self.must_wait = False
        self._limit = limit
        self._frames: list[bytes] = []
        self.queued = 0
        self._longest = 0
        self._written_in_turn = 0
        self._flush_is_due = False
        self._writing_paused = False
        self._descriptor = -1
        self._transport_waits = False
        # What `send` returns, from when the transport is there until it is gone: it keeps the stream that keeps it.
        self._sent: Sent | None = None

    # -- In -----------------------------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """Called by the transport: memory to receive into."""
        return self._connection.get_buffer() if self._has_begun else self._early_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Called by the transport: so many bytes stand in the buffer that it was lent."""
        if not self._is_plain:
            self._buffer_updated(nbytes)
            return
        messages = self._connection.buffer_updated(nbytes)
        self._arrived += nbytes
        if nbytes >= READ_SIZE and len(messages) > MANY_MESSAGES:
            self._note_full_read()
        if self._connection.eventful:
            self._received(messages)
        elif not messages:
            return
        elif self._on_message is None or self._batches or self._connection.extensions:
            self._put_batch(messages)
        else:
            self._readable.context.run(self._hand_out, messages)
            return
        self._go_on()

    def _put_batch(self, messages: list[Any]) -> None:
        """Keep messages, and with them the bytes that arrived for them, until they are taken."""
        self._batches.append((messages, self._arrived))
        self._undelivered += self._arrived
        self._arrived = 0

    def _hand_out(self, messages: list[Any]) -> None:
        """Call `_on_message` for each, until it raises, or nobody waits for messages any more."""
        was_due, self._flush_is_due = self._flush_is_due, True
        taken = 0
        try:
            for message in messages:
                if self._on_message is None:
                    break
                taken += 1
                self._on_message(message)
        except BaseException as error:  # noqa: BLE001 - it is for whoever waits
            self._failure, self._on_message = error, None
        finally:
            self._flush_is_due = was_due
        if taken == len(messages):
            self._arrived = 0
        else:
            self._put_batch(messages[taken:])
        if self._failure is not None:
            self._readable.wake_soon()
        self._flush_and_read_on()

    def _go_on(self) -> None:
        """Let the task that waits for messages take them, and write what it sends, in this turn of the loop."""
        was_due, self._flush_is_due = self._flush_is_due, True
        try:
            self._readable.wake()
        finally:
            self._flush_is_due = was_due
        self._flush_and_read_on()

    def _flush_and_read_on(self) -> None:
        self.flush()
        if self._undelivered or self.queued or not self._is_reading or self._connection.ended:
            self._update_reading()

    def take_batch(self) -> Iterator[Any] | None:
        """Take the next batch of messages, or chunks, which may be empty.

        Returns:
            None if there is none yet; what is queued was written then, and `wait_readable` is to be awaited.

        Raises:
            StopAsyncIteration: the connection is closed.
            ProtocolError, PayloadTooBig: the peer broke a rule or a limit.
            ConnectionLost: it ended without a Close frame.
            RuntimeError: the opening handshake was not answered, or this is not the thread of the event loop.
        """
        if get_ident() != self._thread:
            self._check_thread("get_messages")
        if not self._batches:
            if self._connection.state is not State.OPEN:
                self._raise_if_ended()
            self.flush()
            return None
        batch, size = self._batches.pop(0)
        self._undelivered -= size
        if not self._is_reading:
            self._update_reading()
        if self._connection.ended or self._connection.extensions:
            return self._opened_batch(batch)
        return iter(batch)

    def wait_readable(self) -> Awaitable[None]:
        """Wait until there is a batch, or the end; cancelling it loses nothing.

        Raises:
            RuntimeError: another task waits here already.
        """
        if self._readable.is_awaited:
            raise errors.already_waited()
        self._written_in_turn = 0
        return self._readable

    # -- Out ----------------------------------------------------------------------------------------------------------

    def send(self, frame: object) -> Awaitable[None]:
        """Queue a frame, see :func:`wslowlevel.send_factory`."""
        if get_ident() != self._thread or not (self._flush_is_due or _get_running_loop() is self._loop):
            self._check_thread("send")
        if self.held or not self._connection.passes(frame):
            return self._send_other(frame)
        self.enqueue(frame)  # type: ignore[arg-type] # only bytes pass
        return Sent(self) if self._sent is None else self._sent

    def enqueue(self, frame: bytes) -> None:
        """Put a frame, or other bytes, behind what is queued; unlike `send`, unconditionally."""
        self._frames.append(frame)
        size = len(frame)
        self.queued += size
        self._longest = max(self._longest, size)
        if self.queued >= self._limit or not self._flush_is_due:
            self._queue_grew()

    def flush(self) -> None:
        """Write what is queued, in one write, unless the peer is slow."""
        if self.queued and not self._writing_paused:
            self._write_queue()

    def _write_queue(self) -> None:
        transport, connection = self._transport, self._connection
        if self.queued and transport is not None and connection.state is not State.CLOSED:
            waiting = transport.get_write_buffer_size() if self._transport_waits else 0
            connection.note_waiting(self.queued + waiting)
            self._write(self._take_frames(), waiting)

    def _write(self, chunks: Sequence[bytes], waiting: int) -> None:
        """Write chunks behind the `waiting` bytes that the transport still has.

        As long as it has none, they may as well go to its socket at once, in one system call and without a copy. What
        does not fit is for the transport, which waits until it does.
        """
        transport = self._transport
        assert transport is not None
        if transport.is_closing():
            return  # nobody will get it
        left: Sequence[bytes | memoryview] = chunks
        if not waiting and self._descriptor >= 0:
            left = _write_now(self._descriptor, chunks)
        self._transport_waits = bool(left)
        for chunk in left:
            if transport.is_closing():
                break  # an error met it at the chunk before
            transport.write(chunk)

    def _take_frames(self) -> list[bytes]:
        """Take out what is queued, runs of short frames joined."""
        frames, longest = self._frames, self._longest
        self._drop_frames()
        if len(frames) <= 1:
            return frames
        return [b"".join(frames)] if longest < JOIN_LIMIT else _joined(frames)

    def _drop_frames(self) -> None:
        self._frames = []
        self.queued = self._longest = 0

    # -- What a subclass knows ----------------------------------------------------------------------------------------

    def _check_thread(self, method: str) -> None:
        """Raise RuntimeError if the event loop runs in another thread than the caller's; store the thread otherwise."""
        raise NotImplementedError

    def _early_buffer(self) -> memoryview:
        """Memory to receive into while it is not known yet how to receive."""
        raise NotImplementedError

    def _buffer_updated(self, nbytes: int) -> None:
        """The same as `buffer_updated` where things are not plain: before the opening handshake, and at the end."""
        raise NotImplementedError

    def _note_full_read(self) -> None:
        """A read brought as much as fits, and it was many messages: there may be more of them in this turn."""
        raise NotImplementedError

    def _received(self, messages: list[Any]) -> None:
        """Keep messages, and do what else follows of what arrived: there are replies to send, or it is the end."""
        raise NotImplementedError

    def _update_reading(self) -> None:
        """Read on, or not: something changed of what decides it."""
        raise NotImplementedError

    def _raise_if_ended(self) -> None:
        """There are no messages: raise if there will be none."""
        raise NotImplementedError

    def _opened_batch(self, batch: list[Any]) -> Iterator[Any]:
        """A batch was taken that extensions have changed, or that may be the last one."""
        raise NotImplementedError

    def _send_other(self, frame: object) -> Awaitable[None]:
        """Send what the connection did not let pass, or what is held."""
        raise NotImplementedError

    def _queue_grew(self) -> None:
        """There is something to write and no flush due, or more than `limit` bytes to write."""
        raise NotImplementedError

    async def wait_sent(self) -> None:
        """Wait while the peer is slow; ConnectionLost if it goes before it was sent everything."""
        raise NotImplementedError


def _write_now(descriptor: int, chunks: Sequence[bytes]) -> Sequence[bytes | memoryview]:
    """Write what fits -> what is left. Errors are left too, to the transport, which meets them when it writes that."""
    try:
        written = os.write(descriptor, chunks[0]) if len(chunks) == 1 else os.writev(descriptor, chunks[:_IOV_MAX])
    except OSError:
        return chunks
    for index, chunk in enumerate(chunks):
        if written < len(chunk):
            return [memoryview(chunk)[written:], *chunks[index + 1 :]]
        written -= len(chunk)
    return ()


def _joined(frames: Sequence[bytes]) -> list[bytes]:
    """Join runs of short frames; leave long ones alone, for the copy would cost more than the chunk saves."""
    chunks: list[bytes] = []
    run: list[bytes] = []
    for frame in frames:
        if len(frame) < JOIN_LIMIT:
            run.append(frame)
            continue
        if run:
            chunks.append(b"".join(run))
            run = []
        chunks.append(frame)
    if run:
        chunks.append(b"".join(run))
    return chunks


def _raise(error: BaseException) -> None:
    raise error


class _NoLoop:
    """What a future asks its loop for when it is made."""

    def get_debug(self) -> bool:
        return False


DONE: asyncio.Future[None] = asyncio.Future(loop=cast(asyncio.AbstractEventLoop, _NoLoop()))
"""What a task is told has ended when it is to go on: it asks nothing of it but its result."""
DONE.set_result(None)


class Sent(Awaitable[None]):
    """What `send` returns. The frame is queued already; awaiting waits while the peer is slow."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __await__(self) -> Generator[Any, None, None]:
        if self._stream.must_wait:
            yield from self._stream.wait_sent().__await__()


@final
class Wakeup(Awaitable[None]):
    """What one task at a time awaits, and a callback of the loop ends; it can be awaited again.

    An asyncio.Future puts whoever awaits it at the end of the loop's queue: a turn, with its system call, between the
    bytes and the task that reads them. This goes on with the task at once. The attributes and methods below are those
    of a future which asyncio asks for. Cancelling works as with any other: the task learns of it in the next turn.

    Attributes:
        is_awaited: whether a task waits, or was told to go on and has not done so yet.
        context: of that task, or of the last one.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_cancelled", "_loop", "context", "is_awaited")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._callback: Callable[[Any], object] | None = None
        self._cancelled: tuple[object, ...] | None = None
        self._asyncio_future_blocking = False
        self.is_awaited = False
        self.context = Context()

    def __await__(self) -> Generator[Any, None, None]:
        self._cancelled = None
        self._asyncio_future_blocking = True
        yield self

    def wake(self) -> None:
        """Go on with the task that waits, if one does, before this returns: for callbacks of the loop.

        What the task raises is its own; KeyboardInterrupt and SystemExit stop the loop too, in its next turn.
        """
        callback = self._callback
        if callback is None:
            return
        if asyncio.current_task(self._loop) is not None:  # no task may run inside another
            self.wake_soon()
            return
        self._callback = None
        self.is_awaited = False
        try:
            self.context.run(callback, DONE)
        except (KeyboardInterrupt, SystemExit) as error:
            # Not every transport lets out what its protocol raises; a callback of the loop's own stops any loop.
            self._loop.call_soon(_raise, error)

    def wake_soon(self) -> None:
        """Go on with the task that waits, if one does, in the next turn of the loop."""
        callback, self._callback = self._callback, None
        if callback is not None:
            self._loop.call_soon(callback, self, context=self.context)

    # -- What asyncio asks of a future --------------------------------------------------------------------------------

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None:
        self._callback = callback
        self.context = copy_context() if context is None else context
        self.is_awaited = True

    def cancel(self, msg: object = None) -> bool:
        if self._callback is None:
            return False
        self._cancelled = () if msg is None else (msg,)
        self.wake_soon()
        return True

    def result(self) -> None:
        self.is_awaited = False
        if self._cancelled is not None:
            raise asyncio.CancelledError(*self._cancelled)


# -- The iterator -----------------------------------------------------------------------------------------------------


class Items(AsyncIterator[Any]):
    """The messages, or chunks, of a stream, in order.

    A step that is cancelled loses nothing: the next one goes on from there.
    """

    __slots__ = ("_batch", "_stream")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._batch: Iterator[Any] = _NOTHING

    async def __anext__(self) -> Any:
        for item in self._batch:
            return item
        while True:
            batch = self._stream.take_batch()
            if batch is None:
                await self._stream.wait_readable()
            else:
                self._batch = batch
                for item in batch:
                    return item
