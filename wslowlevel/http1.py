"""bytes <-> requests and responses: as much of HTTP/1.1 as the opening handshake needs  (RFC 9112)

`RequestReader` checks the syntax and the limits of a request before h11 parses it, because h11 is lenient. Answers are
parsed by h11, within our limits.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from http import HTTPStatus

import h11

from .errors import HeadersLike as HeadersLike  # noqa: PLC0414 - a public name of this module too
from .errors import InvalidHandshake, header_items, header_pair, not_an_integer, redacted_headers

MAX_HEADERS_SIZE = 64 * 1024
"""Bytes of a request line, or a status line, and its headers together."""

MAX_HEADER_LINE = 32 * 1024
"""Bytes of one header line, and of the request target.

A browser sends all of a site's cookies, each of up to 4 KiB, in one line, and single sign-on divides its tokens among
several of them. Load balancers pass on lines of up to 16 KiB."""

MAX_HEADERS = 128
"""Header lines of one request or response."""

MAX_SHOWN_BODY = 1024
"""Bytes of a refusal's body that its InvalidHandshake carries."""

REDIRECTS = frozenset((301, 302, 303, 307, 308))
"""Statuses that send the client elsewhere (RFC 9110 §15.4)."""

BODILESS = frozenset((204, 304))
"""Statuses of responses without a body, and without a Content-Length (RFC 9110 §8.6)."""

_FRAMING = frozenset(("connection", "content-length", "transfer-encoding"))
"""What says where a message ends: not for the caller to say, nor to pass on from another message."""

_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
"""The characters of a token (RFC 9110 §5.6.2)."""

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True)
class HeadLimits:
    """Limits on the head of a request or of a response, all inclusive.

    Attributes:
        max_header_line: bytes of one header line, and of the request target; 32 KiB by default.
        max_headers: number of header lines; 128 by default.
        max_head_size: bytes of the whole head; 64 KiB by default.

    Raises:
        TypeError, ValueError: a limit that is not a positive integer.
    """

    max_header_line: int = MAX_HEADER_LINE
    max_headers: int = MAX_HEADERS
    max_head_size: int = MAX_HEADERS_SIZE

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise not_an_integer(limit.name, value)
            if value < 1:
                raise ValueError(f"{limit.name} must be 1 or more, got {value}")


DEFAULT_HEAD_LIMITS = HeadLimits()

_TLS_RECORDS = (b"\x15\x03", b"\x16\x03")
"""Beginnings of TLS records, an alert and a handshake message: type and major version (RFC 8446 §5.1)."""


# -- Requests and responses -------------------------------------------------------------------------------------------


class Headers(Mapping[str, str]):
    """Header fields: names in any case, values as `str`, in their order on the wire.

    ``headers[name]`` joins the values of a repeated field with ", " (RFC 9110 §5.3); `get_all` keeps them apart.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields = tuple(fields)

    def get_all(self, name: str) -> list[str]:
        """Every value of a field, in order; an empty list if it is missing."""
        wanted = name.lower()
        return [value for name, value in self._fields if name.lower() == wanted]

    def raw(self) -> tuple[tuple[str, str], ...]:
        """Every (name, value), repeated fields included."""
        return self._fields

    def __getitem__(self, name: str) -> str:
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.get_all(name))

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.lower() for name, _ in self._fields))

    def __len__(self) -> int:
        return sum(1 for _ in self)  # set(self) and the like may ask for the length

    def __repr__(self) -> str:
        return f"Headers({redacted_headers(self._fields)})"


@dataclass(frozen=True, eq=False)
class Request:
    """An HTTP request without its body (RFC 9112 §3).

    Attributes:
        method: "GET" for every valid upgrade.
        target: what stands in the request line, query included: "/chat?room=1".
        headers: its header fields.
        http_version: "1.1" for every valid upgrade.
    """

    method: str
    target: str
    headers: Headers = field(default_factory=Headers)
    http_version: str = "1.1"


@dataclass(frozen=True)
class Response:
    """An HTTP response (RFC 9112 §4).

    Attributes:
        status: 200 to 599.
        headers: a mapping, or "Name: value" strings or (name, value) pairs. Content-Length and Connection are added,
            and replace any given here. Date is added if it is missing.
        body: bytes.
    """

    status: int
    headers: HeadersLike = ()
    body: bytes = b""

    def __repr__(self) -> str:
        return f"Response(status={self.status!r}, headers={redacted_headers(self.headers)}, body={self.body!r})"


@dataclass(frozen=True, eq=False)
class HandshakeResponse:
    """The server's answer to the opening handshake.

    Attributes:
        status: 101 once the connection is open.
        headers: its header fields.
        subprotocol: what the server chose of the subprotocols offered, None if nothing (RFC 6455 §1.9).
    """

    status: int
    headers: Headers = field(default_factory=Headers)
    subprotocol: str | None = None

    @property
    def redirects(self) -> bool:
        """Whether it sends the client elsewhere."""
        return self.status in REDIRECTS and "Location" in self.headers


# -- The request that a server reads ----------------------------------------------------------------------------------


def parse_request(
    head: bytes,
    *,
    max_header_line: int = MAX_HEADER_LINE,
    max_headers: int = MAX_HEADERS,
    max_head_size: int = MAX_HEADERS_SIZE,
) -> Request:
    """Parse a complete request head, up to and including its empty line; bytes behind that are ignored.

    Args:
        head: bytes of the request.
        max_header_line, max_headers, max_head_size: see :class:`HeadLimits`.

    Raises:
        InvalidHandshake: the head is not well-formed HTTP/1.1 (400), or exceeds a limit (431).
        TypeError, ValueError: a limit that is not a positive integer.
    """
    request = RequestReader(HeadLimits(max_header_line, max_headers, max_head_size)).feed(head)
    if request is None:
        raise InvalidHandshake("malformed request: its head is not complete")
    return request


@dataclass(frozen=True)
class _Part:
    """One part of a request head.

    Attributes:
        name: its name in error texts.
        run: matches as many of its bytes as there are.
        ends: byte that ends it -> name of the next part.
        shortest: bytes that it has at least.
    """

    name: str
    run: re.Pattern[bytes]
    ends: Mapping[int, str]
    shortest: int = 0


_NAME = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_VISIBLE = rb"[!-~]"
_VALUE = rb"[^\x00\n\v\f\r]"  # other control characters occur in cookies of real sites, and h11 accepts them
_HTTP_VERSION = rb"HTTP/[0-9]\.[0-9]"
_ORDINARY_HEAD = re.compile(rb"%b+ %b+ %b\r\n(?:%b+:%b*\r\n)*\r\n" % (_NAME, _VISIBLE, _HTTP_VERSION, _NAME, _VALUE))
_ORDINARY_SIZE = 8 * 1024
"""Bytes that the expression looks at: it keeps a state for each header line, 100 bytes and more."""

_BEGINNING_OF_VERSION = rb"(?:H(?:T(?:T(?:P(?:/(?:[0-9](?:\.(?:[0-9])?)?)?)?)?)?)?)?"

_PARTS = {
    part.name: part
    for part in (
        _Part("method", re.compile(_NAME + b"*"), {0x20: "target"}, 1),
        _Part("target", re.compile(_VISIBLE + b"*"), {0x20: "HTTP version"}, 1),
        _Part("HTTP version", re.compile(_BEGINNING_OF_VERSION), {0x0D: "line end"}, 8),
        _Part("line end", re.compile(b""), {0x0A: "header name"}),
        _Part("header name", re.compile(_NAME + b"*"), {0x3A: "header value"}, 1),
        _Part("header value", re.compile(_VALUE + b"*"), {0x0D: "line end"}),
        _Part("empty line", re.compile(b""), {0x0A: "body"}),
    )
}


class RequestReader:
    """Parser of a request head, which may arrive in pieces of any size.

    The grammar is that of RFC 9112 without its leniencies: a bare line feed, obs-fold, white space before a colon and
    blank lines before the request line are rejected. Syntax and limits are judged at the first byte that violates them,
    so the error does not depend on how the bytes were cut. Each byte is looked at once.

    A head of up to 8 KiB that arrives whole is matched by one regular expression. Any other head goes through the table
    of parts:

        method SP target SP version CR LF  ( name ":" value CR LF )*  CR LF

    A complete head is then passed to h11, which checks Host, Content-Length and Transfer-Encoding.

    Attributes:
        target: the request target, None until it is complete.
        rest: bytes behind the head, once it is complete.
    """

    def __init__(self, limits: HeadLimits) -> None:
        self.target: str | None = None
        self.rest = b""
        self._limits = limits
        self._data = bytearray()
        self._part = "method"
        self._part_start = 0
        self._line_start = 0
        self._scanned = 0
        self._headers = 0

    def feed(self, data: bytes) -> Request | None:
        """Add bytes of the request; return it once its head is complete.

        Raises:
            InvalidHandshake: the head is not well-formed HTTP/1.1 (400), or exceeds a limit (431).
        """
        self._data += data
        end = self._match_ordinary() if not self._scanned else None
        if end is None:
            end = self._scan()
        if end is None:
            return None
        head = bytes(memoryview(self._data)[:end])
        self.rest = bytes(memoryview(self._data)[end:])
        self._data = bytearray()
        return _parse_head(head)

    def _match_ordinary(self) -> int | None:
        """Return the end of a head that is whole, well-formed and within all limits; None to scan it."""
        limits = self._limits
        match = _ORDINARY_HEAD.match(self._data, 0, min(_ORDINARY_SIZE, limits.max_head_size, limits.max_header_line))
        if match is None:
            return None
        end = match.end()
        return end if self._data.count(b"\r\n", 0, end) - 2 <= limits.max_headers else None

    def _scan(self) -> int | None:
        """Judge the bytes that were not judged yet; return the end of the head, None if it is not complete."""
        data = self._data
        if data[:2] == b"\x16\x03":  # a TLS record with a handshake message (RFC 8446 §5.1)
            # A TLS client reports these bytes of HTTP as a wrong version number.
            raise InvalidHandshake(
                "malformed request: TLS handshake on a port without TLS: "
                "the client must use ws://, or the server needs an SSLContext"
            )
        if data == b"\x16":
            return None
        while True:
            part = _PARTS[self._part]
            match = part.run.match(data, self._part_start if part.name == "HTTP version" else self._scanned)
            assert match is not None
            end = self._scanned = match.end()
            self._check_limits(end)
            if end == len(data):
                return None
            following = part.ends.get(data[end])
            is_empty = end == self._part_start
            if is_empty and part.name == "header name" and data[end] == 0x0D:
                following = "empty line"
            elif following is None or end - self._part_start < part.shortest:
                raise InvalidHandshake(f"malformed request: {_fault(part.name, data[end], is_empty)} at byte {end}")
            if self._enter(following, end + 1):
                return end + 1

    def _enter(self, part: str, start: int) -> bool:
        """Begin the next part; return True at the end of the head."""
        if part == "HTTP version":
            self.target = self._data[self._part_start : start - 1].decode("latin-1")
        self._part = part
        self._part_start = self._scanned = start
        if part in ("target", "header name"):
            self._line_start = start
        self._headers += part == "header value"
        return part == "body"

    def _check_limits(self, end: int) -> None:
        """Raise InvalidHandshake (431) for the limit that is crossed first by the bytes up to `end`."""
        limits = self._limits
        crossed = []
        if self._part in ("target", "header name", "header value"):
            what = "request target" if self._part == "target" else "header line"
            first = self._line_start + limits.max_header_line
            if end > first:
                crossed.append((first, f"{what} of over {limits.max_header_line} bytes", "max_header_line"))
        if self._part == "header name" and end > self._part_start and self._headers >= limits.max_headers:
            crossed.append((self._part_start, f"over {limits.max_headers} headers", "max_headers"))
        if min(end + 1, len(self._data)) > limits.max_head_size:
            what = f"request head of over {limits.max_head_size} bytes"
            crossed.append((limits.max_head_size, what, "max_head_size"))
        if crossed:
            _, what, name = min(crossed)
            raise InvalidHandshake(f"{what}: {getattr(limits, name)} are allowed, raise {name} to accept more", 431)


def _fault(part: str, byte: int, is_empty: bool) -> str:
    """Describe a byte that may not follow, without the bytes around it: the text is sent to the peer."""
    if part == "method" and is_empty and byte in b"\r\n":
        return "blank line before the request line (RFC 9112 §2.2)"
    if part in ("line end", "empty line"):
        return "carriage return without a line feed (RFC 9112 §2.2)"
    if byte == 0x0A:
        return "line feed without a carriage return (RFC 9112 §2.2)"
    if part == "header name" and byte in b" \t":
        return "obs-fold (RFC 9112 §5.2)" if is_empty else "white space before a colon (RFC 9112 §5.1)"
    return f"byte 0x{byte:02X} where none is allowed in the {part}"


_H11_FAULTS = {
    "Missing mandatory Host: header": "the Host header is missing (RFC 9112 §3.2)",
    "Found multiple Host: headers": "there are several Host headers (RFC 9112 §3.2)",
    "bad Content-Length": "Content-Length must be a number (RFC 9110 §8.6)",
    "conflicting Content-Length headers": "there are several values of Content-Length (RFC 9110 §8.6)",
    "multiple Transfer-Encoding headers": "there are several values of Transfer-Encoding",
    "Only Transfer-Encoding: chunked is supported": "Transfer-Encoding must be chunked",
}
"""Text of h11 -> ours. Other texts of h11 may quote the request, so they are not shown to the peer."""


def _parse_head(head: bytes) -> Request:
    connection = h11.Connection(h11.SERVER)
    try:
        connection.receive_data(head)
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        fault = _H11_FAULTS.get(str(error), "the head is not well-formed HTTP/1.1 (RFC 9112)")
        raise InvalidHandshake(f"malformed request: {fault}", error.error_status_hint) from None
    assert isinstance(event, h11.Request)
    return Request(
        event.method.decode(), event.target.decode("latin-1"), Headers(_fields(event)), event.http_version.decode()
    )


def _fields(event: h11.Request | h11.InformationalResponse | h11.Response) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers.raw_items()]


def encode_response(response: Response, *, method: str = "GET") -> bytes:
    """Write a whole response, after which the connection is closed.

    Date is added unless the response has one (RFC 9110 §6.6.1). Connection says "close", and "upgrade" too if there is
    an Upgrade field, as in a 426 (§7.8).

    Raises:
        ValueError: a header that is not well-formed, a status out of range, a body where the status has none.
    """
    check_status(response)
    headers = [(name, value) for name, value in parse_headers(response.headers) if name.lower() not in _FRAMING]
    names = {name.lower() for name, _ in headers}
    if "date" not in names:
        headers.append(("Date", http_date(time.time())))
    if response.status not in BODILESS:
        headers.append(("Content-Length", str(len(response.body))))
    headers.append(("Connection", "close, upgrade" if "upgrade" in names else "close"))
    lines = [f"HTTP/1.1 {response.status} {reason_phrase(response.status)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    return head if method == "HEAD" else head + response.body


def http_date(seconds: float) -> str:
    """Return a time in seconds since the epoch as a Date field states it (RFC 9110 §5.6.7)."""
    return _http_date(int(seconds))


@lru_cache(maxsize=1)  # within one second, every response has the same date
def _http_date(seconds: int) -> str:
    year, month, day, hour, minute, second, weekday, _, _ = time.gmtime(seconds)
    # Not strftime, whose names depend on the locale.
    return f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} {hour:02}:{minute:02}:{second:02} GMT"


def response_to(error: InvalidHandshake) -> Response:
    """The answer that an error asks for; its body is plain text unless its headers say what it is."""
    named = "Content-Type" in Headers(error.headers)
    own = [] if named else [("Content-Type", "text/plain; charset=utf-8")]
    return Response(error.status, [*own, *error.headers], error.body)


def format_date(seconds: float) -> str:
    """Return a Unix time as an IMF-fixdate, "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 §5.6.7)."""
    # email.utils.formatdate() returns the same, but importing it loads the socket module.
    year, month, day, hour, minute, second, weekday, _, _ = time.gmtime(seconds)
    return f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} {hour:02}:{minute:02}:{second:02} GMT"


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def reason_phrase(status: int) -> str:
    """The registered phrase of a status, "" if it has none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def check_status(response: Response) -> None:
    """Raise ValueError unless this is a final answer, with a body only where there may be one."""
    if not 200 <= response.status <= 599:
        raise ValueError(f"status must be from 200 to 599, not {response.status}")
    if response.body and response.status in BODILESS:
        raise ValueError(f"a response with status {response.status} has no body, not {len(response.body)} bytes")


# -- The answer that a client reads -----------------------------------------------------------------------------------


class ResponseReader:
    """Bytes -> the answer to an opening handshake: its head, and as much of its body as an error carries.

    Feed it what arrives. The limits are judged with every byte, so that nothing over them is kept.

    Args:
        connects: whether it is the answer of a proxy to CONNECT instead, where 200 to 299 do what 101 does elsewhere
            (RFC 9110 §9.3.6).
        limits: on the head of the answer.

    Attributes:
        response: status and headers, None until they are complete. Answers before the final one, 100 to 199 without
            101, are passed over (RFC 9110 §15.2).
        body: up to MAX_SHOWN_BODY bytes of the body, as far as they came.
        early: what came right behind a 101, or what stands for it: the first frames.
        complete: whether nothing more is needed.
    """

    def __init__(self, *, connects: bool = False, limits: HeadLimits = DEFAULT_HEAD_LIMITS) -> None:
        self.response: HandshakeResponse | None = None
        self.body = b""
        self.early = b""
        self.complete = False
        self._head = _Head(limits)
        self._connects = connects
        self._http = h11.Connection(h11.CLIENT)
        # What h11 has to know of the request to understand its answer.
        upgrade = [] if connects else [("Connection", "Upgrade"), ("Upgrade", "websocket")]
        self._http.send(
            h11.Request(method="CONNECT" if connects else "GET", target="/", headers=[("Host", "-"), *upgrade])
        )
        self._http.send(h11.EndOfMessage())
        self._switching = range(200, 300) if connects else range(101, 102)

    def feed(self, data: bytes) -> None:
        """Take in what arrived.

        Raises:
            InvalidHandshake: not HTTP/1.1, or over a limit: status 502, as of a gateway's answer to who asked it.
        """
        if self.response is None:
            data = self._read_heads(data)
        if self.response is None or self.complete:
            return
        if self.response.status in self._switching:
            self.early = data
            self.complete = True
        else:
            self._read_body(data)

    def _read_heads(self, data: bytes) -> bytes:
        """Take in what arrived, to the end of the final head; what came behind that is returned."""
        self._head.add(data)
        if self._head.is_tls():
            remedy = "use https:// for the proxy" if self._connects else "use wss://"
            raise _malformed(f"it is TLS and not HTTP: {remedy}")
        while self.response is None:
            head = self._head.take()
            if head is None:
                return b""
            self._parse_head(head)
        return self._head.rest()

    def _parse_head(self, head: bytes) -> None:
        try:
            self._http.receive_data(head)
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise _malformed(_reason_of(error)) from None
        assert isinstance(event, (h11.InformationalResponse, h11.Response))
        if event.status_code == 101 and event.http_version < b"1.1":
            raise _malformed(f"101 in HTTP/{event.http_version.decode()}, which has no upgrades (RFC 9110 §7.8)")
        if event.status_code == 101 or event.status_code >= 200:
            self.response = HandshakeResponse(event.status_code, Headers(_fields(event)))

    def _read_body(self, data: bytes) -> None:
        try:
            if data:
                self._http.receive_data(data)
            while not self.complete and (event := self._http.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Data):
                    self.body = (self.body + event.data)[:MAX_SHOWN_BODY]
                self.complete = len(self.body) == MAX_SHOWN_BODY or not isinstance(event, h11.Data)
        except h11.RemoteProtocolError:
            self.complete = True  # of a body that breaks off, the beginning is all there is to show


class _Head:
    """Heads, each up to and with an empty line; every line is judged as it comes, and looked at once."""

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._data = bytearray()
        self._searched = 0
        self._line = 0
        self._lines = 0
        self._size = 0

    def add(self, data: bytes) -> None:
        """Take in what arrived."""
        self._data += data

    def is_tls(self) -> bool:
        """Tell whether the head begins like a TLS record, which no HTTP message does."""
        return self._data.startswith(_TLS_RECORDS)

    def take(self) -> bytes | None:
        """Take out the head if it is complete."""
        while (end := self._data.find(b"\n", self._searched)) >= 0:
            self._judge(end, end + 1)
            empty = bytes(self._data[self._line : end]) in (b"", b"\r")
            self._searched = self._line = end + 1
            self._lines += 1
            if empty:
                return self._take_out()
        self._searched = len(self._data)
        self._judge(self._searched, self._searched)
        return None

    def rest(self) -> bytes:
        """Take out what came behind the head."""
        rest = bytes(self._data)
        self._data.clear()
        return rest

    def _judge(self, end: int, size: int) -> None:
        """Check a line that ends at an index, or that is incomplete, and a head of so many bytes."""
        limits = self._limits
        if end - self._line - self._data.endswith(b"\r", self._line, end) > limits.max_header_line:
            raise _over(f"a line of over {limits.max_header_line} bytes", "max_header_line")
        if self._lines > limits.max_headers + 1:
            raise _over(f"over {limits.max_headers} header lines", "max_headers")
        if self._size + size > limits.max_head_size:
            raise _over(f"a head of over {limits.max_head_size} bytes", "max_head_size")

    def _take_out(self) -> bytes:
        head = bytes(self._data[: self._line])
        del self._data[: self._line]
        self._size += len(head)
        self._searched = self._line = self._lines = 0
        return head


def _malformed(text: str) -> InvalidHandshake:
    return InvalidHandshake(f"malformed answer: {text}", 502, body=b"")


def _reason_of(error: h11.RemoteProtocolError) -> str:
    """Return the text of h11, without the header line that it may contain: the line may be a cookie."""
    text = f"{error!s:.200}"
    return text.partition(": ")[0] if text.startswith("illegal header line") else text


def _over(text: str, parameter: str) -> InvalidHandshake:
    return InvalidHandshake(f"answer has {text}: {parameter} allows no more", 502, body=b"")


# -- Lists in headers (RFC 9110 §5.6) ---------------------------------------------------------------------------------


def parse_tokens(values: Iterable[str]) -> list[str]:
    """Split comma-separated values into their elements, in order: ``["keep-alive, Upgrade"]`` has two."""
    return [element for value in values for part in value.split(",") if (element := part.strip(" \t"))]


def is_token(text: str) -> bool:
    """Tell whether this is a token (RFC 9110 §5.6.2)."""
    return bool(text) and _TOKEN.issuperset(text)


# -- Headers of the caller --------------------------------------------------------------------------------------------


def parse_headers(headers: HeadersLike) -> list[tuple[str, str]]:
    """Return the (name, value) pairs of a caller's headers, each of which is checked.

    Raises:
        TypeError: neither a mapping nor an iterable of headers, or one of them is neither a string nor a pair.
        ValueError: see `parse_header_line`.
    """
    return [parse_header_line(header) for header in header_items(headers)]


def parse_header_line(header: str | tuple[str, str]) -> tuple[str, str]:
    """Return a "Name: value" string or a (name, value) pair as a pair, checked to be exactly one header.

    The errors show no value, because it may be a credential.

    Raises:
        TypeError: neither of the two.
        ValueError: a name that is no token, or a value with a line break or another control character.
    """
    name, value = header_pair(header)
    value = value.strip(" \t")
    if not is_token(name):
        raise ValueError(f"header name must be a token, got {_fault_of(name, _TOKEN.__contains__)}")
    if not all(map(_is_field_character, value)):
        raise ValueError(
            f"header value of {name} must be visible ASCII or Latin-1, got {_fault_of(value, _is_field_character)}"
        )
    return name, value


def _is_field_character(character: str) -> bool:
    return character == "\t" or " " <= character <= "~" or "\x80" <= character <= "\xff"


def _fault_of(text: str, allowed: Callable[[str], bool]) -> str:
    """Return the first character that is not allowed, as an error text shows it."""
    for index, character in enumerate(text):
        if not allowed(character):
            return f"{character!r} at index {index}"
    return "no characters"
