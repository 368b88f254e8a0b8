"""Both backends, by name."""

from __future__ import annotations

from types import ModuleType

import pytest

from wslowlevel import _codec, _codec_py


@pytest.fixture(params=[_codec, _codec_py], ids=["cython", "python"])
def codec(request: pytest.FixtureRequest) -> ModuleType:
    backend: ModuleType = request.param
    return backend
