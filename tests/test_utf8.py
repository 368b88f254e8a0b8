"""UTF-8 (RFC 3629), judged at the first bad byte: in the validator, and in the text of messages (RFC 6455 §8.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import pytest

from wslowlevel.errors import ProtocolError, Reason

from .vectors import KEY, WAYS, Way

TAIL = range(0x80, 0xC0)
FORMS = (
    (range(0x80),),
    (range(0xC2, 0xE0), TAIL),
    (range(0xE0, 0xE1), range(0xA0, 0xC0), TAIL),
    (range(0xE1, 0xED), TAIL, TAIL),
    (range(0xED, 0xEE), range(0x80, 0xA0), TAIL),
    (range(0xEE, 0xF0), TAIL, TAIL),
    (range(0xF0, 0xF1), range(0x90, 0xC0), TAIL, TAIL),
    (range(0xF1, 0xF4), TAIL, TAIL, TAIL),
    (range(0xF4, 0xF5), range(0x80, 0x90), TAIL, TAIL),
)
"""The bytes of a character, one line for each of RFC 3629 §4."""

GOOD = [
    *("", "a", "Hello", "κόσμε", "日本語", "👋🌍", "\0"),
    *("\x7f", "\x80", "\u07ff", "\u0800", "\u0fff", "\u1000", "\ud7ff", "\ue000", "\ufffd", "\ufffe", "\uffff"),
    *("\U00010000", "\U0003ffff", "\U00040000", "\U000fffff", "\U00100000", "\U0010ffff"),
]
BAD = [
    *("80", "bf", "fe", "ff", "c0", "c1", "f5", "f8", "fc"),  # never the first byte of a character
    *("c080", "c1bf", "e08080", "e09fbf", "f0808080", "f08fbfbf", "f880808080", "fc8080808080"),  # overlong
    *("eda080", "edafbf", "edb080", "edbfbf", "eda080edb080"),  # surrogates
    *("f4908080", "f4bfbfbf", "f5808080", "f7bfbfbf", "ffffffff"),  # above U+10FFFF
    *("c241", "c2c2", "e282", "e28241", "e282e2", "e241", "f09f98", "f09f9841", "f09f41", "f041"),  # cut short
    *("c2", "df", "e0", "e0a0", "ed", "ed9f", "ef", "f0", "f090", "f09080", "f4", "f48f", "f48fbf"),  # unfinished
    *("8080", "c28080", "e2828080", "f09f988080"),  # one byte more
]
SEQUENCES = [text.encode() for text in GOOD] + [bytes.fromhex(text) for text in BAD]


def first_bad(text: bytes) -> int | None:
    """The index of the first byte that cannot be part of any text; the length if it ends too early; None if it is good.

    Byte by byte, by the definition.
    """
    due: list[range] = []
    for i, octet in enumerate(text):
        if not due:
            due = next((list(form) for form in FORMS if octet in form[0]), [range(0)])
        if octet not in due.pop(0):
            return i
    return len(text) if due else None


def verdict(text: bytes) -> tuple[int, str]:
    """What a validator has to say: how many bytes are good, and the text of the error."""
    bad = first_bad(text)
    if bad is None:
        return len(text), ""
    if bad == len(text):
        return bad, f"text ends at byte {bad} inside a UTF-8 character (RFC 6455 §8.1)"
    return bad, f"invalid UTF-8 at byte {bad} of the text (RFC 6455 §8.1)"


def judge(codec: ModuleType, pieces: Iterable[bytes]) -> tuple[int, str]:
    """What a validator says."""
    validator = codec.Utf8Validator()
    try:
        for piece in pieces:
            validator.feed(piece)
        validator.finish()
    except ProtocolError as error:
        assert (error.reason, error.close_code) == (Reason.INVALID_UTF8, 1007)
        return validator.position, str(error)
    assert validator.complete
    return validator.position, ""


def singly(text: bytes) -> list[bytes]:
    return [text[i : i + 1] for i in range(len(text))]


class TestValidator:
    @pytest.mark.parametrize("sequence", SEQUENCES, ids=bytes.hex)
    def test_boundary_sequences(self, codec: ModuleType, sequence: bytes) -> None:
        """Alone and among other bytes, whole, byte by byte, and in every two pieces."""
        for before in (b"", b"a", "日".encode(), b"x" * 70):
            for after in (b"", b"a", "日".encode(), b"\x80"):
                text = before + sequence + after
                assert (verdict(text)[1] == "") == is_good(text)
                cuts = [(text[:cut], text[cut:]) for cut in range(len(text) + 1)]
                assert {judge(codec, pieces) for pieces in ([text], singly(text), *cuts)} == {verdict(text)}

    def test_every_pair_of_bytes(self, codec: ModuleType) -> None:
        validator = codec.Utf8Validator()
        for first in range(256):
            for second in range(256):
                text = bytes((first, second))
                assert fails_at(validator, text) == first_bad(text), text.hex()

    def test_every_second_and_third_byte(self, codec: ModuleType) -> None:
        validator = codec.Utf8Validator()
        edges = (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF)
        for first in range(0xC0, 0x100):
            for second, third, fourth in ((b, c, d) for b in edges for c in edges for d in edges):
                text = bytes((first, second, third, fourth))
                assert fails_at(validator, text) == first_bad(text), text.hex()

    @pytest.mark.parametrize("bad", [b"\x80", b"\xff", b"\xc0", b"\xed\xa0", b"\xf4\x90"])
    def test_long_text_with_a_bad_byte_anywhere(self, codec: ModuleType, bad: bytes) -> None:
        validator = codec.Utf8Validator()
        for position in range(201):
            for filler in (b"a" * 400, "é".encode() * 200):
                text = filler[: position & ~1 if filler[0] > 0x7F else position]
                expected = len(text) + len(bad) - 1
                assert fails_at(validator, text + bad + filler) == expected

    def test_state(self, codec: ModuleType) -> None:
        validator = codec.Utf8Validator()
        assert (validator.position, validator.complete) == (0, True)
        for octet, complete in zip("a€".encode(), (True, False, False, True), strict=True):
            validator.feed(bytes([octet]))
            assert validator.complete is complete
        assert validator.position == 4
        validator.feed(b"")
        validator.finish()
        validator.feed(b"and on")
        assert validator.position == 10

    def test_dead_after_a_failure_until_reset(self, codec: ModuleType) -> None:
        validator = codec.Utf8Validator()
        errors = []
        for call in (lambda: validator.feed(b"a\xff"), lambda: validator.feed(b"a"), validator.finish):
            with pytest.raises(ProtocolError) as caught:
                call()
            errors.append(caught.value)
        assert errors[0] is errors[1] is errors[2]
        assert validator.position == 1
        validator.reset()
        assert (validator.position, validator.complete) == (0, True)
        validator.feed(b"fine")
        validator.finish()

    def test_dead_after_an_unfinished_end(self, codec: ModuleType) -> None:
        validator = codec.Utf8Validator()
        validator.feed(b"\xe2\x82")
        for call in (validator.finish, lambda: validator.feed(b"\xac"), validator.finish):
            with pytest.raises(ProtocolError, match="ends at byte 2 inside a UTF-8 character"):
                call()

    def test_reset_forgets_an_unfinished_character(self, codec: ModuleType) -> None:
        validator = codec.Utf8Validator()
        validator.feed(b"\xe2")
        validator.reset()
        validator.feed(b"a")
        validator.finish()
        assert validator.position == 1

    @pytest.mark.parametrize("data", ["text", 1, None, memoryview(b"abcd")[::2]])
    def test_wrong_arguments(self, codec: ModuleType, data: object) -> None:
        with pytest.raises((TypeError, ValueError), match=r"^data must be"):
            codec.Utf8Validator().feed(data)


def is_good(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def fails_at(validator: Any, text: bytes) -> int | None:
    """The index of the bad byte, fed whole."""
    validator.reset()
    try:
        validator.feed(text)
        validator.finish()
    except ProtocolError:
        return int(validator.position)
    return None


class TestBlocks:
    """Long text, which the compiled codec looks at in blocks: by every kernel, with every sequence at every place."""

    FILLERS = ("a", "é", "日", "👋", "aé日👋", "a" * 130 + "é")
    AFTER = b"a" + "é日👋".encode() * 25 + b"a" * 140
    """Its first byte ends every sequence, whatever was due."""

    @pytest.mark.parametrize("filler", FILLERS)
    def test_whole(self, codec: ModuleType, kernels: Iterator[str], filler: str) -> None:
        places = [(filler * 140)[:count].encode() for count in range(140)]
        for kernel in kernels:
            validator = codec.Utf8Validator()
            for sequence in SEQUENCES:
                bad = first_bad(sequence + b"a")
                for before in places:
                    expected = None if bad is None else len(before) + bad
                    text = before + sequence + self.AFTER
                    assert fails_at(validator, text) == expected, (kernel, sequence.hex(), len(before))

    @pytest.mark.parametrize("sequence", SEQUENCES, ids=bytes.hex)
    def test_in_two_pieces(self, codec: ModuleType, kernels: Iterator[str], sequence: bytes) -> None:
        """Cut inside and around the sequence, each piece long enough for blocks."""
        for kernel in kernels:
            for before in (b"", b"x", "日本語".encode() * 20, b"x" * 150):
                text = before + sequence + self.AFTER
                cuts = range(max(len(before) - 3, 0), len(before) + len(sequence) + 4)
                judged = {judge(codec, (text[:cut], text[cut:])) for cut in cuts}
                assert judged == {verdict(text)}, (kernel, len(before))

    @pytest.mark.parametrize("sequence", SEQUENCES, ids=bytes.hex)
    def test_at_the_end(self, codec: ModuleType, kernels: Iterator[str], sequence: bytes) -> None:
        for kernel in kernels:
            for count in range(140):
                for filler in (b"x", "日".encode()):
                    text = filler * count + sequence
                    bad = first_bad(sequence)
                    expected = None if bad is None else bad + len(filler) * count
                    assert fails_at(codec.Utf8Validator(), text) == expected, (kernel, count)

    @pytest.mark.parametrize("size", [63, 64, 65, 71, 72, 100, 127, 128, 129, 191, 200])
    def test_alone_in_ascii(self, codec: ModuleType, kernels: Iterator[str], size: int) -> None:
        for kernel in kernels:
            for place in range(size - 1):
                for sequence, bad in ((b"\xff", place), ("é".encode(), None), (b"\xc3", place + 1)):
                    text = (b"x" * place + sequence).ljust(size, b"x")
                    assert fails_at(codec.Utf8Validator(), text) == bad, (kernel, place)


class TestMessages:
    TEXT = "aé€👋z".encode()

    @pytest.mark.parametrize("name", ["FrameDecoder", "MessageDecoder"])
    @pytest.mark.parametrize("way", WAYS)
    def test_split_at_every_byte(self, codec: ModuleType, name: str, way: Way) -> None:
        data = codec.encode_frame(1, self.TEXT, mask_key=KEY)
        for cut in range(len(data)):
            decoder = getattr(codec, name)(role="server")
            assert [item.payload for piece in (data[:cut], data[cut:]) for item in way(decoder, piece)] == [self.TEXT]

    def test_split_at_every_fragment_border(self, codec: ModuleType) -> None:
        for first in range(len(self.TEXT) + 1):
            for second in range(first, len(self.TEXT) + 1):
                decoder = codec.MessageDecoder(role="client")
                decoder.feed(codec.encode_frame(1, self.TEXT[:first], fin=0))
                decoder.feed(codec.encode_frame(0, self.TEXT[first:second], fin=0) + codec.encode_frame(9, b"\xff"))
                assert decoder.feed(codec.encode_frame(0, self.TEXT[second:])) == [codec.Message(1, self.TEXT)]

    @pytest.mark.parametrize("name", ["FrameDecoder", "MessageDecoder"])
    @pytest.mark.parametrize("sequence", [bytes.fromhex(text) for text in BAD], ids=bytes.hex)
    def test_a_bad_byte_fails_at_once(self, codec: ModuleType, name: str, sequence: bytes) -> None:
        """In the middle of a frame that is not complete, whatever would follow."""
        text = b"ok" + sequence + b"."
        bad = first_bad(text)
        assert bad is not None
        decoder = getattr(codec, name)(role="server")
        data = codec.encode_frame(1, text + b"the rest", mask_key=KEY)
        start = len(data) - len(text) - len(b"the rest")
        assert decoder.feed(data[: start + bad]) == []
        with pytest.raises(ProtocolError, match=f"invalid UTF-8 at byte {bad} ") as caught:
            decoder.feed(data[start + bad : start + bad + 1])
        assert (caught.value.reason, caught.value.close_code) == (Reason.INVALID_UTF8, 1007)

    @pytest.mark.parametrize("name", ["FrameDecoder", "MessageDecoder"])
    def test_a_bad_byte_at_a_fragment_border(self, codec: ModuleType, name: str) -> None:
        decoder = getattr(codec, name)(role="client")
        decoder.feed(codec.encode_frame(1, b"a\xe2\x82", fin=0) + codec.encode_header(0, 5))
        with pytest.raises(ProtocolError, match="invalid UTF-8 at byte 3 "):
            decoder.feed(b"a")

    @pytest.mark.parametrize("name", ["FrameDecoder", "MessageDecoder"])
    @pytest.mark.parametrize("text", [bytes.fromhex(text) for text in ("c2", "e282", "f09f98")], ids=bytes.hex)
    def test_a_message_may_not_end_inside_a_character(self, codec: ModuleType, name: str, text: bytes) -> None:
        decoder = getattr(codec, name)(role="client")
        decoder.feed(codec.encode_frame(1, text, fin=0))
        with pytest.raises(ProtocolError, match=f"text ends at byte {len(text)} inside"):
            decoder.feed(codec.encode_frame(0, b""))

    @pytest.mark.parametrize("rsv", ["rsv1", "rsv2", "rsv3"])
    def test_text_under_a_reserved_bit_is_not_checked(self, codec: ModuleType, rsv: str) -> None:
        decoder = codec.MessageDecoder(role="client", allow_rsv=7)
        data = codec.encode_frame(1, b"\xff", fin=0, **{rsv: 1}) + codec.encode_frame(0, b"\xc0")
        assert decoder.feed(data) == [codec.Message(1, b"\xff\xc0", **{rsv: 1})]
        with pytest.raises(ProtocolError, match="invalid UTF-8 at byte 0 "):  # the next message is text again
            decoder.feed(codec.encode_frame(1, b"\xff"))

    def test_the_next_message_starts_afresh(self, codec: ModuleType) -> None:
        decoder = codec.MessageDecoder(role="client")
        decoder.feed(codec.encode_frame(1, self.TEXT) * 3)
        with pytest.raises(ProtocolError, match="invalid UTF-8 at byte 1 "):
            decoder.feed(codec.encode_frame(1, b"a\x80"))
