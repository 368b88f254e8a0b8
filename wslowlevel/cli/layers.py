"""Decode packets down to their TCP segments: link header, VLAN tags, IPv4 and IPv6, fragments, TCP.

dpkt parses the headers of IP and TCP. The lengths are computed here, because a captured packet may be longer than its
IP packet (padding of Ethernet), shorter (cut off by the capture), or have no IP length (segmentation offload).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .packets import Packet, Remarks, Unreadable

Address = tuple[bytes, int]
"""(IP address, port)"""

ETHERNET, SLL, SLL2, IPV4, IPV6 = 1, 113, 276, 228, 229
RAW = (12, 14, 101)
LOOPBACK = (0, 108)
"""Link types. BSD's loopback header has the byte order of the machine (0), or the network's (108)."""

ETHER_IPV4, ETHER_IPV6 = 0x0800, 0x86DD
VERSIONS = {4: ETHER_IPV4, 6: ETHER_IPV6}
VLAN_TAGS = (0x8100, 0x88A8, 0x9100, 0x9200)
"""EtherTypes of a VLAN tag, and of the outer one of two (QinQ)."""

FAMILIES = {2: ETHER_IPV4, **dict.fromkeys((10, 23, 24, 28, 30), ETHER_IPV6)}
"""Protocol families of a loopback header; each system has its own number for IPv6."""

ETHERTYPES = {
    # link type: (name, length of its header, offset of the EtherType)
    ETHERNET: ("Ethernet", 14, 12),
    SLL: ("Linux cooked", 16, 14),
    SLL2: ("Linux cooked v2", 20, 0),
}

TCP, FRAGMENT = 6, 44
EXTENSIONS = (0, 43, FRAGMENT, 51, 60)
"""Next headers of IPv6 that may precede TCP: hop-by-hop, routing, fragment, authentication, destination."""

CUT_OFF = "captured only in part: the bytes cut off count as missing"


@dataclass(frozen=True)
class Segment:
    """One TCP segment (RFC 9293 §3.1).

    Attributes:
        packet: the packet that it came in, or the last fragment of it.
        length: bytes of payload on the wire; more than `data` has if the capture cut it off.
    """

    packet: Packet
    source: Address
    target: Address
    sequence: int
    ack: int
    flags: int
    data: bytes
    length: int


def segments(packets: Iterable[Packet], remarks: Remarks) -> Iterator[Segment]:
    """Return the TCP segments of packets, after a remark on each packet that cannot be decoded.

    Raises:
        ImportError: dpkt is not installed.
    """
    decoder = _Decoder(remarks)
    for packet in packets:
        try:
            segment = decoder.segment(packet)
        except Unreadable as error:
            remarks.add(packet.number, str(error))
        else:
            if segment is not None:
                yield segment
    decoder.fragments.remark_incomplete(remarks)


@dataclass(frozen=True)
class _Datagram:
    """An IP packet without its headers, or a fragment of one.

    Attributes:
        length: bytes of the payload on the wire.
        offset: of a fragment, bytes before it; 0 otherwise.
        more: whether fragments follow.
        identity: the same for all fragments of a packet.
    """

    source: bytes
    target: bytes
    payload: bytes
    length: int
    offset: int = 0
    more: bool = False
    identity: int = 0


class _Decoder:
    def __init__(self, remarks: Remarks) -> None:
        from dpkt import dpkt, ip, ip6, tcp  # noqa: PLC0415 - an optional dependency

        self._ip, self._ip6, self._tcp = ip, ip6, tcp
        # dpkt does not wrap all errors of its parsers, and has no parser for ESP.
        others = (ValueError, struct.error, LookupError, NotImplementedError)
        self._errors = (dpkt.Error, *others)
        self._remarks = remarks
        self.fragments = _Fragments()

    def segment(self, packet: Packet) -> Segment | None:
        """Return the TCP segment of a packet, None for a packet of another protocol or an incomplete fragment.

        Raises:
            Unreadable: a header is cut off or makes no sense.
        """
        kind, begin = network_layer(packet)
        if kind not in (ETHER_IPV4, ETHER_IPV6):
            return None
        data, length = packet.data[begin:], packet.length - begin
        version = 6 if kind == ETHER_IPV6 else 4
        need(data, 40 if version == 6 else 20, f"IPv{version}")
        if data[0] >> 4 != version:
            raise Unreadable(f"its IP header names version {data[0] >> 4}, but its link header names IPv{version}")
        try:
            datagram = self._ipv6(data, length) if version == 6 else self._ipv4(data, length)
            if datagram is not None and (datagram.more or datagram.offset):
                datagram = self.fragments.add(packet.number, datagram)
            return None if datagram is None else self._segment(packet, datagram)
        except self._errors as error:
            if isinstance(error, Unreadable):
                raise
            raise Unreadable(f"a header of it cannot be read: {error}") from error

    def _ipv4(self, data: bytes, length: int) -> _Datagram | None:
        if data[9] != TCP:
            return None
        begin = (data[0] & 0xF) * 4
        if begin < 20:
            raise Unreadable(f"its IPv4 header claims {begin} bytes, at least 20 are needed")
        need(data, begin, "IPv4")
        header = self._ip.IP(data[:begin])
        end = header.len or length  # segmentation offload leaves the length 0
        if end < begin:
            raise Unreadable(f"its IPv4 length is {end}, less than its header has")
        return _Datagram(
            *(header.src, header.dst, data[begin:end], end - begin),
            offset=header.offset * 8,
            more=bool(header.mf),
            identity=header.id,
        )

    def _ipv6(self, data: bytes, length: int) -> _Datagram | None:
        if data[6] not in (TCP, *EXTENSIONS):
            return None
        header = self._ip6.IP6(data)
        end = 40 + header.plen if header.plen else length  # 0 for a jumbogram, and for segmentation offload
        begin = 40 + sum(extension.length for extension in header.all_extension_headers)
        if header.p != TCP or begin > end:
            return None
        offset, more, identity = 0, False, 0
        for extension in header.all_extension_headers:
            if isinstance(extension, self._ip6.IP6FragmentHeader):
                offset, more, identity = extension.frag_off * 8, bool(extension.m_flag), extension.id
        return _Datagram(header.src, header.dst, data[begin:end], end - begin, offset, more, identity)

    def _segment(self, packet: Packet, datagram: _Datagram) -> Segment:
        need(datagram.payload, 20, "TCP")
        header: Any = self._tcp.TCP(datagram.payload)
        begin = header.off * 4
        length = datagram.length - begin
        if length < 0:
            raise Unreadable(f"its TCP header has {begin} bytes, but the packet has {datagram.length}")
        data = datagram.payload[begin:]
        if len(data) < length:
            self._remarks.add(packet.number, CUT_OFF)
        source, target = (datagram.source, header.sport), (datagram.target, header.dport)
        return Segment(packet, source, target, header.seq, header.ack, header.flags, data, length)


def network_layer(packet: Packet) -> tuple[int | None, int]:
    """Return the EtherType of what a packet carries, None for an unknown family, and the offset where it begins.

    Raises:
        Unreadable: the link header is cut off, or the link type is unknown.
    """
    data, link = packet.data, packet.link
    if link in ETHERTYPES:
        name, begin, at = ETHERTYPES[link]
        need(data, begin, name)
        kind = int.from_bytes(data[at : at + 2], "big")
        while kind in VLAN_TAGS:
            need(data, begin + 4, "VLAN")
            kind = int.from_bytes(data[begin + 2 : begin + 4], "big")
            begin += 4
        return kind, begin
    if link in LOOPBACK:
        need(data, 4, "loopback")
        family = min(int.from_bytes(data[:4], "little"), int.from_bytes(data[:4], "big"))
        return FAMILIES.get(family), 4
    if link in (*RAW, IPV4, IPV6):
        need(data, 1, "IP")
        version = data[0] >> 4
        if version not in VERSIONS:
            raise Unreadable(f"its IP header names version {version}; 4 and 6 are known")
        return VERSIONS[version], 0
    raise Unreadable(f"link type {link} is not supported (Ethernet, Linux cooked, loopback and raw IP are)")


def need(data: bytes, length: int, name: str) -> None:
    """Raise Unreadable unless a header is whole."""
    if len(data) < length:
        has = f"{len(data)} byte{'' if len(data) == 1 else 's'}"
        raise Unreadable(f"{has} where the {name} header has {length}" if data else f"no bytes for the {name} header")


@dataclass
class _Fragments:
    """Fragments of IP packets that wait for the others (RFC 791 §3.2, RFC 8200 §4.5)."""

    _waiting: dict[tuple[bytes, bytes, int], dict[int, tuple[int, _Datagram]]] = field(default_factory=dict)

    def add(self, number: int, fragment: _Datagram) -> _Datagram | None:
        """Return the whole packet if this was the last fragment to come, else None."""
        key = (fragment.source, fragment.target, fragment.identity)
        parts = self._waiting.setdefault(key, {})
        parts[fragment.offset] = (number, fragment)
        payload = b""
        for offset in sorted(parts):
            part = parts[offset][1]
            if offset > len(payload):
                return None
            payload = payload[:offset] + part.payload
            if not part.more:
                del self._waiting[key]
                return _Datagram(fragment.source, fragment.target, payload, offset + part.length)
            if len(part.payload) < part.length:
                return None
        return None

    def remark_incomplete(self, remarks: Remarks) -> None:
        for parts in self._waiting.values():
            for number, _ in parts.values():
                remarks.add(number, "a fragment of an IP packet whose other fragments are missing")
