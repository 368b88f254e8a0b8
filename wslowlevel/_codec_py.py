"""bytes -> Frame | Message | Chunk and back, in pure Python  (RFC 6455 §5)

This file is the specification of the codec: `_codec.pyx` does the same, compiled, and gives the same answer to the byte
and to the wording of an error. Its parts stand in the order in which data passes them:

    masking -> header -> UTF-8 -> a frame to be sent -> frames, messages and chunks -> the decoders

Four rules hold throughout. Nothing is judged later than at the byte that proves it wrong. Nothing is stored before
every rule about its header has passed. No payload byte is looked at twice, so that cost is linear however the data is
cut. What came before a violation is handed out before the error is raised.
"""

from __future__ import annotations

import codecs
import ctypes
import operator
import os
import struct
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, final

from . import errors
from .wire import (
    CLOSE_CODE_LENGTH,
    CONTROL,
    DEFAULT_MAX_FRAGMENTS,
    DEFAULT_MAX_SIZE,
    FIN,
    LENGTH,
    LENGTH_16,
    LENGTH_64,
    MASK,
    MASK_KEY_LENGTH,
    MAX_CONTROL_LENGTH,
    MAX_HEADER_LENGTH,
    MAX_LENGTH_7,
    MAX_LENGTH_16,
    MAX_LENGTH_64,
    MIN_HEADER_LENGTH,
    OPCODE,
    READ_SIZE,
    RSV,
    RSV_SHIFT,
    Opcode,
    is_close_code,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer, Self

# -- Arguments --------------------------------------------------------------------------------------------------------


def _bytes_view(value: object, name: str, writable: bool = False) -> memoryview:
    """Any C-contiguous buffer -> a memoryview of its bytes."""
    try:
        view = memoryview(value)  # type: ignore[arg-type]
    except TypeError:
        raise errors.not_bytes_like(name, value) from None
    if writable and view.readonly:
        raise errors.not_writable(name, value)
    if not view.c_contiguous:
        raise errors.not_contiguous(name)
    if view.format == "B" and view.ndim == 1:
        return view
    if not view.nbytes:
        return memoryview(b"")
    try:
        return view.cast("B")
    except TypeError:  # memoryview casts native formats only
        return memoryview((ctypes.c_ubyte * view.nbytes).from_buffer(view) if writable else view.tobytes()).cast("B")


def _bytes_of(value: object, name: str) -> bytes:
    """Its bytes, as they are now."""
    if type(value) is bytes:
        return value
    with _bytes_view(value, name) as view:  # released at once: where objects live on, their owner could not resize it
        return bytes(view)


def _integer(value: object, name: str, lowest: int, highest: int) -> int:
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise errors.not_an_integer(name, value) from None
    if not lowest <= number <= highest:
        raise errors.out_of_range(name, number, lowest, highest)
    return number


def _mask_key(value: object, name: str) -> bytes:
    key = _bytes_of(value, name)
    if len(key) != MASK_KEY_LENGTH:
        raise errors.wrong_key_length(len(key))
    return key


def _limit(value: object, name: str) -> int:
    """A limit is a count, or None for none: as far as any length can go."""
    return MAX_LENGTH_64 if value is None else _integer(value, name, 0, MAX_LENGTH_64)


# -- Masking (RFC 6455 §5.3) ------------------------------------------------------------------------------------------

_TRANSLATE_FROM = 1024
"""Bytes from which four passes of bytes.translate are faster than one XOR of two big integers (measured)."""

_from_bytes = int.from_bytes

_XOR_TABLES: list[bytes] = []
"""For each byte of a key, the translation of every byte that is masked with it; built when first needed (64 KiB)."""


def apply_mask(data: object, key: object, offset: int = 0) -> bytes:
    """Mask or unmask: the two are the same (RFC 6455 §5.3).

    Args:
        data: any C-contiguous buffer; not changed.
        key: the masking key, a buffer of 4 bytes.
        offset: bytes of the payload that came before, to go on in the middle of a key.

    Returns:
        A copy of the data, each byte XORed with its byte of the key.

    Raises:
        TypeError, ValueError: an argument of the wrong kind.
    """
    with _bytes_view(data, "data") as view:
        return _masked(view, _mask_key(key, "key"), _integer(offset, "offset", 0, MAX_LENGTH_64))


def apply_mask_inplace(buffer: object, key: object, offset: int = 0) -> None:
    """Mask or unmask a writable C-contiguous buffer where it stands; otherwise as :func:`apply_mask`."""
    with _bytes_view(buffer, "buffer", writable=True) as view:
        masked = _masked(view, _mask_key(key, "key"), _integer(offset, "offset", 0, MAX_LENGTH_64))
        if masked:
            view[:] = masked


def kernel() -> str:
    """Name what does the masking: "python", or the instruction set that the compiled codec picked on this machine."""
    return "python"


def _masked(data: bytes | memoryview, key: bytes, offset: int) -> bytes:
    """octet i of the result is octet i of the data XOR octet (offset + i) modulo 4 of the key"""
    phase = offset % MASK_KEY_LENGTH
    key = key[phase:] + key[:phase]
    return _masked_as_integer(data, key) if len(data) < _TRANSLATE_FROM else _masked_by_tables(data, key)


def _masked_as_integer(data: bytes | memoryview, key: bytes) -> bytes:
    length = len(data)
    keys = (key * (length // MASK_KEY_LENGTH + 1))[:length]
    return (_from_bytes(data, "little") ^ _from_bytes(keys, "little")).to_bytes(length, "little")


def _masked_by_tables(data: bytes | memoryview, key: bytes) -> bytes:
    if not _XOR_TABLES:
        _XOR_TABLES.extend(bytes(octet ^ mask for octet in range(256)) for mask in range(256))
    masked = bytearray(data)
    for i, mask in enumerate(key):
        masked[i::MASK_KEY_LENGTH] = masked[i::MASK_KEY_LENGTH].translate(_XOR_TABLES[mask])
    return bytes(masked)


# -- Masking keys (RFC 6455 §5.3: "derived from a strong source of entropy") ------------------------------------------


class _MaskKeys:
    """Keys from os.urandom, a block at a time: one system call for many frames."""

    BLOCK = 1024 * MASK_KEY_LENGTH

    def __init__(self) -> None:
        self.drop()

    def drop(self) -> None:
        self._unused: Iterator[tuple[bytes]] = iter(())

    def fresh(self) -> bytes:
        for (key,) in self._unused:
            return key
        self._unused = struct.iter_unpack(f"{MASK_KEY_LENGTH}s", os.urandom(self.BLOCK))
        return self.fresh()


_mask_keys = _MaskKeys()

if hasattr(os, "register_at_fork"):
    # A forked child must not send the keys that its parent goes on to send.
    os.register_at_fork(after_in_child=_mask_keys.drop)


def fresh_mask_key() -> bytes:
    """Give a new masking key that nobody can predict: 4 bytes of os.urandom (RFC 6455 §5.3)."""
    return _mask_keys.fresh()


# -- Header (RFC 6455 §5.2) -------------------------------------------------------------------------------------------


_new = object.__new__


class _Record:
    """What Header, Frame, Message and Chunk share: they are immutable, and equal when their fields are."""

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]]
    _setters: ClassVar[tuple[Callable[[object, object], None], ...]]

    def __init_subclass__(cls) -> None:
        cls._setters = tuple(getattr(cls, name).__set__ for name in cls.__match_args__)

    def _fields(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__match_args__)

    def _fill(self, *values: object) -> None:
        for set_field, value in zip(self._setters, values):
            set_field(self, value)

    @classmethod
    def _of(cls, *values: object) -> Self:
        """A record of values that need no check."""
        record = _new(cls)
        for set_field, value in zip(cls._setters, values):
            set_field(record, value)
        return record

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        return self._fields() == other._fields() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in zip(self.__match_args__, self._fields()))
        return f"{type(self).__name__}({shown})"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self._fields()


@final
class Header(_Record):
    """The header of a frame (RFC 6455 §5.2).

    Attributes:
        opcode: 0 to 15.
        payload_length: bytes of payload that follow the header.
        fin, rsv1, rsv2, rsv3: its bits, 0 or 1.
        mask_key: the 4 bytes that mask the payload, None if it is not masked.
        mask: the mask bit, 0 or 1.
        length: bytes of the header itself, 2 to 14.
    """

    __slots__ = __match_args__ = ("opcode", "payload_length", "fin", "rsv1", "rsv2", "rsv3", "mask_key")
    opcode: int
    payload_length: int
    fin: int
    rsv1: int
    rsv2: int
    rsv3: int
    mask_key: bytes | None

    def __init__(
        self,
        opcode: int,
        payload_length: int,
        fin: int = 1,
        rsv1: int = 0,
        rsv2: int = 0,
        rsv3: int = 0,
        mask_key: bytes | None = None,
    ) -> None:
        first = _first_byte(opcode, fin, rsv1, rsv2, rsv3)
        length = _integer(payload_length, "payload_length", 0, MAX_LENGTH_64)
        self._fill(first & OPCODE, length, first // FIN, *_RSV_BITS[first], _checked_mask_key(mask_key))

    @property
    def mask(self) -> int:
        return int(self.mask_key is not None)

    @property
    def length(self) -> int:
        return len(_encode_header(0, self.payload_length, self.mask_key))


def parse_header(buffer: object, offset: int = 0) -> Header | None:
    """Read the header of the frame that starts at an offset (RFC 6455 §5.2).

    Its bits and opcode are reported, not judged: which are allowed depends on the connection.

    Args:
        buffer: any C-contiguous buffer; not changed.
        offset: where the frame starts, in bytes.

    Returns:
        The header; None while the buffer does not hold all of it.

    Raises:
        ProtocolError: a payload length over 63 bits, or not in its shortest form.
        TypeError, ValueError: an argument of the wrong kind.
    """
    with _bytes_view(buffer, "buffer") as view:
        start = _integer(offset, "offset", 0, len(view))
        with view[start : start + MAX_HEADER_LENGTH] as first_bytes:
            head = bytes(first_bytes)
    if len(head) < 2 or len(head) < _HEADER_LENGTHS[head[1]]:
        return None
    first, length = head[0], _HEADER_LENGTHS[head[1]]
    mask_key = head[length - MASK_KEY_LENGTH : length] if head[1] & MASK else None
    return Header._of(first & OPCODE, _payload_length(head), first // FIN, *_RSV_BITS[first], mask_key)


def encode_header(
    opcode: int,
    payload_length: int,
    *,
    fin: int = 1,
    rsv1: int = 0,
    rsv2: int = 0,
    rsv3: int = 0,
    mask_key: object = None,
) -> bytes:
    """Write the header of a frame (RFC 6455 §5.2), whatever its bits say: nothing is judged but their ranges.

    Args:
        opcode: 0 to 15.
        payload_length: bytes of payload that will follow, 0 to 2**63 - 1.
        fin, rsv1, rsv2, rsv3: its bits, 0 or 1.
        mask_key: a buffer of 4 bytes that stands at the end of the header, None for a frame that is not masked.

    Returns:
        2 to 14 bytes.

    Raises:
        TypeError, ValueError: an argument of the wrong kind.
    """
    first = _first_byte(opcode, fin, rsv1, rsv2, rsv3)
    length = _integer(payload_length, "payload_length", 0, MAX_LENGTH_64)
    return _encode_header(first, length, None if mask_key is None else _mask_key(mask_key, "mask_key"))


def encode_frame(
    opcode: int,
    payload: object,
    *,
    fin: int = 1,
    rsv1: int = 0,
    rsv2: int = 0,
    rsv3: int = 0,
    mask_key: object = None,
) -> bytes:
    """Write a whole frame; as :func:`encode_header`, with the payload behind it, masked if there is a key.

    Args:
        payload: any C-contiguous buffer; copied once, not changed.
    """
    first = _first_byte(opcode, fin, rsv1, rsv2, rsv3)
    with _bytes_view(payload, "payload") as view:
        if mask_key is None:
            return b"".join((_encode_header(first, len(view), None), view))
        key = _mask_key(mask_key, "mask_key")
        return _encode_header(first, len(view), key) + _masked(view, key, 0)


_HEADER_LENGTHS = tuple(
    2 + {LENGTH_16: 2, LENGTH_64: 8}.get(second & LENGTH, 0) + (MASK_KEY_LENGTH if second & MASK else 0)
    for second in range(256)
)
"""Bytes of a header, by its second byte."""


def _payload_length(head: bytes) -> int:
    """The payload length of a complete header, in the shortest of its three forms or not at all."""
    length = head[1] & LENGTH
    if length == LENGTH_16:
        length = int.from_bytes(head[2:4], "big")
        if length <= MAX_LENGTH_7:
            raise errors.length_not_minimal(length, 16)
    elif length == LENGTH_64:
        length = int.from_bytes(head[2:10], "big")
        if length > MAX_LENGTH_64:
            raise errors.length_too_big(length)
        if length <= MAX_LENGTH_16:
            raise errors.length_not_minimal(length, 64)
    return length


def _first_byte(opcode: object, fin: object, rsv1: object, rsv2: object, rsv3: object) -> int:
    return (
        _integer(opcode, "opcode", 0, OPCODE)
        | _integer(fin, "fin", 0, 1) << 7
        | _integer(rsv1, "rsv1", 0, 1) << 6
        | _integer(rsv2, "rsv2", 0, 1) << 5
        | _integer(rsv3, "rsv3", 0, 1) << 4
    )


def _encode_header(first: int, length: int, mask_key: bytes | None) -> bytes:
    mask = 0 if mask_key is None else MASK
    if length <= MAX_LENGTH_7:
        header = bytes((first, mask | length))
    elif length <= MAX_LENGTH_16:
        header = bytes((first, mask | LENGTH_16)) + length.to_bytes(2, "big")
    else:
        header = bytes((first, mask | LENGTH_64)) + length.to_bytes(8, "big")
    return header if mask_key is None else header + mask_key


_RSV_BITS = tuple((first >> 6 & 1, first >> 5 & 1, first >> 4 & 1) for first in range(256))
"""rsv1, rsv2 and rsv3, by the first byte of a frame."""


# -- UTF-8 (RFC 3629, RFC 6455 §8.1) ----------------------------------------------------------------------------------


@final
class Utf8Validator:
    """Checks text that arrives in pieces, and fails at the first byte that cannot be part of it (RFC 6455 §8.1).

    Attributes:
        position: bytes found good so far.
        complete: whether the text so far is good and ends at the end of a character.
    """

    __slots__ = ("_error", "_position", "_tail")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start over with a new text."""
        self._position = 0
        self._tail = b""
        self._error: errors.ProtocolError | None = None

    @property
    def position(self) -> int:
        return self._position

    @property
    def complete(self) -> bool:
        return self._error is None and not self._tail

    def feed(self, data: object) -> None:
        """Check the next piece, any C-contiguous buffer.

        Raises:
            ProtocolError: a byte is wrong; raised again by every later call until `reset`.
            TypeError, ValueError: not such a buffer.
        """
        piece = _bytes_of(data, "data")
        if self._error is not None:
            raise self._error.with_traceback(None)
        text = self._tail + piece
        good, tail = _utf8_prefix(text)
        self._position += good - len(self._tail)
        self._tail = tail
        if good < len(text):
            self._error = errors.invalid_utf8(self._position)
            raise self._error

    def finish(self) -> None:
        """Check that the text may end here.

        Raises:
            ProtocolError: it ends inside a character, or had failed before.
        """
        if self._error is None and self._tail:
            self._error = errors.unfinished_utf8(self._position)
        if self._error is not None:
            raise self._error.with_traceback(None)


def _utf8_prefix(text: bytes) -> tuple[int, bytes]:
    """How many bytes are good of a text that may go on, and the unfinished character at its end."""
    try:
        consumed = codecs.utf_8_decode(text, "strict", False)[1]
    except UnicodeDecodeError as error:
        # A lead byte that starts no character is itself the bad one; else it is the first that does not continue.
        return (error.start if error.reason == "invalid start byte" else error.end), b""
    tail = text[consumed:]
    # The decoder judges an unfinished character byte by byte, but for one: the second byte of a surrogate.
    if tail[:1] == b"\xed" and tail[1:] >= b"\xa0":
        return consumed + 1, b""
    return len(text), tail


# -- A frame to be sent (RFC 6455 §5.2, §5.5, §8.1) -------------------------------------------------------------------


def prepare_websocket_frame(
    payload: object,
    *,
    is_utf8: bool = False,
    opcode: int | None = None,
    fin: int = 1,
    rsv1: int = 0,
    rsv2: int = 0,
    rsv3: int = 0,
    mask_key: object = None,
) -> bytes:
    """Make a frame that is ready to be sent, any number of times (RFC 6455 §5.2).

    Args:
        payload: any C-contiguous buffer; copied, not changed. A `str` must be encoded first.
        is_utf8: whether the payload is text, opcode 1; binary, opcode 2, otherwise.
        opcode: another opcode, 0 to 15, instead.
        fin: 0 for a fragment that others follow.
        rsv1, rsv2, rsv3: the bits of extensions, 0 or 1.
        mask_key: None, as a server sends; True, as a client must send: a fresh, unpredictable key; or the 4 bytes of
            a key.

    Raises:
        TypeError, ValueError: an argument of the wrong kind, or a frame that the peer would have to refuse: text that
            is not UTF-8, a control frame that is fragmented or over 125 bytes, a Close frame with a code that may not
            be sent. What stands behind the code is not judged: an extension may put any bytes there.
            (:func:`wslowlevel.codec.encode_frame` makes any frame.)
    """
    if opcode is None:
        opcode = Opcode.TEXT if is_utf8 else Opcode.BINARY
    key = fresh_mask_key() if mask_key is True else mask_key
    frame = encode_frame(opcode, payload, fin=fin, rsv1=rsv1, rsv2=rsv2, rsv3=rsv3, mask_key=key)
    if frame[0] & CONTROL:
        _check_control_to_send(frame[0], _bytes_of(payload, "payload"))
    elif frame[0] == FIN | Opcode.TEXT:
        _check_text_to_send(_bytes_of(payload, "payload"))
    return frame


def _check_control_to_send(first: int, payload: bytes) -> None:
    opcode = first & OPCODE
    if not first & FIN:
        raise errors.fragmented_control_to_send(opcode)
    if len(payload) > MAX_CONTROL_LENGTH:
        raise errors.control_too_long_to_send(len(payload))
    if opcode == Opcode.CLOSE and payload:
        if len(payload) < CLOSE_CODE_LENGTH:
            raise errors.close_too_short_to_send()
        code = int.from_bytes(payload[:CLOSE_CODE_LENGTH], "big")
        if not is_close_code(code):
            raise errors.close_code_to_send(code)


def _check_text_to_send(payload: bytes) -> None:
    good, tail = _utf8_prefix(payload)
    if good < len(payload):
        raise errors.text_to_send(errors.invalid_utf8(good))
    if tail:
        raise errors.text_to_send(errors.unfinished_utf8(good))


# -- Frames, messages and chunks --------------------------------------------------------------------------------------


@final
class Frame(_Record):
    """One frame (RFC 6455 §5.2).

    Attributes:
        opcode: 0 to 15.
        payload: its bytes, unmasked; owned by the frame.
        fin, rsv1, rsv2, rsv3: its bits, 0 or 1.
        mask_key: the 4 bytes that masked it on the wire, None if it was not masked.
        mask: the mask bit, 0 or 1.
    """

    __slots__ = __match_args__ = ("opcode", "payload", "fin", "rsv1", "rsv2", "rsv3", "mask_key")
    opcode: int
    payload: bytes
    fin: int
    rsv1: int
    rsv2: int
    rsv3: int
    mask_key: bytes | None

    def __init__(
        self,
        opcode: int,
        payload: bytes,
        fin: int = 1,
        rsv1: int = 0,
        rsv2: int = 0,
        rsv3: int = 0,
        mask_key: bytes | None = None,
    ) -> None:
        first = _first_byte(opcode, fin, rsv1, rsv2, rsv3)
        data, key = _checked_payload(payload), _checked_mask_key(mask_key)
        self._fill(first & OPCODE, data, first // FIN, *_RSV_BITS[first], key)

    @property
    def mask(self) -> int:
        return int(self.mask_key is not None)


@final
class Message(_Record):
    """One message, or one control frame (RFC 6455 §5.4, §5.5).

    Attributes:
        opcode: 0 to 15; of a fragmented message, that of its first frame.
        payload: its bytes, unmasked and joined; owned by the message.
        rsv1, rsv2, rsv3: the reserved bits, 0 or 1, of its first frame.
        mask: the mask bit, 0 or 1, of its first frame.
        text: the payload as `str`; of a Close frame, its reason without the code. Bytes of a control frame that are not
            UTF-8 are replaced by U+FFFD. ValueError for a binary message.
    """

    __slots__ = __match_args__ = ("opcode", "payload", "rsv1", "rsv2", "rsv3", "mask")
    opcode: int
    payload: bytes
    rsv1: int
    rsv2: int
    rsv3: int
    mask: int

    def __init__(self, opcode: int, payload: bytes, rsv1: int = 0, rsv2: int = 0, rsv3: int = 0, mask: int = 0) -> None:
        first = _first_byte(opcode, 0, rsv1, rsv2, rsv3)
        self._fill(first & OPCODE, _checked_payload(payload), *_RSV_BITS[first], _integer(mask, "mask", 0, 1))

    @property
    def text(self) -> str:
        if self.opcode == Opcode.TEXT:
            return self.payload.decode()
        if self.opcode == Opcode.CLOSE:
            return self.payload[CLOSE_CODE_LENGTH:].decode(errors="replace")
        if self.opcode & CONTROL:
            return self.payload.decode(errors="replace")
        raise errors.not_text(self.opcode)


@final
class Chunk(_Record):
    """What arrived together of the payload of one frame, or one control frame (RFC 6455 §5.4, §5.5).

    A control frame is one chunk with all its flags set.

    Attributes:
        opcode: 0 to 15; in a fragmented message, that of its first frame.
        payload: its bytes, unmasked; owned by the chunk. Text may be cut inside a character.
        message_started, frame_started: whether the message, the frame, begins with this chunk; 0 or 1.
        frame_finished, message_finished: whether the frame, the message, ends with this chunk; 0 or 1.
        rsv1, rsv2, rsv3: the reserved bits, 0 or 1, of the first frame of the message.
        mask: the mask bit, 0 or 1, of the first frame of the message.
    """

    __slots__ = __match_args__ = (
        *("opcode", "payload", "message_started", "frame_started", "frame_finished", "message_finished"),
        *("rsv1", "rsv2", "rsv3", "mask"),
    )
    opcode: int
    payload: bytes
    message_started: int
    frame_started: int
    frame_finished: int
    message_finished: int
    rsv1: int
    rsv2: int
    rsv3: int
    mask: int

    def __init__(  # noqa: PLR0917 (a chunk has as many fields as it has)
        self,
        opcode: int,
        payload: bytes,
        message_started: int = 1,
        frame_started: int = 1,
        frame_finished: int = 1,
        message_finished: int = 1,
        rsv1: int = 0,
        rsv2: int = 0,
        rsv3: int = 0,
        mask: int = 0,
    ) -> None:
        first = _first_byte(opcode, 0, rsv1, rsv2, rsv3)
        self._fill(
            first & OPCODE,
            _checked_payload(payload),
            _integer(message_started, "message_started", 0, 1),
            _integer(frame_started, "frame_started", 0, 1),
            _integer(frame_finished, "frame_finished", 0, 1),
            _integer(message_finished, "message_finished", 0, 1),
            *_RSV_BITS[first],
            _integer(mask, "mask", 0, 1),
        )


def _checked_payload(payload: object) -> bytes:
    if type(payload) is not bytes:
        raise errors.not_bytes("payload", payload)
    return payload


def _checked_mask_key(mask_key: object) -> bytes | None:
    if mask_key is None:
        return None
    if type(mask_key) is not bytes:
        raise errors.not_bytes("mask_key", mask_key)
    if len(mask_key) != MASK_KEY_LENGTH:
        raise errors.wrong_key_length(len(mask_key))
    return mask_key


# -- The decoders (RFC 6455 §5.4, §5.5, §6.2) -------------------------------------------------------------------------

_Item = TypeVar("_Item")
_OPCODES = frozenset(Opcode)
_TEXT = int(Opcode.TEXT)
_WHOLE_MESSAGE = (FIN | Opcode.TEXT, FIN | Opcode.BINARY)
"""First bytes of a message that is one frame without reserved bits."""


class _Decoder(Generic[_Item]):
    """What the three decoders share: everything but what they hand out.

    A frame is read in two steps, `_read_header` and `_read_payload`. Each takes what is there and leaves its state in
    the attributes, so that data may be cut anywhere.
    """

    # Python reads so many attributes much faster from slots.
    __slots__ = (
        *("_strict", "_must_be_masked", "_must_be_unmasked"),
        *("_max_message_size", "_max_frame_size", "_max_fragments", "_allow_rsv", "_short"),
        *("_error", "_closed", "_eventful", "_busy", "_is_busy_stream", "_read_buffer"),
        *("_bytes_received", "_frames_received", "_messages_received", "_pings_received", "_pongs_received"),
        *("_head", "_in_payload", "_fin", "_first", "_opcode", "_mask_key", "_length", "_remaining"),
        *("_control", "_close_reason"),
        *("_message_opcode", "_message_first", "_message_mask", "_message_size", "_fragments"),
        *("_is_text", "_text", "_payload"),
    )

    def __init__(
        self,
        role: str,
        strict: bool,
        require_mask: bool,
        max_message_size: object,
        max_frame_size: object,
        max_fragments: object,
        allow_rsv: object,
    ) -> None:
        if role not in ("server", "client"):
            raise errors.wrong_role(role)
        self._strict = bool(strict)
        self._must_be_masked = self._strict and role == "server" and bool(require_mask)
        self._must_be_unmasked = self._strict and role == "client"
        self._max_message_size = _limit(max_message_size, "max_message_size")
        self._max_frame_size = _limit(max_frame_size, "max_frame_size")
        self._max_fragments = _limit(max_fragments, "max_fragments")
        self._allow_rsv = _integer(allow_rsv, "allow_rsv", 0, RSV >> RSV_SHIFT)
        self._short = self._short_frames(MASK if role == "server" else 0)

        self._error: errors.WebSocketError | MemoryError | None = None
        self._closed = False
        self._eventful = False
        self._busy = False
        self._read_buffer: bytearray | None = None

        self._bytes_received = self._frames_received = self._messages_received = 0
        self._pings_received = self._pongs_received = 0

        # The frame that is arriving.
        self._head = b""
        self._in_payload = False
        self._fin = 0
        self._first = 0
        self._opcode = 0
        self._mask_key: bytes | None = None
        self._length = 0
        self._remaining = 0
        self._control = bytearray()
        self._close_reason = Utf8Validator()

        # The message that is arriving; its opcode is None between messages, never inferred from an empty payload.
        self._message_opcode: int | None = None
        self._message_first = 0
        self._message_mask = 0
        self._message_size = 0
        self._fragments = 0
        self._is_text = False
        self._text = Utf8Validator()
        self._payload = bytearray()

    @property
    def error(self) -> errors.WebSocketError | MemoryError | None:
        return self._error

    @property
    def eventful(self) -> bool:
        return self._eventful

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def buffered(self) -> int:
        return len(self._head) + len(self._control) + len(self._payload)

    @property
    def bytes_received(self) -> int:
        return self._bytes_received

    @property
    def frames_received(self) -> int:
        return self._frames_received

    @property
    def messages_received(self) -> int:
        return self._messages_received

    @property
    def pings_received(self) -> int:
        return self._pings_received

    @property
    def pongs_received(self) -> int:
        return self._pongs_received

    def feed(self, data: object) -> list[_Item]:
        """Decode what came from the network, any C-contiguous buffer, cut anywhere.

        Returns:
            The frames, messages or chunks that it gave; nothing in them is a view of the data.

        Raises:
            ProtocolError, PayloadTooBig: the peer broke a rule or a limit; raised again by every later call.
            TypeError, ValueError: not such a buffer.
            RuntimeError: called from inside another call, or from two threads at once.
        """
        return self._decode(_bytes_of(data, "data"))

    def get_buffer(self, hint: int = -1) -> memoryview:
        """Lend memory to receive into, as asyncio.BufferedProtocol asks for it.

        Args:
            hint: bytes that the caller would like; the answer does not depend on it.

        Returns:
            A writable view of 64 KiB, to be written to until the next call of any method and not after. The compiled
            decoders lend up to 256 KiB while much is due; inside a large payload its FrameDecoder and MessageDecoder
            lend the memory of that payload itself, so that nothing is copied.
        """
        _integer(hint, "hint", -1, MAX_LENGTH_64)
        if self._busy:
            raise errors.decoder_in_use()
        self._read_buffer = bytearray(READ_SIZE)
        return memoryview(self._read_buffer)

    def buffer_updated(self, nbytes: int) -> list[_Item]:
        """Decode the first `nbytes` bytes of what `get_buffer` lent; otherwise as `feed`."""
        size = _integer(nbytes, "nbytes", 0, MAX_LENGTH_64)
        if self._read_buffer is None:
            raise errors.buffer_not_taken()
        if size > len(self._read_buffer):
            raise errors.out_of_range("nbytes", size, 0, len(self._read_buffer))
        return self._decode(bytes(memoryview(self._read_buffer)[:size]))

    def _decode(self, data: bytes) -> list[_Item]:
        if self._busy:
            raise errors.decoder_in_use()
        self._bytes_received += len(data)
        if self._error is not None:
            raise self._error.with_traceback(None)
        items: list[_Item] = []
        self._eventful = False
        self._busy = True
        try:
            self._parse(data, items)
        except (errors.WebSocketError, MemoryError) as error:
            self._error = error
            self._eventful = True
            if not items:
                raise
        finally:
            self._busy = False
            self._read_buffer = None
        return items

    def _parse(self, data: bytes, items: list[_Item]) -> None:
        position = 0
        while not self._closed:
            if not self._in_payload:
                if not self._head and self._message_opcode is None:
                    position = self._read_whole_messages(data, position, items)
                position = self._read_header(data, position)
                if not self._in_payload:
                    return
            position = self._read_payload(data, position, items)
            if self._in_payload:
                return

    def _short_frames(self, mask: int) -> range:
        """The second bytes of frames that `_read_whole_messages` takes: those of 7-bit lengths within every limit."""
        limit = min(MAX_LENGTH_7, self._max_frame_size, self._max_message_size)
        return range(mask, mask + limit + 1) if self._max_fragments else range(0)

    def _read_whole_messages(self, data: bytes, position: int, items: list[_Item]) -> int:
        """The messages of one short frame each that stand here, whole: most of what arrives, and read at one go.

        It takes only what breaks no rule and leaves anything else, and all judgement, to `_read_header` and
        `_read_payload`, which would read these messages with the same result.
        """
        short, before = self._short, len(items)
        while position + 2 <= len(data):
            first, second = data[position], data[position + 1]
            if first not in _WHOLE_MESSAGE or second not in short:
                break
            start = position + _HEADER_LENGTHS[second]
            end = start + (second & LENGTH)
            if end > len(data):
                break
            payload, mask_key = data[start:end], None
            if second & MASK:
                mask_key = data[start - MASK_KEY_LENGTH : start]
                payload = _masked_as_integer(payload, mask_key)
            if first & OPCODE == _TEXT and not payload.isascii() and _utf8_prefix(payload) != (len(payload), b""):
                break
            items.append(self._whole_item(first, payload, mask_key))
            position = end
        self._frames_received += len(items) - before
        self._messages_received += len(items) - before
        return position

    def _read_header(self, data: bytes, position: int) -> int:
        held = len(self._head)
        head = self._head + data[position : position + MAX_HEADER_LENGTH - held]
        if head:
            self._check_first_byte(head[0])
        if len(head) >= 2:
            self._check_second_byte(head[0] & OPCODE, head[1])
            end = _HEADER_LENGTHS[head[1]]
            if len(head) >= _HEADER_LENGTHS[head[1] & ~MASK]:
                self._length = _payload_length(head)
                self._check_length(head[0] & OPCODE, self._length)
            if len(head) >= end:
                self._head = b""
                self._begin_payload(head[:end])
                return position + end - held
        self._head = head
        return len(data)

    def _check_first_byte(self, first: int) -> None:
        opcode = first & OPCODE
        rsv = (first & RSV) >> RSV_SHIFT
        in_message = self._message_opcode is not None
        if self._strict:
            # An extension's bits mark the frame that opens a message; on any other frame they have no meaning.
            allowed = self._allow_rsv if opcode in (Opcode.TEXT, Opcode.BINARY) else 0
            if rsv & ~allowed:
                raise errors.reserved_bits(rsv, allowed)
            if opcode not in _OPCODES:
                raise errors.reserved_opcode(opcode)
        if opcode & CONTROL:
            # "All control frames [...] MUST NOT be fragmented" (§5.5)
            if not first & FIN:
                raise errors.fragmented_control(opcode)
            return
        if opcode == Opcode.CONTINUATION and not in_message:
            raise errors.unexpected_continuation()
        if opcode != Opcode.CONTINUATION and in_message:
            raise errors.expected_continuation(opcode)
        if self._fragments >= self._max_fragments:
            raise errors.too_many_fragments(self._max_fragments)

    def _check_second_byte(self, opcode: int, second: int) -> None:
        length = second & LENGTH
        if opcode & CONTROL and length > MAX_CONTROL_LENGTH:
            raise errors.control_too_long(opcode)
        if opcode == Opcode.CLOSE and length == 1:
            raise errors.close_too_short()
        # "a server MUST close the connection upon receiving a frame that is not masked" (§5.1)
        if self._must_be_masked and not second & MASK:
            raise errors.not_masked()
        # "A client MUST close a connection if it detects a masked frame" (§5.1)
        if self._must_be_unmasked and second & MASK:
            raise errors.masked()

    def _check_length(self, opcode: int, length: int) -> None:
        if opcode & CONTROL:
            return
        if length > self._max_frame_size:
            raise errors.frame_too_big(length, self._max_frame_size)
        if length > self._max_message_size - self._message_size:
            raise errors.message_too_big(self._message_size + length, self._max_message_size)

    def _begin_payload(self, head: bytes) -> None:
        first = head[0]
        self._first = first
        self._fin = first // FIN
        self._opcode = first & OPCODE
        self._mask_key = head[-MASK_KEY_LENGTH:] if head[1] & MASK else None
        self._remaining = self._length
        if not self._opcode & CONTROL:
            self._begin_fragment()
        elif self._opcode == Opcode.CLOSE:
            self._close_reason.reset()
        self._in_payload = True

    def _begin_fragment(self) -> None:
        if self._message_opcode is None:
            self._message_opcode = self._opcode
            self._message_first = self._first
            self._message_mask = int(self._mask_key is not None)
            # A payload that an extension has transformed is text only once it is transformed back.
            self._is_text = self._opcode == Opcode.TEXT and not self._first & RSV
            self._text.reset()
        self._message_size += self._length
        self._fragments += 1

    def _read_payload(self, data: bytes, position: int, items: list[_Item]) -> int:
        piece = data[position : position + self._remaining]
        if self._mask_key is not None:
            piece = _masked(piece, self._mask_key, self._length - self._remaining)
        self._remaining -= len(piece)
        if self._opcode & CONTROL:
            self._control += piece
            if self._opcode == Opcode.CLOSE:
                self._check_close(piece)
        else:
            if self._is_text:
                self._check_text(piece)
            self._payload += piece
        if self._remaining:
            self._end_piece(items)
        else:
            self._end_frame(items)
        return position + len(piece)

    def _check_text(self, piece: bytes) -> None:
        self._text.feed(piece)
        if self._fin and not self._remaining:
            self._text.finish()

    def _check_close(self, piece: bytes) -> None:
        before = len(self._control) - len(piece)
        if before < CLOSE_CODE_LENGTH <= len(self._control):
            code = int.from_bytes(self._control[:CLOSE_CODE_LENGTH], "big")
            if not is_close_code(code):
                raise errors.close_code(code)
        self._close_reason.feed(piece[max(CLOSE_CODE_LENGTH - before, 0) :])
        if not self._remaining:
            self._close_reason.finish()

    def _end_frame(self, items: list[_Item]) -> None:
        self._in_payload = False
        if self._opcode & CONTROL:
            self._end_control(items)
        else:
            self._end_fragment(items)
            if self._fin:
                self._message_opcode = None
                self._message_size = self._fragments = 0
                self._messages_received += 1
        self._frames_received += 1

    def _end_control(self, items: list[_Item]) -> None:
        items.append(self._whole_item(self._first, bytes(self._control), self._mask_key))
        self._control.clear()
        self._eventful = True
        # "any data received after a Close is discarded" (§1.4)
        self._closed = self._opcode == Opcode.CLOSE
        self._pings_received += self._opcode == Opcode.PING
        self._pongs_received += self._opcode == Opcode.PONG

    # What each decoder says for itself: what an item is, and when the payload that is held becomes one.

    def _whole_item(self, first: int, payload: bytes, mask_key: bytes | None) -> _Item:
        """What is handed out for a frame that is a control frame, or a whole message."""
        raise NotImplementedError

    def _end_piece(self, items: list[_Item]) -> None:
        """The data ends before the payload does."""

    def _end_fragment(self, items: list[_Item]) -> None:
        raise NotImplementedError


@final
class FrameDecoder(_Decoder[Frame]):
    """bytes -> frames: every rule of RFC 6455 is checked, nothing is joined.

    Args:
        role: who we are, "server" or "client"; so who must mask.
        strict: False lets reserved opcodes, reserved bits and either masking pass, to be seen on the frame.
        require_mask: False lets a server take unmasked frames; a client takes no masked ones all the same.
        max_message_size: bytes that the frames of one message may hold together, None for no limit.
        max_frame_size: bytes that one frame may hold, None for no limit.
        max_fragments: frames that one message may have, empty ones included, None for no limit.
        allow_rsv: the reserved bits (:class:`wslowlevel.Rsv`) that an extension has negotiated for the frame that
            opens a message. Text under such a bit is not checked for UTF-8.

    Every limit is inclusive, concerns data frames, and is judged as soon as a header tells the length; crossing one
    is PayloadTooBig.

    Attributes:
        error: what ended the stream, None while it goes on. It is known as soon as the bytes that prove it were fed,
            and raised by the same call, or by the next one when that call still had something to hand out.
        closed: whether a Close frame was handed out; what arrives after it is discarded (RFC 6455 §1.4).
        eventful: whether the last call that decoded handed out a control frame, or met what ends the stream.
        buffered: bytes held of a frame or message that is not complete.
        bytes_received: bytes given to `feed` and `buffer_updated`, those included that a Close frame or an error made
            worthless.
        frames_received: frames of any kind that arrived whole, and broke no rule.
        messages_received: the same of text and binary messages.
        pings_received, pongs_received: the same of ping and pong frames.

    Raises:
        TypeError, ValueError: an argument of the wrong kind.
    """

    __slots__ = ()

    def __init__(
        self,
        *,
        role: str,
        strict: bool = True,
        require_mask: bool = True,
        max_message_size: int | None = None,
        max_frame_size: int | None = DEFAULT_MAX_SIZE,
        max_fragments: int | None = None,
        allow_rsv: int = 0,
    ) -> None:
        super().__init__(role, strict, require_mask, max_message_size, max_frame_size, max_fragments, allow_rsv)

    def _whole_item(self, first: int, payload: bytes, mask_key: bytes | None) -> Frame:
        return Frame._of(first & OPCODE, payload, first // FIN, *_RSV_BITS[first], mask_key)

    def _end_fragment(self, items: list[Frame]) -> None:
        items.append(self._whole_item(self._first, bytes(self._payload), self._mask_key))
        self._payload = bytearray()


@final
class MessageDecoder(_Decoder[Message]):
    """bytes -> messages: as :class:`FrameDecoder`, with the fragments of a message joined.

    Control frames are handed out as messages too, in their place, also from between the fragments of another.

    Arguments and attributes are those of :class:`FrameDecoder`; by default a message may have 16 MiB and 16,384
    fragments.
    """

    __slots__ = ()

    def __init__(
        self,
        *,
        role: str,
        strict: bool = True,
        require_mask: bool = True,
        max_message_size: int | None = DEFAULT_MAX_SIZE,
        max_frame_size: int | None = None,
        max_fragments: int | None = DEFAULT_MAX_FRAGMENTS,
        allow_rsv: int = 0,
    ) -> None:
        super().__init__(role, strict, require_mask, max_message_size, max_frame_size, max_fragments, allow_rsv)

    def _whole_item(self, first: int, payload: bytes, mask_key: bytes | None) -> Message:
        return Message._of(first & OPCODE, payload, *_RSV_BITS[first], int(mask_key is not None))

    def _end_fragment(self, items: list[Message]) -> None:
        if self._fin:
            assert self._message_opcode is not None
            rsv = _RSV_BITS[self._message_first]
            items.append(Message._of(self._message_opcode, bytes(self._payload), *rsv, self._message_mask))
            self._payload = bytearray()


@final
class ChunkDecoder(_Decoder[Chunk]):
    """bytes -> chunks: as :class:`FrameDecoder`, with the payload of each data frame handed out as it arrives.

    A call of `feed` or `buffer_updated` gives one chunk of each data frame whose payload it brings bytes of, and one of
    each that is empty; nothing of such a payload is held between calls. UTF-8 is checked over all chunks of a text
    message: the chunk that proves it wrong is not handed out. Control frames come whole, in their place, also from
    between the fragments of a message.

    Arguments and attributes are those of :class:`FrameDecoder`; by default a message may have any size and any number
    of fragments, for none of it is held.
    """

    __slots__ = ()

    def __init__(
        self,
        *,
        role: str,
        strict: bool = True,
        require_mask: bool = True,
        max_message_size: int | None = None,
        max_frame_size: int | None = None,
        max_fragments: int | None = None,
        allow_rsv: int = 0,
    ) -> None:
        super().__init__(role, strict, require_mask, max_message_size, max_frame_size, max_fragments, allow_rsv)

    def _whole_item(self, first: int, payload: bytes, mask_key: bytes | None) -> Chunk:
        return Chunk._of(first & OPCODE, payload, 1, 1, 1, 1, *_RSV_BITS[first], int(mask_key is not None))

    def _end_piece(self, items: list[Chunk]) -> None:
        if self._payload:
            items.append(self._take_chunk())

    def _end_fragment(self, items: list[Chunk]) -> None:
        items.append(self._take_chunk())

    def _take_chunk(self) -> Chunk:
        started = len(self._payload) == self._length - self._remaining
        finished = not self._remaining
        flags = (started and self._opcode != Opcode.CONTINUATION, started, finished, finished and self._fin)
        payload, self._payload = bytes(self._payload), bytearray()
        rsv = _RSV_BITS[self._message_first]
        return Chunk._of(self._message_opcode, payload, *map(int, flags), *rsv, self._message_mask)


# -- An endpoint (RFC 6455 §5.1, §5.4) --------------------------------------------------------------------------------


class Endpoint:
    """What one side of a connection does once a frame, or once a read: all that needs no thought.

    Args:
        role: who we are, "server" or "client".

    Attributes:
        decoder: what decodes, a MessageDecoder or a ChunkDecoder; a subclass brings it, and `_see_events(items)`.
        eventful: whether what was decoded last holds more than data: control frames, or the end of the stream.
        failed: whether nothing is to be decoded any more.
        state, ended, extensions: what a subclass knows of the connection, for whoever asks after each read.
        passing: whether whole messages of data may be sent without a further look, see `passes`.
        passed: how many were.
        bytes_sent: bytes of those, and of the frames that `count_bytes` was called for.
        high_water: the most bytes that waited to be sent at the time of a write.
    """

    __slots__ = (
        *("decoder", "state", "extensions", "eventful", "failed", "passing", "ended"),
        *("_passed", "_bytes_sent", "_high_water", "_mask_bit"),
    )

    def __init__(self, *, role: str) -> None:
        if role not in ("server", "client"):
            raise errors.wrong_role(role)
        self.decoder: Any = None
        self.state: Any = None
        self.extensions: tuple[Any, ...] = ()
        self.eventful = False
        self.failed = False
        self.passing = False
        self.ended = False
        self._passed = 0
        self._bytes_sent = self._high_water = 0
        self._mask_bit = MASK if role == "client" else 0

    @property
    def passed(self) -> int:
        return self._passed

    @property
    def bytes_sent(self) -> int:
        return self._bytes_sent

    @property
    def high_water(self) -> int:
        return self._high_water

    def feed(self, data: Buffer) -> list[Any]:
        """Decode what arrived, any C-contiguous buffer; a violation is left in the decoder's `error`, not raised.

        Returns:
            Messages, or chunks, as they stood on the wire.
        """
        decoder = self.decoder
        return self._decoded(decoder, decoder.feed, data)

    def get_buffer(self, hint: int = -1) -> memoryview:
        """Memory to receive into, see :meth:`wslowlevel.codec.MessageDecoder.get_buffer`."""
        lent: memoryview = self.decoder.get_buffer(hint)
        return lent

    def buffer_updated(self, nbytes: int) -> list[Any]:
        """Decode what was received into the buffer; otherwise as `feed`."""
        decoder = self.decoder
        return self._decoded(decoder, decoder.buffer_updated, nbytes)

    def _decoded(self, decoder: Any, decode: Callable[[Any], list[Any]], data: Buffer | int) -> list[Any]:
        if self.failed:
            return []
        try:
            items = decode(data)
        except errors.WebSocketError:
            items = []
        self.eventful = decoder.eventful
        if self.eventful:
            self._see_events(items)
        return items

    def _see_events(self, items: list[Any]) -> None:
        """Draw the conclusions: among these are control frames, or the stream ends with them."""
        raise NotImplementedError

    @final
    def passes(self, frame: object) -> bool:
        """Tell whether a frame is a whole message, masked as it must be, that may be sent now; count it if so.

        Args:
            frame: anything; only `bytes` pass.
        """
        passes = (
            self.passing
            and type(frame) is bytes
            and len(frame) >= MIN_HEADER_LENGTH
            and frame[0] in _WHOLE_MESSAGE
            and frame[1] & MASK == self._mask_bit
        )
        if passes:
            self._passed += 1
            self._bytes_sent += len(frame)  # type: ignore[arg-type] # only bytes pass
        return passes

    @final
    def count_bytes(self, size: int) -> None:
        """Add the bytes of a frame that did not pass, and is sent all the same, to `bytes_sent`."""
        self._bytes_sent += size

    @final
    def note_waiting(self, size: int) -> None:
        """Record how many bytes wait to be sent at the time of a write, those that it writes included."""
        self._high_water = max(self._high_water, size)
