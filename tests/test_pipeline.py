"""What the extensions of a connection do to its messages, both ways (RFC 6455 §9.1): extensions made for the test."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wslowlevel import (
    Chunk,
    CloseCode,
    Extension,
    ExtensionFactory,
    Frame,
    FrameDecoder,
    Message,
    Opcode,
    PayloadTooBig,
    PerMessageDeflate,
    ProtocolError,
    Reason,
    Request,
    Rsv,
    Socket,
    State,
    connect,
    get_chunks_factory,
    get_messages_factory,
    prepare_websocket_frame,
    send_chunks_factory,
    send_factory,
    send_handshake,
    send_message_factory,
    serve,
)
from wslowlevel.connection import Connection
from wslowlevel.extensions import Parameters, Transform

from .memory import counted, counts_memory
from .servers import RawClient, both_loops, close_of, masked, masked_close, run, serving, upgraded
from .test_connection import BYE, OTHER, answers, both_roles, sent_by, sent_to

KIB = 1024
MIB = 1024 * 1024


# -- Extensions -------------------------------------------------------------------------------------------------------


class Recorder(Extension):
    """What the others are made of: it takes down what it is asked, and leaves every message as it is."""

    def __init__(self, rsv: int = 0) -> None:
        self.rsv = rsv
        self.received: list[tuple[int, int]] = []
        self.sent: list[tuple[int, int | None, bool | None]] = []
        self.foreign = 0

    def decoder(self, opcode: int, rsv: int) -> Transform | None:
        self.received.append((opcode, rsv))
        return self.undo() if rsv == self.rsv else None

    def encoder(self, opcode: int, size: int | None, wanted: bool | None) -> Transform | None:
        self.sent.append((opcode, size, wanted))
        return None if wanted is False else self.do()

    def note_foreign(self) -> None:
        self.foreign += 1

    def do(self) -> Transform | None:
        return None

    def undo(self) -> Transform | None:
        return None


class Mark(Recorder):
    """Sets its bits, and nothing else."""

    def do(self) -> Transform | None:
        return lambda piece, _: (piece,)

    undo = do


class Tag(Recorder):
    """Puts a byte behind each message, and takes it away."""

    def __init__(self, rsv: int, tag: bytes) -> None:
        super().__init__(rsv)
        self.tag = tag

    def do(self) -> Transform | None:
        return lambda piece, last: (piece, self.tag) if last else (piece,)

    def undo(self) -> Transform | None:
        held = b""

        def take_away(piece: bytes, last: bool) -> Iterator[bytes]:
            nonlocal held
            held += piece
            yield held[:-1]
            held = held[-1:]
            assert not last or held == self.tag

        return take_away


class Xor(Recorder):
    """Masks each byte with a number that grows from byte to byte, and on from message to message."""

    def __init__(self, rsv: int = Rsv.RSV1, block: int = 7) -> None:
        super().__init__(rsv)
        self.block = block

    def do(self) -> Transform | None:
        return self._out

    def undo(self) -> Transform | None:
        return self._in

    _done = _undone = 0

    def _out(self, piece: bytes, last: bool) -> Iterator[bytes]:
        yield bytes(octet ^ (self._done + i) & 0xFF for i, octet in enumerate(piece))
        self._done += len(piece)

    def _in(self, piece: bytes, last: bool) -> Iterator[bytes]:
        """In short blocks, an empty one among them."""
        for start in range(0, len(piece), self.block):
            block = piece[start : start + self.block]
            yield bytes(octet ^ (self._undone + i) & 0xFF for i, octet in enumerate(block))
            yield b""
            self._undone += len(block)


class Late(Recorder):
    """Keeps every piece until the next one comes, and the message whole until its end."""

    def do(self) -> Transform | None:
        held: list[bytes] = []

        def keep(piece: bytes, last: bool) -> Iterable[bytes]:
            held.append(piece)
            return [b"".join(held)] if last else []

        return keep

    undo = do


class Fountain(Recorder):
    """Undoes a payload by saying each of its bytes over and over."""

    def __init__(self, times: int, rsv: int = Rsv.RSV1) -> None:
        super().__init__(rsv)
        self.times = times
        self.made = 0

    def undo(self) -> Transform | None:
        return self._repeat

    def _repeat(self, piece: bytes, last: bool) -> Iterator[bytes]:
        for octet in piece:
            for _ in range(self.times):
                self.made += 1
                yield bytes([octet])


class Broken(Recorder):
    """Fails, at one step or another."""

    def __init__(self, error: BaseException, step: str, rsv: int = Rsv.RSV1) -> None:
        super().__init__(rsv)
        self.error = error
        self.step = step

    def do(self) -> Transform | None:
        if self.step == "begin":
            raise self.error
        return self._at_once if self.step == "call" else self._midway

    undo = do

    def _at_once(self, piece: bytes, last: bool) -> Iterator[bytes]:
        raise self.error

    def _midway(self, piece: bytes, last: bool) -> Iterator[bytes]:
        if piece:
            yield piece[:2]
            raise self.error


class Factory(ExtensionFactory):
    """Speaks for an extension in the opening handshake, and takes whatever the other side says."""

    def __init__(self, name: str, make: Callable[[], Extension]) -> None:
        self.name = name
        self.make = make

    def offer(self) -> Parameters:
        return []

    def accept(self, offered: Parameters) -> tuple[Parameters, Extension] | None:
        return [], self.make()

    def confirm(self, answered: Parameters) -> Extension:
        return self.make()


def connection_with(*extensions: Extension, role: str = "server", **options: Any) -> Connection:
    """A connection behind an opening handshake that agreed on these extensions."""
    connection = Connection(role=role, **options)
    connection.open(extensions)
    return connection


def on_the_wire(connection: Connection, *frames: bytes | None) -> list[Frame]:
    """What a connection sends, as a peer that knows no extension sees it."""
    return FrameDecoder(role=OTHER[connection.role], allow_rsv=7).feed(b"".join(filter(None, frames)))


def in_chunks(connection: Connection, pieces: Iterable[bytes], opcode: int = Opcode.BINARY) -> list[bytes]:
    """The frames of a message that is sent in chunks."""
    message = connection.message_in_chunks(opcode)
    frames = [connection.chunk_frame(message, piece, False) for piece in pieces]
    return [frame for frame in (*frames, connection.chunk_frame(message, b"", True)) if frame is not None]


def take(connection: Connection, *data: bytes) -> list[Any]:
    """What the connection hands out of what arrives."""
    return [item for each in data for item in connection.unpack(cast(Any, connection.feed(each)))]


def joined(chunks: Iterable[Chunk]) -> list[tuple[int, bytes]]:
    """(opcode, payload) of each message; that the flags of its chunks fit together is checked on the way."""
    messages: list[tuple[int, bytes]] = []
    frame_open = message_open = False
    for chunk in chunks:
        if chunk.opcode & 8:
            assert chunk.message_started == chunk.frame_started == chunk.frame_finished == chunk.message_finished == 1
            messages.insert(len(messages) - message_open, (chunk.opcode, chunk.payload))
            continue
        assert (chunk.message_started, chunk.frame_started) == (not message_open, not frame_open)
        assert chunk.payload or chunk.frame_started or chunk.frame_finished, "a chunk that says nothing"
        if chunk.message_started:
            messages.append((chunk.opcode, b""))
        assert messages[-1][0] == chunk.opcode
        messages[-1] = (chunk.opcode, messages[-1][1] + chunk.payload)
        frame_open = not chunk.frame_finished
        message_open = not chunk.message_finished
        assert message_open or not frame_open
    return messages


# -- The order of application (RFC 6455 §9.1) -------------------------------------------------------------------------


@both_roles
def test_what_is_sent_passes_the_extensions_in_order_and_what_is_received_backwards(role: str) -> None:
    one, two = Tag(Rsv.RSV1, b"1"), Tag(Rsv.RSV3, b"2")
    connection = connection_with(one, two, role=role)
    (frame,) = on_the_wire(connection, connection.message_frame(b"payload", Opcode.BINARY))
    assert (frame.payload, frame.rsv1, frame.rsv2, frame.rsv3) == (b"payload12", 1, 0, 1)
    assert take(connection, sent_to(role, Opcode.BINARY, b"payload12", rsv1=1, rsv3=1)) == [
        Message(Opcode.BINARY, b"payload", mask=int(role == "server"))
    ]
    assert (one.received, two.received) == ([(Opcode.BINARY, Rsv.RSV1)], [(Opcode.BINARY, Rsv.RSV3)])


@both_roles
def test_the_same_in_chunks(role: str) -> None:
    connection = connection_with(Tag(Rsv.RSV1, b"1"), Tag(Rsv.RSV3, b"2"), role=role, chunks=True)
    frames = on_the_wire(connection, *in_chunks(connection, [b"pay", b"load"]))
    assert b"".join(frame.payload for frame in frames) == b"payload12"
    assert [(frame.opcode, frame.rsv1, frame.rsv3, frame.fin) for frame in frames] == [
        (Opcode.BINARY, 1, 1, 0),
        (Opcode.CONTINUATION, 0, 0, 0),
        (Opcode.CONTINUATION, 0, 0, 1),
    ]
    data = sent_to(role, Opcode.BINARY, b"payl", rsv1=1, rsv3=1, fin=0) + sent_to(role, Opcode.CONTINUATION, b"oad12")
    chunks = take(connection, *(data[i : i + 1] for i in range(len(data))))
    assert joined(chunks) == [(Opcode.BINARY, b"payload")]
    assert {(chunk.rsv1, chunk.rsv2, chunk.rsv3) for chunk in chunks} == {(0, 0, 0)}


@both_loops
def test_the_order_is_the_one_that_the_server_answered(loop_kind: str) -> None:
    """Each side has its own list; what counts is the header of the answer, here the order that the client preferred."""
    one = Factory("one", lambda: Tag(Rsv.RSV1, b"1"))
    two = Factory("two", lambda: Tag(Rsv.RSV2, b"2"))

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages, send_message = get_messages_factory(socket), send_message_factory(socket)
        send_handshake(request, socket, extensions=[two, one])
        assert [cast(Tag, extension).tag for extension in socket.extensions] == [b"1", b"2"]
        async for message in get_messages():
            if message.opcode == Opcode.TEXT:
                assert (message.rsv1, message.rsv2) == (0, 0)
                send_message(message.text)

    async def main() -> None:
        async with serving(handler) as server:
            async with upgraded(server.port, "Sec-WebSocket-Extensions: one, two") as raw:
                assert b"\r\nSec-WebSocket-Extensions: one, two\r\n" in raw.head
                await raw.send(masked(Opcode.TEXT, b"payload12", rsv1=1, rsv2=1))
                assert await raw.read_frame() == Frame(Opcode.TEXT, b"payload12", rsv1=1, rsv2=1)
                await raw.send(masked_close(1000))
                assert await raw.read_close() == (1000, "")
            _, socket = await connect(f"ws://127.0.0.1:{server.port}", extensions=[one, two])
            async with socket:
                send_message_factory(socket)("to and fro")
                assert (await anext(get_messages_factory(socket)())).text == "to and fro"

    run(loop_kind, main())


# -- Messages through extensions --------------------------------------------------------------------------------------

CHOICES: dict[str, Callable[[], list[Extension]]] = {
    "a state that goes on": lambda: [Xor()],
    "two of them": lambda: [Xor(Rsv.RSV1, 3), Xor(Rsv.RSV2, 5)],
    "one that keeps pieces back": lambda: [Late(Rsv.RSV2)],
    "behind another": lambda: [Xor(), Late(Rsv.RSV2), Tag(Rsv.RSV3, b"\xff")],
    "marks": lambda: [Mark(Rsv.RSV1 | Rsv.RSV2), Tag(Rsv.RSV3, b"\x80")],
    "one that never does anything": lambda: [Recorder(Rsv.RSV1), Xor(Rsv.RSV2)],
}

Sending = tuple[int, list[bytes], bool | None]
"""Opcode, pieces, and the sender's word on whether extensions shall work on it."""

texts = st.text(max_size=20).map(str.encode)
sendings: st.SearchStrategy[list[Sending]] = st.lists(
    st.tuples(st.just(Opcode.TEXT), st.lists(texts, max_size=4), st.sampled_from([None, True, False]))
    | st.tuples(st.just(Opcode.BINARY), st.lists(st.binary(max_size=60), max_size=4), st.sampled_from([None, False]))
    | st.tuples(st.just(Opcode.PING), st.lists(st.binary(max_size=30), max_size=4), st.none()),
    max_size=8,
)


def frames_of(connection: Connection, opcode: int, pieces: list[bytes], wanted: bool | None) -> list[bytes | None]:
    if opcode == Opcode.PING:
        return [sent_by(connection.role, opcode, b"".join(pieces))]
    if len(pieces) == 1:
        return [connection.message_frame(pieces[0], opcode, wanted)]
    message = connection.message_in_chunks(opcode, compress=wanted)
    frames = [connection.chunk_frame(message, piece, False) for piece in pieces]
    ping = sent_by(connection.role, Opcode.PING, b"between")
    return [*frames, ping, connection.chunk_frame(message, b"", True)]


@both_roles
@pytest.mark.parametrize("chunks", [False, True])
@pytest.mark.parametrize("choose", CHOICES.values(), ids=CHOICES)
@given(sendings=sendings, cuts=st.lists(st.integers(0, 1500), max_size=6))
def test_messages_arrive_as_they_were(
    role: str, chunks: bool, choose: Callable[[], list[Extension]], sendings: list[Sending], cuts: list[int]
) -> None:
    sender = connection_with(*choose(), role=OTHER[role])
    receiver = connection_with(*choose(), role=role, chunks=chunks)
    expected: list[tuple[int, bytes]] = []
    data = b""
    for opcode, pieces, wanted in sendings:
        data += b"".join(filter(None, frames_of(sender, opcode, pieces, wanted)))
        if opcode != Opcode.PING and len(pieces) != 1:
            expected.append((Opcode.PING, b"between"))
        expected.append((opcode, b"".join(pieces)))
    ends = sorted(min(cut, len(data)) for cut in cuts)
    items = take(receiver, *(data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)))
    received = joined(items) if chunks else [(item.opcode, item.payload) for item in items]
    assert received == expected
    assert not any(item.rsv1 or item.rsv2 or item.rsv3 for item in items if receiver.extensions[0].rsv == 6)


def test_an_extension_is_told_what_it_begins_with() -> None:
    extension = Mark(Rsv.RSV2)
    connection = connection_with(extension)
    frames = [
        connection.message_frame(b"123", Opcode.BINARY),
        connection.message_frame("ü".encode(), Opcode.TEXT, True),
        connection.message_frame(b"", Opcode.BINARY, False),
        *in_chunks(connection, [b"123"]),
    ]
    assert extension.sent == [
        (Opcode.BINARY, 3, None),
        (Opcode.TEXT, 2, True),
        (Opcode.BINARY, 0, False),
        (Opcode.BINARY, None, None),
    ]
    assert [frame.rsv2 for frame in on_the_wire(connection, *frames)] == [1, 1, 0, 1, 0]
    take(connection, masked(Opcode.TEXT, b"x", rsv2=1), masked(Opcode.BINARY, b"x"))
    assert extension.received == [(Opcode.TEXT, Rsv.RSV2), (Opcode.BINARY, 0)]


def test_a_piece_that_an_extension_keeps_makes_no_frame() -> None:
    connection = connection_with(Late(Rsv.RSV1), role="client")
    message = connection.message_in_chunks(Opcode.BINARY)
    assert [connection.chunk_frame(message, piece, False) for piece in (b"1", b"2", b"3")] == [None] * 3
    assert not connection.is_inside_message
    assert not message.is_unfinished
    (frame,) = on_the_wire(connection, connection.chunk_frame(message, b"4", True))
    assert (frame.opcode, frame.fin, frame.rsv1, frame.payload) == (Opcode.BINARY, 1, 1, b"1234")
    assert connection.counters.frames_sent == connection.counters.messages_sent == 1


def test_a_message_is_unfinished_from_its_first_frame_to_its_last() -> None:
    connection = connection_with(Mark(Rsv.RSV1))
    message = connection.message_in_chunks(Opcode.BINARY)
    unfinished = [message.is_unfinished]
    for piece, final in ((b"1", False), (b"", False), (b"2", False), (b"3", True)):
        connection.chunk_frame(message, piece, final)
        unfinished.append(message.is_unfinished)
    assert unfinished == [False, True, True, True, False]


def test_an_empty_message_passes_too() -> None:
    """It is made of something on the wire, or of nothing."""
    connection = connection_with(Tag(Rsv.RSV1, b"1"), Mark(Rsv.RSV2))
    (whole,) = on_the_wire(connection, connection.message_frame(b"", Opcode.TEXT))
    assert (whole.payload, whole.rsv1, whole.rsv2) == (b"1", 1, 1)
    (message,) = take(connection, masked(Opcode.TEXT, b"1", rsv1=1, rsv2=1))
    assert (message.payload, message.rsv1, message.rsv2) == (b"", 0, 0)
    chunked = connection_with(Tag(Rsv.RSV1, b"1"), chunks=True)
    assert joined(take(chunked, masked(Opcode.TEXT, b"1", rsv1=1))) == [(Opcode.TEXT, b"")]


def test_each_fragment_of_a_client_has_a_key_of_its_own() -> None:
    connection = connection_with(Xor(), role="client")
    frames = on_the_wire(connection, *in_chunks(connection, [b"a", b"b", b"c", b"d", b"e", b"f", b"g"]))
    assert len({frame.mask_key for frame in frames}) > 6


# -- Reserved bits, and control frames --------------------------------------------------------------------------------


@both_roles
@pytest.mark.parametrize("chunks", [False, True])
def test_the_bits_of_extensions_are_taken_away_and_others_are_kept(role: str, chunks: bool) -> None:
    connection = connection_with(Mark(Rsv.RSV1), role=role, chunks=chunks, allow_rsv=Rsv.RSV2)
    kept = []
    for bits in ({}, {"rsv1": 1}, {"rsv2": 1}, {"rsv1": 1, "rsv2": 1}):
        (item,) = take(connection, sent_to(role, Opcode.BINARY, b"x", **bits))
        kept.append((item.rsv1, item.rsv2, item.rsv3))
    assert kept == [(0, 0, 0), (0, 0, 0), (0, 1, 0), (0, 1, 0)]
    assert take(connection, sent_to(role, Opcode.BINARY, b"x", rsv3=1)) == []
    assert isinstance(connection.error, ProtocolError)
    assert connection.error.reason is Reason.RESERVED_BITS


@both_roles
@pytest.mark.parametrize("opcode", [Opcode.CONTINUATION, Opcode.PING, Opcode.PONG, Opcode.CLOSE])
def test_the_bits_of_extensions_stand_on_the_first_frame_of_a_message_only(role: str, opcode: int) -> None:
    connection = connection_with(Mark(Rsv.RSV1), role=role)
    data = sent_to(role, Opcode.BINARY, b"x", fin=0, rsv1=1) + sent_to(role, opcode, rsv1=1)
    assert take(connection, data) == []
    assert isinstance(connection.error, ProtocolError)
    assert connection.error.reason is Reason.RESERVED_BITS


@both_roles
@pytest.mark.parametrize("chunks", [False, True])
def test_control_frames_pass_by_the_extensions(role: str, chunks: bool) -> None:
    extension = Xor()
    connection = connection_with(extension, role=role, chunks=chunks, auto_pong=True)
    control = [(Opcode.PING, b"ping"), (Opcode.PONG, b"pong"), (Opcode.CLOSE, BYE)]
    data = sent_to(role, Opcode.TEXT, b"", fin=0, rsv1=1) + b"".join(sent_to(role, *each) for each in control)
    items = take(connection, data)
    assert [(item.opcode, item.payload) for item in items if item.opcode & 8] == control
    assert extension.received == ([(Opcode.TEXT, Rsv.RSV1)] if chunks else [])
    assert answers(connection, role) == [(Opcode.PONG, b"ping"), (Opcode.CLOSE, BYE)]
    assert extension.sent == []


@both_roles
def test_an_extension_may_do_without_bits(role: str) -> None:
    connection = connection_with(Xor(rsv=0), role=role)
    peer = connection_with(Xor(rsv=0), role=OTHER[role])
    frames = [connection.message_frame(b"%d" % i * 100, Opcode.BINARY) for i in range(5)]
    assert [frame.rsv1 | frame.rsv2 | frame.rsv3 for frame in on_the_wire(connection, *frames)] == [0] * 5
    assert [message.payload for message in take(peer, *frames)] == [b"%d" % i * 100 for i in range(5)]


@both_roles
@pytest.mark.parametrize("chunks", [False, True])
def test_text_without_bits_is_judged_as_it_stands_on_the_wire(role: str, chunks: bool) -> None:
    """Nothing marks it as the work of an extension (RFC 6455 §8.1)."""
    frame = connection_with(Xor(rsv=0), role=OTHER[role]).message_frame(("ü" * 100).encode(), Opcode.TEXT)
    receiver = connection_with(Xor(rsv=0), role=role, chunks=chunks)
    assert take(receiver, frame) == []
    assert isinstance(receiver.error, ProtocolError)
    assert receiver.error.reason is Reason.INVALID_UTF8


@both_roles
@pytest.mark.parametrize(
    ("opcode", "bits", "told"),
    [
        (Opcode.BINARY, {}, (0, 0)),
        (Opcode.BINARY, {"rsv1": 1}, (1, 0)),
        (Opcode.TEXT, {"rsv3": 1}, (0, 1)),
        (Opcode.TEXT, {"rsv1": 1, "rsv2": 1, "rsv3": 1}, (1, 1)),
        (Opcode.BINARY, {"rsv2": 1}, (0, 0)),
        (Opcode.BINARY, {"rsv1": 1, "fin": 0}, (1, 0)),
        (Opcode.PING, {}, (0, 0)),
        (Opcode.CLOSE, {}, (0, 0)),
    ],
)
def test_an_extension_is_told_of_messages_with_its_bits_that_it_did_not_make(
    role: str, opcode: int, bits: dict[str, int], told: tuple[int, int]
) -> None:
    one, two, none = Mark(Rsv.RSV1), Mark(Rsv.RSV3), Mark(0)
    connection = connection_with(one, none, two, role=role)
    connection.message_frame(b"made here", Opcode.BINARY)
    in_chunks(connection, [b"made", b"here"])
    assert (one.foreign, two.foreign) == (0, 0)
    connection.note_send(sent_by(role, opcode, b"", **bits))
    assert (one.foreign, two.foreign, none.foreign) == (*told, 0)


@both_roles
def test_an_extension_is_not_told_of_what_was_refused(role: str) -> None:
    extension = Mark(Rsv.RSV1)
    connection = connection_with(extension, role=role)
    with pytest.raises(ValueError, match="masked"):
        connection.note_send(sent_to(role, Opcode.BINARY, rsv1=1))
    connection.note_send(sent_by(role, Opcode.BINARY, fin=0))
    with pytest.raises(ValueError, match="expected a continuation"):
        connection.note_send(sent_by(role, Opcode.BINARY, rsv1=1))
    assert extension.foreign == 0


# -- Limits -----------------------------------------------------------------------------------------------------------

LIMIT = 1000


def fed_in(pieces: Sequence[bytes], **bits: int) -> bytes:
    """The frames of a message whose fragments are these."""
    last = len(pieces) - 1
    return b"".join(
        masked(Opcode.CONTINUATION if i else Opcode.BINARY, piece, fin=int(i == last), **({} if i else bits))
        for i, piece in enumerate(pieces)
    )


FRAGMENTATIONS: dict[str, Callable[[bytes], list[bytes]]] = {
    "whole": lambda payload: [payload],
    "halves": lambda payload: [payload[: len(payload) // 2], payload[len(payload) // 2 :]],
    "single bytes": lambda payload: [payload[i : i + 1] for i in range(len(payload))],
}
fragmented = pytest.mark.parametrize("fragment", FRAGMENTATIONS.values(), ids=FRAGMENTATIONS)


@fragmented
@pytest.mark.parametrize("chunks", [False, True])
@pytest.mark.parametrize("times", [10, 100])
def test_the_limit_counts_what_is_undone(chunks: bool, times: int, fragment: Callable[[bytes], list[bytes]]) -> None:
    """To the byte: what fits is delivered, what is one byte longer is not, and no more of it is made than that byte."""
    extension = Fountain(times)
    connection = connection_with(extension, chunks=chunks, max_message_size=LIMIT)
    fits = bytes(LIMIT // times)
    for _ in range(3):
        items = take(connection, fed_in(fragment(fits), rsv1=1))
        assert b"".join(item.payload for item in items) == bytes(LIMIT)
    extension.made = 0
    with pytest.raises(
        PayloadTooBig, match=f"message of more than {LIMIT} bytes after extensions: {LIMIT} are allowed"
    ) as caught:
        take(connection, fed_in(fragment(fits + b"x"), rsv1=1))
    assert (caught.value.size, caught.value.limit, caught.value.close_code) == (LIMIT + 1, LIMIT, 1009)
    assert extension.made == LIMIT + 1
    assert connection.error is caught.value
    assert take(connection, fed_in([b"x"], rsv1=1)) == []


@fragmented
@pytest.mark.parametrize("chunks", [False, True])
def test_the_limit_is_the_same_for_messages_that_no_extension_touched(
    chunks: bool, fragment: Callable[[bytes], list[bytes]]
) -> None:
    connection = connection_with(Fountain(10), chunks=chunks, max_message_size=LIMIT)
    for _ in range(3):
        items = take(connection, fed_in(fragment(bytes(LIMIT))))
        assert b"".join(item.payload for item in items) == bytes(LIMIT)
    with pytest.raises(PayloadTooBig, match=f"{LIMIT} are allowed") as caught:
        take(connection, fed_in(fragment(bytes(LIMIT + 1))))
    assert (caught.value.size, caught.value.limit) == (LIMIT + 1, LIMIT)
    assert connection.error is caught.value


@pytest.mark.parametrize("chunks", [False, True])
def test_without_a_limit_everything_passes(chunks: bool) -> None:
    connection = connection_with(Fountain(100), chunks=chunks, max_message_size=None)
    items = take(connection, fed_in([bytes(2 * KIB)], rsv1=1))
    assert sum(len(item.payload) for item in items) == 200 * KIB


def test_the_limit_by_default_counts_what_is_undone() -> None:
    """16 MiB for messages, none for chunks, of which no more is held than is taken."""
    messages = connection_with(Mark(Rsv.RSV1))
    assert len(take(messages, fed_in([bytes(16 * MIB)], rsv1=1))[0].payload) == 16 * MIB
    with pytest.raises(PayloadTooBig):
        take(messages, fed_in([bytes(16 * MIB + 1)], rsv1=1))
    chunks = connection_with(Mark(Rsv.RSV1), chunks=True)
    assert sum(len(chunk.payload) for chunk in take(chunks, fed_in([bytes(16 * MIB + 1)], rsv1=1))) == 16 * MIB + 1


def test_a_message_that_is_longer_on_the_wire_than_undone_fits() -> None:
    """By as much as compression lengthens what does not compress."""
    connection = connection_with(Tag(Rsv.RSV1, b"1"), Tag(Rsv.RSV2, b"2"), max_message_size=0)
    (message,) = take(connection, fed_in([b"12"], rsv1=1, rsv2=1))
    assert message.payload == b""


def agreed_on(factory: ExtensionFactory) -> Extension:
    accepted = factory.accept([])
    assert accepted is not None
    return accepted[1]


def test_chunks_may_be_much_longer_on_the_wire_than_undone() -> None:
    """As a message is that its sender flushes with every byte."""
    receiver = connection_with(agreed_on(PerMessageDeflate()), chunks=True, max_message_size=LIMIT)
    sender = connection_with(agreed_on(PerMessageDeflate(level=0)))
    wire = [frame.payload for frame in on_the_wire(sender, *in_chunks(sender, [b"x"] * LIMIT))]
    assert sum(map(len, wire)) > 5 * LIMIT
    assert b"".join(item.payload for item in take(receiver, fed_in(wire, rsv1=1))) == b"x" * LIMIT


# -- UTF-8 (RFC 6455 §8.1) --------------------------------------------------------------------------------------------

TEXTS: dict[str, tuple[bytes, int | None]] = {
    # What is undone to, and the index of the byte that proves it wrong.
    "good": ("aé€\U0001f600".encode(), None),
    "empty": (b"", None),
    "bad first byte": (b"\xff", 0),
    "bad byte": (b"abc\xe2\x82x", 5),
    "surrogate": (b"ab\xed\xa0\x80", 3),
    "ends inside a character": (b"abc\xe2\x82", 5),
}


@pytest.mark.parametrize("chunks", [False, True])
@pytest.mark.parametrize("block", [1, 2, 100])
@pytest.mark.parametrize(("payload", "proof"), TEXTS.values(), ids=TEXTS)
def test_text_is_judged_as_it_is_undone(chunks: bool, block: int, payload: bytes, proof: int | None) -> None:
    on_wire = connection_with(Xor(), role="client").message_frame(payload, Opcode.BINARY)
    text = bytes([on_wire[0] & 0xF0 | Opcode.TEXT]) + on_wire[1:]
    connection = connection_with(Xor(block=block), chunks=chunks)
    if proof is None:
        assert b"".join(item.payload for item in take(connection, text)) == payload
        assert connection.error is None
        return
    items: list[Any] = []
    with pytest.raises(ProtocolError) as caught:
        items.extend(connection.unpack(connection.feed(text)))
    assert (caught.value.reason, caught.value.close_code) == (Reason.INVALID_UTF8, CloseCode.INVALID_PAYLOAD)
    assert b"".join(item.payload for item in items) == b"".join(item.payload for item in items)[:proof]
    assert not any(getattr(item, "message_finished", True) for item in items)
    assert connection.error is caught.value
    assert answers(connection, "server")[-1][1][:2] == b"\x03\xef"


@pytest.mark.parametrize("chunks", [False, True])
def test_text_may_be_cut_anywhere(chunks: bool) -> None:
    """Between pieces that are sent, frames on the wire, and blocks that are undone."""
    text = "aé€\U0001f600" * 10
    pieces = [text.encode()[i : i + 3] for i in range(0, len(text.encode()), 3)]
    sender = connection_with(Xor(), role="client")
    receiver = connection_with(Xor(block=2), chunks=chunks)
    items = take(receiver, *in_chunks(sender, pieces, Opcode.TEXT))
    assert b"".join(item.payload for item in items).decode() == text


@both_roles
def test_text_that_is_sent_is_judged_before_it_is_done(role: str) -> None:
    extension = Xor()
    connection = connection_with(extension, role=role)
    with pytest.raises(ValueError, match="payload of a text message: invalid UTF-8 at byte 1"):
        connection.message_frame(b"a\xff", Opcode.TEXT)
    with pytest.raises(ValueError, match="ends at byte 2 inside a UTF-8 character"):
        connection.message_frame(b"a\xe2", Opcode.TEXT)
    assert connection.counters.frames_sent == 0
    peer = connection_with(Xor(), role=OTHER[role])
    assert take(peer, connection.message_frame(b"good", Opcode.TEXT))[0].text == "good"


# -- Extensions that fail ---------------------------------------------------------------------------------------------

FAILURES: dict[str, tuple[Exception, int]] = {
    "its own word": (ProtocolError("not mine", Reason.EXTENSION_DATA, CloseCode.INVALID_PAYLOAD), 1007),
    "a mistake": (ZeroDivisionError("division by zero"), 1011),
    "a mistake that has no words": (KeyError(), 1011),
    "its own word, which no frame can carry": (ProtocolError("\udcff" + "x" * 200, Reason.EXTENSION_DATA), 1002),
}
failures = pytest.mark.parametrize(("error", "code"), FAILURES.values(), ids=FAILURES)
steps = pytest.mark.parametrize("step", ["begin", "call", "midway"])


@both_roles
@pytest.mark.parametrize("chunks", [False, True])
@failures
@steps
def test_an_extension_that_fails_ends_the_connection(
    role: str, chunks: bool, error: Exception, code: int, step: str
) -> None:
    connection = connection_with(Broken(error, step), role=role, chunks=chunks)
    good = sent_to(role, Opcode.BINARY, b"good")
    bad = sent_to(role, Opcode.BINARY, b"bad", rsv1=1)
    items: list[Any] = []
    with pytest.raises(type(error)) as caught:
        items.extend(connection.unpack(connection.feed(good + bad + good)))
    assert caught.value is error
    assert [item.payload for item in items] == [b"good"]
    assert connection.error is error
    assert (connection.ended, connection.state, connection.may_send) == (True, State.CLOSING, True)
    before = connection.counters
    assert take(connection, good) == []
    assert connection.counters == before
    assert [(opcode, payload[:2]) for opcode, payload in answers(connection, role)] == [
        (Opcode.CLOSE, code.to_bytes(2, "big"))
    ]


@both_loops
@pytest.mark.parametrize("factory", [get_messages_factory, get_chunks_factory])
@failures
def test_the_peer_is_told_of_an_extension_that_fails_and_the_operator_of_a_mistake(
    loop_kind: str,
    factory: Callable[[Socket], Callable[[], Any]],
    error: Exception,
    code: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[bytes] = []
    errors: list[BaseException] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_items = factory(socket)
        send_handshake(request, socket, extensions=[Factory("broken", lambda: Broken(error, "midway"))])
        for _ in range(2):
            try:
                async for item in get_items():
                    seen.append(item.payload)
            except Exception as caught:  # noqa: BLE001 - of whatever kind
                errors.append(caught)
        assert socket.error is error
        raise errors[-1]

    async def main() -> None:
        async with (
            serve(handler, "127.0.0.1", 0) as server,
            upgraded(server.port, "Sec-WebSocket-Extensions: broken") as raw,
        ):
            good, bad = masked(Opcode.TEXT, b"good"), masked(Opcode.TEXT, b"bad", rsv1=1)
            await raw.send(good, bad, good, masked_close(1000))
            frames = await raw.read_frames()
            assert [close_of(frame)[0] for frame in frames] == [code]

    with caplog.at_level(logging.INFO, "wslowlevel"):
        run(loop_kind, main())
    assert seen == [b"good"]
    assert errors == [error, error]
    is_mistake = code == CloseCode.INTERNAL_ERROR
    (record,) = [each for each in caplog.records if not each.getMessage().startswith(("open: ", "closed: "))]
    assert record.levelno == (logging.ERROR if is_mistake else logging.INFO)
    assert (record.exc_info is not None) == is_mistake


@both_loops
def test_a_client_is_told_too(loop_kind: str) -> None:
    error = ZeroDivisionError("mine")

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        send_handshake(request, socket, extensions=[Factory("broken", lambda: Mark(Rsv.RSV1))])
        send_message_factory(socket)("hello")
        assert [message.opcode async for message in get_messages()] == [Opcode.CLOSE]
        assert socket.received == (1011, "")

    async def main() -> None:
        async with serving(handler) as server:
            factory = Factory("broken", lambda: Broken(error, "call"))
            _, socket = await connect(f"ws://127.0.0.1:{server.port}", extensions=[factory])
            async with socket:
                get_messages = get_messages_factory(socket)
                for _ in range(2):
                    with pytest.raises(ZeroDivisionError) as caught:
                        await anext(get_messages())
                    assert caught.value is error
                assert (socket.error, socket.sent) == (error, (1011, ""))

    run(loop_kind, main())


@both_roles
@steps
def test_what_an_extension_fails_to_do_is_not_sent(role: str, step: str) -> None:
    """Whoever sends is told, and the next message goes out."""
    error = ZeroDivisionError()
    connection = connection_with(Broken(error, step), role=role)
    with pytest.raises(ZeroDivisionError):
        connection.message_frame(b"payload", Opcode.BINARY)
    assert not connection.is_inside_message
    assert (connection.error, connection.counters.frames_sent) == (None, 0)
    (frame,) = on_the_wire(connection, connection.message_frame(b"as it is", Opcode.BINARY, False))
    assert (frame.payload, frame.rsv1) == (b"as it is", 0)


@both_loops
def test_a_stream_that_an_extension_breaks_off_is_closed(loop_kind: str) -> None:
    class Breaking(Recorder):
        def do(self) -> Transform | None:
            return lambda piece, last: (piece,) if not last else 1 / 0  # type: ignore[return-value]

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send_chunks = send_chunks_factory(socket)
        send_handshake(request, socket, extensions=[Factory("breaking", lambda: Breaking(Rsv.RSV1))])
        with pytest.raises(ZeroDivisionError):
            await send_chunks([b"first"])
        assert socket.sent == (1011, "a message could not be finished")

    async def main() -> None:
        async with serving(handler) as server, upgraded(server.port, "Sec-WebSocket-Extensions: breaking") as raw:
            assert (await raw.read_frame()).payload == b"first"
            assert await raw.read_close() == (1011, "a message could not be finished")
            await raw.send(masked_close(1011))

    run(loop_kind, main())


# -- Laziness ---------------------------------------------------------------------------------------------------------


def compressed_batch(count: int, size: int) -> bytes:
    """Messages of zeros, compressed, as a client sends them."""
    [extension] = [PerMessageDeflate().accept([])]
    assert extension is not None
    connection = connection_with(PerMessageDeflate().confirm([]), role="client")
    return b"".join(connection.message_frame(bytes(size), Opcode.BINARY) for _ in range(count))


@counts_memory
@pytest.mark.parametrize("chunks", [False, True])
def test_of_a_batch_one_message_is_held_at_a_time(chunks: bool) -> None:
    """50 messages arrive at once, 1 MiB each when they are inflated."""
    data = compressed_batch(50, MIB)
    assert len(data) < 100 * KIB
    accepted = PerMessageDeflate().accept([])
    assert accepted is not None
    connection = connection_with(accepted[1], chunks=chunks)
    batch = connection.feed(data)
    with counted() as memory:
        sizes = sum(len(item.payload) for item in connection.unpack(batch))
    assert sizes == 50 * MIB
    assert memory.peak < (MIB // 2 if chunks else 4 * MIB)


@counts_memory
@both_loops
def test_no_more_is_held_behind_a_socket(loop_kind: str) -> None:
    data = compressed_batch(50, MIB)
    peaks: list[int] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        send_handshake(request, socket, extensions=[PerMessageDeflate()])
        with counted() as memory:
            assert sum([len(message.payload) async for message in get_messages()]) == 50 * MIB + 2
        peaks.append(memory.peak)

    async def client(raw: RawClient) -> None:
        await raw.send(data, masked_close(1000))
        assert await raw.read_close() == (1000, "")

    async def main() -> None:
        async with (
            serving(handler) as server,
            upgraded(server.port, "Sec-WebSocket-Extensions: permessage-deflate") as raw,
        ):
            await client(raw)

    run(loop_kind, main())
    assert peaks[0] < 5 * MIB


@both_loops
def test_frames_by_hand_pass_by_the_extensions(loop_kind: str) -> None:
    extension = Xor()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        send, send_message = send_factory(socket), send_message_factory(socket)
        send_handshake(request, socket, extensions=[Factory("xor", lambda: extension)])
        send(prepare_websocket_frame(b"as it is"))
        assert extension.foreign == 0
        send(prepare_websocket_frame(b"by hand", rsv1=1))
        assert extension.foreign == 1
        send_message(b"\0\0\0")
        assert extension.foreign == 1

    async def main() -> None:
        async with serving(handler) as server, upgraded(server.port, "Sec-WebSocket-Extensions: xor") as raw:
            frames = [await raw.read_frame() for _ in range(3)]
            assert [(frame.payload, frame.rsv1) for frame in frames] == [
                (b"as it is", 0),
                (b"by hand", 1),
                (b"\0\1\2", 1),
            ]
            await raw.send(masked_close(1000))
            assert await raw.read_close() == (1000, "")

    run(loop_kind, main())
