"""`wslowlevel inspect`: text that contains bytes, as xxd, hexdump, od, tcpdump, tshark and Wireshark write it."""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wslowlevel import Opcode
from wslowlevel.cli.capture import NoCapture, check_text, conversations, from_hex
from wslowlevel.cli.inspect import inspect, rows_of

from .captures import ANSWER, BACK, BAD, HELLO, REQUEST, Talk, ethernet
from .servers import masked
from .test_command_line import run_command

FRAME = bytes.fromhex("81 85 61 62 63 64 29 07 0f 08 0e")
ZEROS = FRAME + bytes(100) + FRAME
"""The bytes of all dumps with a line `*` below."""

# -- The output of real tools -----------------------------------------------------------------------------------------

XXD_A = """\
00000000: 8185 6162 6364 2907 0f08 0e00 0000 0000  ..abcd).........
00000010: 0000 0000 0000 0000 0000 0000 0000 0000  ................
*
00000060: 0000 0000 0000 0000 0000 0000 0000 0081  ................
00000070: 8561 6263 6429 070f 080e                 .abcd)....
"""
HEXDUMP_C = """\
00000000  81 85 61 62 63 64 29 07  0f 08 0e 00 00 00 00 00  |..abcd).........|
00000010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*
00000060  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 81  |................|
00000070  85 61 62 63 64 29 07 0f  08 0e                    |.abcd)....|
0000007a
"""
HEXDUMP = """\
0000000 8581 6261 6463 0729 080f 000e 0000 0000
0000010 0000 0000 0000 0000 0000 0000 0000 0000
*
0000060 0000 0000 0000 0000 0000 0000 0000 8100
0000070 6185 6362 2964 0f07 0e08               
000007a
"""  # noqa: W291
HEXDUMP_X = """\
0000000    8581    6261    6463    0729    080f    000e    0000    0000
0000010    0000    0000    0000    0000    0000    0000    0000    0000
*
0000060    0000    0000    0000    0000    0000    0000    0000    8100
0000070    6185    6362    2964    0f07    0e08                        
000007a
"""  # noqa: W291
OD_X1Z = """\
000000 81 85 61 62 63 64 29 07 0f 08 0e 00 00 00 00 00  >..abcd).........<
000010 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  >................<
*
000060 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 81  >................<
000070 85 61 62 63 64 29 07 0f 08 0e                    >.abcd)....<
00007a
"""
OD_X1 = """\
0000000 81 85 61 62 63 64 29 07 0f 08 0e 00 00 00 00 00
0000020 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
*
0000140 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 81
0000160 85 61 62 63 64 29 07 0f 08 0e
0000172
"""
OD_DECIMAL = """\
0000000 81 85 61 62 63 64 29 07 0f 08 0e 00 00 00 00 00
0000016 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
*
0000096 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 81
0000112 85 61 62 63 64 29 07 0f 08 0e
0000122
"""
OD = """\
0000000 102601 061141 062143 003451 004017 000016 000000 000000
0000020 000000 000000 000000 000000 000000 000000 000000 000000
*
0000140 000000 000000 000000 000000 000000 000000 000000 100400
0000160 060605 061542 024544 007407 007010
0000172
"""
XXD_P = "81856162636429070f080e" + "00" * 100 + "\n81856162636429070f080e\n"
SQUEEZED = [XXD_A, HEXDUMP_C, HEXDUMP, HEXDUMP_X, OD_X1Z, OD_X1, OD_DECIMAL, OD, XXD_P]


@pytest.mark.parametrize("dump", SQUEEZED)
def test_repeated_lines_are_filled_in(dump: str) -> None:
    assert from_hex(dump.encode()) == ZEROS


XXD_B = """\
00000000: 10000001 10000101 01100001 01100010 01100011 01100100  ..abcd
00000006: 00101001 00000111 00001111 00001000 00001110           )....
"""
ODD_WORDS = "0000000 8581 6261 6463 0729 080f 000e\n000000b\n"
OD_ODD_WORDS = "0000000 8581 6261 6463 0729 080f 000e\n0000013\n"
XXD_I = """\
unsigned char frame[] = {
  0x81, 0x85, 0x61, 0x62, 0x63, 0x64, 0x29, 0x07, 0x0f,
  0x08, 0x0e
};
unsigned int frame_len = 11;
"""
WIRESHARK_C = """\
static const unsigned char pkt1[11] = {
0x81, 0x85, 0x61, 0x62, 0x63, 0x64, 0x29, 0x07, /* ..abcd). */
0x0f, 0x08, 0x0e /* 0x81 */
};
"""
ESCAPED = '"\\x81\\x85\\x61\\x62\\x63\\x64\\x29\\x07" \\\n"\\x0f\\x08\\x0e"\n'
PYTHON = repr(FRAME)
TCPDUMP = "\t0x0000:  8185 6162 6364 2907 0f08 0e              ..abcd)....\n"
TSHARK = "0000  81 85 61 62 63 64 29 07 0f 08 0e                  ..abcd)....\n"
FOLLOWED = "00000000  81 85 61 62 63 64 29 07  0f 08 0e                 ..abcd). ...\n"
HEX_STREAM = "81856162636429070f080e"
OTHERS = [
    *(XXD_B, ODD_WORDS, OD_ODD_WORDS, XXD_I, WIRESHARK_C, ESCAPED, PYTHON),
    *(TCPDUMP, TSHARK, FOLLOWED, HEX_STREAM, HEX_STREAM.upper()),
]


@pytest.mark.parametrize("dump", OTHERS)
def test_notation_is_read(dump: str) -> None:
    assert from_hex(dump.encode()) == FRAME


OLD_XXD = """\
0000000: 8185 6162 6364 2907 0f08 0e00 0000 0000  ..abcd).........
0000010: 0000 0000 0000 0000 0000 0000 0000 0000  ................
*
0000060: 0000 0000 0000 0000 0000 0000 0000 0081  ................
0000070: 8561 6263 6429 070f 080e                 .abcd)....
"""


def test_offsets_of_seven_digits_with_a_colon_are_hexadecimal() -> None:
    assert from_hex(OLD_XXD.encode()) == ZEROS


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_mark_is_skipped(encoding: str) -> None:
    assert from_hex(TSHARK.encode(encoding)) == FRAME


@pytest.mark.parametrize("text", ["{" + "0x81 " * 5000, "0x81 " * 5000 + "!", "\\x81" * 5000 + "!", "81 " * 5000 + "!"])
def test_long_text_is_refused_in_linear_time(text: str) -> None:
    assert from_hex(text.encode()) is None


# -- Any bytes, as the tools write them -------------------------------------------------------------------------------


def text_of(data: bytes, *, space: str = " ") -> str:
    return "".join(chr(byte) if 0x20 < byte < 0x7F else space if byte == 0x20 else "." for byte in data)


def rows(data: bytes, line: Callable[[int, bytes], str], *, squeezed: bool = False) -> list[str]:
    found: list[str] = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        if squeezed and at and row == data[at - 16 : at] and at + 16 < len(data):
            if found[-1] != "*":
                found.append("*")
        else:
            found.append(line(at, row))
    return found


def xxd(data: bytes) -> str:
    return "\n".join(rows(data, lambda at, row: f"{at:08x}: {row.hex(' ', -2):<39}  {text_of(row)}"))


def xxd_squeezed(data: bytes) -> str:
    return "\n".join(rows(data, lambda at, row: f"{at:08x}: {row.hex(' ', -2):<39}  {text_of(row)}", squeezed=True))


def hexdump_c(data: bytes) -> str:
    def line(at: int, row: bytes) -> str:
        return f"{at:08x}  {row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}  |{text_of(row)}|"

    return "\n".join([*rows(data, line, squeezed=True), f"{len(data):08x}"])


def tcpdump(data: bytes) -> str:
    return "\n".join(rows(data, lambda at, row: f"\t0x{at:04x}:  {row.hex(' ', -2):<39}  {text_of(row, space='.')}"))


def tshark(data: bytes) -> str:
    return "\n".join(rows(data, lambda at, row: f"{at:04x}  {row.hex(' '):<47}   {text_of(row)}"))


@pytest.mark.parametrize("write", [xxd, xxd_squeezed, hexdump_c, tcpdump, tshark])
@given(parts=st.lists(st.sampled_from([b"\x81", b"  ab cd  ", bytes(40), b"| > ", b"12 34", b"\xff\x20"]), min_size=1))
def test_dump_of_any_bytes_is_read(write: Callable[[bytes], str], parts: list[bytes]) -> None:
    data = b"".join(parts)
    assert from_hex(write(data).encode()) == data


@pytest.mark.parametrize(
    "text",
    ["Hello", "00000000: 8185 6162\n00000007: 00\n", "00000000: zz", "0000  81 85\n0010  00", "ä", "Lorem ipsum\n" * 9],
)
def test_other_text_is_no_violation(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with pytest.raises(NoCapture, match="hex dump"):
        inspect(text.encode(), None)
    assert capsys.readouterr().out == ""


PIECES = [
    "0000",
    "0010",
    "00000000",
    "0000000",
    "*",
    "\n",
    "\n",
    " ",
    "  ",
    ":",
    "81 05",
    "8105",
    "|",
    ">",
    "0x",
    "{",
    "}",
]


@given(pieces=st.lists(st.sampled_from([*PIECES, "\t", "b'", "\\x81", "peer0_1[] = {", "12:00:00.1 ", "4500 0014"])))
def test_any_text_is_read_or_refused(pieces: list[str]) -> None:
    data = "".join(pieces).encode()
    with suppress(NoCapture):
        check_text(data)
        for each in conversations(data):
            rows_of(each, None)


def test_offset_far_away_does_not_fill_the_memory() -> None:
    assert from_hex(b"00000000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |.|\n*\n7ffffffffff0\n") is None


# -- Dumps of packets -------------------------------------------------------------------------------------------------


def tables(data: bytes) -> list[list[tuple[str, str]]]:
    found = [[row for _, row in rows_of(each, None)] for each in conversations(data)]
    assert not any(row.is_violation for table in found for row in table)
    return [[(row.sender, row.what or row.text) for row in table] for table in found]


FRAMES = [("client", "handshake"), ("server", "handshake"), ("client", "TEXT"), ("server", "TEXT")]


def cooked_v2(ip: bytes) -> bytes:
    return ethernet(ip)[12:14] + struct.pack(">HIHBBQ", 0, 1, 1, 0, 6, 0) + ip


def checked(ip: bytes) -> bytes:
    """Fill in the checksum of IPv4."""
    if ip[0] >> 4 == 6:
        return ip
    total = sum(struct.unpack(">10H", ip[:20]))
    return ip[:10] + struct.pack(">H", 0xFFFF - total % 0xFFFF) + ip[12:]


def packets(*, is_v6: bool = False) -> list[bytes]:
    talk = Talk(is_v6=is_v6).upgraded().send(0, HELLO).send(1, BACK)
    return [checked(packet) for packet in talk.packets]


@pytest.mark.parametrize("is_v6", [False, True])
@pytest.mark.parametrize("wrap", [bytes, ethernet, cooked_v2])
@pytest.mark.parametrize("stamp", ["12:00:0{}.5", "2026-12-01 23:59:5{}.123456", "179609321{}.540162"])
def test_tcpdump_with_packets_is_read(is_v6: bool, wrap: Callable[[bytes], bytes], stamp: str) -> None:
    text = ""
    for number, packet in enumerate(packets(is_v6=is_v6)):
        text += (
            f"{stamp.format(number)} IP 10.0.0.1.40000 > 10.0.0.2.80: Flags [P.], length 9\n{tcpdump(wrap(packet))}\n"
        )
    assert tables(text.encode()) == [FRAMES]
    (found,) = conversations(text.encode())
    assert [time for time, _ in rows_of(found, None)] == [3, 4, 5, 6]


@pytest.mark.parametrize("summary", ["", "{} 0.000 10.0.0.1 → 10.0.0.2 TCP 64\n\n"])
def test_tshark_with_packets_is_read(summary: str) -> None:
    blocks = [summary.format(998 + number) + tshark(ethernet(packet)) for number, packet in enumerate(packets())]
    assert tables("\n\n".join(blocks).encode()) == [FRAMES]


def test_times_that_decrease_are_ignored() -> None:
    text = "".join(f" 00:00:0{9 - number}.5 IP x > y\n{tcpdump(packet)}\n" for number, packet in enumerate(packets()))
    assert tables(text.encode()) == [FRAMES]


def test_dump_with_uneven_indentation_is_no_followed_stream() -> None:
    text = "0000  81 85 61 62 63 64 29 07 0f 08 0e 81 85 61 62 63\n   0010  64 29 07 0f 08 0e\n"
    assert [row for table in tables(text.encode()) for row in table] == [("client", "TEXT")] * 2


@pytest.mark.parametrize("write", [tshark, bytes.hex, repr, lambda data: ", ".join(map(hex, data))])
def test_single_packet_is_no_stream(write: Callable[[bytes], str]) -> None:
    handshake, frame = packets()[3], packets()[5]
    assert tables(write(ethernet(handshake)).encode())[0][0] == FRAMES[0]
    remark = ("client", "the capture begins behind the handshake: frames are shown, not judged")
    assert tables(write(ethernet(frame)).encode()) == [[remark, FRAMES[2]]]


# -- Followed streams -------------------------------------------------------------------------------------------------

CLIENT, SERVER = [REQUEST, HELLO, masked(Opcode.TEXT, bytes(200))], [ANSWER, BACK]
FOLLOWED_ROWS = [FRAMES[0], FRAMES[2], FRAMES[2], FRAMES[1], FRAMES[3]]
HEADER = "\n{}\nFollow: tcp,hex\nFilter: tcp.stream eq 0\nNode 0: 10.0.0.1:1\nNode 1: 10.0.0.2:2\n".format("=" * 67)


def follow_hex(data: bytes, begin: int) -> str:
    def line(at: int, row: bytes) -> str:
        return (
            f"{begin + at:08X}  {row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}  {text_of(row[:8])} {text_of(row[8:])}"
        )

    return "\n".join(rows(data, line))


@pytest.mark.parametrize("indent", ["\t", "    "])
@pytest.mark.parametrize("header", ["", HEADER])
def test_followed_hex_dump_has_both_sides(indent: str, header: str) -> None:
    text, at = header, [0, 0]
    for side, data in ((0, CLIENT[0]), (1, SERVER[0]), (0, CLIENT[1]), (1, SERVER[1]), (0, CLIENT[2])):
        lines = follow_hex(data, at[side]).splitlines()
        text += "".join(f"{indent * side}{line}\n" for line in lines)
        at[side] += len(data)
    assert tables(text.encode()) == [FOLLOWED_ROWS]


def test_followed_digits_have_both_sides() -> None:
    lines = [CLIENT[0].hex(), f"\t{SERVER[0].hex()}", CLIENT[1].hex(), f"\t{SERVER[1].hex()}", CLIENT[2].hex()]
    assert tables("\n".join([HEADER, *lines, "=" * 67]).encode()) == [FOLLOWED_ROWS]


def test_followed_arrays_have_both_sides() -> None:
    text = ""
    for side, parts in ((0, CLIENT), (1, SERVER)):
        for number, data in enumerate(parts):
            body = ", ".join(f"0x{byte:02x}" for byte in data)
            text += f"char peer{side}_{number}[] = {{ /* Packet {number} */\n{body} }};\n"
    assert tables(text.encode()) == [FOLLOWED_ROWS]


def test_followed_yaml_has_both_sides() -> None:
    text = (
        "peers:\n  - peer: 0\n    host: 10.0.0.1\n    port: 1\n  - peer: 1\n    host: 10.0.0.2\n    port: 2\npackets:\n"
    )
    for side, data in ((0, CLIENT[0]), (1, SERVER[0]), (0, CLIENT[1]), (1, SERVER[1]), (0, CLIENT[2])):
        digits = b64encode(data).decode()
        lines = "".join(f"      {digits[at : at + 76]}\n" for at in range(0, len(digits), 76))
        text += f"  - packet: 4\n    peer: {side}\n    timestamp: 1796093215.5\n    data: !!binary |\n{lines}"
    assert tables(text.encode()) == [FOLLOWED_ROWS]


def test_command_prints_a_remark_and_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "dump"
    blocks = [tshark(ethernet(packet)) for packet in [*packets()[:4], checked(packets()[0])[:30], *packets()[4:]]]
    file.write_text("\n\n".join(blocks))
    done = run_command("inspect", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("packet 5: 10 bytes where the TCP header has 20\n10.0.0.1:40000 and")


def test_violation_in_a_dump_is_still_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(xxd(HELLO + BAD).encode(), "client") == 1
    assert "VIOLATION" in capsys.readouterr().out
