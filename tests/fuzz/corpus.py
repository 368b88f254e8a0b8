"""The kept inputs of each target: one a line, in hexadecimal."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

DIRECTORY = Path(__file__).with_name("corpus")
MOST = 400
"""Inputs of a target."""


def load(target: str) -> list[bytes]:
    file = DIRECTORY / f"{target}.txt"
    return [bytes.fromhex(line) for line in file.read_text().splitlines()] if file.exists() else []


def save(target: str, inputs: Iterable[bytes]) -> None:
    """Keep the shortest of these."""
    lines = sorted({each.hex() for each in inputs}, key=lambda line: (len(line), line))[:MOST]
    DIRECTORY.mkdir(exist_ok=True)
    (DIRECTORY / f"{target}.txt").write_text("".join(f"{line}\n" for line in lines))
