"""Declared lengths (RFC 6455 §5.2): nothing is believed, and nothing is stored before it is allowed."""

from __future__ import annotations

import pytest

from wslowlevel import Opcode
from wslowlevel.wire import CloseCode

from ..servers import masked, run, upgraded
from .siege import MIB, Siege, header


@pytest.mark.parametrize("length", [2**63, 2**64 - 4, 2**64 - 1])
def test_a_length_with_its_top_bit_set(siege: Siege, length: int) -> None:
    """CVE-2020-13935, Beast 361: refused at the length, at once and without spinning."""

    async def attack() -> None:
        async with siege.others_answered(), upgraded(siege.port, target="/drop") as client:
            await client.send(header(0x82, length))
            assert (await client.read_close())[0] == CloseCode.PROTOCOL_ERROR
            assert not await client.read_until_eof()

    with siege.memory(at_most=MIB), siege.running(at_most=1.0):
        run("asyncio", attack())
    assert siege.outcomes()["ProtocolError LENGTH_TOO_BIG 1002"] == 1


def test_a_length_near_the_limit_behind_an_open_fragment(siege: Siege) -> None:
    """CVE-2020-27813: what the fragments hold and what is declared are compared by subtraction."""

    async def attack() -> None:
        async with upgraded(siege.port, target="/drop") as client:
            await client.send(masked(Opcode.BINARY, b"abc", fin=0), header(0x80, 2**63 - 1))
            assert (await client.read_close())[0] == CloseCode.MESSAGE_TOO_BIG

    with siege.memory(at_most=MIB):
        run("asyncio", attack())
