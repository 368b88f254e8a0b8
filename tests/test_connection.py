"""One open connection without I/O, as a server and as a client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from wslowlevel import (
    CloseCode,
    ConnectionLost,
    Frame,
    FrameDecoder,
    Opcode,
    PayloadTooBig,
    ProtocolError,
    encode_frame,
)
from wslowlevel.connection import Connection, close_payload_for

from .vectors import KEY

ROLES = ("server", "client")
both_roles = pytest.mark.parametrize("role", ROLES)
OTHER = {"server": "client", "client": "server"}

BYE = b"\x03\xe8bye"
"""The payload of a Close frame: 1000, "bye"."""


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
    connection = Connection(role=role)
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
    connection = Connection(role="server", require_mask=False, allow_rsv=2, max_message_size=4)
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
    connection = Connection(role=role, auto_pong=True)
    pings = [b"", b"one", bytes(range(125))]
    assert feed(connection, b"".join(sent_to(role, Opcode.PING, ping) for ping in pings)) == pings
    assert answers(connection, role) == [(Opcode.PONG, ping) for ping in pings]


@both_roles
def test_without_auto_pong_pings_are_the_callers(role: str) -> None:
    connection = Connection(role=role)
    assert feed_whole(connection, sent_to(role, Opcode.PING, b"ping")) == [b"ping"]
    assert answers(connection, role) == []


def test_a_client_masks_each_reply_with_a_key_of_its_own() -> None:
    connection = Connection(role="client", auto_pong=True)
    connection.feed(sent_to("client", Opcode.PING, b"same") * 8)
    frames = FrameDecoder(role="server").feed(b"".join(connection.replies))
    assert len({frame.mask_key for frame in frames}) > 6


@both_roles
@every_way
def test_pongs_go_before_the_close_that_follows_the_pings(role: str, feed: Feed) -> None:
    connection = Connection(role=role, auto_pong=True)
    feed(connection, sent_to(role, Opcode.PING, b"ping") + sent_to(role, Opcode.CLOSE, BYE))
    assert answers(connection, role) == [(Opcode.PONG, b"ping"), (Opcode.CLOSE, BYE[:2])]


# -- The closing handshake (RFC 6455 §5.5.1, §7) ----------------------------------------------------------------------


@both_roles
@every_way
@pytest.mark.parametrize(
    ("payload", "received", "sent"),
    [
        (BYE, (1000, "bye"), (1000, "")),
        (b"\x0f\xa0", (4000, ""), (4000, "")),
        (b"\x03\xf3" + "ü".encode() * 61, (1011, "ü" * 61), (1011, "")),
        (b"", (1005, ""), (1005, "")),
    ],
    ids=["code and reason", "code", "longest", "empty"],
)
def test_a_close_is_answered_with_its_code(
    role: str, feed: Feed, payload: bytes, received: tuple[int, str], sent: tuple[int, str]
) -> None:
    connection = Connection(role=role)
    assert feed(connection, sent_to(role, Opcode.CLOSE, payload)) == [payload]
    assert answers(connection, role) == [(Opcode.CLOSE, payload[:2])]
    assert (connection.received, connection.sent) == (received, sent)
    assert connection.ended
    assert connection.error is None


@both_roles
@every_way
def test_nothing_is_read_or_answered_after_the_close(role: str, feed: Feed) -> None:
    connection = Connection(role=role, auto_pong=True)
    more = sent_to(role, Opcode.PING) + sent_to(role, Opcode.CLOSE, BYE) + b"\xff\xff"
    assert feed(connection, sent_to(role, Opcode.CLOSE, BYE) + more) == [BYE]
    assert feed(connection, more) == []
    assert answers(connection, role) == [(Opcode.CLOSE, BYE[:2])]
    assert feed(connection, more) == []
    assert answers(connection, role) == []
    assert (connection.received, connection.error) == ((1000, "bye"), None)


@both_roles
def test_without_auto_close_the_close_is_the_callers(role: str) -> None:
    connection = Connection(role=role, auto_close=False)
    assert feed_whole(connection, sent_to(role, Opcode.CLOSE, BYE)) == [BYE]
    assert answers(connection, role) == []
    assert (connection.received, connection.sent, connection.ended) == ((1000, "bye"), None, True)
    connection.note_send(sent_by(role, Opcode.TEXT, b"one last word"))
    connection.note_send(connection.close_frame(4000, "my way"))
    assert connection.sent == (4000, "my way")


@both_roles
def test_an_answer_to_our_own_close_is_not_answered_again(role: str) -> None:
    connection = Connection(role=role, auto_pong=True)
    connection.note_send(connection.close_frame(1001, "leaving"))
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
    connection = Connection(role=role, auto_pong=True, max_message_size=32)
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
    connection = Connection(role=role, auto_close=False, max_message_size=32)
    assert feed_whole(connection, violation(role)) == []
    assert isinstance(connection.error, (ProtocolError, PayloadTooBig))
    assert connection.error.close_code == code
    assert answers(connection, role) == []
    assert (connection.ended, connection.sent) == (True, None)


@both_roles
@violations
def test_a_violation_after_our_close_is_not_answered(role: str, violation: Callable[[str], bytes], code: int) -> None:
    connection = Connection(role=role, max_message_size=32)
    connection.note_send(connection.close_frame(1001))
    assert feed_whole(connection, violation(role)) == []
    assert connection.error is not None
    assert answers(connection, role) == []
    assert connection.sent == (1001, "")


@pytest.mark.parametrize("feed", [Connection.feed, Connection.buffer_updated])
def test_a_mistake_of_the_caller_ends_nothing(feed: Callable[[Connection, Any], object]) -> None:
    connection = Connection(role="server")
    with pytest.raises((TypeError, ValueError)):
        feed(connection, "text")
    assert connection.error is None
    assert feed_whole(connection, sent_to("server", Opcode.TEXT, b"x")) == [b"x"]


# -- What is sent -----------------------------------------------------------------------------------------------------


@both_roles
@pytest.mark.parametrize("opcode", Opcode)
def test_nothing_is_sent_after_our_close(role: str, opcode: int) -> None:
    connection = Connection(role=role)
    connection.note_send(connection.close_frame(4001, "mine"))
    with pytest.raises(ConnectionLost) as caught:
        connection.note_send(sent_by(role, opcode))
    assert (caught.value.received, caught.value.sent) == (None, (4001, "mine"))
    assert caught.value.code == CloseCode.ABNORMAL_CLOSURE
    assert str(caught.value) == "connection is closed: sent 4001 'mine'"


@both_roles
def test_a_lost_connection_tells_the_codes_of_both_sides(role: str) -> None:
    connection = Connection(role=role)
    assert str(connection.lost()) == "connection is closed: no Close frame was received or sent"
    assert connection.lost().code == CloseCode.ABNORMAL_CLOSURE
    connection.note_send(connection.close_frame(1001, "leaving"))
    connection.feed(sent_to(role, Opcode.CLOSE, BYE))
    with pytest.raises(ConnectionLost) as caught:
        connection.note_send(sent_by(role, Opcode.TEXT, b"x"))
    assert (caught.value.received, caught.value.sent, caught.value.code) == ((1000, "bye"), (1001, "leaving"), 1000)
    assert str(caught.value) == "connection is closed: received 1000 'bye', sent 1001 'leaving'"


@both_roles
def test_an_automatic_close_is_our_close_too(role: str) -> None:
    connection = Connection(role=role)
    connection.feed(sent_to(role, Opcode.TEXT, b"question") + sent_to(role, Opcode.CLOSE, BYE))
    connection.note_send(sent_by(role, Opcode.TEXT, b"answer"))  # what came before the Close can still be answered
    assert connection.answer_end() is not None
    with pytest.raises(ConnectionLost, match="received 1000 'bye', sent 1000 ''"):
        connection.note_send(sent_by(role, Opcode.TEXT, b"x"))


@both_roles
@pytest.mark.parametrize("opcode", [opcode for opcode in Opcode if opcode != Opcode.CLOSE])
def test_every_other_frame_may_be_followed(role: str, opcode: int) -> None:
    connection = Connection(role=role)
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
    connection = Connection(role=role)
    connection.note_send(sent_by(role, Opcode.CLOSE, payload))
    assert connection.sent == sent


@both_roles
def test_half_a_close_frame_is_a_mistake(role: str) -> None:
    with pytest.raises(ValueError, match="not a whole Close frame"):
        Connection(role=role).note_send(b"\x88")


@both_roles
def test_close_frame_is_masked_as_the_role_says(role: str) -> None:
    data = Connection(role=role).close_frame(4999, "ü")
    assert [(frame.opcode, frame.payload) for frame in decoded(role, data)] == [(8, b"\x13\x87" + "ü".encode())]
    with pytest.raises(ValueError, match="not 1006"):
        Connection(role=role).close_frame(1006)


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
    assert close_payload_for(Exception(text)) == b"\x03\xf3" + reason.encode()


@pytest.mark.parametrize("frame", [b"\x88", b"\x88\x02\x03", b"\x88\x7e\x00\x02ab"])
def test_what_is_no_close_frame_is_the_callers_mistake(frame: bytes) -> None:
    with pytest.raises(ValueError, match="not a"):
        Connection(role="server").note_send(frame)
