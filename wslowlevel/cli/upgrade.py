"""Find where the frames of a connection begin: read the HTTP requests and responses before them.

A connection may carry ordinary requests and refused upgrades before the one that a 101 accepts, and informational
responses before any answer. So both sides are read together, because the request decides whether its response has a
body (RFC 9112 §6.3), and the response decides whether frames or another request follow:

    request, response, ..., upgrade request, 101 -> frames on both sides, certain
    upgrade request, other final response        -> more HTTP
    upgrade request, response not captured       -> frames if they look like frames, not certain
    a gap, or a start in the middle              -> the next upgrade request whose key the Accept of a 101 confirms
    a start behind the handshake                 -> frames if all bytes look like frames, not certain

Only certain frames are judged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..codec import Header, parse_header
from ..errors import InvalidHandshake, ProtocolError
from ..extensions import parse_extensions
from ..handshake import accept_key
from ..http1 import BODILESS
from ..wire import CONTROL, MAX_CONTROL_LENGTH, MAX_HEADER_LENGTH, Opcode
from .http import REQUEST_LINE, STATUS_LINE, Head, Part, has_body
from .tcp import Flow

OPCODES = frozenset(map(int, Opcode))

UPGRADE_REQUEST = re.compile(rb"GET [^\r\n]+ HTTP/1\.1\r\n(?:[^\r\n]+\r\n)+\r\n")
SWITCHING = re.compile(rb"HTTP/1\.1 101[^\r\n]*\r\n(?:[^\r\n]+\r\n)+\r\n")
"""Heads that may open a WebSocket, at any position of a stream."""


@dataclass
class Opening:
    """All of a connection up to its frames.

    Attributes:
        client, server: None for a side that the file does not contain.
        request: the last upgrade request, None if it was not captured.
        answer: the 101, None if it was not captured.
        is_unanswered: whether the capture has no final response to the upgrade request.
        begins_inside: whether the capture begins behind the handshake, and all of it looks like frames.
    """

    client: Part | None
    server: Part | None
    request: Head | None = None
    answer: Head | None = None
    is_unanswered: bool = False
    begins_inside: bool = False

    def accept(self, answer: Head, request: Head | None) -> None:
        """Begin the frames on both sides behind a 101 and its request."""
        assert self.client is not None
        assert self.server is not None
        self.answer = answer
        self.server.frames = self.server.at
        if request is None:
            self.client.remarks.append((self.client.at, "the capture lacks the request: frames are shown, not judged"))
            self.client.guess_frames(REQUEST_LINE)
        else:
            self.client.frames = self.client.at

    @property
    def is_websocket(self) -> bool:
        """Whether there was a request or an answer for an upgrade to WebSocket, or what looks like frames."""
        return self.request is not None or self.answer is not None or self.begins_inside

    @property
    def extensions(self) -> list[str]:
        """Names of the extensions that the 101 agreed to; without the 101, of those that the request offers."""
        head = self.answer or self.request
        if head is None:
            return []
        try:
            return [name.lower() for name, _ in parse_extensions(head.headers.get_all("Sec-WebSocket-Extensions"))]
        except InvalidHandshake:
            return ["(malformed)"]


def one_sided(flow: Flow, sender: str) -> Opening:
    """Return the opening of a stream without the other side: it may begin with HTTP, or with a frame."""
    part = Part(flow)
    opening = _of_client(part) if sender == "client" else _of_server(part)
    if not part.heads or (part.heads[-1][0].is_whole and opening.is_websocket):
        part.frames = part.at
    else:
        part.remark_rest()
    return opening


def _of_client(part: Part) -> Opening:
    opening = Opening(part, None)
    while (head := part.take_head(REQUEST_LINE)) is not None:
        part.heads.append((head, head.names_websocket))
        if has_body(head):
            part.skip_body(head.headers)
        opening.request = head if head.names_websocket else None
        if head.names_websocket and not part.begins_with(REQUEST_LINE):
            break
    return opening


def _of_server(part: Part) -> Opening:
    opening = Opening(None, part)
    while (head := part.take_head(STATUS_LINE)) is not None:
        part.heads.append((head, True))
        if head.switches:
            opening.answer = head
            break
        # The answer to a HEAD request has no body, whatever its headers say.
        bodiless = head.status < 200 or head.status in BODILESS or part.begins_with(STATUS_LINE)
        if not bodiless and not part.skip_body(head.headers):
            part.at = part.flow.length
            break
    return opening


def two_sided(client: Flow, server: Flow) -> Opening:
    """Return the opening of a connection of which both sides may have been captured."""
    ours, theirs = Part(client), Part(server)
    opening = Opening(ours, theirs)
    # Of a connection that began before the capture, the first response may answer a request that was not captured.
    is_whole = client.begins and server.begins
    if (is_whole or confirmed_upgrade(ours, theirs) is None) and _read_exchanges(opening, ours, theirs):
        return opening
    _resume(opening, ours, theirs)
    if not opening.is_websocket:
        _begin_inside(opening, ours, theirs)
    return opening


def opening_of(flows: Sequence[Flow], sender: str | None) -> tuple[Opening, list[tuple[str, Part]]]:
    """Return the opening of a connection, or of one side of it, and the sides with their senders.

    Args:
        sender: the sender of a single flow; None to find it out.
    """
    if len(flows) == 1:
        sender = sender or sender_of(flows[0])
        opening = one_sided(flows[0], sender)
    else:
        opening = two_sided(*in_roles(*flows))
    parts = (("client", opening.client), ("server", opening.server))
    return opening, [(name, part) for name, part in parts if part is not None]


def sender_of(flow: Flow) -> str:
    """Return who sent a stream: known from its half of the handshake, or from the masking (RFC 6455 §5.1)."""
    if REQUEST_LINE.match(flow.data):
        return "client"
    return "client" if not STATUS_LINE.match(flow.data) and flow.data[1:2] >= b"\x80" else "server"


def in_roles(first: Flow, second: Flow) -> tuple[Flow, Flow]:
    """Return the two sides as (client, server)."""
    is_reversed = bool(STATUS_LINE.match(first.data) or REQUEST_LINE.match(second.data))
    if not (first.begins or is_reversed):
        is_reversed = (
            confirmed_upgrade(Part(second), Part(first)) is not None
            or looks_like_frames(first, "server")
            or looks_like_frames(second, "client")
        )
    return (second, first) if is_reversed else (first, second)


def _read_exchanges(opening: Opening, client: Part, server: Part) -> bool:
    """Read requests with their responses; return whether a 101 was reached."""
    while True:
        request = client.take_head(REQUEST_LINE)
        if request is not None:
            client.heads.append((request, request.names_websocket))
            if has_body(request):
                client.skip_body(request.headers)
        is_upgrade = bool(client.heads) and client.heads[-1][1]  # also of a request that is not whole
        if is_upgrade:
            opening.request = client.heads[-1][0]
        response = server.take_response(request)
        if response is not None and response.switches:
            _accept_response(opening, client, server, response, request)
            return True
        if request is None or response is None:
            opening.is_unanswered = is_upgrade and response is None
            return False
        if not server.skip_response_body(request, response):
            return False


def _accept_response(opening: Opening, client: Part, server: Part, response: Head, request: Head | None) -> None:
    """Begin the frames behind a 101, whose request may be another one if a response came without a request."""
    if request is None or not request.names_websocket:
        confirmed = confirmed_upgrade(Part(client.flow), Part(server.flow, response.begin))
        request = None
        if confirmed is not None and confirmed[1].begin == response.begin:
            request = opening.request = confirmed[0]
            client.heads = [each for each in client.heads if each[0].begin < request.begin]
            client.heads.append((request, True))
            client.at = request.end
    opening.accept(response, request)


def _resume(opening: Opening, client: Part, server: Part) -> None:
    """Look for a certain upgrade behind what could not be read; without one, for bytes that look like frames."""
    found = confirmed_upgrade(client, server)
    if found is not None:
        request, response = found
        client.resume_at(request)
        server.resume_at(response)
        opening.request = request
        opening.accept(response, request)
    elif opening.is_unanswered:
        if server.lacks_bytes:
            text = "the capture lacks the answer to the upgrade: frames are shown, not judged"
            server.remarks.append((server.at, text))
            client.guess_frames(REQUEST_LINE)
            server.guess_frames(STATUS_LINE)
            return
        server.remarks.append((server.at, "no answer to the upgrade"))
    if opening.is_websocket and opening.answer is None:
        client.remark_rest()
        server.remark_rest()


def _begin_inside(opening: Opening, client: Part, server: Part) -> None:
    """Begin the frames of a connection that was open before the capture, if all captured bytes look like frames."""
    sides = [(part, name) for part, name in ((client, "client"), (server, "server")) if part.flow.length]
    if not sides or any(part.flow.begins or not looks_like_frames(part.flow, name) for part, name in sides):
        return
    opening.begins_inside = True
    for part, _ in sides:
        part.at = 0
        part.remarks = [(0, "the capture begins behind the handshake: frames are shown, not judged")]
        part.guess_frames(STATUS_LINE)


def looks_like_frames(flow: Flow, sender: str) -> bool:
    """Return whether a stream can be divided into frames from its first captured byte on, up to a gap in a header."""
    at = flow.next_captured(0)
    if at is None:
        return False
    begin = at
    while at < flow.length:
        try:
            header = parse_header(flow.read(at, at + MAX_HEADER_LENGTH))
        except ProtocolError:
            return False
        if header is None:
            break
        if not is_plausible(header, sender):
            return False
        at += header.length + header.payload_length
    return at > begin


def begins_frame(flow: Flow, at: int, sender: str) -> bool:
    """Return whether the captured bytes at a position may be the header of a frame."""
    try:
        header = parse_header(flow.read(at, at + MAX_HEADER_LENGTH))
    except ProtocolError:
        return False
    return header is not None and is_plausible(header, sender)


def is_plausible(header: Header, sender: str) -> bool:
    """Return whether a header may be that of a frame, if it is not certain that a frame begins there."""
    if header.opcode & CONTROL and not (header.fin and header.payload_length <= MAX_CONTROL_LENGTH):
        return False
    return header.opcode in OPCODES and header.mask == (sender == "client")


def confirmed_upgrade(client: Part, server: Part) -> tuple[Head, Head] | None:
    """Return the next upgrade request whose key the Accept header of a 101 confirms, and this 101 (RFC 6455 §4.2.2)."""
    answers: dict[str, Head] = {}
    for head in server.find_heads(SWITCHING):
        answers.setdefault(head.headers.get("Sec-WebSocket-Accept", ""), head)
    for request in client.find_heads(UPGRADE_REQUEST) if answers else ():
        key = request.headers.get("Sec-WebSocket-Key")
        if not request.names_websocket or key is None or accept_key(key) not in answers:
            continue
        # A client may use the key of a refused request once more.
        if request.end == client.flow.length or begins_frame(client.flow, request.end, "client"):
            return request, answers[accept_key(key)]
    return None
