"""Read text dumps of whole packets (tcpdump -x, tshark -x) and of both sides ("Follow TCP Stream" of Wireshark).

A dump of packets has a block of lines for each packet, whose offsets begin at 0 again. It does not contain the link
type, so a link type is taken with which a packet is an IP packet whose checksum or length fits.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator
from datetime import datetime, timezone

from .hexdump import LINE, from_array, from_digits, from_dump
from .layers import ETHER_IPV4, ETHER_IPV6, ETHERNET, SLL, SLL2, network_layer
from .packets import Packet, Unreadable

RAW_IP = 101

TIME = re.compile(r"\s*(?:(\d{4}-\d\d-\d\d) )?(\d\d):(\d\d):(\d\d)\.(\d{1,9})\s|\s*(\d{9,10})\.(\d{1,9})\s")
"""(date, hours, minutes, seconds, fraction) or (seconds since 1970, fraction) before the summary of a packet."""

FOLLOW_HEADER = re.compile(r"=+$|Follow: |Filter: |Node \d: |\s*$")
"""Lines of tshark around a followed stream."""


# -- Packets ----------------------------------------------------------------------------------------------------------


def dumped_packets(text: str) -> list[Packet] | None:
    """Return the packets of a dump, None if it is no dump of packets."""
    found = [(data, time) for time, lines in _blocks(text) if (data := from_dump("\n".join(lines)))]
    links = [link for data, _ in found if (link := link_of(data)) is not None]
    if not links:
        return None
    link = max(links, key=links.count)
    times = [time for _, time in found if time is not None]
    if times != sorted(times):  # differences (tcpdump -ttt), or no date at midnight
        found = [(data, None) for data, _ in found]
    return [Packet(number, time, link, data, len(data)) for number, (data, time) in enumerate(found, 1)]


def _blocks(text: str) -> Iterator[tuple[int | None, list[str]]]:
    """Return (time in nanoseconds, lines) of each packet."""
    time, lines = None, list[str]()
    for line in text.splitlines():
        found = LINE.match(line)
        is_inside = line.strip() == "*" or (found is not None and int(found[1], 16) > 0)
        if lines and not is_inside:
            yield time, lines
            time, lines = None, []
        if lines or (found is not None and not is_inside and found[3]):
            lines.append(line)
        elif line.strip():
            time = _time(line) or time  # tcpdump -v writes two lines
    if lines:
        yield time, lines


def _time(line: str) -> int | None:
    found = TIME.match(line)
    if found is None:
        return None
    date, hours, minutes, seconds, fraction, since_1970, fraction_since = found.groups()
    if since_1970:
        return int(since_1970) * 10**9 + int(fraction_since.ljust(9, "0"))
    try:
        day = datetime.fromisoformat(date or "1970-01-01").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    whole = int(day.timestamp()) + int(hours) * 3600 + int(minutes) * 60 + int(seconds)
    return whole * 10**9 + int(fraction.ljust(9, "0"))


def link_of(data: bytes) -> int | None:
    """Return the link type with which some bytes are an IP packet, None if there is none."""
    for link in (RAW_IP, ETHERNET, SLL, SLL2):
        try:
            kind, begin = network_layer(Packet(0, None, link, data, len(data)))
        except Unreadable:
            continue
        if kind == ETHER_IPV4 and is_ipv4(data[begin:]):
            return link
        if kind == ETHER_IPV6 and is_ipv6(data[begin:]):
            return link
    return None


def is_ipv4(data: bytes) -> bool:
    """Return whether these bytes are an IPv4 packet: its checksum is right (RFC 791 §3.1), or it has none but fits."""
    head = data[: (data[0] & 0xF) * 4] if data else b""
    if len(head) < 20 or data[0] >> 4 != 4:
        return False
    total = sum(int.from_bytes(head[at : at + 2], "big") for at in range(0, len(head), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF or (head[10:12] == b"\0\0" and int.from_bytes(head[2:4], "big") == len(data))


def is_ipv6(data: bytes) -> bool:
    """Return whether these bytes are an IPv6 packet: it has no checksum, but its length fits."""
    return len(data) >= 40 and data[0] >> 4 == 6 and int.from_bytes(data[4:6], "big") == len(data) - 40


# -- Followed streams -------------------------------------------------------------------------------------------------


def followed(text: str) -> tuple[bytes, bytes] | None:
    """Return the bytes of both sides of a followed stream, None if it is none.

    Wireshark writes the second side indented (hex dump, raw), with another number in the name of its arrays (C
    arrays), or as another peer (YAML).
    """
    for read in (_of_arrays, _of_yaml, _of_indentation):
        sides = read(text)
        if sides is not None:
            return sides
    return None


def _of_arrays(text: str) -> tuple[bytes, bytes] | None:
    found = re.findall(r"peer([01])_\d+\[\]\s*=\s*(\{[^}]*\})", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL))
    if not found:
        return None
    first, second = (b"".join(from_array(body) or b"" for peer, body in found if peer == side) for side in "01")
    return first, second


def _of_yaml(text: str) -> tuple[bytes, bytes] | None:
    if not re.search(r"^peers:$", text, re.MULTILINE):
        return None
    found = re.findall(r"peer: ([01])\n(?:\s+\w+: [^\n]*\n)*?\s+data: !!binary \|\n((?:\s+[A-Za-z0-9+/=]+)+)", text)
    try:
        first, second = (b"".join(b64decode(data) for peer, data in found if peer == side) for side in "01")
    except ValueError:
        return None
    return first, second


def _of_indentation(text: str) -> tuple[bytes, bytes] | None:
    lines = [line for line in text.splitlines() if not FOLLOW_HEADER.match(line)]
    sides = ["\n".join(line for line in lines if line[:1].isspace() is indented) for indented in (False, True)]
    if not all(sides):
        return None
    for read in (from_dump, from_digits):
        first, second = (read(side) for side in sides)
        if first and second:
            return first, second
    return None
