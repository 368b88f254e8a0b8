"""One open connection without I/O, as a server and as a client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wslowlevel import (
    CloseCode,
    ConnectionLost,
    Frame,
    FrameDecoder,
    Opcode,
    PayloadTooBig,
    ProtocolError,
    Reason,
    State,
    encode_frame,
    prepare_websocket_frame,
)
from wslowlevel.connection import Connection, close_payload_for
from wslowlevel.wire import CONTROL

from .vectors import KEY

ROLES = ("server", "client")
both_roles = pytest.mark.parametrize("role", ROLES)
OTHER = {"server": "client", "client": "server"}

BYE = b"\x03\xe8bye"
"""The payload of a Close frame: 1000, "bye"."""


def opened(**options: Any) -> Connection:
    """A connection behind its opening handshake."""
    connection = Connection(**options)
    connection.open()
    return connection


def sent_to(role: str, opcode: int, payload: bytes = b"", **bits: int) -> bytes:
    """A frame as the peer of this role sends it."""
    return encode_frame(opcode, payload, mask_key=KEY if role == "server" else None, **bits)


def sent_by(role: str, opcode: int, payload: bytes = b"", **bits: int) -> bytes:
    """A frame as this role sends it."""
    return sent_to(OTHER[role], opcode, payload, **bits)


def decoded(role: str, data: bytes) -> list[Frame]:
    """What the peer of this role reads; it insists on the right masking."""
    return FrameDecoder(role=OTHER[role]).feed(data)


def answers(connection: Connection, role: str) -> list[tuple[int, bytes]]:
    """(opcode, payload) of everything that is to be sent by itself; a second time, there is nothing more."""
    data = b"".join([*connection.replies, connection.answer_end() or b""])
    connection.replies.clear()
    assert connection.answer_end() is None
    return [(frame.opcode, frame.payload) for frame in decoded(role, data)]


def feed_whole(connection: Connection, data: bytes) -> list[bytes]:
    return [message.payload for message in connection.feed(data)]


def feed_bytewise(connection: Connection, data: bytes) -> list[bytes]:
    return [payload for i in range(len(data)) for payload in feed_whole(connection, data[i : i + 1])]


def feed_into_buffer(connection: Connection, data: bytes) -> list[bytes]:
    connection.get_buffer()[: len(data)] = data
    return [message.payload for message in connection.buffer_updated(len(data))]


Feed = Callable[[Connection, bytes], list[bytes]]
every_way = pytest.mark.parametrize("feed", [feed_whole, feed_bytewise, feed_into_buffer])


# -- Messages ---------------------------------------------------------------------------------------------------------


@both_roles
@every_way
def test_messages_come_through_and_nothing_is_answered(role: str, feed: Feed) -> None:
    connection = opened(role=role)
    data = [
        sent_to(role, Opcode.TEXT, b"Hel", fin=0),
        sent_to(role, Opcode.PONG, b"unasked"),
        sent_to(role, Opcode.CONTINUATION, b"lo"),
        sent_to(role, Opcode.BINARY, b"\xff"),
    ]
    assert feed(connection, b"".join(data)) == [b"unasked", b"Hello", b"\xff"]
    assert not connection.ended
    assert connection.error is None
    assert answers(connection, role) == []
    assert (connection.received, connection.sent) == (None, None)


def test_options_are_those_of_the_decoder() -> None:
    connection = opened(role="server", require_mask=False, allow_rsv=2, max_message_size=4)
    (message,) = connection.feed(encode_frame(Opcode.BINARY, b"four", rsv2=1))
    assert (message.payload, message.rsv2, message.mask) == (b"four", 1, 0)
    with pytest.raises(ValueError, match="role must be 'server' or 'client', not 'proxy'"):
        Connection(role="proxy")
    with pytest.raises(TypeError, match="max_size"):
        Connection(role="server", max_size=4)


# -- Pings (RFC 6455 §5.5.2) ------------------------------------------------------------------------------------------


@both_roles
@every_way
def test_auto_pong_answers_each_ping_with_its_payload(role: str, feed: Feed) -> None:
    connection = opened(role=role, auto_pong=True)
    pings = [b"", b"one", bytes(range(125))]
    assert feed(connection, b"".join(sent_to(role, Opcode.PING, ping) for ping in pings)) == pings
    assert answers(connection, role) == [(Opcode.PONG, ping) for ping in pings]


@both_roles
def test_without_auto_pong_pings_are_the_callers(role: str) -> None:
    connection = opened(role=role, auto_pong=False)
    assert feed_whole(connection, sent_to(role, Opcode.PING, b"ping")) == [b"ping"]
    assert answers(connection, role) == []


@both_roles
def test_pings_are_answered_by_default(role: str) -> None:
    connection = opened(role=role)
    assert feed_whole(connection, sent_to(role, Opcode.PING, b"ping")) == [b"ping"]
    assert answers(connection, role) == [(Opcode.PONG, b"ping")]


def test_a_client_masks_each_reply_with_a_key_of_its_own() -> None:
    connection = opened(role="client", auto_pong=True)
    connection.feed(sent_to("client", Opcode.PING, b"same") * 8)
    frames = FrameDecoder(role="server").feed(b"".join(connection.replies))
    assert len({frame.mask_key for frame in frames}) > 6


@both_roles
@every_way
def test_pongs_go_before_the_close_that_follows_the_pings(role: str, feed: Feed) -> None:
    connection = opened(role=role, auto_pong=True)
    feed(connection, sent_to(role, Opcode.PING, b"ping") + sent_to(role, Opcode.CLOSE, BYE))
    assert answers(connection, role) == [(Opcode.PONG, b"ping"), (Opcode.CLOSE, BYE)]


# -- The closing handshake (RFC 6455 §5.5.1, §7) ----------------------------------------------------------------------


@both_roles
@every_way
@pytest.mark.parametrize(
    ("payload", "close"),
    [
        (BYE, (1000, "bye")),
        (b"\x0f\xa0", (4000, "")),
        (b"\x03\xf3" + "ü".encode() * 61, (1011, "ü" * 61)),
        (b"", (1005, "")),
    ],
    ids=["code and reason", "code", "longest", "empty"],
)
def test_close_reply_repeats_code_and_reason(role: str, feed: Feed, payload: bytes, close: tuple[int, str]) -> None:
    connection = opened(role=role)
    assert feed(connection, sent_to(role, Opcode.CLOSE, payload)) == [payload]
    assert answers(connection, role) == [(Opcode.CLOSE, payload)]
    assert (connection.received, connection.sent) == (close, close)
    assert connection.ended
    assert connection.error is None


@both_roles
@every_way
def test_nothing_is_read_or_answered_after_the_close(role: str, feed: Feed) -> None:
    connection = opened(role=role, auto_pong=True)
    more = sent_to(role, Opcode.PING) + sent_to(role, Opcode.CLOSE, BYE) + b"\xff\xff"
    assert feed(connection, sent_to(role, Opcode.CLOSE, BYE) + more) == [BYE]
    assert feed(connection, more) == []
    assert answers(connection, role) == [(Opcode.CLOSE, BYE)]
    assert feed(connection, more) == []
    assert answers(connection, role) == []
    assert (connection.received, connection.error) == ((1000, "bye"), None)


@both_roles
def test_without_auto_close_the_close_is_the_callers(role: str) -> None:
    connection = opened(role=role, auto_close=False)
    assert feed_whole(connection, sent_to(role, Opcode.CLOSE, BYE)) == [BYE]
    assert answers(connection, role) == []
    assert (connection.received, connection.sent, connection.ended) == ((1000, "bye"), None, True)
    connection.note_send(sent_by(role, Opcode.TEXT, b"one last word"))
    connection.close_frame(4000, "my way")
    assert connection.sent == (4000, "my way")


@both_roles
def test_an_answer_to_our_own_close_is_not_answered_again(role: str) -> None:
    connection = opened(role=role, auto_pong=True)
    connection.close_frame(1001, "leaving")
    assert feed_whole(connection, sent_to(role, Opcode.PING) + sent_to(role, Opcode.CLOSE, BYE)) == [b"", BYE]
    assert answers(connection, role) == []
    assert (connection.received, connection.sent) == ((1000, "bye"), (1001, "leaving"))


# -- Violations (RFC 6455 §7.1.7) -------------------------------------------------------------------------------------

VIOLATIONS: dict[str, tuple[Callable[[str], bytes], int]] = {
    "reserved bits": (lambda role: sent_to(role, Opcode.TEXT, rsv1=1), CloseCode.PROTOCOL_ERROR),
    "reserved opcode": (lambda role: sent_to(role, 3), CloseCode.PROTOCOL_ERROR),
    "wrong masking": (lambda role: sent_by(role, Opcode.TEXT, b"x"), CloseCode.PROTOCOL_ERROR),
    "reserved close code": (lambda role: sent_to(role, Opcode.CLOSE, b"\x03\xed"), CloseCode.PROTOCOL_ERROR),
    "invalid UTF-8": (lambda role: sent_to(role, Opcode.TEXT, b"\xff"), CloseCode.INVALID_PAYLOAD),
    "too big": (lambda role: sent_to(role, Opcode.BINARY, bytes(33)), CloseCode.MESSAGE_TOO_BIG),
}
violations = pytest.mark.parametrize(("violation", "code"), VIOLATIONS.values(), ids=VIOLATIONS)


@both_roles
@every_way
@violations
def test_a_violation_is_answered_once_with_its_code(
    role: str, feed: Feed, violation: Callable[[str], bytes], code: int
) -> None:
    connection = opened(role=role, auto_pong=True, max_message_size=32)
    before = sent_to(role, Opcode.PING, b"ping") + sent_to(role, Opcode.BINARY, bytes(32))
    assert feed(connection, before + violation(role)) == [b"ping", bytes(32)]
    assert connection.ended
    assert isinstance(connection.error, (ProtocolError, PayloadTooBig))
    assert connection.error.close_code == code
    assert connection.received is None
    text = str(connection.error)
    assert answers(connection, role) == [
        (Opcode.PONG, b"ping"),
        (Opcode.CLOSE, code.to_bytes(2, "big") + text.encode()),
    ]
    assert connection.sent == (code, text)
    assert feed(connection, sent_to(role, Opcode.PING) + violation(role)) == []
    assert answers(connection, role) == []


@both_roles
@violations
def test_without_auto_close_a_violation_is_the_callers(role: str, violation: Callable[[str], bytes], code: int) -> None:
    connection = opened(role=role, auto_close=False, max_message_size=32)
    assert feed_whole(connection, violation(role)) == []
    assert isinstance(connection.error, (ProtocolError, PayloadTooBig))
    assert connection.error.close_code == code
    assert answers(connection, role) == []
    assert (connection.ended, connection.sent) == (True, None)


@both_roles
@violations
def test_a_violation_after_our_close_is_not_answered(role: str, violation: Callable[[str], bytes], code: int) -> None:
    connection = opened(role=role, max_message_size=32)
    connection.close_frame(1001)
    assert feed_whole(connection, violation(role)) == []
    assert connection.error is not None
    assert answers(connection, role) == []
    assert connection.sent == (1001, "")


@pytest.mark.parametrize("feed", [Connection.feed, Connection.buffer_updated])
def test_a_mistake_of_the_caller_ends_nothing(feed: Callable[[Connection, Any], object]) -> None:
    connection = opened(role="server")
    with pytest.raises((TypeError, ValueError)):
        feed(connection, "text")
    assert connection.error is None
    assert feed_whole(connection, sent_to("server", Opcode.TEXT, b"x")) == [b"x"]


# -- What is sent -----------------------------------------------------------------------------------------------------


@both_roles
@pytest.mark.parametrize("opcode", Opcode)
def test_nothing_is_sent_after_our_close(role: str, opcode: int) -> None:
    connection = opened(role=role)
    connection.close_frame(4001, "mine")
    with pytest.raises(ConnectionLost) as caught:
        connection.note_send(sent_by(role, opcode))
    assert (caught.value.received, caught.value.sent) == (None, (4001, "mine"))
    assert caught.value.code == CloseCode.ABNORMAL_CLOSURE
    assert str(caught.value) == "connection is closed: sent 4001 'mine'"


@both_roles
def test_a_lost_connection_tells_the_codes_of_both_sides(role: str) -> None:
    connection = opened(role=role)
    assert str(connection.lost()) == "connection is closed: no Close frame was received or sent"
    assert connection.lost().code == CloseCode.ABNORMAL_CLOSURE
    connection.close_frame(1001, "leaving")
    connection.feed(sent_to(role, Opcode.CLOSE, BYE))
    with pytest.raises(ConnectionLost) as caught:
        connection.note_send(sent_by(role, Opcode.TEXT, b"x"))
    assert (caught.value.received, caught.value.sent, caught.value.code) == ((1000, "bye"), (1001, "leaving"), 1000)
    assert str(caught.value) == "connection is closed: sent 1001 'leaving', then received 1000 'bye'"


@both_roles
def test_an_automatic_close_is_our_close_too(role: str) -> None:
    connection = opened(role=role)
    connection.feed(sent_to(role, Opcode.TEXT, b"question") + sent_to(role, Opcode.CLOSE, BYE))
    connection.note_send(sent_by(role, Opcode.TEXT, b"answer"))  # what came before the Close can still be answered
    assert connection.answer_end() is not None
    with pytest.raises(ConnectionLost, match="received 1000 'bye', then sent 1000 'bye'"):
        connection.note_send(sent_by(role, Opcode.TEXT, b"x"))


@both_roles
@pytest.mark.parametrize("opcode", sorted(set(Opcode) - {Opcode.CLOSE, Opcode.CONTINUATION}))
def test_every_other_frame_may_be_followed(role: str, opcode: int) -> None:
    connection = opened(role=role)
    for _ in range(2):
        connection.note_send(sent_by(role, opcode, b"\x03\xe8"))
    assert connection.sent is None


@both_roles
@pytest.mark.parametrize(
    ("payload", "sent"),
    [
        (BYE, (1000, "bye")),
        (b"", (1005, "")),
        (b"\x03", (1005, "")),
        (b"\x03\xed", (1005, "")),
        (b"\x03\xe8\xff", (1005, "")),
    ],
    ids=["good", "empty", "too short", "reserved code", "no UTF-8"],
)
def test_a_close_frame_made_by_hand_is_taken_note_of(role: str, payload: bytes, sent: tuple[int, str]) -> None:
    connection = opened(role=role)
    connection.note_send(sent_by(role, Opcode.CLOSE, payload))
    assert connection.sent == sent


@both_roles
def test_half_a_close_frame_is_a_mistake_and_so_is_what_follows_one(role: str) -> None:
    whole = sent_by(role, Opcode.CLOSE, BYE)
    for frame in (whole[:-1], whole[:2], whole + b"x", whole + sent_by(role, Opcode.TEXT)):
        connection = opened(role=role)
        with pytest.raises(ValueError, match="not one whole Close frame"):
            connection.note_send(frame)
        assert (connection.sent, connection.state) == (None, State.OPEN)


@both_roles
def test_close_frame_is_masked_as_the_role_says(role: str) -> None:
    data = opened(role=role).close_frame(4999, "ü")
    assert [(frame.opcode, frame.payload) for frame in decoded(role, data)] == [(8, b"\x13\x87" + "ü".encode())]
    with pytest.raises(ValueError, match="not 1006"):
        opened(role=role).close_frame(1006)


# -- The text of an error as a reason ---------------------------------------------------------------------------------


class Loud(Exception):
    close_code = CloseCode.POLICY_VIOLATION


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", ""),
        ("x" * 123, "x" * 123),
        ("x" * 124, "x" * 123),
        ("ü" * 100, "ü" * 61),
        ("x" + "ü" * 100, "x" + "ü" * 61),
        ("€" * 100, "€" * 41),
        ("x" + "€" * 100, "x" + "€" * 40),
        ("\U0001f44b" * 100, "\U0001f44b" * 30),
    ],
    ids=["empty", "fits", "1 over", "2 bytes", "2 bytes, shifted", "3 bytes", "3 bytes, shifted", "4 bytes"],
)
def test_a_long_error_text_is_cut_between_characters(text: str, reason: str) -> None:
    assert close_payload_for(Loud(text)) == b"\x03\xf0" + reason.encode()


def test_the_peer_does_not_read_what_went_wrong_here() -> None:
    assert close_payload_for(KeyError("the password")) == b"\x03\xf3"


@pytest.mark.parametrize("code", [CloseCode.NO_STATUS_RECEIVED, CloseCode.ABNORMAL_CLOSURE, CloseCode.TLS_HANDSHAKE])
def test_a_code_that_stands_in_no_frame_is_told_as_a_mistake_of_ours(code: int) -> None:
    error = ProtocolError("an extension says so", Reason.EXTENSION_DATA, code)
    assert close_payload_for(error) == b"\x03\xf3"


@pytest.mark.parametrize("frame", [b"\x88\x02\x03", b"\x88\x7e\x00\x02ab"])
def test_what_is_no_close_frame_is_the_callers_mistake(frame: bytes) -> None:
    with pytest.raises(ValueError, match=r"not (a|one whole) Close frame"):
        opened(role="server").note_send(frame)


# -- How far the connection has come (RFC 6455 §4.1, §7.1) ------------------------------------------------------------

Step = Callable[[Connection], object]


def receives(opcode: int, payload: bytes, **bits: int) -> Step:
    return lambda connection: connection.feed(sent_to(connection.role, opcode, payload, **bits))


def sends_close(connection: Connection) -> None:
    connection.close_frame(4001, "mine")


def ends(connection: Connection) -> None:
    connection.end()


RECEIVES_CLOSE = receives(Opcode.CLOSE, BYE)
VIOLATED = receives(Opcode.TEXT, b"\xff")

LIVES: dict[str, list[tuple[Step, State, bool, str | None]]] = {
    # What happens, and after it: the state, whether frames may be sent, and who was the first to say Close.
    "the peer closes": [
        (receives(Opcode.TEXT, b"x"), State.OPEN, True, None),
        (RECEIVES_CLOSE, State.CLOSING, True, "received"),
        (Connection.answer_end, State.CLOSING, False, "received"),
        (ends, State.CLOSED, False, "received"),
    ],
    "we close": [
        (sends_close, State.CLOSING, False, "sent"),
        (receives(Opcode.TEXT, b"x"), State.CLOSING, False, "sent"),
        (RECEIVES_CLOSE, State.CLOSING, False, "sent"),
        (Connection.answer_end, State.CLOSING, False, "sent"),
        (ends, State.CLOSED, False, "sent"),
    ],
    "both close, the peer's arrives before ours goes out": [
        (RECEIVES_CLOSE, State.CLOSING, True, "received"),
        (sends_close, State.CLOSING, False, "received"),
        (Connection.answer_end, State.CLOSING, False, "received"),
    ],
    "violation": [
        (VIOLATED, State.CLOSING, True, None),
        (Connection.answer_end, State.CLOSING, False, "sent"),
        (RECEIVES_CLOSE, State.CLOSING, False, "sent"),
        (ends, State.CLOSED, False, "sent"),
    ],
    "violation after our Close": [
        (sends_close, State.CLOSING, False, "sent"),
        (VIOLATED, State.CLOSING, False, "sent"),
    ],
    "broken Close": [
        (receives(Opcode.CLOSE, b"\x03\xed"), State.CLOSING, True, None),
        (Connection.answer_end, State.CLOSING, False, "sent"),
    ],
    "no Close": [
        (receives(Opcode.TEXT, b"x", fin=0), State.OPEN, True, None),
        (ends, State.CLOSED, False, None),
        (Connection.answer_end, State.CLOSED, False, None),
        (ends, State.CLOSED, False, None),
    ],
    "something arrives after the end": [
        (ends, State.CLOSED, False, None),
        (receives(Opcode.TEXT, b"x"), State.CLOSED, False, None),
        (VIOLATED, State.CLOSED, False, None),
        (Connection.answer_end, State.CLOSED, False, None),
    ],
    "the end comes before the answer": [
        (RECEIVES_CLOSE, State.CLOSING, True, "received"),
        (ends, State.CLOSED, False, "received"),
        (Connection.answer_end, State.CLOSED, False, "received"),
    ],
}


@both_roles
@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES)
def test_the_state_at_every_step(role: str, life: list[tuple[Step, State, bool, str | None]]) -> None:
    connection = Connection(role=role)
    assert (connection.state, connection.may_send, connection.closed_first) == (State.CONNECTING, False, None)
    connection.open()
    assert (connection.state, connection.may_send, connection.closed_first) == (State.OPEN, True, None)
    for step, *expected in life:
        step(connection)
        assert [connection.state, connection.may_send, connection.closed_first] == expected
        assert connection.lost().closed_first == connection.closed_first


@both_roles
@pytest.mark.parametrize(
    "action",
    [
        lambda connection: connection.note_send(sent_by(connection.role, Opcode.TEXT)),
        lambda connection: connection.close_frame(1000),
        lambda connection: connection.message_frame(b"", Opcode.TEXT),
        lambda connection: connection.message_in_chunks(Opcode.TEXT),
        lambda connection: connection.ping(),
    ],
    ids=["frame", "close", "message", "chunks", "ping"],
)
def test_nothing_is_sent_before_the_opening_handshake_nor_after_the_end(role: str, action: Step) -> None:
    connection = Connection(role=role)
    before = connection.counters
    with pytest.raises(RuntimeError, match="before the opening handshake"):
        action(connection)
    connection.end()
    with pytest.raises(ConnectionLost, match="no Close frame was received or sent"):
        action(connection)
    assert connection.counters == before
    assert (connection.sent, connection.pings) == (None, {})


@both_roles
def test_a_stream_of_chunks_ends_with_the_connection(role: str) -> None:
    connection = opened(role=role)
    message = connection.message_in_chunks(Opcode.TEXT)
    connection.chunk_frame(message, b"half", False)
    sends_close(connection)
    with pytest.raises(ConnectionLost, match="sent 4001 'mine'"):
        connection.chunk_frame(message, b"the rest", True)


@both_roles
def test_a_connection_opens_once(role: str) -> None:
    """What is closed, or received something, does not open (again)."""
    ended = Connection(role=role)
    ended.end()
    early = Connection(role=role)
    early.feed(sent_to(role, Opcode.CLOSE, BYE))
    closing = opened(role=role)
    sends_close(closing)
    for connection in (ended, early, closing):
        state = connection.state
        with pytest.raises(RuntimeError):
            connection.open()
        assert (connection.state, connection.may_send) == (state, False)


def test_how_to_receive_is_said_before_anything_is_received() -> None:
    connection = opened(role="server", auto_pong=True)
    connection.feed(b"")
    connection.configure(auto_pong=False)
    connection.feed(sent_to("server", Opcode.PING)[:1])
    with pytest.raises(RuntimeError, match="before anything was received"):
        connection.configure(auto_pong=True, auto_close=False)
    connection.feed(sent_to("server", Opcode.PING)[1:] + sent_to("server", Opcode.CLOSE, BYE))
    assert answers(connection, "server") == [(Opcode.CLOSE, BYE)]


@both_roles
def test_the_end_may_say_why(role: str) -> None:
    connection = opened(role=role)
    connection.end("no sign of life")
    connection.end("something else")
    assert str(connection.lost()) == "connection is closed: no sign of life; no Close frame was received or sent"
    connection = opened(role=role)
    sends_close(connection)
    connection.end("no sign of life")
    lost = connection.lost()
    assert str(lost) == "connection is closed: no sign of life; sent 4001 'mine'"
    assert (lost.received, lost.sent, lost.closed_first, lost.code) == (None, (4001, "mine"), "sent", 1006)


# -- Which frames may be sent (RFC 6455 §5.1, §5.4) -------------------------------------------------------------------


@both_roles
@pytest.mark.parametrize("opcode", Opcode)
def test_the_masking_of_what_is_sent_is_checked(role: str, opcode: int) -> None:
    connection = opened(role=role)
    if opcode == Opcode.CONTINUATION:
        connection.note_send(sent_by(role, Opcode.BINARY, fin=0))
    before = connection.counters
    wanted = {"client": r"client must be masked: pass mask_key=True \(", "server": r"server must be unmasked \("}[role]
    with pytest.raises(ValueError, match=wanted):
        connection.note_send(sent_to(role, opcode))
    assert (connection.counters, connection.sent, connection.may_send) == (before, None, True)
    connection.note_send(sent_by(role, opcode))
    lax = opened(role=role, strict=False)
    lax.note_send(sent_to(role, opcode, b"\x03\xe8" if opcode == Opcode.CLOSE else b""))
    assert lax.counters.frames_sent == 1
    assert lax.sent == ((1000, "") if opcode == Opcode.CLOSE else None)


ORDERS: dict[str, tuple[list[tuple[int, int]], str | None]] = {
    # (opcode, FIN) of each frame, and what is said of the last of them.
    "whole messages": ([(1, 1), (2, 1), (1, 1)], None),
    "fragments": ([(1, 0), (0, 0), (0, 1), (2, 0), (0, 1), (2, 1)], None),
    "control frames between fragments": ([(1, 0), (9, 1), (0, 0), (10, 1), (0, 1)], None),
    "a Close between fragments": ([(1, 0), (8, 1)], None),
    "a message inside another": ([(1, 0), (1, 1)], "expected a continuation, not a frame with opcode 0x1"),
    "a first fragment inside a message": ([(2, 0), (2, 0)], "expected a continuation, not a frame with opcode 0x2"),
    "a message before the last fragment": ([(2, 0), (0, 0), (2, 1)], "expected a continuation"),
    "a continuation of nothing": ([(0, 1)], "expected the first frame of a message, not a frame with opcode 0x0"),
    "a continuation of a finished message": ([(1, 0), (0, 1), (0, 0)], "expected the first frame of a message"),
    "a continuation of a whole message": ([(1, 1), (9, 1), (0, 1)], "expected the first frame of a message"),
}


@both_roles
@pytest.mark.parametrize(("order", "complaint"), ORDERS.values(), ids=ORDERS)
def test_the_order_of_what_is_sent_is_checked(role: str, order: list[tuple[int, int]], complaint: str | None) -> None:
    frames = [sent_by(role, opcode, fin=fin) for opcode, fin in order]
    *good, last = frames
    connection, lax = opened(role=role), opened(role=role, strict=False)
    for frame in good:
        connection.note_send(frame)
    if complaint is None:
        connection.note_send(last)
    else:
        before = connection.counters
        with pytest.raises(ValueError, match=complaint):
            connection.note_send(last)
        assert connection.counters == before
    for frame in frames:
        lax.note_send(frame)
    assert lax.counters.frames_sent == len(frames)


@both_roles
def test_a_message_may_not_begin_inside_one_that_is_sent_by_hand(role: str) -> None:
    connection = opened(role=role)
    assert not connection.is_inside_message
    connection.note_send(sent_by(role, Opcode.TEXT, b"half", fin=0))
    assert connection.is_inside_message
    for begin in (connection.message_in_chunks, lambda opcode: connection.message_frame(b"", opcode)):
        with pytest.raises(ValueError, match="is not finished"):
            begin(Opcode.TEXT)
    connection.note_send(sent_by(role, Opcode.CONTINUATION))
    assert not connection.is_inside_message
    (frame,) = decoded(role, connection.message_frame(b"x", Opcode.BINARY))
    assert (frame.opcode, frame.payload, frame.fin) == (Opcode.BINARY, b"x", 1)


@both_roles
def test_a_message_in_chunks_is_one_message(role: str) -> None:
    connection = opened(role=role)
    message = connection.message_in_chunks(Opcode.TEXT)
    assert not connection.is_inside_message
    frames = [connection.chunk_frame(message, b"\xe2\x82", False), connection.chunk_frame(message, b"\xac", False)]
    assert connection.is_inside_message
    with pytest.raises(ValueError, match="expected a continuation"):
        connection.note_send(sent_by(role, Opcode.TEXT))
    frames.append(connection.chunk_frame(message, b"", True))
    assert not connection.is_inside_message
    assert [(frame.opcode, frame.payload, frame.fin) for frame in decoded(role, b"".join(filter(None, frames)))] == [
        (Opcode.TEXT, b"\xe2\x82", 0),
        (Opcode.CONTINUATION, b"\xac", 0),
        (Opcode.CONTINUATION, b"", 1),
    ]


# -- Counters ---------------------------------------------------------------------------------------------------------


@st.composite
def traffic(draw: st.DrawFn) -> list[Frame]:
    """Frames of one direction, control frames between the fragments, the last message finished or not."""
    frames: list[Frame] = []
    inside = False
    for _ in range(draw(st.integers(0, 12))):
        payload = draw(st.binary(max_size=200))
        if draw(st.booleans()):
            frames.append(Frame(draw(st.sampled_from([Opcode.PING, Opcode.PONG])), payload[:125]))
        else:
            fin = draw(st.integers(0, 1))
            frames.append(Frame(Opcode.CONTINUATION if inside else Opcode.BINARY, payload, fin))
            inside = not fin
    return frames


def counted(direction: str, frames: Iterable[Frame]) -> Counter[str]:
    """What is to be counted of frames that were sent, or received."""
    count = Counter[str]()
    for frame in frames:
        count[f"frames_{direction}"] += 1
        count[f"messages_{direction}"] += frame.fin and not frame.opcode & CONTROL
        count[f"pings_{direction}"] += frame.opcode == Opcode.PING
        count["pongs_received"] += (direction, frame.opcode) == ("received", Opcode.PONG)
    return count


def counters_of(connection: Connection) -> Counter[str]:
    return Counter(asdict(connection.counters))


@both_roles
@pytest.mark.parametrize("chunks", [False, True])
@pytest.mark.parametrize("auto_pong", [False, True])
@given(frames=traffic(), cuts=st.lists(st.integers(0, 2000), max_size=6))
def test_what_is_received_is_counted(
    role: str, chunks: bool, auto_pong: bool, frames: list[Frame], cuts: list[int]
) -> None:
    """The answers to it too."""
    connection = opened(role=role, chunks=chunks, auto_pong=auto_pong)
    frames = [*frames, Frame(Opcode.CLOSE, BYE)]
    data = b"".join(sent_to(role, frame.opcode, frame.payload, fin=frame.fin) for frame in frames)
    ends = sorted(min(cut, len(data)) for cut in cuts)
    for start, end in zip([0, *ends], [*ends, len(data)], strict=True):
        connection.feed(data[start:end])
        assert connection.counters.bytes_received == end
    pings = [frame.payload for frame in frames if frame.opcode == Opcode.PING]
    pongs = decoded(role, b"".join(connection.replies))
    assert [pong.payload for pong in pongs] == pings * auto_pong
    close = connection.answer_end() or b""
    expected = counted("received", frames) + counted("sent", [*pongs, *decoded(role, close)])
    expected += Counter(bytes_received=len(data), bytes_sent=len(b"".join(connection.replies) + close))
    assert counters_of(connection) == expected


@both_roles
@given(frames=traffic(), pieces=st.lists(st.binary(max_size=100), max_size=3))
def test_what_is_sent_is_counted(role: str, frames: list[Frame], pieces: list[bytes]) -> None:
    connection = opened(role=role)
    message = connection.message_in_chunks(Opcode.BINARY)
    made = [connection.chunk_frame(message, piece, False) for piece in pieces]
    made += [connection.chunk_frame(message, b"", True), connection.message_frame(b"whole", Opcode.TEXT)]
    ping = connection.ping()
    theirs = sent_to(role, Opcode.PING, b"theirs")
    connection.feed(theirs)
    made += [ping, *connection.replies]
    for frame in frames:
        connection.note_send(sent_by(role, frame.opcode, frame.payload, fin=frame.fin))
    made.append(connection.close_frame(1000, "done"))
    sent = b"".join(filter(None, made))
    noted = b"".join(sent_by(role, frame.opcode, frame.payload, fin=frame.fin) for frame in frames)
    expected = counted("sent", [*decoded(role, sent), *frames]) + Counter(bytes_sent=len(sent + noted))
    expected += counted("received", [Frame(Opcode.PING, b"theirs")]) + Counter(bytes_received=len(theirs))
    assert counters_of(connection) == expected


@both_roles
@given(waiting=st.lists(st.integers(0, 9999), max_size=4))
def test_high_water_is_the_most_that_waited(role: str, waiting: list[int]) -> None:
    connection = opened(role=role)
    for size in waiting:
        connection.note_waiting(size)
    assert connection.counters.high_water == max(waiting, default=0)


@both_roles
def test_close_frame_is_recorded_as_sent(role: str) -> None:
    connection = opened(role=role)
    frame = connection.close_frame(1001, "bye")
    assert (connection.sent, connection.closed_first, connection.state) == ((1001, "bye"), "sent", State.CLOSING)
    counters = connection.counters
    assert (counters.frames_sent, counters.messages_sent, counters.bytes_sent) == (1, 0, len(frame))
    with pytest.raises(ConnectionLost):
        connection.close_frame(1000)
    with pytest.raises(ConnectionLost):
        connection.message_frame(b"late", Opcode.BINARY)


@both_roles
def test_close_frame_with_a_wrong_code_is_not_recorded(role: str) -> None:
    connection = opened(role=role)
    with pytest.raises(ValueError, match="not 1006"):
        connection.close_frame(1006)
    assert (connection.sent, connection.may_send, connection.counters.frames_sent) == (None, True, 0)


@both_roles
def test_what_a_violation_makes_worthless_is_counted_in_bytes_only(role: str) -> None:
    connection = opened(role=role)
    data = sent_to(role, Opcode.TEXT, b"good") + sent_to(role, Opcode.TEXT, b"\xff") + sent_to(role, Opcode.PING)
    connection.feed(data)
    connection.feed(data)
    counters = connection.counters
    assert (counters.frames_received, counters.messages_received, counters.pings_received) == (1, 1, 0)
    assert counters.bytes_received == 2 * len(data)


@both_roles
def test_prepared_frames_count_as_any_other(role: str) -> None:
    connection = opened(role=role)
    frame = prepare_websocket_frame(b"x", mask_key=True if role == "client" else None)
    for _ in range(1000):
        connection.note_send(frame)
    assert (connection.counters.frames_sent, connection.counters.messages_sent) == (1000, 1000)
