"""lines -> a terminal, with colours where it has them; a stranger's bytes -> text that gives it no orders"""

from __future__ import annotations

import sys
import unicodedata
from importlib.util import find_spec
from typing import Protocol

from ..echo import preview
from ..wire import CONTROL, Opcode

WIDTH = 60
"""Characters of a payload that a line shows."""


class Show(Protocol):
    def __call__(self, line: str, style: str = ...) -> None: ...


class Bits(Protocol):
    """The bits of a header, whatever carries them (RFC 6455 §5.2)."""

    @property
    def rsv1(self) -> int: ...
    @property
    def rsv2(self) -> int: ...
    @property
    def rsv3(self) -> int: ...


def printer() -> Show:
    """What prints a line in a style, such as "bold red": on a terminal, and with rich, in colours."""
    if not sys.stdout.isatty() or find_spec("rich") is None:
        return plainly
    from rich.console import Console  # noqa: PLC0415 - an optional dependency
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False, soft_wrap=True)

    def colourfully(line: str, style: str = "") -> None:
        console.print(Text(line, style=style))

    return colourfully


def plainly(line: str, style: str = "") -> None:  # noqa: ARG001
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def name_of(opcode: int) -> str:
    try:
        return Opcode(opcode).name
    except ValueError:
        return f"opcode 0x{opcode:X}"


def bits_of(header: Bits, fin: int, mask: int) -> str:
    """The bits that are set, such as "FIN RSV1 MASK"."""
    values = {"FIN": fin, "RSV1": header.rsv1, "RSV2": header.rsv2, "RSV3": header.rsv3, "MASK": mask}
    return " ".join(name for name, value in values.items() if value)


def shown(opcode: int, payload: bytes) -> str:
    """The beginning of a payload, as text or in hexadecimal, without what a terminal would obey."""
    if opcode in (Opcode.PING, Opcode.PONG) and not payload.decode("ascii", "replace").isprintable():
        return payload.hex(" ")
    text = harmless(preview(opcode, None, payload[: 4 * WIDTH])).replace("\n", "\\n").replace("\t", "\\t")
    return text if opcode & CONTROL or len(text) <= WIDTH else f"{text[:WIDTH]}..."


def one_line(text: str, width: int | None = None) -> str:
    """Return text without line breaks and control characters, cut to a number of characters."""
    words = "".join(character if character.isprintable() else " " for character in text).split()
    line = " ".join(words)
    return line if width is None or len(line) <= width else f"{line[:width]}..."


def harmless(text: str) -> str:
    """Text without control characters, which would be orders to a terminal."""
    return "".join(
        character if character in "\t\n" or unicodedata.category(character) != "Cc" else "\ufffd" for character in text
    )
