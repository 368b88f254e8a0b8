"""Both sides of the opening handshake, as functions over headers (RFC 6455 §4)."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection
from wsproto.events import Request as WsprotoRequest

from wslowlevel import Headers, InvalidHandshake, Request, choose_subprotocol, parse_extensions
from wslowlevel.handshake import (
    accept_key,
    accept_request,
    check_request,
    check_response,
    encode_request,
    generate_key,
    is_websocket_upgrade,
)
from wslowlevel.http1 import parse_request

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
        ([("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZR==")], 400, "16 bytes in base64"),
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
    ("header", "kind", "text"),
    [
        ("X-Name", ValueError, 'must be "Name: value"'),
        ("", ValueError, 'must be "Name: value"'),
        (": value", ValueError, "must be a token, not ''"),
        ("X Name: value", ValueError, "must be a token, not 'X Name'"),
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
            start = time.perf_counter()
            with suppress(InvalidHandshake):
                parse_extensions([value])
            best = min(best, time.perf_counter() - start)
        return best

    assert cost(256_000) < 64 * cost(16_000)


# -- The client's side ------------------------------------------------------------------------------------------------


def test_a_request_that_another_implementation_accepts() -> None:
    key = generate_key()
    head = encode_request("example.com:8765", "/a?b=c", key=key, subprotocols=["x", "y"], headers=["X-Name: v"])
    server = WSConnection(ConnectionType.SERVER)
    server.receive_data(head)
    (event,) = server.events()
    assert isinstance(event, WsprotoRequest)
    assert (event.host, event.target, event.subprotocols) == ("example.com:8765", "/a?b=c", ["x", "y"])
    answer = server.send(AcceptConnection(subprotocol="y"))
    lines = answer.decode().split("\r\n")[1:-2]
    headers = Headers([(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)])
    assert check_response(101, headers, key, ["x", "y"]) == "y"


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
        ({"subprotocols": ["a", "a"]}, "subprotocols must be distinct tokens"),
        ({"headers": ["X: a\r\nY: b"]}, "header value"),
    ],
)
def test_nothing_can_be_injected_into_a_request(arguments: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        encode_request(**{"host": "h", "key": KEY, **arguments})  # type: ignore[arg-type]


ANSWER = Headers([("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", ACCEPT)])


def test_a_good_answer() -> None:
    assert check_response(101, ANSWER, KEY) is None


@pytest.mark.parametrize(
    ("status", "change", "text"),
    [
        (200, (), "answered 200"),
        (302, (), "answered 302"),
        (101, ("Upgrade", "h2c"), "Upgrade must be websocket"),
        (101, ("Upgrade", "websocket, h2c"), "Upgrade must be websocket"),
        (101, ("Connection", "close"), "token Upgrade"),
        (101, ("Sec-WebSocket-Accept", ACCEPT.lower()), "does not answer the key"),
        (101, ("Sec-WebSocket-Protocol", "other"), "chose subprotocol"),
    ],
)
def test_an_answer_that_opens_nothing(status: int, change: tuple[str, str] | tuple[()], text: str) -> None:
    fields = [field for field in ANSWER.raw() if not change or field[0] != change[0]]
    headers = Headers([*fields, change] if change else fields)
    with pytest.raises(InvalidHandshake, match=text):
        check_response(status, headers, KEY)


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
