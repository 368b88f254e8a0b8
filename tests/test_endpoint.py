"""What one side of a connection does once a frame, or once a read: frames that pass, events that are seen, counts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wslowlevel import ConnectionLost, Opcode, encode_frame, prepare_websocket_frame
from wslowlevel.connection import Connection

from .conftest import Both
from .test_connection import OTHER, both_roles, opened, sent_by, sent_to
from .test_differential import Step, attempt, cases, described, profile
from .vectors import DECODERS, KEY, Decoder

MASK = {"server": 0x00, "client": 0x80}
"""The mask bit of the frames that each role sends."""


def endpoint(codec: ModuleType, role: str, decoder: Decoder | None = None, passing: bool = True) -> Any:
    """An endpoint that keeps the items of each call in which it saw events."""

    def see_events(self: Any, items: list[Any]) -> None:
        self.events.append(list(items))

    made = type("Watching", (codec.Endpoint,), {"_see_events": see_events})(role=role)
    made.events = []
    made.passing = passing
    if decoder is not None:
        made.decoder = decoder
    return made


# -- What passes ------------------------------------------------------------------------------------------------------


@both_roles
def test_whole_messages_of_data_pass_if_they_are_masked_as_they_must_be(codec: ModuleType, role: str) -> None:
    """Every first byte, with either mask bit."""
    for first in range(256):
        for second in (0x00, 0x05, 0x7F, 0x80, 0x85, 0xFF):
            made = endpoint(codec, role)
            expected = first in (0x81, 0x82) and second & 0x80 == MASK[role]
            for frame in (bytes([first, second]), bytes([first, second]) + b"\xff" * 20):
                assert made.passes(frame) is expected, frame
            assert made.passed == 2 * expected


class Bytes(bytes):
    """Bytes whose methods may be others."""


@both_roles
@pytest.mark.parametrize(
    "make",
    [bytearray, memoryview, Bytes, bytes.hex, list, len, lambda frame: frame[:1], lambda _: b"", lambda _: None],
)
def test_only_bytes_that_hold_a_header_pass(codec: ModuleType, role: str, make: Callable[[bytes], object]) -> None:
    made = endpoint(codec, role)
    frame = sent_by(role, Opcode.BINARY, b"payload")
    assert made.passes(make(frame)) is False
    assert made.passed == 0
    assert made.passes(frame) is True
    assert made.passed == 1


@both_roles
def test_nothing_passes_that_is_not_let(codec: ModuleType, role: str) -> None:
    frame = sent_by(role, Opcode.TEXT, b"")
    made = codec.Endpoint(role=role)
    assert made.passes(frame) is False
    made.passing = True
    assert made.passes(frame) is True
    made.passing = False
    assert made.passes(frame) is False
    assert made.passed == 1


ROLE = st.sampled_from(["server", "client"])
HEADS = st.builds(
    lambda first, second, rest: bytes([first, second]) + rest,
    st.sampled_from([0x81, 0x82, 0x80, 0x01, 0xC1, 0x88, 0x89]),
    st.integers(0, 255),
    st.binary(max_size=4),
)


@profile
@given(role=ROLE, offered=st.lists(st.tuples(st.booleans(), st.one_of(st.binary(max_size=6), HEADS)), max_size=8))
def test_both_backends_let_the_same_pass(both: Both, role: str, offered: list[tuple[bool, bytes]]) -> None:
    def verdicts(codec: ModuleType) -> list[object]:
        made = endpoint(codec, role)
        told: list[object] = []
        for passing, frame in offered:
            made.passing = passing
            told.append((made.passes(frame), made.passed))
        return told

    assert verdicts(both.py) == verdicts(both.cy)


@pytest.mark.parametrize("role", ["proxy", "", None, 1])
def test_a_role_is_server_or_client(both: Both, role: object) -> None:
    errors = [attempt(partial(codec.Endpoint, role=role)) for codec in both]
    assert errors[0] == errors[1] == (ValueError, f"role must be 'server' or 'client', not {role!r}")


# -- What is decoded --------------------------------------------------------------------------------------------------


@both_roles
def test_data_is_handed_out_and_events_are_seen(codec: ModuleType, role: str) -> None:
    made = endpoint(codec, role, codec.MessageDecoder(role=role))
    assert [each.payload for each in made.feed(sent_to(role, Opcode.TEXT, b"a") * 2)] == [b"a", b"a"]
    assert (made.eventful, made.events) == (False, [])
    items = made.feed(sent_to(role, Opcode.TEXT, b"b") + sent_to(role, Opcode.PING, b"p"))
    assert (made.eventful, made.events) == (True, [items])
    assert made.feed(sent_to(role, Opcode.TEXT, b"c")) != []
    assert (made.eventful, len(made.events)) == (False, 1)
    assert [each.opcode for each in made.feed(sent_to(role, Opcode.CLOSE))] == [Opcode.CLOSE]
    assert (made.eventful, len(made.events)) == (True, 2)
    assert made.feed(sent_to(role, Opcode.TEXT, b"d")) == []
    assert (made.eventful, len(made.events)) == (False, 2)


@both_roles
def test_a_violation_is_an_event_and_not_raised(codec: ModuleType, role: str) -> None:
    made = endpoint(codec, role, codec.MessageDecoder(role=role))
    (message,) = made.feed(sent_to(role, Opcode.TEXT, b"good") + b"\x83")
    assert message.payload == b"good"
    assert (made.eventful, made.events) == (True, [[message]])
    assert made.feed(b"more") == []
    assert (made.eventful, made.events) == (True, [[message], []])
    made.failed = True
    assert made.feed(b"more") == []
    assert len(made.events) == 2


def test_what_is_no_buffer_is_raised_all_the_same(both: Both) -> None:
    errors = []
    for codec in both:
        made = endpoint(codec, "server", codec.MessageDecoder(role="server"))
        errors.append([attempt(partial(made.feed, "text")), attempt(partial(made.buffer_updated, 1))])
    assert errors[0] == errors[1]
    kinds = [error[0] for error in errors[0] if isinstance(error, tuple)]
    assert kinds == [TypeError, ValueError]


def story(codec: ModuleType, name: str, arguments: dict[str, Any], stream: bytes, steps: list[Step]) -> list[object]:
    """All that can be seen of an endpoint after each step of a stream."""
    made = endpoint(codec, arguments["role"], getattr(codec, name)(**arguments))
    seen: list[object] = []
    for size, way in [*steps, Step(len(stream), "feed"), Step(0, "feed")]:
        piece, stream = stream[:size], stream[size:]
        if way == "receive":
            lent = made.get_buffer()
            piece, stream = piece[: len(lent)], piece[len(lent) :] + stream
            lent[: len(piece)] = piece
            items = made.buffer_updated(len(piece))
        else:
            items = made.feed(piece)
        seen.append((repr(items), made.eventful, repr(made.events), described(made.decoder.error)))
        made.events.clear()
    return seen


@pytest.mark.parametrize("name", DECODERS)
@profile
@given(case=cases())
def test_both_backends_see_the_same_events(
    both: Both, name: str, case: tuple[dict[str, Any], bytes, list[Step]]
) -> None:
    assert story(both.py, name, *case) == story(both.cy, name, *case)


# -- Events of the decoders -------------------------------------------------------------------------------------------


@both_roles
@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize(
    ("event", "bad"),
    [
        ([(Opcode.PING, b"")], b""),
        ([(Opcode.PONG, b"x" * 125)], b""),
        ([(Opcode.TEXT, b"a"), (Opcode.PING, b""), (Opcode.TEXT, b"b")], b""),
        ([(Opcode.CLOSE, b"")], b""),
        ([(Opcode.TEXT, b"a"), (Opcode.CLOSE, b"\x03\xe8")], b""),
        ([(Opcode.TEXT, b"a")], b"\x83"),
        ([(Opcode.PING, b"a")], b"\x83"),
    ],
)
def test_what_is_an_event(
    codec: ModuleType, name: str, role: str, event: list[tuple[Opcode, bytes]], bad: bytes
) -> None:
    decoder = getattr(codec, name)(role=role)
    assert decoder.eventful is False
    for plain in (sent_to(role, Opcode.TEXT, b"plain"), sent_to(role, Opcode.BINARY, b"b" * 300), b""):
        assert decoder.feed(plain) is not None
        assert decoder.eventful is False
    decoder.feed(b"".join(sent_to(role, *each) for each in event) + bad)
    assert decoder.eventful is True
    assert (decoder.error is not None) == bool(bad)


@both_roles
@pytest.mark.parametrize("name", DECODERS)
def test_an_event_is_one_of_the_call_that_brings_its_end(codec: ModuleType, name: str, role: str) -> None:
    """Not of those that bring its beginning, and no longer of the next one."""
    decoder = getattr(codec, name)(role=role)
    ping = sent_to(role, Opcode.PING, b"ping")
    for i in range(len(ping) - 1):
        decoder.feed(ping[i : i + 1])
        assert decoder.eventful is False
    decoder.feed(ping[-1:])
    assert decoder.eventful is True
    decoder.feed(b"")
    assert decoder.eventful is False
    decoder.feed(ping)
    decoder.get_buffer()[:7] = sent_to(role, Opcode.TEXT, b"x").ljust(7, b"\x82")
    decoder.buffer_updated(len(sent_to(role, Opcode.TEXT, b"x")))
    assert decoder.eventful is False


@both_roles
@pytest.mark.parametrize("name", DECODERS)
def test_an_error_is_an_event_however_often_it_is_raised(codec: ModuleType, name: str, role: str) -> None:
    decoder = getattr(codec, name)(role=role)
    for data in (b"\x83", b"\x83", b""):
        assert isinstance(attempt(partial(decoder.feed, data)), tuple)
        assert decoder.eventful is True


# -- Counts -----------------------------------------------------------------------------------------------------------


def test_bytes_sent_are_counted(codec: ModuleType) -> None:
    made = codec.Endpoint(role="server")
    made.passing = True
    assert (made.bytes_sent, made.high_water) == (0, 0)
    for size in (5, 10, 0, 2**40):
        made.count_bytes(size)
    assert made.passes(b"\x82\x01x")
    assert not made.passes(b"\x89\x01x")
    assert made.bytes_sent == 2**40 + 15 + 3
    for waiting in (5, 100, 50, 2**40 + 1, 1):
        made.note_waiting(waiting)
    assert made.high_water == 2**40 + 1
    for name in ("passed", "bytes_sent", "high_water"):
        with pytest.raises(AttributeError):
            setattr(made, name, 1)


FRAMES: dict[str, list[tuple[int, bytes, dict[str, int]]]] = {
    "messages": [(Opcode.TEXT, b"a", {}), (Opcode.BINARY, b"b" * 300, {}), (Opcode.BINARY, b"", {})],
    "with controls": [(Opcode.TEXT, b"a", {}), (Opcode.PING, b"", {}), (Opcode.TEXT, b"b", {}), (Opcode.PONG, b"", {})],
    "in fragments": [
        (Opcode.TEXT, b"a", {}),
        (Opcode.TEXT, b"b", {"fin": 0}),
        (Opcode.PING, b"", {}),
        (Opcode.CONTINUATION, b"c", {"fin": 0}),
        (Opcode.CONTINUATION, b"d", {}),
        (Opcode.TEXT, b"e", {}),
    ],
    "to the end": [(Opcode.TEXT, b"a", {}), (Opcode.CLOSE, b"\x03\xe8", {})],
}
COUNTS = {"messages": (3, 3, 0), "with controls": (4, 2, 1), "in fragments": (6, 3, 1), "to the end": (2, 1, 0)}
"""(frames, messages, pings) that were sent then."""


def send_by_passing(connection: Connection, frame: bytes) -> None:
    if not connection.passes(frame):
        connection.note_send(frame)


def send_by_noting(connection: Connection, frame: bytes) -> None:
    connection.note_send(frame)


class Seeing(Connection):
    """Sees every frame that is sent."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seen: list[bytes] = []

    def note_send(self, frame: bytes) -> None:
        super().note_send(frame)
        self.seen.append(frame)


@both_roles
@pytest.mark.parametrize("send", [send_by_passing, send_by_noting])
@pytest.mark.parametrize("make", [Connection, Seeing])
@pytest.mark.parametrize("case", FRAMES)
def test_a_frame_is_counted_once_whichever_way_it_takes(
    role: str, send: Callable[[Connection, bytes], None], make: type[Connection], case: str
) -> None:
    connection = make(role=role)
    connection.open()
    frames = [sent_by(role, opcode, payload, **bits) for opcode, payload, bits in FRAMES[case]]
    for frame in frames:
        send(connection, frame)
    counters = connection.counters
    assert (counters.frames_sent, counters.messages_sent, counters.pings_sent) == COUNTS[case]
    if isinstance(connection, Seeing):
        assert connection.seen == frames
        assert connection.passed == 0


@both_roles
def test_when_frames_pass(role: str) -> None:
    """From the opening to the end, and not inside a message."""
    frame = sent_by(role, Opcode.BINARY, b"x")
    connection = Connection(role=role)
    assert not connection.passes(frame)
    with pytest.raises(RuntimeError):
        connection.note_send(frame)
    connection.open()
    assert connection.passes(frame)
    connection.note_send(sent_by(role, Opcode.TEXT, b"a", fin=0))
    assert not connection.passes(frame)
    connection.note_send(sent_by(role, Opcode.CONTINUATION, b"b"))
    assert connection.passes(frame)
    connection.feed(sent_to(role, Opcode.CLOSE))
    assert connection.passes(frame)  # what came before the peer's Close may still be answered
    connection.answer_end()
    assert not connection.passes(frame)
    with pytest.raises(ConnectionLost):
        connection.note_send(frame)


@both_roles
def test_nothing_passes_once_the_connection_is_gone(role: str) -> None:
    connection = opened(role=role)
    connection.end()
    assert not connection.passes(sent_by(role, Opcode.BINARY, b"x"))


@both_roles
def test_the_wrong_masking_does_not_pass_and_is_refused(role: str) -> None:
    connection = opened(role=role)
    wrong = sent_by(OTHER[role], Opcode.BINARY, b"x")
    assert not connection.passes(wrong)
    with pytest.raises(ValueError, match="must be"):
        connection.note_send(wrong)
    assert connection.counters.frames_sent == 0


# -- Messages in pieces (RFC 6455 §6.1) -------------------------------------------------------------------------------


def test_a_long_payload_is_not_copied_behind_its_header() -> None:
    payload = bytes(100_000)
    head, body = opened(role="server").message_pieces(payload, Opcode.BINARY)
    assert body is payload
    assert head + body == prepare_websocket_frame(payload, opcode=Opcode.BINARY)


def test_a_client_masks_a_long_payload_with_a_key_of_its_own() -> None:
    payload = bytes(100_000)
    (one,), (other,) = (opened(role="client").message_pieces(payload, Opcode.BINARY) for _ in range(2))
    assert one != other
    key = one[10:14]
    assert one == encode_frame(Opcode.BINARY, payload, mask_key=key)
    assert key != KEY


@both_roles
@pytest.mark.parametrize("size", [0, 1, 125, 126, 16 * 1024 - 1, 16 * 1024, 65535, 65536])
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_the_pieces_are_the_frame(role: str, size: int, opcode: Opcode) -> None:
    connection = opened(role=role)
    payload = b"x" * size
    data = b"".join(connection.message_pieces(payload, opcode))
    peer = opened(role=OTHER[role])
    assert [(each.opcode, each.payload) for each in peer.feed(data)] == [(opcode, payload)]
    assert (connection.counters.frames_sent, connection.counters.messages_sent) == (1, 1)


@both_roles
@pytest.mark.parametrize("size", [0, 100_000])
def test_the_text_of_a_message_is_checked(role: str, size: int) -> None:
    connection = opened(role=role)
    with pytest.raises(ValueError, match="UTF-8"):
        connection.message_pieces(b"x" * size + b"\xff", Opcode.TEXT)
    assert connection.counters.frames_sent == 0
