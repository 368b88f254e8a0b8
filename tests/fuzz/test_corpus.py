"""What the fuzzer has found interesting holds to its invariant."""

from __future__ import annotations

import pytest

from ..vectors import VECTORS
from . import corpus
from .targets import TARGETS


@pytest.mark.any_backend
@pytest.mark.parametrize("name", TARGETS)
def test_the_kept_inputs(name: str) -> None:
    inputs = corpus.load(name)
    assert inputs
    for each in (b"", *inputs):
        TARGETS[name](each)


@pytest.mark.any_backend
def test_every_vector_in_every_way() -> None:
    for vector in VECTORS:
        for first in range(0, 30, 7):
            TARGETS["decoders"](
                bytes([first % 3, 0, vector.role == "client", 2, 3, 0, first, 1, 0, first // 7]) + vector.data
            )
        TARGETS["reference"](bytes([vector.role == "client"]) + vector.data)
