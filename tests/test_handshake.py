"""Both sides of the opening handshake, as functions over headers (RFC 6455 §4)."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection
from wsproto.events import Request as WsprotoRequest

from wslowlevel import (
    Headers,
    InvalidHandshake,
    PerMessageDeflate,
    Request,
    choose_subprotocol,
    parse_extensions,
)
from wslowlevel.extensions import Extension, ExtensionFactory, Parameters, check_factories
from wslowlevel.handshake import (
    accept_key,
    accept_request,
    check_request,
    check_response,
    encode_request,
    generate_key,
    is_websocket_upgrade,
)
from wslowlevel.http1 import HandshakeResponse, HeadersLike, HeadLimits, ResponseReader, parse_request

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

VALID = (
    ("Host", "server.example.com"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", KEY),
    ("Sec-WebSocket-Version", "13"),
)


def request(*changes: tuple[str, str | None], method: str = "GET", http_version: str = "1.1") -> Request:
    """The request of RFC 6455 §1.3, with headers replaced, or dropped for None, or repeated."""
    changed = {name.lower() for name, _ in changes}
    kept = [(name, value) for name, value in VALID if name.lower() not in changed]
    added = [(name, value) for name, value in changes if value is not None]
    return Request(method, "/chat", Headers(kept + added), http_version)


# -- The server's side ------------------------------------------------------------------------------------------------


def test_the_example_of_the_rfc() -> None:
    assert accept_key(KEY) == ACCEPT
    assert accept_request(request()) == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + ACCEPT.encode() + b"\r\n\r\n"
    )


@pytest.mark.parametrize(
    "changes",
    [
        [("Connection", "keep-alive, Upgrade")],
        [("Connection", "keep-alive"), ("Connection", "upgrade")],
        [("Connection", " , ,UPGRADE,\tclose")],
        [("Upgrade", "WebSocket")],
        [("Upgrade", "h2c, websocket")],
        [("Content-Length", "0")],
        [("Origin", "http://example.com"), ("Cookie", "a=b")],
        [("Sec-WebSocket-Protocol", "chat, superchat")],
        [("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")],
    ],
)
def test_a_valid_request_is_accepted(changes: list[tuple[str, str | None]]) -> None:
    assert check_request(request(*changes)) == KEY


@pytest.mark.parametrize("last", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
def test_key_is_accepted_whatever_its_pad_bits(last: str) -> None:
    """RFC 6455 §4.1 prints AQIDBAUGBwgJCgsMDQ4PEC==, whose pad bits are not zero."""
    key = f"AQIDBAUGBwgJCgsMDQ4PE{last}=="
    answer = accept_request(request(("Sec-WebSocket-Key", key)))
    assert f"Sec-WebSocket-Accept: {accept_key(key)}\r\n".encode() in answer


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ([("Upgrade", None)], 426, "WebSocket only"),
        ([("Upgrade", "notwebsocket")], 426, "WebSocket only"),
        ([("Upgrade", "websocket2, web socket")], 426, "WebSocket only"),
        ([("Connection", None)], 400, "Connection"),
        ([("Connection", "keep-alive, notupgrade")], 400, "Connection"),
        ([("Host", None)], 400, "Host"),
        ([("Host", "a"), ("Host", "b")], 400, "Host"),
        ([("Sec-WebSocket-Version", None)], 426, "Sec-WebSocket-Version must be 13, not ''"),
        ([("Sec-WebSocket-Version", "8")], 426, "not '8'"),
        ([("Sec-WebSocket-Version", "13, 8")], 426, "not '13, 8'"),
        ([("Sec-WebSocket-Version", "013")], 426, "not '013'"),
        ([("Sec-WebSocket-Key", None)], 400, "exactly one Sec-WebSocket-Key"),
        ([("Sec-WebSocket-Key", KEY), ("Sec-WebSocket-Key", KEY)], 400, "exactly one Sec-WebSocket-Key"),
        ([("Sec-WebSocket-Key", "")], 400, "16 bytes in base64"),
        ([("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ")], 400, "16 bytes in base64"),
        ([("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZSE=")], 400, "16 bytes in base64"),
        ([("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=")], 400, "16 bytes in base64"),
        ([("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ===")], 400, "16 bytes in base64"),
        ([("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ== ")], 400, "16 bytes in base64"),
        ([("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==\n")], 400, "16 bytes in base64"),
        ([("Sec-WebSocket-Key", "=dGhlIHNhbXBsZSBub25jZQ=")], 400, "16 bytes in base64"),
        ([("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZ===")], 400, "16 bytes in base64"),
        ([("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZSE")], 400, "16 bytes in base64"),
        ([("Sec-WebSocket-Key", "____IHNhbXBsZSBub25jZQ==")], 400, "16 bytes in base64"),
        ([("Sec-WebSocket-Key", "dGhl-HNhbXBsZSBub25jZQ==")], 400, "16 bytes in base64"),
        ([("Sec-WebSocket-Key", "\u0661GhlIHNhbXBsZSBub25jZQ==")], 400, "16 bytes in base64"),
        ([("Sec-WebSocket-Key", "dGhlIHNh bXBsZSBub25jZQ==")], 400, "16 bytes in base64"),
        ([("Sec-WebSocket-Key", "é" * 24)], 400, "16 bytes in base64"),
        ([("Content-Length", "5")], 400, "body"),
        ([("Transfer-Encoding", "chunked")], 400, "body"),
        ([("Sec-WebSocket-Protocol", "chat, super chat")], 400, "tokens"),
        ([("Sec-WebSocket-Extensions", 'x; a="')], 400, "no end"),
    ],
)
def test_an_invalid_request_is_refused_with_its_status(
    changes: list[tuple[str, str | None]], status: int, text: str
) -> None:
    with pytest.raises(InvalidHandshake, match=text) as caught:
        accept_request(request(*changes))
    assert caught.value.status == status
    assert str(caught.value).encode() in caught.value.body
    if status == 426:
        assert ("Sec-WebSocket-Version", "13") in caught.value.headers


def test_another_method_is_refused_with_the_one_that_is_allowed() -> None:
    with pytest.raises(InvalidHandshake, match="GET, not 'POST'") as caught:
        check_request(request(method="POST"))
    assert (caught.value.status, caught.value.headers) == (405, (("Allow", "GET"),))


def test_an_upgrade_of_http_1_0_does_not_count() -> None:
    assert is_websocket_upgrade(request())
    assert not is_websocket_upgrade(request(http_version="1.0"))
    with pytest.raises(InvalidHandshake) as caught:
        check_request(request(http_version="1.0"))
    assert caught.value.status == 426


def test_a_head_over_the_limit() -> None:
    """Whole at once, or in pieces: h11 limits only what is not complete."""
    lines = [f"X-{i}: {'y' * 1000}" for i in range(100)]
    head = "\r\n".join(["GET / HTTP/1.1", "Host: h", *lines, "", ""]).encode()
    with pytest.raises(InvalidHandshake, match="65536 are allowed") as caught:
        parse_request(head)
    assert caught.value.status == 431


def test_requests_may_stand_in_sets() -> None:
    assert len({request(), request()}) == 2


# -- Headers of the caller --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["X-Name: value", "X-Name:value", ("X-Name", "value"), ("X-Name", " value ")])
def test_headers_of_both_forms(header: str | tuple[str, str]) -> None:
    assert accept_request(request(), [header]).endswith(b"\r\nX-Name: value\r\n\r\n")


@pytest.mark.parametrize(
    "headers", [{"X-A": "1", "X-B": "2"}, Headers([("X-A", "1"), ("X-B", "2")]), iter(["X-A: 1", ("X-B", "2")])]
)
def test_headers_may_be_a_mapping_or_any_iterable(headers: HeadersLike) -> None:
    assert accept_request(request(), headers).endswith(b"\r\nX-A: 1\r\nX-B: 2\r\n\r\n")


@pytest.mark.parametrize("headers", ["X-A: 1", b"X-A: 1", 1, None])
def test_headers_that_are_not_a_collection_are_rejected(headers: object) -> None:
    with pytest.raises(TypeError, match="headers must be a mapping, or an iterable of"):
        accept_request(request(), headers)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("header", "kind", "text"),
    [
        ("X-Name", ValueError, 'must be "Name: value"'),
        ("", ValueError, 'must be "Name: value"'),
        (": value", ValueError, "must be a token, got no characters"),
        ("X Name: value", ValueError, "must be a token, got ' ' at index 1"),
        ("X-Name: a\r\nX-Other: b", ValueError, "visible ASCII"),
        (("X-Name", "a\nb"), ValueError, "visible ASCII"),
        (("X-Name\r\n", "a"), ValueError, "must be a token"),
        (("X-Name", "a\x00b"), ValueError, "visible ASCII"),
        (("X-Name", "a\x7fb"), ValueError, "visible ASCII"),
        (("X-Name", "€"), ValueError, "visible ASCII"),
        (("X-Name", 5), TypeError, "a string or a pair of strings"),
        (b"X-Name: value", TypeError, "a string or a pair of strings"),
        (5, TypeError, "a string or a pair of strings"),
        ("Upgrade: h2c", ValueError, "Upgrade is not the caller's"),
        ("sec-websocket-accept: x", ValueError, "not the caller's"),
        ("Content-Length: 5", ValueError, "not the caller's"),
        ("Sec-WebSocket-Protocol: other", ValueError, r"must be one of \['chat', 'superchat'\], not \['other'\]"),
        ("Sec-WebSocket-Protocol: Chat", ValueError, "must be one of"),
        ("Sec-WebSocket-Extensions: other", ValueError, r"other is not among those offered: \['x-mine'\]"),
        ('Sec-WebSocket-Extensions: x-mine; a="', ValueError, "no end"),
    ],
)
def test_a_header_that_may_not_stand_there(header: object, kind: type[Exception], text: str) -> None:
    asked = request(("Sec-WebSocket-Protocol", "chat, superchat"), ("Sec-WebSocket-Extensions", "x-mine; a=1"))
    with pytest.raises(kind, match=text):
        accept_request(asked, [header])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "header",
    [
        "s3cr3t",
        "Cookie s3cr3t: x",
        "Cookie: s3cr3t\r\nX: y",
        ("Authorization", "Bearer s3cr3t\n"),
        ("Authorization", b"Bearer s3cr3t"),
        ("Authorization", "Bearer", "s3cr3t"),
        ["Authorization", "s3cr3t"],
        b"Cookie: s3cr3t",
    ],
)
def test_no_error_of_a_header_shows_its_value(header: object) -> None:
    with pytest.raises((TypeError, ValueError), match="header") as caught:
        encode_request("h", key="dGhlIHNhbXBsZSBub25jZQ==", headers=[header])  # type: ignore[list-item]
    assert "s3cr3t" not in str(caught.value)


def test_the_offered_may_be_chosen() -> None:
    asked = request(("Sec-WebSocket-Protocol", "chat, superchat"), ("Sec-WebSocket-Extensions", "x-mine; a=1"))
    answer = accept_request(asked, ["Sec-WebSocket-Protocol: superchat", ("Sec-WebSocket-Extensions", "x-mine")])
    assert answer.endswith(b"\r\nSec-WebSocket-Protocol: superchat\r\nSec-WebSocket-Extensions: x-mine\r\n\r\n")
    with pytest.raises(ValueError, match="must be one of"):
        accept_request(asked, ["Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: superchat"])


def test_the_subprotocol_is_the_clients_first_that_we_have() -> None:
    asked = request(("Sec-WebSocket-Protocol", "a, b"), ("Sec-WebSocket-Protocol", "c"))
    assert choose_subprotocol(asked, ["c", "b"]) == "b"
    assert choose_subprotocol(asked, ["B", "d"]) is None
    assert choose_subprotocol(request(), ["a"]) is None


# -- Extensions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "parsed"),
    [
        ([], []),
        (["foo"], [("foo", [])]),
        (["foo, bar; baz=2"], [("foo", []), ("bar", [("baz", "2")])]),
        (["foo; a", " bar;b = 1 "], [("foo", [("a", None)]), ("bar", [("b", "1")])]),
        (['foo; a="1\\0"; b="x"'], [("foo", [("a", "10"), ("b", "x")])]),
        ([", ,foo,"], [("foo", [])]),
    ],
)
def test_extensions(values: list[str], parsed: object) -> None:
    assert parse_extensions(values) == parsed


@pytest.mark.parametrize(
    "value", ["foo bar", ";a", "foo;", "foo; a=", 'foo; a="', 'foo; a="b c"', "foo; =1", 'foo; a=""']
)
def test_extensions_that_do_not_follow_the_grammar(value: str) -> None:
    with pytest.raises(InvalidHandshake) as caught:
        parse_extensions([value])
    assert caught.value.status == 400


@pytest.mark.parametrize("piece", ['; b="\\c', " ", ",", ";", '"', "\\"])
def test_long_headers_are_parsed_in_linear_time(piece: str) -> None:
    """Sixteen times the text is about sixteen times the work, whatever it repeats; quadratic would be 256 times."""

    def cost(length: int) -> float:
        value = ("a" + piece * length)[:length]
        best = float("inf")
        for _ in range(5):
            start = time.process_time()
            with suppress(InvalidHandshake):
                parse_extensions([value])
            best = min(best, time.process_time() - start)
        return best

    assert cost(256_000) < 64 * cost(16_000)


# -- The client's side ------------------------------------------------------------------------------------------------


class Bits(ExtensionFactory):
    """An extension with a parameter, for the headers; nothing ever comes of it."""

    name = "x-bits"

    def offer(self) -> Parameters:
        return [("rsv", "2"), ("alone", None)]

    def accept(self, offered: Parameters) -> None:
        raise NotImplementedError

    def confirm(self, answered: Parameters) -> Extension:
        if answered != [("rsv", "2")]:
            raise InvalidHandshake(f"x-bits must be answered with rsv=2, not {answered}")
        return NoExtension()


class NoExtension(Extension):
    def decoder(self, opcode: int, rsv: int) -> None:
        raise NotImplementedError

    def encoder(self, opcode: int, size: int | None, wanted: bool | None) -> None:
        raise NotImplementedError


def test_a_request_that_another_implementation_accepts() -> None:
    key = generate_key()
    head = encode_request(
        "example.com:8765", "/a?b=c", key=key, subprotocols=["x", "y"], extensions=[Bits()], headers=["X-Name: v"]
    )
    server = WSConnection(ConnectionType.SERVER)
    server.receive_data(head)
    (event,) = server.events()
    assert isinstance(event, WsprotoRequest)
    assert (event.host, event.target, event.subprotocols) == ("example.com:8765", "/a?b=c", ["x", "y"])
    assert b"\r\nSec-WebSocket-Extensions: x-bits; rsv=2; alone\r\n" in head
    reader = ResponseReader()
    reader.feed(server.send(AcceptConnection(subprotocol="y")))
    assert reader.complete
    assert reader.response is not None
    response, extensions = check_response(reader.response, key, subprotocols=["x", "y"], extensions=[Bits()])
    assert (response.status, response.subprotocol, extensions) == (101, "y", [])


def test_the_request_itself() -> None:
    assert encode_request("h", key=KEY, headers=["X-A: 1", ("X-A", "2"), "Cookie: c"]) == (
        b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: " + KEY.encode() + b"\r\nSec-WebSocket-Version: 13\r\n"
        b"X-A: 1\r\nX-A: 2\r\nCookie: c\r\n\r\n"
    )


def test_another_host_header() -> None:
    head = encode_request("h", key=KEY, headers=["host: other"])
    assert head.lower().count(b"\r\nhost: ") == 1
    assert b"\r\nhost: other\r\n" in head


def test_keys_are_fresh() -> None:
    assert len({generate_key() for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"target": "a"}, "target must be a path"),
        ({"target": "/a b"}, "target must be a path"),
        ({"target": "/a\r\nX: y"}, "target must be a path"),
        ({"host": "a\r\nX: y"}, "header value"),
        ({"subprotocols": ["a b"]}, "subprotocols must be distinct tokens"),
        ({"subprotocols": ["a\r\nX: y"]}, "subprotocols must be distinct tokens"),
        ({"subprotocols": [""]}, "subprotocols must be distinct tokens"),
        ({"subprotocols": ["a", "a"]}, "subprotocols must be distinct tokens"),
        ({"headers": ["X: a\r\nY: b"]}, "header value"),
        ({"headers": ["X\r\nY: b"]}, "header name"),
        ({"headers": [("X", "a\x00")]}, "header value"),
        *[
            ({"headers": [(name, "x")]}, f"header {name.lower()} is not the caller's")
            for name in (
                "Upgrade",
                "connection",
                "Content-Length",
                "Transfer-Encoding",
                "Sec-WebSocket-Key",
                "Sec-WebSocket-Version",
                "Sec-WebSocket-Protocol",
                "sec-websocket-extensions",
            )
        ],
        ({"headers": ["Host: a", "host: b"]}, "header Host may stand once, not 2 times"),
        ({"headers": ["Origin: a", "Origin: b"]}, "header Origin may stand once"),
        ({"headers": ["Authorization: a", "Authorization: b"]}, "header Authorization may stand once"),
    ],
)
def test_nothing_can_be_injected_into_a_request(arguments: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        encode_request(**{"host": "h", "key": KEY, **arguments})  # type: ignore[arg-type]


def test_one_string_is_no_list_of_subprotocols() -> None:
    with pytest.raises(TypeError, match="not the string 'chat'"):
        encode_request("h", key=KEY, subprotocols="chat")


ANSWER = (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", ACCEPT))


def answer(*changes: tuple[str, str | None], status: int = 101) -> HandshakeResponse:
    """A good answer, with headers replaced, or dropped for None, or repeated."""
    changed = {name.lower() for name, _ in changes}
    kept = [(name, value) for name, value in ANSWER if name.lower() not in changed]
    return HandshakeResponse(status, Headers(kept + [(name, value) for name, value in changes if value is not None]))


@pytest.mark.parametrize(
    ("changes", "subprotocol"),
    [
        ((), None),
        ((("Upgrade", "WebSocket"), ("Connection", "keep-alive, upgrade")), None),
        ((("Sec-WebSocket-Protocol", "b"),), "b"),
        ((("Content-Length", "5"), ("Transfer-Encoding", "chunked")), None),  # of no meaning here (RFC 9112 §6.3)
    ],
)
def test_a_good_answer(changes: tuple[tuple[str, str | None], ...], subprotocol: str | None) -> None:
    response, extensions = check_response(answer(*changes), KEY, subprotocols=["a", "b"])
    assert (response.status, response.subprotocol, extensions) == (101, subprotocol, [])


def test_an_extension_that_was_offered() -> None:
    chosen = ("Sec-WebSocket-Extensions", "x-bits; rsv=2")
    _, extensions = check_response(answer(chosen), KEY, extensions=[Bits()])
    assert [type(extension) for extension in extensions] == [NoExtension]


@pytest.mark.parametrize(
    ("status", "changes", "text"),
    [
        (200, (), "answered 200 where 101"),
        (302, (), "answered 302"),
        (500, (), "answered 500"),
        (101, (("Upgrade", None),), "Upgrade must be websocket, not ''"),
        (101, (("Upgrade", "h2c"),), "Upgrade must be websocket, not 'h2c'"),
        (101, (("Upgrade", "websocket, h2c"),), "Upgrade must be websocket"),
        (101, (("Upgrade", "websocket"), ("Upgrade", "h2c")), "Upgrade must be websocket"),
        (101, (("Connection", None),), "token Upgrade, not ''"),
        (101, (("Connection", "close"),), "token Upgrade, not 'close'"),
        (101, (("Connection", "notupgrade"),), "token Upgrade"),
        (101, (("Sec-WebSocket-Accept", None),), "does not answer the key"),
        (101, (("Sec-WebSocket-Accept", ACCEPT.lower()),), "does not answer the key"),
        (101, (("Sec-WebSocket-Accept", KEY),), "does not answer the key"),
        (101, (("Sec-WebSocket-Accept", ACCEPT), ("Sec-WebSocket-Accept", ACCEPT)), "does not answer the key"),
        (101, (("Sec-WebSocket-Protocol", "other"),), r"chose subprotocol \['other'\], offered were \['a', 'b'\]"),
        (101, (("Sec-WebSocket-Protocol", "A"),), "chose subprotocol"),
        (101, (("Sec-WebSocket-Protocol", ""),), "chose subprotocol"),
        (101, (("Sec-WebSocket-Protocol", "a, b"),), "chose subprotocol"),
        (101, (("Sec-WebSocket-Protocol", "a"), ("Sec-WebSocket-Protocol", "b")), "chose subprotocol"),
        (101, (("Sec-WebSocket-Extensions", "other"),), "chose extension other"),
        (101, (("Sec-WebSocket-Extensions", "x-bits; rsv=2, x-bits; rsv=2"),), "chose extension x-bits"),
        (101, (("Sec-WebSocket-Extensions", "x-bits"),), "must be answered with rsv=2"),
        (101, (("Sec-WebSocket-Extensions", 'x-bits; a="'),), "no end"),
    ],
)
def test_an_answer_that_opens_nothing(status: int, changes: tuple[tuple[str, str | None], ...], text: str) -> None:
    response = answer(*changes, status=status)
    with pytest.raises(InvalidHandshake, match=text) as caught:
        check_response(response, KEY, subprotocols=["a", "b"], extensions=[Bits()], body=b"why")
    assert (caught.value.status, caught.value.headers) == (status, response.headers.raw())
    assert caught.value.body == b"why"


# -- The answer as it arrives -----------------------------------------------------------------------------------------

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nX-A: 1\r\nx-a: 2\r\n\r\n"


def read_answer(data: bytes, step: int | None = None) -> ResponseReader:
    """What a reader makes of an answer that arrives whole, or in steps of so many bytes."""
    reader = ResponseReader()
    for start in range(0, len(data), step or len(data)):
        reader.feed(data[start : start + (step or len(data))])
    return reader


@pytest.mark.parametrize("step", [None, 1, 2, 3, 7, 100])
@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 \r\nLink: x\r\n\r\n" * 3])
def test_a_switch_of_protocols(before: bytes, step: int | None) -> None:
    reader = read_answer(before + SWITCH, step)
    assert reader.complete
    assert reader.response is not None
    assert reader.response.status == 101
    assert reader.response.headers.raw() == (("Upgrade", "websocket"), ("X-A", "1"), ("x-a", "2"))
    assert (reader.early, reader.body) == (b"", b"")


def test_what_comes_behind_a_switch_is_no_http() -> None:
    frames = b"\x81\x05hello\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"
    reader = read_answer(b"HTTP/1.1 100 \r\n\r\n" + SWITCH + frames)
    assert (reader.early, reader.complete) == (frames, True)


@pytest.mark.parametrize("step", [None, 1, 3])
@pytest.mark.parametrize(
    ("fields", "data", "body", "complete"),
    [
        ("Content-Length: 5", b"hello, and no more", b"hello", True),
        ("Content-Length: 0", b"", b"", True),
        ("Content-Length: 9", b"hello", b"hello", False),
        ("Content-Length: 5000", b"x" * 1023, b"x" * 1023, False),
        ("Content-Length: 5000", b"x" * 1025, b"x" * 1024, True),
        ("Transfer-Encoding: chunked", b"3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\n\r\n", b"hello", True),
        ("Transfer-Encoding: chunked", b"3\r\nhel\r\n", b"hel", False),
        ("Transfer-Encoding: chunked", b"3\r\nhelXX", b"hel", True),
        ("Transfer-Encoding: chunked", b"zz\r\n", b"", True),
        ("X: y", b"hello", b"hello", False),
        ("X: y", b"x" * 3000, b"x" * 1024, True),
    ],
)
def test_the_beginning_of_a_body(fields: str, data: bytes, body: bytes, complete: bool, step: int | None) -> None:
    reader = read_answer(f"HTTP/1.1 401 No\r\n{fields}\r\n\r\n".encode() + data, step)
    assert reader.response is not None
    assert (reader.response.status, reader.body, reader.complete) == (401, body, complete)


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body(status: int) -> None:
    assert read_answer(f"HTTP/1.1 {status} \r\nContent-Length: 5\r\n\r\n".encode()).complete


LINE = b"X: " + b"y" * 32764
SHORT_LINE = b"X: " + b"y" * 8188


@pytest.mark.parametrize("step", [None, 1, 1000])
@pytest.mark.parametrize(
    ("head", "text"),
    [
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", "illegal status line"),
        (b"\r\n\r\n", "no response line"),
        (b"HTTP/1.1 99 \r\n\r\n", "illegal status line"),
        (b"HTTP/1.1 1001 \r\n\r\n", "illegal status line"),
        (b"HTTP/1.1 101 \r\nX y\r\n\r\n", "illegal header line"),
        (b"HTTP/1.1 101 \r\nX : y\r\n\r\n", "illegal header line"),
        (b"HTTP/1.1 101 \r\n X: y\r\n\r\n", "continuation line"),
        (b"HTTP/1.1 101 \r\nX: a\x00b\r\n\r\n", "illegal header line"),
        (b"HTTP/1.1 101 \r\nX: a\rb\r\n\r\n", "illegal header line"),
        (b"HTTP/1.1 101 \r\n\r\r\n\r\n", "illegal header line"),
        (b"HTTP/1.1 401 \r\nContent-Length: 1, 2\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 401 \r\nTransfer-Encoding: gzip\r\n\r\n", "Transfer-Encoding"),
        (b"HTTP/1.0 101 \r\n\r\n", "HTTP/1.0, which has no upgrades"),
        (b"HTTP/1.1 101 " + b"x" * 32764, "a line of over 32768 bytes"),
        (b"HTTP/1.1 101 \r\n" + LINE + b"yy", "a line of over 32768 bytes"),
        (b"HTTP/1.1 101 \r\n" + b"X:\r\n" * 129, "over 128 header lines"),
        (b"HTTP/1.1 101 \r\n" + b" \r\n" * 129, "over 128 header lines"),
        (b"HTTP/1.1 101 \r\n" + (SHORT_LINE + b"\r\n") * 8, "a head of over 65536 bytes"),
        (b"HTTP/1.1 100 \r\n\r\n" * 4000, "a head of over 65536 bytes"),
    ],
)
def test_what_is_no_answer(head: bytes, text: str, step: int | None) -> None:
    """It is refused as soon as that is clear, even if nothing follows."""
    with pytest.raises(InvalidHandshake, match=text) as caught:
        read_answer(head, step)
    assert (caught.value.status, caught.value.headers, caught.value.body) == (502, (), b"")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("step", [None, 1000])
@pytest.mark.parametrize("fields", [b"X:\r\n" * 128, LINE + b"\r\n", (SHORT_LINE + b"\r\n") * 7])
def test_a_head_within_the_limits(fields: bytes, step: int | None) -> None:
    assert read_answer(b"HTTP/1.1 101 \r\n" + fields + b"\r\n", step).complete


def test_lines_may_end_with_a_bare_line_feed() -> None:
    assert read_answer(SWITCH.replace(b"\r\n", b"\n") + b"\n").early == b"\n"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 101 \r\n" + (SHORT_LINE[:-1] + b"\r\n") * 7,
        b"HTTP/1.1 100 \r\n\r\n" * 3800,
        b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1000,
    ],
)
def test_an_answer_byte_by_byte_costs_as_many_steps_as_it_has_bytes(data: bytes) -> None:
    """Its second half costs what its first half does; a buffer that is read again each time would make it threefold."""

    def cost(reader: ResponseReader, part: bytes) -> float:
        start = time.process_time()
        for i in range(len(part)):
            reader.feed(part[i : i + 1])
        return time.process_time() - start

    half = len(data) // 2
    ratios = []
    for _ in range(5):
        reader = ResponseReader()
        first = cost(reader, data[:half])
        ratios.append(cost(reader, data[half:]) / first)
    assert min(ratios) < 2


# -- Headers ----------------------------------------------------------------------------------------------------------


def test_header_fields() -> None:
    headers = Headers([("Host", "a"), ("X-Many", "1"), ("x-many", "2")])
    assert headers["HOST"] == "a"
    assert headers["x-many"] == "1, 2"
    assert headers.get_all("X-MANY") == ["1", "2"]
    assert headers.get("missing") is None
    assert "host" in headers
    assert "missing" not in headers
    assert (len(headers), list(headers)) == (2, ["host", "x-many"])
    assert headers.raw() == (("Host", "a"), ("X-Many", "1"), ("x-many", "2"))
    with pytest.raises(KeyError):
        headers["missing"]


def test_a_request_shows_what_it_is() -> None:
    assert "'/chat'" in repr(request())
    assert replace(request(), target="/other").target == "/other"


@pytest.mark.parametrize("line", ["Set-Cookie: s3cr3t\x00", "Set-Cookie : s3cr3t", "Set-Cookie s3cr3t"])
def test_no_error_of_an_answer_shows_a_header_line(line: str) -> None:
    with pytest.raises(InvalidHandshake, match="malformed answer") as caught:
        ResponseReader().feed(head_of(line))
    assert "s3cr3t" not in str(caught.value)


# -- Limits of the caller ---------------------------------------------------------------------------------------------

LARGE = HeadLimits(max_header_line=100_000, max_headers=300, max_head_size=150_000)


def head_of(*lines: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode()


def padded(size: int) -> bytes:
    """Return a head of so many bytes."""
    rest = size - len(head_of("X: " + "y" * 90_000, "X: "))
    return head_of("X: " + "y" * 90_000, "X: " + "y" * rest)


AT_LIMITS: dict[str, tuple[Callable[[int], bytes], int, str]] = {
    "line": (lambda size: head_of("X: " + "y" * (size - 3)), 100_000, "line of over 100000 bytes: max_header_line"),
    "number": (lambda number: head_of(*["X: y"] * number), 300, "over 300 header lines: max_headers"),
    "head": (padded, 150_000, "head of over 150000 bytes: max_head_size"),
}


@pytest.mark.parametrize("step", [1000, None])
@pytest.mark.parametrize(("head", "limit", "text"), AT_LIMITS.values(), ids=AT_LIMITS)
def test_an_answer_at_a_limit_of_the_caller_passes_and_one_over_it_does_not(
    head: Callable[[int], bytes], limit: int, text: str, step: int | None
) -> None:
    for size in (limit, limit + 1):
        reader = ResponseReader(limits=LARGE)
        data = head(size)
        width = step or len(data)
        pieces = [data[start : start + width] for start in range(0, len(data), width)]
        if size > limit:
            with pytest.raises(InvalidHandshake, match=text):
                for piece in pieces:
                    reader.feed(piece)
        else:
            for piece in pieces:
                reader.feed(piece)
            assert reader.response is not None
            assert reader.response.status == 200


@pytest.mark.parametrize("connects", [False, True])
def test_an_answer_in_tls_says_which_scheme_to_use(connects: bool) -> None:
    reader = ResponseReader(connects=connects)
    with pytest.raises(InvalidHandshake, match="use https:// for the proxy" if connects else "use wss://"):
        for byte in b"\x15\x03\x03\x00\x02\x02\x46":
            reader.feed(bytes([byte]))


# -- Extension factories ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extensions", "text"),
    [
        ("permessage-deflate", "iterable of ExtensionFactory instances, got str"),
        (PerMessageDeflate(), "got PerMessageDeflate: pass a list"),
        (PerMessageDeflate, r"got PerMessageDeflate: pass \[PerMessageDeflate\(\)\]"),
        (None, "got NoneType"),
        ([PerMessageDeflate], r"got the class PerMessageDeflate: pass PerMessageDeflate\(\)"),
        (["permessage-deflate"], "must contain ExtensionFactory instances, got str"),
        ([PerMessageDeflate(), None], "got NoneType"),
    ],
)
def test_extensions_that_are_no_factories_are_a_type_error_with_a_remedy(extensions: object, text: str) -> None:
    with pytest.raises(TypeError, match=f"extensions .*{text}"):
        check_factories(extensions)  # type: ignore[arg-type]


def test_extension_factories_pass_as_a_tuple() -> None:
    deflate = PerMessageDeflate()
    assert check_factories(iter([deflate])) == (deflate,)
