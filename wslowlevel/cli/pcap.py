"""Read the packets of a capture file: pcap, and pcapng with all its sections and interfaces.

Every packet gets the number that Wireshark shows for it. A damaged or truncated file gives the packets before the
damage, and a remark. Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from .packets import NoCapture, Packet, Remarks, Unreadable

SECTION, INTERFACE, OLD_PACKET, SIMPLE_PACKET, ENHANCED_PACKET = 0x0A0D0D0A, 1, 2, 3, 6
"""Block types of pcapng that matter here; all others are skipped."""

PACKET_BLOCKS = (OLD_PACKET, SIMPLE_PACKET, ENHANCED_PACKET)
PCAPNG = bytes.fromhex("0a0d0d0a")

PCAP = {
    bytes.fromhex("d4c3b2a1"): ("<", 1000, 16),
    bytes.fromhex("a1b2c3d4"): (">", 1000, 16),
    bytes.fromhex("4d3cb2a1"): ("<", 1, 16),
    bytes.fromhex("a1b23c4d"): (">", 1, 16),
    bytes.fromhex("34cdb2a1"): ("<", 1000, 24),  # a variant of early Linux distributions, which Wireshark reads too
    bytes.fromhex("a1b2cd34"): (">", 1000, 24),
}
"""First bytes of a pcap file: (byte order, nanoseconds per unit of time, length of a packet's header)."""

MAGICS = (*PCAP, PCAPNG)

LINK_TYPE = 0x03FF_FFFF
"""The bits of a pcap header's network field that are the link type; the others describe a checksum behind frames."""

IF_TSRESOL, IF_TSOFFSET = 9, 14
"""Options of an interface: the unit of its times, and seconds to add to them."""

ENDS_INSIDE = "the file ends inside this packet, which is left out"


def read_packets(data: bytes, remarks: Remarks) -> Iterator[Packet]:
    """Return the packets of a capture file.

    Raises:
        NoCapture: the header of the file cannot be read.
    """
    return _Blocks(data, remarks).packets() if data.startswith(PCAPNG) else _pcap(data, remarks)


def _pcap(data: bytes, remarks: Remarks) -> Iterator[Packet]:
    order, unit, header = PCAP[data[:4]]
    if len(data) < 24:
        raise NoCapture(f"the capture has {len(data)} bytes, but the header of a pcap file has 24")
    link = struct.unpack_from(f"{order}I", data, 20)[0] & LINK_TYPE
    at, number = 24, 1
    while at < len(data):
        if at + header > len(data):
            remarks.add(number, ENDS_INSIDE)
            return
        seconds, fraction, captured, length = struct.unpack_from(f"{order}IIII", data, at)
        at += header
        if captured > len(data) - at:
            remarks.add(number, ENDS_INSIDE)
            return
        yield Packet(number, seconds * 10**9 + fraction * unit, link, data[at : at + captured], length)
        at += captured
        number += 1


@dataclass(frozen=True)
class _Interface:
    link: int
    snaplen: int
    ticks: int
    """Units of time per second."""
    offset: int
    """Seconds to add to each time."""

    def time(self, high: int, low: int) -> int:
        return (high << 32 | low) * 10**9 // self.ticks + self.offset * 10**9


class _Blocks:
    """The blocks of a pcapng file, read one after another."""

    def __init__(self, data: bytes, remarks: Remarks) -> None:
        self._data = data
        self._remarks = remarks
        self._order = "<"
        self._interfaces: list[_Interface] = []
        self._number = 0

    def packets(self) -> Iterator[Packet]:
        at = 0
        while at < len(self._data):
            block = self._block(at)
            if block is None:
                return
            kind, body = block
            at += len(body) + 12
            if kind == INTERFACE:
                self._add_interface(body)
            elif kind in PACKET_BLOCKS:
                self._number += 1
                try:
                    yield self._packet(kind, body)
                except Unreadable as error:
                    self._remarks.add(self._number, str(error))

    def _block(self, at: int) -> tuple[int, bytes] | None:
        """Return the type and the body of the block at an offset, None after a remark if it is not whole."""
        data = self._data
        if data.startswith(PCAPNG, at):
            self._open_section(at)
        if at + 12 > len(data):
            self._stop(at, None)
            return None
        kind, length = self._unpack("II", data, at)
        if length < 12 or at + length > len(data):
            self._stop(at, kind if length >= 12 else None)
            return None
        if self._unpack("I", data, at + length - 4)[0] != length:
            self._stop(at, None)
            return None
        return kind, data[at + 8 : at + length - 4]

    def _open_section(self, at: int) -> None:
        """Each section has its own byte order and its own interfaces."""
        order = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}.get(self._data[at + 8 : at + 12])
        if order is None and not at:
            raise NoCapture("the capture's first block is not the header of a pcapng file")
        self._order = order or self._order
        self._interfaces = []

    def _stop(self, at: int, kind: int | None) -> None:
        if kind in PACKET_BLOCKS:
            self._remarks.add(self._number + 1, ENDS_INSIDE)
        else:
            behind = f"behind packet {self._number}" if self._number else "before its first packet"
            self._remarks.add_to_file(f"the file is damaged or ends {behind}, at byte {at:,}: the rest is left out")

    def _unpack(self, fields: str, data: bytes, at: int = 0) -> tuple[int, ...]:
        return struct.unpack_from(self._order + fields, data, at)

    def _add_interface(self, body: bytes) -> None:
        if len(body) < 8:
            body += bytes(8)
        link, _, snaplen = self._unpack("HHI", body)
        options = self._options(body[8:])
        resolution = options.get(IF_TSRESOL, b"\x06")[:1] or b"\x06"
        base, exponent = (2, resolution[0] & 0x7F) if resolution[0] & 0x80 else (10, resolution[0])
        offset = options.get(IF_TSOFFSET, b"")
        seconds = self._unpack("q", offset)[0] if len(offset) == 8 else 0
        self._interfaces.append(_Interface(link, snaplen, base**exponent, seconds))

    def _options(self, data: bytes) -> dict[int, bytes]:
        options, at = {}, 0
        while at + 4 <= len(data):
            code, length = self._unpack("HH", data, at)
            if not code:
                break
            options[code] = data[at + 4 : at + 4 + length]
            at += 4 + length + -length % 4
        return options

    def _packet(self, kind: int, body: bytes) -> Packet:
        """Return the packet of a block.

        Raises:
            Unreadable: the block makes no sense.
        """
        size = 4 if kind == SIMPLE_PACKET else 20
        if len(body) < size:
            raise Unreadable(f"its block has {len(body)} bytes, {size} are needed at least")
        interface = high = low = 0
        if kind == ENHANCED_PACKET:
            interface, high, low, captured, length = self._unpack("IIIII", body)
        elif kind == OLD_PACKET:
            interface, _, high, low, captured, length = self._unpack("HHIIII", body)
        else:
            length = captured = self._unpack("I", body)[0]
        if interface >= len(self._interfaces):
            raise Unreadable(f"it names interface {interface}, but the file describes {len(self._interfaces)}")
        source = self._interfaces[interface]
        if kind == SIMPLE_PACKET:  # it has no captured length
            captured = min(length, source.snaplen or length, len(body) - size)
        if captured > len(body) - size:
            raise Unreadable(f"its block has {len(body) - size} bytes of it, and claims {captured:,}")
        time = None if kind == SIMPLE_PACKET else source.time(high, low)
        return Packet(self._number, time, source.link, body[size : size + captured], length)
