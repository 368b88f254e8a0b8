"""The numbers of RFC 6455: written once, and the same in the compiled codec."""

from __future__ import annotations

from operator import attrgetter

import pytest

from wslowlevel import wire
from wslowlevel.wire import CLOSE_CODE_RANGES, CloseCode, Opcode, is_close_code

from .conftest import Both

LOCAL_ONLY = {CloseCode.NO_STATUS_RECEIVED, CloseCode.ABNORMAL_CLOSURE, CloseCode.TLS_HANDSHAKE}


def test_compiled_constants(both: Both) -> None:
    compiled = both.cy._constants()
    assert compiled
    assert compiled == {name: attrgetter(name)(wire) for name in compiled}


def test_bits_of_a_header() -> None:
    assert wire.FIN | wire.RSV | wire.OPCODE == 0xFF
    assert wire.FIN & wire.RSV == wire.RSV & wire.OPCODE == 0
    assert wire.MASK | wire.LENGTH == 0xFF
    assert [bit << wire.RSV_SHIFT for bit in wire.Rsv] == [0x40, 0x20, 0x10]
    assert sum(wire.Rsv) << wire.RSV_SHIFT == wire.RSV


def test_lengths() -> None:
    assert (wire.MAX_LENGTH_7, wire.LENGTH_16, wire.LENGTH_64) == (125, 126, 127)
    assert (wire.MAX_LENGTH_16, wire.MAX_LENGTH_64) == (2**16 - 1, 2**63 - 1)
    assert wire.MAX_HEADER_LENGTH == 2 + 8 + wire.MASK_KEY_LENGTH
    assert wire.MAX_CLOSE_REASON_LENGTH == 123


def test_opcodes() -> None:
    assert sorted(Opcode) == [0x0, 0x1, 0x2, 0x8, 0x9, 0xA]
    assert [opcode for opcode in Opcode if opcode & wire.CONTROL] == [Opcode.CLOSE, Opcode.PING, Opcode.PONG]


def test_close_code_ranges_are_in_order_and_apart() -> None:
    borders = [border for pair in CLOSE_CODE_RANGES for border in pair]
    assert borders == sorted(set(borders))


@pytest.mark.parametrize("code", CloseCode)
def test_named_close_codes(code: CloseCode) -> None:
    assert is_close_code(code) == (code not in LOCAL_ONLY)


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        *((code, False) for code in (-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535, 65536)),
        *((code, True) for code in (1000, 1003, 1007, 1014, 3000, 3999, 4000, 4999)),
    ],
)
def test_borders_of_close_codes(code: int, allowed: bool) -> None:
    assert is_close_code(code) is allowed


def test_codes_below_3000_that_may_be_sent_have_names() -> None:
    assert [code for code in range(3000) if is_close_code(code)] == sorted(set(CloseCode) - LOCAL_ONLY)
