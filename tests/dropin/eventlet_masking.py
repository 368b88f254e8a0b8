"""eventlet with our masking in place: run by test_maskers.py, in a process that imports it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wslowlevel.dropin.eventlet as for_eventlet
from wslowlevel import dropin

from ..test_differential import profile
from .seams import told
from .test_maskers import DATA, KEYS


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_arguments(key: Any) -> None:
    for data in DATA:
        ours, theirs = (
            told(lambda mask=mask, data=data: mask(data, key))  # type: ignore[misc]
            for mask in (for_eventlet.mask_payload, for_eventlet._mask)
        )
        assert ours == theirs, data


@profile
@given(key=st.binary(min_size=4, max_size=4), data=st.one_of(st.binary(max_size=300), st.integers(0, 2000).map(bytes)))
def test_payloads(key: bytes, data: bytes) -> None:
    assert for_eventlet.mask_payload(data, tuple(key)) == for_eventlet._mask(data, tuple(key))


@pytest.mark.parametrize("length", [None, 0, 2, 5, 6, -1, "5"])
@pytest.mark.parametrize("offset", [0, 1, 5, 1000, -1, 1.5])
def test_pieces_of_eventlet(length: Any, offset: Any) -> None:
    theirs, ours = (
        told(lambda: mask(b"abcde", (1, 2, 3, 4), length, offset))  # noqa: B023
        for mask in (for_eventlet._mask, for_eventlet.mask_payload)
    )
    assert ours == theirs


def test_it_is_installed_once_it_is_imported() -> None:
    assert {row.state for row in dropin.install() if row.library == "eventlet"} == {"installed"}
    (row,) = dropin.status("eventlet")
    assert row.now == row.replacement
    dropin.uninstall()
