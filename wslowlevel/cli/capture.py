"""a file -> what the two sides of each connection sent: from a packet capture, a hex dump, or the bytes themselves"""

from __future__ import annotations

import re
import socket
import struct
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from io import BytesIO
from typing import Any

MAGICS = tuple(map(bytes.fromhex, ("d4c3b2a1", "a1b2c3d4", "4d3cb2a1", "a1b23c4d", "0a0d0d0a")))
"""How pcap, in either byte order and with either clock, and pcapng begin."""

SYN, ACK = 0x02, 0x10
"""Flags of a segment (RFC 9293 §3.1)."""

HALF = 1 << 31
"""TCP's numbers wrap: what is further ahead than this is behind (RFC 9293 §3.4)."""


class NoCapture(ValueError):
    """A file that cannot be read as what it seems to be."""


@dataclass
class Flow:
    """What one side of a connection sent.

    Attributes:
        data: its bytes, in order.
        missing: bytes that the capture lacks behind them; what came later still is left out.
    """

    data: bytearray = field(default_factory=bytearray)
    missing: int = 0
    _times: list[tuple[int, float]] = field(default_factory=list)

    def add(self, data: bytes, time: float) -> None:
        self.data += data
        self._times.append((len(self.data), time))

    def time_of(self, end: int) -> float | None:
        """Seconds from the beginning of the capture until the bytes before `end` had come; None if it does not say."""
        index = bisect_left(self._times, (end, 0.0))
        return self._times[index][1] if index < len(self._times) else None


@dataclass(frozen=True)
class Conversation:
    """One connection, or one side of it."""

    name: str
    flows: tuple[Flow, ...]


def conversations(data: bytes) -> list[Conversation]:
    """What a file holds.

    Raises:
        NoCapture: a packet capture that is damaged, of a kind of network that is not known, or without WebSocket.
        ImportError: a packet capture, without the package dpkt.
    """
    if data.startswith(MAGICS):
        found = [each for each in packets(data) if any(map(opens_websocket, each.flows))]
        if not found:
            raise NoCapture("the capture holds no opening handshake of WebSocket, or it is encrypted")
        return found
    dumped = from_hex(data)
    return [Conversation("", (Flow(bytearray(data if dumped is None else dumped)),))]


# -- A hex dump -------------------------------------------------------------------------------------------------------

PAIRS = re.compile(r"(?:(?:0x)?[0-9A-Fa-f]{2}[\s,:;-]*)*")


def from_hex(data: bytes) -> bytes | None:
    """The bytes that a dump stands for: that of xxd, of hexdump -C, of Wireshark, or digits alone. None for no dump."""
    try:
        lines = [line for line in data.decode("ascii").splitlines() if line.strip()]
    except UnicodeDecodeError:
        return None
    for read in (digits_behind_offsets, "".join):
        digits = read(lines)
        if digits and PAIRS.fullmatch(digits.strip()):
            return bytes.fromhex(re.sub(r"0x|[^0-9A-Fa-f]", "", digits))
    return None


def digits_behind_offsets(lines: list[str]) -> str | None:
    """The digits of lines that begin with how many bytes came before, and may end with the same as text."""
    digits = ""
    for line in lines:
        found = re.match(r"\s*([0-9A-Fa-f]{4,16})(?:(:)\s|\s|$)\s*(.*)", line)
        if found is None or int(found[1], 16) != len(digits) // 2:
            return None
        if not found[3]:
            break  # hexdump ends with the length
        columns = re.split(r"\s{2,}(?=\|)|\s{3,}", found[3]) if found[2] is None else re.split(r"\s{2,}", found[3])
        digits += re.sub(r"\s", "", columns[0])
    return digits


# -- A packet capture -------------------------------------------------------------------------------------------------


Half = tuple[tuple[bytes, int], tuple[bytes, int]]
"""One direction: (address, port) from which, and to which."""


@dataclass
class _Half:
    """The segments of one direction, as they came."""

    start: int | None = None
    segments: list[tuple[int, bytes, float]] = field(default_factory=list)

    def flow(self) -> Flow:
        """Them in order, and each byte once."""
        flow = Flow()
        for at, data, time in sorted(self.segments, key=lambda segment: (segment[0], -len(segment[1]))):
            behind = len(flow.data) - at
            if behind < 0:
                flow.missing = -behind
                break
            if behind < len(data):
                flow.add(data[behind:], time)
        return flow

    def add(self, sequence: int, data: bytes, time: float) -> None:
        if self.start is None:
            self.start = sequence  # the capture began later than the connection
        at = (sequence - self.start) % (2 * HALF)
        if data and at < HALF:
            self.segments.append((at, data, time))


def packets(data: bytes) -> Iterator[Conversation]:
    """Each TCP connection of a capture."""
    halves: dict[Half, _Half] = {}
    for time, ip in ip_packets(data):
        tcp = ip.data
        key = ((ip.src, tcp.sport), (ip.dst, tcp.dport))
        if not tcp.flags & SYN:
            halves.setdefault(key, _Half()).add(tcp.seq, bytes(tcp.data), time)
            continue
        if not tcp.flags & ACK and key in halves and halves[key].segments:
            yield taken_out(halves, key)  # another connection between the same ports
        halves[key] = _Half((tcp.seq + 1) % (2 * HALF))  # its number is that of the byte before the first
    while halves:
        yield taken_out(halves, next(iter(halves)))


def taken_out(halves: dict[Half, _Half], key: Half) -> Conversation:
    there, back = halves.pop(key), halves.pop((key[1], key[0]), _Half())
    name = " and ".join(f"{address(host)}:{port}" for host, port in key)
    return Conversation(name, (there.flow(), back.flow()))


def ip_packets(data: bytes) -> Iterator[tuple[float, Any]]:
    """(seconds from the first one, packet) of those that carry TCP."""
    dpkt = import_module("dpkt")
    try:
        reader = dpkt.pcap.UniversalReader(BytesIO(data))
        links = {1: dpkt.ethernet.Ethernet, 113: dpkt.sll.SLL, 276: dpkt.sll2.SLL2, 0: dpkt.loopback.Loopback}
        kind = reader.datalink()
        if kind not in links and kind not in (12, 14, 101):
            raise NoCapture(f"the capture is of a network of kind {kind}: Ethernet, loopback, cooked and raw are known")
        first = None
        for time, packet in reader:
            first = time if first is None else first
            ip = links[kind](packet).data if kind in links else raw(dpkt, packet)
            if isinstance(ip, (dpkt.ip.IP, dpkt.ip6.IP6)) and isinstance(ip.data, dpkt.tcp.TCP):
                yield time - first, ip
    except (ValueError, struct.error, dpkt.dpkt.Error) as error:
        if isinstance(error, NoCapture):
            raise
        raise NoCapture(f"the capture cannot be read: {error}") from error


def raw(dpkt: Any, packet: bytes) -> Any:
    return (dpkt.ip6.IP6 if packet[0] >> 4 == 6 else dpkt.ip.IP)(packet)


def address(packed: bytes) -> str:
    return f"[{socket.inet_ntop(socket.AF_INET6, packed)}]" if len(packed) > 4 else socket.inet_ntoa(packed)


def opens_websocket(flow: Flow) -> bool:
    """Whether it begins with one half of an opening handshake."""
    head = flow.data.partition(b"\r\n\r\n")[0]
    return re.match(rb"GET \S+ HTTP/1|HTTP/1", head) is not None and b"upgrade: websocket" in head.lower()
