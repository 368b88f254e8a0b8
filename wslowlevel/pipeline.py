"""messages on the wire <-> messages of the user: what the extensions of a connection do in between  (RFC 6455 §9.1)

Of extensions agreed on as "one, two", what is sent passes one and then two, and what is received two and then one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from . import errors
from .codec import Chunk, Message, Utf8Validator, encode_frame
from .extensions import Extension, Transform, claimed
from .frames import fresh_mask_key
from .wire import CONTROL, Opcode, Rsv


def through(transforms: Sequence[Transform], piece: bytes, final: bool) -> Iterator[bytes]:
    """Hand a piece of a payload through one transform after the other, and no further than the pieces are taken."""
    if not transforms:
        yield piece
        return
    rest = transforms[1:]
    for out in transforms[0](piece, final):
        yield from through(rest, out, False)
    if rest and final:
        yield from through(rest, b"", True)


class Incoming:
    """Undoes what the peer's extensions did, one message or chunk at a time: no more than one is held.

    Args:
        extensions: those of the connection.
        max_message_size: bytes that one message may have once it is undone, None for no limit.
    """

    def __init__(self, extensions: Sequence[Extension], max_message_size: int | None) -> None:
        self._extensions = extensions[::-1]
        self._kept_rsv = ~claimed(extensions)
        self._limit = max_message_size
        self._transforms: list[Transform] = []
        self._size = 0
        self._text: Utf8Validator | None = None

    def messages(self, items: Iterable[Message]) -> Iterator[Message]:
        """Messages as they were before the peer's extensions; ProtocolError, PayloadTooBig at one that cannot be."""
        for item in items:
            if item.opcode & CONTROL:
                yield item
            elif not self._begin(item):
                if self._limit is not None and len(item.payload) > self._limit:
                    raise errors.message_too_big(len(item.payload), self._limit)
                yield item
            else:
                payload = b"".join(self._undone(item.payload, True))
                yield Message(item.opcode, payload, *self._left_of(item), item.mask)

    def chunks(self, items: Iterable[Chunk]) -> Iterator[Chunk]:
        """The same for chunks: one of them may become many, of which each is made when it is asked for."""
        for item in items:
            if item.message_started and not item.opcode & CONTROL:
                self._begin(item)
            if item.opcode & CONTROL:
                yield item
            elif not self._transforms:
                self._count(item.payload)
                yield item
            else:
                yield from self._chunks_of(item)

    def _chunks_of(self, chunk: Chunk) -> Iterator[Chunk]:
        blocks = self._undone(chunk.payload, bool(chunk.message_finished))
        starts, last = (chunk.message_started, chunk.frame_started), next(blocks, b"")
        ends = (chunk.frame_finished, chunk.message_finished)
        marks = (*self._left_of(chunk), chunk.mask)
        for block in blocks:
            yield Chunk(chunk.opcode, last, *starts, 0, 0, *marks)
            starts, last = (0, 0), block
        if last or any(starts) or any(ends):
            yield Chunk(chunk.opcode, last, *starts, *ends, *marks)

    def _begin(self, item: Message | Chunk) -> bool:
        rsv = _rsv_of(item)
        begun = (extension.decoder(item.opcode, rsv & extension.rsv) for extension in self._extensions)
        self._transforms = [transform for transform in begun if transform is not None]
        self._size = 0
        self._text = Utf8Validator() if item.opcode == Opcode.TEXT else None
        return bool(self._transforms)

    def _undone(self, payload: bytes, final: bool) -> Iterator[bytes]:
        for block in through(self._transforms, payload, final):
            self._count(block)
            if self._text is not None:
                self._text.feed(block)
            if block:
                yield block
        if final and self._text is not None:
            self._text.finish()

    def _count(self, block: bytes) -> None:
        self._size += len(block)
        if self._limit is not None and self._size > self._limit:
            raise errors.too_big_when_undone(self._limit)

    def _left_of(self, item: Message | Chunk) -> tuple[int, int, int]:
        return rsv_bits(_rsv_of(item) & self._kept_rsv)


class Outgoing:
    """One data message on its way out: its pieces become frames.

    Args:
        extensions: those of the connection.
        opcode: 1 for text, 2 for binary.
        size: bytes of the payload, None for one that comes in pieces.
        wanted: the sender's word on whether the extensions shall work on it, None for none.
        masked: whether to mask, with a fresh key for each frame.

    Attributes:
        is_unfinished: whether a frame of it was made, and not the last one.
    """

    def __init__(
        self, extensions: Sequence[Extension], opcode: int, size: int | None, wanted: bool | None, masked: bool
    ) -> None:
        begun = [(extension, extension.encoder(opcode, size, wanted)) for extension in extensions]
        self._transforms = [transform for _, transform in begun if transform is not None]
        self._rsv = claimed(extension for extension, transform in begun if transform is not None)
        self.is_unfinished = False
        self._opcode = opcode
        self._masked = masked
        self._text = Utf8Validator() if opcode == Opcode.TEXT else None

    def frame(self, piece: bytes, final: bool) -> bytes | None:
        """The frame of the next piece, None if the extensions keep it for the next one.

        Raises:
            ValueError: text that is not UTF-8.
        """
        if self._text is not None:
            check_text(self._text, piece, final)
        payload = b"".join(through(self._transforms, piece, final))
        if not payload and not final:
            return None
        rsv1, rsv2, rsv3 = rsv_bits(self._rsv)
        key = fresh_mask_key() if self._masked else None
        frame = encode_frame(self._opcode, payload, fin=int(final), rsv1=rsv1, rsv2=rsv2, rsv3=rsv3, mask_key=key)
        self._opcode, self._rsv = Opcode.CONTINUATION, 0
        self.is_unfinished = not final
        return frame


def check_text(text: Utf8Validator, piece: bytes, final: bool) -> None:
    """Check the next piece of a text message; ValueError if it is not UTF-8."""
    try:
        text.feed(piece)
        if final:
            text.finish()
    except errors.ProtocolError as error:
        raise ValueError(f"payload of a text message: {error}") from None


def rsv_bits(rsv: int) -> tuple[int, int, int]:
    """Reserved bits as one number -> rsv1, rsv2, rsv3."""
    return int(bool(rsv & Rsv.RSV1)), int(bool(rsv & Rsv.RSV2)), int(bool(rsv & Rsv.RSV3))


def _rsv_of(item: Message | Chunk) -> int:
    return item.rsv1 * Rsv.RSV1 | item.rsv2 * Rsv.RSV2 | item.rsv3 * Rsv.RSV3
