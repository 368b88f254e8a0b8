"""Put TCP segments together: the bytes that each side of a connection sent, with the gaps that the capture left.

Segments arrive late, twice, or never; their numbers wrap. Each byte is kept once, at its position in the stream. A
position that no captured segment covers is a gap: it has a length, because later segments or the other side's
acknowledgements show how far the stream went on, but no bytes.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

from .layers import Address, Segment

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
"""Flags of a segment (RFC 9293 §3.1)."""

NUMBERS = 1 << 32
"""Sequence numbers wrap here (RFC 9293 §3.4)."""

WINDOW = 1 << 30
"""The largest window (RFC 7323 §2.3): a segment further ahead or behind belongs to another connection."""


class Flow:
    """The bytes that one side of a connection sent, as far as they were captured.

    Args:
        data: bytes of a stream without gaps.

    Attributes:
        length: bytes that were sent, captured or not, as far as the capture proves it.
        doubtful: first position that was sent twice with different bytes; None if there is none.
        begins: whether position 0 is known to be the first byte that was sent.
        is_seen: whether the capture has any packet of this side.
    """

    def __init__(self, data: bytes = b"") -> None:
        self.length = len(data)
        self.doubtful: int | None = None
        self.begins = True
        self.is_seen = bool(data)
        self._starts = [0] if data else []
        self._runs = [bytearray(data)] if data else []
        self._ends: list[int] = []
        self._moments: list[tuple[float, int, float | None]] = []

    @property
    def data(self) -> bytes:
        """The bytes before the first gap."""
        return self.read(0, self.length)

    @property
    def is_timed(self) -> bool:
        return bool(self._ends)

    def read(self, begin: int, end: int) -> bytes:
        """Return the bytes from one position up to another, or up to a gap between them."""
        index = bisect_right(self._starts, begin) - 1
        if index < 0 or end <= begin:
            return b""
        start = self._starts[index]
        return bytes(memoryview(self._runs[index])[begin - start : end - start])

    def runs(self, begin: int = 0) -> list[tuple[int, bytes]]:
        """Return (position, bytes) of each run of captured bytes from a position on."""
        found = []
        for start, run in zip(self._starts, self._runs, strict=True):
            if start + len(run) > begin:
                found.append((max(start, begin), bytes(run[max(begin - start, 0) :])))
        return found

    def next_captured(self, at: int) -> int | None:
        """Return the first captured position from a position on, None if there is none."""
        if self.read(at, at + 1):
            return at
        index = bisect_right(self._starts, at)
        return self._starts[index] if index < len(self._starts) else None

    def gaps(self, begin: int, end: int) -> list[tuple[int, int]]:
        """Return (position, length) of each gap between two positions."""
        found, at = [], begin
        for index in range(max(bisect_right(self._starts, begin) - 1, 0), len(self._starts)):
            start, stop = self._starts[index], self._starts[index] + len(self._runs[index])
            if at < min(start, end):
                found.append((at, min(start, end) - at))
            at = max(at, stop)
            if at >= end:
                return found
        return [*found, (at, end - at)] if at < end else found

    def moment(self, end: int) -> tuple[float, int, float | None] | None:
        """Return when all captured bytes before a position had arrived, None if the file does not contain times.

        It is (seconds of the last packet with a time, packet number, seconds of this packet), and sorts by time.
        """
        if not self._ends:
            return None
        index = bisect_left(self._ends, end)
        is_captured = index < len(self._ends) and (not end or self.read(end - 1, end))
        return self._moments[index if is_captured else max(index - 1, 0)]

    def add(self, at: int, data: bytes, moment: tuple[float, int, float | None]) -> None:
        """Add bytes; positions must not decrease from one call to the next."""
        run_end = self._starts[-1] + len(self._runs[-1]) if self._runs else 0
        if not self._runs or at > run_end:
            self._starts.append(at)
            self._runs.append(bytearray())
            run_end = at
        known = self.read(at, run_end)[: len(data)]
        # A single byte may be a keep-alive that was captured late.
        if known != data[: len(known)] and len(data) > 1 and self.doubtful is None:
            self.doubtful = at + next(index for index, byte in enumerate(known) if byte != data[index])
        if at + len(data) > run_end:
            self._runs[-1] += data[run_end - at :]
            self.length = max(self.length, at + len(data))
            self._ends.append(at + len(data))
            self._moments.append(max(self._moments[-1], moment) if self._moments else moment)


@dataclass(frozen=True)
class Conversation:
    """One connection, or one side of it.

    Attributes:
        flows: of a connection, first that of the side whose packet came first, which is the client if it was captured.
    """

    name: str
    flows: tuple[Flow, ...]


@dataclass
class _Side:
    """The segments of one side, in the order of the capture; positions are relative to the first number seen."""

    first: int | None = None
    has_syn: bool = False
    position: int = 0
    """Behind the furthest byte so far."""
    end: int | None = None
    """Position of the FIN."""
    acked: int = 0
    pieces: list[tuple[int, bytes, tuple[float, int, float | None]]] = field(default_factory=list)

    def begins_again(self, segment: Segment) -> bool:
        """Return whether a SYN opens another connection between the same ports, and is no repetition."""
        if self.first is None:
            return False
        lowest = min((at for at, _, _ in self.pieces), default=0) if not self.has_syn else 0
        return (self.first + lowest) % NUMBERS != (segment.sequence + 1) % NUMBERS

    def add(self, segment: Segment, moment: tuple[float, int, float | None]) -> None:
        sequence = segment.sequence + bool(segment.flags & SYN)  # the SYN itself has a number
        if segment.flags & SYN and not self.has_syn:
            self._rebase(sequence)
        elif self.first is None:
            self.first = sequence % NUMBERS
        at = self._unwrapped(sequence)
        # A keep-alive repeats the last byte, with any value (RFC 9293 §3.8.4).
        is_keep_alive = segment.length == 1 and (at == self.position - 1 or at < self.acked)
        if segment.flags & RST or is_keep_alive or abs(at - self.position) > WINDOW:
            return  # the data of a reset is a text about its cause (RFC 9293 §3.10.7.4)
        if segment.flags & FIN:
            self.end = at + segment.length
        if segment.length:
            self.position = max(self.position, at + segment.length)
            self.pieces.append((at, segment.data, moment))

    def acknowledge(self, number: int) -> None:
        """Note how far the other side says that it has received."""
        if self.first is not None:
            at = self._unwrapped(number)
            if at - self.position <= WINDOW:
                self.acked = max(self.acked, at)

    def _rebase(self, sequence: int) -> None:
        """Count positions from the SYN, also if a segment behind it was captured before it."""
        if self.first is not None:
            shift = (self.first - sequence) % NUMBERS
            self.pieces = [(at + shift, data, moment) for at, data, moment in self.pieces]
            self.position += shift
            self.acked += shift
            self.end = None if self.end is None else self.end + shift
        self.first, self.has_syn = sequence % NUMBERS, True

    def _unwrapped(self, number: int) -> int:
        assert self.first is not None
        ahead = (number - self.first - self.position) % NUMBERS
        return self.position + (ahead - NUMBERS if ahead >= NUMBERS // 2 else ahead)

    def flow(self) -> Flow:
        """Return the segments in order, each byte once."""
        flow = Flow()
        flow.begins, flow.is_seen = self.has_syn, self.first is not None
        base = 0 if self.has_syn else min((at for at, _, _ in self.pieces), default=0)
        for at, data, moment in sorted(self.pieces, key=lambda piece: (piece[0], -len(piece[1]))):
            piece = data if self.end is None else data[: max(self.end - at, 0)]
            if piece and at >= base:
                flow.add(at - base, piece, moment)
        # One number more may be that of a FIN that was not captured.
        length = self.acked if self.acked > self.position + 1 else self.position
        length = length if self.end is None else min(length, self.end)
        flow.length = max(flow.length, length - base if self.pieces or self.has_syn else 0)
        return flow


class _Connection:
    def __init__(self, first: Segment) -> None:
        self._sides = {first.source: _Side(), first.target: _Side()}

    def begins_again(self, segment: Segment) -> bool:
        return bool(segment.flags & SYN) and self._sides[segment.source].begins_again(segment)

    def add(self, segment: Segment, moment: tuple[float, int, float | None]) -> None:
        self._sides[segment.source].add(segment, moment)
        if segment.flags & ACK and not segment.flags & RST:
            self._sides[segment.target].acknowledge(segment.ack)

    def conversation(self) -> Conversation:
        name = " and ".join(f"{host(packed)}:{port}" for packed, port in self._sides)
        return Conversation(name, tuple(side.flow() for side in self._sides.values()))


def connections(segments: Iterable[Segment]) -> list[Conversation]:
    """Return each TCP connection of a capture, in the order in which they begin."""
    found: list[_Connection] = []
    current: dict[frozenset[Address], _Connection] = {}
    clock = _Clock()
    for segment in segments:
        ends = frozenset((segment.source, segment.target))
        connection = current.get(ends)
        if connection is None or connection.begins_again(segment):
            connection = current[ends] = _Connection(segment)
            found.append(connection)
        connection.add(segment, clock.moment(segment))
    return [connection.conversation() for connection in found]


class _Clock:
    """Seconds since the first packet; a packet without a time sorts behind the one before it."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._last = 0.0

    def moment(self, segment: Segment) -> tuple[float, int, float | None]:
        time = segment.packet.time
        if time is None:
            return (self._last, segment.packet.number, None)
        if self._first is None:
            self._first = time
        self._last = (time - self._first) / 10**9
        return (self._last, segment.packet.number, self._last)


def host(packed: bytes) -> str:
    text = str(ipaddress.ip_address(packed))
    return f"[{text}]" if len(packed) > 4 else text
