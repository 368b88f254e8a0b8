"""Builders of captures: TCP connections, link headers, and the file formats pcap and pcapng."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

import dpkt

from wslowlevel import Opcode
from wslowlevel.codec import encode_frame
from wslowlevel.handshake import accept_key

from .servers import handshake, masked
from .vectors import KEY

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10

REQUEST = handshake(target="/chat")
WEBSOCKET_KEY = REQUEST.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0].decode()


def switching(*headers: str) -> bytes:
    """Return the 101 that answers REQUEST."""
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    accept = f"Sec-WebSocket-Accept: {accept_key(WEBSOCKET_KEY)}"
    return "\r\n".join([*lines, accept, *headers, "", ""]).encode()


ANSWER = switching()
HELLO = masked(Opcode.TEXT, b"Hello")
BACK = encode_frame(Opcode.TEXT, b"Hello back")
BAD = b"\x83\x80" + KEY
"""A frame of a client with a reserved opcode."""


@dataclass
class Talk:
    """A TCP connection as a list of IP packets; side 0 is the client."""

    ports: tuple[int, int] = (40000, 80)
    is_v6: bool = False
    options: bytes = b""
    """Of IPv4, or extension headers of IPv6 that begin with hop-by-hop options."""
    has_length: bool = True
    """False leaves the length of IP 0, as segmentation offload does."""
    next: list[int] = field(default_factory=lambda: [2**32 - 100, 5000])
    packets: list[bytes] = field(default_factory=list)

    def opened(self) -> Talk:
        return self.send(0, flags=SYN).send(1, flags=SYN | ACK).send(0, flags=ACK)

    def upgraded(self, answer: bytes = ANSWER) -> Talk:
        return self.opened().send(0, REQUEST).send(1, answer)

    def send(self, side: int, data: bytes = b"", flags: int = ACK, *, at: int | None = None, ack: int = 0) -> Talk:
        """Add a segment; `at` is relative to the next number, and leaves that as it is."""
        sequence = self.next[side] + (at or 0)
        tcp = dpkt.tcp.TCP(
            sport=self.ports[side],
            dport=self.ports[1 - side],
            seq=sequence % 2**32,
            ack=(self.next[1 - side] + ack) % 2**32,
            flags=flags,
            data=data,
        )
        if at is None:
            self.next[side] += len(data) + bool(flags & (SYN | FIN))
        self.packets.append(self._ip(side, bytes(tcp)))
        return self

    def lose(self, side: int, data: bytes) -> Talk:
        """Count bytes as sent, but leave them out of the capture."""
        self.next[side] += len(data)
        return self

    def _ip(self, side: int, tcp: bytes) -> bytes:
        if self.is_v6:
            ends = [socket.inet_pton(socket.AF_INET6, host) for host in ("::1", "::2")]
            following = 0 if self.options else 6
            length = len(self.options) + len(tcp) if self.has_length else 0
            head = struct.pack(">IHBB", 6 << 28, length, following, 64)
            return head + ends[side] + ends[1 - side] + self.options + tcp
        length = 20 + len(self.options) + len(tcp) if self.has_length else 0
        begin = struct.pack(">BBHHHBBH", 0x45 + len(self.options) // 4, 0, length, len(self.packets), 0, 64, 6, 0)
        ends = [socket.inet_aton(host) for host in ("10.0.0.1", "10.0.0.2")]
        return begin + ends[side] + ends[1 - side] + self.options + tcp


def ethernet(ip: bytes, *tags: int, padding: bytes = b"") -> bytes:
    """Put an Ethernet header before an IP packet, with a VLAN tag for each of the given EtherTypes."""
    kind = b"\x86\xdd" if ip[:1] >= b"\x60" else b"\x08\x00"
    tagged = b"".join(struct.pack(">HH", tag, 7) for tag in tags)
    return b"\x02" * 6 + b"\x04" * 6 + tagged + kind + ip + padding


def pcap(
    packets: Iterable[bytes], *, link: int = 1, snaplen: int = 65535, order: str = "<", nanoseconds: bool = False
) -> bytes:
    """Return a pcap file; its packets are a millisecond apart."""
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    file = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, snaplen, link)
    for number, packet in enumerate(packets):
        data, time = packet[:snaplen], number * 1000 * (1000 if nanoseconds else 1)
        file += struct.pack(f"{order}IIII", 1000, time, len(data), len(packet)) + data
    return file


def capture(talk: Talk, *, snaplen: int = 65535) -> bytes:
    return pcap(map(ethernet, talk.packets), snaplen=snaplen)


@dataclass
class Blocks:
    """Blocks of a pcapng file in a byte order."""

    order: str = "<"

    def block(self, kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        length = struct.pack(f"{self.order}I", len(body) + 12)
        return struct.pack(f"{self.order}I", kind) + length + body + length

    def section(self) -> bytes:
        return self.block(0x0A0D0D0A, struct.pack(f"{self.order}IHHq", 0x1A2B3C4D, 1, 0, -1))

    def interface(self, link: int, *options: tuple[int, bytes], snaplen: int = 0) -> bytes:
        body = struct.pack(f"{self.order}HHI", link, 0, snaplen)
        for code, value in (*options, (0, b"")) if options else ():
            body += struct.pack(f"{self.order}HH", code, len(value)) + value + bytes(-len(value) % 4)
        return self.block(1, body)

    def packet(self, data: bytes, *, interface: int = 0, time: int = 0, length: int | None = None) -> bytes:
        length = len(data) if length is None else length
        times = (time >> 32, time % 2**32)
        return self.block(6, struct.pack(f"{self.order}IIIII", interface, *times, len(data), length) + data)

    def old_packet(self, data: bytes, *, interface: int = 0, time: int = 0) -> bytes:
        times = (time >> 32, time % 2**32)
        return self.block(2, struct.pack(f"{self.order}HHIIII", interface, 0, *times, len(data), len(data)) + data)

    def simple_packet(self, data: bytes, *, length: int | None = None) -> bytes:
        return self.block(3, struct.pack(f"{self.order}I", len(data) if length is None else length) + data)
