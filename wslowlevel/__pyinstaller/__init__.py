"""Hooks for PyInstaller, which finds them through the entry point `pyinstaller40`.

PyInstaller finds modules through import statements on its own. The hooks add the files
that a program reads at run time.
"""

from __future__ import annotations

from pathlib import Path


def get_hook_dirs() -> list[str]:
    """Return the directories that contain hooks."""
    return [str(Path(__file__).parent)]
