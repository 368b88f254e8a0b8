"""`python -m wslowlevel inspect`: frames and violations of captures, dumps and bytes, as they are shown."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wslowlevel import Connection, Opcode, PerMessageDeflate, Reason, prepare_close_frame_payload
from wslowlevel.cli.capture import NoCapture, conversations, from_hex
from wslowlevel.cli.inspect import inspect, rows_of
from wslowlevel.codec import encode_frame

from .hostile.test_violations import VIOLATIONS, Violation
from .servers import handshake, masked
from .test_command_line import COMMAND, run_command
from .vectors import KEY

REQUEST = handshake(target="/chat")
ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
HELLO = masked(Opcode.TEXT, b"Hello")


def shown(capsys: pytest.CaptureFixture[str], data: bytes, sender: str | None = None) -> list[list[str]]:
    """What stands below the heading, as words, and whether it ended with a violation."""
    violated = inspect(data, sender)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert violated == int(any("VIOLATION" in row for row in rows))
    return [row for row in rows if row and "offset" not in row]


# -- Frames -----------------------------------------------------------------------------------------------------------


def test_frames_with_their_bits(capsys: pytest.CaptureFixture[str]) -> None:
    data = HELLO + masked(Opcode.TEXT, b"one ", fin=0) + masked(Opcode.PING, b"\x00\xff") + masked(0, b"two")
    assert shown(capsys, data) == [
        ["0", "client", "TEXT", "FIN", "MASK", "5", "Hello"],
        ["11", "client", "TEXT", "MASK", "4", "one"],
        ["21", "client", "PING", "FIN", "MASK", "2", "00", "ff"],
        ["29", "client", "CONTINUATION", "FIN", "MASK", "3", "two"],
    ]


def test_a_handshake_and_a_close_frame(capsys: pytest.CaptureFixture[str]) -> None:
    data = ANSWER + encode_frame(Opcode.CLOSE, prepare_close_frame_payload(1001, "bye")) + b"more"
    begin = str(len(ANSWER))
    assert shown(capsys, data) == [
        ["0", "server", "handshake", begin, "HTTP/1.1", "101", "Switching", "Protocols"],
        [begin, "server", "CLOSE", "FIN", "5", "1001", "bye"],
        [str(len(data) - 4), "server", "4", "bytes", "behind", "the", "Close", "frame,", "which", "nobody", "reads"],
    ]


def test_a_refusal_has_no_frames(capsys: pytest.CaptureFixture[str]) -> None:
    data = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\n\x81\xff..."
    assert len(shown(capsys, data)) == 1


@pytest.mark.parametrize("length", range(1, len(HELLO)))
def test_what_is_cut_short_is_no_violation(capsys: pytest.CaptureFixture[str], length: int) -> None:
    *_, last = shown(capsys, HELLO + HELLO[:length], "client")
    assert last[2:5] == ["ends", "inside", "a"]
    assert last[5] == ("header," if length < 6 else "payload,")


def test_compressed_messages_are_inflated(capsys: pytest.CaptureFixture[str]) -> None:
    connection = Connection(role="client")
    connection.open([PerMessageDeflate(client_max_window_bits=15).confirm(())])
    data = b"".join(connection.message_frame(b"again and " * 20, Opcode.TEXT) for _ in range(2))
    rows = shown(capsys, data)
    assert [row[2:5] for row in rows] == [["TEXT", "FIN", "RSV1"], ["inflated:", "200", "bytes"]] * 2


def test_a_server_that_did_not_agree_to_compression(capsys: pytest.CaptureFixture[str]) -> None:
    frame = encode_frame(Opcode.TEXT, b"\x00", rsv1=1)
    assert "VIOLATION" in shown(capsys, ANSWER + frame)[-1]
    agreed = ANSWER.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
    assert "VIOLATION" not in shown(capsys, agreed + frame)[-1]


def test_nothing_of_a_payload_reaches_the_terminal_as_an_order(capsys: pytest.CaptureFixture[str]) -> None:
    inspect(masked(Opcode.TEXT, b"\x1b[31m\r\n\x9b") + masked(Opcode.PING, b"\x1b[2J"), None)
    output = capsys.readouterr().out
    assert not set(output) & set("\x1b\r\x9b")


# -- Violations -------------------------------------------------------------------------------------------------------


LIMITS = (Reason.FRAME_TOO_BIG, Reason.MESSAGE_TOO_BIG, Reason.TOO_MANY_FRAGMENTS)
"""What is too much for whom is no matter of the protocol."""


@pytest.mark.parametrize("violation", [each for each in VIOLATIONS if each.reason not in LIMITS], ids=str)
def test_a_violation_stands_at_the_byte_that_proves_it(
    capsys: pytest.CaptureFixture[str], violation: Violation
) -> None:
    """What the hostile tests send, and a strict server refuses at once."""
    data = violation.data
    last = shown(capsys, HELLO + data, "client")[-1]
    assert last[2] == "VIOLATION"
    offset = int(last[0]) - len(HELLO)
    assert 0 <= offset < len(data)
    *_, remark = shown(capsys, HELLO + data[:offset], "client") or [[]]
    assert "VIOLATION" not in remark  # without that byte it may still become right


# -- What a file may be -----------------------------------------------------------------------------------------------

XXD = "00000000: 8185 6162 6364 2907 0f08 0e                ..abcd)...."
HEXDUMP = "00000000  81 85 61 62 63 64 29 07  0f 08 0e                 |..abcd)....|\n0000000b"
WIRESHARK = "0000   81 85 61 62 63 64 29 07 0f 08 0e                  ..abcd)...."
OD = "000000 81 85 61 62 63 64 29 07 0f 08 0e\n00000b"


DIGITS = "8185616263642907 0f080e\n"
COLONS = "81:85:61:62:63:64:29:07:0F:08:0E"
IN_C = "0x81, 0x85, 0x61, 0x62, 0x63,\n0x64, 0x29, 0x07, 0x0f, 0x08, 0x0e"


@pytest.mark.parametrize("dump", [XXD, HEXDUMP, WIRESHARK, OD, DIGITS, COLONS, IN_C])
def test_a_hex_dump(dump: str) -> None:
    assert from_hex(dump.encode()) == encode_frame(Opcode.TEXT, b"Hello", mask_key=b"abcd")


def test_a_long_dump() -> None:
    data = bytes(range(256))
    lines = [f"{at:08x}: {data[at : at + 16].hex(' ', 2)}  {'.' * 16}" for at in range(0, 256, 16)]
    assert from_hex("\n".join(lines).encode()) == data


@pytest.mark.parametrize("data", [HELLO, b"Hello", REQUEST, "é".encode(), b"", b"81 0", b"00000010: 8185  .."])
def test_no_dump(data: bytes) -> None:
    assert from_hex(data) is None


# -- Packet captures --------------------------------------------------------------------------------------------------

CLIENT, SERVER = ("10.0.0.1", 5000), ("10.0.0.2", 80)
Address = tuple[str, int]


def segment(source: Address, target: Address, sequence: int, data: bytes, flags: int = dpkt.tcp.TH_ACK) -> bytes:
    tcp = dpkt.tcp.TCP(sport=source[1], dport=target[1], seq=sequence % 2**32, flags=flags, data=data)
    if ":" in source[0]:
        ends = {name: socket.inet_pton(socket.AF_INET6, end[0]) for name, end in (("src", source), ("dst", target))}
        ip = dpkt.ip6.IP6(**ends, nxt=6, plen=len(tcp), data=tcp)
        return bytes(dpkt.ethernet.Ethernet(type=dpkt.ethernet.ETH_TYPE_IP6, data=ip))
    ends = {name: socket.inet_aton(end[0]) for name, end in (("src", source), ("dst", target))}
    ip = dpkt.ip.IP(**ends, p=6, data=tcp)
    ip.len = len(ip)
    return bytes(dpkt.ethernet.Ethernet(data=ip))


def captured(packets: Iterable[bytes], kind: type = dpkt.pcap.Writer) -> bytes:
    file = BytesIO()
    writer = kind(file)
    for number, packet in enumerate(packets):
        writer.writepkt(packet, ts=1000 + number / 10)
    return file.getvalue()


def conversation(client: Address = CLIENT, server: Address = SERVER, start: int = 2**32 - 10) -> list[bytes]:
    """A handshake and a message each way; the numbers of the client's bytes wrap."""
    return [
        segment(client, server, start - 1, b"", dpkt.tcp.TH_SYN),
        segment(server, client, 6999, b"", dpkt.tcp.TH_SYN | dpkt.tcp.TH_ACK),
        segment(client, server, start, REQUEST),
        segment(server, client, 7000, ANSWER),
        segment(client, server, start + len(REQUEST), HELLO),
        segment(server, client, 7000 + len(ANSWER), encode_frame(Opcode.TEXT, b"Hello back")),
    ]


@pytest.mark.parametrize("kind", [dpkt.pcap.Writer, dpkt.pcapng.Writer], ids=["pcap", "pcapng"])
@pytest.mark.parametrize("server", [SERVER, ("::1", 80)], ids=["IPv4", "IPv6"])
def test_a_capture_in_the_order_of_time(capsys: pytest.CaptureFixture[str], kind: type, server: Address) -> None:
    client = CLIENT if server is SERVER else ("::2", 5000)
    rows = shown(capsys, captured(conversation(client, server), kind))
    name = "10.0.0.1:5000 and 10.0.0.2:80" if server is SERVER else "[::2]:5000 and [::1]:80"
    assert rows[0] == name.split()
    assert [row[2:4] for row in rows[1:]] == [
        ["client", "handshake"],
        ["server", "handshake"],
        ["client", "TEXT"],
        ["server", "TEXT"],
    ]
    assert [row[0] for row in rows[1:]] == ["0.200000", "0.300000", "0.400000", "0.500000"]


def test_segments_out_of_order_twice_and_overlapping() -> None:
    packets = conversation()
    first, second = REQUEST[:50], REQUEST[40:]
    packets[2:3] = [segment(CLIENT, SERVER, 2**32 + 30, second), segment(CLIENT, SERVER, 2**32 - 10, first)] * 2
    (found,) = conversations(captured(packets))
    assert bytes(found.flows[0].data) == REQUEST + HELLO


def test_two_connections_between_the_same_ports() -> None:
    found = conversations(captured([*conversation(), *conversation(start=77)]))
    assert [[bytes(flow.data)[-5:] for flow in each.flows] for each in found] == [[HELLO[-5:], b" back"]] * 2


def test_a_hole_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    packets = conversation()
    packets.append(segment(CLIENT, SERVER, 2**32 - 10 + len(REQUEST + HELLO) + 100, HELLO))
    assert ["the", "capture", "lacks", "100", "bytes", "here"] in [row[3:] for row in shown(capsys, captured(packets))]


def test_other_connections_are_left_out() -> None:
    other = segment(("10.0.0.3", 1), SERVER, 1, b"GET / HTTP/1.1\r\n\r\n")
    assert len(conversations(captured([other, *conversation()]))) == 1
    with pytest.raises(NoCapture, match="no opening handshake"):
        conversations(captured([other]))


@pytest.mark.parametrize("length", [4, 23, 24, 60, 200])
def test_a_damaged_capture(length: int) -> None:
    data = captured(conversation())
    with pytest.raises(NoCapture):
        conversations(data[:length])


@given(at=st.integers(0, 10**6), value=st.integers(0, 255), length=st.integers(0, 10**6))
def test_a_capture_with_a_wrong_byte(at: int, value: int, length: int) -> None:
    data = bytearray(captured(conversation()))
    data[at % len(data)] = value
    del data[-(length % 100) or len(data) :]
    with suppress(NoCapture):
        for each in conversations(bytes(data)):
            rows_of(each, None)


@given(data=st.binary(), sender=st.sampled_from([None, "client", "server"]))
def test_any_bytes(data: bytes, sender: str | None) -> None:
    for each in conversations(data):
        rows = [row for _, row in rows_of(each, sender)]
        assert sum(row.is_violation for row in rows) <= 1


# -- The command ------------------------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(HELLO)
    bad.write_bytes(HELLO + b"\x83\x80" + KEY)
    done = run_command("inspect", str(good))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].split() == ["0", "client", "TEXT", "FIN", "MASK", "5", "Hello"]
    done = run_command("inspect", str(bad))
    assert (done.returncode, done.stderr) == (1, "")
    assert "opcode" in done.stdout.splitlines()[-1]
    done = run_command("inspect", str(tmp_path / "none"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"wslowlevel: cannot read {tmp_path / 'none'}: No such file or directory\n"


@pytest.mark.any_backend
def test_whoever_reads_may_have_enough(tmp_path: Path) -> None:
    file = tmp_path / "frames"
    file.write_bytes(HELLO * 20_000)
    process = subprocess.Popen(
        [*COMMAND, "inspect", str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "offset" in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1
