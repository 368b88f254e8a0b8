"""Types shared by the readers of captures: a packet, remarks on packets, and the error for an unreadable file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MAX_NUMBERS = 8
"""Packet numbers that one remark lists."""


class NoCapture(ValueError):
    """A file that cannot be read as the kind of file that it seems to be."""


class Unreadable(ValueError):
    """A packet that cannot be decoded; the text says why."""


@dataclass(frozen=True)
class Packet:
    """One packet of a capture.

    Attributes:
        number: position in the file, counted from 1 as Wireshark does.
        time: nanoseconds since 1970, None if the file does not contain the time.
        link: link type (https://www.tcpdump.org/linktypes.html).
        data: the captured bytes, from the link header on.
        length: bytes that the packet had on the wire; more than `data` has if the capture cut it off.
    """

    number: int
    time: int | None
    link: int
    data: bytes
    length: int


class Remarks:
    """Remarks on single packets, grouped by their text."""

    def __init__(self) -> None:
        self._numbers: dict[str, list[int]] = {}
        self._of_the_file: list[str] = []

    def add(self, number: int, text: str) -> None:
        """Add a remark on a packet."""
        numbers = self._numbers.setdefault(text, [])
        if number not in numbers[-1:]:
            numbers.append(number)

    def add_to_file(self, text: str) -> None:
        """Add a remark on the file."""
        self._of_the_file.append(text)

    def lines(self) -> Iterator[str]:
        """Return one line for each different remark, in the order of the packets."""
        for text, numbers in sorted(self._numbers.items(), key=lambda item: item[1][0]):
            listed = ", ".join(map(str, numbers[:MAX_NUMBERS]))
            more = len(numbers) - MAX_NUMBERS
            if more > 0:
                listed += f" and {more:,} more"
            yield f"packet{'s' if len(numbers) > 1 else ''} {listed}: {text}"
        yield from self._of_the_file
