"""Invariants over any bytes. A target returns if they hold, whatever the bytes are, and raises AssertionError if not.

An input says everything: the first bytes choose arguments and cuts, what is left is the stream.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from wsproto.frame_protocol import FrameProtocol, ParseFailed

from wslowlevel import Opcode, PerMessageDeflate
from wslowlevel.deflate import TAIL
from wslowlevel.errors import InvalidHandshake, PayloadTooBig, ProtocolError
from wslowlevel.extensions import accept_extensions
from wslowlevel.handshake import accept_request, check_request, check_response, choose_subprotocol
from wslowlevel.http1 import ResponseReader, parse_request
from wslowlevel.wire import CONTROL, CloseCode

from ..conftest import BACKENDS
from ..test_deflate import agreed
from ..test_differential import LIMIT_VALUES, Step, attempt, quickly_masked, story
from ..vectors import DECODERS

T = TypeVar("T")

CODECS = [importlib.import_module(name) for name in BACKENDS.values()]

WAYS = ("feed", "feed a bytearray", "feed a view", "receive", "lend and feed")

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class Input:
    """What the fuzzer made, read from its front."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def byte(self) -> int:
        first, self.rest = self.rest[:1], self.rest[1:]
        return first[0] if first else 0

    def choice(self, values: Sequence[T]) -> T:
        return values[self.byte() % len(values)]

    def pieces(self) -> list[bytes]:
        """The rest, cut as up to seven more bytes say."""
        sizes = [self.byte() for _ in range(self.byte() % 8)]
        pieces = []
        for size in sizes:
            pieces.append(self.rest[:size])
            self.rest = self.rest[size:]
        return [*pieces, self.rest]


def options_of(data: Input) -> dict[str, Any]:
    """Arguments of a decoder: each bit of a byte says whether an optional one is given."""
    given = data.byte()
    optional: dict[str, Callable[[], object]] = {
        "strict": lambda: bool(data.byte() % 2),
        "require_mask": lambda: bool(data.byte() % 2),
        "max_message_size": lambda: data.choice(LIMIT_VALUES),
        "max_frame_size": lambda: data.choice(LIMIT_VALUES),
        "max_fragments": lambda: data.choice(LIMIT_VALUES),
        "allow_rsv": lambda: data.byte() % 8,
    }
    chosen = {name: make() for bit, (name, make) in enumerate(optional.items()) if given >> bit & 1}
    return {"role": data.choice(("server", "client")), **chosen}


def decoders(given: bytes) -> None:
    """Any bytes, any cuts, any arguments: the same objects or errors in both backends, the leftovers too."""
    data = Input(given)
    name, options = data.choice(DECODERS), options_of(data)
    steps = [Step(data.byte() * data.choice((1, 1, 1, 300)), data.choice(WAYS)) for _ in range(data.byte() % 8)]
    stories = [story(codec, name, options, data.rest, steps) for codec in CODECS]
    assert stories[0] == stories[1], (name, options, steps, data.rest)


def reference(given: bytes) -> None:
    """What our decoders take without an error, another implementation reads as the same messages."""
    data = Input(given)
    role = data.choice(("server", "client"))
    messages, errors = zip(*(decoded(codec, role, data.rest) for codec in CODECS), strict=True)
    assert messages[0] == messages[1], (role, data.rest)
    if errors == (None, None):
        assert messages[0] == read_by_wsproto(role, data.rest), (role, data.rest)


def decoded(codec: Any, role: str, stream: bytes) -> tuple[list[tuple[int, bytes]], Exception | None]:
    decoder = codec.MessageDecoder(role=role)
    try:
        messages = decoder.feed(stream)
    except (ProtocolError, PayloadTooBig):
        messages = []
    return [(each.opcode, each.payload) for each in messages], decoder.error


def read_by_wsproto(role: str, stream: bytes) -> list[tuple[int, bytes]]:
    protocol = FrameProtocol(client=role == "client", extensions=[])
    protocol.receive_bytes(stream)
    messages, opcode, parts = [], 0, [b""]
    try:
        for frame in protocol.received_frames():
            frame_opcode = int(frame.opcode)
            if frame_opcode & CONTROL:
                messages.append((frame_opcode, payload_of_control(frame.payload)))
                if frame_opcode == Opcode.CLOSE:
                    break
                continue
            opcode = frame_opcode
            payload: Any = frame.payload
            parts.append(payload.encode() if isinstance(payload, str) else bytes(payload))
            if frame.message_finished:
                messages.append((opcode, b"".join(parts)))
                parts = [b""]
    except ParseFailed as error:
        messages.append((-1, str(error).encode()))
    return messages


def payload_of_control(payload: Any) -> bytes:
    """Of a Close it gives (code, reason), where 1005 stands for an empty one."""
    if not isinstance(payload, tuple):
        return bytes(payload)
    code, reason = payload
    return b"" if code == CloseCode.NO_STATUS_RECEIVED else int(code).to_bytes(2, "big") + (reason or "").encode()


def masking(given: bytes) -> None:
    """Masking any bytes with any key from any offset is what RFC 6455 §5.3 says, copied and in place."""
    data = Input(given)
    key, offset = bytes(data.byte() for _ in range(4)), data.byte()
    expected = quickly_masked(bytes(offset % 4) + data.rest, key)[offset % 4 :]
    for codec in CODECS:
        assert codec.apply_mask(data.rest, key, offset) == expected
        in_place = bytearray(data.rest)
        codec.apply_mask_inplace(in_place, key, offset)
        assert in_place == expected


def headers(given: bytes) -> None:
    """Both backends see the same header, and what they see is encoded to the very bytes."""
    data = Input(given)
    offset = min(data.byte() % 4, len(data.rest))
    seen = [attempt(partial(codec.parse_header, data.rest, offset)) for codec in CODECS]
    assert seen[0] == seen[1], (offset, data.rest)
    for codec in CODECS:
        try:
            header = codec.parse_header(data.rest, offset)
        except ProtocolError:
            continue
        if header is not None:
            bits = {name: getattr(header, name) for name in ("fin", "rsv1", "rsv2", "rsv3", "mask_key")}
            encoded = codec.encode_header(header.opcode, header.payload_length, **bits)
            assert data.rest[offset:].startswith(encoded)


def utf8(given: bytes) -> None:
    """Text in any pieces is good, bad, or not complete, as CPython's own decoder has it."""
    pieces = Input(given).pieces()
    for codec in CODECS:
        validator = codec.Utf8Validator()
        verdict = "good"
        for piece in pieces:
            if attempt(partial(validator.feed, piece)) != "None":
                verdict = "bad"
                break
        else:
            verdict = "good" if validator.complete else "not complete"
        assert verdict == verdict_of_cpython(b"".join(pieces)), pieces


def verdict_of_cpython(text: bytes) -> str:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return "not complete" if error.reason == "unexpected end of data" else "bad"
    return "good"


def inflating(given: bytes) -> None:
    """Any bytes as a compressed message: what zlib inflates, or a documented error."""
    data = Input(given)
    pieces = data.pieces()
    transform = agreed(PerMessageDeflate(), PerMessageDeflate()).server.decoder(Opcode.BINARY, 4)
    assert transform is not None
    output = bytearray()
    try:
        for number, piece in enumerate(pieces):
            for part in transform(piece, number == len(pieces) - 1):
                output += part
                if len(output) > 1 << 20:
                    return
    except ProtocolError:
        return
    theirs = zlib.decompressobj(-15)
    expected = theirs.decompress(b"".join(pieces) + TAIL)
    assert theirs.eof or output == expected  # behind a final block others may follow, which zlib leaves alone


def requests(given: bytes) -> None:
    """Any bytes as an opening handshake: a request that can be answered, or InvalidHandshake with a status."""
    try:
        request = parse_request(given)
        check_request(request)
        subprotocol = choose_subprotocol(request, ["chat"])
        answer = accept_request(request, [("Sec-WebSocket-Protocol", subprotocol)] if subprotocol else [])
        accept_extensions(request.headers.get_all("Sec-WebSocket-Extensions"), [PerMessageDeflate()])
    except InvalidHandshake as error:
        assert 400 <= error.status < 600
    else:
        assert answer.startswith(b"HTTP/1.1 101 ")


def responses(given: bytes) -> None:
    """Any bytes as an answer: a connection, or InvalidHandshake; cut anywhere, the same."""
    data = Input(given)
    pieces = data.pieces()
    outcomes = [answered(pieces), answered([b"".join(pieces)])]
    assert outcomes[0] == outcomes[1], pieces


def answered(pieces: Sequence[bytes]) -> object:
    reader = ResponseReader()
    try:
        for piece in pieces:
            reader.feed(piece)
        if reader.response is None:
            return None
        check_response(reader.response, KEY, subprotocols=["chat"], extensions=[PerMessageDeflate()])
    except InvalidHandshake as error:
        return error.status
    return reader.response.status


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (decoders, reference, masking, headers, utf8, inflating, requests, responses)
}
