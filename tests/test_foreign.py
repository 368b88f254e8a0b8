"""Streams of messages that other implementations make are read by ours, and ours by them, on both backends."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame as WebsocketsFrame
from websockets.frames import Opcode as WebsocketsOpcode
from wsproto.frame_protocol import FrameProtocol

from wslowlevel import Opcode

from .fuzz.targets import read_by_wsproto
from .vectors import patterned

SIZES = (0, 1, 124, 125, 126, 127, 65_535, 65_536)


class Sent(NamedTuple):
    """A message in fragments, and a ping between each two of them; text if they are strings."""

    fragments: tuple[str | bytes, ...]
    pings: bytes | None

    @property
    def opcode(self) -> Opcode:
        return Opcode.TEXT if isinstance(self.fragments[0], str) else Opcode.BINARY

    @property
    def payloads(self) -> list[bytes]:
        return [each.encode() if isinstance(each, str) else each for each in self.fragments]

    def frames(self) -> Iterator[tuple[Opcode, bytes, bool]]:
        """(opcode, payload, FIN) of each frame."""
        last = len(self.fragments) - 1
        for i, payload in enumerate(self.payloads):
            yield Opcode.CONTINUATION if i else self.opcode, payload, i == last
            if i < last and self.pings is not None:
                yield Opcode.PING, self.pings, True

    def read(self) -> list[tuple[int, bytes]]:
        """What a receiver sees: the pings first, which stand inside."""
        pings = [(int(opcode), payload) for opcode, payload, _ in self.frames() if opcode == Opcode.PING]
        return [*pings, (int(self.opcode), b"".join(self.payloads))]


def some(of: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, min_size=1, max_size=4).map(tuple)


PAYLOADS = (st.text(max_size=40), st.binary(max_size=200), st.sampled_from(SIZES).map(patterned))
FRAGMENTS = st.one_of(*map(some, PAYLOADS))
MESSAGES = st.lists(
    st.builds(
        Sent,
        st.one_of(
            some(st.text(max_size=40)), some(st.binary(max_size=200)), some(st.sampled_from(SIZES).map(patterned))
        ),
        st.one_of(st.none(), st.binary(max_size=125)),
    ),
    min_size=1,
    max_size=4,
)

ROLES = pytest.mark.parametrize("sender", ["client", "server"])
OTHER = {"client": "server", "server": "client"}

profile = settings(max_examples=100, deadline=None, derandomize=True, database=None)


def read(codec: ModuleType, role: str, stream: bytes) -> list[tuple[int, bytes]]:
    decoder = codec.MessageDecoder(role=role)
    messages = [(message.opcode, message.payload) for message in decoder.feed(stream)]
    assert decoder.error is None
    assert decoder.buffered == 0
    return messages


def by_websockets(messages: list[Sent], sender: str) -> bytes:
    return b"".join(
        WebsocketsFrame(WebsocketsOpcode(opcode), payload, fin).serialize(mask=sender == "client")
        for message in messages
        for opcode, payload, fin in message.frames()
    )


def by_wsproto(messages: list[Sent], sender: str) -> bytes:
    protocol = FrameProtocol(client=sender == "client", extensions=[])
    stream = []
    for message in messages:
        last = len(message.fragments) - 1
        for i, fragment in enumerate(message.fragments):
            stream.append(protocol.send_data(fragment, fin=i == last))
            if i < last and message.pings is not None:
                stream.append(protocol.ping(message.pings))
    return b"".join(stream)


@ROLES
@pytest.mark.parametrize("make", [by_websockets, by_wsproto])
@profile
@given(messages=MESSAGES)
def test_theirs_is_read_by_ours(codec: ModuleType, sender: str, make: object, messages: list[Sent]) -> None:
    assert callable(make)
    expected = [each for message in messages for each in message.read()]
    assert read(codec, OTHER[sender], make(messages, sender)) == expected


@ROLES
@profile
@given(messages=MESSAGES)
def test_ours_is_read_by_wsproto(codec: ModuleType, sender: str, messages: list[Sent]) -> None:
    key = b"\x01\x02\x03\x04" if sender == "client" else None
    stream = b"".join(
        codec.encode_frame(opcode, payload, fin=int(fin), mask_key=key)
        for message in messages
        for opcode, payload, fin in message.frames()
    )
    assert read_by_wsproto(OTHER[sender], stream) == [each for message in messages for each in message.read()]
