"""Maskers and UTF-8 validators of other libraries: ours give what theirs do, errors of wrong arguments included."""

from __future__ import annotations

import array
import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp._websocket import helpers as aiohttp_helpers
from hypothesis import given
from hypothesis import strategies as st
from lomond import frame as lomond_frame
from tornado import util as tornado_util

import wslowlevel.dropin.aiohttp as for_aiohttp
import wslowlevel.dropin.gevent_websocket as for_gevent
import wslowlevel.dropin.lomond as for_lomond
import wslowlevel.dropin.tornado as for_tornado
import wslowlevel.dropin.websocket_client as for_websocket_client
import wslowlevel.dropin.ws4py as for_ws4py
from wslowlevel import BACKEND, dropin
from wslowlevel.dropin import wsaccel

from ..test_differential import NEARLY_TEXTS, profile
from .seams import told

Call = Callable[[Any, Any], object]


def in_place(mask: Call) -> Call:
    """Of a masker that changes its data: the data, and what it returns."""

    def call(key: Any, data: Any) -> object:
        data = copy.copy(data)
        return mask(key, data), data

    return call


def of_gevent(method: Callable[[Any, Any], object]) -> Call:
    return lambda key, data: method(SimpleNamespace(mask=key, length=len(data)), data)


def of_ws4py(method: Callable[[Any, Any], object]) -> Call:
    return lambda key, data: method(SimpleNamespace(masking_key=key), data)


MASKERS: dict[str, tuple[Call, Call]] = {
    "tornado": (tornado_util._websocket_mask_python, for_tornado.mask_payload),
    "aiohttp": (in_place(aiohttp_helpers._websocket_mask_python), in_place(for_aiohttp.mask_payload)),
    "lomond": (in_place(lomond_frame.mask_payload), in_place(for_lomond.mask_payload)),
    "websocket-client": (for_websocket_client._mask, for_websocket_client.mask_payload),
    "gevent-websocket": (of_gevent(for_gevent._mask), of_gevent(for_gevent.mask_payload)),
    "ws4py": (of_ws4py(for_ws4py._mask), of_ws4py(for_ws4py.mask_payload)),
}
"""The original and ours, each called with (masking key, payload)."""

KEYS = (
    b"mask",
    bytearray(b"mask"),
    tuple(b"mask"),
    list(b"mask"),
    b"",
    b"abc",
    b"abcde",
    "mask",
    None,
    4,
    (1, 2, 3, 400),
)
DATA = (b"", b"abc", bytearray(b"abcde"), "text", [1, 2, 3], array.array("B", b"abc"), None, 3, memoryview(b"abcdef"))


@pytest.mark.parametrize("name", MASKERS)
def test_arguments(name: str) -> None:
    """Every kind of key with every kind of payload."""
    theirs, ours = MASKERS[name]
    for key in KEYS:
        for data in DATA:
            assert told(lambda: ours(key, data)) == told(lambda: theirs(key, data)), (key, data)  # noqa: B023


@pytest.mark.parametrize("name", MASKERS)
def test_payloads(name: str) -> None:
    theirs, ours = MASKERS[name]
    make_data: Callable[[bytes], Any] = bytearray if name in ("aiohttp", "lomond") else bytes

    @profile
    @given(
        key=st.binary(min_size=4, max_size=4), data=st.one_of(st.binary(max_size=300), st.integers(0, 2000).map(bytes))
    )
    def check(key: bytes, data: bytes) -> None:
        assert told(lambda: ours(key, make_data(data))) == told(lambda: theirs(key, make_data(data)))

    check()


def test_what_gevent_websocket_leaves_unmasked() -> None:
    """It masks as many bytes as the header says, and fails where there are fewer."""
    for length in (0, 2, 3, 4):
        header = SimpleNamespace(mask=b"mask", length=length)
        assert told(lambda: for_gevent.mask_payload(header, b"abc")) == told(lambda: for_gevent._mask(header, b"abc"))  # noqa: B023


def test_eventlet() -> None:
    """In a process of its own: once it is imported, each fork warns."""
    program = Path(__file__).with_name("eventlet_masking.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout


# -- UTF-8 ------------------------------------------------------------------------------------------------------------


def validators() -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """The original and ours of each library whose validator is not ours already."""
    from geventwebsocket.utf8validator import Utf8Validator as OfGevent  # noqa: PLC0415
    from lomond.utf8validator import Utf8Validator as OfLomond  # noqa: PLC0415
    from ws4py.utf8validator import Utf8Validator as OfWs4py  # noqa: PLC0415

    return {
        "lomond": (OfLomond, wsaccel.Utf8Validator),
        "gevent-websocket": (OfGevent, wsaccel.Utf8Validator),
        "ws4py": (OfWs4py, for_ws4py.Utf8Validator),
    }


@pytest.mark.parametrize("name", ["lomond", "gevent-websocket", "ws4py"])
def test_validators(name: str) -> None:
    theirs, ours = validators()[name]

    @profile
    @given(pieces=st.lists(NEARLY_TEXTS, max_size=4))
    def check(pieces: list[bytes]) -> None:
        stories = []
        for make in (theirs, ours):
            validator = make()
            stories.append([validator.validate(piece) for piece in pieces])
            validator.reset()
            stories[-1] += [validator.validate(piece) for piece in reversed(pieces)]
        assert stories[0] == stories[1]

    check()


@profile
@given(text=NEARLY_TEXTS)
def test_texts_of_websocket_client(text: bytes) -> None:
    assert for_websocket_client.is_good_so_far(text) is for_websocket_client._validate(text)


@pytest.mark.parametrize("text", [bytearray(b"a"), memoryview(b"a"), "text", None, 3, [65]])
def test_other_texts_of_websocket_client(text: Any) -> None:
    theirs, ours = for_websocket_client._validate, for_websocket_client.is_good_so_far
    assert told(lambda: ours(text)) == told(lambda: theirs(text))


# -- The names of wsaccel ---------------------------------------------------------------------------------------------


def test_a_masker_in_pieces() -> None:
    """What a compiled copy of the package does, as it was seen to."""
    masker = wsaccel.createXorMasker(b"1234", 8)
    assert (masker.pointer(), masker.process(b"abcde"), masker.pointer()) == (0, b"PPPPT", 5)
    assert (masker.process(memoryview(b"aXbXcX")[::2]), masker.pointer()) == (b"SQW", 8)
    masker.reset()
    assert (masker.pointer(), masker.process(bytearray(b"abc"))) == (0, b"PPP")
    assert masker.process(None) == b""


def test_a_masker_that_does_not() -> None:
    masker = wsaccel.XorMaskerNull(b"1234")
    data = bytearray(b"abcde")
    assert masker.process(data) is data
    assert masker.pointer() == 5
    masker.reset()
    assert masker.pointer() == 0


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: wsaccel.XorMaskerSimple(b"123"), ValueError),
        (lambda: wsaccel.XorMaskerSimple(None), ValueError),
        (lambda: wsaccel.XorMaskerSimple("1234"), TypeError),  # type: ignore[arg-type]
        (lambda: wsaccel.XorMaskerSimple(b"1234").process("abc"), TypeError),  # type: ignore[arg-type]
        (lambda: wsaccel.XorMaskerSimple(b"1234").process(array.array("H", b"abcd")), ValueError),
        (lambda: wsaccel.Utf8Validator().validate("abc"), TypeError),  # type: ignore[arg-type]
        (lambda: wsaccel.Utf8Validator().validate(array.array("H", b"abcd")), ValueError),
        (lambda: wsaccel.XorMaskerNull().process(3), TypeError),
    ],
)
def test_wrong_arguments(call: Callable[[], object], error: type[Exception]) -> None:
    with pytest.raises(error):
        call()


def test_a_validator_that_failed_stays_so() -> None:
    validator = wsaccel.Utf8Validator()
    pieces = (b"h\xc3", b"\xa4x", b"\xff", b"a")
    assert [validator.validate(piece) for piece in pieces] == [
        (True, False, 2, 2),
        (True, True, 2, 4),
        (False, False, 0, 4),
        (False, False, 0, 4),
    ]


# -- Where the compiled parts of a library are missing ----------------------------------------------------------------

WITHOUT = """
import sys
from wslowlevel import dropin
for library in ("tornado", "aiohttp", "autobahn"):
    rows = dropin.install(library)
    print(library, *(row.seam for row in rows), rows[0].state, sep="; ")
import tornado.websocket, aiohttp._websocket.writer, autobahn.websocket.protocol
data = bytearray(b"abc")
aiohttp._websocket.writer.websocket_mask(b"1234", data)
masker = autobahn.websocket.protocol.create_xor_masker(b"1234")
print(tornado.websocket._websocket_mask(b"1234", b"abc") == data == masker.process(b"a") + masker.process(b"bc"))
"""


@pytest.mark.parametrize("backend", ["cython", "python"])
@pytest.mark.any_backend
def test_tornado_aiohttp_and_autobahn(backend: str) -> None:
    switches = {"TORNADO_EXTENSION": "0", "AIOHTTP_NO_EXTENSIONS": "1", "AUTOBAHN_USE_NVX": "0"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        env={**os.environ, **switches, "WSLOWLEVEL_BACKEND": backend, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    modules = ("util", "web", "websocket")
    aiohttp = [f"aiohttp._websocket.{module}.websocket_mask" for module in ("reader_py", "writer")]
    step_aside = ["", "left as it is: in pure Python its own masking is as fast"]
    assert [line.split("; ") for line in done.stdout.splitlines()] == [
        ["tornado", *(f"tornado.{module}._websocket_mask" for module in modules), "installed"],
        ["aiohttp", *([*aiohttp, "installed"] if backend == "cython" else step_aside)],
        [
            "autobahn",
            *(f"autobahn.websocket.protocol.{name}" for name in ("create_xor_masker", "Utf8Validator")),
            "installed",
        ],
        ["True"],
    ]


def test_in_pure_python_only_what_wins() -> None:
    seams = {row.seam for row in dropin.status("lomond", "websocket-client")}
    masking = {"lomond.frame.mask_payload", "websocket._abnf.ABNF.mask"}
    assert seams & masking == (masking if BACKEND == "cython" else set())
    assert {"lomond.message.Utf8Validator", "websocket._utils._validate_utf8"} < seams
