"""Any bytes, any cuts, any arguments: both backends give the same objects, the same errors and the same leftovers."""

from __future__ import annotations

import array
import copy
import ctypes
import itertools
import re
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wslowlevel.errors import PayloadTooBig, ProtocolError, WebSocketError
from wslowlevel.wire import CLOSE_CODE_RANGES, READ_SIZE, Opcode

from .conftest import Both
from .vectors import COUNTERS, DECODERS, REFUSED, VECTORS, Decoder, naive_mask, patterned, whole

profile = settings(
    max_examples=500,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)

# -- Streams ----------------------------------------------------------------------------------------------------------

TEXTS = st.text(max_size=40).map(str.encode)
NEARLY_TEXTS = st.builds(lambda text, bad, rest: text + bad + rest, TEXTS, st.binary(max_size=4), TEXTS)
SIZES = st.sampled_from([0, 1, 2, 124, 125, 126, 127, 200, 300, 511, 512, 513, 65535, 65536, 150_000])
PAYLOADS = st.one_of(st.binary(max_size=60), TEXTS, NEARLY_TEXTS, SIZES.map(patterned))
KEYS = st.one_of(st.binary(min_size=4, max_size=4), st.just(bytes(4)))
FLIPS = st.one_of(st.builds(list[int]), st.lists(st.integers(0, 4000), max_size=2))
CLOSE_BORDERS = [code + step for pair in CLOSE_CODE_RANGES for code in pair for step in (-1, 0, 1)]
CLOSES = st.one_of(
    st.just(b""),
    st.builds(lambda code, reason: code.to_bytes(2, "big") + reason, st.sampled_from(CLOSE_BORDERS), NEARLY_TEXTS),
    st.binary(max_size=5),
)


def encoded(first: int, payload: bytes, key: bytes | None, form: int = 0) -> bytes:
    """A frame by the definition of RFC 6455 §5.2; of the forms of its length, the shortest one or a longer one."""
    mask = 0 if key is None else 0x80
    if form == 0 and len(payload) < 126:
        length = bytes([mask | len(payload)])
    elif form <= 1 and len(payload) < 65536:
        length = bytes([mask | 126]) + len(payload).to_bytes(2, "big")
    else:
        length = bytes([mask | 127]) + len(payload).to_bytes(8, "big")
    return bytes([first]) + length + (payload if key is None else key + masked(payload, key))


def masked(payload: bytes, key: bytes) -> bytes:
    return naive_mask(payload, key) if len(payload) < 1000 else quickly_masked(payload, key)


def quickly_masked(payload: bytes, key: bytes) -> bytes:
    keys = (key * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(keys, "big")).to_bytes(len(payload), "big")


@st.composite
def messages(draw: st.DrawFn, role: str) -> bytes:
    """A message, in fragments with control frames between them, as the peer of this role sends it."""

    def frame(first: int, payload: bytes) -> bytes:
        return encoded(first, payload, draw(KEYS) if role == "server" else None)

    opcode, payload = draw(st.one_of(st.tuples(st.just(1), TEXTS), st.tuples(st.sampled_from([1, 2]), PAYLOADS)))
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
    fragments = [payload[start:end] for start, end in itertools.pairwise([0, *cuts, len(payload)])]
    frames = []
    for i, fragment in enumerate(fragments):
        frames.append(frame((0x80 if i == len(fragments) - 1 else 0) | (0 if i else opcode), fragment))
        if draw(st.integers(0, 3)) == 0:
            frames.append(frame(draw(st.sampled_from([0x89, 0x8A])), draw(st.binary(max_size=125))))
    return b"".join(frames)


@st.composite
def any_frames(draw: st.DrawFn, role: str) -> bytes:
    """A frame that may break a rule or two."""
    opcode = draw(st.sampled_from([0, 1, 2, 8, 9, 10] * 2 + [3, 11, 15]))
    fin = draw(st.sampled_from([0x80] * 3 + [0]))
    rsv = draw(st.sampled_from([0] * 12 + [0x40, 0x20, 0x10, 0x70]))
    key = draw(KEYS) if (role == "server") ^ (draw(st.integers(0, 9)) == 0) else None
    form = draw(st.sampled_from([0] * 6 + [1, 2]))
    return encoded(fin | rsv | opcode, draw(CLOSES if opcode == 8 else PAYLOADS), key, form)


def streams(role: str) -> st.SearchStrategy[bytes]:
    table = [vector.data for vector in VECTORS if vector.role == role and len(vector.data) < 300]
    part = st.one_of(*[messages(role)] * 3, any_frames(role), st.sampled_from(table), st.binary(max_size=20))
    return st.builds(flipped, st.lists(part, max_size=6).map(b"".join), FLIPS)


def flipped(data: bytes, flips: list[int]) -> bytes:
    """The stream with some of its bits changed."""
    changed = bytearray(data)
    for flip in flips if data else []:
        changed[flip // 8 % len(data)] ^= 1 << flip % 8
    return bytes(changed)


LIMIT_VALUES = (None, 0, 1, 2, 3, 10, 125, 126, 300, 65535, 2**63 - 1)
LIMITS = st.one_of(st.none(), st.sampled_from(LIMIT_VALUES))


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of a decoder; of each optional one, more often than not the default."""
    optional: dict[str, st.SearchStrategy[Any]] = {
        "strict": st.booleans(),
        "require_mask": st.booleans(),
        "max_message_size": LIMITS,
        "max_frame_size": LIMITS,
        "max_fragments": LIMITS,
        "allow_rsv": st.integers(0, 7),
    }
    chosen = {name: draw(values) for name, values in optional.items() if draw(st.integers(0, 3)) == 0}
    return {"role": draw(st.sampled_from(["server", "client"])), **chosen}


class Step(NamedTuple):
    """How much of the stream comes next, and how it is handed over."""

    size: int
    way: str


STEPS = st.lists(
    st.builds(
        Step,
        st.one_of(st.integers(0, 20), st.integers(0, 300), st.sampled_from([1, 65536, 70_000, 10**6])),
        st.sampled_from(["feed", "feed a bytearray", "feed a view", "receive", "receive", "lend and feed"]),
    ),
    max_size=12,
)


class Judged(NamedTuple):
    """Everything that can be seen of a decoder after a step."""

    result: object
    error: object
    closed: bool
    buffered: int
    counters: tuple[int, ...]


def counters(decoder: Decoder) -> tuple[int, ...]:
    return tuple(getattr(decoder, name) for name in COUNTERS)


def described(error: BaseException | None) -> object:
    if isinstance(error, ProtocolError):
        return type(error), str(error), error.reason, error.close_code
    if isinstance(error, PayloadTooBig):
        return type(error), str(error), error.reason, error.close_code, error.size, error.limit
    return None if error is None else (type(error), str(error))


def attempt(call: Callable[[], object]) -> object:
    """What a call gives, or what it raises, in a form that can be compared across backends."""
    try:
        result = repr(call())
        return result if len(result) < 2000 else hash(result)
    except (WebSocketError, TypeError, ValueError, RuntimeError) as error:
        return described(error)


def handed_over(decoder: Decoder, piece: bytes, way: str) -> object:
    """The result of a step."""
    if way == "feed":
        return attempt(lambda: decoder.feed(piece))
    if way == "feed a bytearray":
        return attempt(lambda: decoder.feed(bytearray(piece)))
    if way == "feed a view":
        return attempt(lambda: decoder.feed(memoryview(b"before" + piece + b"after")[6 : 6 + len(piece)]))
    if way == "lend and feed":
        decoder.get_buffer()
        return attempt(lambda: decoder.feed(piece))
    results = []
    for start in range(0, len(piece) + 1, READ_SIZE):  # what each backend lends, while the compiled one may lend more
        part = piece[start : start + READ_SIZE]
        decoder.get_buffer()[: len(part)] = part
        results.append(attempt(partial(decoder.buffer_updated, len(part))))
    return results


def story(codec: ModuleType, name: str, arguments: dict[str, Any], stream: bytes, steps: list[Step]) -> list[Judged]:
    """All that a decoder says to a stream: one entry a step, and some after the stream's end."""
    decoder = getattr(codec, name)(**arguments)
    judged = []
    for size, way in [*steps, Step(len(stream), "feed"), Step(0, "receive")]:
        result = handed_over(decoder, stream[:size], way)
        stream = stream[size:]
        error = described(decoder.error)
        judged.append(Judged(result, error, decoder.closed, decoder.buffered, counters(decoder)))
    return judged


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, Any], bytes, list[Step]]:
    arguments = draw(options())
    return arguments, draw(streams(arguments["role"])), draw(STEPS)


@pytest.mark.parametrize("name", DECODERS)
@profile
@given(case=cases())
def test_streams(both: Both, name: str, case: tuple[dict[str, Any], bytes, list[Step]]) -> None:
    assert story(both.py, name, *case) == story(both.cy, name, *case)


@profile
@given(stream=st.binary(max_size=200), arguments=options(), steps=STEPS)
def test_random_bytes(both: Both, stream: bytes, arguments: dict[str, Any], steps: list[Step]) -> None:
    for name in DECODERS:
        assert story(both.py, name, arguments, stream, steps) == story(both.cy, name, arguments, stream, steps)


@profile
@given(stream=streams("server"), steps=STEPS)
def test_cuts_change_nothing(both: Both, stream: bytes, steps: list[Step]) -> None:
    """However a stream is cut, it says the same in the end."""
    for codec, name in itertools.product(both, DECODERS):
        ends = []
        for cuts in (steps, []):
            decoder, rest = getattr(codec, name)(role="server"), stream
            items = []
            for size, _ in [*cuts, Step(len(stream), "feed")]:
                items += fed(decoder, rest[:size])
                rest = rest[size:]
            ends.append((whole(items), described(decoder.error), decoder.closed, counters(decoder)))
        assert ends[0] == ends[1]


def fed(decoder: Decoder, piece: bytes) -> list[Any]:
    try:
        return decoder.feed(piece)
    except WebSocketError:
        return []


@profile
@given(data=st.binary(max_size=20), offset=st.integers(0, 20))
def test_headers(both: Both, data: bytes, offset: int) -> None:
    for piece in (data, *(vector.data[:14] for vector in REFUSED[::7])):
        headers = [attempt(partial(codec.parse_header, piece, offset)) for codec in both]
        assert headers[0] == headers[1]


@profile
@given(pieces=st.lists(NEARLY_TEXTS, max_size=5), flips=FLIPS)
def test_utf8(both: Both, pieces: list[bytes], flips: list[int]) -> None:
    pieces = [flipped(piece, flips) for piece in pieces]

    def verdicts(codec: ModuleType) -> list[object]:
        validator = codec.Utf8Validator()
        steps = [*(partial(validator.feed, piece) for piece in pieces), validator.finish]
        return [(attempt(step), validator.position, validator.complete) for step in steps]

    assert verdicts(both.py) == verdicts(both.cy)


# -- Arguments --------------------------------------------------------------------------------------------------------


class Index:
    """An integer by its __index__ alone."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value

    def __repr__(self) -> str:
        return f"Index({self.value})"


class Broken:
    """An integer that fails."""

    def __index__(self) -> int:
        raise ValueError("broken")

    def __repr__(self) -> str:
        return "Broken()"


CONSTANTS: list[object] = [
    *(None, True, False, Opcode.PING, 1.0, float("nan"), "", "text", "x" * 100, "server", "client", (), object),
    *(-1, 0, 1, 2, 3, 4, 15, 16, 125, 65536, 10**30, -(10**30)),
    *(2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1),
    *(b"", b"abcd", b"abc", b"abcde", b"\x82\x00", b"\x81\x01\xff", b"x" * 600),
]
VALUES: list[Callable[[], object]] = [
    *(partial(copy.copy, value) for value in CONSTANTS),
    lambda: [1, 2, 3, 4],
    lambda: {"a": 1},
    lambda: Index(1),
    lambda: Index(2**70),
    Broken,
    lambda: bytearray(b"abcd"),
    lambda: bytearray(600),
    lambda: memoryview(b"abcd"),
    lambda: memoryview(bytearray(b"abcd")),
    lambda: memoryview(bytearray(b"abcdefgh"))[::2],
    lambda: memoryview(b"abcd")[::-1],
    lambda: memoryview(b"abcdefgh")[::2],
    lambda: memoryview(bytearray(8)).cast("B", (2, 4)),
    lambda: memoryview(bytes(8)).cast("H"),
    lambda: memoryview(bytearray(8)).cast("I", (1, 2)),
    lambda: array.array("I", [1]),
    lambda: array.array("d", [1.0, 2.0]),
    lambda: (ctypes.c_ubyte * 4)(1, 2, 3, 4),
    ctypes.c_uint32 * 2 * 2,
    lambda: ctypes.c_int(5),
]

FLAGS = ("message_started", "frame_started", "frame_finished", "message_finished")
ANY = st.sampled_from(VALUES)
SOME = {
    "opcode": st.integers(0, 15),
    "payload_length": st.sampled_from([0, 125, 126, 65536, 2**63 - 1]),
    "payload": st.binary(max_size=10),
    "mask_key": st.one_of(st.none(), st.binary(min_size=4, max_size=4)),
    "key": st.binary(min_size=4, max_size=4),
    "data": st.binary(max_size=10),
    "frame": st.builds(bytes.__add__, st.sampled_from([b"\x81\x80", b"\x82\xfe", b"\x89"]), st.binary(max_size=10)),
    "buffer": st.binary(max_size=10),
    "offset": st.integers(0, 10),
    "role": st.sampled_from(["server", "client"]),
    "hint": st.integers(-1, 100),
    "nbytes": st.integers(0, 100),
    **{name: st.integers(0, 1) for name in ("fin", "rsv1", "rsv2", "rsv3", "mask", *FLAGS)},
    **{name: st.booleans() for name in ("strict", "require_mask", "is_utf8")},
    **dict.fromkeys(("max_message_size", "max_frame_size", "max_fragments"), LIMITS),
    "allow_rsv": st.integers(0, 7),
}
BITS = ("fin", "rsv1", "rsv2", "rsv3", "mask_key")
LIMITED = ("strict", "require_mask", "max_message_size", "max_frame_size", "max_fragments", "allow_rsv")
CALLS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "apply_mask": (("data", "key"), ("offset",)),
    "apply_mask_inplace": (("buffer", "key"), ("offset",)),
    "parse_header": (("buffer",), ("offset",)),
    "encode_header": (("opcode", "payload_length"), BITS),
    "encode_frame": (("opcode", "payload"), BITS),
    "prepare_websocket_frame": (("payload",), ("is_utf8", "opcode", *BITS)),
    "Header": (("opcode", "payload_length"), BITS),
    "Frame": (("opcode", "payload"), BITS),
    "Message": (("opcode", "payload"), ("rsv1", "rsv2", "rsv3", "mask")),
    "Chunk": (("opcode", "payload"), (*FLAGS, "rsv1", "rsv2", "rsv3", "mask")),
    "Utf8Validator.feed": (("data",), ()),
    "Endpoint": (("role",), ()),
    "Endpoint.passes": (("frame",), ()),
    **dict.fromkeys(DECODERS, (("role",), LIMITED)),
    **{f"{name}.feed": (("data",), ()) for name in DECODERS},
    **{f"{name}.get_buffer": ((), ("hint",)) for name in DECODERS},
    **{f"{name}.buffer_updated": (("nbytes",), ()) for name in DECODERS},
}
"""For each thing that can be called: what it must have, and what it may have."""


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, dict[str, Callable[[], object]]]:
    """What to call, and how to make each of its arguments: most of them right, each afresh for each backend."""
    name = draw(st.sampled_from(sorted(CALLS)))
    required, optional = CALLS[name]
    chosen = [*required, *(each for each in optional if draw(st.booleans()))]
    wrong = draw(st.sets(st.sampled_from(chosen), max_size=2)) if chosen else set()
    return name, {each: draw(ANY) if each in wrong else constant(draw(SOME[each])) for each in chosen}


def constant(value: object) -> Callable[[], object]:
    return partial(copy.copy, value)


def target(codec: ModuleType, name: str) -> Callable[..., object]:
    if "." not in name:
        found: Callable[..., object] = getattr(codec, name)
        return found
    owner, method = name.split(".")
    instance = codec.Utf8Validator() if owner == "Utf8Validator" else getattr(codec, owner)(role="client")
    if owner == "Endpoint":
        instance.passing = True
    if method == "buffer_updated":
        instance.get_buffer()[:100] = b"\x89\x00" * 50
    bound: Callable[..., object] = getattr(instance, method)
    return bound


def told(codec: ModuleType, name: str, makers: dict[str, Callable[[], object]]) -> object:
    """What a call gives or raises, and what became of its arguments."""
    arguments = {each: make() for each, make in makers.items()}
    function = target(codec, name)
    result = attempt(lambda: comparable(function(**arguments), arguments.get("mask_key") is True))
    return without_addresses(result), [bytes(each) for each in arguments.values() if isinstance(each, bytearray)]


def without_addresses(result: object) -> object:
    """An error's text may show an argument, which is another object for each backend."""
    return re.sub(" at 0x[0-9a-fA-F]+", "", result if isinstance(result, str) else repr(result))


def comparable(result: object, is_random: bool) -> object:
    """What can be seen of an object that has no value of its own."""
    if isinstance(result, memoryview) or (isinstance(result, bytes) and is_random):
        return len(result)
    if hasattr(result, "buffered"):
        return result.error, result.closed, result.buffered, result.bytes_received  # type: ignore[attr-defined]
    if hasattr(result, "passing"):
        return result.passing, result.passed, result.eventful  # type: ignore[attr-defined]
    return result


@profile
@given(
    payload=st.one_of(PAYLOADS, CLOSES),
    opcode=st.one_of(st.none(), st.sampled_from([0, 1, 2, 8, 9, 10, 3, 15])),
    is_utf8=st.booleans(),
    bits=st.sampled_from([{}] * 5 + [{"fin": 0}, {"rsv1": 1}, {"rsv3": 1}, {"fin": 0, "rsv2": 1}]),
    mask_key=st.one_of(st.none(), KEYS),
)
def test_frames_to_be_sent(
    both: Both, payload: bytes, opcode: int | None, is_utf8: bool, bits: dict[str, int], mask_key: bytes | None
) -> None:
    arguments = {"opcode": opcode, "is_utf8": is_utf8, "mask_key": mask_key, **bits}
    made = [attempt(partial(codec.prepare_websocket_frame, payload, **arguments)) for codec in both]
    assert made[0] == made[1]


@settings(profile, max_examples=2000)
@given(call=calls())
def test_arguments(both: Both, call: tuple[str, dict[str, Callable[[], object]]]) -> None:
    assert told(both.py, *call) == told(both.cy, *call)


def test_every_argument_once(both: Both) -> None:
    """Each value in each place, where all the others are right."""
    right = {"opcode": 2, "payload_length": 1, "payload": b"p", "key": b"abcd", "data": b"d", "buffer": b"b"}
    right |= {"role": "server", "nbytes": 0, "frame": b"f"}
    different = []
    for name, (required, optional) in CALLS.items():
        for place, make in itertools.product((*required, *optional), VALUES):
            makers = {**{each: constant(right[each]) for each in required}, place: make}
            if name == "apply_mask_inplace" and place != "buffer":
                makers["buffer"] = lambda: bytearray(b"buffer")
            if told(both.py, name, makers) != told(both.cy, name, makers):
                different.append((name, place, make()))
    assert different == []
