"""Pings that watch the peer, and the end of silent and of idle connections: by a clock that stands, then for real."""

from __future__ import annotations

import asyncio
import gc
import socket as sockets
import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from wslowlevel import (
    ConnectionLost,
    Opcode,
    Request,
    Socket,
    State,
    connect,
    get_chunks_factory,
    get_messages_factory,
    prepare_websocket_frame,
    send_factory,
    send_handshake,
    send_message_factory,
    serve,
)
from wslowlevel.connection import Connection
from wslowlevel.keepalive import MAX_PINGS, NEVER, STEPS, Keepalive, Timeouts, Verdict

from .servers import RawClient, both_loops, close_of, connecting, handshake, masked, masked_close, run, serving, until
from .test_connection import both_roles, decoded, sent_by, sent_to
from .test_pings import Clock
from .test_socket import Handler, run_pair

MIB = 1024 * 1024


# -- Without I/O ------------------------------------------------------------------------------------------------------


class Watched:
    """A connection, whoever watches it, and a clock that both go by.

    Attributes:
        verdicts: (time, what was to be done), nothing left out but the times when that was nothing.
    """

    def __init__(self, role: str, timeouts: Timeouts) -> None:
        self.clock = Clock()
        self.clock.now = 0.0
        self.role = role
        self.connection = Connection(role=role, clock=self.clock)
        self.connection.open()
        self.keepalive = Keepalive(self.connection, timeouts, 0.0)
        self.progress = 0
        self.reading = True
        self.verdicts: list[tuple[float, Verdict]] = []

    @property
    def is_over(self) -> bool:
        return bool(self.verdicts) and self.verdicts[-1][1] in (Verdict.DEAD, Verdict.IDLE)

    def pass_until(self, end: float) -> None:
        """Let time pass, and do what is to be done."""
        while self.keepalive.due <= end and not self.is_over:
            self.check(self.keepalive.due)
        self.clock.now = end

    def check(self, now: float) -> None:
        self.clock.now = now
        verdict = self.keepalive.check(now, self.progress, self.reading)
        if verdict is not Verdict.NOTHING:
            self.verdicts.append((round(now, 6), verdict))
        if verdict is Verdict.PING:
            self.keepalive.ping()
            assert len(set(self.connection.pings) - {b"mine"}) <= MAX_PINGS, "pings that are not answered accumulate"

    # What may happen meanwhile.

    def receive(self, data: bytes) -> None:
        self.connection.feed(data)
        self.progress += len(data)

    def byte(self) -> None:
        self.progress += 1

    def pong(self) -> None:
        for payload in list(self.connection.pings):
            self.receive(sent_to(self.role, Opcode.PONG, payload))

    def empty_pong(self) -> None:
        self.receive(sent_to(self.role, Opcode.PONG, b""))

    def wrong_pong(self) -> None:
        self.receive(sent_to(self.role, Opcode.PONG, b"wrong"))

    def ping_of_theirs(self) -> None:
        self.receive(sent_to(self.role, Opcode.PING))

    def message(self) -> None:
        self.receive(sent_to(self.role, Opcode.TEXT, b"x"))

    def fragment(self) -> None:
        self.receive(sent_to(self.role, Opcode.TEXT, b"x", fin=0))

    def send(self) -> None:
        self.connection.note_send(sent_by(self.role, Opcode.TEXT, b"x"))

    def ping(self) -> None:
        self.connection.ping(b"mine")

    def pause(self) -> None:
        self.reading = False

    def resume(self) -> None:
        self.reading = True
        self.progress += 1


def at(times: Sequence[float], *events: Callable[[Watched], None]) -> list[tuple[float, Callable[[Watched], None]]]:
    return [(when, event) for when in times for event in events]


PING, DEAD, IDLE = Verdict.PING, Verdict.DEAD, Verdict.IDLE
Events = list[tuple[float, Callable[[Watched], None]]]

SCENARIOS: dict[str, tuple[tuple[float | None, float | None, float | None], Events, list[tuple[float, Verdict]]]] = {
    # Interval, timeout and idle timeout; what happens when; what is to be done when, up to 50 s.
    "nothing to watch": ((None, None, None), [], []),
    "a timeout alone": ((None, 4, None), [], []),
    "silence": ((10, 4, None), [], [(10, PING), (14, DEAD)]),
    "silence after a while": (
        (10, 4, None),
        at([10.5, 20.5], Watched.pong),
        [(10, PING), (20, PING), (30, PING), (34, DEAD)],
    ),
    "every answer comes": (
        (10, 4, None),
        at([11, 21, 31, 41], Watched.pong),
        [(10, PING), (20, PING), (30, PING), (40, PING), (50, PING)],
    ),
    "every answer comes at the last moment": (
        (10, 4, None),
        at([13.9, 23.9, 33.9, 43.9], Watched.pong),
        [(10, PING), (20, PING), (30, PING), (40, PING), (50, PING)],
    ),
    "answers that take longer than an interval": (
        (2, 5, None),
        at([6.5, 12.5], Watched.pong),
        [(2, PING), (8, PING), (14, PING), (19, DEAD)],
    ),
    "one ping at a time": ((2, 7, None), [], [(2, PING), (9, DEAD)]),
    "any byte is a sign of life": (
        (10, 4, None),
        at([13, 17, 21, 25, 29, 33, 37, 41, 45, 49], Watched.byte),
        [(10, PING), (20, PING), (30, PING), (40, PING), (50, PING)],
    ),
    "empty pongs at once": (
        (10, 20, None),
        at([10.1, 20.1, 30.1, 40.1], Watched.empty_pong),
        [(10, PING), (20, PING), (30, PING), (40, PING), (50, PING)],
    ),
    "wrong pongs, and a timeout within the interval": (
        (10, 4, None),
        at([10.1, 20.1, 30.1], Watched.wrong_pong),
        [(10, PING), (20, PING), (30, PING), (40, PING), (44, DEAD)],
    ),
    "wrong pongs without a timeout": (
        (10, None, None),
        at([10.1, 20.1], Watched.wrong_pong),
        [(10, PING), (20, PING), (30, PING), (40, PING), (50, PING)],
    ),
    "so is a ping": ((10, 4, None), at([13.5], Watched.ping_of_theirs), [(10, PING), (20, PING), (24, DEAD)]),
    "a byte before the ping is none": ((10, 4, None), at([9.9], Watched.byte), [(10, PING), (14, DEAD)]),
    "the last byte": ((10, 4, None), at([10.1], Watched.byte), [(10, PING), (20, PING), (24, DEAD)]),
    "nothing is read": ((10, 4, None), at([5], Watched.pause), [(10, PING)]),
    "nothing was read for a while": (
        (10, 4, None),
        [*at([5], Watched.pause), *at([29], Watched.resume), *at([29.5], Watched.pong)],
        [(10, PING), (30, PING), (34, DEAD)],
    ),
    "no timeout": ((20, None, None), [], [(20, PING), (40, PING)]),
    "no timeout, and answers": ((20, None, None), at([21, 35], Watched.pong), [(20, PING), (40, PING)]),
    "nothing was read in the meantime": (
        (10, 4, None),
        [*at([11], Watched.pause), *at([13.9], Watched.resume)],
        [(10, PING), (20, PING), (24, DEAD)],
    ),
    "the user's own ping waits": ((10, 4, None), at([9], Watched.ping), [(10, PING), (14, DEAD)]),
    "the user's own ping was answered": (
        (10, 4, None),
        [*at([9], Watched.ping), *at([9.5], Watched.pong)],
        [(10, PING), (14, DEAD)],
    ),
    "idle": ((None, None, 10), [], [(10, IDLE)]),
    "idle, whatever is answered": (
        (3, 2, 10),
        at([3.5, 6.5, 9.5], Watched.pong, Watched.ping_of_theirs),
        [(3, PING), (6, PING), (9, PING), (10, IDLE)],
    ),
    "dead before idle": ((3, 2, 10), [], [(3, PING), (5, DEAD)]),
    "messages keep it busy": ((None, None, 10), at([9, 18, 27, 36, 45], Watched.message), []),
    "so do those that are sent": ((None, None, 10), at([9, 18, 27, 36, 45], Watched.send), []),
    "idle after the last message": ((None, None, 10), at([4.9], Watched.message), [(15, IDLE)]),
    "found out within a tenth": ((None, None, 10), at([5.01], Watched.message), [(16, IDLE)]),
}


@both_roles
@pytest.mark.parametrize(("timeouts", "events", "verdicts"), SCENARIOS.values(), ids=SCENARIOS)
def test_what_is_to_be_done_and_when(
    role: str,
    timeouts: tuple[float | None, float | None, float | None],
    events: Events,
    verdicts: list[tuple[float, Verdict]],
) -> None:
    watched = Watched(role, Timeouts(*timeouts))
    for when, event in sorted(events, key=lambda each: each[0]):
        watched.pass_until(when)
        event(watched)
    watched.pass_until(50)
    assert watched.verdicts == verdicts


@both_roles
def test_a_check_that_comes_late_concludes_nothing(role: str) -> None:
    """The program did something else for so long that what came meanwhile may not have been read."""
    watched = Watched(role, Timeouts(10, 4, None))
    watched.pass_until(10)
    watched.check(14 + 4 / STEPS + 0.001)
    assert watched.verdicts == [(10, PING)]
    watched.pass_until(50)
    assert watched.verdicts == [(10, PING), (18.401, DEAD)]
    watched = Watched(role, Timeouts(10, 4, None))
    watched.pass_until(10)
    watched.check(14 + 4 / STEPS - 0.001)
    assert watched.verdicts == [(10, PING), (14.399, DEAD)]


@both_roles
@pytest.mark.parametrize("start", [0.0, 100.0])
def test_what_was_before_the_watch_does_not_count(role: str, start: float) -> None:
    """Neither the messages nor the time."""
    watched = Watched(role, Timeouts())
    for _ in range(3):
        watched.message()
        watched.send()
    watched.keepalive = Keepalive(watched.connection, Timeouts(None, None, 10), start)
    watched.pass_until(start + 50)
    ((when, verdict),) = watched.verdicts
    assert verdict is IDLE
    assert start + 10 <= when <= start + 11


@pytest.mark.parametrize(
    ("timeouts", "due"),
    [
        (Timeouts(), NEVER),
        (Timeouts(None, 4, None), NEVER),
        (Timeouts(10, 4, None), 10),
        (Timeouts(10, 4, 1000), 10),
        (Timeouts(None, None, 10), 1),
        (Timeouts(3, None, 10), 1),
    ],
)
def test_when_to_check_first(timeouts: Timeouts, due: float) -> None:
    assert Watched("server", timeouts).keepalive.due == due


@pytest.mark.parametrize("name", ["ping_interval", "ping_timeout", "idle_timeout"])
@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (0, ValueError, "must be more than 0 seconds, not 0"),
        (-1, ValueError, "must be more than 0 seconds, not -1"),
        (float("nan"), ValueError, "must be more than 0 seconds, not nan"),
        ("20", TypeError, "must be a number of seconds or None, not str"),
    ],
)
def test_what_is_no_timeout(name: str, value: Any, kind: type[Exception], text: str) -> None:
    options = {name: value}
    with pytest.raises(kind, match=f"{name} {text}"):
        Timeouts(**options)
    with pytest.raises(kind, match=f"{name} {text}"):
        serve(taking([]), "127.0.0.1", 0, **options)


# -- For real ---------------------------------------------------------------------------------------------------------


class Peer:
    """A client that answers pings until it is told not to."""

    def __init__(self, raw: RawClient) -> None:
        self.raw = raw
        self.pings = 0
        self.others: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()

    async def answer(self, count: float = float("inf")) -> None:
        """Answer so many pings; the other frames go to `others`. It ends with the connection too."""
        with suppress(EOFError, ConnectionError):
            while self.pings < count:
                frame = await self.raw.read_frame()
                if frame.opcode == Opcode.PING:
                    self.pings += 1
                    await self.raw.send(masked(Opcode.PONG, frame.payload))
                else:
                    self.others.put_nowait((frame.opcode, frame.payload))


def taking(errors: list[BaseException], opcodes: list[int] | None = None, **options: Any) -> Handler:
    """A handler that takes every message, and the error at their end."""

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket, **options)
        send_handshake(request, socket)
        try:
            async for message in get_messages():
                if opcodes is not None:
                    opcodes.append(message.opcode)
        except ConnectionLost as error:
            errors.append(error)

    return handler


def live_timers() -> list[asyncio.TimerHandle]:
    """What asyncio's loop is going to do later."""
    timers: list[asyncio.TimerHandle] = getattr(asyncio.get_running_loop(), "_scheduled", [])
    return [timer for timer in timers if not timer.cancelled()]


@both_loops
def test_who_answers_stays(loop_kind: str) -> None:
    errors: list[BaseException] = []
    opcodes: list[int] = []

    async def client(raw: RawClient) -> None:
        await Peer(raw).answer(20)
        await raw.send(masked_close(1000))
        while (frame := await raw.read_frame()).opcode == Opcode.PING:
            pass
        assert close_of(frame) == (1000, "")

    run_pair(loop_kind, taking(errors, opcodes), client, ping_interval=0.01, ping_timeout=5)
    assert errors == []
    assert opcodes == [Opcode.PONG] * 20 + [Opcode.CLOSE]


@both_loops
def test_who_never_answers_is_dropped_and_told(loop_kind: str) -> None:
    errors: list[BaseException] = []
    why = "no sign of life for 0.05 s after a ping"

    async def client(raw: RawClient) -> None:
        frames = await raw.read_frames()
        assert [frame.opcode for frame in frames] == [Opcode.PING, Opcode.CLOSE]
        assert close_of(frames[-1]) == (1011, why)
        await until(lambda: bool(errors))

    run_pair(loop_kind, taking(errors), client, ping_interval=0.01, ping_timeout=0.05)
    (error,) = errors
    assert isinstance(error, ConnectionLost)
    assert str(error) == f"connection is closed: {why}; sent 1011 '{why}'"
    assert (error.code, error.received, error.sent, error.closed_first) == (1006, None, (1011, why), "sent")


@both_loops
def test_a_client_watches_its_server_too(loop_kind: str) -> None:
    async def main() -> None:
        async with serving(taking([], auto_pong=False)) as server:
            _, socket = await connect(f"ws://127.0.0.1:{server.port}", ping_interval=0.01, ping_timeout=0.05)
            async with socket:
                get_messages = get_messages_factory(socket)
                with pytest.raises(ConnectionLost, match="no sign of life for"):
                    await anext(get_messages())
                with pytest.raises(ConnectionLost, match="no sign of life"):
                    send_factory(socket)(prepare_websocket_frame(b"late", mask_key=True))
                with pytest.raises(ConnectionLost, match="no sign of life"):
                    await anext(get_messages())
            _, socket = await connect(f"ws://127.0.0.1:{server.port}", idle_timeout=0.05)
            get_messages = get_messages_factory(socket)
            assert [message.opcode async for message in get_messages()] == [Opcode.CLOSE]
            assert (socket.sent, socket.received) == ((1001, "idle for 0.05 s"), (1001, "idle for 0.05 s"))
            await socket.wait_closed()

    run(loop_kind, main())


@both_loops
def test_who_waits_for_something_else_is_told_of_the_end(loop_kind: str) -> None:
    """A sender that waits for the slow peer, a stream and a ping."""
    told = asyncio.Event()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages_factory(socket)
        await send_handshake(request, socket)
        sends = [socket.send(prepare_websocket_frame(bytes(MIB))) for _ in range(16)]
        waiting: list[Awaitable[Any]] = [*sends, socket.ping(), socket.send_chunks(["x"])]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, ConnectionLost) for result in results), results
        assert all("no sign of life" in str(result) for result in results)
        assert socket.state is State.CLOSED
        told.set()

    async def client(raw: RawClient) -> None:
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await told.wait()

    run_pair(loop_kind, handler, client, ping_interval=0.05, ping_timeout=0.1)


@both_loops
def test_an_echo_to_a_peer_that_takes_nothing_ends(loop_kind: str) -> None:
    """Its handler waits to send, and so takes no messages; the peer has sent more than may wait, and goes on."""
    ended = asyncio.Event()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages, send_message = get_messages_factory(socket), send_message_factory(socket)
        send_handshake(request, socket)
        with pytest.raises(ConnectionLost, match="no sign of life"):
            async for message in get_messages():
                await send_message(message.payload)
        ended.set()

    async def client(raw: RawClient) -> None:
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(1000):
            raw.writer.write(masked(Opcode.BINARY, bytes(60_000)))
        await ended.wait()

    run_pair(loop_kind, handler, client, ping_interval=0.05, ping_timeout=0.2)


@both_loops
def test_a_large_frame_that_comes_slowly_is_a_sign_of_life(loop_kind: str) -> None:
    """Byte by byte, and no pong can come in between; for several times the timeout."""
    errors: list[BaseException] = []
    opcodes: list[int] = []

    async def client(raw: RawClient) -> None:
        frame = masked(Opcode.BINARY, bytes(60_000))
        start = time.monotonic()
        sent = 0
        while time.monotonic() - start < 1.0:
            await raw.send(frame[sent : sent + 1])
            sent += 1
            await asyncio.sleep(0.005)
        await raw.send(frame[sent:], masked_close(1000))
        frames = await raw.read_frames()
        assert {each.opcode for each in frames[:-1]} == {Opcode.PING}
        assert close_of(frames[-1]) == (1000, "")

    run_pair(loop_kind, taking(errors, opcodes), client, ping_interval=0.05, ping_timeout=0.25)
    assert errors == []
    assert opcodes == [Opcode.BINARY, Opcode.CLOSE]


@both_loops
def test_while_nobody_takes_messages_nothing_is_concluded(loop_kind: str) -> None:
    errors: list[BaseException] = []
    may_read = asyncio.Event()
    received = 0

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        nonlocal received
        get_messages = get_messages_factory(socket)
        send_handshake(request, socket)
        await may_read.wait()
        try:
            async for message in get_messages():
                received += message.opcode == Opcode.BINARY
        except ConnectionLost as error:
            errors.append(error)

    async def client(raw: RawClient) -> None:
        for _ in range(100):
            raw.writer.write(masked(Opcode.BINARY, bytes(200_000)))
        assert (await raw.read_frame()).opcode == Opcode.PING  # its answer stands behind 20 MB
        await asyncio.sleep(1.0)
        may_read.set()
        await raw.writer.drain()
        raw.writer.write(masked_close(1000))
        while (frame := await raw.read_frame()).opcode == Opcode.PING:
            pass
        assert close_of(frame) == (1000, "")

    run_pair(loop_kind, handler, client, ping_interval=0.05, ping_timeout=0.3)
    assert (errors, received) == ([], 100)


@both_loops
def test_who_is_read_again_has_the_whole_timeout_to_answer(loop_kind: str) -> None:
    """Nothing was read when the ping went out, and nothing has come since; the answer comes well after the timeout."""
    errors: list[BaseException] = []
    read_again = asyncio.Event()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        send_handshake(request, socket)
        await until(lambda: socket.counters.bytes_received > 64 * 1024)
        socket.keep_alive(ping_interval=0.01, ping_timeout=0.6)
        await until(lambda: socket.counters.pings_sent == 1)
        await asyncio.sleep(0.3)
        assert (await anext(get_messages())).opcode == Opcode.BINARY
        read_again.set()
        try:
            async for _ in get_messages():
                pass
        except ConnectionLost as error:
            errors.append(error)

    async def client(raw: RawClient) -> None:
        await raw.send(masked(Opcode.BINARY, bytes(64 * 1024)))
        await read_again.wait()
        await asyncio.sleep(0.45)
        await Peer(raw).answer(1)
        await raw.send(masked_close(1000))
        assert (await raw.read_frames())[-1].payload == b"\x03\xe8"

    run_pair(loop_kind, handler, client)
    assert errors == []


@both_loops
def test_what_a_slow_peer_takes_is_a_sign_of_life(loop_kind: str) -> None:
    """It cannot answer the ping, which stands behind a large frame; it reads for several times the timeout.

    What both systems hold for it is kept small, for the socket cannot see how much of that is taken.
    """
    size = 12 * MIB
    errors: list[BaseException] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        socket.get_extra_info("socket").setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, 64 * 1024)
        await send_handshake(request, socket)
        socket.send(prepare_websocket_frame(bytes(size)))
        try:
            async for _ in get_messages():
                pass
        except ConnectionLost as error:
            errors.append(error)

    async def client(raw: RawClient) -> None:
        raw.writer.get_extra_info("socket").setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 64 * 1024)
        for _ in range(0, size, 64 * 1024):
            await raw.reader.readexactly(64 * 1024)
            await asyncio.sleep(0.005)
        await raw.reader.readexactly(10)
        peer = Peer(raw)
        await peer.answer(2)
        assert peer.others.empty()
        await raw.send(masked_close(1000))

    run_pair(loop_kind, handler, client, ping_interval=0.05, ping_timeout=0.3)
    assert errors == []


@both_loops
def test_a_program_that_does_something_else_does_not_take_it_for_silence(loop_kind: str) -> None:
    errors: list[BaseException] = []

    async def client(raw: RawClient) -> None:
        peer = Peer(raw)
        answering = asyncio.create_task(peer.answer())
        for _ in range(3):
            pings = peer.pings
            await until(lambda: peer.pings > pings)  # noqa: B023 - awaited before it changes
            time.sleep(0.3)  # noqa: ASYNC251 - this is what the test is about
        assert errors == []
        await raw.send(masked_close(1000))
        await answering
        assert [opcode for opcode, _ in [peer.others.get_nowait()]] == [Opcode.CLOSE]

    run_pair(loop_kind, taking(errors), client, ping_interval=0.02, ping_timeout=0.15)
    assert errors == []


@both_loops
def test_an_idle_connection_is_closed(loop_kind: str) -> None:
    errors: list[BaseException] = []
    opcodes: list[int] = []

    async def client(raw: RawClient) -> None:
        peer = Peer(raw)
        answering = asyncio.create_task(peer.answer())
        assert await peer.others.get() == (Opcode.CLOSE, b"\x03\xe9idle for 0.1 s")
        await raw.send(masked_close(1001))
        await answering
        assert peer.pings > 0
        assert peer.others.empty()

    run_pair(loop_kind, taking(errors, opcodes, auto_pong=True), client, ping_interval=0.01, idle_timeout=0.1)
    assert errors == []
    assert opcodes[-1] == Opcode.CLOSE


@both_loops
def test_who_takes_messages_is_not_idle(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        send_message = send_message_factory(socket)
        send_handshake(request, socket)
        async for message in get_messages():
            if message.opcode == Opcode.TEXT:
                send_message(message.text)

    async def client(raw: RawClient) -> None:
        start = time.monotonic()
        while time.monotonic() - start < 0.9:
            await raw.send(masked(Opcode.TEXT, b"echo"))
            assert (await raw.read_frame()).payload == b"echo"
            await asyncio.sleep(0.01)
        assert await raw.read_close() == (1001, "idle for 0.3 s")

    run_pair(loop_kind, handler, client, idle_timeout=0.3, close_timeout=0.1)


@both_loops
@pytest.mark.parametrize("answers", [True, False])
def test_what_came_before_the_peers_close_is_answered_however_slowly(loop_kind: str, answers: bool) -> None:
    """Whoever has said Close answers no ping, and is not idle either."""
    closed = asyncio.Event()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages, send_message = get_messages_factory(socket), send_message_factory(socket)
        send_handshake(request, socket)
        await until(lambda: socket.received is not None)
        await asyncio.sleep(0.3)
        async for message in get_messages():
            if message.opcode == Opcode.TEXT:
                send_message(message.text)
        assert socket.sent == (4000, "")
        closed.set()

    async def client(raw: RawClient) -> None:
        await raw.send(masked(Opcode.TEXT, b"question"))
        if answers:
            await Peer(raw).answer(2)
        await raw.send(masked_close(4000))
        frames = [frame for frame in await raw.read_frames() if frame.opcode != Opcode.PING]
        assert [frame.payload for frame in frames] == [b"question", b"\x0f\xa0"]
        await closed.wait()

    run_pair(loop_kind, handler, client, ping_interval=0.02, ping_timeout=0.05, idle_timeout=0.1)


@both_loops
def test_the_latency_is_that_of_the_last_ping(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_chunks_factory(socket)
        assert socket.latency is None
        send_handshake(request, socket)
        await until(lambda: socket.counters.pongs_received >= 3)
        assert socket.latency is not None
        assert 0 < socket.latency < 30
        assert socket.counters.pings_sent >= 3

    async def client(raw: RawClient) -> None:
        answering = asyncio.create_task(Peer(raw).answer())
        await until(lambda: answering.done() or raw.writer.is_closing())
        await answering

    run_pair(loop_kind, handler, client, ping_interval=0.01, close_timeout=0.1)


@both_loops
def test_pings_of_the_user_and_of_the_keepalive_go_together(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages_factory(socket)
        send_handshake(request, socket)
        for i in range(20):
            assert await socket.ping() > 0
            assert await socket.ping(b"%d" % i) > 0
            await asyncio.sleep(0.003)
        socket.ping(b"left open")
        assert socket.counters.pings_sent > 41

    async def client(raw: RawClient) -> None:
        peer = Peer(raw)
        await peer.answer()
        assert peer.others.get_nowait() == (Opcode.CLOSE, b"\x03\xe8")

    run_pair(loop_kind, handler, client, ping_interval=0.002, ping_timeout=5, close_timeout=0.1)


@both_loops
def test_the_watch_may_change(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        with pytest.raises(ValueError, match="ping_interval must be more than 0 seconds"):
            socket.keep_alive(ping_interval=0)
        timers = live_timers()
        socket.keep_alive(ping_interval=0.01, ping_timeout=None)  # from the handshake on
        assert live_timers() == timers
        send_handshake(request, socket)
        await until(lambda: socket.counters.pongs_received >= 2)
        socket.keep_alive()
        assert live_timers() == timers
        socket.keep_alive(idle_timeout=0.05)
        async for _ in get_messages():
            pass
        assert socket.sent == (1001, "idle for 0.05 s")
        socket.keep_alive(ping_interval=0.01)  # too late

    async def client(raw: RawClient) -> None:
        peer = Peer(raw)
        answering = asyncio.create_task(peer.answer())
        assert (await peer.others.get())[0] == Opcode.CLOSE
        await raw.send(masked_close(1001))
        await answering

    run_pair(loop_kind, handler, client)


def say_nothing(raw: RawClient) -> None:
    """And answer nothing."""


FAREWELLS: dict[str, Callable[[RawClient], object]] = {
    "close": lambda raw: raw.writer.write(masked_close(1000)),
    "reset": RawClient.reset,
    "eof": lambda raw: raw.writer.write_eof(),
    "silence": say_nothing,
}


@both_loops
@pytest.mark.parametrize("farewell", FAREWELLS.values(), ids=FAREWELLS)
def test_nothing_is_left_when_the_connection_is_gone(loop_kind: str, farewell: Callable[[RawClient], object]) -> None:
    """No timer, no task, and nothing that keeps the socket."""
    sockets: list[weakref.ref[Socket]] = []
    timers: list[asyncio.TimerHandle] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        sockets.append(weakref.ref(socket))
        get_messages = get_messages_factory(socket)
        send_handshake(request, socket)
        async for _ in get_messages():
            pass

    async def main() -> None:
        options = {"ping_interval": 0.01, "ping_timeout": 0.2, "idle_timeout": 60}
        async with serving(handler, **options) as server:
            timers.extend(live_timers())
            async with connecting(server.port) as raw:
                await raw.send(handshake())
                await raw.reader.readuntil(b"\r\n\r\n")
                await Peer(raw).answer(3)
                farewell(raw)
                await until(lambda: server.connections == 0)
                await until(lambda: sockets[0]() is None)
                assert [timer for timer in live_timers() if timer not in timers] == []

    gc.collect()
    gc.disable()
    try:
        run(loop_kind, main())
    finally:
        gc.enable()


def test_pings_of_a_client_are_masked() -> None:
    watched = Watched("client", Timeouts(10, 4, None))
    watched.pass_until(10)
    (frame,) = decoded("client", watched.connection.ping(b"x"))
    assert frame.mask == 1
