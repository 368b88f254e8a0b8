"""Read hex dumps."""

from __future__ import annotations

import re

PAIRS = re.compile(r"(?:(?:0x)?[0-9A-Fa-f]{2}[\s,:;-]*)*")


def from_hex(data: bytes) -> bytes | None:
    """The bytes that a dump stands for: that of xxd, of hexdump -C, of Wireshark, or digits alone. None for no dump."""
    try:
        lines = [line for line in data.decode("ascii").splitlines() if line.strip()]
    except UnicodeDecodeError:
        return None
    for read in (digits_behind_offsets, "".join):
        digits = read(lines)
        if digits and PAIRS.fullmatch(digits.strip()):
            return bytes.fromhex(re.sub(r"0x|[^0-9A-Fa-f]", "", digits))
    return None


def digits_behind_offsets(lines: list[str]) -> str | None:
    """The digits of lines that begin with how many bytes came before, and may end with the same as text."""
    digits = ""
    for line in lines:
        found = re.match(r"\s*([0-9A-Fa-f]{4,16})(?:(:)\s|\s|$)\s*(.*)", line)
        if found is None or int(found[1], 16) != len(digits) // 2:
            return None
        if not found[3]:
            break  # hexdump ends with the length
        columns = re.split(r"\s{2,}(?=\|)|\s{3,}", found[3]) if found[2] is None else re.split(r"\s{2,}", found[3])
        digits += re.sub(r"\s", "", columns[0])
    return digits
