"""The version of the package, and the User-Agent that the client sends."""

from __future__ import annotations

import sys

__version__ = "0.1.0"

USER_AGENT = f"wslowlevel/{__version__} Python/{sys.version_info.major}.{sys.version_info.minor}"
"""Default value of the client's User-Agent header (RFC 9110 §10.1.5)."""
