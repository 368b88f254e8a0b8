"""Pings whose answer is timed (RFC 6455 §5.5.2, §5.5.3): without I/O by a clock that stands, then over a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from wslowlevel import (
    ConnectionLost,
    Message,
    Opcode,
    Request,
    Socket,
    connect,
    get_chunks_factory,
    get_messages_factory,
    prepare_websocket_frame,
    send_factory,
    send_handshake,
)
from wslowlevel.connection import Connection

from .servers import RawClient, both_loops, masked, masked_close, run, serving, until
from .test_connection import BYE, answers, both_roles, decoded, sent_by, sent_to
from .test_socket import run_pair


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def timed(role: str, **options: bool) -> tuple[Connection, Clock]:
    """An open connection, and its clock."""
    clock = Clock()
    connection = Connection(role=role, clock=clock, **options)
    connection.open()
    return connection, clock


# -- Without I/O ------------------------------------------------------------------------------------------------------


@both_roles
@pytest.mark.parametrize("chunks", [False, True])
def test_a_pong_answers_its_ping_and_those_before_it(role: str, chunks: bool) -> None:
    connection, clock = timed(role, chunks=chunks)
    for payload in (b"1", b"2", b"3"):
        connection.ping(payload)
        clock.now += 1
    assert connection.pings == {b"1": 1000, b"2": 1001, b"3": 1002}
    assert connection.latency is None

    connection.feed(sent_to(role, Opcode.PONG, b"2"))
    assert connection.pings == {b"3": 1002}
    assert connection.answered_pings == [(b"1", 3.0), (b"2", 2.0)]
    assert connection.latency == 2.0

    clock.now += 4
    connection.feed(sent_to(role, Opcode.PONG, b"3"))
    assert connection.pings == {}
    assert connection.answered_pings == [(b"1", 3.0), (b"2", 2.0), (b"3", 5.0)]
    assert connection.latency == 5.0


@both_roles
@pytest.mark.parametrize(
    "pongs",
    [[b"unasked"], [b""], [b"1x"], [b"x" * 125]],
    ids=["unknown", "empty", "longer", "longest"],
)
def test_a_pong_that_nobody_asked_for_answers_nothing(role: str, pongs: list[bytes]) -> None:
    connection, clock = timed(role)
    connection.ping(b"1")
    clock.now += 1
    messages = connection.feed(b"".join(sent_to(role, Opcode.PONG, pong) for pong in pongs))
    assert [message.payload for message in messages] == pongs
    assert (connection.pings, connection.latency, connection.answered_pings) == ({b"1": 1000}, None, [])


@both_roles
def test_a_pong_answers_once(role: str) -> None:
    connection, clock = timed(role)
    connection.ping(b"1")
    clock.now += 1
    connection.feed(sent_to(role, Opcode.PONG, b"1"))
    clock.now += 1
    connection.feed(sent_to(role, Opcode.PONG, b"1"))
    assert connection.answered_pings == [(b"1", 1.0)]
    assert connection.latency == 1.0


@both_roles
def test_pongs_of_one_batch_are_taken_in_order(role: str) -> None:
    connection, clock = timed(role)
    for payload in (b"1", b"2", b"3", b"4"):
        connection.ping(payload)
    clock.now += 1
    connection.feed(b"".join(sent_to(role, Opcode.PONG, payload) for payload in (b"3", b"1", b"4")))
    assert [payload for payload, _ in connection.answered_pings] == [b"1", b"2", b"3", b"4"]


@both_roles
def test_a_pong_between_fragments_counts(role: str) -> None:
    connection, clock = timed(role)
    connection.ping(b"1")
    clock.now += 0.5
    connection.feed(sent_to(role, Opcode.TEXT, b"a", fin=0) + sent_to(role, Opcode.PONG, b"1"))
    assert connection.latency == 0.5


@both_roles
def test_each_ping_has_a_payload_of_its_own(role: str) -> None:
    connection, _ = timed(role)
    pings = b"".join(connection.ping() for _ in range(300))
    payloads = [frame.payload for frame in decoded(role, pings)]
    assert len(set(payloads)) == 300
    assert list(connection.pings) == payloads


@both_roles
def test_a_payload_that_the_caller_chose_is_not_taken_for_another_ping(role: str) -> None:
    chosen = decoded(role, timed(role)[0].ping())[0].payload
    connection, _ = timed(role)
    connection.ping(chosen)
    connection.ping()
    connection.ping()
    assert len(connection.pings) == 3


@both_roles
def test_a_payload_that_still_waits_is_refused(role: str) -> None:
    connection, clock = timed(role)
    connection.ping(b"same")
    clock.now += 1
    with pytest.raises(ValueError, match="a ping with the payload b'same' still waits for its answer"):
        connection.ping(b"same")
    assert connection.pings == {b"same": 1000}
    connection.feed(sent_to(role, Opcode.PONG, b"same"))
    connection.ping(b"same")
    assert connection.pings == {b"same": 1001}


@both_roles
@pytest.mark.parametrize(
    ("payload", "kind", "text"),
    [
        (bytes(126), ValueError, "126 bytes: 125 are allowed"),
        ("text", TypeError, "payload must be bytes"),
        (5, TypeError, "payload must be bytes"),
        (bytearray(b"x"), TypeError, "payload must be bytes"),
        ([], TypeError, "payload must be bytes"),
    ],
    ids=["too long", "str", "int", "bytearray", "list"],
)
def test_what_is_no_payload_of_a_ping_is_refused(role: str, payload: bytes, kind: type[Exception], text: str) -> None:
    connection, _ = timed(role)
    with pytest.raises(kind, match=text):
        connection.ping(payload)
    assert connection.pings == {}
    (frame,) = decoded(role, connection.ping(bytes(125)))
    assert (frame.opcode, frame.payload) == (Opcode.PING, bytes(125))


@both_roles
def test_no_ping_follows_a_close(role: str) -> None:
    """Nor the peer's, which no pong will follow."""
    connection, _ = timed(role)
    connection.ping(b"before")
    connection.feed(sent_to(role, Opcode.CLOSE, BYE))
    with pytest.raises(ConnectionLost, match=r"received 1000 'bye'$"):
        connection.ping(b"late")
    assert answers(connection, role) == [(Opcode.CLOSE, BYE)]
    with pytest.raises(ConnectionLost, match="received 1000 'bye', then sent 1000 'bye'"):
        connection.ping(b"later")
    assert list(connection.pings) == [b"before"]
    connection, _ = timed(role)
    connection.close_frame(1000)
    with pytest.raises(ConnectionLost, match=r"sent 1000 ''$"):
        connection.ping()


@both_roles
def test_no_ping_follows_a_violation(role: str) -> None:
    connection, _ = timed(role)
    connection.feed(sent_to(role, Opcode.TEXT, b"\xff"))
    with pytest.raises(ConnectionLost, match="no Close frame was received or sent"):
        connection.ping()


@both_roles
def test_a_pong_after_our_close_still_counts(role: str) -> None:
    """The peer may not have seen the Close yet."""
    connection, clock = timed(role)
    connection.ping(b"1")
    connection.close_frame(1000)
    clock.now += 2
    connection.feed(sent_to(role, Opcode.PONG, b"1") + sent_to(role, Opcode.CLOSE, BYE))
    assert connection.latency == 2.0


@both_roles
def test_pings_by_hand_are_not_timed(role: str) -> None:
    connection, clock = timed(role)
    connection.note_send(sent_by(role, Opcode.PING, b"mine"))
    clock.now += 1
    connection.feed(sent_to(role, Opcode.PONG, b"mine"))
    assert (connection.latency, connection.answered_pings) == (None, [])
    assert connection.counters.pings_sent == 1


# -- Over a socket ----------------------------------------------------------------------------------------------------


async def answer_pings(raw: RawClient, count: int) -> list[bytes]:
    """Answer so many pings, and return their payloads."""
    payloads = []
    for _ in range(count):
        frame = await raw.read_frame()
        assert frame.opcode == Opcode.PING
        payloads.append(frame.payload)
        await raw.send(masked(Opcode.PONG, frame.payload))
    return payloads


@both_loops
@pytest.mark.parametrize("factory", [get_messages_factory, get_chunks_factory])
def test_a_ping_tells_its_latency_while_nobody_takes_messages(
    loop_kind: str, factory: Callable[[Socket], Callable[[], object]]
) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        factory(socket)
        send_handshake(request, socket)
        assert socket.latency is None
        latency = await socket.ping()
        assert latency > 0
        assert socket.latency == latency
        assert await socket.ping(b"mine") == socket.latency
        assert (socket.counters.pings_sent, socket.counters.pongs_received) == (2, 2)
        socket.close()

    async def client(raw: RawClient) -> None:
        assert (await answer_pings(raw, 2))[1] == b"mine"
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)


@both_loops
def test_the_pong_is_handed_out_too(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        send_handshake(request, socket)
        answer = socket.ping(b"1")
        assert await anext(get_messages()) == Message(Opcode.PONG, b"1", mask=1)
        assert answer.done()

    async def client(raw: RawClient) -> None:
        assert await answer_pings(raw, 1) == [b"1"]
        await raw.send(masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)


@both_loops
def test_one_pong_resolves_every_ping_before_it(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages_factory(socket)
        send_handshake(request, socket)
        first, second, third = socket.ping(b"1"), socket.ping(b"2"), socket.ping(b"3")
        first.cancel()
        assert await second > 0
        assert not third.done()
        two_answered.set()
        assert await third > 0

    two_answered = asyncio.Event()

    async def client(raw: RawClient) -> None:
        pings = [(await raw.read_frame()).payload for _ in range(3)]
        assert pings == [b"1", b"2", b"3"]
        await raw.send(masked(Opcode.PONG, b"2"))
        await two_answered.wait()
        await raw.send(masked(Opcode.PONG, b"3"), masked_close(1000))
        assert await raw.read_close() == (1000, "")

    run_pair(loop_kind, handler, client)


ENDINGS: dict[str, tuple[Callable[[RawClient], object], int]] = {
    "eof": (lambda raw: raw.writer.write_eof(), 1006),
    "reset": (RawClient.reset, 1006),
    "close": (lambda raw: raw.writer.write(masked_close(4000)), 4000),
    "violation": (lambda raw: raw.writer.write(b"\xff\xff"), 1006),
}


@both_loops
@pytest.mark.parametrize(("ending", "code"), ENDINGS.values(), ids=ENDINGS)
def test_pings_fail_with_the_connection(loop_kind: str, ending: Callable[[RawClient], object], code: int) -> None:
    """Those that somebody awaits with ConnectionLost; `run` fails a test where the others are heard of."""
    failed = asyncio.Event()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages_factory(socket)
        send_handshake(request, socket)
        unawaited, answer = socket.ping(), socket.ping()
        del unawaited
        closing = asyncio.create_task(close_when_ended(socket))
        with pytest.raises(ConnectionLost) as caught:
            await answer
        assert caught.value.code == code
        assert caught.value.received == socket.received
        with pytest.raises(ConnectionLost):
            socket.ping()
        failed.set()
        await closing

    async def close_when_ended(socket: Socket) -> None:
        await until(lambda: socket.state.value != "open")
        await socket.finish()

    async def client(raw: RawClient) -> None:
        assert [(await raw.read_frame()).opcode for _ in range(2)] == [Opcode.PING] * 2
        ending(raw)
        await failed.wait()

    run_pair(loop_kind, handler, client)


@both_loops
@pytest.mark.parametrize("last", [masked_close(4000), b"\xff\xff"], ids=["close", "violation"])
def test_a_ping_fails_when_no_pong_can_come_any_more(loop_kind: str, last: bytes) -> None:
    """Nobody takes messages, so that the transport stays; what the peer said last tells all the same."""

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages_factory(socket)
        send_handshake(request, socket)
        with pytest.raises(ConnectionLost) as caught:
            await socket.ping()
        assert caught.value.received == ((4000, "") if last == masked_close(4000) else None)
        with pytest.raises(ConnectionLost):
            socket.ping()
        assert socket.is_open

    async def client(raw: RawClient) -> None:
        assert (await raw.read_frame()).opcode == Opcode.PING
        await raw.send(last)
        assert (await raw.read_frame()).opcode == Opcode.CLOSE

    run_pair(loop_kind, handler, client)


@both_loops
def test_a_connection_whose_end_nobody_saw_can_be_closed(loop_kind: str) -> None:
    """Nothing is read behind a violation; the Close frame then meets a peer that is gone, and a reset comes back."""

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages_factory(socket)
        send_handshake(request, socket)
        await until(lambda: socket.error is not None)
        violated.set()
        await gone.wait()
        socket.close(4000)
        await socket.wait_closed()
        ended.set()

    violated, gone, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def client(raw: RawClient) -> None:
        await raw.send(b"\xff\xff")
        await violated.wait()
        raw.writer.close()
        await raw.writer.wait_closed()
        gone.set()
        await ended.wait()

    run_pair(loop_kind, handler, client)


@both_loops
def test_a_ping_comes_before_the_opening_handshake_never(loop_kind: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        with pytest.raises(RuntimeError, match="before the opening handshake"):
            socket.ping()
        send_handshake(request, socket)
        with pytest.raises(ValueError, match="125 are allowed"):
            socket.ping(bytes(126))
        pending = socket.ping(b"same")
        with pytest.raises(ValueError, match="still waits"):
            socket.ping(b"same")
        send_factory(socket)(prepare_websocket_frame(b"\x03\xe8", opcode=Opcode.CLOSE))
        with pytest.raises(ConnectionLost, match="sent 1000"):
            socket.ping()
        with pytest.raises(ConnectionLost):
            await pending

    async def client(raw: RawClient) -> None:
        assert (await raw.read_frame()).payload == b"same"
        assert await raw.read_close() == (1000, "")
        await raw.send(masked_close(1000))

    run_pair(loop_kind, handler, client, close_timeout=0.1)


@both_loops
def test_both_sides_ping_each_other(loop_kind: str) -> None:
    async def ping_often(socket: Socket) -> None:
        for latency in await asyncio.gather(*(socket.ping() for _ in range(50))):
            assert latency > 0

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket, auto_pong=True)
        send_handshake(request, socket)
        pinging = asyncio.create_task(ping_often(socket))
        assert [message.opcode async for message in get_messages()].count(Opcode.PING) == 50
        await pinging

    async def main() -> None:
        async with serving(handler) as server:
            _, socket = await connect(f"ws://127.0.0.1:{server.port}")
            async with socket:
                get_messages_factory(socket, auto_pong=True)
                await ping_often(socket)
                await until(lambda: socket.counters.pings_received == 50)
            assert socket.counters.frames_sent == 101

    run(loop_kind, main())
