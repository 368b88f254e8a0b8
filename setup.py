"""Declares the compiled codec. Everything else stands in pyproject.toml.

WSLOWLEVEL_BUILD says what a failed compilation means:

    auto     (default) a warning: the package runs on its pure-Python codec
    require  an error
    pure     nothing is compiled: a py3-none-any wheel
    debug    an error; and AddressSanitizer, UndefinedBehaviorSanitizer and Cython's checks are built in (gcc, clang):
             to be run with their runtime preloaded, see tests/sanitize.py
"""

import os
import platform
import sys

from setuptools import Extension, setup

MODES = ("auto", "require", "pure", "debug")
mode = os.environ.get("WSLOWLEVEL_BUILD", "auto")
if mode not in MODES:
    sys.exit(f"WSLOWLEVEL_BUILD must be one of {', '.join(MODES)}, not {mode!r}")

# Stated here because a CFLAGS of the environment replaces the interpreter's own optimisation flags.
gcc_like = sys.platform != "win32"
compile_args = ["-O3", "-g0"] if gcc_like else ["/O2"]
link_args = ["-Wl,-s"] if sys.platform == "linux" else []

macros = [("NDEBUG", None)]
directives = {}
if mode == "debug":
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    compile_args = ["-O1", "-g", "-fno-omit-frame-pointer", *sanitizers]
    link_args = sanitizers
    macros = []
    directives = {"boundscheck": True, "initializedcheck": True, "nonecheck": True}

extensions = []
if mode != "pure" and platform.python_implementation() == "CPython":
    extensions = [
        Extension(
            f"wslowlevel.{name}",
            [f"wslowlevel/{name.replace('.', '/')}.pyx"],
            depends=depends,
            include_dirs=["wslowlevel"],
            define_macros=macros,
            extra_compile_args=compile_args,
            extra_link_args=link_args,
            # Kept by setuptools' own handling of .pyx files; cythonize() would drop it.
            optional=mode == "auto",
        )
        for name, depends in (
            ("_codec", ["wslowlevel/_codec.pxd", "wslowlevel/_kernels.h"]),
            ("aio._stream", ["wslowlevel/_codec.pxd"]),
        )
    ]
    for extension in extensions:
        extension.cython_directives = directives

setup(ext_modules=extensions)
