"""websockets with our frames and our masking in place: the same events, errors and bytes."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side
from websockets.utils import apply_mask

from wslowlevel import BACKEND, dropin
from wslowlevel.codec import encode_frame
from wslowlevel.dropin.websockets import mask_data

from ..test_backends import run
from ..test_differential import profile, streams
from ..vectors import REFUSED, VECTORS
from .seams import same, told
from .test_wsproto import CUTS

SIDES = {"server": Side.SERVER, "client": Side.CLIENT}


def compression(side: Side) -> list[Extension]:
    return [PerMessageDeflate(False, False, 15, 15)]


def nothing(side: Side) -> list[Extension]:
    return []


Extensions = Callable[[Side], list[Extension]]


def received(role: str, stream: bytes, cuts: list[int], extensions: Extensions, max_size: int | None) -> list[object]:
    """All that a connection tells of a stream that comes in pieces, and answers to it."""
    protocol = Protocol(SIDES[role], state=OPEN, max_size=max_size)
    protocol.extensions = extensions(protocol.side)
    story: list[object] = []
    for size in [*cuts, len(stream)]:
        protocol.receive_data(stream[:size])
        stream = stream[size:]
        story += [(type(each), each, type(getattr(each, "data", None))) for each in protocol.events_received()]
        story += [protocol.state, repr(protocol.parser_exc), type(protocol.parser_exc)]
        story += [data if role == "server" else len(data) for data in protocol.data_to_send()]
    protocol.receive_eof()
    return [*story, protocol.close_rcvd, protocol.close_sent, repr(protocol.parser_exc)]


# -- In ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extensions", [nothing, compression])
@pytest.mark.parametrize("role", SIDES)
def test_streams(role: str, extensions: Extensions) -> None:
    @profile
    @given(stream=streams(role), cuts=CUTS, max_size=st.one_of(st.none(), st.sampled_from([0, 1, 125, 126, 65535])))
    def check(stream: bytes, cuts: list[int], max_size: int | None) -> None:
        same("websockets", lambda: received(role, stream, cuts, extensions, max_size))

    check()


@pytest.mark.parametrize("vector", [*VECTORS, *REFUSED], ids=lambda vector: vector.name)
def test_vectors(vector: Any) -> None:
    for cuts in ([], [1] * min(len(vector.data), 200)):
        same("websockets", lambda cuts=cuts: received(vector.role, vector.data, cuts, nothing, None))  # type: ignore[misc]


@pytest.mark.parametrize("length", [3, 200, 70_000])
@pytest.mark.parametrize("mask_key", [b"mask", None])
def test_the_end_inside_a_frame(mask_key: bytes | None, length: int) -> None:
    frame = encode_frame(2, bytes(length), mask_key=mask_key)
    role = "client" if mask_key is None else "server"
    for end in (*range(min(len(frame), 20)), len(frame) - 1):
        for cuts in ([], [1, 1, 1], [5], [65_536]):
            same("websockets", lambda end=end, cuts=cuts: received(role, frame[:end], cuts, nothing, None))  # type: ignore[misc]


@profile
@given(payloads=st.lists(st.one_of(st.binary(max_size=200), st.integers(0, 100_000).map(bytes)), max_size=4), cuts=CUTS)
def test_compressed_streams(payloads: list[bytes], cuts: list[int]) -> None:
    sender = Protocol(Side.CLIENT, state=OPEN)
    sender.extensions = compression(Side.CLIENT)
    for payload in payloads:
        sender.send_binary(payload)
    stream = b"".join(sender.data_to_send())
    same("websockets", lambda: received("server", stream, cuts, compression, None))


def test_other_readers() -> None:
    """Whoever brings a `read_exact` of their own is served by the original."""

    def story() -> object:
        def read_exact(size: int) -> Any:
            yield
            return b"\x82\x01a"[: size if size > 1 else 1] if size > 1 else b"a"

        steps = Frame.parse(read_exact, mask=False)
        assert [next(steps), next(steps)] == [None, None]
        with pytest.raises(StopIteration) as ended:
            next(steps)
        return ended.value.value

    same("websockets", story)


# -- Out --------------------------------------------------------------------------------------------------------------

DATA = (b"", b"abc", bytearray(b"abc"), memoryview(b"abcdef"), b"x" * 126, b"y" * 65536, "text", None, 3)


@pytest.mark.parametrize("extensions", [nothing, compression])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("data", DATA, ids=lambda data: repr(data)[:20])
def test_serialize(data: Any, mask: bool, extensions: Extensions) -> None:
    def story() -> list[object]:
        told_of = []
        for opcode in (*Opcode, 3):
            for bits in ({}, {"fin": False}, {"rsv2": True}):
                frame = Frame(opcode, data, **bits)
                told_of.append(told(lambda: as_read(frame.serialize(mask=mask, extensions=extensions(Side.SERVER)))))  # noqa: B023
        return told_of

    same("websockets", story)


def as_read(frame: bytes) -> tuple[bytes, bytes]:
    """(header without its masking key, payload): no two keys are the same."""
    start = {126: 4, 127: 10}.get(frame[1] & 127, 2)
    if not frame[1] & 128:
        return frame[:start], frame[start:]
    return frame[:start], apply_mask(frame[start + 4 :], frame[start : start + 4])


def test_keys_differ() -> None:
    dropin.install("websockets")
    try:
        assert len({Frame(Opcode.TEXT, b"").serialize(mask=True)[2:] for _ in range(100)}) == 100
    finally:
        dropin.uninstall("websockets")


def test_keys_that_a_test_has_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_bytes", lambda size: b"mask"[:size])
    same("websockets", lambda: Frame(Opcode.TEXT, b"payload").serialize(mask=True))


# -- Masking ----------------------------------------------------------------------------------------------------------

MASKS = (b"mask", bytearray(b"mask"), b"", b"abc", b"abcde", "mask", None, 4)
MASKED = (b"", b"abc", bytearray(b"abcde"), memoryview(b"abcdefg"), memoryview(b"abcdef")[::2], b"z" * 5000, None, 3)


ONE_OF_THEM_WRONG = [*((b"abc", mask) for mask in MASKS), *((data, b"mask") for data in MASKED)]


@pytest.mark.parametrize(("data", "mask"), ONE_OF_THEM_WRONG, ids=lambda value: repr(value)[:20])
def test_masking(data: Any, mask: Any) -> None:
    assert told(lambda: mask_data(data=data, mask=mask)) == told(lambda: apply_mask(data=data, mask=mask))


WITHOUT_ITS_OWN = """
import sys
sys.modules["websockets.speedups"] = None
import websockets.frames
from wslowlevel import dropin
print(*(row.seam for row in dropin.install("websockets")))
import warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import websockets.legacy.framing
print(*(module.apply_mask.__module__ for module in (websockets.frames, websockets.legacy.framing)))
dropin.uninstall()
print(websockets.frames.apply_mask.__module__, sys.modules["websockets.speedups"])
"""


@pytest.mark.parametrize("backend", ["cython", "python"])
def test_where_its_own_masking_is_not_compiled(backend: str) -> None:
    done = run(WITHOUT_ITS_OWN, backend)
    assert done.stderr == ""
    frames = "websockets.frames.Frame.parse websockets.frames.Frame.serialize " if backend == "cython" else ""
    assert done.stdout.splitlines() == [
        f"{frames}websockets.frames.apply_mask websockets.speedups",
        "wslowlevel.dropin.websockets wslowlevel.dropin.websockets",
        "websockets.utils None",
    ]


def test_pure_python_is_no_gain_over_what_is_compiled() -> None:
    rows = dropin.install("websockets")
    dropin.uninstall("websockets")
    if BACKEND == "python":
        assert [row.state for row in rows] == ["left as it is: its own masking is compiled"]
    else:
        assert [row.seam for row in rows] == ["websockets.frames.Frame.parse", "websockets.frames.Frame.serialize"]
