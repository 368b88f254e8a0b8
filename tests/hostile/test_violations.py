"""Frames that break a rule: the close code, the error, what is stored, and what others notice (RFC 6455 §5, §7.4)."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import pytest

from wslowlevel import Opcode, Reason
from wslowlevel.wire import DEFAULT_MAX_FRAGMENTS, DEFAULT_MAX_SIZE, CloseCode

from ..servers import RawClient, masked, run, upgraded
from ..vectors import CLOSE_CODES
from .siege import MIB, Siege, header

HALF_A_CHARACTER = b"\xe2\x82"
"""The first two bytes of the three of a euro sign."""


class Violation(NamedTuple):
    """What is sent, and which rule it breaks.

    Attributes:
        name: which advisory or rule asks for it.
        before: payloads that are echoed before it.
    """

    name: str
    data: bytes
    reason: Reason
    before: tuple[bytes, ...] = ()

    @property
    def code(self) -> int:
        return CLOSE_CODES.get(self.reason, CloseCode.PROTOCOL_ERROR)

    @property
    def ended(self) -> str:
        """How the handler ends, in the words of victim.py."""
        kind = "PayloadTooBig" if self.code == CloseCode.MESSAGE_TOO_BIG else "ProtocolError"
        return f"{kind} {self.reason.name} {self.code:d}"

    def __str__(self) -> str:
        return self.name


TOO_LONG = (2**63, 2**64 - 4, 2**64 - 1)
TOO_BIG = (2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 5, 2**53 - 1, 2**53 + 1, 2**62, 2**63 - 4, 2**63 - 3, 2**63 - 1)
"""Lengths at which adding up wraps, where it is done in too few bits."""


def with_every_length(name: str, first: int, before: bytes = b"") -> list[Violation]:
    return [
        *(Violation(f"{name} {n:x}", before + header(first, n), Reason.LENGTH_TOO_BIG) for n in TOO_LONG),
        *(Violation(f"{name} {n:x}", before + header(first, n), Reason.MESSAGE_TOO_BIG) for n in TOO_BIG),
    ]


def length_in_64_bits(payload: bytes) -> bytes:
    return header(0x82, len(payload)) + masked(Opcode.BINARY, payload)[6:]


START = masked(Opcode.TEXT, b"ab", fin=0)

VIOLATIONS = [
    # Declared lengths (§5.2)
    *with_every_length("CVE-2020-13935, CVE-2026-27889: a length of", 0x82),
    *with_every_length("CVE-2020-27813, PYSEC-2026-4395: behind a fragment,", 0x80, masked(2, b"abc", fin=0)),
    Violation("CVE-2026-19204: the opcode is judged before the length", header(0x83, 2**62), Reason.RESERVED_OPCODE),
    Violation("the reserved bits are judged before the opcode", header(0xF3, 2**63), Reason.RESERVED_BITS),
    Violation("the mask is judged before the length", b"\x82\x7f" + b"\xff" * 8, Reason.NOT_MASKED),
    Violation("a length that is not minimal, in 64 bits", length_in_64_bits(b"hello"), Reason.LENGTH_NOT_MINIMAL),
    Violation("a length that is not minimal, in 16 bits", b"\x82\xfe\x00\x7d", Reason.LENGTH_NOT_MINIMAL),
    Violation(
        "CVE-2018-21035, CVE-2016-10542: a message of the default limit and a byte",
        header(0x82, DEFAULT_MAX_SIZE + 1),
        Reason.MESSAGE_TOO_BIG,
    ),
    # Fragments (§5.4)
    Violation(
        "tinymux #792: a second message begins inside the first",
        START + masked(1, b"XX", fin=0),
        Reason.EXPECTED_CONTINUATION,
    ),
    Violation("a whole message inside another", START + masked(1, b"XX"), Reason.EXPECTED_CONTINUATION),
    Violation("a continuation of nothing", masked(0, b"x"), Reason.UNEXPECTED_CONTINUATION),
    Violation(
        "a continuation behind the end of a message",
        masked(1, b"ab") + masked(0, b"x"),
        Reason.UNEXPECTED_CONTINUATION,
        (b"ab",),
    ),
    Violation(
        "one fragment over the default limit",
        masked(2, b"", fin=0) + masked(0, b"", fin=0) * DEFAULT_MAX_FRAGMENTS,
        Reason.TOO_MANY_FRAGMENTS,
    ),
    Violation(
        "text that ends inside a character", masked(1, b"ab", fin=0) + masked(0, HALF_A_CHARACTER), Reason.INVALID_UTF8
    ),
    Violation(
        "UTF-8 is judged at its byte, in the middle of a frame",
        masked(1, b"good" + b"\xff" + bytes(90))[:11],
        Reason.INVALID_UTF8,
    ),
    # Control frames (§5.5)
    Violation("a fragmented ping", masked(9, b"p", fin=0), Reason.FRAGMENTED_CONTROL),
    Violation("a fragmented close", masked(8, b"", fin=0), Reason.FRAGMENTED_CONTROL),
    Violation("a ping of 126 bytes", b"\x89\xfe\x00\x7e", Reason.CONTROL_TOO_LONG),
    Violation("a pong with a length near 2**63", header(0x8A, 2**63 - 1), Reason.CONTROL_TOO_LONG),
    Violation("CVE-2026-59881: a ping with RSV1", masked(9, b"", rsv1=1), Reason.RESERVED_BITS),
    Violation("CVE-2026-59881: a close with RSV1", masked(8, b"", rsv1=1), Reason.RESERVED_BITS),
    Violation("CVE-2026-59881: a continuation with RSV1", START + masked(0, b"", rsv1=1), Reason.RESERVED_BITS),
    Violation("RSV2, which nobody negotiated", masked(1, b"", rsv2=1), Reason.RESERVED_BITS),
    # Closing (§5.5.1)
    Violation("a close of one byte", masked(8, b"\x03"), Reason.CLOSE_TOO_SHORT),
    Violation("a close with a code that stands in no frame", masked(8, b"\x03\xee"), Reason.CLOSE_CODE),
    Violation("a close whose reason is no UTF-8", masked(8, b"\x03\xe8\xff"), Reason.INVALID_UTF8),
    Violation(
        "what came before a violation is answered",
        masked(1, b"one") + masked(1, b"two") + b"\x83\x80",
        Reason.RESERVED_OPCODE,
        (b"one", b"two"),
    ),
]


@pytest.mark.parametrize("violation", VIOLATIONS, ids=str)
def test_a_violation(siege: Siege, violation: Violation) -> None:
    """A frame that breaks a rule is refused at the byte that proves it, with its code, and nothing of it is stored."""

    async def attack() -> None:
        async with upgraded(siege.port, target="/echo") as client:
            await client.send(violation.data)
            for payload in violation.before:
                assert (await client.read_frame()).payload == payload
            code, reason = await client.read_close()
            assert (code, bool(reason)) == (violation.code, True)
            assert not await client.read_until_eof()

    with siege.memory(at_most=MIB), siege.running(at_most=1.0):
        run("asyncio", attack())
    assert siege.outcomes() == {violation.ended: 1}


def test_many_violations_at_a_time(siege: Siege) -> None:
    """CVE-2022-41940, CVE-2022-21676: frames that break a rule, and resets behind them, touch no other connection."""

    async def attack() -> None:
        async with siege.others_answered():
            for violation in VIOLATIONS:
                async with upgraded(siege.port, target="/echo") as client:
                    await client.send(violation.data)
                    client.reset()

    run("asyncio", attack())


@pytest.mark.parametrize("size", [0, 1, 10])
def test_a_declared_payload_takes_no_memory(siege: Siege, size: int) -> None:
    """CVE-2022-35922: fifty connections declare a message of the limit each, and send a few bytes of it."""

    async def attack() -> None:
        clients = []
        for _ in range(50):
            client = await _entered(siege.port)
            await client.send(header(0x82, DEFAULT_MAX_SIZE) + bytes(size))
            clients.append(client)
        async with siege.others_answered():
            pass
        for client in clients:
            client.writer.transport.abort()

    with siege.memory(at_most=50 * 64 * 1024):
        run("asyncio", attack())


async def _entered(port: int) -> RawClient:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = RawClient(reader, writer)
    await client.upgrade(target="/drop")
    return client


def test_a_message_of_the_limit_is_delivered(siege: Siege) -> None:
    """The default limit is inclusive, whole and in two fragments that are as large together."""
    half = bytes(DEFAULT_MAX_SIZE // 2)
    frames = [masked(2, half + half), masked(2, half, fin=0) + masked(0, half)]

    async def attack() -> None:
        async with upgraded(siege.port, target="/drop") as client:
            for frame in frames:
                await client.send(frame)
            await client.send(masked(8, b"\x03\xe8"))
            assert await client.read_close() == (1000, "")

    run("asyncio", attack())
    assert siege.outcomes() == {"messages 2": 1, "ended": 1}


def test_the_sum_of_fragments_is_limited(siege: Siege) -> None:
    """CVE-2026-12151, CVE-2014-0193: one byte over the limit in fragments is refused before the last byte is stored."""
    half = bytes(DEFAULT_MAX_SIZE // 2)

    async def attack() -> None:
        async with upgraded(siege.port, target="/drop") as client:
            await client.send(masked(2, half, fin=0), masked(0, half, fin=0), masked(0, b"x")[:2])
            assert (await client.read_close())[0] == 1009

    run("asyncio", attack())
    assert siege.outcomes() == {"messages 0": 1, "PayloadTooBig MESSAGE_TOO_BIG 1009": 1}
