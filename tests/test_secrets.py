"""Credentials appear in no repr and in no error text; equality, pickling and raw() keep them."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest

from wslowlevel import InvalidHandshake, Request, Response
from wslowlevel.errors import WebSocketError
from wslowlevel.handshake import accept_request, check_allowed_origin, check_origin, encode_request
from wslowlevel.http1 import HandshakeResponse, Headers, encode_response, parse_header_line, parse_headers

SECRET = "s3cret-t0ken"
HEADERS = [
    ("Authorization", f"Bearer {SECRET}"),
    ("aUTHORIZATION", SECRET),
    ("Proxy-Authorization", f"Basic {SECRET}"),
    ("Cookie", f"session={SECRET}"),
    ("Set-Cookie", f"session={SECRET}; HttpOnly"),
    ("Origin", f"https://user:{SECRET}@example.org"),
    ("Referer", f"https://{SECRET}@example.org/page?a=b"),
    ("Location", f"wss://user:{SECRET}@example.org:8443/"),
    ("Location", f"//{SECRET}@example.org/"),
]
LINES = [f"{name}: {value}" for name, value in HEADERS]

SHOWN: dict[str, object] = {
    "Headers": Headers(HEADERS),
    "Request": Request("GET", "/", Headers(HEADERS)),
    "Response of pairs": Response(200, HEADERS),
    "Response of strings": Response(200, LINES),
    "Response of a mapping": Response(200, dict(HEADERS)),
    "Response of Headers": Response(200, Headers(HEADERS)),
    "Response of an iterator": Response(200, iter(HEADERS)),
    "Response of a mistake": Response(200, [("Cookie", SECRET.encode()), SECRET, 5]),  # type: ignore[list-item]
    "Response of one string": Response(200, f"Cookie: {SECRET}"),
    "Response of nothing": Response(200, None),  # type: ignore[arg-type]
    "HandshakeResponse": HandshakeResponse(101, Headers(HEADERS)),
    "InvalidHandshake of pairs": InvalidHandshake("no", 401, HEADERS),
    "InvalidHandshake of strings": InvalidHandshake("no", 401, LINES),
    "InvalidHandshake of a mapping": InvalidHandshake("no", 401, dict(HEADERS)),
    "InvalidHandshake of Headers": InvalidHandshake("no", 401, Headers(HEADERS)),
}


@pytest.mark.parametrize("name", SHOWN)
def test_repr_shows_no_credential(name: str) -> None:
    text = repr(SHOWN[name])
    assert SECRET not in text
    assert type(SHOWN[name]).__name__ in text
    if "mistake" not in name and "iterator" not in name and " of one " not in name and "nothing" not in name:
        assert "<redacted>" in text
        assert "example.org" in text


def test_repr_shows_everything_else() -> None:
    plain = [("Host", "h"), ("X-A", "1"), ("Origin", "https://example.org"), ("Location", "/a@b?c=//d@e")]
    assert repr(Headers(plain[:3])) == "Headers([('Host', 'h'), ('X-A', '1'), ('Origin', 'https://example.org')])"
    assert "('X-A', '1')" in repr(InvalidHandshake("no", 403, plain))


def test_equality_pickling_and_raw_are_unchanged() -> None:
    assert Headers(HEADERS).raw() == tuple(HEADERS)
    assert Headers(HEADERS)["cookie"] == f"session={SECRET}"
    assert Response(200, HEADERS) == Response(200, HEADERS)
    assert Response(200, HEADERS) != Response(200, HEADERS[:-1])
    copied = pickle.loads(pickle.dumps(InvalidHandshake("no", 401, HEADERS, b"body")))
    assert (copied.headers, copied.status, copied.body) == (tuple(HEADERS), 401, b"body")
    assert pickle.loads(pickle.dumps(Headers(HEADERS))).raw() == tuple(HEADERS)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-A": "b", "X-C": "d"},
        [("X-A", "b"), ("X-C", "d")],
        ["X-A: b", "X-C:d"],
        iter(["X-A: b", ("X-C", "d")]),
        Headers([("X-A", "b"), ("X-C", "d")]),
    ],
)
def test_invalid_handshake_and_response_take_headers_of_every_form(headers: object) -> None:
    error = InvalidHandshake("no", 403, headers)  # type: ignore[arg-type]
    assert error.headers == (("X-A", "b"), ("X-C", "d"))
    assert b"\r\nX-A: b\r\nX-C: d\r\n" in encode_response(Response(403, error.headers))


def test_repeated_fields_of_headers_stay_apart() -> None:
    cookies = Headers([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    assert InvalidHandshake("no", 403, cookies).headers == cookies.raw()
    assert encode_response(Response(200, cookies)).count(b"Set-Cookie: ") == 2


@pytest.mark.parametrize("headers", ["X-A: b", b"X-A: b", 5, None])
def test_headers_of_an_invalid_handshake_that_are_no_collection_are_rejected(headers: object) -> None:
    with pytest.raises(TypeError, match="headers must be a mapping, or an iterable"):
        InvalidHandshake("no", 403, headers)  # type: ignore[arg-type]


def refused_origin() -> None:
    check_origin(Request("GET", "/", Headers(HEADERS)), ["https://example.org"])


MISTAKES: list[Callable[[], object]] = [
    lambda: parse_header_line(("Authorization", f"Bearer {SECRET}\r\n")),
    lambda: parse_header_line(f"Authorization: Bearer {SECRET}\0"),
    lambda: parse_header_line(f"Authorization Bearer {SECRET}"),
    lambda: parse_header_line(("Authorization", SECRET.encode())),  # type: ignore[arg-type]
    lambda: parse_header_line(("Authorization", SECRET, "x")),  # type: ignore[arg-type]
    lambda: parse_header_line(["Authorization", SECRET]),  # type: ignore[arg-type]
    lambda: parse_header_line((f"Authorization: Bearer {SECRET}", "x")),
    lambda: parse_header_line((f"X-A\r\nCookie: {SECRET}", "x")),
    lambda: parse_header_line(f"X-A: a\r\nCookie: {SECRET}"),
    lambda: parse_header_line(f"Cookie : {SECRET}"),
    lambda: parse_headers(f"Cookie: {SECRET}"),
    lambda: parse_headers({"Cookie": SECRET.encode()}),
    lambda: InvalidHandshake("no", 403, [f"Cookie {SECRET}"]),
    lambda: InvalidHandshake("no", 403, [("Cookie", SECRET.encode())]),  # type: ignore[list-item]
    lambda: encode_response(Response(200, [("Set-Cookie", f"{SECRET}\n")])),
    lambda: encode_request("h", key="", headers=[f"Cookie: {SECRET}€"]),
    lambda: encode_request("h", f"/chat room?token={SECRET}", key=""),
    lambda: encode_request("h", f"http://user:{SECRET}@h/", key=""),
    lambda: accept_request(Request("POST", "/", Headers(HEADERS))),
    lambda: accept_request(Request("GET", f"/?{SECRET}", Headers(HEADERS))),
    lambda: check_allowed_origin(f"https://user:{SECRET}@example.org"),
    refused_origin,
    lambda: check_origin(Request("GET", "/", Headers([("Origin", f"https://{SECRET}@a.example")])), []),
]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_error_text_shows_no_credential(mistake: Callable[[], object]) -> None:
    with pytest.raises((WebSocketError, TypeError, ValueError)) as caught:
        mistake()
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)
    assert SECRET.encode() not in getattr(caught.value, "body", b"")
