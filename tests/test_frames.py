"""Frames and Close payloads: what is made of good arguments, and what is said about bad ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from websockets.exceptions import ProtocolError as WebsocketsProtocolError
from websockets.frames import Close as WebsocketsClose
from websockets.frames import Frame as WebsocketsFrame
from websockets.streams import StreamReader
from wsproto.frame_protocol import FrameProtocol

from wslowlevel import (
    CloseCode,
    Frame,
    FrameDecoder,
    Opcode,
    ProtocolError,
    Reason,
    encode_frame,
    parse_close_frame_payload,
    parse_header,
    prepare_close_frame_payload,
    prepare_websocket_frame,
)

from .vectors import KEY

CLOSE_CODES = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
"""The codes that may stand in a Close frame (RFC 6455 §7.4 and the registry of §11.7)."""

LENGTHS = (0, 1, 125, 126, 127, 65535, 65536)


# -- Good frames ------------------------------------------------------------------------------------------------------


def test_a_frame_is_binary_by_default_and_text_when_asked() -> None:
    assert prepare_websocket_frame(b"Hello") == bytes.fromhex("820548656c6c6f")
    assert prepare_websocket_frame(b"Hello", is_utf8=True) == bytes.fromhex("810548656c6c6f")


def test_an_opcode_overrules_is_utf8() -> None:
    assert prepare_websocket_frame(b"\xff", is_utf8=True, opcode=Opcode.BINARY) == b"\x82\x01\xff"
    assert prepare_websocket_frame(b"", is_utf8=True, opcode=0) == b"\x80\x00"


@pytest.mark.parametrize(("bit", "first"), [("rsv1", 0xC2), ("rsv2", 0xA2), ("rsv3", 0x92)])
def test_each_reserved_bit_is_set_alone(bit: str, first: int) -> None:
    bits: dict[str, Any] = {bit: 1}
    assert prepare_websocket_frame(b"x", **bits) == bytes([first, 1]) + b"x"


def test_a_fragment_has_no_fin() -> None:
    assert prepare_websocket_frame(b"Hel", is_utf8=True, fin=0) == b"\x01\x03Hel"


def test_text_may_end_inside_a_character_when_fragments_or_an_extension_follow() -> None:
    assert prepare_websocket_frame(b"\xc3", is_utf8=True, fin=0) == b"\x01\x01\xc3"
    assert prepare_websocket_frame(b"\xc3", is_utf8=True, rsv1=1) == b"\xc1\x01\xc3"


def test_a_reserved_opcode_can_be_sent() -> None:
    assert prepare_websocket_frame(b"", opcode=0xB) == b"\x8b\x00"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_buffer_is_a_payload_and_none_is_changed(kind: Callable[[bytes], Any]) -> None:
    payload = kind(b"payload")
    assert prepare_websocket_frame(payload, mask_key=KEY) == encode_frame(Opcode.BINARY, b"payload", mask_key=KEY)
    assert bytes(payload) == b"payload"


# -- The same frames, read by others ----------------------------------------------------------------------------------


def by_wslowlevel(data: bytes, masked: bool) -> tuple[int, bytes, int]:
    (frame,) = FrameDecoder(role="server" if masked else "client").feed(data)
    return frame.opcode, frame.payload, frame.fin


def by_websockets(data: bytes, masked: bool) -> tuple[int, bytes, int]:
    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    try:
        next(WebsocketsFrame.parse(reader.read_exact, mask=masked))
    except StopIteration as result:
        frame = result.value
        frame.check()
        assert reader.buffer == b""
        return frame.opcode, bytes(frame.data), frame.fin
    raise AssertionError("the frame is not complete")


def by_wsproto(data: bytes, masked: bool) -> tuple[int, bytes, int]:
    protocol = FrameProtocol(client=not masked, extensions=[])
    protocol.receive_bytes(data)
    (frame,) = protocol.received_frames()
    payload = frame.payload
    if isinstance(payload, tuple):
        payload = payload[0].to_bytes(2, "big") + (payload[1] or "").encode()
    return frame.opcode, payload.encode() if isinstance(payload, str) else bytes(payload), frame.message_finished


READERS = [by_wslowlevel, by_websockets, by_wsproto]
both_sides = pytest.mark.parametrize("mask_key", [None, KEY, True], ids=["server", "client", "client, fresh key"])


@both_sides
@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
@pytest.mark.parametrize("length", LENGTHS)
def test_every_parser_reads_our_frames(
    read: Callable[[bytes, bool], tuple[int, bytes, int]], opcode: int, length: int, mask_key: Any
) -> None:
    payload = bytes(i % 128 for i in range(length))
    for fin in (0, 1):
        frame = prepare_websocket_frame(payload, opcode=opcode, fin=fin, mask_key=mask_key)
        assert read(frame, mask_key is not None) == (opcode, payload, fin)


@both_sides
@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("opcode", "payload"),
    [
        (Opcode.PING, b""),
        (Opcode.PONG, bytes(125)),
        (Opcode.CLOSE, prepare_close_frame_payload(1000)),
        (Opcode.CLOSE, prepare_close_frame_payload(4999, "ü" * 61 + "x")),
    ],
    ids=["ping", "pong of 125 bytes", "close", "close of 125 bytes"],
)
def test_every_parser_reads_our_control_frames(
    read: Callable[[bytes, bool], tuple[int, bytes, int]], opcode: int, payload: bytes, mask_key: Any
) -> None:
    frame = prepare_websocket_frame(payload, opcode=opcode, mask_key=mask_key)
    assert read(frame, mask_key is not None) == (opcode, payload, True)


# -- The Close payload ------------------------------------------------------------------------------------------------


def test_a_close_payload_is_code_reason_and_extension_data() -> None:
    assert prepare_close_frame_payload(1000) == b"\x03\xe8"
    assert prepare_close_frame_payload(1001, "weg für heute") == b"\x03\xe9" + "weg für heute".encode()
    assert prepare_close_frame_payload(4000, "x", extension_data=b"\x00\xff") == b"\x0f\xa0x\x00\xff"
    assert prepare_close_frame_payload(1000, "x" * 100, extension_data=bytearray(23))[2:] == b"x" * 100 + bytes(23)


@pytest.mark.parametrize("reason", ["", "x", "x" * 123, "ü" * 61, "\U0001f44b" * 30])
def test_a_close_payload_is_read_as_it_was_made(reason: str) -> None:
    payload = prepare_close_frame_payload(1000, reason)
    theirs = WebsocketsClose.parse(payload)
    assert parse_close_frame_payload(payload) == (theirs.code, theirs.reason) == (1000, reason)
    assert parse_close_frame_payload(memoryview(bytearray(payload))) == (1000, reason)


def test_an_empty_close_payload_has_no_status() -> None:
    assert parse_close_frame_payload(b"") == (CloseCode.NO_STATUS_RECEIVED, "")


def test_every_close_code_is_judged_as_the_registry_says() -> None:
    assert {code for code in range(0x10000) if is_prepared(code)} == CLOSE_CODES
    assert {code for code in range(0x10000) if is_parsed(code)} == CLOSE_CODES
    assert {code for code in range(0x10000) if is_framed(code)} == CLOSE_CODES
    assert {code for code in range(0x10000) if is_good_for_websockets(code)} == CLOSE_CODES


def is_prepared(code: int) -> bool:
    try:
        return prepare_close_frame_payload(code) == code.to_bytes(2, "big")
    except ValueError:
        return False


def is_parsed(code: int) -> bool:
    try:
        return parse_close_frame_payload(code.to_bytes(2, "big")) == (code, "")
    except ProtocolError:
        return False


def is_framed(code: int) -> bool:
    payload = code.to_bytes(2, "big")
    try:
        return prepare_websocket_frame(payload, opcode=Opcode.CLOSE) == b"\x88\x02" + payload
    except ValueError:
        return False


def is_good_for_websockets(code: int) -> bool:
    try:
        WebsocketsClose(code, "").check()
    except WebsocketsProtocolError:
        return False
    return True


@pytest.mark.parametrize(
    ("payload", "reason", "close_code"),
    [
        (b"\x03", Reason.CLOSE_TOO_SHORT, CloseCode.PROTOCOL_ERROR),
        (b"\x03\xe8" + bytes(124), Reason.CONTROL_TOO_LONG, CloseCode.PROTOCOL_ERROR),
        (b"\x03\xed", Reason.CLOSE_CODE, CloseCode.PROTOCOL_ERROR),
        (b"\x03\xe8\xff", Reason.INVALID_UTF8, CloseCode.INVALID_PAYLOAD),
        (b"\x03\xe8\xc3", Reason.INVALID_UTF8, CloseCode.INVALID_PAYLOAD),
        (b"\x03\xe8\xed\xa0\x80", Reason.INVALID_UTF8, CloseCode.INVALID_PAYLOAD),
    ],
    ids=["1 byte", "126 bytes", "code 1005", "no UTF-8", "half a character", "surrogate"],
)
def test_a_close_payload_that_no_peer_may_send(payload: bytes, reason: Reason, close_code: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_close_frame_payload(payload)
    assert (caught.value.reason, caught.value.close_code) == (reason, close_code)


# -- The caller's mistakes --------------------------------------------------------------------------------------------

Call = Callable[[], object]


def frame(payload: Any = b"", **arguments: Any) -> Call:
    return lambda: prepare_websocket_frame(payload, **arguments)


def close(*arguments: Any, **named: Any) -> Call:
    return lambda: prepare_close_frame_payload(*arguments, **named)


MISTAKES: dict[str, tuple[Call, type[Exception], tuple[str, ...]]] = {
    # call, exception, and what its text must say: the argument, what was given, what was expected
    "str as payload": (frame("text"), TypeError, ("payload", "bytes-like", "str", "encode")),
    "int as payload": (frame(5), TypeError, ("payload", "bytes-like", "int")),
    "None as payload": (frame(None), TypeError, ("payload", "bytes-like", "NoneType")),
    "list as payload": (frame([1, 2]), TypeError, ("payload", "bytes-like", "list")),
    "strided payload": (frame(memoryview(b"abcd")[::2]), ValueError, ("payload", "C-contiguous")),
    "opcode 16": (frame(opcode=16), ValueError, ("opcode", "0 to 15", "16")),
    "opcode -1": (frame(opcode=-1), ValueError, ("opcode", "0 to 15", "-1")),
    "opcode as str": (frame(opcode="text"), TypeError, ("opcode", "integer", "str")),
    "opcode as float": (frame(opcode=1.0), TypeError, ("opcode", "integer", "float")),
    **{
        f"{bit}={value}": (frame(**{bit: value}), ValueError, (bit, "0 to 1", str(value)))
        for bit in ("fin", "rsv1", "rsv2", "rsv3")
        for value in (2, -1)
    },
    "fin as None": (frame(fin=None), TypeError, ("fin", "integer", "NoneType")),
    "key of 3 bytes": (frame(mask_key=b"abc"), ValueError, ("masking key", "4 bytes", "3")),
    "key of 5 bytes": (frame(mask_key=b"abcde"), ValueError, ("masking key", "4 bytes", "5")),
    "key as str": (frame(mask_key="abcd"), TypeError, ("mask_key", "bytes-like", "str")),
    "key as int": (frame(mask_key=7), TypeError, ("mask_key", "bytes-like", "int")),
    "key as False": (frame(mask_key=False), TypeError, ("mask_key", "bytes-like", "bool")),
    "text that is no UTF-8": (frame(b"ab\xff", is_utf8=True), ValueError, ("payload", "text", "byte 2")),
    "text that ends too early": (frame(b"ab\xc3", is_utf8=True), ValueError, ("payload", "text", "byte 3")),
    "fragmented ping": (frame(opcode=9, fin=0), ValueError, ("fin", "must be 1", "control frame", "0x9")),
    "fragmented reserved control frame": (frame(opcode=15, fin=0), ValueError, ("fin", "must be 1", "0xF")),
    "ping of 126 bytes": (frame(bytes(126), opcode=9), ValueError, ("payload", "126", "125")),
    "close frame of 1 byte": (frame(b"\x03", opcode=8), ValueError, ("payload", "1 byte", "2 bytes")),
    "close frame with code 1005": (frame(b"\x03\xed", opcode=8), ValueError, ("code", "1000-1003", "1005")),
    "code 1005": (close(1005), ValueError, ("code", "1000-1003, 1007-1014, 3000-4999", "1005")),
    "code -1": (close(-1), ValueError, ("code", "1000-1003", "-1")),
    "code 65536": (close(65536), ValueError, ("code", "1000-1003", "65536")),
    "code as str": (close("1000"), TypeError, ("code", "integer", "str")),
    "code as float": (close(1000.0), TypeError, ("code", "integer", "float")),
    "code as None": (close(None), TypeError, ("code", "integer", "NoneType")),
    "reason of 124 bytes": (close(1000, "x" * 124), ValueError, ("reason", "124", "123")),
    "reason of 62 characters of 2 bytes": (close(1000, "ü" * 62), ValueError, ("reason", "124", "123")),
    "reason and extension data of 124 bytes": (
        close(1000, "x" * 100, extension_data=bytes(24)),
        ValueError,
        ("reason and extension_data", "124", "123"),
    ),
    "reason as bytes": (close(1000, b"bye"), TypeError, ("reason", "str", "bytes")),
    "reason as None": (close(1000, None), TypeError, ("reason", "str", "NoneType")),
    "reason with half a surrogate pair": (close(1000, "\ud800"), ValueError, ("reason", "UTF-8")),
    "extension data as str": (close(1000, "", extension_data="x"), TypeError, ("extension_data", "bytes-like", "str")),
    "extension data as int": (close(1000, "", extension_data=5), TypeError, ("extension_data", "bytes-like", "int")),
    "close payload as str": (
        lambda: parse_close_frame_payload("\x03\xe8"),  # type: ignore[arg-type]
        TypeError,
        ("payload", "bytes-like", "str"),
    ),
}


@pytest.mark.parametrize(("call", "kind", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_of_the_caller_is_named(call: Call, kind: type[Exception], words: tuple[str, ...]) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert caught.type is kind
    assert [word for word in words if word not in str(caught.value)] == []


# -- Masking keys -----------------------------------------------------------------------------------------------------


def fresh_keys(count: int) -> list[bytes]:
    frames = [prepare_websocket_frame(b"payload", mask_key=True) for _ in range(count)]
    headers = [parse_header(data) for data in frames]
    return [header.mask_key for header in headers if header is not None and header.mask_key is not None]


def test_a_fresh_key_masks_the_payload() -> None:
    data = prepare_websocket_frame(b"payload", mask_key=True)
    (frame,) = FrameDecoder(role="server").feed(data)
    assert frame == Frame(Opcode.BINARY, b"payload", mask_key=data[2:6])


def test_fresh_keys_are_unpredictable() -> None:
    count = 10_000
    keys = fresh_keys(count)
    assert len(keys) == count
    # Two equal ones among them are to be expected once in a hundred runs, three pairs hardly ever.
    assert len(set(keys)) > count - 3
    # Each of the 32 bits is set in one half of them; 10 standard deviations are allowed.
    bits = [sum(int.from_bytes(key, "big") >> bit & 1 for key in keys) for bit in range(32)]
    assert all(abs(set_in - count / 2) < 10 * (count**0.5) / 2 for set_in in bits)


def test_every_key_is_another_one(codec: ModuleType) -> None:
    """Over several blocks of them."""
    keys = [codec.fresh_mask_key() for _ in range(5000)]
    assert {(type(key), len(key)) for key in keys} == {(bytes, 4)}
    assert len(set(keys)) > len(keys) - 3


FORK = """
import os
from wslowlevel import prepare_websocket_frame

def keys():
    return [prepare_websocket_frame(b"", mask_key=True)[2:].hex() for _ in range(200)]

keys()  # so that the parent holds unused ones when it forks
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    os.write(writing, "\\n".join(keys()).encode())
    os._exit(0)
os.close(writing)
with open(reading) as pipe:
    print(pipe.read())
os.waitpid(child, 0)
print(*keys(), sep="\\n")
"""


def test_a_forked_child_has_keys_of_its_own() -> None:
    process = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60, check=True)
    keys = process.stdout.split()
    assert process.stderr == ""
    assert len(keys) == 400
    assert len(set(keys[:200]) & set(keys[200:])) < 2
