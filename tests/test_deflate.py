"""permessage-deflate: offers and answers, and what becomes of messages (RFC 7692 §7)."""

from __future__ import annotations

import gc
import json
import random
import sys
import sysconfig
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from itertools import chain, pairwise, product
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.extensions.permessage_deflate import PerMessageDeflate as TheirDeflate
from websockets.frames import Frame as TheirFrame
from websockets.frames import Opcode as TheirOpcode

from wslowlevel import InvalidHandshake, ProtocolError
from wslowlevel.codec import FrameDecoder
from wslowlevel.deflate import BLOCK, MAX_FINAL_BLOCKS, TAIL, Deflate, PerMessageDeflate, PreparedMessage
from wslowlevel.errors import Reason
from wslowlevel.extensions import (
    Extension,
    Transform,
    accept_extensions,
    confirm_extensions,
    offer_extensions,
    parse_extensions,
)
from wslowlevel.wire import Opcode, Rsv

from .memory import counted, counts_memory, peak_of

MODULES = {"zlib": zlib}
if not sysconfig.get_config_var("Py_GIL_DISABLED"):  # for which the others have no build
    MODULES |= {"isal": import_module("isal.isal_zlib"), "zlib-ng": import_module("zlib_ng.zlib_ng")}
BACKENDS = tuple(MODULES)

HELLO = bytes.fromhex("f2 48 cd c9 c9 07 00")
"""The first sample of RFC 7692 §7.2.3.1."""

MIB = 1024 * 1024


# -- Helpers ----------------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    client: Deflate
    server: Deflate


def agreed(client: PerMessageDeflate, server: PerMessageDeflate) -> Pair:
    """Both ends of a connection, after an opening handshake."""
    answer, [theirs] = accept_extensions([offer_extensions([client])], [server])
    [ours] = confirm_extensions([answer], [client])
    assert isinstance(ours, Deflate)
    assert isinstance(theirs, Deflate)
    return Pair(ours, theirs)


def pair(**settings: Any) -> Pair:
    return agreed(PerMessageDeflate(**settings), PerMessageDeflate(**settings))


def decoder(extension: Deflate) -> Transform:
    transform = extension.decoder(Opcode.BINARY, Rsv.RSV1)
    assert transform is not None
    return transform


def encoder(extension: Deflate) -> Transform:
    transform = extension.encoder(Opcode.BINARY, None, True)
    assert transform is not None
    return transform


def transformed(transform: Transform, pieces: Sequence[bytes]) -> bytes:
    last = len(pieces) - 1
    return b"".join(chain.from_iterable(transform(piece, i == last) for i, piece in enumerate(pieces)))


def deflated(extension: Deflate, *pieces: bytes) -> bytes:
    return transformed(encoder(extension), pieces)


def inflated(extension: Deflate, *pieces: bytes) -> bytes:
    return transformed(decoder(extension), pieces)


def cut(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Data in pieces, of which some may be empty."""
    ends = sorted(min(end, len(data)) for end in cuts)
    return [data[start:end] for start, end in pairwise([0, *ends, len(data)])]


def by_itself(data: bytes, *, bits: int = 15) -> bytes:
    """A compressed message that refers to none before it."""
    compressor = zlib.compressobj(wbits=-bits)
    return compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)[: -len(TAIL)]


def finished(data: bytes) -> bytes:
    """DEFLATE that ends with a final block."""
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def inflated_in_window(data: bytes, bits: int) -> bytes:
    """Inflate by one byte at a time, for what zlib inflates at once may refer to all of itself."""
    decompressor, output = zlib.decompressobj(-bits), []
    for start in range(0, len(data), 32):
        rest = data[start : start + 32]
        while byte := decompressor.decompress(rest, 1):
            output.append(byte)
            rest = decompressor.unconsumed_tail
    return b"".join(output)


def update(source: random.Random, size: int) -> bytes:
    """JSON of about this size."""
    items: list[dict[str, object]] = []
    while len(json.dumps(items)) < size - 40:
        items.append(
            {"id": source.randrange(10**6), "user": source.choice(["ann", "bob"]), "on": source.random() < 0.5}
        )
    return json.dumps({"items": items}).encode()


# -- Settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "kind", "text"),
    [
        ({"server_no_context_takeover": 1}, TypeError, "server_no_context_takeover must be True or False, not 1"),
        ({"client_no_context_takeover": None}, TypeError, "client_no_context_takeover must be True or False, not None"),
        ({"server_max_window_bits": 7}, ValueError, "server_max_window_bits must be from 8 to 15, not 7"),
        ({"server_max_window_bits": 16}, ValueError, "server_max_window_bits must be from 8 to 15, not 16"),
        ({"server_max_window_bits": 0}, ValueError, "server_max_window_bits must be from 8 to 15, not 0"),
        ({"server_max_window_bits": -9}, ValueError, "server_max_window_bits must be from 8 to 15, not -9"),
        ({"server_max_window_bits": "12"}, TypeError, "server_max_window_bits must be an integer, not str"),
        ({"server_max_window_bits": True}, TypeError, "server_max_window_bits must be an integer, not bool"),
        ({"client_max_window_bits": 7}, ValueError, "client_max_window_bits must be from 8 to 15, not 7"),
        ({"client_max_window_bits": 12.0}, TypeError, "client_max_window_bits must be an integer, not float"),
        ({"client_max_window_bits": None}, TypeError, "client_max_window_bits must be an integer, not NoneType"),
        ({"level": 10}, ValueError, "level must be from 0 to 9, not 10"),
        ({"level": -1}, ValueError, "level must be from 0 to 9, not -1"),
        ({"level": 4, "backend": "isal"}, ValueError, "level must be from 0 to 3, not 4"),
        ({"level": "6"}, TypeError, "level must be an integer, not str"),
        ({"memory_level": 0}, ValueError, "memory_level must be from 1 to 9, not 0"),
        ({"memory_level": 10}, ValueError, "memory_level must be from 1 to 9, not 10"),
        ({"memory_level": None}, TypeError, "memory_level must be an integer, not NoneType"),
        ({"threshold": -1}, ValueError, "threshold must be 0 or more, not -1"),
        ({"threshold": 1.5}, TypeError, "threshold must be an integer, not float"),
        ({"backend": "gzip"}, ValueError, "backend must be one of zlib, isal, zlib-ng, not 'gzip'"),
        ({"backend": None}, TypeError, "backend must be str, not NoneType"),
        ({"backend": ["zlib"]}, TypeError, "backend must be str, not list"),
    ],
)
def test_wrong_settings(wrong: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        PerMessageDeflate(**wrong)
    if wrong.keys() <= {"level", "memory_level", "backend"}:
        with pytest.raises(kind, match=text):
            PreparedMessage(b"", **wrong)


@pytest.mark.parametrize("backend", ["isal", "zlib-ng"])
@pytest.mark.parametrize("make", [PerMessageDeflate, lambda **settings: PreparedMessage(b"", **settings)])
def test_a_backend_that_is_not_installed(
    backend: str, make: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = MODULES[backend].__name__
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ImportError, match=rf"'{backend}' is not installed: pip install wslowlevel\[{backend}\]"
    ) as caught:
        make(backend=backend)
    assert caught.value.name == module


# -- Negotiation (RFC 7692 §7.1) --------------------------------------------------------------------------------------

SNCT, CNCT = "server_no_context_takeover", "client_no_context_takeover"
SMWB, CMWB = "server_max_window_bits", "client_max_window_bits"

WINDOW_VALUES = ["8", "9", "10", "11", "12", "13", "14", "15"]
WRONG_VALUES = ["=7", "=08", "=012", "=16", "=99", "=abc", "=-9", "=+9", "=1e1", "=9.0", "=0x9", '="\\7"', '="16"']


@pytest.mark.parametrize(
    ("ours", "offer"),
    [
        ({}, f"{CMWB}=12"),
        ({CMWB: 15}, CMWB),
        ({CMWB: 8}, f"{CMWB}=8"),
        ({SMWB: 15, CMWB: 15}, CMWB),
        ({SMWB: 9}, f"{SMWB}=9; {CMWB}=12"),
        ({SNCT: True}, f"{SNCT}; {CMWB}=12"),
        ({CNCT: True}, f"{CNCT}; {CMWB}=12"),
        ({SNCT: True, CNCT: True, SMWB: 8, CMWB: 10}, f"{SNCT}; {CNCT}; {SMWB}=8; {CMWB}=10"),
    ],
)
def test_what_a_client_offers(ours: dict[str, Any], offer: str) -> None:
    assert offer_extensions([PerMessageDeflate(**ours)]) == f"permessage-deflate; {offer}"


@pytest.mark.parametrize(
    ("ours", "offer", "answer", "client_bits"),
    [
        # nothing asked: the server says how far it refers, and cannot tell the client
        ({}, "", f"; {SMWB}=12", 15),
        ({SMWB: 15}, "", "", 15),
        ({CMWB: 9}, "", f"; {SMWB}=12", 15),
        # what is asked is granted
        ({SMWB: 15}, f"; {SNCT}", f"; {SNCT}", 15),
        ({SMWB: 15}, f"; {CNCT}", f"; {CNCT}", 15),
        ({SMWB: 15}, f"; {SMWB}=15", f"; {SMWB}=15", 15),
        ({SMWB: 15}, f"; {SMWB}=10", f"; {SMWB}=10", 15),
        ({}, f"; {SMWB}=8", f"; {SMWB}=8", 15),
        ({}, f"; {SMWB}=13", f"; {SMWB}=12", 15),
        # the client can be told
        ({SMWB: 15}, f"; {CMWB}", f"; {CMWB}=12", 12),
        ({SMWB: 15, CMWB: 15}, f"; {CMWB}", "", 15),
        ({SMWB: 15, CMWB: 15}, f"; {CMWB}=15", "", 15),
        ({SMWB: 15, CMWB: 15}, f"; {CMWB}=9", f"; {CMWB}=9", 9),
        ({SMWB: 15}, f"; {CMWB}=14", f"; {CMWB}=12", 12),
        ({SMWB: 15}, f"; {CMWB}=8", f"; {CMWB}=8", 8),
        # what we want ourselves
        ({SNCT: True, CNCT: True, SMWB: 8}, "", f"; {SNCT}; {CNCT}; {SMWB}=8", 15),
        ({SNCT: True, SMWB: 15}, f"; {SNCT}; {CNCT}", f"; {SNCT}; {CNCT}", 15),
        # quoted values are values, and the order is free (RFC 6455 §9.1)
        ({}, f'; {SMWB}="10"; {SNCT}', f"; {SNCT}; {SMWB}=10", 15),
        ({}, f'; {CMWB} = "1\\0"', f"; {SMWB}=12; {CMWB}=10", 10),
    ],
)
def test_what_a_server_answers(ours: dict[str, Any], offer: str, answer: str, client_bits: int) -> None:
    answered, [extension] = accept_extensions([f"permessage-deflate{offer}"], [PerMessageDeflate(**ours)])
    assert answered == f"permessage-deflate{answer}"
    assert isinstance(extension, Deflate)
    assert (extension.role, extension.rsv) == ("server", Rsv.RSV1)
    assert extension.agreed.client_max_window_bits == client_bits
    said = dict(parse_extensions([answered])[0][1])
    assert extension.agreed.server_no_context_takeover == (SNCT in said)
    assert extension.agreed.client_no_context_takeover == (CNCT in said)
    assert extension.agreed.server_max_window_bits == extension.window_bits == int(said.get(SMWB) or 15)


@pytest.mark.parametrize(
    "offer",
    [
        *(f"{name}{value}" for name, value in product([SMWB, CMWB], WRONG_VALUES)),
        SMWB,
        f"{SNCT}=1",
        f"{SNCT}=true",
        f"{CNCT}=15",
        "unknown",
        "unknown=1",
        "Server_no_context_takeover",
        f"{SNCT}; {SNCT}",
        f"{CNCT}; {SMWB}=9; {CNCT}",
        f"{SMWB}=9; {SMWB}=9",
        f"{CMWB}; {CMWB}",
        f"{CMWB}; {CMWB}=9",
    ],
)
def test_an_offer_that_a_server_declines(offer: str) -> None:
    """Declined is one offer (§7.1), not the connection, nor the next offer."""
    ours = PerMessageDeflate()
    assert accept_extensions([f"permessage-deflate; {offer}"], [ours]) == ("", [])
    assert ours.accept([("unknown", "")]) is ours.accept([(SMWB, "")]) is None
    answer, _ = accept_extensions([f"permessage-deflate; {offer}, permessage-deflate"], [ours])
    assert answer == f"permessage-deflate; {SMWB}=12"


@pytest.mark.parametrize(
    ("ours", "answer", "bits"),
    [
        ({}, "", (15, 12)),
        ({CMWB: 15}, "", (15, 15)),
        ({}, f"; {SMWB}=8", (8, 12)),
        ({}, f"; {SMWB}=15", (15, 12)),
        ({SMWB: 10}, f"; {SMWB}=10", (10, 12)),
        ({SMWB: 10}, f"; {SMWB}=9", (9, 12)),
        ({}, f"; {CMWB}=8", (15, 8)),
        ({}, f"; {CMWB}=15", (15, 12)),
        ({CMWB: 9}, f'; {CMWB}="15"', (15, 9)),
        ({}, f"; {SNCT}", (15, 12)),
        ({}, f"; {CNCT}", (15, 12)),
        ({SNCT: True}, f"; {SNCT}", (15, 12)),
        ({CNCT: True}, "", (15, 12)),
    ],
)
def test_an_answer_that_a_client_takes(ours: dict[str, Any], answer: str, bits: tuple[int, int]) -> None:
    [extension] = confirm_extensions([f"permessage-deflate{answer}"], [PerMessageDeflate(**ours)])
    assert isinstance(extension, Deflate)
    assert (extension.role, extension.window_bits) == ("client", bits[1])
    assert (extension.agreed.server_max_window_bits, extension.agreed.client_max_window_bits) == bits
    assert extension.agreed.server_no_context_takeover == (SNCT in answer)
    assert extension.agreed.client_no_context_takeover == (CNCT in answer or CNCT in ours)


@pytest.mark.parametrize(
    ("ours", "answer", "text"),
    [
        *(
            ({}, f"{name}{value}", f"parameter {name} must be a number from 8 to 15, not '.+'")
            for name, value in product([SMWB, CMWB], WRONG_VALUES)
        ),
        ({}, SMWB, f"parameter {SMWB} must be a number from 8 to 15, not None"),
        ({}, CMWB, f"parameter {CMWB} must be a number from 8 to 15, not None"),
        ({}, f"{SNCT}=1", f"parameter {SNCT} has no value, not '1'"),
        ({}, f"{CNCT}=1", f"parameter {CNCT} has no value, not '1'"),
        ({}, "unknown=1", "parameter 'unknown' is unknown"),
        ({}, f"{SNCT}; {SNCT}", f"parameter {SNCT} stands there twice"),
        ({}, f"{SMWB}=9; {SMWB}=9", f"parameter {SMWB} stands there twice"),
        ({SNCT: True}, CNCT, f"without {SNCT}, which was asked"),
        ({SMWB: 10}, CNCT, f"{SMWB} unsaid, at most 10 was asked"),
        ({SMWB: 10}, f"{SMWB}=11", f"{SMWB}=11, at most 10 was asked"),
    ],
)
def test_an_answer_that_a_client_refuses(ours: dict[str, Any], answer: str, text: str) -> None:
    with pytest.raises(InvalidHandshake, match=text):
        confirm_extensions([f"permessage-deflate; {answer}"], [PerMessageDeflate(**ours)])


@pytest.mark.parametrize("value", ["", '""', '"9', "9;", "a b"])
@pytest.mark.parametrize("name", [SMWB, CMWB])
def test_values_that_do_not_follow_the_grammar(name: str, value: str) -> None:
    header = f"permessage-deflate; {name}={value}"
    with pytest.raises(InvalidHandshake):
        accept_extensions([header], [PerMessageDeflate()])
    with pytest.raises(InvalidHandshake):
        confirm_extensions([header], [PerMessageDeflate()])


@pytest.mark.parametrize("at_most", [8, 12, 15])
@pytest.mark.parametrize("value", WINDOW_VALUES)
def test_every_window_can_be_asked_for(value: str, at_most: int) -> None:
    offer = f"permessage-deflate; {SMWB}={value}; {CMWB}={value}"
    _, [extension] = accept_extensions([offer], [PerMessageDeflate(server_max_window_bits=at_most)])
    assert isinstance(extension, Deflate)
    assert extension.agreed.server_max_window_bits == min(int(value), at_most)
    assert extension.agreed.client_max_window_bits == min(int(value), 12)


def test_a_client_may_fall_back() -> None:
    """The second offer stands in for the first where the server grants less (§5.1)."""
    offers = [PerMessageDeflate(server_max_window_bits=9, server_no_context_takeover=True), PerMessageDeflate()]
    assert offer_extensions(offers) == (
        f"permessage-deflate; {SNCT}; {SMWB}=9; {CMWB}=12, permessage-deflate; {CMWB}=12"
    )
    for answer, bits in [("", 15), (f"; {SNCT}; {SMWB}=9", 9), (f"; {SMWB}=9", 9), (f"; {SNCT}", 15)]:
        [extension] = confirm_extensions([f"permessage-deflate{answer}"], offers)
        assert isinstance(extension, Deflate)
        assert extension.agreed.server_max_window_bits == bits


ANY_BITS = st.integers(8, 15)
ANY_SETTINGS = st.fixed_dictionaries(
    {SNCT: st.booleans(), CNCT: st.booleans(), SMWB: st.none() | ANY_BITS, CMWB: ANY_BITS}
)


@given(client=ANY_SETTINGS, server=ANY_SETTINGS)
def test_both_sides_agree(client: dict[str, Any], server: dict[str, Any]) -> None:
    ours, theirs = agreed(PerMessageDeflate(**client), PerMessageDeflate(**server))
    both = ours.agreed
    assert both == theirs.agreed
    assert both.server_no_context_takeover == (client[SNCT] or server[SNCT])
    assert both.client_no_context_takeover == (client[CNCT] or server[CNCT])
    assert both.server_max_window_bits == min(client[SMWB] or 15, server[SMWB] or 12)
    assert both.client_max_window_bits == min(client[CMWB], server[CMWB])
    assert (ours.window_bits, theirs.window_bits) == (both.client_max_window_bits, both.server_max_window_bits)


# -- The samples of RFC 7692 §7.2.3, and other well-formed messages ---------------------------------------------------

SAMPLES = [
    # one block; then one that shares the window, and one by itself
    [(HELLO, b"Hello"), (bytes.fromhex("f2 00 11 00 00"), b"Hello"), (HELLO, b"Hello")],
    # a block without compression
    [(bytes.fromhex("00 05 00 fa ff 48 65 6c 6c 6f 00"), b"Hello"), (bytes.fromhex("f2 00 11 00 00"), b"Hello")],
    # a final block, with the empty block behind it that makes room for the tail, and without
    [(bytes.fromhex("f3 48 cd c9 c9 07 00 00"), b"Hello"), (HELLO, b"Hello")],
    [(bytes.fromhex("f3 48 cd c9 c9 07 00"), b"Hello"), (HELLO, b"Hello")],
    # two blocks
    [(bytes.fromhex("f2 48 05 00 00 00 ff ff ca c9 c9 07 00"), b"Hello")],
    # an empty message; as some compressors write it; with a final block, stored and not
    [(b"\x00", b""), (HELLO, b"Hello"), (b"\x00", b""), (bytes.fromhex("f2 00 11 00 00"), b"Hello")],
    [(b"\x02\x00", b""), (HELLO, b"Hello")],
    [(b"\x01", b""), (HELLO, b"Hello")],
    [(b"\x03\x00\x00", b""), (b"\x03\x00", b""), (HELLO, b"Hello")],
    # blocks go on behind a final one (§7.2.1)
    [(finished(b"Hel") + finished(b"lo, ") + HELLO, b"Hello, Hello"), (HELLO, b"Hello")],
    [(finished(b"Hel") + finished(b"lo"), b"Hello"), (HELLO, b"Hello")],
    [(finished(b"Hel") + b"\x01", b"Hel"), (HELLO, b"Hello")],
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("messages", SAMPLES)
def test_well_formed_messages(messages: list[tuple[bytes, bytes]], backend: str) -> None:
    """Whole, byte by byte, and with empty pieces between."""
    for size in (100, 1, 0):
        _, server = pair(backend=backend, client_max_window_bits=15)
        for sent, message in messages:
            pieces = [sent] if size == 100 else [sent[i : i + 1] for i in range(len(sent))]
            assert inflated(server, *(pieces if size else [b"", *pieces, b""])) == message


def test_the_samples_are_what_we_send() -> None:
    client, _ = pair()
    assert [deflated(client, b"Hello"), deflated(client, b"Hello")] == [HELLO, bytes.fromhex("f2 00 11 00 00")]
    client, _ = pair(client_no_context_takeover=True)
    assert [deflated(client, b"Hello"), deflated(client, b"Hello")] == [HELLO, HELLO]


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_empty_message_has_a_block(backend: str) -> None:
    """zlib writes nothing where it is flushed twice in a row."""
    client, server = pair(backend=backend)
    for pieces in ([b""], [b""], [b"", b""], [b"Hello"], [b""], [b"Hello", b""], [b""]):
        sent = deflated(client, *pieces)
        assert sent
        assert inflated(server, sent) == b"".join(pieces)


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_piece_can_be_read_when_it_arrives(backend: str) -> None:
    client, server = pair(backend=backend)
    for _ in range(2):
        encode, decode = encoder(client), decoder(server)
        for piece in (b"Hello", b", ", b"world" * 1000):
            assert b"".join(decode(b"".join(encode(piece, False)), False)) == piece
        assert b"".join(decode(b"".join(encode(b"", True)), True)) == b""


# -- What is not well-formed ------------------------------------------------------------------------------------------

NOT_DEFLATE, CUT_SHORT = "compressed message is not DEFLATE", "compressed message ends inside a DEFLATE block"

BROKEN = {
    "the third type of block": (b"\x07", NOT_DEFLATE),
    "noise": (b"\xff" * 20, NOT_DEFLATE),
    "a stored block whose length does not match": (bytes.fromhex("00 05 00 00 00 48 65 6c 6c 6f 00"), NOT_DEFLATE),
    "a reference to before the start": (bytes.fromhex("f2 00 11 00 00"), NOT_DEFLATE),
    "text behind the end": (b"\x00" + b"hidden data", NOT_DEFLATE),
    "text behind a final block": (finished(b"Hello") + b"hidden data", NOT_DEFLATE),
    "noise behind a final block and an empty one": (finished(b"Hello") + b"\x00" + TAIL + b"\x07", NOT_DEFLATE),
    "a byte behind the header of an empty block": (HELLO + b"\x17", CUT_SHORT),
    "a byte behind a final block and the header of an empty one": (finished(b"Hello") + b"\x00\x17", CUT_SHORT),
    "a reference over a final block": (finished(b"Hello") + bytes.fromhex("f2 00 11 00 00"), NOT_DEFLATE),
    "nothing": (b"", CUT_SHORT),
    "the tail, which must be left out": (HELLO + TAIL, CUT_SHORT),
    "a final block, and the tail": (finished(b"Hello") + b"\x00" + TAIL, CUT_SHORT),
    "a whole message but for its last byte": (HELLO[:-1], CUT_SHORT),
    "half a message": (HELLO[:4], CUT_SHORT),
    "a final block but for its last byte": (finished(b"Hello")[:-1], CUT_SHORT),
    "an empty final block but for its last byte": (b"\x03", CUT_SHORT),
    "half a stored block": (bytes.fromhex("00 05 00 fa ff 48 65"), CUT_SHORT),
    "half the length of a stored block": (bytes.fromhex("00 05"), CUT_SHORT),
    "half a message behind a final block": (finished(b"Hello") + HELLO[:4], CUT_SHORT),
    "the header of a dynamic block": (by_itself(bytes(range(100)) * 20)[:9], CUT_SHORT),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", BROKEN)
def test_broken_messages(name: str, backend: str) -> None:
    """Refused whole, byte by byte and behind a good message; and what was before is forgotten."""
    sent, text = BROKEN[name]
    for before, pieces in product([False, True], [[sent], [sent[i : i + 1] for i in range(len(sent))] or [b"", b""]]):
        _, server = pair(backend=backend, client_max_window_bits=15)
        if before and name != "a reference to before the start":
            assert inflated(server, HELLO) == b"Hello"
        with pytest.raises(ProtocolError, match=text) as caught:
            inflated(server, *pieces)
        assert (caught.value.reason, caught.value.close_code) == (Reason.EXTENSION_DATA, 1007)
        assert inflated(server, HELLO) == b"Hello"
        with pytest.raises(ProtocolError, match=NOT_DEFLATE):
            inflated(pair()[1], bytes.fromhex("f2 00 11 00 00"))


def is_whole(sent: bytes) -> bool:
    """Another judge: with the tail and a final block behind it, zlib must find the end of a stream there (§7.2.2)."""
    decompressor = zlib.decompressobj(-15)
    try:
        decompressor.decompress(sent)
        output = decompressor.decompress(TAIL + b"\x01" + TAIL)
    except zlib.error:
        return False
    return decompressor.eof and not output and not decompressor.unused_data


@pytest.mark.parametrize("backend", BACKENDS)
def test_messages_cut_short(backend: str) -> None:
    """Delivered is only what another judge finds whole: the few cuts that fall between two blocks."""
    source, refused, delivered = random.Random(7), 0, 0
    module = MODULES[backend]
    for size in [*range(1, 100, 3), *range(100, 3000, 100)]:
        for message in (update(source, size), source.randbytes(size), source.choices(b"abcd", k=size)):
            compressor = module.compressobj(wbits=-15)
            sent = b"".join(compressor.compress(bytes(message)) + compressor.flush(module.Z_SYNC_FLUSH) for _ in "ab")
            assert sent.endswith(TAIL)
            for end in source.sample(range(len(sent) - 4), min(len(sent) - 4, 15)):
                try:
                    inflated(pair(backend=backend, client_max_window_bits=15).server, sent[:end])
                except ProtocolError as error:
                    refused += error.close_code == 1007
                else:
                    assert is_whole(sent[:end])
                    delivered += 1
    assert refused > 2000
    assert delivered < refused / 50


def test_a_message_cut_short_does_not_spoil_the_next() -> None:
    client, server = pair()
    first, second = deflated(client, update(random.Random(1), 60)), deflated(client, b"the next one")
    with pytest.raises(ProtocolError, match=CUT_SHORT):
        inflated(server, first[:30])
    with pytest.raises(ProtocolError):
        inflated(server, first[30:] + second)


@pytest.mark.parametrize("over", [0, 1])
def test_final_blocks_are_counted(over: int) -> None:
    _, server = pair()
    sent = MAX_FINAL_BLOCKS * finished(b"") + over * finished(b"")
    if not over:
        assert inflated(server, sent, HELLO) == b"Hello"
        assert inflated(server, sent) == b""
        return
    with pytest.raises(ProtocolError, match="over 16384 final blocks: 16384 are allowed"):
        inflated(server, sent)


# -- Round trips ------------------------------------------------------------------------------------------------------


class Sent(NamedTuple):
    payload: bytes
    from_client: bool
    wanted: bool | None
    cuts: list[int]
    wire_cuts: list[int]


WORDS = st.lists(st.sampled_from([b"to be ", b"or not ", b"that is ", b"\x00\x00\xff\xff", b"0123456789"]), max_size=80)
PAYLOADS = st.binary(max_size=200) | WORDS.map(b"".join) | st.builds(bytes, st.integers(0, 5000))
CUTS = st.lists(st.integers(0, 300), max_size=3)
MESSAGES = st.lists(
    st.builds(Sent, PAYLOADS, st.booleans(), st.sampled_from([True, False, None]), CUTS, CUTS), max_size=12
)
KNOBS = st.fixed_dictionaries(
    {
        "backend": st.sampled_from(BACKENDS),
        "level": st.none() | st.integers(0, 3),
        "memory_level": st.integers(1, 9),
        "threshold": st.sampled_from([0, 10, 64]),
    }
)


@settings(max_examples=300)
@given(client=ANY_SETTINGS, server=ANY_SETTINGS, knobs=st.tuples(KNOBS, KNOBS), messages=MESSAGES)
def test_round_trips(
    client: dict[str, Any], server: dict[str, Any], knobs: tuple[dict[str, Any], ...], messages: list[Sent]
) -> None:
    """Any settings, both directions, compressed and plain messages mixed, in any pieces."""
    ends = agreed(PerMessageDeflate(**client, **knobs[0]), PerMessageDeflate(**server, **knobs[1]))
    for message in messages:
        sender, receiver = ends if message.from_client else ends[::-1]
        pieces = cut(message.payload, message.cuts)
        transform = sender.encoder(Opcode.TEXT, len(message.payload) if len(pieces) == 1 else None, message.wanted)
        assert receiver.decoder(Opcode.TEXT, 0) is None
        if transform is None:
            assert not message.wanted
            continue
        assert message.wanted is not False
        wire = transformed(transform, pieces)
        assert inflated(receiver, *cut(wire, message.wire_cuts)) == message.payload


@pytest.mark.parametrize(
    ("threshold", "size", "wanted", "compressed"),
    [
        (64, 63, None, False),
        (64, 64, None, True),
        (64, None, None, True),
        (64, 0, True, True),
        (64, 10**6, False, False),
        (64, None, False, False),
        (0, 0, None, True),
        (10**6, None, None, True),
        (10**6, 10**5, None, False),
    ],
)
def test_which_messages_are_compressed(threshold: int, size: int | None, wanted: bool | None, compressed: bool) -> None:
    client, _ = pair(threshold=threshold)
    assert (client.encoder(Opcode.TEXT, size, wanted) is not None) == compressed


def test_only_its_own_bit_counts() -> None:
    _, server = pair()
    assert server.decoder(Opcode.TEXT, Rsv.RSV2 | Rsv.RSV3) is None
    assert server.decoder(Opcode.TEXT, Rsv.RSV1 | Rsv.RSV2) is not None


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bits", range(8, 16))
def test_the_window_agreed_on_is_kept(backend: str, bits: int) -> None:
    """Inflated with that window and no byte more, at every level, where repeats lie about as far back as it reaches.

    zlib has no raw stream of 8 bits: what it makes with 9 must fit.
    """
    source, window = random.Random(bits), 2**bits
    distances = [1, *(window // half - less for half in (1, 2) for less in (-1, 0, 1, 5, 6, 7, 12, 261, 262, 263))]
    # Inflating byte by byte is slow: the large windows are seen at one level.
    for level in range(4) if bits < 12 else [1]:
        client, _ = pair(client_max_window_bits=bits, level=level, memory_level=9, backend=backend)
        message = b""
        for distance in distances if bits < 12 else [window - 262, window + 1]:
            repeated = source.randbytes(max(distance, 1))
            message += (repeated * (600 // len(repeated) + 2))[: len(repeated) + 300]
        wire = deflated(client, message) + TAIL + deflated(client, message)
        assert inflated_in_window(wire, bits) == message * 2


def test_a_foreign_message_is_not_referred_over() -> None:
    client, server = pair()
    text = update(random.Random(2), 500)
    assert inflated(server, deflated(client, text)) == text
    assert inflated(server, by_itself(b"foreign" * 500)) == b"foreign" * 500
    client.note_foreign()
    wire = deflated(client, text)
    assert wire == by_itself(text, bits=12)
    assert inflated(server, wire) == text
    assert len(deflated(client, text)) < len(wire) / 5


def test_a_message_left_half_way_leaves_nothing_behind() -> None:
    client, server = pair()
    assert inflated(server, deflated(client, b"one")) == b"one"
    list(encoder(client)(bytes(10**6), False))
    assert inflated(server, deflated(client, b"one, two")) == b"one, two"
    with pytest.raises(TypeError):
        deflated(client, "text")  # type: ignore[arg-type]
    assert inflated(server, deflated(client, b"one, two, three")) == b"one, two, three"


# -- Memory and work --------------------------------------------------------------------------------------------------


def zeros(size: int) -> bytes:
    """So many zeros, compressed."""
    compressor = zlib.compressobj(wbits=-15)
    parts = [compressor.compress(bytes(MIB)) for _ in range(size // MIB)]
    return b"".join(parts) + compressor.flush(zlib.Z_SYNC_FLUSH)[: -len(TAIL)]


@pytest.fixture(scope="module")
def bomb() -> bytes:
    return zeros(200 * MIB)


def taken(transform: Transform, pieces: Sequence[bytes], limit: int) -> int:
    """Take blocks until they are more than the limit; how much that was."""
    size, last = 0, len(pieces) - 1
    for i, piece in enumerate(pieces):
        for block in transform(piece, i == last):
            assert 0 < len(block) <= BLOCK
            size += len(block)
            if size > limit:
                return size
    return size


@counts_memory
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("piece", [MIB, 50_000, 1_000])
def test_a_bomb_is_inflated_no_further_than_it_is_taken(bomb: bytes, backend: str, piece: int) -> None:
    assert len(bomb) < MIB
    pieces = [bomb[i : i + piece] for i in range(0, len(bomb), piece)]
    _, server = pair(backend=backend, client_max_window_bits=15)
    limit, sizes = MIB, list[int]()
    used = peak_of(lambda: sizes.append(taken(decoder(server), pieces, limit)))
    assert limit < sizes[0] <= limit + BLOCK
    # the block that was taken, the one in the making twice, for it is put together at the end, and the decompressor
    assert used < 5 * 64 * 1024
    # nothing is left of it
    assert inflated(server, HELLO) == b"Hello"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, MIB])
def test_blocks_meet_the_size_exactly(size: int, backend: str) -> None:
    client, server = pair(backend=backend)
    for _ in range(2):
        wire = deflated(client, bytes(size))
        blocks = list(decoder(server)(wire, True))
        assert b"".join(blocks) == bytes(size)
        assert len(blocks) == -(-size // BLOCK)


def test_a_receiver_that_stops_is_done() -> None:
    """What it did not take is not inflated, and the context, amid a message, is not used again."""
    _, server = pair()
    blocks = iter(decoder(server)(zeros(MIB), True))
    assert len(next(blocks)) == BLOCK
    del blocks
    gc.collect()
    assert inflated(server, HELLO) == b"Hello"


@counts_memory
@pytest.mark.parametrize("backend", BACKENDS)
def test_streams_are_flat(backend: str) -> None:
    """32 MiB of half random data, one piece at a time, out and in."""
    client, server = pair(backend=backend)
    piece = random.Random(3).randbytes(32 * 1024) + bytes(32 * 1024)
    received = 0

    def stream() -> None:
        nonlocal received
        encode, decode = encoder(client), decoder(server)
        for i in range(512):
            for wire in encode(piece, i == 511):
                for block in decode(wire, i == 511):
                    received += len(block)

    assert peak_of(stream) < MIB
    assert received == 512 * len(piece)


@counts_memory
def test_contexts_are_made_when_they_are_needed() -> None:
    ends: list[Pair] = []
    per_connection = peak_of(lambda: ends.extend(pair() for _ in range(100))) / 100
    assert per_connection < 8 * 1024
    for extension in (end for pair in ends for end in pair):
        assert extension.encoder(Opcode.BINARY, 10, None) is None
        assert extension.decoder(Opcode.BINARY, 0) is None
    first = peak_of(lambda: [inflated(server, deflated(client, b"Hello")) for client, server in ends]) / 100
    assert 32 * 1024 < first < 64 * 1024


@counts_memory
def test_contexts_are_given_back() -> None:
    """By an end without context takeover after each message, and by a final block."""
    both = {"server_no_context_takeover": True, "client_no_context_takeover": True}

    def held(ends: Sequence[Pair], wire: Callable[[Deflate], bytes]) -> float:
        with counted() as memory:
            for client, server in ends:
                inflated(server, wire(client))
            gc.collect()
        return memory.now / len(ends)

    assert held([pair(**both) for _ in range(50)], lambda client: deflated(client, b"Hello")) < 512
    assert held([pair() for _ in range(50)], lambda _: finished(b"Hello")) < 512
    assert held([pair() for _ in range(50)], lambda _: b"\x01") < 512
    assert held([pair() for _ in range(50)], lambda _: HELLO) > 8 * 1024


def pieces_of(data: bytes) -> list[bytes]:
    return [data]


def bytes_of(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


WORK: dict[str, tuple[Callable[[int], bytes], Callable[[bytes], list[bytes]], int]] = {
    "noise in one piece": (lambda n: by_itself(random.Random(4).randbytes(n)), pieces_of, 64_000),
    "zeros in one piece": (lambda n: by_itself(bytes(n)), pieces_of, 2_000_000),
    "byte by byte": (lambda n: by_itself(random.Random(4).randbytes(n)), bytes_of, 4_000),
    "empty blocks": (lambda n: n * (b"\x00" + TAIL) + b"\x00", pieces_of, 20_000),
    "final blocks": (lambda n: n * b"\x03\x00", pieces_of, 500),
}


@pytest.mark.parametrize("name", WORK)
def test_the_work_is_linear(name: str) -> None:
    """Sixteen times the message is about sixteen times the work; quadratic would be 256 times."""
    make, split, size = WORK[name]

    def cost(message: list[bytes]) -> float:
        best = float("inf")
        for _ in range(5):
            transform = decoder(pair(client_max_window_bits=15).server)
            start = time.process_time()
            taken(transform, message, 10**9)
            best = min(best, time.process_time() - start)
        return best

    assert cost(split(make(16 * size))) < 64 * cost(split(make(size)))


# -- Against another implementation -----------------------------------------------------------------------------------


def as_client(theirs: ClientPerMessageDeflateFactory, ours: PerMessageDeflate) -> tuple[TheirDeflate, Deflate]:
    """They are the client, we are the server."""
    request = "; ".join(
        name if value is None else f"{name}={value}"
        for name, value in [("permessage-deflate", None), *theirs.get_request_params()]
    )
    answer, [extension] = accept_extensions([request], [ours])
    assert isinstance(extension, Deflate)
    peer = theirs.process_response_params(parse_extensions([answer])[0][1], [])
    assert isinstance(peer, TheirDeflate)
    return peer, extension


def as_server(theirs: ServerPerMessageDeflateFactory, ours: PerMessageDeflate) -> tuple[TheirDeflate, Deflate]:
    """They are the server, we are the client."""
    answer, peer = theirs.process_request_params(list(ours.offer()), [])
    assert isinstance(peer, TheirDeflate)
    return peer, ours.confirm(answer)


def their_frames(peer: TheirDeflate, opcode: Opcode, pieces: Sequence[bytes]) -> Iterator[bytes]:
    for i, piece in enumerate(pieces):
        kind = TheirOpcode.CONT if i else TheirOpcode(opcode)
        frame = peer.encode(TheirFrame(kind, piece, fin=i == len(pieces) - 1))
        assert frame.rsv1 == (i == 0)
        yield bytes(frame.data)


def taken_by_them(peer: TheirDeflate, opcode: Opcode, pieces: Sequence[bytes], *, compressed: bool) -> bytes:
    received = []
    for i, piece in enumerate(pieces):
        kind, last = TheirOpcode.CONT if i else TheirOpcode(opcode), i == len(pieces) - 1
        received.append(peer.decode(TheirFrame(kind, piece, fin=last, rsv1=compressed and i == 0)))
    return b"".join(bytes(frame.data) for frame in received)


THEIR_BITS = st.none() | st.integers(9, 15)


@settings(max_examples=200)
@given(
    we_serve=st.booleans(),
    ours=st.fixed_dictionaries({SNCT: st.booleans(), CNCT: st.booleans(), SMWB: THEIR_BITS, CMWB: st.integers(9, 15)}),
    theirs=st.tuples(st.booleans(), st.booleans(), THEIR_BITS, THEIR_BITS),
    backend=st.sampled_from(BACKENDS),
    messages=MESSAGES,
)
def test_with_another_implementation(
    we_serve: bool,
    ours: dict[str, Any],
    theirs: tuple[bool, bool, int | None, int | None],
    backend: str,
    messages: list[Sent],
) -> None:
    """Offers, answers and frames of the websockets package, in both roles and both directions."""
    factory = PerMessageDeflate(**ours, backend=backend)
    if we_serve:
        peer, extension = as_client(ClientPerMessageDeflateFactory(*theirs[:3], theirs[3] or True), factory)
    else:
        peer, extension = as_server(ServerPerMessageDeflateFactory(*theirs), factory)
    for message in messages:
        pieces = cut(message.payload, message.cuts)
        if message.from_client != we_serve:
            transform = extension.encoder(Opcode.BINARY, len(message.payload), message.wanted)
            wire = transformed(transform, pieces) if transform else message.payload
            fragments = cut(wire, message.wire_cuts)
            received = taken_by_them(peer, Opcode.BINARY, fragments, compressed=transform is not None)
        else:
            received = inflated(extension, *their_frames(peer, Opcode.BINARY, pieces))
        assert received == message.payload


# -- One message for many connections ---------------------------------------------------------------------------------


def frame_of(data: bytes) -> tuple[int, int, bytes]:
    """(opcode, rsv1, payload) of a whole frame."""
    [frame] = FrameDecoder(role="client", allow_rsv=Rsv.RSV1).feed(data)
    assert frame.fin
    assert not frame.mask
    return frame.opcode, frame.rsv1, frame.payload


class Silent(Extension):
    def decoder(self, opcode: int, rsv: int) -> Transform | None:
        return None

    def encoder(self, opcode: int, size: int | None, wanted: bool | None) -> Transform | None:
        return None


TEXT = update(random.Random(5), 3000)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bits", range(8, 16))
def test_a_prepared_message_fits_the_window(backend: str, bits: int) -> None:
    prepared = PreparedMessage(TEXT, is_utf8=True, backend=backend)
    server = pair(server_max_window_bits=bits).server
    frame = prepared.frame_for([server])
    opcode, rsv1, payload = frame_of(frame)
    assert (opcode, rsv1) == (Opcode.TEXT, 1)
    assert len(payload) < len(TEXT) / 2
    assert inflated_in_window(payload, bits) == TEXT
    assert prepared.frame_for([pair(server_max_window_bits=bits).server]) is frame


@pytest.mark.parametrize(
    ("payload", "extensions"),
    [
        (TEXT, []),
        (TEXT, [Silent()]),
        (TEXT, [Silent(), pair().server]),
        (TEXT, [pair().server, Silent()]),
        (b"", [pair().server]),
        (b"too small to shrink", [pair().server]),
        (random.Random(6).randbytes(1000), [pair().server]),
    ],
)
def test_where_a_prepared_message_stays_plain(payload: bytes, extensions: list[Extension]) -> None:
    prepared = PreparedMessage(payload)
    assert frame_of(prepared.frame_for(extensions)) == (Opcode.BINARY, 0, payload)
    assert prepared.frame_for(extensions) is prepared.frame_for([])


@pytest.mark.parametrize("takeover", [True, False])
def test_prepared_messages_between_others(takeover: bool) -> None:
    source = random.Random(7)
    prepared = [PreparedMessage(update(source, 1000), is_utf8=True, level=9, memory_level=9) for _ in range(3)]
    for bits in (8, 9, 12, 15):
        client, server = pair(server_max_window_bits=bits, server_no_context_takeover=not takeover)
        for each in [*prepared, *reversed(prepared)]:
            own = update(source, 500)
            assert inflated(client, deflated(server, own)) == own
            _, _, plain = frame_of(each.frame_for([]))
            _, rsv1, payload = frame_of(each.frame_for([server]))
            server.note_foreign()
            assert (rsv1, inflated(client, payload)) == (1, plain)


@pytest.mark.parametrize("payload", [bytearray(TEXT), memoryview(TEXT), memoryview(TEXT + b" " * 2).cast("H")])
def test_a_prepared_message_keeps_a_copy(payload: Any) -> None:
    expected = bytes(payload)
    prepared = PreparedMessage(payload)
    if isinstance(payload, bytearray):
        payload[:] = bytes(len(payload))
    client, server = pair()
    assert frame_of(prepared.frame_for([]))[2] == expected
    assert inflated(client, frame_of(prepared.frame_for([server]))[2]) == expected


@pytest.mark.parametrize(
    ("payload", "kind", "text"),
    [
        (b"\xff", ValueError, "invalid UTF-8"),
        (b"\xe2\x82", ValueError, "inside a UTF-8"),
        ("a", TypeError, "encode it"),
    ],
)
def test_what_cannot_be_prepared(payload: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        PreparedMessage(payload, is_utf8=True)
