"""Read the heads and bodies of HTTP/1.1 in a captured stream, which may have gaps (RFC 9112)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..http1 import BODILESS, Headers, parse_tokens
from .tcp import Flow

REQUEST_LINE = re.compile(rb"GET [^\r\n]*\r?(?:\n|\Z)|[A-Za-z][!#$%&'*+.^_`|~0-9A-Za-z-]* \S+ HTTP/1\.[01]\r?\n")
STATUS_LINE = re.compile(rb"HTTP/[^\r\n]*\r?(?:\n|\Z)")
"""Beginnings of HTTP, none of which can be a frame: "G" and "H" set reserved bits of opcodes 7 and 8."""

HEAD_END = re.compile(rb"\r?\n\r?\n")
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[^\r\n]*\r?\n")

MAX_HEAD = 256 * 1024
"""Bytes in which the end of a head is looked for."""


@dataclass(frozen=True)
class Head:
    """The head of a request or response.

    Attributes:
        begin, end: its position in the stream.
        first_line: its request line or status line.
        is_whole: whether its end was captured.
    """

    begin: int
    end: int
    first_line: str
    headers: Headers
    is_whole: bool = True

    @property
    def method(self) -> str:
        return self.first_line.partition(" ")[0]

    @property
    def status(self) -> int:
        """The status of a response, 0 if it makes no sense."""
        found = re.match(r"HTTP/1\.[01] ([1-9][0-9][0-9])(?: |$)", self.first_line)
        return int(found[1]) if found else 0

    @property
    def names_websocket(self) -> bool:
        return "websocket" in (token.lower() for token in parse_tokens(self.headers.get_all("Upgrade")))

    @property
    def switches(self) -> bool:
        """Whether a response switches to WebSocket; the Upgrade header may only be missing by mistake."""
        return self.status == 101 and (self.names_websocket or "Upgrade" not in self.headers)


@dataclass
class Part:
    """One side of an opening.

    Attributes:
        heads: (head, whether it belongs to an upgrade).
        frames: position of the first frame, None if there are none.
        is_certain: whether a 101 proves that the bytes from `frames` on are frames.
        remarks: (position, text).
    """

    flow: Flow
    at: int = 0
    heads: list[tuple[Head, bool]] = field(default_factory=list)
    frames: int | None = None
    is_certain: bool = True
    remarks: list[tuple[int, str]] = field(default_factory=list)

    def begins_with(self, line: re.Pattern[bytes]) -> bool:
        return line.match(self.flow.read(self.at, self.at + MAX_HEAD)) is not None

    def take_head(self, line: re.Pattern[bytes]) -> Head | None:
        """Return the head at the position, and go behind it; None if there is none or it is not whole."""
        while self.flow.read(self.at, self.at + 2) == b"\r\n":  # (RFC 9112 §2.2)
            self.at += 2
        data = self.flow.read(self.at, self.at + MAX_HEAD)
        if line.match(data) is None:
            return None
        end = HEAD_END.search(data)
        head = parse_head(data[: end.end() if end else len(data)], self.at, is_whole=end is not None)
        if end is None:
            self.heads.append((head, head.names_websocket))
        self.at = head.end
        return head if head.is_whole else None

    def skip_body(self, headers: Headers) -> bool:
        """Go behind a body; return False if it ends with the connection, or its end cannot be found."""
        if "chunked" in headers.get("Transfer-Encoding", "").lower():
            return self._skip_chunks()
        length = headers.get("Content-Length", "").split(",")[0].strip()
        if not (length.isascii() and length.isdigit()):
            return False
        self.at += int(length)
        return True

    def _skip_chunks(self) -> bool:
        while chunk := CHUNK.match(self.flow.read(self.at, self.at + MAX_HEAD)):
            self.at += chunk.end()
            size = int(chunk[1], 16)
            if not size:
                trailers = re.match(rb"(?:[^\r\n]+\r?\n)*\r?\n", self.flow.read(self.at, self.at + MAX_HEAD))
                self.at += trailers.end() if trailers else 0
                return trailers is not None
            self.at += size
            end = self.flow.read(self.at, self.at + 2)
            self.at += 1 if end[:1] == b"\n" else 2
        return False

    def take_response(self, request: Head | None) -> Head | None:
        """Return the final response at the position, and go behind its head; informational ones are passed over."""
        is_upgrade = request is not None and request.names_websocket
        while (head := self.take_head(STATUS_LINE)) is not None:
            self.heads.append((head, is_upgrade or head.switches))
            if head.status == 101 or head.status >= 200:
                return head
        return None

    def skip_response_body(self, request: Head, response: Head) -> bool:
        """Go behind the body of a response; return False if there is no position behind it."""
        if request.method == "HEAD" or response.status in BODILESS:
            return True
        if request.method == "CONNECT" and response.status < 300:
            return True  # the proxy's tunnel, which begins with HTTP again or with TLS
        if response.status == 101 or not has_body(response):
            self.at = self.flow.length  # another protocol, or a body that ends with the connection
            return False
        return self.skip_body(response.headers)

    def find_heads(self, pattern: re.Pattern[bytes]) -> Iterator[Head]:
        """Return each head from the position on that a pattern matches, between gaps."""
        for begin, data in self.flow.runs(self.at):
            for match in pattern.finditer(data):
                yield parse_head(match[0], begin + match.start())

    def resume_at(self, head: Head) -> None:
        """Go behind a head further on, with a remark on the bytes that were passed over."""
        passed = head.begin - self.at
        if passed:
            self.remarks.append((self.at, f"{passed:,} bytes before the upgrade are passed over"))
        self.heads.append((head, True))
        self.at = head.end

    def remark_rest(self) -> None:
        """Add a remark on the bytes from the position on, which are no frames."""
        rest = self.flow.length - self.at
        if rest > 0:
            self.remarks.append((self.at, f"{rest:,} bytes are not read: no upgrade was accepted before them"))

    @property
    def lacks_bytes(self) -> bool:
        """Whether the next bytes were sent but not captured, or nothing of this side was captured."""
        return not self.flow.is_seen or (self.at < self.flow.length and not self.flow.read(self.at, self.at + 1))

    def guess_frames(self, line: re.Pattern[bytes]) -> None:
        """Take the next captured bytes as frames, unless they are HTTP."""
        at = self.flow.next_captured(self.at)
        if at is not None:
            self.at = at
            if not self.begins_with(line):
                self.frames, self.is_certain = at, False


def has_body(head: Head) -> bool:
    """Return whether the headers announce a body, or that there is none."""
    return "Content-Length" in head.headers or "Transfer-Encoding" in head.headers


def parse_head(data: bytes, begin: int, *, is_whole: bool = True) -> Head:
    first, *lines = re.split(r"\r?\n", data.decode("latin-1"))
    fields = (line.partition(":") for line in lines)
    headers = Headers((name.strip(), value.strip()) for name, colon, value in fields if colon)
    return Head(begin, begin + len(data), first, headers, is_whole)
