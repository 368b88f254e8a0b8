"""`wslowlevel inspect`: TCP segments put together, and the HTTP before the frames."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wslowlevel import Connection, Opcode, PerMessageDeflate, prepare_close_frame_payload
from wslowlevel.cli.capture import NoCapture, conversations
from wslowlevel.cli.inspect import rows_of
from wslowlevel.cli.rows import Row
from wslowlevel.codec import encode_frame

from .captures import ACK, ANSWER, BACK, BAD, FIN, HELLO, PSH, REQUEST, RST, SYN, Talk, capture, switching
from .servers import masked


def rows(talk: Talk, *, snaplen: int = 65535) -> list[Row]:
    """Return the rows of the only connection of a capture."""
    (found,) = conversations(capture(talk, snaplen=snaplen))
    return [row for _, row in rows_of(found, None)]


def shown(talk: Talk, *, snaplen: int = 65535) -> list[tuple[str, str]]:
    """Return (sender, frame, or the text of a remark) of each row."""
    return [(row.sender, row.what or row.text) for row in rows(talk, snaplen=snaplen)]


HANDSHAKE = [("client", "handshake"), ("server", "handshake")]
FRAMES = [("client", "TEXT"), ("server", "TEXT")]
PAGE = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n"
PAGE_ROWS = [("client", "HTTP"), ("server", "HTTP")]


def response(status: int, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} Reason", *headers, "", ""]).encode() + body


def in_chunks(*chunks: bytes) -> bytes:
    return b"".join(f"{len(chunk):X};name=value\r\n".encode() + chunk + b"\r\n" for chunk in chunks)


# -- HTTP before the frames -------------------------------------------------------------------------------------------

RESPONSES = {
    "length": response(200, "Content-Length: 7", body=b"HTTP/1."),
    "empty": response(200, "Content-Length: 0"),
    "chunks": response(200, "Transfer-Encoding: chunked", body=in_chunks(b"one", b"HTTP/1.1 101 x\r\n\r\n", b"")),
    "trailers": response(200, "transfer-encoding: Chunked", body=in_chunks(b"one") + b"0\r\nName: value\r\n\r\n"),
    "no content": response(204),
    "not modified": response(304, "Content-Length: 100"),
    "informational": response(103, "Link: </a>") + response(102) + response(200, "Content-Length: 2", body=b"ok"),
}


@pytest.mark.parametrize("answer", RESPONSES.values(), ids=RESPONSES)
def test_request_before_the_upgrade_is_passed_over(answer: bytes) -> None:
    talk = Talk().opened().send(0, PAGE).send(1, answer).send(0, REQUEST).send(1, ANSWER).send(0, HELLO).send(1, BACK)
    found = [row for row in shown(talk) if row != ("server", "HTTP")]
    assert found == [("client", "HTTP"), *HANDSHAKE, *FRAMES]


def test_head_response_has_no_body() -> None:
    talk = Talk().opened().send(0, PAGE.replace(b"GET", b"HEAD")).send(1, response(200, "Content-Length: 100"))
    talk.send(0, REQUEST).send(1, ANSWER).send(0, HELLO).send(1, BACK)
    assert shown(talk) == [*PAGE_ROWS, *HANDSHAKE, *FRAMES]


@pytest.mark.parametrize(
    "request_body",
    [
        b"POST /f HTTP/1.1\r\nContent-Length: 20\r\n\r\n" + b"GET / HTTP/1.1\r\n\r\n..",
        b"PUT /f HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + in_chunks(b"GET / HTTP/1.1\r\n\r\n", b""),
        b"\r\n\r\nOPTIONS * HTTP/1.1\r\n\r\n",
    ],
)
def test_body_of_a_request_is_passed_over(request_body: bytes) -> None:
    talk = Talk().opened().send(0, request_body).send(1, response(200, "Content-Length: 0"))
    talk.send(0, REQUEST).send(1, ANSWER).send(0, HELLO).send(1, BACK)
    assert shown(talk) == [*PAGE_ROWS, *HANDSHAKE, *FRAMES]


def test_pipelined_requests_are_matched_with_their_responses() -> None:
    requests = [PAGE, PAGE.replace(b"GET", b"HEAD"), PAGE, REQUEST]
    answers = [
        response(200, "Content-Length: 3", body=b"one"),
        response(200, "Content-Length: 3"),
        response(304),
        ANSWER,
    ]
    talk = Talk().opened().send(0, b"".join(requests)).send(1, b"".join(answers)).send(0, HELLO + BAD)
    assert [row.what for row in rows(talk) if row.sender == "server"] == ["HTTP"] * 3 + ["handshake"]
    (violation,) = [row for row in rows(talk) if row.is_violation]
    assert violation.offset == len(b"".join(requests) + HELLO)


def test_refused_upgrade_and_a_second_one() -> None:
    refusal = response(401, "WWW-Authenticate: Basic", "Content-Length: 4", body=b"\x81\x02no")
    talk = Talk().opened().send(0, REQUEST).send(1, refusal).send(0, PAGE).send(1, response(204))
    talk.send(0, REQUEST).send(1, ANSWER).send(0, HELLO).send(1, BACK)
    assert shown(talk) == [*HANDSHAKE, *PAGE_ROWS, *HANDSHAKE, *FRAMES]


@pytest.mark.parametrize("headers", [["Content-Length: 0"], [], ["Transfer-Encoding: chunked"]])
def test_refused_upgrade_has_no_frames(headers: list[str]) -> None:
    talk = Talk().opened().send(0, REQUEST).send(1, response(403, *headers) + b"\xff" * 20).send(0, b"\xff" * 20)
    assert shown(talk)[:2] == HANDSHAKE
    assert ("client", "20 bytes are not read: no upgrade was accepted before them") in shown(talk)
    assert not any(row.is_violation for row in rows(talk))


def test_informational_response_before_101() -> None:
    talk = Talk().opened().send(0, REQUEST).send(1, response(103, "Link: </a>") + ANSWER).send(0, HELLO).send(1, BACK)
    assert shown(talk) == [HANDSHAKE[0], HANDSHAKE[1], HANDSHAKE[1], *FRAMES]


def test_unanswered_upgrade_has_no_frames() -> None:
    talk = Talk().opened().send(0, REQUEST).send(1).send(0, b"\xff" * 20).send(1, flags=RST)
    found = shown(talk)
    assert ("server", "no answer to the upgrade") in found
    assert ("client", "20 bytes are not read: no upgrade was accepted before them") in found
    assert len(found) == 3


def test_101_for_another_protocol_has_no_frames() -> None:
    upgrade = PAGE.replace(b"\r\n\r\n", b"\r\nUpgrade: h2c, websocket\r\nConnection: Upgrade\r\n\r\n")
    talk = (
        Talk().opened().send(0, upgrade).send(1, response(101, "Upgrade: h2c") + b"\xff" * 9).send(0, b"PRI * HTTP/2")
    )
    assert not {row.what for row in rows(talk)} - {"handshake", ""}


def test_connect_tunnel_is_followed() -> None:
    connect = b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n"
    talk = Talk().opened().send(0, connect).send(1, response(200))
    talk.send(0, REQUEST).send(1, ANSWER).send(0, HELLO).send(1, BACK)
    assert shown(talk) == [*PAGE_ROWS, *HANDSHAKE, *FRAMES]


def test_extensions_are_those_of_the_101() -> None:
    frame = encode_frame(Opcode.TEXT, b"\x00", rsv1=1)
    refusal = response(401, "Sec-WebSocket-Extensions: permessage-deflate", "Content-Length: 0")
    talk = Talk().opened().send(0, REQUEST).send(1, refusal).send(0, REQUEST).send(1, ANSWER).send(1, frame)
    assert rows(talk)[-1].is_violation
    talk = Talk().upgraded(switching("Sec-WebSocket-Extensions: permessage-deflate")).send(1, frame)
    assert not any(row.is_violation for row in rows(talk))


def test_unknown_extension_is_not_judged() -> None:
    talk = (
        Talk().upgraded(switching("Sec-WebSocket-Extensions: x-other")).send(1, encode_frame(Opcode.TEXT, b"", rsv2=1))
    )
    assert ("server", "frames are not judged: extension x-other is not supported") in shown(talk)
    assert ("server", "TEXT") in shown(talk)
    assert not any(row.is_violation for row in rows(talk))


# -- Parts of a connection --------------------------------------------------------------------------------------------


def test_answer_lost_by_the_capture() -> None:
    talk = Talk().opened().send(0, REQUEST).lose(1, ANSWER).send(0, HELLO + BAD).send(1, BACK)
    found = shown(talk)
    assert ("server", "the capture lacks the answer to the upgrade: frames are shown, not judged") in found
    assert [row for row in found if row in FRAMES] == FRAMES
    assert not any(row.is_violation for row in rows(talk))


def test_capture_of_the_client_alone() -> None:
    talk = Talk().opened().send(0, REQUEST).send(0, HELLO + BAD)
    talk.packets = [packet for packet in talk.packets if packet[12:16] == talk.packets[0][12:16]]
    found = shown(talk)
    assert found[:2] == [HANDSHAKE[0], FRAMES[0]] or FRAMES[0] in found
    assert not any(row.is_violation for row in rows(talk))


def test_capture_of_the_server_alone() -> None:
    talk = Talk().upgraded().send(1, BACK)
    talk.packets = [packet for packet in talk.packets if packet[12:16] != talk.packets[0][12:16]]
    assert FRAMES[1] in shown(talk)


def test_request_lost_by_the_capture() -> None:
    talk = Talk().opened().lose(0, REQUEST).send(1, ANSWER).send(0, HELLO + BAD).send(1, BACK)
    found = shown(talk)
    assert ("client", "the capture lacks the request: frames are shown, not judged") in found
    assert [row for row in found if row in FRAMES] == FRAMES
    assert not any(row.is_violation for row in rows(talk))


def test_capture_that_begins_before_the_upgrade_request() -> None:
    talk = Talk().send(0, REQUEST).send(1, ANSWER).send(0, HELLO).send(1, BACK)
    assert shown(talk) == [*HANDSHAKE, *FRAMES]


@pytest.mark.parametrize("side", [0, 1])
def test_capture_that_begins_inside_a_body(side: int) -> None:
    """The 101 proves by its Sec-WebSocket-Accept which request it answers."""
    talk = Talk().send(side, b"rest of a body \xff").send(0, REQUEST).send(1, ANSWER).send(0, HELLO + BAD).send(1, BACK)
    found = rows(talk)
    assert [(row.sender, row.what) for row in found if row.what][:3] == [*HANDSHAKE, FRAMES[0]]
    assert "16 bytes before the upgrade are passed over" in [row.text for row in found]
    assert any(row.is_violation for row in found)


def test_capture_that_begins_between_a_request_and_its_response() -> None:
    talk = Talk().send(1, response(200, "Content-Length: 2", body=b"ok"))
    talk.send(0, REQUEST).send(1, ANSWER).send(0, HELLO).send(1, BACK)
    assert [row for row in shown(talk) if row in [*HANDSHAKE, *FRAMES]] == [*HANDSHAKE, *FRAMES]


def test_response_lost_before_the_upgrade() -> None:
    talk = Talk().opened().send(0, PAGE).lose(1, response(200, "Content-Length: 0"))
    talk.send(0, REQUEST).send(1, ANSWER).send(0, HELLO).send(1, BACK)
    assert [row for row in shown(talk) if row in [*HANDSHAKE, *FRAMES]] == [*HANDSHAKE, *FRAMES]


def test_response_without_a_request_before_the_upgrade() -> None:
    talk = Talk().opened().send(1, response(408, "Content-Length: 0")).send(0, PAGE + REQUEST)
    talk.send(1, response(204) + ANSWER).send(0, HELLO).send(1, BACK).send(0, BAD)
    assert [row for row in shown(talk) if row in FRAMES] == FRAMES
    assert rows(talk)[-1].is_violation


@pytest.mark.parametrize("first", [0, 1])
def test_capture_that_begins_behind_the_handshake(first: int) -> None:
    data = (HELLO + masked(Opcode.TEXT, b"\xff"), BACK)
    found = shown(Talk().send(first, data[first]).send(1 - first, data[1 - first]))
    remark = "the capture begins behind the handshake: frames are shown, not judged"
    assert sorted(found) == sorted([("client", remark), ("server", remark), FRAMES[0], *FRAMES])


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x00\x02hi", b"SSH-2.0-x\r\n", b"\x81\x05Hello\xff"])
def test_connections_of_other_protocols_are_left_out(data: bytes) -> None:
    with pytest.raises(NoCapture, match="no opening handshake"):
        conversations(capture(Talk().send(0, data).send(1, data)))
    with pytest.raises(NoCapture, match="no opening handshake"):
        conversations(capture(Talk().opened().send(0, HELLO).send(1, BACK)))


# -- One side alone ---------------------------------------------------------------------------------------------------


def alone(data: bytes, sender: str | None = None) -> list[Row]:
    return [row for each in conversations(data) for _, row in rows_of(each, sender)]


def test_requests_before_the_upgrade_in_a_file_of_the_client() -> None:
    post = b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n\x81\x81\x81......"
    found = alone(PAGE + post + REQUEST + PAGE + REQUEST + HELLO + BAD)
    heads = ["HTTP", "HTTP", "handshake", "HTTP", "handshake"]
    assert [row.what for row in found] == [*heads, "TEXT", "opcode 0x3", "VIOLATION"]


def test_responses_before_the_101_in_a_file_of_the_server() -> None:
    head_response = response(200, "Content-Length: 1000")
    refusal = response(401, "Transfer-Encoding: chunked", body=in_chunks(b"\xff" * 20, b""))
    found = alone(head_response + refusal + response(103) + ANSWER + BACK + b"\x83\x00")
    assert [row.what for row in found] == [*["handshake"] * 4, "TEXT", "opcode 0x3", "VIOLATION"]


@pytest.mark.parametrize("data", [PAGE + b"\xff" * 9, response(200) + b"\xff" * 9, response(403, "Content-Length: 9")])
def test_http_without_an_upgrade_has_no_frames(data: bytes) -> None:
    assert [row.what for row in alone(data)][1:] in ([], [""])


@pytest.mark.parametrize("data", [REQUEST, ANSWER])
def test_truncated_head_is_no_violation(data: bytes) -> None:
    for length in range(6, len(data)):
        (row,) = alone(data[:length])
        assert not row.is_violation


def test_sender_is_for_a_single_side_only() -> None:
    (found,) = conversations(capture(Talk().upgraded().send(0, HELLO).send(1, BACK)))
    assert rows_of(found, "client") == rows_of(found, "server") == rows_of(found, None)


# -- Segments ---------------------------------------------------------------------------------------------------------


def test_retransmission_with_overlap_is_read_once() -> None:
    talk = Talk().upgraded().send(0, HELLO).send(0, HELLO[4:] + HELLO[:5], at=4 - len(HELLO))
    talk.next[0] += 5
    talk.send(0, HELLO[5:]).send(1, BACK)
    assert shown(talk) == [*HANDSHAKE, FRAMES[0], *FRAMES]


def test_segments_out_of_order_are_sorted() -> None:
    talk = Talk().upgraded().send(0, HELLO[6:], at=6).send(0, HELLO[3:6], at=3).send(0, HELLO[:3], at=0).send(1, BACK)
    assert shown(talk) == [*HANDSHAKE, *FRAMES]


def test_segment_before_its_syn_is_read() -> None:
    talk = Talk().upgraded().send(0, HELLO).send(1, BACK)
    talk.packets[0], talk.packets[3] = talk.packets[3], talk.packets[0]
    assert shown(talk) == [*HANDSHAKE, *FRAMES]


def test_packets_captured_twice_are_read_once() -> None:
    talk = Talk().upgraded().send(0, HELLO).send(1, BACK).send(0, flags=FIN | ACK)
    talk.packets = [packet for packet in talk.packets for _ in range(2)]
    assert shown(talk) == [*HANDSHAKE, *FRAMES]


@pytest.mark.parametrize("byte", [b"\x00", b"\xff"])
def test_byte_of_a_keep_alive_is_ignored(byte: bytes) -> None:
    talk = Talk().opened().send(0, byte, at=-1).send(0, REQUEST).send(1, ANSWER)
    talk.send(0, byte, at=-1).send(0, HELLO).send(0, byte, at=-1).send(1, byte, at=-1).send(0, b"", at=-1)
    talk.send(0, HELLO).send(1, BACK)
    assert shown(talk) == [*HANDSHAKE, FRAMES[0], *FRAMES]


def test_byte_of_a_keep_alive_does_not_fill_a_gap() -> None:
    talk = Talk().upgraded().send(0, HELLO[:6]).lose(0, HELLO[6:]).send(1).send(0, b"\xff", at=-1).send(0, HELLO)
    assert gap(5) in shown(talk)


def test_zero_window_probe_is_data() -> None:
    talk = Talk().upgraded().send(0, HELLO[:1], at=0).send(0, HELLO[:1], at=0).send(0, HELLO).send(1, BACK)
    assert shown(talk) == [*HANDSHAKE, *FRAMES]


def test_text_in_a_reset_is_no_data() -> None:
    talk = Talk().upgraded().send(0, HELLO).send(1, BACK).send(1, b"no such session", RST)
    assert shown(talk) == [*HANDSHAKE, *FRAMES]


def test_data_behind_a_fin_is_ignored() -> None:
    talk = Talk().upgraded().send(0, HELLO).send(1, BACK).send(0, flags=FIN | ACK).send(0, b"\xff" * 5)
    assert shown(talk) == [*HANDSHAKE, *FRAMES]


def test_data_in_a_syn_is_read() -> None:
    talk = Talk().send(0, REQUEST, SYN).send(1, flags=SYN | ACK).send(1, ANSWER).send(0, HELLO).send(1, BACK)
    assert shown(talk) == [*HANDSHAKE, *FRAMES]


def test_reused_ports_are_two_connections() -> None:
    talk = Talk().upgraded().send(0, HELLO)
    talk.next = [10**9, 2 * 10**9]
    talk.upgraded().send(1, BACK)
    found = [[row.what for _, row in rows_of(each, None)] for each in conversations(capture(talk))]
    assert found == [["handshake", "handshake", "TEXT"]] * 2


def test_segment_with_other_bytes_is_not_judged() -> None:
    talk = Talk().upgraded().send(0, HELLO + BAD).send(0, HELLO[:-1] + b"?" + BAD, at=-len(HELLO + BAD)).send(1, BACK)
    text = "sent twice with different bytes here: frames from here on are not judged"
    assert ("client", text) in shown(talk)
    assert not any(row.is_violation for row in rows(talk))


def test_stream_longer_than_its_numbers() -> None:
    payload = masked(Opcode.BINARY, bytes(60000), fin=0)
    talk = Talk(next=[2**32 - 70000, 2**31 - 10]).upgraded().send(0, payload)
    for _ in range(5):
        talk.send(0, masked(0, bytes(60000), fin=0), PSH | ACK)
    assert [row.what for row in rows(talk)] == ["handshake"] * 2 + ["BINARY"] + ["CONTINUATION"] * 5


# -- Gaps -------------------------------------------------------------------------------------------------------------


def gap(length: int) -> tuple[str, str]:
    return ("client", f"the capture lacks {length:,} bytes here")


def test_gap_in_a_payload_hides_no_later_frame() -> None:
    talk = Talk().upgraded().send(0, HELLO[:7]).lose(0, HELLO[7:]).send(0, HELLO).send(1, BACK).send(0, BAD)
    assert shown(talk)[:-2] == [*HANDSHAKE, FRAMES[0], gap(4), *FRAMES]
    assert rows(talk)[-1].is_violation


def test_gap_in_a_fragmented_message_is_not_judged_until_its_end() -> None:
    first, last = masked(Opcode.TEXT, "ä".encode() * 9, fin=0), masked(0, b"end")
    talk = Talk().upgraded().send(0, first[:9]).lose(0, first[9:]).send(0, last)
    assert not any(row.is_violation for row in rows(talk))
    talk.send(0, BAD)
    assert rows(talk)[-1].is_violation


def test_gap_in_a_control_frame_keeps_the_message_open() -> None:
    first, ping, last = masked(Opcode.TEXT, b"one", fin=0), masked(Opcode.PING, b"12345"), masked(0, b"two")
    talk = Talk().upgraded().send(0, first + ping[:8]).lose(0, ping[8:]).send(0, last + HELLO)
    assert not any(row.is_violation for row in rows(talk))


def test_certain_violation_before_a_gap_is_found() -> None:
    wrong = b"\xc1" + HELLO[1:]
    talk = Talk().upgraded().send(0, wrong[:7]).lose(0, wrong[7:]).send(0, HELLO)
    assert rows(talk)[-1].is_violation


def test_gap_in_a_header_ends_the_judgement() -> None:
    talk = Talk().upgraded().send(0, HELLO[:3]).lose(0, HELLO[3:]).send(0, HELLO + BAD).send(1, BACK)
    found = shown(talk)
    assert gap(8) in found
    assert ("client", "a frame may begin here: frames are shown as far as they make sense, not judged") in found
    assert ("client", "no frame begins here: the rest is not read") in found
    assert [row for row in found if row in FRAMES] == FRAMES
    assert not any(row.is_violation for row in rows(talk))


def test_gap_at_the_end_is_proved_by_an_acknowledgement() -> None:
    talk = Talk().upgraded().lose(0, HELLO).send(1, BACK)
    assert gap(len(HELLO)) in shown(talk)


def test_gap_in_compressed_messages_ends_the_judgement() -> None:
    connection = Connection(role="client")
    connection.open([PerMessageDeflate(client_max_window_bits=15).confirm(())])
    frames = [bytes(connection.message_frame(b"again and " * 20, Opcode.TEXT)) for _ in range(3)]
    talk = Talk().upgraded(switching("Sec-WebSocket-Extensions: permessage-deflate"))
    talk.send(0, frames[0]).send(0, frames[1][:8]).lose(0, frames[1][8:]).send(0, frames[2])
    found = shown(talk)
    assert [text for _, text in found].count("TEXT") == 3
    assert ("client", "frames behind the gap are not judged: they may be compressed") in found
    assert not any(row.is_violation for row in rows(talk))


def test_packets_cut_off_by_the_capture_lack_bytes() -> None:
    long = masked(Opcode.TEXT, b"x" * 1000)
    close = masked(Opcode.CLOSE, prepare_close_frame_payload(1000, ""))
    talk = Talk().upgraded().send(0, long).send(0, long).send(1, BACK).send(0, close)
    found = shown(talk, snaplen=400)
    missing = len(long) - (400 - 54)
    assert found == [
        *HANDSHAKE,
        *[FRAMES[0], gap(missing)] * 2,
        FRAMES[1],
        ("client", "CLOSE"),
    ]


@pytest.mark.parametrize("snaplen", range(54, 260, 7))
def test_no_snaplen_makes_a_violation(snaplen: int) -> None:
    talk = Talk().upgraded().send(0, HELLO * 20).send(1, BACK * 20).send(0, HELLO).send(1, BACK)
    try:
        found = conversations(capture(talk, snaplen=snaplen))
    except NoCapture:
        return
    assert not any(row.is_violation for each in found for _, row in rows_of(each, None))


@pytest.mark.parametrize("lost", range(16))
def test_no_lost_packet_makes_a_violation(lost: int) -> None:
    text = "ä".encode() * 50
    talk = Talk().opened().send(0, PAGE).send(1, response(200, "Content-Length: 90", body=b"\xff" * 90))
    talk.send(0, REQUEST).send(1, ANSWER).send(0, HELLO).send(1, BACK)
    for part in (text[:33], text[33:]):
        talk.send(0, masked(Opcode.TEXT if part == text[:33] else 0, part, fin=int(part != text[:33])))
        talk.send(1, encode_frame(Opcode.TEXT, text))
    talk.send(0, HELLO).send(0, flags=FIN | ACK).send(1, flags=FIN | ACK)
    del talk.packets[lost]
    (found,) = conversations(capture(talk))
    assert not any(row.is_violation for _, row in rows_of(found, None))


# -- Any loss ---------------------------------------------------------------------------------------------------------


def valid_talk(cuts: list[int], *, is_compressed: bool) -> Talk:
    """Return a connection without violations, whose bytes are divided into segments at some positions."""
    ours = Connection(role="client")
    if is_compressed:
        ours.open([PerMessageDeflate(client_max_window_bits=15).confirm(())])
    answer = switching("Sec-WebSocket-Extensions: permessage-deflate") if is_compressed else ANSWER
    refused = response(401, "Content-Length: 3", body=b"\xff\x00\xff")
    parts = [(0, PAGE), (1, response(204)), (0, REQUEST), (1, refused), (0, REQUEST), (1, response(103) + answer)]
    for number in range(4):
        text = "ä€𝄞".encode() * (10 * number + 1)
        if is_compressed:
            parts.append((0, bytes(ours.message_frame(text, Opcode.TEXT))))
        else:
            first, second = masked(Opcode.TEXT, text[:5], fin=0), masked(0, text[5:])
            parts.append((0, first + masked(Opcode.PING, b"\xff" * 9) + second))
        parts.append((1, encode_frame(Opcode.TEXT, text)))
    talk = Talk().opened()
    for (side, data), cut in zip(parts, cuts, strict=True):
        at = cut % len(data)
        talk.send(side, data[:at]).send(side, data[at:]).send(1 - side)
    return talk.send(0, masked(Opcode.CLOSE, b"")).send(1, encode_frame(Opcode.CLOSE, b"")).send(0, flags=FIN | ACK)


@pytest.mark.parametrize("is_compressed", [False, True])
@given(
    cuts=st.lists(st.integers(0, 500), min_size=14, max_size=14),
    lost=st.sets(st.integers(0, 50), max_size=4),
    moved=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=4),
    repeated=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=4),
    begin=st.one_of(st.just(0), st.integers(0, 50)),
    snaplen=st.one_of(st.just(65535), st.integers(54, 400)),
)
def test_no_loss_or_disorder_makes_a_violation(
    is_compressed: bool,
    cuts: list[int],
    lost: set[int],
    moved: list[tuple[int, int]],
    repeated: list[tuple[int, int]],
    begin: int,
    snaplen: int,
) -> None:
    talk = valid_talk(cuts, is_compressed=is_compressed)
    packets = [packet for number, packet in enumerate(talk.packets) if number not in lost]
    for source, target in moved:
        packets.insert(target, packets.pop(source % len(packets)))
    for source, target in repeated:
        packets.insert(target, packets[source % len(packets)])
    talk.packets = packets[begin:]
    with suppress(NoCapture):
        for each in conversations(capture(talk, snaplen=snaplen)):
            assert not any(row.is_violation for _, row in rows_of(each, None))
