"""Header, Frame, Message and Chunk: values, compared by what they say."""

from __future__ import annotations

import copy
import pickle
from types import ModuleType
from typing import Any

import pytest

from .conftest import Both
from .vectors import KEY

FLAGS = ("message_started", "frame_started", "frame_finished", "message_finished")
FULL: dict[str, dict[str, Any]] = {
    "Header": {"opcode": 2, "payload_length": 7, "fin": 0, "rsv1": 1, "rsv2": 0, "rsv3": 1, "mask_key": KEY},
    "Frame": {"opcode": 2, "payload": b"ab", "fin": 0, "rsv1": 1, "rsv2": 0, "rsv3": 1, "mask_key": KEY},
    "Message": {"opcode": 2, "payload": b"ab", "rsv1": 1, "rsv2": 0, "rsv3": 1, "mask": 1},
    "Chunk": {
        "opcode": 2,
        "payload": b"ab",
        **dict(zip(FLAGS, (0, 1, 0, 0), strict=True)),
        "rsv1": 1,
        "rsv2": 0,
        "rsv3": 1,
        "mask": 1,
    },
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "Header": {"opcode": 1, "payload_length": 0, "fin": 1, "rsv1": 0, "rsv2": 0, "rsv3": 0, "mask_key": None},
    "Frame": {"opcode": 1, "payload": b"", "fin": 1, "rsv1": 0, "rsv2": 0, "rsv3": 0, "mask_key": None},
    "Message": {"opcode": 1, "payload": b"", "rsv1": 0, "rsv2": 0, "rsv3": 0, "mask": 0},
    "Chunk": {"opcode": 1, "payload": b"", **dict.fromkeys(FLAGS, 1), "rsv1": 0, "rsv2": 0, "rsv3": 0, "mask": 0},
}
EACH = pytest.mark.parametrize("name", FULL)


def attributes(record: object, names: dict[str, Any]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}


@EACH
def test_attributes_by_keyword_and_by_position(codec: ModuleType, name: str) -> None:
    record = getattr(codec, name)
    assert attributes(record(**FULL[name]), FULL[name]) == FULL[name]
    assert record(*FULL[name].values()) == record(**FULL[name])


@EACH
def test_defaults(codec: ModuleType, name: str) -> None:
    opcode, what = list(DEFAULTS[name].values())[:2]
    assert attributes(getattr(codec, name)(opcode, what), DEFAULTS[name]) == DEFAULTS[name]


@pytest.mark.parametrize(("key", "mask"), [(None, 0), (KEY, 1)])
def test_mask_says_whether_there_is_a_key(codec: ModuleType, key: bytes | None, mask: int) -> None:
    assert codec.Frame(2, b"", mask_key=key).mask == mask
    assert codec.Header(2, 0, mask_key=key).mask == mask


@pytest.mark.parametrize(("payload_length", "length"), [(0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10)])
def test_header_length(codec: ModuleType, payload_length: int, length: int) -> None:
    assert codec.Header(2, payload_length).length == length
    assert codec.Header(2, payload_length, mask_key=KEY).length == length + 4


@EACH
def test_equality_and_hash(codec: ModuleType, name: str) -> None:
    record = getattr(codec, name)
    one, same = record(**FULL[name]), record(**FULL[name])
    assert one == same
    assert hash(one) == hash(same)
    assert len({one, same}) == 1
    assert one != tuple(FULL[name].values())
    assert one != object()
    for field, value in DEFAULTS[name].items():
        if value != FULL[name][field]:
            assert one != record(**{**FULL[name], field: value}), field
    assert len({codec.Frame(1, b""), codec.Message(1, b""), codec.Chunk(1, b"")}) == 3


@EACH
def test_repr_can_be_read_back(codec: ModuleType, name: str) -> None:
    record = getattr(codec, name)(**FULL[name])
    assert repr(record) == f"{name}({', '.join(f'{field}={value!r}' for field, value in FULL[name].items())})"
    assert eval(repr(record), vars(codec).copy()) == record


@EACH
def test_copies_are_equal(codec: ModuleType, name: str) -> None:
    record = getattr(codec, name)(**FULL[name])
    copies = [copy.copy(record), copy.deepcopy(record)]
    copies += [pickle.loads(pickle.dumps(record, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)]
    for each in copies:
        assert type(each) is type(record)
        assert each == record


@EACH
def test_immutable(codec: ModuleType, name: str) -> None:
    record = getattr(codec, name)(**FULL[name])
    for field in (*FULL[name], "mask"):
        with pytest.raises(AttributeError):
            setattr(record, field, 0)
        with pytest.raises(AttributeError):
            delattr(record, field)
    assert record == getattr(codec, name)(**FULL[name])


@EACH
def test_no_other_attributes(codec: ModuleType, name: str) -> None:
    record = getattr(codec, name)(**FULL[name])
    with pytest.raises(AttributeError):
        record.other  # noqa: B018
    with pytest.raises(AttributeError):
        record.other = 1


def test_pattern_matching(codec: ModuleType) -> None:
    match codec.Message(2, b"payload", rsv2=1):
        case codec.Message(1, text):
            pytest.fail(f"opcode 2 is not text: {text}")
        case codec.Message(2, payload, _, rsv2, mask=mask):
            assert (payload, rsv2, mask) == (b"payload", 1, 0)
    match codec.Frame(9, b"ping"), codec.Header(1, 5, 0):
        case codec.Frame(9, payload, 1), codec.Header(_, payload_length, 0):
            assert (payload, payload_length) == (b"ping", 5)
        case _:
            pytest.fail("a frame and a header match by position")
    match codec.Chunk(2, b"part", 0, 1, 0, 0, rsv1=1):
        case codec.Chunk(2, payload, started, 1, 0, finished, rsv1, mask=mask):
            assert (payload, started, finished, rsv1, mask) == (b"part", 0, 0, 1, 0)
        case _:
            pytest.fail("a chunk matches by position")


@EACH
def test_match_args(both: Both, name: str) -> None:
    assert getattr(both.py, name).__match_args__ == getattr(both.cy, name).__match_args__ == tuple(FULL[name])


WRONG: list[tuple[str, str, object, type[Exception]]] = [
    *((name, "opcode", value, ValueError) for name in FULL for value in (-1, 16, 2**70)),
    *((name, "opcode", value, TypeError) for name in FULL for value in (None, "1", 1.5)),
    *((name, bit, value, ValueError) for name in FULL for bit in ("rsv1", "rsv2", "rsv3") for value in (-1, 2)),
    *((name, "fin", value, ValueError) for name in ("Header", "Frame") for value in (-1, 2)),
    *(("Chunk", flag, value, ValueError) for flag in FLAGS for value in (-1, 2)),
    *(("Chunk", flag, value, TypeError) for flag in FLAGS for value in (None, "1", 1.0)),
    *((name, "mask", value, ValueError) for name in ("Message", "Chunk") for value in (-1, 2)),
    *(
        (name, "payload", value, TypeError)
        for name in ("Frame", "Message", "Chunk")
        for value in ("a", bytearray(b"a"), None)
    ),
    *((name, "mask_key", value, TypeError) for name in ("Header", "Frame") for value in ("abcd", bytearray(4), 1)),
    *((name, "mask_key", value, ValueError) for name in ("Header", "Frame") for value in (b"", b"abc", b"abcde")),
    *(("Header", "payload_length", value, ValueError) for value in (-1, 2**63)),
    ("Header", "payload_length", "1", TypeError),
]


@pytest.mark.parametrize(("name", "field", "value", "kind"), WRONG, ids=repr)
def test_wrong_arguments(codec: ModuleType, name: str, field: str, value: object, kind: type[Exception]) -> None:
    text = "a masking key has 4 bytes" if (field, kind) == ("mask_key", ValueError) else f"{field} must be"
    with pytest.raises(kind, match=text):
        getattr(codec, name)(**{**FULL[name], field: value})


@EACH
def test_too_few_and_too_many_arguments(codec: ModuleType, name: str) -> None:
    record = getattr(codec, name)
    full = tuple(FULL[name].values())
    for arguments, keywords in (((), {}), (full[:1], {}), ((*full, 0), {}), (full[:2], {"other": 1})):
        with pytest.raises(TypeError):
            record(*arguments, **keywords)


def test_text(codec: ModuleType) -> None:
    assert codec.Message(1, "grüß Gott".encode()).text == "grüß Gott"
    assert codec.Message(1, b"").text == ""
    with pytest.raises(UnicodeDecodeError):
        codec.Message(1, b"\xff").text  # noqa: B018


@pytest.mark.parametrize(
    ("opcode", "payload", "text"),
    [
        (8, b"", ""),
        (8, b"\x03\xe8", ""),
        (8, b"\x03\xe8bye \xc3\xbc", "bye ü"),
        (8, b"\x03", ""),
        (8, b"\x03\xe8\xff", "\ufffd"),
        (9, b"", ""),
        (9, "ü".encode(), "ü"),
        (10, b"a\xff", "a\ufffd"),
        (15, b"x", "x"),
    ],
)
def test_text_of_a_control_message_never_fails(codec: ModuleType, opcode: int, payload: bytes, text: str) -> None:
    assert codec.Message(opcode, payload).text == text


@pytest.mark.parametrize("opcode", [0, 2, 3, 7])
def test_text_of_binary_data_is_rejected(codec: ModuleType, opcode: int) -> None:
    with pytest.raises(ValueError, match=f"opcode 0x{opcode:X} is not text"):
        codec.Message(opcode, b"text").text  # noqa: B018
