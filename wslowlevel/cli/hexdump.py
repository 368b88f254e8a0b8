"""Read text that contains bytes: hex dumps, digits, arrays and strings of programming languages.

A dump's lines have an offset, groups of digits, and perhaps the same bytes as text:

| tool                    | offset      | groups                                   | ends with  |
| ----------------------- | ----------- | ---------------------------------------- | ---------- |
| xxd, -a, -g, -c, -b     | hexadecimal | pairs; -b binary                         |            |
| hexdump -C, od -t x1    | hex, octal  | single bytes                             | the length |
| hexdump, hexdump -x, od | hex, octal  | words of the machine (od: octal digits)  | the length |
| tcpdump -x, -X          | 0x...:      | pairs                                    |            |
| Wireshark, tshark -x    | hexadecimal | single bytes                             |            |

A line `*` repeats the line before it up to the next offset. Which notation a dump uses is found by trying: the offsets
of all lines, and the text if there is any, must fit the bytes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

LINE = re.compile(r"\s*(?:0x)?([0-9A-Fa-f]{4,16})(:?)(?:\s+(.*)|)$")
"""(offset, colon, the rest) of a line of a dump."""

BEGINNING = re.compile(r"\s*(?:0x)?0{4,16}:?\s+[0-9A-Fa-f]{2}")
"""The beginning of a dump with offsets."""

PAIRS = re.compile(r"(?:(?:0x)?[0-9A-Fa-f]{2}[\s,:;-]*)+")
BYTES = r"[\s,]*0[xX][0-9A-Fa-f]{1,2}(?:[\s,]+0[xX][0-9A-Fa-f]{1,2})*[\s,]*"
"""The elements of an array."""

WIDTH = 16
"""Bytes in a line, unless the offsets show another number."""

MAX_REPEATED = 1 << 30
"""Limit on the bytes of repeated lines, so that a wrong offset cannot fill the memory."""


def from_hex(data: bytes) -> bytes | None:
    """Return the bytes that a text contains, None if it is none of the known notations."""
    text = as_text(data)
    if text is None:
        return None
    for read in (from_dump, from_digits, from_array, from_string):
        found = read(text)
        if found:
            return found
    return None


def as_text(data: bytes) -> str | None:
    """Return the characters of a text file, None if it has others than printable ones and white space.

    No sequence of frames is such a text: frames begin with control characters, or with bytes that UTF-8 does not allow.
    """
    # PowerShell redirects to UTF-16; neither byte order mark can be the beginning of a frame or of HTTP.
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return None
    return text if all(character.isprintable() or character in "\t\n\r\f\v" for character in text) else None


def looks_like_dump(text: str) -> bool:
    """Return whether a text begins like a dump with offsets."""
    return BEGINNING.match(text) is not None


# -- Dumps with offsets -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Line:
    """A line of a dump; `is_repeated` if a line `*` follows."""

    offset: str
    has_colon: bool
    rest: str
    is_repeated: bool = False


def from_dump(text: str) -> bytes | None:
    """Return the bytes of a dump with offsets, None if it is none."""
    lines = _lines(text.splitlines())
    if not lines:
        return None
    for radix in _radixes(lines[0]):
        offsets = _offsets(lines, radix)
        for decode in DECODERS if offsets else ():
            found = _decoded(lines, offsets, decode)
            if found is not None:
                return found
    return None


def _lines(texts: Sequence[str]) -> list[_Line]:
    """Return the lines of a dump; none if one of them cannot belong to a dump."""
    lines: list[_Line] = []
    for text in texts:
        if text.strip() == "*" and lines:
            last = lines.pop()
            lines.append(_Line(last.offset, last.has_colon, last.rest, is_repeated=True))
        elif text.strip():
            found = LINE.match(text)
            if found is None:
                return []
            lines.append(_Line(found[1], bool(found[2]), found[3] or ""))
    return lines


def _radixes(first: _Line) -> tuple[int, ...]:
    """Return the bases that the offsets may have, the likely one first.

    Offsets of seven digits are those of hexdump, which are hexadecimal, or those of od, which are octal or decimal;
    hexdump writes words of four digits.
    """
    if first.has_colon or len(first.offset) != 7:
        return (16,)
    words = first.rest.split()
    return (16, 8, 10) if words and len(words[0]) == 4 else (8, 10, 16)


def _offsets(lines: list[_Line], radix: int) -> list[int]:
    """Return the offsets of lines, none if they do not grow from 0 on in this radix."""
    try:
        offsets = [int(line.offset, radix) for line in lines]
    except ValueError:
        return []
    is_growing = all(one < other for one, other in pairwise(offsets))
    return offsets if is_growing and not offsets[0] else []


def _decoded(lines: list[_Line], offsets: list[int], decode: Decoder) -> bytes | None:
    """Return the bytes of lines in a notation, None if the offsets or the text do not fit them."""
    data = bytearray()
    for line, offset, following in zip(lines, offsets, [*offsets[1:], None], strict=True):
        if len(data) != offset:
            return None
        if not line.rest:
            return bytes(data) if following is None else None  # hexdump and od end with the length
        known = None if following is None or line.is_repeated else following - offset
        found = decode(*_groups(line, known))
        if known is not None and line is lines[-2] and not line.has_colon:
            word = len(line.rest.split()[0]) // 2
            found = found[:known] if len(found) - known < word else found  # the last word is padded
        if not found or (known is not None and len(found) != known) or not _fits(line, found):
            return None
        data += found
        if line.is_repeated:
            times, rest = divmod((following or 0) - len(data), len(found))
            if rest or not 0 <= times <= MAX_REPEATED // len(found):
                return None
            data += found * times
    return bytes(data)


def _groups(line: _Line, known: int | None) -> tuple[bool, list[str], int | None]:
    """Return (whether words are in the order of the file, groups that may be digits, largest number of bytes).

    Where the number of bytes is not known, the spaces before the text show where they end.
    """
    if len(line.offset) == 7 and known is not None and not line.has_colon:  # od has text in angle brackets, or none
        return False, re.sub(r"\s+>.*<$", "", line.rest).split(), None
    if known is not None:
        return line.has_colon, line.rest.split(), known
    if line.has_colon:
        return True, re.split(r"\s{2,}", line.rest)[0].split(), None
    if line.is_repeated:
        return False, line.rest.split(), WIDTH
    return False, re.split(r"\s{2,}(?=[|>])|\s{3,}", line.rest)[0].split(), WIDTH


def _fits(line: _Line, found: bytes) -> bool:
    """Return whether the text behind a colon's line shows its bytes: only the text shows xxd's -b and -e."""
    _, *texts = re.split(r"\s{2,}", line.rest.rstrip(), maxsplit=1)
    if not (line.has_colon and texts):
        return True
    text = texts[0]
    spaces = len(found) - len(found.lstrip(b" "))  # the text may begin with spaces, like the gap before it
    if not len(found.strip(b" ")) <= len(text) <= len(found):
        return False
    # Any byte may be shown as a dot.
    return any(
        all(character in (".", chr(byte)) for character, byte in zip(text, found[begin:], strict=False))
        for begin in (0, spaces)
    )


Decoder = Callable[[bool, "list[str]", "int | None"], bytes]
"""(see `_groups`) -> bytes; b"" for another notation."""


def _grouped(groups: list[str], digits: str, limit: int | None, read: Callable[[str], bytes]) -> bytes:
    found = bytearray()
    for group in groups:
        if (limit is not None and len(found) >= limit) or not re.fullmatch(digits, group):
            break
        found += read(group)
    return bytes(found)


PAIRED = "(?:[0-9A-Fa-f]{2})+"


def _in_order(is_ordered: bool, groups: list[str], limit: int | None) -> bytes:
    if not is_ordered and groups and len(groups[0]) > 2:
        return b""
    return _grouped(groups, PAIRED, limit, bytes.fromhex)


def _reversed(is_ordered: bool, groups: list[str], limit: int | None) -> bytes:
    if is_ordered:
        return b""
    return _grouped(groups, PAIRED, limit, lambda group: bytes.fromhex(group)[::-1])


def _binary(_: bool, groups: list[str], limit: int | None) -> bytes:
    return _grouped(groups, "[01]{8}", limit, lambda group: bytes([int(group, 2)]))


def _octal_words(is_ordered: bool, groups: list[str], limit: int | None) -> bytes:
    if is_ordered or any(len(group) != 6 for group in groups[:1]):
        return b""
    return _grouped(groups, "[01][0-7]{5}", limit, lambda group: int(group, 8).to_bytes(2, "little"))


def _octal_bytes(_: bool, groups: list[str], limit: int | None) -> bytes:
    return _grouped(groups, "[0-3][0-7]{2}", limit, lambda group: bytes([int(group, 8)]))


DECODERS: tuple[Decoder, ...] = (_octal_words, _in_order, _reversed, _binary, _octal_bytes)


# -- Digits, arrays, strings ------------------------------------------------------------------------------------------


def from_digits(text: str) -> bytes | None:
    """Return the bytes of hexadecimal digits alone, in pairs: "81 05", "81:05", "0x81, 0x05", "8105"."""
    if looks_like_dump(text):
        return None  # its offsets are no data
    joined = "".join(line for line in text.splitlines() if line.strip()).strip()
    return pairs(joined) if PAIRS.fullmatch(joined) else None


def pairs(text: str) -> bytes:
    return bytes.fromhex(re.sub(r"0x|[^0-9A-Fa-f]", "", text))


def from_array(text: str) -> bytes | None:
    """Return the bytes of the arrays in C or a similar language: what xxd -i and Wireshark write."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
    bodies: list[str] = re.findall(rf"[{{\[(]({BYTES})[}}\])]", text)
    if not bodies and re.fullmatch(BYTES, text):
        bodies = [text]
    return bytes(int(byte, 16) for body in bodies for byte in re.findall(r"0[xX]([0-9A-Fa-f]{1,2})", body)) or None


def from_string(text: str) -> bytes | None:
    """Return the bytes of a string with escapes: a literal of Python, or what Wireshark writes."""
    if re.match(r"\s*[bB]['\"]", text):
        try:
            value = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
        return value if isinstance(value, bytes) else None
    if not re.fullmatch(r"(?:\\x[0-9A-Fa-f]{2}|[\s\"';,+]|\\\s)+", text):
        return None
    return bytes.fromhex("".join(re.findall(r"\\x([0-9A-Fa-f]{2})", text)))
