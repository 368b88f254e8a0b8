"""wsproto with our frames in place: the same events, states, errors, calls of extensions, and bytes sent."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto import frame_protocol
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, Pong, TextMessage
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.frame_protocol import CloseReason, FrameProtocol, RsvBits

from ..test_differential import encoded, profile, streams
from ..vectors import KEY, REFUSED, VECTORS, patterned
from .seams import installed, same, told

ROLES = {"server": ConnectionType.SERVER, "client": ConnectionType.CLIENT}
CUTS = st.lists(st.one_of(st.integers(0, 20), st.integers(0, 300), st.just(65536)), max_size=12)


class Recorder(Extension):
    """An extension that keeps what it is asked, and answers what it is told to.

    Args:
        answers: of each hook, in the order in which they are called; the last one for all further calls.
    """

    name = "x-recorder"

    def __init__(self, answers: list[str], enabled: int = 10**9) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self._answers = answers
        self._enabled = enabled

    def enabled(self) -> bool:
        self._enabled -= 1
        return self._enabled >= 0

    def offer(self) -> bool | str:
        return True

    def _answer(self, *asked: Any) -> str:
        self.asked.append(asked)
        return self._answers[min(len(self.asked), len(self._answers)) - 1]

    def frame_inbound_header(self, proto: Any, opcode: Any, rsv: RsvBits, payload_length: int) -> Any:
        answer = self._answer("header", proto.client, opcode, type(opcode), rsv, payload_length)
        return CloseReason.POLICY_VIOLATION if answer == "close" else RsvBits(True, answer == "all", answer == "all")

    def frame_inbound_payload_data(self, proto: Any, data: bytes) -> Any:
        answer = self._answer("payload", data, type(data))
        return CloseReason.MESSAGE_TOO_BIG if answer == "close" else data * 2 if answer == "double" else data

    def frame_inbound_complete(self, proto: Any, fin: bool) -> Any:
        answer = self._answer("complete", fin)
        return CloseReason.INTERNAL_ERROR if answer == "close" else b"!" if answer == "more" else None

    def frame_outbound(self, proto: Any, opcode: Any, rsv: RsvBits, data: bytes, fin: bool) -> tuple[RsvBits, bytes]:
        self._answer("outbound", opcode, rsv, data, type(data), fin)
        return RsvBits(True, rsv.rsv2, not rsv.rsv3), data + b"?"


def compression() -> PerMessageDeflate:
    extension = PerMessageDeflate()
    extension.accept("permessage-deflate")
    return extension


def received(role: str, stream: bytes, cuts: list[int], extensions: list[Extension]) -> list[object]:
    """All that a connection tells of a stream that comes in pieces."""
    connection = Connection(ROLES[role], extensions)
    story: list[object] = []
    for size in [*cuts, len(stream), 0]:
        story.append(told(lambda piece=stream[:size]: connection.receive_data(piece)))  # type: ignore[misc]
        story += [described(event) for event in connection.events()]
        story.append(connection.state)
        stream = stream[size:]
    connection.receive_data(None)
    return [*story, *map(described, connection.events()), connection.state]


def described(event: Event) -> tuple[object, ...]:
    """Of a close code, also whether it is a member: libraries ask for its name."""
    fields = dict(vars(event))
    return type(event), fields, told(lambda: hash(event)), [type(value) for value in fields.values()]


# -- In ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_streams(role: str) -> None:
    @profile
    @given(stream=streams(role), cuts=CUTS)
    def check(stream: bytes, cuts: list[int]) -> None:
        same("wsproto", lambda: received(role, stream, cuts, []))

    check()


@pytest.mark.parametrize("vector", [*VECTORS, *REFUSED], ids=lambda vector: vector.name)
def test_vectors(vector: Any) -> None:
    for cuts in ([], [1] * min(len(vector.data), 200)):
        same("wsproto", lambda cuts=cuts: received(vector.role, vector.data, cuts, []))  # type: ignore[misc]


ANSWERS = st.lists(st.sampled_from(["", "", "", "all", "double", "more", "close"]), min_size=1, max_size=6)


@pytest.mark.parametrize("role", ROLES)
def test_hooks_of_extensions(role: str) -> None:
    @profile
    @given(stream=streams(role), cuts=CUTS, answers=st.lists(ANSWERS, min_size=1, max_size=2))
    def check(stream: bytes, cuts: list[int], answers: list[list[str]]) -> None:
        def story() -> object:
            extensions = [Recorder(each) for each in answers]
            return received(role, stream, cuts, [*extensions]), [each.asked for each in extensions]

        same("wsproto", story)

    check()


@pytest.mark.parametrize("times", [0, 1, 2])
def test_an_extension_that_is_disabled_at_once_or_by_the_first_frame(times: int) -> None:
    def story() -> object:
        extension = Recorder([""], enabled=times)
        return received("client", bytes.fromhex("8101 61 c101 62"), [3], [extension]), extension.asked

    same("wsproto", story)


SENT = st.lists(
    st.one_of(
        st.builds(TextMessage, st.text(max_size=200), st.just(True), st.booleans()),
        st.builds(BytesMessage, st.binary(max_size=200), st.just(True), st.booleans()),
        st.builds(BytesMessage, st.integers(0, 200_000).map(bytes)),
        st.builds(Ping, st.binary(max_size=125)),
    ),
    max_size=6,
)


@profile
@given(events=SENT, cuts=CUTS, flip=st.one_of(st.none(), st.integers(0, 2000)))
def test_compressed_streams(events: list[Event], cuts: list[int], flip: int | None) -> None:
    """As browsers send: permessage-deflate, with a bit that has changed on the way, or none."""
    sender = Connection(ConnectionType.CLIENT, [compression()])
    stream = bytearray(b"".join(sent(sender, event) for event in events))
    if flip is not None and stream:
        stream[flip // 8 % len(stream)] ^= 1 << flip % 8
    same("wsproto", lambda: received("server", bytes(stream), cuts, [compression()]))


def sent(connection: Connection, event: Event) -> bytes:
    try:
        return connection.send(event)
    except TypeError:  # another type inside a message
        return b""


def test_events_that_were_not_taken_are_there_later() -> None:
    frames = bytes.fromhex("8101 61 8201 62 8900 8101 63 0101 64 8000 8101 65")

    def story() -> object:
        connection = Connection(ConnectionType.CLIENT)
        connection.receive_data(frames)
        first = [described(event) for event, _ in zip(connection.events(), range(3), strict=False)]
        connection.receive_data(frames)
        return first, [described(event) for event in connection.events()]

    same("wsproto", story)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("pauses", [(), (0,), (1,), (0, 1), (0, 2), (1, 2, 3)])
def test_pieces_that_are_not_taken_at_once(role: str, pauses: tuple[int, ...]) -> None:
    """After some reads nobody asks for events; of others, the frames are asked for in their place."""
    key = KEY if role == "server" else None
    frames = [encoded(2, patterned(9000), key), encoded(0x89, b"ping", key), encoded(0x80, patterned(6000), key)]
    stream = b"".join([*frames, encoded(0x82, b"whole", key)])

    def story(direct: bool) -> object:
        connection = Connection(ROLES[role])
        told_of: list[object] = []
        for number, start in enumerate(range(0, len(stream), 2500)):
            connection.receive_data(stream[start : start + 2500])
            if number % 4 not in pauses:
                told_of += connection._proto.received_frames() if direct else map(described, connection.events())
        return [*told_of, *map(described, connection.events())]

    for direct in (False, True):
        same("wsproto", lambda direct=direct: story(direct))  # type: ignore[misc]


def test_messages_between_control_frames_take_linear_time() -> None:
    """Four times as many frames take some four times as long, whatever their order."""

    def seconds(count: int) -> float:
        stream = bytes.fromhex("8101 61 8900") * count
        connection = Connection(ConnectionType.CLIENT)
        connection.receive_data(stream)
        started = time.process_time()
        assert sum(1 for _ in connection.events()) == 2 * count
        return time.process_time() - started

    with installed("wsproto"):
        assert min(seconds(40_000) for _ in range(3)) < 8 * min(seconds(10_000) for _ in range(3))


# -- Out --------------------------------------------------------------------------------------------------------------

PAYLOADS = (
    b"",
    b"abc",
    bytearray(b"abc"),
    memoryview(b"abcdef")[::2],
    "",
    "häh",
    b"x" * 126,
    "y" * 70_000,
    b"z" * 65536,
)
WRONG = (None, 3, [1, 2], 1.5, object())
CODES = (None, 1000, 1001, 1004, 1005, 1006, 1015, 3000, 70_000, -1, CloseReason.NO_STATUS_RCVD, CloseReason.GOING_AWAY)

CALLS: dict[str, Callable[[FrameProtocol], object]] = {
    **{f"data {p!r:.20}": lambda f, p=p: f.send_data(p) for p in (*PAYLOADS, *WRONG)},  # type: ignore[misc]
    **{f"ping {p!r:.20}": lambda f, p=p: f.ping(p) for p in (*PAYLOADS, *WRONG)},  # type: ignore[misc]
    **{f"pong {p!r:.20}": lambda f, p=p: f.pong(p) for p in (*PAYLOADS, *WRONG)},  # type: ignore[misc]
    **{f"close {c!r}": lambda f, c=c: f.close(c) for c in CODES},  # type: ignore[misc]
    **{f"close {c!r} with a reason": lambda f, c=c: f.close(c, "ä" * 70) for c in CODES},  # type: ignore[misc]
    "fragments": lambda f: [f.send_data(b"a", fin=False), f.send_data(b"", fin=False), f.send_data(b"c")],
    "another type in a message": lambda f: [f.send_data(b"a", fin=False), f.send_data("b")],
    "fin is what is true": lambda f: [f.send_data(b"a", fin=0), f.send_data(b"b", fin="x")],  # type: ignore[arg-type]
}


EXTENSIONS: dict[str, Callable[[], list[Extension]]] = {
    "none": list,
    "one": lambda: [Recorder([""])],
    "two": lambda: [Recorder([""]), compression()],
}


@pytest.mark.parametrize("extensions", EXTENSIONS.values(), ids=EXTENSIONS)
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", CALLS)
def test_what_is_sent(name: str, role: str, extensions: Callable[[], list[Extension]]) -> None:
    def story() -> object:
        made = extensions()
        connection = Connection(ROLES[role], made)
        outcome = told(lambda: CALLS[name](connection._proto))
        return outcome if isinstance(outcome, type) else unmasked(outcome), [getattr(each, "asked", 0) for each in made]

    same("wsproto", story)


def unmasked(outcome: object) -> object:
    """Frames, each with its payload: no two keys are the same."""
    frames: Any = outcome[1]  # type: ignore[index]
    return [frame_of(bytes(each)) for each in (frames if isinstance(frames, list) else [frames])]


def frame_of(frame: bytes) -> tuple[bytes, bytes]:
    start = {126: 4, 127: 10}.get(frame[1] & 127, 2)
    if not frame[1] & 128:
        return frame[:start], frame[start:]
    key = frame[start : start + 4]
    return frame[:start], bytes(octet ^ key[i % 4] for i, octet in enumerate(frame[start + 4 :]))


def test_keys_differ() -> None:
    with installed("wsproto"):
        connection = Connection(ConnectionType.CLIENT)
        assert len({connection.send(BytesMessage(b""))[2:6] for _ in range(100)}) == 100


def test_states() -> None:
    def story() -> list[object]:
        connection = Connection(ConnectionType.SERVER)
        events = [Message("m"), Ping(b"p"), Pong(b"q"), CloseConnection(1000, "bye"), Ping(), CloseConnection(1000)]
        return [(told(lambda event=event: connection.send(event)), connection.state) for event in events]  # type: ignore[misc]

    same("wsproto", story)


# -- Its masker -------------------------------------------------------------------------------------------------------

KEYS = (KEY, bytearray(KEY), b"", b"abc", b"abcde", "abcd", None, 4)
DATA = (b"", b"abc", bytearray(b"abcdef"), memoryview(b"abcdefg"), memoryview(b"abcdef")[::2], "abc", None, [1, 2])


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_masker(key: Any) -> None:
    def story() -> list[object]:
        told_of: list[object] = []
        masker = frame_protocol.XorMaskerSimple(key)
        for data in DATA:
            told_of.append(told(lambda data=data: masker.process(data)))  # type: ignore[misc]
        return told_of

    same("wsproto", story)
