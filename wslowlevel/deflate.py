"""permessage-deflate: offers and answers, and messages compressed with DEFLATE  (RFC 7692 §7)

PerMessageDeflate speaks for it in the opening handshake, on both sides; Deflate is at work on one connection;
PreparedMessage is one message, compressed once, for many connections.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from . import errors
from .errors import InvalidHandshake, shown
from .extensions import Extension, ExtensionFactory, Parameters, Transform
from .frames import prepare_websocket_frame
from .wire import DEFAULT_MAX_FRAGMENTS, Opcode, Rsv

if TYPE_CHECKING:
    from typing_extensions import Buffer

# -- The numbers of RFC 7692, and of this implementation --------------------------------------------------------------

NAME = "permessage-deflate"

SERVER_NO_CONTEXT_TAKEOVER = "server_no_context_takeover"
CLIENT_NO_CONTEXT_TAKEOVER = "client_no_context_takeover"
SERVER_MAX_WINDOW_BITS = "server_max_window_bits"
CLIENT_MAX_WINDOW_BITS = "client_max_window_bits"

MIN_WINDOW_BITS = 8
MAX_WINDOW_BITS = 15
"""An LZ77 window has 2 to the power of this many bytes; 15 is what counts where nothing is said (§7.1.2)."""

TAIL = b"\x00\x00\xff\xff"
"""What ends an empty stored block on the wire of DEFLATE, and is left out at the end of a message (§7.2.1)."""

EMPTY = b"\x00"
"""An empty stored block without its tail: what a message is that has nothing (more) to say (§7.2.3.6)."""

BLOCK = 64 * 1024
"""Bytes that are inflated at a time: a receiver over its limit has no more than this inflated beyond it."""

SLICE = 16 * 1024
"""Bytes that are given to the decompressor at a time: it copies what is left of them after each block."""

MAX_FINAL_BLOCKS = DEFAULT_MAX_FRAGMENTS
"""Final blocks of one message; a sender that cannot flush ends each fragment with one."""

_EMPTY_BLOCKS = 64 * (EMPTY + TAIL)
"""Nothing, for a decompressor that stands between two blocks; longer than any header of a block."""

_DEFAULT_SERVER_WINDOW_BITS = 12
_WINDOW_BITS = {str(bits): bits for bits in range(MIN_WINDOW_BITS, MAX_WINDOW_BITS + 1)}
"""How they are written: in decimal, without leading zeros (§7.1.2)."""


# -- Backends ---------------------------------------------------------------------------------------------------------


class _Compressor(Protocol):
    def compress(self, data: Buffer, /) -> bytes: ...
    def flush(self, mode: int, /) -> bytes: ...


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Backend(NamedTuple):
    """How to import a module with the interface of zlib, and its highest level."""

    module: Callable[[], ModuleType]
    max_level: int


def _import_isal() -> ModuleType:
    # isal_zlib is compiled and imports igzip_lib, which PyInstaller and others find only through this statement.
    import isal.igzip_lib  # noqa: F401, PLC0415 - an optional dependency
    import isal.isal_zlib as module  # noqa: PLC0415

    return module


def _import_zlib_ng() -> ModuleType:
    import zlib_ng.zlib_ng as module  # noqa: PLC0415 - an optional dependency

    return module


_BACKENDS = {
    "zlib": _Backend(lambda: zlib, 9),
    "isal": _Backend(_import_isal, 3),
    "zlib-ng": _Backend(_import_zlib_ng, 9),
}


@dataclass(frozen=True)
class _Settings:
    """How to compress."""

    module: ModuleType
    level: int | None
    memory_level: int

    def compressor(self, window_bits: int) -> Callable[[], _Compressor]:
        module = self.module
        if window_bits == MIN_WINDOW_BITS:
            # zlib makes no raw stream with a window of 8 bits. With one of 9 it reaches back 250 bytes at most, its
            # least lookahead being 262 of the 512; the other backends make no such promise.
            module, window_bits = zlib, 9
        level = {} if self.level is None else {"level": self.level}
        return partial(module.compressobj, wbits=-window_bits, memLevel=self.memory_level, **level)

    def decompressor(self, window_bits: int) -> tuple[Callable[[], _Decompressor], type[Exception]]:
        module = zlib if window_bits == MIN_WINDOW_BITS else self.module
        return partial(module.decompressobj, -window_bits), module.error


def _settings(backend: str, level: int | None, memory_level: int) -> _Settings:
    if not isinstance(backend, str):
        raise TypeError(f"backend must be str, not {type(backend).__name__}")
    if backend not in _BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(_BACKENDS)}, not {shown(backend)}")
    if level is not None:
        _check_integer("level", level, 0, _BACKENDS[backend].max_level)
    _check_integer("memory_level", memory_level, 1, 9)
    try:
        module = _BACKENDS[backend].module()
    except ImportError as error:
        text = f"backend {backend!r} is not installed: pip install wslowlevel[{backend}]"
        raise ImportError(text, name=error.name) from error
    return _Settings(module, level, memory_level)


# -- Negotiation (RFC 7692 §7.1) --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DeflateParameters:
    """What both sides agreed on (RFC 7692 §7.1).

    Attributes:
        server_no_context_takeover: the server compresses each message without reference to those before.
        client_no_context_takeover: the client does.
        server_max_window_bits: how far back the server refers at most: 2 to the power of this, in bytes; 8 to 15.
        client_max_window_bits: how far back the client does.
    """

    server_no_context_takeover: bool
    client_no_context_takeover: bool
    server_max_window_bits: int
    client_max_window_bits: int


class PerMessageDeflate(ExtensionFactory):
    """permessage-deflate, as a server accepts it and as a client offers it (RFC 7692 §7).

    The defaults are chosen for servers with many connections. With a window of 12 bits and memory level 5 a connection
    costs 37 KiB once it has sent a compressed message, and 11 KiB once it has received one; with zlib's own defaults,
    15 and 8, it costs 207 and 38 KiB. JSON messages of 1 KiB shrink to 19 % of their size instead of 18 %, in less
    time. What was not needed yet costs nothing, and what an end without context takeover does not need any more is
    given back after each message.

    To offer several choices, put several of these into the list of extensions, the preferred one first.

    Args:
        server_no_context_takeover: as a client, ask that the server compress each message by itself, and refuse to go
            on if it does not agree; as a server, do so unasked. Saves memory between messages at both ends, and costs
            much of what compression gains on small messages.
        client_no_context_takeover: the same for the client's messages; as a client, do so whatever the server says.
        server_max_window_bits: 8 to 15, how far back the server may refer. As a server, the most that it answers. As
            a client, the most that it may answer, where it is below 15; servers that do not know the parameter
            decline the offer or make the handshake fail. None (default): 12 as a server, 15 as a client.
        client_max_window_bits: 8 to 15. As a client, the most that it uses; said in the offer. As a server, the most
            that it allows a client whose offer says that it can be told; other clients may use 15.
        level: 0 (fast, or not compressed at all) to 9 (small), to 3 for isal; None (default) for the backend's own
            default: 6, and 2 for isal.
        memory_level: 1 to 9, the memory of zlib's compressor beside the window: 2 to the power of this + 9, in bytes.
        threshold: bytes from which on a message is compressed unless its sender says otherwise; 0 for all. Below 64
            (default) compression by itself saves next to nothing, with context takeover less than the headers of a
            packet.
        backend: "zlib" (default), or, faster where it is installed, "isal" or "zlib-ng". With these
            defaults their compressors take 110 and 160 KiB; isal's decompressor takes 60 KiB.

    Raises:
        TypeError, ValueError: an argument of the wrong kind, or out of range.
        ImportError: a backend that is not installed.
    """

    name = NAME

    def __init__(
        self,
        *,
        server_no_context_takeover: bool = False,
        client_no_context_takeover: bool = False,
        server_max_window_bits: int | None = None,
        client_max_window_bits: int = 12,
        level: int | None = None,
        memory_level: int = 5,
        threshold: int = 64,
        backend: str = "zlib",
    ) -> None:
        _check_flag(SERVER_NO_CONTEXT_TAKEOVER, server_no_context_takeover)
        _check_flag(CLIENT_NO_CONTEXT_TAKEOVER, client_no_context_takeover)
        if server_max_window_bits is not None:
            _check_integer(SERVER_MAX_WINDOW_BITS, server_max_window_bits, MIN_WINDOW_BITS, MAX_WINDOW_BITS)
        _check_integer(CLIENT_MAX_WINDOW_BITS, client_max_window_bits, MIN_WINDOW_BITS, MAX_WINDOW_BITS)
        _check_integer("threshold", threshold, 0, None)
        self._server_no_context_takeover = server_no_context_takeover
        self._client_no_context_takeover = client_no_context_takeover
        self._server_max_window_bits = server_max_window_bits
        self._client_max_window_bits = client_max_window_bits
        self._threshold = threshold
        self._settings = _settings(backend, level, memory_level)

    def offer(self) -> Parameters:
        """As a client: the parameters to offer (RFC 7692 §7.1)."""
        parameters: list[tuple[str, str | None]] = []
        if self._server_no_context_takeover:
            parameters.append((SERVER_NO_CONTEXT_TAKEOVER, None))
        if self._client_no_context_takeover:
            parameters.append((CLIENT_NO_CONTEXT_TAKEOVER, None))
        if self._asked_window_bits < MAX_WINDOW_BITS:
            parameters.append((SERVER_MAX_WINDOW_BITS, str(self._asked_window_bits)))
        bits = self._client_max_window_bits
        parameters.append((CLIENT_MAX_WINDOW_BITS, str(bits) if bits < MAX_WINDOW_BITS else None))
        return parameters

    def accept(self, offered: Parameters) -> tuple[Parameters, Deflate] | None:
        """As a server: the parameters to answer and the extension agreed on (RFC 7692 §7.1).

        Returns:
            None for an offer with a parameter that is unknown, stands there twice or has a wrong value.
        """
        try:
            offer = _parse(offered, is_offer=True)
        except ValueError:
            return None
        ours = self._server_max_window_bits or _DEFAULT_SERVER_WINDOW_BITS
        agreed = DeflateParameters(
            self._server_no_context_takeover or SERVER_NO_CONTEXT_TAKEOVER in offer,
            self._client_no_context_takeover or CLIENT_NO_CONTEXT_TAKEOVER in offer,
            min(ours, offer.get(SERVER_MAX_WINDOW_BITS, MAX_WINDOW_BITS)),
            # "If a received extension negotiation offer doesn't have the client_max_window_bits extension parameter,
            # the corresponding extension negotiation response to the offer MUST NOT include" it (§7.1.2.2)
            min(self._client_max_window_bits, offer[CLIENT_MAX_WINDOW_BITS])
            if CLIENT_MAX_WINDOW_BITS in offer
            else MAX_WINDOW_BITS,
        )
        answer: list[tuple[str, str | None]] = []
        if agreed.server_no_context_takeover:
            answer.append((SERVER_NO_CONTEXT_TAKEOVER, None))
        if agreed.client_no_context_takeover:
            answer.append((CLIENT_NO_CONTEXT_TAKEOVER, None))
        if SERVER_MAX_WINDOW_BITS in offer or agreed.server_max_window_bits < MAX_WINDOW_BITS:
            answer.append((SERVER_MAX_WINDOW_BITS, str(agreed.server_max_window_bits)))
        if agreed.client_max_window_bits < MAX_WINDOW_BITS:
            answer.append((CLIENT_MAX_WINDOW_BITS, str(agreed.client_max_window_bits)))
        return answer, Deflate("server", agreed, self._settings, self._threshold)

    def confirm(self, answered: Parameters) -> Deflate:
        """As a client: the extension agreed on (RFC 7692 §7.1).

        Raises:
            InvalidHandshake: an answer with a parameter that is unknown, stands there twice or has a wrong value, or
                that does not grant what was asked.
        """
        try:
            answer = _parse(answered, is_offer=False)
        except ValueError as error:
            raise InvalidHandshake(f"server answered {NAME} wrongly: {error}") from None
        if self._server_no_context_takeover and SERVER_NO_CONTEXT_TAKEOVER not in answer:
            raise InvalidHandshake(f"server answered {NAME} without {SERVER_NO_CONTEXT_TAKEOVER}, which was asked")
        server_bits = answer.get(SERVER_MAX_WINDOW_BITS, MAX_WINDOW_BITS)
        if server_bits > self._asked_window_bits:
            answered_bits = f"={server_bits}" if SERVER_MAX_WINDOW_BITS in answer else " unsaid"
            raise InvalidHandshake(
                f"server answered {NAME} with {SERVER_MAX_WINDOW_BITS}{answered_bits}, "
                f"at most {self._asked_window_bits} was asked"
            )
        agreed = DeflateParameters(
            SERVER_NO_CONTEXT_TAKEOVER in answer,
            self._client_no_context_takeover or CLIENT_NO_CONTEXT_TAKEOVER in answer,
            server_bits,
            min(self._client_max_window_bits, answer.get(CLIENT_MAX_WINDOW_BITS, MAX_WINDOW_BITS)),
        )
        return Deflate("client", agreed, self._settings, self._threshold)

    @property
    def _asked_window_bits(self) -> int:
        return self._server_max_window_bits or MAX_WINDOW_BITS


def _parse(parameters: Parameters, *, is_offer: bool) -> dict[str, int]:
    """The parameters of an offer or an answer, those without a value as the 15 bits that this means.

    Raises:
        ValueError: naming the parameter, its value and what is allowed.
    """
    parsed: dict[str, int] = {}
    for name, value in parameters:
        if name in parsed:
            raise ValueError(f"parameter {name} stands there twice")
        parsed[name] = _parse_value(name, value, is_offer)
    return parsed


def _parse_value(name: str, value: str | None, is_offer: bool) -> int:
    if name in (SERVER_NO_CONTEXT_TAKEOVER, CLIENT_NO_CONTEXT_TAKEOVER):
        if value is not None:
            raise ValueError(f"parameter {name} has no value, not {shown(value)}")
        return MAX_WINDOW_BITS
    if name not in (SERVER_MAX_WINDOW_BITS, CLIENT_MAX_WINDOW_BITS):
        raise ValueError(f"parameter {shown(name)} is unknown")
    if value is None and is_offer and name == CLIENT_MAX_WINDOW_BITS:
        return MAX_WINDOW_BITS
    if value not in _WINDOW_BITS:
        raise ValueError(f"parameter {name} must be a number from 8 to 15, not {shown(value)}")
    return _WINDOW_BITS[value]


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {shown(value)}")


def _check_integer(name: str, value: object, lowest: int, highest: int | None) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise errors.not_an_integer(name, value)
    if highest is None and value < lowest:
        raise ValueError(f"{name} must be {lowest} or more, not {value}")
    if highest is not None and not lowest <= value <= highest:
        raise errors.out_of_range(name, value, lowest, highest)


# -- At work on one connection (RFC 7692 §7.2) ------------------------------------------------------------------------


class Deflate(Extension):
    """permessage-deflate on one connection; made by :class:`PerMessageDeflate`.

    Attributes:
        rsv: RSV1, which marks a compressed message on its first frame (RFC 7692 §6).
        role: "server" or "client": who we are.
        agreed: what the opening handshake agreed on.
        window_bits: how far back the messages that we send may refer: 2 to the power of this, in bytes; 8 to 15.
    """

    rsv = Rsv.RSV1

    def __init__(
        self, role: Literal["server", "client"], agreed: DeflateParameters, settings: _Settings, threshold: int
    ) -> None:
        self.role = role
        self.agreed = agreed
        server = (agreed.server_max_window_bits, agreed.server_no_context_takeover)
        client = (agreed.client_max_window_bits, agreed.client_no_context_takeover)
        (self.window_bits, forget_ours), (their_bits, forget_theirs) = (
            (server, client) if role == "server" else (client, server)
        )
        self._threshold = threshold
        self._deflater = _Deflater(settings.compressor(self.window_bits), forget_ours)
        self._inflater = _Inflater(*settings.decompressor(their_bits), forget_theirs)

    def decoder(self, opcode: int, rsv: int) -> Transform | None:
        """Begin to receive a message: what inflates it, or None for one that is not compressed (RFC 7692 §7.2.2).

        Blocks of 64 KiB at most are inflated one after the other, as they are taken. Whoever stops before the last one
        cannot read another message: what was inflated so far is forgotten.

        Raises, while blocks are taken:
            ProtocolError: with the close code 1007, for what is not DEFLATE; for what ends inside a block, as an empty
                payload does (an empty message is one byte, §7.2.3.6); for over 16,384 final blocks. After a final
                block the message may go on with further ones, which refer to nothing before them (§7.2.1), or end.
        """
        return self._inflater.begin() if rsv & self.rsv else None

    def encoder(self, opcode: int, size: int | None, wanted: bool | None) -> Transform | None:
        """Begin to send a message: what compresses it, or None to send it as it is (RFC 7692 §7.2.1).

        Args:
            opcode: 1 for text, 2 for binary.
            size: bytes of the payload, None for one that comes in pieces, which counts as long.
            wanted: True to compress, False not to, None for what the threshold says.

        A message of which nothing was sent may be left half-way: the next one refers to nothing before it. One that
        was compressed whole and then not sent is for `note_foreign`.
        """
        if wanted is None:
            wanted = size is None or size >= self._threshold
        return self._deflater.begin() if wanted else None

    def note_foreign(self) -> None:
        """A compressed message that was not made here went out, or one made here did not: forget all before it."""
        self._deflater.forget()


class _Deflater:
    """Compresses one message after the other."""

    def __init__(self, make: Callable[[], _Compressor], forgets: bool) -> None:
        self._make = make
        self._forgets = forgets
        self._context: _Compressor | None = None
        self._inside = False

    def begin(self) -> Transform:
        if self._inside:
            self.forget()
        return self._deflate

    def forget(self) -> None:
        self._context = None
        self._inside = False

    def _deflate(self, piece: bytes, last: bool) -> tuple[bytes, ...]:
        self._inside = True
        if self._context is None:
            self._context = self._make()
        # Flushed with every piece, so that it can be read when it arrives, and not only when the message ends.
        deflated = self._context.compress(piece) + self._context.flush(zlib.Z_SYNC_FLUSH)
        if last:
            # "remove 4 octets (that are 0x00 0x00 0xff 0xff) from the tail end" (§7.2.1), of an empty block if there is
            # nothing since the last flush
            deflated = deflated[: -len(TAIL)] or EMPTY
            self._inside = False
            if self._forgets:
                self.forget()
        return (deflated,)


class _Inflater:
    """Inflates one message after the other."""

    def __init__(self, make: Callable[[], _Decompressor], error: type[Exception], forgets: bool) -> None:
        self._make = make
        self._error = error
        self._forgets = forgets
        self._context: _Decompressor | None = None
        self._final_blocks = 0

    def begin(self) -> Transform:
        self._final_blocks = 0
        return self._inflate

    def _inflate(self, piece: bytes, last: bool) -> Iterator[bytes]:
        try:
            for start in range(0, len(piece), SLICE):
                yield from self._blocks(piece[start : start + SLICE])
            if last:
                self._finish()
        except BaseException as error:  # GeneratorExit too: the context stands amid a message
            self._context = None
            if isinstance(error, self._error):
                raise errors.extension_data(f"compressed message is not DEFLATE: {error} (RFC 7692 §7.2.2)") from None
            raise

    def _blocks(self, data: bytes) -> Iterator[bytes]:
        more = True
        while more:
            context = self._context = self._context or self._make()
            block = context.decompress(data, BLOCK)
            if block:
                yield block
            if context.eof:
                data = context.unused_data
                more = bool(data)
                self._after_final_block()
            else:
                data = context.unconsumed_tail
                # A full block may have left something behind inside the decompressor.
                more = bool(data) or len(block) == BLOCK

    def _after_final_block(self) -> None:
        self._context = None
        self._final_blocks += 1
        if self._final_blocks > MAX_FINAL_BLOCKS:
            raise errors.extension_data(
                f"compressed message has over {MAX_FINAL_BLOCKS} final blocks: {MAX_FINAL_BLOCKS} are allowed"
            )

    def _finish(self) -> None:
        if self._final_blocks and self._context is None:
            return
        context = self._context = self._context or self._make()
        if not self._is_between_blocks(context):
            raise errors.extension_data("compressed message ends inside a DEFLATE block (RFC 7692 §7.2.1)")
        if self._forgets or context.eof:
            self._context = None

    def _is_between_blocks(self, context: _Decompressor) -> bool:
        """Give back the tail that the sender left out, and see whether it ends a block there.

        Where it does, empty blocks behind it go by without a trace. Anywhere else they are taken for literals, lengths
        or the header of a block, of which something comes: output, an error, or the end of the stream.
        """
        try:
            output = context.decompress(TAIL + _EMPTY_BLOCKS, 1)
        except self._error:
            return False
        return not output and (not context.eof or context.unused_data == _EMPTY_BLOCKS)


# -- One message for many connections ---------------------------------------------------------------------------------


class PreparedMessage:
    """A message that a server sends to many connections, compressed once for each size of window among them
    (RFC 7692 §7.2.1).

    Nothing in it refers to other messages, so it costs some of what context takeover gains.

    Args:
        payload: any C-contiguous buffer; copied.
        is_utf8: whether it is text, opcode 1; binary, opcode 2, otherwise.
        level: as for :class:`PerMessageDeflate`.
        memory_level: the same; 8 by default, for the memory is needed only while the message is compressed.
        backend: the same.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or out of range, or text that is not UTF-8.
        ImportError: a backend that is not installed.
    """

    def __init__(
        self,
        payload: Buffer,
        *,
        is_utf8: bool = False,
        level: int | None = None,
        memory_level: int = 8,
        backend: str = "zlib",
    ) -> None:
        self._settings = _settings(backend, level, memory_level)
        self._opcode = Opcode.TEXT if is_utf8 else Opcode.BINARY
        self._plain = prepare_websocket_frame(payload, opcode=self._opcode)
        size = memoryview(payload).nbytes
        self._payload = memoryview(self._plain)[len(self._plain) - size :]
        self._frames: dict[int, bytes] = {}

    def frame_for(self, extensions: Sequence[Extension]) -> bytes:
        """The whole frame for a connection with these extensions.

        Returns:
            A compressed frame, with RSV1, where permessage-deflate is the only extension and makes the message
            smaller; tell that extension so by its `note_foreign` when the frame is sent. The plain frame elsewhere.
        """
        if len(extensions) != 1 or not isinstance(extensions[0], Deflate):
            return self._plain
        bits = extensions[0].window_bits
        if bits not in self._frames:
            self._frames[bits] = self._smaller(bits)
        return self._frames[bits]

    def _smaller(self, window_bits: int) -> bytes:
        compressor = self._settings.compressor(window_bits)()
        deflated = compressor.compress(self._payload) + compressor.flush(zlib.Z_SYNC_FLUSH)[: -len(TAIL)]
        frame = prepare_websocket_frame(deflated, opcode=self._opcode, rsv1=1)
        return frame if len(frame) < len(self._plain) else self._plain
