"""Other libraries get our masking, UTF-8 checks and frames: their names are bound to ours, and back

    import wslowlevel.dropin

    wslowlevel.dropin.install()

One module a library: which of its names are replaced, and by what. Programs need no change, and get the same answers.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol, cast

__all__ = ["LIBRARIES", "Status", "install", "samples", "status", "uninstall"]

LIBRARIES = {
    "wsproto": "wsproto",
    "websockets": "websockets",
    "aiohttp": "aiohttp",
    "autobahn": "autobahn",
    "eventlet": "eventlet",
    "gevent-websocket": "geventwebsocket",
    "lomond": "lomond",
    "tornado": "tornado",
    "websocket-client": "websocket",
    "ws4py": "ws4py",
    "wsaccel": "wsaccel",
}
"""Each by the name that it is installed by, and the package that it is imported as."""

LOUD = ("eventlet",)
"""Whose import alone changes the process, which then warns at each fork: imported only where they are named."""

MISSING = object()
"""What was there, where nothing was."""


class Seam(Protocol):
    """What a module of this package says of its library; it imports the library itself."""

    TESTED: tuple[str, ...]
    """The versions that it was tested with; any other is left as it is."""

    def reason_to_leave(self) -> str | None:
        """Why this copy of the library is better left as it is, or None."""

    def rebinds(self) -> list[tuple[Any, str, object]]:
        """(owner, name, replacement): attributes of modules and classes, or keys of a dictionary."""

    def samples(self) -> dict[str, Callable[[], object]]:
        """Work that goes through those names, by what it is: to be timed with and without the replacements."""


@dataclass(frozen=True)
class Status:
    """A name of a library, and what stands there.

    Attributes:
        library: as it is installed, such as "websocket-client".
        version: of the library that is there; None: it cannot be imported.
        seam: the name, such as "wsproto.connection.FrameProtocol"; empty if none is replaced.
        state: "installed", "not installed", or why the library is left as it is.
        before: what its own is, by its qualified name.
        now: what is there, by its qualified name.
        replacement: what ours is, by its qualified name.
    """

    library: str
    version: str | None
    seam: str
    state: str
    before: str = ""
    now: str = ""
    replacement: str = ""


@dataclass(frozen=True)
class _Binding:
    """A name that has been bound to ours."""

    owner: Any
    name: str
    original: object
    replacement: object


_installed: dict[str, list[_Binding]] = {}


def install(*libraries: str) -> list[Status]:
    """Bind the names of libraries to ours, from then on, for the whole process; those that are installed stay so.

    A library is imported for it. Objects that exist already may keep what they took by then: install before any
    connection is made. With gevent or eventlet, patch the standard library first.

    Args:
        libraries: by the names of `LIBRARIES`; all that are there, if none is given, but eventlet only if it was
            imported before.

    Returns:
        As `status` of them. A library of a version that we were not tested with, or with as fast a compiled part of its
        own, is left as it is, and its state says so.

    Raises:
        ValueError: a name that is none of `LIBRARIES`.
        ModuleNotFoundError: a library that is named is not there.
    """
    for library in _known(libraries):
        if library not in _installed and not _reason_to_leave(library, is_named=library in libraries):
            _installed[library] = [_bind(*rebind) for rebind in _seam(library).rebinds()]
    return status(*libraries)


def uninstall(*libraries: str) -> None:
    """Bind their own names again, but for those that somebody else has bound since.

    Args:
        libraries: by the names of `LIBRARIES`; all that are installed, if none is given.

    Raises:
        ValueError: a name that is none of `LIBRARIES`.
    """
    for library in _known(libraries):
        for binding in reversed(_installed.pop(library, [])):
            if _look_up(binding.owner, binding.name) is binding.replacement:
                _put(binding.owner, binding.name, binding.original)


def status(*libraries: str) -> list[Status]:
    """Tell of each name of the libraries what stands there; those that are not there have no names.

    Args:
        libraries: by the names of `LIBRARIES`; all, if none is given.

    Raises:
        ValueError: a name that is none of `LIBRARIES`.
    """
    return [row for library in _known(libraries) for row in _rows(library)]


def samples(library: str) -> dict[str, Callable[[], object]]:
    """Work that goes through the names of a library that can be installed, to be timed with and without ours."""
    return _seam(library).samples()


# -- Which libraries --------------------------------------------------------------------------------------------------


def _known(libraries: tuple[str, ...]) -> tuple[str, ...]:
    for library in libraries:
        if library not in LIBRARIES:
            raise ValueError(f"a library must be one of {', '.join(LIBRARIES)}, not {library!r}")
    return libraries or tuple(LIBRARIES)


def _seam(library: str) -> Seam:
    return cast(Seam, importlib.import_module(f".{library.replace('-', '_')}", __name__))


def _import_every_seam() -> None:
    """List the modules that `_seam` imports by name. Never called.

    PyInstaller, Nuitka and other tools that collect a program's modules find import statements only.
    """
    from . import (  # noqa: F401, PLC0415
        aiohttp,
        autobahn,
        eventlet,
        gevent_websocket,
        lomond,
        tornado,
        websocket_client,
        websockets,
        ws4py,
        wsaccel,
        wsproto,
    )


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _reason_to_leave(library: str, *, is_named: bool = False) -> str | None:
    if library == "wsaccel":
        return _seam(library).reason_to_leave()  # it stands in for a library that is missing
    version = _version(library)
    if version is None or importlib.util.find_spec(LIBRARIES[library]) is None:
        if is_named:
            raise ModuleNotFoundError(f"{library} is not installed here", name=LIBRARIES[library])
        return "not there"
    if library in LOUD and not is_named and LIBRARIES[library] not in sys.modules:
        return "left as it is: not imported yet, and not named"
    try:
        seam = _seam(library)
    except ImportError as error:
        return f"left as it is: {error}"
    if version not in seam.TESTED:
        return f"left as it is: version {version}, tested with {', '.join(seam.TESTED)}"
    return seam.reason_to_leave()


def _rows(library: str) -> list[Status]:
    version = _version(library)
    if library in _installed:
        state, bindings = "installed", _installed[library]
    else:
        reason = _reason_to_leave(library)
        if reason is not None:
            return [Status(library, version, "", reason)]
        state, bindings = "not installed", [_binding(*rebind) for rebind in _seam(library).rebinds()]
    return [_row(library, version, state, binding) for binding in bindings]


def _row(library: str, version: str | None, state: str, binding: _Binding) -> Status:
    values = (binding.original, _look_up(binding.owner, binding.name), binding.replacement)
    return Status(library, version, _seam_name(binding), state, *map(_described, values))


# -- Names ------------------------------------------------------------------------------------------------------------


def _look_up(owner: Any, name: str) -> object:
    """As it stands there: a static method is not what the class gives of it."""
    return (owner if isinstance(owner, MutableMapping) else vars(owner)).get(name, MISSING)


def _put(owner: Any, name: str, value: object) -> None:
    if isinstance(owner, MutableMapping):
        if value is MISSING:
            owner.pop(name, None)
        else:
            owner[name] = value
    elif value is MISSING:
        delattr(owner, name)
    else:
        setattr(owner, name, value)


def _binding(owner: Any, name: str, replacement: object) -> _Binding:
    return _Binding(owner, name, _look_up(owner, name), replacement)


def _bind(owner: Any, name: str, replacement: object) -> _Binding:
    binding = _binding(owner, name, replacement)
    _put(owner, name, replacement)
    return binding


def _seam_name(binding: _Binding) -> str:
    if isinstance(binding.owner, MutableMapping):
        return binding.name
    return f"{_described(binding.owner)}.{binding.name}"


def _described(value: object) -> str:
    """Such as "wsproto.frame_protocol.FrameProtocol"."""
    if value is MISSING:
        return "nothing"
    if isinstance(value, ModuleType):
        return value.__name__
    value = getattr(value, "__func__", value)  # of a static method, or a class method
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None) or repr(value)
    module = getattr(value, "__module__", None)
    return f"{module}.{name}" if module else str(name)
