"""`wslowlevel inspect`: the file formats, link types and headers of captures."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wslowlevel.cli.capture import NoCapture, conversations
from wslowlevel.cli.inspect import inspect, rows_of

from .captures import BACK, HELLO, Blocks, Talk, capture, ethernet, pcap

FRAMES = [("client", "handshake"), ("server", "handshake"), ("client", "TEXT"), ("server", "TEXT")]


def talk(*, is_v6: bool = False, has_length: bool = True) -> Talk:
    return Talk(is_v6=is_v6, has_length=has_length).upgraded().send(0, HELLO).send(1, BACK)


def read(data: bytes) -> tuple[list[str], list[tuple[str, str]], list[str]]:
    """Return the remarks on packets, (sender, frame) of each row, and the remarks among the rows."""
    remarks: list[str] = []
    rows = [row for each in conversations(data, remarks.append) for _, row in rows_of(each, None)]
    assert not any(row.is_violation for row in rows)
    return remarks, [(row.sender, row.what) for row in rows if row.what], [row.text for row in rows if not row.what]


# -- File formats -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("nanoseconds", [False, True])
def test_pcap_in_both_byte_orders_and_clocks(order: str, nanoseconds: bool) -> None:
    data = pcap(map(ethernet, talk().packets), order=order, nanoseconds=nanoseconds)
    assert read(data) == ([], FRAMES, [])
    (found,) = conversations(data)
    assert [time for time, _ in rows_of(found, None)] == pytest.approx([0.003, 0.004, 0.005, 0.006])


def test_pcap_with_long_packet_headers_is_read() -> None:
    packets = [ethernet(packet) for packet in talk().packets]
    file = struct.pack("<IHHiIII", 0xA1B2CD34, 2, 4, 0, 0, 65535, 1)
    file += b"".join(struct.pack("<IIII8x", 0, 0, len(each), len(each)) + each for each in packets)
    assert read(file) == ([], FRAMES, [])


def test_checksum_length_in_the_link_type_is_ignored() -> None:
    assert read(pcap(map(ethernet, talk().packets), link=1 | 0x5400_0000)) == ([], FRAMES, [])


@pytest.mark.parametrize("cut", [1, 50, 70])
def test_truncated_pcap_is_read_up_to_the_cut(cut: int) -> None:
    remarks, frames, _ = read(capture(talk())[:-cut])
    assert remarks == ["packet 7: the file ends inside this packet, which is left out"]
    assert frames == FRAMES[:-1]


def test_capture_compressed_with_gzip_is_read() -> None:
    assert read(gzip.compress(capture(talk()))) == ([], FRAMES, [])
    remarks, frames, _ = read(gzip.compress(capture(talk()), 0)[:-60])
    assert remarks == ["packet 7: the file ends inside this packet, which is left out"]
    assert frames == FRAMES[:-1]
    assert len(conversations(gzip.compress(b"other"))) == 1


@pytest.mark.parametrize("order", "<>")
def test_pcapng_in_both_byte_orders(order: str) -> None:
    blocks = Blocks(order)
    file = blocks.section() + blocks.interface(1)
    file += b"".join(blocks.packet(ethernet(packet)) for packet in talk().packets)
    assert read(file) == ([], FRAMES, [])


def test_interfaces_of_different_link_types_are_read() -> None:
    blocks = Blocks()
    file = blocks.section() + blocks.interface(1) + blocks.interface(101)
    for number, packet in enumerate(talk().packets):
        file += blocks.packet(packet if number % 2 else ethernet(packet), interface=number % 2, time=number)
    assert read(file) == ([], FRAMES, [])


def test_each_section_has_its_own_interfaces_and_byte_order() -> None:
    file = b""
    for order, packets in (("<", talk().packets[:4]), (">", talk().packets[4:])):
        blocks = Blocks(order)
        link = 1 if order == "<" else 101
        file += blocks.section() + blocks.interface(link)
        file += b"".join(blocks.packet(ethernet(packet) if link == 1 else packet) for packet in packets)
    assert read(file) == ([], FRAMES, [])


RESOLUTIONS = [(b"\x06", 10**6), (b"\x09", 10**9), (b"\x03", 10**3), (b"\x8a", 2**10)]


@pytest.mark.parametrize(("option", "ticks"), RESOLUTIONS)
def test_each_interface_has_its_own_clock(option: bytes, ticks: int) -> None:
    blocks = Blocks()
    offset = struct.pack("<q", -5)
    file = blocks.section() + blocks.interface(1) + blocks.interface(1, (9, option), (14, offset))
    for number, packet in enumerate(talk().packets):
        time = (1000 + number) * 10**6 if number % 2 else (1005 + number) * ticks
        file += blocks.packet(ethernet(packet), interface=1 - number % 2, time=time)
    (found,) = conversations(file)
    assert [time for time, _ in rows_of(found, None)] == [3, 4, 5, 6]


def test_simple_and_old_packet_blocks_are_read() -> None:
    blocks = Blocks()
    file = blocks.section() + blocks.interface(1)
    for number, packet in enumerate(talk().packets):
        write = blocks.simple_packet if number % 2 else blocks.old_packet
        file += write(ethernet(packet))
    assert read(file) == ([], FRAMES, [])


def test_simple_packets_alone_have_no_times(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = Blocks()
    file = blocks.section() + blocks.interface(1)
    file += b"".join(blocks.simple_packet(ethernet(packet)) for packet in talk().packets)
    assert inspect(file, None) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [(row[1], row[2]) for row in rows] == FRAMES


def test_simple_packet_is_cut_off_at_the_snaplen_of_its_interface() -> None:
    blocks = Blocks()
    *packets, last = map(ethernet, talk().packets)
    file = blocks.section() + blocks.interface(1, snaplen=len(last) - 4)
    file += b"".join(blocks.packet(packet) for packet in packets) + blocks.simple_packet(last[:-4], length=len(last))
    remarks, frames, texts = read(file)
    assert remarks == ["packet 7: captured only in part: the bytes cut off count as missing"]
    assert frames == FRAMES
    assert texts == ["the capture lacks 4 bytes here"]


def test_unknown_blocks_are_skipped() -> None:
    blocks = Blocks()
    others = b"".join(blocks.block(kind, b"12345") for kind in (4, 5, 9, 10, 0xBAD, 0x40000BAD, 77))
    file = blocks.section() + others + blocks.interface(1) + others
    file += b"".join(blocks.packet(ethernet(packet)) + others for packet in talk().packets)
    assert read(file) == ([], FRAMES, [])


def test_packet_of_an_interface_that_was_not_described() -> None:
    blocks = Blocks()
    packets = [blocks.packet(ethernet(packet)) for packet in talk().packets]
    packets.insert(2, blocks.packet(b"", interface=3))
    remarks, frames, _ = read(blocks.section() + blocks.interface(1) + b"".join(packets))
    assert remarks == ["packet 3: it names interface 3, but the file describes 1"]
    assert frames == FRAMES


def test_packet_block_that_claims_more_than_it_has() -> None:
    blocks = Blocks()
    wrong = blocks.block(6, struct.pack("<IIIII", 0, 0, 0, 1000, 1000) + b"abcd")
    packets = b"".join(blocks.packet(ethernet(packet)) for packet in talk().packets)
    remarks, frames, _ = read(blocks.section() + blocks.interface(1) + wrong + blocks.block(6, b"") + packets)
    assert remarks == [
        "packet 1: its block has 4 bytes of it, and claims 1,000",
        "packet 2: its block has 0 bytes, 20 are needed at least",
    ]
    assert frames == FRAMES


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_truncated_pcapng_is_read_up_to_the_cut(cut: int) -> None:
    blocks = Blocks()
    file = blocks.section() + blocks.interface(1)
    file += b"".join(blocks.packet(ethernet(packet)) for packet in talk().packets)
    remarks, frames, _ = read(file[:-cut])
    assert remarks == ["packet 7: the file ends inside this packet, which is left out"]
    assert frames == FRAMES[:-1]


@pytest.mark.parametrize("damage", [b"\x06\0\0\0\x04\0\0\0" + bytes(20), b"\x06\0\0\0\x0c\0\0\0\x0d\0\0\0"])
def test_damaged_block_ends_the_file(damage: bytes) -> None:
    blocks = Blocks()
    file = blocks.section() + blocks.interface(1)
    file += b"".join(blocks.packet(ethernet(packet)) for packet in talk().packets)
    remarks, frames, _ = read(file + damage + blocks.packet(b""))
    assert remarks == [f"the file is damaged or ends behind packet 7, at byte {len(file):,}: the rest is left out"]
    assert frames == FRAMES


# -- Link types -------------------------------------------------------------------------------------------------------


def cooked(ip: bytes) -> bytes:
    return struct.pack(">HHHQ", 0, 1, 6, 0) + ethernet(ip)[12:]


def cooked_v2(ip: bytes) -> bytes:
    return ethernet(ip)[12:14] + struct.pack(">HIHBBQ", 0, 1, 1, 0, 6, 0) + ip


def loopback(order: str, family: int) -> Callable[[bytes], bytes]:
    return lambda ip: struct.pack(f"{order}I", family) + ip


def plain(ip: bytes) -> bytes:
    return ip


LINKS = [
    *((link, wrap, v6) for v6 in (False, True) for link, wrap in ((1, ethernet), (113, cooked), (276, cooked_v2))),
    *((link, plain, v6) for v6 in (False, True) for link in (12, 14, 101)),
    (228, plain, False),
    (229, plain, True),
    *((0, loopback(order, 2), False) for order in "<>"),
    *((0, loopback(order, family), True) for order in "<>" for family in (10, 24, 28, 30)),
    (108, loopback(">", 2), False),
    (108, loopback(">", 24), True),
]


@pytest.mark.parametrize(("link", "wrap", "is_v6"), LINKS)
def test_link_type_is_read(link: int, wrap: Callable[[bytes], bytes], is_v6: bool) -> None:
    assert read(pcap(map(wrap, talk(is_v6=is_v6).packets), link=link)) == ([], FRAMES, [])


@pytest.mark.parametrize("tags", [[0x8100], [0x88A8, 0x8100], [0x9100, 0x8100], [0x8100, 0x8100, 0x8100]])
def test_vlan_tags_are_skipped(tags: list[int]) -> None:
    assert read(pcap(ethernet(packet, *tags) for packet in talk().packets)) == ([], FRAMES, [])


def test_packets_of_an_unknown_link_type_are_named() -> None:
    blocks = Blocks()
    file = blocks.section() + blocks.interface(1) + blocks.interface(105)
    for packet in talk().packets:
        file += blocks.packet(b"?", interface=1) + blocks.packet(ethernet(packet))
    remarks, frames, _ = read(file)
    (remark,) = remarks
    assert remark.startswith("packets 1, 3, 5, 7, 9, 11, 13: link type 105 is not supported")
    assert frames == FRAMES


# -- Packets that cannot be read --------------------------------------------------------------------------------------

RUNTS = {
    b"": "no bytes for the Ethernet header",
    b"\x01": "1 byte where the Ethernet header has 14",
    ethernet(b""): "no bytes for the IPv4 header",
    ethernet(b"\x45" * 19): "19 bytes where the IPv4 header has 20",
    ethernet(b"")[:12] + b"\x81\x00\x00": "15 bytes where the VLAN header has 18",
    ethernet(b"\x00" + bytes(30)): "its IP header names version 0, but its link header names IPv4",
    ethernet(b"\x60" + bytes(20)): "21 bytes where the IPv6 header has 40",
    ethernet(Talk().send(0).packets[0][:30]): "10 bytes where the TCP header has 20",
    ethernet(b"\x4f" + Talk().send(0).packets[0][1:30]): "30 bytes where the IPv4 header has 60",
    ethernet(b"\x41" + Talk().send(0).packets[0][1:]): "its IPv4 header claims 4 bytes, at least 20 are needed",
}


@pytest.mark.parametrize(("runt", "text"), list(RUNTS.items()), ids=list(RUNTS.values()))
def test_runt_packet_is_named_and_passed_over(runt: bytes, text: str) -> None:
    packets = [ethernet(packet) for packet in talk().packets]
    remarks, frames, _ = read(pcap([*packets[:4], runt, *packets[4:]]))
    assert remarks == [f"packet 5: {text}"]
    assert frames == FRAMES


def test_empty_packet_of_raw_ip_is_named_and_passed_over() -> None:
    remarks, frames, _ = read(pcap([b"", *talk().packets, b"\x99"], link=101))
    assert remarks == [
        "packet 1: no bytes for the IP header",
        "packet 9: its IP header names version 9; 4 and 6 are known",
    ]
    assert frames == FRAMES


def test_other_protocols_get_no_remark() -> None:
    arp = b"\xff" * 12 + b"\x08\x06" + bytes(28)
    udp = ethernet(b"\x45" + bytes(8) + b"\x11" + bytes(10))
    icmp6 = ethernet(b"\x60" + bytes(5) + b"\x3a\x40" + bytes(32))
    assert read(pcap([arp, udp, icmp6, *map(ethernet, talk().packets)])) == ([], FRAMES, [])


def test_remarks_are_printed_before_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(pcap([b"", *map(ethernet, talk().packets)]), None) == 0
    assert capsys.readouterr().out.startswith("packet 1: no bytes for the Ethernet header\n10.0.0.1:40000 and")


def test_many_packets_share_a_remark() -> None:
    remarks, _, _ = read(pcap([*[b""] * 1234, *map(ethernet, talk().packets)]))
    assert remarks == ["packets 1, 2, 3, 4, 5, 6, 7, 8 and 1,226 more: no bytes for the Ethernet header"]


# -- IP ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_v6", [False, True])
def test_ip_length_0_of_segmentation_offload_is_the_whole_packet(is_v6: bool) -> None:
    assert read(pcap(map(ethernet, talk(is_v6=is_v6, has_length=False).packets))) == ([], FRAMES, [])


@pytest.mark.parametrize("is_v6", [False, True])
def test_padding_of_ethernet_is_no_data(is_v6: bool) -> None:
    packets = [ethernet(packet, padding=b"\xff" * 6) for packet in talk(is_v6=is_v6).packets]
    assert read(pcap(packets)) == ([], FRAMES, [])


def test_ipv4_options_are_skipped() -> None:
    assert read(pcap(map(ethernet, Talk(options=b"\x01" * 8).upgraded().send(0, HELLO).packets)))[1] == FRAMES[:3]


HOP_BY_HOP, ROUTING, DESTINATION, AUTHENTICATION = (
    bytes((43, 0, 1, 4, 0, 0, 0, 0)),
    bytes((60, 0, 4, 0, 0, 0, 0, 0)),
    bytes((51, 0, 1, 4, 0, 0, 0, 0)),
    bytes((6, 4, 0, 0, *range(20))),
)


def test_extension_headers_of_ipv6_are_skipped() -> None:
    options = HOP_BY_HOP + ROUTING + DESTINATION + AUTHENTICATION
    found = read(pcap(map(ethernet, Talk(is_v6=True, options=options).upgraded().send(0, HELLO).packets)))
    assert found == ([], FRAMES[:3], [])


def fragments(ip: bytes, size: int = 64) -> list[bytes]:
    head, data = bytearray(ip[:20]), ip[20:]
    found = []
    for at in range(0, len(data), size):
        part = data[at : at + size]
        struct.pack_into(">HHH", head, 2, 20 + len(part), 7, at // 8 | (0x2000 if at + size < len(data) else 0))
        found.append(bytes(head) + part)
    return found


@pytest.mark.parametrize("step", [1, -1])
def test_ipv4_fragments_are_put_together(step: int) -> None:
    packets = talk().packets
    packets[3:4] = fragments(packets[3])[::step]
    assert read(pcap(map(ethernet, packets))) == ([], FRAMES, [])


def fragments_v6(ip: bytes, size: int = 64) -> list[bytes]:
    data = ip[40:]
    found = []
    for at in range(0, len(data), size):
        part = data[at : at + size]
        head = struct.pack(">BBHI", 6, 0, at | (at + size < len(data)), 77)
        found.append(ip[:4] + struct.pack(">H", 8 + len(part)) + b"\x2c" + ip[7:40] + head + part)
    return found


@pytest.mark.parametrize("step", [1, -1])
def test_ipv6_fragments_are_put_together(step: int) -> None:
    packets = talk(is_v6=True).packets
    packets[3:4] = fragments_v6(packets[3])[::step]
    assert read(pcap(map(ethernet, packets))) == ([], FRAMES, [])


def test_fragment_without_the_others_is_named() -> None:
    packets = talk().packets
    first, *_ = fragments(packets[5], 24)
    packets[5:6] = [first]
    remarks, frames, texts = read(pcap(map(ethernet, packets)))
    assert remarks == ["packet 6: a fragment of an IP packet whose other fragments are missing"]
    assert frames == [*FRAMES[:2], FRAMES[3]]
    assert "the capture lacks 11 bytes here" in texts


# -- Anything ---------------------------------------------------------------------------------------------------------


@given(
    at=st.integers(0, 10**6), value=st.integers(0, 255), length=st.integers(0, 10**6), link=st.sampled_from(range(5))
)
def test_damaged_pcapng_raises_nothing_else(at: int, value: int, length: int, link: int) -> None:
    blocks = Blocks()
    wraps = ((1, ethernet), (101, plain), (113, cooked), (276, cooked_v2), (0, loopback("<", 2)))
    kind, wrap = wraps[link]
    file = blocks.section() + blocks.interface(kind, (9, b"\x06"))
    file += b"".join(blocks.packet(wrap(packet)) for packet in talk().packets)
    data = bytearray(file)
    data[at % len(data)] = value
    del data[-(length % 100) or len(data) :]
    with suppress(NoCapture):
        for each in conversations(bytes(data)):
            rows_of(each, None)


@given(packets=st.lists(st.binary(max_size=80)), link=st.sampled_from([0, 1, 12, 101, 108, 113, 228, 229, 276]))
def test_any_packets_raise_nothing_else(packets: list[bytes], link: int) -> None:
    with pytest.raises(NoCapture):
        conversations(pcap(packets, link=link))
