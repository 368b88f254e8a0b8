"""Who owns which memory: nothing that was handed out changes, and nothing that is lent is freed."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

import pytest

from wslowlevel.errors import WebSocketError
from wslowlevel.wire import MAX_READ_SIZE, READ_SIZE

from .conftest import Both
from .vectors import COUNTERS, DECODERS, KEY, WAYS, Way, feed, patterned, receive, whole

EACH_DECODER = pytest.mark.parametrize("name", DECODERS)
BOTH_WAYS = pytest.mark.parametrize("way", WAYS)
MIB = 1024 * 1024


def payloads(items: list[Any]) -> list[bytes]:
    return [item.payload for item in whole(items)]


def most_lent(codec: ModuleType) -> int:
    """Bytes that a decoder of the backend lends at most."""
    return READ_SIZE if codec.kernel() == "python" else MAX_READ_SIZE


def masked_frame(codec: ModuleType, opcode: int, payload: bytes, fin: int = 1) -> bytes:
    return bytes(codec.encode_frame(opcode, payload, fin=fin, mask_key=KEY))


class TestOwnership:
    @EACH_DECODER
    @BOTH_WAYS
    def test_payloads_outlive_their_decoder(self, codec: ModuleType, name: str, way: Way) -> None:
        sent = [patterned(size) for size in (0, 1, 125, 126, 5000, READ_SIZE, 300_000, MIB)]
        stream = b"".join(masked_frame(codec, 2, payload) + masked_frame(codec, 9, payload[:125]) for payload in sent)
        decoder = getattr(codec, name)(role="server")
        items = [item for at in range(0, len(stream), 40_000) for item in way(decoder, stream[at : at + 40_000])]
        del decoder
        scribble()
        assert payloads(items) == [each for payload in sent for each in (payload, payload[:125])]

    @EACH_DECODER
    def test_lent_views_outlive_their_decoder(self, codec: ModuleType, name: str) -> None:
        decoder = getattr(codec, name)(role="server")
        stream, views, items = masked_frame(codec, 2, patterned(MIB)), [], []
        while stream:
            views.append(decoder.get_buffer())
            size = min(len(views[-1]), len(stream))
            views[-1][:size] = stream[:size]
            items += decoder.buffer_updated(size)
            stream = stream[size:]
        assert payloads(items) == [patterned(MIB)]
        del decoder, items
        scribble()
        for view in views:
            assert len(view.tobytes()) == len(view)
            view[:] = b"\x5a" * len(view)
            assert view.tobytes() == b"\x5a" * len(view)

    @EACH_DECODER
    def test_a_changed_source_changes_no_message(self, codec: ModuleType, name: str) -> None:
        decoder = getattr(codec, name)(role="client")
        payload = patterned(2 * READ_SIZE)
        source = bytearray(codec.encode_frame(2, payload) + codec.encode_frame(9, b"ping"))
        items = decoder.feed(memoryview(source)[:1000])
        source[:1000] = bytes(1000)
        items += decoder.feed(memoryview(source)[1000:])
        source[:] = bytes(len(source))
        source.append(0)  # a BufferError while the decoder holds it
        assert payloads(items) == [payload, b"ping"]

    @EACH_DECODER
    def test_a_source_is_not_changed(self, codec: ModuleType, name: str) -> None:
        source = bytearray(masked_frame(codec, 2, patterned(3000)))
        before = bytes(source)
        getattr(codec, name)(role="server").feed(source)
        assert source == before

    @EACH_DECODER
    def test_a_reused_buffer_changes_no_message(self, codec: ModuleType, name: str) -> None:
        decoder = getattr(codec, name)(role="server")
        items = []
        for i in range(200):
            items += receive(decoder, masked_frame(codec, 2, bytes([i]) * 100))
        assert payloads(items) == [bytes([i]) * 100 for i in range(200)]

    def test_text_is_of_the_payload(self, codec: ModuleType) -> None:
        (message,) = codec.MessageDecoder(role="server").feed(masked_frame(codec, 1, "häh".encode()))
        scribble()
        assert (message.text, message.payload) == ("häh", "häh".encode())


def scribble() -> None:
    """Collect what can be collected, and write over memory that was freed too early, if any was."""
    gc.collect()
    rubbish = [b"\xee" * size for size in (1, 40, 125, 200, 5040, READ_SIZE, 300_000, MIB) for _ in range(20)]
    del rubbish


class TestLending:
    @EACH_DECODER
    def test_sizes(self, codec: ModuleType, name: str) -> None:
        decoder = getattr(codec, name)(role="server")
        for hint in (-1, 0, 1, 65536, 2**63 - 1):
            assert len(decoder.get_buffer(hint)) == READ_SIZE
        decoder.feed(codec.encode_header(2, MIB, mask_key=KEY))
        before = MIB
        for remaining in (MIB, 300_000, MAX_READ_SIZE, MAX_READ_SIZE - 1, READ_SIZE + 1, READ_SIZE, READ_SIZE - 1, 1):
            decoder.feed(bytes(before - remaining))
            assert len(decoder.get_buffer()) == max(min(remaining, most_lent(codec)), READ_SIZE)
            before = remaining

    @pytest.mark.parametrize(
        ("size", "nbytes", "larger"),
        [
            (16_000, READ_SIZE, True),
            (1024, READ_SIZE, True),
            (1000, READ_SIZE, False),  # so many of them that each is short
            (125, READ_SIZE, False),
            (READ_SIZE, READ_SIZE, False),  # one, and not whole
            (16_000, READ_SIZE - 1, False),  # no more than came
        ],
    )
    @pytest.mark.parametrize("name", ["FrameDecoder", "MessageDecoder"])
    def test_a_full_read_of_a_few_messages_is_followed_by_a_larger_one(
        self, codec: ModuleType, name: str, size: int, nbytes: int, larger: bool
    ) -> None:
        decoder = getattr(codec, name)(role="server")
        frames = masked_frame(codec, 2, bytes(size)) * (READ_SIZE // size + 1)
        decoder.get_buffer()[:nbytes] = frames[:nbytes]
        decoder.buffer_updated(nbytes)
        assert len(decoder.get_buffer()) == (most_lent(codec) if larger else READ_SIZE)
        decoder.buffer_updated(0)
        assert len(decoder.get_buffer()) == READ_SIZE

    def test_a_view(self, codec: ModuleType) -> None:
        view = codec.MessageDecoder(role="server").get_buffer()
        assert (view.readonly, view.format, view.ndim, view.itemsize, view.c_contiguous) == (False, "B", 1, 1, True)

    @pytest.mark.parametrize("opcode", [1, 2])
    @EACH_DECODER
    def test_inside_a_large_payload(self, codec: ModuleType, name: str, opcode: int) -> None:
        payload = patterned(MIB) if opcode == 2 else "naïve ".encode() * (MIB // 7)
        decoder = getattr(codec, name)(role="server")
        assert payloads(receive(decoder, masked_frame(codec, opcode, payload))) == [payload]
        assert decoder.buffered == 0

    def test_the_memory_lent_is_that_of_the_payload(self, both: Both) -> None:
        """So that the compiled codec copies nothing."""
        decoder = both.cy.MessageDecoder(role="client")
        frame = both.cy.encode_frame(2, patterned(MIB))
        assert decoder.feed(frame[:-READ_SIZE]) == []
        view = decoder.get_buffer()
        view[:] = frame[-READ_SIZE:]
        start = ctypes.addressof(ctypes.c_char.from_buffer(view))
        (message,) = decoder.buffer_updated(READ_SIZE)
        end_of_payload = id(message.payload) + bytes.__basicsize__ - 1 + MIB
        assert start + READ_SIZE == end_of_payload
        assert message.payload == patterned(MIB)

    @EACH_DECODER
    def test_fragments_are_not_lent(self, codec: ModuleType, name: str) -> None:
        decoder = getattr(codec, name)(role="server", max_frame_size=None)
        parts = [patterned(300_000), patterned(200_000), patterned(100_000)]
        items = []
        for i, part in enumerate(parts):
            items += receive(decoder, masked_frame(codec, 2 if i == 0 else 0, part, fin=i == 2))
        assert payloads(items) == ([b"".join(parts)] if name == "MessageDecoder" else parts)

    @EACH_DECODER
    def test_taken_twice(self, codec: ModuleType, name: str) -> None:
        decoder = getattr(codec, name)(role="client")
        frame = codec.encode_frame(2, patterned(MIB))
        items = decoder.feed(frame[:-READ_SIZE])
        first, second = decoder.get_buffer(), decoder.get_buffer()
        first[:] = bytes(READ_SIZE)
        second[:] = frame[-READ_SIZE:]
        items += decoder.buffer_updated(READ_SIZE)
        assert payloads(items) == [patterned(MIB)]

    @EACH_DECODER
    def test_updated_in_part(self, codec: ModuleType, name: str) -> None:
        decoder = getattr(codec, name)(role="server")
        stream, items, size = masked_frame(codec, 2, patterned(MIB)), [], 1
        while stream:
            view = decoder.get_buffer()
            count = min(size, len(view), len(stream))
            view[:count] = stream[:count]
            items += decoder.buffer_updated(count)
            stream, size = stream[count:], size * 3
        assert payloads(items) == [patterned(MIB)]

    @EACH_DECODER
    def test_not_taken(self, codec: ModuleType, name: str) -> None:
        decoder = getattr(codec, name)(role="server")
        for _ in range(2):
            with pytest.raises(ValueError, match=r"buffer_updated\(\) without get_buffer\(\) before it"):
                decoder.buffer_updated(0)
            decoder.get_buffer()
            assert decoder.buffer_updated(0) == []

    @pytest.mark.parametrize("nbytes", [-1, READ_SIZE + 1, 2**64, 1.0, "1", None])
    @EACH_DECODER
    def test_wrong_counts(self, codec: ModuleType, name: str, nbytes: object) -> None:
        decoder = getattr(codec, name)(role="client")
        view = decoder.get_buffer()
        with pytest.raises((TypeError, ValueError), match=r"^nbytes must be"):
            decoder.buffer_updated(nbytes)
        view[:2] = b"\x89\x00"
        assert payloads(decoder.buffer_updated(2)) == [b""]

    @pytest.mark.parametrize("hint", [-2, 2**63, 1.0, "1", None])
    def test_wrong_hints(self, codec: ModuleType, hint: object) -> None:
        with pytest.raises((TypeError, ValueError), match=r"^hint must be"):
            codec.FrameDecoder(role="client").get_buffer(hint)

    @EACH_DECODER
    def test_feed_takes_the_view_back(self, codec: ModuleType, name: str) -> None:
        decoder = getattr(codec, name)(role="client")
        frame = codec.encode_frame(2, patterned(MIB))
        items = decoder.feed(frame[:1000])
        view = decoder.get_buffer()
        items += decoder.feed(frame[1000:2000])
        view[:] = bytes(len(view))
        with pytest.raises(ValueError, match="without get_buffer"):
            decoder.buffer_updated(1)
        decoder.get_buffer()
        items += decoder.feed(frame[2000:])
        assert payloads(items)[0][1996:] == patterned(MIB)[1996:]

    @pytest.mark.parametrize("start", [0, 1, 3, 64, 1000])
    @pytest.mark.parametrize("key", [None, KEY])
    @EACH_DECODER
    def test_feed_takes_the_view_itself(self, codec: ModuleType, name: str, start: int, key: bytes | None) -> None:
        """As any other buffer: whatever part of it."""
        decoder = getattr(codec, name)(role="client" if key is None else "server")
        frame = codec.encode_frame(2, patterned(300_000), mask_key=key)
        items = decoder.feed(frame[:1000])
        view = decoder.get_buffer()
        view[start : start + 60_000] = frame[1000:61_000]
        items += decoder.feed(view[start : start + 60_000])
        items += decoder.feed(frame[61_000:])
        assert payloads(items) == [patterned(300_000)]


class TestReentrancy:
    """Python code that runs inside a call, and comes back: at worst a RuntimeError, never a crash."""

    @EACH_DECODER
    def test_an_integer_that_feeds(self, codec: ModuleType, name: str) -> None:
        decoder = getattr(codec, name)(role="client")
        frame = codec.encode_frame(2, patterned(300_000))
        decoder.feed(frame[:1000])
        decoder.get_buffer()[:5000] = frame[2000:7000]
        assert outcome(lambda: decoder.buffer_updated(Count(5000, lambda: decoder.feed(frame[1000:2000])))) in SETTLED
        scribble()
        assert outcome(lambda: decoder.feed(frame[:100])) in SETTLED

    @EACH_DECODER
    def test_an_integer_that_lends(self, codec: ModuleType, name: str) -> None:
        decoder = getattr(codec, name)(role="client")
        decoder.feed(codec.encode_frame(2, patterned(300_000))[:1000])
        decoder.get_buffer()
        assert outcome(lambda: decoder.buffer_updated(Count(5000, decoder.get_buffer))) in SETTLED
        assert outcome(lambda: decoder.get_buffer(Count(1, decoder.get_buffer))) in SETTLED
        assert outcome(lambda: decoder.get_buffer(Count(1, lambda: decoder.feed(b"x" * 299_003)))) in SETTLED
        scribble()

    @EACH_DECODER
    def test_the_same_in_both(self, both: Both, name: str) -> None:
        def story(codec: ModuleType) -> list[object]:
            decoder = getattr(codec, name)(role="client")
            frame = codec.encode_frame(2, patterned(300_000))
            decoder.feed(frame[:1000])
            decoder.get_buffer()[:5000] = frame[2000:7000]
            return [
                outcome(lambda: decoder.buffer_updated(Count(5000, lambda: decoder.feed(frame[1000:2000])))),
                decoder.buffered,
                decoder.bytes_received,
                repr(decoder.error),
            ]

        assert story(both.py) == story(both.cy)

    @EACH_DECODER
    def test_a_finaliser_that_feeds(self, codec: ModuleType, name: str) -> None:
        decoder = getattr(codec, name)(role="client", max_fragments=None)
        seen: set[str] = set()
        frames = codec.encode_frame(2, b"x") + codec.encode_frame(1, "ü".encode(), fin=0) + codec.encode_frame(0, b"")
        with eager_collection():
            for _ in range(300):
                Cycle(lambda: seen.add(outcome(lambda: decoder.feed(b""))))
                Cycle(lambda: seen.add(outcome(decoder.get_buffer)))
                assert len(decoder.feed(frames)) == (2 if name == "MessageDecoder" else 3)
            gc.collect()
        assert seen
        assert seen <= SETTLED

    @EACH_DECODER
    def test_a_finaliser_that_lends(self, codec: ModuleType, name: str) -> None:
        decoder = getattr(codec, name)(role="client")
        views = []
        with eager_collection():
            for _ in range(100):
                Cycle(decoder.get_buffer)
                views.append(decoder.get_buffer())
                views[-1][:] = b"\xaa" * len(views[-1])
        scribble()
        assert all(bytes(view) == b"\xaa" * len(view) for view in views)

    if sys.version_info >= (3, 12):

        @EACH_DECODER
        def test_an_exporter_that_feeds(self, codec: ModuleType, name: str) -> None:
            decoder = getattr(codec, name)(role="client")
            frame = codec.encode_frame(2, patterned(300_000))
            seen: set[str] = set()
            decoder.feed(frame[:1000])
            for when in ("before", "after"):
                decoder.get_buffer()
                exporter = Exporter(b"y" * 2000, when, lambda: seen.add(outcome(lambda: decoder.feed(b"z" * 1000))))
                assert outcome(partial(decoder.feed, exporter)) in SETTLED
            scribble()
            assert decoder.bytes_received == 1000 + 2 * 3000
            assert seen == {"done"}

        def test_an_exporter_that_ends_the_message(self, codec: ModuleType) -> None:
            decoder = codec.MessageDecoder(role="client")
            frame = codec.encode_frame(2, patterned(100_000))
            decoder.feed(frame[:10_000])
            decoder.get_buffer()
            inner: list[Any] = []
            exporter = Exporter(frame[:10_000], "before", lambda: inner.extend(decoder.feed(frame[10_000:])))
            assert decoder.feed(exporter) == []
            scribble()
            assert payloads(inner) == [patterned(100_000)]
            assert payloads(decoder.feed(frame[10_000:])) == [patterned(100_000)]


SETTLED = {"done", "RuntimeError", "ValueError", "ProtocolError"}


def outcome(call: Callable[[], object]) -> str:
    try:
        call()
    except (RuntimeError, ValueError, WebSocketError) as error:
        return type(error).__name__
    return "done"


class Count:
    """An integer that runs something when it is asked for its value."""

    def __init__(self, value: int, action: Callable[[], object]) -> None:
        self.value = value
        self.action = action

    def __index__(self) -> int:
        self.action()
        return self.value


class Cycle:
    """Rubbish that only the collector finds, and that runs something when it does."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.itself = self
        self.action = action

    def __del__(self) -> None:
        self.action()


class Exporter:
    """A buffer that runs something before it is lent, or after it came back."""

    def __init__(self, data: bytes, when: str, action: Callable[[], object]) -> None:
        self.data = data
        self.when = when
        self.action = action

    def __buffer__(self, flags: int) -> memoryview:
        if self.when == "before":
            self.action()
        return memoryview(self.data)

    def __release_buffer__(self, view: memoryview) -> None:
        view.release()
        if self.when == "after":
            self.action()


@contextmanager
def eager_collection() -> Iterator[None]:
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)


@EACH_DECODER
@BOTH_WAYS
def test_threads_hammering_one_decoder(codec: ModuleType, name: str, way: Way) -> None:
    """One call at a time is the rule; who breaks it gets an error, or rubbish, but keeps the interpreter."""
    decoder = [getattr(codec, name)(role="server")]
    chunk = b"".join(masked_frame(codec, 2, patterned(size)) for size in (0, 10, 70_000)) + masked_frame(codec, 1, b"t")
    unexpected: list[BaseException] = []
    rounds: list[int] = []

    def hammer(size: int) -> None:
        try:
            for i in range(150):
                at = i * size % len(chunk)
                if outcome(partial(way, decoder[0], chunk[at : at + size])) == "ProtocolError":
                    decoder[0] = getattr(codec, name)(role="server")
                rounds.append(i)
        except BaseException as error:  # noqa: BLE001
            unexpected.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=hammer, args=(size,)) for size in (7, 1000, 66_000, len(chunk))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert unexpected == []
    assert len(rounds) == 4 * 150


def test_feed_is_what_the_others_are_compared_with(codec: ModuleType) -> None:
    stream = masked_frame(codec, 2, patterned(READ_SIZE * 3 + 5)) * 2
    assert feed(codec.MessageDecoder(role="server"), stream) == receive(codec.MessageDecoder(role="server"), stream)


@EACH_DECODER
def test_a_second_init_begins_a_new_stream(codec: ModuleType, name: str) -> None:
    decoder = getattr(codec, name)(role="server")
    decoder.feed(codec.encode_frame(2, b"x" * 5000, fin=0, mask_key=b"mask") + b"\x80")
    decoder.__init__(role="server", max_message_size=10)
    assert (decoder.buffered, decoder.error, decoder.closed) == (0, None, False)
    assert [getattr(decoder, counter) for counter in COUNTERS] == [0] * len(COUNTERS)
    frame = codec.encode_frame(2, b"y" * 10, mask_key=b"mask")
    assert [item.payload for item in decoder.feed(frame)] == [b"y" * 10]
