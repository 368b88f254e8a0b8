"""Request heads: syntax and limits, judged at the first byte that violates them, however the bytes are cut."""

from __future__ import annotations

import asyncio
import random

import h11
import pytest

from wslowlevel import InvalidHandshake, Request, read_request
from wslowlevel.http1 import MAX_HEADER_LINE, MAX_HEADERS, MAX_HEADERS_SIZE, HeadLimits, RequestReader, parse_request

from .servers import both_loops, connecting, handshake, run, serving
from .test_server import answer_of, echo

GOOD = handshake()
LINES = b"GET / HTTP/1.1\r\nHost: h\r\n"

MALFORMED = {
    # Each with the part up to and including the first byte that violates the grammar.
    "bare LF everywhere": (GOOD.replace(b"\r\n", b"\n"), b"GET / HTTP/1.1\n"),
    "bare LF behind the request line": (b"GET / HTTP/1.1\nHost: h\r\n\r\n", b"GET / HTTP/1.1\n"),
    "bare LF behind a header": (LINES + b"X: a\nY: b\r\n\r\n", LINES + b"X: a\n"),
    "bare LF behind a header name": (LINES + b"X\nY: b\r\n\r\n", LINES + b"X\n"),
    "bare LF as empty line": (LINES + b"\n", LINES + b"\n"),
    "obs-fold with a space": (LINES + b"X: a\r\n b\r\n\r\n", LINES + b"X: a\r\n "),
    "obs-fold with a tab": (LINES + b"X: a\r\n\tb\r\n\r\n", LINES + b"X: a\r\n\t"),
    "obs-fold of the key": (
        GOOD.replace(b"Sec-WebSocket-Key: ", b"Sec-WebSocket-Key:\r\n "),
        GOOD.partition(b"dGhl")[0][:-1] + b"\r\n ",
    ),
    "obs-fold behind the request line": (b"GET / HTTP/1.1\r\n Host: h\r\n\r\n", b"GET / HTTP/1.1\r\n "),
    "fold of spaces only": (LINES + b"X: a\r\n \r\n\r\n", LINES + b"X: a\r\n "),
    "bare CR in a value": (LINES + b"X: a\rb\r\n\r\n", LINES + b"X: a\rb"),
    "bare CR in the request line": (b"GET / HTTP/1.1\rHost: h\r\n\r\n", b"GET / HTTP/1.1\rH"),
    "bare CR in a name": (LINES + b"X\rY: b\r\n\r\n", LINES + b"X\r"),
    "bare CR as empty line": (LINES + b"\rX", LINES + b"\rX"),
    "CR CR LF": (LINES + b"X: a\r\r\n\r\n", LINES + b"X: a\r\r"),
    "a space before a colon": (LINES + b"X : a\r\n\r\n", LINES + b"X "),
    "a tab before a colon": (LINES + b"X\t: a\r\n\r\n", LINES + b"X\t"),
    "no name": (LINES + b": a\r\n\r\n", LINES + b":"),
    "no colon": (LINES + b"nonsense\r\n\r\n", LINES + b"nonsense\r"),
    "a leading empty line": (b"\r\n" + GOOD, b"\r"),
    "a leading bare LF": (b"\n" + GOOD, b"\n"),
    "a leading space": (b" " + GOOD, b" "),
    "NUL first": (b"\0" + GOOD, b"\0"),
    "NUL in the method": (b"G\0T / HTTP/1.1\r\n\r\n", b"G\0"),
    "NUL in the target": (b"GET /\0 HTTP/1.1\r\n\r\n", b"GET /\0"),
    "NUL in a name": (LINES + b"X\0: a\r\n\r\n", LINES + b"X\0"),
    "NUL in a value": (LINES + b"X: a\0b\r\n\r\n", LINES + b"X: a\0"),
    "a form feed in a value": (LINES + b"X: a\fb\r\n\r\n", LINES + b"X: a\f"),
    "not ASCII in a name": (LINES + b"X\xe9: a\r\n\r\n", LINES + b"X\xe9"),
    "not ASCII in the target": (b"GET /\xe9 HTTP/1.1\r\n\r\n", b"GET /\xe9"),
    "no target": (b"GET  HTTP/1.1\r\n\r\n", b"GET  "),
    "HTTP 0.9": (b"GET /\r\n\r\n", b"GET /\r"),
    "a version of two digits": (b"GET / HTTP/1.10\r\n\r\n", b"GET / HTTP/1.10"),
    "a version in lower case": (b"GET / http/1.1\r\n\r\n", b"GET / h"),
    "a version that is cut off": (b"GET / HTTP/1\r\n\r\n", b"GET / HTTP/1\r"),
    "a space behind the version": (b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", b"GET / HTTP/1.1 "),
    "a TLS ClientHello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x16\x03"),
    "a byte of 0x16": (b"\x16GET / HTTP/1.1\r\n\r\n", b"\x16G"),
}


def outcome(head: bytes, cuts: list[int], limits: HeadLimits = HeadLimits()) -> tuple[object, ...]:  # noqa: B008
    """Return the error or the request that a head in these pieces gives, None while it is not complete."""
    reader = RequestReader(limits)
    for start, end in zip([0, *cuts], [*cuts, len(head)], strict=True):
        try:
            request = reader.feed(head[start:end])
        except InvalidHandshake as error:
            return error.status, str(error)
        if request is not None:
            rest = reader.rest + head[end:]
            return request.method, request.target, request.headers.raw(), request.http_version, rest
    return (None,)


def ways_to_cut(head: bytes) -> list[list[int]]:
    chance = random.Random(len(head))
    some = [sorted(chance.sample(range(len(head)), min(len(head), 3))) for _ in range(10)]
    return [[], list(range(1, len(head))), *some]


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_head_is_rejected_at_the_first_wrong_byte_without_echo(name: str) -> None:
    head, wrong = MALFORMED[name]
    assert head.startswith(wrong)
    (expected,) = {outcome(head, cuts) for cuts in ways_to_cut(head)}
    assert expected[0] == 400
    assert outcome(wrong, []) == expected
    assert outcome(wrong[:-1], []) == (None,)
    with pytest.raises(InvalidHandshake, match="malformed request") as caught:
        parse_request(head)
    assert b"nonsense" not in caught.value.body
    assert b"\\x" not in caught.value.body


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_head_is_rejected_by_read_request(name: str) -> None:
    async def read() -> Request:
        reader = asyncio.StreamReader()
        reader.feed_data(MALFORMED[name][0])
        reader.feed_eof()
        return await read_request(reader)

    with pytest.raises(InvalidHandshake, match="malformed request"):
        asyncio.run(read())


@both_loops
@pytest.mark.parametrize("name", [name for name in MALFORMED if "TLS" not in name])
@pytest.mark.parametrize("upgrade", [True, False], ids=["upgrade", "plain"])
def test_malformed_head_is_answered_with_400_before_it_is_complete(loop_kind: str, name: str, upgrade: bool) -> None:
    wrong = MALFORMED[name][1]
    if upgrade and wrong.startswith(LINES):
        wrong = GOOD[:-2] + wrong[len(LINES) :]

    async def main() -> None:
        async with serving(echo) as server, connecting(server.port) as raw:
            status, _, body = await answer_of(raw, wrong)
            assert status == 400
            assert body.startswith(b"malformed request: ")

    run(loop_kind, main())


# -- Limits -----------------------------------------------------------------------------------------------------------

LIMITS = HeadLimits(max_header_line=40, max_headers=3, max_head_size=100)


def with_line(length: int) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"y" * (length - 3) + b"\r\n\r\n"


def with_target(length: int) -> bytes:
    return b"GET " + b"/" * length + b" HTTP/1.1\r\nHost: h\r\n\r\n"


def with_headers(count: int) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * (count - 1) + b"\r\n"


def of_size(size: int) -> bytes:
    head = b"GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa HTTP/1.1\r\nHost: h\r\nX: %b\r\n\r\n"
    return head % (b"y" * (size - len(head) + 2))


@pytest.mark.parametrize(
    ("build", "limit", "text"),
    [
        (with_line, 40, "header line of over 40 bytes: 40 are allowed, raise max_header_line to accept more"),
        (with_target, 40, "request target of over 40 bytes: 40 are allowed, raise max_header_line to accept more"),
        (with_headers, 3, "over 3 headers: 3 are allowed, raise max_headers to accept more"),
        (of_size, 100, "request head of over 100 bytes: 100 are allowed, raise max_head_size to accept more"),
    ],
)
def test_limit_is_inclusive_and_its_error_names_the_parameter(build: object, limit: int, text: str) -> None:
    assert callable(build)
    good, bad = build(limit), build(limit + 1)
    (accepted,) = {outcome(good + b"rest", cuts, LIMITS) for cuts in ways_to_cut(good + b"rest")}
    assert accepted[0] == "GET"
    assert accepted[-1] == b"rest"
    assert {outcome(bad, cuts, LIMITS) for cuts in ways_to_cut(bad)} == {(431, text)}


def test_first_violation_decides_however_the_bytes_are_cut() -> None:
    heads = [with_line(50) + b"\0", with_line(45).replace(b"yyyyy\r", b"yyyy\0\r"), with_line(200), with_headers(30)]
    for head in heads:
        assert len({outcome(head, cuts, LIMITS) for cuts in ways_to_cut(head)}) == 1


@both_loops
@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("factor", [1, 4], ids=["default", "raised"])
@pytest.mark.parametrize("what", ["line", "target", "headers", "size"])
def test_server_accepts_a_request_of_the_limit_and_refuses_one_byte_more(
    loop_kind: str, what: str, factor: int, extra: int
) -> None:
    line, count, size = MAX_HEADER_LINE * factor, MAX_HEADERS * factor, MAX_HEADERS_SIZE * factor
    base = len(handshake())
    request = {
        "line": lambda: handshake("X: " + "y" * (line - 3 + extra)),
        "target": lambda: handshake(target="/" * (line + extra)),
        "headers": lambda: handshake(*["X: y"] * (count - 5 + extra)),
        "size": lambda: handshake("X: " + "y" * (line - 3), "Y: " + "z" * (size - base - line - 2 - 5 + extra)),
    }[what]()
    options = {"max_header_line": line, "max_headers": count, "max_head_size": size} if factor > 1 else {}

    async def main() -> None:
        async with serving(echo, **options) as server, connecting(server.port) as raw:
            await raw.send(request)
            answer = await raw.reader.readline()
            assert answer.startswith(b"HTTP/1.1 431 " if extra else b"HTTP/1.1 101 "), answer

    if what == "size":
        assert len(request) == size + extra
    run(loop_kind, main())


@pytest.mark.parametrize("stream_limit", [2**6, 2**16])
def test_read_request_takes_a_raised_limit_whatever_the_limit_of_the_stream(stream_limit: int) -> None:
    head = handshake("Cookie: a=" + "y" * 200_000)

    async def read(**limits: int) -> tuple[Request, bytes]:
        reader = asyncio.StreamReader(limit=stream_limit)
        reader.feed_data(head + b"behind")
        reader.feed_eof()
        return await read_request(reader, **limits), await reader.read()

    request, rest = asyncio.run(read(max_header_line=300_000, max_head_size=300_000))
    assert (len(request.headers["Cookie"]), rest) == (200_002, b"behind")
    with pytest.raises(InvalidHandshake, match="raise max_header_line") as caught:
        asyncio.run(read())
    assert caught.value.status == 431
    assert len(parse_request(head, max_header_line=300_000, max_head_size=300_000).headers["Cookie"]) == 200_002


@pytest.mark.parametrize("name", ["max_header_line", "max_headers", "max_head_size"])
@pytest.mark.parametrize(("value", "kind"), [(0, ValueError), (-1, ValueError), ("1", TypeError), (True, TypeError)])
def test_limit_that_is_no_positive_integer_is_rejected_by_name(name: str, value: object, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=name):
        parse_request(GOOD, **{name: value})  # type: ignore[arg-type]
    with pytest.raises(kind, match=name):
        serving_arguments = {name: value}
        asyncio.run(_start(serving_arguments))


async def _start(options: dict[str, object]) -> None:
    async with serving(echo, **options):
        raise AssertionError("unreachable")


# -- h11 --------------------------------------------------------------------------------------------------------------


def test_reader_accepts_nothing_that_h11_rejects_and_gives_the_same_request() -> None:
    chance = random.Random(6455)
    accepted = 0
    for _ in range(5000):
        head = bytearray(GOOD)
        for _ in range(chance.randrange(3)):
            at = chance.randrange(len(head))
            head[at : at + chance.randrange(2)] = chance.choice(
                [b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\0", b"\xe9"]
            )
        result = outcome(bytes(head), [])
        assert result == outcome(bytes(head), list(range(1, len(head))))
        if result[0] == "GET":
            accepted += 1
            connection = h11.Connection(h11.SERVER)
            connection.receive_data(bytes(head))
            event = connection.next_event()
            assert isinstance(event, h11.Request)
            fields = tuple(
                (name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers.raw_items()
            )
            assert result[1:3] == (event.target.decode("latin-1"), fields)
    assert accepted > 1000
